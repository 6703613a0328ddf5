"""What hurts: a cell of several sizes that a layer runs but that cannot be trained, stored, loaded or streamed."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from cello.audio.corpus import Corpus
from cello.cells.definition import Cell
from cello.features.config import FeatureConfig
from cello.models.classifier import Classifier
from cello.models.config import ModelConfig
from cello.study.corpus_file import CorpusSummary, write_corpus
from cello.trained.evaluate import evaluate
from cello.trained.model import load_model
from cello.trained.start import start_from
from cello.training.config import CorpusRef, OptimiserConfig, RunConfig
from cello.training.result import RunResult
from cello.training.run import train
from sized_cells import SIZED

FEATURES = FeatureConfig(window_ms=80, n_mfcc=5)


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
    result = train(asked, corpus, folder, cache=folder.parent)
    write_corpus(folder, CorpusSummary.of(corpus.manifest))
    return result


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
