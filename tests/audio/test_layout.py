"""What hurts: a classifier of splits or folds trained without a word, and advice that points away from the corpus."""

from __future__ import annotations

from pathlib import Path

import pytest

from cello.audio.folder import scan
from cello.audio.reading import Reading
from cello.errors import CorpusError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def said(root: Path) -> str:
    with pytest.raises(CorpusError) as raised:
        scan(root)
    return str(raised.value).replace(str(root.resolve()), "ROOT")


@pytest.mark.parametrize("names", [("train", "val", "test"), ("Training", "TEST"), ("train", "dev", "eval")])
def test_folders_of_splits_are_no_labels_but_say_the_splits(tmp_path: Path, names: tuple[str, ...]) -> None:
    root = touch(tmp_path, *(f"{split}/{label}/1.wav" for split in names for label in ("yes", "no")))
    folder = scan(root)
    assert folder.labels == ("no", "yes")
    assert {clip.name: clip.split for clip in folder.clips}[f"{names[0]}/yes/1.wav"] == "train"
    assert folder.rule.startswith("folders, since the folders ")


def test_folders_of_splits_beside_others_or_with_clips_alone_are_no_labels_either(tmp_path: Path) -> None:
    mixed = touch(tmp_path / "a", "train/yes/1.wav", "train/no/1.wav", "test/yes/1.wav", "noise/1.wav")
    assert "'test', 'train' of 'ROOT' are splits, and each holds 'yes'" in said(mixed)
    assert "'test', 'train' of 'ROOT' are splits, not labels" in said(
        touch(tmp_path / "b", "train/1.wav", "test/2.wav")
    )


def test_a_label_may_be_named_as_a_split_is(tmp_path: Path) -> None:
    assert scan(touch(tmp_path, "train/1.wav", "car/1.wav")).labels == ("car", "train")
    assert scan(touch(tmp_path, "test/1.wav")).labels == ("car", "test", "train")


@pytest.mark.parametrize("names", [("fold1", "fold2", "fold10"), ("Fold_1", "Fold_2"), ("1fold", "2fold")])
def test_folds_are_no_labels(tmp_path: Path, names: tuple[str, ...]) -> None:
    text = said(touch(tmp_path, *(f"{fold}/1-dog.wav" for fold in names)))
    assert f"the folders of 'ROOT' are folds ({', '.join(map(repr, sorted(names)))}), not labels; make one" in text


@pytest.mark.parametrize("table", ["meta/esc50.csv", "labels.tsv", "metadata/clips.xlsx"])
def test_labels_in_a_table_are_named(tmp_path: Path, table: str) -> None:
    root = touch(tmp_path, "audio/1-dog.wav", "audio/2-cat.wav", table)
    text = f"the labels of 'ROOT' are in a table ({table}), not in folders; make one folder for each label"
    assert text in said(root)
    (root / "audio").rename(root / ".audio")
    assert text in said(touch(root, "1.wav"))


def test_a_table_beside_class_folders_is_no_matter(tmp_path: Path) -> None:
    assert scan(touch(tmp_path, "yes/1.wav", "no/1.wav", "clips.csv")).labels == ("no", "yes")
    assert scan(touch(tmp_path, "odd/1", "clips.csv")).labels == ("no", "odd", "yes")


def test_class_folders_one_level_below_are_pointed_at(tmp_path: Path) -> None:
    text = said(touch(tmp_path, "dataset/yes/1.wav", "dataset/no/1.wav", "docs/README.md"))
    assert "has only one class ('dataset'); no audio in 'docs'; a classifier needs at least two. Its class" in text
    assert text.endswith("Its class folders lie in 'ROOT/dataset': give that folder")
    deeper = touch(tmp_path / "up", "a/b/yes/1.wav", "a/b/no/1.wav")
    assert said(deeper).endswith("Its class folders lie in 'ROOT/a/b': give that folder")


def test_class_folders_above_are_asked_for_where_this_one_has_none(tmp_path: Path) -> None:
    """What hurts: a folder of clips whose labels are in their names is told, as a fact, to be a class itself."""
    root = touch(tmp_path / "clips", "yes/1.wav", "no/1.wav")
    with pytest.raises(CorpusError) as raised:
        scan(root / "yes")
    pattern = "Do the names of its files tell the label? Then give --pattern, for example '^(?P<label>[^_]+)_'"
    above = f" Is 'yes' one of them? Then give the folder above, {str(root.resolve())!r}. {pattern}"
    assert str(raised.value).endswith(f"a corpus has one folder of clips for each class.{above}")
    flat = said(touch(tmp_path / "alone" / "flat", "yes_1.wav", "no_1.wav"))
    assert flat.endswith(f"for each class. {pattern}")
    assert scan(tmp_path / "alone" / "flat", Reading(pattern="^(?P<label>[^_]+)_")).labels == ("no", "yes")
    touch(root, "no/ann/1.wav")
    one = said(root / "no")
    assert one.endswith(
        "('ann'); a classifier needs at least two: add a class folder, or give the folder that holds all of them"
    )
