"""Run exported ONNX models with numpy and onnxruntime alone: whole clips, or a stream of sound."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from cello.errors import DeployError
from cello.files import naming_damage, read_stored

try:
    import onnxruntime
except ImportError:
    onnxruntime = None

NEWEST_FORMAT = 2
LARGEST_MODEL = 1 << 32
"""Bytes of the largest model that is read."""
TIMES = 256
"""Steps whose times are computed together."""

Samples = NDArray[np.float32]
NOTHING: Samples = np.zeros(0, np.float32)
FLOAT32 = NOTHING.dtype
Scores = NDArray[np.float32]


class Steps(NamedTuple):
    """Steps of a stream: (n,) the time in s at which the last frame of each ends, and its (n, C) scores."""

    times_s: NDArray[np.float64]
    scores: Scores


class _Model:
    """A session of ONNX Runtime and the facts stored with the model."""

    kind = ""
    arena = True
    """Whether ONNX Runtime keeps memory from call to call: slower where each call takes little, and the same."""

    def __init__(self, path: Path | str, threads: int = 1, *, content: bytes | None = None) -> None:
        if onnxruntime is None:
            raise DeployError(
                "ONNX models need onnxruntime, which is not installed; give: pip install 'cello-rnn[deploy]'"
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = threads
        options.enable_cpu_mem_arena = self.arena
        options.log_severity_level = 3  # what it warns of is how it folds constants
        # Between calls nothing is to do for milliseconds: a thread that spins would burn a core for nothing.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            given = _read(path) if content is None else content
            self.session = onnxruntime.InferenceSession(given, options, providers=["CPUExecutionProvider"])
        except DeployError:
            raise
        except Exception as error:  # onnxruntime's exceptions share no other class
            raise DeployError(f"{str(path)!r} is no ONNX model that can run: {_first_line(error)}") from error
        self.facts: dict[str, str] = dict(self.session.get_modelmeta().custom_metadata_map)
        self.path = str(path)
        self._check()
        self.labels = self._labels()
        self.rate_hz, self.window_samples, self.hop_samples = map(
            self._count, ("rate_hz", "window_samples", "hop_samples")
        )

    def _check(self) -> None:
        if self.facts.get("format") != "cello-onnx":
            raise DeployError(f"{self.path!r} is an ONNX model that Cello did not write; export one with cello export")
        if (version := self._count("format_version")) > NEWEST_FORMAT:
            raise DeployError(
                f"{self.path!r} has format version {version}, and this Cello reads up to {NEWEST_FORMAT}; "
                f"update cello-rnn"
            )
        if (kind := self.facts.get("kind")) != self.kind:
            other = {"clip": "ClipModel", "stream": "StreamModel"}.get(str(kind), "another class")
            raise DeployError(f"{self.path!r} is a model of kind {kind!r}, not {self.kind!r}; open it with {other}")

    def _count(self, name: str) -> int:
        """A whole number of the facts."""
        text = self.facts.get(name, "")
        if not (text.isascii() and text.isdecimal() and len(text) < 10):
            raise DeployError(f"{self.path!r} is damaged: its {name} is {text!r}, no number; export the model again")
        return int(text)

    def _labels(self) -> tuple[str, ...]:
        try:
            return tuple(msgspec.json.decode(self.facts.get("labels", ""), type=list[str]))
        except msgspec.DecodeError as error:
            raise DeployError(f"{self.path!r} is damaged: its labels are no list; export the model again") from error

    def _taken(self, samples: Any, rate_hz: int | None, name: str = "samples") -> Samples:
        """Samples as the model takes them: one channel, float32 in [−1, 1], at its rate."""
        if rate_hz is not None and rate_hz != self.rate_hz:
            raise DeployError(
                f"the sound has rate_hz={rate_hz}, but the model takes {self.rate_hz}; resample it to {self.rate_hz} Hz"
            )
        array = samples if type(samples) is np.ndarray else np.asarray(samples)
        if array.ndim != 1:
            raise DeployError(f"{name} has the shape {array.shape}, and must be one channel (N,); give one channel")
        if array.dtype is not FLOAT32 and array.dtype.kind != "f":
            raise DeployError(f"{name} is {array.dtype}, and must be float in [-1, 1]; divide 16-bit samples by 32768")
        if array.dtype is not FLOAT32:
            array = array.astype(np.float32)
        if not _surely_finite(array) and not np.isfinite(array).all():
            raise DeployError(f"{name} holds NaN or infinite values; leave them out")
        return array


class ClipModel(_Model):
    """Scores whole clips.

    Attributes:
        labels: the C labels in the order of the scores
        rate_hz: the sampling rate of the sound that it takes
        window_samples: the samples a clip has at least
    """

    kind = "clip"

    def scores(self, samples: Any, rate_hz: int | None = None) -> Scores:
        """The scores before softmax of a clip (N,) → (C,), or of a list of B clips of any lengths → (B, C).

        Raises:
            DeployError: sound of another rate, shape or type, or a clip shorter than one window.
        """
        if isinstance(samples, np.ndarray) and samples.ndim == 1:
            alone: Scores = self._batch([self._taken(samples, rate_hz)])[0]
            return alone
        if isinstance(samples, np.ndarray) and samples.ndim != 2:
            self._taken(samples, rate_hz)
        clips = [self._taken(clip, rate_hz, f"clip {number}") for number, clip in enumerate(samples)]
        return self._batch(clips) if clips else np.zeros((0, len(self.labels)), np.float32)

    def _batch(self, clips: Sequence[Samples]) -> Scores:
        lengths = np.array([len(clip) for clip in clips], np.int64)
        if lengths.min() < self.window_samples:
            number = int(lengths.argmin())
            raise DeployError(
                f"clip {number} has {lengths[number]} samples, less than one window of {self.window_samples}; "
                f"give longer clips"
            )
        samples = np.zeros((len(clips), lengths.max()), np.float32)
        for row, clip in zip(samples, clips, strict=True):
            row[: len(clip)] = clip
        scores: Scores = np.asarray(self.session.run(["scores"], {"samples": samples, "lengths": lengths})[0])
        return scores


class StreamModel(_Model):
    """Scores sound as it comes: ``push`` it in pieces of any size, and ``finish`` at its end.

    What one stream remembers is of a fixed size, in two sets of tensors that the model reads and writes in turn.

    Attributes:
        labels: the C labels in the order of the scores
        rate_hz: the sampling rate of the sound that it takes
        delay_s: how long after the end of its last frame a step is known, because deltas wait for later frames
    """

    kind = "stream"
    arena = False

    def __init__(self, path: Path | str, threads: int = 1, *, content: bytes | None = None) -> None:
        super().__init__(path, threads, content=content)
        self.first_hops, self._waiting, self.frame_stacking = (
            self._count(name) for name in ("first_hops", "waiting_frames", "frame_stacking")
        )
        self.delay_s = self._waiting * self.hop_samples / self.rate_hz
        self._whole_deltas = self.first_hops + 2 * self._waiting if self._waiting else 0
        self._drains = any(each.name == "drain" for each in self.session.get_inputs())
        self._prepare()

    def another(self) -> StreamModel:
        """One more stream of the same model, at its beginning, which shares the weights with this one."""
        made = copy.copy(self)
        made._prepare()
        return made

    def _prepare(self) -> None:
        """The tensors of one stream."""
        self._samples = np.zeros((1, self.hop_samples), np.float32)
        self._drain = np.zeros(1, np.int64)
        self._scores = np.zeros((1, len(self.labels)), np.float32)
        self._ready = np.zeros((1, 1), np.bool_)
        self._sound, self._is_ready = self._samples[0], memoryview(self._ready[0])
        self._none = Steps(np.zeros(0), np.zeros((0, len(self.labels)), np.float32))
        first, second = self._states(), self._states()
        self._sets = (first, second)
        self._runs = (self._bound(first, second), self._bound(second, first))
        self.reset()

    def reset(self) -> None:
        """Begin another stream."""
        for states in self._sets:
            for state in states.values():
                state[...] = 0
        self._rest = NOTHING
        self._hops = self._steps = self._turn = 0
        self._times_s: NDArray[np.float64] | None = None  # of the TIMES steps that the next one is among
        self._finished = False

    def push(self, samples: Any, rate_hz: int | None = None) -> Steps:
        """The steps that are known with these samples (n,), any number of them.

        Raises:
            DeployError: sound of another rate, shape or type, or the stream is finished.
        """
        usual = type(samples) is np.ndarray and samples.dtype is FLOAT32 and samples.ndim == 1
        if usual and rate_hz is None and _surely_finite(samples):
            return self.push_checked(samples)
        self._go_on()
        return self.push_checked(self._taken(samples, rate_hz))

    def push_checked(self, sound: Samples) -> Steps:
        """As ``push``, of samples (n,) that are known to be finite float32 at the model's rate.

        Between two hops the model's weights fill the processor's caches, so that each line here takes three times as
        long as it seems to; where one whole hop comes, all that it does not need is left out.

        Raises:
            DeployError: the stream is finished.
        """
        if self._rest is NOTHING and len(sound) == self.hop_samples and self._whole_deltas <= self._hops:
            self._go_on()
            self._sound[:] = sound
            self._hops += 1
            self._turn ^= 1
            self._runs[self._turn]()
            if not self._is_ready[0]:
                return self._none
            at = self._steps % TIMES
            if self._times_s is None or at == 0:
                self._times_s = self._times_of(self._steps - at, TIMES)
            self._steps += 1
            return tuple.__new__(Steps, (self._times_s[at : at + 1], self._scores.copy()))
        return self._push(sound)

    def _push(self, sound: Samples) -> Steps:
        self._go_on()
        found: list[Scores] = []
        if len(self._rest):
            sound = np.concatenate([self._rest, sound])
        whole = len(sound) // self.hop_samples
        for start in range(0, whole * self.hop_samples, self.hop_samples):
            self._hop(sound[start : start + self.hop_samples], found)
        rest = len(sound) - whole * self.hop_samples
        self._rest = sound[-rest:].copy() if rest else NOTHING
        return self._found(found)

    def finish(self) -> Steps:
        """The last steps, of frames that waited for later ones; ``reset`` begins another stream."""
        self._go_on()
        self._finished = True
        found: list[Scores] = []
        if self._rest_fills_a_window():
            self._hop(np.pad(self._rest, (0, self.hop_samples - len(self._rest))), found)
        self._end(2 * self._waiting + self.frame_stacking - 1, found)  # of fewer frames than deltas take, all wait
        return self._found(found)

    def _rest_fills_a_window(self) -> bool:
        """Whether the samples after the last hop complete a frame; what follows them in their hop is not of it."""
        missing = self.window_samples - (self.first_hops - 1) * self.hop_samples
        return self._hops >= self.first_hops - 1 and len(self._rest) >= missing

    def _hop(self, samples: Samples, found: list[Scores]) -> None:
        self._sound[:] = samples
        self._hops += 1
        self._call(found)
        if self._hops == self._whole_deltas:
            self._end(self._waiting, found)  # the first whole window of deltas serves the frames before its middle too

    def _end(self, count: int, found: list[Scores]) -> None:
        if self._drains:
            self._drain[0] = 1
            for _ in range(count):
                self._call(found)
            self._drain[0] = 0

    def _call(self, found: list[Scores]) -> None:
        self._turn ^= 1
        self._runs[self._turn]()
        if self._is_ready[0]:
            found.append(self._scores.copy())

    def _found(self, found: Sequence[Scores]) -> Steps:
        if not found:
            return self._none
        first = self._steps
        self._steps += len(found)
        self._times_s = None
        return Steps(self._times_of(first, len(found)), np.concatenate(found))

    def _times_of(self, first: int, count: int) -> NDArray[np.float64]:
        """The times at which the last frames of steps end; that of the last step may have fewer frames."""
        frames = np.arange(first + 1, first + count + 1) * self.frame_stacking - 1
        if self._finished:
            frames = np.minimum(frames, self._hops - self.first_hops)
        return (frames * self.hop_samples + self.window_samples) / self.rate_hz

    def _go_on(self) -> None:
        if self._finished:
            raise DeployError("the stream is finished and takes no more sound; call reset() to begin another")

    def _states(self) -> dict[str, NDArray[Any]]:
        kinds = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(int64)": np.int64}
        inputs = [each for each in self.session.get_inputs() if each.name.startswith("state_")]
        return {each.name: np.zeros(each.shape, kinds[each.type]) for each in inputs}

    def _bound(self, old: Mapping[str, NDArray[Any]], new: Mapping[str, NDArray[Any]]) -> Callable[[], object]:
        """A call of the model with everything that it reads and writes bound once: it then allocates nothing."""
        binding = self.session.io_binding()
        given: dict[str, NDArray[Any]] = {"samples": self._samples, "drain": self._drain, **old}
        for each in self.session.get_inputs():
            array = given[each.name]
            binding.bind_input(each.name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        made: dict[str, NDArray[Any]] = {"scores": self._scores, "ready": self._ready}
        made |= {name.replace("state_", "next_", 1): array for name, array in new.items()}
        for name, array in made.items():
            binding.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        inner, inner_binding = getattr(self.session, "_sess", None), getattr(binding, "_iobinding", None)
        if inner is not None and inner_binding is not None:  # without the Python around it, which takes 0.8 us of 36
            return partial(inner.run_with_iobinding, inner_binding, None)
        return partial(self.session.run_with_iobinding, binding)


def _surely_finite(samples: Samples) -> bool:
    """Whether the sum of squares is finite, as it is where all samples are, unless they are huge."""
    return math.isfinite(samples.dot(samples))


def _read(path: Path | str) -> bytes:
    with naming_damage(path, DeployError, "export the model again"):
        try:
            return read_stored(path, LARGEST_MODEL)
        except OSError as error:
            raise DeployError(f"{str(path)!r} cannot be read: {error.strerror}; name an exported model") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
