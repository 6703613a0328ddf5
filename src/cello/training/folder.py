"""The folder of one run: whose it is, and errors that say what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec

from cello.errors import TrainingError
from cello.training.config import RunConfig
from cello.training.result import RunResult

Kind = TypeVar("Kind", bound=msgspec.Struct)
OWN_FILES = ("config.json", "checkpoint.pt", "model.safetensors", "predictions.npz", "result.json")


def check_own(folder: Path, config: RunConfig) -> RunResult | None:
    """The run's result where the folder holds it finished; None where the run is still to do.

    Raises:
        TrainingError: the folder holds another run, or files of a run's names whose run cannot be told.
    """
    if not any((folder / name).exists() for name in OWN_FILES):
        return None
    result = _decoded(folder / "result.json", RunResult)
    held = result.config if result is not None else _decoded(folder / "config.json", RunConfig)
    if held is None:
        raise TrainingError(
            f"{str(folder)!r} holds files of a run, but no config.json that says which; choose another folder"
        )
    if held.id != config.id:
        raise TrainingError(
            f"{str(folder)!r} holds run {held.id} ({held.model.cell}, seed {held.seed}), not run {config.id} "
            f"({config.model.cell}, seed {config.seed}); choose another folder, or that run's settings to resume it"
        )
    return result


def _decoded(path: Path, kind: type[Kind]) -> Kind | None:
    """What a file holds, or None where there is no such file.

    Raises:
        TrainingError: the file holds something else.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise TrainingError(
            f"{str(path)!r} is damaged or no file of this version of Cello ({error}); move it away, or choose another "
            f"folder for the run"
        ) from error


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn an ``OSError`` met on the way into a ``TrainingError`` that names the folder and the remedy."""
    try:
        yield
    except (FileExistsError, NotADirectoryError) as error:
        raise TrainingError(f"run folder {str(folder)!r} is or lies in a file; choose another folder for it") from error
    except OSError as error:
        raise TrainingError(
            f"run folder {str(folder)!r} cannot be used: {error}; choose one that you may write and whose disk has "
            f"room, or mend that and start the run again: its whole epochs are kept"
        ) from error
