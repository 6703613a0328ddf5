"""Say whether speakers are known, and whether the test clips have their own."""

from __future__ import annotations

from collections.abc import Mapping

from cello.report.results import StudyResults

SPLIT_NAMES = {"train": "training", "validation": "validation", "test": "test"}
FEW_SPEAKERS = 10
"""With fewer in the test clips, an interval for new speakers is itself uncertain."""


def rule(results: StudyResults) -> str:
    """What divided the clips, in the words of the corpus; empty where it does not say."""
    return results.corpus.origin.rule


def official(results: StudyResults) -> bool:
    """Whether the split is the published one of Speech Commands, which was checked when the corpus was opened."""
    return results.corpus.origin.split == "official"


def by_hash(results: StudyResults) -> bool:
    """Whether each speaker's hash chose the split, so that nobody is in two."""
    return results.corpus.origin.split == "speaker-hash"


def known(results: StudyResults) -> bool:
    """Whether speakers stand behind the clips, and not only files, each of which counted as one."""
    corpus = results.corpus
    if corpus.origin.split == "clip-hash" or corpus.speakers_known is False:
        return False
    return bool(corpus.speakers_known) or any(split.speakers < split.clips for split in corpus.splits.values())


def shared(results: StudyResults) -> int | None:
    """How many of the test clips' speakers are in training or validation too; None where that is not recorded."""
    if not known(results):
        return None
    if results.corpus.shared_speakers is not None:
        return results.corpus.shared_speakers
    return 0 if official(results) or by_hash(results) else None


def random_effect(results: StudyResults) -> str:
    """The random effect beside seeds in intervals and tests."""
    if results.corpus.folds:
        return "folds"
    if not known(results):
        return "clips"
    return "clips, grouped by speaker," if shared(results) else "speakers"


def validity(results: StudyResults) -> str:
    """What the intervals of the ranking hold for, and for what not."""
    if results.corpus.folds:
        return (
            "The 95 % intervals rest on the differences between folds, with Nadeau and Bengio’s correction for the "
            f"overlap of their training sets, and hold for new training sets and new {_new(results)}."
        )
    wider = "so they are wider than the tables’ ±, which is about these clips alone."
    if not known(results):
        return (
            f"The 95 % intervals hold for new seeds and new clips, {wider} They say nothing of new speakers: "
            "who speaks is not known, and a voice may be in training and test."
        )
    own = shared(results)
    if own is None:
        return (
            f"The 95 % intervals hold for new seeds and new speakers, {wider} Of new speakers they hold only if nobody "
            "who speaks in the test clips is in training too, which is not recorded."
        )
    if own:
        return (
            f"The 95 % intervals hold for new seeds and new clips, {wider} {overlap(results)} They say nothing of new "
            "speakers."
        )
    return f"The 95 % intervals hold for new seeds and new speakers, {wider}"


def meaning(results: StudyResults) -> str:
    """What intervals mean where the test clips are of few, shared or unknown speakers; empty where many speak."""
    if results.corpus.folds and known(results) and not shared(results):
        return ""
    if not known(results):
        return (
            "Who speaks is not known: a voice may be in training and test, which makes figures too high, and intervals "
            "speak of new clips of the same recordings, not of new speakers."
        )
    if shared(results):
        return f"{overlap(results)} For new speakers, expect less; intervals speak of new clips, not of new speakers."
    if between := overlap(results):
        return f"{between} Validation accuracies are therefore too high for new speakers; test accuracies are not."
    people = results.corpus.splits["test"].speakers
    if people >= FEW_SPEAKERS:
        return ""
    if people == 1:
        return "All test clips are one speaker’s, so no figure says anything of other speakers."
    return (
        f"The test clips are {people} speakers’ alone. Intervals for new speakers take these for a random draw of all, "
        "and from so few they are wide and themselves uncertain."
    )


def sharing(results: StudyResults) -> str:
    """Whether speakers are in several splits, in a sentence, even where nobody knows."""
    if not known(results):
        return (
            "Who speaks is not known, so a voice may be in several splits; accuracies may then be too high for new "
            "speakers."
        )
    if between := overlap(results):
        return f"{between} Accuracies on them are too high for new speakers."
    if results.corpus.folds:
        return "No speaker is in two folds."
    if results.corpus.shared_by_split is not None or official(results) or by_hash(results):
        return "No speaker is in two splits."
    if shared(results) == 0:
        return "No speaker of the test clips is in another split."
    return "Whether a speaker is in several splits is not recorded."


def _new(results: StudyResults) -> str:
    if not known(results):
        return "clips of the same recordings, for who speaks is not known"
    return "clips of the same speakers, for some are in several folds" if shared(results) else "speakers"


def overlap(results: StudyResults) -> str:
    """The speakers that the test clips do not have for themselves, in a sentence; empty where there are none."""
    by_split = None if results.corpus.folds else results.corpus.shared_by_split
    if by_split is not None and known(results):
        return " ".join(_in_other_splits(results, split, found) for split, found in by_split.items())
    own = shared(results)
    if not own:
        return ""
    if results.corpus.folds:
        people = results.corpus.splits["test"].speakers
        return f"Of the {people:,} speakers {own:,} {'is' if own == 1 else 'are'} in more than one fold."
    of = results.corpus.splits["test"].speakers
    are = "is" if own == 1 else "are"
    return f"Of the {of:,} speaker{'s' * (of != 1)} of the test clips {own:,} {are} in training or validation too."


def _in_other_splits(results: StudyResults, split: str, found: Mapping[str, int]) -> str:
    of, (first, *others) = results.corpus.splits[split].speakers, found.items()
    told = f"{first[1]:,} {'is' if first[1] == 1 else 'are'} in {SPLIT_NAMES[first[0]]}"
    more = "".join(f" and {n:,} in {SPLIT_NAMES[other]}" for other, n in others)
    return f"Of the {of:,} speaker{'s' * (of != 1)} of the {SPLIT_NAMES[split]} clips {told}{more} too."
