"""Say how an exported model is used on a stream, in whatever form it is written."""

from __future__ import annotations

from dataclasses import dataclass, field

from cello.deploy.decisions import DecisionConfig
from cello.errors import ModelError

LONGEST_S = 3600
"""Seconds that no setting of a stream may reach; a stream keeps the outputs of its whole window in memory."""


@dataclass(frozen=True)
class StreamSettings:
    """How a stream is scored and what is a decision.

    Attributes:
        window_s: seconds of sound whose outputs are pooled
        decide: when it decides

    Raises:
        ModelError: a number that is none, below 0, or an hour or more.
    """

    window_s: float = 1.0
    decide: DecisionConfig = field(default_factory=DecisionConfig)

    def __post_init__(self) -> None:
        given = {"window_s": self.window_s, "smooth_s": self.decide.smooth_s, "refractory_s": self.decide.refractory_s}
        for name, value in given.items():
            if not 0 <= value < LONGEST_S:
                raise ModelError(f"{name}={value} is invalid: it must be a number from 0 to below {LONGEST_S}")
