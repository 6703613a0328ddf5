"""Write a store as Parquet tables: one row a run, an epoch, a test clip of a run."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np

from cello import __version__
from cello.audio.corpus import SPLITS
from cello.errors import ReportError
from cello.files import whole
from cello.report.formats.csv import FIGURES, record
from cello.report.results import Run
from cello.study.folder import naming
from cello.study.pools import StoredRun
from cello.study.predictions import Predictions
from cello.study.single import open_store
from cello.study.store import Store
from cello.training.config import RunConfig
from cello.training.result import Epoch, RunResult, SplitMetrics

try:
    import pyarrow
    from pyarrow import parquet
except ImportError:
    pyarrow = None

Item = TypeVar("Item")
RUNS_AT_A_TIME, PREDICTED_AT_A_TIME = 500, 50
PLACE = {"row": str, "column": str, "seed": int, "run": str}
WHOLE = ("labels", "confusion", "conditions")
"""What of a result is a list, and stays one in its row."""


def need_pyarrow() -> None:
    """Refuse where pyarrow is not installed.

    Raises:
        ReportError: what to install.
    """
    if pyarrow is None:
        raise ReportError("Parquet needs pyarrow, which is not installed; give: pip install 'cello-rnn[parquet]'")


def write_parquet(folder: Path | str, out: Path | str, predictions: bool = False) -> list[Path]:
    """Write ``runs.parquet`` and ``epochs.parquet``, and ``predictions.parquet`` if asked for, into ``out``.

    The columns are described in docs/studies.md. A few hundred runs at a time are in memory; an earlier file of the
    same name is replaced.

    Raises:
        StoreError: no study there, or predictions that are missing; ``out`` cannot be written.
        ReportError: pyarrow is not installed, or no run is finished yet.
    """
    need_pyarrow()
    store, out = open_store(folder), Path(out)
    facts = machine_facts(store)
    if facts is None:
        raise ReportError(f"{str(folder)!r}: no run is finished, so there is nothing to export; run the study first")
    kinds = {"runs": run_kinds(facts), "epochs": PLACE | fields(Epoch)}
    with naming(out), ExitStack() as stack:
        out.mkdir(parents=True, exist_ok=True)
        paths = [out / f"{name}.parquet" for name in kinds]
        tables = [_writer(stack, path, kind, store) for path, kind in zip(paths, kinds.values(), strict=True)]
        for runs in _in_parts(store.each_result(), RUNS_AT_A_TIME):
            tables[0].write_table(pyarrow.Table.from_pylist(run_rows(store, runs), schema=tables[0].schema))
            tables[1].write_table(pyarrow.Table.from_pydict(epoch_columns(runs), schema=tables[1].schema))
    if predictions:
        paths.append(_write_predictions(store, out / "predictions.parquet"))
    return paths


def machine_facts(store: Store) -> dict[str, list[str]] | None:
    """The names of what any run recorded of its hardware and versions; None where no run is finished."""
    found: dict[str, dict[str, str]] | None = None
    for run in store.each_result(curves=False):
        found = found or {"hardware": {}, "versions": {}}
        found["hardware"] |= run.result.hardware
        found["versions"] |= run.result.versions
    return None if found is None else {part: list(names) for part, names in found.items()}


def run_kinds(facts: dict[str, list[str]]) -> dict[str, Any]:
    """The columns of ``runs.parquet`` and their types, in the order of ``run_rows``."""
    of_result = fields(RunResult)
    kinds: dict[str, Any] = {"study": str, "stage": str, "protocol": str} | PLACE | {"backend": str}
    kinds |= {name: of_result[name] for name in FIGURES}
    kinds |= {f"{split}_{name}": kind for split in SPLITS for name, kind in fields(SplitMetrics).items()}
    kinds |= {f"{part}.{name}": str for part, names in facts.items() for name in names}
    kinds |= dict(_flat_kinds(RunConfig, "config."))
    return kinds | {name: of_result[name] for name in WHOLE}


def run_rows(store: Store, runs: Sequence[StoredRun]) -> list[dict[str, Any]]:
    """One row a run: as in ``runs.csv``, and the lists of ``WHOLE``."""
    rows = []
    for run in runs:
        row = record(store.study, Run(row=run.row, column=run.column, seed=run.seed, result=run.result))
        rows.append(row | {name: msgspec.to_builtins(getattr(run.result, name)) for name in WHOLE})
    return rows


def epoch_columns(runs: Sequence[StoredRun]) -> dict[str, list[Any]]:
    """One row an epoch of a run, as its ``history`` has it; column by column, for they are many."""
    lengths = [(run, len(run.result.history)) for run in runs]
    place: dict[str, list[Any]] = {
        "row": [run.row for run, epochs in lengths for _ in range(epochs)],
        "column": [run.column for run, epochs in lengths for _ in range(epochs)],
        "seed": [run.seed for run, epochs in lengths for _ in range(epochs)],
        "run": [run.result.run for run, epochs in lengths for _ in range(epochs)],
    }
    figures = Epoch.__struct_fields__
    return place | {name: [getattr(epoch, name) for run in runs for epoch in run.result.history] for name in figures}


def fields(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """The names and types of a record's fields."""
    return {field.encode_name: field.type for field in msgspec.structs.fields(kind)}


def _flat_kinds(kind: type[msgspec.Struct], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, below in fields(kind).items():
        if isinstance(below, type) and issubclass(below, msgspec.Struct):
            yield from _flat_kinds(below, f"{prefix}{name}.")
        else:
            yield prefix + name, below


def _arrow(kind: Any) -> Any:
    """The Arrow type of a Python one."""
    plain = {str: pyarrow.string(), int: pyarrow.int64(), float: pyarrow.float64(), bool: pyarrow.bool_()}
    if kind in plain:
        return plain[kind]
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _arrow(next(part for part in inner if part is not type(None)))
    if origin is typing.Literal:
        return _arrow(type(inner[0]))
    if origin is tuple:
        return pyarrow.list_(_arrow(inner[0]))
    return pyarrow.struct([(name, _arrow(below)) for name, below in fields(kind).items()])


def _writer(stack: ExitStack, path: Path, kinds: dict[str, Any], store: Store) -> Any:
    schema = pyarrow.schema([(name, _arrow(kind)) for name, kind in kinds.items()])
    about = {"cello": __version__, "study": store.study.name, "corpus": store.header.corpus.checksum}
    place = stack.enter_context(whole(path))
    return stack.enter_context(parquet.ParquetWriter(place, schema.with_metadata(about), compression="zstd"))


def _write_predictions(store: Store, path: Path) -> Path:
    """One row a test clip of a run, in the corpus's order; ``speaker`` as ``corpus.json`` numbers them.

    ``name`` and ``speaker_name`` are null where the store does not name them.
    """
    kinds: dict[str, Any] = {"run": str, "clip": int, "target": int, "prediction": int, "speaker": int | None}
    names, reader = (*("target", "prediction"), "target_probability", "prediction_probability"), Predictions()
    speakers, people = np.array(store.corpus.test_speakers), np.array(store.corpus.speaker_names, dtype=object)
    clip_names = np.array(store.corpus.test_names, dtype=object)
    with naming(path.parent), ExitStack() as stack:
        kinds |= dict.fromkeys(names[2:], float) | {"name": str | None, "speaker_name": str | None}
        writer = _writer(stack, path, kinds, store)
        for runs in _in_parts(store.each_result(curves=False), PREDICTED_AT_A_TIME):
            tables = []
            for run in runs:
                found = store.predictions(run, names, reader)
                clips = len(found["target"])
                columns = {name: found[name].astype(np.int64 if name in names[:2] else np.float64) for name in names}
                place = store.corpus.tested_by(run.planned.fold, clips)
                known = len(speakers) == (len(store.corpus.test_folds) or clips) and len(place) == clips
                who = speakers[place] if known else pyarrow.nulls(clips, pyarrow.int64())
                columns |= {"run": pyarrow.repeat(run.result.run, clips), "clip": place, "speaker": who}
                columns["name"] = clip_names[place] if len(clip_names) else pyarrow.nulls(clips, pyarrow.string())
                told = known and len(people)
                columns["speaker_name"] = people[who] if told else pyarrow.nulls(clips, pyarrow.string())
                tables.append(pyarrow.table({name: columns[name] for name in writer.schema.names}))
            writer.write_table(pyarrow.concat_tables(tables).cast(writer.schema))
    return path


def _in_parts(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    rest = iter(items)
    while part := list(islice(rest, size)):
        yield part
