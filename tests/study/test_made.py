"""What hurts: a stranger's study taken for one's own, or a study that cannot be made where there is no home."""

from __future__ import annotations

from pathlib import Path

import pytest

from cello.study.made import is_made, note_made


@pytest.fixture
def study(tmp_path: Path) -> Path:
    folder = tmp_path / "study"
    folder.mkdir()
    (folder / "study.json").write_text('{"title": "mine"}')
    return folder


def test_a_study_is_ones_own_until_its_plan_is_another(study: Path) -> None:
    assert not is_made(study)
    note_made(study)
    assert is_made(study)
    (study / "study.json").write_text('{"title": "changed on the way"}')
    assert not is_made(study)


def test_a_study_that_moves_stays_ones_own(study: Path, tmp_path: Path) -> None:
    (study / "study.json").write_text('{"title": "that moves"}')
    note_made(study)
    assert is_made(study.rename(tmp_path / "moved"))


def test_without_a_place_to_keep_it_nothing_is_ones_own(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (study / "study.json").write_text('{"title": "homeless"}')
    monkeypatch.setenv("XDG_STATE_HOME", str(study / "study.json"))
    note_made(study)
    assert not is_made(study)


def test_what_is_kept_is_the_users_alone(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    note_made(study)
    assert (tmp_path / "state" / "cello" / "made").stat().st_mode & 0o777 == 0o600
    assert not is_made(tmp_path / "nothing")
