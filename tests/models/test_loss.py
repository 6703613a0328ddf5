"""What hurts: a loss or a derivative that is not torch's, a target that is no label."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from cello.models.loss import Mixed, cross_entropy

needs_compiler = pytest.mark.wants("cc")


@needs_compiler
@pytest.mark.parametrize("share", [1.0, 0.3])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize(("clips", "classes"), [(1, 1), (64, 14), (3, 35), (7, 16)])
def test_loss_and_derivative_are_torchs(clips: int, classes: int, smoothing: float, share: float) -> None:
    scores = 4 * torch.randn(clips, classes, dtype=torch.float64)
    targets, others = torch.randint(0, classes, (2, clips)).unbind()
    leaf = scores.clone().requires_grad_()
    expected = share * functional.cross_entropy(leaf, targets, label_smoothing=smoothing)
    expected = expected + (1 - share) * functional.cross_entropy(leaf, others, label_smoothing=smoothing)
    (slope,) = torch.autograd.grad(expected, leaf)
    mixed = Mixed(share, others) if share < 1 else None
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-6)):
        for compiled in (True, False):
            found = cross_entropy(scores.to(dtype), targets, smoothing, mixed, compiled=compiled)
            assert found.value == pytest.approx(float(expected.detach()), rel=tolerance, abs=tolerance)
            torch.testing.assert_close(found.slope.double(), slope, atol=tolerance, rtol=tolerance)
            assert found.right == int((scores.argmax(1) == targets).sum())


def test_large_scores_do_not_overflow_and_nan_is_not_hidden() -> None:
    scores = torch.tensor([[1e4, -1e4], [0.0, 1e30]])
    assert cross_entropy(scores, torch.tensor([0, 1])).value == 0
    assert cross_entropy(scores, torch.tensor([1, 1])).value == pytest.approx(1e4)
    for wrong in (torch.nan, torch.inf):
        assert math.isnan(cross_entropy(torch.tensor([[0.0, wrong]]), torch.tensor([0])).value)


@pytest.mark.parametrize("target", [2, -1])
def test_a_target_that_is_no_label_is_refused(target: int) -> None:
    with pytest.raises((IndexError, RuntimeError), match="out of bounds"):
        cross_entropy(torch.zeros(1, 2), torch.tensor([target]))
    with pytest.raises((IndexError, RuntimeError), match="out of bounds"):
        cross_entropy(torch.zeros(1, 2), torch.tensor([0]), 0.0, Mixed(0.5, torch.tensor([target])))
