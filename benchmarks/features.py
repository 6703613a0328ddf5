"""Time feature extraction against librosa: 13 MFCC + Δ + ΔΔ of one-second clips, one thread.

    python benchmarks/features.py [--json] [--rounds 9] [--clips 64]

Every round times each contender once, one after another, in CPU time; a ratio is the median of the rounds' ratios, so
that a busy machine slows both sides of it. Batched librosa gets the best of several batch sizes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from functools import lru_cache

import librosa
import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from cello.features.config import FeatureConfig
from cello.features.mfcc import extract

LIBROSA_BATCHES = (8, 16, 64)


@lru_cache
def mel_weights(config: FeatureConfig) -> NDArray[np.float32]:
    return librosa.filters.mel(
        sr=config.rate_hz, n_fft=config.window_samples, n_mels=config.n_mels, fmin=config.low_hz, fmax=config.high_hz
    )


def librosa_frames(sound: NDArray[np.float32], config: FeatureConfig) -> NDArray[np.float32]:
    """(…, N) → (…, D, T) by librosa; its mel weights are kept between calls and applied as it applies them."""
    stft = librosa.stft(sound, n_fft=config.window_samples, hop_length=config.hop_samples, center=False)
    bands = np.einsum("...ft,mf->...mt", np.abs(stft) ** 2, mel_weights(config), optimize=True)
    static = librosa.feature.mfcc(S=np.log(np.maximum(bands, config.log_floor)), n_mfcc=config.n_mfcc)
    slopes = [librosa.feature.delta(static, width=config.delta_width, order=order) for order in (1, 2)]
    return np.concatenate([static, *slopes], axis=-2)


def seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def compare(config: FeatureConfig, sound: NDArray[np.float32], rounds: int) -> dict[str, float]:
    """Median clips/s of each contender and median ratios of Cello to the others."""
    clips = len(sound)
    audio, lengths = torch.from_numpy(sound), torch.full((clips,), sound.shape[1])
    contenders: dict[str, Callable[[], object]] = {
        "cello": lambda: extract(audio, lengths, config),
        "one by one": lambda: [librosa_frames(clip, config) for clip in sound],
    }
    for size in LIBROSA_BATCHES:
        contenders[f"batches of {size}"] = (
            lambda size=size: [  # type: ignore[misc]
                librosa_frames(sound[start : start + size], config) for start in range(0, clips, size)
            ]
        )
    ours, _ = extract(audio, lengths, config)
    difference = float(np.abs(ours.numpy().swapaxes(1, 2) - librosa_frames(sound, config)).max())
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(rounds + 1):
        for name, work in contenders.items():
            taken = seconds(work)
            if turn:
                times[name].append(taken)
    batched = [min(taken) for taken in zip(*(times[f"batches of {s}"] for s in LIBROSA_BATCHES), strict=True)]
    return {
        "window_ms": config.window_ms,
        "cello_clips_per_second": clips / statistics.median(times["cello"]),
        "batched_clips_per_second": clips / statistics.median(batched),
        "single_clips_per_second": clips / statistics.median(times["one by one"]),
        "times_batched": statistics.median(b / c for b, c in zip(batched, times["cello"], strict=True)),
        "times_single": statistics.median(s / c for s, c in zip(times["one by one"], times["cello"], strict=True)),
        "largest_difference": difference,
    }


def table(rows: list[dict[str, float]]) -> str:
    lines = ["window  Cello clips/s  librosa batched  one by one   ×batched  ×one by one  largest difference"]
    for row in rows:
        ours, batched, single = (row[f"{who}_clips_per_second"] for who in ("cello", "batched", "single"))
        lines.append(
            f"{row['window_ms']:3g} ms  {ours:13,.0f}  {batched:15,.0f}  {single:10,.0f}  {row['times_batched']:9.2f}  "
            f"{row['times_single']:11.2f}  {row['largest_difference']:.1e}"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--rounds", type=int, default=9, help="timed rounds after one that warms up (default 9)")
    parser.add_argument("--clips", type=int, default=64, help="one-second clips a round (default 64)")
    choice = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    sound = rng.normal(0, 0.1, (choice.clips, 16_000)).astype(np.float32)
    with threadpool_limits(1):
        configs = [FeatureConfig(window_ms=w, normalisation="none") for w in (20, 40, 80, 120)]
        rows = [compare(config, sound, choice.rounds) for config in configs]
    found = {"rounds": choice.rounds, "clips": choice.clips, "threads": 1, "rows": rows}
    sys.stdout.write(json.dumps(found, indent=1) + "\n" if choice.json else table(rows))


if __name__ == "__main__":
    main()
