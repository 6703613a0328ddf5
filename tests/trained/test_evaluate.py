"""Evaluation on any corpus: clips counted under a wrong label, or training clips passed off as new ones."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

import cello
import made_runs
from cello.audio.checks import doubts
from cello.audio.choice import Choice, choose
from cello.audio.corpus import Clip, Corpus, Manifest, Split
from cello.audio.folds import fold, fold_names, in_several
from cello.audio.open import open_corpus
from cello.cli.main import main
from cello.errors import ConfigError, CorpusError
from cello.features.config import FeatureConfig
from cello.models.config import ModelConfig
from cello.study.corpus_file import CorpusSummary, write_corpus
from cello.trained.evaluate import _measured, evaluate
from cello.trained.mapping import targets_of
from cello.training.config import CorpusRef, OptimiserConfig, RunConfig
from cello.training.run import train


def relabelled(corpus: Corpus, **names: str) -> Corpus:
    manifest = corpus.manifest
    clips = tuple(msgspec.structs.replace(c, label=names.get(c.label, c.label)) for c in manifest.clips)
    labels = tuple(sorted({clip.label for clip in clips}))
    changed = msgspec.structs.replace(manifest, labels=labels, clips=clips, checksum="1" * 64)
    return Corpus(changed, corpus.sound)


def test_a_model_in_double_precision_is_evaluated_in_it(tone_corpus: Corpus, tmp_path: Path) -> None:
    run = made_runs.make_run(tmp_path / "run", tone_corpus.manifest, cell="lif")
    model = cello.load_model(run, precision="float64")
    found = evaluate(model, tone_corpus, cache=tmp_path)
    assert model.module.head.weight.dtype == torch.float64
    for clip in found.predictions:
        where = next(k for k, c in enumerate(tone_corpus.manifest.clips) if c.name == clip.clip)
        sound = tone_corpus.audio(np.array([where]))[0][0, : tone_corpus.lengths[where]]
        assert clip.probability == pytest.approx(model.predict(sound, 16_000).probability, rel=1e-6)


def test_the_studys_own_test_accuracy_comes_out_again(tone_corpus: Corpus, tmp_path: Path) -> None:
    config = RunConfig(
        corpus=CorpusRef(name="tones", checksum="0" * 64),
        features=FeatureConfig(window_ms=80),
        model=ModelConfig(hidden=8),
        optimiser=OptimiserConfig(epochs=3, batch=8),
    )
    result = train(config, tone_corpus, tmp_path / "run", cache=tmp_path)
    write_corpus(tmp_path / "run", CorpusSummary.of(tone_corpus.manifest))
    found = evaluate(cello.load_model(tmp_path / "run"), tone_corpus, cache=tmp_path)
    assert (found.clips, found.seen, found.left_out) == (9, 0, 0)
    assert found.accuracy.value == result.test.accuracy
    assert found.loss == pytest.approx(result.test.loss, abs=1e-6)
    assert found.confusion == result.confusion
    for clip in found.predictions:
        where = next(k for k, c in enumerate(tone_corpus.manifest.clips) if c.name == clip.clip)
        sound = tone_corpus.audio(np.array([where]))[0][0, : tone_corpus.lengths[where]]
        said = cello.load_model(tmp_path / "run").predict(sound, 16_000)
        assert said.label == clip.predicted
        assert said.probability == pytest.approx(clip.probability, abs=1e-5)


def test_labels_are_matched_by_name_and_by_mapping(make_run: Any, tone_corpus: Corpus, tmp_path: Path) -> None:
    model = cello.load_model(make_run())
    whole = evaluate(model, tone_corpus, cache=tmp_path)
    other = relabelled(tone_corpus, high="upper", rough="noise")
    found = evaluate(model, other, mapping={"upper": "high", "noise": "rough"}, cache=tmp_path)
    assert found.confusion == whole.confusion
    fewer = evaluate(model, other, mapping={"upper": "high", "noise": ""}, cache=tmp_path)
    assert (fewer.clips, fewer.left_out) == (6, 3)
    assert fewer.confusion[:2] == whole.confusion[:2]
    assert sum(fewer.confusion[2]) == 0
    told = (
        r"the model has no label 'noise', 'upper' of 'tones'; give the --labels, --unknown and --silence of its "
        r"training, or map each to one of high, low, rough \(--map noise= leaves its clips out\)"
    )
    with pytest.raises(CorpusError, match=told):
        evaluate(model, other, cache=tmp_path)
    with pytest.raises(ConfigError, match="'nois' is mapped, but is no label of 'tones', which has low, noise, upper"):
        evaluate(model, other, mapping={"nois": "rough"}, cache=tmp_path)
    with pytest.raises(ConfigError, match="'low' is mapped to 'lo', but the model's labels are high, low, rough"):
        evaluate(model, tone_corpus, mapping={"low": "lo"}, cache=tmp_path)
    with pytest.raises(CorpusError, match="has 0 test clips with a label of the model"):
        evaluate(model, tone_corpus, mapping=dict.fromkeys(("high", "low", "rough"), ""), cache=tmp_path)


@pytest.mark.parametrize(
    ("label", "known", "example"),
    [
        ("down", "no yes _unknown_ _silence_", "--map down=_unknown_; --map down= leaves"),
        ("down", "no yes _silence_", "--map down= leaves"),
        ("_silence_", "no yes _unknown_ silence", "--map _silence_=silence; --map"),
        ("background_noise", "no yes _unknown_", "--map background_noise= leaves"),
        ("Down", "down up", "--map Down=down; "),
        ("sheila", "no unknown yes", "--map sheila=unknown; "),
    ],
)
def test_a_label_that_the_model_has_not_is_never_said_to_be_another_kind_of_sound(
    make_run: Any, tone_corpus: Corpus, label: str, known: str, example: str
) -> None:
    with pytest.raises(CorpusError, match=re.escape(f"({example}")):
        targets_of([*known.split(), "high", "rough"], relabelled(tone_corpus, low=label), {})


def test_clips_that_were_trained_on_are_counted(make_run: Any, tone_corpus: Corpus, tmp_path: Path) -> None:
    model = cello.load_model(make_run())
    found = evaluate(model, tone_corpus, "all", cache=tmp_path)
    assert (found.clips, found.seen) == (42, 33)
    assert evaluate(model, relabelled(tone_corpus), "all", cache=tmp_path).seen == 0


def test_speakers_stand_from_the_least_accurate_on(make_run: Any, tone_corpus: Corpus, tmp_path: Path) -> None:
    model = cello.load_model(make_run())
    found = evaluate(model, tone_corpus, cache=tmp_path)
    assert found.over == "speakers"
    assert [one.accuracy for one in found.speakers] == sorted(one.accuracy for one in found.speakers)
    assert sum(one.clips * one.accuracy for one in found.speakers) == pytest.approx(found.accuracy.value * 9)
    unknown = Corpus(msgspec.structs.replace(tone_corpus.manifest, speakers_known=False), tone_corpus.sound)
    nobody = evaluate(model, unknown, cache=tmp_path)
    assert (nobody.over, nobody.speakers, nobody.predictions[0].speaker) == ("clips", (), "")


@pytest.mark.filterwarnings("default:.*were trained or chosen on")
def test_the_command_prints_tables_and_writes_every_prediction(
    tone_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "150")
    cache = tmp_path / "cache"
    corpus = open_corpus(f"folder:{tone_folder}", cache=cache)
    run = made_runs.make_run(tmp_path / "run", corpus.manifest)
    common = ["evaluate", str(run), "--corpus", f"folder:{tone_folder}", "--cache", str(cache), "--split", "all"]
    assert main([*common, "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr()
    for part in (
        "all: 60 clips",
        "accuracy ",
        "By label",
        "Reliability of probabilities",
        "Least accurate of 20 speakers",
    ):
        assert part in printed.out
    assert "of the 60 clips were trained or chosen on, so accuracies are too high" in " ".join(printed.err.split())
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out" / "predictions.csv").read_text("utf-8-sig"))))
    assert (len(rows), rows[0]["clip"], rows[0]["label"]) == (60, "high/00000000_nohash_0.wav", "high")
    assert rows[0]["speaker"] == "00000000"
    assert main([*common, "--map", "low=", "--format", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["clips"], told["left_out"], len(told["predictions"])) == (40, 20, 40)
    assert main([*common, "--map", "low"]) == 1
    assert "--map low is not LABEL=LABEL; write sheila=unknown" in " ".join(capsys.readouterr().err.split())


def with_silence() -> Corpus:
    """Test clips of two speakers, two each, and four of silence, two of each recording of noise."""
    splits: dict[Split, str] = {"train": "cdef", "validation": "gh", "test": "AB"}
    named = [(f"{label}/{who}.wav", label, split, who) for label in "xy" for split in splits for who in splits[split]]
    clips = tuple(
        Clip(name=name, label=label, split=split, speaker=who, start=k * 100, samples=100)
        for k, (name, label, split, who) in enumerate(sorted(named))
    )
    manifest = Manifest(
        corpus="made", rate_hz=1000, labels=("x", "y"), clips=clips, bad=(), checksum="0" * 64, source=""
    )
    sound = np.zeros(100 * len(clips), np.int16)
    return choose(Corpus(manifest, sound, [np.ones(30_000, np.float32)] * 2), Choice(silence=100))


def test_excerpts_of_one_recording_of_noise_count_as_one_and_as_no_speaker() -> None:
    corpus = with_silence()
    chosen = corpus.indices("test")
    clips = [corpus.manifest.clips[k] for k in chosen]
    assert [clip.label for clip in clips] == [*["_silence_"] * 4, "x", "x", "y", "y"]
    target = corpus.targets[chosen]
    said = target.copy()
    said[[1, 3, 5]] = (target[[1, 3, 5]] + 1) % 3  # both excerpts of the second recording, and one clip of B
    found = _measured(corpus.manifest.labels, corpus, chosen, target, torch.eye(3)[said])
    # 2, 1, 2 and 0 right of 2 each: e = ¾, −¼, ¾, −5/4, so V = 2.75/64 / 0.75 and n = (15/64)/V = 4.0909; t(3) = 3.1824
    value, low, high, groups = found["accuracy"]
    assert (value, groups, found["over"]) == (5 / 8, 4, "speakers")
    assert (low, high) == (pytest.approx(0.11779, abs=1e-5), pytest.approx(0.95414, abs=1e-5))
    assert [(one.speaker, one.clips, one.accuracy) for one in found["speakers"]] == [("B", 2, 0.5), ("A", 2, 1.0)]
    assert [one.speaker for one in found["predictions"]] == ["", "", "", "", "A", "B", "A", "B"]


def test_a_recording_of_noise_in_every_split_is_no_speaker_who_is_shared() -> None:
    corpus = with_silence()
    summary = CorpusSummary.of(corpus.manifest)
    assert [summary.splits[split].speakers for split in ("train", "validation", "test")] == [4, 2, 2]
    assert (summary.shared_speakers, summary.shared_by_split) == (0, {})
    assert (summary.test_speakers, summary.speaker_names) == ((0, 1, 0, 1, 2, 3, 2, 3), ("", "", "A", "B"))
    assert not list(doubts(corpus.manifest))
    folded = fold(corpus, "4").manifest
    assert in_several(folded) == 0
    assert {clip.fold for clip in folded.clips if clip.label == "_silence_"} == set(fold_names(folded))
