from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cello.errors import ConfigError
from cello.features import mel
from cello.features.config import FeatureConfig


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "mfc"}, r"unknown features.kind 'mfc'; did you mean 'mfcc'"),
        ({"normalisation": "time"}, r"unknown features.normalisation 'time'.*clip, corpus, none"),
        ({"rate_hz": 0}, r"features.rate_hz=0 is invalid: it must be at least 1"),
        ({"rate_hz": 16_000.0}, r"features.rate_hz=16000.0 .* a whole number"),
        ({"n_mels": True}, r"features.n_mels=True .* a whole number"),
        ({"window_ms": float("nan")}, r"features.window_ms=nan .* a finite number"),
        ({"window_ms": None}, r"features.window_ms=None .* a finite number"),
        ({"window_ms": 0.05}, r"features.window_ms=0.05 .* at least two samples, 0.125 ms"),
        ({"window_ms": -40.0}, r"features.window_ms=-40.0 .* at least two samples"),
        ({"hop_ms": 0.0}, r"features.hop_ms=0.0 .* at least one sample, 0.0625 ms"),
        ({"low_hz": -1.0}, r"features.low_hz=-1.0 .* from 0 to below 8000 Hz"),
        ({"low_hz": 8000.0}, r"features.low_hz=8000.0 .* below 8000 Hz, half of rate_hz"),
        ({"high_hz": 8001.0}, r"features.high_hz=8001.0 .* above low_hz=20 and at most 8000 Hz"),
        ({"high_hz": 20.0}, r"features.high_hz=20.0 .* above low_hz=20"),
        ({"pre_emphasis": 1.5}, r"features.pre_emphasis=1.5 .* from 0 to 1"),
        ({"log_floor": 0.0}, r"features.log_floor=0.0 .* as float32 has it"),
        ({"deltas": 3}, r"features.deltas=3 .* 0 \(none\), 1 \(Δ\) or 2"),
        ({"delta_width": 8}, r"features.delta_width=8 .* odd and at least 3"),
        ({"delta_width": 1}, r"features.delta_width=1 .* odd and at least 3"),
        ({"delta_width_ms": 0.0}, r"features.delta_width_ms=0.0 .* above 0 ms"),
        ({"n_mels": 0}, r"features.n_mels=0 .* at least 1"),
        ({"n_mfcc": 0}, r"features.n_mfcc=0 .* at least 1"),
        ({"n_mfcc": 41}, r"n_mfcc=41 asks for more coefficients than n_mels=40"),
    ],
)
def test_an_impossible_value_is_refused_with_field_value_and_legal_range(fields, message):
    with pytest.raises(ConfigError, match=message):
        FeatureConfig(**fields)


def test_a_filter_without_a_bin_is_refused_and_the_number_that_fits_is_accepted():
    with pytest.raises(
        ConfigError, match=r"n_mels=128 .*window_ms=20.*every 50 Hz: \d+ of them.*n_mels=\d+ or less"
    ) as e:
        FeatureConfig(window_ms=20, n_mels=128)
    fits = int(str(e.value).split("use n_mels=")[1].split()[0])
    assert FeatureConfig(window_ms=20, n_mels=fits).n_mels == fits
    with pytest.raises(ConfigError, match="would hold no bin"):
        FeatureConfig(window_ms=20, n_mels=fits + 1)


def test_a_range_between_two_bins_has_no_number_of_bands_that_fits():
    with pytest.raises(ConfigError, match="use a longer window or a wider mel range"):
        FeatureConfig(window_ms=20, n_mels=1, n_mfcc=1, low_hz=101, high_hz=149)


def test_a_million_bands_are_refused_at_once():
    with pytest.raises(ConfigError, match="some would hold no bin"):
        FeatureConfig(n_mels=1_000_000)


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 44_100])
@pytest.mark.parametrize("window_ms", [20, 40, 80, 120])
def test_the_study_s_windows_are_legal_at_usual_rates(window_ms, rate_hz):
    config = FeatureConfig(window_ms=window_ms, rate_hz=rate_hz)
    assert config.dimensions == 39
    assert config.hop_samples == round(window_ms * rate_hz / 2000)


@settings(deadline=None)
@given(st.integers(1, 80), st.sampled_from([20, 40, 80]), st.floats(0, 3000), st.floats(3500, 8000))
def test_a_config_is_refused_exactly_when_a_filter_is_empty(n_mels, window_ms, low_hz, high_hz):
    edges = mel.band_edges_hz(n_mels, low_hz, high_hz)
    empty = (mel.filterbank(edges, 16_000, 16 * window_ms).max(axis=0) == 0).any()
    try:
        FeatureConfig(kind="log-mel", window_ms=window_ms, n_mels=n_mels, low_hz=low_hz, high_hz=high_hz)
    except ConfigError:
        assert empty
    else:
        assert not empty


def test_whole_numbers_and_decimals_give_one_identity():
    whole, decimal = FeatureConfig(window_ms=40, low_hz=20), FeatureConfig(window_ms=40.0, low_hz=20.0)
    assert msgspec.json.encode(whole) == msgspec.json.encode(decimal)


@pytest.mark.parametrize(("ms", "frames"), [(1, 3), (60, 3), (80, 5), (119, 5), (180, 9), (199, 9), (200, 11)])
def test_a_slope_in_milliseconds_is_the_nearest_odd_number_of_hops(ms, frames):
    assert FeatureConfig(window_ms=40, delta_width_ms=ms).delta_frames == frames


def test_reading_a_config_back_checks_it_again():
    with pytest.raises(ConfigError, match="delta_width=4"):
        msgspec.json.decode(b'{"delta_width": 4}', type=FeatureConfig)
