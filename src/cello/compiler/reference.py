"""Compute a scan clip by clip, frame by frame and node by node: the meaning of a cell.

Every back end is compared with this and shares no pass with it: only the table of what each operation means.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from cello.cells.graph import Graph
from cello.compiler.inputs import Inputs
from cello.compiler.operations import TORCH


def reference(inputs: Inputs) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Outputs (B, T, H), zero after a clip's end, and S last states (B, H); autograd differentiates them."""
    batch, frames, _ = inputs.frames.shape
    lengths = [frames] * batch if inputs.lengths is None else inputs.lengths.tolist()
    outputs = [[inputs.frames.new_zeros(inputs.hidden)] * frames for _ in range(batch)]
    states = [[part[clip] for part in inputs.state] for clip in range(batch)]
    for clip, length in enumerate(lengths):
        for t in reversed(range(length)) if inputs.reverse else range(length):
            masks = {name: mask[clip, t] for name, mask in inputs.masks.items()}
            leaves = {**inputs.weights, **masks, **dict(zip(inputs.cell.states, states[clip], strict=True))}
            states[clip] = step(inputs.cell.graph, inputs.frames[clip, t], leaves)
            outputs[clip][t] = states[clip][0]
    if not batch or not frames:
        return inputs.frames.new_zeros(batch, frames, inputs.hidden), inputs.state
    return torch.stack([torch.stack(rows) for rows in outputs]), tuple(map(torch.stack, zip(*states, strict=True)))


def step(graph: Graph, frame: Tensor, leaves: Mapping[str, Tensor]) -> list[Tensor]:
    """The new states (H,) of one clip after a frame (D,), from the values of all other leaves by their names."""
    values: list[Any] = []
    for node in graph.nodes:
        if node.op == "input":
            values.append(frame)
        elif node.op == "constant":
            values.append(node.value)
        elif node.args:
            values.append(TORCH[node.op](*_at(values, node.args)))
        else:
            values.append(leaves[str(node.name)])
    return _at(values, graph.outputs)


def _at(values: Sequence[Any], positions: Sequence[int]) -> list[Any]:
    return [values[position] for position in positions]
