"""Two trees of code that would give other numbers must not pass for the same."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import cello
from cello import machine


def _source(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(cello, "__file__", str(folder / "__init__.py"))
    return machine.source.__wrapped__()


def test_a_changed_moved_or_missing_file_is_another_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = Path(cello.__file__).parent
    one, other = tmp_path / "one", tmp_path / "other"
    for copy in (one, other):
        shutil.copytree(package, copy, ignore=shutil.ignore_patterns("__pycache__"))
    own = _source(package, monkeypatch)
    assert _source(one, monkeypatch) == _source(other, monkeypatch) == own
    header = next(other.rglob("*.h"))
    header.write_text(header.read_text() + "// changed\n")
    assert _source(other, monkeypatch) != own
    header.write_bytes((package / header.relative_to(other)).read_bytes())
    assert _source(other, monkeypatch) == own
    (other / "errors.py").rename(other / "faults.py")
    assert _source(other, monkeypatch) != own


def test_memory_is_told_in_bytes_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (found := machine.memory()) is None or found > 1 << 28
    monkeypatch.delattr("os.sysconf", raising=False)
    assert machine.memory() is None
