"""What hurts: a baby's cry called a spoken word, a published study of words beside clips that are none."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from cello.audio.origin import LISTS, Origin
from cello.report import reference_figures
from cello.report.formats import latex, markdown, notebook
from cello.report.results import StudyResults
from cello.report.vocabulary import BY_LISTS_ALONE, has_spoken_words
from cello.study.reference_figures import builtin_figures

Page = Callable[[StudyResults], str]


def test_nothing_of_spoken_words_stands_in_a_report_of_a_foreign_corpus(foreign: StudyResults, page: Page) -> None:
    cells = "\n".join(text for _, text in notebook.cells(foreign, ".."))
    for text in (markdown.report(foreign), page(foreign), latex.report(foreign), cells):
        for word in ("poken word", "per-word", "published study", "35 words", "each word"):
            assert word not in text
    assert "per-label mean" in markdown.report(foreign)
    assert ">Label</text>" in page(foreign)
    assert reference_figures.table(foreign) is None


def test_words_of_speech_commands_keep_their_name_and_the_published_figures(gates: StudyResults, page: Page) -> None:
    text = page(gates)
    assert "Rows are the spoken words" in text
    assert ">Spoken word</text>" in text
    assert "Beside the published study" in text


@pytest.mark.parametrize(
    ("source", "names", "labels", "answer"),
    [
        ("speech-commands:v0.02:12, split by x", (), ("yes", "unknown"), True),
        ("spoken, split by x", (), ("yes",), True),
        (f"../data/words, split by {LISTS}", (), ("yes", "no"), True),
        (f"../data/cries, split by {LISTS}", (), ("hunger", "yes"), False),
        ("folder:digits, split by SHA-1", (), ("one", "two"), False),
        ("folder:x, split by SHA-1", ("one/0a_nohash_0.wav", "two/1b_nohash_0.wav"), ("one", "two"), True),
        (f"folder:digits, split by {LISTS}", ("one/anna_0.wav",), ("one", "two"), False),
    ],
)
def test_speech_commands_are_known_by_source_names_and_lists(
    gates: StudyResults, source: str, names: tuple[str, ...], labels: tuple[str, ...], answer: bool
) -> None:
    corpus = msgspec.structs.replace(gates.corpus, source=source, origin=Origin(), test_names=names, labels=labels)
    assert has_spoken_words(msgspec.structs.replace(gates, corpus=corpus)) is answer


@pytest.mark.parametrize(
    ("source", "names", "guessed"),
    [
        (f"../data/words, split by {LISTS}", (), True),
        (f"speech-commands:v0.02, split by {LISTS}", (), False),
        (f"folder:x, split by {LISTS}", ("yes/0a_nohash_0.wav",), False),
    ],
)
def test_figures_beside_clips_that_may_be_others_say_what_they_go_by(
    gates: StudyResults, source: str, names: tuple[str, ...], guessed: bool
) -> None:
    corpus = msgspec.structs.replace(
        gates.corpus, source=source, origin=Origin(), test_names=names, labels=("yes", "no")
    )
    study = msgspec.structs.replace(gates, corpus=corpus)
    table = reference_figures.table(study)
    assert table is not None
    windows = msgspec.structs.replace(study, reference_figures=builtin_figures("windows"))
    for text in (table.note, *reference_figures.sentences(windows)):
        assert (BY_LISTS_ALONE in text) is guessed
