"""What hurts: a self-test that passes a form which computes something else, or says nothing of what it did not run."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import made_packages
from cello.deploy.decisions import smoothed, softmax
from cello.deploy.package import read_manifest
from cello.errors import DeployError
from cello.export import self_test
from cello.export.decided import Rule, clip_difference
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


def decides(folder: Path, form: str) -> list[str]:
    """What a form decides otherwise, though its scores are right."""
    found = check_folder(folder)
    rows = [one for one in found if one.form == form and one.what]
    assert all(one.largest is not None and one.largest <= one.tolerance for one in rows)
    assert [one.form for one in found if one.passed is False] == [form for one in rows if one.decides]
    return [one.decides for one in rows]


def swapped(first: str, second: str) -> tuple[bytes, bytes]:
    return f'"{first}",\n    "{second}",'.encode(), f'"{second}",\n    "{first}",'.encode()


@pytest.mark.wants("cc")
def test_c_with_labels_in_another_order_is_found(folder: Path) -> None:
    first, second = read_manifest(folder).labels[:2]
    replace_in(folder, "gru.c", *swapped(first, second))
    assert decides(folder, "c99") == [f"its label 0 is {second!r}, and that of the trained model {first!r}"]


def waits_less(folder: Path) -> None:
    (samples,) = re.findall(r"#define GRU_REFRACTORY_SAMPLES (\d+)", (folder / "gru.h").read_text())
    replace_in(folder, "gru.h", f"REFRACTORY_SAMPLES {samples}".encode(), b"REFRACTORY_SAMPLES 240")


@pytest.mark.wants("cc")
def test_c_that_waits_otherwise_between_decisions_is_found(folder: Path) -> None:
    waits_less(folder)
    (said,) = decides(folder, "c99")
    label = "|".join(map(repr, read_manifest(folder).labels))
    pattern = (
        rf"of the made clip 'tones' it decides ({label}) at [0-9.]+ s at threshold 0, and the trained model nothing"
    )
    assert re.match(pattern, said)


@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node: node is not installed here")
def test_a_page_with_another_background_is_found(folder: Path) -> None:
    assert decides(folder, "page") == ["", ""]
    every = ",".join(f'"{label}"' for label in read_manifest(folder).labels).encode()
    replace_in(folder, "index.html", b'"background":[]', b'"background":[' + every + b"]")
    clips, streams = decides(folder, "page")
    assert clips == ""
    assert re.match(
        r"of the made clip 'tones' it decides nothing more at threshold 0, and the trained model '", streams
    )


def test_onnx_with_labels_of_another_model_is_found(folder: Path) -> None:
    import onnx

    labels = read_manifest(folder).labels
    model = onnx.load(folder / "step.onnx")
    fact = next(each for each in model.metadata_props if each.key == "labels")
    fact.value = json.dumps([*labels[:-1], "other"])
    replace_in(folder, "step.onnx", (folder / "step.onnx").read_bytes(), model.SerializeToString())
    assert decides(folder, "onnx") == [
        "",
        f"its label {len(labels) - 1} is 'other', and that of the trained model {labels[-1]!r}",
    ]


@pytest.mark.wants("cc")
def test_the_command_names_form_clip_both_labels_and_what_to_do(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    waits_less(folder)
    assert made_packages.run_cello("export", folder, "--check") != 0
    said = " ".join(capsys.readouterr().err.split())
    assert re.search(
        r"c99 decides otherwise: of the made clip 'tones' it decides '\w+' at [0-9.]+ s at threshold 0, and the "
        r"trained model nothing more; export the model again, and if it stays so, please report it with \S+manifest\.",
        said,
    )


def test_rounding_excuses_another_label_only_between_equal_scores() -> None:
    wanted = np.array([1.0, 1.0001, 0.5])
    assert clip_difference("tones", np.array([1.0002, 1.0, 0.5]), wanted, ("a", "b", "c"), 1e-4) == ""
    found = clip_difference("tones", np.array([1.0002, 1.0, 2.0]), wanted, ("a", "b", "c"), 1e-4)
    assert found == "it names the made clip 'tones' 'c', and the trained model 'b'"


def test_a_decision_hangs_on_rounding_near_the_threshold_and_between_equal_labels(exported: Path) -> None:
    rule = Rule(read_manifest(exported))
    count = len(rule.labels)
    equal, sure = np.zeros((5, count)), 5.0 * np.eye(count)[[0] * 5]
    highest = float(smoothed(softmax(sure), 1)[0, 0])
    assert rule.hangs_on_rounding(equal, 0.0, 1e-4)
    assert not rule.hangs_on_rounding(equal, 0.9, 1e-4)
    assert not rule.hangs_on_rounding(sure, 0.0, 1e-4)
    assert rule.hangs_on_rounding(sure, highest + 5e-5, 1e-4)
    assert not rule.hangs_on_rounding(sure, highest + 5e-4, 1e-4)


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
