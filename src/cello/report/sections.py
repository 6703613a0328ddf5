"""Order the report's sections for Markdown, HTML and the notebook."""

from __future__ import annotations

import textwrap
from typing import NamedTuple

from cello.audio.augment import AugmentConfig
from cello.report import (
    cost,
    findings,
    folds,
    paper,
    ranking,
    reference_figures,
    references,
    robustness,
    single,
    tables,
)
from cello.report.metrics import BY_KEY
from cello.report.results import StudyResults
from cello.report.tables import Table
from cello.report.vocabulary import has_spoken_words

NAMED_LABELS = 100
"""Above so many labels a confusion matrix has neither names nor figures."""
MOST_PICTURES = 48
"""So many pictures of a kind are drawn at most: more make a page that opens slowly and a notebook too large to send."""
COMPARING = ("comparisons", "cost")
"""Sections that a single run has not, for they compare models."""


class Section(NamedTuple):
    """A heading, its paragraphs and list, its tables; ``picture`` names what is drawn for it.

    ``closing`` is a list that stands after all else, ``folded`` one that a page folds and others leave out, ``code`` a
    text to be copied as it stands.
    """

    key: str
    title: str
    paragraphs: tuple[str, ...] = ()
    points: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    picture: str = ""
    closing: tuple[str, ...] = ()
    folded: tuple[str, ...] = ()
    code: str = ""
    language: str = "bibtex"


def report_sections(results: StudyResults) -> tuple[Section, ...]:
    """All sections of a study's report, without those that have nothing to say."""
    wide = len(results.columns) > 1
    compare = reference_figures.table(results)
    overviews = [
        tables.overview(results, BY_KEY[key]) for key in ("test_accuracy", "seconds_per_epoch", "epoch_seconds")
    ]
    details = (tables.details(results), tables.times(results))
    ranked = ranking.table(results)
    order, by_fold = ranking.order_sentences(results), folds.table(results)
    missing = tuple(findings.missing(results))
    sections = (
        Section("summary", "Summary", points=tuple(findings.summary(results))),
        Section("missing", "What is missing", points=missing),
        Section(
            "results",
            "Results",
            tables=(*(overviews if wide else ()), *details, *([by_fold] if by_fold else [])),
            picture="accuracy",
        ),
        Section(
            "comparisons",
            "Comparisons",
            paragraphs=tuple(ranking.explanation(results)),
            tables=tuple(table for table in (ranked, ranking.matrix(results)) if table),
            picture="comparisons" if ranked else "",
            closing=tuple(ranking.verdicts(results)),
            folded=tuple(ranking.other_verdicts(results)),
        ),
        Section(
            "conditions",
            robustness.heading(results),
            paragraphs=(robustness.explanation(results),) if robustness.present(results) else (),
            tables=robustness.tables(results),
            picture="conditions" if robustness.present(results) else "",
        ),
        Section("cost", "Accuracy and cost", points=tuple(cost.sentences(results)), picture="cost"),
        Section(
            "order",
            f"Order over {results.column_title.lower()}s",
            paragraphs=tuple(order),
            picture="order" if order else "",
        ),
        Section(
            "published",
            reference_figures.heading(results),
            paragraphs=reference_figures.sentences(results),
            tables=(compare,) if compare else (),
        ),
        *_pictured(results),
        *_made(results),
    )
    return tuple(s for s in sections if _says_something(s) and not (results.single and s.key in COMPARING))


def _says_something(section: Section) -> bool:
    return bool(section.paragraphs or section.points or section.tables or section.picture)


def _pictured(results: StudyResults) -> tuple[Section, ...]:
    """Curves and confusions, then single speakers and clips."""
    return (
        Section("curves", "Learning curves", paragraphs=(curves(results),), picture="curves"),
        Section("confusions", "Confusion matrices", paragraphs=(confusions(results),), picture="confusions"),
        Section("clips", "By speaker and clip", tables=single.tables(results)),
    )


def _made(results: StudyResults) -> tuple[Section, ...]:
    """How it was made: cells, methods, clips, settings."""
    bad = tables.bad_clips(results)
    return (
        Section(
            "equations",
            "Cells of this study’s own",
            paragraphs=(NOTATION,) if results.own_cells else (),
            code=own_equations(results),
            language="text",
        ),
        Section("methods", "Methods", paragraphs=tuple(findings.methods(results))),
        Section(
            "paper",
            "For a paper",
            paragraphs=(paper.paragraph(results),),
            points=tuple(paper.unrecorded(results)),
            code=references.bibtex(results),
        ),
        Section("corpus", "Corpus", tables=(tables.corpus_clips(results), *((bad,) if bad else ()))),
        Section("settings", "Settings", tables=(tables.settings(results),)),
    )


NOTATION = (
    "The equations of one step: x[t] is the frame, a state’s name with [t-1] what it was before and with [t] what it "
    "is then; @ is a matrix product, * an element-wise product."
)
CURVES = (
    "Lines are means over seeds, bands the range from the lowest to the highest seed. Training accuracy here is the "
    "running mean during the epoch, in train mode{augmented}; the tables’ train accuracy is measured after training."
)
CONFUSIONS = (
    "Rows are the {labels}, columns the predictions, on the test clips, summed over seeds; each row adds up to 100 %. "
    "Figures are in per cent; small shares carry none."
)
LARGE_CONFUSIONS = (
    "Rows are the {labels}, columns the predictions, on the test clips, summed over seeds; the darker, the larger the "
    "share of the row’s clips. So many labels carry neither names nor figures here; report.json has every count."
)


def own_equations(results: StudyResults) -> str:
    """The equations of the cells that are not the zoo's, as text; empty where there are none."""
    return "\n\n".join(f"{cell.name}\n{textwrap.indent(cell.text, '  ')}" for cell in results.own_cells)


def curves(results: StudyResults) -> str:
    """How to read the learning curves of this study."""
    changed = [any(_changes(run.result.config.augment)) for run in results.runs]
    augmented = " on augmented clips, so it may lie below validation" if all(changed) else ""
    if any(changed) and not all(changed):
        augmented = ", for some runs on augmented clips, so it may lie below validation"
    return f"{CURVES.replace('{augmented}', augmented)}{_first(len(results.cells()))}"


def confusions(results: StudyResults) -> str:
    """How to read the confusion matrices of this study."""
    large = len(results.corpus.labels) > NAMED_LABELS
    silent = not all(results.corpus.splits["test"].clips_by_label.get(label, 0) for label in results.corpus.labels)
    empty = " A label without test clips has an empty row." if silent else ""
    called = "spoken words" if has_spoken_words(results) else "labels"
    how = (LARGE_CONFUSIONS if large else CONFUSIONS).replace("{labels}", called)
    return f"{how}{empty}{_first(len(results.rows))}"


def _changes(augment: AugmentConfig) -> tuple[float, ...]:
    kinds = (augment.speed, augment.warp, augment.shift_ms, augment.noise_share, augment.mixup)
    return (*kinds, augment.time_masks, augment.band_masks)


def _first(pictures: int) -> str:
    return f" The first {MOST_PICTURES} of {pictures:,} are drawn." if pictures > MOST_PICTURES else ""
