"""What hurts: the few minutes for which a GPU is at hand, lost to a benchmark that fails or is cut."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cello.training import replicates, single, trainer

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
pytest.importorskip("triton")
import gpu
import gpu_epoch
import gpu_kernels
import gpu_waiting

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
    assert found.keys() == {"date", *gpu.SECTIONS, "holds"}
    said = [(name, row) for name in gpu.SECTIONS for row in found[name] if {"failed", "error", "cut"} & row.keys()]
    assert [(name, row) for name, row in said if not isinstance(row.get("error"), float)] == []
    assert {row["seed"] for row in found["accuracy"] if "seed" in row} == {0, 1}
    assert {row.get("seeds") for row in found["replicates"]} == {None, 1, 2, 3}


def test_clusters_are_compared_with_the_same_clips_a_program(monkeypatch: Patch) -> None:
    """Divided by how many clips there are, a pass would be no cluster, and its sums would differ for another reason."""
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setattr(gpu_kernels.Where, "device", "cpu")
    monkeypatch.setattr(gpu_kernels.Where, "dry", True)
    given = gpu_waiting._prepared

    def prepared(*sizes: int) -> Any:
        call, tensors = given(*sizes)
        return replace(call, by_clips=lambda call, way: pytest.fail(f"{way} is divided anew")), tensors

    monkeypatch.setattr(gpu_waiting, "_prepared", prepared)
    assert [(row["way"], row["apart"]) for row in gpu_waiting.rows_of_clusters()] == [("as clusters", 0.0)]


def test_what_holds_is_told_by_the_worst_figure_and_what_was_not_measured_is_not_said_to_hold() -> None:
    lstm = {"batch": 64, "steps": 100, "precision": "tf32", "hidden": 64, "forward_us": 100.0, "both_us": 300.0}
    theirs = {"torch_forward_us": 200.0, "torch_both_us": 200.0, "torch_packed_both_us": 900.0}
    wide = {**lstm, "hidden": 256, **theirs, "torch_both_us": 900.0, "torch_packed_both_us": 900.0}
    rows = [lstm | theirs, {**lstm, "hidden": 128, "error": "no graph"}, lstm | {"ragged": True}, wide]
    rows += [{**wide, "ragged": True, "both_us": 600.0, "torch_packed_both_us": None}]
    found = {"lstm": rows, "replicates": [{"kernels": 1, "precision": "bf16", "both_us": 10.0}, {"seeds": 5}]}
    found["replicates"].append({"kernels": 16, "precision": "bf16", "both_us": 16.0})
    found |= {
        "eager": [{"failed": "boom"}],
        "gates": [{"row": "LSTM", "seconds": 70.0}, {"row": "all", "seconds": 9.0}],
    }
    found["accuracy"] = [{"seed": 0}, {"mean difference": -0.01, "standard error": 0.004}]
    said = {row["what"]: (row["worst"], row["holds"]) for row in gpu.verdicts(found)}
    assert said["LSTM, H to 128, both: times of torch's, padded"] == (1.5, False)
    assert said["LSTM, H to 128, forward: times of torch's, padded"] == (0.5, True)
    assert said["LSTM, H 256, both: times of torch's, padded"] == (pytest.approx(1 / 3), True)
    assert said["LSTM, ragged, both: times of torch's, packed"] == (pytest.approx(2 / 3), False)
    assert said["LSTM, H to 128, both: microseconds of a step"] == (3.0, True)
    assert said["16 replicates: times of one"] == (1.6, False)
    assert said["seconds of the gates study"] == (9.0, True)
    assert said["accuracy of GPU and CPU: standard errors between them"] == (2.5, False)
    assert said["seconds of an epoch"] == (None, None)
    assert said["LSTM, 64 clips: times of a loop of torch's operations"] == (None, None)


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
    of_64 = [row for row in rows if row.get("hidden") == 64]  # beside how long compiling took
    work = {row["cell"]: row["flops"] for row in of_64}
    told = [row["times_of_lstm"] for row in of_64]
    assert told == pytest.approx([1.0, 3.0 * work["lstm"] / work["gru"]])
