"""Compare the decisions of every exit on one long stream: Python, the exported folder, C99, and the page in Node.

    cello export results/study/runs/ID --out model
    python benchmarks/stream_decisions.py model results/study/runs/ID --corpus speech-commands --minutes 30

Test clips of a corpus are strung with noise between, as by ``cello evaluate --stream``, and each exit decides from the
same samples at several thresholds, each in pieces of another size. A row says how many decisions Python's stream
makes, and of each exit how many are not there at just this time with this label, or too many, and the largest
difference of a score. The exit status is 1 where any differs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cello import deploy
from cello.audio.corpus import Corpus
from cello.audio.open import open_corpus
from cello.deploy.decisions import Decision
from cello.export.self_test import _script
from cello.trained.model import load_model
from cello.trained.strung import StreamConfig, strung

Sound = NDArray[np.float32]
PIECES = {"Python": 16_000, "deploy": 317, "C99": 1024, "page": 882}
MAIN = """
#include <stdio.h>
#include "NAME.h"
static NAME_stream stream;
static NAME_decider decider;
static void hear(void *context, int64_t step, const float *scores) {
    NAME_decision one;
    (void)context, (void)step;
    if (NAME_decide(&decider, scores, NAME_end(&stream), &one))
        printf("%.9f %s %.9g\\n", one.time_s, NAME_labels[one.label], (double)one.score);
}
int main(void) {
    static float piece[PIECE];
    int n;
    NAME_start(&stream);
    NAME_decider_start(&decider);
    NAME_listen(&stream, hear, NULL);
    while ((n = (int)fread(piece, sizeof *piece, PIECE, stdin)) > 0) NAME_push(&stream, piece, n);
    NAME_finish(&stream);
    return 0;
}
"""
NODE = """
import { readFileSync } from "node:fs";
const { piece, thresholds } = JSON.parse(process.argv[2]), bytes = readFileSync("sound.f32");
const sound = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4), model = new Model(MODELS[0], CELLS);
const all = thresholds.map((threshold) => new Decisions(model, { threshold })), found = all.map(() => []);
const stream = new Stream(model);
const take = (step) => all.forEach((decisions, k) => {
  const { decision } = decisions.push(step);
  if (decision) found[k].push(decision);
});
for (let at = 0; at < sound.length; at += piece) stream.push(sound.subarray(at, at + piece)).forEach(take);
stream.finish().forEach(take);
console.log(JSON.stringify(found));
"""


def sound_of(corpus: Corpus, minutes: float) -> tuple[Sound, int]:
    """The first minutes of the test clips strung together, and how many clips those are."""
    pieces, clips, missing = [], 0, round(60 * minutes * corpus.manifest.rate_hz)
    for piece, clip in strung(corpus, corpus.indices("test"), StreamConfig()):
        pieces.append(piece[:missing])
        clips += clip >= 0
        missing -= len(pieces[-1])
        if not missing:
            break
    return np.concatenate(pieces), clips


def streamed(stream: Any, sound: Sound, piece: int) -> list[Decision]:
    found = [one for at in range(0, len(sound), piece) for one in stream.push(sound[at : at + piece])]
    return found + stream.finish()


def by_c(folder: Path, sound: Sound, thresholds: Sequence[float]) -> list[list[Decision]]:
    (source,) = folder.glob("*.c")
    found = []
    with tempfile.TemporaryDirectory() as place:
        main = MAIN.replace("NAME", source.stem).replace("PIECE", str(PIECES["C99"]))
        (Path(place) / "main.c").write_text(main)
        for threshold in thresholds:
            flags = ["-std=c99", "-O2", f"-I{folder}", f"-D{source.stem.upper()}_THRESHOLD={threshold}"]
            subprocess.run(["cc", *flags, "-o", "decide", "main.c", source.resolve(), "-lm"], cwd=place, check=True)
            done = subprocess.run([f"{place}/decide"], input=sound.tobytes(), capture_output=True, check=True)
            rows = [line.split() for line in done.stdout.decode().splitlines()]
            found.append([Decision(float(time_s), label, float(score)) for time_s, label, score in rows])
    return found


def by_page(folder: Path, sound: Sound, thresholds: Sequence[float]) -> list[list[Decision]]:
    with tempfile.TemporaryDirectory() as place:
        script = _script((folder / "index.html").read_text("utf-8"))
        (Path(place) / "main.mjs").write_text(script + NODE, encoding="utf-8")
        (Path(place) / "sound.f32").write_bytes(sound.tobytes())
        options = json.dumps({"piece": PIECES["page"], "thresholds": list(thresholds)})
        done = subprocess.run(["node", "main.mjs", options], cwd=place, capture_output=True, check=True)
    return [[Decision(**one) for one in each] for each in json.loads(done.stdout)]


def compared(found: Sequence[Decision], expected: Sequence[Decision]) -> tuple[int, float]:
    """How many decisions are in one list only, and the largest difference of a score of the others."""
    one, other = ({(round(each.time_s, 6), each.label): each.score for each in some} for some in (found, expected))
    largest = max((abs(one[key] - other[key]) for key in one.keys() & other.keys()), default=0.0)
    return len(one.keys() ^ other.keys()), largest


def exits(folder: Path, run: Path, sound: Sound, thresholds: Sequence[float]) -> Iterator[tuple[str, Any]]:
    """The decisions at each threshold, exit by exit, Python's first."""
    model, package = load_model(run), deploy.load(folder)
    facts = package.manifest.stream
    if facts is None:
        raise SystemExit(f"{folder} cannot stream: {package.manifest.left_out.get('stream')}")
    settings = {name: getattr(facts, name) for name in ("window_s", "smooth_s", "refractory_s", "background")}
    yield "Python", [streamed(model.stream(threshold=t, **settings), sound, PIECES["Python"]) for t in thresholds]
    yield "deploy", [streamed(package.stream(threshold=t), sound, PIECES["deploy"]) for t in thresholds]
    yield "C99", by_c(folder, sound, thresholds)
    yield "page", by_page(folder, sound, thresholds)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of cello export, with every form")
    parser.add_argument("run", type=Path, help="that it is of")
    parser.add_argument("--corpus", default="speech-commands", help="whose test clips are strung")
    parser.add_argument("--minutes", type=float, default=30.0, help="of sound")
    parser.add_argument("--thresholds", type=float, nargs="+", default=[0.3, 0.6, 0.8, 0.93])
    options = parser.parse_args()
    rate_hz = load_model(options.run).features.rate_hz
    sound, clips = sound_of(open_corpus(options.corpus, rate_hz=rate_hz), options.minutes)
    print(f"{clips} clips in {len(sound) / rate_hz / 60:.1f} min of sound")  # noqa: T201
    differ, expected = 0, []
    for name, found in exits(options.folder, options.run, sound, options.thresholds):
        expected = expected or found
        for threshold, one, wanted in zip(options.thresholds, found, expected, strict=True):
            count, largest = compared(one, wanted)
            differ += count
            print(f"{name:8}threshold {threshold:g}: {len(one)} decisions, {count} differ, scores within {largest:.2g}")  # noqa: T201
    return int(differ > 0)


if __name__ == "__main__":
    sys.exit(main())
