"""The flat file of samples: nothing lost when it has to grow wider half way."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cello.audio.samples import SampleWriter

clips = st.lists(st.tuples(st.integers(1, 3000), st.booleans(), st.integers(0, 2**31)), max_size=8)


@given(clips)
@settings(max_examples=60, deadline=None)
def test_samples_come_back_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, plan: list[tuple[int, bool, int]]
) -> None:
    path = tmp_path_factory.mktemp("pack") / "sound.npy"
    sounds: list[NDArray[np.int16] | NDArray[np.float32]] = []
    for samples, wide, seed in plan:
        integers = np.random.default_rng(seed).integers(-32768, 32768, samples).astype(np.int16)
        sounds.append((integers / np.float32(40_000)).astype(np.float32) if wide else integers)
    with SampleWriter(path) as writer:
        starts = [writer.append(sound) for sound in sounds]
    whole = np.load(path)
    any_wide = any(wide for _, wide, _ in plan)
    assert whole.dtype == (np.float32 if any_wide else np.int16)
    assert len(whole) == sum(samples for samples, _, _ in plan)
    assert list(path.parent.iterdir()) == [path]
    for start, sound in zip(starts, sounds, strict=True):
        kept = whole[start : start + len(sound)]
        expected = sound / np.float32(32768) if any_wide and sound.dtype == np.int16 else sound
        assert np.array_equal(kept, expected)
