"""What a classifier is made of; part of every run's identity."""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from cello.cells.definition import Cell
from cello.cells.load import known, load_cell
from cello.errors import CellError, ConfigError, ModelError, unknown

TORCH_CELLS = ("torch:rnn", "torch:gru", "torch:lstm")


class ModelConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Recurrent layers of one cell, a read-out over time, a linear head.

    ``cell`` is a name of the zoo, ``FILE.py:NAME`` or ``torch:rnn|gru|lstm``. ``equations`` is left empty by people:
    for a cell of one's own, ``settled`` puts the fingerprint of its equations there, so that another cell under the
    same name is another run. ``stack`` frames are put side by side before the first layer, which so takes T / ``stack``
    steps of ``stack`` · D numbers (Sak et al. 2015). ``dropout`` acts between layers and before the head; ``zoneout``
    is the share of units whose states stay as they were at each step, ``recurrent_dropout`` the share of units that
    recurrent matrices do not see, the same ones throughout a clip (:func:`cello.cells.noise.with_noise`).
    ``initialisation``: ``"uniform"`` draws every weight from ±1/√H (as torch does), ``"orthogonal"`` makes recurrent
    matrices orthogonal and input matrices Glorot-uniform. ``forget_bias`` is added to biases named f.

    Raises:
        ConfigError: a value no model can have, with the field, the value and what would be legal.
    """

    cell: str = "gru"
    equations: str = ""
    hidden: int = 64
    layers: int = 1
    stack: int = 1
    bidirectional: bool = False
    dropout: float = 0.0
    zoneout: float = 0.0
    recurrent_dropout: float = 0.0
    readout: Literal["last", "mean", "attention"] = "last"
    initialisation: Literal["uniform", "orthogonal"] = "uniform"
    forget_bias: float = 0.0
    backend: Literal["auto", "plain", "c"] = "auto"

    def __post_init__(self) -> None:
        for field, value in (("hidden", self.hidden), ("layers", self.layers), ("stack", self.stack)):
            if value < 1:
                raise ConfigError(f"model.{field}={value} leaves no network; give at least 1")
        if not math.isfinite(self.forget_bias):
            raise ConfigError(
                f"model.forget_bias={self.forget_bias} is added to weights; give a finite number, 0 is off"
            )
        for field in ("dropout", "zoneout", "recurrent_dropout"):
            share = getattr(self, field)
            if not 0 <= share < 1:
                raise ConfigError(f"model.{field}={share} is a share of values left out; give 0 (off) to below 1")
        if self.cell in TORCH_CELLS and (self.zoneout or self.recurrent_dropout):
            raise ConfigError(
                f"model.zoneout={self.zoneout} and model.recurrent_dropout={self.recurrent_dropout} need a cell of "
                f"equations, and {self.cell!r} is torch's own layer; write model.cell={self.cell.partition(':')[2]!r}"
            )


def settled(config: ModelConfig) -> ModelConfig:
    """The config with the fingerprint of its equations where the cell is somebody's own.

    A config that states equations which this process knows is settled already, and no file is looked at: they may have
    come with a store or a task, from another machine.

    Raises:
        CellError, ModelError: there is no such cell.
        ConfigError: ``equations`` stated for a cell that is not somebody's own.
    """
    if config.equations and ".py:" not in config.cell:
        raise ConfigError(
            f"model.equations={config.equations!r} is filled in by Cello for cells of one's own, and "
            f"{config.cell!r} is none; leave it out"
        )
    if config.cell.startswith("torch:"):
        if config.cell not in TORCH_CELLS:
            raise ModelError(unknown("torch layer", config.cell, TORCH_CELLS))
        return config
    if config.equations and known(config.cell, config.equations) is not None:
        return config
    cell = load_cell(config.cell)
    if ".py:" not in config.cell:
        return config
    return msgspec.structs.replace(config, equations=cell.graph.fingerprint())


def cell_of(config: ModelConfig) -> Cell | None:
    """The cell of a model; None for torch's own layers.

    Raises:
        CellError, ModelError: there is no such cell, or the file holds other equations than the config states.
        ConfigError: as ``settled``.
    """
    found = settled(config)
    if config.cell in TORCH_CELLS:
        return None
    if config.equations not in ("", found.equations):
        raise CellError(
            f"the equations of {config.cell!r} have changed: the model is made of {config.equations}, and the file has "
            f"{found.equations}. Put them back, or leave model.equations out for a new model."
        )
    return known(found.cell, found.equations) if found.equations else load_cell(found.cell)
