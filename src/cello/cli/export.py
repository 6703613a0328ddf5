"""Write a trained model as a folder to take elsewhere, and check one: `cello export`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from rich.console import Console
from rich.table import Table
from tyro.conf import FlagCreatePairsOff, Positional, UseAppendAction, arg

from cello.cli.own_corpus import open_own
from cello.cli.sound import CORPUS_HELP, Sound
from cello.errors import ConfigError, CorpusError, ExportError
from cello.terminal import bars, say

if TYPE_CHECKING:
    from cello.audio.corpus import Corpus
    from cello.deploy.manifest import Int8Facts, PrecisionFacts
    from cello.export.package import Form
    from cello.export.self_test import Check
    from cello.models.parts import ModelParts
    from cello.trained.run import TrainedRun

Target = Literal["onnx", "c99", "page", "parquet", "tensorboard"]
TABLES = ("parquet", "tensorboard")


@dataclass(frozen=True, kw_only=True)
class Export(Sound):
    """Write a trained model as one folder to use without torch: ONNX, C99, a web page, a model card, what was measured.

    Every form is then run on made sound and compared with the trained model.
    """

    folder: Annotated[
        Positional[Path],
        arg(
            help="the folder of a run, or of a study for its best run by validation; with --check an export",
            metavar="RUN",
        ),
    ]
    out: Annotated[Path | None, arg(help="the folder to write; an earlier export of the same run is replaced")] = None
    to: Annotated[
        UseAppendAction[tuple[Target, ...]], arg(help="forms to write; all that the model allows unless given")
    ] = ()
    check: Annotated[
        bool, arg(help="write nothing: check the files and forms of an exported folder"), FlagCreatePairsOff
    ] = False
    name: Annotated[
        str | None, arg(help="what the C files, functions and macros begin with; the name of the cell by default")
    ] = None
    int8: Annotated[bool, arg(help="weights of 8 bits, each row with its scale"), FlagCreatePairsOff] = False
    most_int8_loss: Annotated[
        float | None,
        arg(help="points of validation accuracy that int8 may cost", metavar="POINTS"),
    ] = None
    precision: Annotated[
        Literal["auto", "float32", "float64"],
        arg(
            help="what every form computes in; auto: float64 where float32 may show in scores, by the validation clips"
        ),
    ] = "auto"
    corpus: Annotated[
        str,
        arg(help=f"clips to measure on what float32 and --int8 cost; the run's own unless given: {CORPUS_HELP}"),
    ] = ""
    window_s: Annotated[
        float | None, arg(help="seconds that a stream's scores are pooled over; the median training clip by default")
    ] = None
    threshold: Annotated[
        float | None, arg(help="probability of a decision; what cello evaluate --stream chose, else 0.8")
    ] = None
    smooth_s: Annotated[float | None, arg(help="seconds that probabilities are averaged over")] = None
    refractory_s: Annotated[float | None, arg(help="seconds after a decision without another one")] = None
    background: Annotated[tuple[str, ...], arg(help="labels that are never decided for", metavar="LABEL ...")] = ()
    row: Annotated[str | None, arg(help="of a study, the best run of this row")] = None
    column: Annotated[str | None, arg(help="of a study, the best run of this column")] = None
    predictions: Annotated[bool, arg(help="moved: cello report DIR --predictions"), FlagCreatePairsOff] = False

    def run(self, console: Console) -> None:
        if any(target in TABLES for target in self.to) or self.predictions:
            raise ConfigError(self._moved())
        if self.check:
            _checked(console, self.folder)
            return
        if self.out is None:
            raise ConfigError("cello export needs the folder to write; give --out DIR")
        self._write(console, self.out)

    def _moved(self) -> str:
        tables = [target for target in self.to if target in TABLES] or ["parquet"]
        formats = " ".join(f"--format {target}" for target in tables)
        more = " --predictions" * self.predictions + (f" --out {self.out}" if self.out else "")
        return (
            f"cello export writes no tables any more, which are formats of reports; give: "
            f"cello report {self.folder} {formats}{more}"
        )

    def _write(self, console: Console, out: Path) -> None:
        from cello.export.c99 import check_name
        from cello.export.measured import as_shipped
        from cello.export.package import Package, StreamOptions, check_free, write_package
        from cello.trained.run import read_run

        if self.most_int8_loss is not None and not self.int8:
            raise ConfigError("--most-int8-loss is what int8 may cost; give --int8 too")
        forms: tuple[Form, ...] = tuple(target for target in self.to if target not in TABLES)  # type: ignore[misc]
        if self.name is not None:
            if forms and "c99" not in forms:
                raise ConfigError("--name is for the C files; give --to c99 too")
            check_name(self.name)
        trained = read_run(self.folder, self.row, self.column)
        check_free(out, trained.result.run)
        corpus, why = self._clips(console, trained)
        int8 = self._int8(console, trained, corpus, why)
        shipped = as_shipped(trained, int8=int8 is not None)
        precision = self._precision(console, trained, shipped.parts, corpus)
        say(console, f"every form computes in {precision.words}: {precision.why}{f' ({why})' * bool(why)}")
        package = Package(
            trained=trained,
            name=self.name or "",
            forms=forms,
            int8=int8,
            precision=precision,
            beside=self._beside(forms),
            stream=StreamOptions(
                window_s=self.window_s,
                threshold=self.threshold,
                smooth_s=self.smooth_s,
                refractory_s=self.refractory_s,
                background=self.background,
            ),
        )
        manifest = write_package(package, out)
        for form, why in manifest.left_out.items():
            say(console, f"left out: {form}: {why}")
        for name, facts in manifest.files.items():
            say(console, f"{out / name} ({facts.bytes:,} bytes)")
        _checked(console, out)

    def _clips(self, console: Console, trained: TrainedRun) -> tuple[Corpus | None, str]:
        """The corpus to measure on; None and why where there is none, though nobody asked for it.

        Unless it was asked for, or int8 was, nothing is rendered or downloaded for it, and for a stated precision it is
        not opened.
        """
        from cello.audio.open import at_hand

        if self.precision != "auto" and not (self.spec or self.int8):
            return None, ""
        if not (self.spec or self.int8 or all(at_hand(spec, self.cache) for spec in trained.specs)):
            return None, f"{trained.corpus.name!r} is not in the cache; give --corpus to measure on its clips"
        try:
            return open_own(self, trained, console), ""
        except CorpusError as error:
            if self.spec or self.most_int8_loss is not None:
                raise
            return None, str(error)

    def _precision(
        self, console: Console, trained: TrainedRun, parts: ModelParts, corpus: Corpus | None
    ) -> PrecisionFacts:
        from cello.export.precision import chosen_precision, validation_sounds
        from cello.export.reference import SOUNDS

        sounds = validation_sounds(trained, corpus)
        with bars(console, transient=True, disable=not console.is_terminal) as progress:
            task = progress.add_task("what float32 costs", total=len(sounds) + len(SOUNDS))
            return chosen_precision(trained, parts, sounds, self.precision, lambda: progress.advance(task))

    def _int8(self, console: Console, trained: TrainedRun, corpus: Corpus | None, why: str) -> Int8Facts | None:
        from cello.export.measured import check_int8, int8_cost

        if not self.int8:
            return None
        cost = int8_cost(trained, corpus)
        check_int8(cost, self.most_int8_loss)
        lost = f"is not measured: {why}" if cost.points_lost is None else f"is {cost.points_lost:.2f} points"
        say(console, f"int8: the accuracy lost on validation clips {lost}")
        return cost

    def _beside(self, forms: tuple[Form, ...]) -> tuple[TrainedRun, ...]:
        """The models of a study that its page shows side by side, where the page was asked for."""
        from cello.export.page import page_runs

        return tuple(page_runs(self.folder, (), self.column)) if "page" in forms and self.row is None else ()


def _checked(console: Console, folder: Path) -> None:
    from cello.export.self_test import TOLERANCE, check_folder

    found = check_folder(folder)
    table = Table(
        "form", "what", "largest difference", "", title=f"Scores and decisions of made sound, {TOLERANCE:g} allowed"
    )
    for one in found:
        other = f" ({one.tolerance:.2g} allowed)" if one.tolerance != TOLERANCE else ""
        table.add_row(one.form, one.what, "" if one.largest is None else f"{one.largest:.2g}{other}", _verdict(one))
    console.print(table)
    if failed := [one for one in found if one.passed is False]:
        raise ExportError(_failure(failed[0], folder))


def _failure(one: Check, folder: Path) -> str:
    """What a form computes or decides otherwise, and what to do."""
    report = f"please report it with {folder / 'manifest.json'}"
    if one.decides and (one.largest or 0) <= one.tolerance:
        return f"{one.form} decides otherwise: {one.decides}; export the model again, and if it stays so, {report}"
    return f"{one.form} does not compute the scores of the trained model{': ' + one.note if one.note else ''}; {report}"


def _verdict(one: Check) -> str:
    if one.passed is None:
        return f"not run: {one.note}"
    return "passed" if one.passed else "failed"
