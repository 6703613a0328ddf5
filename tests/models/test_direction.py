"""What hurts: padding leaking into a clip, a backward direction that starts in the padding, a frame seen too early."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.utils import parametrizations, prune

from cello.cells.definition import cell as make_cell
from cello.cells.functions import tanh
from cello.cells.load import load_cell
from cello.errors import ModelError
from cello.models.config import ModelConfig
from cello.models.direction import CellLayer, TorchLayer, frame_mask, reverse_within
from cello.models.encoder import Encoder
from cello.native.build import compiler

LENGTHS = torch.tensor([7, 1, 4])


def stack(cell: str, **settings: object) -> Encoder:
    torch.manual_seed(0)
    config = ModelConfig(cell=cell, hidden=5, **settings)  # type: ignore[arg-type]
    built = Encoder(config, 3, None if cell.startswith("torch:") else load_cell(cell))
    for weight in built.parameters():
        torch.nn.init.uniform_(weight, -0.5, 0.5)
    return built.double().eval()


def frames(seed: int = 0) -> Tensor:
    return torch.randn(3, 7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", ["torch:rnn", "torch:gru", "torch:lstm", "gru", "lstm"])
def test_a_clip_gives_the_same_outputs_alone_and_padded_with_rubbish(cell: str, bidirectional: bool) -> None:
    model, x = stack(cell, layers=2, bidirectional=bidirectional), frames()
    together, _ = model(torch.where(frame_mask(LENGTHS, 7), x, 1e3), LENGTHS)
    for row, n in enumerate(LENGTHS.tolist()):
        alone, _ = model(x[row : row + 1, :n], torch.tensor([n]))
        torch.testing.assert_close(together[row : row + 1, :n], alone)


@pytest.mark.parametrize("cell", ["torch:gru", "gru"])
def test_forward_sees_no_future_and_backward_no_past(cell: str) -> None:
    x = frames().requires_grad_()
    for reverse in (False, True):
        layer = (
            TorchLayer(cell, 3, 5, reverse=reverse)
            if cell.startswith("torch:")
            else CellLayer(load_cell(cell), 3, 5, backend="plain", reverse=reverse)
        ).double()
        for weight in layer.parameters():
            torch.nn.init.uniform_(weight, -0.5, 0.5)
        (gradient,) = torch.autograd.grad(layer(x, torch.tensor([7, 7, 7]))[0][:, 3].sum(), x)
        seen = gradient.abs().sum((0, 2)) > 0
        assert seen.tolist() == [(t >= 3) if reverse else (t <= 3) for t in range(7)]


def test_a_bidirectional_torch_layer_is_torchs_own_on_whole_clips() -> None:
    ours, x = stack("torch:gru", bidirectional=True), frames()
    theirs = torch.nn.GRU(3, 5, batch_first=True, bidirectional=True).double()
    for suffix, layer in zip(("", "_reverse"), ours.directions_of(0), strict=True):
        for name, weight in layer.kernel.named_parameters():
            getattr(theirs, name + suffix).data.copy_(weight)
    torch.testing.assert_close(ours(x, torch.tensor([7, 7, 7]))[0], theirs(x)[0])


def test_reversing_twice_is_nothing_and_leaves_padding_in_place() -> None:
    x = frames()
    once = reverse_within(x, LENGTHS)
    torch.testing.assert_close(reverse_within(once, LENGTHS), x)
    torch.testing.assert_close(once[2, 4:], x[2, 4:])
    torch.testing.assert_close(once[2, 0], x[2, 3])


def noisy(**noise: float) -> CellLayer:
    torch.manual_seed(0)
    layer = CellLayer(load_cell("lstm"), 3, 50, **noise)
    for weight in layer.parameters():
        torch.nn.init.uniform_(weight, -0.5, 0.5)
    return layer


def test_zoneout_keeps_about_its_share_of_units_from_step_to_step() -> None:
    x, lengths = torch.randn(40, 9, 3), torch.full((40,), 9)
    outputs, _ = noisy(zoneout=0.3)(x, lengths)
    kept = (outputs[:, 1:] == outputs[:, :-1]).float().mean()
    assert 0.27 < kept < 0.33
    assert not (noisy()(x, lengths)[0][:, 1:] == outputs[:, :-1]).any()


def test_a_trained_layer_with_zoneout_is_the_expectation_and_always_the_same() -> None:
    layer, x, lengths = noisy(zoneout=0.3).eval(), torch.randn(2, 1, 3), torch.ones(2, dtype=torch.int64)
    plain = noisy().eval()
    torch.testing.assert_close(layer(x, lengths)[0], 0.7 * plain(x, lengths)[0])
    torch.testing.assert_close(layer(x, lengths), layer(x, lengths), rtol=0, atol=0)


@pytest.mark.usefixtures("compiled_quickly")
def test_recurrent_dropout_differs_from_call_to_call_and_only_while_training() -> None:
    layer, x, lengths = noisy(recurrent_dropout=0.5), torch.randn(2, 4, 3), torch.full((2,), 4)
    first, second = layer(x, lengths)[0], layer(x, lengths)[0]
    torch.testing.assert_close(first[:, 0], second[:, 0], rtol=0, atol=0)  # the first state is zero, masked or not
    assert not torch.equal(first[:, 1:], second[:, 1:])
    layer.eval()
    torch.testing.assert_close(layer(x, lengths), noisy().eval()(x, lengths), rtol=0, atol=0)


@pytest.mark.usefixtures("compiled_quickly")
def test_parameters_may_have_any_names() -> None:
    @make_cell
    def odd(x: Any, h: Any, W: Any, W_a: Any, U: Any, training: Any, cell: Any, reverse: Any) -> Any:
        return tanh(W.a_b @ x + W_a.b @ x + U @ h + training + cell * reverse)

    layer = CellLayer(odd, 3, 5)
    assert sorted(layer.equation_names.values()) == sorted(odd.parameters(3, 5))
    assert len(list(layer.parameters())) == 6
    assert layer(torch.zeros(1, 2, 3), torch.tensor([2]))[0].shape == (1, 2, 5)


def small(**settings: Any) -> CellLayer:
    torch.manual_seed(0)
    layer = CellLayer(load_cell("gru"), 3, 5, **settings)
    for weight in layer.parameters():
        torch.nn.init.uniform_(weight, -0.5, 0.5)
    return layer


@pytest.mark.parametrize("backend", ["auto", "plain"])
def test_weights_are_what_the_module_holds_when_it_is_called(backend: str) -> None:
    layer, x = small(backend=backend), torch.randn(3, 7, 3)
    before = layer(x, LENGTHS)[0]
    doubled = {name: weight.detach() * 2 for name, weight in layer.named_parameters()}
    assert not torch.allclose(functional_call(layer, doubled, (x, LENGTHS))[0], before)
    prune.l1_unstructured(layer, "U_r", 0.5)
    parametrizations.spectral_norm(layer, "U_z")
    parametrizations.weight_norm(layer, "W_n")
    parametrizations.orthogonal(layer, "U_n")
    outputs = layer(x, LENGTHS)[0]
    assert not torch.allclose(outputs, before)
    outputs.sum().backward()
    assert all(weight.grad is not None and bool(weight.grad.any()) for weight in layer.parameters())
    assert not layer.get_parameter("U_r_orig").grad[layer.U_r == 0].any()  # type: ignore[index]
    prune.remove(layer, "U_r")
    torch.testing.assert_close(layer.eval()(x, LENGTHS), layer(x, LENGTHS))


def test_auto_stays_auto_in_another_dtype_and_on_another_device_and_in_a_copy() -> None:
    model = stack("gru").float()
    layer, x = model.directions_of(0)[0], torch.randn(3, 7, 3)
    best = "c" if compiler() else "plain"
    assert model.backend == "auto"
    for dtype, used in ((torch.float32, best), (torch.bfloat16, "plain"), (torch.float32, best), (torch.float64, best)):
        model.to(dtype)(x.to(dtype), LENGTHS)
        assert (layer.backend, layer.used, model.backend) == ("auto", used, used)
    elsewhere = model.to("meta")
    elsewhere(x.to("meta", torch.float64), LENGTHS)
    assert (layer.backend, layer.used) == ("auto", "plain")
    back = copy.deepcopy(elsewhere).to_empty(device="cpu")
    back(x.double(), LENGTHS)
    assert [each.backend for each in back.directions_of(0)] == ["auto"]
    assert back.backend == best


@pytest.mark.parametrize("cell", ["gru", "torch:gru"])
@pytest.mark.parametrize("lengths", [[7, 1, 0], torch.tensor([7, 1, 0], dtype=torch.int32)], ids=["list", "int32"])
def test_a_clip_without_frames_is_zero_and_lengths_may_be_a_list(cell: str, lengths: Any) -> None:
    outputs, last = stack(cell, bidirectional=True)(frames(), lengths)
    assert not outputs[2].any()
    assert not last[2].any()
    assert last[0].all()
    for shape in ((0, 7, 3), (3, 0, 3)):
        outputs, last = stack(cell)(torch.zeros(shape, dtype=torch.float64), [0] * shape[0])
        assert (outputs.shape, last.shape) == ((*shape[:2], 5), (shape[0], 5))


@pytest.mark.parametrize("cell", ["gru", "torch:gru"])
def test_lengths_beyond_the_frames_are_refused_by_every_layer(cell: str) -> None:
    for lengths in ([8, 1, 2], [-1, 7, 7]):
        with pytest.raises(ModelError, match=r"lengths go from -?1 to [78], but the frames allow 0 to T=7"):
            stack(cell)(frames(), lengths)


def test_layers_in_threads_are_the_layer() -> None:
    layer, x = small(), torch.randn(3, 7, 3)

    def gradient(_: int) -> torch.Tensor:
        return torch.autograd.grad(layer(x, LENGTHS)[0].sum(), layer.get_parameter("U_r"))[0]

    with ThreadPoolExecutor(4) as threads:
        assert all(torch.equal(found, gradient(0)) for found in threads.map(gradient, range(12)))
