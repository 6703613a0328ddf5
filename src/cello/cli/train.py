"""Train one model with one seed: `cello train`."""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.console import Console
from rich.table import Table
from tyro.conf import Suppress, arg

from cello.audio.augment import AugmentConfig
from cello.audio.folds import NONE, of_fold
from cello.audio.layout import listed
from cello.cli.sound import Sound, open_sound
from cello.deploy.decisions import BACKGROUND
from cello.errors import ConfigError
from cello.features.config import FeatureConfig
from cello.models.config import ModelConfig, resolve
from cello.terminal import bars, counted, one_line, say
from cello.training.config import DataConfig, OptimiserConfig
from cello.training.execution import ExecutionConfig

if TYPE_CHECKING:
    from cello.audio.corpus import Corpus
    from cello.training.result import Epoch, RunResult, StartRecord


@dataclass(frozen=True, kw_only=True)
class Train(Sound):
    """Train one model with one seed and print how it did."""

    out: Annotated[Path | None, arg(help="folder of the run; runs/ID by default")] = None
    seed: Annotated[int, arg(help="what all of the run's random numbers derive from, 0 or more")] = 0
    from_run: Annotated[
        Path | None,
        arg(
            name="from",
            help="start from the weights of this run (of a study its best run), with its model and features; rows of "
            "labels that it did not have are drawn anew",
            metavar="RUN",
        ),
    ] = None
    folds: Annotated[
        str,
        arg(
            help="divide the clips into folds, of which --data.fold tests: column, speaker or a number",
            metavar="column|speaker|N|none",
        ),
    ] = NONE
    stated: Suppress[tuple[str, ...]] = ()
    """The settings that stand on the command line, which a value alone does not tell from a default."""
    model: ModelConfig = field(default_factory=ModelConfig)
    features: FeatureConfig = field(default_factory=FeatureConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    data: DataConfig = field(default_factory=DataConfig)
    execution: ExecutionConfig = field(default_factory=ExecutionConfig)

    def run(self, console: Console) -> None:
        import msgspec

        from cello.compiler.memory import keep_freed_memory
        from cello.models.size import check_cell, check_size
        from cello.study.corpus_file import CorpusSummary, write_corpus
        from cello.study.plan import steps_of_a_second
        from cello.study.settings import SECTIONS, brief, check_section
        from cello.study.single import write_source
        from cello.study.space import LAST
        from cello.study.store import CorpusSource
        from cello.training.config import CorpusRef, RunConfig
        from cello.training.device import choose
        from cello.training.folder import writing
        from cello.training.remark import remark
        from cello.training.run import train

        # a wrong cell shows before the corpus is made
        model, features, start = resolve(self.model), self.features, None
        if self.from_run is not None:
            from cello.trained.start import start_from

            start, model, features = start_from(self.from_run, self.model, self.features, self.stated)
        if not 0 <= self.seed <= LAST:
            raise ConfigError(f"--seed {brief(self.seed)} is invalid: it must be 0 to {LAST}")
        for section in SECTIONS:
            check_section(msgspec.to_builtins(getattr(self, section)), section, "cello train", section)
        check_size(model, features.dimensions)
        check_cell(model, features.dimensions, steps_of_a_second(features, model))
        device = choose(self.execution)
        corpus = open_sound(self, console, features.rate_hz, folds=self.folds)
        if self.spec.startswith("folder:") and (sentence := _unused_noise(corpus)):  # who put it there wants to use it
            say(console, sentence)
        if start is not None:
            say(console, started(start.record(corpus.manifest.labels)))
        manifest = of_fold(corpus.manifest, self.data.fold) if self.data.fold else corpus.manifest
        keep_freed_memory()
        config = RunConfig(
            corpus=CorpusRef(name=corpus.manifest.corpus, checksum=corpus.manifest.checksum),
            features=features,
            augment=self.augment,
            model=model,
            optimiser=self.optimiser,
            data=self.data,
            seed=self.seed,
            initial_weights="" if start is None else start.checksum,
        )
        out = self.out or Path("runs") / config.id
        cell = one_line(model.cell)
        say(console, str(device))
        with _shown(console, cell, self.optimiser.epochs) as show:
            result = train(config, corpus, out, cache=self.cache, on_epoch=show, execution=self.execution, start=start)
        with writing(out):
            write_corpus(out, CorpusSummary.of(manifest))  # what cello report says of the clips
            write_source(out, CorpusSource(spec=self.spec, options=self.options(features.rate_hz, self.folds)))
        console.print(_table(result, cell))
        say(console, f"{result.parameters:,} parameters, {times(result)}")
        if sentence := remark(result, manifest):
            warnings.warn(sentence, stacklevel=2)
        say(console, f"{out}: cello evaluate {shlex.quote(str(out))}")


def started(record: StartRecord) -> str:
    """Which labels a run has from another one, in a sentence.

    >>> from cello.training.result import StartRecord
    >>> started(StartRecord(run="1f0c9e8d", kept=("no", "yes"), drawn=("stop",), left=("up",)))
    "starts from run 1f0c9e8d: labels with its weights 'no', 'yes'; new 'stop'; left out 'up'"
    """
    labels = (("labels with its weights", record.kept), ("new", record.drawn), ("left out", record.left))
    told = [f"{what} {listed(own) or 'none'}" for what, own in labels if own or what != "left out"]
    return f"starts from run {record.run}: {'; '.join(told)}"


def _unused_noise(corpus: Corpus) -> str:
    """What to say where a corpus has recordings of noise, and none of its labels is for noise or other words."""
    if not corpus.noise or set(BACKGROUND) & set(corpus.manifest.labels):
        return ""
    return (
        f"{counted(len(corpus.noise), 'recording')} of background noise and no label for it: endless sound needs "
        f"--silence 10, and for words that are none of --labels --unknown 10"
    )


@contextmanager
def _shown(console: Console, cell: str, epochs: int) -> Iterator[Callable[[Epoch], None]]:
    """What is told of each epoch: by a bar on a terminal, by a line anywhere else."""
    if not console.is_terminal:
        yield lambda epoch: say(console, epoch_line(epoch, epochs))
        return
    with bars(console) as progress:
        task = progress.add_task(cell, total=epochs)

        def show(epoch: Epoch) -> None:
            accuracy = f"validation {100 * epoch.validation_accuracy:.2f} %"
            progress.update(task, completed=epoch.epoch, description=f"{cell}  {accuracy}")

        yield show


def epoch_line(epoch: Epoch, epochs: int) -> str:
    """An epoch in a line of a log."""
    return (
        f"epoch {epoch.epoch}/{epochs}: train loss {epoch.train_loss:.4f}, train accuracy "
        f"{100 * epoch.train_accuracy:.2f} %, validation loss {epoch.validation_loss:.4f}, validation accuracy "
        f"{100 * epoch.validation_accuracy:.2f} %, {duration(epoch.epoch_seconds)}, "
        f"training {duration(epoch.train_cpu_seconds)}"
    )


def duration(seconds: float) -> str:
    """A time in s, of which tenths are told, or below half a second in ms.

    >>> duration(12.34), duration(0.5), duration(0.0213), duration(0.00004)
    ('12.3 s', '0.5 s', '21 ms', 'under 1 ms')
    """
    if seconds >= 0.5:
        return f"{seconds:.1f} s"
    return f"{1000 * seconds:.0f} ms" if seconds >= 0.001 else "under 1 ms"


def _of_epoch(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 0.5 else duration(seconds)


def times(result: RunResult) -> str:
    """Seconds of an epoch's training steps and of the whole epoch, and clips per second of both."""
    training = f"training {_of_epoch(result.seconds_per_epoch)}/epoch ({result.clips_per_second:,.0f} clips/s)"
    if not result.epoch_seconds:
        return training
    cpu = "" if result.epoch_cpu_seconds is None else f", {_of_epoch(result.epoch_cpu_seconds)} of CPU time"
    return (
        f"{training}, whole epoch {_of_epoch(result.epoch_seconds)} ({result.epoch_clips_per_second:,.0f} clips/s{cpu})"
    )


def _table(result: RunResult, cell: str) -> Table:
    table = Table("split", "clips", "loss", "accuracy", "word mean", title=f"{cell}, seed {result.config.seed}")
    for split, m in (("train", result.train), ("validation", result.validation), ("test", result.test)):
        table.add_row(split, str(m.clips), f"{m.loss:.4g}", f"{100 * m.accuracy:.2f} %", f"{100 * m.word_mean:.2f} %")
    return table
