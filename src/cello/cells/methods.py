"""Know methods and functions of tensors: those that values of a cell have too, and what to write instead of others."""

from __future__ import annotations

REDUCTIONS = {"sum": "total", "mean": "mean", "max": "largest"}
"""The methods that take all elements of a value, and the operations that they are."""

EXPRESSIONS: dict[str, str] = {
    "amax": "{v}.max()",
    **dict.fromkeys(("min", "amin"), "-(-{v}).max()"),
    **dict.fromkeys(("norm", "vector_norm"), "sqrt(({v} * {v}).sum())"),
    **dict.fromkeys(("normalize", "l2norm", "l2_norm", "l2_normalize"), "{v} / sqrt(({v} * {v}).sum())"),
    **dict.fromkeys(("rms_norm", "rmsnorm", "RMSNorm"), "{v} / sqrt(({v} * {v}).mean() + 1e-7)"),
    "logsumexp": "log(exp({v}).sum())",
    "log_softmax": "log(softmax({v}))",
    "softmin": "softmax(-{v})",
    "clamp_min": "maximum({v}, low)",
    "clamp_max": "minimum({v}, high)",
    **dict.fromkeys(("clamp", "clip", "clamp_"), "minimum(maximum({v}, low), high)"),
    "square": "{v} * {v}",
    "rsqrt": "1 / sqrt({v})",
    "reciprocal": "1 / {v}",
    "log1p": "log(1 + {v})",
    "expm1": "exp({v}) - 1",
    "log2": "log({v}) / log(2)",
    "log10": "log({v}) / log(10)",
    "exp2": "exp({v} * log(2))",
    "tan": "sin({v}) / cos({v})",
    "sinh": "(exp({v}) - exp(-{v})) / 2",
    "cosh": "(exp({v}) + exp(-{v})) / 2",
    "ceil": "-floor(-{v})",
    **dict.fromkeys(("trunc", "fix"), "sign({v}) * floor(abs({v}))"),
    "frac": "{v} - sign({v}) * floor(abs({v}))",
    **dict.fromkeys(("fmod", "remainder"), "mod({v}, b)"),
    "heaviside": "where({v} > 0, 1, 0)",
    "arctan": "atan({v})",
    "expit": "sigmoid({v})",
    **dict.fromkeys(("absolute", "fabs"), "abs({v})"),
    "negative": "-{v}",
    "fmin": "minimum({v}, b)",
    "fmax": "maximum({v}, b)",
    "relu6": "minimum(relu({v}), 6)",
    **dict.fromkeys(("hardtanh", "hard_tanh"), "minimum(maximum({v}, -1), 1)"),
    **dict.fromkeys(("hardsigmoid", "hard_sigmoid"), "minimum(maximum({v} / 6 + 0.5, 0), 1)"),
    **dict.fromkeys(("hardswish", "hard_swish", "hard_silu"), "{v} * minimum(maximum({v} / 6 + 0.5, 0), 1)"),
    "leaky_relu": "maximum({v}, 0.01 * {v})",
    "prelu": "where({v} > 0, {v}, a * {v})",
    **dict.fromkeys(("elu", "celu"), "where({v} > 0, {v}, exp(minimum({v}, 0)) - 1)"),
    "selu": "1.0507 * where({v} > 0, {v}, 1.67326 * (exp(minimum({v}, 0)) - 1))",
    "gelu": "0.5 * {v} * (1 + erf({v} / sqrt(2)))",
    **dict.fromkeys(("silu", "swish"), "{v} * sigmoid({v})"),
    "mish": "{v} * tanh(softplus({v}))",
    "softsign": "{v} / (1 + abs({v}))",
    "tanhshrink": "{v} - tanh({v})",
    **dict.fromkeys(("logsigmoid", "log_sigmoid"), "-softplus(-{v})"),
    "glu": "a * sigmoid(b)",
    "lerp": "a + w * (b - a)",
    **dict.fromkeys(("dot", "inner", "vdot"), "(u * v).sum()"),
}
"""What is written in the language where tensors have a function or a method of this name; {v} is the value."""

_UNITS = "the language works unit by unit"
_FIXED = "with C: Fixed"
METHODS: dict[str, str] = {
    **{name: f"Write {expression}" for name, expression in EXPRESSIONS.items()},
    "softmax": "Write softmax({v}), which is over all elements",
    **dict.fromkeys(("var", "std"), "Write d = {v} - {v}.mean(), and (d * d).mean() for the variance"),
    **dict.fromkeys(
        ("layer_norm", "instance_norm", "layernorm", "LayerNorm", "group_norm"),
        "Write d = {v} - {v}.mean(), and d / sqrt((d * d).mean() + 1e-5)",
    ),
    **dict.fromkeys(("detach", "detach_", "data"), "Write stop({v}): the value without its derivative"),
    "argmax": "Write where({v} == {v}.max(), 1, 0), which is 1 at the largest element",
    "argmin": "Write where(-{v} == (-{v}).max(), 1, 0), which is 1 at the smallest element",
    "prod": "Write exp(log({v}).sum()), for positive elements",
    "cumsum": f"Write C @ {{v}}, {_FIXED}(lambda i, j: where(j > i, 0, 1))",
    "cumprod": f"Write exp(C @ log({{v}})), for positive elements, {_FIXED}(lambda i, j: where(j > i, 0, 1))",
    "roll": f"Write C @ {{v}}, {_FIXED}(lambda i, j, H: where(j == mod(i - 1, H), 1, 0))",
    **dict.fromkeys(("flip", "fliplr"), f"Write C @ {{v}}, {_FIXED}(lambda i, j, H: where(j == H - 1 - i, 1, 0))"),
    **dict.fromkeys(
        ("sort", "argsort", "topk", "kthvalue", "median", "quantile"),
        "Count what is larger than each element, rank = where(columns({v}) + Z > rows({v}), 1, 0) @ one, with Z: "
        "Fixed(0.0, size=Heads(1)) and one: Fixed(1.0); the k largest have a rank below k",
    ),
    **dict.fromkeys(("pow", "power", "float_power"), "Write {v} ** n"),
    "matrix_exp": "Write expm(A), of a matrix of parameters",
    "inv": "Write inverse(A), of a matrix of parameters",
    **dict.fromkeys(
        ("outer", "ger", "kron", "tensordot"), "Write outer(v, k), of two vectors, beside a state S: Heads(4)"
    ),
    **dict.fromkeys(
        ("matmul", "mm", "mv", "bmm", "addmm", "linear"),
        "Write W @ v, the product of a parameter and a vector",
    ),
    **dict.fromkeys(
        ("einsum", "bilinear", "Bilinear"),
        "Write W @ v for a matrix; a learned tensor of three dimensions is one too, in matrix(A @ {v}, Heads(1)) @ u",
    ),
    **dict.fromkeys(
        ("cat", "concat", "concatenate", "hstack"),
        "Write W.x @ x + W.h @ h, a matrix for each value, in place of W @ cat(x, h)",
    ),
    **dict.fromkeys(
        ("stack", "vstack"),
        "Compute with each value by itself, in a Python loop; a softmax over several is a = exp(u), b = exp(v), "
        "(a * h + b * h1) / (a + b)",
    ),
    **dict.fromkeys(
        ("dropout", "dropout_", "alpha_dropout", "feature_dropout"),
        "Leave it away: dropout, recurrent_dropout and zoneout are settings of the model, not equations",
    ),
    **dict.fromkeys(
        ("zeros_like", "ones_like", "full_like", "new_zeros", "new_ones", "new_full"),
        "Write the number itself: it meets every unit",
    ),
    **dict.fromkeys(
        ("triu", "tril", "diag", "diagonal", "masked_fill", "fill_diagonal"),
        "Write M * U, with M: Fixed(lambda i, j: where(i >= j, 1, 0)), 1 where elements of U stay; a vector is a "
        "diagonal, d * h",
    ),
    **dict.fromkeys(("logical_and", "bitwise_and"), "Write where((a > b) & (c > d), u, v)"),
    **dict.fromkeys(("logical_or", "bitwise_or"), "Write where((a > b) | (c > d), u, v)"),
    **dict.fromkeys(("logical_not", "bitwise_not"), "Write where(~(a > b), u, v)"),
    **dict.fromkeys(
        ("isnan", "isfinite", "isinf", "nan_to_num"),
        'Leave it away: frames have 0 where a value is missing, and a mask as a part, x: Parts("value", "mask")',
    ),
    **dict.fromkeys(
        ("rand_like", "randn_like", "bernoulli"),
        "Leave it away: equations are the same at each call, without random numbers",
    ),
    **dict.fromkeys(
        (
            *("unsqueeze", "squeeze", "expand", "transpose", "permute", "repeat"),
            *("dim", "ndim", "ndimension", "dtype", "device", "requires_grad"),
            *("broadcast_to", "expand_dims"),
        ),
        f"Leave it away: a cell is one example and one step, and {_UNITS}",
    ),
    **dict.fromkeys(
        ("size", "shape", "numel"),
        "Declare what depends on a size, as in s: Fixed(lambda H: 1 / sqrt(H)); sizes are checked without being asked "
        "for",
    ),
    **dict.fromkeys(
        ("chunk", "split", "tensor_split", "unbind", "hsplit", "narrow", "index_select", "gather", "take", "unpack"),
        "Compute each part by itself, with a matrix of its own: W.a @ x and W.b @ x, in place of parts of W @ x",
    ),
    **dict.fromkeys(
        ("view", "reshape", "rearrange", "unflatten"),
        "Write matrix({v}, Heads(1)) for a matrix of H rows, of a vector of H * H elements; with Heads(4), S @ v and "
        "outer(v, k) take vectors of all heads side by side as they are",
    ),
    **dict.fromkeys(("flatten", "ravel"), "Write flatten({v}) for the elements of a matrix, row by row"),
    **dict.fromkeys(
        ("conv1d", "Conv1d", "causal_conv1d", "conv"),
        "Write W.a @ x + W.b @ x1, with old frames as states: return h, x where x1 is the second state",
    ),
    **dict.fromkeys(
        ("weight_norm", "spectral_norm"),
        "Write g / sqrt((U * U) @ one) * (U @ h), with one: Fixed(1.0), for rows of a norm g",
    ),
    "batch_norm": "Write s * {v} + b: the statistics of a trained one are part of s and b",
    **dict.fromkeys(
        ("zeros", "ones", "full", "eye", "arange", "linspace"),
        "Write the number itself, or declare A: Fixed(lambda i, j: ...) in the signature",
    ),
    **dict.fromkeys(
        ("gumbel_softmax", "hard_gumbel"),
        "Write softmax({v}): equations are the same at each call, without random numbers",
    ),
    **dict.fromkeys(
        ("to", "float", "double", "half", "cuda", "cpu", "clone", "contiguous", "astype", "copy", "numpy", "item"),
        "Leave it away: types and devices are the tensors' that the cell is given",
    ),
}
"""What a message says to write instead of a method or a function of torch or numpy."""

OPERATORS = {
    **dict.fromkeys(("add", "subtract", "sub", "multiply", "mul", "divide", "div", "true_divide"), "+, -, * and /"),
    **dict.fromkeys(("greater", "gt", "less", "lt", "ge", "le", "greater_equal", "less_equal"), "> inside where()"),
    **dict.fromkeys(("eq", "equal", "ne", "not_equal"), "== and != inside where()"),
}
"""Functions that are operators of Python."""

NUMPY_OPERATORS = {
    "add": "__radd__",
    "subtract": "__rsub__",
    "multiply": "__rmul__",
    "divide": "__rtruediv__",
    "power": "__rpow__",
    "matmul": "__rmatmul__",
    "greater": "__lt__",
    "greater_equal": "__le__",
    "less": "__gt__",
    "less_equal": "__ge__",
    "equal": "__eq__",
    "not_equal": "__ne__",
}
"""What a number of numpy's on the left side of an operator calls, and the method that takes it as Python's would."""


def remedy(name: str, value: str, functions: str) -> str | None:
    """What to write instead of the function ``name(value)`` of torch or numpy, if that is known.

    ``functions`` are those of the language, in a list for messages.
    """
    name = name.removeprefix("special_").removeprefix("linalg_")
    if name in functions.split(", "):
        return f"Use cello's own: {name}"
    if name in REDUCTIONS:
        return f"Write {value}.{name}(), over all elements"
    if name in OPERATORS:
        return f"Write the operators {OPERATORS[name]}"
    return METHODS[name].format(v=value) if name in METHODS else None
