"""What hurts: a claim about new speakers of clips whose speakers nobody knows, or who are in training too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from cello.audio.corpus import Clip, Manifest, Split
from cello.audio.origin import LISTS, Origin
from cello.errors import StoreError
from cello.report import findings, paper, ranking, speakers, tables
from cello.report.formats import latex, markdown
from cello.report.results import StudyResults
from cello.study.corpus_file import CorpusSummary, read_corpus, write_corpus

CLAIM = "hold for new seeds and new speakers"


def manifest(names: dict[Split, list[str]], speaker: Callable[[str], str]) -> Manifest:
    clips = tuple(
        Clip(name=f"yes/{name}.wav", label="yes", split=split, speaker=speaker(name), start=0, samples=1)
        for split, found in names.items()
        for name in found
    )
    return Manifest(
        corpus="c", rate_hz=16_000, labels=("yes",), clips=clips, bad=(), checksum="ab" * 32,
        source=f"folder:c, split by {LISTS}",
    )  # fmt: skip


def with_corpus(results: StudyResults, **values: object) -> StudyResults:
    values |= {"origin": Origin()} if "source" in values else {}
    return msgspec.structs.replace(results, corpus=msgspec.structs.replace(results.corpus, **values))


def test_a_store_keeps_whether_speakers_are_known_and_shared() -> None:
    names: dict[Split, list[str]] = {"train": ["a_1", "b_1"], "validation": ["c_1"], "test": ["a_2", "c_2", "d_1"]}
    told = CorpusSummary.of(manifest(names, lambda name: name[0]))
    assert (told.speakers_known, told.shared_speakers) == (True, 2)
    assert (told.test_names, told.speaker_names) == (("yes/a_2.wav", "yes/c_2.wav", "yes/d_1.wav"), ("a", "c", "d"))
    assert told.shared_by_split == {"test": {"train": 1, "validation": 1}}
    files = CorpusSummary.of(msgspec.structs.replace(manifest(names, lambda name: name), speakers_known=False))
    assert (files.speakers_known, files.shared_speakers, files.shared_by_split) == (False, None, None)
    assert files.speaker_names == ()


def test_speakers_of_the_test_clips_that_are_in_training_are_counted(gates: StudyResults) -> None:
    study = with_corpus(gates, source=f"folder:x, split by {LISTS}", speakers_known=True, shared_speakers=6)
    for text in (markdown.report(study), " ".join(ranking.explanation(study))):
        assert CLAIM not in text
        assert "Of the 55 speakers of the test clips 6 are in training or validation too." in text
    assert "clips, grouped by speaker, as random effects" in paper.paragraph(study)
    assert not any("more than one split" in text for text in paper.unrecorded(study))


def test_who_speaks_is_what_the_corpus_says_and_no_guess_at_the_names() -> None:
    # parts of one recording share its name as their speaker, and a table may name speakers as their files are named
    names: dict[Split, list[str]] = {"train": ["a#1", "a#2"], "validation": ["b#1"], "test": ["c#1"]}
    unknown = msgspec.structs.replace(manifest(names, lambda name: name.partition("#")[0]), speakers_known=False)
    assert CorpusSummary.of(unknown).speakers_known is False
    assert CorpusSummary.of(manifest(names, lambda name: name)).shared_by_split == {}


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (
            {"test": {"train": 6, "validation": 1}, "validation": {"train": 2}},
            "Of the 55 speakers of the test clips 6 are in training and 1 in validation too. "
            "Of the 13 speakers of the validation clips 2 are in training too.",
        ),
        ({"validation": {"train": 1}}, "Of the 13 speakers of the validation clips 1 is in training too."),
    ],
)
def test_the_summary_the_methods_and_the_corpus_name_the_splits_that_share_speakers(
    gates: StudyResults, found: dict[str, dict[str, int]], sentence: str
) -> None:
    own = sum(found.get("test", {}).values())
    study = with_corpus(gates, speakers_known=True, shared_speakers=own, shared_by_split=found)
    for text in (" ".join(findings.summary(study)), paper.paragraph(study), tables.corpus_clips(study).note):
        assert sentence in text
        assert "new speakers" in text
    assert (CLAIM in ranking.explanation(study)[0]) == (own == 0)


def test_the_methods_and_the_corpus_say_that_speakers_are_apart_or_not_known(gates: StudyResults) -> None:
    rule = "folder:x, split by the table’s column split"
    apart = with_corpus(gates, source=rule, speakers_known=True, shared_speakers=0, shared_by_split={})
    unknown = with_corpus(gates, source=rule, speakers_known=False)
    old = with_corpus(gates, source=rule, speakers_known=True)
    for say in (paper.paragraph, lambda study: tables.corpus_clips(study).note):
        assert "No speaker is in two splits." in say(apart)
        assert "Who speaks is not known, so a voice may be in several splits" in say(unknown)
    assert "divided by the table’s column split into" in paper.paragraph(unknown)
    assert "Whether a speaker is in several splits is not recorded." in tables.corpus_clips(old).note


@pytest.mark.parametrize("found", [{"train": {"test": 1}}, {"test": {"test": 1}}, {"test": {"train": 99}}])
def test_shared_speakers_that_cannot_be_are_damage(
    gates: StudyResults, tmp_path: Path, found: dict[str, dict[str, int]]
) -> None:
    write_corpus(tmp_path, msgspec.structs.replace(gates.corpus, shared_by_split=found))
    with pytest.raises(StoreError, match="share are not those of its splits"):
        read_corpus(tmp_path / "corpus.json")


def test_a_store_that_kept_less_is_completed_by_the_next_run(gates: StudyResults) -> None:
    whole = msgspec.structs.replace(
        gates.corpus, speakers_known=True, shared_speakers=0, shared_by_split={}, test_names=("a",), test_speakers=(0,)
    )
    before = msgspec.structs.replace(whole, shared_by_split=None)
    assert (whole.lacks_facts, before.lacks_facts) == (False, True)
    assert not msgspec.structs.replace(before, speakers_known=False).lacks_facts
    assert before.facts_kept < whole.facts_kept


def test_lists_that_keep_speakers_apart_are_said_to(gates: StudyResults) -> None:
    study = with_corpus(gates, source=f"folder:x, split by {LISTS}", speakers_known=True, shared_speakers=0)
    assert CLAIM in ranking.explanation(study)[0]
    assert "not recorded" not in ranking.explanation(study)[0]
    assert "so that nobody in the test clips is in another split, into" in paper.paragraph(study)


@pytest.mark.parametrize("rule", ["SHA-1 of the speaker (speakers not known: each file name counts as one)", LISTS])
def test_of_unknown_speakers_nothing_is_claimed_or_counted(gates: StudyResults, rule: str) -> None:
    study = with_corpus(gates, source=f"folder:x, split by {rule}", speakers_known=False)
    for text in (markdown.report(study), latex.report(study), latex.methods(study)):
        assert CLAIM not in text
        assert "seeds and speakers" not in text
        assert "speakers)" not in text
    assert "who speaks is not known" in ranking.explanation(study)[0]
    assert tables.corpus_clips(study).rows[-1] == ("speakers", *["not known"] * 3)
    assert "who speaks in each clip." in " ".join(paper.unrecorded(study))


def test_an_old_store_is_told_no_more_than_it_kept(gates: StudyResults) -> None:
    lists = with_corpus(gates, source=f"folder:x, split by {LISTS}")
    assert "Of new speakers they hold only if nobody" in ranking.explanation(lists)[0]
    one_each = {
        name: msgspec.structs.replace(split, speakers=split.clips) for name, split in gates.corpus.splits.items()
    }
    assert not speakers.known(with_corpus(lists, splits=one_each))
    by_hash = with_corpus(gates, source="folder:x, split by SHA-1 of the speaker")
    assert speakers.shared(by_hash) == 0


def test_no_choice_is_said_to_be_honest_that_is_not_recorded(gates: StudyResults, noisy: StudyResults) -> None:
    text = " ".join(findings.methods(gates))
    assert "Every choice" not in text
    assert "How the settings were chosen is not recorded." in text
    assert "read once per run, after" in text
    assert "once more under each condition" in " ".join(findings.methods(noisy))


def test_the_time_is_of_one_thread_only_where_the_runs_say_so(gates: StudyResults) -> None:
    assert "single-threaded" not in " ".join(findings.methods(gates))
    runs = tuple(
        msgspec.structs.replace(run, result=msgspec.structs.replace(run.result, hardware={"threads": "1"}))
        for run in gates.runs
    )
    assert "one single-threaded process" in " ".join(findings.methods(msgspec.structs.replace(gates, runs=runs)))


def test_times_of_a_gpu_are_not_said_to_be_those_of_a_processor(gates: StudyResults) -> None:
    there = msgspec.structs.replace(gates.runs[0].result, device="cuda:0", backend="triton", hardware={"gpu": "A GPU"})
    runs = tuple(msgspec.structs.replace(run, result=there) for run in gates.runs)
    text = " ".join(findings.methods(msgspec.structs.replace(gates, runs=runs)))
    assert (
        "of the wall time of the training steps on a GPU, with features and augmentation, without evaluation. " in text
    )
    assert "CPU time of the training" not in text
    mixed = " ".join(findings.methods(msgspec.structs.replace(gates, runs=(runs[0], *gates.runs[1:]))))
    assert "augmentation and evaluation are not in it; median over" in mixed
    assert "on a GPU, with features" in mixed
    on_gpu = tables.ON_GPU
    assert on_gpu in tables.times(msgspec.structs.replace(gates, runs=runs)).note
    assert on_gpu not in tables.times(gates).note
    methods = paper.paragraph(msgspec.structs.replace(gates, runs=runs))
    assert "computed by kernels compiled for the GPU. " in methods
    assert " on A GPU, with Cello" in methods


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"speakers_known": False}, "Who speaks is not known"),
        ({"speakers_known": True, "shared_speakers": 6}, "expect less; intervals speak of new clips"),
        ({"speakers_known": True, "shared_speakers": 0}, ""),
    ],
)
def test_the_summary_says_what_intervals_mean(gates: StudyResults, values: dict[str, object], words: str) -> None:
    study = with_corpus(gates, **values)
    assert words in speakers.meaning(study)
    assert bool(words) == bool(speakers.meaning(study))
    assert not words or any(words in text for text in findings.summary(study))


@pytest.mark.parametrize(
    ("people", "words"), [(1, "one speaker’s, so no figure"), (9, "are 9 speakers’ alone"), (10, "")]
)
def test_the_summary_says_that_few_speakers_test(gates: StudyResults, people: int, words: str) -> None:
    splits = gates.corpus.splits
    few = splits | {"test": msgspec.structs.replace(splits["test"], speakers=people)}
    found = speakers.meaning(with_corpus(gates, splits=few, speakers_known=True, shared_speakers=0))
    assert words in found
    assert bool(words) == bool(found)
