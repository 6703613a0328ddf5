"""Build the tables of single speakers, groups and clips."""

from __future__ import annotations

from cello.report.clips import SPEAKER, Group, PerClipCorrectness
from cello.report.results import StudyResults, place_name
from cello.report.tables import Heading, Table

MOST_ROWS = 30
MOST_TABLES = 12
LEAST_CLIPS = 5
"""A speaker of fewer test clips is in no table: one clip right or wrong would decide its place."""
ALL = " All stand in groups.csv and report.json."


def tables(results: StudyResults) -> tuple[Table, ...]:
    """Accuracy by speaker and by each column of the corpus's table, then the clips that were most often wrong."""
    found = results.clips
    if found is None:
        return ()
    by = list(dict.fromkeys(group.by for group in found.groups))
    wrong = _wrong(found)
    grouped = [_grouped(results, found, number, name) for number, name in enumerate(by[:MOST_TABLES])]
    return tuple(table for table in (*grouped, wrong) if table)


def _grouped(results: StudyResults, found: PerClipCorrectness, number: int, by: str) -> Table | None:
    every = found.by(by)
    groups = [group for group in every if group.clips >= LEAST_CLIPS]
    if not groups:
        return None
    fewer = len(every) - len(groups)
    left = f" Left out: {fewer:,} with fewer than {LEAST_CLIPS} test clips.{ALL}" if fewer else ""
    some = len(groups) > MOST_ROWS
    first = f" The {MOST_ROWS} least accurate of {len(groups):,} stand here.{ALL * (not left)}" if some else ""
    runs = found.clips[0].runs
    return Table(
        key=f"by_{number}",
        title=f"Accuracy by {by}",
        note=f"Share of the test clips that were right, the least accurate first: mean over the seeds of "
        f"{place_name(*found.best)}, the best by validation, and over all {runs:,} runs. Of few clips, one more or "
        f"less right changes much.{first}{left}",
        headings=(
            Heading(by.capitalize() if by == SPEAKER else by),
            Heading("test clips"),
            Heading("best model", "Accuracy, %"),
            Heading("all models", "Accuracy, %"),
        ),
        rows=tuple(map(_row, groups[:MOST_ROWS])),
    )


def _row(group: Group) -> tuple[str, ...]:
    return group.value or "(empty)", f"{group.clips:,}", f"{100 * group.best:.2f}", f"{100 * group.every:.2f}"


def _wrong(found: PerClipCorrectness) -> Table | None:
    wrong = found.wrong()
    if not wrong:
        return None
    runs = found.clips[0].runs
    return Table(
        key="wrong_clips",
        title="Clips most often wrong",
        note=f"Of {len(found.clips):,} test clips {len(wrong):,} were wrong in at least one of {runs:,} runs, of all "
        f"models and seeds; {'those' if len(wrong) <= MOST_ROWS else f'the first {MOST_ROWS}'} stand here, all in "
        "clips.csv. A clip that every model gets wrong may have the wrong label: listen to it.",
        headings=(Heading("Clip"), Heading("Label"), Heading("Most often taken for"), Heading("wrong, % of runs")),
        rows=tuple((clip.name, clip.label, clip.taken_for, f"{100 * clip.share:.0f}") for clip in wrong[:MOST_ROWS]),
        words=3,
    )
