"""Train a run epoch by epoch, keep where it is, and evaluate it at the end."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import numpy as np
import torch
from safetensors.torch import save as safetensors_bytes
from torch import Tensor

from cello.audio.corpus import SPLITS, Corpus, Split
from cello.errors import DivergenceError, TrainingError
from cello.features.cache import FeatureSet
from cello.features.masks import Masks, draw_masks
from cello.features.prepare import prepared_batch
from cello.features.statistics import corpus_statistics
from cello.files import seal_json, write_whole
from cello.machine import hardware, versions
from cello.models.classifier import Classifier
from cello.models.loss import Loss, Mixed, backward, cross_entropy
from cello.training.ahead import made_ahead
from cello.training.checkpoint import DamagedCheckpointError, load_checkpoint, save_checkpoint
from cello.training.config import RunConfig
from cello.training.data import Frames, RunData, batch_count, batches, derived_seed, frames_at_once
from cello.training.device import choose
from cello.training.diagnosis import clip_not_finite, has_gradient
from cello.training.draws import beta
from cello.training.execution import ExecutionConfig
from cello.training.folder import writing
from cello.training.lost import drawn_key, lost_frames
from cello.training.metrics import confusion, measure, predictions
from cello.training.optimiser import Average, ResidentOptimiser, learning_rate, make_optimiser
from cello.training.resident import Kind, ResidentEpochs
from cello.training.result import NOT_EVALUATED, ConditionKind, ConditionMetrics, Epoch, RunResult, warm
from cello.training.robustness import evaluation_conditions, frames_under
from cello.training.stacked import Replicate
from cello.training.start import InitialWeights
from cello.training.stopwatch import Stopwatch, marked

EVALUATION_BATCH = 256
KEPT_EVERY_SECONDS = 10.0
"""Between two checkpoints of a run on a GPU, whose epochs may be shorter than it takes to write one."""


class Trainer:
    """Trains one run epoch by epoch: its model, optimiser, averaged weights and history."""

    def __init__(
        self,
        config: RunConfig,
        corpus: Corpus,
        folder: Path,
        cache: Path | None,
        splits: tuple[Split, ...] = SPLITS,
        execution: ExecutionConfig = ExecutionConfig(),  # noqa: B008 - frozen
        start: InitialWeights | None = None,
    ) -> None:
        self.config, self.corpus, self.folder, self.execution = config, corpus, folder, execution
        self.device = choose(execution)
        resident = self.device.torch if self.device.resident else None
        self.data = RunData(config, corpus, cache, execution.backend, resident)
        self.clean = {split: self.data.clean(split) for split in splits}
        labels = len(corpus.manifest.labels)
        seed = derived_seed(config.seed, "weights")
        how = {"backend": execution.backend, "precision": self.device.precision_of_cells(execution)}
        self.model = Classifier(config.model, config.features.dimensions, labels, seed, **how)
        if config.features.normalisation == "corpus":
            mean, deviation = corpus_statistics(self.data.features, self.data.indices["train"])
            self.model.mean.copy_(mean)
            self.model.deviation.copy_(deviation)
        if start is not None:
            start.into(self.model, corpus.manifest.labels)
        self.start = None if start is None else start.record(corpus.manifest.labels)
        self.model.to(self.device.torch)
        self.optimiser = make_optimiser(config.optimiser, self.model.parameters(), resident=self.device.resident)
        self.average = Average(self.model, config.optimiser.ema)
        self.together: Together | None = None
        self.best: dict[str, Any] | None = None
        self.history: list[Epoch] = []
        self.started = self.kept = time.perf_counter()
        self.spent_before = 0.0
        self.frames_at_once = frames_at_once(config)
        self.data_threads = execution.beside(1).data_threads or 0
        self.steps = config.optimiser.epochs * batch_count(len(self.clean["train"]), config.optimiser.batch)

    @property
    def epoch(self) -> int:
        return len(self.history)

    @property
    def replicate(self) -> Replicate:
        """What a step on a device needs of this run."""
        assert isinstance(self.optimiser, ResidentOptimiser)
        return Replicate(self.config, self.data, self.model, self.optimiser, self.average)

    @property
    def spent(self) -> float:
        """Seconds so far, those before an interruption too; of runs trained together, each has its share."""
        beside = 1 if self.together is None else len(self.together.trainers)
        return self.spent_before + (time.perf_counter() - self.started) / beside

    def restart_clock(self) -> None:
        """Count the time until now by the runs that were trained together until now."""
        self.spent_before, self.started = self.spent, time.perf_counter()

    def keep(self) -> None:
        """Write the checkpoint that the run resumes from; of epochs shorter than writing, only every few seconds."""
        now = time.perf_counter()
        if self.device.resident and now - self.kept < KEPT_EVERY_SECONDS:
            return
        with writing(self.folder):
            save_checkpoint(self.folder / "checkpoint.pt", self.config.id, self.state())
        self.kept = now

    def state(self) -> dict[str, Any]:
        """All that the next epoch depends on; random streams need no keeping, they derive from seed and epoch."""
        return {
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": self.average.state(),
            "best": self.best,
            "history": msgspec.to_builtins(self.history),
            "spent": self.spent,
        }

    def resume(self) -> None:
        """Go back to the last epoch's end, where the folder holds one.

        Raises:
            DamagedCheckpointError: it holds something else; the run is then half there, and must be made anew.
            TrainingError: it holds another run's, or a newer Cello's.
        """
        path = self.folder / "checkpoint.pt"
        state = load_checkpoint(path, self.config.id)
        if state is None:
            return
        try:
            self.model.load_state_dict(state["model"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.average.load(state["average"])
            self.best, self.spent_before = state["best"], state["spent"]
            self.history = msgspec.convert(state["history"], list[Epoch])
        except (RuntimeError, KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise DamagedCheckpointError(path, "it is not this run's") from error

    def train_epoch(self) -> Epoch:
        """One pass over the training clips, then the validation clips in eval mode with the averaged weights."""
        if self.device.resident:
            (record,) = (self.together or Together([self])).train_epoch()
            if isinstance(record, TrainingError):
                raise record
            return record
        watch = Stopwatch()
        torch.manual_seed(derived_seed(self.config.seed, "dropout", self.epoch))
        generator = torch.Generator().manual_seed(derived_seed(self.config.seed, "order", self.epoch))
        with watch.phase("data"):
            clips = self.data.augmented(self.epoch) if self.data.changes_sound else self.clean["train"]
        with watch.phase("train"):
            loss, right = self._steps(clips, generator, watch)
        return self.end_epoch(loss, right, watch)

    def end_epoch(self, loss: float, right: float, watch: Stopwatch) -> Epoch:
        """Evaluate the validation clips, and record the epoch, by the mean loss and accuracy of its steps.

        Raises:
            DivergenceError: the validation loss is not finite.
        """
        with watch.phase("validation"), self.average.in_place():
            validation = measure(self.clean["validation"].targets, self.scores(self.clean["validation"]))
        record = Epoch(
            epoch=self.epoch + 1,
            learning_rate=self.optimiser.param_groups[0]["lr"],
            train_loss=loss,
            train_accuracy=right,
            validation_loss=validation.loss,
            validation_accuracy=validation.accuracy,
            train_seconds=watch.seconds["train"],
            train_cpu_seconds=watch.cpu_seconds["train"],
            data_seconds=watch.seconds["data"],
            validation_seconds=watch.seconds["validation"],
            epoch_seconds=watch.epoch_seconds(),
            epoch_cpu_seconds=watch.epoch_cpu_seconds(),
        )
        self._check_finite("validation", validation.loss)
        self.history.append(record)
        self._remember(record)
        return record

    def _steps(self, clips: Frames, generator: torch.Generator, watch: Stopwatch) -> tuple[float, float]:
        """All training steps of an epoch; the running mean loss and accuracy over its clips."""
        self.model.train()
        total, right, learns = 0.0, 0.0, self.epoch > 0
        order = batches(len(clips), self.config.optimiser.batch, generator)
        parts = [clips.parts(rows, self.frames_at_once) for rows in order]
        threads = self.data_threads if self.data.changes_sound else 0
        with made_ahead(clips.ready, list(chain.from_iterable(parts)), threads) as ready:
            for number, (rows, some) in enumerate(zip(order, parts, strict=True)):
                for group in self.optimiser.param_groups:
                    group["lr"] = learning_rate(self.config.optimiser, self.epoch * len(order) + number, self.steps)
                loss, hits = self._step(marked(islice(ready, len(some)), watch), len(rows), generator)
                if not np.isfinite(loss):
                    self._diverged("train", loss, clips, first=self.epoch == number == 0)
                learns = learns or has_gradient(self.model.encoder)
                total += loss * len(rows)
                right += hits
        self._check_learns(learns)
        return total / len(clips), right / len(clips)

    def steps_on_device(self, kinds: list[Kind], losses: Tensor, right: int, *, learns: bool) -> tuple[float, float]:
        """What ``_steps`` gives, of an epoch whose steps, with losses (S,), were made on the device.

        Raises:
            DivergenceError: a loss is not finite.
            TrainingError: no weight of the encoder got a gradient.
        """
        clips, steps = len(self.clean["train"]), (self.epoch + 1) * len(kinds)
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.config.optimiser, steps - 1, self.steps)
        wrong = torch.nonzero(~losses.isfinite()).flatten().tolist()
        if wrong:
            first = self.epoch == wrong[0] == 0
            self._diverged("train", float(losses[wrong[0]]), self.clean["train"], first=first)
        self._check_learns(self.epoch > 0 or learns)
        sizes = torch.tensor([kind.clips for kind in kinds], dtype=torch.float64)
        return float((losses.double() * sizes).sum()) / clips, right / clips

    def _check_learns(self, learns: bool) -> None:
        if not learns:
            raise TrainingError(
                f"run {self.config.id}: no weight of cell {self.config.model.cell!r} got a gradient in the first "
                f"epoch, so it cannot learn; check that its output depends on its parameters by functions with a "
                f"derivative"
            )

    def _diverged(self, split: Split, loss: float, clips: Frames, *, first: bool = False) -> NoReturn:
        """Name what is to blame for a loss that became NaN or infinite.

        Raises:
            DivergenceError: always.
        """
        run, cell = f"run {self.config.id} (seed {self.config.seed})", self.config.model.cell
        kind = "training" if split == "train" else split
        clip = clip_not_finite(clips)
        if clip is not None:
            name = self.corpus.manifest.clips[self.data.indices[split][clip]].name
            raise DivergenceError(
                f"{run}: the {kind} loss became {loss} because the frames of clip {name!r} are not finite; "
                f"remove that clip, or look at its samples"
            )
        if first:
            raise DivergenceError(
                f"{run}: the {kind} loss is {loss} before any weight has changed, and all frames are finite; check "
                f"the equations of cell {cell!r} for log or division near 0 and for exp of large values"
            )
        epoch, rate = min(self.epoch + 1, self.config.optimiser.epochs), self.config.optimiser.learning_rate
        raise DivergenceError(
            f"{run}: the {kind} loss became {loss} in epoch {epoch} at learning rate {rate:g}; "
            f"lower optimiser.learning_rate or set optimiser.clip_norm"
        )

    def _check_finite(self, split: Split, loss: float) -> None:
        if not np.isfinite(loss):
            self._diverged(split, loss, self.clean[split])

    def _step(self, parts: Iterable[Frames], size: int, generator: torch.Generator) -> tuple[float, float]:
        """One update by a batch that comes in parts; returns its mean loss and its number of right answers."""
        self.optimiser.zero_grad()
        total, right = 0.0, 0
        for part in parts:
            scores, found = self._loss(part, generator)
            share = len(part) / size
            backward(scores, found.slope if share == 1 else found.slope * share)
            total, right = total + share * found.value, right + found.right
        self.optimiser.step()
        self.average.update()
        return total, right

    def _loss(self, clips: Frames, generator: torch.Generator) -> tuple[Tensor, Loss]:
        """Scores of some clips, masked and mixed as the config says, and their loss."""
        augment, masks, mixed, targets = self.config.augment, None, None, clips.targets
        if augment.time_masks or augment.band_masks:
            masks = draw_masks(len(clips), augment, self.config.features, generator)
        frames, counts = self._batch(clips, masks)
        if augment.mixup > 0:
            share = beta(augment.mixup, generator)
            partner = torch.randperm(len(clips), generator=generator)
            mixed = Mixed(share, targets[partner])
            others = frames[partner].mul_(1 - share)
            frames = frames.mul_(share).add_(others)
            counts = torch.maximum(counts, counts[partner])
        lost = None
        if self.config.data.lost_frames:
            lost = lost_frames(self.config.data, torch.arange(len(clips)), frames.shape[1], drawn_key(generator))
        scores = self.model(frames, counts, lost)
        smoothing, compiled = self.config.optimiser.label_smoothing, self.execution.backend != "plain"
        return scores, cross_entropy(scores, targets, smoothing, mixed, compiled=compiled)

    def _batch(self, clips: Frames, masks: Masks | None = None) -> tuple[Tensor, Tensor]:
        """Clips' frames (B, T, D) as the model reads them, some of them masked, and their counts."""
        if self.execution.backend != "plain" and isinstance(clips.features, FeatureSet):
            made = prepared_batch(clips.features, clips.clips, self.model.mean, self.model.deviation, masks)
            if made is not None:
                return made
        frames, counts = clips.features.batch(clips.clips)
        frames = self.model.standardise(frames.to(self.device.torch), counts)
        return frames if masks is None else masks.hide(frames, counts), counts

    def scores(self, clips: Frames, lost_share: float | None = None) -> Tensor:
        """(B, C) scores of all clips, in eval mode; the share of lost frames is the config's unless given."""
        data = self.config.data
        data = data if lost_share is None else msgspec.structs.replace(data, lost_frames=lost_share)
        self.model.eval()
        out = torch.empty(len(clips), self.model.head.out_features)
        at_once = len(clips) if self.device.resident else EVALUATION_BATCH
        with torch.inference_mode():
            for some in torch.split(torch.arange(len(clips)), at_once):
                for rows in clips.parts(some, self.frames_at_once):
                    frames, counts = self._batch(clips.ready(rows))
                    whole = self.device.resident and int(counts.min()) == frames.shape[1]
                    lost = lost_frames(data, clips.numbers[rows].to(frames.device), frames.shape[1])
                    out[rows] = self.model(frames, None if whole else counts, lost).cpu()
        return out

    def _remember(self, record: Epoch) -> None:
        best = self.best is None or record.validation_accuracy > self.best["accuracy"]
        if best or self.config.optimiser.choose == "last":
            weights = {name: weight.clone().cpu() for name, weight in self.average.weights.items()}
            self.best = {"accuracy": record.validation_accuracy, "epoch": record.epoch, "weights": weights}

    def finish(self) -> RunResult:
        """Evaluate the chosen weights on its splits and write the run's record and test predictions."""
        if self.best is None:
            raise TrainingError(f"run {self.config.id} has optimiser.epochs=0; at least one epoch is needed")
        self.model.load_state_dict(self.best["weights"], strict=False)
        scores = {split: self.scores(clips) for split, clips in self.clean.items()}
        measured = {split: measure(clips.targets, scores[split]) for split, clips in self.clean.items()}
        for split, metrics in measured.items():
            self._check_finite(split, metrics.loss)
        counts: list[list[int]] = []
        if "test" in scores:
            targets = self.clean["test"].targets
            counts = confusion(targets, scores["test"].argmax(1), scores["test"].shape[1]).tolist()
        epochs = warm(self.history)
        wall = statistics.median(epoch.train_seconds for epoch in epochs)
        on_cpu = self.device.torch.type == "cpu"
        seconds = statistics.median(epoch.train_cpu_seconds for epoch in epochs) if on_cpu else wall
        result = RunResult(
            run=self.config.id,
            config=self.config,
            labels=self.corpus.manifest.labels,
            parameters=self.model.parameter_count,
            backend=self.model.encoder.backend,
            chosen_epoch=self.best["epoch"],
            train=measured["train"],
            validation=measured["validation"],
            test=measured.get("test", NOT_EVALUATED),
            confusion=tuple(map(tuple, counts)),
            seconds_per_epoch=seconds,
            wall_seconds_per_epoch=wall,
            clips_per_second=len(self.clean["train"]) / seconds,
            total_seconds=self.spent,
            hardware=hardware(self.execution.threads) | self.device.facts,
            device=str(self.device.torch),
            precision=self.execution.precision,
            device_reason=self.device.reason,
            versions=versions(),
            history=tuple(self.history),
            conditions=self._conditions(),
            start=self.start,
        )
        with writing(self.folder):
            weights = {name: value.cpu() for name, value in self.model.state_dict().items()}
            write_whole(self.folder / "model.safetensors", safetensors_bytes(weights))
            if "test" in scores:
                write_whole(self.folder / "predictions.npz", predictions(targets, scores["test"]))
            write_whole(self.folder / "result.json", seal_json(msgspec.json.encode(result)))
        return result

    def _conditions(self) -> tuple[ConditionMetrics, ...]:
        asked = evaluation_conditions(self.config) if "test" in self.clean else ()
        return tuple(self._condition(*condition) for condition in asked)

    def _condition(self, kind: ConditionKind, value: float) -> ConditionMetrics:
        if kind == "lost_frames":
            clips = self.clean["test"]
            return ConditionMetrics(kind=kind, value=value, test=measure(clips.targets, self.scores(clips, value)))
        clips = frames_under(self.config, self.corpus, self.data.indices["test"], kind, value)
        return ConditionMetrics(kind=kind, value=value, test=measure(clips.targets, self.scores(clips)))


class Together:
    """Runs that differ in the seed alone, at the same epoch, whose steps a device makes together; also one alone."""

    def __init__(self, trainers: Sequence[Trainer]) -> None:
        self.trainers, first = trainers, trainers[0]
        replicates = [trainer.replicate for trainer in trainers]
        self.resident = ResidentEpochs(replicates, first.device.torch, capture=first.execution.cuda_graph)
        for trainer in trainers:
            trainer.restart_clock()
            trainer.together = self

    def release(self) -> None:
        """Let the device's memory of steps and graphs go; the runs go on by another object."""
        for trainer in self.trainers:
            trainer.restart_clock()
            trainer.together = None

    def train_epoch(self) -> list[Epoch | TrainingError]:
        """An epoch of each run, or why it cannot go on, which changes nothing for the others."""
        first, watch = self.trainers[0], Stopwatch()
        epoch, following = first.epoch, first.epoch + 1
        for trainer in self.trainers:
            trainer.model.train()
        with watch.phase("data"):
            kinds = self.resident.prepare(epoch)
        with watch.phase("train"):
            figures = self.resident.run(kinds, following if following < first.config.optimiser.epochs else None)
            learn = [True] * len(self.trainers) if epoch else self.resident.learns()
        found: list[Epoch | TrainingError] = []
        each = zip(
            self.trainers, figures.losses.t(), figures.right.tolist(), learn, watch.shares(len(learn)), strict=True
        )
        for trainer, losses, right, learns, own in each:
            try:
                found.append(trainer.end_epoch(*trainer.steps_on_device(kinds, losses, right, learns=learns), own))
            except TrainingError as error:
                found.append(error.with_traceback(None))  # which would hold all that is on the device
        return found
