"""Run whole epochs on a device: sound, draws and every step stay there, and the CPU waits once an epoch.

R replicates, runs that differ in the seed alone, make each step together; a run of its own is one of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from cello.features.resident import (
    FixedFrontEnd,
    changed,
    changes_as_tensors,
    frames_in,
    recordings_on,
    samples_for,
    sound_of,
)
from cello.training.data import RunData, batch_count, batches, derived_seed
from cello.training.draws import masks_of, step_draws
from cello.training.graphs import StepGraphs
from cello.training.lost import lost_frames
from cello.training.optimiser import learning_rate
from cello.training.stacked import Replicate, Stacked

STEPS_OF_LENGTH = 4
"""Lengths to which batches are padded, within each power of two: few, for each makes a graph of its own."""


class Kind(NamedTuple):
    """What a step's shapes depend on: its clips, the frames that they are padded to, whether all have that many."""

    clips: int
    frames: int
    whole: bool


class EpochDraws(NamedTuple):
    """What an epoch's steps (S, R, …) and clips (R · n, …) are given by name, and the kinds of its steps."""

    epoch: int
    steps: dict[str, Tensor]
    clips: dict[str, Tensor]
    kinds: list[Kind]


class EpochFigures(NamedTuple):
    """The mean loss of each replicate's steps (S, R), and how many clips of all had the right label first (R,)."""

    losses: Tensor
    right: Tensor


def padded_frames(frames: int, longest: int) -> int:
    """The frames that a batch is padded to whose longest clip has so many, of a corpus whose longest has ``longest``.

    >>> [padded_frames(frames, 49) for frames in (1, 17, 40, 41, 49)]
    [1, 20, 40, 48, 49]
    """
    unit = max(1, (1 << (frames - 1).bit_length()) // 2 // STEPS_OF_LENGTH)
    return min(-(-frames // unit) * unit, longest)


class StoredClips:
    """Training clips whose frames do not change, read from those of the whole corpus."""

    def __init__(self, data: RunData, device: torch.device) -> None:
        indices = torch.from_numpy(data.indices["train"])
        self.flat, self.counts = data.features.flat, data.features.counts[indices]
        self.longest = int(self.counts.max())
        self._starts, self._own = data.features.starts[indices].to(device), self.counts.to(device)

    def draw(self, data: RunData, epoch: int) -> tuple[dict[str, Tensor], Tensor]:
        """Nothing, and the clips' counts (n,)."""
        return {}, self.counts

    def frames(self, rows: Tensor, places: Tensor, frames: int, drawn: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Clips (B,) as (B, T, D) frames, zero after each end, and their counts (B,)."""
        counts, times = self._own.index_select(0, rows), torch.arange(frames, device=rows.device)
        found = self._starts.index_select(0, rows)[:, None] + torch.minimum(times, (counts - 1)[:, None])
        values = self.flat.index_select(0, found.view(-1)).view(len(rows), frames, -1)
        return torch.where((times < counts[:, None])[..., None], values, 0.0), counts


class ChangedClips:
    """Training clips that are changed anew in each epoch, computed from their sound."""

    def __init__(self, data: RunData, device: torch.device) -> None:
        self.config = data.config.features
        indices, augment = data.indices["train"], data.config.augment
        lengths = data.corpus.lengths[indices]
        self.sound, self.clips = sound_of(data.corpus, device), torch.from_numpy(indices).to(device)
        noise = data.recordings if augment.noise_share else ()
        self.noise = recordings_on(noise, device) if noise else None
        self.most = int(lengths.max())
        self.loops = bool(noise) and min(map(len, noise)) < self.most
        self.longest = int(frames_in(lengths, self.config).max())
        shortest = np.array([np.floor((lengths.min() - 1) / (1 + augment.speed))], dtype=np.int64)
        fewest = int(frames_in(shortest, self.config)[0])
        self.front_end = FixedFrontEnd(self.config, device, fewest, augment.warp, double=False)

    def draw(self, data: RunData, epoch: int) -> tuple[dict[str, Tensor], Tensor]:
        """All that a run does to the clips' sound in an epoch, (n,) each, and their counts (n,); on the CPU."""
        augmentation = data.augmentation(epoch)
        counts = torch.from_numpy(frames_in(augmentation.changes.lengths, self.config))
        return {**changes_as_tensors(augmentation), "counts": counts}, counts

    def frames(self, rows: Tensor, places: Tensor, frames: int, drawn: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Clips (B,) as (B, T, D) frames, zero after each end, and their counts (B,); ``places`` are in ``drawn``."""
        own = {name: values.index_select(0, places) for name, values in drawn.items()}
        samples = min(samples_for(frames, self.config), max(self.most, self.config.window_samples))
        clips = self.clips.index_select(0, rows)
        audio = changed(self.sound, clips, own, samples, self.noise, loops=self.loops)
        return self.front_end(audio, own["counts"], own.get("warps")), own["counts"]


class ResidentEpochs:
    """The training steps of R replicates at the same epoch, whose models, optimisers and averages are on the device.

    What an epoch draws is copied to the device before its first step, to the same addresses every time; each step finds
    its own by a counter that lies there too. Every replicate draws as it would alone.
    """

    def __init__(self, replicates: Sequence[Replicate], device: torch.device, *, capture: bool = True) -> None:
        self.replicates, self.device, first = replicates, device, replicates[0]
        self.config, data = first.config, first.data
        self.stacked = Stacked(replicates)
        self.clips = ChangedClips(data, device) if data.changes_sound else StoredClips(data, device)
        self.targets = torch.from_numpy(data.corpus.targets[data.indices["train"]]).to(device)
        self.number = torch.zeros(1, dtype=torch.int64, device=device)
        steps = batch_count(len(self.targets), self.config.optimiser.batch)
        self.losses = torch.zeros(steps, len(replicates), device=device)
        self.right = torch.zeros(len(replicates), dtype=torch.int64, device=device)
        self.firsts = torch.arange(len(replicates), device=device)[:, None]
        self.of_steps: dict[str, Tensor] = {}
        self.of_clips: dict[str, Tensor] = {}
        self.gradients: list[list[Tensor]] = []
        self.graphs: StepGraphs[Kind] = StepGraphs(device, capture=capture)
        self.drawn: EpochDraws | None = None

    def draw(self, epoch: int) -> EpochDraws:
        """All that is random in an epoch, and the learning rates of its steps, on the CPU."""
        config, longest = self.config.optimiser, self.clips.longest
        each = [self._draw_one(replicate, epoch) for replicate in self.replicates]
        steps = {name: torch.stack([drawn[0][name] for drawn in each], 1) for name in each[0][0]}
        clips = {name: torch.cat([drawn[1][name] for drawn in each]) for name in each[0][1]}
        counts = torch.stack([drawn[2] for drawn in each])
        most = counts.gather(1, steps["rows"].transpose(0, 1).flatten(1)).view(len(each), *steps["rows"].shape[::2])
        first, whole = epoch * len(most[0]), config.epochs * len(most[0])
        steps["rates"] = torch.tensor([learning_rate(config, first + n, whole) for n in range(len(most[0]))])
        alike, size, clips_left = int(counts.min()) == longest, steps["rows"].shape[2], len(self.targets)
        kinds = []
        for n in range(len(most[0])):
            own = min(size, clips_left - n * size)
            kinds.append(Kind(own, padded_frames(int(most[:, n, :own].max()), longest), alike))
        return EpochDraws(epoch, steps, clips, kinds)

    def _draw_one(self, replicate: Replicate, epoch: int) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
        """What a replicate's steps and clips draw, as it would alone, and its clips' counts."""
        seed, size = replicate.config.seed, replicate.config.optimiser.batch
        generator = torch.Generator().manual_seed(derived_seed(seed, "order", epoch))
        order = batches(len(self.targets), size, generator)
        steps = step_draws(order, replicate.config, generator)
        generator = torch.Generator().manual_seed(derived_seed(seed, "dropout", epoch))
        steps["keys"] = torch.randint(1 << 62, (len(order),), generator=generator)
        return steps, *self.clips.draw(replicate.data, epoch)

    def prepare(self, epoch: int) -> list[Kind]:
        """Copy the draws of an epoch to the device, and tell the kinds of its steps."""
        drawn = self.drawn if self.drawn is not None and self.drawn.epoch == epoch else self.draw(epoch)
        self.drawn = None
        self._fill(self.of_steps, drawn.steps)
        self._fill(self.of_clips, drawn.clips)
        if self.stacked.averages:
            self._fill(self.of_steps, {"shares": torch.tensor(self.stacked.shares(len(drawn.kinds)))})
        self.number.zero_()
        self.right.zero_()
        return drawn.kinds

    def _fill(self, held: dict[str, Tensor], values: Mapping[str, Tensor]) -> None:
        """Copy values to the device, where they were copied before."""
        for name, value in values.items():
            if name in held:
                held[name].copy_(value)
            else:
                held[name] = value.to(self.device, copy=True)

    def run(self, kinds: list[Kind], following: int | None = None) -> EpochFigures:
        """All steps of an epoch that was prepared; the ``following`` epoch is drawn while a GPU is at work on them."""
        for kind in kinds:
            self.graphs(self._step, kind)
        if following is not None:
            self.drawn = self.draw(following)
        losses = self.losses.cpu()
        self.stacked.count_updates(len(kinds))
        return EpochFigures(losses, self.right.cpu())

    def learns(self) -> list[bool]:
        """Whether a weight of each encoder got a gradient in the first or last step; one without weights needs none."""
        if not list(self.replicates[0].model.encoder.parameters()):
            return [True] * len(self.replicates)
        found = torch.zeros(len(self.replicates), dtype=torch.bool, device=self.device)
        for gradient in (gradient for step in self.gradients for gradient in step):
            found |= gradient.reshape(len(found), -1).any(1)
        return [bool(learns) for learns in found.cpu()]

    def _step(self, kind: Kind) -> None:
        """One update. Nothing is changed before the loss and its gradients are known."""
        at = self.number
        own = {name: values.index_select(0, at)[0] for name, values in self.of_steps.items()}
        rows = own["rows"][:, : kind.clips]
        targets = self.targets.index_select(0, rows.flatten())
        with torch.no_grad():
            frames, counts = self._frames(kind, rows, own)
            lost = self._lost(kind, own)
        scores = self.stacked.scores(frames, None if kind.whole else counts, own["keys"], lost)
        losses = self._losses(scores, targets, own)
        gradients = self.stacked.gradients(losses.sum())
        self._remember(gradients)
        self.stacked.update(gradients, own["rates"])
        if "shares" in own:
            self.stacked.take_in(own["shares"])
        self.losses.index_copy_(0, at, losses.detach().unsqueeze(0))
        self.right.add_((scores.detach().argmax(2) == targets.view(rows.shape)).sum(1))
        self.number.add_(1)

    def _frames(self, kind: Kind, rows: Tensor, own: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """A step's frames (R, B, T, D) as the models read them, masked and mixed, and their counts (R, B)."""
        places = (rows + self.firsts * len(self.targets)).flatten()
        frames, counts = self.clips.frames(rows.flatten(), places, kind.frames, self.of_clips)
        inside = torch.arange(kind.frames, device=self.device) < counts[:, None]
        model = self.replicates[0].model
        frames = torch.where(inside[..., None], (frames - model.mean) / model.deviation, 0.0)
        if "times" in own or "bands" in own:
            names = [name for name in own if name in ("times", "bands")]
            drawn = {name: own[name][:, :, : kind.clips].transpose(0, 1).flatten(1, 2) for name in names}
            frames = masks_of(self.config, drawn).hide(frames, counts)
        if "share" in own:
            partner = self._partners(rows, own)
            shares = own["share"][:, None].expand(rows.shape).reshape(-1, 1, 1)
            frames = frames * shares + frames.index_select(0, partner) * (1 - shares)
            counts = torch.maximum(counts, counts.index_select(0, partner))
        return frames.view(*rows.shape, *frames.shape[1:]), counts.view(rows.shape)

    def _lost(self, kind: Kind, own: dict[str, Tensor]) -> Tensor | None:
        """(R, B, T) which frames of a step are lost; None where none is."""
        if "lost" not in own:
            return None
        clips, data = torch.arange(kind.clips, device=self.device), self.config.data
        each = [lost_frames(data, clips, kind.frames, key) for key in own["lost"].unbind()]
        return torch.stack([lost for lost in each if lost is not None])

    def _partners(self, rows: Tensor, own: dict[str, Tensor]) -> Tensor:
        """(R · B,) the clip that each of a step is mixed with, by its place among all of the step."""
        return (own["partner"][:, : rows.shape[1]] + self.firsts * rows.shape[1]).flatten()

    def _losses(self, scores: Tensor, targets: Tensor, own: dict[str, Tensor]) -> Tensor:
        """(R,) mean losses."""
        smoothing, flat = self.config.optimiser.label_smoothing, scores.flatten(0, 1)

        def mean(targets: Tensor) -> Tensor:
            losses = functional.cross_entropy(flat, targets, label_smoothing=smoothing, reduction="none")
            return losses.view(scores.shape[:2]).mean(1)

        if "share" not in own:
            return mean(targets)
        others = targets.index_select(0, self._partners(scores[..., 0], own))
        return own["share"] * mean(targets) + (1 - own["share"]) * mean(others)

    def _remember(self, gradients: Sequence[Tensor | None]) -> None:
        """Keep the encoders' gradients of the first step and of this one, which a graph writes again at each step."""
        model = self.replicates[0].model
        own = {id(weight) for weight in model.encoder.parameters()}
        pairs = zip(model.parameters(), gradients, strict=True)
        found = [gradient for weight, gradient in pairs if gradient is not None and id(weight) in own]
        self.gradients = [*self.gradients[:1], found]
