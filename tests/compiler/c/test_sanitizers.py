"""The generated C as a program of its own: under the sanitizers with buffers of exact size, for other processors."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import pytest

from cello.cells.definition import Cell
from cello.cells.load import zoo
from cello.cells.noise import with_noise
from cello.compiler.c.source import fields
from cello.compiler.c.text import names_of, runtime, source
from cello.native.build import compiler
from sized_cells import SIZED

# unoptimised: every access is checked, and that compiles three times faster
FLAGS = ["-O0", "-g1", "-std=gnu11", "-pthread", "-w", "-fno-sanitize-recover=all"]
SANITIZERS = "-fsanitize=address,undefined"
ARM64 = ("aarch64-linux-gnu-gcc", "-O2", *FLAGS[2:-1])
MAIN = """
#include <stdio.h>
static real *all_buffers[500];    /* so that only what the kernel itself forgets counts as a leak */
static real *buffer(long n) {
    static int count = 0;
    return all_buffers[count++] = malloc(n * sizeof(real));
}
static real *numbers(long n) {
    real *p = buffer(n);
    for (long k = 0; k < n; k++) p[k] = (real)((k * 37 % 19) - 9) / 40 + (real)0.3;
    return p;
}
static real *poisoned(long n) {
    real *p = buffer(n);
    for (long k = 0; k < n; k++) p[k] = NAN;
    return p;
}
static void check(const char *name, const real *p, long n) {
    double sum = 0, size = 0;
    for (long k = 0; k < n; k++) { sum += p[k] * (1 + k % 7); size += fabs((double)p[k]) * (1 + k % 7); }
    printf("%s %.9g %.9g\\n", name, sum, size);
    for (long k = 0; k < n; k++)
        if (!isfinite((double)p[k])) { printf("%s[%ld] is not a number\\n", name, k); exit(3); }
}
int main(int count, char **words) {
    const long B = atol(words[1]), T = atol(words[2]), D = atol(words[3]), H = atol(words[4]);
    long *place = malloc(B * sizeof(long)), *length = malloc(B * sizeof(long));
    for (long k = 0; k < B; k++) { place[k] = (k * 7 + 3) % B; length[k] = T - k * (T + 1) / B; }
    struct arguments a = {0};
    a.B = B; a.T = T; a.D = D; a.H = H; a.keeping = 1; a.reverse = atol(words[5]); a.threads = 3;
    a.place = place; a.length = length; a.x_clip_stride = T * D; a.x_frame_stride = D;
    a.x = numbers(B * T * D); a.outputs = poisoned($outputs);
$given
    long workspace[5];
    workspace_sizes(&a, workspace);
    a.packed = poisoned(workspace[0]); a.history = poisoned(workspace[2]); a.kept = poisoned(workspace[3]);
    if (forward(&a)) return 2;
    check("outputs", a.outputs, $outputs);
    a.packed_back = poisoned(workspace[1]); a.d_packed = poisoned(workspace[4]);
    a.d_outputs = numbers($outputs); a.d_x = poisoned(B * T * D);
    if (backward(&a)) return 2;
    check("d_x", a.d_x, B * T * D);
$checks
    free(place);
    free(length);
    return 0;
}
"""


def count(what: str) -> str:
    """The elements of tensors of these shapes, "(B, H/2)" or "(H) and (1)", in C."""
    products = []
    for shape in re.findall(r"\(((?:[^()]|\([^()]*\))*)\)", what.partition(", or ")[0]):
        sizes = [f"at_least_1({text})" if text[-1] in "0123456789" else text for text in shape.split(", ") if text]
        products.append(" * ".join(sizes) or "1")
    return " + ".join(products)


def program(cell: Cell, *, bf16: bool = False) -> str:
    """The kernel and a main that gives it everything it asks for, of the sizes that it is started with."""
    given, checks = [], []
    known = {field.name: field.what for field in fields(names_of(cell))}
    for field in fields(names_of(cell)):
        elements = count(field.what) if field.kind == "reals" else ""
        if field.each in ("weight", "invariant", "mask", "first", "d_last"):
            given.append(f"    a.{field.name} = numbers({elements});")
        elif field.each == "mask_stride":
            frame = count(known[field.name.removesuffix("_clip_stride").removesuffix("_frame_stride")]).split(" * ", 2)[
                2
            ]
            given.append(f"    a.{field.name} = {'T * ' if 'clip' in field.name else ''}{frame};")
        elif field.each:
            given.append(f"    a.{field.name} = poisoned({elements});")
            checks.append(f'    check("{field.name}", a.{field.name}, {elements});')
    main = MAIN.replace("$given", "\n".join(given)).replace("$checks", "\n".join(checks))
    return source(cell, "float", bf16=bf16) + main.replace("$outputs", count(known["outputs"]))


@cache
def sanitizes() -> bool:
    """Whether this compiler has the sanitizers."""
    folder = kept()
    (folder / "empty.c").write_text("int main(void) { return 0; }")
    command = [*(compiler() or ()), SANITIZERS, str(folder / "empty.c"), "-o", str(folder / "empty")]
    return compiler() is not None and subprocess.run(command, capture_output=True, check=False).returncode == 0


def kept() -> Path:
    """A new folder in the cache of this run of the tests, with which it is removed."""
    return Path(tempfile.mkdtemp(dir=os.environ["XDG_CACHE_HOME"]))


@cache
def compiled_runtime(bf16: bool, flags: tuple[str, ...], command: tuple[str, ...] = ()) -> str:
    """What all kernels are linked with, compiled once for each choice of flags: a third of the work of a test."""
    folder = kept()
    (folder / "runtime.c").write_text(runtime("float", bf16=bf16))
    made = str(folder / "runtime.o")
    command = command or (*(compiler() or ()), *FLAGS)
    subprocess.run([*command, *flags, "-c", str(folder / "runtime.c"), "-o", made], check=True)
    return made


def built(folder: Path, text: str, *flags: str) -> Path:
    (folder / "kernel.c").write_text(text)
    beside, made = compiled_runtime("#define BF16 1" in text, flags), folder / "kernel"
    given = [str(folder / "kernel.c"), beside, "-o", str(made), "-lm"]
    subprocess.run([*(compiler() or ()), *FLAGS, *flags, *given], check=True)
    return made


def run(program: Path, *sizes: int) -> str:
    """What the program prints: of everything the kernel gives, a sum and the sum of the sizes."""
    done = subprocess.run([str(program), *map(str, sizes)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[:2000]
    return done.stdout


def cell_named(name: str) -> Cell:
    if name in SIZED:
        return SIZED[name]
    return with_noise(zoo()["lstm"], ("h", "c"), ("h",)) if name == "noisy" else zoo()[name]


@pytest.mark.wants("cc")
@pytest.mark.parametrize(
    "name", ["lstm", "gru-original", "lstm-peephole-full", "fastgrnn", "lem", "gru-layer-norm", "noisy"]
)
def test_no_kernel_reads_or_writes_beyond_its_buffers(name: str, tmp_path: Path) -> None:
    if not sanitizes():
        pytest.skip("the C compiler has no sanitizers")
    kernel = built(tmp_path, program(cell_named(name)), "-march=native", SANITIZERS)
    for sizes in ((37, 5, 3, 17, 0), (1, 3, 1, 1, 1), (1, 1, 20, 33, 0), (3, 29, 5, 40, 0), (33, 2, 20, 32, 1)):
        assert run(kernel, *sizes)


@pytest.mark.wants("cc")
@pytest.mark.parametrize("flags", [("-march=native",), ("-DCELLO_EMULATED_BF16",)], ids=["native", "emulated"])
def test_pairs_stay_in_their_buffers(flags: tuple[str, ...], tmp_path: Path) -> None:
    if not sanitizes():
        pytest.skip("the C compiler has no sanitizers")
    kernel = built(tmp_path, program(zoo()["lstm-peephole-full"], bf16=True), *flags, SANITIZERS)
    for sizes in ((37, 5, 3, 17, 0), (1, 3, 1, 1, 1), (1, 1, 20, 33, 0), (3, 29, 5, 40, 0), (33, 2, 20, 32, 1)):
        assert run(kernel, *sizes)


@pytest.mark.wants("cc")
@pytest.mark.parametrize("name", SIZED)
def test_kernels_of_several_sizes_stay_in_their_buffers(name: str, tmp_path: Path) -> None:
    if not sanitizes():
        pytest.skip("the C compiler has no sanitizers")
    kernel = built(tmp_path, program(SIZED[name]), "-march=native", SANITIZERS)
    for sizes in ((37, 4, 3, 18, 0), (1, 3, 3, 2, 1), (1, 1, 21, 34, 0), (3, 19, 5, 64, 0)):
        assert run(kernel, *sizes)


@pytest.mark.wants("cc")
@pytest.mark.skipif(platform.machine() != "x86_64", reason="needs an x86-64 processor")
@pytest.mark.parametrize("name", ["lstm", "gru-original", "noisy", "normalised", "heads", "generated", "multiplied"])
def test_narrower_vectors_give_the_same_numbers(name: str, tmp_path: Path) -> None:
    alike(tmp_path, program(cell_named(name)), 2e-6)


@pytest.mark.wants("cc")
@pytest.mark.skipif(platform.machine() != "x86_64", reason="needs an x86-64 processor")
def test_narrower_vectors_round_to_the_same_pairs(tmp_path: Path) -> None:
    """The instruction, where this processor has it, and what stands for it in tests."""
    alike(tmp_path, program(zoo()["gru-original"], bf16=True), 1e-4)


def alike(tmp_path: Path, text: str, rounding: float) -> None:
    """The program prints the same for narrower vectors, up to a share of the sizes."""
    kinds = ("native", "x86-64-v3", "x86-64")
    expected, *others = (run(built(tmp_path, text, f"-march={kind}"), 37, 5, 3, 18, 0) for kind in kinds)
    for other in others:
        same_numbers(other, expected, rounding)


def same_numbers(found: str, expected: str, rounding: float) -> None:
    assert len(expected.splitlines()) > 3
    for line, other in zip(expected.splitlines(), found.splitlines(), strict=True):
        field, total, size = line.split()
        same = other.split()
        assert same[0] == field
        assert float(same[1]) == pytest.approx(float(total), abs=rounding * float(size)), field


@pytest.mark.wants("cc", "aarch64-linux-gnu-gcc", "qemu-aarch64")
@pytest.mark.parametrize("name", ["lstm", "normalised", "heads", "mlstm-heads"])
def test_arm64_gives_the_same_numbers(name: str, tmp_path: Path) -> None:
    """What kernels are on a Mac or an ARM server: sixteen bytes a vector, none of the instructions of x86-64.

    Gates are saturated by these numbers, so derivatives lose digits: narrow vectors of x86-64 differ by 5e-5, too.
    """
    expected = built(tmp_path, program(cell_named(name)), "-march=native")
    made, command = tmp_path / "arm64", [word if name == "lstm" else word.replace("-O2", "-O0") for word in ARM64]
    given = [str(tmp_path / "kernel.c"), compiled_runtime(False, (), ARM64), "-static", "-o", str(made), "-lm"]
    subprocess.run([*command, *given], check=True)
    for sizes in ((37, 5, 3, 16, 0), (1, 1, 5, 16, 0), (1, 3, 2, 4, 1)):
        words = [str(each) for each in sizes]
        done = subprocess.run(["qemu-aarch64", str(made), *words], capture_output=True, text=True, check=True)
        same_numbers(done.stdout, run(expected, *sizes), 1e-4)
