"""Compare an exported page with Python: the same clips, the page in headless Chromium, decision by decision.

    python benchmarks/page_check.py page.html results/study/runs/ID clips/*.wav
    python benchmarks/page_check.py page.html results/study/runs/ID clips/*.wav --microphone 20 --threshold 0.5

Clips go in as opened files, which takes no real time. With ``--stream`` they go in once more as one long file, and with
``--microphone N`` the first N through Chromium's fake microphone, in real time, with near silence between them. The
samples that the page's models were given are taken from the page, and Python's stream is given the same ones, with the
same threshold: the largest difference of a score at any step, and how many decisions are not made by both at the same
time. Clip by clip, the surest decision while it sounds is the page's beside Python's. Two more figures say how much
rests on what else differs: Python's stream of what the microphone gave, resampled by Python, and what the same
threshold makes of Python's scores of the whole clip alone. The exit status is 1 where fewer than ``--least`` of the
clips agree, or a score differs by more than 1e-4. Of a page of several models, ``--model`` says which one the run is,
from 0.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from websockets.sync.client import ClientConnection, connect

from cello.audio.decode import decode
from cello.deploy.decisions import softmax
from cello.features.front_end import extract
from cello.models.classifier import Classifier
from cello.trained.model import load_model
from cello.trained.run import TrainedRun, read_run

Sound = NDArray[np.float32]
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
LARGEST_DIFFERENCE = 1e-4
GAP_S = 1.6  # of near silence before each clip, longer than the page's window


def chromium() -> str | None:
    """The Chromium of this machine."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Page:
    """A page in a running Chromium, driven by its debugging protocol."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket, self.number = socket, 0

    def call(self, method: str, **arguments: Any) -> dict[str, Any]:
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": arguments}))
        while True:
            answer = json.loads(self.socket.recv(timeout=120))
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]  # type: ignore[no-any-return]

    def value(self, expression: str) -> Any:
        """What an expression is worth in the page; clicks in it count as a user's."""
        found = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True, userGesture=True
        )
        if "exceptionDetails" in found:
            raise RuntimeError(f"{expression}: {found['exceptionDetails']}")
        return found["result"].get("value")

    def wait(self, expression: str, seconds: float = 60.0) -> Any:
        """What an expression is worth as soon as that is true."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if found := self.value(expression):
                return found
            time.sleep(0.05)
        raise TimeoutError(f"{expression} was not true in {seconds:g} s; the page says: {self.value(STATUS)!r}")

    def recorded(self, name: str) -> Sound:
        """What ``RECORDER`` has kept under a name."""
        return np.frombuffer(base64.b64decode(self.value(f"recorded({name})")), "<f4")

    def open_files(self, files: Sequence[Path]) -> list[dict[str, Any]]:
        """Open sound files, and return what the page says of each."""
        self.value("document.body.dataset.state = 'ready'")
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector="#files")["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(file.resolve()) for file in files])
        self.wait("document.body.dataset.state === 'done'", 60 + len(files))
        return self.value("globalThis.cello.results")  # type: ignore[no-any-return]


RECORDER = """
const heard = [], pieces = [], scores = [], Own = AudioWorkletNode;
globalThis.AudioWorkletNode = class extends Own {
  constructor(context, ...others) {
    super(context, ...others);
    heard.rate = context.sampleRate;
    this.port.addEventListener("message", ({ data }) => heard.push(data));
  }
};
cello.onSound = (samples, rate) => rate === model.features.rate_hz && pieces.push(samples.slice());
const classified = model.classified.bind(model);
model.classified = (pooled) => {
  const found = classified(pooled);
  scores.push(found);
  return found;
};
const recorded = async (parts) => {
  const reader = new FileReader();
  await new Promise((done) => { reader.onload = done; reader.readAsDataURL(new Blob(parts)); });
  return reader.result.split(",")[1];
};
"""
"""Keeps what the microphone gives to the page, what of it ``model`` is given in which pieces, and its scores."""
STATUS = "document.getElementById('status')?.textContent"


@contextmanager
def opened(page: Path, *flags: str) -> Iterator[Page]:
    """A page from its file in a headless Chromium of its own."""
    program = chromium()
    if program is None:
        raise SystemExit("no Chromium is installed here; install one, or run this elsewhere")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        command = [program, "--headless=new", "--disable-gpu", "--no-first-run", "--remote-debugging-port=0"]
        command += ["--no-sandbox"] if os.geteuid() == 0 else []
        command += [f"--user-data-dir={folder}", *flags, "about:blank"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            with connect(_address(Path(folder), process), max_size=None, ping_interval=None) as socket:
                shown = Page(socket)
                target = shown.call("Target.createTarget", url="about:blank")["targetId"]
            port = (Path(folder) / "DevToolsActivePort").read_text().splitlines()[0]
            with connect(f"ws://127.0.0.1:{port}/devtools/page/{target}", max_size=None, ping_interval=None) as socket:
                shown = Page(socket)
                shown.call("Page.navigate", url=page.resolve().as_uri())
                shown.wait("document.body?.dataset.state === 'ready'", 30)
                yield shown
        finally:
            process.terminate()
            process.wait(20)


def _address(folder: Path, process: subprocess.Popen[bytes]) -> str:
    port = folder / "DevToolsActivePort"
    end = time.monotonic() + 30
    while time.monotonic() < end and process.poll() is None:
        if port.exists() and len(lines := port.read_text().splitlines()) == 2:
            return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
        time.sleep(0.05)
    raise RuntimeError("Chromium did not start")


def microphone(clip: Path) -> tuple[str, ...]:
    """Chromium's flags for a fake microphone that plays a WAV file once."""
    return (
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-audio-capture={clip.resolve()}%noloop",
    )


def write_strung(path: Path, sounds: Sequence[Sound], rate_hz: int) -> list[float]:
    """Clips as one WAV file with near silence before and after each; returns where each starts and the end, in s."""
    rng, gap = np.random.default_rng(0), round(GAP_S * rate_hz)
    pieces = [part for sound in sounds for part in (rng.normal(0, 1e-4, gap), sound)]
    whole = np.concatenate([*pieces, rng.normal(0, 1e-4, gap)])
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes((whole * 32767).clip(-32768, 32767).astype("<i2").tobytes())
    starts = np.cumsum([gap, *(len(sound) + gap for sound in sounds)])
    return [float(start) / rate_hz for start in starts]


class Heard(NamedTuple):
    """What a page was given, and what it made of it."""

    sound: Sound  # as the microphone or file gave it
    rate_hz: int  # of that
    pieces: list[Sound]  # as the model was given it
    scores: Sound  # (steps, C)
    decisions: list[dict[str, Any]]
    settings: dict[str, Any]


def heard_by(page: Path, wav: Path, threshold: float | None, number: int, seconds: float | None) -> Heard:
    """Let a page hear a file, through its microphone for so many seconds, or opened where they are None."""
    with opened(page, *(() if seconds is None else microphone(wav))) as shown:
        if threshold is not None:
            shown.value(f"cello.decideFrom({threshold})")
        shown.value(f"const model = cello.models[{number}];{RECORDER}")
        if seconds is None:
            shown.open_files([wav])
        else:
            shown.value("document.getElementById('listen').click()")
            shown.wait("document.body.dataset.state === 'listening'", 30)
            time.sleep(seconds)
            shown.value("document.getElementById('listen').click()")
        lengths = shown.value("pieces.map((piece) => piece.length)")
        pieces = np.split(shown.recorded("pieces"), np.cumsum(lengths)[:-1])
        scores = shown.recorded("scores").reshape(-1, shown.value("model.labels.length"))
        decisions = shown.value(f"cello.decisions()[{number}].decisions")
        rate_hz = shown.value("model.features.rate_hz" if seconds is None else "heard.rate")
        sound = np.concatenate(pieces) if seconds is None else shown.recorded("heard")
        settings = shown.value("model.stream") | ({} if threshold is None else {"threshold": threshold})
    return Heard(sound, rate_hz, pieces, scores, decisions, settings)


class Compared(NamedTuple):
    """A page beside Python: the largest difference of a score; decisions, and how many are not in both lists.

    Clip by clip the surest decision of the page, of Python's stream of the same samples, and of Python's stream of what
    the microphone gave, which resamples by itself.
    """

    largest: float
    decisions: int
    differ: int
    page: list[str]
    python: list[str]
    resampled: list[str]
    settings: dict[str, Any]


def strung(
    page: Path, run: Path, clips: Sequence[Sound], threshold: float | None, number: int, *, played: bool
) -> Compared:
    """Let a page hear clips, played or as one file, and compute the same in Python."""
    model = load_model(run)
    with tempfile.TemporaryDirectory() as folder:
        wav = Path(folder) / "clips.wav"
        starts = write_strung(wav, clips, model.features.rate_hz)
        heard = heard_by(page, wav, threshold, number, starts[-1] + 1.0 if played else None)
    settings, rate_hz = heard.settings, model.features.rate_hz
    scores = model.stream(settings["window_s"]).scores
    steps = [scores.push(piece)[1] for piece in heard.pieces] + ([] if played else [scores.finish()[1]])
    mine = np.concatenate(steps)
    if len(mine) != len(heard.scores):
        raise SystemExit(f"the page scored {len(heard.scores)} steps, and Python {len(mine)} of the same samples")
    stream = model.stream(**settings)
    python = [one._asdict() for piece in heard.pieces for one in stream.push(piece)]
    python += [] if played else [one._asdict() for one in stream.finish()]
    stream = model.stream(**settings)
    own = [one._asdict() for one in stream.push(heard.sound, heard.rate_hz) + stream.finish()]
    each = {(one["time_s"], one["label"]) for one in python}, {(one["time_s"], one["label"]) for one in heard.decisions}
    found = (surest(one, starts, clips, rate_hz) for one in (heard.decisions, python, own))
    return Compared(float(np.abs(mine - heard.scores).max()), len(python), len(each[0] ^ each[1]), *found, settings)


def surest(
    decisions: Sequence[dict[str, Any]], starts: Sequence[float], clips: Sequence[Sound], rate_hz: int
) -> list[str]:
    """The label of the surest decision from shortly before a clip until what follows it is silence for the page too."""
    found = []
    for start, clip in zip(starts, clips, strict=False):
        end = start + len(clip) / rate_hz + GAP_S / 2
        own = [each for each in decisions if start - GAP_S / 4 <= each["time_s"] < end]
        found.append(max(own, key=lambda each: float(each["score"]), default={"label": "nothing"})["label"])
    return found


def alone(scores: Sound, labels: Sequence[str], settings: dict[str, Any]) -> str:
    """What a stream's threshold and background make of the scores of a whole clip."""
    best, probability = labels[int(scores.argmax())], float(softmax(scores).max())
    return "nothing" if best in settings["background"] or probability < settings["threshold"] else best


def python_scores(run: TrainedRun, clips: Sequence[Sound]) -> list[Sound]:
    """The scores of clips by torch."""
    config = run.result.config
    model = Classifier(config.model, config.features.dimensions, len(run.labels)).eval()
    model.load_state_dict(safetensors.torch.load_file(run.folder / "model.safetensors"))
    found = []
    for clip in clips:
        frames, counts = extract(torch.from_numpy(clip)[None], torch.tensor([len(clip)]), config.features)
        with torch.no_grad():
            found.append(model(model.standardise(frames, counts), counts)[0].numpy())
    return found


def sound_of(clip: Path, rate_hz: int) -> Sound:
    """The samples of a clip as float32."""
    sound = decode(clip, rate_hz)
    return (sound / np.float32(32768) if sound.dtype == np.int16 else sound).astype(np.float32)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path, help="a page of cello export --to page")
    parser.add_argument("run", type=Path, help="the run that its model is, the first one's where there are several")
    parser.add_argument("clips", type=Path, nargs="+", help="WAV or FLAC files")
    parser.add_argument("--microphone", type=int, default=0, help="clips that go through the fake microphone too")
    parser.add_argument("--stream", action="store_true", help="the clips strung together, too, as one file")
    parser.add_argument("--threshold", type=float, help="that the page decides from, its own unless given")
    parser.add_argument("--model", type=int, default=0, help="which of the page's models the run is, from 0")
    parser.add_argument("--least", type=float, default=0.95, help="share of clips that must agree")
    options = parser.parse_args()
    run = read_run(options.run)
    rate_hz = run.result.config.features.rate_hz
    sounds = [sound_of(clip, rate_hz) for clip in options.clips]
    expected = python_scores(run, sounds)
    with opened(options.page) as shown:
        found = [answer["models"][options.model] for answer in shown.open_files(options.clips)]
    same = [run.labels[int(e.argmax())] == f["label"] for e, f in zip(expected, found, strict=True)]
    largest = max(float(np.abs(e - f["scores"]).max()) for e, f in zip(expected, found, strict=True))
    print(f"opened: {sum(same)} of {len(same)} decisions agree, scores within {largest:.2g}")  # noqa: T201
    shares = [sum(same) / len(same)]
    for way, clips in (("one file", len(sounds) * options.stream), ("microphone", options.microphone)):
        if not clips:
            continue
        one = strung(
            options.page, options.run, sounds[:clips], options.threshold, options.model, played=way == "microphone"
        )
        page, python, resampled = one.page, one.python, one.resampled
        wanted = [alone(scores, run.labels, one.settings) for scores in expected[:clips]]
        for clip, said in zip(options.clips, zip(page, python, resampled, wanted, strict=False), strict=False):
            if len(set(said)) > 1:
                print(f"{clip.name}: the page {said[0]}, Python {said[1]}, resampled {said[2]}, the clip {said[3]}")  # noqa: T201
        counts = [sum(map(str.__eq__, page, others)) for others in (python, resampled, wanted)]
        shares.append(counts[0] / len(page) if one.largest <= LARGEST_DIFFERENCE else 0.0)
        of_stream = sum(map(str.__eq__, python, wanted))
        print(  # noqa: T201
            f"{way}: Python makes {one.decisions} decisions of the same samples, {one.differ} differ; scores at every "
            f"step within {one.largest:.2g}. Of {len(page)} clips the page says of {counts[0]} what Python's stream "
            f"says, of {counts[1]} what it says where Python resamples, of {counts[2]} what the threshold makes "
            f"of Python's scores of the whole clip (as Python's stream does of {of_stream})"
        )
    return int(min(shares) < options.least)


if __name__ == "__main__":
    sys.exit(main())
