"""What hurts: a built-in study nobody can look at or change, a setting nobody explains, a run that says nothing."""

from __future__ import annotations

import io
import json
import re
import shutil
import wave
from pathlib import Path

import msgspec
import numpy as np
import pytest
from rich.console import Console

from cello.audio.corpus import Corpus, Manifest
from cello.cli.main import main
from cello.cli.train import _shown, epoch_line, times
from cello.report.results import load_results
from cello.report.write import write_report
from cello.study.catalogue import BUILTIN, builtin_text
from cello.study.settings import known_settings
from cello.study.store import Store
from cello.terminal import Terminal
from cello.training.config import CorpusRef, OptimiserConfig, RunConfig
from cello.training.remark import remark
from cello.training.result import NOT_EVALUATED, Epoch, RunResult, SplitMetrics


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = main(arguments)
    printed = capsys.readouterr()
    return status, printed.out, " ".join(printed.err.split())


def joined(text: str) -> str:
    return " ".join(text.split())


def test_the_list_names_every_built_in_study(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    status, out, err = run(capsys, "study", "--list")
    assert (status, err) == (0, "")
    for name, protocols in BUILTIN.items():
        assert re.search(rf"{name} +│ {', '.join(protocols)} +│ [A-Z].*", out), name


@pytest.mark.parametrize("options", [(), ("--protocol", "published")])
def test_a_study_is_shown_letter_by_letter(capsys: pytest.CaptureFixture[str], options: tuple[str, ...]) -> None:
    status, out, err = run(capsys, "study", "--show", "gates", *options)
    assert (status, err) == (0, "")
    assert out == builtin_text("gates", *options[1:])


def test_a_shown_study_is_saved_and_dry_runs_as_the_built_in_one(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.toml").write_text(run(capsys, "study", "--show", "windows")[1], "utf-8")
    options = ("--corpus", "folder:x", "--dry-run")
    mine, built_in = (run(capsys, "study", name, *options) for name in ("mine.toml", "windows"))
    assert mine == built_in
    assert "72 to do" in mine[1]


def test_every_setting_is_told_on_a_terminal_and_in_the_help(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    status, out, err = run(capsys, "study", "--settings")
    assert (status, err) == (0, "")
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    told = joined(capsys.readouterr().out.replace("│", " "))
    for setting in known_settings():
        assert re.search(rf"{re.escape(setting.name)} ", out), setting.name
        assert setting.help[:60] in joined(out), setting.name
        assert f"--{setting.name.replace('_', '-')}" in told
        assert setting.help[:60] in told, setting.name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "error: no study is named; give one, as cello study gates (cello study --list names them)"),
        (("--show", "gatse"), "error: unknown study 'gatse'; did you mean 'gates'? Known: data, "),
        (("--show", "zoo", "--protocol", "published"), "error: unknown protocol 'published'. Known: fair, quick."),
        (
            ("--list", "--settings"),
            "error: --list, --show and --settings cannot be combined with each other, a study or --dry-run",
        ),
        (("gates", "--list"), "error: --list, --show and --settings cannot be combined"),
        (("--show", "gates", "--seeds", "3"), "error: --seeds changes nothing of what --list, --show and --settings"),
        (
            ("--show", "gates", "--set", "a=1"),
            "error: --set changes nothing of what --list, --show and --settings print",
        ),
        (("--list", "--protocol", "fair"), "error: --protocol changes nothing of what --list, --show and --settings"),
        (
            ("gates", "--set", "model.hiden=3"),
            "error: --set: unknown setting 'model.hiden'; did you mean 'model.h",
        ),
        (
            ("gates", "--set", "model.hidden=0"),
            "row 'LSTM', column '40 ms': model.hidden=0 is invalid: it must be at least 1",
        ),
        (
            ("gates", "--set", "optimiser.epochs=3", "--epochs", "4"),
            "error: --epochs 4 and --set optimiser.epochs=3 cannot be combined",
        ),
    ],
)
def test_what_makes_no_sense_is_one_sentence(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    status, out, err = run(capsys, "study", *arguments)
    assert (status, out) == (1, "")
    assert message in err


@pytest.mark.filterwarnings("default")
def test_what_set_replaces_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--protocol", "published", "--set", "model.hidden=96", "--corpus", "folder:x", "--dry-run")
    status, out, err = run(capsys, "study", "windows", *arguments)
    assert status == 0
    assert err.startswith(
        "warning: model.hidden = 96 replaces what the study states in row 'RNN' (256), row 'GRU' (64)"
    )
    assert "256" not in out


EPOCH = Epoch(
    epoch=2,
    learning_rate=1e-3,
    train_loss=1.25,
    train_accuracy=0.5,
    validation_loss=1.5,
    validation_accuracy=0.25,
    train_seconds=1.0,
    train_cpu_seconds=1.0,
    data_seconds=0.5,
    validation_seconds=0.25,
)
LINE = (
    "epoch 2/9: train loss 1.2500, train accuracy 50.00 %, validation loss 1.5000, validation accuracy 25.00 %, 1.8 s, "
    "training 1.0 s"
)


@pytest.mark.parametrize("terminal", [False, True])
def test_a_log_has_a_line_an_epoch_and_a_terminal_a_bar(terminal: bool) -> None:
    out = io.StringIO()
    console: Console = Terminal(file=out, force_terminal=terminal, width=100)
    with _shown(console, "gru", 9) as show:
        show(EPOCH)
    assert epoch_line(EPOCH, 9) == LINE
    assert (out.getvalue() == f"{LINE}\n") is not terminal
    assert ("validation 25.00 %" in out.getvalue()) is terminal


def finished(manifest: Manifest, accuracy: float, pooling: str = "attention", epochs: int = 30) -> RunResult:
    config = RunConfig(corpus=CorpusRef(name="x", checksum="0"), optimiser=OptimiserConfig(epochs=epochs))
    split = SplitMetrics(clips=9, loss=1.0, accuracy=accuracy, word_mean=accuracy)
    return RunResult(
        run=config.id,
        config=msgspec.structs.replace(config, model=msgspec.structs.replace(config.model, pooling=pooling)),
        labels=manifest.labels,
        parameters=1,
        backend="plain",
        chosen_epoch=1,
        train=split,
        validation=split,
        test=NOT_EVALUATED,
        confusion=(),
        seconds_per_epoch=1.0,
        wall_seconds_per_epoch=1.0,
        clips_per_second=1.0,
        total_seconds=1.0,
        hardware={},
        versions={},
        history=(),
    )


def test_the_summary_says_seconds_and_clips_of_training_and_of_the_whole_epoch(tone_corpus: Corpus) -> None:
    result = finished(tone_corpus.manifest, 0.7)
    assert times(result) == "training 1.00 s/epoch (1 clips/s)"
    old = msgspec.structs.replace(result, history=(EPOCH,))
    assert times(old) == "training 1.00 s/epoch (1 clips/s), whole epoch 1.75 s (5 clips/s)"
    new = msgspec.structs.replace(old, epoch_cpu_seconds=2.5)
    assert times(new).endswith(", whole epoch 1.75 s (5 clips/s, 2.50 s of CPU time)")
    tiny = msgspec.structs.replace(new, seconds_per_epoch=0.0004, epoch_seconds=0.0214, epoch_cpu_seconds=0.019)
    assert times(tiny) == "training under 1 ms/epoch (1 clips/s), whole epoch 21 ms (5 clips/s, 19 ms of CPU time)"
    line = epoch_line(msgspec.structs.replace(EPOCH, epoch_seconds=0.021, train_cpu_seconds=0.0152), 3)
    assert line.endswith(", 21 ms, training 15 ms")
    assert epoch_line(msgspec.structs.replace(EPOCH, epoch_seconds=12.34), 3).endswith(" %, 12.3 s, training 1.0 s")


def test_a_training_accuracy_that_stays_low_is_remarked_on(tone_corpus: Corpus) -> None:
    manifest = tone_corpus.manifest  # three labels, as many clips each: guessing one is right in a third
    assert remark(finished(manifest, 0.7), manifest) == ""
    assert remark(finished(manifest, 0.4, epochs=2), manifest) == ""
    said = remark(finished(manifest, 0.4), manifest)
    assert said == (
        "accuracy on the training clips themselves is only 40.0%, and always answering the most frequent label gives "
        "33.3%. Try more epochs than optimiser.epochs=30 or another learning rate than optimiser.learning_rate=0.002."
    )
    assert "Try mean or attention pooling (model.pooling), more epochs" in remark(
        finished(manifest, 0.4, "last"), manifest
    )
    clips = tuple(msgspec.structs.replace(clip, samples=3 * manifest.rate_hz) for clip in manifest.clips)
    long = msgspec.structs.replace(manifest, clips=clips)
    assert "pooling (model.pooling, for clips of 3.0 s on average), more" in remark(finished(long, 0.4, "last"), long)


def test_always_the_most_frequent_label_is_no_learning(tone_corpus: Corpus) -> None:
    first = tone_corpus.manifest.labels[0]
    clips = [clip for clip in tone_corpus.manifest.clips if clip.split == "train"]
    most = [msgspec.structs.replace(clip, label=first) for clip in clips[1:]]
    manifest = msgspec.structs.replace(
        tone_corpus.manifest, clips=(msgspec.structs.replace(clips[0], label="low"), *most)
    )
    share = len(most) / len(clips)
    assert f"only {share:.1%}, and always answering the most frequent label gives {share:.1%}." in remark(
        finished(manifest, share), manifest
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that the command made, of three labels and nine speakers."""
    root = tmp_path_factory.mktemp("trained")
    rng = np.random.default_rng(0)
    for word in ("high", "low", "rough"):
        (root / "clips" / word).mkdir(parents=True)
        for speaker in range(9):
            with wave.open(str(root / "clips" / word / f"s{speaker}_nohash_0.wav"), "wb") as file:
                file.setnchannels(1)
                file.setsampwidth(2)
                file.setframerate(16_000)
                file.writeframes(rng.integers(-9000, 9000, 6400).astype("<i2").tobytes())
    options = ["--cache", str(root / "cache"), "--out", str(root / "run"), "--model.hidden", "3"]
    assert main(["train", "--corpus", f"folder:{root / 'clips'}", "--optimiser.epochs", "2", *options]) == 0
    return root / "run"


def test_a_single_run_is_reported_as_one_run(trained: Path, tmp_path: Path) -> None:
    results = load_results(trained)
    assert (results.single, results.rows, results.columns, results.seeds) == (True, ("gru",), ("",), (0,))
    formats = ("md", "html", "csv", "latex", "json")
    for path in write_report(trained, formats=formats, out=tmp_path):
        assert path.stat().st_size
    text = (tmp_path / "report.md").read_text("utf-8")
    assert "A single run: gru, seed 0, 2 epochs. It is compared with nothing." in text
    assert "One seed: nothing here says how much the figures vary with the seed" in text
    assert "Best by" not in text
    assert "## Comparisons" not in text
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "Learning curves" in page
    assert "Confusion matrices" in page
    assert json.loads((tmp_path / "report.json").read_text("utf-8"))["study"]["protocol"] == "single run"


def test_a_single_run_is_exported(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    status, _, err = run(capsys, "report", str(trained), "--format", "parquet", "--predictions", "--out", str(tmp_path))
    assert (status, err) == (0, "")
    rows = {
        name: parquet.read_table(tmp_path / f"{name}.parquet").num_rows for name in ("runs", "epochs", "predictions")
    }
    clips = json.loads((trained / "result.json").read_text())["test"]["clips"]
    assert rows == {"runs": 1, "epochs": 2, "predictions": clips}


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        ("result.json", "is not finished; give its command again to go on with it"),
        (
            "corpus.json",
            "is a run without corpus.json, which describes its clips; give its cello train command",
        ),
        ("config.json", "holds no study (no study.json in it)"),
    ],
)
def test_half_a_run_is_named(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], lost: str, message: str
) -> None:
    shutil.copytree(trained, tmp_path / "a" / "b" / "run")
    (tmp_path / "a" / "b" / "run" / lost).unlink()
    status, out, err = run(capsys, "report", str(tmp_path / "a" / "b" / "run"))
    assert (status, out) == (1, "")
    assert message in err


@pytest.mark.parametrize("name", ["result.json", "corpus.json"])
def test_a_damaged_run_is_refused_by_name(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    shutil.copytree(trained, tmp_path / "run")
    path = tmp_path / "run" / name
    path.write_bytes(path.read_bytes()[:-9])
    status, out, err = run(capsys, "report", str(tmp_path / "run"))
    assert (status, out) == (1, "")
    assert f"{path} is damaged: " in err


def test_another_corpus_beside_a_run_is_refused(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(trained, tmp_path / "run")
    other = Path(__file__).parents[1] / "study" / "assets" / "format_1" / "corpus.json"
    shutil.copy(other, tmp_path / "run" / "corpus.json")
    status, _, err = run(capsys, "report", str(tmp_path / "run"))
    assert status == 1
    assert "its corpus.json describes another corpus than its run was trained on" in err


def test_a_run_of_a_study_is_reported_by_itself() -> None:
    store = Path(__file__).parents[2] / "results" / "speech_commands_12" / "gates-fair"
    one = Store.open(store).results()[0]
    results = load_results(store / "runs" / one.id)
    assert (results.single, results.runs[0].result) == (True, one.result)
