"""Pool the runs of all folds of a cross-validation into one run, as reports count them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from cello.errors import StoreError
from cello.study.corpus_file import CorpusSummary
from cello.study.plan import PlannedRun, on_fold
from cello.training.result import ConditionMetrics, Epoch, RunResult, SplitMetrics

CURVES = tuple(name for name in Epoch.__struct_fields__ if name not in ("epoch", "epoch_cpu_seconds"))


class StoredRun(msgspec.Struct, frozen=True, kw_only=True):
    """A planned run that is finished, with its result; ``parts`` are the runs of single folds that one is made of."""

    planned: PlannedRun
    result: RunResult
    parts: tuple[StoredRun, ...] = ()

    @property
    def id(self) -> str:
        return self.planned.id

    @property
    def row(self) -> str:
        return self.planned.row

    @property
    def column(self) -> str:
        return self.planned.column

    @property
    def seed(self) -> int:
        return self.planned.seed


def pooled(runs: Iterable[StoredRun], corpus: CorpusSummary) -> list[StoredRun]:
    """One run for each row, column and seed whose folds are all finished, in the order of the first of them."""
    names = corpus.fold_names
    groups: dict[tuple[str, str, int], dict[str, StoredRun]] = {}
    for run in runs:
        groups.setdefault((run.row, run.column, run.seed), {})[run.planned.fold] = run
    whole = [[own[name] for name in names] for own in groups.values() if all(name in own for name in names)]
    return [_pool(parts) for parts in whole]


def joined(corpus: CorpusSummary, by_fold: Mapping[str, Mapping[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """The arrays of all folds' predictions, each clip at its place in the corpus.

    Raises:
        StoreError: a fold's predictions are not of as many clips as the corpus has in it.
    """
    found: dict[str, NDArray[Any]] = {}
    for fold, arrays in by_fold.items():
        place = corpus.tested_by(fold, 0)
        for name, array in arrays.items():
            if len(array) != len(place):
                raise StoreError(
                    f"predictions of fold {fold!r} are of {len(array)} clips, and corpus.json has {len(place)} in it; "
                    f"restore corpus.json from the study's own run"
                )
            found.setdefault(name, np.zeros(len(corpus.test_folds), array.dtype))[place] = array
    return found


def _pool(parts: Sequence[StoredRun]) -> StoredRun:
    first = parts[0]
    config = on_fold(first.planned.config, "")
    planned = msgspec.structs.replace(first.planned, id=config.id, config=config)
    result = _result([part.result for part in parts], planned.id)
    result = msgspec.structs.replace(result, config=config)
    return msgspec.structs.replace(first, planned=planned, result=result, parts=tuple(parts))


def _result(results: Sequence[RunResult], run: str) -> RunResult:
    """Clips counted once each as they were tested; costs as means over the folds, the whole time as their sum."""

    def mean(field: str) -> float:
        return fmean(getattr(result, field) for result in results)

    confusion = np.sum([result.confusion for result in results], axis=0)
    test = _together([result.test for result in results])
    return msgspec.structs.replace(
        results[0],
        run=run,
        chosen_epoch=round(mean("chosen_epoch")),
        train=_together([result.train for result in results]),
        validation=_together([result.validation for result in results]),
        test=msgspec.structs.replace(test, word_mean=_label_mean(confusion, test.word_mean)),
        confusion=tuple(tuple(map(int, row)) for row in confusion.tolist()),
        seconds_per_epoch=mean("seconds_per_epoch"),
        wall_seconds_per_epoch=mean("wall_seconds_per_epoch"),
        clips_per_second=mean("clips_per_second"),
        epoch_seconds=mean("epoch_seconds"),
        epoch_cpu_seconds=_mean_known([result.epoch_cpu_seconds for result in results]),
        epoch_clips_per_second=mean("epoch_clips_per_second"),
        total_seconds=sum(result.total_seconds for result in results),
        hardware=_facts([result.hardware for result in results]),
        versions=_facts([result.versions for result in results]),
        history=_history([result.history for result in results]),
        conditions=_conditions([result.conditions for result in results]),
    )


def _together(splits: Sequence[SplitMetrics]) -> SplitMetrics:
    clips = sum(split.clips for split in splits)

    def share(field: str) -> float:
        return sum(split.clips * float(getattr(split, field)) for split in splits) / max(clips, 1)

    accuracy, word_mean = min(share("accuracy"), 1.0), min(share("word_mean"), 1.0)
    return SplitMetrics(clips=clips, loss=share("loss"), accuracy=accuracy, word_mean=word_mean)


def _label_mean(confusion: NDArray[Any], otherwise: float) -> float:
    """The mean of the labels' accuracies over all folds' clips: a fold may lack a label."""
    if confusion.ndim != 2:
        return otherwise
    clips = confusion.sum(axis=1)
    tested = clips > 0
    return float((np.diag(confusion)[tested] / clips[tested]).mean()) if tested.any() else otherwise


def _facts(found: Sequence[dict[str, str]]) -> dict[str, str]:
    names = dict.fromkeys(name for facts in found for name in facts)
    return {name: ", ".join(dict.fromkeys(facts[name] for facts in found if name in facts)) for name in names}


def _history(found: Sequence[tuple[Epoch, ...]]) -> tuple[Epoch, ...]:
    """The mean curve over the folds."""
    return tuple(
        Epoch(
            epoch=epochs[0].epoch,
            epoch_cpu_seconds=_mean_known([epoch.epoch_cpu_seconds for epoch in epochs]),
            **{name: fmean(getattr(epoch, name) for epoch in epochs) for name in CURVES},
        )
        for epochs in zip(*found, strict=False)
    )


def _mean_known(values: Sequence[float | None]) -> float | None:
    """The mean, None where one is not known: runs of an older version record less."""
    known = [value for value in values if value is not None]
    return fmean(known) if known and len(known) == len(values) else None


def _conditions(found: Sequence[tuple[ConditionMetrics, ...]]) -> tuple[ConditionMetrics, ...]:
    return tuple(
        msgspec.structs.replace(of_one[0], test=_together([condition.test for condition in of_one]))
        for of_one in zip(*found, strict=False)
    )
