"""Plain evaluation has as few operations a step as the equations allow: products of one vector are one."""

from __future__ import annotations

from collections import Counter

import pytest

from cello.cells.definition import cell
from cello.cells.functions import tanh
from cello.cells.load import zoo
from cello.compiler.plain.program import program
from cello.compiler.stages import lower


@pytest.mark.parametrize(
    ("name", "products", "before"),
    [
        ("lstm", 1, 4),
        ("lstm-peephole-full", 3, 4),
        ("gru", 2, 3),
        ("gru-original", 2, 3),
        ("fgr", 4, 4),
        ("sru", 0, 4),
        ("mlstm", 2, 5),
    ],
)
def test_products_a_step_and_before_the_loop(name: str, products: int, before: int) -> None:
    plan = program(zoo()[name])
    assert Counter(instruction.op for instruction in plan.instructions)["linear"] == products
    assert len(plan.columns) == before


@pytest.mark.parametrize(
    ("name", "functions", "splits"),
    [
        ("lstm", {"sigmoid": 1, "tanh": 2}, 2),  # i, f and o in one sigmoid; g and c in a tanh each
        ("lstm-peephole-full", {"sigmoid": 2, "tanh": 2}, 2),  # i and f in one; o waits for the new c
        ("lstm-no-output", {"sigmoid": 1, "tanh": 2}, 2),
        ("rnn", {"tanh": 1}, 0),
    ],
)
def test_gates_with_the_same_function_go_through_it_side_by_side(
    name: str, functions: dict[str, int], splits: int
) -> None:
    count = Counter(instruction.op for instruction in program(zoo()[name]).instructions)
    assert {op: count[op] for op in ("sigmoid", "tanh") if count[op]} == functions
    assert count["split"] == splits


def test_a_sum_that_is_needed_itself_stays_out_of_a_shared_function() -> None:
    @cell
    def leaky(x, h, W, U):  # type: ignore[no-untyped-def]
        a = W.a @ x + U.a @ h
        b = W.b @ x + U.b @ h
        return tanh(a) * tanh(b) + b

    plan = program(leaky)
    assert Counter(instruction.op for instruction in plan.instructions)["tanh"] == 2


def test_what_knows_no_state_is_computed_before_the_loop() -> None:
    plan = lower(zoo()["minlstm"])
    assert {plan.graph.nodes[k].name for k in plan.hoisted} >= {"i", "f"}
    assert not {k for k in plan.stepwise if plan.graph.nodes[k].op == "product"}
    static = lower(zoo()["fastgrnn"])
    assert [static.graph.nodes[k].op for k in static.static] == ["sigmoid", "sigmoid"]


def test_each_cell_writes_every_slot_before_it_is_read() -> None:
    for one in zoo().values():
        plan = program(one)
        nodes = plan.step.graph.nodes
        written = {k for k, node in enumerate(nodes) if not node.args} | {*plan.step.static, *plan.per_frame}
        written |= {pack.slot for pack in (*plan.weights, *plan.static_packs, *plan.column_packs, *plan.frame_packs)}
        for instruction in plan.instructions:
            assert written.issuperset(instruction.args), (one.name, instruction)
            written.update(instruction.outs)
        assert written.issuperset(plan.step.graph.outputs)
