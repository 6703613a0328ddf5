"""Folders: what counts as a class, a clip, noise; and lists a user wrote."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest

from cello.audio.assign import assign
from cello.audio.folder import scan
from cello.audio.reading import Reading
from cello.errors import CorpusError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def lists(root: Path, validation: str, testing: str) -> None:
    (root / "validation_list.txt").write_text(validation, encoding="utf-8")
    (root / "testing_list.txt").write_text(testing, encoding="utf-8")


def test_classes_are_the_visible_folders_sorted(tmp_path: Path) -> None:
    touch(tmp_path, "да/1.wav", "no/b.wav", "no/a/2.flac", "是/1.wav", "_background_noise_/hum.wav", "README.md")
    touch(tmp_path, "_background_noise_/README.md", ".git/config", "no/.DS_Store", "no/.cache/x.wav")
    (tmp_path / "empty").mkdir()
    folder = scan(tmp_path)
    assert folder.labels == ("no", "да", "是")
    assert [clip.name for clip in folder.clips] == ["no/a/2.flac", "no/b.wav", "да/1.wav", "是/1.wav"]
    assert [clip.label for clip in folder.clips] == ["no", "no", "да", "是"]
    assert [file.name for file in folder.noise] == ["_background_noise_/hum.wav"]


def test_what_is_no_sound_by_its_name_is_no_clip_and_is_remembered(tmp_path: Path) -> None:
    """What hurts: one notes.txt among three clips that stops a training."""
    texts = ("notes.txt", "README", "list.csv", "meta.JSON", "paper.pdf", "words.docx", "1.TextGrid")
    touch(tmp_path, "yes/1.wav", "no/1.wav", "no/2.xyz", "papers/a.pdf", *(f"yes/deep/{name}" for name in texts))
    folder = scan(tmp_path)
    assert [clip.name for clip in folder.clips] == ["no/1.wav", "no/2.xyz", "yes/1.wav"]
    assert set(folder.texts) == {"papers/a.pdf", *(f"yes/deep/{name}" for name in texts)}
    assert (folder.labels, folder.empty) == (("no", "yes"), ("papers",))
    split = touch(tmp_path / "split", *(f"{part}/{word}/1.wav" for part in ("train", "test") for word in "ab"))
    touch(split, "train/about.txt")
    assert scan(split).labels == ("a", "b")


def test_every_visible_file_is_a_clip_whatever_its_name(tmp_path: Path) -> None:
    folder = scan(touch(tmp_path, "yes/1.WAV", "yes/2.m4a", "yes/notes", "no/1.wav"))
    assert [clip.name for clip in folder.clips] == ["no/1.wav", "yes/1.WAV", "yes/2.m4a", "yes/notes"]


def test_names_are_the_same_however_accents_are_written(tmp_path: Path) -> None:
    decomposed = unicodedata.normalize("NFD", "olé")
    touch(tmp_path, f"{decomposed}/señor.wav", "no/1.wav")
    lists(tmp_path, "olé/señor.wav\n", f"{unicodedata.normalize('NFD', 'no/1.wav')}\n")
    folder = scan(tmp_path)
    assert folder.labels == ("no", "olé")
    assert assign(folder).splits == {"no/1.wav": "test", "olé/señor.wav": "validation"}
    touch(tmp_path, "olé/señor.wav")
    with pytest.raises(CorpusError, match=r"same name 'olé/señor.wav' in Unicode NFC; rename one"):
        scan(tmp_path)


def test_a_name_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "yes/1.wav", "no/1.wav")
    with open(os.fsencode(tmp_path) + b"/no/\xff.wav", "wb"):  # noqa: PTH123 - bytes are no Path
        pass
    with pytest.raises(CorpusError, match=r"file name 'no/\\udcff.wav' .* is not UTF-8; rename it"):
        scan(tmp_path)


def test_noise_whose_name_is_not_utf8_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "yes/1.wav", "no/1.wav", "_background_noise_/a.wav")
    with open(os.fsencode(tmp_path) + b"/_background_noise_/caf\xe9.wav", "wb"):  # noqa: PTH123 - bytes are no Path
        pass
    with pytest.raises(CorpusError, match=r"file name '_background_noise_/caf\\udce9.wav' .* is not UTF-8; rename it"):
        scan(tmp_path)


def test_what_operating_systems_leave_is_passed_over(tmp_path: Path) -> None:
    junk = ("Thumbs.db", "desktop.ini", "Icon\r", ".DS_Store", "._1.wav", "ehthumbs.db", ".git/config", "@eaDir/1.wav")
    touch(tmp_path, "yes/1.wav", "no/1.wav", *(f"{place}{name}" for name in junk for place in ("", "yes/", "no/")))
    touch(tmp_path, "__MACOSX/yes/._1.wav", "$RECYCLE.BIN/x.wav", "lost+found/x", "PaxHeaders.12/yes", "#recycle/1.wav")
    folder = scan(tmp_path)
    assert [clip.name for clip in folder.clips] == ["no/1.wav", "yes/1.wav"]
    assert folder.empty == ()


def test_an_empty_class_folder_is_remembered(tmp_path: Path) -> None:
    touch(tmp_path, "yes/1.wav", "no/1.wav", "_background_noise_/README.md", "maybe/.gitkeep")
    assert scan(tmp_path).empty == ("maybe",)


def test_a_link_that_leads_round_is_not_followed_but_kept_to_be_reported(tmp_path: Path) -> None:
    touch(tmp_path, "yes/1.wav", "no/1.wav")
    (tmp_path / "yes" / "round").symlink_to(tmp_path)
    assert [clip.name for clip in scan(tmp_path).clips] == ["no/1.wav", "yes/1.wav", "yes/round"]


def test_folders_that_are_no_corpus_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="gone' does not exist or is not a folder; give a folder of class folders"):
        scan(tmp_path / "gone")
    with pytest.raises(CorpusError, match="has no class folders with files in them; a corpus has one folder of clips"):
        scan(touch(tmp_path, "1.wav", "_background_noise_/1.wav"))
    with pytest.raises(CorpusError, match=r"only one class \('yes'\); a classifier needs at least two"):
        scan(touch(tmp_path, "yes/1.wav"))


def test_a_folder_that_cannot_be_listed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "yes/1.wav", "no/1.wav")

    def refuse(path: Path) -> object:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(CorpusError, match=r"cannot be listed \(Permission denied\); make it readable"):
        scan(tmp_path)


def test_lists_decide_and_the_rest_is_training(tmp_path: Path) -> None:
    touch(tmp_path, "yes/1.wav", "yes/2.wav", "no/a b.wav", "no/2.wav")
    lists(tmp_path, "\ufeffyes/1.wav\r\n\r\n", "./no/a b.wav")
    assigned = assign(scan(tmp_path))
    assert assigned.splits == {
        "yes/1.wav": "validation",
        "no/a b.wav": "test",
        "yes/2.wav": "train",
        "no/2.wav": "train",
    }
    assert assigned.speakers["no/a b.wav"] == "a b"
    assert assigned.rule == "validation_list.txt and testing_list.txt"


def test_lists_of_windows_and_old_macs_are_read(tmp_path: Path) -> None:
    touch(tmp_path, "yes/1.wav", "yes/2.wav", "no/a\u2028b.wav", "no/2.wav")
    lists(tmp_path, "\ufeffyes\\1.wav\r\n.\\yes\\2.wav\r\n", "")
    (tmp_path / "testing_list.txt").write_bytes("no/a\u2028b.wav\rno/2.wav\r".encode())
    splits = assign(scan(tmp_path)).splits
    assert splits == {
        "yes/1.wav": "validation",
        "yes/2.wav": "validation",
        "no/a\u2028b.wav": "test",
        "no/2.wav": "test",
    }


@pytest.mark.parametrize(
    ("validation", "testing", "text"),
    [
        (
            "/data/clips/yes/1.wav",
            "",
            "lists '/data/clips/yes/1.wav', .*; names are relative to the corpus, with /, as in",
        ),
        ("C:\\clips\\yes\\1.wav", "", "names are relative to the corpus, with /, as in 'no/1.wav'"),
        ("clips/yes/1.wav", "", "names are relative to the corpus"),
        ("1.wav", "", "names are relative to the corpus"),
        (
            "yes/9.wav",
            "",
            "validation_list.txt' lists 'yes/9.wav', which is not a clip of the corpus; add the file or remove",
        ),
        ("yes/1.wav", "yes/1.wav", "'yes/1.wav' is in both lists .* leave it in one of them"),
        ("_background_noise_/hum.wav", "", "lists '_background_noise_/hum.wav', which is not a clip"),
    ],
)
def test_lists_that_do_not_fit_are_refused(tmp_path: Path, validation: str, testing: str, text: str) -> None:
    touch(tmp_path, "yes/1.wav", "no/1.wav", "_background_noise_/hum.wav")
    lists(tmp_path, validation, testing)
    with pytest.raises(CorpusError, match=text):
        assign(scan(tmp_path))


def test_unreadable_lists_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "yes/1.wav", "no/1.wav")
    lists(tmp_path, "", "")
    (tmp_path / "testing_list.txt").write_bytes("yes/1.wav".encode("utf-16"))
    with pytest.raises(CorpusError, match=r"testing_list.txt' cannot be read \(not UTF-8 .*must be UTF-8 text"):
        assign(scan(tmp_path))
    (tmp_path / "testing_list.txt").write_bytes(b"yes/\xff.wav")
    with pytest.raises(CorpusError, match=r"testing_list.txt' cannot be read .* must be UTF-8 text, one clip a line"):
        assign(scan(tmp_path))
    (tmp_path / "testing_list.txt").unlink()
    with pytest.raises(
        CorpusError, match=r"validation_list.txt but no testing_list.txt; write both lists, or remove this one"
    ):
        assign(scan(tmp_path))
    (tmp_path / "testing_list.txt").mkdir()
    with pytest.raises(CorpusError, match=r"testing_list.txt' cannot be read .*a folder, not a regular file"):
        assign(scan(tmp_path))
    (tmp_path / "testing_list.txt").rmdir()
    os.mkfifo(tmp_path / "testing_list.txt")
    with pytest.raises(CorpusError, match=r"testing_list.txt' cannot be read .*not a regular file"):
        assign(scan(tmp_path))


def test_it_is_said_when_speakers_are_not_known(tmp_path: Path) -> None:
    names = [f"{word}/{take}.wav" for word in ("yes", "no") for take in range(40)]
    assigned = assign(scan(touch(tmp_path, *names)))
    assert assigned.rule == "SHA-1 of the file name (speakers not known)"
    assert assigned.speakers["yes/7.wav"] == "7"


def test_without_lists_no_speaker_is_in_two_splits(tmp_path: Path) -> None:
    names = [f"{word}/{speaker}-{take}.wav" for word in ("yes", "no") for speaker in "abcdef" for take in range(3)]
    assigned = assign(scan(touch(tmp_path, *names)), Reading(speaker_pattern=r"/(\w)-"))
    assert assigned.rule == "6 speakers in the order of their SHA-1"
    pairs = {(assigned.speakers[name], assigned.splits[name]) for name in names}
    assert len(pairs) == 6
    assert {split for _, split in pairs} == {"train", "validation", "test"}
