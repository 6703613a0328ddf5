"""Find torch's layer with the same equations as a cell, and load the cell's weights into it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial

import torch
from torch import Tensor, nn

from cello.cells.definition import Cell
from cello.cells.load import zoo


@dataclass(frozen=True)
class Peer:
    """A layer of torch: ``gates`` in the order in which it stacks their matrices, as the zoo's cell calls them."""

    name: str
    layer: Callable[..., nn.RNNBase]
    gates: tuple[str, ...]

    def loaded(self, weights: Mapping[str, Tensor]) -> nn.RNNBase:
        """The layer with a cell's weights; the second bias that torch always has is zero where the cell has one."""

        def stacked(group: str) -> Tensor:
            return torch.cat([weights[f"{group}{gate}"].detach() for gate in self.gates])

        frame, state, bias = stacked("W"), stacked("U"), stacked("b")
        second = stacked("c") if any(name.startswith("c") for name in weights) else torch.zeros_like(bias)
        inputs, hidden = frame.shape[1], state.shape[1]
        layer = self.layer(inputs, hidden, batch_first=True, dtype=frame.dtype)
        values = {"weight_ih_l0": frame, "weight_hh_l0": state, "bias_ih_l0": bias, "bias_hh_l0": second}
        layer.load_state_dict(values)
        return layer


PEERS = {
    "rnn": Peer("nn.RNN", nn.RNN, ("",)),
    "rnn-relu": Peer("nn.RNN", partial(nn.RNN, nonlinearity="relu"), ("",)),
    "lstm": Peer("nn.LSTM", nn.LSTM, (".i", ".f", ".g", ".o")),
    "gru": Peer("nn.GRU", nn.GRU, (".r", ".z", ".n")),
}
"""By the name of the zoo's cell."""


def peer(cell: Cell) -> Peer | None:
    """torch's layer with the equations of a cell of any name; None: the time of any other layer would not compare."""
    return _by_equations().get(cell.graph.fingerprint())


@cache
def _by_equations() -> dict[str, Peer]:
    return {zoo()[name].graph.fingerprint(): peer for name, peer in PEERS.items()}
