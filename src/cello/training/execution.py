"""Define where and how a run is computed; this is no part of the run's identity."""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from cello.errors import LONGEST, ConfigError
from cello.machine import usable_cores
from cello.native.bf16 import INSTRUCTION, missing_bf16

AUTO_REPLICATES, MOST_REPLICATES = 16, 256


class ExecutionConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a run is computed; two runs that differ in nothing else have the same id, and results record what was used.

    Attributes:
        device: auto (a GPU where one can be used, else the CPU), cpu, cuda, or cuda:N for one of several GPUs
        backend: what computes the cell: auto, or a back end by its name, as plain (torch operations) or c (kernels)
        precision: of matrix products: float32 (IEEE), tf32 (on a GPU) or bf16 (on a GPU, or on a CPU with AVX512-BF16,
            there of cells alone); weights, states and sums are float32
        threads: of one run; a study runs as many runs at once as there are cores, so 1 is best there
        data_threads: 1 makes the next batches in a thread of their own while one is trained on, 0 does not; the result
            is the same; unless given, 1 where a core is left for it
        replicates: runs that differ in the seed alone and are trained together on a GPU, in which one leaves most of it
            idle: auto (up to 16), or at most so many; 1 trains each alone. On the CPU each is alone
        cuda_graph: launch a whole training step on a GPU at once; without it, its kernels are launched one by one

    Raises:
        ConfigError: an invalid value, with the field, the value and what would be legal.
    """

    device: str = "auto"
    backend: str = "auto"
    precision: Literal["float32", "tf32", "bf16"] = "float32"
    threads: int = 1
    data_threads: Literal[0, 1] | None = None
    replicates: int | Literal["auto"] = "auto"
    cuda_graph: bool = True

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise ConfigError(f"execution.threads={self.threads} is invalid: it must be at least 1")
        if not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", self.device, re.ASCII):
            raise ConfigError(
                f"execution.device={self.device[:LONGEST]!r} is invalid: it must be auto, cpu, cuda, or cuda:N for "
                "GPU N, counted from 0"
            )
        if self.precision not in ("float32", "tf32", "bf16"):
            raise ConfigError(
                f"execution.precision={str(self.precision)[:LONGEST]!r} is invalid: it must be float32, tf32 or bf16"
            )
        if self.replicates != "auto" and not 1 <= self.replicates <= MOST_REPLICATES:
            raise ConfigError(
                f"execution.replicates={self.replicates} is invalid: it must be auto, or 1 to {MOST_REPLICATES}"
            )
        if self.device == "cpu":
            self.check_on_cpu()

    @property
    def most_replicates(self) -> int:
        """How many runs are trained together at most."""
        return AUTO_REPLICATES if self.replicates == "auto" else self.replicates

    def check_on_cpu(self, why: str = "") -> None:
        """Refuse a precision that no CPU has, or no back end asked for; ``why`` is the reason that the CPU is used.

        Raises:
            ConfigError: it is tf32, or bf16 without compiled kernels.
        """
        found = f"; no GPU is used because {why}" if why else ""
        if self.precision == "tf32":
            raise ConfigError(
                f"execution.precision=tf32 needs a GPU, and the CPU computes in float32 or bf16 only{found}. "
                "Leave it out, or use a GPU"
            )
        if self.precision == "bf16" and self.backend not in ("auto", "c"):
            raise ConfigError(
                f"execution.precision=bf16 needs compiled kernels on the CPU, and execution.backend={self.backend} "
                f"computes in float32{found}. Leave one of them out"
            )

    def check_this_cpu(self, why: str = "") -> None:
        """Refuse a precision that this machine's CPU does not have; ``why`` is the reason that it is used.

        Raises:
            ConfigError: it is not float32, and this CPU has no instruction for it.
        """
        self.check_on_cpu(why)
        if self.precision == "bf16" and (reason := missing_bf16()) is not None:
            found = f"; no GPU is used because {why}" if why else ""
            raise ConfigError(
                f"execution.precision=bf16 needs {INSTRUCTION} on the CPU, {reason}{found}. Leave it out, or use a GPU"
            )

    def beside(self, runs: int) -> ExecutionConfig:
        """The same, with ``data_threads`` settled for so many runs at a time on this machine."""
        if self.data_threads is not None:
            return self
        free = usable_cores() >= runs * (self.threads + 1)
        return msgspec.structs.replace(self, data_threads=1 if free else 0)
