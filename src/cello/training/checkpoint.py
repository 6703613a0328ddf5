"""Files of a run: each written to a temporary name and renamed, so that a kill never leaves half of one."""

from __future__ import annotations

import io
import os
import tempfile
from pathlib import Path
from typing import Any

import torch

from cello.errors import TrainingError

CHECKPOINT_FORMAT = 1


def write_bytes(path: Path, content: bytes) -> None:
    """Replace a file as a whole; it is on disk when this returns."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def save_checkpoint(path: Path, run: str, state: dict[str, Any]) -> None:
    buffer = io.BytesIO()
    torch.save({"format": CHECKPOINT_FORMAT, "run": run, **state}, buffer)
    write_bytes(path, buffer.getvalue())


def load_checkpoint(path: Path, run: str) -> dict[str, Any] | None:
    """What ``save_checkpoint`` wrote for this run, or None when there is no file.

    Raises:
        TrainingError: the file is of another run or of another version of Cello.
    """
    if not path.exists():
        return None
    state: dict[str, Any] = torch.load(path, weights_only=True)
    if state.get("format") != CHECKPOINT_FORMAT or state.get("run") != run:
        raise TrainingError(
            f"{path} holds run {state.get('run')!r} in format {state.get('format')!r}, but run {run!r} in format "
            f"{CHECKPOINT_FORMAT} is to be resumed; move that file away to start this run afresh"
        )
    return state
