"""Say what files are by a trained model: `cello predict`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from rich.console import Console
from rich.table import Table
from tyro.conf import Positional, arg

from cello.errors import ClipError, ConfigError
from cello.terminal import counted, say

if TYPE_CHECKING:
    from cello.trained.exported import ExportedModel
    from cello.trained.files import Unusable
    from cello.trained.model import Model, Prediction


@dataclass(frozen=True, kw_only=True)
class Predict:
    """Say what audio files are by a trained or exported model; of a study by its best run on the validation clips.

    Channels are averaged and files of other sampling rates resampled, as in reading a corpus.
    """

    run_folder: Annotated[
        Positional[Path], arg(help="the folder of a run, of a study, or an exported one", metavar="RUN")
    ]
    files: Annotated[
        Positional[tuple[Path, ...]], arg(help="audio files, and folders of them at any depth", metavar="FILES ...")
    ]
    top: Annotated[int, arg(help="labels that are named for each file, the most probable first")] = 3
    format: Annotated[Literal["table", "csv", "json"], arg(help="how it is printed")] = "table"
    row: Annotated[str | None, arg(help="of a study, the best run of this row")] = None
    column: Annotated[str | None, arg(help="of a study, the best run of this column")] = None
    precision: Annotated[
        Literal["float32", "float64"] | None,
        arg(help="what a run is computed in, float32 unless given; an exported folder has its own"),
    ] = None

    def run(self, console: Console) -> None:
        from cello.trained.exported import load_either
        from cello.trained.files import Unusable, each_prediction, files_below

        if self.top < 1:
            raise ConfigError(f"--top {self.top} is invalid: it must be at least 1")
        model = load_either(self.run_folder, self.row, self.column, self.precision)
        files = list(files_below(self.files))
        if not files:
            raise ClipError("no audio files are there; give files, or folders that hold some")
        found = list(each_prediction(model, files))
        show = {"table": _table, "csv": _csv, "json": _json}[self.format]
        show(console, model, found, min(self.top, len(model.labels)))
        if wrong := sum(isinstance(one, Unusable) for one in found):
            raise ClipError(f"{wrong} of {counted(len(found), 'file')} cannot be used; the reasons are in their rows")


def _top(one: Prediction | Unusable, count: int) -> list[tuple[str, float]]:
    top = getattr(one, "top", None)
    return [] if top is None else top(count)


def _table(console: Console, model: Model | ExportedModel, found: Sequence[Prediction | Unusable], count: int) -> None:
    table = Table("file", "label", *("or",) * (count - 1))
    table.columns[0].overflow = "fold"
    for one in found:
        told = [f"{label} {100 * probability:.1f} %" for label, probability in _top(one, count)]
        table.add_row(one.file, *(told or [f"unusable: {getattr(one, 'reason', '')}"]))
    console.print(table)


def _csv(console: Console, model: Model | ExportedModel, found: Sequence[Prediction | Unusable], count: int) -> None:
    from cello.report.spreadsheet import written

    places = ["", *(f"_{k}" for k in range(2, count + 1))]
    names = ["file", *(f"{what}{place}" for place in places for what in ("label", "probability")), "reason"]
    rows: list[list[object]] = []
    for one in found:
        told: list[object] = [value for pair in _top(one, count) for value in pair]
        rows.append([one.file, *(told or [""] * (2 * count)), getattr(one, "reason", "")])
    say(console, written(names, rows).rstrip("\n"))


def _json(console: Console, model: Model | ExportedModel, found: Sequence[Prediction | Unusable], count: int) -> None:
    import msgspec

    files = []
    for one in found:
        top = [{"label": label, "probability": probability} for label, probability in _top(one, count)]
        files.append({"file": one.file, "top": top} if top else one._asdict())  # type: ignore[union-attr]
    run = model.run if isinstance(model.run, str) else model.run.run
    told = {"run": run, "labels": model.labels, "files": files}
    say(console, msgspec.json.format(msgspec.json.encode(told), indent=2).decode())
