"""Train with the GPU's kernels where there is no GPU: does what they round change what a model learns?

    python benchmarks/gpu_accuracy.py --corpus FOLDER [--cells lstm gru] [--precision bf16,tf32] [--seeds 4]

Each run of the gates study (fewer epochs, fewer clips) is trained from the same seed, on the same clips in the same
order: on the CPU in float32, and by the Triton kernels in Triton's interpreter, whose products round as those of a GPU
do (bf16: operands rounded to bfloat16, and what forward keeps for backward; tf32: the last 13 bits of operands cut
off). Products of whole batches outside the loop stay in float32. A tile is a whole batch, which changes no number but
the order of sums. Each model is evaluated on all test clips by the kernels that trained it.

Runs are written to benchmarks/results/gpu-accuracy.json as they end; those that it has are not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from itertools import product
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec
import numpy as np
import torch
from gpu_epoch import planned
from rich.console import Console
from triton._C.libtriton import ir
from triton.runtime.interpreter import InterpreterBuilder

from cello.audio.corpus import Corpus
from cello.audio.open import open_corpus
from cello.compiler.triton import scan
from cello.files import write_whole
from cello.statistics.means import t_interval
from cello.training.config import RunConfig
from cello.training.execution import ExecutionConfig
from cello.training.run import train

OUT = Path(__file__).parent / "results" / "gpu-accuracy.json"
CPU = "float32, CPU"
ROUNDS = {"bf16": "bf16 checked", "tf32": "tf32", CPU: "ieee"}
"""What the kernels are asked for where Triton's interpreter runs them."""
READ_BY_TF32 = np.uint32(0xFFFFE000)
"""The bits of a float32 that a product in tf32 reads."""
Row = dict[str, Any]


def tf32_as_on_a_gpu() -> None:
    """Let the interpreter's products in tf32 cut off what tensor cores do not read; its own are of float32."""
    exact = InterpreterBuilder.create_dot

    def cut_off(operand: Any) -> Any:
        bits = np.ascontiguousarray(operand.data).view(np.uint32) & READ_BY_TF32
        return type(operand)(bits.view(np.float32), operand.dtype)

    def create_dot(self: Any, a: Any, b: Any, d: Any, precision: Any, *further: Any) -> Any:
        if precision == ir.INPUT_PRECISION.TF32 and a.data.dtype == np.float32:
            a, b = cut_off(a), cut_off(b)
        return exact(self, a, b, d, precision, *further)

    InterpreterBuilder.create_dot = create_dot


def trained(config: RunConfig, corpus: Corpus, products: str) -> Row:
    """What a run of such products reaches."""
    how = ExecutionConfig(device="cpu", backend="auto" if products == CPU else "triton", data_threads=0)
    tiling = vars(scan)["tiling"]

    def of_a_batch(*given: Any, **further: Any) -> Any:
        found = tiling(*given, **further)
        return found and replace(found, rows=config.optimiser.batch, split=1)

    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(scan, "precision", return_value=ROUNDS[products]),
        mock.patch.object(scan, "tiling", of_a_batch),
    ):
        found = train(config, corpus, Path(folder), execution=how)
    reached = {"test": found.test.accuracy, "validation": found.validation.accuracy}
    return reached | {"train_loss": found.history[-1].train_loss, "test_loss": found.test.loss}


def configs(corpus: Corpus, options: argparse.Namespace) -> Iterator[RunConfig]:
    """Runs of the gates study, with fewer epochs, of fewer clips."""
    settings: dict[str, object] = {"optimiser.epochs": options.epochs, "data.clips_per_label": options.clips}
    first = planned(corpus, 1, settings)[0].config
    for seed, cell in product(range(options.seeds), options.cells):
        yield msgspec.structs.replace(first, seed=seed, model=msgspec.structs.replace(first.model, cell=cell))


def differences(rows: list[Row]) -> Iterator[Row]:
    """Of each cell and precision, the kernels' test accuracy less the CPU's, in points, over seeds that have both."""
    of = {(row["cell"], row["products"], row["run"]): 100 * row["test"] for row in rows}
    for cell, products in sorted({key[:2] for key in of if key[1] != CPU}):
        pairs = [value - of[cell, CPU, key[2]] for key, value in of.items() if key[:2] == (cell, products)]
        mean, half = t_interval(pairs)
        yield {"cell": cell, "products": products, "pairs": pairs, "mean": mean, "half_width_95": half}


def main() -> None:
    """Train what is missing, and write each run as it ends."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--cells", nargs="+", default=["lstm"])
    parser.add_argument("--precision", default="bf16,tf32")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--clips", type=int, default=100, help="training clips of each label")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    os.environ["TRITON_INTERPRET"] = "1"
    torch.set_num_threads(1)
    tf32_as_on_a_gpu()
    corpus, console = open_corpus(options.corpus), Console()
    rows: list[Row] = json.loads(options.out.read_text("utf-8"))["runs"] if options.out.exists() else []
    for config, products in product(configs(corpus, options), [CPU, *options.precision.split(",")]):
        key = {"run": config.id, "cell": config.model.cell, "seed": config.seed, "products": products}
        if any(row.items() >= key.items() for row in rows):
            continue
        rows.append(key | trained(config, corpus, products))
        console.print(rows[-1])
        record = {"date": str(date.today()), "runs": rows, "differences": [*differences(rows)]}
        write_whole(options.out, (json.dumps(record, indent=1) + "\n").encode())
    console.print(*differences(rows), sep="\n")


if __name__ == "__main__":
    main()
