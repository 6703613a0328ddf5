"""Keep clips' sound on a device, and compute frames of changed clips there in fixed shapes.

Nothing here reads a value back from the device, and all shapes follow from what the CPU knows, so that a CUDA graph can
hold it. What is computed is ``Changes.apply`` and ``mfcc.extract``, up to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cello.audio.corpus import Corpus, bounded
from cello.features import mel
from cello.features.cache import FeatureSet, check_corpus
from cello.features.config import FeatureConfig
from cello.features.front_end import Augmentation
from cello.features.normalise import SMALLEST_DEVIATION
from cello.features.transforms import dct, delta_weights, hann

SAMPLES_AT_ONCE = 1 << 24
"""Padded samples whose frames are computed at once; their spectrum takes 16 bytes each, 32 in double precision."""
COPIED_AT_ONCE = 1 << 25


@dataclass(frozen=True, eq=False)
class Sound:
    """Clips end to end on a device: samples (ΣN,) int16 or float32, where each clip starts (n,), its samples (n,)."""

    flat: Tensor
    starts: Tensor
    lengths: Tensor

    @classmethod
    def of(cls, arrays: Sequence[NDArray[np.generic]], starts: NDArray[np.int64], lengths: NDArray[np.int64],
           device: torch.device) -> Sound:  # fmt: skip
        """Copy arrays, in which clips' starts count on from one to the next."""
        narrow = all(array.dtype == np.int16 for array in arrays)
        flat = torch.empty(sum(map(len, arrays)), dtype=torch.int16 if narrow else torch.float32, device=device)
        place = 0
        for array in arrays:
            for begin in range(0, len(array), COPIED_AT_ONCE):
                part = np.array(array[begin : begin + COPIED_AT_ONCE])
                if part.dtype == np.int16 and not narrow:
                    part = part * np.float32(1 / 32768)
                flat[place : place + len(part)].copy_(torch.from_numpy(part))
                place += len(part)
        return cls(flat, torch.from_numpy(starts).to(device), torch.from_numpy(lengths).to(device))

    @property
    def scale(self) -> float:
        """What samples are multiplied by to lie in [−1, 1]."""
        return 1 / 32768 if self.flat.dtype is torch.int16 else 1.0

    def at(self, clips: Tensor, places: Tensor) -> Tensor:
        """The samples of clips (B,) at places (B, N) int32 within each, as floats that are not scaled."""
        # half as wide where that is enough, for these numbers are most of what is read and written
        wide = torch.int32 if len(self.flat) < 1 << 31 else torch.int64
        index = self.starts[clips].to(wide)[:, None] + places
        return self.flat.index_select(0, index.view(-1)).view(places.shape).float()


_KEPT: WeakKeyDictionary[Corpus, dict[torch.device, Sound]] = WeakKeyDictionary()


def sound_of(corpus: Corpus, device: torch.device) -> Sound:
    """The corpus's sound on the device; it stays there for the next run as long as the corpus is in memory."""
    kept = _KEPT.setdefault(corpus, {})
    if device not in kept:
        kept[device] = Sound.of(corpus.arrays, corpus.starts, corpus.lengths, device)
    return kept[device]


def recordings_on(recordings: Sequence[NDArray[np.float32]], device: torch.device) -> Sound:
    """Noise on the device."""
    lengths = np.array([len(recording) for recording in recordings], dtype=np.int64)
    return Sound.of(recordings, np.cumsum(lengths) - lengths, lengths, device)


def changes_as_tensors(augmentation: Augmentation) -> dict[str, Tensor]:
    """What is done to each clip, by the names of ``Changes``, with ``warps`` where there are any; on the CPU."""
    changes, found = augmentation.changes, {"lengths": torch.from_numpy(augmentation.changes.lengths)}
    if changes.rates is not None and changes.froms is not None:
        whole = changes.lengths <= 1  # such a clip stays as it is
        found["rates"] = torch.from_numpy(np.where(whole, 1.0, changes.rates))
        found["froms"] = torch.from_numpy(np.where(whole, 0.0, changes.froms))
    if changes.moves is not None:
        found["moves"] = torch.from_numpy(changes.moves)
    if changes.noise is not None and changes.starts is not None and changes.gains is not None:
        found["noise"], found["starts"] = torch.from_numpy(changes.noise), torch.from_numpy(changes.starts)
        found["gains"] = torch.from_numpy(changes.gains.astype(np.float32))
    if augmentation.warps is not None:
        found["warps"] = torch.from_numpy(augmentation.warps)
    return found


def changed(
    sound: Sound, clips: Tensor, changes: Mapping[str, Tensor], samples: int, noise: Sound | None, *, loops: bool
) -> Tensor:
    """The sound of clips (B,) as ``changes`` (B,) of each say, (B, ``samples``), zero after each end.

    ``loops`` says that a recording of ``noise`` may be shorter than a clip.
    """
    times = torch.arange(samples, dtype=torch.int32, device=clips.device)
    kept, last = changes["lengths"].int()[:, None], (sound.lengths[clips] - 1).int()[:, None]
    places = times - changes["moves"].int()[:, None] if "moves" in changes else times.expand(len(clips), samples)
    inside = (places >= 0) & (places < kept) & (times < kept)
    first = torch.zeros_like(last)
    if "rates" in changes:
        # in double precision, as Changes.apply has it
        exact = (places * changes["rates"][:, None]).add_(changes["froms"][:, None])
        before = torch.clamp(exact.int(), first, last)
        share = exact.frac().float()
        audio = torch.lerp(sound.at(clips, before), sound.at(clips, torch.minimum(before + 1, last)), share)
    else:
        audio = sound.at(clips, torch.clamp(places, first, last))
    audio = torch.where(inside, audio, 0.0).mul_(sound.scale)
    if noise is None or "noise" not in changes:
        return audio
    chosen = changes["noise"].clamp(min=0)
    longest = noise.lengths[chosen].int()[:, None]
    meets = changes["starts"].int()[:, None] + times
    excerpt = noise.at(chosen, meets % longest if loops else torch.minimum(meets, longest - 1))
    excerpt = torch.where((times < kept) & (changes["noise"] >= 0)[:, None], excerpt, 0.0)
    size = torch.linalg.vector_norm(excerpt, dim=1)
    gains = changes["gains"] * torch.linalg.vector_norm(audio, dim=1) / size
    return audio + excerpt * torch.where(size > 0, gains, 0.0)[:, None]


@contextmanager
def ieee_products() -> Iterator[None]:
    """Matrix products in float32 within: a logarithm of energies needs all of their digits."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


class FixedFrontEnd:
    """The front end of a config on a device: (B, N) sound and (B,) counts → (B, T, D) frames, T by N alone.

    ``fewest`` is how many frames the shortest clip has that is ever given: deltas of clips that short are narrower.
    ``most_warp`` is of the warped filters that clips may have. Without ``double`` all is computed in single precision,
    as for clips that are changed, which nothing but training sees.
    """

    def __init__(
        self, config: FeatureConfig, device: torch.device, fewest: int, most_warp: float = 0.0, *, double: bool = True
    ) -> None:
        self.config, self._fewest = config, fewest
        self._real = torch.float64 if double else torch.float32
        self._tensors = _tensors(config, device, most_warp, self._real)
        widest = config.delta_frames
        narrowest = min(widest, (fewest - 1) // 2 * 2 + 1)
        self._widths = range(max(3, narrowest), widest + 1, 2) if config.deltas else range(0)
        self._weights = {
            width: _tensor(
                np.stack([delta_weights(width, order + 1) for order in range(config.deltas)], 1), device, self._real
            )
            for width in self._widths
        }

    @torch.no_grad()
    def __call__(self, audio: Tensor, counts: Tensor, warps: Tensor | None = None) -> Tensor:
        """Frames, zero after each clip's end; ``warps`` (B,) says which of ``mel.warps`` each clip has."""
        with ieee_products():
            static = self._static(audio, warps)
            frames = torch.cat([static, self._deltas(static, counts)], 2) if self.config.deltas else static
        frames = frames.float()
        inside = (torch.arange(frames.shape[1], device=frames.device) < counts[:, None])[..., None]
        frames = torch.where(inside, frames, 0.0)
        if self.config.normalisation != "clip":
            return frames
        return _standardised(frames.to(self._real), inside, counts).float()

    def _static(self, audio: Tensor, warps: Tensor | None) -> Tensor:
        at_once = max(1, SAMPLES_AT_ONCE // audio.shape[1])
        parts = [slice(first, first + at_once) for first in range(0, len(audio), at_once)]
        return torch.cat([self._part(audio[part], None if warps is None else warps[part]) for part in parts])

    def _part(self, audio: Tensor, warps: Tensor | None) -> Tensor:
        """(B, N) → (B, T, S), log-mel or MFCC."""
        config = self.config
        if config.pre_emphasis:
            exact = audio.to(self._real)
            audio = torch.cat([audio[:, :1], (exact[:, 1:] - config.pre_emphasis * exact[:, :-1]).float()], 1)
        windowed = audio.unfold(1, config.window_samples, config.hop_samples) * self._tensors["window"]
        power = torch.view_as_real(torch.fft.rfft(windowed)).square().sum(3)
        bands = self._tensors["bands"]
        energy = power @ bands[0] if warps is None else torch.bmm(power, bands[warps])
        log_mel = energy.clamp(min=config.log_floor).log()
        return log_mel @ self._tensors["cosines"] if config.kind == "mfcc" else log_mel

    def _deltas(self, static: Tensor, counts: Tensor) -> Tensor:
        """(B, T, S) → (B, T, S · orders), as ``append_deltas`` has them."""
        batch, time, size = static.shape
        found = static.new_zeros(batch, time, size * self.config.deltas)
        widths = torch.clamp((counts - 1) // 2 * 2 + 1, max=self.config.delta_frames)
        for width in self._widths:
            if width > time:
                break
            one = self._of_width(static, counts, width)
            found = (
                one
                if self._fewest >= self.config.delta_frames
                else torch.where((widths == width)[:, None, None], one, found)
            )
        return found

    def _of_width(self, static: Tensor, counts: Tensor, width: int) -> Tensor:
        batch, time = static.shape[:2]
        centres = time - width + 1
        inner = (static.unfold(1, width, 1) @ self._weights[width]).transpose(2, 3)
        nearest = torch.arange(time, device=static.device) - width // 2
        nearest = torch.minimum(nearest.clamp(min=0)[None], (counts - width).clamp(min=0)[:, None])
        rows = torch.arange(batch, device=static.device)[:, None] * centres + nearest
        return inner.reshape(batch * centres, -1).index_select(0, rows.view(-1)).view(batch, time, -1)


def _standardised(frames: Tensor, inside: Tensor, counts: Tensor) -> Tensor:
    """``standardise_clips`` of frames that are zero after each end."""
    n = counts.clamp(min=1)[:, None, None]
    centred = torch.where(inside, frames - frames.sum(1, keepdim=True) / n, 0.0)
    return centred / (centred.square().sum(1, keepdim=True) / n).sqrt().clamp(min=SMALLEST_DEVIATION)


@lru_cache(maxsize=16)
def _tensors(config: FeatureConfig, device: torch.device, most_warp: float, real: torch.dtype) -> dict[str, Tensor]:
    """Window, mel filters of each warp (W, bins, mels), cosines; computed in float64, kept as ``real``."""
    warps = mel.warps(most_warp) if most_warp else (1.0,)
    size = config.window_samples
    bands = np.stack([mel.filterbank(config.warped_edges_hz(warp), config.rate_hz, size) for warp in warps])
    found = {"window": hann(size), "bands": bands, "cosines": dct(config.n_mels, config.n_mfcc)}
    return {
        name: _tensor(values, device, real)
        for name, values in found.items()
        if name != "cosines" or config.kind == "mfcc"
    }


def _tensor(values: NDArray[np.float64], device: torch.device, real: torch.dtype) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values)).to(device=device, dtype=real)


def frames_in(lengths: NDArray[np.int64], config: FeatureConfig) -> NDArray[np.int64]:
    """The frames of clips of these lengths; of one shorter than a window, which is silent after its end, one."""
    counts: NDArray[np.int64] = 1 + np.maximum(lengths - config.window_samples, 0) // config.hop_samples
    return counts


def samples_for(frames: int, config: FeatureConfig) -> int:
    """The most samples that a clip of so many frames has."""
    return frames * config.hop_samples + config.window_samples - 1


_FRAMES: WeakKeyDictionary[Corpus, dict[torch.device, tuple[FeatureConfig, FeatureSet]]] = WeakKeyDictionary()


def features_on(corpus: Corpus, config: FeatureConfig, device: torch.device) -> FeatureSet:
    """The frames of every clip as they are, on the device; their counts are on the CPU.

    They stay there for other runs of the same config, as long as the corpus is in memory.

    Raises:
        FeatureError: another sample rate than the config's, or a clip shorter than one window.
    """
    check_corpus(corpus, config)
    kept = _FRAMES.setdefault(corpus, {})
    if device not in kept or kept[device][0] != config:
        kept.pop(device, None)  # before others take its memory
        kept[device] = config, _features_on(corpus, config, device)
    return kept[device][1]


def _features_on(corpus: Corpus, config: FeatureConfig, device: torch.device) -> FeatureSet:
    sound, counts = sound_of(corpus, device), frames_in(corpus.lengths, config)
    front_end = FixedFrontEnd(config, device, int(counts.min()))
    flat = torch.empty(int(counts.sum()), config.dimensions, device=device)
    place = 0
    for first, last in bounded(corpus.lengths.tolist(), SAMPLES_AT_ONCE):
        clips = torch.arange(first, last, device=device)
        most = int(counts[first:last].max())
        samples = min(samples_for(most, config), int(corpus.lengths[first:last].max()))
        audio = changed(sound, clips, {"lengths": sound.lengths[clips]}, samples, None, loops=False)
        own = torch.from_numpy(counts[first:last]).to(device)
        frames = front_end(audio, own)
        inside = torch.arange(most, device=device) < own[:, None]
        found = frames[inside]
        flat[place : place + len(found)] = found
        place += len(found)
    return FeatureSet(flat, torch.from_numpy(counts))
