"""Train one model: a config and a seed in, a finished run's folder out."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import numpy as np
import torch
import torch.fx.experimental.symbolic_shapes  # else the first step imports it, and the first epoch's time tells of that
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
from cello.models.config import resolve
from cello.models.loss import Loss, Mixed, cross_entropy
from cello.training.ahead import made_ahead
from cello.training.checkpoint import DamagedCheckpointError, load_checkpoint, save_checkpoint, set_aside
from cello.training.config import RunConfig
from cello.training.data import Frames, RunData, batch_count, batches, derived_seed
from cello.training.device import choose, computing, memory_errors
from cello.training.diagnosis import clip_not_finite, has_gradient
from cello.training.draws import beta
from cello.training.execution import ExecutionConfig
from cello.training.folder import bring_cell, check_own, keep_cell, writing
from cello.training.lost import drawn_key, lost_frames
from cello.training.metrics import confusion, measure, predictions
from cello.training.optimiser import Average, ResidentOptimiser, learning_rate, make_optimiser
from cello.training.resident import ResidentEpochs
from cello.training.result import NOT_EVALUATED, ConditionKind, ConditionMetrics, Epoch, RunResult, warm
from cello.training.robustness import evaluation_conditions, frames_under
from cello.training.start import InitialWeights, check_start
from cello.training.stopwatch import Stopwatch, marked

EVALUATION_BATCH = 256
KEPT_EVERY_SECONDS = 10.0
"""Between two checkpoints of a run on a GPU, whose epochs may be shorter than it takes to write one."""
CHOICE_SPLITS: tuple[Split, ...] = ("train", "validation")


def train(
    config: RunConfig,
    corpus: Corpus,
    folder: Path,
    *,
    cache: Path | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
    test: bool = True,
    execution: ExecutionConfig = ExecutionConfig(),  # noqa: B008 - frozen
    start: InitialWeights | None = None,
) -> RunResult:
    """Train one model on a corpus, choose its weights on validation clips, evaluate the test clips once.

    Without ``test`` the test clips are not evaluated: the result's ``test`` counts none, and there is no
    ``predictions.npz``. Settings are to be chosen by such runs.

    Writes into ``folder``: ``config.json``, ``checkpoint.pt`` after each epoch, and at the end ``model.safetensors``,
    ``predictions.npz`` (test clips: target, prediction, probability of both) and, last, ``result.json``. A folder in
    which this run was interrupted is resumed to the same bits; a finished one is returned as it is. ``execution``
    is how it is computed, on one thread unless it says otherwise; the result records the back end that was used.
    ``start`` are the weights that ``config.initial_weights`` names; they bring the mean and deviation of frames too.

    Raises:
        TrainingError: the corpus is not the config's, the folder holds another run, or this one without its test, or
            cannot be written.
        DivergenceError: the loss is not finite.
    """
    if corpus.manifest.checksum != config.corpus.checksum:
        raise TrainingError(
            f"run {config.id} is for corpus {config.corpus.name!r} with checksum {config.corpus.checksum[:12]}…, but "
            f"the corpus given has {corpus.manifest.checksum[:12]}…: its clips differ; plan the study anew for it"
        )
    bring_cell(folder, config.model)
    if not config.model.equations:
        config = msgspec.structs.replace(config, model=resolve(config.model))
    _check_equations(config)
    with writing(folder):
        finished = check_own(folder, config)
        if finished is not None:
            _check_evaluated(finished, folder, test)
            return finished
        check_start(config, start)
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / "config.json", seal_json(msgspec.json.format(msgspec.json.encode(config), indent=2)))
        keep_cell(folder, config.model)
    device = choose(execution)
    with threads(execution.threads), computing(device, execution.precision), memory_errors(config, device):
        run = _resumed(config, corpus, folder, cache, SPLITS if test else CHOICE_SPLITS, execution, start)
        while run.epoch < config.optimiser.epochs:
            record = run.train_epoch()
            run.keep()
            if on_epoch is not None:
                on_epoch(record)
        result = run.finish()
    (folder / "checkpoint.pt").unlink(missing_ok=True)
    return result


def _resumed(
    config: RunConfig,
    corpus: Corpus,
    folder: Path,
    cache: Path | None,
    splits: tuple[Split, ...],
    execution: ExecutionConfig,
    start: InitialWeights | None,
) -> Trainer:
    """The run at the end of its last whole epoch; at its beginning where the checkpoint is damaged."""
    run = Trainer(config, corpus, folder, cache, splits, execution, start)
    try:
        run.resume()
    except DamagedCheckpointError as error:
        with writing(folder):
            set_aside(folder / "checkpoint.pt", config.id, error.reason)
        run = Trainer(config, corpus, folder, cache, splits, execution, start)
    return run


def trial(
    config: RunConfig,
    corpus: Corpus,
    folder: Path,
    *,
    cache: Path | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
    execution: ExecutionConfig = ExecutionConfig(),  # noqa: B008 - frozen
) -> RunResult:
    """A run by which settings are chosen: ``train`` without evaluating the test clips."""
    return train(config, corpus, folder, cache=cache, on_epoch=on_epoch, test=False, execution=execution)


def _check_evaluated(finished: RunResult, folder: Path, test: bool) -> None:
    if test and not finished.test.clips:
        raise TrainingError(
            f"{str(folder)!r} holds run {finished.run} as a trial, trained without evaluating the test set; choose "
            f"another folder to train it with its test"
        )


def _check_equations(config: RunConfig) -> None:
    """Refuse equations that are not those the run is named after."""
    if resolve(config.model) == config.model:
        return
    raise TrainingError(
        f"run {config.id}: the equations of {config.model.cell!r} have changed since the run was planned "
        f"({config.model.equations}); put them back, or plan the run anew"
    )


@contextmanager
def threads(count: int) -> Iterator[None]:
    """torch on so many threads within, for the sums of a run must not depend on the machine's cores; as before after.

    The random numbers of torch's own generator, which dropout draws from, are given back too.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_num_threads(before)


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
        self.model = Classifier(config.model, config.features.dimensions, labels, seed, backend=execution.backend)
        if config.features.normalisation == "corpus":
            mean, deviation = corpus_statistics(self.data.features, self.data.indices["train"])
            self.model.mean.copy_(mean)
            self.model.deviation.copy_(deviation)
        if start is not None:
            start.into(self.model, corpus.manifest.labels)
        self.model.to(self.device.torch)
        self.optimiser = make_optimiser(config.optimiser, self.model.parameters(), resident=self.device.resident)
        self.average = Average(self.model, config.optimiser.ema)
        self.resident = self._resident_epochs() if self.device.resident else None
        self.best: dict[str, Any] | None = None
        self.history: list[Epoch] = []
        self.started = self.kept = time.perf_counter()
        self.spent_before = 0.0
        self.data_threads = execution.beside(1).data_threads or 0
        self.steps = config.optimiser.epochs * batch_count(len(self.clean["train"]), config.optimiser.batch)

    @property
    def epoch(self) -> int:
        return len(self.history)

    def _resident_epochs(self) -> ResidentEpochs:
        assert isinstance(self.optimiser, ResidentOptimiser)
        given = self.config, self.data, self.model, self.optimiser, self.average, self.device.torch
        return ResidentEpochs(*given, capture=self.execution.cuda_graph)

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
            "spent": self.spent_before + time.perf_counter() - self.started,
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
        watch = Stopwatch()
        torch.manual_seed(derived_seed(self.config.seed, "dropout", self.epoch))
        generator = torch.Generator().manual_seed(derived_seed(self.config.seed, "order", self.epoch))
        if self.resident is not None:
            loss, right = self._resident_steps(self.resident, watch)
        else:
            with watch.phase("data"):
                clips = self.data.augmented(self.epoch) if self.data.changes_sound else self.clean["train"]
            with watch.phase("train"):
                loss, right = self._steps(clips, generator, watch)
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
        parts = [clips.parts(rows) for rows in order]
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

    def _resident_steps(self, resident: ResidentEpochs, watch: Stopwatch) -> tuple[float, float]:
        """``_steps`` on the device, where whole epochs run."""
        self.model.train()
        clips, following = len(self.clean["train"]), self.epoch + 1
        with watch.phase("data"):
            kinds = resident.prepare(self.epoch)
        with watch.phase("train"):
            losses, right = resident.run(kinds, following if following < self.config.optimiser.epochs else None)
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.config.optimiser, following * len(kinds) - 1, self.steps)
        wrong = torch.nonzero(~losses.isfinite()).flatten().tolist()
        if wrong:
            first = self.epoch == wrong[0] == 0
            self._diverged("train", float(losses[wrong[0]]), self.clean["train"], first=first)
        self._check_learns(self.epoch > 0 or resident.learns())
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
            scores.backward(found.slope if share == 1 else found.slope * share)  # type: ignore[no-untyped-call]
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

    def scores(self, clips: Frames) -> Tensor:
        """(B, C) scores of all clips, in eval mode."""
        self.model.eval()
        out = torch.empty(len(clips), self.model.head.out_features)
        at_once = len(clips) if self.device.resident else EVALUATION_BATCH
        with torch.inference_mode():
            for some in torch.split(torch.arange(len(clips)), at_once):
                for rows in clips.parts(some):
                    frames, counts = self._batch(clips.ready(rows))
                    whole = self.device.resident and int(counts.min()) == frames.shape[1]
                    lost = lost_frames(self.config.data, clips.numbers[rows].to(frames.device), frames.shape[1])
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
            total_seconds=self.spent_before + time.perf_counter() - self.started,
            hardware=hardware(self.execution.threads) | self.device.facts,
            device=str(self.device.torch),
            precision=self.execution.precision,
            device_reason=self.device.reason,
            versions=versions(),
            history=tuple(self.history),
            conditions=self._conditions(),
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
        clips = frames_under(self.config, self.corpus, self.data.indices["test"], kind, value)
        return ConditionMetrics(kind=kind, value=value, test=measure(clips.targets, self.scores(clips)))
