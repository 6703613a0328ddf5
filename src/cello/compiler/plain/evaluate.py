"""Evaluate a cell over packed frames with torch operations, differentiated by autograd.

Products of the frame are one matrix product for all steps, products of the same vector in a step are one, and a step
is written out as a Python function. What it has to give is what :mod:`cello.compiler.reference` gives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from cello.cells.definition import Cell
from cello.cells.graph import Graph, one_size
from cello.compiler.inputs import hidden_size
from cello.compiler.operations import TORCH
from cello.compiler.plain.nodes import steps_of
from cello.compiler.plain.program import Instruction, Program, program
from cello.compiler.tracing import constant_result

STEP: dict[str, Callable[..., Any]] = {
    **TORCH,
    "linear": lambda *a: torch.addmm(*a) if len(a) == 3 else torch.mm(*a),
    "blend": torch.lerp,
    "split": lambda pack, sizes: torch.split_with_sizes(pack, sizes, 1),
}
"""Every operation of the language, then those of programs: ``linear(start, v, P)`` is start + v P."""


@dataclass(frozen=True)
class PackedInputs:
    """What is given for every step: frames (ΣT, D), and of each mask (ΣT, H)."""

    frames: Tensor
    masks: Mapping[str, Tensor] = field(default_factory=dict)


def evaluate(
    cell: Cell,
    packed: PackedInputs,
    sizes: Sequence[int],
    weights: Mapping[str, Tensor],
    state: tuple[Tensor, ...],
    running: Sequence[Tensor] | None = None,
) -> tuple[list[Tensor], tuple[Tensor, ...]]:
    """Every step's first state and all rows' last states; of the rows given, step t takes the next ``sizes[t]``.

    Sizes never grow: a row that a step does not take has ended, and its state stays as it is. So does the state of a
    row where ``running[t]`` (n, 1) is false, for lengths whose values are not known.
    """
    step = _steps(cell, packed, sizes, weights)
    outputs: list[Tensor] = []
    ended: list[tuple[Tensor, ...]] = []
    for t, size in enumerate(sizes):
        if running is None and size < len(state[0]):
            ended.append(tuple(part[size:] for part in state))
            state = tuple(part[:size] for part in state)
        new = step(t, state)
        if running is not None:
            new = tuple(_kept_where_ended(running[t], *pair) for pair in zip(new, state, strict=True))
        state = new
        outputs.append(state[0])
    if ended:
        state = tuple(torch.cat(parts) for parts in zip(state, *reversed(ended), strict=True))
    return outputs, state


def _kept_where_ended(running: Tensor, after: Tensor, before: Tensor) -> Tensor:
    return torch.where(running if after.dim() == 2 else running.unsqueeze(2), after, before)


def _steps(
    cell: Cell, packed: PackedInputs, sizes: Sequence[int], weights: Mapping[str, Tensor]
) -> Callable[[int, tuple[Tensor, ...]], tuple[Tensor, ...]]:
    """A step, as a function of its number and the old states."""
    if torch.compiler.is_dynamo_compiling() or not _has_one_size(cell):  # torch.compile records no text of a step
        return steps_of(cell, packed.frames, packed.masks, sizes, weights)
    plan = program(cell)
    slots, per_frame = _before_the_loop(plan, packed, sizes, weights)
    step, reads = _step(cell, tuple(slot for slot, _ in per_frame))
    invariant = [slots[k] for k in reads]
    hidden = hidden_size(cell, weights)
    return lambda t, state: step(hidden, *state, *[values[t] for _, values in per_frame], *invariant)


@constant_result
def _has_one_size(cell: Cell) -> bool:
    return _known_one_size(cell)


@lru_cache(maxsize=1024)
def _known_one_size(cell: Cell) -> bool:
    return one_size(cell.graph)


def _invariant_values(graph: Graph, static: Sequence[int], weights: Mapping[str, Tensor]) -> dict[int, Any]:
    """The nodes that know neither the frame nor a state, by position: parameters, numbers and what is made of them."""
    nodes = graph.nodes
    values: dict[int, Any] = {k: weights[str(node.name)] for k, node in enumerate(nodes) if node.op == "parameter"}
    values |= {k: node.value for k, node in enumerate(nodes) if node.op == "constant"}
    for k in static:
        values[k] = TORCH[nodes[k].op](*[values[a] for a in nodes[k].args])
    return values


def _before_the_loop(
    plan: Program, packed: PackedInputs, sizes: Sequence[int], weights: Mapping[str, Tensor]
) -> tuple[list[Any], list[tuple[int, tuple[Tensor, ...]]]]:
    """The slots with everything that is the same at every step, and the values that differ, a tuple over steps each."""
    slots: list[Any] = [None] * plan.slots
    for k, value in _invariant_values(plan.step.graph, plan.step.static, weights).items():
        slots[k] = value
    for k, node in enumerate(plan.step.graph.nodes):
        if node.op == "mask":
            slots[k] = packed.masks[str(node.name)]
    for pack in plan.weights:
        slots[pack.slot] = _side_by_side(slots, pack.nodes).t()
    for pack in plan.static_packs:
        slots[pack.slot] = _side_by_side(slots, pack.nodes)
    per_frame = [
        (slot, torch.split_with_sizes(value, list(sizes))) for slot, value in _hoist(plan, slots, packed.frames)
    ]
    return slots, per_frame


def _hoist(plan: Program, slots: list[Any], frames: Tensor) -> list[tuple[int, Tensor]]:
    """What a step reads of the values that know the frame but no state, (ΣT, ·) each."""
    nodes, uses = plan.step.graph.nodes, plan.step.uses
    packs: dict[int, Tensor] = {}
    if plan.columns:
        matrix = _side_by_side(slots, tuple(column.matrix for column in plan.columns))
        width = len(matrix) // len(plan.columns)
        values = _affine(frames, matrix, [[slots[b] for b in column.biases] for column in plan.columns])
        single = plan.columns[sum(len(pack.nodes) for pack in plan.column_packs) :]
        sizes = [width * len(pack.nodes) for pack in plan.column_packs] + [width] * len(single)
        parts = torch.split_with_sizes(values, sizes, 1)
        for pack, part in zip(plan.column_packs, parts, strict=False):
            packs[pack.slot] = part
            if any(uses[k] > 1 for k in pack.nodes):
                for k, own in zip(pack.nodes, torch.split_with_sizes(part, [width] * len(pack.nodes), 1), strict=True):
                    slots[k] = own
        for column, part in zip(single, parts[len(plan.column_packs) :], strict=True):
            slots[column.node] = part
    for k in plan.hoisted:
        if slots[k] is None:
            slots[k] = TORCH[nodes[k].op](*[slots[a] for a in nodes[k].args])
    for pack in plan.frame_packs:
        packs[pack.slot] = torch.cat([slots[k] for k in pack.nodes], dim=1)
    return [*packs.items(), *((k, slots[k]) for k in plan.per_frame)]


def _affine(frames: Tensor, matrix: Tensor, biases: list[list[Tensor]]) -> Tensor:
    """frames · matrixᵀ plus, column by column, the sum of its biases."""
    transposed = matrix.t().contiguous()  # so autograd takes framesᵀ · gradient, not its slower transpose
    if not any(biases):
        return frames @ transposed
    none = matrix.new_zeros(len(matrix) // len(biases))
    sums = [sum(column[1:], start=column[0]) if column else none for column in biases]
    return torch.addmm(torch.cat(sums), frames, transposed)


def _side_by_side(slots: list[Any], nodes: tuple[int, ...]) -> Tensor:
    values = [slots[k] for k in nodes]
    return values[0] if len(values) == 1 else torch.cat(values)


@lru_cache(maxsize=256)
def _step(cell: Cell, per_frame: tuple[int, ...]) -> tuple[Callable[..., tuple[Tensor, ...]], tuple[int, ...]]:
    """One step written out as a Python function of H, the states, the slots ``per_frame`` and those it also returns.

    The latter are the same at every step. For the LSTM the text begins ``v43 = linear(v41, v1, v40)``; slot k is vk.
    """
    plan = program(cell)
    graph = plan.step.graph
    states = {str(node.name): k for k, node in enumerate(graph.nodes) if node.op == "state"}
    old = [f"v{states[name]}" if name in states else f"old{number}" for number, name in enumerate(graph.states)]
    known = {*states.values(), *per_frame, *(k for one in plan.instructions for k in one.outs)}
    read = {*(k for one in plan.instructions for k in one.args), *graph.outputs}
    invariant = tuple(sorted(read - known))
    arguments = ["H", *old, *(f"v{k}" for k in (*per_frame, *invariant))]
    lines = [f"def step({', '.join(arguments)}):", *map(_line, plan.instructions)]
    lines.append(f"    return {', '.join(f'v{k}' for k in graph.outputs)},")
    # torch imports on behalf of the calling function while one of its modes, such as its FLOP counter, looks on
    names: dict[str, Any] = {**STEP, "__builtins__": {"__import__": __import__}}
    exec(compile("\n".join(lines), f"<a step of {cell.name}>", "exec"), names)
    return names["step"], invariant


def _line(instruction: Instruction) -> str:
    args = [f"v{k}" for k in instruction.args]
    if instruction.op == "split":
        args.append(f"({', '.join(f'{size} * H' for size in instruction.sizes)})")
    return f"    {', '.join(f'v{k}' for k in instruction.outs)} = {instruction.op}({', '.join(args)})"
