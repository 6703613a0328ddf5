"""What hurts: a setting that changed a result and that the methods do not tell, or tell of a run that had another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import torch

from cello.audio.augment import AugmentConfig
from cello.features.config import FeatureConfig
from cello.models.config import ModelConfig
from cello.report import recipe
from cello.report.paper import paragraph
from cello.report.results import StudyResults
from cello.report.settings_differences import settings
from cello.training.config import DataConfig, OptimiserConfig
from cello.training.optimiser import make_optimiser

Change = Callable[..., StudyResults]
SECTIONS: dict[str, type[msgspec.Struct]] = {
    "features": FeatureConfig,
    "augment": AugmentConfig,
    "model": ModelConfig,
    "optimiser": OptimiserConfig,
    "data": DataConfig,
}
FULL: dict[str, dict[str, Any]] = {
    "augment": {"speed": 0.1, "shift_ms": 100.0, "noise_share": 0.3, "time_masks": 2, "band_masks": 1, "mixup": 0.2},
    "model": {"cell": "mine.py:mine", "equations": "a" * 32},
}
"""Everything on, so that a setting that only matters beside another does."""
OTHER: dict[str, Any] = {
    "features.kind": "log-mel", "features.rate_hz": 8000, "features.window_ms": 30.0, "features.hop_ms": 5.0,
    "features.n_mels": 30, "features.n_mfcc": 12, "features.low_hz": 50.0, "features.high_hz": 7000.0,
    "features.pre_emphasis": 0.97, "features.log_floor": 1e-10, "features.deltas": 1, "features.delta_width": 5,
    "features.delta_width_ms": 100.0, "features.normalisation": "clip",
    "augment.speed": 0.0, "augment.shift_ms": 50.0, "augment.noise_share": 1.0, "augment.snr_low_db": -5.0,
    "augment.snr_high_db": 40.0, "augment.time_masks": 1, "augment.time_mask_ms": 50.0, "augment.band_masks": 3,
    "augment.band_mask_width": 5, "augment.mixup": 0.0, "augment.warp": 0.1,
    "model.cell": "lstm", "model.equations": "b" * 32, "model.hidden": 96, "model.layers": 2, "model.frame_stacking": 3,
    "model.bidirectional": True, "model.dropout": 0.5, "model.zoneout": 0.1, "model.recurrent_dropout": 0.2,
    "model.pooling": "mean", "model.initialisation": "orthogonal", "model.forget_bias": 1.0,
    "optimiser.name": "sgd", "optimiser.learning_rate": 0.1, "optimiser.weight_decay": 0.1,
    "optimiser.schedule": "constant", "optimiser.warmup": 0.0, "optimiser.clip_norm": 1.0,
    "optimiser.label_smoothing": 0.1, "optimiser.ema": 0.99, "optimiser.epochs": 7, "optimiser.batch": 32,
    "optimiser.choose": "best", "data.clips_per_label": 20, "data.test_snr_db": (10.0, 0.0),
    "data.test_shift_ms": (-100.0,), "data.fold": "2", "data.lost_frames": 0.25,
    "data.test_lost_frames": (0.1, 0.5),
}  # fmt: skip
"""For each setting a value that the base has not."""


@pytest.fixture(scope="session")
def full(gates: StudyResults, reconfigured: Change) -> StudyResults:
    for part, values in FULL.items():
        gates = reconfigured(gates, part, **values)
    return gates


@pytest.mark.parametrize(
    "name", [f"{part}.{field}" for part, kind in SECTIONS.items() for field in kind.__struct_fields__]
)
def test_every_setting_of_a_run_is_told_and_where_only_one_row_has_it(
    name: str, full: StudyResults, reconfigured: Change
) -> None:
    if name == "model.backend":  # what computed a run is read off its result
        return
    part, field = name.split(".")
    one, all_ = (reconfigured(full, part, row=row, **{field: OTHER[name]}) for row in ("lstm", ""))
    assert len({paragraph(study) for study in (full, one, all_)}) == 3


def test_every_setting_is_known_to_the_sentences() -> None:
    assert {part: set(names.split()) for part, names in recipe.TOLD.items()} == {
        part: set(kind.__struct_fields__) for part, kind in SECTIONS.items()
    }


def test_a_setting_that_came_later_is_told_as_it_is_written(
    gates: StudyResults, reconfigured: Change, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(recipe.TOLD, "model", recipe.TOLD["model"].replace(" frame_stacking ", " "))
    stacked = reconfigured(gates, "model", row="lstm", frame_stacking=2)
    assert "Further settings: model.frame_stacking 2 (lstm) or 1 (the other 5)." in paragraph(stacked)
    assert "Further" not in paragraph(gates)


def told(study: StudyResults) -> str:
    return " ".join(recipe.sentences(study, settings(study)))


def test_a_setting_that_is_off_is_not_told(gates: StudyResults) -> None:
    text = told(gates)
    for absent in ("dropout", "zoneout", "smoothing", "clipped", "side by side", "two directions", "evaluated again"):
        assert absent not in text
    assert "no weight decay" in text


def test_the_clips_that_trained_are_told_as_they_were_changed(gates: StudyResults, reconfigured: Change) -> None:
    clean = reconfigured(gates, "augment", shift_ms=0.0)
    assert "Training clips were left as they are." in told(clean)
    both = reconfigured(clean, "augment", row="lstm", noise_share=0.3, snr_low_db=-5.0, time_masks=1)
    assert (
        "Training clips were changed anew in every epoch: noise added to 30 % of them at −5 to 30 dB, 1 mask of up to "
        "100 ms (lstm); or left as they are (lstm-peephole-full, lstm-coupled, lstm-no-forget, lstm-no-input, "
        "lstm-no-output)." in told(both)
    )
    assert "Training used 20 clips of each label." in told(reconfigured(gates, "data", clips_per_label=20))


def test_a_choice_of_epoch_is_told_as_it_was_made(gates: StudyResults, reconfigured: Change) -> None:
    assert "Tested were the weights of the last epoch;" in told(gates)
    best = reconfigured(gates, "optimiser", choose="best", ema=0.99)
    first, *others = best.runs
    early = msgspec.structs.replace(first, result=msgspec.structs.replace(first.result, chosen_epoch=2))
    assert (
        "the exponentially averaged weights (decay 0.99) of the epoch with the highest validation accuracy "
        "(epochs 2 to 4)" in told(msgspec.structs.replace(best, runs=(early, *others)))
    )


def test_a_matched_study_says_what_by_and_after_which_model(gates: StudyResults) -> None:
    matched = msgspec.structs.replace(gates, match="parameters", match_to="lstm")
    assert "the size with which the number of parameters comes nearest to that of lstm" in told(matched)
    assert "nearest" not in told(gates)


def test_models_that_go_both_ways_are_named(windows: StudyResults) -> None:
    assert "in each of two directions: rnn, both ways; gru, both ways; lstm, both ways" in told(windows)


def test_the_conditions_are_told_with_their_units(noisy: StudyResults, reconfigured: Change) -> None:
    heard = reconfigured(noisy, "data", test_snr_db=(20.0, -5.0), test_shift_ms=(-100.0, 100.0))
    assert (
        "evaluated again with synthetic noise at signal-to-noise ratios of 20 and −5 dB and moved by −100 and 100 ms, "
        "later where positive" in told(heard)
    )
    lossy = reconfigured(heard, "data", test_lost_frames=(0.1, 0.5))
    assert "100 ms, later where positive and with 10 and 50 % of their frames lost, the same" in told(lossy)


def test_the_momentum_that_is_told_is_the_one_that_trains() -> None:
    (group,) = make_optimiser(OptimiserConfig(name="sgd"), [torch.nn.Parameter(torch.zeros(1))]).param_groups
    assert recipe.OPTIMISERS["sgd"] == f"SGD with momentum {group['momentum']}"


def test_a_forget_bias_is_told_of_cells_that_have_one(gates: StudyResults, reconfigured: Change) -> None:
    study = reconfigured(gates, "model", forget_bias=1.0)
    text = " ".join(recipe.sentences(study, settings(study)))
    assert "or 0 (lstm-coupled, lstm-no-forget) added" in text
    assert "added to the biases of forget gates" in text
    none = reconfigured(study, "model", cell="gru")
    assert "forget gates" not in " ".join(recipe.sentences(none, settings(none)))
    own = reconfigured(study, "model", cell="mine.py:my_cell")
    assert "(of our own cells, to a bias b.f where they have one)" in " ".join(recipe.sentences(own, settings(own)))
