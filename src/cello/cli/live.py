"""Show a stream as it runs: level, probabilities as bars, the last decisions."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from rich.console import Group
from rich.table import Table
from rich.text import Text

from cello.deploy.decisions import Decision, softmax

if TYPE_CHECKING:
    from cello.deploy.package import PackageStream
    from cello.trained.stream import ModelStream

TOP, KEPT, BAR = 5, 6, 30
QUIET_DB = -60.0
"""Level at which the bar is empty, in dB below full scale."""


class LiveView:
    """What is shown; ``push`` it every piece of sound and what became of it."""

    def __init__(self, title: str, labels: Sequence[str]) -> None:
        self.title, self.labels = title, tuple(labels)
        self.seconds, self.level_db = 0.0, QUIET_DB
        self.probabilities: NDArray[np.float64] = np.zeros(len(self.labels))
        self.decisions: deque[Decision] = deque(maxlen=KEPT)

    def push(
        self,
        samples: NDArray[np.float32],
        rate_hz: int,
        scores: NDArray[np.float32] | None,
        decided: Sequence[Decision],
    ) -> None:
        """Take a piece of sound, the newest scores and the decisions it brought."""
        self.seconds += len(samples) / rate_hz
        if len(samples):
            self.level_db = level_db(samples)
        if scores is not None:
            self.probabilities = softmax(scores)
        self.decisions.extend(decided)

    def __rich__(self) -> Group:
        bars = Table.grid(padding=(0, 1))
        loud = (self.level_db - QUIET_DB) / -QUIET_DB
        bars.add_row(Text("level"), bar(loud), Text(f"{self.level_db:.0f} dB", justify="right"))
        for k in np.argsort(-self.probabilities, kind="stable")[:TOP]:
            share = float(self.probabilities[k])
            bars.add_row(Text(self.labels[k]), bar(share), Text(f"{100 * share:.0f} %", justify="right"))
        decisions = [Text(line(one)) for one in self.decisions] or [Text("no decision yet", style="dim")]
        return Group(Text(f"{self.title}  {self.seconds:.1f} s"), bars, *decisions)


def bar(share: float) -> Text:
    """A bar of a share in [0, 1].

    >>> bar(0.5).plain.count("█")
    15
    """
    full = round(BAR * min(max(share, 0.0), 1.0))
    return Text("█" * full + "·" * (BAR - full))


def level_db(samples: NDArray[np.float32]) -> float:
    """The level of sound in dB below full scale, not below ``QUIET_DB``.

    >>> round(level_db(np.full(100, 0.1, np.float32)))
    -20
    """
    mean_square = float(np.mean(np.square(samples, dtype=np.float64)))
    return max(QUIET_DB, 10 * float(np.log10(max(mean_square, 1e-12))))


def threshold_of(stream: ModelStream | PackageStream) -> str:
    """The threshold of a stream, and where it comes from."""
    told = {
        "given": "of --threshold",
        "default": "Cello's own, since none was chosen for the run",
        "stream.json": "which cello evaluate --stream chose (stream.json of the run)",
        "manifest.json": "of the exported folder's manifest.json",
    }
    return f"{stream.config.threshold:g}, {told[stream.threshold_from]}"


def nothing_decided(stream: ModelStream | PackageStream) -> str:
    """Why a stream ended without a decision: its threshold, and what came nearest to it."""
    highest = stream.highest
    heard = (
        f"the highest was {100 * highest.score:.0f} % for {highest.label!r} at {highest.time_s:.2f} s"
        if highest is not None
        else "no step was of a label that is decided for"
    )
    lower = "" if highest is None or highest.score >= stream.config.threshold else "; a lower --threshold decides more"
    return f"the threshold is {threshold_of(stream)}; {heard}{lower}"


def line(decision: Decision) -> str:
    """A decision in one line."""
    return f"{decision.time_s:8.2f} s  {decision.label}  {100 * decision.score:.0f} %"
