"""What hurts: an export that overwrites, says what was not measured, or leaves out what was asked for."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import made_runs
from cello.audio.corpus import Corpus
from cello.deploy.decisions import BACKGROUND
from cello.deploy.manifest import MANIFEST, Int8Facts
from cello.deploy.package import load, read_manifest
from cello.errors import CorpusError, ExportError, ModelError
from cello.export.measured import check_int8, int8_cost, run_accuracy, store_and_run
from cello.export.package import Package, StreamOptions, write_package
from cello.export.reference import as_floats
from cello.export.self_test import check_folder
from cello.statistics.detection import Rates
from cello.trained.run import TrainedRun, read_run
from cello.trained.strung import StreamConfig, StreamEvaluation
from made_packages import SMALL, run_cello

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")


@pytest.fixture
def trained(tmp_path: Path, tone_corpus: Corpus) -> TrainedRun:
    return read_run(made_runs.make_run(tmp_path / "run", tone_corpus.manifest, features=SMALL))


@pytest.fixture
def copy(exported: Path, tmp_path: Path) -> tuple[TrainedRun, Path]:
    """A run, and an export of it that a test may change."""
    shutil.copytree(exported.parent, tmp_path / "both")
    return read_run(tmp_path / "both" / "run"), tmp_path / "both" / "model"


RATES = Rates(
    threshold=0.94, miss_rate=0.1, miss_interval=(0.05, 0.2), false_alarms=2, in_noise=2, in_other_words=0,
    false_alarms_an_hour=0.8, false_alarms_interval=(0.1, 2.9), confusion_rate=0.0, repeat_rate=0.0, latency_s=0.2,
    latency_95_s=0.3,
)  # fmt: skip


def measured(run: str, **changed: object) -> StreamEvaluation:
    found = StreamEvaluation(
        run=run, corpus="tones", window_s=0.9375, smooth_s=0.2, refractory_s=1.0, background=BACKGROUND, delay_s=0.02,
        config=StreamConfig(), hours=2.6, hours_without_words=2.5, words=60, other_words=0, speakers=4,
        threshold=0.94, validation=None, test=RATES, curve=(),
    )  # fmt: skip
    return msgspec.structs.replace(found, **changed)


def test_the_manifest_says_what_the_model_is_and_was_measured(exported: Path) -> None:
    manifest, run = read_manifest(exported), read_run(exported.parent / "run")
    assert manifest.run == run.result.run
    assert manifest.exits == {
        "numpy": ("model.safetensors", "cell.json"),
        "onnx": ("model.onnx", "step.onnx"),
        "c99": ("gru.h", "gru.c"),
        "page": ("index.html",),
    }
    assert set(manifest.files) == {path.name for path in exported.iterdir()} - {MANIFEST}
    assert manifest.front_end.window_samples == SMALL.window_samples
    assert manifest.stream is not None
    assert (manifest.stream.threshold, manifest.stream.measured) == (0.8, None)
    assert manifest.corpus.clips == {"train": 24, "validation": 9, "test": 9}
    assert manifest.word_accuracy == {"high": 1.0, "low": 1.0, "rough": 1.0}
    assert not manifest.left_out
    assert len(list(exported.parent.iterdir())) == 2, "nothing temporary is left"


def test_an_earlier_export_of_the_run_is_replaced_and_nothing_else(copy: tuple[TrainedRun, Path]) -> None:
    trained, folder = copy
    write_package(Package(trained=trained, forms=("c99",)), folder)
    assert sorted(path.suffix for path in folder.iterdir() if path.stem == "gru") == [".c", ".h"]
    assert not (folder / "model.onnx").exists()
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(ExportError, match=r"holds 'notes.txt', which is not of the export that is there; move it away"):
        write_package(Package(trained=trained), folder)
    (folder / MANIFEST).unlink()
    with pytest.raises(ExportError, match="holds files that are no export of this run, and nothing is overwritten"):
        write_package(Package(trained=trained), folder)
    assert (folder / "notes.txt").read_text() == "mine"


def test_an_export_of_another_run_and_a_file_are_not_replaced(
    exported: Path, trained: TrainedRun, tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match=f"holds an export of run .*, not of {trained.result.run}; choose another"):
        write_package(Package(trained=trained), exported)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ExportError, match="is no folder; choose another --out"):
        write_package(Package(trained=trained), tmp_path / "file")
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(ExportError, match="is no folder"):
        write_package(Package(trained=trained), tmp_path / "link")


def test_a_form_that_cannot_be_is_left_out_or_refused_where_it_was_asked_for(
    tmp_path: Path, tone_corpus: Corpus
) -> None:
    run = read_run(made_runs.make_run(tmp_path / "run", tone_corpus.manifest, features=SMALL, bidirectional=True))
    manifest = write_package(Package(trained=run), tmp_path / "all")
    assert set(manifest.left_out) == {"stream", "c99"}
    assert "train with model.bidirectional=false" in manifest.left_out["stream"]
    assert manifest.exits["onnx"] == ("model.onnx",)
    assert "Not in this folder, c99" in (tmp_path / "all" / "README.md").read_text()
    assert all(check.passed for check in check_folder(tmp_path / "all"))
    with pytest.raises(ExportError, match=r"cannot be written as c99: .*bidirectional"):
        write_package(Package(trained=run, forms=("c99",)), tmp_path / "c99")
    assert not (tmp_path / "c99").exists()
    assert not list(tmp_path.glob(".*.part"))


def test_the_measured_threshold_is_the_streams_with_its_rates(trained: TrainedRun, tmp_path: Path) -> None:
    (trained.folder / "stream.json").write_bytes(msgspec.json.encode(measured(trained.result.run)))
    manifest = write_package(Package(trained=trained, forms=("onnx",)), tmp_path / "one")
    assert manifest.stream is not None
    assert manifest.stream.threshold == 0.94
    assert manifest.stream.measured is not None
    assert manifest.stream.measured.false_alarms_an_hour.high == 2.9
    card = (tmp_path / "one" / "README.md").read_text("utf-8")
    assert " of tones with 60 clips of its labels: 0.80 false alarms an hour (0.10 to 2.90)" in card
    assert load(tmp_path / "one").stream().config.threshold == 0.94


@pytest.mark.parametrize(
    ("options", "changed"),
    [
        (StreamOptions(threshold=0.5), {}),
        (StreamOptions(smooth_s=0.4), {}),
        (StreamOptions(window_s=0.5), {}),
        (StreamOptions(background=("low",)), {}),
        (StreamOptions(), {"run": "another"}),
        (StreamOptions(), {"threshold": None}),
    ],
)
def test_rates_measured_with_other_settings_are_not_claimed(
    trained: TrainedRun, tmp_path: Path, options: StreamOptions, changed: dict[str, object]
) -> None:
    found = msgspec.structs.replace(measured(trained.result.run), **changed)
    (trained.folder / "stream.json").write_bytes(msgspec.json.encode(found))
    manifest = write_package(Package(trained=trained, forms=("c99",), stream=options), tmp_path / "one")
    assert manifest.stream is not None
    assert manifest.stream.measured is None
    assert "The threshold was not measured" in (tmp_path / "one" / "README.md").read_text()


def test_settings_of_the_stream_are_in_every_form(trained: TrainedRun, tmp_path: Path) -> None:
    options = StreamOptions(window_s=0.5, threshold=0.66, smooth_s=0.1, refractory_s=0.7, background=("rough",))
    write_package(Package(trained=trained, stream=options), tmp_path / "one")
    told = json.loads((tmp_path / "one" / MANIFEST).read_text())["stream"]
    assert [told[f] for f in ("window_s", "threshold", "smooth_s", "refractory_s")] == [0.5, 0.66, 0.1, 0.7]
    page = (tmp_path / "one" / "index.html").read_text()
    for text in ('"window_s":0.5', '"threshold":0.66', '"background":["rough"]'):
        assert text in page
    assert "#define GRU_THRESHOLD 0.66\n" in (tmp_path / "one" / "gru.h").read_text()
    assert all(check.passed is not False for check in check_folder(tmp_path / "one"))
    with pytest.raises(ExportError, match="--background 'none' is no label of the model, which has high, low, rough"):
        write_package(Package(trained=trained, stream=StreamOptions(background=("none",))), tmp_path / "two")


def test_int8_weights_are_in_every_form_and_its_scores_are_the_references(trained: TrainedRun, tmp_path: Path) -> None:
    write_package(Package(trained=trained, forms=("c99", "onnx")), tmp_path / "float")
    manifest = write_package(Package(trained=trained, forms=("c99", "onnx"), int8=Int8Facts()), tmp_path / "int8")
    assert manifest.int8 == Int8Facts()
    assert b"int8_t head" in (tmp_path / "int8" / "gru.c").read_bytes()
    assert b"int8_t head" not in (tmp_path / "float" / "gru.c").read_bytes()
    assert all(check.passed is not False for check in check_folder(tmp_path / "int8"))
    assert "accuracy lost by it: not measured" in (tmp_path / "int8" / "README.md").read_text()


def test_what_int8_costs_is_measured_on_validation_clips(trained: TrainedRun, tone_corpus: Corpus) -> None:
    cost = int8_cost(trained, tone_corpus)
    assert cost.accuracy is not None
    assert cost.accuracy_float32 is not None
    assert cost.points_lost == 100 * (cost.accuracy_float32 - cost.accuracy)
    check_int8(cost, 100)
    check_int8(Int8Facts(), None)
    with pytest.raises(ExportError, match=r"int8 weights cost 2\.00 points of validation accuracy, more than --most"):
        check_int8(Int8Facts(accuracy=0.9, accuracy_float32=0.92, points_lost=2.0), 0.5)
    with pytest.raises(ExportError, match=r"--most-int8-loss 0\.5 needs the validation clips .*; give --corpus too"):
        check_int8(Int8Facts(), 0.5)


def test_int8_is_not_measured_on_labels_that_the_model_has_not(trained: TrainedRun, tone_corpus: Corpus) -> None:
    clips = tuple(msgspec.structs.replace(clip, label="new") for clip in tone_corpus.manifest.clips)
    manifest = msgspec.structs.replace(tone_corpus.manifest, clips=clips, labels=("new",), checksum="1" * 64)
    corpus = Corpus(manifest, tone_corpus.sound)
    with pytest.raises(CorpusError, match=r"the model has no label 'new' of 'tones'; .* the same --labels"):
        int8_cost(trained, corpus)


def test_accuracy_has_an_interval_over_speakers_where_predictions_are_there(trained: TrainedRun) -> None:
    store, _ = store_and_run(trained)
    alone = run_accuracy(trained, store)
    assert alone is not None
    assert (alone.value, alone.low) == (0.5, None)
    target = np.repeat(np.arange(3), 3)
    arrays = {"target": target, "prediction": np.where(np.arange(9) % 2, target, 0), "label_probability": target * 0.0}
    np.savez(trained.folder / "predictions.npz", **arrays)  # type: ignore[arg-type]
    found = run_accuracy(trained, store)
    assert found is not None
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.high
    assert found.over.endswith(("speakers", "clips"))
    known = {"test_speakers": (0, 0, 1, 1, 2, 2, 3, 3, 3), "speakers_known": True}
    for names, over in (((*"abcd",), "4 speakers"), (("", "", *"cd"), "2 speakers and 2 recordings of noise")):
        store.corpus = msgspec.structs.replace(store.corpus, speaker_names=names, **known)
        found = run_accuracy(trained, store)
        assert found is not None
        assert found.over == over


def test_a_cell_of_ones_own_leaves_without_the_way_to_its_file(tmp_path: Path, tone_corpus: Corpus) -> None:
    own = tmp_path / "secret place" / "mine.py"
    own.parent.mkdir()
    own.write_text(
        "from cello import cell, tanh\n\n\n@cell\ndef mine(x, h, W, U, b):\n"
        '    """Mine: a plain cell."""\n    return tanh(W @ x + U @ h + b)\n'
    )
    run = made_runs.make_run(tmp_path / "run", tone_corpus.manifest, features=SMALL, cell=f"{own}:mine")
    manifest = write_package(Package(trained=read_run(run)), tmp_path / "model")
    assert manifest.model["cell"] == "mine.py:mine"
    assert not [p.name for p in (tmp_path / "model").iterdir() if b"secret place" in p.read_bytes()]
    assert all(check.passed is not False for check in check_folder(tmp_path / "model"))


def test_labels_cannot_write_the_cards_markdown(trained: TrainedRun, tmp_path: Path) -> None:
    labels = ("a|b", "[x](http://evil)", "<script>")
    result = msgspec.structs.replace(trained.result, labels=labels)
    write_package(Package(trained=replace(trained, result=result), forms=("c99",)), tmp_path / "one")
    card = (tmp_path / "one" / "README.md").read_text()
    assert "[x](" not in card
    assert "<script>" not in card
    assert r"| a\|b | 100.00 % |" in card


def test_the_card_says_that_its_accuracy_is_of_clips_with_lost_frames(trained: TrainedRun, tmp_path: Path) -> None:
    data = msgspec.structs.replace(trained.result.config.data, lost_frames=0.3)
    config = msgspec.structs.replace(trained.result.config, data=data)
    result = msgspec.structs.replace(trained.result, config=config)
    write_package(Package(trained=replace(trained, result=result), forms=("c99",)), tmp_path / "one")
    assert "These clips missed 30 % of their frames, as in training" in (tmp_path / "one" / "README.md").read_text()


def test_a_page_shows_models_side_by_side_the_exported_one_first(
    trained: TrainedRun, tmp_path: Path, tone_corpus: Corpus
) -> None:
    other = read_run(made_runs.make_run(tmp_path / "other", tone_corpus.manifest, features=SMALL, cell="lstm"))
    one = read_run(made_runs.make_run(tmp_path / "both", tone_corpus.manifest, features=SMALL, bidirectional=True))
    options = StreamOptions(threshold=0.61)
    write_package(
        Package(trained=one, forms=("page",), beside=(other, one, trained), stream=options), tmp_path / "page"
    )
    page = (tmp_path / "page" / "index.html").read_text()
    text = page.split("const MODELS = ")[1].split("\n];")[0]
    models = json.loads(text.rstrip(",\n") + "]")
    assert [model["layers"][0][0]["cell"] for model in models] == ["cell_gru", "cell_lstm", "cell_gru"]
    assert [len(model["layers"][0]) for model in models] == [2, 1, 1]
    assert {model["stream"]["threshold"] for model in models} == {0.61}


def test_the_card_says_which_epoch_and_how_it_was_chosen(trained: TrainedRun, tmp_path: Path) -> None:
    for choose, how in (("last", "the last, fixed beforehand"), ("best", "chosen on the validation clips")):
        optimiser = msgspec.structs.replace(trained.result.config.optimiser, choose=choose)
        config = msgspec.structs.replace(trained.result.config, optimiser=optimiser)
        one = replace(trained, result=msgspec.structs.replace(trained.result, config=config))
        write_package(Package(trained=one, forms=("onnx",)), tmp_path / choose)
        assert f" epochs, {how}; seed " in (tmp_path / choose / "README.md").read_text("utf-8")


def test_the_python_of_the_card_runs_with_one_stream_for_all_pieces(
    exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", (exported / "README.md").read_text("utf-8"), re.DOTALL)
    monkeypatch.chdir(exported)
    names: dict[str, Any] = {"samples": np.zeros(16_000, np.float32), "rate_hz": 16_000}
    exec(program, names)
    assert names["label"] in ("high", "low", "rough")
    assert names["stream"].last_scores.shape == (3,)


@pytest.mark.wants("cc")
def test_the_c_of_the_card_makes_decisions_and_compiles(exported: Path, tmp_path: Path) -> None:
    (program,) = re.findall(r"```c\n(.*?)```", (exported / "README.md").read_text("utf-8"), re.DOTALL)
    assert "gru_decide(&decider, scores, gru_end(&stream), &found)" in program
    (tmp_path / "program.c").write_text(program)
    flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-I", str(exported)]
    done = subprocess.run(["cc", *flags, "program.c"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


BOTH = """\
#include <stdio.h>
#include "door.h"
#include "lights.h"
static void write_scores(void *file, int64_t step, const float *scores) {
    (void)step;
    fwrite(scores, sizeof *scores, DOOR_CLASSES, (FILE *)file);
}
int main(void) {
    static door_stream door;
    static lights_stream lights;
    static float samples[100000];
    const int n = (int)fread(samples, sizeof *samples, 100000, stdin);
    door_start(&door), lights_start(&lights);
    door_listen(&door, write_scores, stdout), lights_listen(&lights, write_scores, stderr);
    door_push(&door, samples, n), lights_push(&lights, samples, n);
    door_finish(&door), lights_finish(&lights);
    return 0;
}
"""


@pytest.mark.wants("cc")
def test_two_models_of_one_cell_link_under_the_names_of_the_page_and_give_their_own_scores(
    tmp_path: Path, tone_corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "export.md").read_text("utf-8")
    exports = re.findall(r"^cello (export .* --name .*)$", page, re.MULTILINE)
    (build,) = re.findall(r"^cc .* program\.c .*$", page, re.MULTILINE)
    (tmp_path / "results").mkdir()
    for name, hidden in (("door", 6), ("lights", 5)):
        made_runs.make_run(tmp_path / "results" / name, tone_corpus.manifest, features=SMALL, hidden=hidden)
    monkeypatch.chdir(tmp_path)
    for command in exports:
        assert run_cello(*command.split()) == 0
    Path("program.c").write_text(BOTH)
    command = [*build.replace("-O2", "-O0 -Werror").split(), "-o", "both"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    wanted = {name: np.load(f"{name}/reference.npz") for name in ("door", "lights")}
    sound = as_floats(wanted["door"]["tones_samples"])
    told = subprocess.run(["./both"], input=sound.tobytes(), capture_output=True, check=True)
    for name, scores in (("door", told.stdout), ("lights", told.stderr)):
        found = np.frombuffer(scores, np.float32).reshape(-1, 3)
        np.testing.assert_allclose(found, wanted[name]["tones_stream"], atol=1e-4)
    assert np.abs(wanted["door"]["tones_stream"] - wanted["lights"]["tones_stream"]).max() > 0.01


def test_a_name_is_that_of_the_c_files_in_manifest_and_card_and_the_folder_is_used_and_checked(
    trained: TrainedRun, tmp_path: Path
) -> None:
    folder = tmp_path / "one"
    manifest = write_package(Package(trained=trained, name="Door_2"), folder)
    assert manifest.exits["c99"] == ("Door_2.h", "Door_2.c")
    assert set(manifest.files) == {path.name for path in folder.iterdir()} - {MANIFEST}
    assert all(check.passed is not False for check in check_folder(folder))
    assert "Door_2_decide(&decider, scores, Door_2_end(&stream), &found)" in (folder / "README.md").read_text()
    assert load(folder).manifest == manifest
    header = (folder / "Door_2.h").read_text()
    assert "#define DOOR_2_RATE_HZ 16000\n" in header
    assert not re.search(r"gru_|GRU_", header)
    write_package(Package(trained=trained), folder)
    assert sorted(path.name for path in folder.iterdir() if path.suffix in (".c", ".h")) == ["gru.c", "gru.h"]


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        (
            "2door",
            "'2door' cannot begin the names of C functions; use a letter, then letters, digits and _, at most 51",
        ),
        ("../door", "'../door' cannot begin the names"),
        ("größe", "'größe' cannot begin the names"),
        ("static", "'static' would define STATIC_FEATURES twice in the C source; use another name, such as my_static"),
    ],
)
def test_a_name_that_c_cannot_take_is_refused_before_anything_is_written(
    trained: TrainedRun, tmp_path: Path, name: str, fault: str
) -> None:
    with pytest.raises(ModelError, match=re.escape(fault)):
        write_package(Package(trained=trained, name=name), tmp_path / "one")
    assert not (tmp_path / "one").exists()
