"""Write the ONNX graph of a stream's step: one hop of sound and the state so far → scores and the new state.

Every state is a tensor of its own. ``frames`` have been read by the layers; as a frame's deltas wait for later frames,
the layers read behind, by so much as the ``phase`` says. With ``drain`` = 1 no sound comes and one waiting frame is
read. Each operator takes a third of a microsecond to begin, as long as most of them take.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from cello.compiler.onnx.scan import LayerDirection, write_step
from cello.compiler.onnx.writer import Writer
from cello.export import onnx_tables
from cello.export.onnx_clip import write_head, write_standardised
from cello.export.onnx_front_end import delta_table, write_emphasis, write_static
from cello.export.onnx_phases import first_hops, phase_tables
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
    return _Step(made, parts, features, layers[0][0].lead).write(layers, window)


class _Step:
    def __init__(self, made: StepGraph, parts: ModelParts, features: FeatureConfig, shape: tuple[int, ...]) -> None:
        self.made, self.writer, self.parts, self.features = made, made.writer, parts, features
        self.shape = shape  # of a frame and of an output, before their last axis
        self.phases = phase_tables(features)
        made.inputs["samples"] = "float", (1, features.hop_samples)
        self.drained = ""
        if made.drains:
            made.inputs["drain"] = "int64", (1,)
            self.drained = self.writer.cast("drain", "bool")

    def write(self, layers: Sequence[Sequence[LayerDirection]], window: int) -> StepGraph:
        writer = self.writer
        entry = self._entry()
        static = write_static(writer, self._window(), self.features)
        frame = self._with_deltas(static, entry) if self.features.deltas else writer.cast(static, "float")
        read = self._state("frames", (1, 1), "int64")
        x, steps = self._stacked(write_standardised(writer, frame, self.parts), read)
        y = self._layers(layers, x, read)
        (direction,) = layers[-1]
        if self.parts.pooling == "mean" and direction.cell.output in direction.first:
            # before the first step the output is where the state begins, and counts nothing
            y = writer.write("Where", writer.write("Greater", steps, writer.integers(0)), y, writer.constant(0.0))
        write_head(writer, self._pooled(y, steps, window), self.parts)
        return self.made

    def _state(self, name: str, shape: tuple[int, ...], kind: str = "") -> str:
        """The name of a state's old value, of type ``real`` unless given; whoever asks writes next_NAME."""
        kind = kind or self.writer.real
        self.made.inputs[f"state_{name}"] = self.made.outputs[f"next_{name}"] = kind, shape
        return f"state_{name}"

    def _entry(self) -> str:
        """The entry (1, 1) of this call in the tables of phases; says in ``known`` whether it reads a frame."""
        writer, one = self.writer, self.parts.frame_stacking == 1
        entry = self._state("phase", (1, 1), "int64")
        if self.made.drains:
            entry = writer.write("Add", entry, "drain")
        writer.write("Gather", writer.constant(self.phases.following, "int64"), entry, to="next_phase")
        writer.write("Gather", writer.constant(self.phases.known, "bool"), entry, to="ready" if one else "known")
        return entry

    def _keep(self, name: str, old: str, new: str) -> str:
        """Write a state's next value: the new one, and the old one where no sound came."""
        if not self.made.drains:
            return self.writer.write("Identity", new, to=f"next_{name}")
        return self.writer.write("Where", self.drained, old, new, to=f"next_{name}")

    def _part(self, values: str, start: int, end: int, axis: int = 1) -> str:
        integers = self.writer.integers
        return self.writer.write("Slice", values, integers(start), integers(end), integers(axis))

    def _window(self) -> str:
        """The samples (1, window) of the newest frame, after pre-emphasis."""
        features, writer = self.features, self.writer
        window, hop, before = features.window_samples, features.hop_samples, int(features.pre_emphasis > 0)
        kept = (first_hops(features) - 1) * hop + before
        both = "samples"
        if kept:
            old = self._state("samples", (1, kept), "float")
            both = writer.concat(old, "samples")
            self._keep("samples", old, "samples" if kept == hop else self._part(both, hop, hop + kept))
        frame = both if window == kept + hop else self._part(both, before, before + window)
        if not before:
            return frame
        return write_emphasis(writer, frame, self._part(both, 0, window), features)

    def _with_deltas(self, static: str, entry: str) -> str:
        """The next frame, in the shape that layers take, with its deltas."""
        writer, width, size = self.writer, self.features.delta_frames, self.features.static_dimensions
        old = self._state("recent", (width, size), "double")
        rows = writer.write("Sub", writer.integers(*range(1, 1 + width)), "drain")  # a Where takes four times as long
        recent = writer.write("Gather", writer.concat(old, static, axis=0), rows, axis=0, to="next_recent")
        table = onnx_tables.recent_weights(writer, delta_table(self.features), self.phases.weights)
        weights = writer.write("Gather", table, entry)
        frame = writer.cast(writer.write("MatMul", weights, recent), "float")
        return writer.reshape(frame, *self.shape, -1)

    def _stacked(self, x: str, read: str) -> tuple[str, str]:
        """The next input of the layers and how many they have had with it; says in ``ready`` whether it is whole."""
        writer, size = self.writer, self.parts.frame_stacking
        if size == 1:
            x = x if self.features.deltas or len(self.shape) == 1 else writer.reshape(x, *self.shape, -1)
            return x, writer.write("Add", read, writer.cast("ready", "int64"), to="next_frames")
        integers = writer.integers
        begun = writer.write("Greater", writer.write("Mod", read, integers(size)), integers(0))
        taken = writer.write("Or", "known", writer.write("And", begun, self.drained))
        x = writer.write("Where", "known", x, writer.constant(0.0))
        count = writer.cast(taken, "int64")
        read = writer.write("Add", read, count, to="next_frames")
        start = writer.reshape(count, 1)
        rows = self._state("stacked", (size, self.parts.dimensions))
        rows = writer.concat(rows, writer.reshape(x, 1, -1), axis=0)
        end = writer.write("Add", start, integers(size))
        rows = writer.write("Slice", rows, start, end, integers(0), to="next_stacked")
        whole = writer.write("Equal", writer.write("Mod", read, integers(size)), integers(0))
        writer.write("And", taken, whole, to="ready")
        return writer.reshape(rows, *self.shape, -1), writer.write("Div", read, integers(size))

    def _begun(self, direction: LayerDirection, states: Sequence[str], read: str) -> list[str]:
        """The old states; before the first frame is read, the values at which they begin, where those are not zero."""
        writer, found = self.writer, list(states)
        for k, state in enumerate(direction.cell.states):
            if state in direction.first:
                begun = writer.write("Greater", read, writer.integers(0))
                first = direction.first[state].reshape(1, *direction.state_shapes[state])
                found[k] = writer.write("Where", begun, states[k], writer.constant(first))
        return found

    def _layers(self, layers: Sequence[Sequence[LayerDirection]], x: str, read: str) -> str:
        """The last layer's output (…, H); where no step is ready every state stays as it was."""
        writer = self.writer
        for depth, (direction,) in enumerate(layers):
            shapes = {f"layer_{depth}_{state}": shape for state, shape in direction.state_shapes.items()}
            names = list(shapes)
            old = [self._state(name, (*self.shape, *shape)) for name, shape in shapes.items()]
            old = self._begun(direction, old, read)
            new = write_step(writer, direction, x, old)
            kept = [
                writer.write("Where", "ready", after, before, to=f"next_{name}")
                for name, after, before in zip(names, new, old, strict=True)
            ]
            x = kept[0]
        return x

    def _pooled(self, y: str, steps: str, window: int) -> str:
        """Outputs (…, H) of the last ``window`` steps, or of all so far, → (1, H).

        They stand in a circle, step n at n mod ``window``. Where no step is ready the last one is written once more.
        """
        writer, parts = self.writer, self.parts
        if parts.pooling == "last":
            return y if len(self.shape) == 1 else writer.reshape(y, 1, -1)
        ones = (1,) * (1 + len(self.shape))
        place = writer.write("Mod", steps, writer.constant(np.full(ones, window), "int64"))
        shape = (window, parts.output_size())
        recent = writer.write("ScatterND", self._state("outputs", shape), place, y, to="next_outputs")
        if parts.score is None:
            total = writer.write("ReduceSum", recent, writer.integers(0), keepdims=1)
            count = writer.write("Max", writer.write("Min", steps, writer.integers(window)), writer.integers(1))
            return writer.write("Div", total, writer.cast(count, writer.real))
        first = np.where(np.arange(window) == 0, window, np.arange(window))[None]
        written = writer.write("GreaterOrEqual", steps, writer.constant(first, "int64"))
        weight, _ = parts.score  # the bias of the scores is the same for all, and a softmax does not see it
        scores = writer.write("Gemm", writer.constant(weight[None]), recent, transB=1)
        scores = writer.write("Where", written, scores, writer.constant(-1e30))
        return writer.write("MatMul", writer.write("Softmax", scores, axis=-1), recent)
