"""The generated C under the address and undefined-behaviour sanitizers: a program of its own, buffers of exact size."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from cello.cells.definition import Cell
from cello.cells.load import zoo
from cello.cells.noise import with_noise
from cello.compiler.c import names_of, source
from cello.compiler.c_build import compiler

FLAGS = ["-O1", "-g", "-march=native", "-std=gnu11", "-pthread", "-w", "-fno-sanitize-recover=all"]
SANITIZERS = "-fsanitize=address,undefined"
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
    for (long k = 0; k < n; k++)
        if (!isfinite((double)p[k])) { printf("%s[%ld] is not a number\\n", name, k); exit(3); }
}
int main(void) {
    const long B = $B, T = $T, D = $D, H = $H;
    long place[$B], length[$B];
    for (long k = 0; k < B; k++) { place[k] = (k * 7 + 3) % B; length[k] = T - k * (T + 1) / B; }
    struct arguments a = {0};
    a.B = B; a.T = T; a.D = D; a.H = H; a.keeping = 1; a.reverse = $reverse; a.threads = 3;
    a.place = place; a.length = length; a.x_clip_apart = T * D; a.x_frame_apart = D;
    a.x = numbers(B * T * D); a.outputs = poisoned(B * T * H);
$given
    long room[6];
    room_of(&a, room);
    a.packed = poisoned(room[0]); a.history = poisoned(room[2]); a.kept = poisoned(room[3]);
    if (forward(&a)) return 2;
    check("outputs", a.outputs, B * T * H);
    a.packed_back = poisoned(room[1]); a.d_packed = poisoned(room[4]); a.d_rows = poisoned(room[5]);
    a.d_outputs = numbers(B * T * H); a.d_x = poisoned(B * T * D);
    if (backward(&a)) return 2;
    check("d_x", a.d_x, B * T * D);
$checks
    return 0;
}
"""


def program(cell: Cell, sizes: tuple[int, int, int, int], reverse: bool) -> str:
    """The kernel and a main that gives it everything it asks for."""
    batch, steps, inputs, hidden = sizes
    letters = {"H": hidden, "D": inputs}
    given, checks = [], []
    for field in names_of(cell).fields():
        if field.each in ("weight", "d_weight"):
            count = 1
            for letter in field.what.strip("()").split(", "):
                count *= letters[letter]
        else:
            count = {"fixed": hidden, "d_fixed": hidden, "mask": batch * steps * hidden}.get(field.each, batch * hidden)
        if field.each in ("weight", "fixed", "mask", "first", "d_last"):
            given.append(f"    a.{field.name} = numbers({count});")
        elif field.each == "fixed_apart":
            given.append(f"    a.{field.name} = 1;")
        elif field.each == "mask_apart":
            given.append(f"    a.{field.name} = {'T * H' if 'clip' in field.name else 'H'};")
        elif field.each:
            given.append(f"    a.{field.name} = poisoned({count});")
            checks.append(f'    check("{field.name}", a.{field.name}, {count});')
    main = MAIN
    for name, value in zip("BTDH", sizes, strict=True):
        main = main.replace(f"${name}", str(value))
    main = main.replace("$reverse", str(int(reverse)))
    return source(cell, "float") + main.replace("$given", "\n".join(given)).replace("$checks", "\n".join(checks))


def sanitizes(folder: Path) -> bool:
    """Whether this compiler has the sanitizers."""
    (folder / "empty.c").write_text("int main(void) { return 0; }")
    command = [str(compiler()), SANITIZERS, str(folder / "empty.c"), "-o", str(folder / "empty")]
    return compiler() is not None and subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("name", ["lstm", "gru-original", "lstm-peephole-full", "fastgrnn", "lem", "noisy"])
def test_no_kernel_reads_or_writes_beyond_its_buffers(name: str, tmp_path: Path) -> None:
    if not sanitizes(tmp_path):
        pytest.skip("the C compiler has no sanitizers")
    cell = with_noise(zoo()["lstm"], ("h", "c"), ("h",)) if name == "noisy" else zoo()[name]
    for sizes, reverse in (((37, 5, 3, 17), False), ((1, 3, 1, 1), True), ((33, 2, 20, 32), True)):
        text, built = tmp_path / "kernel.c", tmp_path / "kernel"
        text.write_text(program(cell, sizes, reverse))
        subprocess.run([str(compiler()), *FLAGS, SANITIZERS, str(text), "-o", str(built), "-lm"], check=True)
        done = subprocess.run([str(built)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{sizes}: {done.stdout}{done.stderr[:2000]}"
