"""What hurts: a fold planned twice or not at all, an accuracy over folds that is not that of the clips."""

from __future__ import annotations

from pathlib import Path

import fake_training
import msgspec
import numpy as np
import pytest

from cello.audio.folds import fold, fold_names, of_fold
from cello.errors import StoreError, StudyError
from cello.statistics.cross_validation import fold_components, validated_ratio
from cello.study.compatibility import check_clips
from cello.study.config import StudyConfig
from cello.study.corpus_file import CorpusSummary, read_corpus, write_corpus
from cello.study.overrides import override
from cello.study.plan import PlannedRun, plan
from cello.study.pools import StoredRun, joined, pooled
from cello.study.store import CorpusSource, Store, folded
from cello.study.study_file import parse_study
from cello.training.config import CorpusRef

CORPUS = CorpusRef(name="tones", checksum="0" * 64)


@pytest.fixture
def three(small: StudyConfig) -> StudyConfig:
    return override(small, folds="speaker")


@pytest.fixture
def summary() -> CorpusSummary:
    return CorpusSummary.of(fold(fake_training.open_fake("fake"), "speaker").manifest)


def test_every_row_and_seed_is_planned_once_on_each_fold(three: StudyConfig, small: StudyConfig) -> None:
    runs = plan(three, CORPUS, folds=("a", "b", "c"))
    assert len(runs) == len({run.place for run in runs}) == len({run.id for run in runs}) == 3 * 2 * 3
    assert [run.seed for run in runs] == [0] * 9 + [1] * 9
    assert {run.fold for run in runs} == {"a", "b", "c"}
    assert all(run.id == run.config.id for run in runs)
    assert str(runs[0]).endswith(", seed 0, fold a")
    assert not {run.id for run in runs} & {run.id for run in plan(small, CORPUS)}


def test_folds_are_a_key_of_the_file_that_the_command_line_overrides(small: StudyConfig) -> None:
    text = 'name = "x"\nfolds = 5\n[[rows]]\nname = "A"\n'
    assert parse_study(text, "f").fold_rule == "5"
    assert override(parse_study(text, "f"), folds="none").fold_rule == "none"
    assert override(parse_study(text, "f"), seeds=[1]).fold_rule == "5"
    with pytest.raises(StudyError, match=r"f: study 'x': folds=2 is invalid: it must be column, speaker, or a number"):
        parse_study(text.replace("5", "2"), "f")
    with pytest.raises(StudyError, match=r"f: rows\[0\].data.fold is one fold, and a study runs all of them; write"):
        parse_study(text + '[rows.data]\nfold = "1"\n', "f")
    with pytest.raises(StudyError, match=r"override: .*data.fold|small: base.*|small: rows\[0\].data.fold is one fold"):
        override(small, settings={"data.fold": "1"})


def test_a_study_of_folds_needs_a_corpus_of_folds(three: StudyConfig) -> None:
    with pytest.raises(StudyError, match=r"has folds = speaker, and its corpus is not divided into folds"):
        plan(three, CORPUS)
    many = override(three, seeds=range(60_000))
    with pytest.raises(StudyError, match=r"6 folds of study 'small' make 1,080,000 runs, more than the 1000000"):
        plan(many, CORPUS, folds=tuple("abcdef"))


def test_the_source_carries_the_folds_to_whoever_opens_the_corpus(three: StudyConfig, small: StudyConfig) -> None:
    plain = CorpusSource(spec="c", options={"rate_hz": 8000, "reading": {"pattern": "x"}})
    with_folds = folded(plain, three)
    assert with_folds.options["reading"] == {"pattern": "x", "folds": "speaker"}
    assert folded(with_folds, small) == plain
    assert folded(CorpusSource(spec="c"), small) == CorpusSource(spec="c")


def stored(run: PlannedRun, accuracy: float, clips: int) -> StoredRun:
    result = fake_training.result_of(run.config, [fake_training.epoch_of(run.config, 1, 0.5)])
    test = msgspec.structs.replace(result.test, accuracy=accuracy, clips=clips)
    return StoredRun(planned=run, result=msgspec.structs.replace(result, test=test))


def test_larger_folds_count_more_and_a_seed_counts_when_all_its_folds_are_finished(
    three: StudyConfig, summary: CorpusSummary
) -> None:
    runs = [run for run in plan(three, CORPUS, folds=summary.fold_names) if run.row == "A"]
    shares = dict(zip(summary.fold_names, ((1.0, 10), (0.5, 20), (0.0, 30)), strict=True))
    (first,) = pooled([stored(run, *shares[run.fold]) for run in runs[:-1]], summary)
    assert first.seed == 0
    assert (first.result.test.clips, first.result.test.accuracy) == (60, pytest.approx(20 / 60))
    assert first.result.confusion == ((3, 0, 0), (0, 3, 0), (0, 0, 3))
    assert first.result.total_seconds == pytest.approx(0.3)
    assert len(first.result.history) == 1
    assert first.id == first.result.run == first.result.config.id
    assert first.result.config.data.fold == ""
    assert [part.planned.fold for part in first.parts] == list(summary.fold_names)


def test_times_of_whole_epochs_are_means_over_folds_and_absent_where_a_fold_lacks_one(
    three: StudyConfig, summary: CorpusSummary
) -> None:
    runs = [run for run in plan(three, CORPUS, folds=summary.fold_names) if run.row == "A" and run.seed == 0]

    def pool(*cpu: float | None) -> StoredRun:
        found = []
        for number, (run, seconds) in enumerate(zip(runs, cpu, strict=True), start=1):
            epoch = msgspec.structs.replace(
                fake_training.epoch_of(run.config, 1, 0.5), epoch_seconds=float(number), epoch_cpu_seconds=seconds
            )
            found.append(StoredRun(planned=run, result=fake_training.result_of(run.config, [epoch])))
        return pooled(found, summary)[0]

    whole, partly = pool(3.0, 4.0, 5.0), pool(3.0, None, 5.0)
    for one, cpu in ((whole, 4.0), (partly, None)):
        assert (one.result.epoch_seconds, one.result.epoch_cpu_seconds) == (2.0, cpu)
        assert (one.result.history[0].epoch_seconds, one.result.history[0].epoch_cpu_seconds) == (2.0, cpu)
    each = [part.result.epoch_clips_per_second for part in whole.parts]
    assert whole.result.epoch_clips_per_second == pytest.approx(sum(each) / 3)


def test_predictions_stand_where_their_clips_do(summary: CorpusSummary) -> None:
    by_fold = {name: {"target": np.arange(3) + 10 * place} for place, name in enumerate(summary.fold_names)}
    found = joined(summary, by_fold)["target"]
    numbers = np.array(summary.test_folds)
    for place in range(3):
        assert found[numbers == place].tolist() == [10 * place, 10 * place + 1, 10 * place + 2]
    with pytest.raises(StoreError, match=r"predictions of fold .* are of 2 clips, and corpus.json has 3 in it"):
        joined(summary, {summary.fold_names[0]: {"target": np.arange(2)}})


def test_the_corpus_of_one_fold_is_that_of_its_run(summary: CorpusSummary) -> None:
    manifest = fold(fake_training.open_fake("fake"), "speaker").manifest
    for name in fold_names(manifest):
        own, told = summary.of_fold(name), CorpusSummary.of(of_fold(manifest, name))
        assert (own.splits, own.test_names, own.folds) == (told.splits, told.test_names, ())


def test_folds_that_do_not_fit_the_clips_are_damage(summary: CorpusSummary, tmp_path: Path) -> None:
    write_corpus(tmp_path, summary)
    assert read_corpus(tmp_path / "corpus.json") == summary
    for wrong in ((0,), (*summary.test_folds[:-1], 3), ()):
        write_corpus(tmp_path, msgspec.structs.replace(summary, test_folds=wrong))
        with pytest.raises(StoreError, match=r"its folds are not those of its test clips"):
            read_corpus(tmp_path / "corpus.json")


def test_too_few_clips_of_a_label_in_one_fold_are_seen_before_anything_runs(three: StudyConfig) -> None:
    corpus = fold(fake_training.open_fake("fake"), "speaker")
    few = override(three, settings={"data.clips_per_label": 2})
    with pytest.raises(StudyError, match=r"has 1 training clips; give at most 1"):
        check_clips("small", plan(few, CORPUS, folds=fold_names(corpus.manifest)), corpus)


def test_a_store_of_other_folds_is_another_study(three: StudyConfig, small: StudyConfig, tmp_path: Path) -> None:
    manifest = fold(fake_training.open_fake("fake"), "speaker").manifest
    Store.create_or_open(tmp_path / "out", three, manifest, CorpusSource(spec="fake"))
    again = Store.create_or_open(tmp_path / "out", three, manifest, CorpusSource(spec="fake"))
    assert len(again.runs) == 18
    more = override(three, seeds=[0, 1, 2])
    wider = Store.create_or_open(tmp_path / "out", more, manifest, CorpusSource(spec="fake"))
    assert len(wider.runs) == 27
    with pytest.raises(StoreError, match=r"its division into folds is speaker, not none; choose another --out"):
        Store.create_or_open(tmp_path / "out", small, fake_training.manifest(), CorpusSource(spec="fake"))


def test_a_fold_that_validates_is_not_counted_as_trained_on() -> None:
    assert validated_ratio([5] * 10) == pytest.approx(1 / 8)
    assert validated_ratio([1, 2, 3]) == pytest.approx((1 / 6) * (1 / 2) + (2 / 6) * (2 / 3) + (3 / 6) * (3 / 1))
    right = [[[1, 1, 0, 1, 1, 0]]]
    folds = [0, 0, 1, 1, 2, 2]
    careful = fold_components(right, folds, validated_ratio([2, 2, 2])).spread()[0]
    assert careful / fold_components(right, folds).spread()[0] == pytest.approx((1 / 3 + 1) / (1 / 3 + 1 / 2))
