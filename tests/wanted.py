"""Programs that tests want beyond Python: those of .ci/packages."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pytest

from cello.native.build import compiler

PACKAGES = Path(__file__).parents[1] / ".ci" / "packages"


@cache
def installed(program: str) -> bool:
    """Whether the program is on the path; for ``cc``, any compiler that Cello would take."""
    return compiler() is not None if program == "cc" else shutil.which(program) is not None


@cache
def installable() -> dict[str, list[str]]:
    """The programs that CI installs, each with its packages."""
    lines = [line.split() for line in PACKAGES.read_text("utf-8").splitlines() if not line.startswith("#")]
    return {program: packages for program, *packages in lines}


def check(programs: Iterable[str]) -> None:
    """Skip the test if one of them is not here; in CI, which installs all of them, fail it."""
    for program in programs:
        if program not in installable():
            pytest.fail(f"{program} is not among the programs of .ci/packages; add it with its packages", pytrace=False)
        if not installed(program):
            missing = pytest.fail if "CI" in os.environ else pytest.skip
            missing(f"{program} is not installed")
