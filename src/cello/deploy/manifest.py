"""Hold what an exported folder says of itself: the fields of ``manifest.json``."""

from __future__ import annotations

import math
import re
from typing import Any, Literal

import msgspec

from cello.deploy.decisions import DecisionConfig

FORMAT = 1
"""The newest format of a folder that this version writes and reads."""
KIND = "cello-package"
MANIFEST = "manifest.json"
LARGEST_MANIFEST = 8 << 20
LARGEST_FILE = 1 << 30
MOST_FILES = 100
"""Bounds of what is read: bytes of the manifest, bytes of any file, files in a folder."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""A file's name: no folder, no hidden file, nothing that a shell or a URL changes."""
_SHA256 = re.compile(r"[0-9a-f]{64}")


class FileFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A file of the folder: its bytes and their SHA-256 in hexadecimal."""

    bytes: int
    sha256: str


class FrontEnd(msgspec.Struct, frozen=True, kw_only=True):
    """How sound becomes frames, in samples at ``rate_hz``; ``dimensions`` are the elements of a frame.

    ``delay_frames`` are those that must follow a frame before it is known.
    """

    rate_hz: int
    window_samples: int
    hop_samples: int
    dimensions: int
    delay_frames: int = 0


class Interval(msgspec.Struct, frozen=True, kw_only=True):
    """A measured value with its 95 % interval, None where there is none, and what the interval is over."""

    value: float
    low: float | None = None
    high: float | None = None
    over: str = ""


class StreamMeasured(msgspec.Struct, frozen=True, kw_only=True):
    """What ``cello evaluate --stream`` measured on the test clips at ``threshold``."""

    corpus: str
    hours: float
    words: int
    threshold: float
    false_alarms_an_hour: Interval
    miss_rate: Interval | None = None
    latency_s: float | None = None


class StreamFacts(msgspec.Struct, frozen=True, kw_only=True):
    """How a stream decides; ``measured`` where its threshold was measured, None where nothing was."""

    window_s: float
    threshold: float
    smooth_s: float
    refractory_s: float
    background: tuple[str, ...]
    delay_s: float = 0.0
    measured: StreamMeasured | None = None

    def __post_init__(self) -> None:
        for field in ("window_s", "threshold", "smooth_s", "refractory_s", "delay_s"):
            value = getattr(self, field)
            if not (math.isfinite(value) and 0 <= value < 3600):
                raise ValueError(f"stream.{field} is {value}")
        if self.threshold > 1:
            raise ValueError(f"stream.threshold is {self.threshold}")

    def config(self, **settings: Any) -> DecisionConfig:
        """When a stream decides: as stated here, but for the ``settings`` that are given."""
        fields = ("threshold", "smooth_s", "refractory_s", "background")
        return DecisionConfig(**{field: getattr(self, field) for field in fields} | settings)


class Int8Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What 8-bit weights cost on the validation clips, as shares; None where no corpus was given to measure it."""

    accuracy: float | None = None
    accuracy_float32: float | None = None
    points_lost: float | None = None


class PrecisionFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What every form computes in, float32 or float64, and why; weights, samples and scores are float32 in both.

    ``float32_moves`` is how far float32 moved a score from double precision, at most, on ``clips`` validation clips and
    on the made sounds; None in folders of a Cello that did not measure it.
    """

    name: Literal["float32", "float64"] = "float32"
    float32_moves: float | None = None
    clips: int = 0
    why: str = ""

    @property
    def words(self) -> str:
        """How a sentence names it."""
        return "double precision" if self.name == "float64" else "float32"


class CorpusFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the model learned from: clips of each split, where they came from, and their licence where it is known."""

    name: str
    checksum: str
    origin: str = ""
    licence: str = ""
    clips: dict[str, int] = {}
    speakers: dict[str, int] = {}


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """An exported folder.

    Attributes:
        run: the id of the run, which also names its config
        labels: the C labels in the order of scores
        model: the config of the model, as in the run
        features: the config of the features, as in the run
        stream: how a stream decides; None where the model cannot stream
        exits: the forms that are in the folder, each with its files
        left_out: the forms that are not, each with the reason
        test_accuracy: of this run; None where the test clips were not evaluated
        study_accuracy: the mean over the seeds of the study; None where there is one seed
        word_accuracy: the share of each label's test clips that was right
        int8: what 8-bit weights cost; None where weights are float32
        precision: what every form computes in, and why
        files: every other file of the folder by its name
    """

    kind: str
    format: int
    cello: str
    run: str
    study: str = ""
    row: str = ""
    column: str = ""
    seed: int = 0
    labels: tuple[str, ...]
    model: dict[str, Any]
    features: dict[str, Any]
    front_end: FrontEnd
    stream: StreamFacts | None = None
    exits: dict[str, tuple[str, ...]] = {}
    left_out: dict[str, str] = {}
    test_accuracy: Interval | None = None
    study_accuracy: Interval | None = None
    word_accuracy: dict[str, float] = {}
    int8: Int8Facts | None = None
    precision: PrecisionFacts = PrecisionFacts()
    corpus: CorpusFacts
    files: dict[str, FileFacts] = {}

    def __post_init__(self) -> None:
        if self.kind != KIND:
            raise ValueError(f"its kind is {self.kind[:40]!r}, not {KIND!r}")
        if not self.labels or len(set(self.labels)) < len(self.labels):
            raise ValueError("its labels are none, or not all different")
        if len(self.files) > MOST_FILES:
            raise ValueError(f"it names {len(self.files)} files, more than {MOST_FILES}")
        for name, facts in self.files.items():
            if not NAME.fullmatch(name) or name == MANIFEST:
                raise ValueError(f"it names the file {name[:40]!r}, which may not be in a folder")
            if not (0 <= facts.bytes <= LARGEST_FILE and _SHA256.fullmatch(facts.sha256)):
                raise ValueError(f"what it says of {name!r} cannot be")
        front_end = self.front_end
        counts = (front_end.rate_hz, front_end.window_samples, front_end.hop_samples, front_end.dimensions)
        if not all(0 < count < 1 << 31 for count in counts) or not 0 <= front_end.delay_frames < 1 << 20:
            raise ValueError("its front end has a count that cannot be")
