"""Write the front end as ONNX nodes: windows of samples → frames, their deltas and normalisation.

The spectrum has exactly ``window`` points, whatever its factors: two small matrix products with the twiddle factors
between them, which is faster and more accurate than the runtime's own DFT where that is no power of two.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cello.compiler.onnx.writer import Writer
from cello.features import mel
from cello.features.config import FeatureConfig
from cello.features.transforms import SMALLEST_DEVIATION, dct, delta_weights, hann

Matrix = NDArray[np.float64]


def factors(window: int) -> tuple[int, int]:
    """Two factors of the window between which a transform in two stages takes the fewest multiplications.

    >>> factors(640), factors(401)
    ((40, 16), (401, 1))
    """
    pairs = [(window // small, small) for small in range(1, window + 1) if window % small == 0]
    return min(pairs, key=lambda pair: pair[0] + 2 * pair[1])


def stages(window: int) -> tuple[Matrix, Matrix, Matrix, NDArray[np.int64]]:
    """A real DFT of n₁·n₂ points in two stages, as matrices.

    With n = n₂·a + b and k = k₁ + n₁·k₂, X[k] = Σ_b w^(b·k₁) · (Σ_a x[n] e^(−2πi a·k₁/n₁)) · e^(−2πi b·k₂/n₂), and
    k₁ up to n₁/2 is enough, as the spectrum of real samples is symmetric.

    Returns:
        The first stage, (4K, n₁): four rows a k₁, re, im, im, re; the twiddles by which they are multiplied,
        (4K, n₂): c, c, s, s; the second stage, (4·n₂, 2·n₂), to re and im; and (K·n₂,) the bin of each k₁, k₂.
    """
    n1, n2 = factors(window)
    rows = np.arange(n1 // 2 + 1)
    first = np.exp(-2j * np.pi * np.outer(rows, np.arange(n1)) / n1)
    twiddle = np.exp(-2j * np.pi * np.outer(rows, np.arange(n2)) / window)
    second = np.exp(-2j * np.pi * np.outer(np.arange(n2), np.arange(n2)) / n2)
    four = np.stack([first.real, first.imag, first.imag, first.real], axis=1).reshape(-1, n1)
    turns = np.stack([twiddle.real, twiddle.real, twiddle.imag, twiddle.imag], axis=1).reshape(-1, n2)
    re, im = second.real, second.imag  # re·c − im·s goes where re goes, im·c + re·s where im goes
    both = np.block([[re, im], [-im, re], [-re, -im], [-im, re]])
    found = (rows[:, None] + n1 * np.arange(n2)).reshape(-1)
    return four, turns, both, np.minimum(found, window - found)


def mel_of_power(config: FeatureConfig) -> Matrix:
    """The mel filters (K·2·n₂, n_mels) on the squares of what ``stages`` gives; a bin found twice counts once."""
    window = config.window_samples
    _, _, both, bins = stages(window)
    weights = mel.filterbank(config.band_edges_hz, config.rate_hz, window)[bins]
    weights[np.setdiff1d(np.arange(len(bins)), np.unique(bins, return_index=True)[1])] = 0
    size = both.shape[1] // 2
    return np.repeat(weights.reshape(-1, 1, size, config.n_mels), 2, axis=1).reshape(-1, config.n_mels)


def write_static(writer: Writer, windows: str, config: FeatureConfig) -> str:
    """Windows of samples (R, window) → log-mel or MFCC frames (R, S)."""
    n1, n2 = factors(config.window_samples)
    first, twiddle, second, _ = stages(config.window_samples)
    value = writer.write("Mul", windows, writer.constant(hann(config.window_samples)))
    value = writer.write("MatMul", writer.constant(first), writer.reshape(value, -1, n1, n2))
    value = writer.write("Mul", value, writer.constant(twiddle))
    value = writer.write("MatMul", writer.reshape(value, -1, 4 * n2), writer.constant(second))
    weights = mel_of_power(config)
    power = writer.reshape(writer.write("Mul", value, value), -1, len(weights))
    energy = writer.write("MatMul", power, writer.sparse(weights))
    value = writer.write("Log", writer.write("Max", energy, writer.constant(config.log_floor)))
    if config.kind == "log-mel":
        return value
    return writer.write("MatMul", value, writer.constant(dct(config.n_mels, config.n_mfcc)))


def write_emphasis(writer: Writer, samples: str, before: str, config: FeatureConfig) -> str:
    """Samples less their predecessors ``before``, times the filter's coefficient."""
    return writer.write("Sub", samples, writer.write("Mul", before, writer.constant(config.pre_emphasis)))


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
    places = writer.write("Add", starts, writer.constant(np.arange(config.window_samples), "int64"))
    windows = writer.write("Gather", samples, places, axis=1)
    static = write_static(writer, writer.reshape(windows, -1, config.window_samples), config)
    batch = writer.write("Shape", samples, start=0, end=1)
    shape = writer.concat(batch, writer.integers(-1, config.static_dimensions), axis=0)
    static = writer.write("Reshape", static, shape)
    return write_clip_deltas(writer, static, counts, steps, config) if config.deltas else static


def write_clip_deltas(writer: Writer, static: str, counts: str, steps: str, config: FeatureConfig) -> str:
    """Frames (B, T, S) with their deltas after them; a clip with fewer frames than the width has narrower ones."""
    size, width = config.static_dimensions, config.delta_frames
    one = writer.integers(1)
    count = writer.reshape(counts, -1, 1)
    half = writer.write("Div", writer.write("Sub", count, one), writer.integers(2))
    half = writer.write("Min", half, writer.integers(width // 2))
    table = writer.constant(delta_table(config))
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
    n = writer.reshape(writer.cast(counts, "float"), -1, 1, 1)
    axis, zero = writer.integers(1), writer.constant(0.0)
    frames = writer.write("Where", inside, frames, zero)
    mean = writer.write("Div", writer.write("ReduceSum", frames, axis, keepdims=1), n)
    centred = writer.write("Where", inside, writer.write("Sub", frames, mean), zero)
    squares = writer.write("ReduceSum", writer.write("Mul", centred, centred), axis, keepdims=1)
    deviation = writer.write("Sqrt", writer.write("Div", squares, n))
    return writer.write("Div", centred, writer.write("Max", deviation, writer.constant(SMALLEST_DEVIATION)))


def _steps(writer: Writer, time: str) -> str:
    """0, 1, … (T,)."""
    number = writer.write("Squeeze", time)
    return writer.write("Range", writer.constant(0, "int64"), number, writer.constant(1, "int64"))
