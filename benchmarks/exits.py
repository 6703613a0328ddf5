"""Hold every form of trained models to the model itself, on the test clips of their corpus.

    cello study benchmarks/exits.toml --corpus CORPUS --out STUDY    (exits-parts.toml: cells of frames with parts)
    python benchmarks/exits.py STUDY CORPUS [--clips 0] [--rows NAMES] [--forms NAMES] [--precision auto] [--int8]
        [--out FILE.json]

For each finished run of a study: the largest difference of a score from torch's, and the clips that are decided
differently, by numpy, ONNX (whole clips, and hop by hop), C99 and JavaScript (Node). All compute in the precision that
an export chooses by the validation clips, or in the one given; in float64 it also says how far the model is from its
evaluation by the study, which is in float32. ``--clips`` takes so many of the test clips, evenly, 0 all; hop by hop a
tenth of them; ``--rows`` and ``--forms`` compare only these. With ``--int8`` also the accuracy of each model with int8
weights beside that with float32. The exit status is 1 where a score differs by more than 1e-4 or a decision does,
unless the model's two highest scores are within 1e-5 of each other.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from cello.audio.corpus import Corpus
from cello.audio.open import open_corpus
from cello.cells.arrays import Precision
from cello.deploy.onnx_models import ClipModel, StreamModel
from cello.export.c99 import write_c99
from cello.export.js import JsModel, module_text
from cello.export.onnx import clip_model, step_model
from cello.export.precision import chosen_precision, validation_sounds
from cello.export.quantise import dequantised
from cello.export.stream import StreamSettings
from cello.features.config import FeatureConfig
from cello.features.front_end import ClipFrames
from cello.machine import hardware, versions
from cello.models.parts import ModelParts
from cello.study.single import open_store
from cello.trained.module import module_of
from cello.trained.numpy_model import NumpyModel
from cello.trained.run import TrainedRun, read_run

Scores = NDArray[np.float32]
Sound = NDArray[np.float32]
WINDOW_S = 3.0
"""Longer than any clip, so that a stream of one clip pools over all of it."""
LARGEST_DIFFERENCE, TIE = 1e-4, 1e-5
FORMS = ("numpy", "JavaScript", "ONNX", "C99", "ONNX, hop by hop")
NODE = """
import { readFileSync, writeFileSync } from "node:fs";
const bytes = readFileSync("clips.f32"), lengths = JSON.parse(readFileSync("lengths.json"));
const all = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
const models = MODELS.map((each) => new Model(each, CELLS)), found = models.map(() => []), Own = FrameStream;
let at = 0, frames = null;
// the models have one front end, whose frames of a clip are kept for all of them
FrameStream = class {
  finish() { return []; }
  push(sound) {
    const own = new Own(models[0].frontEnd);
    return frames ??= [...own.push(sound), ...own.finish()];
  }
};
for (const length of lengths) {
  const clip = all.subarray(at, at += length);
  frames = null;
  models.forEach((model, k) => found[k].push(...model.predict(clip)));
}
writeFileSync("scores.f32", Float32Array.from(found.flat()));
"""


class Given(NamedTuple):
    """What a form is written of."""

    parts: ModelParts
    features: FeatureConfig
    labels: Sequence[str]
    precision: Precision = "float32"


def by_torch(run: TrainedRun, corpus: Corpus, indices: NDArray[np.int64], precision: Precision = "float32") -> Scores:
    """The scores as the study's evaluation computes them, or in double precision."""
    module = module_of(run, precision=precision)
    clips = ClipFrames(corpus, indices, run.result.config.features)
    out = []
    with torch.inference_mode():
        for rows in torch.split(torch.arange(len(indices)), 256):
            frames, counts = clips.batch(rows)
            frames = frames.to(getattr(torch, precision))
            out.append(module(module.standardise(frames, counts), counts).float())
    return torch.cat(out).numpy()


def by_numpy(run: TrainedRun, corpus: Corpus, indices: NDArray[np.int64], precision: Precision = "float32") -> Scores:
    model, clips = NumpyModel(run.parts, precision), ClipFrames(corpus, indices, run.result.config.features)
    return np.stack([model.scores(clips.batch(torch.tensor([row]))[0][0].numpy()) for row in range(len(indices))])


def by_onnx(given: Given, clips: Sequence[Sound]) -> Scores:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(clip_model(given.parts, given.features, given.labels, precision=given.precision))
        model = ClipModel(path)
    return np.concatenate([model.scores(list(clips[at : at + 32])) for at in range(0, len(clips), 32)])


def by_c99(given: Given, clips: Sequence[Sound], *, int8: bool = False) -> Scores:
    parts, features, labels, precision = given
    settings = StreamSettings(window_s=WINDOW_S)
    text = write_c99(parts, features, tuple(labels), "model", int8=int8, settings=settings, precision=precision)
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


def by_step(given: Given, clips: Sequence[Sound]) -> Scores:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "step.onnx"
        path.write_bytes(step_model(given.parts, given.features, given.labels, WINDOW_S, precision=given.precision))
        model, found = StreamModel(path), []
    for clip in clips:
        model.reset()
        found.append(np.concatenate([model.push(clip).scores, model.finish().scores])[-1])
    return np.array(found, np.float32)


def by_node(
    runs: Sequence[TrainedRun], clips: Sequence[Sound], precision: Precision = "float32"
) -> NDArray[np.float32]:
    """The scores (runs, clips, C) of models of one front end and as many labels."""
    stream = StreamSettings(window_s=WINDOW_S)
    models = [JsModel(run.folder.name, run.parts, run.result.config.features, run.labels, stream) for run in runs]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        np.concatenate(clips).tofile(folder / "clips.f32")
        (folder / "lengths.json").write_text(json.dumps([len(clip) for clip in clips]))
        text = module_text(models, precision=precision)
        (folder / "main.mjs").write_text(text + NODE, encoding="utf-8")
        subprocess.run(["node", "--max-old-space-size=4096", "main.mjs"], cwd=folder, check=True)
        scores = np.fromfile(folder / "scores.f32", np.float32)
    return scores.reshape(len(runs), len(clips), -1)


def together(
    runs: Sequence[tuple[TrainedRun, Precision]], most: int = 41
) -> Iterator[tuple[list[TrainedRun], Precision]]:
    """Runs that Node scores in one process: of one front end, as many labels, one precision."""
    groups: dict[Any, list[TrainedRun]] = {}
    for run, precision in runs:
        groups.setdefault((precision, run.result.config.features, len(run.labels)), []).append(run)
    for (precision, *_), group in groups.items():
        yield from ((group[at : at + most], precision) for at in range(0, len(group), most))


def compared(found: Scores, own: Scores) -> dict[str, Any]:
    """How scores differ from the model's own: at most, and the clips decided differently with the model's margin."""
    first, second = np.sort(own, axis=1)[:, ::-1][:, :2].T
    others = np.flatnonzero(found.argmax(1) != own.argmax(1))
    differences = np.abs(found - own).max(axis=1)
    return {
        "clips": len(own),
        "largest_difference": float(f"{differences.max():.2e}"),
        "decided_differently": [{"clip": int(k), "margin": float(f"{first[k] - second[k]:.2e}")} for k in others],
        "clips_above_1e-4": int((differences > LARGEST_DIFFERENCE).sum()),
    }


def alike(form: dict[str, Any]) -> bool:
    """Whether a form keeps what is promised."""
    ties = all(each["margin"] < TIE for each in form["decided_differently"])
    return ties and form["largest_difference"] <= LARGEST_DIFFERENCE


def evenly(indices: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """So many of them, evenly; all of them for 0."""
    if not count or count >= len(indices):
        return indices
    return indices[np.linspace(0, len(indices) - 1, count).round().astype(np.int64)]


def check(
    run: TrainedRun,
    expected: Scores,
    node: Scores | None,
    corpus: Corpus,
    indices: NDArray[np.int64],
    forms: Sequence[str],
    precision: Precision,
) -> dict[str, Any]:
    """Compare these forms of one run with torch's scores."""
    clips = clips_of(corpus, indices)
    given = Given(run.parts, run.result.config.features, run.labels, precision)
    some = evenly(np.arange(len(clips)), -(-len(clips) // 10))
    found: dict[str, Any] = {} if node is None else {"JavaScript": compared(node, expected)}
    if "numpy" in forms:
        found["numpy"] = compared(by_numpy(run, corpus, indices, precision), expected)
    if "ONNX" in forms:
        found["ONNX"] = compared(by_onnx(given, clips), expected)
    if "C99" in forms and run.parts.causal:
        found["C99"] = compared(by_c99(given, clips), expected)
    if "ONNX, hop by hop" in forms and run.parts.causal:
        found["ONNX, hop by hop"] = compared(by_step(given, [clips[k] for k in some]), expected[some])
    return found


def int8_accuracy(run: TrainedRun, expected: Scores, corpus: Corpus, indices: NDArray[np.int64]) -> dict[str, float]:
    """The accuracy in % of the model, and of it with matrices of 8 bits."""
    clips, targets = clips_of(corpus, indices), corpus.targets[indices]
    rounded = by_onnx(Given(dequantised(run.parts), run.result.config.features, run.labels), clips)
    before, after = (round(100 * float((scores.argmax(1) == targets).mean()), 2) for scores in (expected, rounded))
    return {"float32": before, "int8": after}


def clips_of(corpus: Corpus, indices: NDArray[np.int64]) -> list[Sound]:
    audio, lengths = corpus.audio(indices)
    return [np.ascontiguousarray(clip[:n]) for clip, n in zip(audio, lengths.tolist(), strict=True)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study")
    parser.add_argument("corpus")
    parser.add_argument("--clips", type=int, default=0)
    parser.add_argument("--int8", action="store_true")
    parser.add_argument("--precision", choices=("auto", "float32", "float64"), default="auto")
    parser.add_argument("--rows", nargs="+", help="only these rows of the study")
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=FORMS, help="only these forms")
    parser.add_argument("--out", type=Path, help="a JSON file for the figures")
    choice = parser.parse_args()
    torch.set_num_threads(1)
    corpus, store = open_corpus(choice.corpus), open_store(choice.study)
    indices = evenly(corpus.indices("test"), choice.clips)
    finished = [
        (stored, read_run(store.run_folder(stored)))
        for stored in store.each_result(curves=False)
        if choice.rows is None or stored.row in choice.rows
    ]
    sounds = validation_sounds(finished[0][1], corpus)
    facts = [chosen_precision(run, run.parts, sounds, choice.precision) for _, run in finished]
    node: dict[str, Scores] = {}
    given = [(run, each.name) for (_, run), each in zip(finished, facts, strict=True)]
    for group, precision in together(given if "JavaScript" in choice.forms else []):
        scores = by_node(group, clips_of(corpus, indices), precision)
        node |= zip([run.result.run for run in group], scores, strict=True)
    found: list[dict[str, Any]] = []
    for (stored, run), each in zip(finished, facts, strict=True):
        expected = by_torch(run, corpus, indices, each.name)
        forms = check(run, expected, node.get(run.result.run), corpus, indices, choice.forms, each.name)
        told: dict[str, Any] = {"row": stored.row, "column": stored.column, "seed": stored.seed}
        told |= {"precision": each.name, "float32_moves": each.float32_moves, "forms": forms}
        told |= {"study": compared(expected, by_torch(run, corpus, indices))} if each.name == "float64" else {}
        told |= {"accuracy": int8_accuracy(run, expected, corpus, indices)} if choice.int8 else {}
        found.append(told)
        sys.stdout.write(f"{json.dumps(told)}\n")
        sys.stdout.flush()
    if choice.out:
        lines = ",\n".join(json.dumps(each) for each in found)
        choice.out.write_text(
            f'{{"machine": {json.dumps(hardware() | versions())}, "runs": [\n{lines}\n]}}\n', encoding="utf-8"
        )
    return int(not all(alike(form) for each in found for form in each["forms"].values()))


if __name__ == "__main__":
    sys.exit(main())
