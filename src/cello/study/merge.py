"""Merge stores of one study, made on several machines, into a new store. Needs no torch.

What can be merged
------------------
Stores belong together if their studies have the same name, stage, protocol, ``match`` and reference row, the same base
settings, the same settings in every row and column that they share by name, and a corpus with the same checksum. Then
the same row, column and seed is the same run everywhere, whichever store comes first. The new plan has all their rows,
columns and seeds, and of that table the places that one of them planned: nothing that nobody asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from cello.errors import StoreError
from cello.files import DamagedFileError, read_stored, seal_json, write_whole
from cello.study.config import Base, StudyConfig
from cello.study.corpus_file import OF_CLIPS, CorpusSummary
from cello.study.folder import check_empty, copy_regular, naming, new_folder, open_folder
from cello.study.former import as_begun
from cello.study.journal import line
from cello.study.own_cells import reordered, resolver_from
from cello.study.plan import Place, PlannedRun, plan
from cello.study.pools import StoredRun
from cello.study.settings import changed_settings, shown_name
from cello.study.store import Header, Store, encoded
from cello.training.config import flat
from cello.training.result import FINISHED

TIMES = (
    *("seconds_per_epoch", "wall_seconds_per_epoch", "clips_per_second", "total_seconds"),
    *("epoch_seconds", "epoch_cpu_seconds", "epoch_clips_per_second"),
)
MEASURED_THERE = (*TIMES, "run", "config", "format", "hardware", "device_reason", "versions", "history")
"""What of a result depends on the machine it was measured on, or only says which run it is."""
CURVES = ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy")


class Found(NamedTuple):
    """A finished run and the store that it is in."""

    store: Store
    run: StoredRun


def merge_stores(folders: Sequence[Path | str], out: Path | str, prefer_first: bool = False) -> Store:
    """A new store in ``out`` with every finished run of these; they stay as they are.

    A run that several have is taken once, from the first, if what it measured on clips is the same; times and machines
    may differ. Where it is not the same, that is an error, or with ``prefer_first`` the first store's counts. Runs that
    are not finished are planned and start anew. ``out`` appears whole or not at all.

    Raises:
        StoreError: fewer than two folders, no store in one, stores of different studies or corpora, a run with two
            results, an ``out`` that holds anything or cannot be written.
    """
    out = Path(out)
    if len(folders) < 2:
        raise StoreError(f"{len(folders)} store to merge; give at least two folders of studies")
    stores = [Store.open(folder) for folder in folders]
    for first, other in combinations(stores, 2):
        _check_alike(first, other)
    with naming(out):
        check_empty(out)
    runs = _chosen(stores, prefer_first)
    header = _header(stores, runs)
    with naming(out), new_folder(out) as folder:
        (folder / "runs").mkdir()
        for found in {found.run.id: found for found in runs.values()}.values():
            _copy(found, folder / "runs" / found.run.id)
        events = {event: None for store in stores for event in store.events()}
        write_whole(folder / "journal.jsonl", [line(event) for event in sorted(events, key=lambda event: event.time)])
        write_whole(folder / "corpus.json", seal_json(msgspec.json.encode(_corpus(stores))))
        write_whole(folder / "study.json", encoded(header))
    return Store.open(out)


def _copy(found: Found, target: Path) -> None:
    """The files of a finished run, and of whatever else somebody may have put into its folder nothing."""
    source = found.store.run_folder(found.run)
    target.mkdir()
    name = ""
    try:
        with open_folder(source) as folder:
            for name in FINISHED:
                copy_regular(folder, name, target / name)
    except DamagedFileError as error:
        raise StoreError(
            f"{str(source / name)!r} cannot be merged: {error}; put the file itself there, or leave that store out"
        ) from error


def _check_alike(first: Store, other: Store) -> None:
    """Raises ``StoreError`` with the first difference that keeps two stores apart."""
    one, two = first.study, other.study
    for what, own, its in (
        ("study", one.name, two.name),
        ("protocol", one.label, two.label),
        ("match", one.match, two.match),
        ("match_to", one.reference, two.reference),
        ("division into folds", one.fold_rule, two.fold_rule),
    ):
        if own != its:
            raise _apart(first, other, f"the {what} is {own} in the first and {its} in the other")
    for cell, equations in _own(first).items():
        if _own(other).get(cell, equations) != equations:
            raise _apart(
                first,
                other,
                f"the equations of {cell!r} are {equations} in the first and {_own(other)[cell]} in the other",
            )
    if changed := reordered(first.header.cells, other.header.cells):
        raise _apart(first, other, changed)
    corpora = [f"{store.header.corpus.name} ({store.header.corpus.checksum[:12]})" for store in (first, other)]
    if first.header.corpus.checksum != other.header.corpus.checksum:
        raise _apart(first, other, f"the corpus is {corpora[0]} in the first and {corpora[1]} in the other")
    if bool(one.columns) != bool(two.columns):
        raise _apart(first, other, "one has columns and the other has none")
    mine, others = _parts(one), _parts(two)
    for part in (name for name in mine if name in others):
        stated = [dict(flat(parts[part].settings)) for parts in (mine, others)]
        for key in dict.fromkeys([*stated[0], *stated[1]]):
            if any(key not in settings for settings in stated) or stated[0][key] != stated[1][key]:
                values = [repr(settings[key]) if key in settings else "not stated" for settings in stated]
                difference = f"in {part}, {shown_name(key)} is {values[0]} in the first and {values[1]} in the other"
                raise _apart(first, other, difference)


def _own(store: Store) -> dict[str, str]:
    """The fingerprints of the equations of the cells that are the user's own."""
    models = (run.config.model for run in store.runs)
    return {model.cell: model.equations for model in models if model.equations}


def _parts(study: StudyConfig) -> dict[str, Base]:
    rows = {f"row {row.name!r}": row for row in study.rows}
    return {"the base": study.base, **rows, **{f"column {column.name!r}": column for column in study.columns}}


def _chosen(stores: Sequence[Store], prefer_first: bool) -> dict[Place, Found]:
    """For every place of the table with a finished run the run that counts."""
    chosen: dict[Place, Found] = {}
    by_id: dict[str, Found] = {}
    for store in stores:
        for run in store.each_result(curves=False):
            found = Found(store, run)
            before = chosen.get(run.planned.place) or by_id.get(run.id)
            if before is not None and before.store is not store and not prefer_first:
                _check_same(before, found)
            chosen.setdefault(run.planned.place, by_id.get(run.id, found))
            by_id.setdefault(run.id, found)
    return chosen


def _check_same(first: Found, other: Found) -> None:
    """Raises ``StoreError`` where one run has two results."""
    folders = [found.store.run_folder(found.run) for found in (first, other)]
    if all(_same_bytes(*(folder / name for folder in folders)) for name in ("result.json", "predictions.npz")):
        return
    one, two = (_measured(found) for found in (first, other))
    for name, own in one.items():
        if not _equal(own, two.get(name)):
            values = f" ({own} and {two.get(name)})" if isinstance(own, float | int | str) else ""
            raise StoreError(
                f"{other.run.planned} ({other.run.id}) has two results: {str(first.store.folder)!r} and "
                f"{str(other.store.folder)!r} differ in {name}{values}; find out which machine is right, or take the "
                f"first's with --prefer-first"
            )


def _same_bytes(one: Path, two: Path) -> bool:
    try:
        return read_stored(one) == read_stored(two)
    except (OSError, DamagedFileError):
        return False


def _measured(found: Found) -> dict[str, Any]:
    """All that a run says of clips: figures, curves, predictions."""
    tree = msgspec.to_builtins(found.store.result(found.run.planned))
    figures = dict(flat({name: value for name, value in tree.items() if name not in MEASURED_THERE}))
    curves = {f"history.{key}": [epoch[key] for epoch in tree["history"]] for key in CURVES}
    predicted = (found.store.run_folder(found.run) / "predictions.npz").exists()
    return figures | curves | (dict(found.store.predictions(found.run)) if predicted else {})


def _equal(own: Any, its: Any) -> bool:
    if isinstance(own, np.ndarray):
        return its is not None and np.array_equal(own, its)
    return msgspec.json.encode(own) == msgspec.json.encode(its)


def _header(stores: Sequence[Store], chosen: dict[Place, Found]) -> Header:
    first = stores[0]
    study = msgspec.structs.replace(
        first.study,
        seeds=tuple(sorted({seed for store in stores for seed in store.study.seeds})),
        rows=_union(store.study.rows for store in stores),
        columns=_union(store.study.columns for store in stores),
        match_to=first.study.reference or None,  # stated, for the first row may be another one now
    )
    corpus, places = first.header.corpus, {run.place for store in stores for run in store.runs}
    planned = [run for store in stores for run in store.runs]
    cells = {key: cell for store in reversed(stores) for key, cell in store.header.cells.items()}
    runs = []
    begun = as_begun(study, study, planned)
    resolver, folds = resolver_from(planned, cells, study.match), first.corpus.fold_names
    for run in plan(begun, corpus, len(first.corpus.labels), resolver, folds):
        if run.place in places:
            found = chosen.get(run.place)
            runs.append(run if found is None else _planned(found, run))
    grown = sorted({part for store in stores for part in store.header.growth}, key=lambda part: part.time)
    return Header(
        study=study, corpus=corpus, source=first.header.source, runs=tuple(runs), cells=cells, growth=tuple(grown)
    )


def _planned(found: Found, run: PlannedRun) -> PlannedRun:
    """The plan's run under the id that it was finished under, which an older version may have given it.

    Raises:
        StoreError: this version plans it otherwise.
    """
    own = msgspec.structs.replace(found.run.planned.config, corpus=run.config.corpus)
    changed = changed_settings(own, run.config)
    if changed:
        raise StoreError(
            f"{str(found.store.folder)!r} cannot be merged: in {run}, {', '.join(changed)}; its study was planned by "
            f"another version of Cello or with a cell that has changed since"
        )
    return msgspec.structs.replace(run, id=found.run.id)


def _corpus(stores: Sequence[Store]) -> CorpusSummary:
    """The first's summary with what the one that knows most says of single test clips."""
    whole = max((store.corpus for store in stores), key=lambda corpus: corpus.facts_kept)
    return msgspec.structs.replace(stores[0].corpus, **{name: getattr(whole, name) for name in OF_CLIPS})


def _union(parts: Iterable[tuple[Any, ...]]) -> tuple[Any, ...]:
    return tuple({item.name: item for items in parts for item in items}.values())


def _apart(first: Store, other: Store, difference: str) -> StoreError:
    return StoreError(
        f"{str(first.folder)!r} and {str(other.folder)!r} cannot be merged: {difference}; merge stores of one study, "
        f"made of one corpus"
    )
