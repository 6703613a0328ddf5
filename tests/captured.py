"""Watch the operations between two points for what a CUDA graph cannot hold, where no GPU is."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

WAITS = {
    *("_local_scalar_dense", "item", "is_nonzero", "equal", "allclose", "_linalg_check_errors", "_assert_async"),
    *("nonzero", "nonzero_numpy", "masked_select", "_unique", "_unique2", "unique_dim", "unique_consecutive"),
    *("bincount", "histc", "multinomial", "linalg_matrix_exp", "_pack_padded_sequence"),
}
"""What makes the CPU wait for a GPU, or has a shape that only the GPU knows."""
FROM_CPU = {"lift_fresh", "lift_fresh_copy", "lift"}
"""How a tensor begins that is made of Python's numbers."""


class Captured(TorchDispatchMode):
    """Refuses what a CUDA graph cannot hold; and, if a ``device`` is given, what is not on it alone."""

    def __init__(self, device: torch.device | None = None) -> None:
        super().__init__()
        self.device, self.seen = device, 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = kwargs or {}, function._schema.name.removeprefix("aten::")
        assert name not in WAITS, f"{name} waits for the device"
        assert name not in FROM_CPU, "a tensor is made of numbers of the CPU"
        if name == "repeat_interleave":
            assert kwargs.get("output_size") is not None, f"{name} waits for the device"
        if name in ("index", "index_put", "index_put_", "_index_put_impl_"):
            kinds = {index.dtype for index in args[1] if index is not None}
            assert not kinds & {torch.bool, torch.uint8}, "how much a mask selects is known on the device alone"
        found = function(*args, **kwargs)
        if self.device is not None:
            places = {value.device for value in tree_leaves((args, kwargs, found)) if isinstance(value, Tensor)}
            assert places <= {self.device}, f"{name} is given, or gives, what lies on {places - {self.device}}"
        self.seen += 1
        return found
