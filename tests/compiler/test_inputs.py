"""What hurts: no address handed to C as one, a first state elsewhere taken as zeros, lengths beyond the frames."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch.autograd import forward_ad
from torch.testing._internal.two_tensor import TwoTensor
from torch.utils._python_dispatch import TorchDispatchMode

from cello.cells.load import zoo
from cello.cells.noise import with_noise
from cello.compiler.scan import ScanResult, scan, step
from cello.errors import BackendError, ModelError
from cello.native.build import compiler

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # of torch's own forward mode

GRU = zoo()["gru"]
LENGTHS = torch.tensor([7, 4, 0])
BACKENDS = ["auto", "plain", pytest.param("c", marks=pytest.mark.wants("cc"))]
each_backend = pytest.mark.parametrize("backend", BACKENDS)
needs_c = pytest.mark.wants("cc")


def frames() -> Tensor:
    return torch.randn(3, 7, 5, generator=torch.Generator().manual_seed(1))


def weights() -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=draw) * 0.4 for name, shape in GRU.parameters(5, 8).items()}


def run(x: Tensor | None = None, w: dict[str, Any] | None = None, **more: Any) -> ScanResult:
    return scan(GRU, frames() if x is None else x, weights() if w is None else w, **more)


def same(found: ScanResult, expected: ScanResult) -> None:
    torch.testing.assert_close((found.outputs, found.state), (expected.outputs, expected.state), rtol=1e-5, atol=1e-6)


@each_backend
def test_one_tensor_on_another_device_is_named(backend: str) -> None:
    x, w, state = frames(), weights(), (torch.ones(3, 8),)
    noisy = with_noise(GRU, ("h",))
    for call, name in (
        (
            lambda: run(x, {**w, "U.r": w["U.r"].to("meta")}, backend=backend),
            "U.r is on meta but the frames are on cpu",
        ),
        (lambda: run(x.to("meta"), w, backend=backend), "W.r is on cpu but the frames are on meta"),
        (lambda: run(x, w, state=(state[0].to("meta"),), backend=backend), "the first state h is on meta but"),
        (
            lambda: scan(noisy, x, w, masks={"zoneout_h": torch.ones(1, 1, 1, device="meta")}, backend=backend),
            "mask zoneout_h is on meta but the frames are on cpu; move one of them",
        ),
        (lambda: run(x, w, lengths=LENGTHS.to("meta"), backend=backend), "lengths are on meta, which holds no data"),
        (lambda: step(GRU, x[:, 0], (state[0].to("meta"),), w), "the first state h is on meta but"),
    ):
        with pytest.raises(ModelError, match=name):
            call()


def test_tensors_without_numbers_give_shapes() -> None:
    x, w = frames().to("meta"), {name: value.to("meta") for name, value in weights().items()}
    for lengths in (None, LENGTHS, LENGTHS.to("meta")):
        result = run(x, w, lengths=lengths, reverse=True)
        assert (result.outputs.device.type, result.outputs.shape, result.backend) == ("meta", (3, 7, 8), "plain")
    with pytest.raises(BackendError, match=r'"c" runs float32 and float64 on the CPU, not torch.float32 on meta; conv'):
        run(x, w, backend="c")


@each_backend
@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16, "meta"], ids=str)
def test_torchs_defaults_change_nothing(backend: str, kind: torch.dtype | str) -> None:
    expected = run(lengths=LENGTHS, backend=backend), run(backend=backend)
    setter, before = (torch.set_default_device, "cpu"), torch.float32
    x, w = frames(), weights()
    try:
        setter[0](kind) if isinstance(kind, str) else torch.set_default_dtype(kind)
        found = run(x, w, lengths=LENGTHS, backend=backend), run(x, w, backend=backend)
    finally:
        torch.set_default_device(None)
        torch.set_default_dtype(before)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.outputs, other.outputs)


@each_backend
def test_a_freed_tensor_is_named_and_not_read(backend: str) -> None:
    w, x = weights(), frames()
    w["U.z"].untyped_storage().resize_(0)
    with pytest.raises(ModelError, match=r"the memory of U.z was given back .*; gather it before the call"):
        run(w=w, backend=backend)
    x.untyped_storage().resize_(0)
    with pytest.raises(ModelError, match=r"the memory of the frames was given back"):
        run(x, backend=backend)


@each_backend
def test_what_is_negated_only_when_read_and_zeros_without_memory(backend: str) -> None:
    x, w, state = frames(), weights(), torch.ones(3, 8)
    negated = {name: torch._neg_view(-value) for name, value in w.items()}
    same(
        run(torch._neg_view(-x), negated, state=(torch._neg_view(-state),), lengths=LENGTHS, backend=backend),
        run(x, w, state=(state,), lengths=LENGTHS, backend="plain"),
    )
    same(run(torch.complex(x, -x).conj().imag, w, backend=backend), run(x, w, backend="plain"))
    none = torch._efficientzerotensor((3, 7, 5)), torch._efficientzerotensor((3, 8))
    same(run(none[0], w, state=(none[1],), backend=backend), run(torch.zeros(3, 7, 5), w, backend="plain"))


@each_backend
@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda v: v.to_sparse(), "is stored as torch.sparse_coo; make it dense with .to_dense"),
        (lambda v: v.to_mkldnn(), "is stored as torch._mkldnn; make it dense"),
        (lambda v: v.numpy(), "is a ndarray; make it a tensor"),
    ],
)
def test_other_kinds_of_storage_are_named(backend: str, change: Any, text: str) -> None:
    x, w = frames(), weights()
    with pytest.raises(ModelError, match=f"U.r {text}"):
        run(x, {**w, "U.r": change(w["U.r"])}, backend=backend)
    with pytest.raises(ModelError, match=f"x {text}"):
        run(change(x), w, backend=backend)


def test_frames_that_are_no_numbers_of_one_batch_are_named() -> None:
    nested = torch.nested.nested_tensor([frames()[0], frames()[1, :4]], layout=torch.jagged)
    with pytest.raises(ModelError, match=r"x is a nested tensor; pad it with torch.nested.to_padded_tensor"):
        run(nested)
    with pytest.raises(ModelError, match=r"frames of torch.complex64; convert them with x.abs\(\) or x.real"):
        run(frames().to(torch.complex64))
    with pytest.raises(ModelError, match=r"got as state a Tensor; it needs a tuple of 1 tensors \(h\)"):
        run(state=torch.zeros(3, 8))


@each_backend
@pytest.mark.parametrize(
    "lengths",
    [[7, 4, 0], (7, 4, 0), np.array([7, 4, 0], dtype=np.int32), LENGTHS.to(torch.int8), LENGTHS.to(torch.uint16)],
    ids=["list", "tuple", "numpy", "int8", "uint16"],
)
def test_lengths_of_any_kind(backend: str, lengths: Any) -> None:
    assert torch.equal(run(lengths=lengths, backend=backend).outputs, run(lengths=LENGTHS, backend=backend).outputs)


@each_backend
@pytest.mark.parametrize(
    ("lengths", "text"),
    [
        ([7, -1, 2], "lengths go from -1 to 7, but the frames allow 0 to T=7"),
        (torch.tensor([8, 1, 2], dtype=torch.int32), "lengths go from 1 to 8"),
        ([7, 4], r"lengths must be 3 whole numbers, one for each clip, not torch.int64 of shape \(2,\)"),
        ([7.0, 4.0, 2.0], "must be 3 whole numbers, one for each clip, not torch.float32"),
        ([True, False, True], "not torch.bool"),
        ("abc", "must be 3 whole numbers, one for each clip, not a str of other things"),
        ([[7, 4], [2]], "not a list of other things"),
    ],
)
def test_lengths_that_cannot_be_are_named(backend: str, lengths: Any, text: str) -> None:
    with pytest.raises(ModelError, match=text):
        run(lengths=lengths, backend=backend)


@each_backend
@pytest.mark.parametrize("shape", [(0, 7), (3, 0), (0, 0)], ids=str)
def test_no_clips_and_no_frames(backend: str, shape: tuple[int, int]) -> None:
    result = run(torch.zeros(*shape, 5), lengths=[0] * shape[0], reverse=True, backend=backend)
    assert (result.outputs.shape, result.state[0].shape) == ((*shape, 8), (shape[0], 8))


TRANSFORMS: dict[str, Any] = {
    "vmap": lambda f: torch.vmap(lambda x: f(x[None])[0])(frames()),
    "jacrev": lambda f: torch.func.jacrev(f)(frames()[:, :2]),
    "jacfwd": lambda f: torch.func.jacfwd(f)(frames()[:, :2]),
    "hessian": lambda f: torch.func.hessian(lambda x: f(x).sum())(frames()[:1, :2]),
    "grad": lambda f: torch.func.grad(lambda x: f(x).sum())(frames()),
    "jvp": lambda f: torch.func.jvp(f, (frames(),), (frames(),))[1],
}


def dual(f: Any) -> Tensor:
    with forward_ad.dual_level(), torch.no_grad():
        tangent = forward_ad.unpack_dual(f(forward_ad.make_dual(frames(), frames()))).tangent
        assert tangent is not None
        return tangent


TRANSFORMS["dual"] = dual


@pytest.mark.parametrize("name", TRANSFORMS)
def test_torchs_transforms_go_to_plain_under_auto(name: str) -> None:
    w = weights()
    found, expected = (TRANSFORMS[name](lambda x, b=b: run(x, w, backend=b).outputs) for b in ("auto", "plain"))
    assert torch.equal(found, expected)
    if compiler() is not None:
        with pytest.raises(
            BackendError, match=r'^backend="c" (cannot run inside|has no forward-mode).* or use backend'
        ):
            TRANSFORMS[name](lambda x: run(x, w, backend="c").outputs)


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_vmap_may_go_over_lengths_and_what_lies_behind_them_reaches_nothing(reverse: bool) -> None:
    x = frames()
    x[1, 4:], x[2] = torch.nan, torch.nan

    def loss(w: dict[str, Tensor], one: Tensor, length: Tensor) -> Tensor:
        result = run(one[None], w, lengths=length[None], reverse=reverse)
        return result.outputs.sum() + result.state[0].square().sum()

    each = torch.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(weights(), x, LENGTHS)
    own = {name: value.requires_grad_() for name, value in weights().items()}
    result = run(x, own, lengths=LENGTHS, reverse=reverse)
    total = result.outputs.sum() + result.state[0].square().sum()
    expected = dict(zip(own, torch.autograd.grad(total, list(own.values())), strict=True))
    torch.testing.assert_close({k: v.sum(0) for k, v in each.items()}, expected, rtol=1e-4, atol=1e-5)


def test_a_tensor_that_is_two_goes_to_plain_under_auto() -> None:
    x, w = frames(), weights()
    assert type(run(TwoTensor(x, x.clone()), w, lengths=LENGTHS).outputs) is TwoTensor
    assert type(run(x, {name: TwoTensor(v, v.clone()) for name, v in w.items()}).outputs) is TwoTensor
    if compiler() is not None:
        with pytest.raises(BackendError, match=r'backend="c" cannot read the memory of a TwoTensor, or use'):
            run(TwoTensor(x, x.clone()), w, backend="c")


@needs_c
def test_fake_tensors_give_shapes_and_are_never_read() -> None:
    mode = FakeTensorMode()
    x, w = mode.from_tensor(frames()), {name: mode.from_tensor(value) for name, value in weights().items()}
    assert run(x, w, backend="c").outputs.shape == (3, 7, 8)
    with mode:
        assert run(x, w, lengths=mode.from_tensor(LENGTHS)).state[0].shape == (3, 8)
    with pytest.raises(AssertionError, match="convert all Tensors to FakeTensors"):
        run(frames(), w)


@each_backend
def test_autocast_takes_states_masks_and_half_precise_weights_to_the_precision_of_the_weights(backend: str) -> None:
    cell, x, half = with_noise(GRU, ("h",)), frames(), torch.bfloat16
    masks, state = {"zoneout_h": torch.zeros(1, 1, 8, dtype=half)}, (torch.ones(3, 8, dtype=half),)
    with torch.autocast("cpu", dtype=half):
        found = scan(cell, x.to(half), weights(), state=state, masks=masks, backend=backend)
        mixed = {**weights(), "W.r": torch.ones(8, 2) @ torch.ones(2, 5)}
        assert (mixed["W.r"].dtype, run(x, mixed, backend=backend).outputs.dtype) == (half, torch.float32)
    same(found, run(x.to(half).float(), state=(torch.ones(3, 8),), backend="plain"))


@each_backend
def test_what_is_changed_between_forward_and_backward_changes_no_gradient_silently(backend: str) -> None:
    w = {name: value.requires_grad_() for name, value in weights().items()}
    lengths = LENGTHS.clone()
    expected = torch.autograd.grad(run(w=w, lengths=LENGTHS, backend=backend).outputs.sum(), w["U.r"])[0]
    outputs = run(w=w, lengths=lengths, backend=backend).outputs
    lengths.fill_(1)
    first = torch.autograd.grad(outputs.sum(), w["U.r"], retain_graph=True)[0]
    second = torch.autograd.grad(outputs.sum(), w["U.r"])[0]
    assert torch.equal(first, expected)
    assert torch.equal(second, expected)
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        torch.autograd.grad(outputs.sum(), w["U.r"])
    if backend == "c":
        outputs = run(w=w, backend=backend).outputs
        with torch.no_grad():
            w["U.r"].add_(1)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            outputs.sum().backward()


@needs_c
def test_gradients_of_other_kinds() -> None:
    w = {name: value.requires_grad_() for name, value in weights().items()}
    leaf = w["U.r"]
    expected: dict[str, Tensor] = {}
    for backend in ("plain", "c"):
        result = run(w=w, backend=backend)
        ones, rows = torch.ones_like(result.outputs), torch.tensor([0, 1])
        picked = torch.nn.functional.embedding(rows, result.state[0].clone(), sparse=backend == "c")
        for name, found in (
            ("expanded", torch.autograd.grad(result.outputs.sum(), leaf, retain_graph=True)[0]),
            ("negated", torch.autograd.grad(result.outputs, leaf, torch._neg_view(ones), retain_graph=True)[0]),
            ("none", torch.autograd.grad(result.outputs, leaf, torch._efficientzerotensor(ones.shape), True)[0]),
            ("sparse", torch.autograd.grad(picked.sum(), leaf, retain_graph=True)[0]),
        ):
            torch.testing.assert_close(found, expected.setdefault(name, found), rtol=1e-5, atol=1e-6)
    with pytest.raises(BackendError, match=r"gradients that are a batch of them \(is_grads_batched=True"):
        torch.autograd.grad(result.outputs, leaf, torch.stack([ones, ones]), True, is_grads_batched=True)
    with pytest.raises(BackendError, match=r'gradients that are a TwoTensor; use backend="plain"'):
        torch.autograd.grad((result.outputs * TwoTensor(ones, ones.clone())).sum(), leaf)


class CopiesFromCpu(TorchDispatchMode):
    """Counts tensors that are copied from the CPU to another device."""

    def __init__(self) -> None:
        super().__init__()
        self.found = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = function(*args, **(kwargs or {}))
        copies = str(function) in ("aten._to_copy.default", "aten.to.device")  # the second in inference mode
        self.found += copies and args[0].is_cpu and not found.is_cpu
        return found


@pytest.mark.parametrize("name", ["rwkv", "lmu"])
def test_what_a_cell_declares_is_copied_to_a_device_once(name: str) -> None:
    """A copy from the CPU in a step is one that no CUDA graph can hold, and the CPU waits for each."""
    cell = zoo()[name]
    x = frames().to("meta")
    w = {key: torch.empty(shape, device="meta") for key, shape in cell.parameters(5, 8).items()}

    def copies() -> int:
        with CopiesFromCpu() as counted:
            scan(cell, x, w)
        return counted.found

    with torch.inference_mode():  # what is kept must serve a call that is differentiated, too
        assert copies() > 0
    assert torch.vmap(lambda one: scan(cell, one, w).outputs)(x.unsqueeze(0)).shape == (1, 3, 7, 8)
    assert copies() == 0
    for value in w.values():
        value.requires_grad_()
    assert scan(cell, x, w).outputs.requires_grad
