"""What hurts: a benchmark that no longer runs, or measures nothing, because the code it measures has moved on."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from cello.bench.settings import Size
from cello.cells.load import load_cell

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.mark.parametrize("path", sorted(BENCHMARKS.glob("*.py")), ids=lambda path: path.stem)
def test_every_benchmark_finds_what_it_measures(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    own = {each.stem for each in BENCHMARKS.glob("*.py")}
    for name in own & {*sys.modules}:
        monkeypatch.delitem(sys.modules, name)  # a benchmark that another one reads is read anew
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    assert runpy.run_path(str(path), run_name="loaded")["__doc__"]


@pytest.fixture
def fma_profile(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    for name in ("fma_share", "fma_profile"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    return runpy.run_path(str(BENCHMARKS / "fma_profile.py"), run_name="loaded")


@pytest.mark.wants("cc")
def test_a_profile_finds_every_part_of_both_passes(fma_profile: dict[str, Any]) -> None:
    kernels = fma_profile["variants"](load_cell("lstm"), Size(16, 5, 3, 16))
    for kind in ("forward", "backward"):
        kernels["timed"].run(kind)
        *parts, whole = kernels["timed"].spent()
        assert min(parts) > 0
        assert sum(parts) < whole


@pytest.mark.wants("cc")
def test_a_profiles_kernel_near_memory_touches_one_steps_memory(fma_profile: dict[str, Any]) -> None:
    kernels = fma_profile["variants"](load_cell("lstm"), Size(16, 5, 3, 16))
    *_, history, kept = kernels["near"].calls["forward"].held[1]
    for label, touched in (("near", (2 / 6, 1 / 5)), ("as it is", (1, 1))):
        history.fill_(torch.nan)
        kept.fill_(torch.nan)
        kernels[label].run("forward")
        found = tuple(float(1 - part.isnan().double().mean()) for part in (history, kept))
        assert found == pytest.approx(touched), label
