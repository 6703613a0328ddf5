"""Check that a corpus is compatible with a plan, before the first run starts."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from cello.audio.corpus import Corpus
from cello.audio.folds import fold_names, indices_of
from cello.errors import StudyError
from cello.study.plan import PlannedRun

_SHOWN = 3


def check_windows(study: str, runs: Sequence[PlannedRun], corpus: Corpus) -> None:
    """Refuse a plan with an analysis window that is longer than a clip.

    Such a clip has no frame. It is neither padded nor left out: one column of the table would then measure other sound,
    or other clips, than the next.

    Raises:
        StudyError: the rows and columns with such a window, how many clips are too short for it, and the shortest.
    """
    shortest = int(corpus.lengths.min())
    windows: dict[int, list[PlannedRun]] = {}
    for run in runs:
        if run.config.features.window_samples > shortest:
            windows.setdefault(run.config.features.window_samples, []).append(run)
    if not windows:
        return
    short = {window: int((corpus.lengths < window).sum()) for window in sorted(windows)}
    facts = "; ".join(
        f"{count} of {len(corpus.lengths)} clips are shorter than one window of "
        f"features.window_ms={windows[window][0].config.features.window_ms:g} ({_places(windows[window], runs)})"
        for window, count in short.items()
    )
    rate_hz, clips = corpus.manifest.rate_hz, corpus.manifest.clips
    order = np.argsort(corpus.lengths, kind="stable")[: min(_SHOWN, max(short.values()))].tolist()
    named = ", ".join(f"{clips[i].name} ({1000 * clips[i].samples / rate_hz:.4g} ms)" for i in order)
    longest_ms = math.floor(10_000 * shortest / rate_hz) / 10  # rounded down: a window of this length is not too long
    raise StudyError(
        f"study {study!r} cannot run on corpus {corpus.manifest.corpus!r}: {facts}; shortest first: {named}; use "
        f"windows of at most {longest_ms:g} ms, or move the clips that are too short out of the corpus"
    )


def check_clips(study: str, runs: Sequence[PlannedRun], corpus: Corpus) -> None:
    """Refuse a plan that trains on more clips of a label than there are: the classes would not be equally large.

    Raises:
        StudyError: the rows and columns that ask for too many, and the label that has the fewest.
    """
    trained = [indices_of(corpus, name)["train"] for name in fold_names(corpus.manifest) or ("",)]
    found = [np.unique(corpus.targets[clips], return_counts=True) for clips in trained]
    labels, counts = min(found, key=lambda of_fold: min(of_fold[1], default=0))
    asked = [run for run in runs if (run.config.data.clips_per_label or 0) > min(counts, default=0)]
    if asked:
        fewest, most = int(counts.argmin()), int(counts.min())
        numbers = sorted({run.config.data.clips_per_label or 0 for run in asked})
        raise StudyError(
            f"study {study!r} cannot run on corpus {corpus.manifest.corpus!r}: data.clips_per_label = "
            f"{', '.join(map(str, numbers))} ({_places(asked, runs)}), but label "
            f"{corpus.manifest.labels[labels[fewest]]!r} has {most} training clips; give at most {most}, or leave it "
            f"out for all clips"
        )


def _places(found: Sequence[PlannedRun], runs: Sequence[PlannedRun]) -> str:
    """Where runs stand in the study's table: whole columns by their name alone."""
    names: list[str] = []
    for column in dict.fromkeys(run.column for run in found):
        rows = list(dict.fromkeys(run.row for run in found if run.column == column))
        if column and set(rows) == {run.row for run in runs if run.column == column}:
            names.append(f"column {column!r}")
        else:
            names += [f"row {row!r}" + (f", column {column!r}" if column else "") for row in rows]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return "; ".join(names[:_SHOWN]) + more
