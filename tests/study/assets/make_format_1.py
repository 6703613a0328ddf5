"""Made ``format_1`` beside it, once, with the first version that wrote stores; later versions must still read it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent

if __name__ == "__main__":
    sys.path.insert(0, str(HERE.parent))
    from fake_training import manifest, train

    from cello.audio.corpus import Corpus
    from cello.study.store import CorpusSource, Store
    from cello.study.study_file import parse_study

    study = parse_study('name = "old"\nseeds = [0, 1]\n[base.optimiser]\nepochs = 1\n[[rows]]\nname = "A"\n', "old")
    store = Store.create_or_open(HERE / "format_1", study, manifest(), CorpusSource(spec="fake"))
    done, failed = store.runs
    store.note("started", done.id)
    store.run_folder(done).mkdir(parents=True)
    train(done.config, Corpus(manifest(), np.zeros(1, np.float32)), store.run_folder(done))
    store.note("finished", done.id)
    store.note("failed", failed.id, "the loss is not finite")
