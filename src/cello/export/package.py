"""Write a trained model as one folder to take elsewhere: every form, what was measured, how to use it."""

from __future__ import annotations

import hashlib
import re
import secrets
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec
import numpy as np
from numpy.typing import NDArray

from cello import __version__
from cello.cells.stored import StoredCell
from cello.deploy.decisions import DecisionConfig
from cello.deploy.manifest import (
    FORMAT,
    KIND,
    MANIFEST,
    CorpusFacts,
    FileFacts,
    FrontEnd,
    Int8Facts,
    Manifest,
    PrecisionFacts,
    StreamFacts,
)
from cello.deploy.package import CLIP_MODEL, STEP_MODEL, read_manifest
from cello.errors import CelloError, DeployError, ExportError, FeatureError, ModelError
from cello.export import c99
from cello.export.card import card
from cello.export.measured import (
    as_shipped,
    run_accuracy,
    store_and_run,
    stream_evaluation,
    stream_measured,
    study_accuracy,
    word_accuracy,
)
from cello.export.onnx import clip_model, step_model
from cello.export.page import write_page
from cello.export.quantise import quantise
from cello.export.reference import packed, reference_vectors
from cello.export.stream import StreamSettings
from cello.files import read_stored, seal_json
from cello.models.config import cell_of, resolve
from cello.models.parts import Array
from cello.report.visible import last_part, visible, without_paths
from cello.trained.model import Model
from cello.trained.run import LARGEST_MODEL, TrainedRun

Form = Literal["onnx", "c99", "page"]
FORMS: tuple[Form, ...] = get_args(Form)
CARD, CELL, REFERENCE, WEIGHTS, PAGE = "README.md", "cell.json", "reference.npz", "model.safetensors", "index.html"
LICENCES = {
    "speech-commands": "Creative Commons BY 4.0 (Speech Commands, Pete Warden, Google)",
    "spoken": "made by eSpeak NG on the machine that trained, no recordings of people",
}


@dataclass(frozen=True, kw_only=True)
class StreamOptions:
    """What is stated of a stream; the rest is measured, or a default."""

    window_s: float | None = None
    threshold: float | None = None
    smooth_s: float | None = None
    refractory_s: float | None = None
    background: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Package:
    """What is written: a run in ``forms``, all that it allows where there are none; the page shows ``beside`` too.

    The C files, and all that a program sees of them, begin with ``name``; with the cell's where it is empty.
    """

    trained: TrainedRun
    name: str = ""
    forms: tuple[Form, ...] = ()
    int8: Int8Facts | None = None
    precision: PrecisionFacts = field(default_factory=PrecisionFacts)
    stream: StreamOptions = StreamOptions()
    beside: tuple[TrainedRun, ...] = ()

    @property
    def c_name(self) -> str:
        """The name that the C files and functions begin with.

        Raises:
            ModelError: it was given, and C cannot take it.
        """
        if self.name:
            c99.check_name(self.name)
            return self.name
        plain = re.sub(r"\W+", "_", self.trained.parts.layers[0][0].cell.name, flags=re.ASCII).strip("_")[:40]
        return plain if re.match("[A-Za-z]", plain) else f"model_{plain}".rstrip("_")


def write_package(package: Package, out: Path) -> Manifest:
    """Write the folder: under a temporary name first, so that no crash leaves half of one.

    Raises:
        ExportError: the folder holds something else, a form that was asked for cannot be, or the disk refuses.
        ModelError: the package has a name that C cannot take.
    """
    name = package.c_name
    check_free(out, package.trained.result.run)
    temporary = out.with_name(f".{out.name}.{secrets.token_hex(4)}.part")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
        manifest = _Writer(package, temporary, name).written()
        _replace(temporary, out)
    except OSError as error:
        raise ExportError(f"{str(out)!r} cannot be written: {error.strerror}; choose another --out") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return manifest


def check_free(out: Path, run: str) -> None:
    """Refuse a folder in which there is anything but an earlier export of the run.

    Raises:
        ExportError: there is.
    """
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise ExportError(f"{str(out)!r} is no folder; choose another --out")
    held = {path.name for path in out.iterdir()} if out.exists() else set()
    if not held:
        return
    try:
        manifest = read_manifest(out)
    except DeployError as error:
        raise ExportError(
            f"{str(out)!r} holds files that are no export of this run, and nothing is overwritten; choose another --out"
        ) from error
    if manifest.run != run:
        raise ExportError(f"{str(out)!r} holds an export of run {manifest.run}, not of {run}; choose another --out")
    if strange := sorted(held - {*manifest.files, MANIFEST}):
        raise ExportError(
            f"{str(out)!r} holds {strange[0]!r}, which is not of the export that is there; move it away, or choose "
            "another --out"
        )


def _replace(temporary: Path, out: Path) -> None:
    """Put the new folder in the place of the old one, which is kept until the new one is there."""
    if not out.exists():
        temporary.rename(out)
        return
    former = out.with_name(f".{out.name}.{secrets.token_hex(4)}.former")
    out.rename(former)
    try:
        temporary.rename(out)
    except OSError:
        former.rename(out)
        raise
    shutil.rmtree(former, ignore_errors=True)


class _Writer:
    def __init__(self, package: Package, folder: Path, name: str) -> None:
        self.package, self.folder, self.name = package, folder, name
        self.trained = as_shipped(package.trained, int8=package.int8 is not None)
        self.result = self.trained.result
        self.features = self.result.config.features
        self.precision = package.precision.name
        self.exits: dict[str, tuple[str, ...]] = {"numpy": (WEIGHTS, CELL)}
        self.left_out: dict[str, str] = {}
        self.config = DecisionConfig()
        self.stream = self._stream()

    def written(self) -> Manifest:
        """Write every file, the manifest last."""
        self._put(WEIGHTS, read_stored(self.trained.folder / WEIGHTS, LARGEST_MODEL))
        cell = cell_of(self.result.config.model) or self.trained.parts.layers[0][0].cell
        self._put(CELL, seal_json(msgspec.json.format(msgspec.json.encode(StoredCell.of(cell)), indent=1)))
        window_s = None if self.stream is None else self.stream.window_s
        self._put(REFERENCE, packed(reference_vectors(self.trained.parts, self.features, window_s, self.precision)))
        writers: dict[Form, Callable[[], Sequence[str]]] = {"onnx": self._onnx, "c99": self._c99, "page": self._page}
        for form in FORMS:
            if form in (self.package.forms or FORMS):
                self._form(form, writers[form])
        manifest = self._manifest()
        self._put(CARD, card(manifest, self.trained).encode(errors="backslashreplace"))
        manifest = msgspec.structs.replace(manifest, files=self._files())
        self._put(MANIFEST, seal_json(msgspec.json.format(msgspec.json.encode(manifest), indent=1)))
        return manifest

    def _put(self, name: str, content: bytes) -> None:
        (self.folder / name).write_bytes(content)

    def _form(self, form: Form, write: Callable[[], Sequence[str]]) -> None:
        """Write a form; one that cannot be is an error where it was asked for, else its reason is kept."""
        try:
            self.exits[form] = tuple(write())
        except CelloError as error:
            if form in self.package.forms:
                raise ExportError(f"the model cannot be written as {form}: {error}") from error
            self.left_out[form] = str(error)

    def _stream(self) -> StreamFacts | None:
        """How the model's stream decides; None, and the reason kept, where it has none."""
        stated, found = self.package.stream, stream_evaluation(self.trained)
        fields = ("threshold", "smooth_s", "refractory_s")
        settings: dict[str, Any] = {}
        for source in (found, stated):
            given = {field: getattr(source, field, None) for field in fields}
            settings |= {field: value for field, value in given.items() if value is not None}
        if stated.background:
            if strange := sorted(set(stated.background) - set(self.trained.labels)):
                raise ExportError(
                    f"--background {strange[0]!r} is no label of the model, which has {', '.join(self.trained.labels)}"
                )
            settings["background"] = stated.background
        elif found is not None:
            settings["background"] = found.background
        self.config = DecisionConfig(**settings)
        window_s = stated.window_s if stated.window_s is not None or found is None else found.window_s
        try:
            stream = Model(self.trained).stream(window_s, **settings)
        except (FeatureError, ModelError) as error:
            self.left_out["stream"] = str(error)
            return None
        self.config = config = stream.config
        return StreamFacts(
            window_s=stream.window_s,
            threshold=config.threshold,
            smooth_s=config.smooth_s,
            refractory_s=config.refractory_s,
            background=tuple(label for label in config.background if label in self.trained.labels),
            delay_s=stream.delay_s,
            measured=stream_measured(found, config, stream.window_s),
        )

    def _onnx(self) -> list[str]:
        parts, labels = self.trained.parts, self.trained.labels
        how: Any = {"int8": self.package.int8 is not None, "precision": self.precision}
        self._put(CLIP_MODEL, clip_model(parts, self.features, labels, **how))
        if self.stream is None:
            return [CLIP_MODEL]
        self._put(STEP_MODEL, step_model(parts, self.features, labels, self.stream.window_s, **how))
        return [CLIP_MODEL, STEP_MODEL]

    def _c99(self) -> list[str]:
        if self.stream is None:
            raise ExportError(self.left_out["stream"])
        name = self.name
        text = c99.write_c99(
            self.trained.parts,
            self.features,
            self.trained.labels,
            name,
            int8=self.package.int8 is not None,
            settings=StreamSettings(self.stream.window_s, self.config),
            precision=self.precision,
        )
        self._put(f"{name}.h", text.header.encode())
        self._put(f"{name}.c", text.source.encode())
        return [f"{name}.h", f"{name}.c"]

    def _page(self) -> list[str]:
        window_s = self.stream.window_s if self.stream is not None else self.trained.corpus.train_clip_s or 1.0
        settings = StreamSettings(window_s, self.config)
        others = [as_shipped(run, int8=self.package.int8 is not None) for run in self.package.beside]
        beside = [run for run in others if run.result.run != self.result.run]
        every = [self.trained, *beside]
        write_page(every, self.folder / PAGE, stream=settings, quantise=_as_int8, precision=self.precision)
        return [PAGE]

    def _manifest(self) -> Manifest:
        store, run = store_and_run(self.trained)
        features, corpus = self.features, self.trained.corpus
        delay = features.delta_frames // 2 if features.deltas else 0
        single = store.single or run is None
        return Manifest(
            kind=KIND,
            format=FORMAT,
            cello=__version__,
            run=self.result.run,
            study="" if single else store.study.name,
            row="" if single or run is None else run.row,
            column="" if single or run is None else run.column,
            seed=self.result.config.seed,
            labels=self.trained.labels,
            model=_without_path(msgspec.to_builtins(resolve(self.result.config.model))),
            features=msgspec.to_builtins(features),
            front_end=FrontEnd(
                rate_hz=features.rate_hz,
                window_samples=features.window_samples,
                hop_samples=features.hop_samples,
                dimensions=features.dimensions,
                delay_frames=delay,
            ),
            stream=self.stream,
            exits=self.exits,
            left_out=self.left_out,
            test_accuracy=run_accuracy(self.trained, store),
            study_accuracy=study_accuracy(self.trained, store),
            word_accuracy=word_accuracy(self.trained),
            int8=self.package.int8,
            precision=self.package.precision,
            corpus=CorpusFacts(
                name=corpus.name,
                checksum=corpus.checksum,
                origin=visible(without_paths(str(corpus.origin) or corpus.source)),
                licence=LICENCES.get(corpus.origin.kind, ""),
                clips={name: split.clips for name, split in corpus.splits.items()},
                speakers={
                    name: split.speakers for name, split in corpus.splits.items() if corpus.speakers_known is not False
                },
            ),
        )

    def _files(self) -> dict[str, FileFacts]:
        found = {}
        for path in sorted(self.folder.iterdir()):
            content = path.read_bytes()
            found[path.name] = FileFacts(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
        return found


def _without_path(model: dict[str, Any]) -> dict[str, Any]:
    """A model's config that names the file of one's own cell without its folders, which are nobody else's business."""
    file, py, cell = str(model["cell"]).rpartition(".py:")
    return model | {"cell": f"{last_part(file)}{py}{cell}"} if py else model


def _as_int8(matrix: Array) -> tuple[NDArray[np.int8], Array]:
    found = quantise(matrix)
    return found.values, found.scale
