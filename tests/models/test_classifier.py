"""What hurts: pooling that looks at padding, or at a backward half that has seen one frame."""

from __future__ import annotations

import copy
import io
import math
import pickle
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cello.compiler import inputs
from cello.errors import ModelError
from cello.models.classifier import Classifier, stack_frames
from cello.models.config import ModelConfig
from cello.models.direction import CellLayer
from cello.models.initialise import drawn
from cello.models.pooling import Pooling

Kind = Literal["last", "mean", "attention"]


@pytest.mark.parametrize("kind", ["last", "mean", "attention"])
@pytest.mark.parametrize("cell", ["torch:gru", "lstm"])
def test_scores_do_not_depend_on_the_rest_of_the_batch(cell: str, kind: Kind) -> None:
    model = Classifier(ModelConfig(cell=cell, hidden=6, layers=2, bidirectional=True, pooling=kind), 3, 4).eval()
    x, lengths = torch.randn(3, 9, 3), torch.tensor([9, 2, 1])
    scores = model(x, lengths)
    for row, n in enumerate(lengths.tolist()):
        torch.testing.assert_close(scores[row], model(x[row : row + 1, :n], torch.tensor([n]))[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cell", ["torch:gru", "lstm"])
def test_the_last_read_out_takes_each_direction_where_it_has_seen_the_whole_clip(cell: str) -> None:
    model = Classifier(ModelConfig(cell=cell, hidden=6, layers=2, bidirectional=True, pooling="last"), 3, 4).eval()
    y, last = model.encoder(torch.randn(3, 5, 3), torch.tensor([5, 2, 1]))
    for row, n in enumerate((5, 2, 1)):
        torch.testing.assert_close(last[row], torch.cat([y[row, n - 1, :6], y[row, 0, 6:]]))
    torch.testing.assert_close(model.pooling(y, last, torch.tensor([5, 2, 1])), last)


def test_mean_read_out_divides_by_the_clips_own_frames() -> None:
    y = torch.ones(1, 5, 2)
    out = Pooling(ModelConfig(hidden=2, pooling="mean"), 2)(y, y[:, 1], torch.tensor([2]))
    assert out.tolist() == [[1.0, 1.0]]


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    config = ModelConfig(cell="lstm", initialisation="orthogonal")
    first, again, other = (Classifier(config, 3, 4, seed=s).state_dict() for s in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])


@pytest.mark.parametrize("cell", ["lstm", "torch:lstm"])
def test_uniform_weights_stay_within_one_over_root_h_and_the_forget_bias_is_added_once(cell: str) -> None:
    config = ModelConfig(cell=cell, hidden=16, initialisation="uniform", forget_bias=1.0)
    layer = Classifier(config, 3, 4).encoder.directions_of(0)[0]
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
    layer = Classifier(config, 3, 4).encoder.directions_of(0)[0]
    u = layer.get_parameter("U_i")
    torch.testing.assert_close(u @ u.T, torch.eye(8), rtol=0, atol=1e-5)


def test_a_peephole_does_not_start_at_zero_and_a_bias_does() -> None:
    layer = Classifier(ModelConfig(cell="lstm-peephole", initialisation="orthogonal"), 3, 4).encoder.directions_of(0)[0]
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
    out, steps = stack_frames(frames, torch.tensor(lengths), together)
    assert steps.tolist() == [math.ceil(n / together) for n in lengths]
    if together > 1:
        assert out.shape == (len(lengths), max(steps.tolist()), 3 * together)
        for row, n in enumerate(lengths):
            flat = out[row].reshape(-1, 3)
            assert torch.equal(flat[:n], frames[row, :n])
            assert not flat[n:].any()


def test_a_model_on_stacked_frames_hears_nothing_of_the_rest_of_the_batch() -> None:
    model = Classifier(
        ModelConfig(cell="gru", hidden=6, bidirectional=True, pooling="attention", frame_stacking=3), 4, 5
    ).eval()
    x, lengths = torch.randn(3, 10, 4), torch.tensor([10, 4, 1])
    scores = model(x, lengths)
    for row, n in enumerate(lengths.tolist()):
        torch.testing.assert_close(scores[row], model(x[row : row + 1, :n], torch.tensor([n]))[0], rtol=1e-5, atol=1e-6)


NOISY = ModelConfig(cell="lstm", hidden=6, zoneout=0.2, recurrent_dropout=0.2, pooling="attention", frame_stacking=2)
LENGTHS = torch.tensor([9, 2, 0])


def again(model: Classifier, way: str) -> Classifier:
    if way == "deepcopy":
        return copy.deepcopy(model)
    if way == "pickle":
        return pickle.loads(pickle.dumps(model))
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("way", ["pickle", "torch.save", "deepcopy"])
@pytest.mark.parametrize("config", [NOISY, ModelConfig(cell="torch:gru", hidden=6)], ids=["lstm", "torch"])
def test_a_model_that_travels_is_the_model(config: ModelConfig, way: str) -> None:
    model, x = Classifier(config, 3, 4), torch.randn(3, 9, 3)
    model(x, LENGTHS)
    found = again(model, way)
    scores = []
    for one in (model, found, model.eval(), found.eval()):
        torch.manual_seed(1)
        scores.append(one(x, LENGTHS))
    torch.testing.assert_close(scores[1::2], scores[::2], rtol=0, atol=0)
    first, second = (torch.autograd.grad(one(x, LENGTHS).sum(), list(one.parameters())) for one in (model, found))
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert found.load_state_dict(model.state_dict())


def test_a_model_in_a_spawned_process_is_the_model(tmp_path: Path) -> None:
    model, x = Classifier(NOISY, 3, 4).eval(), torch.randn(3, 9, 3)
    (tmp_path / "model").write_bytes(pickle.dumps((model, x, LENGTHS, model(x, LENGTHS))))
    code = "import pickle, sys; m, x, n, y = pickle.load(open(sys.argv[1], 'rb')); print(m(x, n).equal(y))"
    command = [sys.executable, "-c", code, str(tmp_path / "model")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
@pytest.mark.parametrize("kind", ["last", "mean", "attention"])
@pytest.mark.parametrize("cell", ["torch:gru", "gru"])
def test_a_clip_without_frames_is_read_out_as_zero_and_harms_no_gradient(cell: str, kind: Kind) -> None:
    model, x = Classifier(ModelConfig(cell=cell, hidden=6, pooling=kind), 3, 4), torch.randn(3, 9, 3)
    with torch.autograd.detect_anomaly(check_nan=True):
        scores = model(x, LENGTHS)
        scores.square().sum().backward()
    torch.testing.assert_close(scores[2], model.head.bias)
    assert all(bool(weight.grad.isfinite().all()) for weight in model.parameters() if weight.grad is not None)


@pytest.mark.parametrize("stacked", [1, 2])
@pytest.mark.parametrize("cell", ["torch:gru", "gru"])
def test_lengths_may_be_a_list_and_are_never_beyond_the_frames(cell: str, stacked: int) -> None:
    model = Classifier(ModelConfig(cell=cell, hidden=6, frame_stacking=stacked, pooling="mean"), 3, 4).eval()
    x = torch.randn(3, 9, 3)
    found = model(model.standardise(x, [9, 2, 0]), [9, 2, 0])
    assert torch.equal(found, model(model.standardise(x, LENGTHS), LENGTHS))
    for call in (model, model.standardise):
        with pytest.raises(ModelError, match="lengths go from 1 to 10, but the frames allow 0 to T=9"):
            call(x, [10, 1, 1])
    for shape in ((0, 9, 3), (3, 0, 3), (0, 0, 3)):
        assert model(torch.zeros(shape), [0] * shape[0]).shape == (shape[0], 4)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*lru_cache.*:UserWarning")
@pytest.mark.wants("cc")
def test_a_compiled_model_with_noise_is_the_model() -> None:
    model = Classifier(ModelConfig(cell="rnn", hidden=6, zoneout=0.2, recurrent_dropout=0.2), 3, 4)
    x = torch.randn(3, 9, 3)
    found = []
    for run in (model, torch.compile(model, backend="aot_eager", fullgraph=True)):
        torch.manual_seed(1)
        scores = run(x, LENGTHS)
        found.append((scores, *torch.autograd.grad(scores.square().sum(), list(model.parameters()))))
    torch.testing.assert_close(found[1], found[0], rtol=1e-6, atol=1e-7)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.wants("cc")
def test_a_model_exported_for_any_batch_and_time_is_the_model() -> None:
    config = ModelConfig(cell="lstm", hidden=6, layers=2, bidirectional=True, pooling="attention", zoneout=0.1)
    model, batch = Classifier(config, 3, 4).eval(), torch.export.Dim("batch")
    dynamic = ({0: batch, 1: torch.export.Dim("steps")}, {0: batch})
    program = torch.export.export(model, (torch.randn(3, 9, 3), LENGTHS), dynamic_shapes=dynamic).module()
    for size in ((5, 4), (1, 11)):
        x, lengths = torch.randn(*size, 3), torch.arange(size[0]) % 5
        torch.testing.assert_close(program(x, lengths), model(x, lengths), rtol=1e-6, atol=1e-7)


def test_a_model_in_half_precision_around_it_is_computed_in_that_of_its_weights() -> None:
    config = ModelConfig(cell="lstm", hidden=6, layers=2, bidirectional=True, zoneout=0.2, recurrent_dropout=0.2)
    model = Classifier(config, 3, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(torch.randn(3, 9, 3).bfloat16(), LENGTHS).float().sum().backward()
    assert all(weight.grad is not None and weight.grad.dtype == torch.float32 for weight in model.parameters())


def test_gradients_of_every_clip_by_vmap_are_those_of_the_clip_alone() -> None:
    model, x = Classifier(ModelConfig(cell="gru", hidden=6, pooling="mean"), 3, 4), torch.randn(3, 9, 3)
    weights = {name: weight.detach() for name, weight in model.named_parameters()}

    def loss(weights: dict[str, torch.Tensor], clip: torch.Tensor, length: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(model, weights, (clip[None], length[None])).square().sum()

    each = torch.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(weights, x, LENGTHS)
    for row, length in enumerate(LENGTHS.tolist()):
        alone = model(x[row : row + 1, :length], torch.tensor([length])).square().sum()
        expected = torch.autograd.grad(alone, list(model.parameters()), allow_unused=True)
        for (name, found), own in zip(each.items(), expected, strict=True):
            torch.testing.assert_close(found[row], torch.zeros_like(weights[name]) if own is None else own)


def test_a_model_made_for_another_device_begins_with_the_same_weights() -> None:
    with torch.device("meta"):
        model = Classifier(NOISY, 3, 4, seed=1)
    assert all(weight.is_meta for weight in model.parameters())
    assert model(torch.zeros(2, 4, 3, device="meta"), [4, 2]).shape == (2, 4)
    filled: list[torch.Tensor] = []
    with drawn(torch.zeros(3, device="meta")) as numbers:
        filled.append(numbers.fill_(1))
    assert not filled[0].is_meta


def test_weights_stored_under_the_former_names_are_loaded() -> None:
    model = Classifier(ModelConfig(hidden=5), 3, 4, seed=1)
    former = {
        name.replace("encoder.", "stack.").replace("pooling.", "readout."): value
        for name, value in model.state_dict().items()
    }
    assert set(former) != set(model.state_dict())
    again = Classifier(ModelConfig(hidden=5), 3, 4, seed=2)
    again.load_state_dict(former)
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


def test_lengths_that_are_known_to_be_right_stay_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading them back would hold up every step, and a rehearsal that reads them runs other kernels than the graph."""
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)

    class OnGpu:
        """Lengths that cannot be read."""

        shape, is_meta, is_cuda, dtype = torch.Size([2]), False, True, torch.int64

        def is_floating_point(self) -> bool:
            return False

        is_complex = is_floating_point

        def to(self, *where: object) -> OnGpu:
            assert "cpu" not in where, "read back"
            return self

        def clamp(self, low: int, high: int) -> tuple[int, int]:
            return low, high

    frames: Any = SimpleNamespace(shape=(2, 7, 3), is_cuda=True)
    lengths: Any = OnGpu()
    monkeypatch.setattr(inputs, "Tensor", OnGpu)
    with inputs.unchecked_lengths():
        assert inputs.frames_of_clips(lengths, frames) == (0, 7)
    with pytest.raises(AssertionError, match="read back"):
        inputs.frames_of_clips(lengths, frames)


def test_scores_are_the_same_without_a_look_at_the_lengths() -> None:
    model = Classifier(ModelConfig(hidden=4, bidirectional=True), 3, 2).eval()
    frames, lengths = torch.randn(4, 6, 3), torch.tensor([6, 1, 3, 6])
    assert torch.equal(model.unchecked(frames, lengths), model(frames, lengths))
    assert torch.equal(model.unchecked(frames), model(frames, [6] * 4))
