"""Read how a run's stream decides, as ``cello evaluate --stream --out RUN`` chose it. Needs no torch."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

import msgspec

from cello.errors import CelloError, StoreError
from cello.files import decode_json, naming_damage, read_stored
from cello.trained.run import TrainedRun

STREAM_FILE = "stream.json"
"""What was measured of a run's stream, in the run's folder."""
REMEDY = "measure again with cello evaluate --stream --out, or delete it"


class ChosenStream(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of a stream among what was measured of it; ``threshold`` is None where none was good enough."""

    run: str
    window_s: float
    threshold: float | None
    smooth_s: float
    refractory_s: float
    background: tuple[str, ...]

    @property
    def settings(self) -> dict[str, Any]:
        """Those of a ``DecisionConfig``."""
        return {name: getattr(self, name) for name in ("threshold", "smooth_s", "refractory_s", "background")}


class _Measurement(Protocol):
    @property
    def run(self) -> str: ...
    @property
    def threshold(self) -> float | None: ...


Measurement = TypeVar("Measurement", bound=_Measurement)


def chosen_stream(trained: TrainedRun) -> ChosenStream | None:
    """What was chosen for a run; None where nothing was, or for another run.

    Raises:
        StoreError: the file is damaged.
    """
    return measured_stream(trained, ChosenStream, StoreError)


def measured_stream(trained: TrainedRun, kind: type[Measurement], error: type[CelloError]) -> Measurement | None:
    """What ``cello evaluate RUN --stream --out RUN`` left in the run's folder; None where nothing, or of another run.

    ``kind`` says which fields are read. A damaged file is an ``error``.
    """
    path = trained.folder / STREAM_FILE
    with naming_damage(path, error, REMEDY):
        try:
            found = decode_json(read_stored(path), kind)
        except FileNotFoundError:
            return None
    return found if found.run == trained.result.run and found.threshold is not None else None
