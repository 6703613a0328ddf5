"""A step in another order is the same step: what depends on something else stays where it has to be."""

from __future__ import annotations

from cello.cells.load import zoo
from cello.compiler.triton.schedule import ordered, parts
from cello.compiler.triton.text import own_text


def test_what_is_late_stands_right_before_its_reader_and_is_not_moved_past_what_changes_it() -> None:
    lines = ["a = 1.0", "# s = P z", "s = z", "s = s + a", "b = f(a)", "a = b", "c = s * b"]
    assert ordered(lines, {"s"}) == ["a = 1.0", "b = f(a)", "# s = P z", "s = z", "s = s + a", "a = b", "c = s * b"]
    assert ordered(lines, {"c"}) == lines


def test_what_backward_reads_is_written_as_soon_as_it_is_there() -> None:
    block = ["if KEEP:", "    store_tile(saved + 0, running, kept, part, 1, H, OWN, WHOLE)"]
    lines = ["a = f(x)", "kept = a", "b = g(a)", "if SPLIT > 1:", "    store_part(others, b, part)", "c = b"]
    assert ordered([*lines, *block], ()) == [*lines[:2], *block, *lines[2:]]
    assert parts("a, b = f(c)") == ({"a", "b"}, {"f", "c"})
    assert parts("a += b") == ({"a"}, {"a", "b"})


def test_the_gates_of_a_hyper_lstm_are_multiplied_one_after_the_other_where_registers_run_short() -> None:
    def before_the_first_gate(text: str) -> int:
        return text[: text.index("o_2_118 = sigmoid")].count("short_product(")

    assert before_the_first_gate(own_text(zoo()["hyper-lstm"])) == 12
    assert before_the_first_gate(own_text(zoo()["hyper-lstm"], "rows")) == 5
