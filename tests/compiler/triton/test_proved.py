"""What hurts: wrong numbers that nobody is told of, a process that hangs, a trial made twice, runs that change."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from cello.cells.load import zoo
from cello.compiler import backends
from cello.compiler.backends import choose
from cello.compiler.scan import scan
from cello.compiler.triton import proof, proved, verdicts
from cello.compiler.triton import scan as back_end
from cello.compiler.triton.cooperative import Multiprocessor
from cello.compiler.triton.launch import Tiling
from cello.compiler.triton.proof import Asked, Pair, Way
from cello.compiler.triton.proved import Here, Kind, right, taken
from cello.compiler.triton.rounds import Gpu
from cello.compiler.triton.scan import clips_and_tensors
from cello.compiler.triton.spaces import Sizes
from cello.compiler.triton.verdicts import Verdict
from cello.errors import BackendError
from scans import case

pytest.importorskip("triton")
KIND = Kind("NVIDIA H100 80GB HBM3", "580.159", "3.6.0")
GPU = Gpu(90, 227 * 1024, 132, Multiprocessor(2048, 228 * 1024))
HERE = Here(KIND, GPU, clips_and_tensors)
LSTM = zoo()["lstm"]
ASKED = Asked(LSTM, Sizes(LSTM, 5, 256), "bf16", torch.float32, torch.device("cpu"), keep=True)
CLUSTER = Tiling(16, 256, 4, 8, 2, cluster=True)
MEMORY, OTHER = replace(CLUSTER, cluster=False), Tiling(8, 256, 8, 1, 1)
EVERY = CLUSTER, MEMORY, OTHER
WRONG = {
    "forward": Verdict("forward", "gives wrong numbers", "outputs are not finite"),
    "backward": Verdict("backward", "gives wrong numbers", "derivatives of U.i are not finite"),
}
CLUSTERS = (
    "the forward kernel of cell 'lstm' for H=256 in bf16, by clusters of 8 programs for 16 clips, gives wrong numbers "
    "on NVIDIA H100 80GB HBM3 (driver 580.159, Triton 3.6.0): outputs are not finite"
)
Proved = Callable[..., Verdict]


class Trials:
    """Which pairs of tilings were tried, and which pass is wrong in each."""

    def __init__(self) -> None:
        self.tried: list[tuple[Tiling, Tiling | None]] = []
        self.wrong: dict[str, set[Tiling]] = {"forward": set(), "backward": set()}
        self.do: Callable[[proof.Trying], object] = lambda trying: None

    def __call__(self, asked: Asked, pair: Pair, gpu: Gpu, given: proof.Given, trying: proof.Trying) -> Verdict:
        forward, backward = (one.tiling if one else None for one in pair)
        assert forward is not None
        self.tried.append((forward, backward))
        self.do(trying)
        if forward in self.wrong["forward"]:
            return WRONG["forward"]
        return WRONG["backward"] if backward in self.wrong["backward"] else Verdict("right")


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Trials:
    """In place of kernels that run, in a process that knows nothing yet."""
    found = Trials()
    monkeypatch.setenv("CELLO_CACHE", str(tmp_path))
    monkeypatch.setattr(proof, "proved", found)
    monkeypatch.setattr(proved, "ways", lambda *asked: iter([(each, None) for each in EVERY]))
    another_process(monkeypatch)
    return found


def another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proved, "_TAKEN", {})
    monkeypatch.setattr(proved, "_JUDGED", {})


def pair(forward: Tiling, backward: Tiling | None) -> Pair:
    return Pair(Way(forward), Way(backward) if backward else None)


@contextmanager
def warned(*texts: str) -> Iterator[None]:
    """Exactly these warnings."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        yield
    assert [str(each.message) for each in seen] == [*texts]


def test_kernels_are_tried_once_for_all_processes(trials: Trials, monkeypatch: pytest.MonkeyPatch) -> None:
    with warned():
        assert taken(ASKED, HERE) == taken(ASKED, HERE) == pair(CLUSTER, CLUSTER)
        assert trials.tried == [(CLUSTER, CLUSTER)]
        another_process(monkeypatch)
        assert taken(ASKED, HERE) == pair(CLUSTER, CLUSTER)
        assert len(trials.tried) == 1
        no_backward = replace(ASKED, keep=False)  # another kernel, which saves nothing
        assert taken(no_backward, HERE) == pair(CLUSTER, None)
        assert len(trials.tried) == 2


@pytest.mark.parametrize("changed", ["gpu", "driver", "triton"])
def test_another_driver_gpu_or_release_is_proved_anew(
    changed: str, trials: Trials, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials.wrong["forward"] = {CLUSTER}
    with pytest.warns(match="gives wrong numbers"):
        taken(ASKED, HERE)
    trials.wrong["forward"] = set()
    another_process(monkeypatch)
    assert taken(ASKED, HERE._replace(kind=KIND._replace(**{changed: "590"}))) == pair(CLUSTER, CLUSTER)
    assert trials.tried[-1] == (CLUSTER, CLUSTER)


def test_a_wrong_kernel_is_told_and_the_next_way_taken_by_later_processes_too(
    trials: Trials, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials.wrong["forward"] = {CLUSTER}
    instead = (
        "It is computed by groups of 8 programs for 16 clips forward and clusters of 8 programs for 16 clips backward "
        "instead, which may be slower; please report this"
    )
    with warned(f"{CLUSTERS}. {instead}"):
        assert taken(ASKED, HERE) == taken(ASKED, HERE) == pair(MEMORY, CLUSTER)
    assert trials.tried == [(CLUSTER, CLUSTER), (MEMORY, CLUSTER)]
    another_process(monkeypatch)
    with warned(f"{CLUSTERS}. {instead}"):
        assert taken(ASKED, HERE) == pair(MEMORY, CLUSTER)
    assert len(trials.tried) == 2


def test_a_wrong_backward_pass_is_another_one_or_that_of_another_forward_pass(trials: Trials) -> None:
    trials.wrong["backward"] = {CLUSTER, MEMORY}
    with pytest.warns(match="^the backward kernel of .* It is computed by .* forward and programs of 8 clips backward"):
        assert taken(ASKED, HERE) == pair(CLUSTER, OTHER)
    assert trials.tried == [(CLUSTER, each) for each in EVERY]


def test_where_none_is_right_that_is_remembered_too(trials: Trials, monkeypatch: pytest.MonkeyPatch) -> None:
    trials.wrong["forward"] = {*EVERY}
    left = 'No way to divide its work is left, so backend="auto" takes "plain", which is slower; please report this'
    for _ in range(2):
        with warned(f"{CLUSTERS}. {left}"):
            assert taken(ASKED, HERE) == taken(ASKED, HERE) == CLUSTERS
        another_process(monkeypatch)
    assert trials.tried == [(each, CLUSTER) for each in EVERY]


def test_many_clips_are_divided_by_a_kernel_that_is_right_or_as_few_are(trials: Trials) -> None:
    many = pair(OTHER, CLUSTER)
    assert right(ASKED, many, HERE)
    trials.wrong["backward"] = {OTHER}
    text = (
        CLUSTERS.replace("forward", "backward")
        .replace("clusters of 8 programs for 16 clips", "programs of 8 clips")
        .replace("outputs", "derivatives of U.i")
    )
    with warned(f"{text}. Fewer clips a program are taken instead, which may be slower; please report this"):
        assert not right(ASKED, pair(CLUSTER, OTHER), HERE)
        assert not right(ASKED, pair(CLUSTER, OTHER), HERE)
    assert len(trials.tried) == 2


def test_nothing_is_tried_while_a_graph_is_captured(trials: Trials, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as captured:
        captured.setattr(proved, "capturing", lambda asked: True)
        assert taken(ASKED, HERE) == pair(CLUSTER, CLUSTER)
        assert not right(ASKED, pair(OTHER, CLUSTER), HERE)
    assert not trials.tried
    trials.wrong["forward"] = {CLUSTER}
    with pytest.warns(match="gives wrong numbers"):
        assert taken(ASKED, HERE) == pair(MEMORY, CLUSTER)
    monkeypatch.setattr(proved, "capturing", lambda asked: True)
    assert taken(ASKED, HERE) == pair(MEMORY, CLUSTER)  # what is known holds


def test_a_kernel_that_ended_another_process_is_not_tried(trials: Trials, monkeypatch: pytest.MonkeyPatch) -> None:
    key = proved.key_for(ASKED, pair(CLUSTER, CLUSTER), KIND)
    monkeypatch.setattr(verdicts, "ended", lambda asked: "forward" if asked == key else None)
    with pytest.warns() as seen:
        assert taken(ASKED, HERE) == pair(MEMORY, CLUSTER)
    assert str(seen[0].message) == (
        "the forward kernel of cell 'lstm' for H=256 in bf16, by clusters of 8 programs for 16 clips, was being tried "
        "when a process ended on NVIDIA H100 80GB HBM3 (driver 580.159, Triton 3.6.0): remove "
        f"{verdicts.folder()} to have all tried again. It is computed by groups of 8 programs for 16 clips forward and "
        "clusters of 8 programs for 16 clips backward instead, which may be slower; please report this"
    )
    assert trials.tried == [(MEMORY, CLUSTER)]
    remembered = verdicts.remembered(key)
    assert remembered is not None
    assert not remembered.right


def test_a_kernel_that_never_ends_is_an_error_and_not_tried_again(
    trials: Trials, monkeypatch: pytest.MonkeyPatch
) -> None:
    end, marks = threading.Event(), list[str]()

    def hang(trying: proof.Trying) -> None:
        with trying("backward"):
            marks.extend(each.suffix for each in verdicts.folder().iterdir())
            end.wait(60)

    trials.do = hang
    monkeypatch.setattr(proved, "PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(proved, "POLL_SECONDS", 0.02)
    with pytest.raises(BackendError) as told:
        taken(ASKED, HERE)
    assert str(told.value) == (
        "the backward kernel of cell 'lstm' for H=256 in bf16, by clusters of 8 programs for 16 clips, did not end "
        "within 0.1 seconds on NVIDIA H100 80GB HBM3 (driver 580.159, Triton 3.6.0), and this process can use the GPU "
        "no more. Start it again: it then takes another kernel; please report this"
    )
    end.set()
    assert marks == [".backward"]
    trials.do = lambda trying: None
    another_process(monkeypatch)
    with pytest.warns(match="did not end within"):
        assert taken(ASKED, HERE) == pair(CLUSTER, MEMORY)


def failing(error: Exception, *, within: bool = True) -> Callable[[proof.Trying], None]:
    def fail(trying: proof.Trying) -> None:
        with trying("forward") if within else nullcontext():
            raise error

    return fail


FAILED = RuntimeError("CUDA error: unspecified launch failure\nCompile with TORCH_USE_CUDA_DSA")


def test_a_kernel_that_ends_its_launch_is_an_error_and_not_tried_again(
    trials: Trials, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials.do = failing(FAILED)
    monkeypatch.setattr(proved, "_usable", lambda device: False)
    with pytest.raises(BackendError) as told:
        taken(ASKED, HERE)
    assert str(told.value) == (
        "the forward kernel of cell 'lstm' for H=256 in bf16, by clusters of 8 programs for 16 clips, ended its launch "
        "on NVIDIA H100 80GB HBM3 (driver 580.159, Triton 3.6.0): CUDA error: unspecified launch failure, and this "
        "process can use the GPU no more. Start it again: it then takes another kernel; please report this"
    )
    assert [each.suffix for each in verdicts.folder().iterdir()] == [".json"]
    trials.do = lambda trying: None
    another_process(monkeypatch)
    with pytest.warns(match="ended its launch on .*: CUDA error: unspecified launch failure. It is computed by groups"):
        assert taken(ASKED, HERE) == pair(MEMORY, CLUSTER)


def test_kernels_that_are_known_do_not_wait_while_others_are_tried(trials: Trials) -> None:
    """A model in use would stand still for as long as another one is compiled."""
    both, found = pair(CLUSTER, CLUSTER), list[object]()
    assert taken(ASKED, HERE) == both

    def ask() -> None:
        found.extend((taken(ASKED, HERE), right(ASKED, both, HERE)))

    meanwhile = threading.Thread(target=ask, daemon=True)

    def ask_meanwhile(trying: proof.Trying) -> None:
        meanwhile.start()
        meanwhile.join(5)

    trials.do = ask_meanwhile
    taken(replace(ASKED, keep=False), HERE)
    assert found == [both, True]
    meanwhile.join(5)


class Gpus:
    """Stands for several GPUs, of which a new thread is on the first; notes which ones are gone to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.current, self.gone_to, self.mode = threading.local(), list[int](), 0
        fakes: dict[str, Any] = {
            "current_stream": lambda device: device,
            "is_current_stream_capturing": lambda: False,
            "device": self.device,
            "stream": self.stream,
            "get_sync_debug_mode": lambda: self.mode,
            "set_sync_debug_mode": lambda mode: setattr(self, "mode", {"default": 0}.get(mode, mode)),
        }
        for name, fake in fakes.items():
            monkeypatch.setattr(torch.cuda, name, fake)

    @contextmanager
    def device(self, device: torch.device) -> Iterator[None]:
        """As torch's, which goes back to no GPU that the process has not used."""
        before, self.current.index = getattr(self.current, "index", 0), device.index
        yield
        self.current.index = before

    @contextmanager
    def stream(self, of: torch.device) -> Iterator[None]:
        """As torch's, which goes back to whichever GPU the thread was on."""
        before = getattr(self.current, "index", 0)
        self.gone_to.append(of.index)
        yield
        self.gone_to.append(before)


def test_a_trial_on_one_gpu_takes_no_memory_of_another(trials: Trials, monkeypatch: pytest.MonkeyPatch) -> None:
    gpus, second = Gpus(monkeypatch), replace(ASKED, device=torch.device("cuda", 1))
    assert taken(second, HERE) == pair(CLUSTER, CLUSTER)
    assert gpus.gone_to == [1, 1]


def test_a_gpu_is_usable_where_torch_was_told_to_refuse_waiting(
    trials: Trials, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A launch that was refused would end the process, and be remembered as one that ended it."""
    gpus, zeros = Gpus(monkeypatch), torch.zeros

    def waiting(size: int, device: torch.device) -> torch.Tensor:
        if gpus.mode:
            raise RuntimeError("called a synchronizing CUDA operation")
        return zeros(size)

    monkeypatch.setattr(torch, "zeros", waiting)
    gpus.mode = 2
    assert proved._usable(torch.device("cuda", 1))
    assert gpus.mode == 2


def test_a_kernel_that_cannot_be_launched_is_tried_again_by_the_next_process(
    trials: Trials, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = BackendError("the GPU's driver refuses clusters. Set CELLO_CLUSTERS=0")

    def fail_once(trying: proof.Trying) -> None:
        trials.do = lambda trying: None
        failing(refused)(trying)

    for _ in range(2):
        trials.do = fail_once
        with pytest.warns(
            match="cannot be launched on .*: the GPU's driver refuses clusters. Set CELLO_CLUSTERS=0. It is"
        ):
            assert taken(ASKED, HERE) == pair(MEMORY, CLUSTER)
        another_process(monkeypatch)


@pytest.mark.parametrize("within", [True, False])
@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("CUDA error: operation not permitted when stream is capturing"),
    ],
    ids=["memory", "capture"],
)
def test_memory_that_is_full_or_another_threads_graph_says_nothing_of_a_kernel(
    error: Exception, within: bool, trials: Trials
) -> None:
    trials.do = failing(error, within=within)
    with pytest.raises(type(error)):
        taken(ASKED, HERE)
    assert not [*verdicts.folder().glob("*")]
    trials.do = lambda trying: None
    assert taken(ASKED, HERE) == pair(CLUSTER, CLUSTER)


def test_threads_of_a_process_try_a_kernel_once(trials: Trials) -> None:
    begun = threading.Barrier(4)

    def take() -> None:
        begun.wait()
        taken(ASKED, HERE)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(trials.tried) == 1


# what follows runs kernels in Triton's interpreter, as a GPU would

SMALL = Tiling(4, 16, 4, 2)


@pytest.fixture
def as_gpu(monkeypatch: pytest.MonkeyPatch, interpreted: None, tmp_path: Path) -> list[Pair]:
    """Scans of the CPU prove their kernels; those that were proved."""
    seen, proves = list[Pair](), proof.proved

    def told(asked: Asked, one: Pair, *rest: Any) -> Verdict:
        seen.append(one)
        return proves(asked, one, *rest)

    monkeypatch.setenv("CELLO_CACHE", str(tmp_path))
    monkeypatch.setattr(proof, "proved", told)
    monkeypatch.setattr(proved, "ways", lambda *asked: iter([(SMALL, None), (replace(SMALL, rows=8), None)]))
    monkeypatch.setattr(back_end, "tiling_of", lambda inputs: SMALL)
    monkeypatch.setattr(back_end, "_on_gpu", lambda x: True)
    monkeypatch.setattr(back_end, "_gpu", lambda x: GPU)
    monkeypatch.setattr(back_end, "kind_of", lambda device: KIND)
    monkeypatch.setattr(back_end, "by_clips", lambda inputs: None)
    another_process(monkeypatch)
    return seen


@pytest.mark.parametrize("mode", ["none", "no_grad", "inference", "vmap", "default device", "float64", "autocast"])
def test_a_proof_knows_nothing_of_the_callers_modes_and_changes_nothing(mode: str, as_gpu: list[Pair]) -> None:
    x, state, weights = case(zoo()["rnn"], (3, 2, 5, 8))
    before = torch.get_rng_state()

    def call(x: torch.Tensor) -> torch.Tensor:
        return scan(zoo()["rnn"], x, weights, state=state, backend="triton").outputs

    modes: dict[str, Callable[[], Any]] = {
        "no_grad": torch.no_grad,
        "inference": torch.inference_mode,
        "default device": lambda: torch.device("meta"),
        "autocast": lambda: torch.autocast("cpu"),
    }
    torch.set_default_dtype(torch.float64 if mode == "float64" else torch.float32)
    try:
        with modes.get(mode, nullcontext)(), warned():
            found = torch.vmap(call)(x.unsqueeze(0))[0] if mode == "vmap" else call(x)
    finally:
        torch.set_default_dtype(torch.float32)
    assert len(as_gpu) == 1
    assert (as_gpu[0].backward is None) == (mode in ("no_grad", "inference"))
    assert torch.equal(torch.get_rng_state(), before)
    torch.testing.assert_close(found, call(x).detach(), check_dtype=False)


def test_a_kernel_that_is_wrong_here_gives_no_result(as_gpu: list[Pair], monkeypatch: pytest.MonkeyPatch) -> None:
    x, state, weights = case(zoo()["rnn"], (3, 2, 5, 8))
    wrong = proof.run_forward

    def scaled(*given: Any, **how: Any) -> Any:
        outputs, last, saved = wrong(*given, **how)
        return 1.1 * outputs, last, saved

    monkeypatch.setattr(proof, "run_forward", scaled)
    seen = (
        "the forward kernel of cell 'rnn' for H=8 in ieee, by groups of 2 programs for 4 clips, gives wrong numbers on "
        "NVIDIA H100 80GB HBM3 (driver 580.159, Triton 3.6.0): outputs differ from float64 by 0.1 of their root mean "
        "square, where 2e-05 is allowed"
    )
    with pytest.warns(match="No way to divide its work is left"), pytest.raises(BackendError) as told:
        scan(zoo()["rnn"], x, weights, state=state, backend="triton")
    assert str(told.value) == f'backend="triton" gives no right numbers here: {seen}, or use backend="auto"'
    without_c = {name: one for name, one in backends.TABLE.items() if name != "c"}
    monkeypatch.setattr(backends, "TABLE", without_c)
    inputs = back_end.Inputs(zoo()["rnn"], x, weights, state, {}, None, False)
    assert choose("auto", inputs).name == "plain"
    assert len(as_gpu) == 2


def test_a_cell_of_which_no_truth_is_known_is_computed_untried(
    as_gpu: list[Pair], monkeypatch: pytest.MonkeyPatch
) -> None:
    x, state, weights = case(zoo()["rnn"], (3, 2, 5, 8))

    def failing_truth(*given: Any, **how: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(proof, "expected", failing_truth)
    with warned():
        found = scan(zoo()["rnn"], x, weights, state=state, backend="triton").outputs
    plain = scan(zoo()["rnn"], x, weights, state=state, backend="plain").outputs
    torch.testing.assert_close(found, plain)
    assert len(as_gpu) == 1
    assert not [*verdicts.folder().glob("*.json")]
