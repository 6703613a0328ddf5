"""Evaluate a trained model on a corpus: `cello evaluate`."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from rich.console import Console
from rich.table import Table
from tyro.conf import FlagCreatePairsOff, Positional, arg

from cello.audio.corpus import groups_in_words
from cello.cli.own_corpus import open_own
from cello.cli.sound import CORPUS_HELP, Sound, open_sound
from cello.cli.stream_table import pictures, print_stream
from cello.deploy.decisions import BACKGROUND
from cello.errors import ConfigError, unknown
from cello.terminal import counted, say

if TYPE_CHECKING:
    from cello.audio.corpus import Corpus
    from cello.trained.evaluate import Evaluation
    from cello.trained.exported import ExportedModel
    from cello.trained.model import Model

WORST_SPEAKERS = 10


@dataclass(frozen=True, kw_only=True)
class Evaluate(Sound):
    """Evaluate a trained or exported model on clips whose labels match; of a study its best run by validation."""

    run_folder: Annotated[
        Positional[Path], arg(help="the folder of a run, of a study, or an exported one", metavar="RUN")
    ]
    corpus: Annotated[str, arg(help=f"the run's own, as it was read for training, unless given: {CORPUS_HELP}")] = ""
    split: Annotated[Literal["test", "validation", "train", "all"], arg(help="the clips that count")] = "test"
    mapping: Annotated[
        tuple[str, ...],
        arg(
            name="map",
            help="which label of the model a label of the corpus is: sheila=unknown …; sheila= leaves it out",
            metavar="LABEL=LABEL",
        ),
    ] = ()
    format: Annotated[Literal["table", "json"], arg(help="how it is printed; json holds every prediction too")] = (
        "table"
    )
    out: Annotated[
        Path | None, arg(help="write predictions.csv there, a row for each clip with its file name and speaker")
    ] = None
    stream: Annotated[
        bool,
        arg(help="string the test clips into one stream with noise between: false alarms an hour against misses"),
        FlagCreatePairsOff,
    ] = False
    false_alarms: Annotated[
        float, arg(help="with --stream, false alarms an hour that the threshold may bring on the validation clips")
    ] = 1.0
    gap_s: Annotated[float, arg(help="with --stream, seconds of noise between two clips")] = 2.0
    window_s: Annotated[
        float | None, arg(help="with --stream, seconds that scores are pooled over; a training clip's unless given")
    ] = None
    smooth_s: Annotated[float, arg(help="with --stream, seconds over which probabilities are averaged")] = 0.2
    refractory_s: Annotated[
        float | None,
        arg(help="with --stream, seconds after a decision without another; half a second more than the window"),
    ] = None
    background: Annotated[
        tuple[str, ...],
        arg(help="with --stream, labels that are never decided for", metavar="LABEL"),
    ] = BACKGROUND
    row: Annotated[str | None, arg(help="of a study, the best run of this row")] = None
    column: Annotated[str | None, arg(help="of a study, the best run of this column")] = None
    precision: Annotated[
        Literal["float32", "float64"] | None,
        arg(help="what a run is computed in, float32 unless given; an exported folder has its own"),
    ] = None

    def run(self, console: Console) -> None:
        import msgspec

        from cello.files import write_whole
        from cello.report.spreadsheet import written
        from cello.trained.evaluate import ClipPrediction, evaluate
        from cello.trained.exported import ExportedModel, load_either

        if self.stream and self.split != "test":
            raise ConfigError(
                "--stream chooses the threshold on validation clips and measures it on test clips; leave out --split"
            )
        model = load_either(self.run_folder, self.row, self.column, self.precision)
        mapping = dict(map(_pair, self.mapping))
        if isinstance(model, ExportedModel):
            self._check_exported(model)
            corpus = open_sound(self, console, model.rate_hz)
        else:
            corpus = open_own(self, model.trained, console)
        if self.stream and not isinstance(model, ExportedModel):
            self._stream(console, model, corpus, mapping)
            return
        found = evaluate(model, corpus, self.split, mapping, cache=self.cache)
        if found.seen:
            warnings.warn(
                f"{found.seen:,} of the {found.clips:,} clips were trained or chosen on, so accuracies are too high",
                stacklevel=2,
            )
        if self.format == "json":
            say(console, msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
        else:
            _print(console, found)
        if self.out is not None:
            self.out.mkdir(parents=True, exist_ok=True)
            rows = (list(msgspec.structs.astuple(one)) for one in found.predictions)
            text = written(ClipPrediction.__struct_fields__, rows)
            write_whole(self.out / "predictions.csv", text.encode("utf-8-sig"))
            if self.format == "table":
                say(console, str(self.out / "predictions.csv"))

    def _check_exported(self, model: ExportedModel) -> None:
        """Raises ConfigError for what only the run of an exported model knows."""
        if self.stream:
            raise ConfigError(
                f"--stream chooses the threshold of a run, and {str(self.run_folder)!r} is an exported model; give the "
                f"folder of run {model.run}, and export it again"
            )
        if not self.spec:
            raise ConfigError(
                f"{str(self.run_folder)!r} is an exported model, which does not say where clips lie; give --corpus, or "
                f"the folder of run {model.run} in its place"
            )

    def _stream(self, console: Console, model: Model, corpus: Corpus, mapping: dict[str, str]) -> None:
        import msgspec

        from cello.files import write_whole
        from cello.trained.model import Model
        from cello.trained.strung import StreamConfig, evaluate_stream

        if self.background != BACKGROUND and (strange := set(self.background) - set(model.labels)):
            raise ConfigError(unknown("label", min(strange), model.labels, "--background takes labels of the model."))
        stated: dict[str, float] = {} if self.refractory_s is None else {"refractory_s": self.refractory_s}
        # what an earlier measurement chose is no default of the next one
        unmeasured = Model(model.trained, precision=model.precision)
        stream = unmeasured.stream(self.window_s, smooth_s=self.smooth_s, background=self.background, **stated)
        # so long a word is in sight
        config = StreamConfig(gap_s=self.gap_s, tolerance_s=stream.window_s, most_false_alarms=self.false_alarms)
        found = evaluate_stream(model, corpus, config, stream.config, self.window_s, mapping)
        text = msgspec.json.format(msgspec.json.encode(found), indent=2)
        if self.format == "json":
            say(console, text.decode())
        else:
            print_stream(console, found)
        if self.out is not None:
            self.out.mkdir(parents=True, exist_ok=True)
            for name, content in {"stream.json": text, **pictures(found)}.items():
                write_whole(self.out / name, content)
                if self.format == "table":
                    say(console, str(self.out / name))


def _pair(text: str) -> tuple[str, str]:
    one, equals, other = text.partition("=")
    if not (one and equals):
        raise ConfigError(f"--map {text} is not LABEL=LABEL; write sheila=unknown, or sheila= to leave its clips out")
    return one, other


def _print(console: Console, found: Evaluation) -> None:
    value, low, high, groups = found.accuracy
    left = f", {found.left_out:,} left out" if found.left_out else ""
    say(console, f"run {found.run} on {found.corpus}, {found.split}: {counted(found.clips, 'clip')}{left}")
    speakers = len(found.speakers)
    of = groups_in_words(speakers, groups - speakers) if found.over == "speakers" else f"{groups:,}"
    interval = f"95 % interval {100 * low:.2f} to {100 * high:.2f} %, for new {found.over}, from {of}"
    say(
        console,
        f"accuracy {100 * value:.2f} % ({interval}), word mean {100 * found.word_mean:.2f} %, loss {found.loss:.4g}, "
        f"calibration error {100 * found.calibration_error:.2f} %",
    )
    labels = Table("label", "clips", "accuracy", "most often taken for", title="By label")
    for k, (label, row) in enumerate(zip(found.labels, found.confusion, strict=True)):
        if total := sum(row):
            wrong = [(count, found.labels[j]) for j, count in enumerate(row) if j != k and count]
            taken = ", ".join(f"{other} {count}" for count, other in sorted(wrong, reverse=True)[:3])
            labels.add_row(label, f"{total:,}", f"{100 * row[k] / total:.2f} %", taken)
    console.print(labels)
    bins = Table("probability", "clips", "mean", "accuracy", title="Reliability of probabilities")
    for one in found.reliability:
        wide = f"{100 * one.low:.0f} to {100 * one.high:.0f} %"
        bins.add_row(wide, f"{one.clips:,}", f"{100 * one.confidence:.1f} %", f"{100 * one.accuracy:.1f} %")
    console.print(bins)
    if found.speakers:
        worst = Table(
            "speaker", "clips", "accuracy", title=f"Least accurate of {counted(len(found.speakers), 'speaker')}"
        )
        for who in found.speakers[:WORST_SPEAKERS]:
            worst.add_row(who.speaker, f"{who.clips:,}", f"{100 * who.accuracy:.2f} %")
        console.print(worst)
