"""The compiled pass as a program of its own: under the sanitizers with buffers of exact size, with narrower vectors."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

import pytest

from cello.features.c.launch import source
from cello.features.c.plan import radices
from cello.native.build import compiler

pytestmark = pytest.mark.wants("cc")
FLAGS = ["-O1", "-std=gnu11", "-pthread", "-w"]
# unoptimised: every access is checked, and that compiles four times faster
SANITIZERS = ("-O0", "-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
MAIN = """
#include <stdio.h>
static void *all_buffers[500];    /* so that only what the pass itself forgets counts as a leak */
static void *buffer(size_t bytes) {
    static int count = 0;
    return all_buffers[count++] = malloc(bytes);
}
static const real *circle(long n) {
    real *turn = buffer(2 * n * sizeof(real));
    for (long k = 0; k < n; k++) turn[2 * k] = cos(2 * M_PI * k / n), turn[2 * k + 1] = -sin(2 * M_PI * k / n);
    return turn;
}
int main(int count, const char **words) {
    const long window = atol(words[1]), hop = atol(words[2]), mels = atol(words[3]), cepstra = atol(words[4]);
    const long points = window % 2 ? window : window / 2, bins = window / 2 + 1, size = cepstra ? cepstra : mels;
    const long widest = 5, deltas = atol(words[5]), steps = count - 6;
    int64_t *list = buffer(steps * sizeof(int64_t)), *first = buffer(mels * 8), *length = buffer(mels * 8);
    for (long k = 0; k < steps; k++) list[k] = atol(words[6 + k]);
    real *shape = buffer(window * sizeof(real)), *weights = buffer(mels * 3 * sizeof(real));
    real *cosines = buffer(mels * size * sizeof(real));
    real *delta_weights = buffer(2 * (widest / 2) * widest * sizeof(real));
    for (long k = 0; k < window; k++) shape[k] = 0.25 - 0.25 * cos(2 * M_PI * k / window);
    for (long m = 0; m < mels; m++) {
        first[m] = m % (bins - 1), length[m] = bins - first[m] < 3 ? bins - first[m] : 3;
        for (long k = 0; k < 3; k++) weights[3 * m + k] = 0.5 + 0.1f * k;
        for (long k = 0; k < size; k++) cosines[m * size + k] = cos(M_PI * k * (m + 0.5) / mels);
    }
    for (long k = 0; k < 2 * (widest / 2) * widest; k++) delta_weights[k] = (k % widest) - 1.5f;
    const struct plan plan = {window, hop, bins, mels, size, deltas, widest, cepstra > 0, deltas == 1, 3,
        {points, steps, list, circle(points)}, shape, circle(window), first, length, weights, cosines, delta_weights,
        0.9 * (hop % 2), 1e-6, 1e-4};
    const long lengths[] = {window, window + 1, 3 * window + hop + 7, 4000 + window, 1, window + 31};
    enum { CLIPS = 24 };
    struct clip clips[CLIPS] = {0};
    float *noise = buffer(300 * 4);
    for (long k = 0; k < 300; k++) noise[k] = sin(k);
    for (long c = 0; c < CLIPS; c++) {
        struct clip *clip = clips + c;
        const long n = lengths[c % 6];
        clip->kind = c % 2;
        clip->samples = buffer(n * (clip->kind ? 4 : 2));
        for (long k = 0; k < n; k++) {
            const double y = 0.3 * sin(0.1 * k) + 0.02 * ((k * 37 % 19) - 9);
            if (clip->kind) ((float *)clip->samples)[k] = y; else ((int16_t *)clip->samples)[k] = 32767 * y;
        }
        clip->length = clip->kept = n;
        if (c % 3) {    /* at another speed */
            clip->rate = c % 3 == 1 ? 1.9 : 0.7;
            const long faster = (n - 1) / clip->rate + 1;
            clip->kept = faster < n ? faster : n;
            clip->from = (n - 1 - clip->rate * (clip->kept - 1)) / 2;
            if (clip->from < 0) clip->from = 0;
        }
        clip->move = (c % 5 - 2) * 133 * (c % 7);
        if (c % 4 == 1) clip->noise = noise, clip->noise_length = 300, clip->noise_start = 11 * c, clip->gain = 0.2;
        clip->frames = clip->kept < window ? 1 : 1 + (clip->kept - window) / hop;
        clip->out_frames = clip->frames + c % 3;
        clip->out = buffer(clip->out_frames * size * (1 + deltas) * 4);
    }
    if (clips_to_frames(&plan, clips, CLIPS, 3)) return 2;
    for (long c = 0; c < CLIPS; c++) {
        double sum = 0;
        for (long k = 0; k < clips[c].out_frames * size * (1 + deltas); k++) {
            if (!isfinite((double)clips[c].out[k])) { printf("clip %ld, %ld is not a number\\n", c, k); return 3; }
            sum += clips[c].out[k] * (1 + k % 7);
        }
        printf("%.9g\\n", sum);
    }
    return 0;
}
"""
CASES = [(640, 320, 40, 13, 2), (441, 220, 26, 0, 1), (1764, 441, 40, 20, 2), (14, 3, 5, 4, 0), (5, 2, 1, 1, 2)]


def built(folder: Path, double: bool, *flags: str) -> Path:
    text, program = folder / "pass.c", folder / "pass"
    text.write_text(source(double) + MAIN)
    subprocess.run([*(compiler() or ()), *FLAGS, *flags, str(text), "-o", str(program), "-lm"], check=True)
    return program


def sums(program: Path, case: tuple[int, ...]) -> list[float]:
    window = case[0]
    factors = radices(window if window % 2 else window // 2)
    done = subprocess.run([str(program), *map(str, (*case, *factors))], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[:2000]
    return [float(line) for line in done.stdout.split()]


@pytest.fixture(scope="module")
def sanitizes(tmp_path_factory: pytest.TempPathFactory) -> bool:
    """Whether this compiler has the sanitizers."""
    folder = tmp_path_factory.mktemp("empty")
    (folder / "empty.c").write_text("int main(void) { return 0; }")
    command = [*(compiler() or ()), *SANITIZERS, str(folder / "empty.c"), "-o", str(folder / "empty")]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("double", [True, False], ids=["double", "float"])
@pytest.mark.parametrize("flag", ["-march=native", "-DNARROW"])
def test_the_pass_reads_and_writes_nothing_beyond_its_buffers(
    tmp_path: Path, flag: str, double: bool, sanitizes: bool
) -> None:
    if not sanitizes:
        pytest.skip("the C compiler has no sanitizers")
    program = built(tmp_path, double, flag, *SANITIZERS)
    for case in CASES:
        assert len(sums(program, case)) == 24


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="flags of x86")
@pytest.mark.parametrize(("double", "relative", "absolute"), [(True, 1e-6, 2e-3), (False, 1e-3, 2e-2)])
def test_narrower_vectors_give_the_same_frames(tmp_path: Path, double: bool, relative: float, absolute: float) -> None:
    (tmp_path / "wide").mkdir()
    wide, narrow = built(tmp_path / "wide", double, "-march=native"), built(tmp_path, double, "-msse2")
    for case in CASES:
        for one, other in zip(sums(wide, case), sums(narrow, case), strict=True):
            assert one == pytest.approx(other, rel=relative, abs=absolute)
