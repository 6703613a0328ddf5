"""What hurts: a compiled pooling that differs from the plain one, reads padding, or is asked where it cannot run."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cello.models import attention
from cello.models.attention import compiled_sum, weighted_sum
from cello.models.config import ModelConfig
from cello.models.pooling import Pooling

needs_compiler = pytest.mark.wants("cc")
Given = tuple[Tensor, Tensor, Tensor, Tensor]


def given(batch: int, steps: int, width: int, dtype: torch.dtype = torch.float64) -> Given:
    """Outputs that are zero in padding, a weight, a bias, lengths from 0 to T."""
    generator = torch.Generator().manual_seed(batch * steps + width)
    lengths = torch.randint(0, steps + 1, (batch,), generator=generator)
    inside = (torch.arange(steps) < lengths[:, None]).unsqueeze(2)
    y = torch.randn(batch, steps, width, dtype=dtype, generator=generator) * inside
    weight, bias = (torch.randn(n, dtype=dtype, generator=generator) for n in (width, 1))
    return y.requires_grad_(), weight.unsqueeze(0).requires_grad_(), bias.requires_grad_(), lengths


@needs_compiler
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-12)])
@pytest.mark.parametrize("shape", [(64, 49, 64), (3, 7, 5), (2, 1, 1), (5, 33, 63), (1, 100, 130)])
def test_outputs_and_derivatives_are_the_plain_ones(shape: tuple[int, int, int], dtype: torch.dtype, tolerance) -> None:
    values = given(*shape, dtype)
    upstream = torch.randn(shape[0], shape[2], dtype=dtype)
    plain, made = weighted_sum(*values), compiled_sum(*values)
    assert made is not None
    torch.testing.assert_close(made, plain, atol=tolerance, rtol=tolerance)
    expected, found = (torch.autograd.grad(pooled, values[:3], upstream) for pooled in (plain, made))
    inside = (torch.arange(shape[1]) < values[3][:, None]).unsqueeze(2)
    torch.testing.assert_close(found[0], expected[0] * inside, atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(found[1], expected[1], atol=tolerance, rtol=tolerance)
    assert found[2] == 0
    assert abs(expected[2]) < tolerance


@needs_compiler
def test_padding_is_not_read() -> None:
    y, weight, bias, lengths = given(4, 9, 6)
    spoilt = y.detach().clone()
    spoilt[(torch.arange(9) >= lengths[:, None])] = torch.nan
    spoilt.requires_grad_()
    pooled = compiled_sum(spoilt, weight, bias, lengths)
    assert pooled is not None
    torch.testing.assert_close(pooled, weighted_sum(y, weight, bias, lengths))
    assert torch.autograd.grad(pooled.sum(), spoilt)[0].isfinite().all()


@needs_compiler
def test_first_and_second_derivatives_are_right() -> None:
    y, weight, bias, _ = given(2, 4, 3)
    lengths = torch.tensor([4, 2])

    def pooled(*values: Tensor) -> Tensor:
        found = compiled_sum(*values, lengths)
        assert found is not None
        return found

    assert torch.autograd.gradcheck(pooled, (y, weight, bias))
    assert torch.autograd.gradgradcheck(pooled, (y, weight, bias))
    (only,) = torch.autograd.grad(pooled(y, weight.detach(), bias.detach()).square().sum(), y, create_graph=True)
    assert only.requires_grad


@needs_compiler
def test_lengths_beyond_the_frames_end_with_them() -> None:
    y, weight, bias, _ = given(2, 4, 3)
    pooled = compiled_sum(y, weight, bias, torch.tensor([9, -1]))
    assert pooled is not None
    torch.testing.assert_close(pooled[:1], weighted_sum(y[:1], weight, bias, torch.tensor([4])))
    assert not pooled[1].any()


def test_what_it_cannot_run_goes_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    y, weight, bias, lengths = given(3, 5, 4)
    assert compiled_sum(y.transpose(0, 1), weight, bias, torch.tensor([3] * 5)) is None
    assert compiled_sum(y.half(), weight.half(), bias.half(), lengths) is None
    assert compiled_sum(y, weight, bias, lengths.int()) is None
    pooling = Pooling(ModelConfig(hidden=4, pooling="attention"), 4).double()
    expected = weighted_sum(y, *pooling.score.parameters(), lengths)  # type: ignore[union-attr]
    mapped = torch.func.vmap(lambda one: pooling(one, one[:, 0], lengths))(y.detach().unsqueeze(0))
    torch.testing.assert_close(mapped[0], expected.detach())
    monkeypatch.setattr(attention, "library", lambda *_: None)
    assert torch.equal(pooling(y, y[:, 0], lengths), expected)


def test_the_plain_back_end_pools_by_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cello.models.pooling.compiled_sum", lambda *_: pytest.fail("compiled"))
    y, *_, lengths = given(3, 5, 4, torch.float32)
    for config, backend in ((ModelConfig(), "plain"), (ModelConfig(backend="plain"), "auto")):
        Pooling(config, 4, backend)(y, y[:, 0], lengths)
