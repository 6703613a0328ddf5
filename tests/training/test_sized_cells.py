"""What hurts: a cell of several sizes that a layer runs but that cannot be trained, stored, loaded or streamed."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from cello.audio.corpus import Corpus
from cello.cells.definition import Cell
from cello.cells.load import naming
from cello.errors import ConfigError, ModelError
from cello.features.config import FeatureConfig
from cello.models.classifier import Classifier
from cello.models.config import ModelConfig
from cello.models.size import ModelSize
from cello.study.corpus_file import CorpusSummary, write_corpus
from cello.study.plan import plan
from cello.study.study_file import parse_study
from cello.trained.evaluate import evaluate
from cello.trained.model import load_model
from cello.trained.start import start_from
from cello.training import single, trainer
from cello.training.config import CorpusRef, DataConfig, OptimiserConfig, RunConfig
from cello.training.device import Device
from cello.training.execution import ExecutionConfig
from cello.training.lost import drawn_key, lost_frames
from cello.training.result import RunResult
from cello.training.run import train
from sized_cells import SIZED

FEATURES = FeatureConfig(window_ms=80, n_mfcc=5)
RESIDENT = Device(torch.device("cpu"), "a test", {"gpu": "Example GPU"}, resident=True)


def config(cell: Cell | str, **changes: object) -> RunConfig:
    base = RunConfig(
        corpus=CorpusRef(name="tones", checksum="0" * 64),
        features=FEATURES,
        model=ModelConfig(cell=cell, hidden=6, zoneout=0.1, dropout=0.1, initialisation="orthogonal"),
        optimiser=OptimiserConfig(epochs=2, batch=8, learning_rate=5e-3),
    )
    return msgspec.structs.replace(base, **changes)


def trained(asked: RunConfig, corpus: Corpus, folder: Path) -> RunResult:
    asked = msgspec.structs.replace(asked, corpus=CorpusRef(name="tones", checksum=corpus.manifest.checksum))
    backend = "auto" if asked.model.cell == "own:projected" else "plain"  # kernels take seconds to compile
    result = train(asked, corpus, folder, cache=folder.parent, execution=ExecutionConfig(backend=backend))
    write_corpus(folder, CorpusSummary.of(corpus.manifest))
    return result


@pytest.mark.usefixtures("compiled_quickly")
@pytest.mark.parametrize("name", SIZED)
def test_every_sized_cell_is_trained_stored_loaded_and_streamed(name: str, tone_corpus: Corpus, tmp_path: Path) -> None:
    result = trained(config(SIZED[name]), tone_corpus, tmp_path / "run")
    assert all(np.isfinite([epoch.train_loss, epoch.validation_loss]).all() for epoch in result.history)
    model = load_model(tmp_path / "run")
    assert result.parameters == sum(p.numel() for p in model.module.parameters())
    sound = (tone_corpus.sound[: 2 * FEATURES.rate_hz] / 32768).astype(np.float32)
    stream = model.stream(window_s=10.0)
    for part in np.array_split(sound, 7):
        stream.push(part)
    stream.finish()
    whole = model.predict(sound, FEATURES.rate_hz).scores
    assert stream.last_scores is not None
    np.testing.assert_allclose(stream.last_scores, whole, rtol=1e-4, atol=1e-5)
    evaluated = evaluate(model, tone_corpus, cache=tmp_path)
    assert evaluated.accuracy.value == pytest.approx(result.test.accuracy)
    start = start_from(tmp_path / "run", ModelConfig(), FeatureConfig())
    module = Classifier(start.model, FEATURES.dimensions, len(model.labels))
    start.weights.into(module, model.labels)


LOSING = DataConfig(lost_frames=0.4)


@pytest.mark.parametrize("name", ["gaps", "low-rank"])
def test_frames_are_lost_the_same_way_on_a_device_after_a_kill_and_in_every_evaluation(
    name: str, tone_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = config(SIZED[name], data=LOSING)
    here = trained(asked, tone_corpus, tmp_path / "cpu")
    whole = trained(config(SIZED[name]), tone_corpus, tmp_path / "whole")
    assert whole.run != here.run
    assert whole.test.loss != here.test.loss
    evaluated = evaluate(load_model(tmp_path / "cpu"), tone_corpus, cache=tmp_path)
    assert (evaluated.loss, evaluated.accuracy.value) == pytest.approx((here.test.loss, here.test.accuracy))
    with monkeypatch.context() as patch:
        for module in (single, trainer):
            patch.setattr(module, "choose", lambda execution: RESIDENT)
        plain = msgspec.structs.replace(asked, model=ModelConfig(cell=SIZED[name], hidden=6))
        there = trained(plain, tone_corpus, tmp_path / "device")
    same = trained(plain, tone_corpus, tmp_path / "same")
    assert there.test.loss == pytest.approx(same.test.loss, abs=2e-3)


def test_the_frames_lost_depend_on_clip_place_and_key_alone() -> None:
    clips = torch.arange(2000)
    lost = lost_frames(LOSING, clips, 30)
    assert lost is not None
    assert float(lost.float().mean()) == pytest.approx(0.4, abs=0.01)
    assert float((lost[:, 1:] & lost[:, :-1]).float().mean()) == pytest.approx(0.16, abs=0.01)
    few = lost_frames(LOSING, clips[[7, 3]], 12)
    assert few is not None
    assert torch.equal(few, lost[[7, 3], :12])
    other = lost_frames(LOSING, clips, 30, drawn_key(torch.Generator().manual_seed(0)))
    assert other is not None
    assert float((other == lost).float().mean()) == pytest.approx(0.52, abs=0.01)
    assert lost_frames(DataConfig(), clips, 30) is None


def test_a_share_of_lost_frames_that_cannot_be_is_refused_and_none_is_no_part_of_a_runs_id() -> None:
    with pytest.raises(ConfigError, match=r"data.lost_frames=1.0 is invalid: it must be from 0 \(none\) to below 1"):
        DataConfig(lost_frames=1.0)
    assert config("gru").id == config("gru", data=DataConfig(lost_frames=0.0)).id != config("gru", data=LOSING).id


def test_cells_are_planned_and_matched_at_sizes_that_they_can_have() -> None:
    def planned(match: str, **base: object) -> dict[str, ModelConfig]:
        cells = {"lstm": ("lstm", ""), **{name: naming(SIZED[name]) for name in ("heads", "gaps")}}
        text = f'name = "sized"\nseeds = [0]\nmatch = "{match}"\nmatch_to = "lstm"\n[base.model]\n'
        text += "".join(f"{key} = {json.dumps(value)}\n" for key, value in base.items())
        for name, (cell, equations) in cells.items():
            text += f'[[rows]]\nname = "{name}"\n[rows.model]\ncell = "{cell}"\nequations = "{equations}"\n'
        runs = plan(parse_study(text, "sized.toml"), CorpusRef(name="tones", checksum="0" * 64), labels=4)
        return {run.row: run.config.model for run in runs}

    models = planned("parameters", hidden=11)
    assert models["heads"].hidden % 2 == 0
    counts = {row: ModelSize.of(model, 39).parameters(4) for row, model in models.items()}
    assert counts["heads"] == pytest.approx(counts["lstm"], rel=0.2)
    assert ModelSize.of(models["gaps"], 39).parameters(4) == Classifier(models["gaps"], 39, 4).parameter_count
    settings: dict[str, tuple[dict[str, object], str]] = {
        "heads": ({"hidden": 11}, "model.hidden=11 does not fit cell 'heads', which .* parts; use 10 or 12"),
        "layers": ({"layers": 2}, "row 'gaps': model.layers=2: a second layer reads outputs, but cell"),
        "stack": ({"frame_stacking": 2}, "row 'gaps': model.frame_stacking=2 makes frames of several parts in turn"),
        "two ways": ({"bidirectional": True}, "row 'gaps': model.bidirectional=true: values are held and gaps"),
    }
    for base, message in settings.values():
        with pytest.raises(ModelError, match=message):
            planned("width", **{"hidden": 12, **base})
