"""A scan is the cell's own function, step by step, clip by clip; where torch has the cell, it is torch's."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from cello.cells.definition import Cell
from cello.cells.load import zoo
from cello.compiler.scan import ScanResult, scan, step
from cello.errors import BackendError, ModelError
from cello.native.build import compiler

plainly = partial(scan, backend="plain")
D, H = 3, 4
CELLS = list(zoo().values())
each_cell = pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)


def weights_of(cell: Cell, *, seed: int = 0, inputs: int = D, hidden: int = H) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return {
        name: (torch.randn(shape, generator=draw, dtype=torch.float64) * 0.5).requires_grad_()
        for name, shape in cell.parameters(inputs, hidden).items()
    }


def frames(batch: int, steps: int, seed: int = 1, inputs: int = D) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(batch, steps, inputs, generator=draw, dtype=torch.float64).requires_grad_()


def states_of(cell: Cell, batch: int, seed: int = 2, hidden: int = H) -> tuple[Tensor, ...]:
    """First states that every cell can take: positive, as the normaliser of slstm has to be."""
    draw = torch.Generator().manual_seed(seed)
    return tuple(
        (torch.rand(batch, *sizes, generator=draw, dtype=torch.float64) + 0.1).requires_grad_()
        for sizes in cell.state_sizes(D, hidden)
    )


def ops(cell: Cell) -> set[str]:
    return {node.op for node in cell.graph.nodes}


def gradients(result: tuple[Tensor, tuple[Tensor, ...]], leaves: list[Tensor]) -> list[Tensor]:
    outputs, state = result
    value = (outputs * torch.linspace(-1, 2, outputs.numel(), dtype=outputs.dtype).view_as(outputs)).sum()
    value = value + sum((part**2).sum() for part in state)
    return [
        torch.zeros_like(leaf) if grad is None else grad
        for leaf, grad in zip(leaves, torch.autograd.grad(value, leaves, allow_unused=True), strict=True)
    ]


@pytest.mark.parametrize("cell", [cell for cell in CELLS if "stop" not in ops(cell)], ids=lambda cell: cell.name)
def test_gradients_are_those_of_finite_differences(cell: Cell) -> None:
    hidden = max(H, 2 * cell.multiple)  # heads of more than one unit
    x, weights, state = frames(2, 2), weights_of(cell, hidden=hidden), states_of(cell, 2, hidden=hidden)
    names = list(weights)

    def run(x: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        parts, values = rest[: len(state)], rest[len(state) :]
        result = plainly(cell, x, dict(zip(names, values, strict=True)), state=parts, lengths=torch.tensor([2, 1]))
        return (result.outputs, *result.state)

    assert torch.autograd.gradcheck(run, (x, *state, *weights.values()), fast_mode=True)


def torch_layer(kind: str, inputs: int, hidden: int) -> tuple[torch.nn.RNNBase, dict[str, Tensor]]:
    """One of torch's layers in float64, and its weights under the names of Cello's equations."""
    torch.manual_seed(0)
    layer = {
        "rnn": torch.nn.RNN(inputs, hidden, batch_first=True),
        "rnn-relu": torch.nn.RNN(inputs, hidden, batch_first=True, nonlinearity="relu"),
        "gru": torch.nn.GRU(inputs, hidden, batch_first=True),
        "lstm": torch.nn.LSTM(inputs, hidden, batch_first=True),
    }[kind].double()
    gates = {"rnn": [""], "rnn-relu": [""], "gru": [".r", ".z", ".n"], "lstm": [".i", ".f", ".g", ".o"]}[kind]
    weights: dict[str, Tensor] = {}
    for number, gate in enumerate(gates):
        rows = slice(number * hidden, (number + 1) * hidden)
        weights["W" + gate], weights["U" + gate] = layer.weight_ih_l0[rows], layer.weight_hh_l0[rows]
        two = kind == "gru"
        weights["b" + gate] = layer.bias_ih_l0[rows] if two else layer.bias_ih_l0[rows] + layer.bias_hh_l0[rows]
        if two:
            weights["c" + gate] = layer.bias_hh_l0[rows]
    return layer, weights


@pytest.mark.parametrize("kind", ["rnn", "rnn-relu", "gru", "lstm"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 1), (3, 9)], ids=str)
def test_scan_is_torchs_layer(kind: str, shape: tuple[int, int]) -> None:
    layer, weights = torch_layer(kind, D, H)
    x = frames(*shape)
    state = states_of(zoo()[kind], shape[0])
    result = plainly(zoo()[kind], x, weights, state=state)
    first = tuple(part.unsqueeze(0) for part in state)
    outputs, last = layer(x, first if kind == "lstm" else first[0])
    expected = outputs, tuple(part[0] for part in (last if kind == "lstm" else (last,)))
    torch.testing.assert_close((result.outputs, result.state), expected, rtol=1e-6, atol=1e-9)
    leaves = [x, *state, *layer.parameters()]
    torch.testing.assert_close(
        gradients((result.outputs, result.state), leaves), gradients(expected, leaves), rtol=1e-6, atol=1e-9
    )


def clip_by_clip(cell: Cell, x: Tensor, weights: dict[str, Tensor], lengths: list[int], reverse: bool) -> ScanResult:
    """Each clip scanned alone, cut to its length and turned by hand, then padded with zeros."""
    outputs, states = torch.zeros(len(x), x.shape[1], H, dtype=x.dtype), []
    for clip, length in enumerate(lengths):
        own = x[clip : clip + 1, :length]
        result = plainly(cell, own.flip(1) if reverse else own, weights)
        outputs[clip, :length] = (result.outputs.flip(1) if reverse else result.outputs)[0]
        states.append(result.state)
    return ScanResult(outputs, tuple(torch.cat(parts) for parts in zip(*states, strict=True)), "plain")


@pytest.mark.parametrize("name", ["lstm", "lstm-peephole-full", "gru-original", "sru", "fgr"])
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@settings(max_examples=12, deadline=None)
@given(lengths=st.lists(st.integers(0, 6), min_size=1, max_size=4), padding=st.integers(0, 2))
def test_a_clip_among_others_is_the_clip_alone(name: str, reverse: bool, lengths: list[int], padding: int) -> None:
    cell = zoo()[name]
    weights = weights_of(cell)
    x = frames(len(lengths), max(lengths) + padding).detach()
    for clip, length in enumerate(lengths):
        x[clip, length:] = torch.nan
    with torch.no_grad():
        result = plainly(cell, x, weights, lengths=torch.tensor(lengths), reverse=reverse)
        alone = clip_by_clip(cell, x, weights, lengths, reverse)
    torch.testing.assert_close(
        (result.outputs, result.state), (alone.outputs, alone.state), rtol=1e-10, atol=1e-12, equal_nan=False
    )


def test_what_lies_behind_a_clips_end_reaches_no_gradient() -> None:
    cell = zoo()["lstm"]
    weights, x = weights_of(cell), frames(2, 4).detach()
    x[1, 2:] = torch.nan
    x.requires_grad_()
    plainly(cell, x, weights, lengths=torch.tensor([4, 2])).outputs.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad[1, 2:], torch.zeros(2, D, dtype=x.dtype))
    assert all(bool(torch.isfinite(weight.grad).all()) for weight in weights.values() if weight.grad is not None)


def test_lengths_of_whole_clips_change_nothing() -> None:
    cell = zoo()["gru"]
    weights, x = weights_of(cell), frames(3, 5)
    plain, whole = plainly(cell, x, weights), plainly(cell, x, weights, lengths=torch.tensor([5, 5, 5]))
    assert torch.equal(plain.outputs, whole.outputs)


def test_reverse_has_seen_this_frame_and_later_ones() -> None:
    cell, x = zoo()["gru"], frames(1, 4)
    weights = weights_of(cell)
    seen = torch.autograd.grad(plainly(cell, x, weights, reverse=True).outputs[0, 2].sum(), x)[0][0].abs().sum(1) > 0
    assert seen.tolist() == [False, False, True, True]


@each_cell
def test_steps_are_the_scan(cell: Cell) -> None:
    x, weights = frames(2, 3), weights_of(cell)
    state: tuple[Tensor, ...] | None = None
    for t in range(3):
        state = step(cell, x[:, t], state, weights)
    torch.testing.assert_close(state, plainly(cell, x, weights).state)


def test_torchs_own_counters_can_look_on() -> None:
    cell = zoo()["rnn"]
    weights = {name: torch.zeros(shape) for name, shape in cell.parameters(3, 5).items()}
    with FlopCounterMode(display=False) as counter:
        scan(cell, torch.zeros(2, 4, 3), weights, backend="plain")
    assert counter.get_total_flops() == 2 * 2 * 4 * (5 * 3 + 5 * 5)


def test_the_back_end_used_is_named() -> None:
    cell = zoo()["rnn"]
    found = {asked: scan(cell, frames(1, 1), weights_of(cell), backend=asked).backend for asked in ("auto", "plain")}
    assert found == {"auto": "c" if compiler() else "plain", "plain": "plain"}
    said = r"unknown back end 'plan'; did you mean 'plain'\? Known: auto, c, plain, triton\."
    with pytest.raises(BackendError, match=said):
        scan(cell, frames(1, 1), weights_of(cell), backend="plan")


def test_tensors_that_do_not_fit_are_refused_by_name() -> None:
    cell, x = zoo()["rnn"], frames(2, 3)
    weights = weights_of(cell)
    with pytest.raises(ModelError, match=r"'rnn' got frames of shape \(3, 3\); they must be \(B, T, D\)"):
        plainly(cell, x[0], weights)
    with pytest.raises(ModelError, match=r"frames of torch.int64; convert them with x.float\(\)"):
        plainly(cell, torch.zeros(1, 1, D, dtype=torch.int64), weights)
    with pytest.raises(ModelError, match="'rnn' has no weights for U; it needs U, W, b"):
        plainly(cell, x, {name: value for name, value in weights.items() if name != "U"})
    with pytest.raises(ModelError, match="'rnn' has no parameters V; it needs U, W, b"):
        plainly(cell, x, {**weights, "V": weights["U"]})
    with pytest.raises(
        ModelError, match=r"W is \(4, 3\), but for frames of D=5 features and H=4 units it must be \(4, 5\)"
    ):
        plainly(cell, frames(2, 3, inputs=5), weights)
    with pytest.raises(ModelError, match=r"W is torch.float64 but the frames are torch.float32"):
        plainly(cell, x.float(), weights)
    with pytest.raises(ModelError, match=r"it needs 1 tensors \(h\) of shape \(2, 4\) and torch\.float64"):
        plainly(cell, x, weights, state=(torch.zeros(2, 5, dtype=torch.float64),))
    with pytest.raises(ModelError, match=r"lengths must be 2 whole numbers, one for each clip, not torch\.float32"):
        plainly(cell, x, weights, lengths=torch.tensor([1.0, 2.0]))
    with pytest.raises(ModelError, match="lengths go from 1 to 4, but the frames allow 0 to T=3"):
        plainly(cell, x, weights, lengths=torch.tensor([1, 4]))


def test_float32_is_float64_within_rounding() -> None:
    cell = zoo()["lstm"]
    weights, x = weights_of(cell), frames(3, 20)
    exact = plainly(cell, x, weights).outputs
    single = plainly(cell, x.float(), {name: value.float() for name, value in weights.items()}).outputs
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), exact, rtol=1e-5, atol=1e-6)
