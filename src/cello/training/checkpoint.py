"""What a run needs to go on from its last epoch."""

from __future__ import annotations

import io
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from cello.errors import TrainingError
from cello.files import write_whole

CHECKPOINT_FORMAT = 1


def save_checkpoint(path: Path, run: str, state: dict[str, Any]) -> None:
    """Keep all that a run needs to go on, marked with the run it belongs to."""
    buffer = io.BytesIO()
    torch.save({"format": CHECKPOINT_FORMAT, "run": run, **state}, buffer)
    write_whole(path, buffer.getvalue())


def load_checkpoint(path: Path, run: str) -> dict[str, Any] | None:
    """What ``save_checkpoint`` wrote for this run, or None when there is no file.

    Raises:
        TrainingError: the file is damaged, of another run or of another version of Cello.
    """
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(io.BytesIO(path.read_bytes()), weights_only=True)
    except (RuntimeError, EOFError, ValueError, UnpicklingError) as error:
        raise TrainingError(
            f"{path} is damaged and run {run!r} cannot go on from it; move that file away to start this run afresh"
        ) from error
    if state.get("format") != CHECKPOINT_FORMAT or state.get("run") != run:
        raise TrainingError(
            f"{path} holds run {state.get('run')!r} in format {state.get('format')!r}, but run {run!r} in format "
            f"{CHECKPOINT_FORMAT} is to be resumed; move that file away to start this run afresh"
        )
    return state
