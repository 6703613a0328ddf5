"""What hurts: a page that says that kernels spill nothing, or less, than they were seen to."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

from gpu_resources import DOCS, RECORD, read, spills, with_tables  # noqa: E402


def test_the_page_says_what_was_compiled() -> None:
    page = DOCS.read_text("utf-8")
    assert page == with_tables(page, read(RECORD)), "run: python benchmarks/gpu_resources.py --docs"


def test_a_kernel_that_spills_is_named_with_its_bytes() -> None:
    row = {"capability": 90, "precision": "tf32", "hidden": 64, "cell": "a", "pass": "forward", "spilled": 0}
    assert "No kernel spills." in spills([row])
    lines = spills([row, row | {"cell": "b", "spilled": 12}, row | {"cell": "c", "refused": "no kernel"}])
    assert "| 9.0 | tf32 | 64 | 2 | 1 | 12 |" in lines
    assert lines[-1] == "| `b`, forward | 9.0 tf32 H 64: 12 |"
