"""What hurts: a ranking read as proof, sentences nobody can read for their number, a reason said for each column."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np
import pytest

from cello.report import ranking
from cello.report.comparisons import NO_SPEAKERS, ColumnComparisons, compare_models
from cello.report.formats import html as html_format
from cello.report.formats import markdown
from cello.report.results import Run, StudyResults
from cello.report.tables import ABSENT, best_cell
from cello.statistics.random_effects import Estimate

Page = Callable[[StudyResults], str]
Without = Callable[[StudyResults, Callable[[Run], bool]], StudyResults]


def many_models(gates: StudyResults, models: int) -> StudyResults:
    rng = np.random.default_rng(0)
    correct = {f"model {k}": rng.random((2, 600)) < 0.9 - 0.02 * k for k in range(models)}
    return msgspec.structs.replace(gates, comparisons=(compare_models("40 ms", correct, np.arange(600) // 4),))


def test_few_seeds_are_plainly_marked_and_five_are_not(windows: StudyResults, gates: StudyResults) -> None:
    few, enough = ranking.table(windows), ranking.table(gates)
    assert few is not None
    assert enough is not None
    assert "indicative only" in few.title
    assert all(row[-1] == "2 †" for row in few.rows)
    assert any("Indicative only" in text for text in ranking.explanation(windows))
    assert "indicative" not in enough.title
    assert not any("Indicative only" in text for text in ranking.explanation(gates))


def test_a_reason_that_all_columns_share_is_said_once(small: StudyResults, words: Page) -> None:
    silent = tuple(ColumnComparisons(column=column, note=NO_SPEAKERS) for column in small.columns)
    assert len(silent) == 2
    study = msgspec.structs.replace(small, comparisons=silent)
    assert ranking.explanation(study) == [NO_SPEAKERS]
    assert ranking.table(study) is ranking.differences(study) is None
    for text in (markdown.report(study), words(study)):
        assert text.count("nothing is trained again") == 1


def test_a_reason_of_one_column_names_it(windows: StudyResults) -> None:
    study = msgspec.structs.replace(
        windows, comparisons=(*windows.comparisons[:3], ColumnComparisons(column="120 ms", note="Gone."))
    )
    assert ranking.notes(study) == ["120 ms: Gone."]


def test_the_verdict_of_every_pair_stands_in_every_column(
    gates: StudyResults, windows: StudyResults, words: Page
) -> None:
    best, pairs = best_cell(gates)[0], gates.comparisons[0].comparisons
    texts, own = ranking.verdicts(gates), [pair.verdict for pair in pairs if best in (pair.first, pair.second)]
    assert texts[: 1 + 5] == [texts[0], *own]
    assert texts[0].startswith("Of 15 pairs, ")
    for study in (gates, windows):
        text, page_text = markdown.report(study), words(study)
        assert ranking.other_verdicts(study) == []
        for column in study.comparisons:
            for pair in column.comparisons:
                assert markdown.escape(pair.verdict) in text
                assert html_format.escape(pair.verdict) in page_text


def test_a_difference_that_is_none_has_no_sign(gates: StudyResults) -> None:
    pairs = gates.comparisons[0].comparisons
    for tiny in (0.0, -0.0, 0.00002, -0.00002):
        found = Estimate(tiny, -0.00003, 0.00003, 1e-5, 9.0)
        pair = pairs[0]._replace(difference=found, p_holm=1.0)
        column = msgspec.structs.replace(gates.comparisons[0], comparisons=(pair,))
        table = ranking.matrix(msgspec.structs.replace(gates, comparisons=(column,)))
        assert table is not None
        assert {cell for row in table.rows for cell in row[2:]} == {"", ABSENT, "0.00"}
        assert ranking.interval_text(found, -1.0) == "0.00 to 0.00"
        assert "0.00 points (95 % 0.00 to 0.00)" in pair.verdict


def test_the_matrix_holds_every_pair_with_its_sign_and_marks_what_is_told_from_chance(gates: StudyResults) -> None:
    table = ranking.matrix(gates)
    assert table is not None
    text = {(row[1], head.title): cell for row in table.rows for head, cell in zip(table.headings, row, strict=True)}
    for pair in gates.comparisons[0].comparisons:
        for first, second, sign in ((pair.first, pair.second, 1), (pair.second, pair.first, -1)):
            found = text[first, second]
            assert float(found.replace("−", "-").removesuffix(" *")) == pytest.approx(
                100 * sign * pair.difference.value, abs=0.006
            )
            assert found.endswith(" *") == pair.differs
    assert all(text[row, row] == "" for row in gates.rows)
    assert {table.rows[r][c] for r, c in table.strong} == {cell for cell in text.values() if cell.endswith(" *")}


def test_a_matrix_of_many_models_shows_the_first_and_says_so(gates: StudyResults) -> None:
    study = msgspec.structs.replace(many_models(gates, 14), rows=tuple(f"model {k}" for k in range(14)))
    table = ranking.matrix(study)
    assert table is not None
    assert len(table.rows) == ranking.MOST_IN_MATRIX
    assert "The first 12 of 14 models stand here." in table.note


def test_of_too_many_pairs_the_first_models_stand(gates: StudyResults) -> None:
    study = many_models(gates, 8)
    texts = ranking.verdicts(study)
    assert len(texts) == 1 + 7
    assert len(ranking.other_verdicts(study)) == 21
    table = ranking.differences(study)
    assert table is not None
    assert all(row[1].startswith("model 0 − ") for row in table.rows)


def test_verdicts_name_the_column_only_where_there_are_several(windows: StudyResults, gates: StudyResults) -> None:
    assert all(text.split(": ")[0] in windows.columns for text in ranking.verdicts(windows))
    assert not any(text.startswith("40 ms") for text in ranking.verdicts(gates))


def test_the_report_carries_ranking_and_verdicts(
    gates: StudyResults, recompared: Callable[..., StudyResults], words: Page
) -> None:
    runs = tuple(msgspec.structs.replace(run, column="") for run in gates.runs)
    unnamed = recompared(msgspec.structs.replace(gates, columns=("",), runs=runs))
    for study in (gates, unnamed):
        for text in (markdown.report(study), words(study)):
            assert "Ranking by test accuracy" in text
            assert "significantly." in text
        for table in (ranking.table(study), ranking.differences(study)):
            assert table is not None
            assert {len(row) for row in table.rows} == {len(table.headings)}


def test_models_that_always_keep_their_places_keep_an_order(windows: StudyResults, small: StudyResults) -> None:
    found = ranking.order(windows)
    assert found is not None
    assert found.blocks == 4
    assert max(found.ranks, key=found.ranks.__getitem__) == "rnn"
    (text,) = ranking.order_sentences(windows)
    assert text.startswith("The models keep a significant order over the 4 windows (Friedman’s test, p < 0.001)")
    assert ranking.order_sentences(small) == []


def test_models_that_change_places_are_not_said_to_keep_them(windows: StudyResults) -> None:
    runs = tuple(
        msgspec.structs.replace(run, column=windows.columns[(windows.columns.index(run.column) + k) % 4])
        for k, row in enumerate(("gru", "gru, both ways", "lstm", "lstm, both ways"))
        for run in windows.runs
        if run.row == "gru"
        for run in [msgspec.structs.replace(run, row=row)]
    )
    (text,) = ranking.order_sentences(msgspec.structs.replace(windows, runs=runs))
    assert text.startswith("The models keep no significant order over the 4 columns (Friedman’s test, p = ")
    assert "Left out, for they are not finished in all columns: rnn, rnn, both ways." in text


def test_a_model_that_a_column_lacks_is_left_out_of_the_order(windows: StudyResults, without: Without) -> None:
    partial = without(windows, lambda run: run.row == "lstm" and run.column == "80 ms")
    found = ranking.order(partial)
    assert found is not None
    assert set(found.ranks) == set(windows.rows) - {"lstm"}
    assert "not finished in all columns: lstm." in ranking.order_sentences(partial)[0]
