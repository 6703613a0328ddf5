"""Use any cell in place of ``torch.nn.LSTM``, with the same calling convention."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from cello.cells.definition import Cell
from cello.cells.fit import check_frame, check_units
from cello.cells.load import load_cell
from cello.compiler.inputs import Lengths, frames_of_clips
from cello.errors import ModelError
from cello.models.direction import CellLayer, frame_mask, run_layers
from cello.models.initialise import begun, units_of

States = Tensor | Sequence[Tensor]
"""The states of a cell with one state, (L · directions, B, H); of one with several, a tuple of such tensors.

Where a cell gives a state another size than H, or heads, the state has that instead.
"""


class Layer(nn.Module):
    """Recurrent layers of any cell, called as ``torch.nn.LSTM``.

    >>> layer = Layer("lstm", input_size=39, hidden_size=64, num_layers=2, bidirectional=True)
    >>> output, (h, c) = layer(torch.randn(8, 49, 39))
    >>> output.shape, h.shape
    (torch.Size([8, 49, 128]), torch.Size([4, 8, 64]))

    Args:
        cell: a :class:`~cello.Cell` of your own, or a name that :func:`~cello.load_cell` takes.
        input_size: D, elements of a frame.
        hidden_size: H, units of each layer and direction.
        num_layers: L, layers on top of each other.
        bidirectional: run every layer forwards and backwards; outputs then are (B, T, 2H), both directions' side by
            side.
        batch_first: frames are (B, T, D); if false, (T, B, D).
        dropout: probability of dropout on the outputs of all layers but the last, while training; a warning says where
            one layer has none.
        zoneout: probability that a unit keeps its state at a step (Krueger et al. 2017).
        recurrent_dropout: probability that a unit is hidden from the recurrent matrices, the same for a whole clip.
        backend: "auto", or the back end that is to compute the cell; :func:`~cello.scan` lists them.
        precision: "float32", or "bf16" for products in bfloat16 on a CPU with AVX512-BF16 (:func:`~cello.scan`).

    Raises:
        CellError: there is no such cell.
        ModelError: sizes or probabilities that no layer can have, or, in a call, tensors that do not fit.

    Outputs have the size of the cell's first state, and the next layer's frames have it too: H but for cells that say
    otherwise, as an LSTM with a projection does. The weights are parameters, named as in the equations:
    ``layers.0.0.W_i`` is ``W.i`` of the first layer's forward direction (``layers.0.1`` is its backward one). All begin
    uniform within ±1/√H, as PyTorch's do (of n heads, each within ±1/√(H/n)), but for those of which the cell declares
    other first values.
    """

    def __init__(  # noqa: PLR0913 - the arguments of torch.nn.LSTM
        self,
        cell: Cell | str,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        bidirectional: bool = False,
        batch_first: bool = True,
        dropout: float = 0.0,
        zoneout: float = 0.0,
        recurrent_dropout: float = 0.0,
        backend: str = "auto",
        precision: str = "float32",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        _check_sizes(input_size=input_size, hidden_size=hidden_size, num_layers=num_layers)
        _check_probabilities(dropout=dropout, zoneout=zoneout, recurrent_dropout=recurrent_dropout)
        if dropout and num_layers == 1:
            warnings.warn(
                f"dropout={dropout:g} does nothing with num_layers=1, as it acts between layers; give more layers, or "
                "dropout=0",
                stacklevel=2,
            )
        self.cell = _cell_of(cell)
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bidirectional, self.batch_first, self.dropout = bidirectional, batch_first, dropout
        check_units(self.cell, hidden_size, "hidden_size")
        check_frame(self.cell, input_size, "input_size")
        sizes = _inputs_of_layers(self.cell, input_size, hidden_size, num_layers, 1 + bidirectional)
        self.output_size = self.cell.output_size(sizes[-1], hidden_size)
        self.layers = nn.ModuleList(
            nn.ModuleList(
                CellLayer(
                    self.cell,
                    inputs,
                    hidden_size,
                    reverse=reverse,
                    zoneout=zoneout,
                    recurrent_dropout=recurrent_dropout,
                    backend=backend,
                )
                for reverse in (False, True)[: 1 + bidirectional]
            )
            for inputs in sizes
        )
        for direction in self._directions():
            direction.precision = precision
        self.to(device=device, dtype=dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Give every weight and bias the first values that the cell declares, or else draw it from U(−1/√H, 1/√H)."""
        for direction in self._directions():
            for name, weight in direction.named_parameters():
                if not begun(direction, name, weight, None):
                    bound = units_of(direction.cell, direction.equation_names[name], direction.hidden) ** -0.5
                    nn.init.uniform_(weight, -bound, bound)

    @classmethod
    def from_torch(cls, module: nn.RNNBase, *, backend: str = "auto") -> Layer:
        """Copy a ``torch.nn.RNN``, ``GRU`` or ``LSTM`` with its weights; outputs, states and gradients are equal.

        Raises:
            ModelError: another module, or one with projections or without biases, which no cell of the zoo has.
        """
        name, gates = _equations(module)
        first = module.get_parameter("weight_ih_l0")
        layer = cls(
            name,
            module.input_size,
            module.hidden_size,
            module.num_layers,
            bidirectional=module.bidirectional,
            batch_first=module.batch_first,
            backend=backend,
            device=first.device,
            dtype=first.dtype,
        )
        layer.dropout = module.dropout  # of which torch has warned where it does nothing
        with torch.no_grad():
            for depth, directions in enumerate(layer._stacked()):
                for direction, suffix in zip(directions, ("", "_reverse"), strict=False):
                    values = {kind: getattr(module, f"{kind}_l{depth}{suffix}") for kind in _KINDS}
                    _copy(cast("CellLayer", direction), values, gates)
        return layer.train(module.training)

    def forward(
        self, input: Tensor | PackedSequence, hx: States | None = None, lengths: Lengths | None = None
    ) -> tuple[Tensor | PackedSequence, States]:
        """Run the layers over a batch of sequences.

        Args:
            input: frames (B, T, D), (T, B, D) where not ``batch_first``, (T, D) for one sequence, or a PackedSequence.
            hx: the first states, (L · directions, B, H) for each state of the cell; if not given, as the cell declares
                them, zeros where it declares nothing.
            lengths: (B,) frames of each sequence, 0 to T, instead of a PackedSequence; later frames are not read,
                outputs there are zero, and the last states are those after each sequence's last frame.

        Returns:
            The outputs in the form of the input, and the last states: one tensor for a cell with one state, else a
            tuple, as (h, c) of an LSTM.
        """
        if isinstance(input, PackedSequence):
            if lengths is not None:
                raise ModelError("lengths was given with a PackedSequence, which has its own; leave lengths out")
            return self._packed(input, hx)
        if input.ndim == 2:
            states = None if hx is None else tuple(state.unsqueeze(1) for state in self._tuple(hx))
            outputs, ends = self._run(input.unsqueeze(0), lengths, states)
            return outputs.squeeze(0), self._like(tuple(end.squeeze(1) for end in ends))
        frames = input if self.batch_first else input.transpose(0, 1)
        outputs, ends = self._run(frames, lengths, None if hx is None else self._tuple(hx))
        return outputs if self.batch_first else outputs.transpose(0, 1), self._like(ends)

    def flatten_parameters(self) -> None:
        """Do nothing; code written for ``torch.nn.LSTM`` calls it."""

    def extra_repr(self) -> str:
        parts = [self.cell.name, str(self.input_size), str(self.hidden_size)]
        defaults = (("num_layers", 1), ("bidirectional", False), ("batch_first", True), ("dropout", 0.0))
        parts += [f"{name}={getattr(self, name)}" for name, usual in defaults if getattr(self, name) != usual]
        return ", ".join(parts)

    def _packed(self, packed: PackedSequence, hx: States | None) -> tuple[PackedSequence, States]:
        frames, lengths = pad_packed_sequence(packed, batch_first=True)
        outputs, ends = self._run(frames, lengths, None if hx is None else self._tuple(hx))
        order = packed.sorted_indices
        if order is not None:
            outputs, lengths = outputs.index_select(0, order), lengths[order.cpu()]
        inside = frame_mask(lengths.to(outputs.device), outputs.shape[1]).squeeze(2)
        data = outputs.transpose(0, 1)[inside.t()]
        return PackedSequence(data, packed.batch_sizes, order, packed.unsorted_indices), self._like(ends)

    def _run(
        self, frames: Tensor, lengths: Lengths | None, states: tuple[Tensor, ...] | None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        self._check(frames, states)
        if lengths is not None:
            lengths = frames_of_clips(lengths, frames)
        first = None if states is None else list(zip(*(state.unbind(0) for state in states), strict=True))
        drop = nn.Dropout(self.dropout).train(self.training) if self.dropout else _NO_DROPOUT
        outputs, ends = run_layers(self._stacked(), frames, lengths, drop, first)
        if len(ends) == 1:
            return outputs, tuple(state.unsqueeze(0) for state in ends[0])
        return outputs, tuple(torch.stack(state) for state in zip(*ends, strict=True))

    def _stacked(self) -> list[nn.ModuleList]:
        return list(cast("Iterable[nn.ModuleList]", self.layers))

    def _directions(self) -> list[CellLayer]:
        return [one for directions in self._stacked() for one in cast("Iterable[CellLayer]", directions)]

    def _check(self, frames: Tensor, states: tuple[Tensor, ...] | None) -> None:
        if frames.ndim != 3 or frames.shape[2] != self.input_size:
            form = "(B, T, D)" if self.batch_first else "(T, B, D)"
            raise ModelError(
                f"input has shape {tuple(frames.shape)} as (B, T, D), but this layer takes D = {self.input_size}; "
                f"give frames of shape {form}, (T, D), or a PackedSequence"
            )
        if states is None:
            return
        count = self.num_layers * (1 + self.bidirectional)
        sizes = self.cell.state_sizes(self.input_size, self.hidden_size)
        for name, state, own, letters in zip(self.cell.states, states, sizes, self.cell.state_shapes, strict=True):
            wanted = (count, frames.shape[0], *own)
            if tuple(state.shape) != wanted:
                named = "hidden" if letters == ("H",) else ", ".join(letters)
                raise ModelError(
                    f"hx: state {name!r} has shape {tuple(state.shape)}, but must be (layers · directions, batch, "
                    f"{named}) = {wanted}"
                )

    def _tuple(self, hx: States) -> tuple[Tensor, ...]:
        states = (hx,) if isinstance(hx, Tensor) else tuple(hx)
        if len(states) != len(self.cell.states):
            named = ", ".join(self.cell.states)
            raise ModelError(
                f"hx has {len(states)} states, but cell {self.cell.name!r} has {len(self.cell.states)}: give ({named})"
            )
        return states

    def _like(self, states: tuple[Tensor, ...]) -> States:
        return states[0] if len(states) == 1 else states


def _inputs_of_layers(cell: Cell, inputs: int, hidden: int, layers: int, directions: int) -> list[int]:
    """The elements of the frames of each layer."""
    sizes = [inputs]
    while len(sizes) < layers:
        sizes.append(directions * cell.output_size(sizes[-1], hidden))
    states = {cell.state_sizes(each, hidden) for each in sizes}
    if cell.parts and layers > 1:
        raise ModelError(
            f"num_layers={layers} is invalid: a second layer would read outputs, which have no "
            f"{', '.join(part for part, _ in cell.parts)} as frames of cell {cell.name!r} do. "
            f"Use num_layers=1, and a Layer of another cell on top"
        )
    if len(states) > 1:
        raise ModelError(
            f"num_layers={layers} is invalid: the states of cell {cell.name!r} have other sizes in each layer, because "
            f"their frames have. Use a Layer for each of them"
        )
    return sizes


def _cell_of(cell: Cell | str) -> Cell:
    if isinstance(cell, str):
        return load_cell(cell)
    if not isinstance(cell, Cell):
        name = getattr(cell, "__name__", type(cell).__name__)
        raise ModelError(f"{name} is a {type(cell).__name__}, not a cell; write @cello.cell above its function")
    return cell


_NO_DROPOUT = nn.Identity()
_KINDS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def _equations(module: nn.RNNBase) -> tuple[str, tuple[str, ...]]:
    """The zoo's cell with a module's equations, and its gates in the order in which PyTorch stacks them."""
    if not isinstance(module, nn.RNN | nn.GRU | nn.LSTM):
        raise ModelError(f"{type(module).__name__} cannot be copied; give a torch.nn.RNN, GRU or LSTM")
    if not module.bias or module.proj_size:
        lacking = f"proj_size={module.proj_size}" if module.proj_size else "bias=False"
        raise ModelError(
            f"{type(module).__name__} has {lacking}, which no cell of the zoo has; write the cell yourself"
        )
    if isinstance(module, nn.RNN):
        return ("rnn" if module.nonlinearity == "tanh" else "rnn-relu"), ("",)
    return ("gru", ("r", "z", "n")) if isinstance(module, nn.GRU) else ("lstm", ("i", "f", "g", "o"))


def _copy(direction: CellLayer, values: dict[str, Tensor], gates: tuple[str, ...]) -> None:
    """Give a direction PyTorch's weights; where the cell has one bias for PyTorch's two, it is their sum."""
    parts = {kind: dict(zip(gates, value.chunk(len(gates)), strict=True)) for kind, value in values.items()}
    names = set(direction.equation_names.values())
    for attribute, name in direction.equation_names.items():
        group, _, gate = name.partition(".")
        value = parts[{"W": "weight_ih", "U": "weight_hh", "b": "bias_ih", "c": "bias_hh"}[group]][gate]
        if group == "b" and f"c{name[1:]}" not in names:
            value = value + parts["bias_hh"][gate]
        getattr(direction, attribute).copy_(value)


def _check_sizes(**sizes: int) -> None:
    for name, size in sizes.items():
        if not isinstance(size, int) or size < 1:
            raise ModelError(f"{name}={size!r} is invalid: it must be a whole number ≥ 1")


def _check_probabilities(**shares: float) -> None:
    for name, share in shares.items():
        if not 0 <= share < 1:
            raise ModelError(f"{name}={share} is invalid: it must be a probability from 0 to below 1")
