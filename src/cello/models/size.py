"""Count the parameters and FLOPs of a classifier from its config, without building it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from cello.cells.definition import Cell
from cello.cells.graph import MULTIPLYING
from cello.cells.sizes import size
from cello.cells.summed import summed
from cello.errors import ModelError
from cello.models.config import ModelConfig, cell_of
from cello.models.frames import check_fit, frame_size

MOST_ELEMENTS = 2**31
"""Elements that a model's matrices may have: with gradients and an optimiser's two moments they take 34 GB."""
MOST_OF_ONE_SECOND = 2**32
"""Elements that the matrices among a model's states may have over one second of sound: 34 GB with their gradients."""
TORCH_GATES = {"torch:rnn": 1, "torch:gru": 3, "torch:lstm": 4}


@dataclass(frozen=True, kw_only=True)
class ModelSize:
    """The counts of a model of ``dimensions`` D for any hidden size H, everything else as in its config.

    ``cell`` is None for torch's own layers. D are the features, of which a cell may take frames of several parts.
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
        width = self.width(hidden)
        recurrent = sum(times * self._layer_parameters(inputs, hidden) for inputs, times in self._inputs(hidden))
        pooling = width + 1 if self.config.pooling == "attention" else 0
        return recurrent + pooling + (width + 1) * classes

    def flops(self, hidden: int | None = None) -> int:
        """FLOPs of the recurrent layers for one frame: 2 for each matrix element; pointwise operations are not counted.

        Sums over the rows or columns of matrices of heads are products with them, and count as such; sums over units,
        as in layer norm, do not. With ``frame_stacking`` frames a step, a frame's share of a step.

        >>> ModelSize.of(ModelConfig(cell="rnn", hidden=100), dimensions=10).flops()
        22000
        """
        hidden = hidden or self.config.hidden
        flops = sum(times * self._layer_flops(inputs, hidden) for inputs, times in self._inputs(hidden))
        return flops // self.config.frame_stacking

    def matrix_elements(self, hidden: int | None = None) -> int:
        """Elements of the states that are matrices, of all layers: training keeps as many for each frame of each clip.

        >>> ModelSize.of(ModelConfig(cell="retention", hidden=64), dimensions=39).matrix_elements()
        1024
        """
        hidden = hidden or self.config.hidden
        if self.cell is None:
            return 0
        return sum(
            times * sum(prod(sizes) for sizes in self.cell.state_sizes(inputs, hidden) if len(sizes) == 2)
            for inputs, times in self._inputs(hidden)
        )

    def width(self, hidden: int | None = None) -> int:
        """W, the elements of what is pooled: both directions' outputs."""
        hidden = hidden or self.config.hidden
        *_, (last, _) = self._inputs(hidden)
        return self._outputs(last, hidden)

    @property
    def _directions(self) -> int:
        return 2 if self.config.bidirectional else 1

    def _inputs(self, hidden: int) -> Iterator[tuple[int, int]]:
        """The input elements of a layer at each step, and how many such layers there are, each direction counted."""
        inputs, left = frame_size(self.cell, self.dimensions) * self.config.frame_stacking, self.config.layers
        while left:
            outputs = self._outputs(inputs, hidden)
            alike = left if outputs == inputs else 1  # all layers after it have the same sizes
            yield inputs, alike * self._directions
            inputs, left = outputs, left - alike

    def _outputs(self, inputs: int, hidden: int) -> int:
        """The elements that all directions of a layer give at each step."""
        return self._directions * (hidden if self.cell is None else self.cell.output_size(inputs, hidden))

    def _layer_parameters(self, inputs: int, hidden: int) -> int:
        if self.cell is not None:
            return self.cell.parameter_count(inputs, hidden)
        return TORCH_GATES[self.config.cell] * hidden * (inputs + hidden + 2)  # torch has two biases a gate

    def _layer_flops(self, inputs: int, hidden: int) -> int:
        if self.cell is None:
            return 2 * TORCH_GATES[self.config.cell] * hidden * (inputs + hidden)
        cell = summed(self.cell)
        nodes = cell.graph.nodes
        sums = [nodes[node.args[0]].shape for node in nodes if node.op in ("row_sum", "column_sum")]
        sums += [(*nodes[node.args[0]].shape, node.shape[1]) for node in nodes if node.op in MULTIPLYING]
        return 2 * sum(prod(size(each, inputs, hidden) for each in shape) for shape in (*cell.products, *sums))


def check_size(config: ModelConfig, dimensions: int) -> None:
    """Refuse a model too large for any machine, before anything is built.

    Raises:
        ModelError: how many elements its matrices would have with one gate, and how much memory those would take.
    """
    hidden, directions = config.hidden, 2 if config.bidirectional else 1
    upper = (config.layers - 1) * hidden * (directions + 1)
    elements = directions * hidden * (dimensions * config.frame_stacking + hidden + upper)
    _check_elements(config, elements)


def check_cell(config: ModelConfig, dimensions: int, steps: int = 1) -> None:
    """Refuse a model whose sizes its cell cannot have, or whose cell makes it too large.

    ``steps`` are those of one second of sound, at each of which training keeps the matrices among the states.

    Raises:
        ModelError: as ``check_fit`` and ``check_size``.
        CellError: there is no such cell.
    """
    size = ModelSize.of(config, dimensions)
    check_fit(config, size.cell, dimensions)
    _check_elements(config, size.parameters(1))
    elements = steps * size.matrix_elements()
    if elements > MOST_OF_ONE_SECOND:
        raise ModelError(
            f"model.hidden={config.hidden} makes states of cell {config.cell!r} matrices of {elements:,} elements in a "
            f"second of sound, {8 * elements / 1e9:,.0f} GB of memory to train on it; use a smaller one"
        )


def _check_elements(config: ModelConfig, elements: int) -> None:
    if elements > MOST_ELEMENTS:
        raise ModelError(
            f"model.hidden={config.hidden}, layers={config.layers}, frame_stacking={config.frame_stacking} make "
            f"matrices of at least {elements:,} elements, {16 * elements / 1e9:,.0f} GB of memory to train; use "
            f"smaller ones"
        )
