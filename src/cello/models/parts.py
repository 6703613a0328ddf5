"""Hold what a trained classifier computes with as arrays and graphs, for every form it takes outside torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cello.cells.definition import Cell
from cello.cells.fold import fold, folded_weights
from cello.cells.graph import GraphBuilder
from cello.cells.load import load_cell
from cello.cells.noise import with_noise
from cello.cells.summed import summed
from cello.cells.values import FIRST
from cello.errors import ModelError
from cello.models.config import ModelConfig, cell_of
from cello.models.frames import VALUE, frame_size, part_sizes

Array = NDArray[np.float32]

SAME_EQUATIONS = {"torch:rnn": "rnn", "torch:gru": "gru", "torch:lstm": "lstm"}
"""The zoo's cell of each of PyTorch's layers."""
_GATES = {"rnn": ("",), "gru": (".r", ".z", ".n"), "lstm": (".i", ".f", ".g", ".o")}
"""The gates of these cells in the order in which PyTorch stacks their matrices."""


@dataclass(frozen=True, eq=False)
class Direction:
    """One direction of one layer: ``cell`` as it computes once trained, ``weights`` by the names of its equations.

    Weights are what the equations see, within their bounds; fixed tensors are among them, and matrices that the cell
    computes of its parameters. ``first`` are the values at which states begin, where they do not begin at zero.
    """

    cell: Cell
    weights: dict[str, Array]
    reverse: bool
    first: Mapping[str, Array] = field(default_factory=dict)

    def first_states(self, inputs: int, hidden: int) -> tuple[Array, ...]:
        """The value at which each state begins, of the state's shape for D = ``inputs`` and H = ``hidden``."""
        sizes = self.cell.state_sizes(inputs, hidden)
        return tuple(
            self.first[state] if state in self.first else np.zeros(shape, dtype=np.float32)
            for state, shape in zip(self.cell.states, sizes, strict=True)
        )


@dataclass(frozen=True, eq=False)
class ModelParts:
    """A trained classifier: frames (T, D) → standardised → ``layers`` → ``pooling`` over time → ``head`` → (C,) scores.

    Attributes:
        mean: (D,) subtracted from each frame
        deviation: (D,) that each frame is divided by
        frame_stacking: frames stacked into one before the first layer
        layers: L layers, each its directions, the forward one first
        pooling: how (T, W) outputs become (W,); W is the output's size, H for most cells, of each direction together
        score: (W,) weights and a number, of attention's scores; None for other poolings
        head: (C, W) weights and (C,) bias
        units: H, where it is not the output's size
        received: the parts of a frame and their elements, of a cell that names them; features are its value, and what
            ``mean`` and ``deviation`` have of mask and gap changes nothing
    """

    mean: Array
    deviation: Array
    frame_stacking: int
    layers: tuple[tuple[Direction, ...], ...]
    pooling: Literal["last", "mean", "attention"]
    score: tuple[Array, float] | None
    head: tuple[Array, Array]
    units: int = 0
    received: tuple[tuple[str, int], ...] = ()

    @property
    def hidden(self) -> int:
        """H, the units of a direction."""
        return self.units or int(self.head[0].shape[1]) // len(self.layers[0])

    def inputs(self, depth: int) -> int:
        """D of the cells of a layer: the elements of a step, or of the outputs of the layer before it."""
        if depth == 0:
            return self.dimensions * self.frame_stacking
        return self.output_size(depth - 1) * len(self.layers[depth - 1])

    def output_size(self, depth: int = -1) -> int:
        """The elements of the output of a direction of a layer, of the last one where none is given."""
        depth %= len(self.layers)
        return self.layers[depth][0].cell.output_size(self.inputs(depth), self.hidden)

    @property
    def dimensions(self) -> int:
        """D, the elements of a frame."""
        return len(self.mean)

    @property
    def causal(self) -> bool:
        """Whether no layer reads from the end of the clip."""
        return not any(direction.reverse for layer in self.layers for direction in layer)


def parts_of(config: ModelConfig, weights: Mapping[str, Array]) -> ModelParts:
    """Take a model's config and its stored weights apart.

    Raises:
        ModelError: the weights are not those of such a model.
    """
    weights = {_renamed(name): value for name, value in weights.items()}
    received = part_sizes(cell_of(config), len(weights.get("mean", ())) or 1)
    directions = 2 if config.bidirectional else 1
    try:
        layers = tuple(
            tuple(
                _direction(
                    config,
                    _below(weights, f"encoder.layers.{depth}.{number}."),
                    _inputs(config, len(weights["mean"]), depth),
                    reverse=bool(number),
                )
                for number in range(directions)
            )
            for depth in range(config.layers)
        )
        score = None
        if config.pooling == "attention":
            score = weights["pooling.score.weight"].reshape(-1), float(weights["pooling.score.bias"].reshape(()))
        return ModelParts(
            mean=_of_parts(weights["mean"], received, 0.0),
            deviation=_of_parts(weights["deviation"], received, 1.0),
            frame_stacking=config.frame_stacking,
            layers=layers,
            pooling=config.pooling,
            score=score,
            head=(weights["head.weight"], weights["head.bias"]),
            units=config.hidden,
            received=received,
        )
    except KeyError as error:
        raise ModelError(f"the stored weights have no {error}, which a model of {config.cell!r} needs") from error


def _inputs(config: ModelConfig, dimensions: int, depth: int) -> int:
    """D of the cells of a layer."""
    cell = cell_of(config)
    found = frame_size(cell, dimensions) * config.frame_stacking
    for _ in range(depth):
        width = config.hidden if cell is None else cell.output_size(found, config.hidden)
        found = width * (2 if config.bidirectional else 1)
    return found


def _of_parts(values: Array, received: tuple[tuple[str, int], ...], other: float) -> Array:
    """What is said of features, for frames of several parts; ``other`` for those that are no features."""
    if not received:
        return values
    whole = [values if name == VALUE else np.full(elements, other, np.float32) for name, elements in received]
    return np.concatenate(whole, dtype=np.float32)


def _renamed(name: str) -> str:
    """What a weight is called today that was stored when the encoder was called ``stack``, the pooling ``readout``."""
    for former, today in (("stack.", "encoder."), ("readout.", "pooling.")):
        if name.startswith(former):
            return today + name.removeprefix(former)
    return name


def _below(weights: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


def _direction(config: ModelConfig, own: Mapping[str, Array], inputs: int, *, reverse: bool) -> Direction:
    cell = cell_of(config)
    if cell is None:
        same = load_cell(SAME_EQUATIONS[config.cell])
        return Direction(same, _unstacked(same.name, own), reverse)
    found: dict[str, Array] = {}
    taken: set[str] = set()
    for name in cell.parameters(1, 1):
        first = name.replace(".", "_")  # as models.direction names a layer's parameters
        spellings = (first + "_" * count for count in range(9))
        attribute = next((each for each in spellings if each in own and each not in taken), first)
        taken.add(attribute)
        found[name] = own[attribute]
    if not cell.declared and not fold(cell)[1]:
        return Direction(_expected(cell, config.zoneout), found, reverse)
    return _computed(_expected(cell, config.zoneout), found, inputs, config.hidden, reverse)


def _computed(cell: Cell, own: Mapping[str, Array], inputs: int, hidden: int, reverse: bool) -> Direction:
    """A direction of a cell with declared values or computed matrices, as one without them, once trained."""
    weights: dict[str, Array] = {}
    for name, value in own.items():
        bounds = cell.declaration(name)
        bounded = bounds is not None and bounds.bounded
        weights[name] = bounds.bounded_value(value).astype(np.float32) if bounds and bounded else value
    fixed = cell.fixed_values(inputs, hidden)
    weights |= {name: value.astype(np.float32) for name, value in fixed.items()}
    first: dict[str, Array] = {}
    for state in cell.states:
        begins = cell.first_value(state, hidden, inputs)
        if state + FIRST in weights:
            first[state] = weights.pop(state + FIRST)
        elif begins is not None:
            first[state] = begins.astype(np.float32)
    cell = summed(cell)
    return Direction(replace(fold(cell)[0], declared=()), folded_weights(cell, weights), reverse, first)


def _unstacked(name: str, own: Mapping[str, Array]) -> dict[str, Array]:
    """The weights of PyTorch's layer as those of the cell of the same equations."""
    gates = _GATES[name]
    stacked = {"W": "kernel.weight_ih_l0", "U": "kernel.weight_hh_l0", "b": "kernel.bias_ih_l0"}
    parts = {group: np.split(own[key], len(gates)) for group, key in stacked.items()}
    found = {group + gate: part for group, each in parts.items() for gate, part in zip(gates, each, strict=True)}
    second = dict(zip(gates, np.split(own["kernel.bias_hh_l0"], len(gates)), strict=True))
    for gate, bias in second.items():
        if f"c{gate}" in load_cell(name).parameters(1, 1):
            found[f"c{gate}"] = bias
        else:
            found[f"b{gate}"] = found[f"b{gate}"] + bias
    return found


def _expected(cell: Cell, zoneout: float) -> Cell:
    """The cell with zoneout as its expectation: each state keeps this share of its old value."""
    if not zoneout:
        return cell
    noisy = with_noise(cell, cell.states)
    builder, place = GraphBuilder(), {}
    for k, node in enumerate(noisy.graph.nodes):
        if node.op == "mask":
            place[k] = builder.write("constant", value=float(np.float32(zoneout)))
        else:
            args = tuple(place[arg] for arg in node.args)
            single = args and all(builder.nodes[arg].shape == () for arg in args)
            place[k] = builder.add(replace(node, args=args, shape=() if single else node.shape))
    outputs = [place[output] for output in noisy.graph.outputs]
    return replace(cell, graph=builder.graph(noisy.graph.states, outputs))
