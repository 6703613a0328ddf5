"""What hurts: models evaluated on different noise, or a test that training had a look at."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from torch import Tensor

from cello.audio.augment import made_noise
from cello.audio.corpus import Corpus
from cello.models.config import ModelConfig
from cello.study.corpus_file import CorpusSummary, write_corpus
from cello.trained.evaluate import evaluate
from cello.trained.model import load_model
from cello.training.config import CorpusRef, DataConfig, OptimiserConfig, RunConfig
from cello.training.data import Frames, RunData
from cello.training.result import ConditionKind
from cello.training.robustness import NOISE_SEED, evaluation_conditions, frames_under
from cello.training.run import train


def config(seed: int = 0, epochs: int = 2, **data: object) -> RunConfig:
    return RunConfig(
        corpus=CorpusRef(name="tones", checksum="0" * 64),
        model=ModelConfig(cell="gru", hidden=8),
        optimiser=OptimiserConfig(epochs=epochs, batch=8, learning_rate=1e-2),
        data=DataConfig(**data),  # type: ignore[arg-type]
        seed=seed,
    )


def padded(clips: Frames) -> Tensor:
    return clips.batch(torch.arange(len(clips)))[0]


def frames(corpus: Corpus, kind: ConditionKind, value: float, seed: int = 0) -> Frames:
    return frames_under(config(seed), corpus, corpus.indices("test"), kind, value)


def test_conditions_are_measured_after_training_and_change_nothing_else(tone_corpus: Corpus, tmp_path: Path) -> None:
    plain = train(config(epochs=12), tone_corpus, tmp_path / "plain", cache=tmp_path)
    asked = config(epochs=12, test_snr_db=(40.0, -30.0), test_shift_ms=(-900.0,))
    tried = train(asked, tone_corpus, tmp_path / "tried", cache=tmp_path)
    assert plain.conditions == ()
    assert [(c.kind, c.value) for c in tried.conditions] == [("snr_db", 40), ("snr_db", -30), ("shift_ms", -900)]
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("plain", "tried")]
    assert weights[0] == weights[1]
    assert (plain.test, plain.validation) == (tried.test, tried.validation)
    quiet, loud, late = (c.test for c in tried.conditions)
    assert {m.clips for m in (quiet, loud, late)} == {plain.test.clips}
    assert quiet.accuracy > 0.8
    assert loud.accuracy < quiet.accuracy
    assert loud.loss > quiet.loss
    assert late.loss > quiet.loss
    text = (tmp_path / "tried" / "result.json").read_bytes()
    assert msgspec.json.decode(text, type=type(tried)) == tried


def test_other_shares_of_lost_frames_are_the_ones_that_another_run_would_lose(
    tone_corpus: Corpus, tmp_path: Path
) -> None:
    asked = config(test_lost_frames=(0.0, 0.6), lost_frames=0.3)
    found = train(asked, tone_corpus, tmp_path / "asked", cache=tmp_path)
    assert [(c.kind, c.value) for c in found.conditions] == [("lost_frames", 0), ("lost_frames", 0.6)]
    write_corpus(tmp_path / "asked", CorpusSummary.of(tone_corpus.manifest))
    model, losses = load_model(tmp_path / "asked"), {}
    for share in (0.0, 0.3, 0.6):
        losing = msgspec.structs.replace(model.run.config, data=DataConfig(lost_frames=share))
        model.run = msgspec.structs.replace(model.run, config=losing)
        losses[share] = evaluate(model, tone_corpus, cache=tmp_path).loss
    measured = {0.3: found.test.loss, **{c.value: c.test.loss for c in found.conditions}}
    assert measured == pytest.approx(losses, rel=1e-4)
    assert len({*losses.values()}) == 3
    without = train(config(lost_frames=0.3), tone_corpus, tmp_path / "without", cache=tmp_path)
    assert (without.test, without.run != found.run) == (found.test, True)


@pytest.mark.parametrize(("kind", "value"), [("snr_db", 3.0), ("shift_ms", 120.0)])
def test_all_seeds_hear_the_same_sound(tone_corpus: Corpus, kind: ConditionKind, value: float) -> None:
    one, again = (frames(tone_corpus, kind, value, seed) for seed in (0, 1))
    assert torch.equal(padded(one), padded(again))
    assert torch.equal(one.counts, again.counts)


def test_little_noise_and_no_shift_leave_the_clips_as_they_are(tone_corpus: Corpus) -> None:
    clean = RunData(config(), tone_corpus, None).clean("test")
    still = frames(tone_corpus, "shift_ms", 0.0)
    torch.testing.assert_close(padded(still), padded(clean), rtol=0, atol=1e-4)
    assert still.counts.tolist() == clean.counts.tolist()
    assert still.targets.tolist() == clean.targets.tolist()
    distances = [
        float((padded(frames(tone_corpus, "snr_db", snr)) - padded(clean)).abs().mean())
        for snr in (90.0, 40.0, 20.0, 0.0)
    ]
    assert distances[0] < 0.01
    assert distances == sorted(distances)


def test_a_shift_of_whole_hops_moves_the_frames(tone_corpus: Corpus) -> None:
    still, later = (padded(frames(tone_corpus, "shift_ms", ms))[0] for ms in (0.0, 200.0))
    # the deltas and energies near the new start differ, those in the middle are moved by ten hops of 20 ms
    torch.testing.assert_close(later[20:40], still[10:30], rtol=0, atol=1e-3)


def test_test_noise_is_never_the_noise_that_training_makes() -> None:
    for test, training in zip(made_noise(16_000, NOISE_SEED), made_noise(16_000), strict=True):
        assert abs(float(np.corrcoef(test, training)[0, 1])) < 0.2


def test_what_is_not_asked_for_is_not_done() -> None:
    assert evaluation_conditions(config()) == []
