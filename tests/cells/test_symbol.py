"""What Python can do to a traced value: it means what it says, or it is refused on its line with what to write."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch

from cello.cells.definition import Cell
from cello.cells.functions import FUNCTIONS
from cello.cells.methods import EXPRESSIONS, METHODS
from cello.compiler.render import render
from cello.compiler.scan import scan
from cello.compiler.text import equations_text


def within(line: str) -> str:
    """A cell with this line before its last one."""
    return f"""
@cell
def own(x, h, W, U):
    n = W.n @ x + U.n @ h
    {line}  # here
    return tanh(n)
"""


BRANCH = "cannot be compiled on"
LIST = "is read like a list, but equations act on whole vectors. Compute with the vector itself"
ELEMENT = "an element of n is set, but equations act on whole vectors and values never change. Give a new"
PARTS = "with a matrix of its own: W.a @ x and W.b @ x, in place of parts of W @ x."
NUMBER = "n is used as a Python number, but it has no value yet. Call cello's functions"
COMPARED = "the comparison n > 0 is used as a value, but only where() takes one. Write where(n > 0, 1, 0) for a number"
REFUSED = [
    ("while n > 0: n = n - 1", f"{BRANCH} the comparison n > 0, because its value differs from unit to unit. Write"),
    ("n = where(0 < n < 1, n, h)", f"{BRANCH} the comparison n > 0"),
    (
        "n = n if n >= 0 else h",
        "the comparison n >= 0, because its value differs from unit to unit. Write where(n >= 0,",
    ),
    ("n = h * (not n)", f"{BRANCH} n, because its value differs from unit to unit. Write where(n > 0, a, b)"),
    ("assert n < 1", f"{BRANCH} the comparison 1 > n"),
    ("n = sorted([n, h])[0]", f"{BRANCH} the comparison n > h"),
    ("n = n if h in [n, n] else h", f"{BRANCH} the comparison h == n"),
    ("n = n if 1 in n else h", f"n {LIST}"),
    ("for v in n: n = n - v", f"n {LIST}"),
    ("for v in W: n = n - v", f"W {LIST}"),
    ("n = sigmoid(*n)", f"n {LIST}"),
    ("n = torch.tensor(n)", "the length of n is asked for, which is known later. Compute with the vector itself; wh"),
    (
        "n = n * len(h)",
        "the length of h is asked for, which is known later. Compute with the vector itself; what depends on",
    ),
    (
        "n = n / h.shape[0]",
        "Declare what depends on a size, as in s: Fixed(lambda H: 1 / sqrt(H)); sizes are checked witho",
    ),
    ("n = n / sqrt(H)", "unknown name 'H'. Declare what depends on a size, as in s: Fixed(lambda H: 1 / sqrt(H))."),
    ("n = n * n.sum", "n.sum is used as a value, but it is a method. Write n.sum()."),
    ("n = n * h.max", "h.max is used as a value, but h is a state, whose max is a method. Write h.max()."),
    ("n = n.add(h)", "n.add is asked for, but n is a value of the equations. Write the operators +, -, * and /."),
    ("n = math.silu(n)", "module 'math' has no attribute 'silu'. Write v * sigmoid(v)."),
    (
        "n = math.nothing(n)",
        "module 'math' has no attribute 'nothing'. A cell uses + - * / @, numbers and the functions",
    ),
    (
        "from cello import softmax; a, b = softmax([n, h])",
        "softmax() is given a list, but it is over the elements of one vector. For several values write a = exp(u), b",
    ),
    (
        "from cello import expm; n = expm(n)",
        "the expm of n is taken, but n changes from step to step: it is a vector. Write ex",
    ),
    (
        "from cello import inverse; n = inverse(n)",
        "changes from step to step: it is a vector. Write 1 / n, unit by unit.",
    ),
    (
        "n = n * n[0]",
        "n[0] is read, but equations act on whole vectors. Compute each such number by itself; w.a @ v",
    ),
    ("n = n[:4]", f"n[:4] is read, but equations act on whole vectors. Compute each part by itself, {PARTS}"),
    ("n = n[::2]", "n[::2] is read, but"),
    ("n = n[..., -1]", "n[..., -1] is read, but"),
    (
        "i, f = n.chunk(2)",
        f"n.chunk is asked for, but n is a value of the equations. Compute each part by itself, {PARTS}",
    ),
    ("i, f = torch.split(n, 2)", f"Compute each part by itself, {PARTS}"),
    ("n = n[:, None] * h[None]", "n[:, None] is read, but equations act on whole vectors. Write outer(v, k) for"),
    (
        "n = n * x[-1]",
        'x[-1] is read, but equations act on whole vectors. Name the parts of the frame, as in x: Parts("va',
    ),
    ("n = U['k'] @ n", "U['k'] is read, but members of a group are attributes. Write U.k, or getattr(U, \"k\")."),
    ("n = n['k']", "n['k'] is read, but equations act on whole vectors. Only arguments after the states have members"),
    (
        "for k in range(2): n = U[k] @ n",
        "U[0] is read, but equations act on whole vectors. Compute each such number by itself; one of several "
        'parameters is U.a, in a loop getattr(U, f"n{k}"); w.a @ v is one number a step with w: Size(1).',
    ),
    ("a, b = h", "where(a > b, u, v); several states are several arguments, as in def f(x, h, c, W); members"),
    (
        "n = n.view(4, -1)",
        "Write matrix(n, Heads(1)) for a matrix of H rows, of a vector of H * H elements; with Heads(4), S @ v",
    ),
    (
        "n = torch.outer(n, h)",
        "torch's outer() is called on n, which only the functions of the cell language can take. "
        "Write outer(v, k), of two vectors",
    ),
    (
        "n = torch.einsum('i,i->i', n, h)",
        "Write W @ v for a matrix; a learned tensor of three dimensions is one too, in matrix(A @ n, Heads(1)) @ u.",
    ),
    (
        "n = bilinear(n, h)",
        "unknown name 'bilinear'. Write W @ v for a matrix; a learned tensor of three dimensions is",
    ),
    ("n = hard_sigmoid(n)", "unknown name 'hard_sigmoid'. Write minimum(maximum(v / 6 + 0.5, 0), 1)."),
    ("n = conv1d(n)", "unknown name 'conv1d'. Write W.a @ x + W.b @ x1, with old frames as states"),
    (
        "n = (n @ h) * n",
        "n @ h: neither factor is a parameter. Write n * h for the product unit by unit, (n * h).sum() "
        "for the sum of it, or W @ h with a parameter W.",
    ),
    ("n[0] = 1.0", ELEMENT),
    ("del n[0]", ELEMENT),
    ("W.i += h", "W.i is set, but values never change. Give a new variable a new value."),
    ("del n.real", "n.real is deleted, but values never change. Leave the line away."),
    ("for k in range(n): n = n + k", NUMBER),
    ("n = n * math.exp(n)", NUMBER),
    ("n = n * int(n)", NUMBER),
    ("print('%d' % n)", NUMBER),
    ("print(f'{n:.3f}')", "n is formatted by '.3f', but it has no value yet. Print it without."),
    ("n = np.array([n, h])", "numpy's array() is called on n, which only the functions of the cell language can take."),
    ("n = np.asarray(n) + 1", "numpy's array() is called on n"),
    (
        "n = np.where(n > 0, n, h)",
        "numpy's where() is called on n, which only the functions of the cell language can ta",
    ),
    ("n = np.concatenate([n, h])", "numpy's concatenate() is called on"),
    ("n = n / np.sum(n)", "numpy's sum() is called on n"),
    ("n = np.add(n, h)", "numpy's add() is called on"),
    (
        "n = torch.where(n > 0, n, h)",
        "torch's where() is called on n, which only the functions of the cell language can ta",
    ),
    ("n = torch.stack([n, h])", "torch's stack() is called on n"),
    (
        "n = torch.ones(3) * n",
        "a Tensor is combined with n, which takes only numbers and values of the cell. Declare it in the s",
    ),
    (
        "n = np.ones(3) * n",
        "a ndarray is combined with n, which takes only numbers and values of the cell. Declare it in the ",
    ),
    (
        "n = np.ones((3, 3)) @ n",
        "a product of a ndarray with n. Declare it in the signature, A: Fixed(lambda i, j: ...) by its ele",
    ),
    ("n = (n > 0) * n", COMPARED),
    ("n = n + (n > 0)", COMPARED),
    (
        "n = n * ~(n > 0)",
        "the comparison ~(n > 0) is used as a value, but only where() takes one. Write where(~(n > 0)",
    ),
    ("n = n if (n > 0) | (h > 0) else h", f"{BRANCH} the comparison (n > 0) | (h > 0), because its value"),
    (
        "n = where((n > 0) & h, n, h)",
        "n > 0 & h: the right side is no comparison. Write comparisons in parentheses, (n >",
    ),
    (
        "n = where(n > 0 & h < 1, n, h)",
        "the operator & is used on h. They join comparisons, in parentheses: where((a > b)",
    ),
    ("n = where(n != n, 0, n)", "n is compared with itself. A value differs from itself only where it is NaN, which"),
    (
        "n = torch.logical_and(n > 0, h > 0)",
        "called on n, which only the functions of the cell language can take. Write where((a",
    ),
    ("n = np.equal(n, h)", "Write the operators == and != inside where()."),
    ("n = where((n > 0) == (h > 0), n, h)", COMPARED),
    ("n = where((n > 0) > 0, n, h)", COMPARED),
    ("n = n * (n > 0).float()", COMPARED),
    ("n = sigmoid(n > 0)", COMPARED),
    ("n = where(n > 0, n > 0, n)", COMPARED),
    ("n = where(h, 1.0, 2.0)", "where() needs a comparison of values first, not h. Write where(a > b, u, v)"),
    (
        "n = where(True, n, h)",
        "where() needs a comparison of values first, not True. Write where(a > b, u, v), or Python's",
    ),
    (
        "n = sigmoid([n, h])",
        "a list is used where a value of the cell or a number is needed. Write the values one by one",
    ),
    ("n = n * (1, 2)", "a tuple is used where a value of the cell or a number is needed. Write the values one by one"),
    ("n = n * True", "a bool is combined with n, which takes only numbers and values of the cell."),
    (
        "n = n * 1j",
        "which takes only numbers and values of the cell. Write a complex value as two, as in re, im = c * re -",
    ),
    ("n = None * n", "None is combined with n, which takes only numbers and values of the cell."),
    ("n = n * float('nan')", "the number combined with n is nan. Write a finite number, below 1.8e308."),
    (
        "n = minimum(n, math.inf)",
        "the number combined with n is infinite or too large. Write a finite number, below 1.8e3",
    ),
    ("n = 10**400 * n", "the number combined with n is infinite or too large. Write a finite number, below 1.8e3"),
    ("n = n / 0", "n is divided by 0. Divide by a number that is not 0."),
    (
        "n = n % 2",
        "the operator % is used on n. Write mod(n, b).",
    ),
    ("n = 2 // n", "the operator // is used on n. Write floor(a / b)."),
    ("n = n ^ 2", "the operator ^ is used on n. Write n ** n for a power."),
    (
        "n = U @ [x, n]",
        "a product of U with a list. Write W.x @ x + W.h @ h, a matrix for each value, in place of W @ [x",
    ),
    ("n = n @ 0.5", "a product of n with a float. Write 0.5 * n, for a number."),
    ("n = 2 @ n", "a product of a int with n. Write 2 * n, for a number."),
    ("n = W.lin(h)", "W.lin is called like a function. Write W.lin @ h for a matrix, W.lin * h unit by unit."),
    ("n = U.n.fill(n, 1)", "U.n.fill does not exist, because U.n is not a parameter group."),
    (
        "n = U.fill() * n",
        "U.fill is called like a function. Write U.fill * (...) for a multiplication; values have the methods",
    ),
    (
        "n = U.triu() @ n",
        "U.triu is called, but U is an argument, which has no methods. Write M * U, with M: Fixed(lambda i",
    ),
    ("n = n.relu_()", "n.relu_ does not exist, because n is not a parameter group. Write relu(n) for the function"),
    ("n = n.clamp_min_(0)", "n.clamp_min_ is asked for, but n is a value of the equations. Write maximum(n, low)."),
    (
        "n = torch.nn.GRUCell(3, 4)(x, h)",
        "x.dim is asked for, but x is a value of the equations. Leave it away: a cell is one example",
    ),
    (
        "n = n + h.new_zeros(4)",
        "h.new_zeros is called, but h is an argument, which has no methods. Write the number itself",
    ),
    ("for v in W: n = n - v", 'members of a group are getattr(W, name), for name in "ifo".'),
    (
        "from cello import normal; n = n + normal(0, 1)",
        "normal() is called in the equations, which are the same at each call. Noise is given as a part of",
    ),
    (
        "from cello import uniform; n = n + uniform(0, h)",
        "uniform() is called in the equations, which are the same at each call. Noise is given as a part",
    ),
    (
        "from cello import spectral_radius; n = n / spectral_radius(U.n)",
        "spectral_radius() is called in the equations, which are the same at each call. In a",
    ),
    ("n = n ** 0", "n ** 0 is 1. Write the number 1."),
    ("n = (-2) ** n", "-2 ** n is not in the language. Raise a positive number to a power."),
    ("n = pow(n, 2, 5)", "pow(n, ...) takes a third argument. Write mod(v ** n, b)."),
    ("n = n * n.argmax()", "n.argmax is asked for, but n is a value of the equations. Write where(n == n.max(), 1, 0)"),
    ("n = n * n.index", "n.index does not exist, because n is not a parameter group."),
    ("n = W._i * n", "'_i' is not a valid name for a member of W. Start it with a letter: W.i."),
    ("n = getattr(W, 'a.b') * n", "'a.b' is not a valid name for a member of W. Start it with a letter: W.i."),
    ("n = pickle.loads(pickle.dumps(n))", "n is pickled, but it has no value yet. Leave the line away."),
]


INSTEAD = [
    ("torch.softmax(n, -1)", "torch's softmax() is called on n, which only the functions of the cell language can "
     "take. Write softmax(n), which is over all elements."),
    ("torch.nn.functional.softmax(n, dim=-1)", "Write softmax(n), which is over all elements."),
    ("torch.mean(n)", "Write n.mean(), over all elements."),
    ("np.mean(n)", "Write n.mean(), over all elements."),
    ("n.mean(-1)", "mean() is given arguments, but a value has one dimension. Write n.mean(), over all elements."),
    ("h.sum(dim=-1)", "sum() is given arguments, but a value has one dimension. Write h.sum(), over all elements."),
    ("(h.sum() + h.sum(0))", "sum() is given arguments, but a value has one dimension. Write h.sum(), over all"),
    ("max(n)", f"n {LIST}: n.sum(), n.max(), where(a > b, u, v); several states are several"),
    ("sum(n)", f"n {LIST}: n.sum(), n.max(), where(a > b, u, v); several states are several"),
    ("torch.clamp(n, 0, 1)", "Write minimum(maximum(n, low), high)."),
    ("n.clamp(0, 1)", "Write minimum(maximum(n, low), high)."),
    ("np.clip(n, 0, 1)", "Write minimum(maximum(n, low), high)."),
    ("torch.nn.functional.relu6(n)", "torch's relu6() is called on n, which only the functions of the cell language "
     "can take. Write minimum(relu(n), 6)."),
    ("torch.nn.functional.dropout(n, 0.5)", "Leave it away: dropout, recurrent_dropout and zoneout are settings"),
    ("torch.nn.Dropout(0.5)(n)", "Leave it away: dropout, recurrent_dropout and zoneout are settings of the model"),
    ("torch.cat([x, h])", "Write W.x @ x + W.h @ h, a matrix for each value, in place of W @ cat(x, h)."),
    ("np.concatenate([x, h])", "Write W.x @ x + W.h @ h, a matrix for each value, in place of W @ cat(x, h)."),
    ("torch.nn.functional.gelu(n)", "Write 0.5 * n * (1 + erf(n / sqrt(2)))."),
    ("n.gelu()", "Write 0.5 * n * (1 + erf(n / sqrt(2)))."),
    ("h.gelu()", "Write 0.5 * h * (1 + erf(h / sqrt(2)))."),
    ("mean(n)", "unknown name 'mean'. Write v.mean(), the mean of the elements of a vector v."),
    ("gelu(n)", "unknown name 'gelu'. Write 0.5 * v * (1 + erf(v / sqrt(2)))."),
    ("torch.special.expit(n)", "Write sigmoid(n)."),
    ("torch.add(n, h)", "Write the operators +, -, * and /."),
    ("np.tanh(n)", "Use cello's own: tanh."),
    ("sigmoid(n, n)", "a function is called with other arguments than it has: sigmoid() takes 1 positional argument "
     "but 2 were given. Write sigmoid(v)."),
]  # fmt: skip


@pytest.mark.parametrize(("value", "message"), INSTEAD, ids=[value for value, _ in INSTEAD])
def test_functions_of_other_libraries_are_refused_with_what_to_write(
    refusal: Callable[[str], str], value: str, message: str
) -> None:
    assert message in refusal(within(f"n = n + {value}"))


def test_softmax_takes_no_dimension(refusal: Callable[[str], str]) -> None:
    head = "from cello.cells.functions import softmax\n"
    for given in ("-1", "dim=-1"):
        message = refusal(head + within(f"n = softmax(n, {given})"))
        assert message.startswith("a function is called with other arguments than it has: softmax() ")
        assert message.endswith(". Write softmax(v), which is over all elements.")


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_what_a_message_says_to_write_is_in_the_language_and_means_the_same(
    own_cell: Callable[[str], Cell], name: str
) -> None:
    text = EXPRESSIONS[name].format(v="n")
    assert own_cell(
        f"from cello.cells.functions import *\n{within(f'a = b = u = v = w = low = high = h; n = n + ({text})')}"
    )
    theirs = getattr(torch, name, None) or getattr(torch.nn.functional, name, None)
    n = torch.tensor([0.3, 1.7, 2.2, 0.5] if name.startswith(("log", "rsqrt")) else [-2.3, 0.4, 1.7, -0.6])
    given = {"softmin": (0,), "log_softmax": (0,), "logsumexp": (0,), "normalize": (2.0, 0), "rms_norm": ((4,),)}
    if theirs is None or re.search(r"\b(a|b|low|high|u)\b", text):
        return
    more = given.get(name, (torch.tensor(1.0),) if name == "heaviside" else ())
    ours = eval(text, {**FUNCTIONS, "abs": abs, "n": n})
    torch.testing.assert_close(ours * torch.ones(()), theirs(n, *more) * torch.ones(()), rtol=1e-5, atol=1e-5)


ORDERED: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "argmax": lambda v: torch.nn.functional.one_hot(v.argmax(), len(v)),
    "argmin": lambda v: torch.nn.functional.one_hot(v.argmin(), len(v)),
    "prod": torch.prod,
    "cumsum": lambda v: v.cumsum(0),
    "cumprod": lambda v: v.cumprod(0),
    "roll": lambda v: v.roll(1),
    "flip": lambda v: v.flip(0),
    "topk": lambda v: (v > v.sort().values[2]) * v,
}


@pytest.mark.parametrize("name", ORDERED)
def test_what_a_message_says_of_functions_over_units_means_the_same(own_cell: Callable[[str], Cell], name: str) -> None:
    written = re.match(
        r"(?:Write|Count .*?,) (.*?)(?:, which is .*|, for positive elements)?(?:, with (.*?))?(?:;.*)?$",
        METHODS[name].format(v="n"),
    )
    assert written is not None
    value, declared = (part or "" for part in written.groups())
    declared = declared.replace(" and one", ", one")
    last = "n = where(rank < 2, n, 0)" if name == "topk" else "n = n + 0"
    value = value if "=" in value.split("(")[0] else f"n = {value}"
    own = own_cell(f"""from cello import Fixed, Heads, mod, columns, rows
@cell
def own(x, h, W{", " if declared else ""}{declared}):
    n = W @ x
    {value}
    {last}
    return n + 0 * h
""")
    x, W = torch.randn(3, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64)
    W = W * torch.sign(W @ x)[:, None]
    found = scan(own, x[None, None], {"W": W}, backend="plain").outputs[0, 0]
    torch.testing.assert_close(found, ORDERED[name](W @ x).double().expand(5))


@pytest.mark.parametrize(("line", "message"), REFUSED, ids=[line for line, _ in REFUSED])
def test_what_is_no_equation_is_refused(refusal: Callable[[str], str], line: str, message: str) -> None:
    assert message in refusal(within(line))


MEANT = [
    ("h += W @ x", "h[t] = tanh(h[t-1] + W @ x[t])"),
    ("h = W @ x + h**2", "h[t] = tanh(W @ x[t] + h[t-1] * h[t-1])"),
    ("h = W @ x + np.float64(0.5) * h", "h[t] = tanh(W @ x[t] + 0.5 * h[t-1])"),
    ("h = W @ x + h - np.float32(0.5)", "h[t] = tanh(W @ x[t] + h[t-1] - 0.5)"),
    ("h = np.int64(3) / (W @ x) + h", "h[t] = tanh(3 / (W @ x[t]) + h[t-1])"),
    ("h = where(np.float64(0.5) > h, W @ x, 1)", "h[t] = tanh(where(0.5 > h[t-1], W @ x[t], 1))"),
    ("h = where(h <= 0, 1, W @ x)", "h[t] = tanh(where(h[t-1] > 0, W @ x[t], 1))"),
    (
        "h = where((h > 0) & (h < 1), W @ x, 1)",
        "h[t] = tanh(where(h[t-1] > 0, where(1 > h[t-1], W @ x[t], 1), 1))",
    ),
    (
        "h = where((h > 0) | (h < -1), h, W @ x)",
        "h[t] = tanh(where(h[t-1] > 0, h[t-1], where(-1 > h[t-1], h[t-1], W @ x[t])))",
    ),
    ("h = where(~(h > 0), h, W @ x)", "h[t] = tanh(where(h[t-1] > 0, W @ x[t], h[t-1]))"),
    ("h = where(h == 2, 0, 1) + W @ x", "h[t] = tanh(where(h[t-1] > 2, 1, where(2 > h[t-1], 1, 0)) + W @ x[t])"),
    ("h = where(np.float64(2) != h, 0, W @ x)", "h[t] = tanh(where(h[t-1] > 2, 0, where(2 > h[t-1], 0, W @ x[t])))"),
    ("h = sum([W @ x, h])", "h[t] = tanh(0 + W @ x[t] + h[t-1])"),
    ("h = copy.deepcopy(W) @ x + copy.copy(h)", "h[t] = tanh(W @ x[t] + h[t-1])"),
    ("h = W @ x * -0.0 + h * 0.0", "h[t] = tanh((W @ x[t]) * 0 + h[t-1] * 0)"),
    ("h = W @ x + h if h is not None else x", "h[t] = tanh(W @ x[t] + h[t-1])"),
]


@pytest.mark.parametrize(("line", "equation"), MEANT, ids=[line for line, _ in MEANT])
def test_what_is_an_equation_means_what_it_says(own_cell: Callable[[str], Cell], line: str, equation: str) -> None:
    text = equations_text(own_cell(f"@cell\ndef own(x, h, W):\n    {line}\n    return tanh(h)"))
    assert re.sub(r"^h_2  = (.*)\nh\[t\] = tanh\(h_2\)$", r"h[t] = tanh(\1)", text) == equation


def test_members_may_have_the_names_of_pythons_own_things(own_cell: Callable[[str], Cell]) -> None:
    cell = own_cell("""
@cell
def own(x, h, W):
    return W.index @ x + W.tracer @ h + W.error * h + W.copy + W.shape * W.T
""")
    assert list(cell.parameters(3, 4)) == ["W.index", "W.tracer", "W.error", "W.copy", "W.shape", "W.T"]


def test_names_may_have_letters_of_any_alphabet(own_cell: Callable[[str], Cell]) -> None:
    cell = own_cell("""
@cell
def own(ξ, ħ, Wβ, σ):
    return sigmoid(Wβ.é @ ξ + σ.ü * ħ)
""")
    assert equations_text(cell) == "ħ[t] = sigmoid(Wβ.é @ ξ[t] + σ.ü * ħ[t-1])"


@pytest.mark.parametrize(
    "line", ["return kept[0] + W @ x + h", "return tanh(kept[0])", "return where(kept[0] > 0, h, 1)"]
)
def test_a_value_of_another_cell_is_refused(refusal: Callable[[str], str], line: str) -> None:
    message = refusal(f"""
kept = []
@cell
def other(x, h, W):
    kept.append(tanh(h))
    return W @ x + h
@cell
def own(x, h, W):
    {line}  # here
""")
    assert message == (
        "tanh(h) is a value of another call, of cell 'other'. Take every value from the arguments of the function, and "
        "keep none outside it."
    )


def test_a_kept_value_that_is_returned_is_refused(refusal: Callable[[str], str]) -> None:
    message = refusal("""
kept = []
@cell
def other(x, h, W):
    kept.append(tanh(h))
    return W @ x + h
@cell
def own(x, h, W):
    return kept[0]  # here
""")
    assert message.startswith("the new h is a value of another call, of cell 'other'. Take every value from the arg")


def test_powers_and_their_gradients_are_torchs_also_where_a_relu_is_zero(own_cell: Callable[[str], Cell]) -> None:
    own = own_cell("""
from cello import Learned, Members
@cell
def own(x, h, W, n: Learned(1.7), s: Members(a=Scalar(0.5), b=Scalar)):
    u = W @ x
    v = 1 + u * u
    return h + s.a * relu(u) ** n + s.b * relu(u) ** 2.5 + v ** -1.5 + 2 ** u + v ** 0.5 + u ** 5 + v ** -2
""")
    assert [own.parameters(2, 3)[name] for name in ("s.a", "s.b", "n")] == [(), (), (3,)]
    assert "** 2.5 + v ** (-1.5) + " in equations_text(own)
    assert "^{n} + " in render(own, "latex")
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(4, 5, 2, generator=draw, dtype=torch.float64)
    given = {
        name: torch.rand(shape, generator=draw, dtype=torch.float64).add(0.5).requires_grad_()
        for name, shape in own.parameters(2, 3).items()
    }
    u, n = x @ given["W"].T, given["n"]
    v = 1 + u * u
    steps = given["s.a"] * u.relu() ** n + given["s.b"] * u.relu() ** 2.5 + v**-1.5 + 2**u + v**0.5 + u**5 + v**-2
    expected = steps.cumsum(1)
    found = scan(own, x, given, backend="plain").outputs
    torch.testing.assert_close(found, expected)
    for ours, theirs in zip(
        *(torch.autograd.grad(each.sum(), [*given.values()]) for each in (found, expected)), strict=True
    ):
        torch.testing.assert_close(ours, theirs)
