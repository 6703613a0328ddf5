"""What hurts: the few minutes for which a GPU is at hand, lost to a benchmark that fails or is cut."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cello.training import replicates, single, trainer

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
pytest.importorskip("triton")
import gpu
import gpu_epoch
import gpu_kernels

Patch = pytest.MonkeyPatch


@pytest.fixture(autouse=True)
def restored(monkeypatch: Patch) -> None:
    """What a dry run changes in this process."""
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    for module in (replicates, single, trainer, gpu_epoch):
        monkeypatch.setattr(module, "choose", vars(module)["choose"])
    for name in ("device", "dry"):
        monkeypatch.setattr(gpu_kernels.Where, name, vars(gpu_kernels.Where)[name])


def test_every_section_runs_to_its_end_without_a_gpu(tmp_path: Path) -> None:
    gpu.main(["--dry", "--sections", ",".join(gpu.SECTIONS), "--out", str(tmp_path / "found.json")])
    found = json.loads((tmp_path / "found.json").read_text())
    assert found.keys() == {"date", *gpu.SECTIONS}
    said = [(name, row) for name in gpu.SECTIONS for row in found[name] if {"failed", "error", "cut"} & row.keys()]
    assert [(name, row) for name, row in said if not isinstance(row.get("error"), float)] == []
    assert {row["seed"] for row in found["accuracy"] if "seed" in row} == {0, 1}
    assert {row.get("seeds") for row in found["replicates"]} == {None, 1, 2, 3}


def sections(patch: Patch, **functions: Any) -> None:
    patch.setattr(gpu, "SECTIONS", {name: (function, 0.05) for name, function in functions.items()})


def test_figures_are_in_the_file_at_once_and_a_section_that_fails_or_lasts_loses_none(
    tmp_path: Path, monkeypatch: Patch
) -> None:
    out = tmp_path / "found.json"

    def one(plan: gpu.Plan) -> Iterator[dict[str, Any]]:
        yield {"a": 1}
        assert json.loads(out.read_text())["one"] == [{"a": 1}]
        raise ValueError("boom")

    def two(plan: gpu.Plan) -> Iterator[dict[str, Any]]:
        while True:
            yield {"b": 1}

    sections(monkeypatch, one=one, two=two)
    gpu.main(["--dry", "--sections", "one,two", "--out", str(out)])
    found = json.loads(out.read_text())
    assert found["one"][0] == {"a": 1}
    assert "ValueError: boom" in found["one"][1]["failed"]
    assert found["two"][0] == {"b": 1}
    assert found["two"][-1]["cut"].startswith("after")
    gpu.main(["--dry", "--minutes", "0", "--sections", "two", "--out", str(out)])
    assert json.loads(out.read_text())["two"] == [{"left out": "no time"}]


def test_without_a_gpu_it_says_so() -> None:
    with pytest.raises(SystemExit, match=r"needs a GPU: .* or with --dry"):
        gpu.main([])


def test_a_check_that_fails_leaves_the_other_rows_of_its_section(monkeypatch: Patch) -> None:
    def out_of_memory(**_: Any) -> dict[str, Any]:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(gpu, "compared", lambda jobs: iter(()))
    monkeypatch.setattr(gpu_epoch, "check", out_of_memory)
    monkeypatch.setattr(gpu_epoch, "together", lambda **_: {"largest": 0.0})
    plan = gpu.Plan(dry=True, corpus="", seeds=1, cells=())
    assert list(gpu.check(plan)) == [
        {"precision": "float32", "error": "RuntimeError('out of memory')"},
        {"precision": "float32", "largest": 0.0},
    ]


def test_cells_are_told_as_a_multiple_of_the_lstm_per_operation(monkeypatch: Patch) -> None:
    monkeypatch.setattr(gpu, "run_job", lambda job: {"both_us": 10.0 if job[0] == "lstm" else 30.0})
    monkeypatch.setattr(gpu, "compile_all", lambda jobs: None)
    rows = list(gpu.cells(gpu.Plan(dry=False, corpus="", seeds=1, cells=("lstm", "gru"))))
    work = {row["cell"]: row["flops"] for row in rows if row["hidden"] == 64}
    told = [row["times_of_lstm"] for row in rows if row["hidden"] == 64]
    assert told == pytest.approx([1.0, 3.0 * work["lstm"] / work["gru"]])
