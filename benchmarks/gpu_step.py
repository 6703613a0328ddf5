"""Count what a step of a compiled GPU kernel is made of, without a GPU: instructions of a warp, barriers, memory.

    python benchmarks/gpu_step.py [--cells lstm gru] [--hidden 64,128] [--precision tf32,bf16] [--capability 90]
        [--batch 1024]

Each kernel is compiled by the tiling that an H100 would take for so many clips, and taken apart by nvdisasm, which
comes with Triton. The longest loop of its machine code is the loop over steps. It tells no time; but a warp issues one
instruction a cycle at best, four warps at once, and all wait at a barrier for the last.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import tempfile
from collections import Counter
from itertools import product
from pathlib import Path

from rich.console import Console

from cello.cells.load import load_cell
from cello.compiler.triton.build import kernels
from cello.compiler.triton.choice import chosen, of_pass
from cello.compiler.triton.cooperative import Multiprocessor
from cello.compiler.triton.machine_code import compiled
from cello.compiler.triton.resources import MEMORY
from cello.compiler.triton.rounds import Gpu, of_batch
from cello.compiler.triton.spaces import Sizes
from cello.compiler.triton.text import is_exact

OF_H100 = 132, Multiprocessor(2048, 228 * 1024)
"""Multiprocessors, and what each has."""
INSTRUCTION = re.compile(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9]*)[^;]*?(?:`\((\.L_\w+)\))?\s*;")
LABEL = re.compile(r"^(\.L_\w+):")
KINDS = {
    "products": ("HMMA", "HGMMA"),
    "functions": ("MUFU",),
    "barriers": ("BAR",),
    "shared memory": ("LDS", "LDSM", "STS", "STSM", "LDGSTS"),
    "memory": ("LDG", "STG"),
    "to other programs": ("ST",),
}
"""Instructions by what they are for."""


def disassembled(cubin: bytes) -> list[tuple[str, str]]:
    """The lines of a kernel's machine code: labels, and opcodes with the label that they go to, if they do."""
    import triton

    program = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "nvdisasm"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        text = subprocess.run([program, "-c", file.name], capture_output=True, text=True, check=True).stdout
    found = []
    for line in text.splitlines():
        if label := LABEL.match(line):
            found.append(("", label[1]))
        elif instruction := INSTRUCTION.search(line):
            found.append((instruction[1], instruction[2] or ""))
    return found


def step(code: list[tuple[str, str]]) -> Counter[str]:
    """How often each opcode stands in the longest loop."""
    labels = {label: n for n, (opcode, label) in enumerate(code) if not opcode}
    back = [(labels[to], n) for n, (opcode, to) in enumerate(code) if opcode == "BRA" and labels.get(to, n) < n]
    begin, end = max(back, key=lambda one: one[1] - one[0])
    return Counter(opcode for opcode, _ in code[begin : end + 1] if opcode)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", nargs="+", default=["lstm", "gru", "rnn"])
    parser.add_argument("--hidden", default="64,128")
    parser.add_argument("--precision", default="tf32,bf16")
    parser.add_argument("--capability", type=int, default=90)
    parser.add_argument("--batch", type=int, default=16)
    options = parser.parse_args()
    console, memory = Console(), MEMORY[options.capability]
    gpu = Gpu(options.capability, memory, *OF_H100)
    heads = ("cell", "H", "products", "pass", "clips", "programs a tile", "warps", "registers", "spilled bytes")
    heads += ("shared KiB", "instructions", *KINDS)
    console.print("| " + " | ".join(heads) + " |", soft_wrap=True)
    console.print("|---" * len(heads) + "|", soft_wrap=True)
    hidden = map(int, options.hidden.split(","))
    for name, size, precision, way in product(
        options.cells, hidden, options.precision.split(","), ("forward", "backward")
    ):
        cell, sizes = load_cell(name), Sizes(load_cell(name), 39, size)
        best = chosen(cell, way, sizes, precision, options.capability, memory)
        if best is None:
            console.print(f"| {name} | {size} | {precision} | {way} | no kernel |", soft_wrap=True, markup=False)
            continue
        tiling, taken = of_batch(cell, way, sizes, precision, gpu, (1, options.batch), best)
        takes = ("", "", "") if taken is None else (taken.registers, taken.spilled, round(taken.shared / 1024))
        function = getattr(kernels(cell, tiling.reread, interpreted=False, exact=is_exact(precision)), way)
        given = of_pass(cell, way, tiling, sizes, precision)
        counts = step(disassembled(compiled(function, given, precision, tiling, options.capability).asm["cubin"]))
        several = [sum(counts[opcode] for opcode in opcodes) for opcodes in KINDS.values()]
        split = f"{tiling.split}, a cluster" if tiling.cluster else tiling.split
        row = [name, size, precision, way, tiling.rows, split, tiling.warps, *takes, counts.total(), *several]
        console.print("| " + " | ".join(map(str, row)) + " |", soft_wrap=True, markup=False)


if __name__ == "__main__":
    main()
