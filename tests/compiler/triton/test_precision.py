"""What hurts: torch's newer setting of a precision, of which its older one tells nothing but an error; a precision that
a GPU does not know, of which kernels would be compiled that no tensor core runs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from cello.compiler.triton.scan import precision
from forked import forked


class Frames:
    dtype, is_cpu, is_cuda = torch.float32, False, False


@pytest.mark.parametrize("setting", ["ieee", "tf32"])
def test_products_are_as_either_setting_says(setting: str) -> None:
    frames: Any = Frames()

    def said() -> str:
        torch.backends.cuda.matmul.fp32_precision = setting  # which no process can take back
        return precision(frames)

    assert forked(said) == setting


@pytest.mark.parametrize(("capability", "products"), [((7, 5), "ieee"), ((8, 0), None)])
@pytest.mark.parametrize(("asked", "known"), [("highest", "ieee"), ("high", "tf32"), ("medium", "bf16")])
def test_a_gpu_without_tf32_and_bf16_multiplies_in_float32_as_torch_does_there(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], products: str | None, asked: str, known: str
) -> None:
    frames: Any = SimpleNamespace(dtype=torch.float32, is_cpu=False, is_cuda=True, device=torch.device("cuda:1"))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: asked)
    assert precision(frames) == (products or known)
