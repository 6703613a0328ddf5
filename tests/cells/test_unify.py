"""Sizes of values: inferred where the equations tell them, refused with what to write where they contradict."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from cello.cells.definition import Cell
from cello.compiler.scan import scan
from cello.errors import CellError

HEAD = "from cello import Fixed, Heads, Learned, Members, Parts, Size, columns, inverse, outer, rows, softmax; "
HEAD += "from cello import flatten, matrix\n"
HEAD += "@cell\ndef own("
Load = Callable[[str], Cell]
Refusal = Callable[[str], str]

SHAPES = [
    ("x, h: Size('H/2'), c, W, R):\n    c = W @ x + c\n    return R @ c + h, c", "W (H, D), R (H/2, H)"),
    ("x, h, W: Members(down=Size(16)), U):\n    return tanh(W.up @ (W.down @ x) + U @ h)",
     "W.up (H, 16), W.down (16, D), U (H, H)"),
    ("x, h, W, Q):\n    return tanh(W @ (sigmoid(Q @ h) * x)) + h", "W (H, D), Q (D, H)"),
    ("x, h, w: Size(1), U, b: Scalar):\n    g = sigmoid(w @ x + b)\n    return g * h + (1 - g) * softmax(U @ h)",
     "w (1, D), U (H, H), b ()"),
    ("x, h, g: Size(1), W):\n    g = sigmoid(W.g @ x + g)\n    return g * h + W.h @ x, g", "W.g (1, D), W.h (H, D)"),
    ("x, h, m, W, b):\n    m = tanh(W.m @ x + b.m) + m\n    return m.mean() + b.h * h, m",
     "W.m (H, D), b.m (H), b.h (H)"),
    ("x, h, e: Size('D'), W, b):\n    e = b * (x - e)\n    return tanh(W @ e + h), e", "W (H, D), b (D)"),
    ("x, h, W, U: Heads(4), b):\n    return tanh(W @ x + U.a @ h + U.b.T @ h + b)",
     "W (H, D), U.a (H, H/4), U.b (H, H/4), b (H)"),
    ("x, h, S: Heads(2), W, M: Heads(2)):\n    S = M * S + outer(W.v @ x, h)\n    return S @ h + S.T @ h, S",
     "W.v (H, D), M (H, H/2)"),
    ("x: Parts('value', 'mask', gap=1), h, last: Size('x.value'), W, b):\n"
     "    last = last + x.mask * (x.value - last) * b.d\n    return tanh(W.h @ last + W.g @ x.gap) + h, last",
     "W.h (H, (D-1)/2), W.g (H, 1), b.d ((D-1)/2)"),
    ("x, h, last: Size('D'), V, b):\n    return h + matrix(tanh(V @ h + b), Size('H', 'D')) @ (x - last), x",
     "V (H*D, H), b (H*D)"),
    ("x: Parts('value', gap=1), h, V, W):\n    return matrix(V @ h, Size('H', 'x.value')) @ x.value + W @ x.gap",
     "V (H*(D-1), H), W (H, 1)"),
    ("x, h, S: Heads(4), W, U):\n    S = S + matrix(tanh(W @ x), Heads(4))\n    return U @ flatten(S) + h, S",
     "W (H*H/4, D), U (H, H*H/4)"),
    ("x, h, S: Heads(2), R: Heads(2), W):\n    R = R @ S.T\n    return W @ x + S @ h, R.T @ outer(h, h), R",
     "W (H, D)"),
    ("x, h, S: Size('H', 8), A: Heads(1), W):\n    S = A @ S + rows(W @ x)\n    return tanh((S @ S.T) @ h), S",
     "A (H, H), W (H, D)"),
    ("x, h, S: Size('H', 8), B: Size('H', 8), W):\n    return (S @ B.T) @ (W @ x) + h, S + (S @ S.T) @ B",
     "B (H, 8), W (H, D)"),
    ("x, h, S: Size('H', 8), A: Heads(1), W):\n    return S.T.T @ (S.T @ h) + W @ x, A.T.T @ S.T.T + rows(h)",
     "A (H, H), W (H, D)"),
    ("x, h, S: Size('H', 8), A: Heads(2), W):\n    return S @ (W @ x) + h, A.T @ S + rows(h)", "A (H, H/2), W (8, D)"),
    ("x, h, W, U, b):\n    return tanh(matrix(W @ x + b, Size('H', 8)) @ (U @ h))", "W (8*H, D), U (8, H), b (8*H)"),
    ("x, h, S: Size('H', 3), W, U):\n    M = rows(h) * columns(W @ x)\n    return U @ flatten(M) + h, S + M",
     "W (3, D), U (H, 3*H)"),
    ("x, h: Size('H*H/2'), S: Heads(2), W):\n    return flatten(S), S / 2 + matrix(h, Heads(2)) + outer(W @ x, W @ x)",
     "W (H, D)"),
    ("x: Parts('value', gap=2), h, W: Members(a=Size('D-2'))):\n    return tanh(W.b @ (W.a @ x * x.value)) + h",
     "W.b (H, D-2), W.a (D-2, D)"),
    ("x, h, m: Fixed(-1.0, size=1), b: Learned(2.0, size='H/3'), W):\n    m = m + x.max()\n"
     "    return tanh(W.b @ tanh(b * (W.a @ x)) + m) + h, m", "b (H/3), W.b (H, H/3), W.a (H/3, D)"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "shapes"), SHAPES, ids=range(len(SHAPES)))
def test_sizes_are_inferred(own_cell: Load, text: str, shapes: str) -> None:
    own = own_cell(HEAD + text)
    assert ", ".join(f"{node.name} ({', '.join(node.shape)})" for node in own.parameter_nodes()) == shapes
    weights = {name: torch.ones(shape) for name, shape in own.parameters(5, 12).items()}
    assert scan(own, torch.randn(2, 3, 5), weights, backend="plain").outputs.shape == (2, 3, own.output_size(5, 12))


FIRST = "@cell  # here\ndef own("
REFUSED = [
    ("x, h: Size('H/2'), c, W):\n    c = W @ x + c\n    return h + c, c  # here",
     "h has H/2 elements, but c has H. Bring one to the size of the other by a matrix, such as P @ h."),
    ("x, h, c: Size(8), W):\n    c = W @ x + c\n    return h * c, c  # here",
     "h has H elements, but c has 8. Bring one to the size of the other by a matrix, such as P @ h; or write "
     "h: Size(8)."),
    ("x, h, c: Size(8), W):\n    c = W @ x + c\n    return W.a @ h, W.b @ c", None),
    ("x: Parts('value', gap=1), h, W):\n    return W @ x + x.value * h  # here",
     "x.value has D-1 elements, but h has H. Bring one to the size of the other by a matrix, such as P @ x.value; or "
     'write h: Size("x.value").'),
    ("x, h, b: Size(16), W):\n    return W @ x + b * h  # here",
     "b has 16 elements, but h has H; its annotation says so. Write b: Size(\"H\"), or remove it."),
    ("x, h, e: Size('D'), b, W):\n    e = b * x + e\n    return W @ e + b * h, e  # here",
     "parameter b has D elements, but h has H (line 9 uses it). Use two parameters, such as b.a and b.b."),
    ("x, h, W):\n    return h.mean() * W @ x  # here", "(h.mean() * W) @ x: neither factor is a parameter."),
    ("x, h, w: Size(1), b, W):\n    g = sigmoid(w @ x + b)  # here\n    return g * h + W @ x",
     "(w @ x) is one number a step, and nothing tells whether b has 1 or H elements. Write b: Size(1) or "
     'b: Size("H").'),
    ("x, h, W: Members(g=Size(1)), U):\n    g = W.g @ x + U.g @ h  # here\n    return tanh(g) * h + U.h @ h",
     "(W.g @ x) is one number a step, and nothing tells whether (U.g @ h) has 1 or H elements. Write "
     'U: Members(g=Size(1)) or U: Members(g=Size("H")).'),
    ("x, h, W):\n    n = W @ x\n    return n.mean()  # here",
     "the new h has 1 element, but h has H. Bring it to the size of h by a matrix, such as P @ v, or write h: Size(1)"),
    ("x, h, W, U: Heads(2), V: Heads(4)):\n    return W @ x + (U * V) @ h  # here",
     "U is (H, H/2), but V is (H, H/4). Give both the same number of heads."),
    ("x, h, W):\n    return W @ x + outer(h, h) @ h  # here", "nothing tells how many heads rows(h) has. Annotate the"
     " state or the parameter that it meets, as in S: Heads(4); for all pairs of units write columns(v) + Z, with Z: "
     "Fixed(0.0, size=Heads(1))."),
    ("x, h, Z: Fixed(0.0, size=Heads(1)), W, J: Fixed(1.0)):\n    r = where(columns(h) + Z > rows(h), 1, 0) @ J\n"
     "    return W @ x + r * h", None),
    ('x, h, M: Size("H", 6), A: Size(6), W):\n    M = M @ A + outer(W.a @ x, A @ x)  # here\n    return W.b @ h, M',
     "M @ A: A is a matrix, but a state of matrices multiplies vectors. Write the product column by column, "
     "sum(outer(M @ e, A.T @ e) for e in ...), each e a fixed vector that is 1 for one column of M."),
    ('x, h, M: Size("H", 6), A: Fixed(lambda i, j: i * j, size=6), W):\n    M = M @ A + rows(h)  # here\n'
     "    return W.b @ x, M", "M @ A: A is a matrix, but a state of matrices multiplies vectors. Write the product"),
    ("x, h, S: Heads(2), W):\n    S = h * S\n    return W @ x + S @ h, S", None),
    ("x, h, U: Heads(2), W):\n    return W.h @ x + U @ (W.y @ x.max())  # here", None),
    ("x, h, U: Heads(2), W: Members(a=Size(4))):\n    return W.b @ x + U @ (W.a @ x)  # here",
     "(U @ (W.a @ x)): (W.a @ x) has 4 elements, but heads have H. Bring it to H elements by a matrix, such as"),
    ("x, h, S: Heads(2), U: Heads(2), W):\n    return W @ x + S @ h + U.sum() * h, S  # here",
     "U.sum() is taken, but U is a matrix of heads. Write (U @ v).sum(); with v: Fixed(1.0), a vector of ones, it is "
     "the sum of all its elements."),
    ("x, h, S: Heads(2), W):\n    S = S + outer(h, h)\n    return W @ x + (S.sum() + abs(S).mean()) * h, S", None),
    ("x, h, S: Size('H', 8), W):\n    S = S + outer(W.v @ x, W.k @ x)\n    return S @ (W.q @ x) + S.sum(), S", None),
    ("x, h, S: Size('H', 8), W, U):\n    return W @ x + U @ (S.T @ h), S + outer(h, S.T @ h)", None),
    ("x, h, S: Size('H', 8), A: Size('H', 8), W):\n    return W @ x + (A * S) @ (W.q @ x), S + rows(h)", None),
    ("x, h, W: Size('H', 'D'), U: Size('H', 'H')):\n    return tanh(W @ x + U @ h)", None),
    ("x, h, S: Size('H', 8), k: Size(4), W):\n    return W @ x + S @ (k @ x), S  # here",
     "(S @ (k @ x)): (k @ x) has 4 elements, but the matrix has 8 columns. Bring it to 8 elements by a matrix, such"),
    ("x, h, S: Size('H', 8), W):\n    return W @ x + S.T @ h, S  # here",
     "(S.T @ h) has 8 elements, but h has H. "),
    ("x, h, S: Size('H', 8), W):\n    return W @ x + S @ h, S + outer(h, h)  # here",
     "(S @ h): h has H elements, but the matrix has 8 columns."),
    ("x, h, w: Size(1), b: Fixed(lambda i: i), W):\n    g = b * (w @ x)\n    return g * h + W @ x", None),
    ("x, h, m: Size(5), w: Size(1), B: Fixed(lambda i: i), A: Fixed(lambda i, j: i - j), W):\n"
     "    m = A @ m + B * (w @ x)\n    return W @ m + h, m", None),
    ("x, h, w: Size(1), b: Learned(1.0), W):\n    g = b * (w @ x)  # here\n    return g * h + W @ x",
     '(w @ x) is one number a step, and nothing tells whether b has 1 or H elements. Add size=1 or size="H" to what '
     "the annotation says of b."),
    ("x, h, S: Heads(2), W):\n    return W @ x + S.max() * h, S  # here",
     "S.max() is taken, but S is a matrix of heads. Multiply a vector with it first: S @ v."),
    ("x, h, W, P: Size(16)):\n    return tanh(W @ x + P.T @ (P @ h))  # here", None),
    ("x, h, W, U):\n    return tanh(U @ h + W @ (x - W.T @ h))  # here", None),
    ("x, h, W, U):\n    return tanh(W @ x + (U / sqrt((U * U).sum())) @ h)  # here",
     "parameter U is used here as a matrix for the hidden vector, (H, H), but line 9 uses it as a vector, (H,). For "
     "sums over its elements write U @ J, with J: Fixed(1.0): those of each row."),
    ("x, h, W, U, J: Fixed(1.0)):\n    return tanh(W @ x + (U @ h) / sqrt(((U * U) @ J).sum()))", None),
    ("x, h, W, P: Size(16)):\n    return tanh(W @ x + (P - P.T) @ h)  # here",
     "the transpose of P is taken, so it is square, (16, 16), but (P - P.T) @ h needs H columns. Use another parameter "
     "in place of P.T, such as Q @ v."),
    ("x, h, W, U, k):\n    return W @ x + h * (h * k.a).sum() + U @ k.a  # here",
     "U @ k.a: neither depends on the frame or on a state. Multiply a parameter with a vector that changes from step "
     'to step, or write k: Members(a=Size(8)), or with Size("H"), for a vector k.a.'),
    ("x, h, W, U):\n    return inverse(U) @ h + U @ x  # here",
     "the inverse of U is taken, so it is square, (H, H), but U @ x needs D columns. Use a square matrix."),
    ("x, h, S: Heads(2), W):\n    return W @ x + h * S, S  # here",
     "the new h is a matrix of heads, but h is the output, which is a vector. Return a vector first, such as what is "
     "read of the matrices of a state S: Heads(4), S @ q."),
    ("x, h, W):\n    return rows(W @ x + h)  # here", "the new h is a matrix of heads, but h is the output"),
    ("x, h, W):\n    return tanh(matrix(W @ x) @ h)  # here",
     'matrix((W @ x), None): the shape is missing. Write matrix((W @ x), Size("H", "D")) for H rows of D elements, or '
     "matrix((W @ x), Heads(4)) for 4 square matrices."),
    ("x, h, W):\n    return tanh(matrix(W @ x, Size(8)) @ h)  # here",
     "matrix((W @ x), Size(8)): Size(8) is no shape of a matrix with a row for each unit. Write matrix((W @ x), Size("),
    ("x, h, W):\n    return W @ x + matrix(W @ x, Size('D', 'H')) @ h  # here",
     "matrix((W @ x), Size('D', 'H')): Size('D', 'H') is no shape of a matrix with a row for each unit."),
    ("x, h, W):\n    return W @ x + matrix(W @ x, Size('H', 'x.gap')) @ h  # here",
     "matrix((W @ x), Size('H', 'x.gap')): Size('H', 'x.gap') is no shape of a matrix with a row for each unit."),
    ("x, h, W):\n    return W @ x + matrix(2.0, Heads(1)) @ h  # here",
     "matrix() is called on 2.0, which is no value of the equations. Write matrix(v, Heads(1)) of a vector."),
    ("x, h, W):\n    return W @ x + matrix(h, Heads(1)) @ h  # here",
     "matrix(h): h has H elements, but a matrix (H, H) has H*H. Bring it to H*H elements by a matrix, such as P @ h."),
    ("x, h, U, W):\n    M = matrix(U @ h, Size('H', 'D'))\n    return W @ x + M @ h  # here",
     "(M @ h): h has H elements, but the matrix has D columns. Bring it to D elements by a matrix, such as P @ h."),
    ("x, h, W):\n    f = W @ x\n    return f + matrix(f, Heads(1)) @ h  # here",
     "f has H*H elements, but (matrix(f) @ h) has H. Bring one to the size of the other by a matrix, such as P @ f."),
    ("x, h, W, U):\n    return U @ h + (matrix(W @ x, Heads(1)) * h) @ h  # here",
     "h is a vector, beside the matrix of heads matrix((W @ x)). Write rows(h) for one element a row, columns(h) for "
     "one a column."),
    ("x, h, W):\n    return matrix(W @ x, Heads(1))  # here", "the new h is a matrix of heads, but h is the output"),
    ("x, h, U, W):\n    return U @ matrix(W @ x, Heads(1)) + h  # here",
     "U @ matrix((W @ x)): matrix((W @ x)) is a matrix of heads. Annotate what multiplies it, as in U: Heads(1)."),
    ("x, h, S: Heads(2), W):\n    M = matrix(W @ x, Heads(4))\n    return h, S + M  # here",
     "S is (H, H/2), but M is (H, H/4). Give both the same number of heads."),
    ("x, h, A, W):\n    return W @ x + matrix(A, Heads(1)) @ h  # here",
     "matrix(A): A is the same at every step. Annotate the parameter with the shape of the matrix itself, as in A: "
     "Heads(1)."),
    ("x, h, S: Heads(2), W):\n    return W @ x + h, matrix(S, Heads(2))  # here",
     "matrix(S) is taken, but S is a matrix of heads. Write S itself, or flatten(S) first."),
    ("x, h, W):\n    return W @ x + flatten(h)  # here", "flatten(h): h is a vector. Write h itself."),
    ("x, h, W, A: Heads(2)):\n    return W @ x + A @ h + W @ flatten(A)  # here",
     "flatten(A): A is the same at every step. Flatten a matrix that changes, as a state S."),
    ("x, h, S: Heads(2), W):\n    return W @ x + flatten(S) + h, S  # here",
     "((W @ x) + flatten(S)) has H*H/2 elements, but h has H. Bring one to the size of the other by a matrix"),
    ("x, h, S: Heads(2), R: Heads(4), W):\n    return W @ x + h, R @ S, R  # here",
     "R @ S: R is (H, H/4), but S is (H, H/2). Give both the same number of heads."),
    ("x, h, S: Size('H', 8), W):\n    return W @ x + (S.T @ S) @ h, S + rows(h)  # here",
     "S.T @ S: S.T is (8, H), but S is (H, 8). Multiply a square matrix, of Heads, with one of H rows, or write A @ "
     "B.T of two of one shape."),
    ("x, h, S: Size('H', 8), W):\n    M = outer(h, W @ x)\n    return h, S + S.T @ M  # here",
     "S.T @ M: S.T is (8, H), but M is (H, 8). Multiply a square matrix, of Heads, with one of H rows"),
    ("x, h, S: Heads(2), R: Heads(2), W):\n    return W @ x + (S.T @ R.T) @ h, S + rows(h), 2 * R  # here",
     "S.T @ R.T: both are transposes. Write N = R @ S, then N.T @ v."),
    ("x, h, S: Heads(2), A, W):\n    return W @ x + h, A @ S  # here",
     "A @ S: S is a matrix of heads. Annotate what multiplies it, as in A: Heads(1)."),
    ("x, h, W, U):\n    R = matrix(W.r @ x, Heads(1))\n    return W.h @ x + R @ U @ h  # here",
     "(R @ U) @ h: (R @ U) is a vector. Write R @ (U @ h)."),
    ("x, h, S: Heads(2), A: Heads(2), B: Heads(2), W):\n    return W @ x + (A @ B) @ h, S + rows(h)  # here",
     "A @ B: B is a matrix of heads. For a product of matrices write A @ (B @ v)."),
    ("x, h, S: Heads(2), W):\n    return W @ x + h, S + S.T  # here",
     "S.T multiplies nothing here, and such a transpose only multiplies. Write S.T @ v."),
    ("x, h, S: Heads(2), W):\n    return W @ x + h, S.T  # here", "S.T multiplies nothing here"),
    ("x, h, S: Heads(2), A: Heads(2), W):\n    return W @ x + h, A.T * S  # here", "A.T multiplies nothing here"),
    ("x, h, W):\n    return outer(W @ x, h)  # here", "the new h is a matrix of heads, but h is the output"),
    ("x, h, S, W):\n    return W @ x + h + S, outer(h, S)  # here",
     "the new S is a matrix of heads, but S is a vector. Write S: Heads(4)."),
    ("x, h, S: Heads(4), W):\n    S = S + (W.v @ x) @ (W.k @ x).T  # here\n    return S @ h, S",
     "the transpose of (W.k @ x) is taken, but (W.k @ x) changes from step to step: it is a vector. Write outer((W.v @ "
     "x), (W.k @ x)) for the matrices of heads."),
    ("x, h, W):\n    v, k = W.v @ x, W.k @ h\n    return v @ k.T + h  # here",
     "the transpose of k is taken, but k changes from step to step: it is a vector. Write outer(v, k) for the matrices "
     "of heads, beside a state S: Heads(4)."),
    ("x, h, W):\n    v, k = W.v @ x, W.k @ h\n    return (v.T @ k) * h  # here",
     "the transpose of v is taken, but v changes from step to step: it is a vector. Write (v * k).sum() for the "
     "product of two vectors."),
    ("x, h, S: Heads(4), W):\n    q = W.q @ x\n    h = q @ S  # here\n    return h, S + outer(q, q)",
     "q @ S: the vector is to the left of the matrices of heads. Write S.T @ q."),
    ("x, h, S: Heads(2), W):\n    return W @ x + (S @ h), W @ x  # here",
     "the new S is a vector, but S is a matrix of heads. Return outer(v, k) or S itself, or remove Heads."),
    ("x, h, U: Heads(2), W):\n    return W @ x + inverse(U) @ h  # here", None),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), [each for each in REFUSED if each[1]])
def test_sizes_that_contradict_are_refused_on_their_line(refusal: Refusal, text: str, message: str) -> None:
    assert refusal(HEAD + text).startswith(message)


SIGNATURES = [
    ("x, h: Size('2H'), W)", "the annotation of h, Size('2H'), is no size. Write a number of elements, or D, H, a "
     'share or a multiple of them, as in Size(16), Size("H/2") or Size("2*H").'),
    ("x, h: Size(0), W)", "the annotation of h, Size(0), is no size. Write a number"),
    ("x, h: Size('x.value'), W)", "the annotation of h, Size('x.value'), is no size."),
    ("x, h, W: Size)", "W is annotated Size without a value. Write W: Size(16)."),
    ("x, h, W: Heads(0))", "the annotation of W, Heads(0), is no number of heads. Write a whole number from 1"),
    ("x, h: Heads(2), W)", "h is annotated Heads, but it is the output, which is a vector. Return a vector first"),
    ("x: Size(16), h, W)", "x is the frame, but annotated Size(16). The frame has D elements; name its parts with"),
    ("x, h: Parts('a'), W)", "h is annotated Parts, but it is not the frame. Annotate the first argument with its p"),
    ("x: Parts(gap=1), h, W)", "the annotation of x, Parts, names no part that takes the rest of the frame. Write Pa"),
    ("x: Parts('a', gap=0), h, W)", "the annotation of x, Parts, gives gap the size 0. Write its number of elements"),
    ("x: Parts('a', 'a'), h, W)", "the annotation of x, Parts, has the part a twice. Give each part a name of its"),
    ("x, h, W, z: Scalar(1.0, size=3))", "z is annotated Scalar, with a size. Write z: Scalar, or a Size(3)."),
    ("x, h, W: Members(z=Size(3)))", "the annotation of W names W.z, which the equations do not use; they use none."),
    ("x, h: Members(z=Size(3)), W)", "h is a state, but its annotation has the member z. Write h: Size(\"H/2\") or"),
    ("x, h, W: Members(z=3))", "the annotation of W has z=3. Give each member a Learned, a Scalar, a Fixed, a Size"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "message"), SIGNATURES, ids=range(len(SIGNATURES)))
def test_annotations_that_cannot_be_are_refused(refusal: Refusal, arguments: str, message: str) -> None:
    head = HEAD.replace("@cell", "@cell  # here")
    assert refusal(f"{head}{arguments.removesuffix(')')}):\n    return tanh(W @ x + h)").startswith(message)


def test_a_cell_without_a_parameter_of_h_elements_is_refused(refusal: Refusal) -> None:
    head = HEAD.replace("@cell", "@cell  # here")
    assert refusal(f"{head}x, h):\n    return tanh(h + x.mean())") == (
        "no parameter has H elements, so nothing tells the number of units. Use a parameter of H rows, such as U @ h; "
        "or make the output of H elements of smaller states, as in h = O.a @ a + O.b @ b."
    )


@pytest.mark.parametrize(
    ("part", "remedy"),
    [("value", 'Parts("value")'), ("gap", 'Parts("value", gap=1)'), ("mask", 'Parts("value", "mask")')],
)
def test_parts_that_are_not_annotated_are_named(
    refusal: Refusal, own_cell: Callable[[str], Cell], part: str, remedy: str
) -> None:
    body = f"h, W):\n    return W.x @ x + W.p @ x.{part} + h"
    assert refusal(f"{HEAD}x, {body}  # here") == (
        f"x.{part} does not exist, because x, the frame, has no parts. Name all of them in the order in which the "
        f"frame holds them, such as x: {remedy}."
    )
    assert own_cell(f"{HEAD}x: {remedy}, {body}").parts


def test_a_part_that_is_not_there_is_named(refusal: Refusal) -> None:
    assert refusal(HEAD + "x: Parts('a', 'b'), h, W):\n    return W @ x.value + h  # here") == (
        "x has no part value; it has x.a, x.b. Name it in the annotation Parts(...)."
    )


def test_a_part_that_nothing_uses_is_refused(refusal: Refusal, own_cell: Callable[[str], Cell]) -> None:
    head, body = HEAD.replace("@cell", "@cell  # here"), "h, W):\n    return tanh(W @ x.value + h)"
    assert refusal(f"{head}x: Parts('value', 'mask', gap=1), {body}") == (
        "the part x.mask does not reach a returned value. Use x.mask in the equations, or call it _mask if frames have "
        "it and the cell ignores it."
    )
    assert own_cell(f"{HEAD}x: Parts('value', '_mask', _gap=1), {body}").part("x.value", 9) == (0, 4)
    assert own_cell(f"{HEAD}x: Parts('value', 'mask'), {body} + W.f @ x".replace("W @", "W.v @")).parts


LEGAL = """from cello import Heads, Members, Parts, Size, columns, expm, inverse, outer, rows, softmax
from cello import flatten, matrix
@cell
def own(x: Parts("a", "b", gap=1), h, m: Size("H/2"), k: Size(5), S: Heads(2), W, V: Size(5), R, U: Heads(2)):
    g = W.g @ x.a + U.g @ h
    k = tanh(V @ x + k)
    S = rows(sigmoid(g)) * S + outer(g, h)
    m = R @ tanh(S @ g) + m
    {}
    return tanh(g + W.k @ k + W.m @ m), m, k, S
"""
ILLEGAL = (
    "g = g + m", "g = m * k", "k = k + x", "k = k - x.a", "g = g * x", "m = m * x.b", "g = outer(g, m) @ h",
    "g = matrix(g, Heads(2)) @ h", "g = flatten(S)", "S = S.T", "S = S + S.T", "g = matrix(V.g @ g, Heads(1)) @ h",
    "S = S + g", "S = S * m", "S = where(S > g, S, 0)", "g = S.max() * g", "g = softmax(S)", "g = rows(k) @ h",
    "S = rows(S)", "g = expm(U.z) @ h", "g = inverse(S) @ h", "g = (S @ k) * g", "g = (U.z @ m) * g", "m = U.z @ g",
    "g = S.T * g", "g = g.T @ g", "g = (S.T @ S.T) @ g", "g = x.c * g", "g = x.gap.gap * g", "k = W.k @ g",
    "S = W.z @ S", "g = g.mean(0) * g", "g = g.sum", "g = rows(2.0) @ g", "g = g + V", "m = g.mean()",
    "S = W.z @ g", "g = S + g.sum()", "m = m + W.z @ k + W.z @ m", "k = k * U.z", "m = maximum(m, S)", "g = len(S) * g",
)  # fmt: skip
"""Each breaks a rule of sizes and is refused, on its own line or on one that it contradicts."""


@pytest.mark.parametrize("line", ILLEGAL)
def test_an_illegal_line_among_several_sizes_is_refused_with_cell_line_and_remedy(own_cell: Load, line: str) -> None:
    own_cell(LEGAL.format("g = g + 1"))
    with pytest.raises(CellError) as caught:
        own_cell(LEGAL.format(line))
    place, _, message = str(caught.value).partition("): ")
    assert place.startswith("cell 'own' (mine.py, line ")
    assert message.endswith(".")
    assert message.count(". ") >= 1, f"no remedy: {message}"
