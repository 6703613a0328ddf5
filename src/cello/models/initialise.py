"""Draw the first weights from an explicit generator."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from cello.cells.definition import Cell
from cello.models.config import ModelConfig
from cello.models.declared import fill
from cello.models.direction import CellLayer, TorchLayer
from cello.models.encoder import Encoder


def initialise(encoder: Encoder, config: ModelConfig, generator: torch.Generator) -> None:
    """Draw every recurrent weight.

    ``uniform``: U(−1/√H, 1/√H) for all, biases too, as torch and the published study do.
    ``orthogonal``: recurrent matrices orthogonal (Saxe et al. 2014), input matrices Glorot-uniform, biases zero;
    vectors that multiply something (a diagonal peephole) as in ``uniform``: a zero there would cut what they multiply.
    The forget bias (Jozefowicz et al. 2015) is then added to biases of the gate f. What a cell declares of its
    parameters' first values comes before all this.
    """
    with torch.no_grad():
        for layer in encoder.modules():
            if isinstance(layer, (CellLayer, TorchLayer)):
                factors = multiplying(layer.cell) if isinstance(layer, CellLayer) else frozenset()
                for name, weight in (layer.kernel if isinstance(layer, TorchLayer) else layer).named_parameters():
                    if isinstance(layer, CellLayer) and begun(layer, name, weight, generator):
                        continue
                    for part, rows in gates(layer, name, weight):
                        with drawn(rows) as values:
                            draw(values, config, generator, part in factors)
                        if part == "b.f":
                            rows.add_(config.forget_bias)


def begun(layer: CellLayer, name: str, weight: Tensor, generator: torch.Generator | None) -> bool:
    """Whether the cell declares a parameter's first values, which it then has."""
    declared = layer.cell.declaration(layer.equation_names[name])
    if declared is None or not declared.nodes:
        return False
    fill(weight, declared, layer.inputs, layer.hidden, generator)
    return True


@contextmanager
def drawn(weight: Tensor) -> Iterator[Tensor]:
    """A CPU tensor to fill with initial values, so that every device starts with the same weights."""
    values = weight if weight.is_cpu else torch.empty_like(weight, device="cpu")
    yield values
    if values is not weight:
        weight.copy_(values)


def gates(layer: CellLayer | TorchLayer, name: str, weight: Tensor) -> list[tuple[str, Tensor]]:
    """A weight as (name, rows) of its gates: torch stacks the gates of one product in one matrix, a cell does not."""
    if isinstance(layer, CellLayer):
        return [(layer.equation_names[name], weight)]
    letters = {nn.RNN: "h", nn.GRU: "rzn", nn.LSTM: "ifgo"}[type(layer.kernel)]
    # torch has two biases for one gate; the forget bias goes to the first alone
    group = {"weight_ih": "W", "weight_hh": "U", "bias_ih": "b", "bias_hh": "c"}[name.removesuffix("_l0")]
    return [(f"{group}.{gate}", rows) for gate, rows in zip(letters, weight.chunk(len(letters)), strict=True)]


def multiplying(cell: Cell) -> frozenset[str]:
    """The parameters that are factors of a pointwise product, as the p of ``p.i * c``.

    >>> from cello.cells.load import load_cell
    >>> sorted(multiplying(load_cell("lstm-peephole")))
    ['p.f', 'p.i', 'p.o']
    """
    nodes = cell.graph.nodes
    factors = (nodes[arg] for node in nodes if node.op in ("mul", "div") for arg in node.args)
    return frozenset(str(node.name) for node in factors if node.op == "parameter")


def draw(weight: Tensor, config: ModelConfig, generator: torch.Generator, factor: bool) -> None:
    """Fill one gate's matrix, vector or scalar in place."""
    if config.initialisation == "uniform" or factor:
        bound = 1 / math.sqrt(config.hidden)
        weight.uniform_(-bound, bound, generator=generator)
    elif weight.ndim < 2:
        weight.zero_()
    elif weight.shape[0] == weight.shape[1]:
        nn.init.orthogonal_(weight, generator=generator)
    else:
        nn.init.xavier_uniform_(weight, generator=generator)
