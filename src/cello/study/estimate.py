"""Estimate a study before it runs: runs, model sizes, time left. Writes nothing, needs no torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean

import msgspec

from cello.audio.corpus import Manifest
from cello.audio.folds import NONE, fold_names
from cello.errors import StudyError
from cello.models.size import ModelSize
from cello.study.config import StudyConfig
from cello.study.folder import naming
from cello.study.match import counter
from cello.study.plan import PlannedRun, cost, plan
from cello.study.store import CorpusSource, Store, check_free, folded
from cello.training.config import CorpusRef, RunConfig

CLOSE = 0.05
"""How far from the reference a matched row may be, as a share, before a warning names it."""


class PlaceEstimate(msgspec.Struct, frozen=True, kw_only=True):
    """One row in one column: its runs, and what its model weighs (``parameters`` is None for an unknown corpus).

    ``off`` is by which share it is heavier than the reference row's (lighter below 0); 0 where widths are matched.
    ``seconds`` is what one run takes, as far as finished runs tell.
    """

    row: str
    column: str
    runs: int
    done: int
    hidden: int
    parameters: int | None
    flops: int
    off: float
    seconds: float | None


class StudyEstimate(msgspec.Struct, frozen=True, kw_only=True):
    """A study as it stands. Runs that two places share count once in ``runs`` and ``done``; ``folds`` is 0 without."""

    study: StudyConfig
    workers: int
    runs: int
    done: int
    places: tuple[PlaceEstimate, ...]
    warnings: tuple[str, ...]
    seconds_left: float | None
    folds: int = 0


def look_ahead(
    study: StudyConfig, source: CorpusSource, out: Path, workers: int, manifest: Callable[[], Manifest]
) -> StudyEstimate:
    """What ``run_study`` would do now.

    The corpus is opened, by ``manifest``, only where the answer depends on it: for the number of labels of a study that
    is matched by parameters, and beside a store that was made from another source.

    Raises:
        StudyError, StoreError: what would stop the study before its first run; clips that are too short or too few show
            only when it runs.
    """
    labels: int | None
    source, folds = folded(source, study), tuple[str, ...]()
    store = Store.open(out) if (out / "study.json").exists() else None
    if store is None and out.exists():
        with naming(out):
            check_free(out)
    if store is not None and store.header.source == source:
        corpus, labels = store.header.corpus, len(store.corpus.labels)
        folds = store.corpus.fold_names
    elif store is not None or study.match == "parameters" or study.fold_rule != NONE:
        found = manifest()
        corpus, labels = CorpusRef(name=found.corpus, checksum=found.checksum), len(found.labels)
        folds = fold_names(found)
    else:
        corpus, labels = CorpusRef(name=source.spec, checksum=""), None
    planned = plan(study, corpus, labels, folds=folds)
    seconds: dict[str, float] = {}
    if store is not None:
        asked = {run.place for run in planned}
        planned = tuple(run for run in store.grown(study, corpus, source).runs if run.place in asked)
        seconds = _seconds(store, planned)
    places = _places(study, planned, seconds, labels)
    once = {run.id: run for run in planned}
    return StudyEstimate(
        study=study,
        workers=workers,
        runs=len(once),
        done=len(seconds),
        places=tuple(places.values()),
        warnings=tuple(far_off(study, planned, labels)),
        seconds_left=_left(
            [places[run.row, run.column].seconds for run in once.values() if run.id not in seconds], workers
        ),
        folds=len({run.fold for run in planned if run.fold}),
    )


def worker_count(asked: int | None) -> int:
    """How many runs at a time: what was asked for, else the number of cores.

    Raises:
        StudyError: fewer than one.

    >>> worker_count(3)
    3
    """
    count = (os.cpu_count() or 1) if asked is None else asked
    if count < 1:
        raise StudyError(f"workers={count} is invalid: it must be at least 1")
    return count


def far_off(study: StudyConfig, runs: Iterable[PlannedRun], labels: int | None) -> list[str]:
    """A sentence for each row whose nearest hidden size is still more than ``CLOSE`` away from the reference."""
    firsts = {(run.row, run.column): run.config for run in runs}
    sentences = []
    for (row, column), config in firsts.items():
        reference = firsts[study.reference or row, column]
        off = _off(study, config, reference, labels)
        if abs(off) > CLOSE:
            where = f"row {row!r}" + (f", column {column!r}" if column else "")
            sentences.append(
                f"study {study.name!r}, {where}: the nearest to {study.reference!r} in {study.match} is "
                f"hidden={config.model.hidden}, {abs(off):.1%} {'more' if off > 0 else 'fewer'}; compare it with care, "
                f"or give {study.reference!r} more hidden units"
            )
    return sentences


def _off(study: StudyConfig, config: RunConfig, reference: RunConfig, labels: int | None) -> float:
    if not study.reference:
        return 0.0
    own, target = (counter(study.match, one, labels)(one.model.hidden) for one in (config, reference))
    return own / target - 1


def _seconds(store: Store, runs: Sequence[PlannedRun]) -> dict[str, float]:
    """How long each finished run took, by id."""
    once = {run.id: run for run in runs}.values()
    return {run.id: run.result.total_seconds for run in store.each_result(once, curves=False)}


def _places(
    study: StudyConfig, runs: Sequence[PlannedRun], seconds: Mapping[str, float], labels: int | None
) -> dict[tuple[str, str], PlaceEstimate]:
    columns = [column.name for column in study.columns] or [""]
    groups: dict[tuple[str, str], list[PlannedRun]] = {(row.name, c): [] for row in study.rows for c in columns}
    for run in runs:
        groups[run.row, run.column].append(run)
    work = {place: cost(group[0].config) for place, group in groups.items()}
    spent = sum(work[run.row, run.column] for run in runs if run.id in seconds)
    each = sum(seconds[run.id] for run in runs if run.id in seconds) / spent if spent else None
    found = {}
    for (row, column), group in groups.items():
        config, took = group[0].config, [seconds[run.id] for run in group if run.id in seconds]
        size = ModelSize.of(config.model, config.features.dimensions)
        guess = None if each is None else each * work[row, column]
        found[row, column] = PlaceEstimate(
            row=row,
            column=column,
            runs=len(group),
            done=len(took),
            hidden=config.model.hidden,
            parameters=None if labels is None else size.parameters(labels),
            flops=size.flops(),
            off=_off(study, config, groups[study.reference or row, column][0].config, labels),
            seconds=fmean(took) if took else guess,
        )
    return found


def _left(times: Sequence[float | None], workers: int) -> float | None:
    known = [time for time in times if time is not None]
    if len(known) < len(times):
        return None
    return max(sum(known) / workers, max(known, default=0.0))  # one run is on one worker
