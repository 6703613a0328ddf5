"""Run a cell or a PyTorch layer in one direction over clips of different lengths."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from cello.cells.definition import Cell
from cello.cells.fit import check_sizes
from cello.cells.noise import with_noise
from cello.compiler.inputs import Lengths, fixed_tensors, frames_of_clips
from cello.compiler.scan import scan
from cello.errors import ModelError
from cello.models.config import ModelConfig
from cello.models.declared import infinite_states, within_bounds
from cello.models.randomness import bernoulli

TORCH_LAYERS: dict[str, type[nn.RNN | nn.GRU | nn.LSTM]] = {
    "torch:rnn": nn.RNN,
    "torch:gru": nn.GRU,
    "torch:lstm": nn.LSTM,
}


def reverse_within(x: Tensor, lengths: Tensor) -> Tensor:
    """Reverse each clip of (B, T, …) within its own length; padding stays in place.

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

    A parameter that the cell keeps within bounds is the unbounded r of its value (``Learned``). Fixed tensors are
    buffers that no state dict holds: they are computed from the cell, anew after every change of dtype or device.
    ``zoneout`` z keeps each unit of every state with probability z at a step, as its expectation once trained;
    ``recurrent_dropout`` hides units of the output from the recurrent matrices, throughout a clip, while training.
    ``backend`` is the one asked for, ``used`` the one that computed the last call; ``precision``, which may be
    set, is that of products (:func:`~cello.scan`).
    """

    precision = "float32"

    def __init__(
        self,
        cell: Cell,
        inputs: int,
        hidden: int,
        *,
        reverse: bool = False,
        zoneout: float = 0.0,
        recurrent_dropout: float = 0.0,
        backend: str = "auto",
    ) -> None:
        super().__init__()
        check_sizes(cell, inputs, hidden)
        self.cell, self.reverse, self.hidden = cell, reverse, hidden
        self.zoneout, self.recurrent_dropout = zoneout, recurrent_dropout
        self.backend = backend
        self.used: str | None = None
        # made here, for torch.compile can follow a call that takes one of these but not one that makes it
        self.noisy = {
            (zoned, dropped): with_noise(cell, cell.states if zoned else (), (cell.output,) if dropped else ())
            for zoned in (False, True)
            for dropped in (False, True)
        }
        if zoneout and (infinite := infinite_states(cell)):
            raise ModelError(
                f"zoneout={zoneout} cannot keep the state {infinite[0]} of cell {cell.name!r}, which begins at an "
                f"infinite value; use zoneout=0"
            )
        if recurrent_dropout and not _hides(self.noisy[False, True]):
            raise ModelError(
                f"recurrent_dropout={recurrent_dropout} hides nothing of cell {cell.name!r}, for no matrix multiplies "
                f"its output {cell.output}; use recurrent_dropout=0"
            )
        self.inputs = inputs
        self.state_sizes = cell.state_sizes(inputs, hidden)
        self.equation_names: dict[str, str] = {}
        for name, shape in cell.parameters(inputs, hidden).items():
            self.register_parameter(self._attribute(name), nn.Parameter(torch.empty(shape)))
        for name, value in fixed_tensors(cell, inputs, hidden).items():
            self.register_buffer(self._attribute(name), value.to(torch.get_default_dtype()), persistent=False)
        self.bounded = {one.name: one for one in cell.declared if one.bounded}

    def _attribute(self, name: str) -> str:
        """A name for a parameter of the equations among the attributes."""
        attribute = name.replace(".", "_")  # a module's parameters cannot have dots in their names
        while hasattr(self, attribute):  # nor the names of its other attributes
            attribute += "_"
        self.equation_names[attribute] = name
        return attribute

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        exact = fixed_tensors(self.cell, self.inputs, self.hidden)
        with torch.no_grad():
            for attribute, name in self.equation_names.items():
                if name in exact:
                    self.get_buffer(attribute).copy_(exact[name])
        return self

    def forward(
        self, x: Tensor, lengths: Lengths | None = None, state: Sequence[Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """(B, T, D) frames → (B, T, H) outputs, and S states (B, H) after each clip's last step.

        Outputs and states have the sizes that the cell gives its states, where those are not H.
        """
        # as attributes where they are no parameters, for a parametrization puts other tensors there
        own: Mapping[str, Any] = self._parameters
        weights = {n: own[a] if a in own else getattr(self, a) for a, n in self.equation_names.items()}
        if self.bounded:
            weights |= {name: within_bounds(one, weights[name]) for name, one in self.bounded.items()}
        cell, masks = self._noise(x)
        how = {"backend": self.backend, "precision": self.precision}
        result = scan(cell, x, weights, state=state, lengths=lengths, reverse=self.reverse, masks=masks, **how)
        if self.used != result.backend:  # as modules take their time to be set
            self.used = result.backend
        return result.outputs, result.state

    def _noise(self, x: Tensor) -> tuple[Cell, dict[str, Tensor]]:
        """The cell with the noise of this call, and its masks, drawn as ``randomness`` says."""
        if not self.zoneout and not (self.recurrent_dropout and self.training):
            return self.noisy[False, False], {}
        batch, steps, _ = x.shape
        zoned = self.cell.states if self.zoneout else ()
        dropped = (self.cell.output,) if self.recurrent_dropout and self.training else ()
        sizes = dict(zip(self.cell.states, self.state_sizes, strict=True))
        masks = {}
        for state in zoned:
            share = x.new_full((1, 1, *sizes[state]), self.zoneout)
            whole = share.expand(batch, steps, *sizes[state])
            masks[f"zoneout_{state}"] = bernoulli(whole, self.zoneout) if self.training else share
        for state in dropped:
            keep = 1 - self.recurrent_dropout
            masks[f"dropout_{state}"] = bernoulli(x.new_full((batch, 1, *sizes[state]), keep), keep) / keep
        return self.noisy[bool(zoned), bool(dropped)], masks


def _hides(cell: Cell) -> bool:
    """Whether a cell reads a mask of recurrent dropout."""
    return any(node.op == "mask" for node in cell.graph.nodes)


class TorchLayer(nn.Module):
    """PyTorch's own RNN, GRU or LSTM over time, for comparison."""

    def __init__(self, kind: str, inputs: int, hidden: int, *, reverse: bool) -> None:
        super().__init__()
        self.reverse = reverse
        self.backend = self.used = "torch"
        self.kernel = TORCH_LAYERS[kind](inputs, hidden, batch_first=True)

    def forward(self, x: Tensor, lengths: Lengths | None) -> tuple[Tensor, tuple[Tensor, ...]]:
        """(B, T, D) frames → (B, T, H) outputs, and (B, H) the output after each clip's last step."""
        if 0 in x.shape[:2]:  # which torch's layers refuse
            return x.new_zeros(*x.shape[:2], self.kernel.hidden_size), (x.new_zeros(len(x), self.kernel.hidden_size),)
        if lengths is None:
            out: Tensor = self.kernel(x.flip(1) if self.reverse else x)[0]
            return (out.flip(1) if self.reverse else out), (out[:, -1],)
        lengths = frames_of_clips(lengths, x).to(x.device)
        out = self.kernel(reverse_within(x, lengths) if self.reverse else x)[0]
        end = (lengths - 1).clamp(min=0).view(-1, 1, 1).expand(-1, 1, out.shape[2])
        last = out.gather(1, end).squeeze(1).masked_fill((lengths == 0).unsqueeze(1), 0)
        out = reverse_within(out, lengths) if self.reverse else out
        return out * frame_mask(lengths, out.shape[1]), (last,)


def make_direction(
    config: ModelConfig,
    cell: Cell | None,
    inputs: int,
    *,
    reverse: bool,
    backend: str = "auto",
    precision: str = "float32",
) -> CellLayer | TorchLayer:
    """Make one direction of one layer; of PyTorch's layers if no cell is given.

    Raises:
        ModelError: one of PyTorch's layers in another precision than float32, which it computes in.
    """
    if cell is not None:
        layer = CellLayer(
            cell,
            inputs,
            config.hidden,
            reverse=reverse,
            zoneout=config.zoneout,
            recurrent_dropout=config.recurrent_dropout,
            backend=config.backend if backend == "auto" else backend,
        )
        layer.precision = precision
        return layer
    if precision != "float32":
        raise ModelError(
            f"model.cell={config.cell} has no products in {precision}: PyTorch computes it in float32 on the CPU. "
            "Leave execution.precision out, or choose a cell"
        )
    return TorchLayer(config.cell, inputs, config.hidden, reverse=reverse)


def run_layers(
    layers: Iterable[nn.ModuleList],
    x: Tensor,
    lengths: Lengths | None,
    dropout: nn.Module,
    states: Sequence[Sequence[Tensor]] | None = None,
) -> tuple[Tensor, list[tuple[Tensor, ...]]]:
    """Run layers on top of each other, with dropout between them.

    Args:
        layers: each a list of its directions, forward before backward.
        states: first states of every direction of every layer in this order; zeros if not given.

    Returns:
        The last layer's outputs (B, T, H), both directions' side by side, and the last states of every direction of
        every layer.
    """
    ends: list[tuple[Tensor, ...]] = []
    for depth, directions in enumerate(layers):
        x = dropout(x) if depth else x
        outputs = []
        for direction in directions:
            first = (x, lengths) if states is None else (x, lengths, states[len(ends)])
            output, end = direction(*first)
            outputs.append(output)
            ends.append(end)
        x = outputs[0] if len(outputs) == 1 else torch.cat(outputs, 2)
    return x, ends
