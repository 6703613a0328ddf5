"""What hurts: a run that is silently not where it was asked to be, and a GPU's error that says nothing one can do."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from cello.errors import ConfigError, TrainingError
from cello.native import nvidia
from cello.training import device, execution
from cello.training.config import CorpusRef, OptimiserConfig, RunConfig
from cello.training.device import Device, choose, computing, driver, memory_errors
from cello.training.execution import ExecutionConfig
from forked import forked

Patch = pytest.MonkeyPatch
BUILT = ("sm_75", "sm_80", "sm_86", "sm_90", "sm_90a")
"""What torch has code for."""
RUN = RunConfig(corpus=CorpusRef(name="x", checksum="0" * 64), optimiser=OptimiserConfig(batch=512))


@pytest.fixture
def gpus(monkeypatch: Patch) -> Callable[..., None]:
    """Make torch say that it has CUDA and so many GPUs."""

    def make(
        count: int = 1, capability: tuple[int, int] = (9, 0), fault: str = "", built: Sequence[str] = BUILT
    ) -> None:
        def init() -> None:
            if fault:
                raise RuntimeError(fault)

        for name, value in {
            "is_available": lambda: count > 0,
            "device_count": lambda: count,
            "get_device_capability": lambda index: capability,
            "get_device_name": lambda index: f"Example GPU {index}",
            "get_arch_list": lambda: [*built],
            "init": init,
        }.items():
            monkeypatch.setattr(torch.cuda, name, value)
        monkeypatch.setattr(torch.version, "cuda", "12.8")
        monkeypatch.setattr(torch._C, "_cuda_getDriverVersion", lambda: 11040, raising=False)
        monkeypatch.setattr(device, "driver", lambda: "470.1")
        monkeypatch.setattr(device, "import_module", lambda name: None)

    return make


def no_triton(name: str) -> None:
    raise ImportError(f"No module named {name!r}")


def test_auto_takes_a_gpu_that_can_be_used_and_records_it(gpus: Callable[..., None]) -> None:
    gpus(2)
    found = choose(ExecutionConfig())
    assert (found.torch, found.resident) == (torch.device("cuda:0"), True)
    assert found.facts == {"gpu": "Example GPU 0", "driver": "470.1", "cuda": "12.8"}
    assert str(found) == "device: cuda:0, Example GPU 0 (a GPU can be used)"
    assert str(choose(ExecutionConfig(device="cuda:1"))) == "device: cuda:1, Example GPU 1 (asked for)"
    assert str(choose(ExecutionConfig(device="cpu"))) == "device: cpu (asked for)"
    assert choose(ExecutionConfig(backend="c")).reason == 'no GPU is used: backend="c" runs on the CPU'


def test_without_cuda_auto_is_the_cpu_and_says_why(monkeypatch: Patch) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch, "__version__", "9+cpu")
    monkeypatch.setattr(sys, "platform", "linux")
    assert str(choose(ExecutionConfig())) == "device: cpu (no GPU is used: torch 9+cpu is built for the CPU only)"
    with pytest.raises(ConfigError) as error:
        choose(ExecutionConfig(device="cuda"))
    assert str(error.value) == (
        "execution.device=cuda cannot be used: torch 9+cpu is built for the CPU only. Install a build with CUDA (pip "
        "install torch, see pytorch.org), or write execution.device=cpu"
    )
    with pytest.raises(ConfigError) as error:
        choose(ExecutionConfig(precision="tf32"))
    assert str(error.value) == (
        "execution.precision=tf32 needs a GPU, and the CPU computes in float32 or bf16 only; no GPU is used because "
        "torch 9+cpu is built for the CPU only. Leave it out, or use a GPU"
    )
    monkeypatch.setattr(execution, "missing_bf16", lambda: "which this CPU (Example 7) does not have")
    with pytest.raises(ConfigError) as error:
        choose(ExecutionConfig(precision="bf16"))
    assert str(error.value) == (
        "execution.precision=bf16 needs AVX512-BF16 on the CPU, which this CPU (Example 7) does not have; no GPU is "
        "used because torch 9+cpu is built for the CPU only. Leave it out, or use a GPU"
    )


def test_gpus_that_are_not_nvidias_are_told_as_such(monkeypatch: Patch) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.version, "hip", "6.4")
    monkeypatch.setattr(torch, "__version__", "9+rocm6.4")
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(ConfigError) as error:
        choose(ExecutionConfig(device="cuda"))
    assert str(error.value) == (
        "execution.device=cuda cannot be used: torch 9+rocm6.4 is built for AMD GPUs (ROCm), and Cello uses NVIDIA "
        "GPUs alone. Install a build with CUDA (pip install torch, see pytorch.org), or write execution.device=cpu"
    )
    monkeypatch.setattr(sys, "platform", "darwin")
    no_gpu = "device: cpu (no GPU is used: macOS has no NVIDIA GPUs, and Cello uses no others)"
    assert str(choose(ExecutionConfig())) == no_gpu
    with pytest.raises(ConfigError) as error:
        choose(ExecutionConfig(device="cuda"))
    assert str(error.value) == (
        "execution.device=cuda cannot be used: macOS has no NVIDIA GPUs, and Cello uses no others. Use Linux with an "
        "NVIDIA GPU, or write execution.device=cpu"
    )


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            "The NVIDIA driver on your system is too old (found version 11040).",
            r"the NVIDIA driver \(470\.1, CUDA 11\.4\) is too old for torch \S+, built for CUDA 12\.8\. Update the "
            r"driver, install torch for an older CUDA, or write execution\.device=cpu",
        ),
        (
            "Found no NVIDIA driver on your system. Please check",
            r"there is no NVIDIA driver on this machine\. Install the driver of the GPU, or write "
            r"execution\.device=cpu",
        ),
        (
            "No CUDA GPUs are available",
            r"torch finds no GPU \(No CUDA GPUs are available\)\. Check that nvidia-smi lists one and that "
            r"CUDA_VISIBLE_DEVICES does not hide it, or write execution\.device=cpu",
        ),
    ],
)
def test_a_gpu_that_is_not_there_is_told_with_its_cause(gpus: Callable[..., None], said: str, told: str) -> None:
    gpus(0, fault=said)
    with pytest.raises(ConfigError, match=rf"^execution\.device=cuda:0 cannot be used: {told}$"):
        choose(ExecutionConfig(device="cuda:0"))
    assert choose(ExecutionConfig()).torch.type == "cpu"


def test_a_gpu_that_is_too_old_or_not_among_these_is_refused(gpus: Callable[..., None]) -> None:
    gpus(1, capability=(7, 0), built=("sm_70",))
    with pytest.raises(ConfigError) as error:
        choose(ExecutionConfig(device="cuda"))
    assert str(error.value) == (
        "execution.device=cuda cannot be used: Example GPU 0 has compute capability 7.0, and the kernels need 7.5 or "
        "more. Use a newer GPU, write execution.backend=plain (slow there), or write execution.device=cpu"
    )
    assert choose(ExecutionConfig()).torch.type == "cpu"
    assert choose(ExecutionConfig(device="cuda", backend="plain")).torch.type == "cuda"
    with pytest.raises(ConfigError, match=r"=cuda:2 cannot be used: this process sees 1 GPU, cuda:0\. Name one of"):
        choose(ExecutionConfig(device="cuda:2"))


@pytest.mark.parametrize("device", ["auto", "cuda:0"])
@pytest.mark.parametrize("backend", ["auto", "plain"])
def test_a_gpu_computes_in_the_precisions_that_its_tensor_cores_know(
    gpus: Callable[..., None], device: str, backend: str
) -> None:
    """Results would say tf32, and be of float32, which torch takes there without a word."""
    gpus(1, capability=(7, 5))
    assert str(choose(ExecutionConfig(device=device, backend=backend)).torch) == "cuda:0"
    for precision in ("tf32", "bf16"):
        with pytest.raises(ConfigError) as error:
            choose(ExecutionConfig(device=device, backend=backend, precision=precision))  # type: ignore[arg-type]
        assert str(error.value) == (
            f"execution.precision={precision} needs compute capability 8.0 or more, and cuda:0, Example GPU 0, has "
            "7.5. Leave it out, which computes in float32, or use a newer GPU"
        )
    gpus(1, capability=(8, 0))
    assert str(choose(ExecutionConfig(device=device, precision="tf32")).torch) == "cuda:0"


@pytest.mark.parametrize(
    ("capability", "built", "usable"),
    [
        ((9, 0), BUILT, True),
        ((8, 9), BUILT, True),  # by the code for 8.6
        ((10, 0), BUILT, False),
        ((12, 0), (*BUILT, "compute_90"), True),  # which is compiled for it
        ((12, 1), ("sm_120",), True),
        ((8, 0), ("sm_86", "sm_90"), False),
        ((9, 0), (), True),  # nothing is known
    ],
)
def test_a_gpu_that_torch_was_not_built_for_is_refused(
    gpus: Callable[..., None], capability: tuple[int, int], built: Sequence[str], usable: bool
) -> None:
    """Its first operation would say: no kernel image is available for execution on the device."""
    gpus(1, capability, built=built)
    assert (choose(ExecutionConfig()).torch.type == "cuda") == usable


def test_what_torch_was_built_for_is_told(gpus: Callable[..., None], monkeypatch: Patch) -> None:
    gpus(1, (12, 0), built=("sm_80", "sm_90"))
    monkeypatch.setattr(torch, "__version__", "9.1")
    with pytest.raises(ConfigError) as error:
        choose(ExecutionConfig(device="cuda", backend="plain"))
    assert str(error.value) == (
        "execution.device=cuda cannot be used: Example GPU 0 has compute capability 12.0, and torch 9.1 has no code "
        "for it (it has sm_80, sm_90). Install a newer torch, built for a CUDA that knows this GPU (see pytorch.org), "
        "or write execution.device=cpu"
    )


@pytest.mark.parametrize(("release", "usable"), [("3.2.0", False), ("3.4.1", False), ("3.5.0", True), ("3.10.0", True)])
def test_a_triton_that_cannot_compile_the_kernels_is_refused(
    gpus: Callable[..., None], monkeypatch: Patch, release: str, usable: bool
) -> None:
    gpus()
    monkeypatch.setattr(device, "import_module", lambda name: SimpleNamespace(__version__=release))
    assert (choose(ExecutionConfig()).torch.type == "cuda") == usable
    assert choose(ExecutionConfig(backend="plain")).torch.type == "cuda"
    if not usable:
        with pytest.raises(ConfigError) as error:
            choose(ExecutionConfig(device="cuda"))
        assert str(error.value) == (
            f"execution.device=cuda cannot be used: Triton {release} cannot compile the kernels, which need 3.5 or "
            "newer. Install torch 2.9 or newer, which brings one, write execution.backend=plain (slow there), or write "
            "execution.device=cpu"
        )


def test_without_triton_auto_is_the_cpu_and_a_named_gpu_says_how_to_get_it(
    gpus: Callable[..., None], monkeypatch: Patch
) -> None:
    gpus()
    monkeypatch.setattr(device, "import_module", no_triton)
    reason = "Triton cannot be imported (ImportError: No module named 'triton')"
    assert choose(ExecutionConfig()).reason == f"no GPU is used: {reason}"
    with pytest.raises(ConfigError, match=re.escape(f"{reason}. Install it with pip install triton, write ")):
        choose(ExecutionConfig(device="cuda"))


@pytest.mark.parametrize("asked", ["gpu", "cuda:", "cuda:x", "cuda:1\n", "CPU", "cuda:٣", "mps", ""])
def test_a_device_that_does_not_exist_is_refused(asked: str) -> None:
    with pytest.raises(ConfigError, match=r"is invalid: it must be auto, cpu, cuda, or cuda:N for GPU N, counted"):
        ExecutionConfig(device=asked)


def test_the_cpu_has_the_precisions_that_its_processor_has(monkeypatch: Patch) -> None:
    with pytest.raises(
        ConfigError, match=r"^execution\.precision=tf32 needs a GPU, and the CPU computes in float32 or"
    ):
        ExecutionConfig(device="cpu", precision="tf32")
    with pytest.raises(ConfigError) as error:
        ExecutionConfig(device="cpu", precision="bf16", backend="plain")
    assert str(error.value) == (
        "execution.precision=bf16 needs compiled kernels on the CPU, and execution.backend=plain computes in float32. "
        "Leave one of them out"
    )
    asked = ExecutionConfig(device="cpu", precision="bf16")  # a worker's CPU may have what this one has not
    monkeypatch.setattr(execution, "missing_bf16", lambda: "which this CPU (Example 7) does not have")
    with pytest.raises(ConfigError, match=r"^execution\.precision=bf16 needs AVX512-BF16 on the CPU, which this CPU "):
        choose(asked)
    monkeypatch.setattr(execution, "missing_bf16", lambda: None)
    assert choose(asked).precision_of_cells(asked) == "bf16"
    assert choose(ExecutionConfig(device="cpu")).precision_of_cells(ExecutionConfig(device="cpu")) == "float32"
    assert Device(torch.device("cuda:0"), "").precision_of_cells(asked) == "float32"
    with pytest.raises(ConfigError, match=r"precision='half' is invalid: it must be float32, tf32 or bf16"):
        ExecutionConfig(precision="half")  # type: ignore[arg-type]


def test_the_drivers_version_is_read_where_the_system_tells_it(monkeypatch: Patch, tmp_path: Path) -> None:
    told = tmp_path / "version"
    monkeypatch.setattr(nvidia, "Path", lambda path: told)
    for line, version in (
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.133.20  Sun Mar 30", "570.133.20"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build", "570.86.15"),
    ):
        told.write_text(line)
        driver.cache_clear()
        assert driver() == version
    told.unlink()

    def no_program(*command: Any, **settings: Any) -> None:
        raise FileNotFoundError(command)

    monkeypatch.setattr(device.subprocess, "run", no_program)
    driver.cache_clear()
    assert driver() == ""
    driver.cache_clear()


@pytest.mark.parametrize(("precision", "products"), [("float32", "highest"), ("tf32", "high"), ("bf16", "medium")])
def test_products_are_of_the_precision_asked_for_and_as_before_afterwards(
    monkeypatch: Patch, precision: str, products: str
) -> None:
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    monkeypatch.setattr(torch.cuda, "device", lambda index: torch.random.fork_rng(devices=[]))
    monkeypatch.setattr(torch.random, "fork_rng", lambda devices: torch.no_grad())
    with computing(Device(torch.device("cuda:0"), ""), precision):
        assert torch.get_float32_matmul_precision() == products
        assert torch.backends.cudnn.allow_tf32 == (precision != "float32")
    assert before == (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32)


def test_torchs_newer_setting_of_precision_is_kept_too() -> None:
    """Of which the older one tells nothing but an error."""

    def precisions() -> tuple[str, str]:
        torch.backends.cuda.matmul.fp32_precision = "tf32"  # which no process can take back
        with device._products_in("float32"):
            within = torch.get_float32_matmul_precision()
        return within, torch.backends.cuda.matmul.fp32_precision

    assert forked(precisions) == ("highest", "tf32")


def test_a_run_that_does_not_fit_says_what_is_free_and_what_to_lower(monkeypatch: Patch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (1_250_000_000, 80_000_000_000))
    on = Device(torch.device("cuda:1"), "", {"gpu": "Example GPU"})
    for error in (
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"),
    ):
        with pytest.raises(TrainingError) as found, memory_errors(RUN, on):
            raise error
        assert str(found.value) == (
            f"run {RUN.id} does not fit into the memory of cuda:1 (Example GPU, 1.2 of 80.0 GB free): gru, 1 × 64 "
            "units, optimiser.batch=512. Lower optimiser.batch or model.hidden, end other processes on that GPU, or "
            "use execution.device=cpu"
        )
    with pytest.raises(RuntimeError, match=r"^other$"), memory_errors(RUN, on):
        raise RuntimeError("other")
    with pytest.raises(torch.OutOfMemoryError), memory_errors(RUN, Device(torch.device("cpu"), "")):
        raise torch.OutOfMemoryError("not a GPU's")
