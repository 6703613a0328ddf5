# ruff: noqa: T201
"""Time a model written as C99, front end included: microseconds a hop on one thread, and bytes where it is small.

python benchmarks/c99_model.py --cell lstm --hidden 64 --flags "-O2" "-O3 -march=native"
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
from pathlib import Path

from cello.export.c99 import write_c99
from cello.features.config import FeatureConfig
from cello.models.classifier import Classifier
from cello.models.config import ModelConfig
from cello.models.parts import parts_of

MAIN = r"""
#define _POSIX_C_SOURCE 199309L
#include "model.c"
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
enum { HOPS = 5000 };
static model_stream stream;
static double times[HOPS];
static float sound[MODEL_HOP];
static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}
static int later(const void *a, const void *b) { return *(const double *)a < *(const double *)b ? -1 : 1; }
int main(void) {
    double layer = 1e9;
    model_start(&stream);
    for (int k = 0; k < HOPS; k++) {
        for (int n = 0; n < MODEL_HOP; n++) sound[n] = (float)(rand() % 2001 - 1000) * 2e-4f;
        const double begin = now();
        model_push(&stream, sound, MODEL_HOP);
        times[k] = now() - begin;
    }
    for (int k = 0; k < 2000; k++) {
        const double begin = now();
        for (int n = 0; n < 10; n++) layer_0(stream.input, stream.layer_0, stream.scratch.layer);
        const double one = (now() - begin) / 10;
        if (one < layer) layer = one;
    }
    qsort(times, HOPS, sizeof *times, later);
    printf("median %.2f us, p99 %.2f us a hop; layer alone %.2f us; %d bytes of RAM\n", times[HOPS / 2],
           times[HOPS * 99 / 100], layer, (int)sizeof stream);
    return 0;
}
"""
CORTEX_M4 = ["-mcpu=cortex-m4", "-mthumb", "-mfpu=fpv4-sp-d16", "-mfloat-abi=hard", "-Os"]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--cell", default="lstm")
    options.add_argument("--hidden", type=int, default=64)
    options.add_argument("--compiler", default="cc")
    options.add_argument("--flags", action="append", help="of the compiler; give it once for each set")
    asked = options.parse_args()
    features, config = FeatureConfig(), ModelConfig(cell=asked.cell, hidden=asked.hidden)
    model = Classifier(config, features.dimensions, 14)
    parts = parts_of(config, {name: value.detach().numpy() for name, value in model.state_dict().items()})
    for int8 in (False, True):
        text = write_c99(parts, features, tuple(f"word {k}" for k in range(14)), "model", int8=int8)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for file, content in (("model.h", text.header), ("model.c", text.source), ("main.c", MAIN)):
                (folder / file).write_text(content, encoding="utf-8")
            for flags in asked.flags or ["-O2", "-O3", "-O3 -march=native"]:
                command = [asked.compiler, "-std=c99", *flags.split(), folder / "main.c", "-o", folder / "main", "-lm"]
                subprocess.run(command, check=True)
                told = subprocess.run([folder / "main"], capture_output=True, text=True, check=True).stdout.strip()
                print(f"{'int8' if int8 else 'float32':8s}{flags:20s}{told}")
            if cross := shutil.which("arm-none-eabi-gcc"):
                command = [cross, "-std=c99", *CORTEX_M4, "-c", folder / "model.c", "-o", folder / "model.o"]
                subprocess.run(command, check=True)
                size = subprocess.run(
                    ["arm-none-eabi-size", folder / "model.o"], capture_output=True, text=True, check=True
                )
                print(f"{'':8s}Cortex-M4 -Os: text, data, bss {size.stdout.splitlines()[1].split()[:3]}")


if __name__ == "__main__":
    main()
