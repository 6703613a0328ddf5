"""What hurts: a schedule that never reaches its peak, an average that forgets nothing, weights that are not torch's."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch

from cello.training.config import OptimiserConfig
from cello.training.optimiser import Average, Optimiser, end_to_end, learning_rate, make_optimiser


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


CONFIGS = [
    OptimiserConfig(name="adamw", learning_rate=4e-3, weight_decay=0.01, clip_norm=1.0, ema=0.99),
    OptimiserConfig(name="adam", learning_rate=4e-3, weight_decay=0.01, clip_norm=0.5, ema=0.9),
    OptimiserConfig(name="rmsprop", learning_rate=1e-3, clip_norm=1.0),
    OptimiserConfig(name="sgd", learning_rate=1e-3, weight_decay=0.01),
]


def network() -> torch.nn.Sequential:
    torch.manual_seed(1)
    return torch.nn.Sequential(torch.nn.Linear(5, 9), torch.nn.Tanh(), torch.nn.Linear(9, 3))


def loss_of(model: torch.nn.Module, step: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(step)
    return model(torch.randn(16, 5, generator=generator)).square().sum() * (10 if step % 2 else 0.01)


class Plain:
    """torch's own optimiser on each weight, its clipping, and an average weight by weight."""

    def __init__(self, config: OptimiserConfig) -> None:
        self.config, self.model = config, network()
        kind = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "rmsprop": torch.optim.RMSprop}.get(config.name)
        settings: dict[str, object] = {"lr": config.learning_rate, "weight_decay": config.weight_decay}
        if kind is None:
            self.optimiser = torch.optim.SGD(self.model.parameters(), momentum=0.9, **settings)  # type: ignore[arg-type]
        else:
            self.optimiser = kind(self.model.parameters(), **settings)
        self.average = [weight.detach().clone() for weight in self.model.parameters()]

    def step(self, number: int) -> None:
        self.optimiser.zero_grad()
        loss_of(self.model, number).backward()
        if self.config.clip_norm:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
        self.optimiser.step()
        keep = min(self.config.ema, (2 + number) / (11 + number))
        for mean, weight in zip(self.average, self.model.parameters(), strict=True):
            mean.lerp_(weight.detach(), 1 - keep)


def steps(model: torch.nn.Module, optimiser: Optimiser, numbers: range) -> None:
    for number in numbers:
        optimiser.zero_grad()
        loss_of(model, number).backward()
        optimiser.step()


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_weights_and_average_are_those_of_torchs_optimiser_weight_by_weight(config: OptimiserConfig) -> None:
    plain, model = Plain(config), network()
    names = list(model.state_dict())
    optimiser = make_optimiser(config, model.parameters())
    average = Average(model, config.ema)
    for number in range(12):
        plain.step(number)
        steps(model, optimiser, range(number, number + 1))
        average.update()
    assert list(model.state_dict()) == names == list(average.weights)
    for found, expected in zip(model.parameters(), plain.model.parameters(), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    for found, expected in zip(average.weights.values(), plain.average, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_a_state_taken_back_goes_on_to_the_same_bits(config: OptimiserConfig) -> None:
    model = network()
    optimiser = make_optimiser(config, model.parameters())
    steps(model, optimiser, range(3))
    weights, state = copy.deepcopy(model.state_dict()), copy.deepcopy(optimiser.state_dict())
    steps(model, optimiser, range(3, 6))
    other = network()
    resumed = make_optimiser(config, other.parameters())
    other.load_state_dict(weights)
    resumed.load_state_dict(state)
    steps(other, resumed, range(3, 6))
    assert all(torch.equal(*pair) for pair in zip(model.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_a_checkpoint_with_a_state_for_each_weight_goes_on(config: OptimiserConfig) -> None:
    plain, model = Plain(config), network()
    for number in range(3):
        plain.step(number)
    optimiser = make_optimiser(config, model.parameters())
    model.load_state_dict(plain.model.state_dict())
    optimiser.load_state_dict(copy.deepcopy(plain.optimiser.state_dict()))
    for number in range(3, 8):
        plain.step(number)
    steps(model, optimiser, range(3, 8))
    for found, expected in zip(model.parameters(), plain.model.parameters(), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match="a state for 4 weights, not for 1"):
        make_optimiser(config, [torch.nn.Parameter(torch.zeros(3))]).load_state_dict(plain.optimiser.state_dict())


def test_a_weight_without_a_gradient_stays_as_it_is() -> None:
    model = network()
    optimiser = make_optimiser(CONFIGS[0], model.parameters())
    idle = model[2].bias
    before = idle.detach().clone()
    for _ in range(3):
        optimiser.zero_grad()
        model[0](torch.ones(2, 5)).sum().backward()
        optimiser.step()
    assert torch.equal(idle, before)
    assert not torch.equal(model[0].bias, network()[0].bias)


def test_a_gradient_that_is_no_number_is_not_scaled_away() -> None:
    weight = torch.nn.Parameter(torch.ones(2))
    optimiser = make_optimiser(OptimiserConfig(clip_norm=1.0), [weight])
    weight.grad = torch.tensor([torch.nan, 1.0])
    optimiser.step()
    assert weight.isnan().all()


def test_weights_lie_end_to_end_with_their_values_once_and_for_all() -> None:
    model = network()
    before = copy.deepcopy(model.state_dict())
    whole = end_to_end(list(model.parameters()))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert end_to_end(list(model.parameters())).data_ptr() == whole.data_ptr()
    whole.zero_()
    assert not any(weight.any() for weight in model.parameters())
    assert end_to_end(list(model.parameters())[1:]).numel() == whole.numel() - 45
