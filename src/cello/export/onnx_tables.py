"""Write the constant tables of the front end into an ONNX graph: as numbers, or computed when the model is loaded.

With weights of 8 bits the tables would be more than half of the file, so they are computed in double precision from a
few whole numbers; a runtime folds them into constants once, as it does with the weights. Otherwise they are stored, so
that a runtime that folds nothing is as fast.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from cello.compiler.onnx.writer import Writer
from cello.features import mel
from cello.features.config import FeatureConfig
from cello.features.transforms import dct, hann

Matrix = NDArray[np.float64]
Whole = NDArray[np.int64]


def hann_window(writer: Writer, size: int) -> str:
    """The window function (size,)."""
    if not writer.int8:
        return writer.constant(hann(size), "double")
    half = writer.constant(0.5, "double")
    count = [writer.constant(number, "int64") for number in (0, size, 1)]
    angles = writer.write("Mul", writer.cast(writer.write("Range", *count), "double"), _turn(writer, size))
    turned = writer.write("Cos", angles)
    return writer.write("Sub", half, writer.write("Mul", half, turned))


def cosine_transform(writer: Writer, config: FeatureConfig) -> str:
    """The DCT from bands to coefficients, (n_mels, n_mfcc)."""
    bands, count = config.n_mels, config.n_mfcc
    if not writer.int8:
        return writer.constant(dct(bands, count), "double")
    odd = 2 * np.arange(bands)[:, None] + 1
    scale = np.full(count, math.sqrt(2 / bands)) / np.where(np.arange(count) == 0, math.sqrt(2), 1)
    value = _cosines(writer, odd, np.arange(count), 0, 4 * bands)
    return writer.write("Mul", value, writer.constant(scale, "double"))


def first_stage(writer: Writer, n1: int) -> str:
    """The first stage of the spectrum, (4K, n₁), of K = n₁ // 2 + 1 rows k: re, im, im, re of e^(−2πi a·k / n₁)."""
    rows = np.arange(n1 // 2 + 1)[:, None, None]
    return _spectral(writer, rows, np.arange(n1), np.array([[0], [1], [1], [0]]), n1, (4 * len(rows), n1))


def twiddles(writer: Writer, n1: int, n2: int) -> str:
    """What its results are multiplied by, (4K, n₂): re, re, im, im of e^(−2πi b·k / (n₁·n₂))."""
    rows = np.arange(n1 // 2 + 1)[:, None, None]
    return _spectral(writer, rows, np.arange(n2), np.array([[0], [0], [1], [1]]), n1 * n2, (4 * len(rows), n2))


def second_stage(writer: Writer, n2: int) -> str:
    """The second stage, (4·n₂, 2·n₂), in blocks of e^(−2πi b·k / n₂): re, im; −im, re; −re, −im; −im, re."""
    quarters = np.array([[0, 1], [3, 0], [2, 3], [3, 0]])[:, None, :, None]
    b, k = np.arange(n2)[:, None, None], np.arange(n2)
    return _spectral(writer, b, k, quarters, n2, (4 * n2, 2 * n2))


def spectral_bins(n1: int, n2: int) -> Whole:
    """(K·n₂,) the bin of each k₁ + n₁·k₂ in the spectrum of real samples, which is symmetric."""
    found = (np.arange(n1 // 2 + 1)[:, None] + n1 * np.arange(n2)).reshape(-1)
    return np.asarray(np.minimum(found, n1 * n2 - found))


def mel_filters(writer: Writer, config: FeatureConfig, n1: int, n2: int) -> str:
    """The mel filters (K·2·n₂, n_mels) on the squares of re and im of each k₁; a bin found twice counts once."""
    bins = spectral_bins(n1, n2)
    once = np.zeros(len(bins))
    once[np.unique(bins, return_index=True)[1]] = 1
    if not writer.int8:
        weights = mel.filterbank(config.band_edges_hz, config.rate_hz, n1 * n2)[bins] * once[:, None]
        return writer.sparse(np.repeat(weights.reshape(-1, 1, n2, config.n_mels), 2, axis=1).reshape(-1, config.n_mels))
    return writer.cast(_twice(writer, _filters(writer, config, bins, once), n2, config.n_mels), writer.real)


def _filters(writer: Writer, config: FeatureConfig, bins: Whole, once: Matrix) -> str:
    """The triangles of ``mel.filterbank`` at these bins, (bins, n_mels), in double precision."""
    write, edges, spacing = writer.write, config.band_edges_hz, config.rate_hz / config.window_samples
    hz = write("Mul", _whole(writer, bins[:, None]), writer.constant(spacing, "double"))
    known = writer.constant(edges, "double")
    low, centre, high = (_part(writer, known, start, config.n_mels) for start in range(3))
    rise = write("Div", write("Sub", hz, low), write("Sub", centre, low))
    fall = write("Div", write("Sub", high, hz), write("Sub", high, centre))
    triangle = write("Max", write("Min", rise, fall), writer.constant(0.0, "double"))
    area = write("Div", writer.constant(2.0, "double"), write("Sub", high, low))
    return write("Mul", write("Mul", triangle, area), _whole(writer, once[:, None]))


def _part(writer: Writer, vector: str, start: int, size: int) -> str:
    return writer.write("Slice", vector, writer.integers(start), writer.integers(start + size))


def _twice(writer: Writer, weights: str, n2: int, bands: int) -> str:
    """(K·n₂, bands) with every n₂ rows twice, one after the other."""
    blocks = writer.reshape(weights, -1, 1, n2, bands)
    return writer.reshape(writer.concat(blocks, blocks, axis=1), -1, bands)


def recent_weights(writer: Writer, table: Matrix, weights: Matrix) -> str:
    """The weights (n, 1 + orders, width) of recent frames, in double precision.

    ``table`` (halves, orders, width) has the deltas of every width, each of which stands in ``weights`` turned around.
    """
    if not writer.int8:
        return writer.constant(weights, "double")
    orders, width = table.shape[1:]
    columns = np.concatenate([table.transpose(1, 0, 2).reshape(orders, -1), np.zeros((orders, 1))], axis=1)
    match = (weights[:, 1:, None, :] == columns[None, :, :, None]).all(axis=1)  # (n, columns, width)
    index = writer.cast(_small(writer, match.argmax(axis=1)), "int64")
    deltas = writer.write(
        "Transpose", writer.write("Gather", writer.constant(columns, "double"), index, axis=1), perm=[1, 0, 2]
    )
    own = np.where(weights[:, 0].any(axis=1), weights[:, 0].argmax(axis=1), width)[:, None, None]
    static = writer.write("Equal", _small(writer, own), _small(writer, np.arange(width)))
    return writer.concat(writer.cast(static, "double"), deltas, axis=1)


def _spectral(writer: Writer, rows: Whole, columns: Whole, quarters: Whole, period: int, shape: tuple[int, int]) -> str:
    """The cosine of 2π (row · column / period + quarter / 4) for all of them, broadcast, in this shape."""
    if not writer.int8:
        angles = rows * columns / period + quarters / 4
        return writer.constant(np.cos(2 * np.pi * angles).reshape(shape), "double")
    return writer.reshape(_cosines(writer, rows, columns, quarters, period), *shape)


def _cosines(
    writer: Writer, rows: NDArray[np.generic], columns: NDArray[np.generic], quarters: Whole | int, period: int
) -> str:
    """As ``_spectral``, in double precision."""
    value = writer.write("Mul", _whole(writer, rows), _whole(writer, columns))
    if np.any(quarters):
        value = writer.write("Add", value, writer.constant(np.asarray(quarters) * period / 4, "double"))
    return writer.write("Cos", writer.write("Mul", value, _turn(writer, period)))


def _turn(writer: Writer, period: int) -> str:
    return writer.constant(2 * np.pi / period, "double")


def _whole(writer: Writer, numbers: NDArray[np.generic]) -> str:
    """Whole numbers, stored small, as double."""
    return writer.cast(_small(writer, numbers), "double")


def _small(writer: Writer, numbers: NDArray[np.generic]) -> str:
    return writer.constant(numbers, "int8" if np.max(numbers) <= 127 else "int32")
