"""Exported folders made in a moment: of runs with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from cello.audio.corpus import Manifest
from cello.cli.main import main
from cello.deploy.manifest import MANIFEST
from cello.export.package import Package, write_package
from cello.features.config import FeatureConfig
from cello.files import seal_json
from cello.trained.run import read_run
from made_runs import make_run

SMALL = FeatureConfig(window_ms=20, n_mels=12, n_mfcc=6, delta_width=5)


def make_package(folder: Path, manifest: Manifest, **model: Any) -> Path:
    """``folder/model`` exported in every form from the run ``folder/run``."""
    run = make_run(folder / "run", manifest, features=SMALL, **{"pooling": "mean", **model})
    write_package(Package(trained=read_run(run)), folder / "model")
    return folder / "model"


def rewrite(folder: Path, **fields: Any) -> None:
    """Change fields of a manifest as somebody would who knows its seal; None takes a field out."""
    told = msgspec.json.decode((folder / MANIFEST).read_bytes())
    told.pop("crc32")
    told |= fields
    kept = {name: value for name, value in told.items() if value is not None}
    (folder / MANIFEST).write_bytes(seal_json(msgspec.json.encode(kept)))


def run_cello(*arguments: object) -> int:
    """The exit status of a command."""
    return main([str(argument) for argument in arguments])
