"""Run whole epochs on a device: sound, draws and every step stay there, and the CPU waits once an epoch."""

from __future__ import annotations

from collections.abc import Mapping
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
from cello.models.classifier import Classifier
from cello.training.config import RunConfig
from cello.training.data import RunData, batch_count, batches, derived_seed
from cello.training.draws import masks_of, step_draws
from cello.training.graphs import StepGraphs
from cello.training.lost import lost_frames
from cello.training.optimiser import Average, ResidentOptimiser, learning_rate

STEPS_OF_LENGTH = 4
"""Lengths to which batches are padded, within each power of two: few, for each makes a graph of its own."""


class Kind(NamedTuple):
    """What a step's shapes depend on: its clips, the frames that they are padded to, whether all have that many."""

    clips: int
    frames: int
    whole: bool


class EpochDraws(NamedTuple):
    """What an epoch's steps (S, …) and clips (n, …) are given by name, and the kinds of its steps."""

    epoch: int
    steps: dict[str, Tensor]
    clips: dict[str, Tensor]
    kinds: list[Kind]


class EpochFigures(NamedTuple):
    """The mean loss of each step (S,), and how many clips of all had the right label first."""

    losses: Tensor
    right: int


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

    def draw(self, epoch: int) -> tuple[dict[str, Tensor], Tensor]:
        """Nothing, and the clips' counts (n,)."""
        return {}, self.counts

    def frames(self, rows: Tensor, frames: int, drawn: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Clips (B,) as (B, T, D) frames, zero after each end, and their counts (B,)."""
        counts, times = self._own.index_select(0, rows), torch.arange(frames, device=rows.device)
        places = self._starts.index_select(0, rows)[:, None] + torch.minimum(times, (counts - 1)[:, None])
        found = self.flat.index_select(0, places.view(-1)).view(len(rows), frames, -1)
        return torch.where((times < counts[:, None])[..., None], found, 0.0), counts


class ChangedClips:
    """Training clips that are changed anew in each epoch, computed from their sound."""

    def __init__(self, data: RunData, device: torch.device) -> None:
        self.data, self.config = data, data.config.features
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
        self.front_end = FixedFrontEnd(self.config, device, fewest, augment.warp)

    def draw(self, epoch: int) -> tuple[dict[str, Tensor], Tensor]:
        """All that is done to the clips' sound in an epoch, (n,) each, and their counts (n,); on the CPU."""
        augmentation = self.data.augmentation(epoch)
        counts = torch.from_numpy(frames_in(augmentation.changes.lengths, self.config))
        return {**changes_as_tensors(augmentation), "counts": counts}, counts

    def frames(self, rows: Tensor, frames: int, drawn: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Clips (B,) as (B, T, D) frames, zero after each end, and their counts (B,)."""
        own = {name: values.index_select(0, rows) for name, values in drawn.items()}
        samples = min(samples_for(frames, self.config), max(self.most, self.config.window_samples))
        clips = self.clips.index_select(0, rows)
        audio = changed(self.sound, clips, own, samples, self.noise, loops=self.loops)
        return self.front_end(audio, own["counts"], own.get("warps")), own["counts"]


class ResidentEpochs:
    """The training steps of a run, whose model, optimiser and average are on the device.

    What an epoch draws is copied to the device before its first step, to the same addresses every time; each step finds
    its own by a counter that lies there too.
    """

    def __init__(
        self,
        config: RunConfig,
        data: RunData,
        model: Classifier,
        optimiser: ResidentOptimiser,
        average: Average,
        device: torch.device,
        *,
        capture: bool = True,
    ) -> None:
        self.config, self.model, self.optimiser, self.average, self.device = config, model, optimiser, average, device
        self.clips = ChangedClips(data, device) if data.changes_sound else StoredClips(data, device)
        self.targets = torch.from_numpy(data.corpus.targets[data.indices["train"]]).to(device)
        self.number = torch.zeros(1, dtype=torch.int64, device=device)
        self.losses = torch.zeros(batch_count(len(self.targets), config.optimiser.batch), device=device)
        self.right = torch.zeros((), dtype=torch.int64, device=device)
        self.of_steps: dict[str, Tensor] = {}
        self.of_clips: dict[str, Tensor] = {}
        self.gradients: list[list[Tensor]] = []
        self.graphs: StepGraphs[Kind] = StepGraphs(device, capture=capture)
        self.drawn: EpochDraws | None = None

    def draw(self, epoch: int) -> EpochDraws:
        """All that is random in an epoch, and the learning rates of its steps, on the CPU."""
        config, longest = self.config.optimiser, self.clips.longest
        generator = torch.Generator().manual_seed(derived_seed(self.config.seed, "order", epoch))
        order = batches(len(self.targets), config.batch, generator)
        steps = step_draws(order, self.config, generator)
        first, whole = epoch * len(order), config.epochs * len(order)
        steps["rates"] = torch.tensor([learning_rate(config, first + n, whole) for n in range(len(order))])
        clips, counts = self.clips.draw(epoch)
        alike = int(counts.min()) == longest
        kinds = [Kind(len(rows), padded_frames(int(counts[rows].max()), longest), alike) for rows in order]
        return EpochDraws(epoch, steps, clips, kinds)

    def prepare(self, epoch: int) -> list[Kind]:
        """Copy the draws of an epoch to the device, and tell the kinds of its steps."""
        drawn = self.drawn if self.drawn is not None and self.drawn.epoch == epoch else self.draw(epoch)
        self.drawn = None
        self._fill(self.of_steps, drawn.steps)
        self._fill(self.of_clips, drawn.clips)
        if self.average.decay > 0:
            self._fill(self.of_steps, {"shares": torch.tensor(self.average.shares(len(drawn.kinds)))})
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
        if self.average.decay > 0:
            self.average.updates += len(kinds)
        return EpochFigures(losses, int(self.right))

    def learns(self) -> bool:
        """Whether a weight of the encoder got a gradient in the first or last step; one without weights needs none."""
        seen = [gradient for step in self.gradients for gradient in step]
        return not list(self.model.encoder.parameters()) or any(bool(gradient.any()) for gradient in seen)

    def _step(self, kind: Kind) -> None:
        """One update. Nothing is changed before the loss and its gradients are known."""
        at = self.number
        own = {name: values.index_select(0, at)[0] for name, values in self.of_steps.items()}
        rows = own["rows"][: kind.clips]
        targets = self.targets.index_select(0, rows)
        with torch.no_grad():
            frames, counts = self._frames(kind, rows, own)
            clips = torch.arange(kind.clips, device=self.device)
            lost = lost_frames(self.config.data, clips, kind.frames, own["lost"]) if "lost" in own else None
        scores = self.model.unchecked(frames, None if kind.whole else counts, lost)
        loss = self._loss(scores, targets, own)
        weights = self.optimiser.parameters
        gradients = torch.autograd.grad(loss, weights, allow_unused=True)
        self._remember(gradients)
        self.optimiser.rate.copy_(own["rates"])
        self.optimiser.update(gradients)
        if "shares" in own:
            self.average.take_in(own["shares"])
        self.losses.index_copy_(0, at, loss.detach().view(1))
        self.right.add_((scores.detach().argmax(1) == targets).sum())
        self.number.add_(1)

    def _frames(self, kind: Kind, rows: Tensor, own: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """A step's frames as the model reads them, masked and mixed, and their counts."""
        frames, counts = self.clips.frames(rows, kind.frames, self.of_clips)
        inside = torch.arange(kind.frames, device=self.device) < counts[:, None]
        frames = torch.where(inside[..., None], (frames - self.model.mean) / self.model.deviation, 0.0)
        if "times" in own or "bands" in own:
            drawn = {name: value[:, : kind.clips] for name, value in own.items() if name in ("times", "bands")}
            frames = masks_of(self.config, drawn).hide(frames, counts)
        if "share" in own:
            partner = own["partner"][: kind.clips]
            frames = frames * own["share"] + frames.index_select(0, partner) * (1 - own["share"])
            counts = torch.maximum(counts, counts.index_select(0, partner))
        return frames, counts

    def _loss(self, scores: Tensor, targets: Tensor, own: dict[str, Tensor]) -> Tensor:
        smoothing = self.config.optimiser.label_smoothing
        loss = functional.cross_entropy(scores, targets, label_smoothing=smoothing)
        if "share" not in own:
            return loss
        others = targets.index_select(0, own["partner"][: len(targets)])
        second = functional.cross_entropy(scores, others, label_smoothing=smoothing)
        return own["share"] * loss + (1 - own["share"]) * second

    def _remember(self, gradients: tuple[Tensor | None, ...]) -> None:
        """Keep the encoder's gradients of the first step and of this one, which a graph writes again at each step."""
        own = {id(weight) for weight in self.model.encoder.parameters()}
        pairs = zip(self.optimiser.parameters, gradients, strict=True)
        found = [gradient for weight, gradient in pairs if gradient is not None and id(weight) in own]
        self.gradients = [*self.gradients[:1], found]
