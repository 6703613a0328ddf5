"""What a classifier weighs, counted from its config: parameters and operations, without building it. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cello.cells.definition import Cell
from cello.models.config import ModelConfig, cell_of

TORCH_GATES = {"torch:rnn": 1, "torch:gru": 3, "torch:lstm": 4}


@dataclass(frozen=True, kw_only=True)
class ModelSize:
    """The counts of a model of ``dimensions`` D for any hidden size H, everything else as in its config.

    ``cell`` is None for torch's own layers.
    """

    config: ModelConfig
    dimensions: int
    cell: Cell | None

    @classmethod
    def of(cls, config: ModelConfig, dimensions: int) -> ModelSize:
        """The size of a config's model.

        Raises:
            CellError, ModelError: there is no such cell.
        """
        return cls(config=config, dimensions=dimensions, cell=cell_of(config))

    def parameters(self, classes: int, hidden: int | None = None) -> int:
        """Numbers learned for C classes in recurrent layers, read-out and head; H is the config's unless given.

        >>> ModelSize.of(ModelConfig(cell="lstm", hidden=64), dimensions=39).parameters(classes=12)
        27404
        """
        hidden = hidden or self.config.hidden
        width = hidden * self._directions
        recurrent = sum(self._layer_parameters(inputs, hidden) for inputs in self._inputs(hidden))
        readout = width + 1 if self.config.readout == "attention" else 0
        return recurrent + readout + (width + 1) * classes

    def flops(self, hidden: int | None = None) -> int:
        """Operations of the recurrent layers for one frame: 2 for each number of a matrix, pointwise ones not counted.

        With ``stack`` frames a step, a frame's share of a step.

        >>> ModelSize.of(ModelConfig(cell="rnn", hidden=100), dimensions=10).flops()
        22000
        """
        hidden = hidden or self.config.hidden
        return sum(self._layer_flops(inputs, hidden) for inputs in self._inputs(hidden)) // self.config.stack

    @property
    def _directions(self) -> int:
        return 2 if self.config.bidirectional else 1

    def _inputs(self, hidden: int) -> Iterator[int]:
        """How many numbers a step brings to each layer, in each direction."""
        for depth in range(self.config.layers):
            for _ in range(self._directions):
                yield hidden * self._directions if depth else self.dimensions * self.config.stack

    def _layer_parameters(self, inputs: int, hidden: int) -> int:
        if self.cell is not None:
            return self.cell.parameter_count(inputs, hidden)
        return TORCH_GATES[self.config.cell] * hidden * (inputs + hidden + 2)  # torch has two biases a gate

    def _layer_flops(self, inputs: int, hidden: int) -> int:
        if self.cell is None:
            return 2 * TORCH_GATES[self.config.cell] * hidden * (inputs + hidden)
        return 2 * hidden * sum(inputs if letter == "D" else hidden for letter in self.cell.products)
