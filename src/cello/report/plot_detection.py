"""Draw the DET curve of a model on a stream: misses against false alarms an hour, both logarithmic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from cello.report.plot_style import FAINT, INK, SERIES, Axes, legend
from cello.report.plots import Panel
from cello.statistics.detection import Rates

LEAST = 1e-3
"""The lowest share of words missed that is drawn: there is no zero on a logarithmic axis."""
LEFT, RIGHT = 1.6, 1.6
TICKS = tuple(m * 10.0**d for d in range(-3, 3) for m in (1, 2, 5) if m * 10.0**d <= 100)


class Detection(NamedTuple):
    """What a DET plot is drawn of: points at several thresholds, the chosen one, and what they are rates of."""

    curve: Sequence[Rates]
    chosen: Rates | None
    hours: float
    words: int
    speakers: int
    name: str


def detection(found: Detection) -> Panel:
    """The DET curve with the band of its intervals; the operating point with both of its intervals."""
    title = f"{found.name}: misses against false alarms"
    described = (
        f"{title}: {found.words:,} words, {found.hours:.2f} hours of noise and other words; the band is the 95 % "
        f"interval over {'speakers' if found.speakers else 'words'}. No false alarm is drawn as half of one."
    )
    return Panel(title, described, (5.2, 4.0), lambda ax: _draw(ax, found))


def _draw(ax: Axes, found: Detection) -> None:
    # no alarm in all hours: less than one in them
    least = 0.5 / found.hours
    points = sorted(found.curve, key=lambda rate: rate.threshold)
    x = [max(rate.false_alarms_an_hour, least) for rate in points]
    over = f"speakers ({found.speakers:,})" if found.speakers else "words"
    if all(rate.miss_interval for rate in points):
        low, high = zip(*(rate.miss_interval or (0.0, 0.0) for rate in points), strict=True)
        ax.fill_between(
            x, _percent(low), _percent(high), color=SERIES[0], alpha=0.18, linewidth=0, label=f"95 % over {over}"
        )
    ax.plot(x, _percent([rate.miss_rate for rate in points]), color=SERIES[0])
    shown = [*x]
    if found.chosen is not None:
        shown += _operating_point(ax, found.chosen, least)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlim(min(shown) / LEFT, max(shown) * RIGHT)
    lowest = min(_percent([rate.miss_rate for rate in points]))
    ax.set_ylim(max(100 * LEAST, lowest / 2), 100)
    ax.set_yticks([100 * tick for tick in TICKS if max(LEAST, lowest / 200) <= tick <= 1])
    ax.xaxis.set_major_locator(LogLocator(10, subs=(1.0,)))
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
    ax.grid(visible=True, axis="both")
    ax.set_xlabel(f"False alarms an hour, in {found.hours:.2f} h of noise and other words")
    ax.set_ylabel("Words missed, %")
    legend(ax)


def _operating_point(ax: Axes, rate: Rates, least: float) -> list[float]:
    """Draw it; where it reaches on the horizontal axis."""
    x, y = max(rate.false_alarms_an_hour, least), max(100 * rate.miss_rate, 100 * LEAST)
    low, high = max(rate.false_alarms_interval[0], least), rate.false_alarms_interval[1]
    bottom, top = (100 * max(end, LEAST) for end in rate.miss_interval or (rate.miss_rate, rate.miss_rate))
    ax.errorbar(
        [x], [y], xerr=[[max(x - low, 0)], [high - x]], yerr=[[max(y - bottom, 0)], [max(top - y, 0)]], color=INK,
        marker="o" if rate.false_alarms else "<", markersize=6, elinewidth=1.0, linestyle="none", zorder=3,
        label=f"threshold {rate.threshold:g}, 95 % intervals",
    )  # fmt: skip
    if not rate.false_alarms:
        ax.annotate("none", (x, y), (-8, -3), textcoords="offset points", color=FAINT, fontsize=8, ha="right")
    return [x, low, high]


def _percent(shares: Sequence[float]) -> list[float]:
    return [100 * max(share, LEAST) for share in shares]
