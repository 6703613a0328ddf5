"""What hurts: a benchmark that no longer runs because the code it measures has moved on."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.mark.parametrize("path", sorted(BENCHMARKS.glob("*.py")), ids=lambda path: path.stem)
def test_every_benchmark_finds_what_it_measures(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    own = {each.stem for each in BENCHMARKS.glob("*.py")}
    for name in own & {*sys.modules}:
        monkeypatch.delitem(sys.modules, name)  # a benchmark that another one reads is read anew
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    assert runpy.run_path(str(path), run_name="loaded")["__doc__"]
