"""What hurts: an exported folder that predicts otherwise, was changed unnoticed, or reaches beyond itself."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import made_packages
from cello import deploy
from cello.audio.corpus import Corpus
from cello.deploy.manifest import MANIFEST
from cello.errors import ClipError, DeployError
from cello.trained.model import load_model
from damage import HOSTILE, damaged

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")


@pytest.fixture
def folder(exported: Path, tmp_path: Path) -> Path:
    """A copy that a test may change, beside its run."""
    return shutil.copytree(exported.parent, tmp_path / "both") / "model"


def test_predictions_are_the_trained_models(exported: Path, tone_corpus: Corpus) -> None:
    package, model = deploy.load(exported), load_model(exported.parent / "run")
    assert package.labels == ("high", "low", "rough")
    sound = tone_corpus.audio(np.array([0]))[0][0]
    np.testing.assert_allclose(package.scores(sound), model.predict(sound, 16_000).scores, atol=1e-4)
    assert [label for label, _ in package.predict(sound)] == [label for label, _ in model.predict(sound, 16_000).top()]
    assert sum(share for _, share in package.predict(sound)) == pytest.approx(1)


def test_other_rates_and_channels_are_brought_to_the_models(exported: Path, tone_corpus: Corpus) -> None:
    package, model = deploy.load(exported), load_model(exported.parent / "run")
    two = np.repeat(tone_corpus.audio(np.array([3]))[0][0][:, None], 2, axis=1)
    np.testing.assert_allclose(package.scores(two, 8000), model.predict(two, 8000).scores, atol=1e-4)
    whole = np.rint(32767 * two[:, 0]).astype(np.int16)
    np.testing.assert_allclose(package.scores(whole), model.predict(whole, 16_000).scores, atol=1e-4)


def test_a_folder_whose_manifest_says_of_its_stream_only_what_the_first_ones_did_streams_alike(
    folder: Path, tone_corpus: Corpus
) -> None:
    told = json.loads((folder / MANIFEST).read_bytes())["stream"]
    first = ("window_s", "threshold", "smooth_s", "refractory_s", "background")
    made_packages.rewrite(folder, stream={field: told[field] for field in first})
    (folder / "index.html").unlink()
    model, sound = load_model(folder.parent / "run"), tone_corpus.audio(np.array([0]))[0][0]
    stream, expected = deploy.load(folder).stream(threshold=0.3), model.stream(threshold=0.3)
    found = stream.push(sound) + stream.finish()
    assert [one[:2] for one in found] == [one[:2] for one in expected.push(sound) + expected.finish()] != []


def test_streams_decide_as_the_trained_model_and_do_not_touch_each_other(exported: Path, tone_corpus: Corpus) -> None:
    package, model = deploy.load(exported), load_model(exported.parent / "run")
    sound = np.concatenate([tone_corpus.audio(np.array([k]))[0][0] for k in (0, 9, 18)])
    settings = {"threshold": 0.3, "refractory_s": 0.5}
    expected = model.stream(**settings)
    wanted = expected.push(sound) + expected.finish()
    one, other = package.stream(**settings), package.stream(**settings)
    found = []
    for start in range(0, len(sound), 777):
        found += one.push(sound[start : start + 777], 16_000)
        other.push(np.zeros(500, np.float32))
    found += one.finish()
    assert [(d.label, round(d.time_s, 6)) for d in found] == [(d.label, round(d.time_s, 6)) for d in wanted]
    assert len(found) > 2
    assert one.last_scores is not None
    assert expected.last_scores is not None
    np.testing.assert_allclose(one.last_scores, expected.last_scores, atol=1e-4)


def test_a_stream_takes_its_settings_from_the_manifest(folder: Path) -> None:
    stream = json.loads((folder / MANIFEST).read_text())["stream"]
    made_packages.rewrite(folder, stream=stream | {"threshold": 0.61, "background": ["low"]})
    config = deploy.load(folder).stream(smooth_s=0.4).config
    assert (config.threshold, config.background, config.smooth_s) == (0.61, ("low",), 0.4)


def test_nothing_but_numpy_onnxruntime_and_msgspec_is_needed(exported: Path) -> None:
    text = (
        "import sys\n"
        "for name in ('torch', 'dask', 'distributed', 'matplotlib', 'scipy', 'soundfile', 'soxr', 'rich', 'tyro', "
        "'onnx', 'safetensors'):\n    sys.modules[name] = None\n"
        "import numpy as np, cello.deploy\n"
        "package = cello.deploy.load(sys.argv[1])\n"
        "sound = np.sin(np.arange(16000, dtype=np.float32))\n"
        "print(len(package.predict(sound, 16000)), len(package.stream(threshold=0).push(sound)) > 0)\n"
        "try:\n    package.predict(sound, 8000)\nexcept cello.ClipError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", text, exported], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == [
        "3 True",
        "the sound has 8000 Hz and the model takes 16000 Hz, but soxr is not installed to resample it; give: pip "
        "install soxr",
    ], done.stderr


def test_every_changed_file_is_named(folder: Path) -> None:
    names = sorted(path.name for path in folder.iterdir())
    assert {"README.md", "index.html", "model.onnx", "step.onnx", "gru.c", "reference.npz"} <= set(names)
    for name in names:
        whole = (folder / name).read_bytes()
        changed = bytearray(whole)
        changed[len(whole) // 2] ^= 1
        (folder / name).write_bytes(changed)
        with pytest.raises(DeployError, match=name):
            deploy.load(folder)
        (folder / name).write_bytes(whole)
    deploy.load(folder)


def test_a_damaged_manifest_is_refused_whatever_it_is(folder: Path) -> None:
    whole = (folder / MANIFEST).read_bytes()
    for _, content in [*HOSTILE.items(), *damaged(whole, 120)]:
        text = content.encode() if isinstance(content, str) else content
        (folder / MANIFEST).write_bytes(text)
        if text.rstrip() == whole.rstrip():
            continue
        with pytest.raises(DeployError, match="manifest"):
            deploy.load(folder)


def test_a_manifest_whose_seal_is_right_may_still_not_say_everything(folder: Path) -> None:
    facts = {"bytes": 1, "sha256": "0" * 64}
    told = json.loads((folder / MANIFEST).read_text())
    for fields, fault in (
        ({"files": {"../secret": facts}}, "names the file '../secret'"),
        ({"files": {"/etc/passwd": facts}}, "names the file '/etc/passwd'"),
        ({"files": {".hidden": facts}}, "names the file '.hidden'"),
        ({"files": {"a": facts | {"bytes": 1 << 40}}}, "what it says of 'a' cannot be"),
        ({"files": {str(k): facts for k in range(101)}}, "101 files, more than 100"),
        ({"kind": "other"}, "its kind is 'other'"),
        ({"labels": ["a", "a"]}, "its labels are none, or not all different"),
        ({"stream": told["stream"] | {"threshold": 2.0}}, "stream.threshold is 2.0"),
        ({"front_end": told["front_end"] | {"rate_hz": 0}}, "its front end has a count that cannot be"),
        ({"corpus": None}, "missing required field `corpus`"),
        ({"format": 2}, "has format 2, and this is Cello"),
    ):
        made_packages.rewrite(folder, **(told | fields | {"crc32": None}))
        with pytest.raises(DeployError, match=fault.replace("(", r"\(")):
            deploy.load(folder)


def test_links_and_pipes_are_not_followed(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "model.onnx"
    (folder / "model.onnx").rename(target)
    (folder / "model.onnx").symlink_to(target)
    with pytest.raises(DeployError, match=r"model\.onnx' cannot be read: it is a link, which is not followed"):
        deploy.load(folder)


def test_a_folder_copied_in_part_says_what_is_missing_when_it_is_needed(folder: Path) -> None:
    (folder / "step.onnx").unlink()
    (folder / "index.html").unlink()
    package = deploy.load(folder)
    package.predict(np.zeros(16_000, np.float32))
    with pytest.raises(DeployError, match=r"cannot stream: there is no step\.onnx; export again with --to onnx"):
        package.stream()
    (folder / "model.onnx").unlink()
    with pytest.raises(DeployError, match=r"has no model\.onnx; export the model with --to onnx"):
        deploy.load(folder).predict(np.zeros(16_000, np.float32))


def test_models_of_another_export_are_refused(folder: Path) -> None:
    made_packages.rewrite(folder, labels=["a", "b", "c"])
    with pytest.raises(DeployError, match=r"model\.onnx and manifest\.json .* are of different models"):
        deploy.load(folder).predict(np.zeros(16_000, np.float32))


def test_a_model_that_needs_the_future_says_what_to_train(tmp_path: Path, tone_corpus: Corpus) -> None:
    folder = made_packages.make_package(tmp_path, tone_corpus.manifest, bidirectional=True)
    package = deploy.load(folder)
    package.predict(np.zeros(16_000, np.float32))
    with pytest.raises(DeployError, match=r"cannot stream: .*train with model\.bidirectional=false"):
        package.stream()


def test_what_is_no_export_and_sound_that_is_none_are_refused(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(DeployError, match=r"holds no manifest\.json, so it is no exported model; write one with cello"):
        deploy.load(tmp_path)
    package = deploy.load(exported)
    for samples, fault in (
        (np.zeros(100, np.float32), "too short: it has 100 samples at 16000 Hz, less than one window of 320"),
        (np.zeros(16_000, np.int32), "samples of type int32 are not taken"),
        (np.full(16_000, np.nan, np.float32), "not finite|NaN"),
    ):
        with pytest.raises(ClipError, match=fault):
            package.predict(samples)
    with pytest.raises(ClipError, match="rate_hz=0 is invalid"):
        package.predict(np.zeros(16_000, np.float32), 0)
