"""What hurts: a stored run that a newer Cello no longer recognises, and computes once more."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from cello.audio.augment import AugmentConfig
from cello.errors import ConfigError
from cello.features.config import FeatureConfig
from cello.files import decode_json
from cello.training.config import NEUTRAL, CorpusRef, DataConfig, RunConfig, ids

STORED = sorted(Path(__file__).parents[2].glob("results/*/*/runs/*/config.json"))


@pytest.mark.skipif(not STORED, reason="no stored runs beside these tests")
def test_every_stored_run_keeps_its_id() -> None:
    for path in STORED:
        found = decode_json(path.read_bytes(), RunConfig).id
        result = path.with_name("result.json")
        assert not result.exists() or found == msgspec.json.decode(result.read_bytes())["run"]
        assert found == path.parent.name or "-trial" in path.parent.name


CHANGED = {int: 2, float: 0.25, tuple: (0.25,), type(None): 3, str: "2"}
"""A value other than the neutral one, by the neutral one's type."""


def test_a_later_setting_is_part_of_the_id_as_soon_as_it_changes_anything() -> None:
    config = RunConfig(corpus=CorpusRef(name="c", checksum="0" * 64))
    seen = {config.id}
    for part, fields in NEUTRAL.items():
        for field, value in fields.items():
            stated = msgspec.to_builtins(config)  # by the names that ids are made of
            assert stated[part][field] == value
            stated[part][field] = CHANGED[type(value)]
            seen.add(msgspec.convert(stated, RunConfig).id)
    assert len(seen) == 1 + sum(map(len, NEUTRAL.values()))


def test_ids_of_many_seeds_are_those_of_each() -> None:
    config = RunConfig(corpus=CorpusRef(name="c", checksum="0" * 64), data=DataConfig(test_snr_db=(5,)), seed=9)
    each = [msgspec.structs.replace(config, seed=seed).id for seed in (0, 1, 2**40)]
    assert ids(config, [0, 1, 2**40]) == each
    assert len({config.id, *each}) == 4
    other = msgspec.structs.replace(config, data=DataConfig(test_snr_db=(5.0,)))
    assert other.id == config.id


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            {"clips_per_label": 0},
            r"data\.clips_per_label=0 is invalid: it must be at least 1, or leave it out",
        ),
        ({"test_snr_db": (5.0, float("inf"))}, r"data\.test_snr_db=\[5\.0, inf\] must be finite numbers, each once"),
        (
            {"test_lost_frames": (0.5, 1.0)},
            r"data\.test_lost_frames=\[0\.5, 1\.0\] must be shares from 0 \(none\) to below 1, each once",
        ),
        ({"test_shift_ms": (5.0, 5.0)}, r"data\.test_shift_ms=\[5\.0, 5\.0\] must be finite numbers, each once"),
    ],
)
def test_clips_and_conditions_that_cannot_be_are_refused(data: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        msgspec.convert(data, DataConfig, strict=False)


def test_a_warp_under_which_bands_hold_no_bin_is_refused() -> None:
    corpus, fine = CorpusRef(name="c", checksum="0" * 64), FeatureConfig(window_ms=20)
    RunConfig(corpus=corpus, features=fine, augment=AugmentConfig(warp=0.1))
    message = (
        r"augment\.warp=0\.3 narrows the features\.n_mels=40 bands until \d+ of them hold no bin of the spectrum of "
        r"window_ms=8; lower augment\.warp or n_mels, or use a longer window"
    )
    with pytest.raises(ConfigError, match=message):
        RunConfig(corpus=corpus, features=FeatureConfig(window_ms=8), augment=AugmentConfig(warp=0.3))
