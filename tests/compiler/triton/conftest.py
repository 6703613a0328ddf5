"""Let tests run kernels in Triton's interpreter."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture
def interpreted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tensors on the CPU are given to ``backend="triton"``."""
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    torch.use_deterministic_algorithms(True)  # which fills torch.empty with NaN
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_float32_matmul_precision("highest")
