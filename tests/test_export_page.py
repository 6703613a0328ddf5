"""What hurts: docs/export.md whose loop over step.onnx gives other steps than Cello's own stream."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cello.errors import DeployError
from cello.export.onnx import clip_model, step_model
from cello.features.config import FeatureConfig
from cello.models.config import ModelConfig
from made_models import LABELS, made, noise

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

from cello.deploy.onnx_models import ClipModel, StreamModel

TEXT = (Path(__file__).parents[1] / "docs" / "export.md").read_text("utf-8")
PAGE: dict[str, Any] = {}
(CODE,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
exec(compile(CODE, "export.md", "exec"), PAGE)
SMALL: dict[str, Any] = {"rate_hz": 8000, "n_mels": 20}
# less than a window; one; fewer frames than deltas take; just enough; many; an end within a hop that fills a window
LENGTHS = (100, 320, 500, 1100, 1600, 1760, 3999, 9000)


@pytest.mark.parametrize("stacking", [1, 3])
@pytest.mark.parametrize("option", [{}, {"deltas": 0}, {"deltas": 1, "delta_width": 5, "hop_ms": 16.0}])
def test_the_loop_of_the_page_gives_the_steps_of_the_stream(
    option: dict[str, Any], stacking: int, tmp_path: Path
) -> None:
    features = FeatureConfig(**SMALL | option)
    parts = made(ModelConfig(cell="gru", hidden=5, frame_stacking=stacking), features)[1]
    (tmp_path / "step.onnx").write_bytes(step_model(parts, features, LABELS, window_s=0.5))
    stream = StreamModel(tmp_path / "step.onnx")
    for samples in LENGTHS:
        sound = noise(samples)
        stream.reset()
        both = [stream.push(sound), stream.finish()]
        found = PAGE["steps_of"](str(tmp_path / "step.onnx"), sound)
        assert [time for time, _ in found] == [time for steps in both for time in steps.times_s]
        expected = np.concatenate([steps.scores for steps in both])
        np.testing.assert_array_equal(np.array([scores for _, scores in found]).reshape(expected.shape), expected)


def test_what_the_page_says_of_lengths_that_the_graph_does_not_check(tmp_path: Path) -> None:
    features = FeatureConfig(**SMALL)
    parts = made(ModelConfig(cell="gru", hidden=5), features)[1]
    (tmp_path / "model.onnx").write_bytes(clip_model(parts, features, LABELS))
    model = ClipModel(tmp_path / "model.onnx")
    short = {"samples": noise(150)[None], "lengths": np.array([150])}
    assert np.isfinite(model.session.run(["scores"], short)[0]).all()
    with pytest.raises(DeployError, match="clip 0 has 150 samples, less than one window of 320; give longer clips"):
        model.scores([noise(150)])
    with pytest.raises(Exception, match=r"Gather.*indices element out of data bounds"):
        model.session.run(["scores"], {"samples": noise(900)[None], "lengths": np.array([2000])})
