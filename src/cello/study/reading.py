"""Decode the records of many runs fast: parts that are equal are decoded once and shared."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from cello.errors import CelloError, StoreError
from cello.files import DamagedFileError, OtherVersionError, decode_json, read_stored, unseal_json
from cello.study.plan import PlannedRun
from cello.training.config import RunConfig
from cello.training.result import RESULT_FORMAT, RunResult, check_possible

Kind = TypeVar("Kind")
SHARED = ("labels", "hardware", "versions")
"""The parts of a result, beside its config, that most runs of a study share."""
SEED = b'"seed":'


def _still_text(kind: type[msgspec.Struct], name: str, changed: dict[str, Any]) -> type[Any]:
    """``kind`` with other types for some of its fields."""
    fields: list[Any] = []
    for field in msgspec.structs.fields(kind):
        default = () if field.default is msgspec.NODEFAULT else (field.default,)
        fields.append((field.name, changed.get(field.name, field.type), *default))
    return msgspec.defstruct(name, fields, kw_only=True)


_PARTS = dict.fromkeys(("config", "history", *SHARED), msgspec.Raw)
_result_text = msgspec.json.Decoder(_still_text(RunResult, "_ResultText", _PARTS))
_planned_text: Any = _still_text(PlannedRun, "_PlannedText", {"config": msgspec.Raw})
_KINDS = {field.name: field.type for field in msgspec.structs.fields(RunResult)}
_FIELDS = tuple(name for name in RunResult.__struct_fields__ if name not in _PARTS)


class Reader:
    """Decodes records of one study; keep it only as long as there are more to decode.

    ``curves``: whether histories, which are most of a record, are decoded, or left out: the results then have none.
    Whatever it cannot decode raises ``msgspec.DecodeError``; the plain decoder's error says more.
    """

    def __init__(self, curves: bool = True) -> None:
        self.curves = curves
        self._known: dict[tuple[str, bytes], Any] = {}

    def result(self, text: bytes) -> RunResult:
        """A run's record."""
        written = _result_text.decode(text)
        values: dict[str, Any] = {name: getattr(written, name) for name in _FIELDS}
        for name in SHARED:
            values[name] = self._part(name, bytes(getattr(written, name)), _KINDS[name])
        needed = self.curves or not written.epoch_seconds  # an older record's times of whole epochs come from there
        history = msgspec.json.decode(written.history, type=_KINDS["history"]) if needed else ()
        result = RunResult(**values, config=self._config(bytes(written.config)), history=history)
        return result if self.curves or not history else msgspec.structs.replace(result, history=())

    def planned(self, text: msgspec.Raw) -> tuple[PlannedRun, ...]:
        """The planned runs of a store."""
        found = msgspec.json.decode(text, type=tuple[_planned_text, ...])
        return tuple(
            PlannedRun(id=run.id, row=run.row, column=run.column, seed=run.seed, config=self._config(bytes(run.config)))
            for run in found
        )

    def _config(self, text: bytes) -> RunConfig:
        """All but the seed, which is written last, is what the runs of a table cell share."""
        end = text.rfind(SEED)
        seed = text[end + len(SEED) : -1].strip()
        if end < 0 or not seed.isdigit():
            return msgspec.json.decode(text, type=RunConfig)
        shared: RunConfig = self._part("config", text[:end] + SEED + b"0}", RunConfig)
        return msgspec.structs.replace(shared, seed=int(seed))

    def _part(self, name: str, text: bytes, kind: Any) -> Any:
        key = name, text
        if key not in self._known:
            self._known[key] = msgspec.json.decode(text, type=kind)
        return self._known[key]


def read_result(folder: Path | str, run: PlannedRun, reader: Reader | None = None) -> RunResult | None:
    """The result in a run's folder if it is this run's and whole, else None; its config is the planned one.

    The corpus may have had another name: its checksum decides.

    Raises:
        StoreError: a newer version wrote it, or it may not be read.
    """
    try:
        return _own(_stored(f"{folder}/result.json", reader), run)  # a Path takes longer, for thousands of runs
    except (FileNotFoundError, NotADirectoryError, DamagedFileError):
        return None
    except OSError as error:
        raise StoreError(
            f"{error.filename!r} cannot be read: {error.strerror}; fix that, and finished runs count"
        ) from error


def _own(result: RunResult, run: PlannedRun) -> RunResult | None:
    # the second id is computed only where the first is another: for thousands of runs that is most of the reading
    named = result.run == run.id or result.run == run.config.id  # noqa: PLR1714
    if not named or result.config.corpus.checksum != run.config.corpus.checksum:
        return None
    asked = msgspec.structs.replace(result.config, corpus=run.config.corpus)
    return msgspec.structs.replace(result, config=run.config) if asked == run.config else None


def _stored(path: str, reader: Reader | None) -> RunResult:
    """What a file says of a run.

    Raises:
        DamagedFileError: it is not as it was written.
        StoreError: a newer version wrote it.
    """
    text = read_stored(path)
    result = None
    if reader is not None:
        with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError, CelloError):
            result = reader.result(unseal_json(text))
    try:
        if result is None or not 1 <= result.format <= RESULT_FORMAT:
            result = decode_json(text, RunResult, RESULT_FORMAT)  # says what is wrong
    except OtherVersionError as error:
        raise StoreError(f"{path} {error}") from error
    check_possible(result)
    return result


def unusable(folder: Path, run: PlannedRun) -> str:
    """Why the result that lies in a run's folder does not count; empty where it does, or there is none."""
    path = folder / "result.json"
    if not os.path.lexists(path):
        return ""
    again = "the study's command trains the run again"
    try:
        found = _stored(str(path), None)
    except (OSError, DamagedFileError) as error:
        return f"its result.json is damaged: {error}; {again}"
    return f"its result.json is that of another run; {again}" if _own(found, run) is None else ""
