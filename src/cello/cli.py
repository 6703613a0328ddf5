"""The command line: parse → one library call → print. Heavy imports stay inside the commands."""

from __future__ import annotations

import gc
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, Protocol

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from tyro.conf import FlagCreatePairsOff, OmitArgPrefixes, Positional, UseAppendAction, arg, subcommand

import cello
from cello.audio.augment import AugmentConfig
from cello.bench import settings as bench
from cello.cli_sound import CORPUS_HELP, Sound, Trained, corpus_slug, described, file_name, open_sound, say
from cello.cli_store import Export, Merge
from cello.cli_tune import Tune
from cello.errors import CelloError, ConfigError, StudyError
from cello.features.config import FeatureConfig
from cello.models.config import ModelConfig, settled
from cello.training.config import DataConfig, OptimiserConfig

Format = Literal["md", "html", "csv", "latex", "json", "notebook"]
Target = Literal["equations", "latex", "graph", "c"]


class Command(Protocol):
    """What every command is: its arguments, and what it does with them."""

    def run(self, console: Console) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Study(Trained):
    """Run a study and write its report; the same command again resumes it."""

    name: Annotated[Positional[str], arg(help="a built-in study, as gates, or your own: FILE.toml", metavar="STUDY")]
    protocol: Annotated[
        str | None,
        arg(help="settings of a built-in study: fair (default), published (the study Cello grew from), quick"),
    ] = None
    seeds: Annotated[int | None, arg(help="how many seeds, 0 … N−1; the study's own by default")] = None
    epochs: Annotated[int | None, arg(help="epochs of every run; the study's own by default")] = None
    match: Annotated[
        Literal["width", "parameters", "flops"] | None, arg(help="what rows have in common, by their hidden sizes")
    ] = None
    dry_run: Annotated[bool, arg(help="only say what would run, what is done, sizes, time"), FlagCreatePairsOff] = False
    out: Annotated[
        Path | None, arg(help="output folder; results/CORPUS/STUDY-PROTOCOL by default, with --match -MATCH after it")
    ] = None

    def run(self, console: Console) -> None:
        from cello.study.crew import Crew
        from cello.study.outlook import look_ahead, worker_count
        from cello.study.plan import load_study, override, sample_rate
        from cello.study.preview import show
        from cello.study.store import CorpusSource

        if self.seeds is not None and self.seeds < 1:
            raise StudyError(f"--seeds {self.seeds} leaves nothing to run; give at least 1")
        plain = load_study(self.name, self.protocol)
        settings = None if self.epochs is None else {"optimiser.epochs": self.epochs}
        study = override(plain, None if self.seeds is None else range(self.seeds), settings, self.match)
        name = "-".join((study.name, study.protocol, *([study.match] if study.match != plain.match else ())))
        out = self.out or Path("results") / corpus_slug(self.corpus) / file_name(name)
        rate = sample_rate(study)  # mistakes show before the corpus is made
        crew = Crew(workers=self.workers, cluster=self.cluster, stall_minutes=self.stall_minutes)
        options = {"speaker_pattern": self.speaker_pattern, "allow_bad": self.allow_bad, "rate_hz": rate}
        source = CorpusSource(spec=self.corpus, options=options)
        if self.dry_run:
            workers = worker_count(crew.workers)
            show(look_ahead(study, source, out, workers, lambda: open_sound(self, console, rate).manifest), console)
            return
        from cello.report.write import write_report
        from cello.study.runner import run_study

        open_sound(self, console, rate)  # with a bar while it is fetched and decoded; workers find it in the cache
        store = run_study(study, source, out, workers=crew, cache=self.cache)
        say(console, f"{len(store.results())} runs in {out}")
        for path in write_report(out, formats=("html", "md", "csv", "latex", "json")):
            say(console, f"  {path}")


@dataclass(frozen=True, kw_only=True)
class Train(Sound):
    """Train one model with one seed and print how it did."""

    out: Annotated[Path | None, arg(help="folder of the run; runs/ID by default")] = None
    seed: int = 0
    model: ModelConfig = field(default_factory=ModelConfig)
    features: FeatureConfig = field(default_factory=FeatureConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    data: DataConfig = field(default_factory=DataConfig)

    def run(self, console: Console) -> None:
        from rich.progress import Progress

        from cello.compiler.memory import keep_freed_memory
        from cello.training.config import CorpusRef, RunConfig
        from cello.training.result import Epoch
        from cello.training.run import train

        model = settled(self.model)  # a cell that does not exist shows before the corpus is made
        corpus = open_sound(self, console, self.features.rate_hz)
        keep_freed_memory()
        config = RunConfig(
            corpus=CorpusRef(name=corpus.manifest.corpus, checksum=corpus.manifest.checksum),
            features=self.features,
            augment=self.augment,
            model=model,
            optimiser=self.optimiser,
            data=self.data,
            seed=self.seed,
        )
        out = self.out or Path("runs") / config.id
        with Progress(console=console) as progress:
            task = progress.add_task(escape(self.model.cell), total=self.optimiser.epochs)

            def show(epoch: Epoch) -> None:
                accuracy = f"validation {100 * epoch.validation_accuracy:.2f} %"
                progress.update(task, completed=epoch.epoch, description=f"{escape(self.model.cell)}  {accuracy}")

            result = train(config, corpus, out, cache=self.cache, on_epoch=show)
        table = Table(
            "split", "clips", "loss", "accuracy", "word mean", title=escape(f"{config.model.cell}, seed {self.seed}")
        )
        for split, m in (("train", result.train), ("validation", result.validation), ("test", result.test)):
            table.add_row(
                split, str(m.clips), f"{m.loss:.4g}", f"{100 * m.accuracy:.2f} %", f"{100 * m.word_mean:.2f} %"
            )
        console.print(table)
        say(console, f"{result.parameters:,} parameters, {result.seconds_per_epoch:.2f} s per epoch, {out}")


@dataclass(frozen=True, kw_only=True)
class Report:
    """Write the report of a study again, as far as its runs have come."""

    folder: Annotated[Positional[Path], arg(help="a study's output folder", metavar="DIR")]
    format: Annotated[
        UseAppendAction[tuple[Format, ...]],
        arg(help="repeat for several; all by default, of more than 1,000 runs without json and notebook"),
    ] = ()
    out: Annotated[Path | None, arg(help="where to write; DIR/report by default")] = None
    execute: Annotated[
        bool, arg(help="execute the notebook of a study that was not made here too"), FlagCreatePairsOff
    ] = False

    def run(self, console: Console) -> None:
        from cello.report.write import LEFT_OUT, NOT_EXECUTED, write_report
        from cello.study.made import is_made

        gc.freeze()  # imports stay: no need to look through them for garbage while thousands of runs are read
        execute = self.execute or is_made(self.folder)
        written = write_report(self.folder, formats=self.format, out=self.out, execute=execute)
        for path in written:
            say(console, str(path))
        if not execute and any(path.suffix == ".ipynb" for path in written):
            say(console, NOT_EXECUTED)
        if not self.format and all(path.suffix != ".ipynb" for path in written):
            say(console, LEFT_OUT)


@dataclass(frozen=True, kw_only=True)
class CorpusList:
    """List the corpora Cello knows."""

    def run(self, console: Console) -> None:
        from cello.audio.open import KNOWN_CORPORA

        table = Table("corpus", "what it is")
        for name, what in KNOWN_CORPORA.items():
            table.add_row(name, escape(what))
        console.print(table)


@dataclass(frozen=True, kw_only=True)
class CorpusFetch(Sound):
    """Download or render a corpus, decode it, and keep it ready in the cache; resumes a broken download."""

    corpus: Annotated[Positional[str], arg(help=CORPUS_HELP, metavar="CORPUS")]

    def run(self, console: Console) -> None:
        corpus = open_sound(self, console)
        say(console, f"{corpus.manifest.corpus}: {len(corpus.manifest.clips):,} clips, {corpus.manifest.source}")


@dataclass(frozen=True, kw_only=True)
class CorpusInspect(Sound):
    """Say what a corpus holds: clips a label and split, speakers, lengths, unusable clips with their reasons."""

    corpus: Annotated[Positional[str], arg(help=CORPUS_HELP, metavar="CORPUS")]

    def run(self, console: Console) -> None:
        from cello.audio.corpus import SPLITS

        manifest = open_sound(self, console).manifest
        table = Table(
            "label",
            *SPLITS,
            title=escape(f"{manifest.corpus}, {manifest.rate_hz} Hz, checksum {manifest.checksum[:16]}"),
        )
        for label in (*manifest.labels, None):
            clips = [c for c in manifest.clips if label in (None, c.label)]
            table.add_row(escape(label or "all"), *(f"{sum(c.split == s for c in clips):,}" for s in SPLITS))
        table.add_row("speakers", *(f"{len({c.speaker for c in manifest.clips if c.split == s}):,}" for s in SPLITS))
        console.print(table)
        seconds = sorted(c.samples / manifest.rate_hz for c in manifest.clips)
        console.print(f"{seconds[0]:.2f} to {seconds[-1]:.2f} s a clip, median {seconds[len(seconds) // 2]:.2f} s")
        console.print(f"{len(manifest.bad)} unusable clips" + (":" if manifest.bad else ""))
        for bad in manifest.bad:
            say(console, f"  {bad.name}: {bad.reason}")


@dataclass(frozen=True, kw_only=True)
class CorpusClean:
    """List what the cache holds, with sizes; with --older-than or --all, remove it: all of it can be made again."""

    older_than: Annotated[int | None, arg(help="remove what was not used for so many days", metavar="DAYS")] = None
    all: Annotated[bool, arg(help="remove everything"), FlagCreatePairsOff] = False
    cache: Annotated[Path | None, arg(help="the cache folder; the user's own by default")] = None

    def run(self, console: Console) -> None:
        from rich.filesize import decimal

        from cello.features.clean import clean, held

        if self.older_than is not None and (self.older_than < 1 or self.all):
            what = "goes not with --all; give one of them" if self.all else "would be everything; give --all for that"
            raise ConfigError(f"--older-than {self.older_than} {what}")
        things = held(self.cache)
        removed = clean(self.cache, self.older_than or 0) if self.all or self.older_than else None
        table = Table("what", "name", "size", "not used for")
        for thing in things if removed is None else removed:
            days = (time.time() - thing.used) / 86_400
            table.add_row(thing.what, escape(thing.path.name), decimal(thing.size), f"{days:.0f} days")
        if table.row_count:
            console.print(table)
        total = sum(thing.size for thing in things)
        if removed is None:
            say(console, f"{len(things)} in the cache, {decimal(total)}")
        else:
            freed = sum(thing.size for thing in removed)
            say(console, f"removed {len(removed)} of {len(things)}, {decimal(freed)} of {decimal(total)}")


@dataclass(frozen=True, kw_only=True)
class CellList:
    """List the zoo: every cell, its states, its parameters at D = 39 and H = 64, its paper."""

    def run(self, console: Console) -> None:
        from cello.cells.load import zoo

        table = Table("cell", "states", "parameters", "paper", title="parameters at D = 39, H = 64")
        for name, cell in zoo().items():
            table.add_row(name, " ".join(cell.states), f"{cell.parameter_count(39, 64):,}", cell.reference)
        console.print(table)


@dataclass(frozen=True, kw_only=True)
class CellShow:
    """Print a cell's equations, LaTeX, graph or C kernel."""

    name: Annotated[Positional[str], arg(help="a cell of the zoo, or FILE.py:NAME", metavar="CELL")]
    target: Target = "equations"

    def run(self, console: Console) -> None:
        from cello.cells.load import load_cell
        from cello.compiler.render import render

        console.print(render(load_cell(self.name), self.target), markup=False, highlight=False, soft_wrap=True)


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Measure cells on this machine: forward and backward through every back end, beside torch's own layers."""

    what: Annotated[Positional[Literal["cells"]], arg(help="what is measured")]
    cell: Annotated[
        UseAppendAction[tuple[tuple[str, ...], ...]],
        arg(help=f"cells of the zoo, or FILE.py:NAME; by default {' '.join(bench.CELLS)}", metavar="CELL ..."),
    ] = ()
    sizes: Annotated[
        UseAppendAction[tuple[tuple[str, ...], ...]],
        arg(
            help="clips, frames, numbers of a frame, units, as BxTxDxH; by default "
            + " ".join(str(size).replace("×", "x") for size in bench.SIZES),
            metavar="BxTxDxH ...",
        ),
    ] = ()
    threads: Annotated[
        UseAppendAction[tuple[tuple[int, ...], ...]],
        arg(help="torch's threads, each number in turn; 1 by default", metavar="N ..."),
    ] = ()
    rounds: Annotated[int, arg(help="how often each is timed, after 2 times to warm up")] = bench.Settings.rounds
    dtype: bench.DType = bench.Settings.dtype
    x_gradient: Annotated[bool, arg(help="also the gradient of the frames, which a layer above the first needs")] = (
        False
    )
    out: Annotated[Path | None, arg(help="also write everything to this file, as JSON")] = None

    def run(self, console: Console) -> None:
        from rich.progress import Progress

        from cello.bench.measure import machine, run
        from cello.bench.record import can_save, save
        from cello.bench.table import show
        from cello.compiler.memory import keep_freed_memory

        settings = bench.Settings(
            cells=sum(self.cell, ()) or bench.CELLS,
            sizes=tuple(bench.parse_size(text) for text in sum(self.sizes, ())) or bench.SIZES,
            threads=sum(self.threads, ()) or bench.Settings.threads,
            rounds=self.rounds,
            dtype=self.dtype,
            x_gradients=(self.x_gradient,),
        )
        if self.out:
            can_save(self.out)
        about = machine(keeps_memory=keep_freed_memory())
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            task = progress.add_task("", total=None)

            def start(what: str, total: int) -> None:
                progress.update(task, description=escape(what), total=total)

            try:
                record = run(settings, about, on_start=start, on_round=lambda: progress.advance(task))
            except KeyboardInterrupt:
                raise KeyboardInterrupt("stopped; nothing is kept, and the same command begins anew") from None
        show(record, console)
        if self.out:
            save(record, self.out)
            say(console, str(self.out))


@dataclass(frozen=True)
class Corpus:
    """Look at corpora: list, fetch, inspect; clean what is kept of them."""

    action: OmitArgPrefixes[
        Annotated[CorpusList, subcommand("list", prefix_name=False)]
        | Annotated[CorpusFetch, subcommand("fetch", prefix_name=False)]
        | Annotated[CorpusInspect, subcommand("inspect", prefix_name=False)]
        | Annotated[CorpusClean, subcommand("clean", prefix_name=False)]
    ]

    def run(self, console: Console) -> None:
        self.action.run(console)


@dataclass(frozen=True)
class Cell:
    """Look at cells: list, show."""

    action: OmitArgPrefixes[
        Annotated[CellList, subcommand("list", prefix_name=False)]
        | Annotated[CellShow, subcommand("show", prefix_name=False)]
    ]

    def run(self, console: Console) -> None:
        self.action.run(console)


Commands = (
    Annotated[
        Study,
        described(
            Study,
            "study",
            "study gates --dry-run",
            "study zoo --corpus folder:clips --seeds 5",
            "study mine.toml --out x",
        ),
    ]
    | Annotated[Tune, described(Tune, "tune", "tune gates --trials 20", "tune mine.toml --corpus folder:clips --out x")]
    | Annotated[
        Train,
        described(
            Train,
            "train",
            "train --model.cell lstm",
            "train --corpus folder:clips --model.cell mine.py:my_cell --seed 1",
        ),
    ]
    | Annotated[Report, described(Report, "report", "report results/spoken/gates-fair --format html --format csv")]
    | Annotated[
        Export, described(Export, "export", "export results/spoken/gates-fair", "export DIR --to tensorboard --out x")
    ]
    | Annotated[Merge, described(Merge, "merge", "merge here/gates-fair there/gates-fair --out results/gates")]
    | Annotated[
        Corpus,
        described(Corpus, "corpus", "corpus list", "corpus inspect folder:clips", "corpus clean --older-than 90"),
    ]
    | Annotated[
        Cell,
        described(
            Cell,
            "cell",
            "cell list",
            "cell show lstm --target latex",
            "cell show lstm --target c",
            "cell show mine.py:x",
        ),
    ]
    | Annotated[
        Bench,
        described(
            Bench, "bench", "bench cells", "bench cells --cell lstm mine.py:my_cell --sizes 64x49x39x64 --threads 1 2"
        ),
    ]
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 when it did what was asked, 1 on an error a user can fix, 2 on wrong usage, 130 on Ctrl-C."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    # Text is shown as it is: rich would make a picture of what stands between colons, as in mine.py:x: …
    console, problems = Console(emoji=False), Console(stderr=True, emoji=False)
    if arguments == ["--version"]:
        console.print(f"cello {cello.__version__}", highlight=False)
        return 0
    try:
        command: Command = tyro.cli(
            Commands, args=arguments, prog="cello", description=cello.__doc__.splitlines()[0] if cello.__doc__ else None
        )
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: say(problems, f"warning: {message}")
            command.run(console)
    except CelloError as error:
        problems.print("[bold red]error:[/] ", end="")
        say(problems, str(error))
        return 1
    except KeyboardInterrupt as stopped:
        say(problems, str(stopped) or "stopped; the same command again resumes")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
