"""What hurts: a corpus that is not what was meant, trained on without a word."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cello.audio.corpus import Manifest
from cello.audio.open import open_corpus
from cello.audio.reading import Reading
from cello.errors import CorpusError


def manifest(root: Path, pattern: str | None = None, allow_bad: float = 0.01) -> Manifest:
    cache = root.parent / "cache"
    return open_corpus(f"folder:{root}", cache=cache, speaker_pattern=pattern, allow_bad=allow_bad).manifest


def write_lists(root: Path, validation: list[str], testing: list[str]) -> None:
    (root / "validation_list.txt").write_text("\n".join(validation))
    (root / "testing_list.txt").write_text("\n".join(testing))


def test_an_ordinary_corpus_leaves_no_doubt(tone_folder: Path) -> None:
    assert manifest(tone_folder).warnings == ()


def test_labels_that_look_alike_are_named(tone_folder: Path) -> None:
    for name in ("Low", "low ", "\uff4cow"):
        shutil.copytree(tone_folder / "low", tone_folder / name)
    (warning,) = manifest(tone_folder).warnings
    assert warning.startswith("labels 'Low', 'low', 'low ', '\uff4cow' differ only by case or spaces; put the clips of")


def test_speakers_in_several_splits_are_counted(tone_folder: Path) -> None:
    names = [f"{word}/{speaker:08x}_nohash_0.wav" for word in ("high", "low", "rough") for speaker in range(20)]
    write_lists(tone_folder, names[0:3] + names[20:22], [*names[3:6], *names[22:25], names[45]])
    warnings = manifest(tone_folder).warnings
    assert warnings == (
        "of the 4 speakers of the test clips, 4 in training and 1 in validation too: "
        "these results do not generalise to new speakers",
        "of the 3 speakers of the validation clips, 3 in training too: these results do not generalise to new speakers",
        "'rough' has no validation clip",
    )


def test_labels_without_clips_to_judge_them_by_are_named(tone_folder: Path) -> None:
    names = [f"{speaker:08x}_nohash_0.wav" for speaker in range(20)]
    lists = [[f"low/{name}" for name in names[at : at + 2]] for at in (0, 2)]
    write_lists(tone_folder, *lists)
    for word in ("high", "rough"):
        for name in names[:4]:
            (tone_folder / word / name).unlink()
    assert manifest(tone_folder).warnings == ("'high', 'rough' have no validation clip and no test clip",)


def test_speakers_that_are_not_known_are_called_so_and_not_compared(tone_folder: Path) -> None:
    for path in tone_folder.rglob("*.wav"):
        path.rename(path.with_name(path.name.replace("_nohash_", "-")))
    names = sorted(path.relative_to(tone_folder).as_posix() for path in tone_folder.rglob("*.wav"))
    write_lists(tone_folder, names[::7], names[1::7])
    (warning,) = manifest(tone_folder).warnings
    assert warning.startswith(
        "file names seem to contain 20 speakers (00000000, 00000001, 00000002); 12 are in several splits"
    )
    assert warning.endswith(
        "accuracy is too optimistic for new ones: confirm them with --speaker-pattern '/([^/_. -]+)[^/]*$'"
    )
    for number, path in enumerate(sorted(tone_folder.rglob("*.wav"))):
        path.rename(path.with_name(f"clip {number}.wav"))
    names = sorted(path.relative_to(tone_folder).as_posix() for path in tone_folder.rglob("*.wav"))
    write_lists(tone_folder, names[::7], names[1::7])
    (warning,) = manifest(tone_folder).warnings
    assert warning.startswith(
        "the speakers of the clips are not known, so one speaker may be in several splits; if the"
    )


def test_known_speakers_are_compared(tone_folder: Path) -> None:
    for path in tone_folder.rglob("*.wav"):
        path.rename(path.with_name(path.name.replace("_nohash_", "-")))
    names = sorted(path.relative_to(tone_folder).as_posix() for path in tone_folder.rglob("*.wav"))
    write_lists(tone_folder, names[::7], names[1::7])
    assert "speakers of the test clips" in manifest(tone_folder, "/([0-9a-f]+)-").warnings[0]


def test_texts_beside_clips_are_counted_in_one_line(tone_folder: Path) -> None:
    whole = manifest(tone_folder)
    for name in ("high/notes.txt", "low/README", "low/list.csv"):
        (tone_folder / name).write_text("not sound")
    found = manifest(tone_folder)
    told = "3 files beside the clips cannot be audio by name, so passed over: "
    assert found.warnings == (f"{told}'high/notes.txt', 'low/README', 'low/list.csv'",)
    assert (found.checksum, found.bad) == (whole.checksum, ())


def test_who_may_speak_is_doubted_once(tone_folder: Path) -> None:
    for path in tone_folder.rglob("*.wav"):
        path.rename(path.with_name(path.name.replace("_nohash_", "-")))
    cache = tone_folder.parent / "cache"
    found = open_corpus(f"folder:{tone_folder}", cache=cache, strict=False).manifest
    assert ["seem to contain" in warning for warning in found.warnings] == [True]


def test_files_of_one_name_are_said_to_be_one_group(tone_folder: Path, tmp_path: Path) -> None:
    """What hurts: 60 files that are said to be 60 speakers while 20 are what was split."""
    for folder in sorted(tone_folder.iterdir()):
        for number, path in enumerate(sorted(folder.iterdir())):
            path.rename(path.with_name(f"{number}.wav"))
    said = {"reading": Reading(unknown_speakers=True), "cache": tmp_path / "cache"}
    found = open_corpus(f"folder:{tone_folder}", **said).manifest
    assert found.grouping == "files of the same name stay together, whatever their folders: 20 groups"
    assert len({(clip.speaker, clip.split) for clip in found.clips}) == 20
    for path in tone_folder.rglob("*.wav"):
        path.rename(path.with_name(f"{path.parent.name} {path.name}"))
    assert open_corpus(f"folder:{tone_folder}", **said).manifest.grouping == "each file counts as a speaker"
    for path in tone_folder.rglob("*.wav"):
        path.unlink() if int(path.stem.split()[1]) > 1 else path.rename(path.with_name(f"rec {path.stem[-1]}.wav"))
    with pytest.raises(CorpusError) as raised:
        open_corpus(f"folder:{tone_folder}", **said)
    assert str(raised.value) == (
        "2 different file names (rec 0, rec 1) are too few for training, validation and test, for files of the same "
        "name stay together; rename files, or write validation_list.txt and testing_list.txt"
    )


def test_an_empty_class_folder_is_named(tone_folder: Path) -> None:
    (tone_folder / "maybe").mkdir()
    assert manifest(tone_folder).warnings == ("class folders without clips are ignored: 'maybe'",)


def test_a_class_of_which_nothing_is_sound_is_told_from_one_with_too_few_speakers(tone_folder: Path) -> None:
    (tone_folder / "acquire").mkdir()
    (tone_folder / "acquire" / "data.wav").write_bytes(b"no sound")
    with pytest.raises(
        CorpusError, match=r"for example 'acquire' .*none of its 1 files is readable audio \(acquire/data.wav: "
    ):
        manifest(tone_folder, allow_bad=0.5)


def test_folders_of_splits_inside_labels_decide_the_split(tone_folder: Path) -> None:
    for path in sorted(tone_folder.rglob("*.wav")):
        inner = path.parent / ("test" if int(path.name[:8], 16) % 2 else "train")
        inner.mkdir(exist_ok=True)
        path.rename(inner / path.name)
    found = manifest(tone_folder)
    assert {clip.split for clip in found.clips if "/test/" in clip.name} == {"test"}
    assert {clip.split for clip in found.clips if "/train/" in clip.name} == {"train", "validation"}
