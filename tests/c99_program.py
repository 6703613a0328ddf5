"""Compile a model written as C99 and push sound through it, for the tests of its parts."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from cello.export.c99 import C99Text
from cello.features import mfcc
from cello.features.config import FeatureConfig
from cello.models.classifier import Classifier
from cello.models.config import ModelConfig
from cello.models.parts import ModelParts, parts_of

STRICT = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic")
SMALL = FeatureConfig(rate_hz=2000, window_ms=20, n_mels=8, n_mfcc=4)
"""A front end of 40-sample windows, so that models are quick to compile."""
LABELS = ("yes", "no", "unknown")

Array = NDArray[np.float32]


def compiler(*names: str) -> str:
    """The first of these programs that is on PATH; the test is skipped where none is."""
    found = next((name for name in names if shutil.which(name)), None)
    if found is None:
        missing = pytest.fail if "CI" in os.environ else pytest.skip
        missing(f"there is no {' or '.join(names)} on PATH")
    return found


def model_of(
    config: ModelConfig, features: FeatureConfig = SMALL, backend: str = "plain"
) -> tuple[Classifier, ModelParts]:
    """A model with weights that no initialisation would give, and its parts."""
    model = Classifier(config, features.dimensions, len(LABELS), seed=4, backend=backend).eval()
    size = features.dimensions
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(weight.numel())))
        if features.normalisation == "corpus":
            model.mean.copy_(torch.linspace(-1, 1, size))
            model.deviation.copy_(torch.linspace(0.5, 2, size))
    return model, parts_of(config, {name: value.detach().numpy() for name, value in model.state_dict().items()})


def sound(samples: int, seed: int = 0) -> Array:
    """A tone that rises, with noise, (N,)."""
    rng = np.random.default_rng(seed)
    t = np.arange(samples) / 2000
    return (0.3 * np.sin(2 * np.pi * (200 + 150 * t) * t) + 0.1 * rng.normal(size=samples)).astype(np.float32)


def frames_of(samples: Array, features: FeatureConfig) -> tuple[torch.Tensor, torch.Tensor]:
    """The frames (1, T, D) of a clip, and T, by torch."""
    return mfcc.extract(torch.from_numpy(samples)[None], torch.tensor([len(samples)]), features)


def by_torch(model: Classifier, samples: Array, features: FeatureConfig = SMALL) -> Array:
    """The scores (C,) of a clip as the trained model gives them."""
    frames, counts = frames_of(samples, features)
    with torch.no_grad():
        return model(model.standardise(frames, counts), counts)[0].numpy()


def written(text: C99Text, name: str, folder: Path) -> Path:
    """The source file of a model in this folder, its header beside it."""
    (folder / f"{name}.h").write_text(text.header, encoding="utf-8")
    path = folder / f"{name}.c"
    path.write_text(text.source, encoding="utf-8")
    return path


def run(command: Sequence[str | Path], data: bytes = b"") -> bytes:
    """What a program writes; its errors are the test's."""
    done = subprocess.run([str(word) for word in command], input=data, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()[:2000]
    return done.stdout


class Program:
    """A model compiled as a library, as a program would use it; the struct lies in memory of ``size`` bytes."""

    def __init__(self, text: C99Text, name: str, folder: Path, flags: Sequence[str] = ("-O0",)) -> None:
        source, self.name = written(text, name, folder), name
        library = folder / f"{name}.so"
        run([compiler("cc", "gcc", "clang"), *STRICT, *flags, "-shared", "-fPIC", source, "-o", library, "-lm"])
        self.library = ctypes.CDLL(str(library))
        self.call("scores").restype = ctypes.POINTER(ctypes.c_float)
        self.call("end").restype = ctypes.c_int64
        self.memory = ctypes.create_string_buffer(1 << 20)
        self.heard: list[list[float]] = []
        self.ends: list[int] = []
        kind = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.POINTER(ctypes.c_float))
        self._listener = kind(self._hear)
        self.start()

    def call(self, function: str) -> ctypes._NamedFuncPointer:
        return getattr(self.library, f"{self.name}_{function}")

    def _hear(self, context: int, step: int, scores: ctypes._Pointer[ctypes.c_float]) -> None:
        assert step == len(self.heard)
        self.heard.append(scores[: len(LABELS)])
        self.ends.append(self.call("end")(self.memory))

    def start(self) -> None:
        self.heard, self.ends = [], []
        self.call("start")(self.memory)
        self.call("listen")(self.memory, self._listener, None)

    def push(self, samples: NDArray[np.float32] | NDArray[np.int16]) -> int:
        function = "push" if samples.dtype == np.float32 else "push_int16"
        samples = np.ascontiguousarray(samples)
        return self.call(function)(self.memory, samples.ctypes.data_as(ctypes.c_void_p), len(samples))

    def finish(self) -> int:
        return self.call("finish")(self.memory)

    def stream(self, parts: Sequence[NDArray[np.float32]] | Sequence[NDArray[np.int16]]) -> Array:
        """The scores (T, C) of a whole stream that comes in these parts."""
        self.start()
        steps = sum(self.push(part) for part in parts) + self.finish()
        assert steps == len(self.heard)
        return np.array(self.heard, np.float32).reshape(steps, len(LABELS))
