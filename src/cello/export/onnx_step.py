"""Write the ONNX graph of a stream's step: one hop of sound and the state so far → scores and the new state.

Every state is a tensor of its own. ``hops`` have been given and ``frames`` have been read by the layers; as a frame's
deltas wait for later frames, the layers read behind. With ``drain`` = 1 no sound comes and one waiting frame is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cello.compiler.onnx.scan import LayerDirection, step_shape, write_step
from cello.compiler.onnx.writer import Writer
from cello.export import onnx_tables
from cello.export.onnx_clip import write_head, write_standardised
from cello.export.onnx_front_end import delta_table, write_emphasis, write_static
from cello.features.config import FeatureConfig
from cello.models.parts import ModelParts

Kind = tuple[str, tuple[int, ...]]


@dataclass(frozen=True)
class StepGraph:
    """A step's graph, its inputs and its outputs beside the scores; ``drains``: whether it has the input ``drain``."""

    writer: Writer
    drains: bool
    inputs: dict[str, Kind] = field(default_factory=dict)
    outputs: dict[str, Kind] = field(default_factory=dict)


def first_hops(features: FeatureConfig) -> int:
    """The hops that the first frame takes."""
    return -(-features.window_samples // features.hop_samples)


def waiting_frames(features: FeatureConfig) -> int:
    """The frames that wait for later ones, because of deltas: the delay of the scores in hops."""
    return features.delta_frames // 2 if features.deltas else 0


def write_step_model(
    writer: Writer,
    parts: ModelParts,
    features: FeatureConfig,
    layers: Sequence[Sequence[LayerDirection]],
    window: int,
) -> StepGraph:
    """The graph of one step, with pooling over the last ``window`` steps."""
    made = StepGraph(writer, drains=bool(waiting_frames(features)) or parts.frame_stacking > 1)
    return _Step(made, parts, features).write(layers, window)


class _Step:
    def __init__(self, made: StepGraph, parts: ModelParts, features: FeatureConfig) -> None:
        self.made, self.writer, self.parts, self.features = made, made.writer, parts, features
        self.one = self.writer.integers(1)
        made.inputs["samples"] = "float", (1, features.hop_samples)
        self.advance = self.one
        if made.drains:
            made.inputs["drain"] = "int64", (1,)
            self.advance = self.writer.write("Sub", self.one, "drain")

    def write(self, layers: Sequence[Sequence[LayerDirection]], window: int) -> StepGraph:
        writer = self.writer
        hops = writer.write("Add", self._state("hops", (1, 1), "int64"), self.advance, to="next_hops")
        received = writer.write("Sub", hops, writer.integers(first_hops(self.features) - 1))
        static = write_static(writer, self._window(), self.features)
        read = self._state("frames", (1, 1), "int64")
        known = "known" if self.parts.frame_stacking > 1 else "ready"
        if self.features.deltas:
            frame = self._with_deltas(static, received, read, known)
        else:
            frame = static
            self._received(received, known)
        x, steps = self._stacked(write_standardised(writer, frame, self.parts), read)
        write_head(writer, self._pooled(self._layers(layers, x, read), steps, window), self.parts)
        return self.made

    def _state(self, name: str, shape: tuple[int, ...], kind: str = "float") -> str:
        """The name of a state's old value; whoever asks writes next_NAME."""
        self.made.inputs[f"state_{name}"] = self.made.outputs[f"next_{name}"] = kind, shape
        return f"state_{name}"

    def _shifted(self, name: str, shape: tuple[int, ...], new: str, start: str, axis: int = 0) -> str:
        """A state that keeps the last of its values: ``new`` is appended, and ``start`` of the oldest leave."""
        old = self._state(name, shape)
        both = self.writer.concat(old, new, axis=axis)
        end = self.writer.write("Add", start, self.writer.integers(shape[axis]))
        return self.writer.write("Slice", both, start, end, self.writer.integers(axis), to=f"next_{name}")

    def _window(self) -> str:
        """The samples (1, window) of the newest frame, after pre-emphasis."""
        features, writer = self.features, self.writer
        window, hop, before = features.window_samples, features.hop_samples, int(features.pre_emphasis > 0)
        kept = (first_hops(features) - 1) * hop + before
        both = "samples"
        if kept:
            both = writer.concat(self._state("samples", (1, kept)), "samples")
            start = writer.write("Mul", self.advance, writer.integers(hop))
            end = writer.write("Add", start, writer.integers(kept))
            writer.write("Slice", both, start, end, self.one, to="next_samples")
        frame = self._part(both, before, window, kept + hop)
        if not before:
            return frame
        return write_emphasis(writer, frame, self._part(both, 0, window, kept + hop), features)

    def _part(self, samples: str, start: int, size: int, whole: int) -> str:
        if size == whole:
            return samples
        integers = self.writer.integers
        return self.writer.write("Slice", samples, integers(start), integers(start + size), integers(1))

    def _received(self, received: str, known: str) -> None:
        """Without deltas a frame is read as soon as it is there; says so in ``known``."""
        writer = self.writer
        if not self.made.drains:
            writer.write("Greater", received, writer.integers(0), to=known)
            return
        there = writer.write("Greater", received, writer.integers(0))
        writer.write("And", there, writer.cast(self.advance, "bool"), to=known)

    def _with_deltas(self, static: str, received: str, read: str, known: str) -> str:
        """The next frame (…, 1 + orders, S) with its deltas; says in ``known`` whether they are known."""
        writer, width, size = self.writer, self.features.delta_frames, self.features.static_dimensions
        recent = self._shifted("recent", (width, size), static, self.advance)
        received = writer.write("Max", received, writer.integers(0))
        count = writer.write("Min", received, writer.integers(width))
        behind = writer.write("Sub", read, received)
        table = onnx_tables.recent_weights(writer, delta_table(self.features), recent_weights(self.features))
        index = writer.write("Add", writer.write("Mul", count, writer.integers(width)), behind)
        weights = writer.write("Gather", table, index)
        # with sound, width frames are needed; without, the one that is read
        needed = writer.write("Max", writer.write("Mul", self.advance, writer.integers(width - 1)), read)
        writer.write("Greater", received, needed, to=known)
        return writer.reshape(writer.write("MatMul", weights, recent), 1, -1)

    def _stacked(self, x: str, read: str) -> tuple[str, str]:
        """The next input of the layers and how many they have had with it; says in ``ready`` whether it is whole."""
        writer, size = self.writer, self.parts.frame_stacking
        if size == 1:
            return x, writer.write("Add", read, writer.cast("ready", "int64"), to="next_frames")
        integers = writer.integers
        begun = writer.write("Greater", writer.write("Mod", read, integers(size)), integers(0))
        blank = writer.write("And", begun, writer.cast("drain", "bool"))
        taken = writer.write("Or", "known", blank)
        x = writer.write("Where", "known", x, writer.constant(0.0))
        count = writer.cast(taken, "int64")
        read = writer.write("Add", read, count, to="next_frames")
        rows = self._shifted("stacked", (size, self.parts.dimensions), x, writer.reshape(count, 1))
        whole = writer.write("Equal", writer.write("Mod", read, integers(size)), integers(0))
        writer.write("And", taken, whole, to="ready")
        return writer.reshape(rows, 1, -1), writer.write("Div", read, integers(size))

    def _begun(self, direction: LayerDirection, states: Sequence[str], read: str) -> list[str]:
        """The old states; before the first frame is read, the values at which they begin, where those are not zero."""
        writer, found = self.writer, list(states)
        for k, state in enumerate(direction.cell.states):
            if state in direction.first:
                begun = writer.write("Greater", read, writer.integers(0))
                found[k] = writer.write("Where", begun, states[k], writer.constant(direction.first[state][None]))
        return found

    def _layers(self, layers: Sequence[Sequence[LayerDirection]], x: str, read: str) -> str:
        """The last layer's output (1, H); where no step is ready every state stays as it was."""
        writer = self.writer
        shape = step_shape(layers[0][0])
        if len(shape) == 3:
            x = writer.reshape(x, 1, 1, -1)
        for depth, (direction,) in enumerate(layers):
            names = [f"layer_{depth}_{state}" for state in direction.cell.states]
            old = self._begun(direction, [self._state(name, shape) for name in names], read)
            new = write_step(writer, direction, x, old)
            kept = [
                writer.write("Where", "ready", after, before, to=f"next_{name}")
                for name, after, before in zip(names, new, old, strict=True)
            ]
            x = kept[0]
        return writer.reshape(x, 1, -1) if len(shape) == 3 else x

    def _pooled(self, y: str, steps: str, window: int) -> str:
        """Outputs (1, H) of the last ``window`` steps, or of all so far, → (1, H).

        They stand in a circle, step n at n mod ``window``. Where no step is ready the last one is written once more.
        """
        writer, parts = self.writer, self.parts
        if parts.pooling == "last":
            return y
        place = writer.write("Mod", steps, writer.integers(window))
        shape = (window, parts.hidden)
        recent = writer.write("ScatterND", self._state("outputs", shape), place, y, to="next_outputs")
        if parts.score is None:
            total = writer.write("ReduceSum", recent, writer.integers(0), keepdims=1)
            count = writer.write("Max", writer.write("Min", steps, writer.integers(window)), self.one)
            return writer.write("Div", total, writer.cast(count, "float"))
        first = np.where(np.arange(window) == 0, window, np.arange(window))[None]
        written = writer.write("GreaterOrEqual", steps, writer.constant(first, "int64"))
        weight, _ = parts.score  # the bias of the scores is the same for all, and a softmax does not see it
        scores = writer.write("Gemm", writer.constant(weight[None]), recent, transB=1)
        scores = writer.write("Where", written, scores, writer.constant(-1e30))
        return writer.write("MatMul", writer.write("Softmax", scores, axis=-1), recent)


def recent_weights(features: FeatureConfig) -> NDArray[np.float64]:
    """Weights (n, 1 + orders, width) that take the recent frames to the one that is read, its deltas after it.

    Entry count · width − behind is for a stream of ``count`` frames, at most ``width``, of which the last ``behind``
    are not read yet; a negative index counts from the end. As long as fewer than ``width`` frames are there, the
    stream ended early, and its deltas are narrower. Other entries are for calls whose result is not ready.
    """
    table, width = delta_table(features), features.delta_frames
    weights = np.zeros(((width + 1) * width + 1, 1 + features.deltas, width))
    for count in range(1, width + 1):
        half = (count - 1) // 2
        for t in range(count):
            first = min(max(t - half, 0), count - 1 - 2 * half)
            entry = weights[count * width + t - count]
            entry[0, width - count + t] = 1
            entry[1:] = np.roll(table[half], width - count + first, axis=1)
    return weights
