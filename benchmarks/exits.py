"""Hold every form of trained models to the model itself, on the test clips of their corpus.

    python benchmarks/exits.py STUDY CORPUS [--clips 0] [--node-clips 300] [--int8]

For each finished run of a study: the largest difference of a score from torch's, and how many clips are decided
differently, by numpy, ONNX (whole clips), C99 and JavaScript (Node). ``--clips`` takes so many of the test clips,
evenly, 0 all. With ``--int8`` also the accuracy of each model with int8 weights beside that with float32.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from cello.audio.corpus import Corpus
from cello.audio.open import open_corpus
from cello.deploy.onnx_models import ClipModel
from cello.export.c99 import write_c99
from cello.export.js import JsModel, module_text
from cello.export.onnx import clip_model
from cello.export.quantise import dequantised
from cello.export.stream import StreamSettings
from cello.features.config import FeatureConfig
from cello.features.front_end import ClipFrames
from cello.models.parts import ModelParts
from cello.study.single import open_store
from cello.trained.module import module_of
from cello.trained.numpy_model import NumpyModel
from cello.trained.run import TrainedRun, read_run

Scores = NDArray[np.float32]
Sound = NDArray[np.float32]
WINDOW_S = 3.0
"""Longer than any clip, so that a stream of one clip pools over all of it."""
NODE = """
import { readFileSync } from "node:fs";
const bytes = readFileSync("clips.f32"), lengths = JSON.parse(readFileSync("lengths.json"));
const all = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4), model = new Model(MODELS[0], CELLS);
let at = 0;
console.log(JSON.stringify(lengths.map((n) => [...model.predict(all.subarray(at, at += n))])));
"""


def by_torch(run: TrainedRun, corpus: Corpus, indices: NDArray[np.int64]) -> Scores:
    """The scores as the study's evaluation computes them."""
    module = module_of(run)
    clips = ClipFrames(corpus, indices, run.result.config.features)
    out = []
    with torch.inference_mode():
        for rows in torch.split(torch.arange(len(indices)), 256):
            frames, counts = clips.batch(rows)
            out.append(module(module.standardise(frames, counts), counts))
    return torch.cat(out).numpy()


def by_numpy(run: TrainedRun, corpus: Corpus, indices: NDArray[np.int64]) -> Scores:
    model, clips = NumpyModel(run.parts), ClipFrames(corpus, indices, run.result.config.features)
    return np.stack([model.scores(clips.batch(torch.tensor([row]))[0][0].numpy()) for row in range(len(indices))])


def by_onnx(parts: ModelParts, features: FeatureConfig, labels: Sequence[str], clips: Sequence[Sound]) -> Scores:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(clip_model(parts, features, labels))
        model = ClipModel(path)
    return np.concatenate([model.scores(list(clips[at : at + 32])) for at in range(0, len(clips), 32)])


def by_c99(
    parts: ModelParts, features: FeatureConfig, labels: Sequence[str], clips: Sequence[Sound], *, int8: bool = False
) -> Scores:
    text = write_c99(parts, features, tuple(labels), "model", int8=int8, settings=StreamSettings(window_s=WINDOW_S))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "model.h").write_text(text.header, encoding="utf-8")
        (folder / "model.c").write_text(text.source, encoding="utf-8")
        library = folder / "model.so"
        subprocess.run(
            ["cc", "-std=c99", "-O2", "-shared", "-fPIC", str(folder / "model.c"), "-o", str(library), "-lm"],
            check=True,
        )
        code = ctypes.CDLL(str(library))
    code.model_scores.restype = ctypes.POINTER(ctypes.c_float)
    memory, found = ctypes.create_string_buffer(1 << 22), []
    for clip in clips:
        code.model_start(memory)
        code.model_push(memory, clip.ctypes.data_as(ctypes.c_void_p), len(clip))
        code.model_finish(memory)
        found.append(code.model_scores(memory)[: len(labels)])
    return np.array(found, np.float32)


def by_node(parts: ModelParts, features: FeatureConfig, labels: Sequence[str], clips: Sequence[Sound]) -> Scores:
    model = JsModel("model", parts, features, tuple(labels), StreamSettings(window_s=WINDOW_S))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        np.concatenate(clips).tofile(folder / "clips.f32")
        (folder / "lengths.json").write_text(json.dumps([len(clip) for clip in clips]))
        (folder / "main.mjs").write_text(module_text([model]) + NODE, encoding="utf-8")
        done = subprocess.run(["node", "main.mjs"], cwd=folder, capture_output=True, check=True)
    return np.array(json.loads(done.stdout), np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study")
    parser.add_argument("corpus")
    parser.add_argument("--clips", type=int, default=0)
    parser.add_argument("--node-clips", type=int, default=300)
    parser.add_argument("--int8", action="store_true")
    choice = parser.parse_args()
    torch.set_num_threads(1)
    corpus = open_corpus(choice.corpus)
    store = open_store(choice.study)
    for stored in store.each_result(curves=False):
        run = read_run(store.run_folder(stored))
        said = check(run, corpus, choice.clips, choice.node_clips, int8=choice.int8)
        sys.stdout.write(f"{stored.row}, {stored.column}, seed {stored.seed}: {said}\n")
        sys.stdout.flush()


def check(run: TrainedRun, corpus: Corpus, some: int, node_clips: int, *, int8: bool) -> str:
    """Compare the forms of one run in words."""
    indices = evenly(corpus.indices("test"), some)
    audio, lengths = corpus.audio(indices)
    clips = [np.ascontiguousarray(clip[:n]) for clip, n in zip(audio, lengths.tolist(), strict=True)]
    expected = by_torch(run, corpus, indices)
    given = run.parts, run.result.config.features, run.labels
    node = evenly(np.arange(len(clips)), node_clips)
    forms: dict[str, tuple[Callable[[], Scores], NDArray[np.int64]]] = {
        "numpy": (lambda: by_numpy(run, corpus, indices), np.arange(len(clips))),
        "ONNX": (lambda: by_onnx(*given, clips), np.arange(len(clips))),
        "JavaScript": (lambda: by_node(*given, [clips[k] for k in node]), node),
    }
    if run.parts.causal:
        forms["C99"] = (lambda: by_c99(*given, clips), np.arange(len(clips)))
    said = []
    for name, (scores, of) in forms.items():
        found, own = scores(), expected[of]
        others = int((found.argmax(1) != own.argmax(1)).sum())
        said.append(f"{name} {np.abs(found - own).max():.1e}, {others} of {len(of)} differ")
    if int8:
        targets = corpus.targets[indices]
        rounded = by_onnx(dequantised(run.parts), *given[1:], clips)
        before, after = (100 * float((scores.argmax(1) == targets).mean()) for scores in (expected, rounded))
        said.append(f"accuracy {before:.2f} %, int8 {after:.2f} %")
    return "; ".join(said)


def evenly(indices: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """So many of them, evenly; all of them for 0."""
    if not count or count >= len(indices):
        return indices
    return indices[np.linspace(0, len(indices) - 1, count).round().astype(np.int64)]


if __name__ == "__main__":
    main()
