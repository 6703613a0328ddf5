"""Compute accuracy by speaker and by table column, and find the clips most often wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from cello.study.corpus_file import CorpusSummary
from cello.study.correctness import Tally

SPEAKER = "speaker"


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """The test clips with one value in a column of the table, or of one speaker.

    Accuracies are in [0, 1]: ``best`` the mean over the seeds of the model that was best by validation, ``every`` over
    all finished runs.
    """

    by: str
    value: str
    clips: int
    best: float
    every: float


class ClipCorrectness(msgspec.Struct, frozen=True, kw_only=True):
    """A test clip: in how many of all finished runs it was wrong, and what it was most often taken for then.

    ``values`` are what the corpus's table says of it, in the order of its columns.
    """

    name: str
    label: str
    speaker: str = ""
    values: tuple[str, ...] = ()
    runs: int
    wrong: int
    taken_for: str = ""
    taken: int = 0

    @property
    def share(self) -> float:
        """Of all runs, those that had it wrong."""
        return self.wrong / self.runs


class PerClipCorrectness(msgspec.Struct, frozen=True, kw_only=True):
    """What a study's runs did with single test clips; ``best`` is the (row, column) that was best by validation.

    ``groups`` stand by column, the least accurate first; ``clips`` in the corpus's order.
    """

    best: tuple[str, str]
    columns: tuple[str, ...]
    groups: tuple[Group, ...]
    clips: tuple[ClipCorrectness, ...]

    def by(self, column: str) -> tuple[Group, ...]:
        """The groups of one column."""
        return tuple(group for group in self.groups if group.by == column)

    def wrong(self) -> list[ClipCorrectness]:
        """The clips that a run had wrong, the most often wrong first."""
        return sorted((clip for clip in self.clips if clip.wrong), key=lambda clip: -clip.wrong)


def per_clip_correctness(corpus: CorpusSummary, tallies: Iterable[Tally | None]) -> PerClipCorrectness | None:
    """What all runs of all columns did with each test clip; None where the store names no clips, or not these."""
    found = [tally for tally in tallies if tally is not None and tally.runs]
    clips = len(corpus.test_names)
    if not found or not clips or any(len(tally.right) != clips for tally in found):
        return None
    best = max(found, key=lambda tally: tally.validation)
    runs, right = sum(tally.runs for tally in found), sum(tally.right for tally in found)
    groups = [
        group
        for by, values in _groupings(corpus)
        for group in _groups(by, values, best.best_right / best.best_runs, np.asarray(right) / runs)
    ]
    return PerClipCorrectness(
        best=(best.best, best.column),
        columns=tuple(corpus.columns),
        groups=tuple(groups),
        clips=tuple(_clips(corpus, found, np.asarray(right), runs)),
    )


def _groupings(corpus: CorpusSummary) -> Iterator[tuple[str, Sequence[str]]]:
    """What clips can be grouped by; a column with one value, or another for each clip, groups nothing."""
    if corpus.speaker_names:
        yield SPEAKER, [corpus.speaker_names[number] for number in corpus.test_speakers]
    for name, values in corpus.columns.items():
        if 1 < len(set(values)) < len(values) and name != SPEAKER:
            yield name, values


def _groups(by: str, values: Sequence[str], best: NDArray[Any], every: NDArray[Any]) -> list[Group]:
    said = np.asarray(values, dtype=object)
    some = said != "" if by == SPEAKER else np.ones(len(said), dtype=bool)  # nobody speaks in silence
    names, place, clips = np.unique(said[some], return_inverse=True, return_counts=True)
    means = (np.bincount(place, share[some]) / clips for share in (best, every))
    found = [
        Group(by=by, value=str(name), clips=int(n), best=float(one), every=float(all_runs))
        for name, n, one, all_runs in zip(names, clips, *means, strict=True)
    ]
    return sorted(found, key=lambda group: group.every)


def _clips(
    corpus: CorpusSummary, tallies: Sequence[Tally], right: NDArray[Any], runs: int
) -> Iterator[ClipCorrectness]:
    taken: dict[int, dict[int, int]] = {}
    for tally in tallies:
        for clip, answers in tally.wrong().items():
            own = taken.setdefault(clip, {})
            for answer, count in answers.items():
                own[answer] = own.get(answer, 0) + count
    speakers = [corpus.speaker_names[k] for k in corpus.test_speakers] if corpus.speaker_names else []
    said = list(corpus.columns.values())
    for k, name in enumerate(corpus.test_names):
        counts = taken.get(k, {})
        most = max(counts, key=counts.__getitem__) if counts else None
        yield ClipCorrectness(
            name=name,
            label=corpus.labels[tallies[0].targets[k]],
            speaker=speakers[k] if speakers else "",
            values=tuple(values[k] for values in said),
            runs=runs,
            wrong=int(runs - right[k]),
            taken_for="" if most is None else corpus.labels[most],
            taken=0 if most is None else counts[most],
        )


def shown_clips(
    found: PerClipCorrectness, name: Callable[[str], str], labels: dict[str, str], places: Sequence[dict[str, str]]
) -> PerClipCorrectness:
    """The same with every text as a report may show it; ``places`` are the shown names of rows and of columns."""
    row, column = (names.get(own, own) for names, own in zip(places, found.best, strict=True))
    return PerClipCorrectness(
        best=(row, column),
        columns=tuple(map(name, found.columns)),
        groups=tuple(msgspec.structs.replace(g, by=name(g.by), value=name(g.value)) for g in found.groups),
        clips=tuple(
            msgspec.structs.replace(
                clip,
                name=name(clip.name),
                label=labels.get(clip.label, clip.label),
                speaker=name(clip.speaker),
                values=tuple(map(name, clip.values)),
                taken_for=labels.get(clip.taken_for, clip.taken_for),
            )
            for clip in found.clips
        ),
    )
