"""What hurts: a ranking read as proof, sentences nobody can read for their number, a reason said for each column."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np

from cello.report import markdown, page, ranking
from cello.report.evidence import NO_SPEAKERS, Evidence, weigh
from cello.report.results import Run, StudyResults

Without = Callable[[StudyResults, Callable[[Run], bool]], StudyResults]


def many_models(gates: StudyResults, models: int) -> StudyResults:
    rng = np.random.default_rng(0)
    correct = {f"model {k}": rng.random((2, 600)) < 0.9 - 0.02 * k for k in range(models)}
    return msgspec.structs.replace(gates, evidence=(weigh("40 ms", correct, np.arange(600) // 4),))


def test_few_seeds_are_plainly_marked_and_five_are_not(windows: StudyResults, gates: StudyResults) -> None:
    few, enough = ranking.table(windows), ranking.table(gates)
    assert few is not None
    assert enough is not None
    assert "indicative only" in few.title
    assert all(row[-1] == "2 †" for row in few.rows)
    assert any("Indicative only" in text for text in ranking.explanation(windows))
    assert "indicative" not in enough.title
    assert not any("Indicative only" in text for text in ranking.explanation(gates))


def test_a_reason_that_all_columns_share_is_said_once(windows: StudyResults) -> None:
    silent = tuple(Evidence(column=column, note=NO_SPEAKERS) for column in windows.columns)
    study = msgspec.structs.replace(windows, evidence=silent)
    assert ranking.explanation(study) == [NO_SPEAKERS]
    assert ranking.table(study) is ranking.differences(study) is None
    for text in (markdown.report(study), page.report(study)):
        assert text.count("nothing is trained again") == 1


def test_a_reason_of_one_column_names_it(windows: StudyResults) -> None:
    study = msgspec.structs.replace(windows, evidence=(*windows.evidence[:3], Evidence(column="120 ms", note="Gone.")))
    assert ranking.notes(study) == ["120 ms: Gone."]


def test_every_pair_has_its_verdict_while_they_can_be_read(gates: StudyResults) -> None:
    texts = ranking.verdicts(gates)
    assert texts[1:] == [pair.verdict for pair in gates.evidence[0].comparisons]
    assert texts[0].startswith("Of 15 pairs, ")
    assert "report.json" not in texts[0]


def test_of_too_many_pairs_the_first_models_stand(gates: StudyResults) -> None:
    study = many_models(gates, 8)
    texts = ranking.verdicts(study)
    assert len(texts) == 1 + 7
    assert texts[0].endswith("The first model’s follow; the other 21 stand in report.json.")
    table = ranking.differences(study)
    assert table is not None
    assert all(row[1].startswith("model 0 − ") for row in table.rows)


def test_verdicts_name_the_column_only_where_there_are_several(windows: StudyResults, gates: StudyResults) -> None:
    assert all(text.split(": ")[0] in windows.columns for text in ranking.verdicts(windows))
    assert not any(text.startswith("40 ms") for text in ranking.verdicts(gates))


def test_the_report_carries_ranking_and_verdicts(gates: StudyResults, weighed: Callable[..., StudyResults]) -> None:
    runs = tuple(msgspec.structs.replace(run, column="") for run in gates.runs)
    unnamed = weighed(msgspec.structs.replace(gates, columns=("",), runs=runs))
    for study in (gates, unnamed):
        for text in (markdown.report(study), page.report(study)):
            assert "Ranking by test accuracy" in text
            assert "can be told apart." in text
        for table in (ranking.table(study), ranking.differences(study)):
            assert table is not None
            assert {len(row) for row in table.rows} == {len(table.headings)}


def test_models_that_always_keep_their_places_keep_an_order(windows: StudyResults, small: StudyResults) -> None:
    found = ranking.order(windows)
    assert found is not None
    assert found.blocks == 4
    assert max(found.ranks, key=found.ranks.__getitem__) == "rnn"
    (text,) = ranking.order_sentences(windows)
    assert text.startswith("The models keep an order over the 4 windows (Friedman’s test, p < 0.001)")
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
    assert text.startswith("No evidence that the models keep an order over the 4 columns (Friedman’s test, p = ")
    assert "Left out, for they are not finished in all columns: rnn, rnn, both ways." in text


def test_a_model_that_a_column_lacks_is_left_out_of_the_order(windows: StudyResults, without: Without) -> None:
    partial = without(windows, lambda run: run.row == "lstm" and run.column == "80 ms")
    found = ranking.order(partial)
    assert found is not None
    assert set(found.ranks) == set(windows.rows) - {"lstm"}
    assert "not finished in all columns: lstm." in ranking.order_sentences(partial)[0]
