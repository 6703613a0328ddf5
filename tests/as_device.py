"""Let the CPU stand for a GPU, on which whole epochs run."""

from __future__ import annotations

import pytest
import torch

from cello.training import replicates, single, trainer
from cello.training.device import Device

RESIDENT = Device(torch.device("cpu"), "a test", {"gpu": "Example GPU"}, resident=True)


def as_device(patch: pytest.MonkeyPatch, device: Device = RESIDENT) -> None:
    """Have every run in this process computed on this device."""
    for module in (replicates, single, trainer):
        patch.setattr(module, "choose", lambda execution: device)
