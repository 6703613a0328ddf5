"""One rule of decisions in every exit: a threshold tuned in Python that brings other words elsewhere is what hurts."""

from __future__ import annotations

import ctypes
import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import safetensors.numpy
from numpy.typing import NDArray

import made_packages
import made_runs
from c99_program import Program
from cello import deploy
from cello.audio.corpus import Corpus
from cello.deploy.decisions import Decider, Decision, DecisionConfig, smoothed, softmax
from cello.export.c99 import C99Text
from cello.export.package import Package, write_package
from cello.export.self_test import _script
from cello.trained.model import load_model
from cello.trained.run import read_run

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

Sound = NDArray[np.float32]
RATE_HZ, HOP = made_packages.SMALL.rate_hz, made_packages.SMALL.hop_samples
LABELS = ("high", "low", "rough")


class CDecision(ctypes.Structure):
    """``NAME_decision`` of the header."""

    _fields_ = [("time_s", ctypes.c_double), ("label", ctypes.c_int), ("score", ctypes.c_float)]


class Settings(NamedTuple):
    """What differs from one case to the next; smoothing is a size of an array in C, so it is the folder's there."""

    threshold: float
    refractory_s: float
    smooth_s: float = 0.2

    @property
    def config(self) -> DecisionConfig:
        return DecisionConfig(**self._asdict())


Expected = tuple[Sound, list[Settings], list[list[Decision]]]


class Exits:
    """An exported folder, and the same model in C with a threshold and a refractory time that can be set."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.run = folder, read_run(folder.parent / "run")
        self.model = load_model(folder.parent / "run")
        self.package = deploy.load(folder)
        (self.name,) = [path.stem for path in folder.glob("*.c")]
        self.expected: Expected | None = None
        self._program: CProgram | None = None

    @property
    def step_samples(self) -> int:
        return HOP * self.run.parts.frame_stacking

    @property
    def program(self) -> CProgram:
        self._program = self._program or CProgram(self.folder, self.name)
        return self._program

    def in_node(self, place: Path, text: str, data: dict[str, Any]) -> Any:
        (place / "data.json").write_text(json.dumps(data))
        script = _script((self.folder / "index.html").read_text("utf-8"))
        (place / "main.mjs").write_text(NODE + script + text, encoding="utf-8")
        done = subprocess.run(["node", "main.mjs"], cwd=place, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[:2000]
        return json.loads(done.stdout)


NODE = """
import { readFileSync } from "node:fs";
const data = JSON.parse(readFileSync("data.json"));
const found = (decisions, steps) => steps.map((step) => decisions.push(step).decision).filter((each) => each);
"""
SCORES = """
const told = data.cases.map(({ settings, times_s, scores }) => {
  const steps = scores.map((each, k) => ({ time_s: times_s[k], scores: each.map((score) => score ?? NaN) }));
  return found(new Decisions(new Model(MODELS[0], CELLS), settings), steps);
});
console.log(JSON.stringify(told));
"""
SOUND = """
const model = new Model(MODELS[0], CELLS), sound = Float32Array.from(data.sound);
const told = data.cases.map(({ settings, cuts }) => {
  const stream = new Stream(model), decisions = new Decisions(model, settings);
  const pieces = cuts.map((cut, k) => sound.subarray(cut, cuts[k + 1] ?? sound.length));
  const made = pieces.flatMap((piece) => found(decisions, stream.push(piece)));
  return [...made, ...found(decisions, stream.finish())];
});
console.log(JSON.stringify(told));
"""


class CProgram(Program):
    """The C of a folder, deciding from inside its listener as the header says."""

    def __init__(self, folder: Path, name: str) -> None:
        upper = name.upper()
        settings = "extern double now_threshold;\nextern int64_t now_refractory;\n"
        macros = f"#define {upper}_THRESHOLD now_threshold\n#define {upper}_REFRACTORY_SAMPLES now_refractory\n"
        header = "#include <stdint.h>\n" + settings + macros + (folder / f"{name}.h").read_text("utf-8")
        source = (folder / f"{name}.c").read_text("utf-8") + "\ndouble now_threshold;\nint64_t now_refractory;\n"
        self.decider, self.decided = ctypes.create_string_buffer(1 << 16), list[Decision]()
        super().__init__(C99Text(header, source), name, folder.parent, ["-O1"])
        self.call("end").restype = ctypes.c_int64

    def decide_with(self, settings: Settings) -> None:
        ctypes.c_double.in_dll(self.library, "now_threshold").value = settings.threshold
        refractory = settings.config.refractory_samples(RATE_HZ)
        ctypes.c_int64.in_dll(self.library, "now_refractory").value = refractory
        self.call("decider_start")(self.decider)
        self.decided = []

    def decide(self, scores: Any, end: int) -> None:
        one = CDecision()
        if self.call("decide")(self.decider, scores, ctypes.c_int64(end), ctypes.byref(one)):
            self.decided.append(Decision(one.time_s, LABELS[one.label], one.score))

    def _hear(self, context: int, step: int, scores: Any) -> None:
        super()._hear(context, step, scores)
        self.decide(scores, self.call("end")(self.memory))


@pytest.fixture(scope="module")
def plain(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Exits:
    """A step is a frame."""
    return Exits(shutil.copytree(exported.parent, tmp_path_factory.mktemp("plain") / "all") / "model")


@pytest.fixture(scope="module")
def stacked(tmp_path_factory: pytest.TempPathFactory, tones: Any) -> Exits:
    """A step is three frames, the last one of a stream perhaps fewer; a cell of another pooling."""
    place = tmp_path_factory.mktemp("stacked")
    settings = {"frame_stacking": 3, "pooling": "attention", "cell": "lstm"}
    run = made_runs.make_run(place / "run", tones().manifest, features=made_packages.SMALL, **settings)
    weights = safetensors.numpy.load_file(run / "model.safetensors")
    weights["head.weight"] *= 8  # random weights are sure of nothing
    safetensors.numpy.save_file(weights, run / "model.safetensors")
    write_package(Package(trained=read_run(run)), place / "model")
    return Exits(place / "model")


def same(found: Sequence[Any], expected: Sequence[Decision]) -> None:
    """The same times, to the bit, and labels, and scores within 1e-4."""
    told = [Decision(**one) if isinstance(one, dict) else one for one in found]
    assert [one[:2] for one in told] == [one[:2] for one in expected]
    np.testing.assert_allclose([one.score for one in told], [one.score for one in expected], atol=1e-4, rtol=0)


# --- synthetic scores ---


def made_cases(count: int, step_samples: int) -> list[tuple[Settings, list[float], Sound]]:
    """Seeded settings and scores of words that come, stay and go; some scores are NaN, infinite, equal or very sure."""
    rng, found = np.random.default_rng(3), []
    for number in range(count):
        steps = int(rng.integers(0, 120))
        words = rng.integers(0, 3, steps // 8 + 1).repeat(8)[:steps]
        sure = rng.choice([1.0, 4.0, 12.0, 30.0])
        scores = (rng.normal(0, 1, (steps, 3)) + sure * np.eye(3)[words]).astype(np.float32)
        if number % 5 == 4 and steps:
            scores[rng.integers(0, steps), rng.integers(0, 3)] = rng.choice([np.nan, np.inf])
        threshold = float(rng.choice([0.0, 0.34, 0.52, 0.81, 0.97, 0.9999, 0.999999]))
        refractory_s = float(rng.choice([0.0, 0.02001, 0.1, 0.1 + 0.2, 1 / 3, 1.0]))
        ends = made_packages.SMALL.window_samples + step_samples * np.arange(steps)
        found.append((Settings(threshold, refractory_s), (ends / RATE_HZ).tolist(), scores))
    return found


def in_python(settings: Settings, times_s: list[float], scores: Sound, step_samples: int) -> list[Decision]:
    return Decider(LABELS, settings.config, rate_hz=RATE_HZ, step_samples=step_samples).push(times_s, scores)


@pytest.mark.wants("cc")
def test_c_decides_of_any_scores_as_python_does(plain: Exits) -> None:
    decided = 0
    for settings, times_s, scores in made_cases(150, plain.step_samples):
        plain.program.decide_with(settings)
        for time_s, row in zip(times_s, scores, strict=True):
            plain.program.decide(row.ctypes.data_as(ctypes.c_void_p), round(time_s * RATE_HZ))
        expected = in_python(settings, times_s, scores, plain.step_samples)
        same(plain.program.decided, expected)
        decided += len(expected)
    assert decided > 500


@pytest.mark.wants("cc")
@pytest.mark.parametrize("threshold", [0.9, 0.9999, 0.99999, 0.999999])
def test_c_reaches_a_threshold_near_1_at_the_same_step_as_python(plain: Exits, threshold: float) -> None:
    """A float has seven digits: of 1 - 0.999999 only one is left, unless what is missing to 1 is compared."""
    settings, scores = Settings(threshold, 9.0), np.zeros((3000, 3), np.float32)
    scores[:, 0] = np.linspace(2, 17, 3000)
    times_s = [0.01 * (k + 2) for k in range(3000)]
    plain.program.decide_with(settings)
    for time_s, row in zip(times_s, scores, strict=True):
        plain.program.decide(row.ctypes.data_as(ctypes.c_void_p), round(time_s * RATE_HZ))
    expected = in_python(settings, times_s, scores, plain.step_samples)
    assert expected[0].score == pytest.approx(threshold, rel=1e-3)
    assert plain.program.decided[0].time_s == pytest.approx(expected[0].time_s, abs=1e-9)


@pytest.mark.wants("node")
def test_the_page_decides_of_any_scores_as_python_does(plain: Exits, tmp_path: Path) -> None:
    cases = made_cases(150, plain.step_samples)
    smooth = [0.0, 0.015, 0.025, 0.2, 1.0]  # one and a half steps of 10 ms, and two and a half
    told = [
        {
            "settings": settings._replace(smooth_s=smooth[k % 5])._asdict(),
            "times_s": times_s,
            "scores": [[float(score) if np.isfinite(score) else None for score in row] for row in scores],
        }
        for k, (settings, times_s, scores) in enumerate(cases)
    ]
    found = plain.in_node(tmp_path, SCORES, {"cases": told})
    for k, (settings, times_s, scores) in enumerate(cases):
        same(found[k], in_python(settings._replace(smooth_s=smooth[k % 5]), times_s, scores, plain.step_samples))


def test_scores_that_are_no_numbers_bring_no_decision_and_pass(plain: Exits) -> None:
    settings, scores = Settings(0.5, 0.0, 0.04), np.zeros((6, 3), np.float32)
    scores[:, 1], scores[2, 0] = 9, np.nan
    found = in_python(settings, [0.02 * k for k in range(6)], scores, 320)
    assert [one.time_s for one in found] == [0.0, 0.02, 0.08, 0.1]  # smoothed over two steps


def test_a_whole_stream_is_smoothed_to_the_same_bits_as_step_by_step() -> None:
    scores = np.random.default_rng(0).normal(0, 4, (400, 5)).astype(np.float32)
    config = DecisionConfig(threshold=0, smooth_s=0.14, refractory_s=0, background=())
    one_by_one = Decider("abcde", config, rate_hz=RATE_HZ, step_samples=HOP).push(
        [0.02 * k for k in range(400)], scores
    )
    assert [one.score for one in one_by_one] == smoothed(softmax(scores), 14).max(axis=1).tolist()


# --- sound ---


def strung(corpus: Corpus) -> Sound:
    """Many words with noise between, about 16 s."""
    rng = np.random.default_rng(5)
    pieces: list[Any] = []
    for k in rng.permutation(len(corpus.manifest.clips))[:14]:
        pieces += [rng.normal(0, 0.03, int(rng.integers(1000, 6000))), corpus.audio(np.array([k]))[0][0]]
    return np.concatenate(pieces).astype(np.float32)


def settings_of(exits: Exits, sound: Sound) -> list[Settings]:
    """Thresholds between the scores that the sound brings, far from all of them, so that rounding decides nothing."""
    stream = exits.model.stream(smooth_s=0.2)
    scores = np.concatenate([stream.scores.push(sound)[1], stream.scores.finish()[1]])
    means = np.sort(smoothed(softmax(scores), stream.smoothed_steps), axis=1)
    assert (means[:, -1] - means[:, -2]).min() > 1e-5
    tops = np.sort(means[:, -1])
    found = [Settings(0.0, 0.5), Settings(0.0, 0.0)]
    for share, refractory_s in ((0.3, 0.3), (0.6, 0.0), (0.6, 1.0), (0.85, 1 / 3)):
        at = int(share * len(tops))
        near = tops[at - len(tops) // 20 : at + len(tops) // 20]
        widest = int(np.diff(near).argmax())
        assert near[widest + 1] - near[widest] > 4e-5
        found.append(Settings(float(near[widest : widest + 2].mean()), refractory_s))
    return found


def choppings(samples: int) -> list[list[int]]:
    """Where pieces begin: all at once, hop by hop, and anywhere, some of them empty."""
    rng = np.random.default_rng(9)
    anywhere = [sorted(rng.integers(0, samples, count).tolist()) for count in (3, 40, 900)]
    return [[0], list(range(0, samples, HOP)), *([0, cuts[0], *cuts] for cuts in anywhere)]


def pushed(stream: Any, sound: Sound, cuts: list[int]) -> list[Decision]:
    pieces = np.split(sound, cuts[1:])
    return [one for piece in pieces for one in stream.push(piece)] + stream.finish()


def expected_of(exits: Exits, corpus: Corpus) -> Expected:
    """Sound, settings, and what Python's stream decides with each of them; computed once."""
    if exits.expected is None:
        sound = strung(corpus)
        cases = settings_of(exits, sound)
        found = [pushed(exits.model.stream(**settings._asdict()), sound, [0]) for settings in cases]
        assert min(map(len, found)) > 5
        assert len({one.label for each in found for one in each}) > 1
        exits.expected = sound, cases, found
    return exits.expected


@pytest.fixture(params=["plain", "stacked"])
def exits(request: pytest.FixtureRequest) -> Exits:
    found: Exits = request.getfixturevalue(request.param)
    return found


def test_python_and_the_exported_folder_decide_alike_however_sound_is_chopped(
    exits: Exits, tone_corpus: Corpus
) -> None:
    sound, cases, expected = expected_of(exits, tone_corpus)
    cuts = choppings(len(sound))
    for k, (settings, wanted) in enumerate(zip(cases, expected, strict=True)):
        same(pushed(exits.model.stream(**settings._asdict()), sound, cuts[k % len(cuts)]), wanted)
        same(pushed(exits.package.stream(**settings._asdict()), sound, cuts[(k + 1) % len(cuts)]), wanted)


@pytest.mark.wants("cc")
def test_c_decides_as_python_does_however_sound_is_chopped(exits: Exits, tone_corpus: Corpus) -> None:
    sound, cases, expected = expected_of(exits, tone_corpus)
    for settings, wanted in zip(cases, expected, strict=True):
        for cuts in choppings(len(sound)):
            exits.program.decide_with(settings)
            exits.program.stream(np.split(sound, cuts[1:]))
            same(exits.program.decided, wanted)


@pytest.mark.wants("node")
def test_the_page_decides_as_python_does_however_sound_is_chopped(
    exits: Exits, tone_corpus: Corpus, tmp_path: Path
) -> None:
    sound, cases, expected = expected_of(exits, tone_corpus)
    cuts = choppings(len(sound))
    told = [{"settings": case._asdict(), "cuts": cuts[k % len(cuts)]} for k, case in enumerate(cases)]
    found = exits.in_node(tmp_path, SOUND, {"sound": sound.tolist(), "cases": told})
    for one, wanted in zip(found, expected, strict=True):
        same(one, wanted)
