"""What hurts: a page that fetches anything, whose figures are not the study's, that does not name what it is played."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from cello.audio.corpus import Corpus
from cello.deploy.decisions import DecisionConfig
from cello.errors import ReportError, StoreError
from cello.export import page as page_module
from cello.export.page import _accuracy, page_models, page_runs, write_page
from cello.export.stream import StreamSettings
from cello.report.metrics import BY_KEY
from cello.study.store import CorpusSource, Store
from cello.study.study_file import parse_study
from cello.trained.run import TrainedRun, read_run
from cello.training.run import train

STUDY = """
name = "tones"
title = "Three tones & <two> cells"
seeds = [0, 1]
[base.features]
n_mels = 20
[base.model]
hidden = 8
[base.optimiser]
epochs = 12
batch = 8
learning_rate = 0.01
[[rows]]
name = "GRU"
[rows.model]
cell = "gru"
[[rows]]
name = "Both ways"
[rows.model]
cell = "rnn"
bidirectional = true
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, tones: Callable[[], Corpus]) -> Path:
    """A study of two rows and two seeds, trained here."""
    folder, corpus = tmp_path_factory.mktemp("study"), tones()
    source = CorpusSource(spec="tones", opener="tests:none")
    store = Store.create_or_open(folder, parse_study(STUDY, "tones.toml"), corpus.manifest, source)
    for run in store.runs:
        train(run.config, corpus, store.run_folder(run), cache=folder / "cache")
    return folder


@pytest.fixture(scope="module")
def runs(study: Path) -> list[TrainedRun]:
    return page_runs(study)


def test_a_studys_page_has_each_rows_best_run_and_a_runs_its_own(study: Path, runs: list[TrainedRun]) -> None:
    assert [run.folder for run in runs] == [read_run(study, row).folder for row in ("GRU", "Both ways")]
    assert [run.folder for run in page_runs(study, ["Both ways"])] == [runs[1].folder]
    assert [run.result.run for run in page_runs(runs[1].folder)] == [runs[1].result.run]
    with pytest.raises(StoreError, match="unknown row of the finished runs 'LSTM'"):
        page_runs(study, ["LSTM"])
    with pytest.raises(StoreError, match="unknown column of the finished runs '20 ms'"):
        page_runs(study, column="20 ms")


def test_a_page_is_written_without_torch(study: Path, tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from cello.export.page import page_runs, write_page
write_page(page_runs({str(study)!r}), Path({str(tmp_path / "page.html")!r}))
print("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def script_of(text: str) -> str:
    return text.split('<script type="module">')[1].rsplit("</script>", 1)[0]


def test_a_page_is_one_small_file_that_fetches_nothing(runs: list[TrainedRun], tmp_path: Path) -> None:
    size = write_page(runs, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text("utf-8")
    assert size == (tmp_path / "page.html").stat().st_size < 150_000
    assert not re.search(r"https?://|\bfetch\(|XMLHttpRequest|WebSocket|importScripts|@import|url\(", text)
    assert len(re.findall(r"\bsrc=|\bhref=", text)) == 1  # the empty icon
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', text)
    assert policy.startswith("default-src 'none'; ")
    assert "connect-src" not in policy
    assert "unsafe" not in policy


def test_the_policy_names_the_hashes_of_the_pages_own_script_and_style(runs: list[TrainedRun], tmp_path: Path) -> None:
    write_page(runs, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text("utf-8")
    style = text.split("<style>")[1].split("</style>")[0]
    for part in (script_of(text), style):
        assert f"'sha256-{base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()}'" in text


def test_texts_of_the_study_are_shown_and_never_markup(runs: list[TrainedRun], tmp_path: Path) -> None:
    write_page(runs, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text("utf-8")
    assert "<title>Three tones &amp; &lt;two&gt; cells</title>" in text
    assert text.count("</script>") == 1
    write_page(runs, tmp_path / "page.html", title="{script}</script>")
    assert "<title>{script}&lt;/script&gt;</title>" in (tmp_path / "page.html").read_text("utf-8")


def test_background_is_none_of_the_words_to_say(runs: list[TrainedRun], tmp_path: Path) -> None:
    """What hurts: a page that asks the user to say "_silence_"."""
    write_page(runs, tmp_path / "page.html", stream=StreamSettings(decide=DecisionConfig(background=("low",))))
    text = (tmp_path / "page.html").read_text("utf-8")
    assert '<ul class="words" aria-label="Labels"><li>high</li><li>rough</li></ul>' in text
    assert text.count('"background":["low"]') == len(runs)


def test_seeds_that_agree_are_shown_without_an_interval(study: Path) -> None:
    """What hurts: "94.00 ± 0.00 %", which claims that another seed could give nothing else."""
    result = next(Store.open(study).each_result()).result
    figure, seeds = (text.replace("\N{NO-BREAK SPACE}", " ") for text in _accuracy(result, [result, result]))
    assert figure.endswith(" % (the same in all 2 runs)")
    assert seeds == f"2 seeds, no interval; this is seed {result.config.seed}"


def test_figures_are_the_studys_mean_over_seeds_with_its_interval(study: Path, runs: list[TrainedRun]) -> None:
    models, title = page_models(runs, StreamSettings())
    assert title == "Three tones & <two> cells"
    assert [model.name for model in models] == ["GRU", "Both ways"]
    for run, model in zip(runs, models, strict=True):
        results = [each.result for each in Store.open(study).each_result() if each.row == model.name]
        figure = BY_KEY["test_accuracy"].told(results, "%")
        assert model.facts is not None
        assert model.facts["accuracy"].replace("\N{NO-BREAK SPACE}", " ") == f"Test accuracy {figure}"
        seeds = model.facts["seeds"].replace("\N{NO-BREAK SPACE}", " ")
        over = "2 seeds, no interval" if "the same in all" in figure else "95 % interval over 2 seeds"
        assert seeds == f"{over}; this is seed {run.result.config.seed}"
        assert f"{run.result.parameters:,} parameters" in model.facts["size"]
    assert models[1].facts is not None
    assert models[1].facts["size"].startswith("1 layer of 8 units in both directions, ")
    assert models[0].facts is not None
    assert "h[t] = (1 - z) * n + z * h[t-1]" in models[0].facts["equations"]


def test_a_run_alone_has_one_seed_and_no_interval(study: Path, runs: list[TrainedRun], tmp_path: Path) -> None:
    alone = tmp_path / "run"
    alone.mkdir()
    for name in ("config.json", "result.json", "predictions.npz", "model.safetensors"):
        (alone / name).write_bytes((runs[0].folder / name).read_bytes())
    (alone / "corpus.json").write_bytes((study / "corpus.json").read_bytes())
    (model,), title = page_models([read_run(alone)], StreamSettings())
    assert title == f"One run: gru, seed {runs[0].result.config.seed}"
    assert model.facts is not None
    assert model.facts["seeds"].startswith("one seed, no interval; this is seed ")


def test_no_run_too_large_a_page_and_an_unwritable_one_are_refused(
    runs: list[TrainedRun], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ReportError, match="a page needs at least one finished run; give the folder of a run or"):
        write_page([], tmp_path / "page.html")
    with pytest.raises(ReportError, match=r"page '.*/none/page.html' cannot be written: No such file .*; choose"):
        write_page(runs, tmp_path / "none" / "page.html")
    monkeypatch.setattr(page_module, "LARGEST_PAGE", 1000)
    with pytest.raises(ReportError, match=r"a page of 2 models would have .* bytes, more than 1,000; .*quantise them"):
        write_page(runs, tmp_path / "page.html")
    with pytest.raises(ReportError, match=r"more than 1,000; choose fewer or smaller models"):
        write_page(runs, tmp_path / "page.html", quantise=rounded)


def rounded(matrix: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    scales = (np.abs(matrix).max(axis=1) / 127).astype(np.float32)
    return np.round(matrix / scales[:, None]).astype(np.int8), scales


def test_a_page_is_quantised_only_where_it_would_be_too_large(
    runs: list[TrainedRun], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = write_page(runs, tmp_path / "page.html", quantise=rounded)
    assert '"int8"' not in (tmp_path / "page.html").read_text("utf-8")
    monkeypatch.setattr(page_module, "LARGEST_PAGE", whole - 1)
    assert write_page(runs, tmp_path / "page.html", quantise=rounded) < whole
    assert '"int8"' in (tmp_path / "page.html").read_text("utf-8")


# --- in a browser ---


def _driver() -> Any:
    path = Path(__file__).parents[2] / "benchmarks" / "page_check.py"
    spec = importlib.util.spec_from_file_location("page_check", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


driver = _driver()
browser = pytest.mark.wants("chromium")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory, tones: Callable[[], Corpus]) -> list[Path]:
    """One test clip of each word as a WAV file."""
    folder, corpus = tmp_path_factory.mktemp("clips"), tones()
    found = []
    for number, clip in enumerate(corpus.manifest.clips):
        if clip.name.endswith("/test0.wav"):
            sound, _ = corpus.audio(np.array([number]))
            found.append(folder / f"{clip.label}.wav")
            soundfile.write(found[-1], sound[0, : clip.samples], corpus.manifest.rate_hz, subtype="PCM_16")
    return found


@browser
def test_a_page_from_its_file_says_of_opened_files_what_python_says(
    runs: list[TrainedRun], clips: list[Path], tmp_path: Path
) -> None:
    runs = runs[::-1]  # the first cannot stream: the picture has frames of its own
    write_page(runs, tmp_path / "page.html")
    slow = tmp_path / "slow.wav"  # another rate and two channels
    sound, rate = soundfile.read(clips[0], dtype="int16")
    soundfile.write(slow, np.stack([sound.repeat(3)] * 2, 1), 3 * rate, subtype="PCM_16")
    (tmp_path / "no.wav").write_bytes(b"no sound at all")
    with driver.opened(tmp_path / "page.html") as shown:
        found = shown.open_files([*clips, slow, tmp_path / "no.wav"])
        status = shown.value("document.getElementById('status').textContent")
        rows = shown.value("document.querySelectorAll('#results tbody tr').length")
    assert status == "no.wav cannot be used: it is no sound that this browser can decode. Open another file."
    assert rows == 5
    expected = [driver.python_scores(run, [driver.sound_of(clip, 16_000) for clip in clips]) for run in runs]
    for k, answer in enumerate(found[:3]):
        assert [model["label"] for model in answer["models"]] == [
            run.labels[e[k].argmax()] for run, e in zip(runs, expected, strict=True)
        ]
        for model, scores in zip(answer["models"], expected, strict=True):
            np.testing.assert_allclose(model["scores"], scores[k], atol=1e-4, rtol=0)
    assert found[3]["models"][0]["label"] == found[0]["models"][0]["label"]
    assert found[3]["seconds"] == pytest.approx(found[0]["seconds"], abs=1e-3)
    assert found[4]["fault"]


@browser
def test_a_page_names_what_its_microphone_is_played(runs: list[TrainedRun], clips: list[Path], tmp_path: Path) -> None:
    decide = DecisionConfig(threshold=0.34, refractory_s=0.1)
    write_page(runs, tmp_path / "page.html", stream=StreamSettings(decide=decide))
    clip = next(clip for clip in clips if clip.stem == "high")
    padded = tmp_path / "padded.wav"
    driver.write_strung(padded, [driver.sound_of(clip, 16_000)], 16_000)
    with driver.opened(tmp_path / "page.html", *driver.microphone(padded)) as shown:
        shown.value("document.getElementById('listen').click()")
        shown.wait(
            "globalThis.cello.decisions().every(({ decisions }) => decisions.some(({ label }) => label === 'high'))", 20
        )


@browser
def test_a_page_scores_and_decides_at_every_step_as_python_does_of_the_same_samples(
    study: Path, runs: list[TrainedRun], clips: list[Path], tmp_path: Path
) -> None:
    decide = DecisionConfig(threshold=0.34, refractory_s=0.1)
    write_page(runs, tmp_path / "page.html", stream=StreamSettings(decide=decide))
    run = next(run for run in runs if not run.result.config.model.bidirectional)
    sounds = [driver.sound_of(clip, 16_000) for clip in clips]
    found = driver.strung(tmp_path / "page.html", run.folder, sounds, 0.4, runs.index(run), played=False)
    assert 0 < found.largest < 1e-4
    assert found.decisions > 2
    assert found.differ == 0
    assert found.page == found.python
    assert set(found.page) - {"nothing"}


@browser
def test_the_threshold_can_be_any_that_was_measured_and_stands_beside_the_bars(
    runs: list[TrainedRun], tmp_path: Path
) -> None:
    """What hurts: a threshold of 0.9995 that the page shows as 100 % and cannot be set to."""
    decide = DecisionConfig(threshold=0.9973, smooth_s=0.25, refractory_s=1.2, background=("low",))
    write_page(runs[:1], tmp_path / "page.html", stream=StreamSettings(decide=decide))
    with driver.opened(tmp_path / "page.html") as shown:
        text = "document.getElementById('threshold-text').textContent"
        line = "document.querySelector('.model').style.getPropertyValue('--threshold')"
        assert (shown.value(text), shown.value(line)) == ("0.9973", "0.9973")
        rule = shown.value("document.getElementById('rule').textContent").replace("\N{NO-BREAK SPACE}", " ")
        assert rule == "A decision needs this probability on average over 0.25 s, and 1.2 s since the last one."
        slider = "document.getElementById('threshold')"
        shown.value(f"{slider}.value = {slider}.max; {slider}.dispatchEvent(new Event('input'))")
        assert (shown.value(text), shown.value(line)) == ("0.99999", "0.99999")
        assert shown.value(f"{slider}.getAttribute('aria-valuetext')") == "0.99999"
        assert shown.value("document.querySelector('.bars .background span').title") == (
            "low: background, never decided for"
        )


@browser
@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (
            ("--use-fake-device-for-media-stream", "--deny-permission-prompts"),
            "The microphone was refused. Allow it for ",
        ),
        ((), "No microphone was found. Connect one and press Listen again, or open a sound file."),
    ],
)
def test_a_microphone_that_is_refused_or_missing_is_said_with_what_to_do(
    flags: tuple[str, ...], text: str, runs: list[TrainedRun], tmp_path: Path
) -> None:
    write_page(runs[:1], tmp_path / "page.html")
    with driver.opened(tmp_path / "page.html", *flags) as shown:
        if not flags and shown.value("navigator.mediaDevices.enumerateDevices().then((found) => found.length)"):
            pytest.skip("needs a machine without a microphone")
        shown.value("document.getElementById('listen').click()")
        shown.wait("document.body.dataset.state === 'fault'", 20)
        assert shown.value("document.getElementById('status').textContent").startswith(text)
        assert shown.value("document.getElementById('listen').disabled") is False
