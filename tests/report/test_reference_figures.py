"""What hurts: other people's figures beside the wrong model, or taken for what they did not measure."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from cello.report import reference_figures
from cello.report.formats import markdown, notebook
from cello.report.results import Run, StudyResults, shown
from cello.report.tables import ABSENT
from cello.study.reference_figures import Figure, ReferenceFigures, ReferenceModel

Without = Callable[[StudyResults, Callable[[Run], bool]], StudyResults]


def test_printed_figures_stand_beside_what_they_measured(gates: StudyResults) -> None:
    table = reference_figures.table(gates)
    assert table is not None
    assert [row[:3] for row in table.rows] == [
        ("LSTM", "92.42", "68.7"),
        ("Peephole", "97.55", "70.5"),
        ("Coupled", "95.31", "74.6"),
        ("No forget", "95.20", "75.3"),
        ("No input", "51.95", "30.4"),
        ("No output", "92.93", "71.3"),
    ]
    assert table.headings[1].title == "“accuracy”, on its training clips"
    for words in ("trained on", "35 words", "12 words", "not directly comparable", "± 0.3"):
        assert words in table.note


def test_ours_are_matched_by_cell_not_by_row_name(gates: StudyResults) -> None:
    table = reference_figures.table(gates)
    assert table is not None
    assert table.rows[1][3] == "lstm-peephole-full, 40 ms"


def test_a_model_we_have_not_run_is_left_open(gates: StudyResults, without: Without) -> None:
    table = reference_figures.table(without(gates, lambda r: r.row == "lstm-coupled"))
    assert table is not None
    assert table.rows[2] == ("Coupled", "95.31", "74.6", *[ABSENT] * 5)


def test_figures_without_a_table_are_sentences(windows: StudyResults) -> None:
    assert reference_figures.table(windows) is None
    (text,) = reference_figures.sentences(windows)
    assert "68.30 %" in text  # the one figure that stands in an output
    assert text.count("%") == 1


OWN = ReferenceFigures(
    name="smith", heading="Beside Smith (2020)", title="Smith’s figures", caption="On {labels} labels, not {corpus}.",
    figures=(Figure(key="wer", measured="error of the best of ten runs, %", decimals=1), Figure(key="n", measured="n")),
    models=(ReferenceModel(name="theirs", cells=("lstm",), values={"wer": 3.14159}),),
    sentences=("They tested on training clips.",),
)  # fmt: skip


def test_a_users_own_figures_stand_beside_any_corpus(foreign: StudyResults) -> None:
    study = msgspec.structs.replace(foreign, reference_figures=OWN)
    text = markdown.report(study)
    for words in (
        "## Beside Smith (2020)", "They tested on training clips.", "Smith’s figures", "On 3 labels, not made up.",
        "error of the best of ten runs, %", "| theirs | 3.1 | – | lstm, 40 ms |",
    ):  # fmt: skip
        assert words in text, words
    code = [text for kind, text in notebook.cells(study, "..") if kind == "code"]
    assert sum("reference_figures." in text for text in code) == 2
    assert not any("Smith" in text for text in code)


def test_a_strangers_figures_are_shown_as_text(foreign: StudyResults, words: Callable[[StudyResults], str]) -> None:
    text = "<script>\u202ealert</script>\n"
    figures = (Figure(key="a", measured=text),)
    models = tuple(ReferenceModel(name=f"{text}{n}", cells=("lstm",)) for n in range(300))
    hostile = ReferenceFigures(
        name=text, heading=text, title=text, caption=text, model_heading=text, group=text, figures=figures,
        models=models, sentences=(text,),
    )  # fmt: skip
    study = shown(msgspec.structs.replace(foreign, reference_figures=hostile))
    page = words(study)
    assert "<script>alert" not in page.replace("\u202e", "")
    assert "\u202e" not in page
    table = reference_figures.table(study)
    assert table is not None
    assert len(table.rows) == 200
