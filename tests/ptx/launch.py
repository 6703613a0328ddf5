"""Launch a cell's kernels on an emulated GPU: a scan as on a device, with tensors of the CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from cello.cells.definition import Cell
from cello.compiler.inputs import Inputs
from cello.compiler.triton import build, choice
from cello.compiler.triton import scan as back_end
from cello.compiler.triton.build import Kernels
from cello.compiler.triton.launch import Call, Tiling
from cello.compiler.triton.resources import MEMORY
from ptx.machine import IN_ORDER, Machine, Order
from ptx.memory import Bytes, GlobalMemory
from ptx.text import Program, parse
from scans import case, everything

Change = Callable[[Program], Program]
SHARES = {"highest": 1e-5, "high": 4e-3, "medium": 3e-2}
"""How far results may be from float64 by the precision of products, as torch calls it."""


@dataclass(frozen=True)
class Ran:
    """A launch: which pass, of which blocks, and how many instructions a thread executed, in all and in a step."""

    program: Program
    grid: tuple[int, int]
    instructions: float
    of_a_step: float


@dataclass
class Device:
    """A GPU that is emulated, and what ran there.

    ``tiling``: how each pass is divided, rather than as the back end does; ``chosen``: as the compiler's choice is for
    this GPU. ``change``: what becomes of a kernel's program before it runs.
    """

    capability: int = 90
    order: Order = IN_ORDER
    tiling: Tiling | None = None
    chosen: bool = False
    change: Change | None = None
    ran: list[Ran] = field(default_factory=list)

    def get_current_device(self) -> int:
        """A number by which Triton keeps what it compiled apart."""
        return self.capability

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", self.capability, 32)


@contextmanager
def emulated(device: Device) -> Iterator[Device]:
    """Run the kernels of ``backend="triton"`` on tensors of the CPU as they are compiled for a GPU."""
    from triton.runtime.driver import driver

    before = driver._active
    with ExitStack() as stack:
        for module, name, value in (
            (back_end, "interpreting", lambda: True),
            (back_end, "precision", _precision),
            (back_end, "kernels", _kernels(device)),
            (back_end, "_memory", lambda x: MEMORY[device.capability]),
            (back_end, "_of_pass", _of_pass(device)),
            (Call, "grid", lambda call, part: (part.tiles * call.tiling.split, part.replicates)),
        ):
            stack.enter_context(patch.object(module, name, value))
        if (tiling := device.tiling) is not None:
            stack.enter_context(patch.object(back_end, "tiling_of", lambda inputs: tiling))
        driver._active = device
        try:
            yield device
        finally:
            driver._active = before


def _precision(x: Tensor) -> str:
    """That of products on a GPU, where bfloat16 is itself."""
    named = back_end.PRECISIONS[torch.get_float32_matmul_precision()]
    return "bf16" if x.dtype is torch.bfloat16 else named


def _of_pass(device: Device) -> Callable[[Inputs, str, Tiling], tuple[Tiling, None]]:
    def of_pass(inputs: Inputs, way: str, found: Tiling) -> tuple[Tiling, None]:
        if not device.chosen:
            return found, None
        sizes, precision = back_end.sizes_of(inputs), _precision(inputs.frames)
        best = choice.chosen(inputs.cell, way, sizes, precision, device.capability, MEMORY[device.capability])
        return best[0] if best else found, None

    return of_pass


def _kernels(device: Device) -> Callable[..., Kernels]:
    def kernels(cell: Cell, reread: str = "", *, interpreted: bool, exact: bool = False) -> Kernels:
        found = build.kernels(cell, reread, interpreted=False, exact=exact)
        return Kernels(EmulatedKernel(found.forward, device), EmulatedKernel(found.backward, device))

    return kernels


@dataclass(frozen=True)
class EmulatedKernel:
    """A kernel that is launched as one of Triton's, ``kernel[grid](...)``, and then compiled and emulated."""

    function: Any
    device: Device

    def __getitem__(self, grid: tuple[int, int]) -> Callable[..., None]:
        def launch(*arguments: Any, **constants: Any) -> None:
            compiled = self.function.warmup(*arguments, grid=grid, **constants)
            program = parsed(compiled.asm["ptx"])
            if self.device.change is not None:
                program = self.device.change(program)
            names = [*compiled.src.signature]
            constant = {names[place] for place, *_ in compiled.src.constants}
            given = [(n, v) for n, v in zip(names, arguments, strict=False) if n not in constant]
            machine = Machine(program, compiled.metadata.shared, self.device.order)
            run(machine, grid, given)
            counts = machine.counts
            self.device.ran.append(Ran(program, grid, counts.a_thread, counts.a_step(program.loop)))

        return launch


parsed = lru_cache(maxsize=64)(parse)


def run(machine: Machine, grid: tuple[int, int], given: list[tuple[str, Any]]) -> None:
    """Run a kernel with tensors and numbers by the names of its arguments."""
    memory = GlobalMemory()
    values = [
        memory.add(name, bytes_of(value), beyond=value.data_ptr()) if isinstance(value, Tensor) else int(value)
        for name, value in given
    ]
    scratch = [0] * (len(machine.program.parameters) - len(values))  # Triton's own memory, of which there is none
    with np.errstate(all="ignore"):  # what rows and units of padding hold counts for nothing
        machine.launch(grid, memory, [*values, *scratch])


def bytes_of(tensor: Tensor) -> Bytes:
    """The memory of a tensor from its first to its last element."""
    if not tensor.numel():
        return np.empty(0, np.uint8)
    steps = zip(tensor.shape, tensor.stride(), strict=True)
    size = 1 + sum((count - 1) * stride for count, stride in steps)
    begin = tensor.storage_offset() * tensor.element_size()
    whole = torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage())
    found: Bytes = whole[begin : begin + size * tensor.element_size()].numpy()
    return found


def computed(
    cell: Cell, hidden: int, precision: str, tiling: Tiling, clips: int = 5, steps: int = 3, **of_device: Any
) -> tuple[dict[str, Tensor], list[Ran]]:
    """Outputs and derivatives of ragged clips, run backwards, as an emulated GPU computes them."""
    torch.set_float32_matmul_precision(precision)
    lengths = ([steps, 0, 2] * 6)[:clips]
    with emulated(Device(tiling=tiling, **of_device)) as used:
        found = everything(cell, case(cell, (clips, steps, 7, hidden)), "triton", lengths=lengths, reverse=True)
    return found, used.ran
