"""Show robustness: test accuracy under added noise, time shifts and lost frames."""

from __future__ import annotations

from typing import NamedTuple

from cello.report.metrics import Interval, interval, leaves, text
from cello.report.results import StudyResults
from cello.report.tables import ABSENT, Heading, Table, same_note
from cello.statistics.means import FEW_SEEDS
from cello.training.result import ConditionKind, RunResult

AS_THEY_ARE = "as they are"


class Kind(NamedTuple):
    """One kind of condition: its key, the title of its table, the name of its axis, its unit."""

    key: ConditionKind
    title: str
    axis: str
    unit: str


KINDS = (
    Kind("snr_db", "Test accuracy under added noise", "Signal-to-noise ratio, dB", "dB"),
    Kind("shift_ms", "Test accuracy under time shifts", "Shift, ms (later where positive)", "ms"),
    Kind("lost_frames", "Test accuracy with lost frames", "Share of frames lost", ""),
)


def present(results: StudyResults) -> tuple[Kind, ...]:
    """The kinds of which at least one run has a condition."""
    return tuple(kind for kind in KINDS if values(results, kind))


def heading(results: StudyResults) -> str:
    """What the section is called: lost frames are named where a run has them."""
    lossy = any(kind.key == "lost_frames" for kind in present(results))
    return f"Robustness to noise{', time shifts and lost frames' if lossy else ' and time shifts'}"


def explanation(results: StudyResults) -> str:
    """What was done to the test clips, and that it changed nothing else."""
    lossy = any(kind.key == "lost_frames" for kind in present(results))
    changed = "with synthetic noise, " if lossy else "with synthetic noise or "
    changed += f"shifted in time{' or without some of their frames' if lossy else ''}"
    return (
        f"The test clips were evaluated again, {changed}: the same audio for every model and seed. “As they are” is "
        "the test accuracy of the tables above. None of it took part in choosing weights."
    )


def cut(results: StudyResults) -> bool:
    """Whether an interval of these tables would leave 0 to 100 %."""
    found = [
        accuracy(runs, kind, v)
        for kind in present(results)
        for v in values(results, kind)
        for runs in results.cells().values()
    ]
    return any(leaves(figure, 2) for figure in found if figure is not None)


def values(results: StudyResults, kind: Kind) -> tuple[float, ...]:
    """Every value of a kind that a run was tested under, the quietest noise or the earliest shift first."""
    found = {c.value for run in results.runs for c in run.result.conditions if c.kind == kind.key}
    return tuple(sorted(found, reverse=kind.key == "snr_db"))


def accuracy(runs: tuple[RunResult, ...], kind: Kind, value: float | None) -> Interval | None:
    """Mean test accuracy in per cent over a cell's runs under one condition, None for the clips as they are."""
    if value is None:
        found = [run.test for run in runs]
    else:
        found = [c.test for run in runs for c in run.conditions if (c.kind, c.value) == (kind.key, value)]
    return interval(100 * test.accuracy for test in found) if found else None


def table(results: StudyResults, kind: Kind) -> Table:
    """Models × values of one kind, grouped by column; the clips as they are come first."""
    named = results.columns != ("",)
    shown = (None, *values(results, kind))
    rows = []
    for (row, column), runs in results.cells().items():
        found = [accuracy(runs, kind, value) for value in shown]
        if any(found[1:]):
            figures = [ABSENT if figure is None else text(figure, 2, share=True) for figure in found]
            rows.append((*((column,) if named else ()), row, *figures))
    return Table(
        key=f"conditions_{kind.key}",
        title=f"{kind.title}, %",
        note=f"The same audio for every model and seed.{_spread(results)}{same_note(rows)}",
        headings=(
            *((Heading(results.column_title),) if named else ()),
            Heading("Model"),
            *(Heading(AS_THEY_ARE if v is None else f"{v:g}".replace("-", "−"), kind.axis) for v in shown),
        ),
        rows=tuple(rows),
        words=2 if named else 1,
        grouped=named,
    )


def _spread(results: StudyResults) -> str:
    counts = {len(runs) for runs in results.cells().values()} - {1}
    few = f" With fewer than {FEW_SEEDS} seeds it is indicative only." if counts and min(counts) < FEW_SEEDS else ""
    return f" ± is half the 95 % t-interval over seeds.{few}" if counts else ""


def tables(results: StudyResults) -> tuple[Table, ...]:
    """One table a kind that the study has."""
    return tuple(table(results, kind) for kind in present(results))
