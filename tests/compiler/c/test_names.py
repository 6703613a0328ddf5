"""What hurts: a user's name or sentence that means something in C, so that a cell has no kernel, or a wrong one."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from keyword import iskeyword
from pathlib import Path
from typing import Any

import pytest
import torch

from cello.cells.definition import Cell, cell
from cello.cells.functions import FUNCTIONS, sigmoid, tanh
from cello.compiler.c.text import names_of, source
from cello.compiler.identifiers import comment
from cello.compiler.scan import scan
from cello.native import build as c_build

needs_compiler = pytest.mark.wants("cc")

NAMES = list(
    dict.fromkeys(
        re.findall(
            r"\w+",
            """
    NULL NAN INFINITY M_PI M_E RAND_MAX EOF INT_MAX UINT64_MAX SIG_DFL EXIT_SUCCESS assert_ errno stdin
    stdout offsetof unix linux i386 near far bool true false I complex and_ int double long auto register restrict
    inline static typeof asm void struct union signed sizeof switch volatile goto _Bool _Complex __FILE__ __LINE__
    __x86_64__ __GNUC__ sigmoid_ exponential hyperbolic load store accumulate broadcast select_vec where_ product
    outer workspace alloc_workspace load_tile store_tile fill block pack unpack round_up vec mask real integer V P E
    H D B T TILE CHUNK PANEL WIDE ROWS tile size wide square rows view clips offset arguments a c n t j r at before
    after kept history scratch_states scratch_kept next slot counts later none x_tile h_next v_sum old_h new_h
    swap_h d_h d_v d_old_h v_tile v_slots v_row v_start v_part terms_5 weight_W invariant_b mask_h last first memcpy
    memset malloc free exp log tanhf size_t main pthread_create _ __ σ Σ ς β_0 Größe é ñ Ω ж λ 変数 ªº _1 l1 O0
""",
        )
    )
)
"""Keywords, macros, functions, what the kernel itself calls its things and makes of other names, and other scripts."""


@pytest.fixture(autouse=True, scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Kernels are compiled anew, not taken from the user's cache, and quickly: what names mean is settled early."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(c_build, "FLAGS", tuple("-O0" if flag == "-O2" else flag for flag in c_build.FLAGS))
        patch.setenv("CELLO_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def own(text: str, name: str = "own", doc: str = "") -> Cell:
    space: dict[str, Any] = dict(FUNCTIONS)
    exec(text, space)
    space[name].__doc__ = doc  # Python from 3.13 takes no docstring with surrogates in a text
    return cell(space[name])


def usable(name: str) -> bool:
    """Whether it can be a variable in ``named``."""
    return name.isidentifier() and not iskeyword(name) and name not in {"x", "h", "m", "c", "W", "U", "p", "q", "new"}


def named(names: list[str], frame: str = "x", states: tuple[str, str] = ("h", "m"), doc: str = "") -> Cell:
    """A cell of two stages whose frame, states, parameters, values and members have these names."""
    first, second = states
    lines = [f"{name} = tanh({names[k // 2]} * p.p{k} + q)" for k, name in enumerate(names[1:])]
    members = [f"U.{name} @ {name}" for name in names if not name.startswith("_")][:3]
    text = f"""
def own({frame}, {first}, {second}, W, U, p, q):
    {names[0]} = sigmoid(W @ {frame} + U.one @ {first} + p.own * q)
    {"; ".join(lines) or "pass"}
    new = tanh({" + ".join([*names, *members])} + {second})
    return new, {names[-1]} * {second}
"""
    return own(text, doc=doc)


def assert_plain(made: Cell) -> None:
    """The kernel gives outputs and gradients of plain evaluation."""
    draw = torch.Generator().manual_seed(1)
    shapes = made.parameters(3, 5).items()
    weights = {name: torch.randn(shape, generator=draw, dtype=torch.float64).requires_grad_() for name, shape in shapes}
    x = torch.randn(2, 3, 3, generator=draw, dtype=torch.float64)
    found = []
    for backend in ("c", "plain"):
        result = scan(made, x, weights, backend=backend)
        loss = (result.outputs**2).sum() + sum(part.sum() for part in result.state)
        found.append([result.outputs, *torch.autograd.grad(loss, list(weights.values()))])
    for c, plain in zip(*found, strict=True):
        torch.testing.assert_close(c, plain, rtol=1e-9, atol=1e-11)


@needs_compiler
def test_a_variable_may_have_any_name() -> None:
    assert_plain(named(NAMES))


@needs_compiler
@pytest.mark.parametrize(
    ("frame", "states"),
    [
        ("frame", ("r", "t")),
        ("NAN", ("linux", "d_linux")),
        ("int", ("old_c", "c")),
        ("σ", ("µ", "λ")),
        ("n" * 300, ("s" * 300, "s" * 299 + "t")),
    ],
    ids=["the kernel's frame", "macros", "the kernel's states", "Greek", "300 letters"],
)
def test_a_frame_and_states_may_have_any_name(frame: str, states: tuple[str, str]) -> None:
    assert_plain(named(["v", "x" if frame != "x" else "y", "d_v", "tile"], frame, states))


def test_no_two_names_of_a_kernel_are_the_same() -> None:
    rng = random.Random(0)
    pieces = [
        "d",
        "old",
        "new",
        "gate",
        "i",
        "W",
        "h",
        "tile",
        "row",
        "next",
        "sum",
        "5",
        "_",
        "σ",
        "x",
        "s",
        "invariant",
    ]
    for _ in range(60):
        names = {"".join(rng.choices(["v_", "d_", "i", "", "_"])) + "_".join(rng.choices(pieces, k=rng.randint(1, 4)))
                 for _ in range(8)}  # fmt: skip
        made = named(
            [name for name in sorted(names) if usable(name)] + ["last_one"],
            states=("c", "i_tile"),
        )
        text = source(made, "float")
        for function in re.split(r"\n(?=static|int|void)", text[text.index("struct arguments {") :]):
            declared = re.findall(r"^    real \*(?:const )?(\w+)(?: =|;)", function, flags=re.MULTILINE)
            declared += re.findall(r"^    long (\w+);", function, flags=re.MULTILINE)
            assert len(declared) == len(set(declared)), sorted(declared)
        assert len(set(names_of(made).of.values())) == len(names_of(made).of)


def test_names_of_one_letter_are_kept() -> None:
    text = source(own("def own(x, h, W, U, b):\n    f = tanh(W.f @ x + U.f @ h + b.f)\n    return f * h + f"), "float")
    assert "const vec f = hyperbolic(load(f_sum_tile + at));" in text
    assert "const vec h_next = f * load(old_h + at) + f;" in text
    assert "// f_sum = W.f @ x + U.f @ h + b.f" in text


SENTENCES = [
    "ends the comment */ static int evil(void) { return system(0); } /* ",
    "*/",
    "/*/ nested /* twice */*/ and a // line",
    "what ??/ next ??) ???/",
    "ends in a backslash \\",
    "Größe, 変数, \u202e turned, \x07 rung, \x1b[31m red, \udcff half",
    "\r carriage \u2028 line \x85 next \x0c page",
    "a" * 5000,
]


@needs_compiler
def test_a_docstring_may_be_any_sentence() -> None:
    for number, sentence in enumerate(SENTENCES):
        made = named(["v"], doc=sentence)
        text = source(made, "double")
        opening = text[: text.index("#include")]
        assert opening.count("/*") == opening.count("*/") == 1, sentence
        assert "\\\n" not in opening
        assert "??" not in opening
        assert "system" not in text.replace(opening, "")
        if number in (0, 5):
            assert_plain(made)


def test_comments_of_random_text_end_where_they_should() -> None:
    rng = random.Random(0)
    for _ in range(2000):
        made = comment("".join(rng.choices("*/?\\\n \r\t\x00\u2028aé", k=rng.randint(0, 12))))
        assert "*/" not in f"/* {made} */"[:-2]
        assert not {"\n", "\r", "\x00", "\u2028"} & set(made)
        assert not made.endswith("\\")
        assert "??" not in made
        made.encode()


@needs_compiler
@pytest.mark.parametrize("name", ["c" * 260, "größe", "_"], ids=["260 letters", "not ASCII", "a blank"])
def test_a_cell_may_have_any_name(name: str) -> None:
    assert_plain(own(f"def {name}(x, h, W, U):\n    return tanh(W @ x + U @ h)", name))


@needs_compiler
def test_a_cells_name_is_no_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space: dict[str, Any] = dict(FUNCTIONS)
    exec("def own(x, h, W, U):\n    return tanh(W @ x + U @ h)", space)
    space["own"].__name__ = "../../*/ out"
    monkeypatch.setenv("CELLO_CACHE", str(tmp_path / "one" / "cache"))
    assert_plain(cell(space["own"]))
    assert {path.name for path in tmp_path.iterdir()} == {"one"}
    assert {path.name for path in (tmp_path / "one").iterdir()} == {"cache"}


@needs_compiler
def test_random_names_compile_and_compute() -> None:
    rng = random.Random(3)
    letters = "aVdx_iσé9WNULhtcn"
    for _ in range(2):
        drawn = {"".join(rng.choices(letters, k=rng.randint(1, 12))) for _ in range(25)}
        names = [name for name in sorted(drawn) if usable(name)]
        assert_plain(named(names, doc="".join(rng.choices("*/\\?\n é", k=30))))


@pytest.mark.wants("cc")
def test_a_value_called_new_is_kept_for_the_products_that_read_it() -> None:
    @cell
    def own(x, h, W, U, V):  # type: ignore[no-untyped-def]
        new = tanh(W @ x + U @ h)
        new_content = sigmoid(V.a @ new)
        return tanh(V.b @ new_content) * new

    draw = torch.Generator().manual_seed(0)
    weights = {name: torch.randn(shape, generator=draw).double() for name, shape in own.parameters(3, 5).items()}
    x = torch.randn(4, 3, 3, generator=draw).double()
    found, expected = (scan(own, x, weights, backend=backend).outputs for backend in ("c", "plain"))
    torch.testing.assert_close(found, expected)
