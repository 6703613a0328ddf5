"""What hurts: a schedule that never reaches its peak or its end, an average that forgets nothing."""

from __future__ import annotations

import itertools

import pytest
import torch

from cello.training.config import OptimiserConfig
from cello.training.optimiser import Average, learning_rate, make_optimiser


def test_cosine_rises_to_its_peak_and_falls_to_nearly_nothing() -> None:
    config = OptimiserConfig(learning_rate=2.0, warmup=0.1, schedule="cosine")
    rates = [learning_rate(config, step, 1000) for step in range(1000)]
    assert max(rates) == 2.0
    assert rates.index(2.0) == 99
    assert rates[-1] < 1e-4
    assert all(a >= b for a, b in itertools.pairwise(rates[100:]))


def test_constant_stays() -> None:
    config = OptimiserConfig(learning_rate=2.0, warmup=0.0, schedule="constant")
    assert {learning_rate(config, step, 10) for step in range(10)} == {2.0}


def test_the_average_is_of_the_weights_and_leaves_the_model_as_it_was() -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    average = Average(model, 0.5)
    values = []
    for value in (1.0, 2.0, 3.0):
        model.weight.data.fill_(value)
        average.update()
        values.append(float(average.weights["weight"]))
    expected = float(values[0])
    for update, value in ((2, 2.0), (3, 3.0)):
        keep = min(0.5, (1 + update) / (10 + update))
        expected = keep * expected + (1 - keep) * value
    assert values[-1] == pytest.approx(expected, rel=1e-6)
    with average.in_place():
        assert float(model.weight.detach()) == values[-1]
    assert float(model.weight.detach()) == 3.0


def test_without_decay_the_average_is_the_weights() -> None:
    model = torch.nn.Linear(1, 1)
    average = Average(model, 0.0)
    model.weight.data.fill_(7.0)
    average.update()
    assert float(average.weights["weight"]) == 7.0


@pytest.mark.parametrize("name", ["adamw", "adam", "rmsprop", "sgd"])
def test_every_named_optimiser_moves_downhill(name: str) -> None:
    weight = torch.nn.Parameter(torch.tensor([3.0]))
    optimiser = make_optimiser(OptimiserConfig(name=name, learning_rate=0.1), [weight])  # type: ignore[arg-type]
    for _ in range(20):
        optimiser.zero_grad()
        (weight**2).sum().backward()
        optimiser.step()
    assert abs(float(weight.detach())) < 2.9
