"""Forms in double precision: what hurts is one that rounds where the model does not, or a jump that is missed."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import made_packages
from c99_program import LABELS, SMALL, Program, compiler, model_of, sound
from cello.audio.corpus import Corpus, Manifest
from cello.cells.load import every_cell, load_cell
from cello.compiler.onnx.operations import row
from cello.compiler.onnx.writer import Writer
from cello.deploy.onnx_models import ClipModel, StreamModel
from cello.deploy.package import load, read_manifest
from cello.errors import BackendError
from cello.export.c99 import write_c99
from cello.export.js import JsModel, module_text
from cello.export.onnx import clip_model, step_model
from cello.export.package import Package, write_package
from cello.export.precision import LARGEST_MOVED, chosen_precision, float32_moves, jumps, validation_sounds
from cello.export.quantise import dequantised
from cello.export.reference import as_floats, made_sounds
from cello.export.self_test import TOLERANCE, check_folder
from cello.export.stream import StreamSettings
from cello.features.clip import frames_of_clip
from cello.features.config import FeatureConfig
from cello.models.config import ModelConfig
from cello.models.parts import ModelParts
from cello.trained.model import load_model
from cello.trained.numpy_model import NumpyModel
from cello.trained.run import TrainedRun, read_run
from made_runs import make_run
from sized_cells import SIZED
from units import units

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

CLIP = sound(900)
WINDOW_S = 3.0
"""Longer than the clip, so that the last scores of its stream are its own."""
NODE = """
const clip = Float32Array.from(CLIP);
console.log(JSON.stringify(MODELS.map((description) => {
  const model = new Model(description, CELLS), stream = new Stream(model), steps = [];
  for (let at = 0; at < clip.length; at += 317) steps.push(...stream.push(clip.subarray(at, at + 317)));
  steps.push(...stream.finish());
  return [[...model.predict(clip)], [...steps[steps.length - 1].scores]];
})));
"""
CONFIGS = [
    ModelConfig(cell=cell, hidden=units(cell, 6), layers=2, pooling=pooling, frame_stacking=stacking)
    for cell, pooling, stacking in (
        ("lstm", "attention", 1),
        ("atr", "mean", 2),
        ("noaf", "last", 1),
        ("gru-original", "last", 1),
        ("lif", "mean", 1),
        ("lru", "last", 1),  # an error function, sines
        ("phased-lstm", "mean", 1),  # a clock
        ("exprnn", "last", 1),  # a sign, a state that begins elsewhere than at zero
        ("slstm", "attention", 1),  # exponentials
        ("mlstm-heads", "mean", 2),  # matrices of heads
        ("rnn-window-attention", "last", 1),
    )
]
MATRICES = [ModelConfig(cell=SIZED[name], hidden=6, layers=2, pooling="mean") for name in ("generated", "multiplied")]
"""Matrices made of vectors, and products of matrices, one of them of weights."""


def name_of(config: ModelConfig) -> str:
    return config.cell if isinstance(config.cell, str) else config.cell.name


def exact(parts: ModelParts, features: FeatureConfig = SMALL) -> NDArray[np.float32]:
    return NumpyModel(parts, "float64").scores(frames_of_clip(CLIP, features))


def equal(found: Any, expected: NDArray[np.float32]) -> None:
    """As near as the doubles that they were rounded from: a last bit where those lie between two floats."""
    np.testing.assert_array_max_ulp(np.asarray(found, np.float32), expected, 1)


def test_there_are_models_in_which_float32_shows() -> None:
    """Or the tests below could not fail."""
    shown = 0
    for config in CONFIGS:
        _, parts = model_of(config)
        expected = exact(parts)
        moved = np.abs(NumpyModel(parts).scores(frames_of_clip(CLIP, SMALL)) - expected)
        shown += bool((moved > np.spacing(np.abs(expected))).any())
    assert shown > len(CONFIGS) // 2


@pytest.mark.parametrize("config", [*CONFIGS, *MATRICES], ids=name_of)
def test_c99_computes_in_doubles(config: ModelConfig, tmp_path: Path) -> None:
    _, parts = model_of(config)
    settings = StreamSettings(WINDOW_S)
    for name, int8 in (("whole", False), ("rounded", True)):
        text = write_c99(parts, SMALL, LABELS, name, int8=int8, settings=settings, precision="float64")
        found = Program(text, name, tmp_path).stream([CLIP])
        equal(found[-1], exact(dequantised(parts) if int8 else parts))


@pytest.mark.parametrize("config", [*CONFIGS, *MATRICES], ids=name_of)
def test_onnx_computes_in_doubles_of_float32_weights(config: ModelConfig, tmp_path: Path) -> None:
    _, parts = model_of(config)
    for int8 in (False, True):
        how: Any = {"int8": int8, "precision": "float64"}
        expected, content = exact(dequantised(parts) if int8 else parts), clip_model(parts, SMALL, LABELS, **how)
        equal(ClipModel("model.onnx", content=content).scores(CLIP), expected)
        stream = StreamModel("step.onnx", content=step_model(parts, SMALL, LABELS, WINDOW_S, **how))
        equal([*stream.push(CLIP).scores, *stream.finish().scores][-1], expected)
    sizes = [len(clip_model(parts, SMALL, LABELS, precision=precision)) for precision in ("float32", "float64")]
    assert sizes[1] < sizes[0] + 20_000  # whose nodes are more, but whose weights have four bytes


@pytest.mark.wants("node")
def test_javascript_computes_in_doubles(tmp_path: Path) -> None:
    parts = [model_of(config)[1] for config in (*CONFIGS, *MATRICES)]
    settings = StreamSettings(WINDOW_S)
    models = [JsModel(str(number), each, SMALL, LABELS, settings) for number, each in enumerate(parts)]
    text = module_text(models, precision="float64")
    assert "Math.fround" not in text
    (tmp_path / "main.mjs").write_text(text + NODE.replace("CLIP", json.dumps(CLIP.tolist())), encoding="utf-8")
    done = subprocess.run(["node", "main.mjs"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:2000]
    for (clip, stream), each in zip(json.loads(done.stdout), parts, strict=True):
        equal(clip, exact(each))
        equal(stream, exact(each))


@pytest.mark.parametrize("config", [*CONFIGS[:5], ModelConfig(cell="torch:gru", hidden=5, bidirectional=True)])
def test_the_module_computes_in_doubles_of_what_the_equations_see_in_float32(
    config: ModelConfig, tmp_path: Path, tone_manifest: Manifest
) -> None:
    fields = ("cell", "hidden", "layers", "pooling", "frame_stacking", "bidirectional")
    run = make_run(tmp_path / "run", tone_manifest, **{name: getattr(config, name) for name in fields})
    model, clip = load_model(run, precision="float64"), np.resize(CLIP, 16_000)
    frames = torch.from_numpy(frames_of_clip(clip, model.features)).double()[None]
    with torch.no_grad():
        found = model.module(model.module.standardise(frames, [frames.shape[1]]), [frames.shape[1]])[0]
    assert found.dtype == torch.float64
    equal(found.numpy(), model.predict(clip, 16_000).scores)


@pytest.mark.parametrize(
    ("command", "flags"), [("gcc", ("-O2", "-mavx2")), ("gcc", ("-DLANES=1",)), ("clang", ("-O2",))]
)
def test_doubles_are_the_same_for_all_vectors_and_compilers(
    command: str, flags: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "-mavx2" in flags and "avx2" not in Path("/proc/cpuinfo").read_text(encoding="utf-8"):
        pytest.skip("this processor has no AVX2")
    _, parts = model_of(ModelConfig(cell="lstm", hidden=20, layers=2, pooling="attention"))
    found = compiler(command)
    monkeypatch.setattr("c99_program.compiler", lambda *_: found)
    text = write_c99(parts, SMALL, LABELS, "model", settings=StreamSettings(WINDOW_S), precision="float64")
    equal(Program(text, "model", tmp_path, flags).stream([CLIP])[-1], exact(parts))


def test_onnx_has_an_error_function_of_doubles_and_says_that_it_has_no_arctangent() -> None:
    writer = Writer(real="double")
    writer.write("Identity", row("erf")(writer, "v"), to="found")
    shape = {"v": ("double", ("n",))}
    content = writer.model(shape, {"found": ("double", ("n",))}, "erf", "", {})
    values = np.r_[np.linspace(-7, 7, 701), 1e-9, 1e-300, 0.0, np.inf, -np.inf]
    (found,) = onnxruntime.InferenceSession(content).run(None, {"v": values})
    np.testing.assert_allclose(found, [math.erf(v) for v in values], atol=2e-15, rtol=0)
    with pytest.raises(BackendError, match="no arctangent of doubles; export other forms, or give --precision"):
        row("atan")(writer, "v")


def test_the_cells_that_jump_are_known() -> None:
    assert {name for name in every_cell() if jumps(load_cell(name))} == {"lif", "lsnn", "exprnn"}


@pytest.fixture
def trained(tmp_path: Path, tone_manifest: Manifest) -> TrainedRun:
    return read_run(make_run(tmp_path / "run", tone_manifest, features=made_packages.SMALL))


def test_float32_is_left_where_it_shows_on_the_clips_or_an_equation_jumps(
    trained: TrainedRun, tmp_path: Path, tone_corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    sounds = validation_sounds(trained, tone_corpus)
    assert [len(clip) for clip in sounds] == [
        tone_corpus.audio(np.array([k]))[1][0] for k in tone_corpus.indices("validation")
    ]
    tame = chosen_precision(trained, trained.parts, sounds)
    assert (tame.name, tame.clips) == ("float32", 9)
    assert 0 < (tame.float32_moves or 0) <= LARGEST_MOVED
    assert tame.why.endswith("from double precision on 9 validation clips and 3 made sounds, which is within 1e-05")
    monkeypatch.setattr("cello.export.precision.LARGEST_MOVED", 1e-9)
    delicate = chosen_precision(trained, trained.parts, [])
    assert (delicate.name, delicate.clips) == ("float64", 0)
    assert delicate.why.endswith("on 3 made sounds, above 1e-09")
    asked = chosen_precision(trained, trained.parts, [], "float32")
    assert asked.name == "float32"
    assert asked.why.startswith("asked for; float32 moves scores by up to ")
    monkeypatch.setattr("cello.export.precision.LARGEST_MOVED", 1.0)
    spikes = read_run(make_run(tmp_path / "lif", tone_corpus.manifest, features=made_packages.SMALL, cell="lif"))
    jumping = chosen_precision(spikes, spikes.parts, [])
    assert jumping.name == "float64"
    assert jumping.why.startswith("an equation of lif jumps, where rounding alone may decide; float32 moves")


def test_float32_that_is_no_number_is_left(trained: TrainedRun) -> None:
    parts = trained.parts
    parts.head[0][0, 0] = np.nan
    assert float32_moves(parts, made_packages.SMALL, [as_floats(made_sounds(made_packages.SMALL)["noise"])]) == np.inf


def test_a_folder_in_double_precision_is_the_model_in_double_precision_in_every_form(
    trained: TrainedRun, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    facts = chosen_precision(trained, trained.parts, [], "float64")
    write_package(Package(trained=trained, precision=facts), folder)
    manifest = read_manifest(folder)
    assert manifest.precision == facts
    assert not manifest.left_out
    found = check_folder(folder)
    assert {one.form for one in found if one.passed} >= {"numpy", "onnx", "c99"}
    assert all(one.tolerance == TOLERANCE and (one.largest or 0) < 1e-6 for one in found)
    assert "Every form computes in double precision: asked for; float32 moves" in (folder / "README.md").read_text()
    model, package = load_model(trained.folder, precision="float64"), load(folder)
    clip = np.resize(CLIP, 16_000)
    equal(package.scores(clip), model.predict(clip, 16_000).scores)
    stream = package.stream(threshold=0.3)
    told, own = stream.push(clip) + stream.finish(), model.stream(threshold=0.3)
    assert [one[:2] for one in told] == [one[:2] for one in own.push(clip, 16_000) + own.finish()]
    equal(stream.last_scores, own.last_scores)


def test_a_folder_of_a_cello_that_knew_float32_alone_is_used_as_before(exported: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(exported, tmp_path / "model")
    before = load(folder).scores(CLIP)
    made_packages.rewrite(folder, precision=None)
    assert read_manifest(folder).precision.name == "float32"
    np.testing.assert_array_equal(load(folder).scores(CLIP), before)
    assert not [one for one in check_folder(folder) if one.passed is False]
