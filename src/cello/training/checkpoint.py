"""Save and load the checkpoint that a run resumes from after its last epoch."""

from __future__ import annotations

import io
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from cello import __version__
from cello.errors import TrainingError
from cello.files import DamagedFileError, read_stored, seal, unseal, write_whole

CHECKPOINT_FORMAT = 2
UNSEALED_FORMAT = 1
"""Of checkpoints from before they had a checksum."""


class DamagedCheckpointError(TrainingError):
    """A checkpoint that is not as it was written; ``reason`` is why, and the run can start afresh."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path} is damaged: {reason}; move that file away to start this run afresh")
        self.reason = reason


def save_checkpoint(path: Path, run: str, state: dict[str, Any]) -> None:
    """Keep all that a run needs to go on, marked with the run it belongs to, and with a checksum.

    Tensors are kept as on the CPU, so that any machine can go on.
    """
    buffer = io.BytesIO()
    torch.save({"format": CHECKPOINT_FORMAT, "run": run, **_on_cpu(state)}, buffer)
    write_whole(path, seal(buffer.getvalue()))


def _on_cpu(value: Any) -> Any:
    """The same state with every tensor on the CPU."""
    if isinstance(value, torch.Tensor):
        return value if value.is_cpu else value.cpu()
    if not isinstance(value, dict):
        return value
    moved = {key: _on_cpu(part) for key, part in value.items()}
    return moved if any(moved[key] is not part for key, part in value.items()) else value


def load_checkpoint(path: Path, run: str) -> dict[str, Any] | None:
    """What ``save_checkpoint`` wrote for this run, or None when there is no file.

    Raises:
        DamagedCheckpointError: it is not as it was written.
        TrainingError: it is of another run or of a newer version of Cello.
    """
    try:
        state = _state(read_stored(path))
    except FileNotFoundError:
        return None
    except DamagedFileError as error:
        raise DamagedCheckpointError(path, str(error)) from error
    remedy = "move that file away to start this run afresh"
    if state["format"] > CHECKPOINT_FORMAT:
        raise TrainingError(
            f"{path} has format {state['format']}, and this is Cello {__version__}, which knows formats up to "
            f"{CHECKPOINT_FORMAT}; install a newer Cello to go on from it, or {remedy}"
        )
    if state["run"] != run:
        raise TrainingError(f"{path} holds run {state['run']!r}, but run {run!r} is to be resumed; {remedy}")
    return state


def set_aside(path: Path, run: str, reason: str) -> None:
    """Keep a checkpoint that cannot be used under another name, and say so: the run gives the same bits afresh."""
    kept = path.with_name(f"{path.name}.unusable")
    path.replace(kept)
    warnings.warn(
        f"{path} is damaged: {reason}; run {run} starts afresh, and the file is kept as {kept.name}", stacklevel=2
    )


def _state(content: bytes) -> dict[str, Any]:
    """The dictionary of a checkpoint, with a number as ``format`` and a text as ``run``."""
    try:
        whole, sealed = unseal(content), True
    except DamagedFileError:
        whole, sealed = content, False
    try:
        _check_packing(whole)
        state: dict[str, Any] = torch.load(io.BytesIO(whole), weights_only=True)
    except Exception as error:  # whatever torch and pickle raise for bytes that are no checkpoint
        raise DamagedFileError("it is not what was written") from error
    if not isinstance(state, dict) or not isinstance(state.get("format"), int) or not isinstance(state.get("run"), str):
        raise DamagedFileError("it is no checkpoint of a run")
    if not sealed and state["format"] != UNSEALED_FORMAT:
        raise DamagedFileError("its checksum does not match")
    return state


def _check_packing(content: bytes) -> None:
    """Refuse an archive that would grow when it is unpacked: torch packs nothing."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise DamagedFileError("it is packed")
