"""What hurts: a run that goes on from weights nobody trained, because its checkpoint was damaged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from cello.training.checkpoint import DamagedCheckpointError, load_checkpoint, save_checkpoint
from damage import damaged

STATE = {"model": {"w": torch.arange(40.0), "b": torch.ones(3)}, "history": [{"epoch": 1, "loss": 0.5}], "best": None}


def loaded(path: Path) -> dict[str, Any] | None:
    try:
        return load_checkpoint(path, "r")
    except DamagedCheckpointError:
        return None


def test_no_damage_is_read_as_another_state(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, "r", STATE)
    whole, refused = loaded(path), 0
    assert whole is not None
    for how, text in damaged(path.read_bytes(), 120):
        path.write_bytes(text)
        found = loaded(path)
        refused += found is None
        assert found is None or str(found) == str(whole), how
    assert refused > 100
