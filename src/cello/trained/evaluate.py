"""Evaluate a trained model on the clips of any corpus whose labels match."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cello.audio.corpus import SPLITS, Corpus
from cello.audio.folds import indices_of
from cello.errors import CorpusError
from cello.features.cache import load_features
from cello.statistics.one_run import Bin, Share, reliability, share_over
from cello.study.correctness import BINS, calibration_error
from cello.trained.exported import ExportedModel
from cello.trained.mapping import targets_of
from cello.trained.model import Model
from cello.training.data import Frames, frames_at_once
from cello.training.lost import lost_frames
from cello.training.metrics import confusion, measure

Part = Literal["test", "validation", "train", "all"]
BATCH = 256


class SpeakerAccuracy(msgspec.Struct, frozen=True, kw_only=True):
    """How many clips of a speaker there were, and the share that was right."""

    speaker: str
    clips: int
    accuracy: float


class ClipPrediction(msgspec.Struct, frozen=True, kw_only=True):
    """What the model said of a clip: probabilities of its own label and of the predicted one."""

    clip: str
    speaker: str
    label: str
    predicted: str
    label_probability: float
    probability: float


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """How well a model does on some clips of a corpus; shares are in [0, 1], the loss in nats.

    ``word_mean`` is the mean over the labels that occur of each label's accuracy. ``confusion`` is (C, C) counts of
    ``labels``, rows truth, columns prediction. ``over`` says what the interval of ``accuracy`` holds for new ones of.
    ``speakers`` stand from the least accurate on; there are none where nobody knows who speaks. Silence that was cut
    from noise has none: in the interval each recording of noise stands for one. ``left_out`` counts
    clips whose label was mapped to nothing; ``seen`` those that the model was trained or chosen on.
    """

    run: str
    corpus: str
    split: Part
    clips: int
    left_out: int
    seen: int
    labels: tuple[str, ...]
    accuracy: Share
    over: Literal["speakers", "clips"]
    word_mean: float
    loss: float
    calibration_error: float
    reliability: tuple[Bin, ...]
    confusion: tuple[tuple[int, ...], ...]
    speakers: tuple[SpeakerAccuracy, ...]
    predictions: tuple[ClipPrediction, ...]


def evaluate(
    model: Model | ExportedModel,
    corpus: Corpus,
    split: Part = "test",
    mapping: Mapping[str, str] | None = None,
    *,
    cache: Path | None = None,
) -> Evaluation:
    """Evaluate a model on a split of a corpus, or on all clips; the corpus must be read at the model's rate.

    ``mapping`` says which label of the model a label of the corpus is, empty for none: its clips are left out. Labels
    of the same name need none. Frames are lost as in training, where a run's ``data.lost_frames`` says so; of an
    exported model none is.

    Raises:
        CorpusError: a label of the corpus that the model has not and that is not mapped, or no clip is left.
        ConfigError: a mapping from or to a label that is not there.
        FeatureError: another rate than the model's, or a clip shorter than one window.
        ClipError, DeployError: as ``ExportedModel.scores``, of an exported model.
    """
    target = targets_of(model.labels, corpus, mapping or {})
    config = None if isinstance(model, ExportedModel) else model.run.config
    fold = config.data.fold if config is not None and corpus.manifest.folds else ""
    parts = indices_of(corpus, fold)
    asked = np.sort(np.concatenate([parts[name] for name in SPLITS])) if split == "all" else parts[split]
    chosen = asked[target[asked] >= 0]
    if len(chosen) < 2:
        raise CorpusError(
            f"corpus {corpus.manifest.corpus!r} has {len(chosen)} {'' if split == 'all' else split + ' '}clips with a "
            "label of the model; choose another --split, or map its labels with --map"
        )
    if isinstance(model, ExportedModel):
        scores, run, learned_from = torch.from_numpy(model.scores(corpus, chosen)), model.run, model.learned_from
    else:
        scores, run = _scores(model, corpus, chosen, cache), model.run.run
        learned_from = model.run.config.corpus.checksum
    seen = 0
    if corpus.manifest.checksum == learned_from:
        seen = len(np.setdiff1d(chosen, parts["test"]))
    found = _measured(model.labels, corpus, chosen, target[chosen], scores)
    return Evaluation(run=run, split=split, left_out=len(asked) - len(chosen), seen=seen, **found)


def _scores(model: Model, corpus: Corpus, chosen: NDArray[np.int64], cache: Path | None) -> Tensor:
    """(K, C) scores of these clips, in the batches of training's evaluation."""
    features = load_features(corpus, model.features, cache=cache)
    clips = Frames(features, torch.from_numpy(chosen), torch.zeros(len(chosen), dtype=torch.long))
    out = torch.empty(len(chosen), len(model.labels))
    with torch.inference_mode():
        for some in torch.split(torch.arange(len(clips)), BATCH):
            for rows in clips.parts(some, frames_at_once(model.run.config)):
                frames, counts, _ = clips.batch(rows)
                lost = lost_frames(model.run.config.data, clips.numbers[rows], frames.shape[1])
                frames = frames.to(getattr(torch, model.precision))
                out[rows] = model.module(model.module.standardise(frames, counts), counts, lost).float()
    return out


def _measured(
    labels: Sequence[str], corpus: Corpus, chosen: NDArray[np.int64], target: NDArray[np.int64], scores: Tensor
) -> dict[str, Any]:
    """The fields of an ``Evaluation`` that scores decide."""
    targets = torch.from_numpy(target)
    probabilities = scores.double().softmax(1).numpy()
    predicted = probabilities.argmax(axis=1)
    correct, sure = predicted == target, probabilities.max(axis=1)
    clips = [corpus.manifest.clips[k] for k in chosen]
    known = corpus.manifest.speakers_known
    speakers, spoken = np.array([clip.speaker for clip in clips]), np.array([clip.spoken for clip in clips])
    over = known and len(set(speakers.tolist())) > 1
    metrics = measure(targets, scores)
    counts = confusion(targets, torch.from_numpy(predicted), len(labels))
    return {
        "corpus": corpus.manifest.corpus,
        "clips": len(clips),
        "labels": tuple(labels),
        "accuracy": share_over(correct, speakers if over else np.arange(len(clips))),
        "over": "speakers" if over else "clips",
        "word_mean": metrics.word_mean,
        "loss": metrics.loss,
        "calibration_error": float(calibration_error(sure[None], correct[None])[0]),
        "reliability": tuple(reliability(sure, correct, BINS)),
        "confusion": tuple(map(tuple, counts.tolist())),
        "speakers": _by_speaker(speakers[spoken], correct[spoken]) if known else (),
        "predictions": tuple(
            ClipPrediction(
                clip=clip.name,
                speaker=clip.speaker if known and clip.spoken else "",
                label=labels[truth],
                predicted=labels[said],
                label_probability=float(row[truth]),
                probability=float(row[said]),
            )
            for clip, truth, said, row in zip(clips, target, predicted, probabilities, strict=True)
        ),
    }


def _by_speaker(speakers: NDArray[np.str_], correct: NDArray[np.bool_]) -> tuple[SpeakerAccuracy, ...]:
    names, place, clips = np.unique(speakers, return_inverse=True, return_counts=True)
    shares = np.bincount(place, correct) / clips
    found = [
        SpeakerAccuracy(speaker=str(name), clips=int(n), accuracy=float(share))
        for name, n, share in zip(names, clips, shares, strict=True)
    ]
    return tuple(sorted(found, key=lambda one: one.accuracy))
