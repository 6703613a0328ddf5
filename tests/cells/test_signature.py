"""What a cell declares in its signature: what hurts is a value other than the declared one, an error that misleads."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable

import msgspec
import numpy as np
import pytest
import torch

from cello.cells.definition import Cell
from cello.cells.load import load_cell, zoo
from cello.cells.stored import StoredCell
from cello.compiler.render import render
from cello.compiler.scan import scan
from cello.errors import CellError, ModelError
from cello.models.classifier import Classifier
from cello.models.config import ModelConfig
from cello.models.layer import Layer

IMPORTS = "from cello import Fixed, Learned, Members, Scalar, inverse, expm, floor, mod, normal, uniform\n"
OWN = """
def own(
    x, h: Learned(0.25), m: Fixed(-math.inf), W, U: Learned(lambda i, j: where(i > j, 0, where(j > i, 0, 0.5))),
    b: Members(f=Learned(lambda H: log(uniform(1, H))), i=Learned(-1.0)), tau: Learned(2, 50, log=True, positive=True),
    k: Learned(lambda i, H: (i + 1) / H, bounds=(None, 2)), s: Scalar(0.75, bounds=(0.5, 1)),
    v: Learned(normal(3, 0.1)),
    A: Fixed(lambda i, j, H: where(i > j, 1, 0) / H), z: Fixed(lambda i: i), J: Fixed(lambda D, H: 1 / (D + H)),
):
    f = sigmoid(W.f @ x + U @ h + b.f + b.i + b.g) * s
    n = maximum(m, A @ f + z * k) + J @ x * v
    return tanh(f / tau + n), n
"""


@pytest.fixture
def own(own_cell: Callable[[str], Cell]) -> Cell:
    return own_cell(f"{IMPORTS}\n@cell{OWN}")


def own_layer(cell: Cell, hidden: int = 6, seed: int = 0) -> tuple[Layer, dict[str, torch.Tensor]]:
    torch.manual_seed(seed)
    layer = Layer(cell, 3, hidden, dtype=torch.float64)
    direction = layer.layers[0][0]  # type: ignore[index]
    return layer, {name: getattr(direction, attribute).detach() for attribute, name in direction.equation_names.items()}


def test_parameters_begin_where_they_are_declared_to_and_others_as_before(own: Cell) -> None:
    _, values = own_layer(own, 600)
    assert (values["h.first"] == 0.25).all()
    torch.testing.assert_close(values["U"], 0.5 * torch.eye(600, dtype=torch.float64))
    assert (values["b.i"] == -1).all()
    assert values["b.g"].abs().max() <= 600**-0.5
    assert 0 <= values["b.f"].min() < 3
    assert 6 < values["b.f"].max() <= math.log(600)
    tau = torch.nn.functional.softplus(values["tau"])
    assert 2 <= tau.min() < 3
    assert 40 < tau.max() <= 50
    assert 8 < tau.median() < 12.5  # √(2 · 50) is the middle of a logarithmic scale
    expected = torch.arange(1, 601, dtype=torch.float64) / 600
    torch.testing.assert_close(2 - torch.nn.functional.softplus(values["k"]), expected)
    torch.testing.assert_close(0.5 + 0.5 * values["s"].sigmoid(), torch.tensor(0.75, dtype=torch.float64))
    assert abs(float(values["v"].mean()) - 3) < 0.02 < float(values["v"].std()) < 0.2


@pytest.mark.usefixtures("compiled_quickly")
def test_fixed_tensors_are_no_parameters_are_not_stored_and_keep_their_precision(own: Cell) -> None:
    layer, values = own_layer(own)
    lower = torch.ones(6, 6, dtype=torch.float64).tril(-1) / 6
    assert torch.equal(values["A"], lower)
    assert torch.equal(values["z"], torch.arange(6.0, dtype=torch.float64))
    assert torch.equal(values["J"], torch.full((6, 3), 1 / 9, dtype=torch.float64))
    assert not {"A", "z", "J"} & {name.rsplit(".")[-1] for name, _ in layer.named_parameters()}
    assert not any(name.endswith((".A", ".z", ".J")) for name in layer.state_dict())
    assert own.parameter_count(3, 6) == sum(weight.numel() for weight in layer.parameters())
    back = layer.float().double().layers[0][0]  # type: ignore[index]
    assert torch.equal(back.A, lower)
    other = Layer(own, 3, 6)
    other.load_state_dict(layer.float().state_dict())
    x = torch.randn(2, 4, 3)
    torch.testing.assert_close(other(x)[0], layer(x)[0])


@pytest.mark.usefixtures("compiled_quickly")
def test_states_begin_at_their_first_values_and_learn_them(own: Cell) -> None:
    layer, _ = own_layer(own)
    x = torch.randn(3, 5, 3, dtype=torch.float64)
    outputs, (h, m) = layer(x, lengths=[5, 0, 2])
    assert torch.equal(h[0, 1], torch.full((6,), 0.25, dtype=torch.float64))
    assert (m[0, 1] == -math.inf).all()
    first = torch.full((1, 3, 6), 0.25, dtype=torch.float64), torch.full((1, 3, 6), -math.inf, dtype=torch.float64)
    torch.testing.assert_close(layer(x, first, lengths=[5, 0, 2])[0], outputs)
    gradient = torch.autograd.grad(outputs.sum(), layer.layers[0][0].h_first)[0]  # type: ignore[index]
    assert gradient.isfinite().all()
    assert (gradient != 0).any()


def test_a_bounded_parameter_stays_inside_whatever_is_learned(own: Cell) -> None:
    layer, _ = own_layer(own)
    x = torch.randn(2, 4, 3, dtype=torch.float64)
    with torch.no_grad():
        layer.layers[0][0].tau.fill_(-700)  # type: ignore[index]
        layer.layers[0][0].s.fill_(-700)  # type: ignore[index]
    assert not layer(x)[0].isnan().any()


def test_a_model_begins_alike_from_one_seed_and_leaves_declared_values_alone(own: Cell) -> None:
    config = ModelConfig(cell="lstm-chrono", hidden=32, forget_bias=5.0, initialisation="orthogonal")
    one, other, third = (Classifier(config, 4, 3, seed=seed).encoder.layers[0][0] for seed in (1, 1, 2))  # type: ignore[index]
    assert torch.equal(one.b_f, other.b_f)
    assert not torch.equal(one.b_f, third.b_f)
    assert 0 <= one.b_f.min() < one.b_f.max() <= math.log(63)
    assert -math.log(63) <= one.b_i.min() < one.b_i.max() <= 0
    assert (one.b_g == 0).all()


def test_a_declaration_is_part_of_the_fingerprint_and_comes_back_from_data(own: Cell) -> None:
    stored = msgspec.json.decode(msgspec.json.encode(StoredCell.of(own)), type=StoredCell)
    back = stored.cell()
    assert back.declared == own.declared
    assert back.fingerprint() == own.fingerprint() == stored.fingerprint() != own.graph.fingerprint()
    assert pickle.loads(pickle.dumps(own)).fingerprint() == own.fingerprint()
    values = own.fixed_values(3, 5)
    assert all(np.array_equal(value, values[name]) for name, value in back.fixed_values(3, 5).items())


@pytest.mark.parametrize(
    "other", ["Learned(2.0)", "Learned(1.0, positive=True)", "Fixed(1.0)", "Learned(0, 1)", "Learned(lambda H: H)"]
)
def test_every_difference_of_a_declaration_changes_the_fingerprint(own_cell: Callable[[str], Cell], other: str) -> None:
    text = IMPORTS + "\n@cell\ndef own(x, h, W, U, b: {}):\n    return tanh(W @ x + U @ h + b)\n"
    found = [own_cell(text.format(one)) for one in ("Learned(1.0)", other)]
    assert found[0].graph == found[1].graph
    assert found[0].fingerprint() != found[1].fingerprint()


def test_cells_that_declare_nothing_keep_their_fingerprints() -> None:
    expected = {
        "lstm": "62aa3f16439d83a4",
        "gru": "e7cf1f013d8d186a",
        "slstm": "f89c186b2e9c2a96",
        "fastgrnn": "1b586e85f4c69409",
    }
    assert {name: zoo()[name].fingerprint() for name in expected} == expected


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ({"name": "q"}, "the declared 'q': it is no fixed value of these equations"),
        ({"kind": "learn"}, "it is no learn value of these equations"),
        ({"shape": ["H"]}, "it is no fixed value"),
        ({"nodes": []}, "it has 0 operations"),
        ({"nodes": [{"op": "exec", "args": [], "shape": []}]}, "node 0 is no operation of a declared value"),
        ({"nodes": [{"op": "size", "args": [], "shape": [], "name": "Q"}]}, "node 0 has a name or a number that"),
        ({"nodes": [{"op": "exp", "args": [0], "shape": []}]}, "node 0 is no operation"),
    ],
    ids=range(7),
)
def test_damaged_declarations_are_refused(own: Cell, field: dict[str, object], message: str) -> None:
    data = msgspec.json.decode(msgspec.json.encode(StoredCell.of(own)))
    data["declared"] = [{**one, **field} if one["name"] == "A" else one for one in data["declared"]]
    with pytest.raises(CellError, match=message):
        msgspec.convert(data, StoredCell).cell()


def test_equations_and_latex_state_what_is_declared(own: Cell) -> None:
    text = render(own, "equations").splitlines()
    for line in (
        "h[0]    := 0.25", "m[0]    = -inf", "b.f     := log(uniform(1, H))", "tau     = softplus(r[tau])",
        "tau     := exp(uniform(log(2), log(50)))", "k       = 2 - softplus(r[k])", "k[i]    := (i + 1) / H",
        "s       = 0.5 + 0.5 * sigmoid(r[s])", "A[i, j] = where(i > j, 1, 0) / H",
    ):  # fmt: skip
        assert line in text, line
    latex = render(own, "latex")
    for line in (
        r"m_{0} &= -\infty",
        r"b_{f} &\leftarrow \log(\mathcal{U}(1, H))",
        r"\operatorname{softplus}(r_{\tau})",
    ):
        assert line in latex, line


FAULTS = [
    (
        "b: Learned(1, 2, 3)",
        "the annotation of b, Learned, got 3 values. Give one first value, or the low and the high end of an interval.",
    ),
    ("b: Learned(1.0, log=True)", "the annotation of b, Learned, got 1 values with log=True. Give one"),
    (
        "b: Learned(1.0, bounds=(2, 1))",
        "the annotation of b, Learned, got bounds=(2, 1). Give a low end below the high.",
    ),
    ("b: Learned(0.0, positive=True)", "the declared value of b is 0, which is not inside its bounds (0, inf)"),
    ("b: Learned(lambda k: k)", "the function in the annotation of b takes k. It may take i and j, the row and column"),
    ("b: Learned(lambda H: np.zeros(H))", "H is used as a Python number, but it has no value yet."),
    ("b: Learned(lambda H: [1] * 7)", "gives a list. It gives one element, from its row i and column j"),
    ("b: Learned(lambda j: j)", "the declared value of b depends on the column j, but it is a vector"),
    ("b: Learned(lambda i: log(i - 1))", "the declared value of b is nan, for D = 5 and H = 7"),
    (
        "b: Fixed(lambda: uniform(0, 1))",
        "the declared value of b is random, but must be the same wherever the cell goes. Give it a seed",
    ),
    (
        "b: Learned(0.0, size=(8, 'H'))",
        "the annotation of b, Size(8, 'H'), is no size. Write Size(\"H\", 8) for a matrix that changes, Size(16) for",
    ),
    ("b: Learned", "b is annotated Learned without a value. Write b: Learned(1.0)"),
    ("b: Members(f=Learned(1.0))", "the annotation of b names b.f, which the equations do not use; they use b"),
    (
        "b: Members(f=1.0)",
        "the annotation of b has f=1.0. Give each member a Learned, a Scalar, a Fixed, a Size or Heads, as",
    ),
    (
        "b: Fixed(lambda i: missing(i))",
        "the function in the annotation of b raised NameError: name 'missing' is not defined",
    ),
    (
        "b: Learned('one')",
        "the annotation of b has 'one' as a value. Give a number, or a function such as lambda i, j, D, H",
    ),
    ("b: Learned(float('nan'))", "the annotation of b has NaN as a value"),
    ("b: Learned(lambda H: H if H > 3 else 1)", "cannot be compiled on"),
    ("b: Learned(lambda i: i == 3)", "gives the comparison i == 3. Write where(i == 3, 1, 0) for a number."),
    (
        "b: Fixed(lambda i: (i > 3) & (i < 5))",
        "gives the comparison (i > 3) & (5 > i). Write where((i > 3) & (5 > i), 1, 0)",
    ),
    ("b: Fixed(np.arange(7.0))", "the annotation of b has a ndarray as a value. Give a number, or a function such as"),
    (
        "b: Fixed([0.5, 1.5])",
        "the annotation of b has a list as a value. Give a number, or a function such as lambda i, j, D, H: 1 / H; of "
        "several numbers lambda i: sum(where(i == k, v, 0) for k, v in enumerate(numbers)).",
    ),
    (
        "b: Learned(lambda i, H=3: i / H)",
        "the function in the annotation of b has a default for H, which is a size. Give the number another name, as in "
        "lambda i, j, k=H: ...",
    ),
    ("b: Learned(lambda i=3: i)", "has a default for i, which is an index. Give the number another name"),
]


@pytest.mark.parametrize("future", ["", "from __future__ import annotations\n"], ids=["now", "future"])
@pytest.mark.parametrize(("argument", "message"), FAULTS, ids=range(len(FAULTS)))
def test_a_wrong_declaration_is_refused_with_its_place_and_what_to_write(
    tmp_path: object, argument: str, message: str, future: str
) -> None:
    file = tmp_path / "mine.py"  # type: ignore[operator]
    file.write_text(
        f"{future}import numpy as np\nfrom cello import cell, log, tanh, uniform\n{IMPORTS}\n@cell\n"
        f"def own(x, h, W, U, {argument}):\n    return tanh(W @ x + U @ h + b)\n"
    )
    with pytest.raises(CellError) as caught:
        load_cell(f"{file}:own")
    assert message in str(caught.value)
    assert "mine.py" in str(caught.value)


@pytest.mark.parametrize(
    ("signature", "message"),
    [
        ("x: Fixed(1.0), h, W, U, b", "x is the frame, but annotated Fixed. Annotate states and parameters"),
        (
            "x, h: Learned(1.0, positive=True), W, U, b",
            "h is a state, and its first value has bounds. Write h: Learned",
        ),
        ("x, h: Members(f=Learned(1.0)), W, U, b", "h is no parameter, but its annotation has the member f"),
        ("x, h, W: Fixed(1.0), U: Fixed(1.0), b: Fixed(0.0)", "every matrix and vector is fixed, so nothing tells the"),
    ],
    ids=range(4),
)
def test_what_cannot_be_declared_is_refused(refusal: Callable[[str], str], signature: str, message: str) -> None:
    text = f"{IMPORTS}\n@cell  # here\ndef own({signature}):\n    return tanh(W @ x + U @ h + b)\n"
    assert refusal(text).startswith(message)


def test_a_function_keeps_the_numbers_that_it_has_as_defaults(own_cell: Callable[[str], Cell]) -> None:
    own = own_cell(f"""{IMPORTS}
UNIT = Members(**{{f"n{{k}}": Fixed(lambda i, k=k: where(i == k, 1, 0)) for k in range(3)}})


@cell
def own(x, h, e: UNIT, W, U):
    return tanh(W @ x + U @ h + e.n0 + 2 * e.n1 + 3 * e.n2)
""")
    found = own.fixed_values(2, 4)
    assert {name: value.tolist() for name, value in found.items()} == {
        f"e.n{k}": np.eye(4)[k].tolist() for k in range(3)
    }


def test_a_table_of_numbers_is_a_function_of_its_indices(own_cell: Callable[[str], Cell]) -> None:
    own = own_cell(f"""{IMPORTS}
NUMBERS = [[0.5, 1.5], [-2.0, 4.0]]


def table(i, j):
    return sum(where((i == k) & (j == l), NUMBERS[k][l], 0) for k in range(2) for l in range(2))


@cell
def own(x, h, A: Fixed(table), g: Fixed(lambda i: sum(where(i == k, v, 0) for k, v in enumerate([3, 5]))), W):
    return tanh(W @ x + A @ h + g)
""")
    found = own.fixed_values(2, 3)
    assert found["A"].tolist() == [[0.5, 1.5, 0.0], [-2.0, 4.0, 0.0], [0.0, 0.0, 0.0]]
    assert found["g"].tolist() == [3.0, 5.0, 0.0]


def test_first_values_that_are_not_finite_for_a_size_are_refused(own_cell: Callable[[str], Cell]) -> None:
    cell = own_cell(
        IMPORTS + "\n@cell\ndef own(x, h, W, U, b: Learned(lambda H: 1 / (H - 4))):\n    return W @ x + U @ h + b"
    )
    Layer(cell, 3, 5)
    with pytest.raises(ModelError, match=r"the first values that the cell declares of b are not finite, .* H = 4"):
        Layer(cell, 3, 4)


def test_zoneout_cannot_keep_an_infinite_state(own: Cell) -> None:
    with pytest.raises(
        ModelError, match=r"zoneout=0.1 cannot keep the state m of cell 'own', which begins at an infin"
    ):
        Layer(own, 3, 4, zoneout=0.1)


def test_a_fixed_tensor_given_to_a_scan_has_to_fit(own: Cell) -> None:
    weights = {name: torch.ones(shape) for name, shape in own.parameters(3, 4).items()}
    fixed = {name: torch.from_numpy(value).float() for name, value in own.fixed_values(3, 4).items()}
    x = torch.randn(2, 3, 3)
    same = [scan(own, x, given, backend="plain").outputs for given in (weights, {**weights, **fixed})]
    torch.testing.assert_close(*same)
    with pytest.raises(ModelError, match=r"the fixed tensor A must be \(4, 4\); give all fixed tensors or none"):
        scan(own, x, {**weights, **fixed, "A": torch.ones(3, 3)})
    with pytest.raises(ModelError, match="the fixed tensor z is not what the cell declares; leave it out"):
        scan(own, x, {**weights, **fixed, "z": fixed["z"] + 1})
    with pytest.raises(ModelError, match="J must be"):
        scan(own, x, {**weights, "A": fixed["A"], "z": fixed["z"]})


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*lru_cache.*:UserWarning")
def test_a_compiled_model_of_declared_values_is_the_model() -> None:
    layer, x = Layer("rwkv", 3, 4), torch.randn(2, 5, 3)
    torch.testing.assert_close(torch.compile(layer, backend="eager")(x)[0], layer(x)[0])
