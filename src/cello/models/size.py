"""Count the parameters and FLOPs of a classifier from its config, without building it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cello.cells.definition import Cell
from cello.cells.sizes import size
from cello.errors import ModelError
from cello.models.config import ModelConfig, cell_of

MOST_ELEMENTS = 2**31
"""Elements that a model's matrices may have: with gradients and an optimiser's two moments they take 34 GB."""
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
        """Learned parameters for C classes in recurrent layers, pooling and head; H is the config's unless given.

        >>> ModelSize.of(ModelConfig(cell="lstm", hidden=64), dimensions=39).parameters(classes=12)
        27469
        """
        hidden = hidden or self.config.hidden
        width = hidden * self._directions
        recurrent = sum(times * self._layer_parameters(inputs, hidden) for inputs, times in self._inputs(hidden))
        pooling = width + 1 if self.config.pooling == "attention" else 0
        return recurrent + pooling + (width + 1) * classes

    def flops(self, hidden: int | None = None) -> int:
        """FLOPs of the recurrent layers for one frame: 2 for each matrix element; pointwise operations are not counted.

        With ``frame_stacking`` frames a step, a frame's share of a step.

        >>> ModelSize.of(ModelConfig(cell="rnn", hidden=100), dimensions=10).flops()
        22000
        """
        hidden = hidden or self.config.hidden
        flops = sum(times * self._layer_flops(inputs, hidden) for inputs, times in self._inputs(hidden))
        return flops // self.config.frame_stacking

    @property
    def _directions(self) -> int:
        return 2 if self.config.bidirectional else 1

    def _inputs(self, hidden: int) -> Iterator[tuple[int, int]]:
        """The input elements of a layer at each step, and how many such layers there are, each direction counted."""
        yield self.dimensions * self.config.frame_stacking, self._directions
        outputs = self._outputs(hidden) * self._directions
        yield outputs, (self.config.layers - 1) * self._directions

    def _outputs(self, hidden: int) -> int:
        """The elements that a direction of a layer gives at each step."""
        return hidden if self.cell is None else self.cell.output_size(self.dimensions, hidden)

    def _layer_parameters(self, inputs: int, hidden: int) -> int:
        if self.cell is not None:
            return self.cell.parameter_count(inputs, hidden)
        return TORCH_GATES[self.config.cell] * hidden * (inputs + hidden + 2)  # torch has two biases a gate

    def _layer_flops(self, inputs: int, hidden: int) -> int:
        if self.cell is None:
            return 2 * TORCH_GATES[self.config.cell] * hidden * (inputs + hidden)
        return 2 * sum(size(a, inputs, hidden) * size(b, inputs, hidden) for a, b in self.cell.products)


def check_size(config: ModelConfig, dimensions: int) -> None:
    """Refuse a model too large for any machine, before anything is built.

    Raises:
        ModelError: how many elements its matrices would have with one gate, and how much memory those would take.
    """
    hidden, directions = config.hidden, 2 if config.bidirectional else 1
    upper = (config.layers - 1) * hidden * (directions + 1)
    elements = directions * hidden * (dimensions * config.frame_stacking + hidden + upper)
    if elements > MOST_ELEMENTS:
        raise ModelError(
            f"model.hidden={hidden}, layers={config.layers}, frame_stacking={config.frame_stacking} make matrices "
            f"of at least {elements:,} elements, {16 * elements / 1e9:,.0f} GB of memory to train; use smaller ones"
        )
