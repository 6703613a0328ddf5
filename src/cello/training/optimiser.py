"""Make the optimiser, the learning-rate schedule and the moving average of weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from cello.training.adam import MOMENTS, Adam
from cello.training.config import OptimiserConfig


def make_optimiser(config: OptimiserConfig, parameters: Iterable[nn.Parameter], *, resident: bool = False) -> Optimiser:
    """The named torch optimiser with torch's own defaults beside the learning rate and weight decay.

    A ``resident`` one lives on the weights' device: its steps ask nothing of the CPU, and read the learning rate there.
    """
    return (ResidentOptimiser if resident else Optimiser)(config, list(parameters))


class Optimiser:
    """Clips gradients and changes weights by them.

    torch's optimiser sees all weights as one tensor, so that the norm of the gradient and a step are a call each, not
    one for each weight. A weight without a gradient stays as it is.
    """

    def __init__(self, config: OptimiserConfig, parameters: Sequence[nn.Parameter]) -> None:
        self.parameters, self.clip_norm = parameters, config.clip_norm
        self._weights = end_to_end(parameters)
        self._inner: Adam | _Torch | _Resident = _named(config, self._weights)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return self._inner.param_groups

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for weight in self.parameters:
            weight.grad = None

    def step(self) -> None:
        """Change the weights by their gradients, which are scaled down first where they are longer than the config's
        ``clip_norm``.
        """
        self.update([weight.grad for weight in self.parameters])

    def update(self, gradients: Sequence[Tensor | None]) -> None:
        """``step`` by gradients that are given, one for each weight."""
        kept = [(w, w.detach().clone()) for w, grad in zip(self.parameters, gradients, strict=True) if grad is None]
        if kept:
            pairs = zip(gradients, self.parameters, strict=True)
            gradients = [torch.zeros_like(weight) if grad is None else grad for grad, weight in pairs]
        gradient = torch.cat([grad.reshape(-1) for grad in gradients if grad is not None])
        if self.clip_norm > 0:
            self._clip(gradient)
        self._inner.step(gradient)
        for weight, value in kept:
            weight.detach().copy_(value)

    def _clip(self, gradient: Tensor) -> None:
        scale = self.clip_norm / (float(torch.linalg.vector_norm(gradient)) + 1e-6)
        if not scale >= 1:  # NaN goes through, as it does in torch
            gradient.mul_(scale)

    def state_dict(self) -> dict[str, Any]:
        return self._inner.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what ``state_dict`` gave, here or in a version that kept a state for each weight.

        Raises:
            ValueError: it is of other weights.
        """
        count = len(state["param_groups"][0]["params"])
        if count not in (1, len(self.parameters)):
            raise ValueError(f"it has a state for {count} weights, not for {len(self.parameters)}")
        self._inner.load_state_dict(state if count == 1 else self._joined(state))

    def _joined(self, state: dict[str, Any]) -> dict[str, Any]:
        """One state for all weights from those of each."""
        each = [state["state"].get(number, {}) for number in range(len(self.parameters))]
        joined: dict[str, Any] = {}
        for key, value in max(each, key=len).items():
            if key == "step" or not isinstance(value, Tensor):
                joined[key] = value
                continue
            pairs = zip(each, self.parameters, strict=True)
            joined[key] = torch.cat([of.get(key, torch.zeros_like(weight)).flatten() for of, weight in pairs]).detach()
        groups = [{**group, "params": [0]} for group in state["param_groups"]]
        return {"state": {0: joined} if joined else {}, "param_groups": groups}


class _Torch:
    """An optimiser of torch on one tensor."""

    def __init__(self, config: OptimiserConfig, weights: Tensor) -> None:
        self._all, rate, decay = nn.Parameter(weights), config.learning_rate, config.weight_decay
        self._inner: torch.optim.Optimizer
        if config.name == "rmsprop":
            self._inner = torch.optim.RMSprop([self._all], lr=rate, weight_decay=decay)
        else:
            self._inner = torch.optim.SGD([self._all], lr=rate, weight_decay=decay, momentum=0.9, fused=True)
        self.state_dict, self.load_state_dict = self._inner.state_dict, self._inner.load_state_dict

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return self._inner.param_groups

    def step(self, gradient: Tensor) -> None:
        self._all.grad = gradient
        self._inner.step()


def _named(config: OptimiserConfig, weights: Tensor) -> Adam | _Torch:
    return Adam(config, weights) if config.name in ("adam", "adamw") else _Torch(config, weights)


class ResidentOptimiser(Optimiser):
    """The same steps without a value that the CPU must know; a CUDA graph can hold one.

    ``rate`` is the learning rate of the next step, a number on the weights' device.
    """

    def __init__(self, config: OptimiserConfig, parameters: Sequence[nn.Parameter]) -> None:
        super().__init__(config, parameters)
        self.rate = torch.tensor(config.learning_rate, device=self._weights.device)
        self._inner: _Resident = _Resident(config, self._weights, self.rate)

    @property
    def weights(self) -> Tensor:
        """(N,) memory of all weights."""
        return self._weights

    @property
    def state(self) -> dict[str, Tensor]:
        """What is kept of former gradients, by name; each (N,) or a number."""
        return self._inner.state

    def move(self, weights: Tensor, state: dict[str, Tensor]) -> None:
        """Have weights and state in other memory from now on, with the values that they have."""
        weights.copy_(self._weights)
        for name, place in state.items():
            place.copy_(self.state[name])
        for weight, part in zip(
            self.parameters, torch.split(weights, [w.numel() for w in self.parameters]), strict=True
        ):
            weight.data = part.view(weight.shape)
        self._weights = self._inner.weights = weights
        self._inner.state = state

    def _clip(self, gradient: Tensor) -> None:
        clip(gradient.unsqueeze(0), self.clip_norm)


def clip(gradients: Tensor, most: float) -> None:
    """Scale down those of the gradients (R, N) that are longer than ``most``."""
    gradients.mul_((most / (torch.linalg.vector_norm(gradients, dim=1, keepdim=True) + 1e-6)).clamp(max=1.0))


class _Resident:
    """An optimiser on one tensor, with the state of torch's at fixed addresses on the tensor's device."""

    def __init__(self, config: OptimiserConfig, weights: Tensor, rate: Tensor) -> None:
        self.name, self.weights, self.rate = config.name, weights, rate
        self.param_groups = _named(config, weights).param_groups
        moments = {"rmsprop": ("square_avg",), "sgd": ("momentum_buffer",)}.get(config.name, MOMENTS)
        self.state = {name: torch.zeros_like(weights) for name in moments}
        if config.name != "sgd":
            self.state["step"] = torch.zeros((), device=weights.device)

    def step(self, gradient: Tensor) -> None:
        state = {name: value.unsqueeze(0) for name, value in self.state.items()}
        change(self.param_groups[0], self.rate, self.weights.unsqueeze(0), gradient.unsqueeze(0), state)

    def state_dict(self) -> dict[str, Any]:
        return {"state": {0: self.state}, "param_groups": [{**self.param_groups[0], "params": [0]}]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what ``state_dict`` gave, here or on the CPU.

        Raises:
            ValueError: it is of other weights.
        """
        found = state["state"].get(0, {})
        for name, own in self.state.items():
            value = torch.as_tensor(found[name], dtype=own.dtype) if found else torch.zeros_like(own)
            if value.shape != own.shape:
                raise ValueError(f"{name} is for {value.numel()} weights, not for {own.numel()}")
            own.copy_(value)
        (group,), own_group = state["param_groups"], self.param_groups[0]
        own_group.update({**group, "params": own_group["params"]})


def change(group: dict[str, Any], rate: Tensor, weights: Tensor, gradients: Tensor, state: dict[str, Tensor]) -> None:
    """One step of R optimisers of one kind on weights (R, N), each by its own gradient and state."""
    if "betas" in group:
        kernel = torch._fused_adamw_ if group["decoupled_weight_decay"] else torch._fused_adam_
        first, second, steps = ([*state[name].unbind(0)] for name in (*MOMENTS, "step"))
        state["step"].add_(1)
        kernel(
            [*weights.unbind(0)], [*gradients.unbind(0)], first, second, [], steps,
            lr=rate, beta1=group["betas"][0], beta2=group["betas"][1], weight_decay=group["weight_decay"],
            eps=group["eps"], amsgrad=group["amsgrad"], maximize=group["maximize"],
        )  # fmt: skip
        return
    if group["weight_decay"]:
        gradients = gradients.add(weights, alpha=group["weight_decay"])
    if "momentum_buffer" in state:
        difference = state["momentum_buffer"].mul_(group["momentum"]).add_(gradients)
    else:
        state["step"].add_(1)
        mean = state["square_avg"].mul_(group["alpha"]).addcmul_(gradients, gradients, value=1 - group["alpha"])
        difference = gradients / mean.sqrt().add_(group["eps"])
    weights.sub_(difference * rate)


def end_to_end(weights: Sequence[Tensor]) -> Tensor:
    """(ΣN,) memory of all weights, which become views of it, each with the values and shape it had.

    Where they are such views already, that is the memory they have.
    """
    first, place = weights[0], weights[0].storage_offset()
    for weight in weights:
        shared = weight.untyped_storage().data_ptr() == first.untyped_storage().data_ptr()
        if not shared or weight.storage_offset() != place or not weight.is_contiguous():
            break
        place += weight.numel()
    else:
        return first.detach().as_strided((place - first.storage_offset(),), (1,))
    whole = torch.cat([weight.detach().reshape(-1) for weight in weights])
    for weight, part in zip(weights, torch.split(whole, [weight.numel() for weight in weights]), strict=True):
        weight.data = part.view(weight.shape)
    return whole


def learning_rate(config: OptimiserConfig, step: int, steps: int) -> float:
    """The rate at one step: a linear warm-up over a share ``warmup`` of all steps, then constant or half a cosine to 0.

    >>> config = OptimiserConfig(learning_rate=1.0, warmup=0.5)
    >>> [round(learning_rate(config, step, 4), 2) for step in range(4)]
    [0.5, 1.0, 1.0, 0.5]
    """
    warm = round(config.warmup * steps)
    if step < warm:
        return config.learning_rate * (step + 1) / warm
    if config.schedule == "constant":
        return config.learning_rate
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


class Average:
    """Exponential moving average of weights, θ̄ ← d·θ̄ + (1 − d)·θ with d = min(decay, (1 + k)/(10 + k)) at update k.

    The ramp of d lets early updates forget the first weights. With decay 0 the average is the weights themselves.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self.updates = decay, 0
        self._shapes = {name: weight.shape for name, weight in model.named_parameters()}
        live = end_to_end([*model.parameters()])
        self._at(live, live if decay == 0 else live.clone())

    def _at(self, live: Tensor, mean: Tensor) -> None:
        self._live, self.mean = live, mean
        parts = torch.split(mean, [shape.numel() for shape in self._shapes.values()])
        pairs = zip(self._shapes.items(), parts, strict=True)
        self.weights: dict[str, Tensor] = {name: part.view(shape) for (name, shape), part in pairs}

    def move(self, live: Tensor, mean: Tensor) -> None:
        """Have the mean in other memory from now on, of weights that have moved; with decay 0 both are the same."""
        if mean is not live:
            mean.copy_(self.mean)
        self._at(live, mean)

    def update(self) -> None:
        """Take in the weights as they are now."""
        if self.decay > 0:
            (share,) = self.shares(1)
            self.take_in(share)
            self.updates += 1

    def shares(self, updates: int) -> list[float]:
        """How much of the weights each of the next updates takes in."""
        counts = range(self.updates + 1, self.updates + updates + 1)
        return [1 - min(self.decay, (1 + count) / (10 + count)) for count in counts]

    def take_in(self, share: float | Tensor) -> None:
        """Move the mean this share of the way to the weights as they are now."""
        self.mean.lerp_(self._live, share)

    def state(self) -> dict[str, Any]:
        return {"updates": self.updates, "weights": self.weights}

    def load(self, state: dict[str, Any]) -> None:
        self.updates = state["updates"]
        for name, weight in state["weights"].items():
            self.weights[name].copy_(weight)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The model with its averaged weights within."""
        own = self._live.clone()
        self._live.copy_(self.mean)
        try:
            yield
        finally:
            self._live.copy_(own)
