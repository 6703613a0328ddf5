"""What hurts: a default that changes and makes every published run another run, so that it is trained again."""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path

import msgspec
import pytest

from cello.audio.corpus import Manifest
from cello.study.catalogue import BUILTIN
from cello.study.config import StudyConfig
from cello.study.estimate import look_ahead
from cello.study.overrides import override
from cello.study.plan import plan
from cello.study.store import CorpusSource, Store
from cello.study.study_file import load_study, parse_study
from cello.training.config import CorpusRef

ROOT = Path(__file__).parents[2]
STORES = ROOT / "results" / "speech_commands_12"
CORPUS = CorpusRef(name="tones", checksum="0" * 64)
BEFORE = {
    ("data", "fair"): "256aaafe6fc05a53",
    ("data", "quick"): "12fa7bac18092dbf",
    ("gates", "fair"): "3287e1a633ad7500",
    ("gates", "published"): "44c4109fa51c20f6",
    ("gates", "quick"): "ab797074135e1656",
    ("odyssey", "fair"): "420fc7470cde547d",
    ("odyssey", "quick"): "33b47142a7e196ea",
    ("robustness", "fair"): "0ef56daa2665cd3e",
    ("robustness", "quick"): "0d841c9f97196c64",
    ("streaming", "fair"): "fa3220c8719dc4d2",
    ("streaming", "quick"): "2101fe8a6eee1faf",
    ("windows", "fair"): "945ac76cf52873c5",
    ("windows", "published"): "3aeb7a5483802d13",
    ("windows", "quick"): "421b573425f059cf",
    ("windows-fixed-hop", "fair"): "1a5110ee516c0cef",
    ("windows-fixed-hop", "published"): "d951097c33f9f44e",
    ("windows-fixed-hop", "quick"): "ff951719657a10cb",
    ("zoo", "fair"): "694d3bd797227531",
    ("zoo", "quick"): "ff3136b89397cd67",
}
"""A digest of all run ids of each built-in study, as they were when pooling by the last state was the default."""
CELLS_BEFORE = 41
"""The cells of the zoo at that time, all of them rows of its study."""
WINDOWS = {
    ("windows", "fair"): "855e393ea95e2ff6",
    ("windows", "published"): "07e3780321f1db6f",
    ("windows", "quick"): "2d796de00e25f048",
    ("windows-fixed-hop", "fair"): "2374380478fc86bd",
    ("windows-fixed-hop", "published"): "9c3a5fca95746ac7",
    ("windows-fixed-hop", "quick"): "a3c7df6b23b1ffd5",
}
FILES = {"under-250k": "46efefc841db8a13", "under-50k": "d0e9b5553e57ea2f", "windows": "b207bfc2d749c74d"}


def digest(study: StudyConfig) -> str:
    runs = plan(study, CORPUS, 10)
    return hashlib.sha256(" ".join(sorted(f"{run.place} {run.id}" for run in runs)).encode()).hexdigest()[:16]


def test_every_built_in_study_is_known_here() -> None:
    assert set(BEFORE) == {(name, protocol) for name, protocols in BUILTIN.items() for protocol in protocols}


@pytest.mark.parametrize("place", BEFORE, ids=" ".join)
def test_run_ids_of_built_in_studies_do_not_change(place: tuple[str, str]) -> None:
    study = load_study(*place)
    if place[0] == "zoo":  # later cells are rows behind those of then
        study = msgspec.structs.replace(study, rows=study.rows[:CELLS_BEFORE])
    assert digest(with_torch_layers(study) if "windows" in place[0] else study) == BEFORE[place]


@pytest.mark.parametrize("place", WINDOWS, ids=" ".join)
def test_run_ids_of_the_windows_studies_with_cellos_own_cells_do_not_change(place: tuple[str, str]) -> None:
    assert digest(load_study(*place)) == WINDOWS[place]


def with_torch_layers(study: StudyConfig) -> StudyConfig:
    """A windows study as it was before its rows had Cello's own cells."""
    rows = [
        msgspec.structs.replace(row, model={**row.model, "cell": f"torch:{row.model['cell']}"}) for row in study.rows
    ]
    return msgspec.structs.replace(study, rows=tuple(rows))


@pytest.mark.parametrize("name", FILES)
def test_run_ids_of_studies_in_the_repository_do_not_change(name: str) -> None:
    assert digest(load_study(ROOT / "studies" / f"{name}.toml")) == FILES[name]


def test_single_ids_do_not_change() -> None:
    first = {name: plan(load_study(name), CORPUS, 10)[0].id for name in ("gates", "windows", "zoo")}
    assert first == {"gates": "4240befe140fc9ec", "windows": "beb8b39a31496186", "zoo": "f3c27052f4c76469"}


def test_a_built_in_study_that_was_begun_with_pytorchs_layers_says_that_it_goes_on_with_them() -> None:
    store = Store.open(STORES / "windows-fair")
    study = override(load_study("windows"), seeds=store.study.seeds)
    with pytest.warns(UserWarning, match=r"'windows' was begun here with PyTorch's layers .*choose another --out"):
        ahead = look_ahead(study, store.header.source, STORES / "windows-fair", 1, closed)
    assert ahead.done == 72
    assert not any("torch:" in row.model["cell"] for row in study.rows)


def tuned(name: str) -> StudyConfig:
    file = STORES / f"{name}-fair-tuning" / "tuned.toml"
    return parse_study(file.read_text("utf-8"), str(file))


def test_committed_stores_resume_as_complete() -> None:
    asked = {
        "gates-fair": load_study("gates"),
        "gates-fair-tuned": tuned("gates"),
        "gates-fair-tuned-parameters": override(tuned("gates"), match="parameters"),
        "gates-published": load_study("gates", "published"),
        "under-250k": load_study(ROOT / "studies" / "under-250k.toml"),
        "under-50k": load_study(ROOT / "studies" / "under-50k.toml"),
        "windows-fair": load_study("windows"),
        "windows-fair-tuned": tuned("windows"),
        "windows-published": load_study("windows", "published"),
    }
    assert set(asked) == {folder.parent.name for folder in STORES.glob("*/study.json")}
    for name, study in asked.items():
        store = Store.open(STORES / name)
        whole = override(study, seeds=store.study.seeds)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "study .windows. was begun here with PyTorch")
            ahead = look_ahead(whole, store.header.source, STORES / name, 1, closed)
        assert (ahead.done, ahead.runs) == (len({run.id for run in store.runs}),) * 2, name


def closed() -> Manifest:
    pytest.fail("a store that is there needs no corpus")


def test_a_study_of_a_former_zoo_opens_as_it_was_begun_and_grows_by_the_cells_that_came_since(tmp_path: Path) -> None:
    whole = msgspec.structs.replace(load_study("zoo"), seeds=(0,))
    former = msgspec.structs.replace(whole, rows=whole.rows[:CELLS_BEFORE])
    manifest = Manifest(
        corpus="tones", rate_hz=16_000, labels=("a", "b"), clips=(), bad=(), checksum="0" * 64, source="x"
    )
    source = CorpusSource(spec="made up")
    begun = Store.create_or_open(tmp_path / "zoo", former, manifest, source).runs
    again = Store.open(tmp_path / "zoo")
    assert (again.study.rows, again.runs) == (former.rows, begun)
    ahead = look_ahead(again.study, source, again.folder, 1, closed)  # from its study.json, or by its own file
    assert (ahead.done, ahead.runs) == (0, CELLS_BEFORE)
    grown = Store.create_or_open(again.folder, whole, manifest, source).runs
    assert {run.id for run in begun} < {run.id for run in grown}
    assert {run.row for run in grown} == {row.name for row in whole.rows}
