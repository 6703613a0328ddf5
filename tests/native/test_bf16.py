"""What hurts: an instruction that the processor does not have, and a machine that is refused though it could."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from pathlib import Path

import pytest

from cello.native import bf16
from cello.native.bf16 import missing_bf16


@pytest.fixture(autouse=True)
def asked_anew() -> Iterator[None]:
    missing_bf16.cache_clear()
    yield
    missing_bf16.cache_clear()


def test_a_processor_is_asked_for_its_instructions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = tmp_path / "cpuinfo"
    monkeypatch.setattr(bf16, "CPUINFO", told)
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    lacks = "which this CPU (Example 7) does not have"
    assert missing_bf16() == "which this CPU (x86_64) does not have"
    for flags, expected in (
        ("fpu avx512f avx512_bf16 amx_tile", None),
        ("fpu avx512f avx512_vnni", lacks),
        ("fpu avx512_bf16x", lacks),
        ("", lacks),
    ):
        told.write_text(f"processor\t: 0\nmodel name\t: Example 7\nflags\t\t: {flags}\nbugs\t\t: avx512_bf16\n")
        missing_bf16.cache_clear()
        assert missing_bf16() == expected


@pytest.mark.parametrize(("system", "machine"), [("Darwin", "arm64"), ("Darwin", "x86_64"), ("Linux", "aarch64")])
def test_other_machines_are_named(system: str, machine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert missing_bf16() == f"which Cello uses on Linux and x86-64, not on {system} and {machine}"
