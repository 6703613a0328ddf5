"""The C99 text under other compilers, for other processors and under the sanitizers; all give the same bits."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from c99_program import LABELS, SMALL, STRICT, Program, by_torch, compiler, model_of, run, sound, written
from cello.export.c99 import C99Text, write_c99
from cello.features.config import FeatureConfig
from cello.models.config import ModelConfig

CLIP = sound(900)
MAIN = """
#include "model.h"
#include <stdio.h>
#include <stdlib.h>
static model_stream *stream;
static model_decider decider;
static void write_scores(void *file, int64_t step, const float *scores) {
    model_decision decision;
    (void)step;
    fwrite(scores, sizeof(float), MODEL_CLASSES, (FILE *)file);
    model_decide(&decider, scores, model_end(stream), &decision);
}
int main(void) {
    float buffer[900];
    const int n = (int)fread(buffer, sizeof(float), 900, stdin);
    stream = malloc(sizeof *stream);    /* of exact size, for the sanitizers */
    model_start(stream);
    model_listen(stream, write_scores, stdout);
    model_decider_start(&decider);
    for (int at = 0, some = 1; at < n; at += some, some = some * 7 % 101) {
        float *const part = malloc(sizeof(float) * 101);
        if (some > n - at) some = n - at;
        for (int k = 0; k < some; k++) part[101 - some + k] = buffer[at + k];
        model_push(stream, part + 101 - some, some);
        free(part);
    }
    model_finish(stream);
    free(stream);
    return 0;
}
"""


def text() -> C99Text:
    """A model that uses nearly all of the text: matrices of 8 bits in its layers, of floats in its front end."""
    features = FeatureConfig(rate_hz=2000, window_ms=30, n_mels=10, n_mfcc=5, pre_emphasis=0.5)
    _, parts = model_of(ModelConfig(cell="slstm", hidden=20, frame_stacking=2), features)
    return write_c99(parts, features, LABELS, "model", int8=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the model and a program that reads samples and writes scores."""
    found = tmp_path_factory.mktemp("model")
    written(text(), "model", found)
    (found / "main.c").write_text(MAIN)
    return found


def scores(folder: Path, command: list[str], through: tuple[str, ...] = (), name: str = "program") -> bytes:
    program = folder / name
    run([*command, *STRICT, folder / "model.c", folder / "main.c", "-o", program])
    return run([*through, program], CLIP.tobytes())


@pytest.fixture(scope="module")
def expected(folder: Path) -> bytes:
    """What one number at a time gives."""
    found = scores(folder, [compiler("cc", "gcc", "clang"), "-O1", "-DLANES=1"], name="expected")
    assert np.isfinite(np.frombuffer(found, np.float32)).all()
    assert len(found) == 4 * len(LABELS) * 15
    return found


@pytest.mark.parametrize(
    "command",
    ["gcc -O2", "gcc -O1 -DASKED=8", "gcc -O1 -DPLAIN", "clang -O1", "clang -O1 -DASKED=8", "gcc -O1 -march=native"],
)
def test_compilers_and_vectors_give_the_same_bits(command: str, folder: Path, expected: bytes) -> None:
    program, *flags = command.split()
    assert scores(folder, [compiler(program), *flags]) == expected


@pytest.mark.parametrize(("wide", "program"), [("avx2", "gcc"), ("avx2", "clang"), ("avx512f", "gcc")])
def test_a_build_for_wide_vectors_gives_the_same_bits(wide: str, program: str, folder: Path, expected: bytes) -> None:
    cpu = Path("/proc/cpuinfo")
    if not cpu.exists() or wide not in cpu.read_text().split():
        pytest.skip(f"this processor has no {wide}")
    assert scores(folder, [compiler(program), "-O1", f"-m{wide}"]) == expected


def test_arm64_gives_the_same_bits(folder: Path, expected: bytes) -> None:
    cross, emulator = compiler("aarch64-linux-gnu-gcc"), compiler("qemu-aarch64", "qemu-aarch64-static")
    assert scores(folder, [cross, "-O2", "-static"], (emulator,)) == expected


def test_frames_in_floats_are_the_same_bits_for_all_vectors_and_near_those_in_doubles(
    folder: Path, expected: bytes
) -> None:
    flags = ["-DMODEL_DOUBLE=0"]
    one = scores(folder, [compiler("cc", "gcc", "clang"), "-O1", "-DLANES=1", *flags])
    assert scores(folder, [compiler("gcc"), "-O2", *flags]) == one
    assert scores(folder, [compiler("clang"), "-O1", *flags]) == one
    assert one != expected
    found, own = (np.frombuffer(each, np.float32) for each in (one, expected))
    np.testing.assert_allclose(found, own, atol=1e-4)


@pytest.mark.parametrize(("unit", "double"), [("fpv4-sp-d16", "0"), ("fpv5-d16", "1")])
def test_a_processor_without_doubles_computes_frames_in_floats(folder: Path, unit: str, double: str) -> None:
    target = ["-mcpu=cortex-m7", "-mthumb", "-mfloat-abi=hard", f"-mfpu={unit}"]
    known = run([compiler("arm-none-eabi-gcc"), *target, "-dM", "-E", folder / "model.h"]).decode()
    assert f"#define MODEL_DOUBLE {double}\n" in known


# unoptimised: every access is checked, and that compiles in half the time
SANITIZERS = ("-O0", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


def sanitizing(folder: Path) -> str:
    """A compiler that has the sanitizers; the test is skipped where there is none."""
    program, empty = compiler("gcc", "clang"), folder / "empty.c"
    empty.write_text("int main(void) { return 0; }\n")
    command = [program, *SANITIZERS, empty, "-o", folder / "empty"]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip(f"{program} has no sanitizers here")
    return program


def test_nothing_is_read_or_written_out_of_place(folder: Path, expected: bytes) -> None:
    assert scores(folder, [sanitizing(folder), *SANITIZERS]) == expected


@pytest.fixture(scope="module")
def advance(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """A model whose weights are floats, and what it gives a step at a time, one number at a time."""
    found = tmp_path_factory.mktemp("advance")
    _, parts = model_of(ModelConfig(cell="gru", hidden=16, layers=2))
    written(write_c99(parts, SMALL, LABELS, "model"), "model", found)
    (found / "main.c").write_text(MAIN)
    command = [compiler("cc", "gcc", "clang"), "-O1", "-DLANES=1", "-DMODEL_AHEAD=1"]
    return found, scores(found, command, name="expected")


@pytest.mark.parametrize(
    "command",
    [
        "gcc -O2",
        "gcc -O1 -DASKED=8",
        "gcc -O1 -DPLAIN -DMODEL_AHEAD=2",
        "clang -O1 -DMODEL_AHEAD=8",
        "gcc -O1 -DLANES=1",
    ],
)
def test_steps_that_are_begun_together_give_the_same_bits(command: str, advance: tuple[Path, bytes]) -> None:
    folder, expected = advance
    program, *flags = command.split()
    assert len(expected) == 4 * len(LABELS) * 44
    assert scores(folder, [compiler(program), *flags]) == expected


@pytest.mark.parametrize("flags", ["-DMODEL_AHEAD=1", "", "-DMODEL_AHEAD=7", "-DMODEL_AHEAD=5 -DPLAIN"])
def test_steps_that_are_begun_together_stay_within_the_struct(flags: str, advance: tuple[Path, bytes]) -> None:
    folder, expected = advance
    assert scores(folder, [sanitizing(folder), *SANITIZERS, *flags.split()]) == expected


def test_a_processor_without_vectors_keeps_the_memory_of_one_step(advance: tuple[Path, bytes], tmp_path: Path) -> None:
    source = '#include "model.h"\ntypedef char one[MODEL_AHEAD == 1 ? 1 : -1];\n'
    (tmp_path / "one.c").write_text(source)
    cross = compiler("arm-none-eabi-gcc")
    run([cross, "-mcpu=cortex-m4", "-mthumb", "-I", advance[0], "-c", tmp_path / "one.c", "-o", tmp_path / "one.o"])


def test_it_takes_no_memory_and_needs_no_library(folder: Path) -> None:
    run([compiler("gcc"), *STRICT, "-O2", "-fno-stack-protector", "-c", folder / "model.c", "-o", folder / "model.o"])
    needs = {line.split()[-1] for line in run([compiler("nm"), "-u", folder / "model.o"]).decode().splitlines()}
    assert needs <= {
        "memcpy",
        "memset",
        "memmove",
        "_GLOBAL_OFFSET_TABLE_",
        "__cpu_model",
    }  # the last is the compiler's own


def test_sums_over_units_in_whole_blocks_are_built_without_a_warning(tmp_path: Path) -> None:
    _, parts = model_of(ModelConfig(cell="rnn-window-attention", hidden=64))
    source = written(write_c99(parts, SMALL, LABELS, "model"), "model", tmp_path)
    run([compiler("gcc"), *STRICT, "-O2", "-c", source, "-o", tmp_path / "model.o"])


def test_it_can_be_included_from_cpp(folder: Path) -> None:
    (folder / "main.cpp").write_text('#include "model.h"\nint main() { model_stream s; model_start(&s); return 0; }\n')
    run([compiler("gcc"), "-c", folder / "model.c", "-o", folder / "plain.o"])
    run([compiler("g++"), "-Wall", "-Werror", folder / "main.cpp", folder / "plain.o", "-o", folder / "cpp"])
    run([folder / "cpp"])


def test_64_units_of_8_bits_fit_into_60_kb_of_a_cortex_m(tmp_path: Path) -> None:
    cross, size = compiler("arm-none-eabi-gcc"), compiler("arm-none-eabi-size")
    features = FeatureConfig()
    _, parts = model_of(ModelConfig(cell="lstm", hidden=64), features)
    source = written(write_c99(parts, features, LABELS, "model", int8=True), "model", tmp_path)
    float_unit = ["-mcpu=cortex-m4", "-mthumb", "-mfpu=fpv4-sp-d16", "-mfloat-abi=hard"]
    run([cross, *STRICT, *float_unit, "-Os", "-c", source, "-o", tmp_path / "model.o"])
    code, data, zeros = run([size, tmp_path / "model.o"]).decode().splitlines()[1].split()[:3]
    assert int(code) + int(data) <= 60_000
    assert int(zeros) == 0


def test_a_cell_with_a_root_links_with_the_mathematics_library(tmp_path: Path) -> None:
    cell = tmp_path / "mine.py"
    cell.write_text(
        "from cello import cell\nfrom cello.cells.functions import *\n@cell\ndef own(x, h, W):\n"
        '    """Own."""\n    return sqrt(abs(W @ x) + 0.1) * 1e99 / 1e99 + minimum(h, 0.5)\n'
    )
    _, parts = model_of(ModelConfig(cell=f"{cell}:own", hidden=4))
    found = Program(write_c99(parts, SMALL, LABELS, "model"), "model", tmp_path).stream([CLIP])
    assert found.shape[1] == len(LABELS)


@pytest.mark.parametrize(("lanes", "wide"), [(16, "AVX512F"), (8, "AVX2")])
def test_a_plain_build_asks_the_processor_for_more_floats_at_once(lanes: int, wide: str, folder: Path) -> None:
    source = (folder / "model.c").read_text()
    asked = source[source.index(f"{wide} static void layer_0_{lanes}(") :]
    asked = asked[: asked.index("#endif")]
    assert "add_product" in asked
    assert not re.findall(r"\b(?:vec|load|store|sigmoid|exponential|LANES|add_product)\b", asked)
    assert source.count(f"layer_0_{lanes}(x, states, scratch);") == 1


def test_the_widest_vectors_are_asked_for_first_and_none_where_it_is_built_plain(folder: Path) -> None:
    source = (folder / "model.c").read_text()
    layer = source[source.index("static void layer_0(") :]
    assert 0 < layer.index('__builtin_cpu_supports("avx512f")') < layer.index('__builtin_cpu_supports("avx2")')
    run([compiler("gcc"), *STRICT, "-c", folder / "model.c", "-o", folder / "asking.o"])
    run([compiler("gcc"), *STRICT, "-DPLAIN", "-c", folder / "model.c", "-o", folder / "plain.o"])
    names = [run([compiler("nm"), folder / name]).decode() for name in ("asking.o", "plain.o")]
    assert ["__cpu_model" in each for each in names] == [os.uname().machine == "x86_64", False]


def test_no_more_floats_are_asked_for_than_stand_in_a_block_of_rows() -> None:
    for hidden, lanes in ((16, ["16", "8"]), (24, ["8"]), (4, [])):
        _, parts = model_of(ModelConfig(cell="gru", hidden=hidden))
        source = write_c99(parts, SMALL, LABELS, "model").source
        assert re.findall(r"static void layer_0_(\d+)\(", source) == lanes


RARE = """
from cello import Fixed, Learned, cell
from cello.cells.functions import atan, cos, erf, floor, mod, round, sign, sin, sqrt
@cell
def own(x, h: Learned(0.3), v: Fixed(-0.7), W, U, b):
    'Functions that few cells use, and states that do not begin at zero.'
    a = W @ x + U @ h + b
    v = mod(a + v, 1.3) + 0.1 * (round(3 * a) + floor(2 * a) - sign(a))
    return 0.3 * sin(5 * a) + 0.2 * cos(a - v) + 0.3 * erf(a) + 0.2 * atan(3 * a) + 0.1 * sqrt(1 + v * v), v
"""


def test_functions_that_few_cells_use_and_first_states_are_the_same_for_more_floats_at_once(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(RARE)
    model, parts = model_of(ModelConfig(cell=f"{tmp_path / 'mine.py'}:own", hidden=16, pooling="last"))
    text = write_c99(parts, SMALL, LABELS, "model")
    asked = text.source[text.source.index("AVX2 static void layer_0_8(") :].partition("#endif")[0]
    called = set(re.findall(r"\b([a-z_]\w*)\(", asked)) - {"for", "sizeof", "memcpy"}
    assert {
        "sine_8",
        "cosine_8",
        "arctangent_8",
        "error_function_8",
        "round_even_8",
        "round_down_8",
        "modulo_8",
        "root_8",
    } < called
    assert all(name.endswith("_8") for name in called)
    found = []
    for number, flags in enumerate((["-O1"], ["-O1", "-DASKED=8"], ["-O0", "-DPLAIN"], ["-O0", "-DLANES=1"])):
        folder = tmp_path / str(number)
        folder.mkdir()
        found.append(Program(text, "model", folder, flags).stream([CLIP]))
    np.testing.assert_allclose(found[0][-1], by_torch(model, CLIP), atol=1e-4)
    assert len({each.tobytes() for each in found}) == 1


LIMITS = """
from cello import cell
from cello.cells.functions import exp, log, sigmoid, tanh
@cell
def own(x, h, W):
    'Gates of infinite values, or of values that are none.'
    far = exp(100 + abs(W @ x))
    return h / 2 + SHOWN
"""
SHOWN = {
    "infinite": "sigmoid(far) + 2 * sigmoid(-far) + 4 * tanh(far)",
    "none": "sigmoid(log(-far))",
}


@pytest.mark.parametrize("shown", SHOWN)
def test_gates_of_infinite_values_are_open_or_closed_and_those_of_nan_are_nan(tmp_path: Path, shown: str) -> None:
    (tmp_path / "mine.py").write_text(LIMITS.replace("SHOWN", SHOWN[shown]))
    model, parts = model_of(ModelConfig(cell=f"{tmp_path / 'mine.py'}:own", hidden=16, pooling="last"))
    for number, flags in enumerate((["-O1"], ["-O0", "-DASKED=8"], ["-O0", "-DPLAIN"])):
        (tmp_path / str(number)).mkdir()
        found = Program(write_c99(parts, SMALL, LABELS, "model"), "model", tmp_path / str(number), flags).stream([CLIP])
        assert np.isnan(found[-1]).all() == (shown != "infinite")
        np.testing.assert_allclose(found[-1], by_torch(model, CLIP), rtol=1e-5)
