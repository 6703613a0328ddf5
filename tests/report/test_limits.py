"""What hurts: an accuracy above 100 %, a crash on figures that are not finite, a picture that fills memory."""

from __future__ import annotations

import io
import math
import tracemalloc
from collections.abc import Callable

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import image

from cello.report import diagrams, findings, plots, ranking, sections
from cello.report.comparisons import ONE_CLIP, compare_models
from cello.report.formats import html as html_format
from cello.report.formats import json as json_format
from cello.report.formats import latex, markdown
from cello.report.metrics import Interval, interval, text
from cello.report.picture_limits import MOST_ROWS, bars
from cello.report.results import Run, StudyResults

Change = Callable[[Run], Run]


def with_test(study: StudyResults, **values: object) -> StudyResults:
    def change(run: Run) -> Run:
        test = msgspec.structs.replace(run.result.test, **values)
        return msgspec.structs.replace(run, result=msgspec.structs.replace(run.result, test=test))

    return msgspec.structs.replace(study, runs=tuple(map(change, study.runs)))


@given(st.lists(st.floats(0, 100), min_size=2, max_size=5))
def test_no_interval_of_an_accuracy_leaves_what_an_accuracy_can_be(values: list[float]) -> None:
    found = interval(values)
    shown = text(found, 2, share=True)
    if "(" in shown:
        low, high = shown[shown.index("(") + 1 : -1].split(" to ")
        assert 0 <= float(low) <= float(high) <= 100
    elif "‡" not in shown and "<" not in shown:
        mean, half = map(float, shown.split(" ± "))
        assert mean - half >= -0.005
        assert mean + half <= 100.005
    (below,), (above,) = bars([found])
    assert found.mean - below >= -1e-9
    assert found.mean + above <= 100 + 1e-9


def test_intervals_that_are_cut_off_are_said_to_be_once(windows: StudyResults, gates: StudyResults) -> None:
    assert markdown.report(windows).count("cut off there") == 1
    assert latex.report(windows).count("cut off there") == 1
    assert latex.report(windows).index("cut off there") < latex.report(windows).index(r"\label")
    spread = with_test(gates, accuracy=0.5, word_mean=0.5)
    steady = msgspec.structs.replace(
        spread,
        runs=tuple(
            msgspec.structs.replace(
                run,
                result=msgspec.structs.replace(run.result, train=run.result.test, validation=run.result.test),
            )
            for run in spread.runs
        ),
    )
    assert findings.cut_off(steady) == ""


def test_two_models_do_not_differ_by_more_than_100_points() -> None:
    correct = {"a": np.array([[1, 1, 1], [1, 1, 0]]), "b": np.array([[0, 0, 0], [0, 1, 0]])}
    found = compare_models("", correct, [0, 1, 2])
    (pair,) = found.comparisons
    assert pair.difference.high > 1
    assert "to 100.00)" in pair.verdict
    assert ranking.interval_text(pair.difference, -1.0).endswith("100.00")
    assert all(
        0 <= float(end.replace("−", "-")) <= 100
        for model in found.standings
        for end in ranking.interval_text(model.accuracy).split(" to ")
    )
    assert json_format._comparisons(found)["comparisons"][0]["high"] == 100  # type: ignore[index]


@pytest.mark.parametrize("loss", [math.nan, math.inf, 1e200, 1e308])
def test_losses_that_are_not_finite_are_called_so(small: StudyResults, loss: float) -> None:
    study = with_test(small, loss=loss)
    mixed = msgspec.structs.replace(study, runs=(with_test(study, loss=-loss).runs[0], *study.runs[1:]))
    for one in (study, mixed):
        text = markdown.report(one)
        assert "not finite" in text or "1e+200" in text or "1e+308" in text
        assert "0" * 30 not in text
        assert json_format.report(one)
    if math.isnan(loss):
        assert html_format.report(study)


def test_one_test_clip_is_no_evidence() -> None:
    found = compare_models("", {"a": np.ones((2, 1)), "b": np.zeros((2, 1))}, [0])
    assert found.note == ONE_CLIP
    assert not found.comparisons


def test_runs_without_any_spread_have_an_interval_without_width() -> None:
    assert interval([50.0, 50.0, 50.0]) == Interval(50.0, 0.0, 3)
    found = compare_models("", {"a": np.ones((3, 8)), "b": np.ones((3, 8))}, np.arange(8))
    (pair,) = found.comparisons
    assert pair.p_holm == 1
    assert not pair.differs
    (apart,) = compare_models("", {"a": np.ones((3, 8)), "b": np.zeros((3, 8))}, np.arange(8)).comparisons
    assert not apart.differs
    assert "so its variability cannot be estimated; test on more clips" in apart.verdict


def drawn(panels: list[plots.Panel], across: int = 1) -> list[np.ndarray]:
    return [image.imread(io.BytesIO(picture)) for picture in plots.pngs(panels, across)]


@pytest.fixture
def thousand(many_labels: StudyResults) -> StudyResults:
    """One run of a thousand labels, each right but the last two, which are taken for each other."""
    counts = np.eye(1000, dtype=int) * 3
    counts[-2:, -2:] = [[0, 3], [3, 0]]
    labels = tuple(f"label {k}" for k in range(1000))
    result = msgspec.structs.replace(
        many_labels.runs[0].result, labels=labels, confusion=tuple(map(tuple, counts.tolist()))
    )
    corpus = msgspec.structs.replace(many_labels.corpus, labels=labels)
    run = msgspec.structs.replace(many_labels.runs[0], result=result)
    return msgspec.structs.replace(many_labels, runs=(run,), rows=(run.row,), corpus=corpus)


def test_a_confusion_matrix_of_a_thousand_labels_is_a_small_picture(thousand: StudyResults) -> None:
    (panel,) = plots.confusions(thousand)
    tracemalloc.start()
    (picture,) = drawn([panel])
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 100e6
    assert picture.shape[0] * picture.shape[1] < 400_000
    svg = plots.svg(panel, "x")
    assert len(svg) < 200_000
    assert "1,000 labels in their order, a square for each 4" in svg
    assert "label 7" not in svg
    assert "report.json has every count" in sections.confusions(thousand)


def test_a_hundred_labels_keep_their_names(many_labels: StudyResults) -> None:
    assert "word7<" in plots.svg(plots.confusions(many_labels)[0], "x")
    assert "adds up to 100 %" in sections.confusions(many_labels)


def test_very_many_models_are_drawn_in_part(gates: StudyResults) -> None:
    rows = tuple(f"model {k} " + "x" * 180 for k in range(70))
    runs = tuple(msgspec.structs.replace(gates.runs[0], row=row) for row in rows)
    study = msgspec.structs.replace(gates, rows=rows, runs=runs, comparisons=())
    (panel,) = plots.accuracy(study)
    assert panel.title.endswith("(the best 60 of 70 by validation accuracy)")
    svg = plots.svg(panel, "x")
    assert svg.count(">model ") == MOST_ROWS
    assert "x" * 60 not in svg
    assert "The first 48 of 70 are drawn." in sections.curves(study)


def test_very_many_columns_are_drawn_in_part(gates: StudyResults) -> None:
    columns = tuple(f"column {k}" for k in range(70))
    runs = tuple(msgspec.structs.replace(gates.runs[0], column=column) for column in columns)
    study = msgspec.structs.replace(gates, rows=gates.rows[:1], columns=columns, runs=runs, comparisons=())
    (panel,) = plots.accuracy(study)
    assert panel.title.endswith("(the first 60 of 70 columns)")
    assert plots.svg(panel, "x").count(">column ") <= 40


def test_many_panels_become_several_pictures(gates: StudyResults, monkeypatch: pytest.MonkeyPatch) -> None:
    panels = plots.curves(gates)
    assert len(plots.pngs(panels, 3)) == 1
    monkeypatch.setattr(plots, "MOST_PIXELS", 3 * 290 * 200)
    monkeypatch.setattr(plots, "MOST_PICTURES", 5)
    pictures = drawn(panels, 3)
    assert len(pictures) == 2
    assert all(picture.shape[0] * picture.shape[1] <= plots.MOST_PIXELS for picture in pictures)
    assert plots.pngs([]) == []


@pytest.mark.parametrize("name", ["x" * 5000, "名前" * 500, "a b " * 500, "\u0301" * 300])
def test_endless_names_are_drawn_without_a_warning(small: StudyResults, name: str) -> None:
    """Warnings are errors here."""
    swap = {row: f"{name}{row}" for row in small.rows}
    labels = tuple(f"{name}{label}" for label in small.corpus.labels)
    runs = tuple(
        msgspec.structs.replace(run, row=swap[run.row], result=msgspec.structs.replace(run.result, labels=labels))
        for run in small.runs
    )
    evidence = tuple(
        msgspec.structs.replace(
            found,
            comparisons=tuple(p._replace(first=swap[p.first], second=swap[p.second]) for p in found.comparisons),
        )
        for found in small.comparisons
    )
    study = msgspec.structs.replace(small, rows=tuple(swap.values()), runs=runs, comparisons=evidence)
    panels = [draw(study)[0] for draw in (plots.accuracy, plots.confusions, diagrams.forest)]
    assert plots.png(panels, 3)


def test_very_many_epochs_are_drawn_in_part(small: StudyResults) -> None:
    history = small.runs[0].result.history
    long = tuple(msgspec.structs.replace(history[k % 6], epoch=k + 1) for k in range(5000))
    run = msgspec.structs.replace(small.runs[0], result=msgspec.structs.replace(small.runs[0].result, history=long))
    study = msgspec.structs.replace(small, runs=(run,))
    svg = plots.svg(plots.curves(study)[0], "x")
    assert "Epoch (500 of 5,000)" in svg
    assert len(svg) < 60_000
