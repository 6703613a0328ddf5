"""Make reference vectors: sound that needs no recording, and the scores that every form of a model must give."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray

from cello.cells.arrays import Precision
from cello.errors import DeployError
from cello.features.clip import frames_of_clip
from cello.features.config import FeatureConfig
from cello.models.parts import ModelParts
from cello.trained.numpy_model import NumpyModel
from cello.trained.stream import ScoreStream, steps_in

Floats = NDArray[np.float32]
Vectors = dict[str, NDArray[np.generic]]
SOUNDS = ("tones", "noise", "chirp")
LARGEST_REFERENCE = 1 << 26
DRAWS = 4
ROUNDING = 2.0**-21
"""Of a clip's largest feature: what rounding moves features by that float32 sums of dozens of logarithms give."""


def made_sounds(features: FeatureConfig) -> dict[str, NDArray[np.int16]]:
    """Three clips of about a second, of different lengths, (N,) each."""
    rate, shortest = features.rate_hz, features.window_samples + 12 * features.hop_samples
    lengths = [max(shortest, int(share * rate)) for share in (1.0, 0.713, 0.871)]
    rng = np.random.default_rng(1)
    t = [np.arange(length) / rate for length in lengths]
    top = 0.45 * rate
    sounds = (
        0.3 * np.sin(0.12 * top * t[0] * 2 * np.pi) + 0.2 * np.sin(0.3 * top * t[0] * 2 * np.pi) * (t[0] > 0.4),
        rng.normal(0, 0.1, lengths[1]),
        0.4 * np.sin(np.pi * top * t[2] ** 2 / max(t[2][-1], 1e-9)),
    )
    return {
        name: np.rint(32767 * np.clip(sound, -1, 1)).astype(np.int16)
        for name, sound in zip(SOUNDS, sounds, strict=True)
    }


def reference_vectors(
    parts: ModelParts, features: FeatureConfig, window_s: float | None, precision: Precision = "float32"
) -> Vectors:
    """``NAME_samples`` (N,) int16, ``NAME_scores`` (C,) of the clip and, with a window, ``NAME_stream`` (T, C).

    ``NAME_scores_rounding`` and ``NAME_stream_rounding`` () are how far rounding alone moves the most delicate of them;
    they are left out of those in float64, whose rounding moves nothing.
    """
    found: dict[str, NDArray[np.generic]] = {}
    for name, samples in made_sounds(features).items():
        sound = as_floats(samples)
        found[f"{name}_samples"] = samples
        found[f"{name}_scores"] = clip_scores(parts, features, sound, precision)
        if window_s is not None:
            found[f"{name}_stream"] = stream_scores(parts, features, sound, window_s, precision)
        if precision == "float32":
            frames = frames_of_clip(sound, features)
            moved = [frames, *rounded_otherwise(frames, features)]
            found[f"{name}_scores_rounding"] = _spread([NumpyModel(parts).scores(each) for each in moved])
            if window_s is not None:
                scores = [_stream(parts, features, window_s).score_frames(each, last=True) for each in moved]
                found[f"{name}_stream_rounding"] = _spread(scores)
    return found


def rounded_otherwise(frames: Floats, features: FeatureConfig) -> list[Floats]:
    """The frames (T, D) as other orders of summation may give them: each feature moved alike in all frames.

    Errors of rounding repeat from frame to frame in steady sound, so a state adds them up; deltas do not see them.
    """
    rng = np.random.default_rng(2)
    signs = np.zeros((DRAWS, frames.shape[1]))
    signs[:, : features.static_dimensions] = rng.choice((-1.0, 1.0), (DRAWS, features.static_dimensions))
    step = ROUNDING * np.abs(frames).max(initial=0.0)
    return [(frames + step * sign).astype(np.float32) for sign in signs]


def _spread(scores: list[Floats]) -> NDArray[np.float64]:
    """() how far the others are from the first, at most; infinite where one of them is no number."""
    first, *others = (each.astype(np.float64) for each in scores)
    with np.errstate(invalid="ignore"):
        largest = max(np.abs(other - first).max(initial=0.0) for other in others)
    return np.asarray(np.nan_to_num(largest, nan=np.inf))


def as_floats(samples: NDArray[np.generic]) -> Floats:
    """16-bit samples as float32 in [−1, 1]."""
    return samples.astype(np.float32) * np.float32(1 / 32768)


def clip_scores(
    parts: ModelParts, features: FeatureConfig, samples: Floats, precision: Precision = "float32"
) -> Floats:
    """The scores (C,) of a clip, by numpy."""
    return NumpyModel(parts, precision).scores(frames_of_clip(samples, features))


def stream_scores(
    parts: ModelParts, features: FeatureConfig, samples: Floats, window_s: float, precision: Precision = "float32"
) -> Floats:
    """The scores (T, C) of every step of a stream, by numpy."""
    stream = _stream(parts, features, window_s, precision)
    return np.concatenate([stream.push(samples)[1], stream.finish()[1]])


def _stream(
    parts: ModelParts, features: FeatureConfig, window_s: float, precision: Precision = "float32"
) -> ScoreStream:
    return ScoreStream(NumpyModel(parts, precision), features, steps_in(window_s, features, parts.frame_stacking))


def packed(vectors: dict[str, NDArray[np.generic]]) -> bytes:
    """The bytes of ``reference.npz``."""
    file = io.BytesIO()
    np.savez_compressed(file, **vectors)  # type: ignore[arg-type]
    return file.getvalue()


def unpacked(content: bytes) -> dict[str, NDArray[np.generic]]:
    """The arrays of ``reference.npz``; nothing of it is executed.

    Raises:
        DeployError: it holds something else.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except Exception as error:  # zipfile, zlib and numpy each have their own
        raise DeployError(f"reference.npz holds no arrays: {error}; export the model again") from error
