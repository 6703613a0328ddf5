"""What hurts: a traceback for a user without a home folder, or files in a folder that was not asked for."""

from __future__ import annotations

from pathlib import Path

import platformdirs
import pytest

from cello.cache import cache_root
from cello.errors import CelloError


def test_the_folder_asked_for_comes_before_the_variable_and_that_before_the_users_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda name: tmp_path / name)
    monkeypatch.delenv("CELLO_CACHE", raising=False)
    assert cache_root() == tmp_path / "cello"
    monkeypatch.setenv("CELLO_CACHE", str(tmp_path / "named"))
    assert cache_root() == tmp_path / "named"
    assert cache_root(tmp_path / "asked") == tmp_path / "asked"


def test_without_a_home_folder_the_way_out_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless(name: str) -> Path:
        raise RuntimeError("could not determine the home directory")

    monkeypatch.delenv("CELLO_CACHE", raising=False)
    monkeypatch.setattr(platformdirs, "user_cache_path", homeless)
    with pytest.raises(CelloError, match=r"no home folder .* name a folder with --cache or in CELLO_CACHE"):
        cache_root()
