"""Say how an exported model is used on a stream, in whatever form it is written."""

from __future__ import annotations

from dataclasses import dataclass

from cello.deploy.decisions import BACKGROUND
from cello.errors import ModelError

LONGEST_S = 3600
"""Seconds that no setting of a stream may reach; a stream keeps the outputs of its whole window in memory."""


@dataclass(frozen=True)
class StreamSettings:
    """How a stream is scored and what is a decision.

    Attributes:
        window_s: seconds of sound whose outputs are pooled
        threshold: the lowest averaged probability of a decision
        smooth_s: seconds over which probabilities are averaged
        refractory_s: seconds after a decision in which there is no other
        background: labels that are never decided for

    Raises:
        ModelError: a number that is none, below 0, or an hour or more.
    """

    window_s: float = 1.0
    threshold: float = 0.8
    smooth_s: float = 0.2
    refractory_s: float = 1.5
    background: tuple[str, ...] = BACKGROUND

    def __post_init__(self) -> None:
        for field in ("window_s", "threshold", "smooth_s", "refractory_s"):
            value = getattr(self, field)
            if not 0 <= value < LONGEST_S:
                raise ModelError(f"{field}={value} is invalid: it must be a number from 0 to below {LONGEST_S}")
