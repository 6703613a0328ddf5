"""The rows of each step are the clips still running; padding is never among them."""

from __future__ import annotations

import pytest
import torch

from cello.compiler.layout import layout, padded

X = torch.arange(12.0).view(3, 4, 1)
LENGTHS = torch.tensor([2, 4, 0])


@pytest.mark.parametrize(
    ("reverse", "rows"), [(False, [4, 0, 5, 1, 6, 7]), (True, [7, 1, 6, 0, 5, 4])], ids=["forward", "reverse"]
)
def test_rows_are_the_running_clips_longest_first(reverse: bool, rows: list[int]) -> None:
    plan = layout(X, LENGTHS, reverse=reverse)
    assert plan.sizes == (2, 2, 1, 1)
    assert plan.frames(X).flatten().tolist() == rows


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("lengths", [None, torch.tensor([4, 4, 4]), LENGTHS], ids=["none", "whole", "ragged"])
def test_outputs_lie_where_their_frames_do(lengths: torch.Tensor | None, reverse: bool) -> None:
    plan = layout(X, lengths, reverse=reverse)
    there_and_back = plan.outputs(plan.frames(X).split(plan.sizes))
    ends = torch.full((3,), 4) if lengths is None else lengths
    inside = torch.arange(4) < ends.unsqueeze(1)
    assert torch.equal(there_and_back, X * inside.unsqueeze(2))


def test_states_come_back_to_their_clips() -> None:
    plan = layout(X, LENGTHS, reverse=False)
    state = (torch.arange(3.0).unsqueeze(1),)
    assert plan.sorted(state)[0].flatten().tolist() == [1, 0, 2]
    assert torch.equal(plan.unsorted(plan.sorted(state))[0], state[0])


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_padded_rows_are_those_of_the_clips_and_zeros(reverse: bool) -> None:
    plan = padded(X, LENGTHS, reverse=reverse)
    rows = plan.frames(X + 1).view(4, 3)
    assert rows.t().tolist() == [
        [2, 1, 0, 0] if reverse else [1, 2, 0, 0],
        [8, 7, 6, 5] if reverse else [5, 6, 7, 8],
        [0] * 4,
    ]
    assert torch.equal(torch.stack([r.flatten() for r in plan.running()]), torch.arange(4).unsqueeze(1) < LENGTHS)
    outputs = plan.outputs([row.unsqueeze(1) for row in rows]).squeeze(2)
    assert torch.equal(outputs, (X.squeeze(2) + 1) * (torch.arange(4) < LENGTHS.unsqueeze(1)))
