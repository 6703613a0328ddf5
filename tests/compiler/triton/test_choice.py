"""What hurts: a GPU on which the chosen kernel is wrong, and nothing else, or nearly the same, to take instead."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cello.cells.load import zoo
from cello.compiler.triton import choice
from cello.compiler.triton.choice import INSTEAD, NOT_COMPILED, ways
from cello.compiler.triton.launch import Tiling
from cello.compiler.triton.machine_code import Taken
from cello.compiler.triton.spaces import Sizes

pytest.importorskip("triton")
LSTM = zoo()["lstm"]


def found(hidden: int, precision: str, told: dict[Tiling, Taken], monkeypatch: pytest.MonkeyPatch) -> list[Tiling]:
    """The ways of which all others keep nothing in memory."""

    def taken(function: object, constant: object, precision: str, each: Tiling, capability: int) -> Taken:
        return told.get(each, Taken(128, 0, 1024))

    for cached in (choice.chosen, choice._instead):
        cached.cache_clear()
    monkeypatch.setattr(choice, "taken", taken)
    every = list(ways(LSTM, "forward", Sizes(LSTM, 39, hidden), precision, 90, 227 * 1024, 132))
    for cached in (choice.chosen, choice._instead):
        cached.cache_clear()
    return [tiling for tiling, _ in every]


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CELLO_CACHE", str(tmp_path))


def test_after_a_cluster_the_same_programs_meet_in_memory_then_come_the_most_unlike(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster, memory, *others = found(256, "bf16", {}, monkeypatch)
    assert cluster.cluster
    assert memory == replace(cluster, cluster=False)
    assert len({cluster, memory, *others}) == 2 + len(others) == 1 + INSTEAD
    for each in others:
        differ = [name for name, value in vars(each).items() if value != getattr(cluster, name)]
        assert len(differ) >= 3, each


def test_what_does_not_fit_or_is_not_compiled_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    best, first, second, third = found(64, "tf32", {}, monkeypatch)
    assert best.split == 1
    wrong = {first: NOT_COMPILED, third: Taken(128, 0, 1 << 20)}
    left = found(64, "tf32", wrong, monkeypatch)
    assert left[:2] == [best, second]
    assert not {first, third} & {*left}
