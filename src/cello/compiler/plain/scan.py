"""Run scans with torch operations: pack ragged clips, evaluate, unpack."""

from __future__ import annotations

import torch
from torch import Tensor

from cello.compiler.inputs import Inputs, freed, unknown_values
from cello.compiler.layout import Padded, layout, padded
from cello.compiler.plain.evaluate import PackedInputs, evaluate

Result = tuple[Tensor, tuple[Tensor, ...]]


def run(inputs: Inputs) -> Result:
    """Outputs (B, T, H) and last states (B, H), on any device, in any floating dtype.

    Raises:
        ModelError: the memory of a tensor is gone.
    """
    x, lengths = inputs.frames, inputs.lengths
    if not torch.compiler.is_compiling() and any(map(freed, inputs.values())):
        raise inputs.fault_in_memory()
    if lengths is not None and unknown_values(lengths):
        return _padded(inputs, padded(x, lengths, reverse=inputs.reverse))
    plan = layout(x, lengths, reverse=inputs.reverse)
    rows = PackedInputs(plan.frames(x), {name: plan.frames(mask) for name, mask in inputs.masks.items()})
    by_step, last = evaluate(inputs.cell, rows, plan.sizes, inputs.weights, plan.sorted(inputs.state))
    if not by_step:
        return x.new_zeros(plan.batch, plan.steps, *inputs.state[0].shape[1:]), inputs.state
    return plan.outputs(by_step), plan.unsorted(last)


def _padded(inputs: Inputs, plan: Padded) -> Result:
    x = inputs.frames
    sizes = (x.shape[0],) * int(x.shape[1])
    rows = PackedInputs(plan.frames(x), {name: plan.frames(mask) for name, mask in inputs.masks.items()})
    by_step, last = evaluate(inputs.cell, rows, sizes, inputs.weights, inputs.state, plan.running())
    return plan.outputs(by_step) if by_step else x.new_zeros(x.shape[0], 0, *inputs.state[0].shape[1:]), last
