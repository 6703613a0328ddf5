"""What hurts: a file of somebody else's run because a store names it, and a store that is lost with a cell's file."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fake_training import epoch_of, manifest, result_of

from cello.cells import load
from cello.cells.definition import cell
from cello.cells.functions import tanh
from cello.cells.stored import StoredCell
from cello.errors import StoreError
from cello.files import write_whole
from cello.study.config import Row, StudyConfig
from cello.study.merge import merge_stores
from cello.study.overrides import override
from cello.study.own_cells import written
from cello.study.store import CorpusSource, Store
from cello.study.study_file import load_study, parse_study

CELL = "from cello import cell, tanh\n\n\n@cell\ndef mine(x, h, W, U, b):\n    return tanh(W @ x {sign} U @ h + b)\n"
EVIL = "import sys\nsys.modules['executed'] = sys\n" + CELL.format(sign="-")
SOURCE = CorpusSource(spec="x")


@pytest.fixture(autouse=True)
def new_process(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Forgets what cells this process has met; at the end, no stranger's file has been run."""
    forget = load._KNOWN.clear
    forget()
    yield forget  # type: ignore[misc]
    assert "executed" not in sys.modules


def study(folder: Path, match: str = "width", seeds: tuple[int, ...] = (0, 1)) -> StudyConfig:
    """A row of the zoo and one of a cell of one's own."""
    folder.mkdir(exist_ok=True)
    file = folder / "mine.py"
    if not file.exists():
        file.write_text(CELL.format(sign="+"))
    rows = f'[[rows]]\nname = "A"\nmodel.cell = "lstm"\n[[rows]]\nname = "B"\nmodel.cell = "{file}:mine"\n'
    return override(parse_study(f'name = "t"\nmatch = "{match}"\n{rows}', "t.toml"), seeds=seeds)


def made(folder: Path, asked: StudyConfig) -> Store:
    store = Store.create_or_open(folder, asked, manifest(), SOURCE)
    for run in store.runs:
        store.run_folder(run).mkdir(parents=True, exist_ok=True)
        result = result_of(run.config, [epoch_of(run.config, 1, 0.0)])
        write_whole(store.run_folder(run) / "result.json", msgspec.json.encode(result))
    return store


def forged(store: Store, change: Callable[[dict[str, Any]], None]) -> None:
    """Somebody's ``study.json``."""
    header = json.loads((store.folder / "study.json").read_bytes())
    header.pop("crc32", None)
    change(header)
    (store.folder / "study.json").write_text(json.dumps(header))


@pytest.mark.parametrize("match", ["width", "parameters", "flops"])
def test_stores_unite_and_grow_though_the_file_of_their_cell_is_gone(
    match: str, tmp_path: Path, new_process: Callable[[], None]
) -> None:
    one, two = (
        made(tmp_path / name, study(tmp_path / "cells", match, seeds)) for name, seeds in (("1", (0,)), ("2", (1,)))
    )
    (cell,) = one.header.cells.values()
    assert cell.cell().graph.fingerprint() in {run.config.model.equations for run in one.runs}
    planned = {run.id: run.config for store in (one, two) for run in store.runs}
    (tmp_path / "cells" / "mine.py").write_text(EVIL)
    new_process()
    merged = merge_stores([one.folder, two.folder], tmp_path / "both")
    assert {run.id: run.config for run in merged.runs} == planned
    assert merged.header.cells == one.header.cells
    new_process()
    rest = override(parse_study('name = "t"\n[[rows]]\nname = "A"\nmodel.cell = "lstm"\n', "t.toml"), seeds=(2,))
    rest = override(rest, match=match)  # type: ignore[arg-type]
    rest = msgspec.structs.replace(rest, match_to="A" if match != "width" else None)
    grown = Store.create_or_open(merged.folder, rest, manifest(), SOURCE)
    assert len(grown.runs) == 5


def add_row(cell: str) -> Callable[[dict[str, Any]], None]:
    def change(header: dict[str, Any]) -> None:
        header["study"]["rows"].append({"name": "new", "model": {"cell": cell}})

    return change


@pytest.mark.parametrize("place", ["rows", "base", "columns"])
def test_a_file_that_a_stored_study_names_is_not_run(place: str, tmp_path: Path) -> None:
    """Whether a row, a column or the base names it, stores are not merged, nor more seeds planned into one."""
    (tmp_path / "evil.py").write_text(EVIL)
    one, two = (made(tmp_path / name, study(tmp_path / "cells")) for name in ("1", "2"))
    cell = f"{tmp_path}/evil.py:mine"

    def change(header: dict[str, Any]) -> None:
        if place == "rows":
            header["study"]["rows"].append({"name": "new", "model": {"cell": cell}})
        elif place == "base":
            header["study"]["base"] = {"model": {"cell": cell}}
            header["study"]["rows"].append({"name": "new"})
        else:
            header["study"]["columns"] = [{"name": "c", "model": {"cell": cell}}]
            header["study"]["rows"].append({"name": "new"})

    for store in (one, two):
        forged(store, change)
    refused = r"the store names '.*evil\.py:mine', but none of its runs has that cell, and no|has no place in the table"
    with pytest.raises(StoreError, match=refused):
        merge_stores([one.folder, two.folder], tmp_path / "both")
    if place == "rows":
        with pytest.raises(StoreError, match=r"no file that a store names is loaded; its study\.json was"):
            Store.create_or_open(two.folder, study(tmp_path / "cells", seeds=(5,)), manifest(), SOURCE)


def test_a_run_that_a_stored_study_forges_does_not_run_its_file(tmp_path: Path) -> None:
    (tmp_path / "evil.py").write_text(EVIL)
    one, two = (made(tmp_path / name, study(tmp_path / "cells")) for name in ("1", "2"))

    def change(header: dict[str, Any]) -> None:
        add_row(f"{tmp_path}/evil.py:mine")(header)
        run = json.loads(json.dumps(header["runs"][0]))
        run.update(id="0" * 16, row="new")
        run["config"]["model"].update(cell=f"{tmp_path}/evil.py:mine", equations="e" * 16)
        header["runs"].append(run)

    forged(two, change)
    merged = merge_stores([one.folder, two.folder], tmp_path / "both")
    assert [run.row for run in merged.runs].count("new") == 1
    Store.create_or_open(two.folder, study(tmp_path / "cells", seeds=(5,)), manifest(), SOURCE)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda cells: cells.clear(), "but not its equations: an older Cello made it; run its study once more into it"),
        (lambda cells: cells.update({key: _of_zoo() for key in cells}), "cannot be used: other equations are in its"),
        (lambda cells: next(iter(cells.values()))["graph"].update(outputs=[0]), "cannot be used: illegal graph"),
        (lambda cells: next(iter(cells.values())).update(name="a b"), "cannot be used: stored cell 'a b' is damaged"),
    ],
    ids=["older", "another", "illegal", "names"],
)
def test_a_matched_store_without_the_right_equations_is_named_and_mended_by_its_study(
    change: Callable[[dict[str, Any]], None], fault: str, tmp_path: Path, new_process: Callable[[], None]
) -> None:
    asked = study(tmp_path / "cells", "parameters")
    one, two = (made(tmp_path / name, asked) for name in ("1", "2"))
    for store in (one, two):
        forged(store, lambda header: change(header["cells"]))
    new_process()
    with pytest.raises(StoreError, match=fault):
        merge_stores([one.folder, two.folder], tmp_path / "both")
    for store in (one, two):
        Store.create_or_open(store.folder, asked, manifest(), SOURCE)
    new_process()
    assert len(merge_stores([one.folder, two.folder], tmp_path / "both").results()) == 4


def _of_zoo() -> dict[str, Any]:
    return msgspec.to_builtins(StoredCell.of(load.load_cell("lstm")))  # type: ignore[no-any-return]


def test_a_store_of_an_older_version_merges_by_its_fingerprints(
    tmp_path: Path, new_process: Callable[[], None]
) -> None:
    one, two = (made(tmp_path / name, study(tmp_path / "cells")) for name in ("1", "2"))
    for store in (one, two):
        forged(store, lambda header: header.pop("cells"))
    (tmp_path / "cells" / "mine.py").unlink()
    new_process()
    assert len(merge_stores([one.folder, two.folder], tmp_path / "both").results()) == 4


def test_other_equations_under_one_name_are_refused(tmp_path: Path) -> None:
    one = made(tmp_path / "1", study(tmp_path / "cells"))
    (tmp_path / "cells" / "mine.py").write_text(CELL.format(sign="-"))
    two = made(tmp_path / "2", study(tmp_path / "cells"))
    with pytest.raises(StoreError, match=r"the equations of '.*mine\.py:mine' are \w{16} in the first and \w{16} in"):
        merge_stores([one.folder, two.folder], tmp_path / "both")
    with pytest.raises(StoreError, match=r"the equations of '.*mine\.py:mine' have changed \(fingerprint"):
        Store.create_or_open(one.folder, study(tmp_path / "cells", seeds=(5,)), manifest(), SOURCE)


def test_other_arguments_of_the_same_equations_are_refused(tmp_path: Path) -> None:
    """First weights are drawn in the order of the arguments, so the same run would have another result."""
    (tmp_path / "cells").mkdir()
    gated = CELL.format(sign="+").replace("W @", "W.a @").replace("U @", "U.a @").replace("+ b", "+ b.a")
    (tmp_path / "cells" / "mine.py").write_text(gated)
    one = made(tmp_path / "1", study(tmp_path / "cells"))
    (tmp_path / "cells" / "mine.py").write_text(gated.replace("W, U, b", "b, U, W"))
    two = made(tmp_path / "2", study(tmp_path / "cells"))
    assert {run.id for run in one.runs} == {run.id for run in two.runs}
    said = r"the arguments of cell 'mine' are \(x, h, W, U, b\) in the first and \(x, h, b, U, W\) in the other"
    with pytest.raises(StoreError, match=said):
        merge_stores([one.folder, two.folder], tmp_path / "both")
    with pytest.raises(StoreError, match=said):
        Store.create_or_open(one.folder, study(tmp_path / "cells", seeds=(5,)), manifest(), SOURCE)


def test_the_equations_of_a_stored_cell_are_written_without_its_file(tmp_path: Path) -> None:
    store = made(tmp_path / "s", study(tmp_path / "cells"))
    (tmp_path / "cells" / "mine.py").unlink()
    (cell,) = written(Store.open(store.folder).header.cells)
    assert (cell.name, cell.text) == ("mine", "h[t] = tanh(W @ x[t] + U @ h[t-1] + b)")
    assert cell.latex.startswith("\\begin{aligned}\n")


def test_a_damaged_cell_is_left_out_of_what_is_written() -> None:
    cell = StoredCell.of(load.load_cell("rnn"))
    broken = msgspec.structs.replace(cell, arguments=("x", "x"))
    assert [one.name for one in written({"a" * 16: broken, "b" * 16: cell})] == ["rnn (" + "b" * 16 + ")"]


def test_a_study_of_cell_objects_is_stored_as_data_and_opens_in_another_session(
    tmp_path: Path, new_process: Callable[[], None]
) -> None:
    @cell
    def leaky(x: Any, h: Any, W: Any, U: Any) -> Any:
        return 0.5 * h + 0.5 * tanh(W @ x + U @ h)

    first = leaky

    @cell  # another cell with the same name
    def leaky(x: Any, h: Any, W: Any, U: Any) -> Any:
        return 0.1 * h + 0.9 * tanh(W @ x + U @ h)

    rows = (Row(name="half", model={"cell": first}), Row(name="tenth", model={"cell": leaky}))
    store = made(tmp_path / "out", StudyConfig(name="leaks", rows=rows))
    planned = {run.row: run.config.model for run in store.runs}
    assert {model.cell for model in planned.values()} == {"own:leaky"}
    assert planned["half"].equations == first.graph.fingerprint() != planned["tenth"].equations
    new_process()
    again = Store.open(tmp_path / "out")
    assert {run.id for run in again.runs} == {run.id for run in store.runs}
    assert not again.pending()
    assert "half" in str(again.study.rows)
    reopened = Store.create_or_open(tmp_path / "out", again.study, manifest(), SOURCE)
    assert [run.id for run in reopened.runs] == [run.id for run in store.runs]


def test_a_cell_object_overrides_every_row(tmp_path: Path) -> None:
    @cell
    def leaky(x: Any, h: Any, W: Any, U: Any) -> Any:
        return 0.5 * h + 0.5 * tanh(W @ x + U @ h)

    study = override(load_study("gates"), settings={"model.cell": leaky})
    assert {row.model["cell"] for row in study.rows} == {"own:leaky"}
    assert {row.model["equations"] for row in study.rows} == {leaky.graph.fingerprint()}
