"""Let tests run kernels in Triton's interpreter or emulated, on memory in which what nobody wrote is NaN."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture
def filled_with_nan() -> Iterator[None]:
    """``torch.empty`` gives NaN; products are IEEE float32 again afterwards."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_float32_matmul_precision("highest")


@pytest.fixture
def interpreted(monkeypatch: pytest.MonkeyPatch, filled_with_nan: None) -> None:
    """Tensors on the CPU are given to ``backend="triton"``."""
    monkeypatch.setenv("TRITON_INTERPRET", "1")
