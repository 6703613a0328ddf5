"""Time whole epochs of one run, as `cello train` trains it: the LSTM of 64 units of the gates study's fair protocol.

    python benchmarks/epoch.py CORPUS [--study gates] [--row LSTM] [--column "40 ms"] [--epochs 6] [--data-threads 0 1]

For each number of threads that make batches: medians of the epochs after the first, in seconds, of training steps
(CPU), data (made or waited for, wall), validation (wall) and the whole epoch (wall, and CPU of all threads).
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from cello.audio.open import open_corpus
from cello.study.plan import plan
from cello.study.study_file import load_study
from cello.training.config import CorpusRef
from cello.training.execution import ExecutionConfig
from cello.training.result import Epoch
from cello.training.single import threads
from cello.training.trainer import Trainer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus")
    parser.add_argument("--study", default="gates")
    parser.add_argument("--row", default="LSTM")
    parser.add_argument("--column", default="40 ms")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--data-threads", type=int, nargs="+", choices=(0, 1), default=(0, 1))
    choice = parser.parse_args()
    corpus = open_corpus(choice.corpus)
    reference = CorpusRef(name=corpus.manifest.corpus, checksum=corpus.manifest.checksum)
    runs = plan(load_study(choice.study), reference, len(corpus.manifest.labels))
    config = next(run.config for run in runs if (run.row, run.column) == (choice.row, choice.column))
    for count in choice.data_threads:
        execution = ExecutionConfig(data_threads=count)
        with tempfile.TemporaryDirectory() as folder, threads(1):
            trainer = Trainer(config, corpus, Path(folder), None, execution=execution)
            found = [trainer.train_epoch() for _ in range(choice.epochs)][1:]
        sys.stdout.write(f"{choice.row}, {choice.column}, data threads {count}: {described(found)}\n")


def described(epochs: list[Epoch]) -> str:
    """The medians of some epochs in words."""
    fields = {
        "training": "train_cpu_seconds",
        "data": "data_seconds",
        "validation": "validation_seconds",
        "whole epoch": "epoch_seconds",
        "its CPU time": "epoch_cpu_seconds",
    }
    medians = {name: statistics.median(getattr(epoch, field) for epoch in epochs) for name, field in fields.items()}
    return ", ".join(f"{name} {seconds:.3f} s" for name, seconds in medians.items())


if __name__ == "__main__":
    main()
