"""The figures of the study that Cello grew from, each with what it really measured."""

from __future__ import annotations

from typing import NamedTuple

from cello.report.metrics import ACCURACY
from cello.report.results import StudyResults, place_name
from cello.report.tables import ABSENT, Heading, Table, interval_note, seeds_text
from cello.report.vocabulary import BY_LISTS_ALONE, by_lists_alone, has_spoken_words


class PublishedModel(NamedTuple):
    """One model of the published gates table.

    ``printed`` is the accuracy it printed (%), measured on its training clips; ``validation`` the accuracy (%, ± 0.3)
    on its 9,981 validation clips, added up from the diagonal of its confusion matrix. ``cells`` are names here.
    """

    name: str
    printed: float
    validation: float
    cells: tuple[str, ...]


GATES = (
    PublishedModel("LSTM", 92.42, 68.7, ("lstm",)),
    PublishedModel("Peephole", 97.55, 70.5, ("lstm-peephole-full",)),
    PublishedModel("Coupled", 95.31, 74.6, ("lstm-coupled",)),
    PublishedModel("No forget", 95.20, 75.3, ("lstm-no-forget",)),
    PublishedModel("No input", 51.95, 30.4, ("lstm-no-input",)),
    PublishedModel("No output", 92.93, 71.3, ("lstm-no-output",)),
)
VALIDATION_CLIPS = 9_981

GATES_CAPTION = (
    "The published “accuracy” was measured on the clips the models were trained on: its training and validation "
    "figures agree within 0.02 points in all 300 epochs. The validation accuracies beside it were recovered from the "
    f"study’s own confusion matrices ({VALIDATION_CLIPS:,} clips, about ± 0.3). They are for 35 words, trained on the "
    "official test list, one seed; ours are for {labels} words of {corpus} on the split stated above. The two sides "
    "answer different questions on different clips and are not directly comparable."
)
WINDOWS_TEXT = (
    "The published windows table stands in no committed output of that study: its source asks for 100 epochs, its "
    "stored outputs show 10, with a best of 68.30 % (bidirectional GRU, 120 ms windows) for 35 words. That figure and "
    "those above are for other clips, another number of words and another split, so they are not directly comparable."
)


def windows(results: StudyResults) -> str:
    """What stands beside a windows study of Speech Commands; empty beside any other."""
    return f"{WINDOWS_TEXT}{_taken(results)}" if results.stage == "windows" and has_spoken_words(results) else ""


def _taken(results: StudyResults) -> str:
    return f" {BY_LISTS_ALONE}" if by_lists_alone(results) else ""


def gates(results: StudyResults) -> Table | None:
    """The published gates table beside this study's, cell by cell; None for another stage, or another corpus."""
    if results.stage != "gates" or not has_spoken_words(results):
        return None
    ours = {place: runs[0].config.model.cell for place, runs in results.cells().items()}
    rows = []
    for model in GATES:
        published = (model.name, f"{model.printed:.2f}", f"{model.validation:.1f}")
        places = [place for place, cell in ours.items() if cell in model.cells]
        rows += [(*published, *_ours(results, row, column)) for row, column in places]
        if not places:
            rows.append((*published, *[ABSENT] * 5))
    caption = GATES_CAPTION.format(labels=len(results.corpus.labels), corpus=results.corpus.name)
    return Table(
        key="published",
        title="The published figures and what they measured",
        note=f"{caption}{_taken(results)} {interval_note(results)}".strip(),
        headings=(
            Heading("Published model"),
            Heading("“accuracy”, on its training clips", "Published, 35 words, %"),
            Heading("validation, recovered", "Published, 35 words, %"),
            Heading("model", "This study"),
            Heading("seeds", "This study"),
            *(Heading(f"{metric.title}, %", "This study") for metric in ACCURACY[:3]),
        ),
        rows=tuple(rows),
    )


def _ours(results: StudyResults, row: str, column: str) -> tuple[str, ...]:
    figures = (metric.text(results.cell(row, column)) for metric in ACCURACY[:3])
    return place_name(row, column), seeds_text(results, row, column), *figures
