"""Write the model card of an exported folder: what the model is, how good, for what not, and how to run it."""

from __future__ import annotations

from collections.abc import Iterable

from cello.deploy.manifest import Interval, Manifest
from cello.report.visible import visible
from cello.trained.run import TrainedRun


def card(manifest: Manifest, trained: TrainedRun) -> str:
    """The card in Markdown."""
    sections = (_head(manifest, trained), _training(manifest, trained), _accuracy(manifest, trained), _stream(manifest))
    rest = (_limits(manifest), _usage(manifest), _licences(manifest))
    return "\n\n".join("\n".join(lines) for lines in (*sections, *rest) if lines) + "\n"


def _told(text: str) -> str:
    """Text of strangers in a line or a cell of a table."""
    shown = visible(text)
    return "".join(f"\\{letter}" if letter in "\\`*_[]<>|#" else letter for letter in shown)


def _percent(value: float) -> str:
    return f"{100 * value:.2f} %"


def _with_interval(found: Interval) -> str:
    if found.low is None or found.high is None:
        return f"{_percent(found.value)} (no interval)"
    return f"{_percent(found.value)} (95 % interval {_percent(found.low)} to {_percent(found.high)}, over {found.over})"


def _head(manifest: Manifest, trained: TrainedRun) -> list[str]:
    cell = trained.parts.layers[0][0].cell
    model = trained.result.config.model
    name = manifest.row or cell.name
    layers = f"{model.layers} layer{'s' * (model.layers > 1)} of {model.hidden} units"
    both = " in both directions" if model.bidirectional else ""
    front = manifest.front_end
    return [
        f"# {_told(name)}",
        "",
        f"A recurrent network that says which of {len(manifest.labels)} labels a sound is: {layers}{both} of the cell "
        f"{_told(cell.name)}, pooling {model.pooling}, {trained.result.parameters:,} parameters.",
        f"It takes sound at {front.rate_hz:,} Hz and computes {front.dimensions} features "
        f"({manifest.features.get('kind', '')}) every {1000 * front.hop_samples / front.rate_hz:g} ms.",
        *_precision(manifest),
        "",
        f"Labels: {', '.join(map(_told, manifest.labels))}.",
        "",
        f"Exported by Cello {manifest.cello} from run `{manifest.run}`; all of this is in `manifest.json` too.",
    ]


def _precision(manifest: Manifest) -> list[str]:
    found = manifest.precision
    return [f"Every form computes in {found.words}: {_told(found.why)}."] if found.why else []


def _training(manifest: Manifest, trained: TrainedRun) -> list[str]:
    corpus, config = manifest.corpus, trained.result.config
    clips = ", ".join(f"{count:,} {name}" for name, count in corpus.clips.items())
    lines = ["## How it was trained", ""]
    of = f" Row {_told(manifest.row)} of the study {_told(manifest.study)}." if manifest.study else ""
    how = "the last, fixed beforehand" if config.optimiser.choose == "last" else "chosen on the validation clips"
    lines.append(f"{trained.result.chosen_epoch} of {config.optimiser.epochs} epochs, {how}; seed {config.seed}.{of}")
    lines.append(f"Corpus {_told(corpus.name)}: {_told(corpus.origin or 'origin not recorded')}. Clips: {clips}.")
    if corpus.speakers:
        speakers = ", ".join(f"{count:,} {name}" for name, count in corpus.speakers.items())
        lines.append(f"Speakers: {speakers}.")
    if trained.corpus.shared_speakers:
        lines.append(
            f"{trained.corpus.shared_speakers} test speakers are in training or validation too, so accuracies are too "
            "high for new speakers."
        )
    return lines


def _accuracy(manifest: Manifest, trained: TrainedRun) -> list[str]:
    lines = ["## How good it is", ""]
    own, study = manifest.test_accuracy, manifest.study_accuracy
    if own is None:
        return [*lines, "The test clips were not evaluated."]
    lines.append(f"Test accuracy of this run: {_with_interval(own)}.")
    if study is not None:
        lines.append(f"Mean over the study's seeds: {_with_interval(study)}.")
    lines.append("Only test clips count that it was neither trained nor chosen on.")
    if lost := trained.result.config.data.lost_frames:
        lines.append(f"These clips missed {100 * lost:g} % of their frames, as in training; here none is lost.")
    if (int8 := manifest.int8) is not None:
        cost = "not measured" if int8.points_lost is None else f"{int8.points_lost:.2f} points of validation accuracy"
        lines.append(f"Weights have 8 bits; accuracy lost by it: {cost}.")
    if manifest.word_accuracy:
        lines += ["", "| label | test accuracy |", "| --- | --- |"]
        lines += [f"| {_told(label)} | {_percent(share)} |" for label, share in manifest.word_accuracy.items()]
    return lines


def _stream(manifest: Manifest) -> list[str]:
    lines, stream = ["## On endless sound", ""], manifest.stream
    if stream is None:
        return [*lines, f"It cannot stream: {_told(manifest.left_out.get('stream', 'it was not exported for it'))}."]
    lines.append(
        f"Scores are pooled over {stream.window_s:g} s, probabilities averaged over {stream.smooth_s:g} s. A decision "
        f"needs an average of {stream.threshold:g} and {stream.refractory_s:g} s since the last one."
    )
    if stream.background:
        lines.append(f"Never decided for: {', '.join(map(_told, stream.background))}.")
    measured = stream.measured
    if measured is None:
        lines.append("The threshold was not measured: expect false alarms, and measure with cello evaluate --stream.")
        return lines
    alarms = measured.false_alarms_an_hour
    rates = f" ({alarms.low:.2f} to {alarms.high:.2f})" if alarms.low is not None and alarms.high is not None else ""
    missed = f"; missed: {_with_interval(measured.miss_rate)}" if measured.miss_rate is not None else ""
    lines.append(
        f"Measured on {measured.hours:.2f} hours of {_told(measured.corpus)} with {measured.words:,} clips of its "
        f"labels: {alarms.value:.2f} false alarms an hour{rates}{missed}."
    )
    return lines


def _limits(manifest: Manifest) -> list[str]:
    lines = ["## Limits", ""]
    lines += [
        "- It knows its labels alone: any other sound gets one of them too, often with a high probability.",
        "- Figures hold for sound like its corpus. Other microphones, rooms, languages and voices may do worse.",
        "- It is not made to identify people, and no decision about people should rest on it alone.",
    ]
    lines += [f"- Not in this folder, {form}: {_told(why)}." for form, why in manifest.left_out.items()]
    return lines


def _usage(manifest: Manifest) -> list[str]:
    lines = ["## How to run it", "", "Check every form that can run here: `cello export . --check`"]
    if "onnx" in manifest.exits:
        lines += _code("Python, with numpy and onnxruntime", "python", _python(manifest))
        lines += _code("A microphone", "sh", ["pip install 'cello-rnn[listen]'", "cello listen ."])
    if "c99" in manifest.exits:
        lines += _code("C99, no library", "c", _c99(*manifest.exits["c99"]))
    if "page" in manifest.exits:
        lines += [
            "",
            "A browser: open `index.html`. It listens to the microphone or a dropped file, and sends nothing.",
        ]
    return lines


def _python(manifest: Manifest) -> list[str]:
    lines = ["import cello.deploy", 'package = cello.deploy.load(".")']
    lines += ["label, probability = package.predict(samples, rate_hz)[0]    # a clip"]
    if manifest.stream is None:
        return lines
    lines += ["stream = package.stream()    # endless sound: one stream, pieces of any size"]
    return [*lines, "decisions = stream.push(samples, rate_hz)    # time in s, label, average probability"]


def _c99(header: str, source: str) -> list[str]:
    name = header.removesuffix(".h")
    return [
        "#include <stdio.h>",
        f'#include "{header}"    /* build: cc -std=c99 -O2 -c {source} */',
        "",
        f"static {name}_stream stream;",
        f"static {name}_decider decider;",
        "",
        f"/* called with the {name.upper()}_CLASSES scores of every step */",
        "static void on_step(void *context, int64_t step, const float *scores) {",
        f"    {name}_decision found;",
        "    (void)context, (void)step;",
        f"    if ({name}_decide(&decider, scores, {name}_end(&stream), &found))",
        f'        printf("%.2f s %s\\n", found.time_s, {name}_labels[found.label]);',
        "}",
        "",
        f"void begin(void) {{ {name}_start(&stream); {name}_listen(&stream, on_step, NULL); "
        f"{name}_decider_start(&decider); }}",
        f"void hear(const int16_t *samples, int n) {{ {name}_push_int16(&stream, samples, n); }}    /* any n */",
        f"void end(void) {{ {name}_finish(&stream); }}",
    ]


def _code(title: str, language: str, lines: Iterable[str]) -> list[str]:
    return ["", f"{title}:", "", f"```{language}", *lines, "```"]


def _licences(manifest: Manifest) -> list[str]:
    data = manifest.corpus.licence or "not known to Cello; ask whoever made the corpus"
    return [
        "## Licences",
        "",
        f"- Data: {_told(data)}.",
        "- Weights: as whoever trained them says; the licence of the data may ask for attribution.",
        "- What Cello wrote into the C, JavaScript and HTML files: Apache-2.0.",
    ]
