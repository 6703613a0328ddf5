"""Compile kernels for GPUs that need not be there, and list what they take: registers, spills, shared memory.

    python benchmarks/gpu_resources.py [--cells lstm,gru] [--hidden 64,128,256] [--capability 90]

The table of docs/gpu.md.
"""

from __future__ import annotations

import argparse
import sys

from cello.cells.load import load_cell
from cello.compiler.triton.resources import resources

CELLS = "rnn,gru,gru-original,lstm,lstm-peephole-full,slstm,mut1,lmu"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", default=CELLS)
    parser.add_argument("--hidden", default="64,128,256")
    parser.add_argument("--capability", type=int, default=90)
    options = parser.parse_args()
    line = "| {} | {} | {} | {} | {} | {} | {} | {} |\n".format
    sys.stdout.write(
        line("cell", "H", "products", "pass", "programs a tile", "registers", "spilled bytes", "shared KiB")
    )
    sys.stdout.write("|---|" + "---:|" * 1 + "---|---|" + "---:|" * 4 + "\n")
    for name in options.cells.split(","):
        for hidden in map(int, options.hidden.split(",")):
            for precision in ("bf16", "tf32"):
                for way in ("forward", "backward"):
                    found = resources(load_cell(name), way, hidden, precision, options.capability)
                    kib = f"{found.shared / 1024:.0f}"
                    split = found.tiling.split
                    sys.stdout.write(line(name, hidden, precision, way, split, found.registers, found.spilled, kib))
                    sys.stdout.flush()


if __name__ == "__main__":
    main()
