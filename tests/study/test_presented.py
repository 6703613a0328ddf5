"""What hurts: a store of before that no longer opens, or reports without the figures it was made to stand beside."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from fake_training import manifest

from cello.errors import StoreError
from cello.files import unseal_json
from cello.study.config import StudyConfig
from cello.study.merge import merge_stores
from cello.study.reference_figures import ReferenceFigures
from cello.study.store import CorpusSource, Store
from cello.study.study_file import load_study

STORES = Path(__file__).parents[2] / "results" / "speech_commands_12"
OWN = ReferenceFigures(name="own", sentences=("Theirs is 93.1 %.",))


@pytest.mark.parametrize(
    ("store", "study"), [("gates-fair", "gates"), ("windows-published", "windows"), ("under-50k", None)]
)
def test_committed_stores_stand_beside_the_same_figures_as_before(store: str, study: str | None) -> None:
    assert '"stage"' in (STORES / store / "study.json").read_text()
    found = Store.open(STORES / store).study
    expected = load_study(study) if study else StudyConfig(name="x")
    assert (found.notebook, found.reference_figures) == (expected.notebook, expected.reference_figures)


def made(folder: Path, small: StudyConfig, source: CorpusSource, **values: object) -> Store:
    return Store.create_or_open(folder, msgspec.structs.replace(small, **values), manifest(), source)


def test_the_last_command_says_what_a_study_is_shown_with(
    tmp_path: Path, small: StudyConfig, source: CorpusSource
) -> None:
    first = made(tmp_path / "s", small, source)
    again = made(first.folder, small, source, notebook="Mine.ipynb", reference_figures=OWN)
    assert (again.study.notebook, again.study.reference_figures) == ("Mine.ipynb", OWN)
    assert again.runs == first.runs
    assert "stage" not in msgspec.json.decode(unseal_json((first.folder / "study.json").read_bytes()))["study"]


def test_stores_that_differ_in_what_they_are_shown_with_are_merged(
    tmp_path: Path, small: StudyConfig, source: CorpusSource
) -> None:
    one = made(tmp_path / "one", small, source, reference_figures=OWN)
    two = made(tmp_path / "two", small, source)
    assert merge_stores([one.folder, two.folder], tmp_path / "out").study.reference_figures == OWN


def test_a_stored_notebook_is_written_nowhere_else(tmp_path: Path, small: StudyConfig, source: CorpusSource) -> None:
    store = made(tmp_path / "s", small, source, notebook="Mine.ipynb")
    text = unseal_json((store.folder / "study.json").read_bytes()).replace(b"Mine.ipynb", b"../Mine.ipynb")
    (store.folder / "study.json").write_bytes(text)
    with pytest.raises(StoreError, match=r"not the name of a notebook file"):
        Store.open(store.folder)
