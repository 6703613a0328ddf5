"""Name the classes of a corpus: words in Speech Commands, labels elsewhere."""

from __future__ import annotations

from cello.audio.spoken import WORDS
from cello.report.metrics import Metric
from cello.report.results import StudyResults

KINDS = ("speech-commands", "spoken")
MORE_LABELS = frozenset(("unknown", "_unknown_", "silence", "_silence_", "_background_noise_"))
BY_LISTS_ALONE = (
    "That the clips are those of Speech Commands is taken from their words and lists alone: this study was stored "
    "before Cello kept the names of clips."
)
HASHED = "_nohash_"  # in the name of every clip of Speech Commands, and of nobody else's


def has_spoken_words(results: StudyResults) -> bool:
    """Whether the clips are those of Speech Commands, or Cello's own of the same words.

    Only there do the published studies stand beside a report. A folder counts by its clips' names or, in a store made
    before those were kept, by the official lists and words.
    """
    corpus = results.corpus
    if corpus.origin.kind in KINDS:
        return True
    if not set(corpus.labels) <= {*WORDS, *MORE_LABELS}:
        return False
    if corpus.test_names:
        return all(HASHED in name for name in corpus.test_names if name.split("/")[0] not in MORE_LABELS)
    return corpus.origin.split == "lists"


def by_lists_alone(results: StudyResults) -> bool:
    """Whether words and lists are all that speaks for Speech Commands; somebody's own recordings may have both."""
    corpus = results.corpus
    return has_spoken_words(results) and corpus.origin.kind not in KINDS and not corpus.test_names


def word(results: StudyResults) -> str:
    """What one class is called."""
    return "word" if has_spoken_words(results) else "label"


def title(metric: Metric, results: StudyResults) -> str:
    """A figure's title with the corpus's own word for its classes."""
    return metric.title.replace("per-word", f"per-{word(results)}")
