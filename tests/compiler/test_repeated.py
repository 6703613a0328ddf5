"""Equal turns are found and share memory; what hurts is a value that is written over before its last reader."""

from __future__ import annotations

from cello.compiler.places import marked
from cello.compiler.repeated import Block, Part, Series, found, share_memory


def block(*places: str) -> Block:
    """What reads or writes these places, 20 lines long."""
    return Block(tuple(f"f({', '.join(map(marked, places))});" for _ in range(20)))


def chain(turns: int) -> list[Block]:
    """Each turn reads what the one before it wrote; before and after them stands something else."""
    places = ["old", *(f"v{turn}" for turn in range(1, turns)), "new"]
    return [block("x", "y", "z"), *(block(places[k], places[k + 1]) for k in range(turns)), block("x", "y", "old")]


SIZES = {f"v{turn}": 1 for turn in range(1, 9)}


def turns_of(parts: list[Part]) -> list[int]:
    """How often each part stands there."""
    return [len(part.turns) if isinstance(part, Series) else 1 for part in parts]


def test_turns_that_follow_from_one_another_share_two_places() -> None:
    parts, gone = share_memory(found(chain(6), chained=True), SIZES)
    assert turns_of(parts) == [1, 6, 1]
    assert gone == {"v3": "v1", "v4": "v2", "v5": "v1"}
    assert isinstance(parts[1], Series)
    assert parts[1].places == [("old", "v1", "v2", "v1", "v2", "v1"), ("v1", "v2", "v1", "v2", "v1", "new")]


def test_a_value_that_is_read_after_the_loop_is_not_written_over() -> None:
    blocks = [*chain(6), block("v3", "x")]
    assert share_memory(found(blocks, chained=True), SIZES)[1] == {"v4": "v1", "v5": "v2"}
    blocks = [*chain(6), block("v1", "x")]
    assert share_memory(found(blocks, chained=True), SIZES)[1] == {}


def test_values_of_other_sizes_and_places_of_others_keep_their_own() -> None:
    parts = found(chain(6), chained=True)
    assert share_memory(parts, {**SIZES, "v3": 2})[1] == {}
    assert share_memory(parts, {name: 1 for name in SIZES if name != "v3"})[1] == {}


def test_turns_side_by_side_are_no_chain() -> None:
    blocks = [block(f"w{k}", f"v{k}") for k in range(5)]
    assert turns_of(found(blocks)) == [5]
    assert turns_of(found(blocks, chained=True)) == [1] * 5
