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


def open_own(sound: Sound, trained: TrainedRun, console: Console) -> Corpus:
    """The corpus of ``--corpus`` or ``--table``; without them the run's own, of which flags may say other things.

    Raises:
        CorpusError: the run's own corpus cannot be opened, or holds other clips than the run was trained on.
    """
    config = trained.result.config
    if sound.spec:
        return open_sound(sound, console, config.features.rate_hz)
    run = f"run {trained.result.run}"
    if not trained.specs:
        raise CorpusError(
            f"{run} was trained on {trained.corpus.name!r}, and does not say where it lies; give --corpus"
        )
    plain = Sound().options(config.features.rate_hz)
    told = _stated(sound.options(config.features.rate_hz), plain)
    options, as_trained = _over(plain | trained.source.options, told), told.keys() <= {"allow_bad"}
    missing, changed = "", ""
    for spec in trained.specs:
        try:
            corpus = open_shown(spec, options, console, sound.cache)
        except CorpusError as error:
            missing = missing or f"{run} was trained on {spec}: {error}. Give --corpus for other clips"
            continue
        if not as_trained or corpus.manifest.checksum == config.corpus.checksum:
            return corpus
        changed = changed or _other(trained, spec, corpus)
    raise CorpusError(changed or missing)


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


def _other(trained: TrainedRun, spec: str, corpus: Corpus) -> str:
    """The sentence for a corpus that is not the one of training any more, or was read with options nobody kept."""
    asked, found = trained.result.config.corpus.checksum, corpus.manifest.checksum
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
