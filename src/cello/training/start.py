"""Start training from the weights of another run: its layers whole, its head label by label."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cello.errors import ModelError, TrainingError
from cello.models.classifier import Classifier
from cello.training.config import RunConfig
from cello.training.result import StartRecord


@dataclass(frozen=True, eq=False)
class InitialWeights:
    """The weights of a run by their names, its labels in the order of the rows of its head, and its id if known."""

    weights: Mapping[str, NDArray[np.float32]]
    labels: tuple[str, ...]
    run: str = ""

    @property
    def checksum(self) -> str:
        """SHA-256 (hexadecimal) over names, shapes, values and labels: part of the identity of what starts from it."""
        digest = hashlib.sha256(repr(self.labels).encode())
        for name in sorted(self.weights):
            value = np.ascontiguousarray(self.weights[name], dtype="<f4")
            digest.update(repr((name, value.shape)).encode() + value.tobytes())
        return digest.hexdigest()

    def record(self, labels: Sequence[str]) -> StartRecord:
        """Which rows of the head of a model of these labels begin with these weights."""
        return StartRecord(
            run=self.run,
            kept=tuple(label for label in labels if label in self.labels),
            drawn=tuple(label for label in labels if label not in self.labels),
            left=tuple(label for label in self.labels if label not in labels),
        )

    def into(self, model: Classifier, labels: Sequence[str]) -> None:
        """Give a model these weights; the rows of its head for labels that are new here stay as they were drawn.

        Raises:
            ModelError: the model has weights of other names or shapes.
        """
        weight, bias = model.head.weight.detach().clone(), model.head.bias.detach().clone()
        before = self._tensor("head.weight"), self._tensor("head.bias")
        if before[0].shape[1] != weight.shape[1]:
            raise ModelError(
                f"the head of the weights to start from has {before[0].shape[1]} inputs, not {weight.shape[1]}"
            )
        for row, label in enumerate(labels):
            if label in self.labels:
                weight[row], bias[row] = (part[self.labels.index(label)] for part in before)
        state = {name: self._tensor(name) for name in self.weights} | {"head.weight": weight, "head.bias": bias}
        try:
            model.load_state_dict(state)
        except RuntimeError as error:
            fault = str(error).splitlines()[-1].strip()
            raise ModelError(f"the weights to start from are not those of such a model: {fault}") from error

    def _tensor(self, name: str) -> Tensor:
        return torch.from_numpy(np.array(self.weights[name]))


def check_start(config: RunConfig, start: InitialWeights | None) -> None:
    """Hold the weights given to those that a run starts from.

    Raises:
        TrainingError: they are others, or missing.
    """
    given = "" if start is None else start.checksum
    if given != config.initial_weights:
        asked, got = (f"weights {one[:12]}…" if one else "random weights" for one in (config.initial_weights, given))
        raise TrainingError(
            f"run {config.id} starts from {asked}, but was given {got}; give the run that it starts from"
        )
