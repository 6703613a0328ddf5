"""Use an exported folder with numpy and onnxruntime alone: predict clips, decide on streams.

Nothing of the folder is executed: the manifest is data, the models are graphs that onnxruntime reads. Every file that
is in the folder is held against its checksum before it is used. The checksums find damage, not forgery: whoever can
write the folder can write them too.
"""

from __future__ import annotations

import errno
import hashlib
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cello.deploy.decisions import Decider, Decision, DecisionConfig, softmax
from cello.deploy.manifest import FORMAT, LARGEST_MANIFEST, MANIFEST, Manifest
from cello.deploy.onnx_models import ClipModel, Steps, StreamModel
from cello.deploy.sound import Resampler, clip_of, mono
from cello.errors import ClipError, DeployError
from cello.files import DamagedFileError, decode_json, naming_damage, read_stored

REMEDY = "export the model again, or copy the folder anew"
CLIP_MODEL, STEP_MODEL = "model.onnx", "step.onnx"
Model = TypeVar("Model", ClipModel, StreamModel)


def load(folder: Path | str, threads: int = 1) -> Package:
    """Open a folder that ``cello export`` wrote, after comparing each of its files with its checksum.

    Raises:
        DeployError: it is no such folder, a file of it was changed, or another version of Cello wrote it.
    """
    return Package(Path(folder), threads)


class Package:
    """An exported model; :func:`load` makes it.

    Attributes:
        folder: where it lies
        manifest: what it says of itself
        labels: the C labels in the order of scores
        rate_hz: the sampling rate that it takes; other sound is resampled
    """

    def __init__(self, folder: Path, threads: int = 1) -> None:
        self.folder, self.threads = folder, threads
        self.manifest = read_manifest(folder)
        self.labels, self.rate_hz = self.manifest.labels, self.manifest.front_end.rate_hz
        self._content = checked_files(folder, self.manifest, keep=(CLIP_MODEL, STEP_MODEL))

    def __repr__(self) -> str:
        cell = self.manifest.model.get("cell", "?")
        return f"<Package {cell}, {len(self.labels)} labels, {self.rate_hz} Hz, run {self.manifest.run}>"

    def scores(self, samples: ArrayLike, rate_hz: int | None = None) -> NDArray[np.float32]:
        """The scores (C,) before softmax of a clip of (N,) or (N, channels) samples: floats in [−1, 1] or int16.

        ``rate_hz`` is the clip's rate, the model's unless given.

        Raises:
            ClipError: samples that are no sound, or fewer than one window of the features.
            DeployError: the folder has no model of clips.
        """
        sound = clip_of(samples, self.rate_hz if rate_hz is None else rate_hz, self.rate_hz)
        window = self.manifest.front_end.window_samples
        if len(sound) < window:
            raise ClipError(
                f"too short: it has {len(sound)} samples at {self.rate_hz} Hz, less than one window of {window}; give "
                "a longer clip"
            )
        return self._clips.scores(sound)

    def predict(self, samples: ArrayLike, rate_hz: int | None = None) -> list[tuple[str, float]]:
        """All labels of a clip with their probabilities, the most probable first; arguments and errors of ``scores``.

        >>> package.predict(samples, 16_000)[0]  # doctest: +SKIP
        ('yes', 0.98)
        """
        probabilities = softmax(self.scores(samples, rate_hz))
        order = np.argsort(-probabilities, kind="stable")
        return [(self.labels[k], float(probabilities[k])) for k in order]

    def stream(self, **settings: Any) -> PackageStream:
        """A stream of endless sound; the settings of a ``DecisionConfig`` that are not given are the manifest's.

        Streams of one package are independent of each other, and share the model's weights.

        Raises:
            DeployError: the model cannot stream; the error says what to train instead.
            ConfigError: an invalid setting.
        """
        facts = self.manifest.stream
        if facts is None or STEP_MODEL not in self._content:
            why = self.manifest.left_out.get("stream", f"there is no {STEP_MODEL}; export again with --to onnx")
            raise DeployError(f"{str(self.folder)!r} cannot stream: {why}")
        where = "given" if "threshold" in settings else MANIFEST
        return PackageStream(self._steps.another(), self.labels, facts.config(**settings), where)

    @cached_property
    def _clips(self) -> ClipModel:
        if CLIP_MODEL not in self._content:
            raise DeployError(f"{str(self.folder)!r} has no {CLIP_MODEL}; export the model with --to onnx")
        model = ClipModel(self.folder / CLIP_MODEL, self.threads, content=self._content[CLIP_MODEL])
        return self._fitting(model, CLIP_MODEL)

    @cached_property
    def _steps(self) -> StreamModel:
        model = StreamModel(self.folder / STEP_MODEL, self.threads, content=self._content[STEP_MODEL])
        return self._fitting(model, STEP_MODEL)

    def _fitting(self, model: Model, name: str) -> Model:
        if (model.labels, model.rate_hz) != (self.labels, self.rate_hz):
            raise DeployError(f"{name} and {MANIFEST} of {str(self.folder)!r} are of different models; {REMEDY}")
        return model


class PackageStream:
    """Endless sound → decisions; made by ``Package.stream``.

    Attributes:
        config: when it decides
        delay_s: how much later than its own sound a step is known, because of deltas
        last_scores: (C,) scores of the newest step, None before the first
        threshold_from: the file that the threshold is of, or "given"
    """

    def __init__(
        self, model: StreamModel, labels: tuple[str, ...], config: DecisionConfig, threshold_from: str = MANIFEST
    ) -> None:
        self.labels, self.config, self.delay_s = labels, config, model.delay_s
        self.threshold_from = threshold_from
        self.last_scores: NDArray[np.float32] | None = None
        self._model = model
        step_samples = model.hop_samples * model.frame_stacking
        self._decider = Decider(labels, config, rate_hz=model.rate_hz, step_samples=step_samples)
        self._resampler = Resampler(model.rate_hz)

    def push(self, samples: ArrayLike, rate_hz: int | None = None) -> list[Decision]:
        """Take any number of samples, (n,) or (n, channels); the decisions that they bring.

        ``rate_hz`` is the samples' rate, the model's unless given, the same for the whole stream.

        Raises:
            ClipError: samples that are none, or another rate than before.
            DeployError: the stream is finished.
        """
        return self._decided(self._model.push_checked(self._resampler.push(mono(samples), rate_hz)))

    @property
    def highest(self) -> Decision | None:
        """The step that came nearest to a decision, or was one; None before the first of a label that may be."""
        return self._decider.highest

    def finish(self) -> list[Decision]:
        """End the stream: the decisions of what waited for more sound."""
        rest = self._decided(self._model.push(self._resampler.finish()))
        return rest + self._decided(self._model.finish())

    def _decided(self, steps: Steps) -> list[Decision]:
        if not len(steps.scores):
            return []
        self.last_scores = steps.scores[-1]
        return self._decider.push(steps.times_s.tolist(), steps.scores)


def read_manifest(folder: Path) -> Manifest:
    """What a folder says of itself.

    Raises:
        DeployError: it is no exported folder, or its manifest is damaged or of another version.
    """
    path = folder / MANIFEST
    with naming_damage(path, DeployError, REMEDY):
        try:
            return decode_json(read_stored(path, LARGEST_MANIFEST, follow=False), Manifest, newest=FORMAT)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise DeployError(
                f"{str(folder)!r} holds no {MANIFEST}, so it is no exported model; write one with cello export"
            ) from error
        except OSError as error:
            raise DeployError(f"{str(path)!r} cannot be read: {_reason(error)}; {REMEDY}") from error


def checked_files(folder: Path, manifest: Manifest, keep: tuple[str, ...] = ()) -> dict[str, bytes]:
    """Compare every file that is there with its checksum, and return those to keep.

    A file that is not there is not missed until it is needed: a folder may be copied in part.

    Raises:
        DeployError: a file was changed, or cannot be read.
    """
    kept = {}
    for name, facts in manifest.files.items():
        path = folder / name
        with naming_damage(path, DeployError, REMEDY):
            try:
                content = read_stored(path, facts.bytes, follow=False)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise DeployError(f"{str(path)!r} cannot be read: {_reason(error)}; {REMEDY}") from error
            if len(content) != facts.bytes or hashlib.sha256(content).hexdigest() != facts.sha256:
                raise DamagedFileError(f"its SHA-256 is not the one in {MANIFEST}")
        if name in keep:
            kept[name] = content
    return kept


def _reason(error: OSError) -> str:
    return "it is a link, which is not followed" if error.errno == errno.ELOOP else str(error.strerror)
