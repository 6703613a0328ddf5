"""What hurts: twenty compilations at each start, and a choice of another kernel."""

from __future__ import annotations

from pathlib import Path

import pytest

from cello.cells.load import zoo
from cello.compiler.triton import choice
from cello.compiler.triton.launch import Tiling
from cello.compiler.triton.machine_code import Taken
from cello.compiler.triton.remembered import Choice, remember, remembered
from cello.compiler.triton.spaces import Sizes

pytest.importorskip("triton")
SIZES = Sizes(zoo()["lstm"], 39, 64)


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Tiling]:
    """The tilings that are compiled, of which that with nothing read ahead keeps nothing in memory."""
    tried: list[Tiling] = []

    def told(function: object, constant: object, precision: str, each: Tiling, capability: int) -> Taken:
        tried.append(each)
        return Taken(255, 0 if each.stages == 1 else 8, 1024)

    monkeypatch.setenv("CELLO_CACHE", str(tmp_path))
    monkeypatch.setattr(choice, "taken", told)
    return tried


def chosen(capability: int = 90, memory: int = 200_000) -> Tiling:
    found = choice.chosen.__wrapped__(zoo()["lstm"], "forward", SIZES, "tf32", capability, memory)
    assert found is not None
    assert found[1] == Taken(255, 0, 1024)
    return found[0]


def test_another_process_compiles_none_but_the_chosen_kernel(compiled: list[Tiling], tmp_path: Path) -> None:
    first = chosen()
    assert first.stages == 1
    assert len(compiled) > 1
    compiled.clear()
    assert chosen() == first
    assert not compiled
    assert chosen(80) == first  # another GPU
    assert compiled
    compiled.clear()
    for file in (tmp_path / "kernels" / "tilings").iterdir():  # of another text or broken: chosen anew
        file.write_bytes(file.read_bytes()[:-9])
    assert chosen() == first
    assert compiled


def test_what_was_chosen_by_other_rules_is_chosen_anew(compiled: list[Tiling], monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a folder of an older release would decide in which order sums are added."""

    def first_of_several() -> object:
        every = Tiling(32, 64, 8, stages=2), Tiling(32, 64, 8, stages=1)
        return choice.first_that_fits.__wrapped__(zoo()["lstm"], "forward", every, SIZES, "tf32", 90, 200_000)

    for choose in (chosen, first_of_several):
        found = choose()
        compiled.clear()
        assert choose() == found
        assert not compiled
        with monkeypatch.context() as changed:
            changed.setattr(choice, "RULES", (*choice.RULES[:-1], choice.FAR + 1))
            assert choose() == found
            assert compiled


def test_a_number_that_no_tiling_has_is_not_believed(
    compiled: list[Tiling], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(choice, "remembered", lambda key: Choice(99, 1, 0, 0))
    assert chosen().stages == 1
    assert compiled


def test_nothing_is_remembered_where_there_is_no_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("CELLO_CACHE", str(tmp_path / "file"))
    remember("a", Choice(1, 2, 3, 4))
    assert remembered("a") is None
