"""What hurts: registers that run short without a sign, and a kernel that keeps its values in slow memory."""

from __future__ import annotations

from cello.cells.load import zoo
from cello.compiler.triton.pressure import tiles_at_once
from cello.compiler.triton.text import names_of


def test_a_step_of_more_values_holds_more_tiles() -> None:
    held = {name: tiles_at_once(names_of(zoo()[name])) for name in ("rnn", "gru", "lstm", "lstm-layer-norm")}
    backward = [after for _, after in held.values()]
    assert backward == sorted(backward)
    assert 2 <= held["rnn"][1] <= 8
    assert 40 <= held["lstm-layer-norm"][1] <= 70


def test_unfolds_hold_what_the_next_one_reads_and_not_all_there_ever_was() -> None:
    """What backward reads is written as soon as it is there, and read right before it is used."""
    forward, backward = tiles_at_once(names_of(zoo()["ltc"]))
    assert forward <= 10
    assert backward <= 22
