"""Tune each row of a study with equal budgets: `cello tune`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from rich.console import Console
from rich.table import Table
from tyro.conf import Positional, arg

from cello.cli.sound import Sound, open_sound
from cello.cli.study_options import StudyOptions
from cello.terminal import one_line, say


@dataclass(frozen=True, kw_only=True)
class Tune(StudyOptions):
    """Try settings for each row of a study, as many trials each, and write the study with the best written in.

    Settings are chosen by validation accuracy; trials train without evaluating the test set. The same
    command again resumes.
    """

    name: Annotated[Positional[str], arg(help="a built-in study, as gates, or your own: FILE.toml", metavar="STUDY")]
    trials: Annotated[int | None, arg(help="trials of each row; as [tune] of the study says, 20 by default")] = None
    epochs: Annotated[int | None, arg(help="epochs of each trial; as [tune] says, the study's own by default")] = None
    out: Annotated[Path | None, arg(help="output folder; results/CORPUS/STUDY-PROTOCOL-tuning by default")] = None

    def run(self, console: Console) -> None:
        import msgspec

        from cello.execution.forkserver import start_forkserver
        from cello.study.overrides import check_untuned, override
        from cello.study.plan import sample_rate
        from cello.study.settings import shown_name
        from cello.study.store import CorpusSource
        from cello.study.study_file import load_both
        from cello.tuning.trials import need_optuna

        need_optuna()  # before torch is loaded and a corpus made
        settings = self.settings_asked()
        study, tune = load_both(self.name, self.protocol)
        asked = {name: value for name in ("trials", "epochs") if (value := getattr(self, name)) is not None}
        tune = msgspec.structs.replace(tune, **asked)
        check_untuned(settings, tune)
        self.warn_of_replaced(study, settings)
        study = override(study, settings=settings, match=self.match)
        rate = sample_rate(study)
        workers = self.workers_asked()
        match = [self.match] if self.match else []
        out = self.out or self.default_folder(study.name, study.label, *match, "tuning")

        if self.cluster is None:
            start_forkserver()
        from cello.tuning.report import write_tuning
        from cello.tuning.tune import run_tuning

        open_sound(self, console, rate)  # with a bar while it is fetched and decoded; workers find it in the cache
        source = CorpusSource(spec=self.spec, options=self.options(rate))
        tuning = run_tuning(study, tune, source, out, workers=workers, cache=self.cache)
        table = Table(
            "row", "validation", *map(shown_name, sorted(tune.space)), title=f"the best of {tune.trials} trials each"
        )
        for row in study.rows:
            best = tuning.best(row.name)
            values = [best.values[setting] for setting in sorted(tune.space)] if best else []
            shown = [f"{value:.4g}" if isinstance(value, float) else one_line(value) for value in values]
            accuracy = f"{best.accuracy:.2%}" if best and best.accuracy is not None else "diverged"
            table.add_row(one_line(row.name), accuracy, *shown)
        console.print(table)
        for path in write_tuning(tuning):
            say(console, f"  {path}")
        told = self.speaker_pattern is not None or self.reading != Sound().reading
        more = ", with the flags that say the same of the clips" if told else ""
        say(console, f"next: cello study {out / 'tuned.toml'} --corpus {self.spec}{more}")
