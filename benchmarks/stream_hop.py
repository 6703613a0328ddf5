# ruff: noqa: T201
"""Time a hop of a model's stream by every form, front end included, on one thread; with --hours how memory goes.

    python benchmarks/stream_hop.py --cell lstm --hidden 64
    python benchmarks/stream_hop.py --hours 24

The forms are ONNX Runtime with bound memory, the same by ``StreamModel.push``, with decisions by
``PackageStream.push``, and JavaScript in Node. Beside them stands ONNX Runtime's own LSTM operator a step (of 39
features), of a whole sequence, where it multiplies all frames at once, and a step at a time, as a stream needs it.
For C99 see ``c99_model.py``. With ``--hours`` so much sound goes through ``StreamModel`` and, compiled by ``cc -O2``,
through C99, and resident memory is read every hour of sound.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from cello.deploy.decisions import DecisionConfig
from cello.deploy.onnx_models import StreamModel
from cello.deploy.package import PackageStream
from cello.export.c99 import write_c99
from cello.export.js import JsModel, module_text
from cello.export.onnx import step_model
from cello.export.stream import StreamSettings
from cello.features.config import FeatureConfig
from cello.models.classifier import Classifier
from cello.models.config import ModelConfig
from cello.models.parts import ModelParts, parts_of

LABELS = tuple(f"word {k}" for k in range(14))
FEATURES = FeatureConfig()
HOPS = 3000
NODE = """
const model = new Model(MODELS[0], CELLS), stream = new Stream(model), { hop } = model.features, times = [];
const sound = Float32Array.from({ length: hop * %d }, () => 0.2 * (Math.random() - 0.5));
for (let at = 0; at < sound.length; at += hop) {
  const begin = performance.now();
  stream.push(sound.subarray(at, at + hop));
  times.push(1000 * (performance.now() - begin));
}
console.log(JSON.stringify(times));
"""


def timed(call: Callable[[int], object]) -> NDArray[np.float64]:
    """Microseconds of each call."""
    found = np.empty(HOPS)
    for k in range(HOPS):
        begin = time.perf_counter()
        call(k)
        found[k] = 1e6 * (time.perf_counter() - begin)
    return found


def told(name: str, times_us: NDArray[np.float64]) -> None:
    median, p99 = np.median(times_us), np.quantile(times_us, 0.99)
    print(
        f"{name:28s}median {median:7.2f} µs, p99 {p99:7.1f}, least {times_us.min():.2f}; 1/{2e4 / median:.0f} of 20 ms"
    )


def made(cell: str, hidden: int) -> ModelParts:
    config = ModelConfig(cell=cell, hidden=hidden)
    model = Classifier(config, FEATURES.dimensions, len(LABELS))
    return parts_of(config, {name: value.detach().numpy() for name, value in model.state_dict().items()})


def operator_us(*, at_once: bool) -> float:
    """A step of ONNX Runtime's LSTM of 64 units, 39 features, a batch of one: the slope over the number of steps.

    All steps by one operator, or one operator a step.
    """
    least = {}
    for steps in (100, 1100) if at_once else (5, 25):
        frames, nodes = (steps, 1) if at_once else (1, steps)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(lstm_model(frames, nodes), options)
        draws = np.random.default_rng(0)
        bound = session.io_binding()
        for k in range(nodes):
            bound.bind_cpu_input(f"x{k}", draws.normal(0, 1, (frames, 1, 39)).astype(np.float32))
        bound.bind_output(f"h{nodes}")
        run = session.run_with_iobinding
        least[steps] = timed(lambda _, run=run, bound=bound: run(bound))[: HOPS // 2].min()  # type: ignore[misc]
    (few, short), (many, long) = least.items()
    return float(long - short) / (many - few)


def lstm_model(frames: int, nodes: int) -> bytes:
    """So many LSTM operators, one after the other, each of so many frames."""
    draws, value = np.random.default_rng(0), helper.make_tensor_value_info
    shapes = {"W": (1, 256, 39), "R": (1, 256, 64), "B": (1, 512)}
    weights = [numpy_helper.from_array(draws.normal(0, 0.1, s).astype(np.float32), n) for n, s in shapes.items()]
    made = []
    for k in range(nodes):
        states = ["", f"h{k}", f"c{k}"] if k else []
        made.append(
            helper.make_node("LSTM", [f"x{k}", *shapes, *states], ["", f"h{k + 1}", f"c{k + 1}"], hidden_size=64)
        )
    inputs = [value(f"x{k}", TensorProto.FLOAT, (frames, 1, 39)) for k in range(nodes)]
    graph = helper.make_graph(made, "lstm", inputs, [value(f"h{nodes}", TensorProto.FLOAT, None)], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    content: bytes = model.SerializeToString()
    return content


def speeds(parts: ModelParts) -> None:
    model = StreamModel("made", content=step_model(parts, FEATURES, LABELS, 1.0))
    sound = np.random.default_rng(0).normal(0, 0.1, (HOPS, FEATURES.hop_samples)).astype(np.float32)
    for warm in sound[:500]:
        model.push(warm)
    told("ONNX, memory bound", timed(lambda k: model._runs[k % 2]()))
    told("ONNX, StreamModel.push", timed(lambda k: model.push(sound[k])))
    decided = PackageStream(model.another(), LABELS, DecisionConfig())
    told("ONNX, with decisions", timed(lambda k: decided.push(sound[k])))
    if shutil.which("node"):
        with tempfile.TemporaryDirectory() as folder:
            text = module_text([JsModel("made", parts, FEATURES, LABELS, StreamSettings())])
            (Path(folder) / "main.mjs").write_text(text + NODE % HOPS, encoding="utf-8")
            done = subprocess.run(["node", "main.mjs"], cwd=folder, capture_output=True, check=True)
        told("JavaScript, Node", np.array(json.loads(done.stdout))[500:])
    print(f"ONNX Runtime's LSTM operator alone {operator_us(at_once=True):.2f} µs a step of a whole sequence")
    print(f"and {operator_us(at_once=False):.2f} µs where each step is an operator of its own")


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def memory(parts: ModelParts, hours: int) -> None:
    second = np.random.default_rng(0).normal(0, 0.1, FEATURES.rate_hz).astype(np.float32)
    model = StreamModel("made", content=step_model(parts, FEATURES, LABELS, 1.0))
    text = write_c99(parts, FEATURES, LABELS, "model")
    with tempfile.TemporaryDirectory() as folder:
        for file, content in (("model.h", text.header), ("model.c", text.source)):
            (Path(folder) / file).write_text(content, encoding="utf-8")
        library = Path(folder) / "model.so"
        command = ["cc", "-std=c99", "-O2", "-shared", "-fPIC", f"{folder}/model.c", "-o", str(library), "-lm"]
        subprocess.run(command, check=True)
        code = ctypes.CDLL(str(library))
    state = ctypes.create_string_buffer(1 << 20)
    code.model_start(state)
    forms: dict[str, Callable[[], object]] = {
        "ONNX": lambda: model.push(second),
        "C99": lambda: code.model_push(state, second.ctypes.data_as(ctypes.c_void_p), len(second)),
    }
    for name, push in forms.items():
        begin, found = time.process_time(), []
        for _ in range(hours):
            for _ in range(3600):
                push()
            found.append(resident_mb())
        span = f"{min(found):.1f} to {max(found):.1f} MiB resident, {found[-1] - found[0]:+.2f} from the first hour on"
        print(f"{name}: {hours} hours of sound in {time.process_time() - begin:.0f} s of CPU, {span}")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--cell", default="lstm")
    options.add_argument("--hidden", type=int, default=64)
    options.add_argument("--hours", type=int, default=0)
    asked = options.parse_args()
    parts = made(asked.cell, asked.hidden)
    if asked.hours:
        memory(parts, asked.hours)
    else:
        speeds(parts)


if __name__ == "__main__":
    main()
