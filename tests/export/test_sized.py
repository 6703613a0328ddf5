"""Models of cells whose values have several sizes: every form gives what the equations mean, on a clip and a stream."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from c99_program import LABELS, SMALL, Program, sound
from cello.audio.corpus import Corpus
from cello.deploy.onnx_models import ClipModel, StreamModel
from cello.deploy.package import read_manifest
from cello.export.c99 import write_c99
from cello.export.js import JsModel, Quantise, module_text
from cello.export.onnx import clip_model, step_model
from cello.export.package import _as_int8
from cello.export.quantise import dequantised
from cello.export.self_test import check_folder
from cello.export.stream import StreamSettings
from cello.features.clip import frames_of_clip
from cello.models.parts import ModelParts
from made_packages import make_package
from sized_cells import SIZED
from sized_models import CELLS, outputs_meant, scores_meant, sized_parts

CLIP = sound(500)
FRAMES = frames_of_clip(CLIP, SMALL)


def parts_of(name: str, pooling: str = "last") -> ModelParts:
    return sized_parts(CELLS[name], SMALL.dimensions, 6, len(LABELS), pooling)


def steps_meant(parts: ModelParts) -> np.ndarray:
    """The scores (T, C) of every step, where pooling takes the last output."""
    weight, bias = parts.head
    return outputs_meant(parts, FRAMES) @ weight.T.astype(np.float64) + bias


@pytest.mark.parametrize("name", CELLS)
def test_onnx_scores_clips_and_streams(name: str) -> None:
    pooled, last = parts_of(name, "attention"), parts_of(name)
    clip = ClipModel("", content=clip_model(pooled, SMALL, LABELS))
    both = [frames_of_clip(one, SMALL) for one in (CLIP, CLIP[:300])]
    expected = [scores_meant(pooled, frames) for frames in both]
    np.testing.assert_allclose(clip.scores([CLIP, CLIP[:300]]), expected, atol=1e-5)
    stream = StreamModel("", content=step_model(last, SMALL, LABELS, 1.0))
    for again in (stream, stream.another()):
        found = [again.push(CLIP[:111]).scores, again.push(CLIP[111:]).scores, again.finish().scores]
        np.testing.assert_allclose(np.concatenate(found), steps_meant(last), atol=1e-5)


def test_onnx_pools_the_outputs_of_a_stream() -> None:
    for pooling in ("mean", "attention"):
        parts = parts_of("projected", pooling)
        stream = StreamModel("", content=step_model(parts, SMALL, LABELS, 1.0))
        stream.push(CLIP)
        np.testing.assert_allclose(stream.finish().scores[-1], scores_meant(parts, FRAMES), atol=1e-5)


def by_node(
    models: list[ModelParts], quantise: Quantise | None, folder: Path
) -> list[tuple[list[float], list[list[float]]]]:
    """The scores of the clip and of every step of its stream, of each model, by JavaScript."""
    given = [JsModel(f"m{n}", parts, SMALL, LABELS, StreamSettings()) for n, parts in enumerate(models)]
    main = f"""
const clip = Float32Array.from({json.dumps(CLIP.tolist())});
console.log(JSON.stringify(MODELS.map((description) => {{
  const model = new Model(description, CELLS), stream = new Stream(model);
  const steps = [...stream.push(clip.subarray(0, 111)), ...stream.push(clip.subarray(111)), ...stream.finish()];
  return [[...model.predict(clip)], steps.map(({{ scores }}) => [...scores])];
}})));
"""
    (folder / "main.mjs").write_text(module_text(given, quantise) + main, encoding="utf-8")
    done = subprocess.run(["node", "main.mjs"], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:2000]
    return json.loads(done.stdout)  # type: ignore[no-any-return]


@pytest.mark.wants("node")
def test_javascript_scores_clips_and_streams(tmp_path: Path) -> None:
    models = [parts_of(name) for name in CELLS]
    for parts, (clip, stream) in zip(models, by_node(models, None, tmp_path), strict=True):
        np.testing.assert_allclose(stream, steps_meant(parts), atol=1e-5)
        np.testing.assert_allclose(clip, stream[-1], atol=1e-6)


@pytest.mark.wants("node")
def test_javascript_rounds_what_multiplies_and_nothing_else(tmp_path: Path) -> None:
    models = [parts_of(name) for name in CELLS]
    for parts, (_, stream) in zip(models, by_node(models, _as_int8, tmp_path), strict=True):
        np.testing.assert_allclose(stream, steps_meant(dequantised(parts)), atol=1e-5)


@pytest.mark.parametrize("name", CELLS)
def test_c99_scores_streams_to_the_same_bits_for_vectors_of_any_width(name: str, tmp_path: Path) -> None:
    parts, found = parts_of(name), []
    wide = ["-O1" if name in ("normalised", "multiplied") else "-O0", "-march=native"]
    for number, flags in enumerate([["-O0"], wide, ["-O0", "-DLANES=1"]]):
        program = Program(write_c99(parts, SMALL, LABELS, f"model{number}"), f"model{number}", tmp_path, flags)
        found.append(program.stream([CLIP[:111], CLIP[111:]]))
    np.testing.assert_allclose(found[0], steps_meant(parts), atol=1e-5)
    assert len({scores.tobytes() for scores in found}) == 1


@pytest.mark.parametrize("name", CELLS)
def test_c99_with_weights_of_8_bits_and_pooling(name: str, tmp_path: Path) -> None:
    parts = parts_of(name, "attention")
    program = Program(write_c99(parts, SMALL, LABELS, "model", int8=True), "model", tmp_path)
    np.testing.assert_allclose(program.stream([CLIP])[-1], scores_meant(dequantised(parts), FRAMES), atol=1e-5)


@pytest.mark.parametrize("name", ["projected", "gaps", "heads", "generated"])
def test_a_model_of_several_sizes_is_exported_in_every_form_and_passes_its_self_test(
    name: str, tone_corpus: Corpus, tmp_path: Path
) -> None:
    """Outputs of another size for the layer above, frames with parts, states that are matrices, and values that are."""
    package = make_package(
        tmp_path, tone_corpus.manifest, cell=SIZED[name], layers=1 + (not SIZED[name].parts), zoneout=0.1
    )
    found = {(one.form, one.what): one.passed for one in check_folder(package)}
    assert False not in found.values()
    assert {form for form, _ in found} == {"numpy", "onnx", "c99", "page"}
    assert not read_manifest(package).left_out
