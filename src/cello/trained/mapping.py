"""Say which label of a model each clip of a corpus has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from cello.audio.corpus import Corpus
from cello.errors import ConfigError, CorpusError


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
            f"(--map {strange[0]}={known[-1]}; --map {strange[0]}= leaves its clips out)"
        )
    return np.array([place.get(meant[clip.label], -1) for clip in corpus.manifest.clips], dtype=np.int64)
