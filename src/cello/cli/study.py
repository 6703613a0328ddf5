"""Run a study, or estimate it with --dry-run: `cello study`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

from rich.console import Console
from rich.table import Table
from tyro.conf import FlagCreatePairsOff, Positional, arg

from cello.cli.sound import open_sound
from cello.cli.study_options import StudyOptions
from cello.errors import StudyError
from cello.terminal import counted, say


@dataclass(frozen=True, kw_only=True)
class Study(StudyOptions):
    """Run a study and write its report; the same command again resumes it."""

    name: Annotated[
        Positional[str | None],
        arg(help="a built-in study, as gates (--list names them), or your own: FILE.toml", metavar="STUDY"),
    ] = None
    seeds: Annotated[int | None, arg(help="how many seeds, 0 … N−1; the study's own by default")] = None
    epochs: Annotated[int | None, arg(help="epochs of every run; the study's own by default")] = None
    folds: Annotated[
        str | None,
        arg(
            help="cross-validation: column (the corpus's own folds), speaker (leave one out), a number of folds by "
            "speaker, or none; the study's own by default",
            metavar="column|speaker|N|none",
        ),
    ] = None
    dry_run: Annotated[
        bool,
        arg(help="estimate only: print runs, model sizes and time"),
        FlagCreatePairsOff,
    ] = False
    out: Annotated[
        Path | None,
        arg(
            help="output folder; results/CORPUS/STUDY-PROTOCOL by default, with --match -MATCH and with "
            "--folds -folds-FOLDS after it"
        ),
    ] = None
    list_: Annotated[bool, arg(name="list", help="list the built-in studies, and run nothing"), FlagCreatePairsOff] = (
        False
    )
    show: Annotated[
        str | None,
        arg(help="print the TOML file of this built-in study, to be saved and edited; runs nothing", metavar="STUDY"),
    ] = None
    settings: Annotated[
        bool, arg(help="list every setting with its type, default and meaning; runs nothing"), FlagCreatePairsOff
    ] = False

    def run(self, console: Console) -> None:
        if self.list_ or self.settings or self.show is not None:
            self._tell(console)
        else:
            self._run(console)

    def _tell(self, console: Console) -> None:
        """Answer ``--list``, ``--settings`` or ``--show``."""
        from cello.study.catalogue import BUILTIN, QUESTIONS, builtin_text
        from cello.study.settings import known_settings

        given = ("seeds", "epochs", "match", "folds", "out", *([] if self.show is not None else ["protocol"]))
        for option in [name for name in given if getattr(self, name) is not None] + (["set"] if self.set_ else []):
            raise StudyError(f"--{option} changes nothing of what --list, --show and --settings print; leave it out")
        if self.name is not None or self.dry_run or self.list_ + self.settings + (self.show is not None) > 1:
            raise StudyError("--list, --show and --settings cannot be combined with each other, a study or --dry-run")
        if self.show is not None:
            say(console, builtin_text(self.show, self.protocol).rstrip("\n"))
        elif self.list_:
            table = Table("study", "protocols", "question")
            for name, protocols in BUILTIN.items():
                table.add_row(name, ", ".join(protocols), QUESTIONS[name])
            console.print(table)
        else:
            table = Table("setting", "type", "default", "what it is")
            table.columns[0].overflow = "fold"
            for setting in known_settings():
                table.add_row(*setting)
            console.print(table)

    def _run(self, console: Console) -> None:
        from cello.execution.forkserver import start_forkserver
        from cello.execution.gpus import runs_at_once, shared_devices
        from cello.study.estimate import look_ahead
        from cello.study.estimate_table import show
        from cello.study.overrides import override
        from cello.study.plan import sample_rate
        from cello.study.store import CorpusSource
        from cello.study.study_file import load_study

        if self.name is None:
            raise StudyError("no study is named; give one, as cello study gates (cello study --list names them)")
        if self.seeds is not None and self.seeds < 1:
            raise StudyError(f"--seeds {self.seeds} is invalid: it must be at least 1")
        settings = self.settings_asked()
        if self.epochs is not None and settings.setdefault("optimiser.epochs", self.epochs) != self.epochs:
            own = settings["optimiser.epochs"]
            raise StudyError(f"--epochs {self.epochs} and --set optimiser.epochs={own} cannot be combined")
        plain = load_study(self.name, self.protocol)
        self.warn_of_replaced(plain, settings)
        study = override(plain, None if self.seeds is None else range(self.seeds), settings, self.match, self.folds)
        other: list[str] = [study.match] if study.match != plain.match else []
        other += [f"folds-{study.fold_rule}"] if study.fold_rule != plain.fold_rule else []
        out = self.out or self.default_folder(study.name, study.label, *other)
        rate = sample_rate(study)  # mistakes show before the corpus is made
        workers = self.workers_asked()
        source = CorpusSource(spec=self.spec, options=self.options(rate, study.fold_rule))
        opened = partial(open_sound, self, console, rate, folds=study.fold_rule)
        if self.dry_run:
            devices = shared_devices(workers.execution) if self.cluster is None else ()
            count = runs_at_once(workers.count, devices)
            show(look_ahead(study, source, out, count, lambda: opened().manifest), console)
            return
        if self.cluster is None:
            start_forkserver()
        from cello.execution.run import run_study
        from cello.report.write import write_report

        opened()  # with a bar while it is fetched and decoded; workers find it in the cache
        store = run_study(study, source, out, workers=workers, cache=self.cache)
        say(console, f"{counted(len(store.results()), 'run')} in {out}")
        for path in write_report(out, formats=("html", "md", "csv", "latex", "json")):
            say(console, f"  {path}")
        say(console, f"the plots as PDF files: cello report {out} --format pdf")
