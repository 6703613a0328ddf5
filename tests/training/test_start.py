"""Fine-tuning: weights that are silently not taken over, or a run that passes for one with random weights."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
import safetensors.numpy

from cello.audio.corpus import Corpus
from cello.cli.main import main
from cello.cli.train import started
from cello.errors import ConfigError, ModelError, TrainingError
from cello.features.config import FeatureConfig
from cello.models.classifier import Classifier
from cello.models.config import ModelConfig
from cello.trained.run import read_run
from cello.trained.start import start_from
from cello.training.config import CorpusRef, OptimiserConfig, RunConfig
from cello.training.result import StartRecord
from cello.training.run import train
from cello.training.start import InitialWeights

MODEL = ModelConfig(cell="gru", hidden=5)
FEATURES = FeatureConfig(window_ms=80)


def weights_of(labels: tuple[str, ...], seed: int = 7) -> InitialWeights:
    model = Classifier(MODEL, FEATURES.dimensions, len(labels), seed)
    model.mean += 0.5
    return InitialWeights({name: value.numpy() for name, value in model.state_dict().items()}, labels)


def config(start: InitialWeights | None, rate: float = 0.0) -> RunConfig:
    return RunConfig(
        corpus=CorpusRef(name="tones", checksum="0" * 64),
        features=FEATURES,
        model=MODEL,
        optimiser=OptimiserConfig(epochs=1, learning_rate=rate, warmup=0, schedule="constant"),
        initial_weights="" if start is None else start.checksum,
    )


def test_layers_statistics_and_known_labels_are_taken_over_and_new_labels_drawn(
    tone_corpus: Corpus, tmp_path: Path
) -> None:
    start = weights_of(("rough", "bell", "high"))  # the corpus has high, low, rough
    train(config(start), tone_corpus, tmp_path / "tuned", cache=tmp_path, start=start)  # a learning rate of 0
    found = safetensors.numpy.load_file(tmp_path / "tuned" / "model.safetensors")
    for name, value in start.weights.items():
        if not name.startswith("head."):
            assert (found[name] == value).all(), name
    drawn = Classifier(MODEL, FEATURES.dimensions, 3, seed=0).head.weight.detach().numpy()
    for row, before in ((0, 2), (2, 0)):
        assert (found["head.weight"][row] == start.weights["head.weight"][before]).all()
        assert found["head.bias"][row] == start.weights["head.bias"][before]
    assert np.abs(found["head.weight"][1]).max() <= 5**-0.5
    assert found["head.weight"].shape == drawn.shape


def test_where_weights_come_from_is_part_of_the_identity_and_random_ones_change_no_id() -> None:
    start = weights_of(("high", "low", "rough"))
    assert config(start).id != config(None).id != config(weights_of(("high", "low", "rough"), seed=8)).id
    assert config(None).id == "345b05ec5f70e302"
    assert start.checksum != weights_of(("low", "high", "rough")).checksum


def test_other_weights_than_the_configs_are_refused(tone_corpus: Corpus, tmp_path: Path) -> None:
    start = weights_of(("high", "low", "rough"))
    with pytest.raises(TrainingError, match=r"starts from weights \w{12}…, but was given random weights; give the run"):
        train(config(start), tone_corpus, tmp_path / "a", cache=tmp_path)
    with pytest.raises(TrainingError, match=r"starts from random weights, but was given weights \w{12}…"):
        train(config(None), tone_corpus, tmp_path / "a", cache=tmp_path, start=start)
    other = Classifier(ModelConfig(cell="lstm", hidden=5), FEATURES.dimensions, 3)
    with pytest.raises(ModelError, match=r"not those of such a model: .*"):
        start.into(other, start.labels)
    with pytest.raises(ModelError, match="the head of the weights to start from has 5 inputs, not 6"):
        start.into(Classifier(ModelConfig(hidden=6), FEATURES.dimensions, 3), start.labels)


def test_an_interrupted_fine_tuning_resumes_to_the_same_bits(tone_corpus: Corpus, tmp_path: Path) -> None:
    start = weights_of(("high", "low", "rough"))
    two = config(start, 1e-3)
    two = msgspec.structs.replace(two, optimiser=msgspec.structs.replace(two.optimiser, epochs=2))
    train(two, tone_corpus, tmp_path / "whole", cache=tmp_path, start=start)

    def stop(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(two, tone_corpus, tmp_path / "cut", cache=tmp_path, start=start, on_epoch=stop)
    train(two, tone_corpus, tmp_path / "cut", cache=tmp_path, start=start)
    both = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "cut")]
    assert both[0] == both[1]


@pytest.mark.usefixtures("kernels_of_all")
def test_the_command_takes_model_and_features_from_the_run(
    tone_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["--corpus", f"folder:{tone_folder}", "--cache", str(tmp_path / "cache"), "--optimiser.epochs", "1"]
    first = ["--model.hidden", "5", "--model.cell", "lstm", "--features.window-ms", "80", "--out", str(tmp_path / "a")]
    assert main(["train", *common, *first]) == 0
    assert main(["train", *common, "--from", str(tmp_path / "a"), "--out", str(tmp_path / "b")]) == 0
    again = start_from(tmp_path / "b", ModelConfig(), FeatureConfig())
    assert (again.model.hidden, again.model.cell, again.features.window_ms) == (5, "lstm", 80)
    assert main(["train", *common, "--from", str(tmp_path / "a"), "--model.hidden", "6", "--out", "x"]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "model.hidden=6 is not that of the run to start from, 5; its weights need its own, so leave it out" in said
    for flags in (["--model.hidden", "64"], ["--model.hidden=64"]):  # which is the default
        assert main(["train", *common, "--from", str(tmp_path / "a"), *flags, "--out", "x"]) == 1
        assert "model.hidden=64 is not that of the run to start from, 5;" in " ".join(capsys.readouterr().err.split())
    free = start_from(tmp_path / "a", ModelConfig(), FeatureConfig(), ["model.layers", "features.kind"])
    assert free.model == again.model
    assert start_from(tmp_path / "a", ModelConfig(dropout=0.3), FeatureConfig()).model.dropout == 0.3
    with pytest.raises(ConfigError, match=r"features\.kind=log-mel is not that of the run to start from, mfcc"):
        start_from(tmp_path / "a", ModelConfig(), FeatureConfig(kind="log-mel"))


@pytest.mark.usefixtures("kernels_of_all")
def test_which_labels_kept_their_weights_is_told_and_kept(
    tone_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["train", "--corpus", f"folder:{tone_folder}", "--cache", str(tmp_path / "cache")]
    common += ["--optimiser.epochs", "1"]
    assert main([*common, "--model.hidden", "5", "--out", str(tmp_path / "a")]) == 0
    assert "starts from" not in capsys.readouterr().out
    chosen = ["--labels", "low,high", "--unknown", "50"]
    assert main([*common, *chosen, "--from", str(tmp_path / "a"), "--out", str(tmp_path / "b")]) == 0
    first, second = (read_run(tmp_path / name).result for name in "ab")
    said = " ".join(capsys.readouterr().out.split())
    assert (
        f"starts from run {first.run}: labels with its weights 'low', 'high'; new '_unknown_'; left out 'rough'" in said
    )
    assert first.start is None
    assert second.start == StartRecord(run=first.run, kept=("low", "high"), drawn=("_unknown_",), left=("rough",))
    assert started(StartRecord(run="x", kept=(), drawn=("a",), left=())) == (
        "starts from run x: labels with its weights none; new 'a'"
    )
