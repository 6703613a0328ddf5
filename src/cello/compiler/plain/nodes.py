"""Evaluate a cell whose values have several sizes, node by node over packed frames."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cello.cells.definition import Cell
from cello.cells.sizes import size
from cello.compiler.inputs import hidden_size
from cello.compiler.operations import TORCH, TORCH_RESHAPING
from cello.compiler.stages import Step, lower
from cello.compiler.tracing import constant_result

Values = dict[int, Any]
"""The values of nodes, by their positions."""


class _Operation(NamedTuple):
    """One operation: of which node, what, of which nodes, to which sizes; of products of one vector, all at once.

    ``results`` are the nodes computed. The matrices of products of one vector stand in a slot after those of the nodes,
    one on top of the other, and ``sizes`` are their rows.
    """

    op: str
    args: tuple[int, ...]
    results: tuple[int, ...]
    sizes: tuple[int, ...]


class _Plan(NamedTuple):
    """What to compute once, for all frames, and in every step; ``packs`` are a slot and the matrices in it.

    ``leaves`` are the node, its kind, its name, and a number: its value, or of a part of the frame where it begins and
    its elements. ``per_step`` are the values outside the loop that differ from step to step and that it reads.
    """

    leaves: tuple[tuple[int, str, str, tuple[float, ...]], ...]
    static: tuple[_Operation, ...]
    packs: tuple[tuple[int, tuple[int, ...]], ...]
    hoisted: tuple[_Operation, ...]
    stepwise: tuple[_Operation, ...]
    per_step: tuple[int, ...]
    states: tuple[int | None, ...]
    outputs: tuple[int, ...]


def steps_of(
    cell: Cell, frames: Tensor, masks: Mapping[str, Tensor], sizes: Sequence[int], weights: Mapping[str, Tensor]
) -> Callable[[int, tuple[Tensor, ...]], tuple[Tensor, ...]]:
    """A function of a step's number and the old states that gives the new ones; rows are as in ``evaluate``.

    What knows no state is computed here, for all steps at once, and so are products of the same vector at each.
    """
    plan: _Plan = _plan(cell, int(frames.shape[-1]), hidden_size(cell, weights))
    values = _leaves(plan, frames, masks, weights)
    for operation in plan.static:
        _compute(operation, values)
    for slot, matrices in plan.packs:
        values[slot] = torch.cat([values[k] for k in matrices]).t()
    for operation in plan.hoisted:
        _compute(operation, values)
    per_step = [(k, torch.split_with_sizes(values.pop(k), list(sizes))) for k in plan.per_step]

    def step(t: int, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        own = dict(values)
        for k, parts in per_step:
            own[k] = parts[t]
        own |= {old: part for old, part in zip(plan.states, state, strict=True) if old is not None}
        for operation in plan.stepwise:
            _compute(operation, own)
        return tuple(own[k] for k in plan.outputs)

    return step


def _leaves(plan: _Plan, frames: Tensor, masks: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> Values:
    values: Values = {}
    for k, op, name, numbers in plan.leaves:
        if op == "input":
            begin, elements = map(int, numbers)
            values[k] = frames[:, begin : begin + elements]
        elif op == "size":
            values[k] = frames.new_full((), numbers[0])
        else:
            values[k] = numbers[0] if op == "constant" else masks[name] if op == "mask" else weights[name]
    return values


def _compute(operation: _Operation, values: Values) -> None:
    op, args, results, sizes = operation
    if op == "products":
        whole = values[args[0]] @ values[args[1]]
        for k, part in zip(results, torch.split_with_sizes(whole, list(sizes), whole.dim() - 1), strict=True):
            values[k] = part
    elif op in TORCH_RESHAPING:
        values[results[0]] = TORCH_RESHAPING[op](*[values[a] for a in args], sizes)
    else:
        values[results[0]] = TORCH[op](*[values[a] for a in args])


@constant_result
def _plan(cell: Cell, inputs: int, hidden: int) -> _Plan:
    return _planned(cell, inputs, hidden)


@lru_cache(maxsize=256)
def _planned(cell: Cell, inputs: int, hidden: int) -> _Plan:
    step = lower(cell)
    nodes = step.graph.nodes
    sizes = [tuple(size(each, inputs, hidden) for each in node.shape) for node in nodes]
    slots, packed = _packs(step, sizes)

    def operations(order: Sequence[int]) -> tuple[_Operation, ...]:
        found = []
        for k in order:
            if k in slots:
                found.append(slots[k])
            elif k not in packed:
                found.append(_Operation(nodes[k].op, nodes[k].args, (k,), sizes[k]))
        return tuple(found)

    reads = {a for k in step.stepwise for a in nodes[k].args} | {*step.graph.outputs}
    every = {k for k, node in enumerate(nodes) if node.op in ("input", "mask")} | {*step.hoisted}
    states = {str(node.name): k for k, node in enumerate(nodes) if node.op == "state"}
    kinds = ("input", "parameter", "mask", "constant", "size")
    return _Plan(
        leaves=tuple(
            (k, node.op, str(node.name), _numbers(cell, step, k, inputs, hidden))
            for k, node in enumerate(nodes)
            if node.op in kinds
        ),
        static=operations(step.static),
        packs=tuple((one.args[1], tuple(nodes[k].args[0] for k in one.results)) for one in slots.values()),
        hoisted=operations(step.hoisted),
        stepwise=operations(step.stepwise),
        per_step=tuple(sorted(reads & every)),
        states=tuple(states.get(state) for state in cell.states),
        outputs=step.graph.outputs,
    )


def _packs(step: Step, sizes: Sequence[tuple[int, ...]]) -> tuple[dict[int, _Operation], set[int]]:
    """For the first product of a vector with several all of them as one operation, and all these products."""
    nodes, of_vector = step.graph.nodes, dict[int, list[int]]()
    for k, node in enumerate(nodes):
        if node.op == "product":
            of_vector.setdefault(node.args[1], []).append(k)
    several = [group for group in of_vector.values() if len(group) > 1]
    slots = {
        group[0]: _Operation(
            "products",
            (nodes[group[0]].args[1], len(nodes) + number),
            tuple(group),
            tuple(sizes[k][0] for k in group),
        )
        for number, group in enumerate(several)
    }
    return slots, {k for group in several for k in group}


def _numbers(cell: Cell, step: Step, k: int, inputs: int, hidden: int) -> tuple[float, ...]:
    node = step.graph.nodes[k]
    if node.op == "input":
        return cell.part(str(node.name), inputs)
    if node.op == "size":
        return (float(size(str(node.name), inputs, hidden)),)
    return () if node.value is None else (node.value,)
