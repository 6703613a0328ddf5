from __future__ import annotations

import librosa
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cello.features.deltas import append_deltas, delta_weights

quick = settings(deadline=None, max_examples=60)


@quick
@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.integers(1, 10), st.integers(0, 2**31))
def test_every_clip_of_a_ragged_batch_has_librosa_s_deltas(counts, half, seed):
    width, size = 2 * half + 1, 3
    static = torch.randn(len(counts), max(counts), size, generator=torch.Generator().manual_seed(seed))
    for row, count in enumerate(counts):
        static[row, count:] = torch.nan
    out = append_deltas(static, torch.tensor(counts), width, 2)
    for row, count in enumerate(counts):
        fitting = min(width, count - 1 + count % 2)
        clip = static[row, :count].numpy().astype(np.float64)
        for order in (1, 2):
            ours = out[row, :count, order * size : (order + 1) * size]
            if fitting < 3:
                assert (ours == 0).all()
            else:
                theirs = librosa.feature.delta(clip, width=fitting, order=order, axis=0)
                np.testing.assert_allclose(ours, theirs, atol=2e-6)


@quick
@given(st.integers(3, 60), st.integers(1, 8), st.floats(-50, 50), st.floats(-5, 5))
def test_a_line_has_its_slope_everywhere_and_no_curvature(count, half, start, slope):
    line = (start + slope * torch.arange(count)).view(1, count, 1)
    out = append_deltas(line, torch.tensor([count]), 2 * half + 1, 2)[0]
    torch.testing.assert_close(out[:, 1], torch.full((count,), slope), atol=2e-4, rtol=1e-5)
    torch.testing.assert_close(out[:, 2], torch.zeros(count), atol=2e-4, rtol=0)


def test_a_parabola_has_its_curvature():
    parabola = (1.5 * torch.arange(20) ** 2).view(1, 20, 1)
    out = append_deltas(parabola, torch.tensor([20]), 9, 2)[0]
    torch.testing.assert_close(out[:, 2], torch.full((20,), 3.0), atol=1e-3, rtol=0)


@pytest.mark.parametrize("orders", [0, 1])
def test_fewer_orders_are_the_first_columns(orders):
    static, counts = torch.randn(2, 12, 4), torch.tensor([12, 7])
    full = append_deltas(static, counts, 5, 2)
    fewer = append_deltas(static, counts, 5, orders)
    assert torch.equal(fewer[1, :7], full[1, :7, : 4 * (1 + orders)])
    assert fewer.shape == (2, 12, 4 * (1 + orders))


def test_weights_sum_to_zero_so_that_a_constant_has_no_slope():
    for width in (3, 9, 51):
        for order in (1, 2):
            assert abs(delta_weights(width, order).sum()) < 1e-12
