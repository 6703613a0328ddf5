"""Write trained models as ONNX: samples in, scores out; whole clips at once, or a stream hop by hop."""

from __future__ import annotations

import json
from collections.abc import Sequence

from cello.cells.arrays import REALS, Precision
from cello.compiler.onnx.scan import LayerDirection
from cello.compiler.onnx.writer import Writer, need_onnx
from cello.errors import ExportError
from cello.export.onnx_clip import write_clip_model
from cello.export.onnx_phases import first_hops
from cello.export.onnx_step import waiting_frames, write_step_model
from cello.export.received import without_losses
from cello.features import frames
from cello.features.config import FeatureConfig
from cello.models.parts import ModelParts

FORMAT_VERSION = "2"


def clip_model(
    parts: ModelParts,
    features: FeatureConfig,
    labels: Sequence[str],
    *,
    int8: bool = False,
    precision: Precision = "float32",
) -> bytes:
    """A model of whole clips: ``samples`` (B, N) float32 and ``lengths`` (B,) int64 → ``scores`` (B, C) before softmax.

    With ``int8`` the matrices of weights are stored as int8 with a scale for each row. In float64 all that is computed
    is double, and no operator of ONNX stands for a whole layer.

    Raises:
        ExportError: onnx is not installed.
        BackendError: the cell has an operation that ONNX has no row for.
    """
    need_onnx()
    parts = without_losses(parts)
    writer = Writer(int8=int8, real=REALS[precision])
    write_clip_model(writer, parts, features, _layers(parts, precision))
    doc = (
        f"samples: (batch, samples) float32 sound at {features.rate_hz} Hz in [-1, 1], what lies after a clip's length "
        f"never counts. lengths: (batch,) int64, the samples of each clip, at least {features.window_samples} (one "
        f"window) and at most those given. scores: (batch, {len(labels)}) float32 before softmax, in the order of the "
        f"labels in the metadata."
    )
    inputs = {"samples": ("float", ("batch", "samples")), "lengths": ("int64", ("batch",))}
    outputs = {"scores": ("float", ("batch", len(labels)))}
    return writer.model(inputs, outputs, "cello-clip", doc, _metadata("clip", features, labels))


def step_model(
    parts: ModelParts,
    features: FeatureConfig,
    labels: Sequence[str],
    window_s: float,
    *,
    int8: bool = False,
    precision: Precision = "float32",
) -> bytes:
    """A model of a stream, a hop a call: ``samples`` (1, hop) and its own state → ``scores`` (1, C) and the new state.

    Scores are pooled over the steps of the last ``window_s`` of sound, fewer at the beginning. The protocol is in the
    model's ``doc_string``; :class:`cello.deploy.onnx_models.StreamModel` follows it.

    Raises:
        ExportError: onnx is not installed, or the model needs the future.
        BackendError: the cell has an operation that ONNX has no row for.
    """
    need_onnx()
    parts = without_losses(parts)
    _refuse_future(parts, features)
    steps = window_steps(features, parts.frame_stacking, window_s)
    writer = Writer(int8=int8, real=REALS[precision])
    made = write_step_model(writer, parts, features, _layers(parts, precision), steps)
    first, waiting, flushed = first_hops(features), waiting_frames(features), parts.frame_stacking - 1
    doc = (
        f"samples: (1, {features.hop_samples}) float32, the next hop of sound at {features.rate_hz} Hz in [-1, 1], no "
        f"fewer and no more. Every state_NAME is zero at first, later the next_NAME of the call before. scores: "
        f"(1, {len(labels)}) before softmax, of the sound so far; they count where ready is true."
    )
    if made.drains:
        doc += (
            f" drain: (1,) int64, 0 with a hop of sound; with 1 samples do not count, and one waiting frame is read. "
            f"A call reads one frame, but deltas look ahead, so that several may become known at once. "
            f"After hop number {first + 2 * waiting} call with drain = 1 "
            f"{waiting} times, and at the end of the sound {2 * waiting + flushed} times; more change nothing."
        )
    facts = {"first_hops": first, "waiting_frames": waiting, "window_steps": steps, "frame_stacking": flushed + 1}
    metadata = _metadata("stream", features, labels) | {name: str(value) for name, value in facts.items()}
    outputs = {"scores": ("float", (1, len(labels))), "ready": ("bool", (1, 1))} | made.outputs
    return made.writer.model(made.inputs, outputs, "cello-stream", doc, metadata)


def window_steps(features: FeatureConfig, frame_stacking: int, window_s: float) -> int:
    """The steps a clip of so many seconds has, at least one.

    >>> window_steps(FeatureConfig(), 1, 1.0)
    49
    """
    samples = round(window_s * features.rate_hz)
    count = frames.frame_count(samples, features.window_samples, features.hop_samples)
    return max(1, -(-count // frame_stacking))


def _refuse_future(parts: ModelParts, features: FeatureConfig) -> None:
    if features.normalisation == "clip":
        raise ExportError(
            "features.normalisation='clip' needs the whole clip, so the model cannot stream; "
            "train with features.normalisation=corpus"
        )
    if not parts.causal:
        raise ExportError(
            "the model is bidirectional and reads from the end of the clip, so it cannot stream; "
            "train with model.bidirectional=false"
        )


def _layers(parts: ModelParts, precision: Precision) -> list[list[LayerDirection]]:
    native = precision == "float32"
    return [
        [
            LayerDirection(d.cell, d.weights, d.reverse, parts.hidden, parts.inputs(depth), d.first, native)
            for d in layer
        ]
        for depth, layer in enumerate(parts.layers)
    ]


def _metadata(kind: str, features: FeatureConfig, labels: Sequence[str]) -> dict[str, str]:
    return {
        "format": "cello-onnx",
        "format_version": FORMAT_VERSION,
        "kind": kind,
        "labels": json.dumps(list(labels)),
        "rate_hz": str(features.rate_hz),
        "window_samples": str(features.window_samples),
        "hop_samples": str(features.hop_samples),
    }
