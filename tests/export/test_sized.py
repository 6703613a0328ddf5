"""Models of cells whose values have several sizes: every form gives what the equations mean, on a clip and a stream."""

from __future__ import annotations

import numpy as np
import pytest

from c99_program import LABELS, SMALL, sound
from cello.deploy.onnx_models import ClipModel, StreamModel
from cello.export.onnx import clip_model, step_model
from cello.features.clip import frames_of_clip
from cello.models.parts import ModelParts
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
