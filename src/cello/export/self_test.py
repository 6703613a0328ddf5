"""Run the reference vectors of an exported folder through every form of it that can run here.

This compiles and runs the C and the JavaScript of the folder: check a folder that you exported or trust.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from cello.cells.load import known, remember
from cello.cells.stored import StoredCell
from cello.deploy.manifest import Manifest
from cello.deploy.onnx_models import ClipModel, StreamModel
from cello.deploy.package import CLIP_MODEL, REMEDY, STEP_MODEL, checked_files, read_manifest
from cello.errors import CelloError, DeployError
from cello.export.decided import Decided, Rule, Said, clip_difference, label_difference, stream_difference
from cello.export.quantise import dequantised
from cello.export.reference import SOUNDS, Vectors, as_floats, clip_scores, stream_scores, unpacked
from cello.features.config import FeatureConfig
from cello.files import decode_json, naming_damage
from cello.models.config import ModelConfig
from cello.models.parts import parts_of
from cello.native.build import compiler

TOLERANCE = 1e-4
TIMES_ROUNDING = 4
"""The tolerance is at least so many times what rounding moves the reference by."""
LARGEST_SHARE = 1e-3
"""Of a sound's largest score: rounding never excuses more, or a form that is wrong would pass for a delicate model."""
PIECE = 317
"""Samples of a piece of a stream: no multiple of any hop."""
LONGEST_S = 600
Scores = NDArray[np.float32]


class Check(NamedTuple):
    """One form held to the reference: its largest difference, None where it was not run, and then why.

    Difference and tolerance are those of the sound whose difference is the largest share of its tolerance; ``decides``
    says what it decides otherwise, if anything.
    """

    form: str
    what: str
    largest: float | None
    note: str = ""
    tolerance: float = TOLERANCE
    decides: str = ""

    @property
    def passed(self) -> bool | None:
        """Whether all scores were equal within the tolerance, and all decisions; None where it was not run."""
        return None if self.largest is None else self.largest <= self.tolerance and not self.decides


class FormOutput(NamedTuple):
    """What a form computes of all sounds: their scores as ``clips`` or ``streams``, and what it decides of them."""

    what: str
    scores: Sequence[Scores]
    decided: Decided


class NotRunError(Exception):
    """A form that cannot run here; its text is the reason."""


def check_folder(folder: Path) -> list[Check]:
    """Compare every file with its checksum, then every form with the reference.

    Raises:
        DeployError: it is no exported folder, or a file of it is missing or was changed.
    """
    manifest = read_manifest(folder)
    content = checked_files(folder, manifest, keep=tuple(manifest.files))
    if missing := sorted(set(manifest.files) - set(content)):
        raise DeployError(f"{str(folder)!r} has lost {missing[0]!r}; {REMEDY}")
    if "reference.npz" not in content:
        raise DeployError(f"{str(folder)!r} has no reference.npz, so nothing can be checked; {REMEDY}")
    return list(_Checks(folder, manifest, content).each())


class _Checks:
    def __init__(self, folder: Path, manifest: Manifest, content: dict[str, bytes]) -> None:
        self.folder, self.manifest, self.content = folder, manifest, content
        self.vectors = _complete(unpacked(content["reference.npz"]), streams=manifest.stream is not None)
        self.sounds = [as_floats(self.vectors[f"{name}_samples"]) for name in SOUNDS]
        self.rule = Rule(manifest)

    def each(self) -> Iterator[Check]:
        forms: dict[str, Callable[[], Iterator[FormOutput]]] = {
            "numpy": self._numpy,
            "onnx": self._onnx,
            "c99": self._c99,
            "page": self._page,
        }
        for form in self.manifest.exits:
            if form not in forms:
                yield Check(form, "", None, "this Cello does not know it")
                continue
            try:
                for output in forms[form]():
                    yield self._compared(form, output)
            except NotRunError as reason:
                yield Check(form, "", None, str(reason))
            except CelloError as error:
                yield Check(form, "", np.inf, str(error))

    def _compared(self, form: str, output: FormOutput) -> Check:
        key, checks = "stream" if output.what == "streams" else "scores", []
        for name, scores in zip(SOUNDS, output.scores, strict=True):
            wanted = self.vectors[f"{name}_{key}"]
            if scores.shape != wanted.shape:
                return Check(form, output.what, np.inf, f"{name}: scores of shape {scores.shape}, not {wanted.shape}")
            difference = np.abs(scores.astype(np.float64) - wanted.astype(np.float64)).max(initial=0.0)
            largest = float(np.nan_to_num(difference, nan=np.inf))
            checks.append(Check(form, output.what, largest, tolerance=tolerance_of(self.vectors, f"{name}_{key}")))
        worst = max(checks, key=lambda check: (check.largest or 0.0) / check.tolerance)
        return worst._replace(decides=next((each for each in self._differences(output) if each), ""))

    def _differences(self, output: FormOutput) -> Iterator[str]:
        """What the form decides otherwise, where rounding does not excuse it; texts may be empty."""
        labels, streams = self.manifest.labels, output.what == "streams"
        yield (label := label_difference(output.decided.labels, labels))
        if label:
            return
        for number, name in enumerate(SOUNDS):
            key = f"{name}_stream" if streams else f"{name}_scores"
            wanted, tolerance = self.vectors[key].astype(np.float64), tolerance_of(self.vectors, key)
            if not streams:
                yield clip_difference(name, output.scores[number], wanted, labels, tolerance)
                continue
            expected = self.rule.of_scores([self._times_s[number]], [wanted], labels)
            for threshold, found in output.decided.decisions.items():
                if not self.rule.hangs_on_rounding(wanted, threshold, tolerance):
                    yield stream_difference(name, threshold, found[number], expected.decisions[threshold][0])

    @cached_property
    def _times_s(self) -> list[list[float]]:
        """When the steps of the made sounds end."""
        steps = [len(self.vectors[f"{name}_stream"]) for name in SOUNDS]
        return [self.rule.times_s(count, len(sound)) for count, sound in zip(steps, self.sounds, strict=True)]

    def _numpy(self) -> Iterator[FormOutput]:
        with naming_damage(self.folder / "model.safetensors", DeployError, REMEDY):
            try:
                config = msgspec.convert(self.manifest.model, ModelConfig)
                features = msgspec.convert(self.manifest.features, FeatureConfig)
                weights = safetensors.numpy.load(self.content["model.safetensors"])
            except (KeyError, SafetensorError, msgspec.ValidationError) as error:
                raise DeployError(f"{str(self.folder)!r}: the model cannot be read: {error}; {REMEDY}") from error
            if config.equations and known(config.cell, config.equations) is None:
                remember(config.cell, decode_json(self.content["cell.json"], StoredCell).cell())
        parts = parts_of(config, weights)
        parts = parts if self.manifest.int8 is None else dequantised(parts)
        labels, precision = self.manifest.labels, self.manifest.precision.name
        scores = [clip_scores(parts, features, sound, precision) for sound in self.sounds]
        yield FormOutput("clips", scores, Decided(labels, {}))
        if (stream := self.manifest.stream) is not None:
            scores = [stream_scores(parts, features, sound, stream.window_s, precision) for sound in self.sounds]
            yield FormOutput("streams", scores, self.rule.of_scores(self._times_s, scores, labels))

    def _onnx(self) -> Iterator[FormOutput]:
        try:
            clips = ClipModel(self.folder / CLIP_MODEL, content=self.content[CLIP_MODEL])
        except DeployError as error:
            if "not installed" in str(error):
                raise NotRunError("onnxruntime is not installed") from error
            raise
        yield FormOutput("clips", [clips.scores(sound) for sound in self.sounds], Decided(clips.labels, {}))
        if STEP_MODEL in self.content:
            model = StreamModel(self.folder / STEP_MODEL, content=self.content[STEP_MODEL])
            times_s, scores = zip(*(_streamed(model.another(), sound) for sound in self.sounds), strict=True)
            yield FormOutput("streams", scores, self.rule.of_scores(times_s, scores, model.labels))

    def _c99(self) -> Iterator[FormOutput]:
        command = compiler()
        if command is None:
            raise NotRunError("no C compiler is installed")
        name = self.manifest.exits["c99"][0].removesuffix(".h")
        with tempfile.TemporaryDirectory(prefix="cello-check-") as place:
            for file in (f"{name}.h", f"{name}.c"):
                (Path(place) / file).write_bytes(self.content[file])
            (Path(place) / "check.c").write_text(_MAIN.replace("NAME", name).replace("UPPER", name.upper()))
            decides = b"_decider_start(" in self.content[f"{name}.h"]
            thresholds, found = self.rule.thresholds if decides else (), dict[float, list[NDArray[np.void]]]()
            for number, threshold in enumerate(thresholds or (0.0,)):
                given = [f"-D{name.upper()}_THRESHOLD={threshold}"] * bool(number)  # the first is the one in the header
                flags = ["-std=c99", "-O0" if number else "-O1", f"-DDECIDES={decides:d}", *given]
                _ran([*command, *flags, "-o", "check", "check.c", f"{name}.c", "-lm"], place)
                told = [_ran(["./check"], place, sound.tobytes()) for sound in self.sounds]
                found[threshold] = [np.frombuffer(each, self._step_of_c()) for each in told]
            labels = tuple(_ran(["./check", "labels"], place).decode().split("\0")[:-1])
        first = next(iter(found.values()))
        decisions = {at: [_said(each, labels) for each in found[at]] for at in thresholds}
        yield FormOutput("streams", [each["scores"] for each in first], Decided(labels, decisions))

    def _step_of_c(self) -> np.dtype[np.void]:
        """What ``check.c`` writes for each step."""
        return np.dtype([("scores", np.float32, (len(self.manifest.labels),)), ("label", np.int32), ("time_s", "f8")])

    def _page(self) -> Iterator[FormOutput]:
        if shutil.which("node") is None:
            raise NotRunError("node is not installed; the page itself needs none")
        script = _script(self.content["index.html"].decode("utf-8"))
        streams, thresholds = self.manifest.stream is not None, self.rule.thresholds
        settings = [{"threshold": threshold} if number else {} for number, threshold in enumerate(thresholds)]
        data = {"clips": [sound.tolist() for sound in self.sounds], "piece": PIECE, "streams": streams}
        with tempfile.TemporaryDirectory(prefix="cello-check-") as place:
            (Path(place) / "check.mjs").write_text(script + _JAVASCRIPT, encoding="utf-8")
            given = json.dumps(data | {"settings": settings}).encode()
            told: dict[str, Any] = json.loads(_ran(["node", "check.mjs"], place, given))
        labels = tuple(told["labels"])
        yield FormOutput("clips", [np.array(scores, np.float32) for scores in told["clips"]], Decided(labels, {}))
        if streams:
            decisions = dict(zip(thresholds, told["decisions"], strict=False))  # a former page has none
            scores = [np.array(scores, np.float32) for scores in told["streams"]]
            yield FormOutput("streams", scores, Decided(labels, decisions))


def tolerance_of(vectors: Vectors, name: str) -> float:
    """How far a form may be from these reference scores; 1e-4 where an earlier version did not measure their rounding.

    Raises:
        DeployError: their rounding is no number.
    """
    if f"{name}_rounding" not in vectors:
        return TOLERANCE
    rounding = vectors[f"{name}_rounding"]
    if rounding.shape != () or rounding.dtype != np.float64 or not float(rounding) >= 0:
        raise DeployError(f"{name}_rounding in reference.npz is no number of at least 0; {REMEDY}")
    largest = float(np.abs(vectors[name].astype(np.float64)).max(initial=0.0))
    allowed = min(TIMES_ROUNDING * float(rounding), LARGEST_SHARE * largest)
    return max(TOLERANCE, allowed) if np.isfinite(allowed) else TOLERANCE


_MAIN = """\
#include <stdio.h>
#include <string.h>
#include "NAME.h"
static NAME_stream stream;
#if DECIDES
static NAME_decider decider;
#endif
static void hear(void *context, int64_t step, const float *scores) {
    int32_t label = -1;
    double time_s = 0;
#if DECIDES
    NAME_decision found;
    if (NAME_decide(&decider, scores, NAME_end(&stream), &found)) label = found.label, time_s = found.time_s;
#endif
    (void)context, (void)step;
    fwrite(scores, sizeof *scores, UPPER_CLASSES, stdout);
    fwrite(&label, sizeof label, 1, stdout);
    fwrite(&time_s, sizeof time_s, 1, stdout);
}
int main(int count, char **arguments) {
    static float piece[317];
    int n;
    if (count > 1 && strcmp(arguments[1], "labels") == 0) {
        for (n = 0; n < UPPER_CLASSES; n++) fwrite(NAME_labels[n], 1, strlen(NAME_labels[n]) + 1, stdout);
        return 0;
    }
    NAME_start(&stream);
    NAME_listen(&stream, hear, NULL);
#if DECIDES
    NAME_decider_start(&decider);
#endif
    while ((n = (int)fread(piece, sizeof *piece, 317, stdin)) > 0) NAME_push(&stream, piece, n);
    NAME_finish(&stream);
    return 0;
}
"""
_JAVASCRIPT = """
import { readFileSync } from "node:fs";
const { clips, piece, streams, settings } = JSON.parse(readFileSync(0, "utf-8"));
const model = new Model(MODELS[0], CELLS), sounds = clips.map((clip) => Float32Array.from(clip));
function streamed(sound) {
  const stream = new Stream(model), found = [];
  for (let at = 0; at < sound.length; at += piece) found.push(...stream.push(sound.subarray(at, at + piece)));
  return [...found, ...stream.finish()];
}
function decided(steps, given) {
  const decisions = new Decisions(model, given);
  return steps.map((step) => decisions.push(step).decision).filter(Boolean).map(({ time_s, label }) => [time_s, label]);
}
const steps = streams ? sounds.map(streamed) : [], decides = typeof Decisions === "function";
console.log(JSON.stringify({
  labels: model.labels,
  clips: sounds.map((sound) => [...model.predict(sound)]),
  streams: steps.map((each) => each.map(({ scores }) => [...scores])),
  decisions: decides ? settings.map((given) => steps.map((each) => decided(each, given))) : [],
}));
"""


def _said(steps: NDArray[np.void], labels: Sequence[str]) -> list[Said]:
    """The decisions among the steps that a C program wrote."""
    made = steps[steps["label"] >= 0]
    return [(float(time_s), labels[label]) for label, time_s in zip(made["label"], made["time_s"], strict=True)]


def _script(page: str) -> str:
    """The classes and models of a page, without the part that needs a browser."""
    start, models = page.find('<script type="module">'), page.find("const MODELS = [\n")
    end = page.find("\n];", models)
    if min(start, models, end) < 0:
        raise DeployError(f"index.html holds no models; {REMEDY}")
    return page[start + len('<script type="module">') : end + 3]


def _streamed(model: StreamModel, sound: Scores) -> tuple[list[float], Scores]:
    steps = [*(model.push(sound[at : at + PIECE]) for at in range(0, len(sound), PIECE)), model.finish()]
    return np.concatenate([each.times_s for each in steps]).tolist(), np.concatenate([each.scores for each in steps])


def _complete(vectors: Vectors, *, streams: bool) -> Vectors:
    kinds = ("samples", "scores", "stream") if streams else ("samples", "scores")
    for name in SOUNDS:
        for kind in kinds:
            if f"{name}_{kind}" not in vectors:
                raise DeployError(f"reference.npz has no {name}_{kind}; {REMEDY}")
    return vectors


def _ran(command: Sequence[str], place: str, data: bytes = b"") -> bytes:
    try:
        done = subprocess.run(command, cwd=place, input=data, capture_output=True, check=False, timeout=LONGEST_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DeployError(f"{command[0]} did not run: {error}") from error
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit status {done.returncode}"]
        raise DeployError(f"{command[0]} failed: {lines[-1][:200]}")
    return done.stdout
