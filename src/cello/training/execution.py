"""Define where and how a run is computed; this is no part of the run's identity."""

from __future__ import annotations

from typing import Literal

import msgspec

from cello.errors import ConfigError
from cello.machine import usable_cores


class ExecutionConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a run is computed; two runs that differ in nothing else have the same id, and results record what was used.

    Attributes:
        device: where a run is trained; auto is the CPU
        backend: what computes the cell: auto, or a back end by its name, as plain (torch operations) or c (kernels)
        precision: of weights, states and sums
        threads: of one run; a study runs as many runs at once as there are cores, so 1 is best there
        data_threads: 1 makes the next batches in a thread of their own while one is trained on, 0 does not; the result
            is the same; unless given, 1 where a core is left for it

    Raises:
        ConfigError: an invalid value, with the field, the value and what would be legal.
    """

    device: Literal["auto", "cpu"] = "auto"
    backend: str = "auto"
    precision: Literal["float32"] = "float32"
    threads: int = 1
    data_threads: Literal[0, 1] | None = None

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise ConfigError(f"execution.threads={self.threads} is invalid: it must be at least 1")

    def beside(self, runs: int) -> ExecutionConfig:
        """The same, with ``data_threads`` settled for so many runs at a time on this machine."""
        if self.data_threads is not None:
            return self
        free = usable_cores() >= runs * (self.threads + 1)
        return msgspec.structs.replace(self, data_threads=1 if free else 0)
