"""Evaluate a cell whose values have several sizes, node by node over packed frames."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from cello.cells.definition import Cell
from cello.cells.sizes import size
from cello.compiler.inputs import hidden_size
from cello.compiler.operations import TORCH, TORCH_RESHAPING
from cello.compiler.stages import lower


def steps_of(
    cell: Cell, frames: Tensor, masks: Mapping[str, Tensor], sizes: Sequence[int], weights: Mapping[str, Tensor]
) -> Callable[[int, tuple[Tensor, ...]], tuple[Tensor, ...]]:
    """A function of a step's number and the old states that gives the new ones; rows are as in ``evaluate``.

    What knows no state is computed here, for all steps at once.
    """
    plan = lower(cell)
    nodes, inputs, hidden = plan.graph.nodes, int(frames.shape[-1]), hidden_size(cell, weights)
    values: dict[int, Any] = {}
    for k, node in enumerate(nodes):
        if node.op == "input":
            begin, elements = cell.part(str(node.name), inputs)
            values[k] = frames[:, begin : begin + elements]
        elif node.op == "parameter":
            values[k] = weights[str(node.name)]
        elif node.op == "mask":
            values[k] = masks[str(node.name)]
        elif node.op == "constant":
            values[k] = node.value
        elif node.op == "size":
            values[k] = frames.new_full((), size(str(node.name), inputs, hidden))
    shapes = _sizes(cell, inputs, hidden)
    for k in sorted((*plan.static, *plan.hoisted)):
        values[k] = _value(nodes[k].op, [values[a] for a in nodes[k].args], shapes[k])
    reads = {a for k in plan.stepwise for a in nodes[k].args} | {*plan.graph.outputs}
    every = {k for k, node in enumerate(nodes) if node.op in ("input", "mask")} | {*plan.hoisted}
    per_step = {k: torch.split_with_sizes(values[k], list(sizes)) for k in sorted(reads & every)}
    states = {str(node.name): k for k, node in enumerate(nodes) if node.op == "state"}

    def step(t: int, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        own = {k: parts[t] for k, parts in per_step.items()}
        own |= {states[name]: part for name, part in zip(cell.states, state, strict=True) if name in states}
        for k in plan.stepwise:
            own[k] = _value(nodes[k].op, [own[a] if a in own else values[a] for a in nodes[k].args], shapes[k])
        return tuple(own[k] for k in plan.graph.outputs)

    return step


def _value(op: str, args: list[Any], sizes: tuple[int, ...]) -> Any:
    return TORCH_RESHAPING[op](args[0], sizes) if op in TORCH_RESHAPING else TORCH[op](*args)


@lru_cache(maxsize=256)
def _sizes(cell: Cell, inputs: int, hidden: int) -> list[tuple[int, ...]]:
    return [tuple(size(each, inputs, hidden) for each in node.shape) for node in lower(cell).graph.nodes]
