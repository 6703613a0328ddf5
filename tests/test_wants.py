"""What hurts: a test that is skipped everywhere because nobody installs what it wants, and nobody knows."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from conftest import installable, installed, pytest_runtest_setup

CI = Path(__file__).parents[1] / ".ci"


def start(*programs: str) -> None:
    """Start a test that wants these programs."""
    marks = [pytest.mark.wants(*programs).mark]
    pytest_runtest_setup(SimpleNamespace(iter_markers=lambda name: marks if name == "wants" else []))  # type: ignore[arg-type]


@pytest.fixture
def nothing_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path))


def test_without_its_program_a_test_is_skipped_by_name_and_fails_in_ci(
    nothing_installed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for program in installable():
        monkeypatch.delenv("CI", raising=False)
        with pytest.raises(pytest.skip.Exception, match=f"^{program} is not installed$"):
            start(program)
        monkeypatch.setenv("CI", "1")
        with pytest.raises(pytest.fail.Exception, match=f"^{program} is not installed$"):
            start(program)
    installed.cache_clear()


def test_a_program_that_ci_does_not_install_cannot_be_wanted() -> None:
    with pytest.raises(pytest.fail.Exception, match=r"^nodee is not among the programs of \.ci/packages; add it"):
        start("nodee")


def test_every_program_comes_with_packages_and_a_machine_without_root_or_apt_is_told_them(tmp_path: Path) -> None:
    lines = [line.split() for line in (CI / "packages").read_text("utf-8").splitlines() if not line.startswith("#")]
    assert all(len(line) > 1 for line in lines)
    for name in ("bash", "dirname", "env"):
        (tmp_path / name).symlink_to(str(shutil.which(name)))
    done = subprocess.run(
        [str(tmp_path / "bash"), str(CI / "install")],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    names = " ".join(line[0] for line in lines)
    assert (done.returncode, done.stderr) == (
        0,
        f"missing: {names}; they are not installed, for want of root or of apt\n",
    )
