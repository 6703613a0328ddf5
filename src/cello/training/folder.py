"""Check and write the folder of one run; errors name the file and the remedy."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from cello.cells.load import known, remember
from cello.cells.stored import StoredCell
from cello.errors import TrainingError, reason
from cello.files import (
    DamagedFileError,
    OtherVersionError,
    decode_json,
    naming_damage,
    read_stored,
    seal_json,
    write_whole,
)
from cello.models.config import ModelConfig
from cello.training.config import RunConfig, flat
from cello.training.result import RESULT_FORMAT, RunResult, check_possible

CELL_FILE = "cell.json"
MOVE_AWAY = "move it away, or choose another folder for the run"
CHECKSUMS = ("corpus.checksum", "initial_weights", "model.equations")
SHOWN = 8
Kind = TypeVar("Kind", bound=msgspec.Struct)
OWN_FILES = ("config.json", "checkpoint.pt", "model.safetensors", "predictions.npz", "result.json")


def check_own(folder: Path, config: RunConfig) -> RunResult | None:
    """The run's result where the folder holds it finished; None where the run is still to do.

    In a folder that is called by the run's id a damaged ``config.json`` is set aside, for it is made again.

    Raises:
        TrainingError: the folder holds another run, or files of a run's names whose run cannot be told.
    """
    if not any(os.path.lexists(folder / name) for name in OWN_FILES):
        return None
    result = _decoded(folder / "result.json", RunResult, RESULT_FORMAT)
    if result is not None:
        with naming_damage(folder / "result.json", TrainingError, MOVE_AWAY):
            check_possible(result)
    held = result.config if result is not None else _held(folder, config)
    if held is None:
        raise TrainingError(
            f"{str(folder)!r} holds files of a run, but no config.json that says which; choose another folder"
        )
    if held.id != config.id:
        raise TrainingError(
            f"{str(folder)!r} holds run {held.id}, in which {_differences(held, config)}; choose another folder, or "
            f"that run's settings to resume it"
        )
    return result


def _differences(held: RunConfig, asked: RunConfig) -> str:
    """Which settings of two runs differ, as ``optimiser.epochs was 60, is 50``."""
    before, after = _settings(held), _settings(asked)
    changed = [f"{key} was {before[key]!r}, is {after.get(key)!r}" for key in before if before[key] != after.get(key)]
    more = f"; and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
    return "; ".join(changed[:SHOWN]) + more


def _settings(config: RunConfig) -> dict[str, Any]:
    """Each setting by its dotted name; of checksums the beginning."""
    every = flat(msgspec.to_builtins(config))
    return {key: value[:12] if key in CHECKSUMS else value for key, value in every}


def keep_cell(folder: Path, model: ModelConfig) -> None:
    """Write the equations of a cell of one's own beside its run, so that the folder needs no other file."""
    cell = known(model.cell, model.equations)
    if cell is not None:
        write_whole(folder / CELL_FILE, seal_json(msgspec.json.encode(StoredCell.of(cell))))


def bring_cell(folder: Path, model: ModelConfig) -> None:
    """Let this process know the cell of a run's folder, where it does not yet."""
    if not model.equations or known(model.cell, model.equations) is not None:
        return
    stored = _decoded(folder / CELL_FILE, StoredCell)
    if stored is not None and stored.fingerprint() == model.equations:
        remember(model.cell, stored.cell())


def _held(folder: Path, config: RunConfig) -> RunConfig | None:
    path = folder / "config.json"
    try:
        return _decoded(path, RunConfig)
    except TrainingError as error:
        if folder.name != config.id or not isinstance(error.__cause__, DamagedFileError):
            raise
        with writing(folder):
            path.replace(path.with_name(f"{path.name}.unusable"))
        warnings.warn(f"{path} is damaged ({error.__cause__}) and made again", stacklevel=2)
        return config


def _decoded(path: Path, kind: type[Kind], newest: int | None = None) -> Kind | None:
    """What a file holds, or None where there is no such file.

    Raises:
        TrainingError: the file holds something else.
    """
    with naming_damage(path, TrainingError, MOVE_AWAY):
        try:
            return decode_json(read_stored(path), kind, newest)
        except FileNotFoundError:
            return None
        except OtherVersionError as error:
            raise TrainingError(f"{path} {error}, or {MOVE_AWAY}") from error


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn an ``OSError`` met on the way into a ``TrainingError`` that names the folder and the remedy."""
    try:
        yield
    except (FileExistsError, NotADirectoryError) as error:
        raise TrainingError(f"run folder {str(folder)!r} is or lies in a file; choose another folder for it") from error
    except OSError as error:
        raise TrainingError(
            f"run folder {str(folder)!r} cannot be used: {reason(error)}; choose one that you may write and whose "
            f"disk has room, or fix that and start the run again: its whole epochs are kept"
        ) from error
