"""Recurrent layers: one cell, one direction, ragged clips; and their stacking."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn

from cello.cells.definition import Cell
from cello.cells.noise import with_noise
from cello.compiler.inputs import Lengths, frames_of_clips
from cello.compiler.scan import scan
from cello.models.config import ModelConfig

TORCH_LAYERS: dict[str, type[nn.RNN | nn.GRU | nn.LSTM]] = {
    "torch:rnn": nn.RNN,
    "torch:gru": nn.GRU,
    "torch:lstm": nn.LSTM,
}


def reverse_within(x: Tensor, lengths: Tensor) -> Tensor:
    """Each clip of (B, T, …) read backwards from its own last frame; the padding stays where it is.

    >>> reverse_within(torch.tensor([[[1.0], [2.0], [0.0]]]), torch.tensor([2])).flatten().tolist()
    [2.0, 1.0, 0.0]
    """
    steps = torch.arange(x.shape[1], device=x.device).expand(x.shape[0], -1)
    end = lengths.unsqueeze(1)
    index = torch.where(steps < end, end - 1 - steps, steps)
    return x.gather(1, index.unsqueeze(2).expand_as(x))


def frame_mask(lengths: Tensor, frames: int) -> Tensor:
    """(B, T, 1) booleans: true where a frame belongs to its clip."""
    return (torch.arange(frames, device=lengths.device) < lengths.unsqueeze(1)).unsqueeze(2)


class CellLayer(nn.Module):
    """A cell of the language over time. Weights are parameters named as in its equations (``W.i`` → ``W_i``).

    ``zoneout`` z keeps each unit of every state with probability z at a step, as its expectation once trained;
    ``recurrent_dropout`` hides units of the output from the recurrent matrices, throughout a clip, while training.
    ``backend`` is the one asked for, ``used`` the one that computed the last call.
    """

    def __init__(self, cell: Cell, inputs: int, config: ModelConfig, *, reverse: bool) -> None:
        super().__init__()
        self.cell, self.reverse = cell, reverse
        self.backend: str = config.backend
        self.used: str | None = None
        self.zoneout, self.recurrent_dropout, self.hidden = config.zoneout, config.recurrent_dropout, config.hidden
        # made here, for torch.compile can follow a call that takes one of these but not one that makes it
        self.noisy = {
            (zoned, dropped): with_noise(cell, cell.states if zoned else (), (cell.output,) if dropped else ())
            for zoned in (False, True)
            for dropped in (False, True)
        }
        self.equation_names: dict[str, str] = {}
        for name, shape in cell.parameters(inputs, config.hidden).items():
            attribute = name.replace(".", "_")  # a module's parameters cannot have dots in their names
            while hasattr(self, attribute):  # nor the names of its other attributes
                attribute += "_"
            self.register_parameter(attribute, nn.Parameter(torch.empty(shape)))
            self.equation_names[attribute] = name

    def forward(self, x: Tensor, lengths: Lengths) -> tuple[Tensor, Tensor]:
        """(B, T, D) frames → (B, T, H) outputs, and (B, H) the output that has seen the whole clip."""
        # as attributes, for a parametrization or functional_call puts other tensors than parameters there
        weights = {name: getattr(self, attribute) for attribute, name in self.equation_names.items()}
        cell, masks = self._noise(x)
        result = scan(cell, x, weights, lengths=lengths, reverse=self.reverse, masks=masks, backend=self.backend)
        self.used = result.backend
        return result.outputs, result.state[0]

    def _noise(self, x: Tensor) -> tuple[Cell, dict[str, Tensor]]:
        """The cell with the noise of this call, and its masks, drawn from torch's random numbers."""
        batch, steps, _ = x.shape
        zoned = self.cell.states if self.zoneout else ()
        dropped = (self.cell.output,) if self.recurrent_dropout and self.training else ()
        masks = {}
        for state in zoned:
            share = x.new_full((1, 1, self.hidden), self.zoneout)
            masks[f"zoneout_{state}"] = share.expand(batch, steps, self.hidden).bernoulli() if self.training else share
        for state in dropped:
            keep = 1 - self.recurrent_dropout
            masks[f"dropout_{state}"] = x.new_full((batch, 1, self.hidden), keep).bernoulli() / keep
        return self.noisy[bool(zoned), bool(dropped)], masks


class TorchLayer(nn.Module):
    """PyTorch's own RNN, GRU or LSTM over time, for comparison."""

    def __init__(self, kind: str, inputs: int, hidden: int, *, reverse: bool) -> None:
        super().__init__()
        self.reverse = reverse
        self.backend = self.used = "torch"
        self.kernel = TORCH_LAYERS[kind](inputs, hidden, batch_first=True)

    def forward(self, x: Tensor, lengths: Lengths) -> tuple[Tensor, Tensor]:
        """(B, T, D) frames → (B, T, H) outputs, and (B, H) the output that has seen the whole clip."""
        lengths = frames_of_clips(lengths, x).to(x.device)
        if 0 in x.shape[:2]:  # which torch's layers refuse
            return x.new_zeros(*x.shape[:2], self.kernel.hidden_size), x.new_zeros(len(x), self.kernel.hidden_size)
        out: Tensor = self.kernel(reverse_within(x, lengths) if self.reverse else x)[0]
        end = (lengths - 1).clamp(min=0).view(-1, 1, 1).expand(-1, 1, out.shape[2])
        last = out.gather(1, end).squeeze(1).masked_fill((lengths == 0).unsqueeze(1), 0)
        out = reverse_within(out, lengths) if self.reverse else out
        return out * frame_mask(lengths, out.shape[1]), last


class RecurrentStack(nn.Module):
    """L layers, each in one or both directions, with dropout between them.

    (B, T, D) → (B, T, H or 2H) outputs of the last layer, and (B, H or 2H) each of its directions where it has seen the
    whole clip: the forward half after the clip's last frame, the backward half after its first. Of a clip without
    frames both are zero.
    """

    def __init__(self, config: ModelConfig, inputs: int, cell: Cell | None) -> None:
        super().__init__()
        self.directions = 2 if config.bidirectional else 1
        self.width = config.hidden * self.directions
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(
            nn.ModuleList(
                make_layer(config, cell, inputs if depth == 0 else self.width, reverse=reverse)
                for reverse in (False, True)[: self.directions]
            )
            for depth in range(config.layers)
        )

    def forward(self, x: Tensor, lengths: Lengths) -> tuple[Tensor, Tensor]:
        last = x.new_zeros(0)
        for depth in range(len(self.layers)):
            x = self.dropout(x) if depth else x
            outputs, ends = zip(*(layer(x, lengths) for layer in self.directions_of(depth)), strict=True)
            x, last = (outputs[0], ends[0]) if self.directions == 1 else (torch.cat(outputs, 2), torch.cat(ends, 1))
        return x, last

    def directions_of(self, depth: int) -> list[CellLayer | TorchLayer]:
        """The forward layer and, where there is one, the backward layer at a depth."""
        return list(cast("Iterable[CellLayer | TorchLayer]", self.layers[depth]))

    @property
    def backend(self) -> str:
        """What ran the cells in the last call, as every layer reported it; before any, what is asked for."""
        first = self.directions_of(0)[0]
        return first.used or first.backend


def make_layer(config: ModelConfig, cell: Cell | None, inputs: int, *, reverse: bool) -> CellLayer | TorchLayer:
    """One direction of one layer, of torch's kernels when no cell of the language is given."""
    if cell is not None:
        return CellLayer(cell, inputs, config, reverse=reverse)
    return TorchLayer(config.cell, inputs, config.hidden, reverse=reverse)
