"""Write learning curves for TensorBoard, one folder a run."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from cello.errors import ReportError
from cello.study.folder import naming, new_folder
from cello.study.pools import StoredRun
from cello.study.single import open_store

try:
    from tensorboardX import SummaryWriter
except ImportError:
    SummaryWriter = None

LONGEST = 200
"""Bytes of a folder's name that are a run's place: file systems allow 255 in all."""
CURVES = {
    "accuracy/train": "train_accuracy",
    "accuracy/validation": "validation_accuracy",
    "loss/train": "train_loss",
    "loss/validation": "validation_loss",
    "learning_rate": "learning_rate",
    "seconds/train": "train_cpu_seconds",
    "seconds/epoch": "epoch_seconds",
}


def write_tensorboard(folder: Path | str, out: Path | str) -> list[Path]:
    """Write each finished run's epochs, and its test accuracy at the chosen epoch, as event files; their folders.

    ``out`` must be new, for TensorBoard would show what lay there beside the new curves; it appears whole.

    Raises:
        StoreError: no study there, or an ``out`` that holds anything or cannot be written.
        ReportError: tensorboardX is not installed, or no run is finished yet.
    """
    if SummaryWriter is None:
        raise ReportError(
            "TensorBoard's files need tensorboardX, which is not installed; give: pip install 'cello-rnn[tensorboard]'"
        )
    store, out = open_store(folder), Path(out)
    names: dict[str, None] = {}
    with naming(out), new_folder(out) as fresh:
        for run in store.each_result():
            name = _folder_name(run)
            name = f"{name}-{len(names)}" if name in names else name  # names may differ in what no file can have
            names[name] = None
            _write(run, fresh / name)
        if not names:
            raise ReportError(
                f"{str(folder)!r}: no run is finished, so there is nothing to export; run the study first"
            )
    return [out / name for name in names]


def _folder_name(run: StoredRun) -> str:
    """Readable, no longer than a file's name may be, and with the id that the folder in the store has."""
    name = re.sub(r"[^\w.-]+", "-", str(run.planned)).lstrip(".-")
    return f"{name.encode()[:LONGEST].decode(errors='ignore')}-{run.id}"


def _write(run: StoredRun, place: Path) -> None:
    with SummaryWriter(str(place), flush_secs=3600) as writer:
        for epoch in run.result.history:
            for name, field in CURVES.items():
                writer.add_scalar(name, getattr(epoch, field), epoch.epoch)
        writer.add_scalar("accuracy/test", run.result.test.accuracy, run.result.chosen_epoch)
        settings = msgspec.json.format(msgspec.json.encode(run.result.config), indent=2).decode()
        writer.add_text("config", f"```\n{settings}\n```")
