"""Define the record of a benchmark, and save it as JSON. Needs no torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import msgspec

from cello.bench.settings import BenchConfig, FeatureBenchConfig, Size
from cello.errors import ReportError
from cello.files import write_whole

FORMAT = 2
"""1 was benchmarks/results/2026-11-22-kernels.json."""
FEATURE_FORMAT = 2
"""1 was benchmarks/results/2026-11-22-features.json."""


@dataclass(frozen=True, kw_only=True)
class Side:
    """One way of running a layer: a back end, or torch's own layer.

    ``ratio`` is the median over rounds of this side's time over the reference's in the same round, so that a machine
    that slows down during the rounds does not change it. ``difference`` is the largest difference of its outputs from
    plain evaluation's, relative to the largest of those.
    """

    name: str
    milliseconds: float
    least_milliseconds: float
    ratio: float
    gflops: float
    gemm_share: float
    difference: float
    all_milliseconds: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One cell at one size: ``flops`` of one forward and backward pass, torch.mm's rate just before, the sides."""

    cell: str
    size: Size
    threads: int
    x_gradient: bool
    flops: int
    gemm_gflops: float
    sides: tuple[Side, ...]


@dataclass(frozen=True, kw_only=True)
class Compiling:
    """Seconds from a cell's equations to its first step, forward and backward: new, and with its kernel in the cache.

    ``new_seconds`` is None where the kernel did not go into the folder it was to go into.
    """

    cell: str
    backend: str
    new_seconds: float | None
    cached_seconds: float


@dataclass(frozen=True, kw_only=True)
class Record:
    """A benchmark: on what, with what, what came out; ``unavailable`` are back ends with the reason."""

    format: int
    machine: dict[str, str]
    settings: BenchConfig
    reference: str
    unavailable: dict[str, str]
    without_peer: tuple[str, ...]
    rows: tuple[Row, ...] = ()
    compiling: tuple[Compiling, ...] = ()


@dataclass(frozen=True, kw_only=True)
class FeatureSide:
    """One way of computing features.

    ``ratio`` is the median over rounds of this side's time over Cello's in the same round. ``difference`` is the
    largest of any feature from Cello's, of the MFCC without their deltas where ``static`` is set; 0 for Cello itself.
    """

    name: str
    clips_per_second: float
    ratio: float
    difference: float
    static: bool
    all_milliseconds: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class FeatureRow:
    """All sides at one window, Cello first; ``augmented``: with the sound changed as the ``fair`` protocol does."""

    window_ms: float
    augmented: bool
    sides: tuple[FeatureSide, ...]


@dataclass(frozen=True, kw_only=True)
class FeatureRecord:
    """A benchmark of features, in CPU time of one thread; ``unavailable`` are libraries with the reason."""

    format: int
    machine: dict[str, str]
    settings: FeatureBenchConfig
    unavailable: dict[str, str]
    rows: tuple[FeatureRow, ...] = ()


def summarise(
    times: Mapping[str, Sequence[float]], errors: Mapping[str, float], reference: str, rates: tuple[int, float]
) -> tuple[Side, ...]:
    """The sides of a row from milliseconds of every round; ``rates`` are the operations and torch.mm's GFLOP/s."""
    operations, gemm = rates
    sides = []
    for name, found in times.items():
        middle = median(found)
        gflops = operations / middle / 1e6
        sides.append(
            Side(
                name=name,
                milliseconds=middle,
                least_milliseconds=min(found),
                ratio=median(own / other for own, other in zip(found, times[reference], strict=True)),
                gflops=gflops,
                gemm_share=gflops / gemm,
                difference=errors[name],
                all_milliseconds=tuple(found),
            )
        )
    return tuple(sides)


def summarise_features(
    times: Mapping[str, Sequence[float]], differences: Mapping[str, float], static: Collection[str], clips: int
) -> tuple[FeatureSide, ...]:
    """The sides of a row from milliseconds of every round; the first is what the others are compared with."""
    own = next(iter(times.values()))
    return tuple(
        FeatureSide(
            name=name,
            clips_per_second=1000 * clips / median(found),
            ratio=median(its / ours for its, ours in zip(found, own, strict=True)),
            difference=differences[name],
            static=name in static,
            all_milliseconds=tuple(found),
        )
        for name, found in times.items()
    )


def can_save(path: Path) -> None:
    """Make the folder of a file that will be written after long measuring.

    Raises:
        ReportError: it cannot be written there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(f"{path} is a folder")
        write_whole(path.with_name(f"{path.name}.trial"), b"")
        path.with_name(f"{path.name}.trial").unlink()
    except OSError as error:
        raise ReportError(f"the benchmark cannot be saved as {path}: {error}. Give another file with --out.") from error


def as_json(record: object) -> bytes:
    """A record, or what looks like one, as JSON."""
    return msgspec.json.format(msgspec.json.encode(record), indent=1)


def save(record: object, path: Path) -> None:
    """Write a record, or what looks like one, as JSON."""
    write_whole(path, as_json(record) + b"\n")
