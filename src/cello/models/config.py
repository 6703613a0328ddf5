"""Define what a classifier is made of, which is part of the identity of a run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import msgspec

from cello.cells.definition import Cell
from cello.cells.load import is_own, known, load_cell, naming
from cello.errors import CellError, ConfigError, ModelError, unknown

if TYPE_CHECKING:
    CellName: TypeAlias = Any
else:  # a Cell that is given in place of its name is replaced by the name, which is what is stored
    CellName = str
TORCH_CELLS = ("torch:rnn", "torch:gru", "torch:lstm")


class ModelConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Recurrent layers of one cell, pooling over time, a linear classifier.

    Attributes:
        cell: a cell of the zoo (cello cell list), FILE.py:NAME for your own, or torch:rnn, torch:gru, torch:lstm; in
            Python also a Cell object
        equations: fingerprint of the equations of your own cell; filled in by Cello, leave it out
        hidden: hidden units of each layer (of each direction where bidirectional)
        layers: recurrent layers on top of each other
        frame_stacking: frames stacked into one before the first layer, which then takes fewer steps (Sak et al. 2015)
        bidirectional: every layer reads the clip forwards and backwards
        dropout: share of outputs set to zero between layers and before the classifier, 0 to below 1
        zoneout: share of units whose state stays as it was at a step, 0 to below 1 (Krueger et al. 2017)
        recurrent_dropout: share of units hidden from recurrent matrices, the same ones for a clip, 0 to below 1
        pooling: pooling over time before the classifier: learned attention, mean over frames, or the last state, which
            forgets the beginning of clips of several seconds
        initialisation: uniform within ±1/√hidden (as torch), or orthogonal recurrent and Glorot-uniform input matrices
        forget_bias: added to the initial bias of gates named f; 1 helps an LSTM to remember (Jozefowicz et al. 2015)
        backend: leave it out; execution.backend says what computes the cell, and this one is obeyed where that is auto,
            for studies that state it

    Raises:
        ConfigError: a value no model can have, with the field, the value and what would be legal.
    """

    # encoded by the names that they had before, which ids, stores and study files go on with: stack, readout
    cell: CellName = "gru"
    equations: str = ""
    hidden: int = 64
    layers: int = 1
    frame_stacking: int = msgspec.field(default=1, name="stack")
    bidirectional: bool = False
    dropout: float = 0.0
    zoneout: float = 0.0
    recurrent_dropout: float = 0.0
    pooling: Literal["last", "mean", "attention"] = msgspec.field(default="attention", name="readout")
    initialisation: Literal["uniform", "orthogonal"] = "uniform"
    forget_bias: float = 0.0
    backend: Literal["auto", "plain", "c"] = "auto"

    def __post_init__(self) -> None:
        if isinstance(self.cell, Cell):
            name, equations = naming(self.cell)
            msgspec.structs.force_setattr(self, "cell", name)
            msgspec.structs.force_setattr(self, "equations", equations)
        for field in ("hidden", "layers", "frame_stacking"):
            value = getattr(self, field)
            if value < 1:
                raise ConfigError(f"model.{field}={value} is invalid: it must be at least 1")
        if not math.isfinite(self.forget_bias):
            raise ConfigError(f"model.forget_bias={self.forget_bias} is invalid: it must be finite (0 is off)")
        for field in ("dropout", "zoneout", "recurrent_dropout"):
            share = getattr(self, field)
            if not 0 <= share < 1:
                raise ConfigError(f"model.{field}={share} is invalid: it must be from 0 (off) to below 1")
        if self.cell in TORCH_CELLS and (self.zoneout or self.recurrent_dropout):
            raise ConfigError(
                f"model.zoneout={self.zoneout} and model.recurrent_dropout={self.recurrent_dropout} need a cell of "
                f"equations, but {self.cell!r} is PyTorch's layer; write model.cell={self.cell.partition(':')[2]!r}"
            )


def resolve(config: ModelConfig) -> ModelConfig:
    """The config with the fingerprint of its equations where the cell is somebody's own.

    A config that states equations which this process knows is resolved already, and no file is looked at: they may have
    come with a store or a task, from another machine.

    Raises:
        CellError, ModelError: there is no such cell.
        ConfigError: ``equations`` stated for a cell that is not somebody's own.
    """
    if config.equations and not is_own(config.cell):
        raise ConfigError(
            f"model.equations={config.equations!r} is set by Cello for your own cells, but "
            f"{config.cell!r} is not one; leave it out"
        )
    if config.cell.startswith("torch:"):
        if config.cell not in TORCH_CELLS:
            raise ModelError(unknown("torch layer", config.cell, TORCH_CELLS))
        return config
    if config.equations and known(config.cell, config.equations) is not None:
        return config
    cell = load_cell(config.cell)
    if not is_own(config.cell):
        return config
    return msgspec.structs.replace(config, equations=cell.fingerprint())


def stated_cells(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Replace a ``Cell`` object in the settings of a model by its name and equations."""
    cell = settings.get(f"{prefix}cell")
    if not isinstance(cell, Cell):
        return dict(settings)
    name, equations = naming(cell)
    stated = {f"{prefix}cell": name} | ({f"{prefix}equations": equations} if equations else {})
    return {**settings, **stated}


def cell_of(config: ModelConfig) -> Cell | None:
    """The cell of a model; None for torch's own layers.

    Raises:
        CellError, ModelError: there is no such cell, or the file holds other equations than the config states.
        ConfigError: as ``resolve``.
    """
    found = resolve(config)
    if config.cell in TORCH_CELLS:
        return None
    if config.equations not in ("", found.equations):
        raise CellError(
            f"the equations of {config.cell!r} have changed: the model is made of {config.equations}, and the file has "
            f"{found.equations}. Put them back, or leave model.equations out for a new model."
        )
    return known(found.cell, found.equations) if found.equations else load_cell(found.cell)
