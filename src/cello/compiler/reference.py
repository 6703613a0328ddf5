"""Compute a scan clip by clip, frame by frame and node by node: the meaning of a cell.

Every back end is compared with this and shares no pass with it: only the table of what each operation means.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from cello.cells.definition import Cell
from cello.cells.sizes import size
from cello.compiler.inputs import Inputs, hidden_size
from cello.compiler.operations import TORCH, TORCH_RESHAPING


def reference(inputs: Inputs) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Outputs (B, T, H), zero after a clip's end, and S last states (B, H), or of the sizes that the cell gives its
    states; autograd differentiates them.
    """
    batch, frames, _ = inputs.frames.shape
    lengths = [frames] * batch if inputs.lengths is None else inputs.lengths.tolist()
    sizes = tuple(inputs.state[0].shape[1:])
    outputs = [[inputs.frames.new_zeros(sizes)] * frames for _ in range(batch)]
    states = [[part[clip] for part in inputs.state] for clip in range(batch)]
    for clip, length in enumerate(lengths):
        for t in reversed(range(length)) if inputs.reverse else range(length):
            masks = {name: mask[clip, t] for name, mask in inputs.masks.items()}
            leaves = {**inputs.weights, **masks, **dict(zip(inputs.cell.states, states[clip], strict=True))}
            states[clip] = step(inputs.cell, inputs.frames[clip, t], leaves)
            outputs[clip][t] = states[clip][0]
    if not batch or not frames:
        return inputs.frames.new_zeros(batch, frames, *sizes), inputs.state
    return torch.stack([torch.stack(rows) for rows in outputs]), tuple(map(torch.stack, zip(*states, strict=True)))


def step(cell: Cell, frame: Tensor, leaves: Mapping[str, Tensor]) -> list[Tensor]:
    """The new states of one clip after a frame (D,), from the values of all other leaves by their names."""
    inputs, hidden = len(frame), hidden_size(cell, leaves)
    values: list[Any] = []
    for node in cell.graph.nodes:
        args = [values[arg] for arg in node.args]
        if node.op == "input":
            begin, elements = cell.part(str(node.name), inputs)
            values.append(frame[begin : begin + elements])
        elif node.op == "constant":
            values.append(node.value)
        elif node.op == "size":
            values.append(frame.new_full((), size(str(node.name), inputs, hidden)))
        elif node.op in TORCH_RESHAPING:
            sizes = tuple(size(each, inputs, hidden) for each in node.shape)
            values.append(TORCH_RESHAPING[node.op](*args, sizes))
        else:
            values.append(TORCH[node.op](*args) if args else leaves[str(node.name)])
    return [values[output] for output in cell.graph.outputs]
