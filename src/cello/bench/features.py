"""Time features, alone and with augmentation, beside other libraries: one thread, CPU time, in turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from typing import NamedTuple

import numpy as np

from cello.audio.augment import AugmentConfig
from cello.audio.corpus import Corpus
from cello.bench.front_ends import (
    LIBRARIES,
    STATIC,
    FrontEnd,
    Lengths,
    Sound,
    cello_frames,
    installed,
    packed,
    plainly_augmented,
)
from cello.bench.measure import WARM_UP, Times, alternate, torch_threads
from cello.bench.record import FEATURE_FORMAT, FeatureRecord, FeatureRow, summarise_features
from cello.bench.settings import FAIR, FeatureBenchConfig, front_end
from cello.features.config import FeatureConfig
from cello.features.front_end import PLAIN

OWN, BY_TORCH = "cello", "cello, by torch"
BATCHES = (8, 16, 64)
"""Clips that another library is given at once; the fastest of these counts, in each round."""


class Case(NamedTuple):
    """What every side computes: these clips of one second, at this window, with these changes."""

    config: FeatureConfig
    changes: AugmentConfig
    corpus: Corpus
    sound: Sound
    lengths: Lengths


def _nothing(*_: object) -> None:
    """The callback that ignores everything."""


def run(
    settings: FeatureBenchConfig,
    about: dict[str, str],
    *,
    on_start: Callable[[str, int], None] = _nothing,
    on_round: Callable[[], None] = _nothing,
) -> FeatureRecord:
    """Measure features at every window, alone and with augmentation; ``about`` is what ``measure.machine`` says.

    ``on_start`` is called before each row, with its name and the number of rounds of all rows; ``on_round`` after every
    round, warm-up included.
    """
    usable, unavailable = installed()
    record = FeatureRecord(format=FEATURE_FORMAT, machine=about, settings=settings, unavailable=unavailable)
    cases = _cases(settings)
    with _one_thread():
        for case in cases:
            augmented = case.changes != AugmentConfig()
            what = f"{case.config.window_ms:g} ms{', augmented' * augmented}"
            on_start(what, len(cases) * (settings.rounds + WARM_UP))
            row = FeatureRow(
                window_ms=case.config.window_ms,
                augmented=augmented,
                sides=summarise_features(*_measured(case, usable, settings.rounds, on_round), settings.clips),
            )
            record = replace(record, rows=(*record.rows, row))
    return record


def _cases(settings: FeatureBenchConfig) -> list[Case]:
    rate = FeatureConfig().rate_hz
    sound = np.random.default_rng(0).normal(0, 0.1, (settings.clips, rate)).astype(np.float32)
    lengths = np.full(settings.clips, rate, dtype=np.int64)
    corpus = packed(sound, lengths, rate)
    sound, _ = corpus.audio(np.arange(settings.clips))
    return [
        Case(front_end(window_ms), changes, corpus, sound, lengths)
        for changes in (AugmentConfig(), FAIR)
        for window_ms in dict.fromkeys(settings.windows_ms)
    ]


def _measured(
    case: Case, libraries: Sequence[str], rounds: int, on_round: Callable[[], None]
) -> tuple[Times, dict[str, float], set[str]]:
    """Times and differences of every side, and the sides whose difference is of static features."""
    steps: dict[str, Callable[[], object]] = {
        OWN: lambda: cello_frames(case.corpus, case.config, case.changes),
        BY_TORCH: lambda: cello_frames(case.corpus, case.config, case.changes, PLAIN),
    }
    own, plain = (cello_frames(case.corpus, case.config, case.changes, backend)[0] for backend in ("auto", PLAIN))
    differences, batched, static = {OWN: 0.0, BY_TORCH: float((own - plain).abs().max())}, {}, set()
    for library in libraries:
        through = LIBRARIES[library](case.config)
        size_names = {f"{library} {size}": size for size in BATCHES if size <= len(case.sound) or size == BATCHES[0]}
        whole, single = f"{library}, batched", f"{library}, clip by clip"
        batched[whole] = list(size_names)
        for name, size in (*size_names.items(), (single, 1)):
            steps[name] = _step(case, through, size)
        differences |= dict.fromkeys((whole, single), largest_difference(case, through, library in STATIC))
        static |= {whole, single} if library in STATIC else set()
    return _best(alternate(steps, rounds, on_round, clock=time.process_time), batched), differences, static


def _step(case: Case, through: FrontEnd, size: int) -> Callable[[], object]:
    def step() -> object:
        sound, _ = plainly_augmented(case.sound, case.lengths, case.config, case.changes)
        return [through(sound[first : first + size]) for first in range(0, len(sound), size)]

    return step


def _best(times: Times, batched: Mapping[str, Sequence[str]]) -> Times:
    """The times with a library's batch sizes as one side, in each round the fastest of them."""
    found = {own: times[own] for own in (OWN, BY_TORCH) if own in times}
    for whole, names in batched.items():
        single = whole.replace("batched", "clip by clip")
        found[whole] = [min(taken) for taken in zip(*(times[name] for name in names), strict=True)]
        found[single] = times[single]
    return found


def largest_difference(case: Case, through: FrontEnd, static: bool) -> float:
    """Of any feature of any clip, each given alone and no longer than it is: other libraries know no padding."""
    own, counts = cello_frames(case.corpus, case.config, case.changes)
    sound, lengths = plainly_augmented(case.sound, case.lengths, case.config, case.changes)
    width = case.config.static_dimensions if static else case.config.dimensions
    largest = 0.0
    for frames, count, clip, length in zip(own.numpy(), counts.tolist(), sound, lengths.tolist(), strict=True):
        its = through(clip[None, :length])[0]
        if its.shape != (count, case.config.dimensions):
            return float("inf")
        largest = max(largest, float(np.abs(frames[:count, :width] - its[:, :width]).max()))
    return largest


@contextmanager
def _one_thread() -> Iterator[None]:
    """One thread for torch and, where threadpoolctl is installed, for NumPy's BLAS."""
    with torch_threads(1):
        try:
            limits = import_module("threadpoolctl").threadpool_limits
        except ModuleNotFoundError:
            yield
            return
        with limits(1):
            yield
