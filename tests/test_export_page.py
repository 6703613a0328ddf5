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


def test_a_stream_without_drain_has_fewer_steps_and_other_scores_as_the_page_says(tmp_path: Path) -> None:
    features, path = FeatureConfig(**SMALL), tmp_path / "step.onnx"
    path.write_bytes(step_model(made(ModelConfig(cell="gru", hidden=5), features)[1], features, LABELS, window_s=0.5))
    undrained: dict[str, Any] = {}
    exec(CODE.replace("[None] * waiting", "[]").replace("[None] * (2 * waiting + stacking - 1)", "[]"), undrained)
    good, bad = (code["steps_of"](str(path), noise(9000)) for code in (PAGE, undrained))
    assert len(bad) == len(good) - 8
    np.testing.assert_allclose(bad[0][1], good[0][1], atol=1e-6)
    assert all(np.abs(one[1] - other[1]).max() > 1e-3 for one, other in zip(bad[1:], good[1:], strict=False))


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
