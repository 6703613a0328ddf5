"""What hurts: a cross-validated figure told as that of one split, a test told without what it rests on."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np
import pytest

from cello.audio.origin import Origin
from cello.report import findings, folds, paper, ranking, speakers, tables
from cello.report.comparisons import TOO_FEW_FOLDS, compare_folds
from cello.report.formats import markdown
from cello.report.results import Failure, StudyResults

WithComparisons = Callable[[StudyResults], StudyResults]


@pytest.fixture
def compared(folded: StudyResults) -> StudyResults:
    """Two models on 300 clips of three folds, one seed each."""
    rng, numbers = np.random.default_rng(0), np.arange(300) // 100
    right = {row: rng.random((1, 300)) < share for row, share in zip(folded.rows, (0.9, 0.5), strict=False)}
    return msgspec.structs.replace(folded, comparisons=(compare_folds("40 ms", right, numbers),))


def test_the_summary_says_what_was_cross_validated_and_that_each_clip_counts_once(compared: StudyResults) -> None:
    said = " ".join(findings.summary(compared))
    assert "6 models × 1 window × 5 seeds × 3 folds" in said
    assert "all 90 runs are finished" in said
    assert "Cross-validation: 3 folds grouped by speaker. Each fold tests in turn while the one before" in said
    assert "each of the 8,028 clips is tested exactly once" in said
    assert "which took no part in that choice" not in said  # other folds' runs chose by them
    assert "in 3 folds grouped by speaker. 1 clip left out" in said
    assert "Training sets of 3 folds overlap" in said


def test_the_methods_name_folds_grouping_correction_and_source(compared: StudyResults) -> None:
    said = paper.paragraph(compared)
    for words in (
        "were cross-validated over 3 folds grouped by speaker (no speaker is in two of them): each fold tests in turn "
        "while the one before it validates and the third trains, so that every clip was tested exactly once",
        "5 random seeds (0 to 4) on each of 3 folds, 90 runs in all",
        "by the corrected resampled t-test (Nadeau & Bengio 2003, doi:10.1023/A:1024068626366) over the 3 folds, whose "
        "variance (1/k + n_test/n_train) s² allows for the overlap of the training sets, with 2 degrees of freedom",
        "Training sets of 3 folds overlap",
    ):
        assert words in said, words
    assert "indicative only" not in said
    assert "Satterthwaite" not in said


def test_intervals_speak_of_the_folds_and_of_new_speakers_only_where_none_is_shared(compared: StudyResults) -> None:
    assert "hold for new training sets and new speakers." in speakers.validity(compared)
    ranked = ranking.table(compared)
    assert ranked is not None
    assert "intervals treat seeds and folds as random effects" in ranked.note
    corpus = msgspec.structs.replace(compared.corpus, shared_speakers=4)
    shared = msgspec.structs.replace(compared, corpus=corpus)
    assert "new clips of the same speakers, for some are in several folds" in speakers.validity(shared)
    assert "Of the 27 speakers 4 are in more than one fold." in paper.paragraph(shared)
    assert "(no speaker is in two of them)" not in paper.paragraph(shared)
    unknown = msgspec.structs.replace(compared, corpus=msgspec.structs.replace(corpus, speakers_known=False))
    assert "for who speaks is not known" in speakers.validity(unknown)
    assert "Who speaks is not known" in " ".join(findings.summary(unknown))


def test_one_seed_is_enough_for_a_comparison_and_not_called_indicative(compared: StudyResults) -> None:
    (found,) = compared.comparisons
    assert [model.seeds for model in found.standings] == [1, 1]
    assert not any(model.indicative for model in found.standings)
    (pair,) = found.comparisons
    assert pair.folds == 3
    assert "indicative" not in pair.verdict
    assert compare_folds("", {"A": np.ones((1, 9))}, np.arange(9) // 3).note == TOO_FEW_FOLDS


def test_verdicts_of_one_seed_do_not_guess_at_more_of_them() -> None:
    rng = np.random.default_rng(1)
    right = {name: rng.random((1, 300)) < 0.8 for name in "AB"}
    (pair,) = compare_folds("", right, np.arange(300) // 100).comparisons
    assert "one seed a fold does not tell how many would, these show one of" in pair.verdict
    apart = {"A": np.ones((1, 9)), "B": np.zeros((1, 9))}
    (pair,) = compare_folds("", apart, np.arange(9) // 3).comparisons
    assert (
        "A is better than B by 100.00 points in every fold alike, so its variability cannot be estimated"
        in pair.verdict
    )


def test_each_folds_accuracy_stands_beside_the_pooled_one(compared: StudyResults) -> None:
    table = folds.table(compared)
    assert table is not None
    assert [heading.title for heading in table.headings][-4:] == ["1", "2", "3", "pooled"]
    assert table.rows[0][-4:-1] == ("50.00", "51.00", "52.00")
    assert "Test accuracy by fold" in markdown.report(compared)
    assert [heading.title for heading in tables.corpus_clips(compared).headings] == ["Label", "1", "2", "3", "all"]


def test_of_many_folds_the_lowest_mean_and_highest_stand_in_the_table(compared: StudyResults) -> None:
    names = [f"{number}" for number in range(30)]
    corpus = msgspec.structs.replace(
        compared.corpus, folds=tuple(msgspec.structs.replace(compared.corpus.folds[0], name=name) for name in names)
    )
    runs = tuple(
        msgspec.structs.replace(compared.fold_runs[0], row=run.row, column=run.column, fold=name, accuracy=place / 30)
        for run in compared.runs
        for place, name in enumerate(names)
    )
    many = msgspec.structs.replace(compared, corpus=corpus, fold_runs=runs)
    table = folds.table(many)
    assert table is not None
    assert [heading.title for heading in table.headings][-4:] == ["lowest", "mean", "highest", "pooled"]
    assert table.rows[0][-4:-1] == ("0.00", "48.33", "96.67")
    assert len(tables.corpus_clips(many).headings) == 2


def test_a_failed_fold_is_named(compared: StudyResults) -> None:
    failed = Failure(row="lstm", column="40 ms", seed=0, fold="2", reason="killed")
    assert "Failed: lstm, 40 ms, seed 0, fold 2: killed" in findings.missing(
        msgspec.structs.replace(compared, failures=(failed,))
    )


def test_one_fold_of_several_is_said_to_be_no_whole_protocol(gates: StudyResults) -> None:
    rule = "folds: '5' tests, '4' validates, the other 3 train"
    corpus = msgspec.structs.replace(gates.corpus, source=f"folder:c, split by {rule}", origin=Origin())
    said = " ".join(findings.summary(msgspec.structs.replace(gates, corpus=corpus)))
    assert "One fold of the corpus is tested here." in said
    assert "cello study … --folds column." in said
    assert "One fold" not in " ".join(findings.summary(gates))


def test_few_speakers_are_said_in_summary_and_methods_wherever_models_are_compared(
    gates: StudyResults, recompared: WithComparisons
) -> None:
    test = msgspec.structs.replace(gates.corpus.splits["test"], speakers=3)
    corpus = msgspec.structs.replace(gates.corpus, splits=gates.corpus.splits | {"test": test})
    few = recompared(msgspec.structs.replace(gates, corpus=corpus))
    for said in (" ".join(findings.summary(few)), paper.paragraph(few), markdown.report(few)):
        assert "with 3 test speakers and 5 seeds the test called equal models different in 1.4 to 3.6 %" in said
        assert "accuracy missed the truth in 9.8 to 18.8 %, not in 5 %: it is too narrow." in said
    assert folds.cautions(msgspec.structs.replace(few, comparisons=())) == ""
