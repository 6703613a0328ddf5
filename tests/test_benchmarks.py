"""What hurts: a benchmark that no longer runs because the code it measures has moved on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
LOADED = """
import runpy, sys
sys.path.insert(0, {folder!r})
for path in {paths!r}:
    runpy.run_path(path, run_name="loaded")
    print(path)
"""


def test_every_benchmark_finds_what_it_measures() -> None:
    pytest.importorskip("onnxruntime")
    paths = sorted(map(str, BENCHMARKS.glob("*.py")))
    code = LOADED.format(folder=str(BENCHMARKS), paths=paths)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == paths, done.stderr[-500:]
