"""Find the GPUs of this machine that a study's runs are shared out to. Loads no torch.

A process that has CUDA at work must not be forked, and torch takes seconds to load, so another process is asked.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec

from cello.errors import StudyError
from cello.execution.forkserver import SAFE_PATH
from cello.study.estimate import worker_count
from cello.training.execution import ExecutionConfig

ASK = "from cello.training.device import tell_devices; tell_devices()"
PATIENCE_SECONDS = 300.0


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The devices that an execution config means, or why none of them can be used."""

    devices: tuple[str, ...] = ()
    fault: str = ""


def shared_devices(execution: ExecutionConfig) -> tuple[str, ...]:
    """The GPUs that runs on this machine are shared out to, as ``cuda:0``; none where they are computed on the CPU.

    Raises:
        StudyError: the device asked for cannot be used; why, and what to do.
    """
    if execution.device == "cpu" or (execution.device == "auto" and not _may_have_gpus()):
        execution.check_on_cpu("no NVIDIA driver is found" if execution.device == "auto" else "")
        return ()
    answer = _asked(execution)
    if answer.fault:
        raise StudyError(answer.fault)
    return answer.devices


def runs_at_once(count: int | None, devices: tuple[str, ...]) -> int:
    """How many runs at a time: what was asked for, else one for each GPU, else one for each core.

    >>> runs_at_once(None, ("cuda:0", "cuda:1")), runs_at_once(3, ())
    (2, 3)
    """
    return worker_count(count if count is not None or not devices else len(devices))


def _may_have_gpus() -> bool:
    """Whether it is worth asking: the driver is there, and its GPUs are not hidden."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1"):
        return False
    return shutil.which("nvidia-smi") is not None or Path("/proc/driver/nvidia").exists()


def _asked(execution: ExecutionConfig) -> Answer:
    command = [sys.executable, "-c", ASK]
    try:
        done = subprocess.run(
            command,
            input=msgspec.json.encode(execution),
            capture_output=True,
            timeout=PATIENCE_SECONDS,
            check=True,
            env={**os.environ, **SAFE_PATH},
        )
        return msgspec.json.decode(done.stdout.splitlines()[-1], type=Answer)
    except (OSError, subprocess.SubprocessError, IndexError, msgspec.DecodeError) as error:
        said = getattr(error, "stderr", None) or b""
        last = (said.decode(errors="replace").strip().splitlines() or [f"{type(error).__name__}: {error}"])[-1]
        raise StudyError(
            f"the GPUs of this machine cannot be listed ({last}); mend that, or write execution.device=cpu"
        ) from error
