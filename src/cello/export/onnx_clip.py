"""Write the ONNX graph of a model of whole clips."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cello.compiler.onnx.scan import Clips, LayerDirection, write_layer
from cello.compiler.onnx.writer import Writer
from cello.export.onnx_front_end import write_clip_frames, write_clip_normalisation
from cello.features.config import FeatureConfig
from cello.models.parts import ModelParts


def write_clip_model(
    writer: Writer, parts: ModelParts, features: FeatureConfig, layers: Sequence[Sequence[LayerDirection]]
) -> None:
    """The graph from ``samples`` (B, N) and ``lengths`` (B,) to ``scores`` (B, C)."""
    window, hop = writer.integers(features.window_samples), writer.integers(features.hop_samples)
    hops = writer.write("Div", writer.write("Sub", "lengths", window), hop)
    counts = writer.write("Add", hops, writer.integers(1))
    time = writer.write("ReduceMax", counts, keepdims=1)
    frames = write_clip_frames(writer, "samples", counts, time, features)
    inside = _inside(writer, counts, time)
    if features.normalisation == "clip":
        frames = write_clip_normalisation(writer, frames, counts, inside)
    frames = write_standardised(writer, frames, parts)
    frames = writer.write("Where", inside, frames, writer.constant(0.0))
    if parts.frame_stacking > 1:
        frames, counts, time = _stacked(writer, frames, counts, time, parts)
        inside = _inside(writer, counts, time)
    clips = Clips(counts, writer.write("Transpose", inside, perm=[1, 0, 2]))
    y, last = writer.write("Transpose", frames, perm=[1, 0, 2]), ""
    for layer in layers:
        y, last = write_layer(writer, layer, y, clips)
    write_head(writer, _pooled(writer, y, last, clips, parts), parts)


def write_standardised(writer: Writer, frames: str, parts: ModelParts) -> str:
    """Frames less the model's mean, over its deviation."""
    frames = writer.as_real(frames)
    return writer.write(
        "Div", writer.write("Sub", frames, writer.constant(parts.mean)), writer.constant(parts.deviation)
    )


def write_head(writer: Writer, pooled: str, parts: ModelParts) -> None:
    """The output ``scores`` (B, C) of pooled outputs (B, W)."""
    weight, bias = parts.head
    exact = None if writer.real == "float" else writer.fresh("exact")
    inputs = pooled, writer.weight(weight), writer.constant(bias)
    scores = writer.write("Gemm", *inputs, transB=1, to=exact or "scores")
    if exact:
        writer.cast(scores, "float", "scores")


def _inside(writer: Writer, counts: str, time: str) -> str:
    """(B, T, 1): which frames are within their clip."""
    zero, one = writer.constant(0, "int64"), writer.constant(1, "int64")
    steps = writer.write("Range", zero, writer.write("Squeeze", time), one)
    return writer.write("Less", writer.reshape(steps, 1, -1, 1), writer.reshape(counts, -1, 1, 1))


def _stacked(writer: Writer, frames: str, counts: str, time: str, parts: ModelParts) -> tuple[str, str, str]:
    """Frames stacked into (B, T', k·D), zeros at the end, with the new counts and the new T."""
    size = parts.frame_stacking
    steps, longest = (
        writer.write("Div", writer.write("Add", value, writer.integers(size - 1)), writer.integers(size))
        for value in (counts, time)
    )
    short = writer.write("Sub", writer.write("Mul", longest, writer.integers(size)), time)
    pads = writer.concat(writer.integers(0, 0, 0, 0), short, writer.integers(0), axis=0)
    return writer.reshape(writer.write("Pad", frames, pads), 0, -1, size * parts.dimensions), steps, longest


def _pooled(writer: Writer, y: str, last: str, clips: Clips, parts: ModelParts) -> str:
    """(T, B, W) outputs → (B, W)."""
    if parts.pooling == "last":
        return last
    axis = writer.integers(0)
    if parts.score is None:
        total = writer.write("ReduceSum", y, axis, keepdims=0)
        return writer.write("Div", total, writer.reshape(writer.cast(clips.counts, writer.real), -1, 1))
    weight, _ = parts.score  # the bias of the scores is the same for all frames, and a softmax does not see it
    score = writer.write("MatMul", y, writer.constant(weight[:, None]))
    score = writer.write("Where", clips.inside, score, writer.constant(-np.inf))
    return writer.write("ReduceSum", writer.write("Mul", writer.write("Softmax", score, axis=0), y), axis, keepdims=0)
