"""What hurts: a self-test that passes a form which computes something else, or says nothing of what it did not run."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

import made_packages
from cello.deploy.package import read_manifest
from cello.errors import DeployError
from cello.export import self_test
from cello.export.self_test import Check, check_folder

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")


@pytest.fixture
def folder(exported: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return shutil.copytree(exported, tmp_path / "model")


def replace_in(folder: Path, name: str, old: bytes, new: bytes) -> None:
    """Change a file and its checksum, as a fault in the writer would."""
    content = (folder / name).read_bytes()
    assert old in content
    content = content.replace(old, new, 1)
    (folder / name).write_bytes(content)
    files = {one: {"bytes": f.bytes, "sha256": f.sha256} for one, f in read_manifest(folder).files.items()}
    facts = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    made_packages.rewrite(folder, files=files | {name: facts})


def by_form(found: list[Check]) -> dict[tuple[str, str], bool | None]:
    return {(one.form, one.what): one.passed for one in found}


def test_every_form_gives_the_reference_scores(exported: Path) -> None:
    found = by_form(check_folder(exported))
    assert found[("numpy", "clips")] is True
    assert found[("numpy", "streams")] is True
    assert found[("onnx", "clips")] is True
    assert found[("onnx", "streams")] is True
    assert False not in found.values()
    assert {form for form, _ in found} == {"numpy", "onnx", "c99", "page"}


@pytest.mark.wants("cc")
def test_c_that_computes_something_else_is_found(folder: Path) -> None:
    replace_in(folder, "gru.c", b"head_bias, sizeof s->scores", b"head_bias, sizeof s->scores - 24")
    assert by_form(check_folder(folder))[("c99", "streams")] is False


@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node: node is not installed here")
def test_a_page_that_computes_something_else_is_found(folder: Path) -> None:
    replace_in(folder, "index.html", b'"log_floor":1e-06', b'"log_floor":1e-05')
    found = by_form(check_folder(folder))
    assert found[("page", "clips")] is False
    assert found[("page", "streams")] is False


@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node: node is not installed here")
def test_a_page_that_does_not_run_is_a_row_that_says_so(folder: Path) -> None:
    replace_in(folder, "index.html", b"class Model {", b"class Other {")
    row = next(one for one in check_folder(folder) if one.form == "page")
    assert row.passed is False
    assert "node failed" in row.note


def test_what_is_not_installed_is_said(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr("cello.deploy.onnx_models.onnxruntime", None)
    notes = {one.form: one.note for one in check_folder(exported) if one.passed is None}
    assert notes == {
        "onnx": "onnxruntime is not installed",
        "c99": "no C compiler is installed",
        "page": "node is not installed; the page itself needs none",
    }


def test_a_lost_and_a_changed_file_are_named(folder: Path) -> None:
    whole = (folder / "gru.c").read_bytes()
    (folder / "gru.c").write_bytes(whole + b"\n")
    with pytest.raises(DeployError, match=r"gru\.c is damaged: .*; export the model again, or copy the folder anew"):
        check_folder(folder)
    (folder / "gru.c").unlink()
    with pytest.raises(DeployError, match=r"has lost 'gru\.c'; export the model again"):
        check_folder(folder)


def test_reference_vectors_that_are_none_are_refused(folder: Path) -> None:
    replace_in(folder, "reference.npz", b"PK", b"no")
    with pytest.raises(DeployError, match=r"reference\.npz holds no arrays"):
        check_folder(folder)


def test_a_difference_that_is_no_number_is_no_pass() -> None:
    assert Check("c99", "streams", float("inf")).passed is False
    assert Check("c99", "streams", self_test.TOLERANCE / 2).passed is True
    assert Check("c99", "streams", None).passed is None
