"""Plain evaluation has as few operations a step as the equations allow: products of one vector are one."""

from __future__ import annotations

from collections import Counter

import pytest

from cello.cells.load import zoo
from cello.compiler.memory import keep_freed_memory
from cello.compiler.program import program
from cello.compiler.schedule import schedule


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


def test_the_full_peephole_takes_two_stages() -> None:
    stages = schedule(zoo()["lstm-peephole-full"]).stages
    assert [len(stage.products) for stage in stages] == [6, 1]
    assert [len(stage.products) for stage in schedule(zoo()["lstm"]).stages] == [4]


def test_what_knows_no_state_is_computed_before_the_loop() -> None:
    plan = schedule(zoo()["minlstm"])
    assert {plan.graph.nodes[k].name for k in plan.hoisted} >= {"i", "f"}
    assert sum(len(stage.products) for stage in plan.stages) == 0
    static = schedule(zoo()["fastgrnn"])
    assert [static.graph.nodes[k].op for k in static.static] == ["sigmoid", "sigmoid"]


def test_each_cell_writes_every_slot_before_it_is_read() -> None:
    for cell in zoo().values():
        plan = program(cell)
        nodes = plan.schedule.graph.nodes
        written = {k for k, node in enumerate(nodes) if not node.args} | {*plan.schedule.static, *plan.per_frame}
        written |= {pack.slot for pack in (*plan.weights, *plan.static_packs, *plan.column_packs, *plan.frame_packs)}
        for instruction in plan.instructions:
            assert written.issuperset(instruction.args), (cell.name, instruction)
            written.update(instruction.outs)
        assert written.issuperset(plan.schedule.graph.outputs)


def test_keeping_memory_says_whether_it_does() -> None:
    assert keep_freed_memory() in (True, False)
