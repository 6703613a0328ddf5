"""Encode frames by recurrent layers in one or both directions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn

from cello.cells.definition import Cell
from cello.compiler.inputs import Lengths
from cello.models.config import ModelConfig
from cello.models.direction import CellLayer, TorchLayer, make_direction, run_layers
from cello.models.randomness import Dropout


class Encoder(nn.Module):
    """L layers, each in one or both directions, with dropout between them.

    (B, T, D) → (B, T, W) outputs of the last layer, and (B, W) each of its directions where it has seen the whole clip:
    the forward half after the clip's last frame, the backward half after its first. Of a clip without frames both are
    zero. W is H or 2H; of a cell whose output has another size than H, that size or twice it.
    """

    def __init__(
        self, config: ModelConfig, inputs: int, cell: Cell | None, backend: str = "auto", precision: str = "float32"
    ) -> None:
        super().__init__()
        self.directions = 2 if config.bidirectional else 1
        self.dropout = Dropout(config.dropout)
        layers = []
        for _ in range(config.layers):
            layers.append(
                nn.ModuleList(
                    make_direction(config, cell, inputs, reverse=reverse, backend=backend, precision=precision)
                    for reverse in (False, True)[: self.directions]
                )
            )
            inputs = self.directions * (config.hidden if cell is None else cell.output_size(inputs, config.hidden))
        self.width = inputs
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor, lengths: Lengths | None) -> tuple[Tensor, Tensor]:
        layers = cast("Iterable[nn.ModuleList]", self.layers)
        outputs, ends = run_layers(layers, x, lengths, self.dropout)
        last = [end[0] for end in ends[-self.directions :]]
        return outputs, last[0] if self.directions == 1 else torch.cat(last, 1)

    def directions_of(self, depth: int) -> list[CellLayer | TorchLayer]:
        """The forward layer and, where there is one, the backward layer at a depth."""
        return list(cast("Iterable[CellLayer | TorchLayer]", self.layers[depth]))

    @property
    def backend(self) -> str:
        """The back end that computed the last call; before any call, the one asked for."""
        first = self.directions_of(0)[0]
        return first.used or first.backend
