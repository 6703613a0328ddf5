"""What hurts: a benchmark that no longer runs, or measures nothing, because the code it measures has moved on."""

from __future__ import annotations

import os
import runpy
import sys
from importlib import import_module
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
@pytest.mark.usefixtures("compiled_quickly")
def test_a_profile_finds_every_part_of_both_passes(fma_profile: dict[str, Any]) -> None:
    kernels = fma_profile["variants"](load_cell("lstm"), Size(16, 5, 3, 16))
    for kind in ("forward", "backward"):
        kernels["timed"].run(kind)
        *parts, whole = kernels["timed"].spent()
        assert min(parts) > 0
        assert sum(parts) < whole


@pytest.mark.wants("cc")
@pytest.mark.usefixtures("compiled_quickly")
def test_a_profiles_kernel_near_memory_touches_one_steps_memory(fma_profile: dict[str, Any]) -> None:
    kernels = fma_profile["variants"](load_cell("lstm"), Size(16, 5, 3, 16))
    *_, history, kept = kernels["near"].calls["forward"].held[1]
    for label, touched in (("near", (2 / 6, 1 / 5)), ("as it is", (1, 1))):
        history.fill_(torch.nan)
        kept.fill_(torch.nan)
        kernels[label].run("forward")
        found = tuple(float(1 - part.isnan().double().mean()) for part in (history, kept))
        assert found == pytest.approx(touched), label


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    for name in {each.stem for each in BENCHMARKS.glob("gpu*.py")} & {*sys.modules}:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    return runpy.run_path(str(BENCHMARKS / "gpu.py"), run_name="loaded")


def test_what_a_gpu_is_to_do_is_judged_by_its_worst_figure_or_not_at_all(gpu: dict[str, Any]) -> None:
    def judged(found: dict[str, Any]) -> dict[str, bool | None]:
        return {row["what"]: row["holds"] for row in gpu["verdicts"](found)}

    assert {*judged({}).values()} == {None}
    alike = {"cell": "lstm", "steps": 99, "precision": "tf32"}
    fast = {"forward_us": 100.0, "both_us": 300.0, "torch_forward_us": 210.0, "torch_both_us": 610.0}
    slow = {"forward_us": 300.0, "both_us": 900.0, "torch_forward_us": 210.0, "torch_both_us": 610.0}
    sizes = (
        {"batch": 64, "hidden": 64} | fast,
        {"batch": 64, "hidden": 128} | slow,
        {"batch": 64, "hidden": 256} | fast,
    )
    found = judged({
        "lstm": [alike | each for each in sizes],
        "waiting": [{"apart": 0.0}, {"failed": "no answer"}],
        "check": [
            {"hidden": 64, "precision": "high", "error": 1e-3},
            {"hidden": 64, "precision": "medium", "error": "OutOfMemoryError()"},
            {"graphs": 2, "graph - eager": 0.0},
        ],
        "gates": [{"row": "LSTM", "seconds": 9.0}, {"row": "all", "seconds": 55.0}],
    })  # fmt: skip
    holds = {what for what, one in found.items() if one}
    assert holds == {
        "LSTM, H 256, forward: times of torch's, padded",
        "LSTM, H 256, both: times of torch's, padded",
        "a step as a graph: differences from its kernels",
        "steps that no graph holds",
        "seconds of the gates study",
    }
    assert {what for what, one in found.items() if one is False} == {
        "programs that wait for each other: differences from plain launches",
        "errors against float64, of the bound of each precision (check)",
        "LSTM, H to 128, forward: times of torch's, padded",
        "LSTM, H to 128, both: times of torch's, padded",
        "LSTM, H to 128, forward: microseconds of a step",
        "LSTM, H to 128, both: microseconds of a step",
    }


def test_what_waits_for_ever_is_ended_and_told(
    gpu: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    waiting = gpu["gpu_waiting"]
    child = tmp_path / "child.py"
    monkeypatch.setattr(waiting, "__file__", str(child))
    monkeypatch.setattr(waiting, "PATIENCE_SECONDS", {"clusters": 3.0})
    for code, last in (
        ("print('end')", {"way": "launched"}),
        (
            "import time; time.sleep(60)",
            {"failed": "no answer after 3 s: programs wait for ever, or the machine is slow"},
        ),
        ("raise SystemExit(7)", {"failed": "it ended with 7"}),
    ):
        child.write_text(f'print(\'{{"way": "launched"}}\', flush=True)\n{code}\n')
        assert [*waiting.in_a_process("clusters")][-1] == last


def test_where_clusters_fail_nothing_else_is_measured_by_them(
    gpu: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = gpu["Plan"](dry=False, corpus="", seeds=1, cells=())
    good = {"way": "launched", "apart": 0.0}
    for of_clusters, then in (
        ({"failed": "no answer after 60 s"}, [{"then": "CELLO_CLUSTERS=0"}]),
        ({"apart": 1e-6}, [{"then": "CELLO_CLUSTERS=0"}]),
        ({"apart": 0.0}, []),
    ):
        monkeypatch.setenv("CELLO_CLUSTERS", "1")
        told = {"clusters": [of_clusters], "in memory": [good]}
        monkeypatch.setattr(gpu["gpu_waiting"], "in_a_process", lambda way, told=told: iter(told[way]))
        assert [*gpu["waiting"](plan)] == [of_clusters, *then, good]
        assert os.environ["CELLO_CLUSTERS"] == ("0" if then else "1")


def test_a_compiler_that_ends_its_process_takes_no_other_kernel_with_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By a pool that waits for a process that is gone, a lent machine's time would pass."""
    for name in {each.stem for each in BENCHMARKS.glob("gpu*.py")} & {*sys.modules}:
        monkeypatch.delitem(sys.modules, name)
    (tmp_path / "falls.py").write_text("import os\n\ndef of(job):\n    return os._exit(3) if job == 1 else 10 * job\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), str(BENCHMARKS), *sys.path])
    gpu_kernels, falls = import_module("gpu_kernels"), import_module("falls")
    monkeypatch.setattr(gpu_kernels, "PROCESSES", 1)
    found = gpu_kernels.in_processes(falls.of, [0, 1, 2])
    assert found[:2] == [0, "its process ended"]
    monkeypatch.setattr(gpu_kernels, "PATIENCE_SECONDS", 0.0)
    assert gpu_kernels.in_processes(falls.of, [0]) == ["nothing after 0 s"]
