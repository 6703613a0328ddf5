"""What a classifier is made of; part of every run's identity."""

from __future__ import annotations

from typing import Literal

import msgspec


class ModelConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Recurrent layers of one cell, a read-out over time, a linear head.

    ``cell`` is a name of the zoo, ``FILE.py:NAME`` or ``torch:rnn|gru|lstm``. ``dropout`` acts between layers and
    before the head. ``initialisation``: ``"uniform"`` draws every weight from ±1/√H (as torch does), ``"orthogonal"``
    makes recurrent matrices orthogonal and input matrices Glorot-uniform. ``forget_bias`` is added to biases named f.
    """

    cell: str = "gru"
    hidden: int = 64
    layers: int = 1
    bidirectional: bool = False
    dropout: float = 0.0
    readout: Literal["last", "mean", "attention"] = "last"
    initialisation: Literal["uniform", "orthogonal"] = "uniform"
    forget_bias: float = 0.0
    backend: Literal["auto", "plain"] = "auto"
