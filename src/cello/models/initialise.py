"""Draw the first weights from an explicit generator."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import torch
from torch import Tensor, nn

from cello.cells.definition import Cell
from cello.cells.graph import dependencies, reached
from cello.cells.sizes import share
from cello.models.config import ModelConfig
from cello.models.declared import fill
from cello.models.direction import CellLayer, TorchLayer
from cello.models.encoder import Encoder


def initialise(encoder: Encoder, config: ModelConfig, generator: torch.Generator) -> None:
    """Draw every recurrent weight.

    ``uniform``: U(−1/√H, 1/√H) for all, biases too, as torch and the published study do.
    ``orthogonal``: recurrent matrices orthogonal (Saxe et al. 2014), input matrices Glorot-uniform, biases zero;
    vectors that multiply something (a diagonal peephole) as in ``uniform``: a zero there would cut what they multiply.
    Matrices of heads are drawn head by head, each d × d with d for H. A recurrent matrix that is not square has
    orthogonal columns, or rows where it has more of those.
    The forget bias (Jozefowicz et al. 2015) is then added to biases of the gate f. What a cell declares of its
    parameters' first values comes before all this.
    """
    with torch.no_grad():
        for layer in encoder.modules():
            if isinstance(layer, (CellLayer, TorchLayer)):
                cell = layer.cell if isinstance(layer, CellLayer) else None
                for name, weight in (layer.kernel if isinstance(layer, TorchLayer) else layer).named_parameters():
                    if isinstance(layer, CellLayer) and begun(layer, name, weight, generator):
                        continue
                    for part, rows in gates(layer, name, weight):
                        with drawn(rows) as values:
                            draw(values, part, cell, config, generator)
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


@lru_cache(maxsize=256)
def multiplying(cell: Cell) -> frozenset[str]:
    """The parameters that are factors of a pointwise product, as the p of ``p.i * c``; matrices of heads are not.

    >>> from cello.cells.load import load_cell
    >>> sorted(multiplying(load_cell("lstm-peephole")))
    ['p.f', 'p.i', 'p.o']
    """
    nodes = cell.graph.nodes
    factors = [nodes[arg] for node in nodes if node.op in ("mul", "div") for arg in node.args]
    factors = [nodes[node.args[0]] if node.op in ("broadcast", "rows", "columns") else node for node in factors]
    return frozenset(str(node.name) for node in factors if node.op == "parameter") - of_heads(cell)


@lru_cache(maxsize=256)
def of_heads(cell: Cell) -> frozenset[str]:
    """The parameters that are matrices of heads, (H, H/n): n blocks of d × d, which no product takes as a whole."""
    nodes = cell.graph.nodes
    whole = {k for node in nodes if node.op == "product" for k in reached(nodes, [node.args[0]])}
    parameters = [(k, node) for k, node in enumerate(nodes) if node.op == "parameter" and len(node.shape) == 2]
    return frozenset(str(node.name) for k, node in parameters if k not in whole and share(node.shape[1]) > 1)


def units_of(cell: Cell | None, name: str, hidden: int) -> int:
    """The units that a parameter's first values depend on: H, of a matrix of heads those of one head."""
    return cell.parameters(1, hidden)[name][1] if cell is not None and name in of_heads(cell) else hidden


def draw(weight: Tensor, name: str, cell: Cell | None, config: ModelConfig, generator: torch.Generator) -> None:
    """Fill one gate's matrix, vector or scalar in place."""
    if config.initialisation == "uniform" or (cell is not None and name in multiplying(cell)):
        bound = 1 / math.sqrt(units_of(cell, name, config.hidden))
        weight.uniform_(-bound, bound, generator=generator)
    elif weight.ndim < 2:
        weight.zero_()
    elif cell is not None and name in of_heads(cell):
        for head in torch.split(weight, weight.shape[1]):
            nn.init.orthogonal_(head, generator=generator)
    elif weight.shape[0] == weight.shape[1] or (cell is not None and name in _rectangular(cell)):
        nn.init.orthogonal_(weight, generator=generator)
    else:
        nn.init.xavier_uniform_(weight, generator=generator)


@lru_cache(maxsize=256)
def _rectangular(cell: Cell) -> frozenset[str]:
    """Recurrent matrices that are not square: what they multiply knows a state, as in a projection."""
    nodes, needs = cell.graph.nodes, dependencies(cell.graph.nodes)
    products = [(nodes[node.args[0]], needs[node.args[1]]) for node in nodes if node.op == "product"]
    return frozenset(str(matrix.name) for matrix, need in products if matrix.op == "parameter" and "state" in need)
