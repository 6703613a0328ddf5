"""What hurts: a layer that does not do what torch.nn.LSTM does where it takes its place."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from cello.cells.definition import cell
from cello.cells.functions import sigmoid, tanh
from cello.cells.load import load_cell
from cello.errors import BackendError, CelloError, ModelError
from cello.models.classifier import Classifier
from cello.models.config import ModelConfig
from cello.models.direction import CellLayer
from cello.models.layer import Layer

LENGTHS = torch.tensor([4, 7, 1, 7])
KINDS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}


@cell
def leaky(x: Any, h: Any, W: Any, U: Any, b: Any) -> Any:
    """A leaky unit."""
    z = sigmoid(W.z @ x + b.z)
    return z * h + (1 - z) * tanh(W.n @ x + U.n @ h + b.n)


def frames(dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(4, 7, 3, dtype=dtype, generator=torch.Generator().manual_seed(0))


def pair(kind: str, **settings: Any) -> tuple[nn.RNNBase, Layer]:
    torch.manual_seed(0)
    theirs = KINDS[kind](3, 5, dtype=torch.float64, **{"batch_first": True, **settings})
    return theirs, Layer.from_torch(theirs)


def states(kind: str, count: int, batch: int = 4) -> Any:
    made = [torch.randn(count, batch, 5, dtype=torch.float64) for _ in range(2)]
    return tuple(made) if kind == "lstm" else made[0]


def tensors(result: Any) -> list[Tensor]:
    """All tensors of what a layer returned, in order."""
    if isinstance(result, PackedSequence):
        return [result.data]
    return [result] if isinstance(result, Tensor) else [each for part in result for each in tensors(part)]


def same(ours: Any, theirs: Any) -> None:
    for one, other in zip(tensors(ours), tensors(theirs), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_outputs_states_and_gradients_are_torchs(kind: str, layers: int, bidirectional: bool) -> None:
    theirs, ours = pair(kind, num_layers=layers, bidirectional=bidirectional)
    hx = states(kind, layers * (1 + bidirectional))
    for first in (None, hx):
        xs = [frames().requires_grad_() for _ in range(2)]
        found = [layer(x, first) for layer, x in zip((theirs, ours), xs, strict=True)]
        same(found[1], found[0])
        for result in found:
            torch.stack([tensor.square().sum() for tensor in tensors(result)]).sum().backward()
        same(xs[1].grad, xs[0].grad)
    for k, direction in enumerate(part for depth in ours.layers for part in depth):  # type: ignore[attr-defined]
        suffix = f"_l{k // (1 + bidirectional)}" + ("_reverse" if bidirectional and k % 2 else "")
        for group, name in (("W", "weight_ih"), ("U", "weight_hh"), ("b", "bias_ih"), ("c", "bias_hh")):
            parts = [w.grad for n, w in direction.named_parameters() if n.split("_")[0] == group]
            if parts:
                same(torch.cat(parts), theirs.get_parameter(name + suffix).grad)


@pytest.mark.parametrize("enforce_sorted", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_packed_sequences_come_back_packed_as_torch_packs_them(kind: str, enforce_sorted: bool) -> None:
    theirs, ours = pair(kind, num_layers=2, bidirectional=True)
    lengths = LENGTHS.sort(descending=True).values if enforce_sorted else LENGTHS
    packed = pack_padded_sequence(frames(), lengths, batch_first=True, enforce_sorted=enforce_sorted)
    for first in (None, states(kind, 4)):
        one, other = ours(packed, first), theirs(packed, first)
        same(one, other)
        assert torch.equal(one[0].batch_sizes, other[0].batch_sizes)
        for name in ("sorted_indices", "unsorted_indices"):
            mine, wanted = getattr(one[0], name), getattr(other[0], name)
            assert (mine is None and wanted is None) or torch.equal(mine, wanted)


def test_lengths_are_a_packed_sequence_without_packing() -> None:
    theirs, ours = pair("lstm", bidirectional=True)
    outputs, last = ours(frames(), lengths=LENGTHS)
    packed = theirs(pack_padded_sequence(frames(), LENGTHS, batch_first=True, enforce_sorted=False))
    same(last, packed[1])
    same(outputs, nn.utils.rnn.pad_packed_sequence(packed[0], batch_first=True)[0])
    with pytest.raises(ModelError, match="lengths was given with a PackedSequence"):
        ours(pack_padded_sequence(frames(), LENGTHS, batch_first=True, enforce_sorted=False), lengths=LENGTHS)


@pytest.mark.parametrize("kind", KINDS)
def test_time_first_and_a_single_sequence(kind: str) -> None:
    theirs, ours = pair(kind, batch_first=False)
    hx = states(kind, 1)
    same(ours(frames().transpose(0, 1), hx), theirs(frames().transpose(0, 1), hx))
    alone = tuple(s[:, 0] for s in hx) if kind == "lstm" else hx[:, 0]
    same(ours(frames()[0], alone), theirs(frames()[0], alone))
    assert ours(frames()[0])[0].shape == (7, 5)


def test_dropout_between_layers_only_while_training() -> None:
    theirs, ours = pair("lstm", num_layers=2, dropout=0.9)
    assert not torch.equal(ours(frames())[0], ours(frames())[0])
    same(ours.eval()(frames()), theirs.eval()(frames()))


def test_dropout_that_has_no_place_between_layers_is_told_once(recwarn: pytest.WarningsRecorder) -> None:
    Layer("lstm", 3, 5, num_layers=2, dropout=0.5)
    assert not recwarn.list
    Layer("lstm", 3, 5, dropout=0.5)
    (told,) = recwarn.list
    assert str(told.message) == (
        "dropout=0.5 does nothing with num_layers=1, as it acts between layers; give more layers, or dropout=0"
    )
    assert told.filename == __file__
    theirs = nn.LSTM(3, 5, batch_first=True, dropout=0.5)
    recwarn.clear()
    assert Layer.from_torch(theirs).dropout == 0.5
    Classifier(ModelConfig(hidden=4, dropout=0.5), 3, 2, seed=1)  # it acts before the classifier
    assert not recwarn.list


def test_a_cell_of_ones_own_with_one_state_gives_one_tensor() -> None:
    layer = Layer(leaky, 3, 5, num_layers=2)
    outputs, last = layer(frames(torch.float32))
    assert isinstance(last, Tensor)
    assert (outputs.shape, last.shape) == ((4, 7, 5), (2, 4, 5))
    torch.testing.assert_close(outputs[:, -1], last[-1])
    continued = layer(frames(torch.float32)[:, 4:], layer(frames(torch.float32)[:, :4])[1])
    torch.testing.assert_close(continued[0], outputs[:, 4:])


@pytest.mark.filterwarnings("ignore:.*lru_cache.*:UserWarning")
@pytest.mark.parametrize("name", ["lstm", "exprnn", "lstm-layer-norm"])
def test_torch_compile_takes_a_layer_of_one_size_in_one_graph(name: str) -> None:
    layer, x = Layer(name, 3, 4, backend="plain").double(), torch.randn(2, 5, 3, dtype=torch.float64)
    compiled, expected = torch.compile(layer, backend="eager", fullgraph=True)(x)[0], layer(x)[0]
    torch.testing.assert_close(compiled, expected, rtol=0, atol=1e-12)
    parameters = list(layer.parameters())
    ours, theirs = (torch.autograd.grad(out.square().sum(), parameters) for out in (compiled, expected))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_copies_pickles_and_state_dicts_compute_the_same() -> None:
    layer, x = Layer(leaky, 3, 5, bidirectional=True), frames(torch.float32)
    before = layer(x)[0]
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    loaded = Layer(leaky, 3, 5, bidirectional=True)
    assert not torch.equal(loaded(x)[0], before)
    file.seek(0)
    loaded.load_state_dict(torch.load(file, weights_only=True))
    for again in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), loaded):
        assert torch.equal(again(x)[0], before)
    assert "layers.0.1.W_n" in layer.state_dict()


def test_dtype_moves_with_the_module_and_autocast_is_taken() -> None:
    layer = Layer("gru", 3, 5).double()
    assert layer(frames())[0].dtype == torch.float64
    assert Layer("gru", 3, 5, dtype=torch.float64)(frames())[0].dtype == torch.float64
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.isfinite(layer.float()(frames(torch.float32))[0]).all()


def test_a_precision_is_that_of_every_direction(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cello.compiler.c.scan.missing_bf16", lambda: "which this CPU (Example 7) does not have")
    layer = Layer("rnn", 3, 5, num_layers=2, bidirectional=True, precision="bf16")
    assert [one.precision for one in layer.modules() if isinstance(one, CellLayer)] == ["bf16"] * 4
    assert CellLayer(load_cell("rnn"), 3, 5).precision == "float32"
    with pytest.raises(BackendError, match=r'^precision="bf16" needs backend="c", which needs AVX512-BF16'):
        layer(frames(torch.float32))


def test_first_weights_are_drawn_as_torch_draws_them() -> None:
    torch.manual_seed(3)
    weights = torch.cat([w.detach().flatten() for w in Layer("lstm", 39, 64).parameters()])
    assert 0.124 < float(weights.abs().max()) <= 0.125
    torch.manual_seed(3)
    again = torch.cat([w.detach().flatten() for w in Layer("lstm", 39, 64).parameters()])
    assert torch.equal(weights, again)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Layer("lsmt", 3, 5), "lsmt.*lstm"),
        (lambda: Layer("lstm", 3, 0), r"hidden_size=0 is invalid: it must be a whole number ≥ 1"),
        (
            lambda: Layer("lstm", 3, 5, dropout=1.0),
            r"dropout=1.0 is invalid: it must be a probability from 0 to below 1",
        ),
        (lambda: Layer("lstm", 3, 5)(torch.zeros(2, 7, 4)), r"shape \(2, 7, 4\) .*takes D = 3; give frames"),
        (lambda: Layer("lstm", 3, 5)(torch.zeros(2, 7, 3), torch.zeros(1, 2, 5)), r"1 states.*has 2: give \(h, c\)"),
        (
            lambda: Layer("gru", 3, 5)(torch.zeros(2, 7, 3), torch.zeros(1, 3, 5)),
            r"state 'h' has shape \(1, 3, 5\), but must be .* = \(1, 2, 5\)",
        ),
        (lambda: Layer.from_torch(nn.LSTM(3, 5, proj_size=2)), "proj_size=2, which no cell"),
        (lambda: Layer.from_torch(nn.LSTM(3, 5, bias=False)), "bias=False, which no cell"),
        (lambda: Layer.from_torch(nn.Linear(3, 5)), "Linear cannot be copied"),  # type: ignore[arg-type]
    ],
)
def test_what_does_not_fit_is_said(make: Any, said: str) -> None:
    with pytest.raises(CelloError, match=said):
        make()


def test_it_prints_and_answers_as_torchs() -> None:
    layer = Layer(load_cell("lstm"), 3, 5, num_layers=2)
    layer.flatten_parameters()
    assert (layer.input_size, layer.hidden_size, layer.num_layers, layer.batch_first) == (3, 5, 2, True)
    assert repr(layer).startswith("Layer(\n  lstm, 3, 5, num_layers=2")


def test_a_function_that_is_no_cell_is_named() -> None:
    def forgetful(x: Any, h: Any) -> Any:
        return h

    with pytest.raises(ModelError, match=r"forgetful is a function, not a cell; write @cello\.cell above its function"):
        Layer(forgetful, 5, 8)  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore")
def test_torch_exports_it_to_onnx_in_operations_that_onnx_has() -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    layer, x, out = Layer("gru", 3, 4), torch.randn(2, 5, 3), io.BytesIO()
    torch.onnx.export(layer, (x,), out, dynamo=False)
    session = runtime.InferenceSession(out.getvalue())
    found = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
    torch.testing.assert_close(torch.from_numpy(found), layer(x)[0].detach())
