"""The parts of a stored model: every form outside torch computes with them, so one wrong name spoils all of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from cello.cells.load import zoo
from cello.compiler.reference import step
from cello.errors import ModelError
from cello.models.classifier import Classifier
from cello.models.config import ModelConfig
from cello.models.parts import Direction, ModelParts, parts_of
from units import units

EVERY = [*sorted(zoo()), "torch:rnn", "torch:gru", "torch:lstm"]


def run(direction: Direction, frames: torch.Tensor, hidden: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The outputs of one direction over the frames (T, D) of a clip, and its last output."""
    leaves = {name: torch.from_numpy(weight) for name, weight in direction.weights.items()}
    states = [torch.from_numpy(state) for state in direction.first_states(frames.shape[1], hidden)]
    outputs = [torch.empty(0)] * len(frames)
    for t in reversed(range(len(frames))) if direction.reverse else range(len(frames)):
        states = step(direction.cell, frames[t], {**leaves, **dict(zip(direction.cell.states, states, strict=True))})
        outputs[t] = states[0]
    return torch.stack(outputs), states[0]


def scores(parts: ModelParts, frames: NDArray[np.float32]) -> torch.Tensor:
    """The scores of one clip by its parts alone."""
    x = torch.from_numpy((frames - parts.mean) / parts.deviation)
    short = -len(x) % parts.frame_stacking
    x = torch.cat([x, torch.zeros(short, x.shape[1])]).reshape(-1, x.shape[1] * parts.frame_stacking)
    for layer in parts.layers:
        found = [run(direction, x, parts.hidden) for direction in layer]
        x = torch.cat([outputs for outputs, _ in found], 1)
    pooled = torch.cat([last for _, last in found])
    if parts.pooling == "mean":
        pooled = x.mean(0)
    if parts.score is not None:
        weight, bias = parts.score
        pooled = (x @ torch.from_numpy(weight) + bias).softmax(0) @ x
    head, bias = map(torch.from_numpy, parts.head)
    return head @ pooled + bias


def compare(config: ModelConfig, backend: str = "auto") -> None:
    model = Classifier(config, 5, 3, seed=4, backend=backend).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(weight.numel())))
        model.mean.copy_(torch.linspace(-1, 1, 5))
        model.deviation.copy_(torch.linspace(0.5, 2, 5))
    parts = parts_of(config, {name: value.detach().numpy() for name, value in model.state_dict().items()})
    assert parts.hidden == config.hidden
    frames = torch.randn(1, 9, 5, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model(model.standardise(frames, [9]), [9])[0]
    torch.testing.assert_close(scores(parts, frames[0].numpy()), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("cell", EVERY)
def test_the_parts_of_every_cell_compute_its_scores(cell: str) -> None:
    compare(ModelConfig(cell=cell, hidden=units(cell, 6)), "plain")  # nothing to compile


@pytest.mark.parametrize("pooling", ["last", "mean", "attention"])
def test_layers_directions_stacking_and_pooling_are_among_the_parts(pooling: str) -> None:
    compare(ModelConfig(cell="gru", hidden=6, layers=2, bidirectional=True, frame_stacking=2, pooling=pooling))  # type: ignore[arg-type]
    compare(ModelConfig(cell="torch:lstm", hidden=6, layers=2, bidirectional=True, pooling=pooling))  # type: ignore[arg-type]


def test_zoneout_is_there_as_its_expectation() -> None:
    compare(ModelConfig(cell="lstm", hidden=6, zoneout=0.3, recurrent_dropout=0.2, dropout=0.5))


def test_a_model_stored_under_former_names_has_the_same_parts() -> None:
    config = ModelConfig(cell="lstm", hidden=6)
    state = {name: value.numpy() for name, value in Classifier(config, 5, 3).state_dict().items()}
    former = {name.replace("encoder.", "stack.").replace("pooling.", "readout."): state[name] for name in state}
    assert (parts_of(config, former).head[0] == state["head.weight"]).all()


def test_weights_of_another_model_are_refused() -> None:
    state = {name: value.numpy() for name, value in Classifier(ModelConfig(cell="gru"), 5, 3).state_dict().items()}
    with pytest.raises(ModelError, match="the stored weights have no 'W_i', which a model of 'lstm' needs"):
        parts_of(ModelConfig(cell="lstm"), state)
