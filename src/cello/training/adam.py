"""Adam and AdamW on one tensor, by torch's kernel."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cello.training.config import OptimiserConfig

MOMENTS = ("exp_avg", "exp_avg_sq")


class Adam:
    """What ``torch.optim.AdamW`` or ``Adam`` with ``fused=True`` does, to the same bits, with the same state.

    A step of torch's class takes six times longer than the kernel alone, and the first object of any of its classes
    loads torch's compiler, for which every process that trains would wait a second.
    """

    def __init__(self, config: OptimiserConfig, weights: Tensor) -> None:
        decoupled = config.name == "adamw"
        self.weights = weights
        self.kernel = torch._fused_adamw_ if decoupled else torch._fused_adam_
        self.state: dict[str, Tensor] = {}
        self.param_groups: list[dict[str, Any]] = [
            {
                "lr": config.learning_rate, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": config.weight_decay,
                "amsgrad": False, "maximize": False, "foreach": None, "capturable": False, "differentiable": False,
                "fused": True, "decoupled_weight_decay": decoupled, "params": [0],
            }
        ]  # fmt: skip

    def step(self, gradient: Tensor) -> None:
        """Change the weights by their gradient."""
        if not self.state:
            self.state = {"step": torch.zeros(()), **{name: torch.zeros_like(self.weights) for name in MOMENTS}}
        group = self.param_groups[0]
        first, second = ([self.state[name]] for name in MOMENTS)
        beta1, beta2 = group["betas"]
        self.kernel(
            [self.weights], [gradient], first, second, [], [self.state["step"].add_(1)],
            lr=group["lr"], beta1=beta1, beta2=beta2, weight_decay=group["weight_decay"], eps=group["eps"],
            amsgrad=group["amsgrad"], maximize=group["maximize"],
        )  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        return {"state": {0: self.state} if self.state else {}, "param_groups": self.param_groups}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what ``state_dict`` gave, or torch's own object.

        Raises:
            ValueError: it is of other weights.
        """
        found = {name: torch.as_tensor(value, dtype=torch.float32) for name, value in state["state"].get(0, {}).items()}
        for name in MOMENTS if found else ():
            if found[name].shape != self.weights.shape:
                raise ValueError(f"{name} is for {found[name].numel()} weights, not for {self.weights.numel()}")
        self.state = {name: found[name] for name in ("step", *MOMENTS)} if found else {}
        (group,) = state["param_groups"]
        self.param_groups[0].update({**group, "params": [0]})
