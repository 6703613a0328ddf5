"""What hurts: products taken in more passes than need be, values stored that follow from what is there anyway."""

from __future__ import annotations

from typing import Any

import pytest

from cello.cells.definition import Cell
from cello.cells.definition import cell as make_cell
from cello.cells.functions import sigmoid, sqrt, tanh
from cello.cells.load import zoo
from cello.compiler.c.backward import own_values
from cello.compiler.c.source import Workspace
from cello.compiler.c.text import names_of, own_text
from cello.compiler.kernel import kernel


def stages(cell: Cell) -> list[int]:
    """The number of sums of each stage."""
    return [len(stage.sums) for stage in kernel(cell).stages]


def kept(cell: Cell) -> list[str]:
    plan = kernel(cell)
    return [plan.graph.nodes[k].name or plan.graph.nodes[k].op for k in plan.kept]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("rnn", [1]),
        ("lstm", [4]),
        ("gru", [4]),  # the product inside the reset gate's bracket is a sum of its own
        ("gru-original", [1, 2]),  # r, then z and n, since z is read no earlier
        ("lstm-peephole-full", [3, 1]),  # the output gate waits for the new c
    ],
)
def test_a_sum_of_products_is_one_pass_in_the_stage_it_must_wait_for(name: str, expected: list[int]) -> None:
    assert stages(zoo()[name]) == expected


def test_a_bias_belongs_to_its_sum_and_the_frames_product_too() -> None:
    for each in kernel(zoo()["lstm"]).sums:
        assert (len(each.products), len(each.invariant)) == (2, 1)


def test_gates_are_kept_and_what_follows_from_states_is_not() -> None:
    assert sorted(kept(zoo()["lstm"])) == ["f", "g", "i", "o"]
    assert kept(zoo()["rnn"]) == []


def test_of_a_normalised_state_the_mean_is_kept_not_what_follows_from_it() -> None:
    @make_cell
    def normal(x: Any, h: Any, W: Any, U: Any) -> Any:
        h = tanh(W @ x + U @ h)
        d = h - h.mean()
        return d / sqrt((d * d).mean() + 1e-5)

    plan = names_of(normal).plan
    assert sorted(plan.graph.nodes[k].shape for k in plan.kept) == [("1",), ("1",), ("1",), ("H",)]


def test_what_is_dear_to_compute_is_kept() -> None:
    from cello.cells.functions import softplus

    @make_cell
    def soft(x: Any, h: Any, W: Any, U: Any) -> Any:
        u = softplus(h)
        return tanh(W @ x + U @ (u * u))

    assert "u" in kept(soft)


def test_a_value_is_computed_as_late_as_its_first_reader_allows() -> None:
    @make_cell
    def late(x: Any, h: Any, W: Any, U: Any) -> Any:
        r = sigmoid(W.r @ x + U.r @ h)
        z = sigmoid(W.z @ x + U.z @ h)
        return z * h + (1 - z) * tanh(U.n @ (r * h))

    first, second = kernel(late).stages
    names = [{kernel(late).graph.nodes[k].name for k in stage.pointwise} for stage in (first, second)]
    assert "r" in names[0]
    assert "z" in names[1]


def test_every_cell_of_the_zoo_computes_each_value_once() -> None:
    for cell in zoo().values():
        plan = kernel(cell)
        computed = [k for stage in plan.stages for k in own_values(stage)]
        assert len(computed) == len(set(computed)), cell.name
        read = {a for k in computed for a in plan.graph.nodes[k].args}
        assert {k for k in plan.graph.outputs if plan.graph.nodes[k].args} <= set(computed), cell.name
        assert plan.invariant == tuple(sorted(plan.invariant)), cell.name
        assert read, cell.name


def test_a_long_chain_of_values_read_twice_is_planned_at_once() -> None:
    @make_cell
    def chain(x: Any, h: Any, W: Any, U: Any) -> Any:
        v = W @ x + U @ h
        for _ in range(90):
            v = v * v + v
        return tanh(v)

    assert len(kernel(chain).kept) == 1  # the sum; all else follows, in time that does not double with each step


def test_a_product_with_a_matrix_of_one_number_is_a_sum_over_units() -> None:
    cell = zoo()["on-lstm"]
    plan, text = names_of(cell).plan, own_text(cell)
    assert {node.name for node in plan.graph.parameters()} & {"J", "C"} == {"C"}  # which differs between elements
    assert [node.op for node in plan.graph.nodes].count("total") == 4
    assert "weight_J" not in text
    assert "d_weight_C" in text


@pytest.mark.parametrize("name", ["lstm-layer-norm", "gru-layer-norm"])
def test_a_vector_is_divided_by_no_number_of_a_step(name: str) -> None:
    """Whether that is a sum's own or follows from one: a deviation is divided by once, not for each unit."""
    nodes = names_of(zoo()[name]).plan.graph.nodes
    assert any(node.op == "sqrt" for node in nodes)
    assert {node.shape for node in nodes if node.op == "div"} == {("1",)}


def test_tiles_side_by_side_do_not_share_lines_of_the_cache() -> None:
    """At the usual sizes a tile is a power of two long; a loop over twenty of them would wait for memory."""
    workspace = Workspace(apart=True)
    for name in ("first", "second", "third", "fourth"):
        workspace.add(name, "size")
    workspace.groups.append(["second", "third"])
    take, _, *pointers = workspace.lines({"third"})
    assert "alloc_workspace(size + V + 2 * (size) + V + size + V)" in take
    assert pointers == [
        "    real *first = workspace;",
        "    real *second = first + size + V;",
        "    real *third = second + 1 * (size);",
        "    real *fourth = second + 2 * (size) + V;",
    ]
    assert names_of(zoo()["lstm-layer-norm"]).workspace().apart
    assert not names_of(zoo()["lstm"]).workspace().apart
