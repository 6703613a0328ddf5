"""What hurts: a layer of several sizes that gives other shapes than it says, or first values of the wrong scale."""

from __future__ import annotations

import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from cello.cells.load import load_cell, zoo
from cello.compiler.scan import scan
from cello.errors import ModelError
from cello.models.classifier import Classifier
from cello.models.config import ModelConfig
from cello.models.frames import frame_size, part_sizes
from cello.models.layer import Layer
from cello.models.received import received
from cello.models.size import ModelSize
from sized_cells import SIZED, Building

LENGTHS = [5, 2, 0]
STACKED = [name for name in SIZED if name not in {"gaps", "generated"}]


def frames(size: int = 7) -> torch.Tensor:
    return torch.randn(3, 5, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", STACKED)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_layers_of_several_sizes_are_scans_on_top_of_each_other(name: str, bidirectional: bool) -> None:
    cell, directions = SIZED[name], 1 + bidirectional
    layer = Layer(cell, 7, 8, 2, bidirectional=bidirectional, backend="plain")
    x, ends = frames(), []
    outputs, last = layer(x, lengths=LENGTHS)
    for depth in layer.layers:
        found = []
        for number, one in enumerate(depth):
            weights = {equation: getattr(one, attribute) for attribute, equation in one.equation_names.items()}
            found.append(scan(cell, x, weights, lengths=LENGTHS, reverse=bool(number), backend="plain"))
        x = torch.cat([each.outputs for each in found], 2)
        ends += [each.state for each in found]
    torch.testing.assert_close(outputs, x)
    size = cell.output_size(7, 8)
    assert outputs.shape == (3, 5, directions * size)
    assert layer.output_size == size
    states = last if isinstance(last, tuple) else (last,)
    for state, own, of_layers in zip(states, cell.state_sizes(7, 8), zip(*ends, strict=True), strict=True):
        assert state.shape == (2 * directions, 3, *own)
        torch.testing.assert_close(state, torch.stack(of_layers))


@pytest.mark.parametrize("name", SIZED)
def test_a_stream_of_frames_packed_sequences_and_copies_are_the_whole(name: str) -> None:
    layer = Layer(SIZED[name], 7, 8, backend="plain")
    x = frames()
    whole, last = layer(x)
    state, outputs = None, []
    for t in range(x.shape[1]):
        output, state = layer(x[:, t : t + 1], state)
        outputs.append(output)
    torch.testing.assert_close(torch.cat(outputs, 1), whole)
    torch.testing.assert_close(state, last)
    packed, _ = layer(pack_padded_sequence(x, torch.tensor([5, 2, 1]), batch_first=True))
    expected, _ = layer(x, lengths=[5, 2, 1])
    torch.testing.assert_close(pad_packed_sequence(packed, batch_first=True)[0], expected)
    other = Layer(SIZED[name], 7, 8, backend="plain")
    other.load_state_dict(layer.state_dict())
    torch.testing.assert_close(other(x)[0], whole)


def test_states_of_another_shape_and_sizes_that_no_layer_has_are_refused() -> None:
    with pytest.raises(ModelError, match=r"hx: state 'S' has shape \(1, 3, 8\), but .* H, H/2\) = \(1, 3, 8, 4\)"):
        Layer(SIZED["heads"], 7, 8)(frames(), (torch.zeros(1, 3, 8), torch.zeros(1, 3, 8)))
    with pytest.raises(ModelError, match=r"hidden_size=7 does not fit cell 'heads', .* equal parts; use 6 or 8"):
        Layer(SIZED["heads"], 7, 7)
    with pytest.raises(ModelError, match=r"input_size=8 does not fit cell 'gaps', .* give frames of 7 or 9 elements"):
        Layer(SIZED["gaps"], 8, 8)
    with pytest.raises(ModelError, match="num_layers=2 is invalid: a second layer would read outputs, which have no"):
        Layer(SIZED["gaps"], 7, 8, 2)
    b = Building()
    x, h, last = b.x(), b.state("h"), b.state("last", "D")
    h = b("tanh", b("add", b("product", b.learned("W", "H,D"), b("sub", x, last)), h))
    with pytest.raises(ModelError, match="num_layers=2 is invalid: the states of cell 'moved' have other sizes"):
        Layer(b.cell("moved", {"h": h, "last": b("mul", x, b.number(1.0))}, "W"), 7, 8, 2)


@pytest.mark.usefixtures("compiled_quickly")
def test_recurrent_dropout_that_would_hide_nothing_is_refused() -> None:
    b = Building()
    h = b("tanh", b("add", b("product", b.learned("W", "H,D"), b.x()), b.state("h")))
    cell = b.cell("summed", {"h": h}, "W")
    with pytest.raises(ModelError, match=r"recurrent_dropout=0.1 hides nothing of cell 'summed', for no matrix"):
        Layer(cell, 7, 8, recurrent_dropout=0.1)
    Layer(SIZED["heads"], 7, 8, recurrent_dropout=0.1)(frames())


@pytest.mark.parametrize("name", SIZED)
def test_a_model_of_several_sizes_is_counted_as_it_is_built_and_trains_with_noise(name: str) -> None:
    layers = 1 if name == "gaps" else 2
    config = ModelConfig(cell=SIZED[name], hidden=8, layers=layers, zoneout=0.2, recurrent_dropout=0.2)
    model = Classifier(config, 7, 4, backend="plain")
    assert model.parameter_count == ModelSize.of(config, 7).parameters(4)
    scores = model(frames(), LENGTHS)
    assert scores.shape == (3, 4)
    scores.square().sum().backward()
    assert all(weight.grad is not None for weight in model.encoder.parameters())
    torch.testing.assert_close(model.eval()(frames(), LENGTHS), model(frames(), LENGTHS))


def test_flops_count_sums_over_matrices_of_heads() -> None:
    found = ModelSize.of(ModelConfig(cell=SIZED["heads"], hidden=8), 7).flops()
    assert found == 2 * (4 * 8 * 7 + 3 * 8 * 4)  # four gates of the frame; S q, Sᵀ h and U h


def test_flops_count_products_of_matrices() -> None:
    found = ModelSize.of(ModelConfig(cell=SIZED["multiplied"], hidden=8), 7).flops()
    frame, read = 8 * 4 * 7 + 8 * 7 + 5 * 7 + 5 * 8, 8 * 5 + 8 * 4
    assert found == 2 * (frame + read + 3 * (8 * 4 * 4) + 8 * 4 * 5 + 8 * 5 * 8 + 8 * 8 * 5)


def test_matrices_of_heads_are_drawn_head_by_head_and_projections_keep_lengths() -> None:
    encoder = Classifier(ModelConfig(cell=SIZED["heads"], hidden=8, initialisation="orthogonal"), 7, 4).encoder
    for head in encoder.directions_of(0)[0].U.split(4):  # type: ignore[operator, union-attr]
        torch.testing.assert_close(head @ head.T, torch.eye(4), rtol=0, atol=1e-5)
    encoder = Classifier(ModelConfig(cell=SIZED["projected"], hidden=8, initialisation="orthogonal"), 7, 4).encoder
    R = encoder.directions_of(0)[0].R
    torch.testing.assert_close(R @ R.T, torch.eye(4), rtol=0, atol=1e-5)  # type: ignore[operator, union-attr]
    model = Classifier(ModelConfig(cell=SIZED["heads"], hidden=64), 7, 4)
    for U in (Layer(SIZED["heads"], 7, 64).layers[0][0].U, model.encoder.directions_of(0)[0].U):  # type: ignore[index, union-attr]
        assert 1 / 8 < float(U.detach().abs().max()) <= 1 / 32**0.5  # type: ignore[operator, union-attr]


def test_held_values_masks_and_gaps_of_frames_lost() -> None:
    features = torch.arange(1.0, 13.0).view(1, 6, 2)
    lost = torch.tensor([[True, False, True, True, False, True]])
    held = [[0, 0], [3, 4], [3, 4], [3, 4], [9, 10], [9, 10]]
    assert received(features, lost, ())[0].tolist() == held
    assert received(features, None, ()) is features
    parts = part_sizes(SIZED["gaps"], 2)
    assert (parts, frame_size(SIZED["gaps"], 2)) == ((("value", 2), ("mask", 2), ("gap", 1)), 5)
    found = received(features, lost, parts)[0]
    assert found[:, :2].tolist() == held
    assert found[:, 2].tolist() == found[:, 3].tolist() == [0, 1, 0, 0, 1, 0]
    assert found[:, 4].tolist() == [1, 2, 1, 2, 3, 1]
    assert received(features, None, parts)[0, :, 2:].tolist() == [[1, 1, 1]] * 6
    model = Classifier(ModelConfig(cell=SIZED["gaps"], hidden=4), 2, 3)
    assert not torch.equal(model(features), model(features, lost=lost))
    assert zoo()["lstm"].parts == part_sizes(zoo()["lstm"], 2) == ()


def test_a_gap_of_1_at_the_beginning_is_one_of_0_to_gru_d_where_the_first_frame_was_seen() -> None:
    """Its paper begins at 0, where exported models have 1 everywhere."""
    cell, lost = load_cell("gru-d"), torch.tensor([[False, True, True, False, False]]).expand(3, 5)
    x = received(frames(3), lost, part_sizes(cell, 3))
    begins_at_0 = x.clone()
    begins_at_0[:, 0, 6:] = 0
    draw = torch.Generator().manual_seed(0)
    weights = {name: torch.randn(shape, generator=draw) for name, shape in cell.parameters(9, 4).items()}
    found, expected = (scan(cell, each, weights, backend="plain").outputs for each in (x, begins_at_0))
    assert torch.equal(found, expected)
    later = x.clone()
    later[:, 1, 6:] = 0
    assert not torch.equal(scan(cell, later, weights, backend="plain").outputs, expected)


def test_parts_that_frames_of_sound_do_not_have_are_refused() -> None:
    def cell(*parts: tuple[str, str]) -> Building:
        b = Building()
        found = [b.x(text, name) for name, text in parts]
        h = b("tanh", b("add", b("product", b.learned("W", f"H,{parts[0][1]}"), found[0]), b.state("h")))
        return b.cell("told", {"h": h}, "W", parts)  # type: ignore[return-value]

    with pytest.raises(ModelError, match=r"takes frames of value, when, but frames of sound have value, mask and gap"):
        frame_size(cell(("value", "D-1"), ("when", "1")), 5)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=r"takes frames of value \(16\), mask \(D-16\), which 5 features do not"):
        frame_size(cell(("value", "16"), ("mask", "D-16")), 5)  # type: ignore[arg-type]
