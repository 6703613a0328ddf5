"""Say which label of a model each clip of a corpus has."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from cello.audio.corpus import Corpus
from cello.deploy.decisions import BACKGROUND
from cello.errors import ConfigError, CorpusError

NO_WORD = ("silence", "noise", "background")
"""What the names of labels without speech hold."""


def targets_of(known: Sequence[str], corpus: Corpus, mapping: Mapping[str, str]) -> NDArray[np.int64]:
    """For each clip the place of its label among ``known``, the model's; −1 where it is mapped to none.

    Raises:
        CorpusError: a label that the model has not and that is not mapped.
        ConfigError: a mapping from or to a label that is not there.
    """
    labels, name = corpus.manifest.labels, corpus.manifest.corpus
    for one, other in mapping.items():
        if one not in labels:
            raise ConfigError(f"{one!r} is mapped, but is no label of {name!r}, which has {', '.join(labels)}")
        if other and other not in known:
            raise ConfigError(f"{one!r} is mapped to {other!r}, but the model's labels are {', '.join(known)}")
    place = {label: number for number, label in enumerate(known)}
    meant = {label: mapping.get(label, label) for label in labels}
    strange = [label for label, other in meant.items() if other and other not in place]
    if strange:
        raise CorpusError(
            f"the model has no label {', '.join(map(repr, strange[:5]))}{', …' * (len(strange) > 5)} of {name!r}; give "
            f"the --labels, --unknown and --silence of its training, or map each to one of {', '.join(known)} "
            f"({_example(strange[0], known)})"
        )
    return np.array([place.get(meant[clip.label], -1) for clip in corpus.manifest.clips], dtype=np.int64)


def _example(label: str, known: Sequence[str]) -> str:
    """How one label is mapped: to the model's label for other words, or for silence, where it is one; else the nearest.

    >>> _example("down", ("no", "yes", "_unknown_", "_silence_"))
    '--map down=_unknown_; --map down= leaves its clips out'
    >>> _example("down", ("no", "yes"))
    '--map down= leaves its clips out'
    """
    silent = _is_silence(label)
    kind = [one for one in known if one in BACKGROUND and _is_silence(one) == silent]
    words = [one for one in known if one not in BACKGROUND or _is_silence(one) == silent]
    best = kind or difflib.get_close_matches(label, words, n=1)
    return "".join(f"--map {label}={one}; " for one in best[:1]) + f"--map {label}= leaves its clips out"


def _is_silence(label: str) -> bool:
    return any(word in label.casefold() for word in NO_WORD)
