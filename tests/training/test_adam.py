"""What hurts: weights that differ in a bit from torch's, a checkpoint that one of them cannot take from the other."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from cello.training.adam import Adam
from cello.training.config import OptimiserConfig

CONFIGS = [
    OptimiserConfig(name="adamw", learning_rate=4e-3, weight_decay=0.01),
    OptimiserConfig(name="adam", learning_rate=4e-3, weight_decay=0.01),
]
WEIGHTS = 1003


def gradient(step: int) -> Tensor:
    return torch.randn(WEIGHTS, generator=torch.Generator().manual_seed(step))


def theirs(config: OptimiserConfig, weights: Tensor) -> tuple[torch.nn.Parameter, torch.optim.Optimizer]:
    kind, parameter = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[config.name], torch.nn.Parameter(weights)
    return parameter, kind([parameter], lr=config.learning_rate, weight_decay=config.weight_decay, fused=True)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_every_bit_is_torchs_also_of_the_state_and_at_changing_rates(config: OptimiserConfig) -> None:
    ours = Adam(config, gradient(99))
    parameter, optimiser = theirs(config, gradient(99))
    for step in range(7):
        for each in (ours, optimiser):
            each.param_groups[0]["lr"] = 1e-3 * (step + 1)
        ours.step(gradient(step))
        parameter.grad = gradient(step)
        optimiser.step()
        assert torch.equal(ours.weights, parameter)
    found, expected = ours.state_dict(), optimiser.state_dict()
    assert found["param_groups"] == expected["param_groups"]
    assert list(found["state"]) == list(expected["state"]) == [0]
    for name, value in expected["state"][0].items():
        assert found["state"][0][name].dtype is value.dtype
        assert torch.equal(found["state"][0][name], value)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_each_goes_on_from_the_others_state(config: OptimiserConfig) -> None:
    ours = Adam(config, gradient(99))
    assert ours.state_dict()["state"] == {}
    for step in range(3):
        ours.step(gradient(step))
    parameter, optimiser = theirs(config, ours.weights.clone())
    optimiser.load_state_dict(copy.deepcopy(ours.state_dict()))
    again = Adam(config, ours.weights.clone())
    again.load_state_dict(copy.deepcopy(optimiser.state_dict()))
    for each in (ours, again):
        each.step(gradient(3))
    parameter.grad = gradient(3)
    optimiser.step()
    assert torch.equal(ours.weights, parameter)
    assert torch.equal(ours.weights, again.weights)


def test_a_state_of_other_weights_is_refused() -> None:
    ours = Adam(CONFIGS[0], torch.zeros(5))
    ours.step(torch.ones(5))
    with pytest.raises(ValueError, match="exp_avg is for 5 weights, not for 6"):
        Adam(CONFIGS[0], torch.zeros(6)).load_state_dict(ours.state_dict())
