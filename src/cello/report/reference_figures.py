"""Show a study's reference figures beside its own, where both are of the same kind of clips."""

from __future__ import annotations

from cello.report.metrics import ACCURACY
from cello.report.results import StudyResults, place_name
from cello.report.tables import ABSENT, Heading, Table, interval_note, same_note, seeds_text
from cello.report.vocabulary import BY_LISTS_ALONE, by_lists_alone, has_spoken_words
from cello.study.reference_figures import Figure, ReferenceFigures, ReferenceModel

OWN_METRICS = ACCURACY[:3]


def shown(results: StudyResults) -> ReferenceFigures | None:
    """The study's reference figures; None where it has none, or they are of other clips than its own."""
    found = results.reference_figures
    return None if found is None or (found.corpus and not has_spoken_words(results)) else found


def heading(results: StudyResults) -> str:
    """What the section is called; empty where nothing is shown."""
    found = shown(results)
    return found.heading if found else ""


def sentences(results: StudyResults) -> tuple[str, ...]:
    """The paragraphs that the figures come with."""
    found = shown(results)
    if found is None or not found.sentences:
        return ()
    *first, last = (_filled(text, results) for text in found.sentences)
    return (*first, last if found.models else f"{last}{_by_lists(found, results)}")


def table(results: StudyResults) -> Table | None:
    """The reference table beside this study's figures, cell by cell; None where there is none to show."""
    found = shown(results)
    if found is None or not found.models:
        return None
    rows = tuple(row for model in found.models for row in _rows(results, found.figures, model))
    note = f"{_filled(found.caption, results)}{_by_lists(found, results)} {interval_note(results)}{same_note(rows)}"
    return Table(
        key="published",
        title=found.title,
        note=note.strip(),
        headings=(
            Heading(found.model_heading),
            *(Heading(figure.measured, found.group) for figure in found.figures),
            Heading("model", "This study"),
            Heading("seeds", "This study"),
            *(Heading(f"{metric.title}, %", "This study") for metric in OWN_METRICS),
        ),
        rows=rows,
    )


def _rows(results: StudyResults, figures: tuple[Figure, ...], model: ReferenceModel) -> list[tuple[str, ...]]:
    """One row for each of this study's places that has the model's cell, or one that leaves them open."""
    reference = (model.name, *(_value(model, figure) for figure in figures))
    cells = {place: runs[0].config.model.cell for place, runs in results.cells().items()}
    places = [place for place, cell in cells.items() if cell in model.cells]
    return [(*reference, *_own(results, *place)) for place in places] or [
        (*reference, *[ABSENT] * (2 + len(OWN_METRICS)))
    ]


def _value(model: ReferenceModel, figure: Figure) -> str:
    value = model.values.get(figure.key)
    return ABSENT if value is None else f"{value:.{figure.decimals}f}"


def _own(results: StudyResults, row: str, column: str) -> tuple[str, ...]:
    figures = (metric.text(results.cell(row, column)) for metric in OWN_METRICS)
    return place_name(row, column), seeds_text(results, row, column), *figures


def _filled(text: str, results: StudyResults) -> str:
    return text.replace("{labels}", str(len(results.corpus.labels))).replace("{corpus}", results.corpus.name)


def _by_lists(found: ReferenceFigures, results: StudyResults) -> str:
    return f" {BY_LISTS_ALONE}" if found.corpus and by_lists_alone(results) else ""
