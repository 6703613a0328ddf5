"""Write the front end as ONNX nodes: windows of samples → frames, their deltas and normalisation.

The spectrum has exactly ``window`` points, whatever its factors: two small matrix products with the twiddle factors
between them, which is faster and more accurate than the runtime's own DFT where that is no power of two. With
n = n₂·a + b and k = k₁ + n₁·k₂, X[k] = Σ_b w^(b·k₁) · (Σ_a x[n] e^(−2πi a·k₁/n₁)) · e^(−2πi b·k₂/n₂), and k₁ up to n₁/2
is enough, as the spectrum of real samples is symmetric. It is in double precision, as is all that adds and subtracts.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cello.compiler.onnx.writer import Writer
from cello.export.onnx_tables import (
    cosine_transform,
    first_stage,
    hann_window,
    mel_filters,
    second_stage,
    twiddles,
)
from cello.features.config import FeatureConfig
from cello.features.transforms import SMALLEST_DEVIATION, delta_weights

Matrix = NDArray[np.float64]


def factors(window: int) -> tuple[int, int]:
    """Two factors of the window between which a transform in two stages takes the fewest multiplications.

    >>> factors(640), factors(401)
    ((40, 16), (401, 1))
    """
    pairs = [(window // small, small) for small in range(1, window + 1) if window % small == 0]
    return min(pairs, key=lambda pair: pair[0] + 2 * pair[1])


def write_static(writer: Writer, windows: str, config: FeatureConfig) -> str:
    """Windows of samples (R, window) → log-mel or MFCC frames (R, S), in double precision."""
    n1, n2 = factors(config.window_samples)
    value = writer.write("Mul", writer.cast(windows, "double"), hann_window(writer, config.window_samples))
    value = writer.write("MatMul", first_stage(writer, n1), writer.reshape(value, -1, n1, n2))
    value = writer.write("Mul", value, twiddles(writer, n1, n2))
    value = writer.write("MatMul", writer.reshape(value, -1, 4 * n2), second_stage(writer, n2))
    bins = (n1 // 2 + 1) * 2 * n2
    power = writer.reshape(writer.cast(writer.write("Mul", value, value), writer.real), -1, bins)
    energy = writer.cast(writer.write("MatMul", power, mel_filters(writer, config, n1, n2)), "double")
    value = writer.write("Log", writer.write("Max", energy, writer.constant(config.log_floor, "double")))
    if config.kind == "mfcc":
        value = writer.write("MatMul", value, cosine_transform(writer, config))
    return value


def write_emphasis(writer: Writer, samples: str, before: str, config: FeatureConfig) -> str:
    """Samples less their predecessors ``before``, times the filter's coefficient."""
    share = writer.write("Mul", writer.cast(before, "double"), writer.constant(config.pre_emphasis, "double"))
    return writer.cast(writer.write("Sub", writer.cast(samples, "double"), share), "float")


def delta_table(config: FeatureConfig) -> Matrix:
    """Weights (1 + width // 2, orders, width) of deltas by half their width; of narrow ones the first count."""
    width, orders = config.delta_frames, config.deltas
    table = np.zeros((1 + width // 2, orders, width))
    for half in range(1, len(table)):
        for order in range(1, orders + 1):
            table[half, order - 1, : 2 * half + 1] = delta_weights(2 * half + 1, order)
    return table


def write_clip_frames(writer: Writer, samples: str, counts: str, time: str, config: FeatureConfig) -> str:
    """Samples (B, N) of clips with (B,) frames, ``time`` (1,) of them in the longest → (B, T, D) frames with deltas."""
    if config.pre_emphasis:
        before = writer.write("Pad", samples, writer.integers(0, 1, 0, -1))
        samples = write_emphasis(writer, samples, before, config)
    steps = _steps(writer, time)
    starts = writer.reshape(writer.write("Mul", steps, writer.integers(config.hop_samples)), -1, 1)
    places = writer.write("Add", starts, _numbers(writer, config.window_samples))
    windows = writer.write("Gather", samples, places, axis=1)
    static = write_static(writer, writer.reshape(windows, -1, config.window_samples), config)
    batch = writer.write("Shape", samples, start=0, end=1)
    shape = writer.concat(batch, writer.integers(-1, config.static_dimensions), axis=0)
    static = writer.write("Reshape", static, shape)
    frames = write_clip_deltas(writer, static, counts, steps, config) if config.deltas else static
    return writer.cast(frames, "float")


def write_clip_deltas(writer: Writer, static: str, counts: str, steps: str, config: FeatureConfig) -> str:
    """Frames (B, T, S) with their deltas after them; a clip with fewer frames than the width has narrower ones."""
    size, width = config.static_dimensions, config.delta_frames
    one = writer.integers(1)
    count = writer.reshape(counts, -1, 1)
    half = writer.write("Div", writer.write("Sub", count, one), writer.integers(2))
    half = writer.write("Min", half, writer.integers(width // 2))
    table = writer.constant(delta_table(config), "double")
    weights = writer.write("Gather", table, half, axis=0)  # (B, 1, orders, width)
    last = writer.write("Sub", writer.write("Sub", count, one), writer.write("Mul", half, writer.integers(2)))
    start = writer.write("Max", writer.write("Sub", steps, half), writer.integers(0))
    start = writer.reshape(writer.write("Min", start, last), 0, -1, 1)
    taps = writer.write("Add", start, writer.constant(np.arange(width), "int64"))
    taps = writer.write("Min", taps, writer.reshape(writer.write("Sub", counts, one), -1, 1, 1))
    near = writer.write("GatherND", static, writer.write("Unsqueeze", taps, writer.integers(-1)), batch_dims=1)
    deltas = writer.write("MatMul", weights, near)  # (B, T, orders, S)
    return writer.concat(static, writer.reshape(deltas, 0, 0, config.deltas * size))


def write_clip_normalisation(writer: Writer, frames: str, counts: str, inside: str) -> str:
    """Frames (B, T, D), each clip's by its own mean and deviation; ``inside`` (B, T, 1) tells which are the clip's."""
    n = writer.reshape(writer.cast(counts, "double"), -1, 1, 1)
    axis, zero = writer.integers(1), writer.constant(0.0, "double")
    frames = writer.write("Where", inside, writer.cast(frames, "double"), zero)
    mean = writer.write("Div", writer.write("ReduceSum", frames, axis, keepdims=1), n)
    centred = writer.write("Where", inside, writer.write("Sub", frames, mean), zero)
    squares = writer.write("ReduceSum", writer.write("Mul", centred, centred), axis, keepdims=1)
    deviation = writer.write("Sqrt", writer.write("Div", squares, n))
    smallest = writer.constant(SMALLEST_DEVIATION, "double")
    return writer.cast(writer.write("Div", centred, writer.write("Max", deviation, smallest)), "float")


def _steps(writer: Writer, time: str) -> str:
    """0, 1, … (T,)."""
    return _numbers(writer, writer.write("Squeeze", time))


def _numbers(writer: Writer, count: str | int) -> str:
    """0, 1, … (count,)."""
    number = count if isinstance(count, str) else writer.constant(count, "int64")
    return writer.write("Range", writer.constant(0, "int64"), number, writer.constant(1, "int64"))
