# ruff: noqa: T201
"""Time a model written as C99, front end included, on one thread, and its layer alone; and bytes where it is small.

Times are CPU time, in turns: of many, the one that a tenth are below. The layer of an LSTM is also compared with
ONNX Runtime's operator, which is given a whole sequence.

python benchmarks/c99_model.py --cell lstm --hidden 64 --flags=-O2 --flags="-O3 -march=native"
"""

from __future__ import annotations

import argparse
import ctypes
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cello.export.c99 import write_c99
from cello.features.config import FeatureConfig
from cello.models.classifier import Classifier
from cello.models.config import ModelConfig
from cello.models.parts import ModelParts, parts_of

STEPS, TURNS = 512, 400
LIBRARY = r"""
#include "model.c"
static model_stream stream;
int bytes(void) { return (int)sizeof stream; }
void hops(const float *samples, int hops, int at_once) {
    model_start(&stream);
    for (int k = 0; k < hops; k += at_once) model_push(&stream, samples + k * MODEL_HOP, at_once * MODEL_HOP);
}
void steps(const float *x, int count, int at_once) {
#if SUMS
    static float sums[64 * SUMS * P];
    for (int k = 0; k < count; k += at_once, x += at_once * INPUTS) {
        layer_0_frames(at_once, x, INPUTS, sums);
        for (int n = 0; n < at_once; n++)
            layer_0(x + n * INPUTS, sums + n * SUMS * P, stream.layer_0, stream.scratch.layer);
    }
#else
    (void)at_once;
    for (int k = 0; k < count; k++) layer_0(x + k * INPUTS, stream.layer_0, stream.scratch.layer);
#endif
}
"""
CORTEX_M4 = ["-mcpu=cortex-m4", "-mthumb", "-mfpu=fpv4-sp-d16", "-mfloat-abi=hard", "-Os"]
Floats = NDArray[np.float32]


def operator(parts: ModelParts, x: Floats) -> Callable[[], object]:
    """ONNX Runtime's LSTM on x (T, D), on one thread."""
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    weights, hidden = parts.layers[0][0].weights, parts.hidden
    order = "iofg"  # as ONNX has them, with g for its c
    stored = {
        "W": np.concatenate([weights[f"W.{gate}"] for gate in order])[None],
        "R": np.concatenate([weights[f"U.{gate}"] for gate in order])[None],
        "B": np.concatenate([*(weights[f"b.{gate}"] for gate in order), np.zeros(4 * hidden)])[None],
    }
    graph = helper.make_graph(
        [helper.make_node("LSTM", ["x", *stored], ["Y"], hidden_size=hidden)],
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [len(x), 1, x.shape[1]])],
        [helper.make_tensor_value_info("Y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in stored.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    given = {"x": x[:, None]}
    return lambda: session.run(None, given)


def microseconds(calls: dict[str, Callable[[], object]], count: int) -> dict[str, float]:
    """CPU time of each call, divided by ``count``, in turns."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(TURNS):
        for name, call in calls.items():
            begin = time.process_time_ns()
            call()
            found[name].append((time.process_time_ns() - begin) / count / 1000)
    return {name: float(np.quantile(times, 0.1)) for name, times in found.items()}


def measure(folder: Path, flags: str, compiler: str, features: FeatureConfig, parts: ModelParts) -> None:
    sums = re.search(r"sums \+ k \* (\d+) \* P", (folder / "model.c").read_text("utf-8"))
    place = folder / f"{flags.replace(' ', '').replace('=', '')}.so"
    command = [compiler, "-std=c99", *flags.split(), f"-DSUMS={sums[1] if sums else 0}", "-shared", "-fPIC"]
    subprocess.run([*command, folder / "library.c", "-o", place, "-lm"], check=True)
    library, rng = ctypes.CDLL(str(place)), np.random.default_rng(0)
    x = rng.normal(size=(STEPS, parts.dimensions)).astype(np.float32)
    sound = rng.normal(0, 0.1, 64 * features.hop_samples).astype(np.float32)

    def call(name: str, data: Floats, count: int, at_once: int) -> Callable[[], object]:
        return lambda: library[name](data.ctypes.data_as(ctypes.c_void_p), count, at_once)

    hops = microseconds({f"{n} at once": call("hops", sound, 64, n) for n in (1, 16)}, 64)
    layers = {f"{n} at once": call("steps", x, STEPS, n) for n in ((1, 4, 8) if sums else (1,))}
    if parts.layers[0][0].cell.name == "lstm":
        layers["ONNX Runtime's operator"] = operator(parts, x)
    print(f"{flags}: {library.bytes()} bytes of RAM")
    for what, times in (("hop", hops), ("layer, a step", microseconds(layers, STEPS))):
        print(f"    {what}: " + ", ".join(f"{name} {value:.2f} us" for name, value in times.items()))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--cell", default="lstm")
    options.add_argument("--hidden", type=int, default=64)
    options.add_argument("--compiler", default="cc")
    options.add_argument("--flags", action="append", help="of the compiler; give it once for each set")
    asked = options.parse_args()
    features, config = FeatureConfig(), ModelConfig(cell=asked.cell, hidden=asked.hidden)
    model = Classifier(config, features.dimensions, 14)
    parts = parts_of(config, {name: value.detach().numpy() for name, value in model.state_dict().items()})
    for int8 in (False, True):
        print("int8" if int8 else "float32")
        text = write_c99(parts, features, tuple(f"word {k}" for k in range(14)), "model", int8=int8)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for file, content in (("model.h", text.header), ("model.c", text.source), ("library.c", LIBRARY)):
                (folder / file).write_text(content, encoding="utf-8")
            for flags in asked.flags or ["-O2", "-O3 -march=native"]:
                measure(folder, flags, asked.compiler, features, parts)
            if cross := shutil.which("arm-none-eabi-gcc"):
                command = [cross, "-std=c99", *CORTEX_M4, "-c", folder / "model.c", "-o", folder / "model.o"]
                subprocess.run(command, check=True)
                size = subprocess.run(
                    ["arm-none-eabi-size", folder / "model.o"], capture_output=True, text=True, check=True
                )
                print(f"Cortex-M4 -Os: text, data, bss {size.stdout.splitlines()[1].split()[:3]}")


if __name__ == "__main__":
    main()
