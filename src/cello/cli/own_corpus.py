"""Open the corpus that a command names, or else the one that its run was trained on, read as it was for training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec
from rich.console import Console

from cello.audio.choice import Choice
from cello.audio.corpus import Corpus
from cello.cli.sound import Sound, open_shown, open_sound
from cello.errors import CorpusError

if TYPE_CHECKING:
    from cello.trained.run import TrainedRun

_NOTHING = msgspec.to_builtins(Choice())
OPENER = "cello.audio.open:open_corpus"
"""The one opener that is used: what a run's folder names besides is not called."""


def open_own(sound: Sound, trained: TrainedRun, console: Console) -> Corpus:
    """The corpus of ``--corpus`` or ``--table``; without them the run's own, of which flags may say other things.

    Raises:
        CorpusError: the run's own corpus cannot be opened, or holds other clips than the run was trained on.
    """
    config = trained.result.config
    if sound.spec:
        return open_sound(sound, console, config.features.rate_hz)
    spec, kept = trained.source.spec, trained.source.options
    run = f"run {trained.result.run}"
    if not spec or trained.source.opener != OPENER:
        raise CorpusError(
            f"{run} was trained on {trained.corpus.name!r}, and does not say where it lies; give --corpus"
        )
    plain = Sound().options(config.features.rate_hz)
    told = _stated(sound.options(config.features.rate_hz), plain)
    try:
        corpus = open_shown(spec, _over(plain | kept, told), console, sound.cache)
    except CorpusError as error:
        raise CorpusError(f"{run} was trained on {spec}: {error}. Give --corpus for other clips") from error
    if told.keys() <= {"allow_bad"} and corpus.manifest.checksum != config.corpus.checksum:
        raise CorpusError(_other(trained, corpus))
    return corpus


def _stated(told: Mapping[str, Any], plain: Mapping[str, Any]) -> dict[str, Any]:
    """What flags say otherwise than their defaults, section by section."""
    found: dict[str, Any] = {}
    for key, value in told.items():
        if isinstance(value, Mapping):
            if below := _stated(value, plain.get(key, {})):
                found[key] = below
        elif value != plain.get(key, _NOTHING.get(key)):
            found[key] = value
    return found


def _over(kept: Mapping[str, Any], told: Mapping[str, Any]) -> dict[str, Any]:
    """What was kept, with what is told now over it, section by section."""
    both = {key: (kept[key], told[key]) for key in kept.keys() & told.keys()}
    deep = {key: _over(*pair) for key, pair in both.items() if all(isinstance(one, Mapping) for one in pair)}
    return {**kept, **told, **deep}


def _other(trained: TrainedRun, corpus: Corpus) -> str:
    """The sentence for a corpus that is not the one of training any more, or was read with options nobody kept."""
    spec, asked, found = trained.source.spec, trained.result.config.corpus.checksum, corpus.manifest.checksum
    if not trained.source.options:  # an earlier Cello trained it
        labels = ", ".join(trained.labels)
        return (
            f"run {trained.result.run} was trained on {spec} with options that its folder does not keep; give "
            f"--corpus {spec} and them again, as --labels, --unknown, --silence (its labels: {labels})"
        )
    return (
        f"{spec} has checksum {found[:12]}, but run {trained.result.run} was trained on {asked[:12]}: its clips have "
        f"changed. Give --corpus {spec}, with --labels, --unknown, --silence as in training, to take what is there"
    )
