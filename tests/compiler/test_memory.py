"""What hurts: a setting of the C library's that is asked of one that has none, or is said to be made and is not."""

from __future__ import annotations

import ctypes
import platform

import pytest

from cello.compiler.memory import keep_freed_memory


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has this setting")
def test_glibc_keeps_freed_memory() -> None:
    assert keep_freed_memory()


def test_another_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(ctypes, "CDLL", lambda _: pytest.fail("loaded"))
    assert not keep_freed_memory()
