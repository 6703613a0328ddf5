"""What hurts: speakers, splits or folds taken for labels because they are the folders on top."""

from __future__ import annotations

import re

import pytest

from cello.audio.levels import recognise

RAVDESS = [
    f"Actor_{a:02d}/03-01-{e:02d}-01-{s:02d}-01-{a:02d}.wav" for e in range(1, 9) for s in (1, 2) for a in (1, 2, 3)
]
SPLITS = [f"{split}/{word}/{n}.wav" for split in ("train", "val", "test") for word in ("yes", "no") for n in range(3)]
FOLDS = [f"fold{f}/{word}/{n}.wav" for f in (1, 2, 3) for word in ("dog", "rain") for n in range(3)]
URBAN = [f"fold{f}/{1000 * f + 50 * c + n}-{c}-0-{n}.wav" for f in (1, 2, 3) for c in range(10) for n in range(5)]
SPEAKERS = [f"p{who}/{word}/{n}.wav" for who in range(225, 235) for word in ("yes", "no") for n in range(3)]


@pytest.mark.parametrize(
    ("names", "kind", "groups"),
    [
        (SPLITS, "split", {"split": "train", "label": "yes"}),
        (FOLDS, "fold", {"fold": "fold1", "label": "dog"}),
        (SPEAKERS, "speaker", {"speaker": "p225", "label": "yes"}),
        (RAVDESS, "speaker", {"speaker": "Actor_01", "label": "01"}),
        (URBAN, "fold", {"fold": "fold1", "label": "0"}),
        (["yes/a.wav", "no/b.wav"], "label", {"label": "yes"}),
        ([f"{w}/p{s}/{n}.wav" for w in ("yes", "no") for s in range(4) for n in range(3)], "label", {"label": "yes"}),
        ([f"{d}/{d}_{n}.wav" for d in range(10) for n in range(9)], "label", {"label": "0"}),
    ],
)
def test_every_usual_layout_is_recognised_and_read_by_its_pattern(
    names: list[str], kind: str, groups: dict[str, str]
) -> None:
    found = recognise(names)
    assert found.kind == kind
    match = re.search(found.pattern, names[0])
    assert match is not None
    assert match.groupdict() == groups
    assert all(re.search(found.pattern, name) for name in names)


def test_where_either_level_may_be_the_labels_neither_is_taken() -> None:
    found = recognise([f"{who}/{w}/{n}.wav" for who in ("ann", "bob") for w in ("yes", "no") for n in range(3)])
    assert (found.kind, found.pattern) == ("unsure", "")
    assert (
        found.sentence == "each of the folders ann, bob holds the same folders no, yes; either level may be the labels"
    )


def test_splits_without_labels_in_them_are_splits_still() -> None:
    found = recognise(["train/a.wav", "test/b.wav"])
    assert (found.kind, found.pattern) == ("split", "")
    assert found.sentence == "the folders test, train are splits, and no folder is a label"
