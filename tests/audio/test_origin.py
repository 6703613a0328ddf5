"""What hurts: a fact about a corpus that is read out of a sentence, and changes when somebody words it better."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from cello.audio.corpus import Manifest
from cello.audio.origin import LISTS, SPLIT_BY, Origin, absolute, kind_of, origin_of
from cello.audio.twelve import ABOUT

SOURCE = Path(__file__).parents[2] / "src" / "cello"


@pytest.mark.parametrize(
    ("sentence", "kind", "split"),
    [
        (f"folder:../data/words{SPLIT_BY}{LISTS}", "folder", "lists"),
        (f"../data/a, the best{SPLIT_BY}{LISTS}", "folder", "lists"),
        (f"spoken{SPLIT_BY}SHA-1 of the speaker", "spoken", "speaker-hash"),
        (f"speech-commands:v0.02{SPLIT_BY}{LISTS}", "speech-commands", "official"),
        (f"speech-commands:v0.02:12, {ABOUT}{SPLIT_BY}{LISTS}", "speech-commands", "official"),
        (f"speech-commands:v0.02{SPLIT_BY}5 folds grouped by speaker", "speech-commands", "folds"),
        (f"folder:c{SPLIT_BY}SHA-1 of the file name (speakers not known)", "folder", "clip-hash"),
        (f"folder:c{SPLIT_BY}6 speakers in the order of their SHA-1", "folder", "speaker-hash"),
        (f"folder:c{SPLIT_BY}9 file names by their SHA-1 (speakers not known)", "folder", "clip-hash"),
        (f"folder:c{SPLIT_BY}the table SHA-1 of the speaker.csv", "folder", "given"),
        (
            f"c{SPLIT_BY}the pattern; validation is a tenth of the training speakers, by SHA-1",
            "folder",
            "given",  # the test clips' speakers may well be trained on: nobody's hash chose them
        ),
        (f"c{SPLIT_BY}folds: '5' tests, '4' validates, the other 3 train", "folder", "hold-out"),
        (f"c{SPLIT_BY}5 folds by SHA-1 of the file name (speakers not known)", "folder", "folds"),
        (f"c{SPLIT_BY}5 folds grouped by speaker: '2' tests, the one before validates", "folder", "one-fold"),
        ("my own opener", "other", "unknown"),
        ("folder:c", "folder", "unknown"),
    ],
)
def test_old_sentences_are_read_as_fields(sentence: str, kind: str, split: str) -> None:
    found = origin_of(sentence)
    assert (found.kind, found.split) == (kind, split)
    assert str(found) == sentence


def test_a_task_is_a_field() -> None:
    found = origin_of(f"speech-commands:v0.02:12, {ABOUT}{SPLIT_BY}{LISTS}")
    assert (found.spec, found.task, found.rule) == ("speech-commands:v0.02:12", ABOUT, LISTS)


def test_kinds_are_those_that_open_corpus_knows() -> None:
    specs = ["speech-commands", "spoken", "folder:x", "x", "C:/x"]
    assert [kind_of(spec) for spec in specs] == ["speech-commands", "spoken", "folder", "folder", "folder"]


def test_a_manifest_has_fields_and_a_sentence_that_agree() -> None:
    old = Manifest(corpus="c", rate_hz=1, labels=(), clips=(), bad=(), checksum="", source=f"folder:c{SPLIT_BY}{LISTS}")
    assert old.origin == Origin(kind="folder", spec="folder:c", split="lists", rule=LISTS)
    other = old.from_origin(old.origin.divided("folds", "3 folds of one speaker each"))
    assert other.source == "folder:c, split by 3 folds of one speaker each"
    again = msgspec.json.decode(msgspec.json.encode(other), type=Manifest)
    assert again == other


def test_no_other_file_takes_a_sentence_apart() -> None:
    files = [path for path in SOURCE.rglob("*.py") if path.name != "origin.py"]
    assert [path.name for path in files if SPLIT_BY in path.read_text()] == []


def test_a_spec_is_made_absolute_where_it_names_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute("folder:clips") == f"folder:{tmp_path}/clips"
    assert absolute("clips") == f"{tmp_path}/clips"
    assert absolute("speech-commands:v0.02x") == f"speech-commands:{tmp_path}/v0.02x"
    assert absolute("~/clips") == f"{Path.home()}/clips"
    for same in ("speech-commands", "speech-commands:v0.01", "spoken", ""):
        assert absolute(same) == same
