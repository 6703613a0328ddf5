"""What hurts: a read-out that looks at padding, or at a backward half that has seen one frame."""

from __future__ import annotations

import math
from typing import Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cello.models.classifier import Classifier, Readout, side_by_side
from cello.models.config import ModelConfig
from cello.models.layer import CellLayer

Kind = Literal["last", "mean", "attention"]


@pytest.mark.parametrize("kind", ["last", "mean", "attention"])
@pytest.mark.parametrize("cell", ["torch:gru", "lstm"])
def test_scores_do_not_depend_on_the_rest_of_the_batch(cell: str, kind: Kind) -> None:
    model = Classifier(ModelConfig(cell=cell, hidden=6, layers=2, bidirectional=True, readout=kind), 3, 4).eval()
    x, lengths = torch.randn(3, 9, 3), torch.tensor([9, 2, 1])
    scores = model(x, lengths)
    for row, n in enumerate(lengths.tolist()):
        torch.testing.assert_close(scores[row], model(x[row : row + 1, :n], torch.tensor([n]))[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cell", ["torch:gru", "lstm"])
def test_the_last_read_out_takes_each_direction_where_it_has_seen_the_whole_clip(cell: str) -> None:
    model = Classifier(ModelConfig(cell=cell, hidden=6, layers=2, bidirectional=True, readout="last"), 3, 4).eval()
    y, last = model.stack(torch.randn(3, 5, 3), torch.tensor([5, 2, 1]))
    for row, n in enumerate((5, 2, 1)):
        torch.testing.assert_close(last[row], torch.cat([y[row, n - 1, :6], y[row, 0, 6:]]))
    torch.testing.assert_close(model.readout(y, last, torch.tensor([5, 2, 1])), last)


def test_mean_read_out_divides_by_the_clips_own_frames() -> None:
    y = torch.ones(1, 5, 2)
    out = Readout(ModelConfig(hidden=2, readout="mean"), 2)(y, y[:, 1], torch.tensor([2]))
    assert out.tolist() == [[1.0, 1.0]]


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    config = ModelConfig(cell="lstm", initialisation="orthogonal")
    first, again, other = (Classifier(config, 3, 4, seed=s).state_dict() for s in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])


@pytest.mark.parametrize("cell", ["lstm", "torch:lstm"])
def test_uniform_weights_stay_within_one_over_root_h_and_the_forget_bias_is_added_once(cell: str) -> None:
    config = ModelConfig(cell=cell, hidden=16, initialisation="uniform", forget_bias=1.0)
    layer = Classifier(config, 3, 4).stack.directions_of(0)[0]
    bound = 1 / math.sqrt(16)
    if isinstance(layer, CellLayer):
        forget, inputs = layer.get_parameter("b_f"), layer.get_parameter("b_i")
    else:
        forget, inputs = layer.kernel.bias_ih_l0[16:32], layer.kernel.bias_ih_l0[:16]  # type: ignore[union-attr]
        assert layer.kernel.bias_hh_l0.abs().max() <= bound  # type: ignore[union-attr]
    assert inputs.abs().max() <= bound
    assert 1 - bound <= forget.min() <= forget.max() <= 1 + bound


def test_orthogonal_recurrent_matrices_are_orthogonal() -> None:
    config = ModelConfig(cell="lstm", hidden=8, initialisation="orthogonal")
    layer = Classifier(config, 3, 4).stack.directions_of(0)[0]
    u = layer.get_parameter("U_i")
    torch.testing.assert_close(u @ u.T, torch.eye(8), rtol=0, atol=1e-5)


def test_a_peephole_does_not_start_at_zero_and_a_bias_does() -> None:
    layer = Classifier(ModelConfig(cell="lstm-peephole", initialisation="orthogonal"), 3, 4).stack.directions_of(0)[0]
    assert layer.get_parameter("p_i").abs().min() > 0
    assert layer.get_parameter("b_i").abs().max() == 0


def test_standardise_leaves_padding_at_zero() -> None:
    model = Classifier(ModelConfig(), 2, 3)
    model.mean.fill_(5.0)
    out = model.standardise(torch.full((1, 3, 2), 7.0), torch.tensor([2]))
    assert out[0].tolist() == [[2.0, 2.0], [2.0, 2.0], [0.0, 0.0]]


@given(st.lists(st.integers(1, 12), min_size=1, max_size=5), st.integers(1, 5))
def test_stacked_frames_are_all_there_in_their_order_and_what_stood_after_a_clip_is_not(
    lengths: list[int], together: int
) -> None:
    frames = torch.randn(len(lengths), max(lengths), 3)  # nothing blanked after a clip's end
    out, steps = side_by_side(frames, torch.tensor(lengths), together)
    assert steps.tolist() == [math.ceil(n / together) for n in lengths]
    if together > 1:
        assert out.shape == (len(lengths), max(steps.tolist()), 3 * together)
        for row, n in enumerate(lengths):
            flat = out[row].reshape(-1, 3)
            assert torch.equal(flat[:n], frames[row, :n])
            assert not flat[n:].any()


def test_a_model_on_stacked_frames_hears_nothing_of_the_rest_of_the_batch() -> None:
    model = Classifier(ModelConfig(cell="gru", hidden=6, bidirectional=True, readout="attention", stack=3), 4, 5).eval()
    x, lengths = torch.randn(3, 10, 4), torch.tensor([10, 4, 1])
    scores = model(x, lengths)
    for row, n in enumerate(lengths.tolist()):
        torch.testing.assert_close(scores[row], model(x[row : row + 1, :n], torch.tensor([n]))[0], rtol=1e-5, atol=1e-6)
