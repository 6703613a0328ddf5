"""What hurts: a delicate model whose right export is called wrong, or whose wrong export passes for rounding."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

import made_packages
from cello import Learned, Members, Size, cell, exp, log, outer, rows, softplus
from cello.audio.corpus import Manifest
from cello.cli.main import main
from cello.deploy.package import read_manifest
from cello.errors import DeployError
from cello.export.reference import packed, unpacked
from cello.export.self_test import LARGEST_SHARE, TIMES_ROUNDING, TOLERANCE, Check, check_folder, tolerance_of

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")


@cell
def mamba(
    x, y, S: Size("H", 8), W, A: Learned(lambda j: log(j + 1), size=("H", 8)), P: Members(B=Size(8), C=Size(8)), d, b
):  # type: ignore[no-untyped-def]
    """Mamba's selective state space, without convolution and gate."""
    u = W.u @ x
    t = softplus(W.t @ x + b)
    S = exp(-rows(t) * exp(A)) * S + outer(t * u, P.B @ x)
    return S @ (P.C @ x) + d * u, S


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tone_manifest: Manifest) -> Path:
    return made_packages.make_package(tmp_path_factory.mktemp("delicate"), tone_manifest, cell=mamba)


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return shutil.copytree(made, tmp_path / "model")


def put(folder: Path, name: str, content: bytes) -> None:
    """Another content of a file, with its checksum."""
    (folder / name).write_bytes(content)
    files = {one: {"bytes": f.bytes, "sha256": f.sha256} for one, f in read_manifest(folder).files.items()}
    facts = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    made_packages.rewrite(folder, files=files | {name: facts})


def failed(folder: Path) -> set[tuple[str, str]]:
    return {(one.form, one.what) for one in check_folder(folder) if one.passed is False}


def test_forms_that_differ_by_rounding_alone_pass_where_no_bound_keeps_the_state(made: Path) -> None:
    found = [one for one in check_folder(made) if one.largest is not None]
    assert all(one.passed for one in found)
    others = [one for one in found if one.form != "numpy"]
    assert max(one.largest or 0 for one in others) > TOLERANCE, "no delicate model"
    vectors = unpacked((made / "reference.npz").read_bytes())
    for name in ("tones_scores", "chirp_stream"):
        assert TOLERANCE < tolerance_of(vectors, name) <= LARGEST_SHARE * np.abs(vectors[name]).max()


def test_one_weight_that_is_one_percent_off_is_found(folder: Path) -> None:
    weights = safetensors.numpy.load((folder / "model.safetensors").read_bytes())
    name = next(name for name in weights if name.endswith("head.weight"))
    weights[name] = weights[name].copy()
    weights[name].flat[np.abs(weights[name]).argmax()] *= np.float32(1.01)
    put(folder, "model.safetensors", safetensors.numpy.save(weights))
    assert {("numpy", "clips"), ("numpy", "streams")} <= failed(folder)


def test_a_step_left_out_is_found(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cello.trained.numpy_model import NumpyModel

    def without_one(model: NumpyModel, frames: np.ndarray) -> np.ndarray:
        return np.concatenate([frames[:10], frames[11:]])

    whole = NumpyModel.stacked
    monkeypatch.setattr(NumpyModel, "stacked", lambda model, frames: whole(model, without_one(model, frames)))
    assert ("numpy", "clips") in failed(made)


def test_a_folder_that_does_not_say_its_rounding_is_held_to_the_fixed_tolerance(folder: Path) -> None:
    vectors = unpacked((folder / "reference.npz").read_bytes())
    put(folder, "reference.npz", packed({k: v for k, v in vectors.items() if not k.endswith("_rounding")}))
    found = check_folder(folder)
    assert {one.tolerance for one in found} == {TOLERANCE}
    assert any(one.passed is False for one in found)


@pytest.mark.parametrize(
    ("rounding", "allowed"),
    [(1e-5, TOLERANCE), (1e-3, 1e-3 * TIMES_ROUNDING), (1.0, 10 * LARGEST_SHARE), (np.inf, 10 * LARGEST_SHARE)],
)
def test_the_tolerance_grows_with_rounding_but_never_with_a_wrong_form(rounding: float, allowed: float) -> None:
    vectors = {"a_scores": np.array([10.0, -3.0], np.float32), "a_scores_rounding": np.asarray(rounding)}
    assert tolerance_of(vectors, "a_scores") == pytest.approx(allowed)


def test_a_rounding_that_is_no_number_is_refused() -> None:
    for wrong in (np.asarray(np.nan), np.asarray(-1.0), np.zeros(2), np.asarray("x")):
        with pytest.raises(
            DeployError, match=r"a_scores_rounding in reference\.npz is no number of at least 0; export"
        ):
            tolerance_of({"a_scores": np.ones(2, np.float32), "a_scores_rounding": wrong}, "a_scores")


def test_the_table_says_which_tolerance_was_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checks = [Check("onnx", "clips", 2e-4, tolerance=6e-4), Check("c99", "streams", 2e-5)]
    monkeypatch.setattr("cello.export.self_test.check_folder", lambda folder: checks)
    assert main(["export", str(tmp_path), "--check"]) == 0
    said = capsys.readouterr().out
    assert "0.0002 (0.0006 allowed)" in said
    assert "2e-05 " in said
    assert said.count("(") == 1
