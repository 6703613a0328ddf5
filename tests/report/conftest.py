"""Made-up studies for the reporters: no audio, no training, the same numbers on every machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import msgspec
import numpy as np
import pytest

from cello.audio.augment import AugmentConfig
from cello.audio.corpus import SPLITS, BadClip, Clip, Manifest
from cello.audio.origin import Origin
from cello.features.config import FeatureConfig
from cello.models.config import ModelConfig
from cello.report.comparisons import compare_models
from cello.report.results import FoldRun, Run, StudyResults, load_results
from cello.study.config import Column, Row, StudyConfig
from cello.study.corpus_file import CorpusSummary, FoldSummary, SplitSummary, write_corpus
from cello.study.own_cells import WrittenCell
from cello.study.reference_figures import builtin_figures
from cello.study.store import CorpusSource, Store
from cello.study.study_file import load_study
from cello.training.config import CorpusRef, OptimiserConfig, RunConfig
from cello.training.result import ConditionKind, ConditionMetrics, Epoch, RunResult, SplitMetrics

WORDS = ("bed", "cat", "down", "eight", "five", "go", "happy", "left", "one", "right", "up", "zero")
MODELS = {
    "rnn": 0.80,
    "rnn, both ways": 0.84,
    "gru": 0.945,
    "gru, both ways": 0.95,
    "lstm": 0.935,
    "lstm, both ways": 0.942,
}
WINDOWS = {"20 ms": 20.0, "40 ms": 40.0, "80 ms": 80.0, "120 ms": 120.0}
GATE_CELLS = ("lstm", "lstm-peephole-full", "lstm-coupled", "lstm-no-forget", "lstm-no-input", "lstm-no-output")
COUNTS = {"train": 505, "validation": 54, "test": 223}


def _history(rng: np.random.Generator, top: float, epochs: int, seconds: float) -> tuple[Epoch, ...]:
    steps = np.arange(1, epochs + 1)
    train = (top + 0.02) * (1 - np.exp(-steps / 4)) + rng.normal(0, 0.003, epochs)
    validation = top * (1 - np.exp(-steps / 3.5)) + rng.normal(0, 0.008, epochs)
    return tuple(
        Epoch(
            epoch=int(n),
            learning_rate=2e-3,
            train_loss=float(2.4 * (1.01 - t)),
            train_accuracy=float(np.clip(t, 0, 1)),
            validation_loss=float(2.5 * (1.02 - v)),
            validation_accuracy=float(np.clip(v, 0, 1)),
            train_seconds=seconds * 1.1,
            train_cpu_seconds=seconds,
            data_seconds=0.2,
            validation_seconds=0.1,
        )
        for n, t, v in zip(steps, train, validation, strict=True)
    )


def _confusion(rng: np.random.Generator, accuracy: float, clips: int, labels: int) -> np.ndarray:
    shares = rng.dirichlet(np.full(labels, 0.4), size=labels) * (1 - accuracy)
    shares[np.arange(labels), np.arange(labels)] += accuracy
    return np.stack([rng.multinomial(clips, row / row.sum()) for row in shares])


def made_up_result(
    *,
    cell: str,
    top: float,
    window_ms: float,
    seed: int,
    labels: tuple[str, ...] = WORDS,
    epochs: int = 30,
    both: bool = False,
) -> RunResult:
    """One finished run with curves that rise, a confusion matrix that fits its accuracy, and fixed times."""
    rng = np.random.default_rng([seed, int(window_ms), sum(map(ord, cell)), both])
    top = float(top + rng.normal(0, 0.004))
    confusion = _confusion(rng, top, COUNTS["test"], len(labels))
    accuracy = float(np.trace(confusion) / confusion.sum())
    seconds = 60 / window_ms * (1.8 if both else 1.0) * (0.6 if "rnn" in cell else 1.0)
    config = RunConfig(
        corpus=CorpusRef(name="made up", checksum="ab" * 32),
        features=FeatureConfig(window_ms=window_ms),
        augment=AugmentConfig(shift_ms=100.0),
        model=ModelConfig(cell=cell, bidirectional=both),
        optimiser=OptimiserConfig(epochs=epochs),
        seed=seed,
    )

    def split(name: str, value: float) -> SplitMetrics:
        return SplitMetrics(
            clips=COUNTS[name] * len(labels), loss=4 * (1.01 - value), accuracy=value, word_mean=value - 0.004
        )

    return RunResult(
        run=config.id,
        config=config,
        labels=labels,
        parameters=(23_000 if "rnn" in cell else 61_452) * (2 if both else 1),
        backend="plain",
        chosen_epoch=epochs,
        train=split("train", min(top + 0.03, 0.999)),
        validation=split("validation", top),
        test=split("test", accuracy),
        confusion=tuple(tuple(int(n) for n in row) for row in confusion),
        seconds_per_epoch=seconds,
        wall_seconds_per_epoch=seconds * 1.1,
        clips_per_second=6060 / seconds,
        total_seconds=epochs * seconds * 1.2,
        hardware={"cpu": "Example CPU 3 GHz", "cores": "2"},
        versions={"cello": "0.1.0", "torch": "2.13.0"},
        history=_history(rng, top, epochs, seconds),
    )


def corpus_summary(labels: tuple[str, ...] = WORDS) -> CorpusSummary:
    return CorpusSummary(
        name="made up",
        source="spoken",
        rate_hz=16_000,
        checksum="ab" * 32,
        labels=labels,
        splits={
            split: SplitSummary(clips=n * len(labels), speakers=n // 4, clips_by_label=dict.fromkeys(labels, n))
            for split, n in COUNTS.items()
        },
        bad=(BadClip(name="cat/00_nohash_1.wav", reason="truncated: 8,000 of 16,000 samples"),),
    )


def windows_study(seeds: int = 3, epochs: int = 30) -> StudyResults:
    """6 models × 4 windows, every run finished."""
    runs = [
        Run(
            row=row,
            column=column,
            seed=seed,
            result=made_up_result(
                cell=row.split(",")[0],
                top=top - 0.0006 * abs(ms - 40),
                window_ms=ms,
                seed=seed,
                epochs=epochs,
                both="," in row,
            ),
        )
        for row, top in MODELS.items()
        for column, ms in WINDOWS.items()
        for seed in range(seeds)
    ]
    return StudyResults(
        name="windows", title="Windows", reference_figures=builtin_figures("windows"), protocol="fair",
        rows=tuple(MODELS), columns=tuple(WINDOWS),
        seeds=tuple(range(seeds)), planned=tuple((r.row, r.column, r.seed) for r in runs), corpus=corpus_summary(),
        runs=tuple(runs),
    )  # fmt: skip


def gates_study(labels: tuple[str, ...] = WORDS, seeds: int = 3, epochs: int = 30) -> StudyResults:
    """The six cells of the gates study at one window."""
    tops = (0.94, 0.945, 0.95, 0.93, 0.82, 0.90)
    runs = [
        Run(row=cell, column="40 ms", seed=seed,
            result=made_up_result(cell=cell, top=top, window_ms=40, seed=seed, labels=labels, epochs=epochs))
        for cell, top in zip(GATE_CELLS, tops, strict=True)
        for seed in range(seeds)
    ]  # fmt: skip
    return StudyResults(
        name="gates", title="Gates", reference_figures=builtin_figures("gates"), protocol="fair",
        rows=GATE_CELLS, columns=("40 ms",),
        seeds=tuple(range(seeds)), planned=tuple((r.row, r.column, r.seed) for r in runs),
        corpus=corpus_summary(labels), runs=tuple(runs),
    )  # fmt: skip


def _answers(result: RunResult, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Targets, label by label, and answers that add up to the result's confusion matrix, in the seed's order."""
    rng = np.random.default_rng(seed)
    labels = len(result.labels)
    rows = [rng.permutation(np.repeat(np.arange(labels), row)) for row in result.confusion]
    return np.repeat(np.arange(labels), [len(row) for row in rows]), np.concatenate(rows)


def _speakers(targets: Sequence[int] | np.ndarray) -> list[int]:
    """Who said the test clips: ten in a row are one speaker's."""
    return [place // 10 for place in range(len(targets))]


def with_comparisons(results: StudyResults) -> StudyResults:
    """The study with its models ranked and compared in each column."""
    found = []
    for column in results.columns:
        correct = {}
        for row in results.rows:
            answers = [_answers(run, run.config.seed) for run in results.cell(row, column)]
            if answers:
                correct[row] = np.stack([target == answer for target, answer in answers])
                speakers = _speakers(answers[0][0])
        found.append(compare_models(column, correct, speakers))
    return msgspec.structs.replace(results, comparisons=tuple(found))


def fill_store(folder: Path, results: StudyResults) -> Store:
    """A store on disk that holds a made-up study, as running it would have left it."""
    columns = {r.column: {"window_ms": r.result.config.features.window_ms} for r in results.runs}
    models = {r.row: msgspec.to_builtins(r.result.config.model) for r in results.runs}
    study = StudyConfig(
        name=results.name,
        title=results.title,
        notebook=load_study(results.name).notebook,
        reference_figures=results.reference_figures,
        seeds=results.seeds,
        columns=tuple(Column(name=name, features=features) for name, features in columns.items()),
        rows=tuple(Row(name=name, model=model) for name, model in models.items()),
    )
    targets = _answers(results.runs[0].result, 0)[0]
    said = tuple(
        Clip(name=f"{k}.wav", label=results.corpus.labels[t], split="test", speaker=f"{s}", start=0, samples=16_000)
        for k, (t, s) in enumerate(zip(targets, _speakers(targets), strict=True))
    )
    clips = said + tuple(
        Clip(name=f"{label}/{split}.wav", label=label, split=split, speaker=split, start=0, samples=16_000)
        for split in SPLITS[:2]
        for label in results.corpus.labels
    )
    manifest = Manifest(
        corpus="made up", rate_hz=16_000, labels=results.corpus.labels, clips=clips, bad=results.corpus.bad,
        checksum="ab" * 32, source=results.corpus.source,
    )  # fmt: skip
    store = Store.create_or_open(folder, study, manifest, CorpusSource(spec="made up"))
    found = {(r.row, r.column, r.seed): r.result for r in results.runs}
    for run in store.runs:
        if run.place in found:
            path = store.run_folder(run) / "result.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            result = msgspec.structs.replace(found[run.place], run=run.id, config=run.config)
            path.write_bytes(msgspec.json.encode(result))
            target, answer = _answers(result, run.seed)
            sure = np.full(len(target), 0.9, dtype=np.float16)
            np.savez(path.with_name("predictions.npz"), target=target, prediction=answer, prediction_probability=sure)
    return store


@pytest.fixture(scope="session")
def small(windows: StudyResults) -> StudyResults:
    """Two models, two windows, two seeds."""
    rows, columns = ("rnn", "gru"), ("20 ms", "40 ms")
    runs = tuple(r for r in windows.runs if r.row in rows and r.column in columns)
    planned = tuple((r.row, r.column, r.seed) for r in runs)
    return with_comparisons(msgspec.structs.replace(windows, rows=rows, columns=columns, runs=runs, planned=planned))


CRIES = ("hunger", "pain", "sleep")


@pytest.fixture(scope="session")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> StudyResults:
    """Somebody's own corpus: babies' cries, a table that names wards and rooms, a cell of one's own."""
    study = gates_study(CRIES, seeds=2, epochs=2)
    study = msgspec.structs.replace(
        study, corpus=msgspec.structs.replace(study.corpus, source="table:cries.csv", origin=Origin())
    )
    folder = tmp_path_factory.mktemp("foreign") / "study"
    store = fill_store(folder, study)
    clips = len(store.corpus.test_names)
    wards, rooms = (tuple(f"{name} {k % n}" for k in range(clips)) for name, n in (("ward", 2), ("room", 40)))
    write_corpus(folder, msgspec.structs.replace(store.corpus, columns={"ward": wards, "room": rooms}))
    found = load_results(folder)
    return msgspec.structs.replace(found, own_cells=(WrittenCell("mine", "h[t] = x[t] * b", "h_{t} &= x_{t} b"),))


@pytest.fixture(scope="session")
def stored(tmp_path_factory: pytest.TempPathFactory, small: StudyResults) -> Path:
    """The folder of the small study, all runs finished."""
    folder = tmp_path_factory.mktemp("made-up") / "study"
    fill_store(folder, small)
    return folder


@pytest.fixture
def fill() -> Callable[[Path, StudyResults], Store]:
    return fill_store


@pytest.fixture
def many_labels() -> StudyResults:
    """A gates study of 35 words with one seed."""
    return gates_study(labels=tuple(f"word{k}" for k in range(35)), seeds=1, epochs=2)


@pytest.fixture(scope="session")
def windows() -> StudyResults:
    return with_comparisons(windows_study(seeds=2, epochs=6))


@pytest.fixture(scope="session")
def gates() -> StudyResults:
    return with_comparisons(gates_study(seeds=5, epochs=4))


@pytest.fixture(scope="session")
def page() -> Callable[[StudyResults], str]:
    """The page of a study, whose pictures take a second: made once for all tests that read it."""
    from cello.report.formats import html

    made: dict[int, tuple[StudyResults, str]] = {}

    def of(study: StudyResults) -> str:
        if id(study) not in made:
            made[id(study)] = study, html.report(study)
        return made[id(study)][1]

    return of


@pytest.fixture(scope="session")
def words() -> Callable[[StudyResults], str]:
    """The page of a study with the descriptions of its pictures in their places, for tests that read its text alone."""
    from cello.report.formats import html

    def of(study: StudyResults) -> str:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(html.plots, "svgs", lambda named: [html.escape(panel.description) for panel, _ in named])
            return html.report(study)

    return of


@pytest.fixture(scope="session")
def without() -> Callable[[StudyResults, Callable[[Run], bool]], StudyResults]:
    """A copy of a study that lacks the runs a test names."""

    def remove(study: StudyResults, gone: Callable[[Run], bool]) -> StudyResults:
        return msgspec.structs.replace(study, runs=tuple(r for r in study.runs if not gone(r)))

    return remove


@pytest.fixture(scope="session")
def recompared() -> Callable[[StudyResults], StudyResults]:
    return with_comparisons


@pytest.fixture(scope="session")
def noisy(small: StudyResults) -> StudyResults:
    """The small study with its test clips heard under noise, in which accuracy falls, moved, and with frames lost."""

    def heard(run: Run) -> Run:
        changes: tuple[tuple[ConditionKind, float, float], ...]
        changes = (("snr_db", 20.0, 0.01), ("snr_db", -5.0, 0.3), ("shift_ms", -100.0, 0.1), ("shift_ms", 100.0, 0.05))
        changes += (("lost_frames", 0.1, 0.02), ("lost_frames", 0.5, 0.2))
        test = run.result.test
        conditions = tuple(
            ConditionMetrics(kind=kind, value=value, test=msgspec.structs.replace(test, accuracy=test.accuracy - loss))
            for kind, value, loss in changes
        )
        return msgspec.structs.replace(run, result=msgspec.structs.replace(run.result, conditions=conditions))

    return msgspec.structs.replace(small, runs=tuple(map(heard, small.runs)))


class Reconfigured(Protocol):
    def __call__(
        self, study: StudyResults, part: str, *, row: str = "", column: str = "", **values: object
    ) -> StudyResults: ...


@pytest.fixture(scope="session")
def reconfigured() -> Reconfigured:
    """A copy of a study in which runs have other settings in one section: all runs, a row's or a column's."""

    def change(study: StudyResults, part: str, *, row: str = "", column: str = "", **values: object) -> StudyResults:
        def swap(run: Run) -> Run:
            if row not in ("", run.row) or column not in ("", run.column):
                return run
            section = msgspec.structs.replace(getattr(run.result.config, part), **values)
            config = msgspec.structs.replace(run.result.config, **{part: section})
            return msgspec.structs.replace(run, result=msgspec.structs.replace(run.result, config=config))

        return msgspec.structs.replace(study, runs=tuple(map(swap, study.runs)))

    return change


@pytest.fixture
def folded(gates: StudyResults) -> StudyResults:
    """The study as if each of its runs were those of three folds together."""
    results, names = gates, ("1", "2", "3")
    whole = results.corpus.splits["test"]
    part = SplitSummary(clips=whole.clips, speakers=9, clips_by_label=whole.clips_by_label)
    clips = {label: len(names) * n for label, n in part.clips_by_label.items()}
    everything = SplitSummary(clips=len(names) * part.clips, speakers=9 * len(names), clips_by_label=clips)
    corpus = msgspec.structs.replace(
        results.corpus,
        source=f"folder:mine, split by {len(names)} folds grouped by speaker",
        origin=Origin(),
        folds=tuple(FoldSummary(name=name, test=part) for name in names),
        splits=dict.fromkeys(results.corpus.splits, everything),
        speakers_known=True,
        shared_speakers=0,
    )
    runs = tuple(
        FoldRun(
            row=run.row, column=run.column, seed=run.seed, fold=name, run=run.result.run, clips=part.clips,
            accuracy=0.5 + 0.01 * place, validation_accuracy=0.5,
        )
        for run in results.runs
        for place, name in enumerate(names)
    )  # fmt: skip
    return msgspec.structs.replace(results, corpus=corpus, fold_runs=runs)
