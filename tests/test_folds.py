"""What hurts: cross-validation that tests a clip twice or never, trains one again, or reports it as another thing."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from cello.cli.main import main
from cello.report.results import load_results
from cello.study.correctness import outcomes
from cello.study.merge import merge_stores
from cello.study.store import Store

STUDY = """
name = "mine"
[base.features]
n_mels = 8
n_mfcc = 6
window_ms = 50
[base.model]
hidden = 4
[base.optimiser]
epochs = 1
[[rows]]
name = "GRU"
[rows.model]
cell = "torch:gru"
[[rows]]
name = "RNN"
[rows.model]
cell = "torch:rnn"
"""
ESC = "study mine.toml --corpus folder:esc --table esc50.csv --columns path=filename label=category --out out"
RAVDESS = (
    r"--corpus folder:ravdess --pattern /\d+-\d+-(?P<label>\d+)-\d+-\d+-\d+-(?P<speaker>\d+) --features.n-mels 8 "
    "--features.n-mfcc 6 --features.window-ms 50 --model.hidden 4 --model.cell torch:gru --optimiser.epochs 1 "
)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with a study's file."""
    (tmp_path / "mine.toml").write_text(STUDY)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def esc50(folder: Path) -> None:
    """Clips and a table as those of ESC-50, but of 0.3 s: 44.1 kHz, stereo, five folds."""
    (folder / "esc").mkdir()
    rng, time = np.random.default_rng(0), np.arange(13_230) / 44_100
    with (folder / "esc50.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["filename", "fold", "target", "category", "esc10", "src_file", "take"])
        for fold in range(1, 6):
            for target, category in enumerate(("dog", "rain", "clock")):
                name = f"{fold}-{100 * fold + target}-A-{target}.wav"
                sound = 0.2 * np.sin(2 * np.pi * 400 * (target + 1) * time) + rng.normal(0, 0.2, len(time))
                soundfile.write(folder / "esc" / name, np.stack([sound, sound], 1), 44_100, subtype="PCM_16")
                table.writerow([name, fold, target, category, "False", 100 * fold + target, "A"])


def ravdess(folder: Path, actors: int = 4) -> None:
    """Clips with the names of RAVDESS: the third number is the emotion, the last one the actor."""
    rng = np.random.default_rng(0)
    for actor in range(1, actors + 1):
        (folder / "ravdess" / f"Actor_{actor:02}").mkdir(parents=True)
        for emotion in (5, 6):
            for take in (1, 2):
                name = f"ravdess/Actor_{actor:02}/03-01-{emotion:02}-01-02-{take:02}-{actor:02}.wav"
                soundfile.write(folder / name, rng.normal(0, 0.02 * emotion, 4800), 16_000, subtype="PCM_16")


def run(command: str) -> None:
    assert main(command.split()) == 0


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_from_the_table_of_esc50_through_five_folds_to_a_report_that_counts_each_clip_once(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    esc50(here)
    run(f"{ESC} --folds column --dry-run")
    assert "0 of 10 runs (5 folds of each model and seed) are finished, 10 to do" in capsys.readouterr().out
    run(f"{ESC} --folds column")
    store = Store.open(here / "out")
    assert len(store.results()) == 10
    _holds_each_clip_once(store, ("1", "2", "3", "4", "5"))
    report = (here / "out" / "report" / "report.md").read_text("utf-8")
    for sentence in (
        "2 models × 1 seed × 5 folds: all 10 runs are finished.",
        "Cross-validation: 5 folds as the corpus gives them. Each fold tests in turn while the one before it validates",
        "each of the 15 clips is tested exactly once",
        "| Model | Fold: 1 | Fold: 2 | Fold: 3 | Fold: 4 | Fold: 5 | pooled |",
        r"corrected resampled t-test (Nadeau \& Bengio 2003, doi:10.1023/A:1024068626366) over the 5 folds",
        "with 1 random seed (0) on each of 5 folds, 10 runs in all",
        "Training sets of 5 folds overlap",
    ):
        assert sentence in report, sentence
    document = json.loads((here / "out" / "report" / "report.json").read_text("utf-8"))
    assert [run["test"]["clips"] for run in document["runs"]] == [15, 15]
    assert [run["clips"] for run in document["cross_validation"]["runs"]] == [3] * 10
    pooled = {run["row"]: run["test"]["accuracy"] for run in document["runs"]}
    for row, accuracy in pooled.items():
        own = [run["accuracy"] for run in document["cross_validation"]["runs"] if run["row"] == row]
        assert accuracy == pytest.approx(np.mean(own))  # of folds of equally many clips

    capsys.readouterr()
    run(f"{ESC} --folds column --dry-run")
    assert (
        "10 of 10 runs (5 folds of each model and seed) are finished, 0 to do; nothing would run"
        in capsys.readouterr().out
    )
    assert main(f"{ESC} --folds 3".split()) == 1
    assert "holds another study: its division into folds is column, not 3" in capsys.readouterr().err
    _exports_each_clip_once(store)


def _exports_each_clip_once(store: Store) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    run("report out --format parquet --predictions")
    rows = parquet.read_table("out/report/predictions.parquet").to_pylist()
    own = {stored.id for stored in store.results() if stored.row == "GRU"}
    clips = [row["clip"] for row in rows if row["run"] in own]
    assert sorted(clips) == list(range(15))
    assert all(row["speaker"] == store.corpus.test_speakers[row["clip"]] for row in rows)


def _holds_each_clip_once(store: Store, folds: tuple[str, ...]) -> None:
    corpus = store.corpus
    assert corpus.fold_names == folds
    assert len(set(corpus.test_names)) == len(corpus.test_names) == corpus.splits["test"].clips
    labels = [corpus.labels[target] for target in outcomes(store)["GRU"].targets]
    with Path("esc50.csv").open(newline="") as file:
        said = {row["filename"]: row for row in csv.DictReader(file)}
    assert labels == [said[name]["category"] for name in corpus.test_names]
    assert [folds[number] for number in corpus.test_folds] == [said[name]["fold"] for name in corpus.test_names]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_studies_of_two_machines_with_other_seeds_make_one_of_all_folds(here: Path) -> None:
    esc50(here)
    one = STUDY.partition("[[rows]]")[0] + '[[rows]]\nname = "GRU"\n'
    (here / "mine.toml").write_text(f'folds = "column"\n{one}')
    run(ESC)
    (here / "mine.toml").write_text(f'folds = "column"\nseeds = [1]\n{one}')
    run(ESC.replace("--out out", "--out other"))
    merged = merge_stores([here / "out", here / "other"], here / "merged")
    assert len(merged.results()) == 10
    found = load_results(here / "merged")
    assert [(r.row, r.seed, r.result.test.clips) for r in found.runs] == [("GRU", 0, 15), ("GRU", 1, 15)]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_one_actor_is_left_out_where_names_are_those_of_ravdess(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ravdess(here)
    heard: list[str] = []
    for actor in ("01", "02", "03", "04"):
        run(f"train {RAVDESS} --folds speaker --data.fold {actor} --out runs/{actor}")
        found = load_results(here / "runs" / actor)
        assert found.corpus.speaker_names  # of all actors, whose numbers those of the fold's clips are
        assert {name.rpartition("-")[2] for name in found.corpus.test_names} == {f"{actor}.wav"}
        heard += found.corpus.test_names
    assert len(set(heard)) == len(heard) == 16
    capsys.readouterr()
    assert main(f"train {RAVDESS} --folds speaker".split()) == 1
    assert "ravdess has 4 folds of one speaker each, but no test fold is given" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_study_that_leaves_one_actor_out_compares_models_by_one_seed(here: Path) -> None:
    ravdess(here)
    corpus = RAVDESS.partition(" --features")[0]
    run(f"study mine.toml {corpus} --folds speaker --workers 2 --out out")
    found = load_results(here / "out")
    (evidence,) = found.comparisons
    assert len(evidence.comparisons) == 1
    assert evidence.comparisons[0].folds == 4
    assert not evidence.comparisons[0].indicative
    report = (here / "out" / "report" / "report.md").read_text("utf-8")
    assert "Cross-validation: 4 folds of one speaker each." in report
    assert "(no speaker is in two of them)" in report
    assert "hold for new training sets and new speakers" in report
    run_of_fold = next((here / "out" / "runs").iterdir())
    assert len(load_results(run_of_fold).corpus.test_names) == 4  # one run by itself is of its fold's clips
