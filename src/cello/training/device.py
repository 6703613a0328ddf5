"""Choose the device that a run is computed on, say why, and tell what cannot be used and what to do."""

from __future__ import annotations

import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import import_module

import msgspec
import torch

from cello.errors import ConfigError, TrainingError
from cello.native.nvidia import loaded_driver
from cello.training.config import RunConfig
from cello.training.execution import ExecutionConfig

LEAST_CAPABILITY = (7, 5)
"""Turing; releases of torch that bring a Triton new enough have no code for GPUs from before it but in one build."""
OF_OTHER_PRECISIONS = (8, 0)
"""Ampere; GPUs from before it have no tf32 and no bf16."""
OLDEST_TRITON = (3, 5)
"""That of torch 2.9; releases before it fail at functions that call themselves, or have no settings to ask for."""
ARCHITECTURE = re.compile(r"(sm|compute)_(\d+)(\d)[a-z]?")
"""What torch was built for, as sm_90: compute capability 9.0."""
PRECISIONS = {"float32": "highest", "tf32": "high", "bf16": "medium"}
"""What ``torch.set_float32_matmul_precision`` calls them; the kernels of cells read it too."""
TRITON_BACK_ENDS = ("auto", "triton")
NO_MEMORY = re.compile(r"out of memory|ALLOC_FAILED", re.IGNORECASE)


@dataclass(frozen=True)
class Device:
    """Where a run is computed: the torch device, why it is that one, and what results record of it.

    ``resident`` says that clips lie on the device and whole epochs run there.
    """

    torch: torch.device
    reason: str
    facts: dict[str, str] = field(default_factory=dict)
    resident: bool = False

    def precision_of_cells(self, execution: ExecutionConfig) -> str:
        """What scans are to be asked for; on a GPU they follow torch's setting (:func:`computing`)."""
        return execution.precision if self.torch.type == "cpu" else "float32"

    def __str__(self) -> str:
        """In a line, as ``device: cpu (no GPU can be used: …)``."""
        named = f"{self.torch}, {self.facts['gpu']}" if "gpu" in self.facts else str(self.torch)
        return f"device: {named} ({self.reason})"


def choose(execution: ExecutionConfig) -> Device:
    """The device that an execution config means on this machine.

    Raises:
        ConfigError: the device asked for cannot be used, or it has not the precision asked for; why, and what to do.
    """
    if execution.device == "cpu":
        execution.check_this_cpu()
        return Device(torch.device("cpu"), "asked for")
    index = int(execution.device.partition(":")[2] or 0)
    fault = _fault(index, needs_triton=execution.backend in TRITON_BACK_ENDS)
    if execution.device == "auto" and execution.backend == "c" and not fault:
        fault = _Fault('backend="c" runs on the CPU', "leave execution.backend out to use the GPU")
    if fault is None:
        if not _has_precision(index, execution):
            name, (major, minor) = torch.cuda.get_device_name(index), torch.cuda.get_device_capability(index)
            raise ConfigError(
                f"execution.precision={execution.precision} needs compute capability 8.0 or more, and cuda:{index}, "
                f"{name}, has {major}.{minor}. Leave it out, which computes in float32, or use a newer GPU"
            )
        reason = "a GPU can be used" if execution.device == "auto" else "asked for"
        return Device(torch.device("cuda", index), reason, facts(index), resident=True)
    if execution.device == "auto":
        execution.check_this_cpu(fault.fact)
        return Device(torch.device("cpu"), f"no GPU is used: {fault.fact}")
    raise ConfigError(f"execution.device={execution.device} cannot be used: {fault.fact}. {fault.remedy}")


def tell_devices() -> None:
    """Print, as JSON, the GPUs that the execution config on standard input means; of auto and cuda all usable ones.

    A process that is to stay without torch and CUDA asks another one by this.
    """
    execution = msgspec.json.decode(sys.stdin.buffer.read(), type=ExecutionConfig)
    answer: dict[str, object] = {}
    try:
        first = choose(execution)
        if first.torch.type == "cuda":
            needs_triton = execution.backend in TRITON_BACK_ENDS
            alone = execution.device.startswith("cuda:")
            others = [] if alone else range(torch.cuda.device_count())
            usable = [
                index
                for index in others
                if _fault(index, needs_triton=needs_triton) is None and _has_precision(index, execution)
            ]
            answer["devices"] = [f"cuda:{index}" for index in usable] or [str(first.torch)]
    except ConfigError as error:
        answer["fault"] = str(error)
    sys.stdout.write(f"\n{msgspec.json.encode(answer).decode()}\n")


@dataclass(frozen=True)
class _Fault:
    fact: str
    remedy: str


_OR_CPU = "or write execution.device=cpu"


def _fault(index: int, *, needs_triton: bool) -> _Fault | None:
    """Why a GPU cannot be used; None where it can."""
    if torch.version.cuda is None:
        return _without_cuda()
    if not _available():
        return _without_gpu()
    count = torch.cuda.device_count()
    if index >= count:
        gpus = "1 GPU, cuda:0" if count == 1 else f"{count} GPUs, cuda:0 to cuda:{count - 1}"
        return _Fault(f"this process sees {gpus}", f"Name one of these (CUDA_VISIBLE_DEVICES hides GPUs), {_OR_CPU}")
    capability = torch.cuda.get_device_capability(index)
    if needs_triton and capability < LEAST_CAPABILITY:
        name, (major, minor) = torch.cuda.get_device_name(index), capability
        return _Fault(
            f"{name} has compute capability {major}.{minor}, and the kernels need 7.5 or more",
            f"Use a newer GPU, write execution.backend=plain (slow there), {_OR_CPU}",
        )
    if fault := _without_code(index, capability):
        return fault
    return _triton_fault() if needs_triton else None


def _has_precision(index: int, execution: ExecutionConfig) -> bool:
    """Whether a GPU multiplies in the precision asked for; torch, asked for another, takes float32 without a word."""
    return execution.precision == "float32" or torch.cuda.get_device_capability(index) >= OF_OTHER_PRECISIONS


def _without_cuda() -> _Fault:
    """Why a build of torch has no NVIDIA GPUs; on macOS no build has."""
    if sys.platform == "darwin":
        return _Fault("macOS has no NVIDIA GPUs, and Cello uses no others", f"Use Linux with an NVIDIA GPU, {_OR_CPU}")
    built_for = "AMD GPUs (ROCm), and Cello uses NVIDIA GPUs alone" if torch.version.hip else "the CPU only"
    return _Fault(
        f"torch {torch.__version__} is built for {built_for}",
        f"Install a build with CUDA (pip install torch, see pytorch.org), {_OR_CPU}",
    )


def _without_code(index: int, capability: tuple[int, int]) -> _Fault | None:
    """A GPU for which torch was not built, as one newer than it is; code is for a GPU's own major version, and for
    minor versions up to its own, or in a form that is compiled for any later one."""
    built = [found for each in torch.cuda.get_arch_list() if (found := ARCHITECTURE.fullmatch(each))]
    has = [(kind, (int(major), int(minor))) for kind, major, minor in (each.groups() for each in built)]
    usable = (of <= capability and (kind == "compute" or of[0] == capability[0]) for kind, of in has)
    if not has or any(usable):
        return None
    name, (major, minor) = torch.cuda.get_device_name(index), capability
    return _Fault(
        f"{name} has compute capability {major}.{minor}, and torch {torch.__version__} has no code for it (it has "
        f"{', '.join(each[0] for each in built)})",
        f"Install a newer torch, built for a CUDA that knows this GPU (see pytorch.org), {_OR_CPU}",
    )


def _triton_fault() -> _Fault | None:
    """Why Triton cannot be used, if so."""
    try:
        release = str(getattr(import_module("triton"), "__version__", ""))
    except Exception as error:
        return _Fault(
            f"Triton cannot be imported ({type(error).__name__}: {error})",
            f"Install it with pip install triton, write execution.backend=plain (slow there), {_OR_CPU}",
        )
    if (found := re.match(r"(\d+)\.(\d+)", release)) and (int(found[1]), int(found[2])) < OLDEST_TRITON:
        return _Fault(
            f"Triton {release} cannot compile the kernels, which need {'.'.join(map(str, OLDEST_TRITON))} or newer",
            f"Install torch 2.9 or newer, which brings one, write execution.backend=plain (slow there), {_OR_CPU}",
        )
    return None


def _available() -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of a driver that is too old, which _without_gpu tells
        return torch.cuda.is_available()


def _without_gpu() -> _Fault:
    """Why torch finds no GPU, from what its initialisation says."""
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
        said = "no GPU is found"
    except (RuntimeError, AssertionError) as error:
        said = str(error)
    if "too old" in said:
        has = f"{driver()}, " if driver() else ""
        return _Fault(
            f"the NVIDIA driver ({has}CUDA {_driver_cuda()}) is too old for torch {torch.__version__}, built for CUDA "
            f"{torch.version.cuda}",
            f"Update the driver, install torch for an older CUDA, {_OR_CPU}",
        )
    if "no NVIDIA driver" in said:
        return _Fault("there is no NVIDIA driver on this machine", f"Install the driver of the GPU, {_OR_CPU}")
    return _Fault(
        f"torch finds no GPU ({said.splitlines()[0].rstrip('.')})",
        f"Check that nvidia-smi lists one and that CUDA_VISIBLE_DEVICES does not hide it, {_OR_CPU}",
    )


def _driver_cuda() -> str:
    """The CUDA version that the driver knows."""
    try:
        number = int(getattr(torch._C, "_cuda_getDriverVersion")())  # noqa: B009 - not in builds for the CPU
    except (AttributeError, RuntimeError):
        return "unknown"
    return f"{number // 1000}.{number % 1000 // 10}"


def facts(index: int) -> dict[str, str]:
    """What results record of a GPU: its name, the driver's version, and the CUDA version that torch is built for."""
    found = {
        "gpu": torch.cuda.get_device_name(index),
        "driver": driver(),
        "cuda": torch.version.cuda or "",
    }
    return {name: value for name, value in found.items() if value}


@lru_cache(maxsize=1)
def driver() -> str:
    """The version of the NVIDIA driver; empty where the system does not tell it."""
    if found := loaded_driver():
        return found
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return (done.stdout.splitlines() or [""])[0].strip()


@contextmanager
def computing(device: Device, precision: str) -> Iterator[None]:
    """Compute on the device within, matrix products in this precision; everything as before after.

    The random numbers of torch's own generators, which dropout draws from, are given back too.
    """
    if device.torch.type != "cuda":
        with torch.random.fork_rng(devices=[]):
            yield
        return
    with warnings.catch_warnings():
        # all weights lie in one tensor, from which torch's own layers copy theirs at each call
        warnings.filterwarnings("ignore", message="RNN module weights are not part of single contiguous chunk")
        numbers = torch.random.fork_rng(devices=[device.torch.index or 0])
        with _products_in(precision), torch.cuda.device(device.torch), numbers:
            yield


@contextmanager
def _products_in(precision: str) -> Iterator[None]:
    products, recurrent = _products(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision(PRECISIONS[precision])
    torch.backends.cudnn.allow_tf32 = precision != "float32"
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(products)
        torch.backends.cudnn.allow_tf32 = recurrent


def _products() -> str:
    """How products of float32 are computed now."""
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:  # torch's newer setting was used for CUDA alone, of which the older one tells nothing
        return "high" if torch.backends.cuda.matmul.fp32_precision == "tf32" else "highest"


def out_of_memory(error: RuntimeError) -> bool:
    """Whether a GPU's memory did not suffice."""
    return isinstance(error, torch.OutOfMemoryError) or NO_MEMORY.search(str(error)) is not None


@contextmanager
def memory_errors(config: RunConfig, device: Device) -> Iterator[None]:
    """Turn an error of a GPU that is out of memory into one that says what does not fit, and what to do.

    Raises:
        TrainingError: the run does not fit.
    """
    try:
        yield
    except RuntimeError as error:
        if device.torch.type != "cuda" or not out_of_memory(error):
            raise
        model, batch = config.model, config.optimiser.batch
        raise TrainingError(
            f"run {config.id} does not fit into the memory of {device.torch} ({_free(device)}): {model.cell}, "
            f"{model.layers} × {model.hidden} units, optimiser.batch={batch}. Lower optimiser.batch or model.hidden, "
            "end other processes on that GPU, or use execution.device=cpu"
        ) from error


def _free(device: Device) -> str:
    """How much of a GPU's memory is free; this process's own tensors, which are lost with the run, do not count."""
    name = device.facts.get("gpu", "the GPU")
    try:
        torch.cuda.empty_cache()
        free, whole = torch.cuda.mem_get_info(device.torch)
    except (RuntimeError, AssertionError):
        return name
    return f"{name}, {free / 1e9:.1f} of {whole / 1e9:.1f} GB free"
