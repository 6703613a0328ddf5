"""Compute what a kernel is given of a cell's weights: matrices, and other values that are the same at every step."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from torch import Tensor

from cello.cells.definition import Cell
from cello.cells.graph import reached
from cello.cells.sizes import size
from cello.compiler.kernel import kernel
from cello.compiler.operations import TORCH, TORCH_RESHAPING
from cello.compiler.tracing import constant_result

Value = tuple[int, str, str | None, float | None, tuple[int, ...], tuple[str, ...]]
Recipe = tuple[tuple[Value, ...], tuple[int, ...], tuple[str, ...]]
"""Plain constants, so that tracing can follow them: the values that need neither frame nor state (position, operation,
name, number, arguments, shape), the positions of those a kernel is given, and the names of its masks."""


@constant_result
def recipe(cell: Cell, *, blocks: bool = False, computes: bool = False) -> Recipe:
    """How what a kernel is given is made of a cell's weights; see ``kernel`` of ``blocks`` and ``computes``."""
    return _recipe(cell, blocks, computes)


@lru_cache(maxsize=256)
def _recipe(cell: Cell, blocks: bool, computes: bool) -> Recipe:
    plan = kernel(cell, blocks=blocks, computes=computes)
    nodes = plan.graph.nodes
    wanted = (*plan.matrices, *plan.invariant)
    live = reached(nodes, wanted)
    values = tuple((k, n.op, n.name, n.value, n.args, n.shape) for k, n in enumerate(nodes) if k in live)
    return values, wanted, tuple(str(nodes[k].name) for k in plan.masks)


@lru_cache(maxsize=256)
def parameters_alone(cell: Cell, *, blocks: bool = False, computes: bool = False) -> tuple[str, ...]:
    """The names of the parameters that a kernel is given, if nothing is computed of the weights; else none."""
    plan = kernel(cell, blocks=blocks, computes=computes)
    nodes = [plan.graph.nodes[k] for k in (*plan.matrices, *plan.invariant)]
    return tuple(str(node.name) for node in nodes) if all(node.op == "parameter" for node in nodes) else ()


def loop_invariant(
    values: tuple[Value, ...], weights: Mapping[str, Tensor], inputs: int = 0, hidden: int = 0
) -> dict[int, Any]:
    """The values of a recipe, by their positions, for D = ``inputs`` and H = ``hidden``."""
    found: dict[int, Any] = {}
    for k, op, name, number, args, shape in values:
        if op == "parameter":
            found[k] = weights[str(name)]
        elif op == "size":
            found[k] = next(iter(weights.values())).new_full((), size(str(name), inputs, hidden))
        elif op in TORCH_RESHAPING:
            found[k] = TORCH_RESHAPING[op](found[args[0]], tuple(size(each, inputs, hidden) for each in shape))
        elif op == "constant":
            found[k] = number
        else:
            given = [found[a] for a in args]
            if not any(isinstance(each, Tensor) for each in given):  # numbers that stand side by side in a sum
                given = [next(iter(weights.values())).new_full((), each) for each in given]
            found[k] = TORCH[op](*given)
    return found
