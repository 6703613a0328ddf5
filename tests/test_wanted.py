"""What hurts: a test that is skipped everywhere because nobody installs what it wants, and nobody knows."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from wanted import check, installable, installed

CI = Path(__file__).parents[1] / ".ci"


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
            check([program])
        monkeypatch.setenv("CI", "1")
        with pytest.raises(pytest.fail.Exception, match=f"^{program} is not installed$"):
            check([program])
    installed.cache_clear()


def test_a_program_that_ci_does_not_install_cannot_be_wanted() -> None:
    with pytest.raises(pytest.fail.Exception, match=r"^nodee is not among the programs of \.ci/packages; add it"):
        check(["nodee"])


def test_every_program_comes_with_packages_and_a_machine_without_root_or_apt_is_told_them(tmp_path: Path) -> None:
    assert all(installable().values())
    for name in ("bash", "dirname", "env"):
        (tmp_path / name).symlink_to(str(shutil.which(name)))
    done = subprocess.run(
        [str(tmp_path / "bash"), str(CI / "install")],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    names = " ".join(installable())
    assert (done.returncode, done.stderr) == (
        0,
        f"missing: {names}; they are not installed, for want of root or of apt\n",
    )
