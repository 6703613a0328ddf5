"""Print how a model does on a stream, and draw its DET curve."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from cello.terminal import counted, say

if TYPE_CHECKING:
    from cello.trained.strung import StreamEvaluation

SHOWN = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.86, 0.9, 0.93, 0.95, 0.97, 0.98, 0.99, 0.995, 0.999, 0.9999)
"""The thresholds that the table shows; stream.json and the plot have all."""
MOST = 0.5
"""The share of words above which most are missed."""


def print_stream(console: Console, found: StreamEvaluation) -> None:
    """What the threshold brings in sentences, and other thresholds in a table."""
    others = f", {counted(found.other_words, 'clip')} of other words" if found.other_words else ""
    by = f" by {counted(found.speakers, 'speaker')}" if found.speakers else ""
    say(
        console,
        f"run {found.run} on {found.corpus}: {counted(found.words, 'word')}{by}{others} in {found.hours:.2f} hours of "
        f"sound; false alarms are counted an hour of the {found.hours_without_words:.2f} hours without those words",
    )
    never = f", never {', '.join(found.background)}" if found.background else ""
    say(
        console,
        f"window {found.window_s:g} s, smoothed over {found.smooth_s:g} s, {found.refractory_s:g} s without a second "
        f"decision{never}",
    )
    if not found.background:
        say(
            console,
            "it has no label for noise and other words, so it takes any sound for a word: train with --silence and "
            "--unknown",
        )
    asked = found.config.most_false_alarms
    most = f"at most {asked:g} false alarm{'s' * (asked != 1)} an hour on the validation clips"
    if found.test is None:
        say(console, f"no threshold brings {most}")
    else:
        say(console, f"threshold {found.test.threshold:g}, {most}, brings on the test clips:")
        for sentence in (_sentence, _late, _on_validation, _too_short, _advice):
            if text := sentence(found):
                say(console, text)
    table = Table(
        "threshold", "false alarms an hour", "missed", "confused", "repeated", title="Test clips at other thresholds"
    )
    for rate in found.curve:
        if rate.threshold in SHOWN:
            shares = (f"{100 * share:.1f} %" for share in (rate.miss_rate, rate.confusion_rate, rate.repeat_rate))
            table.add_row(f"{rate.threshold:g}", f"{rate.false_alarms_an_hour:.2f}", *shares)
            if rate.miss_rate == 1 and not rate.false_alarms:
                break  # higher thresholds decide nothing either
    console.print(table)


def _on_validation(found: StreamEvaluation) -> str:
    """What the threshold was chosen by."""
    rate = found.validation
    assert rate is not None
    rare, often = rate.false_alarms_interval
    hours = found.validation_hours_without_words
    sound = "" if hours is None else f" in {hours:.2f} hours" if hours >= 1 else f" in {60 * hours:.3g} minutes"
    return (
        f"on the validation clips it brings {counted(rate.false_alarms, 'false alarm')}{sound}: "
        f"{rate.false_alarms_an_hour:.2f} an hour (95 % interval {rare:.2f} to {often:.2f})"
    )


def _too_short(found: StreamEvaluation) -> str:
    """What to say where the validation clips cannot show that so few false alarms come as were asked for."""
    assert found.validation is not None
    often, most = found.validation.false_alarms_interval[1], found.config.most_false_alarms
    if often <= most:
        return ""
    return (
        f"the validation clips are too short a stream to show so low a rate: it may still be {often:.0f} an hour. "
        f"Add validation clips, or ask for more with --false-alarms"
    )


def _advice(found: StreamEvaluation) -> str:
    """What else there is where most words are missed: the highest threshold that finds half of them, and training."""
    if found.test is None or found.test.miss_rate <= MOST:
        return ""
    more = "; training with more clips of other words and of noise (--unknown, --silence) brings fewer false alarms"
    better = [rate for rate in found.curve if rate.miss_rate <= MOST]
    if not better:
        return f"it misses most words, and so does every other threshold{more}"
    rate = better[-1]
    return (
        f"it misses most words: at threshold {rate.threshold:g} it would miss {100 * rate.miss_rate:.1f} %, with "
        f"{rate.false_alarms_an_hour:.2f} false alarms an hour{more}"
    )


def _sentence(found: StreamEvaluation) -> str:
    rate = found.test
    assert rate is not None
    miss = f"{100 * rate.miss_rate:.1f} % of words missed"
    if rate.miss_interval is not None:
        low, high = rate.miss_interval
        new = "speakers" if found.speakers else "words"
        miss += f" (95 % interval {100 * low:.1f} to {100 * high:.1f} %, for new {new})"
    rare, often = rate.false_alarms_interval
    others = f", {rate.in_other_words:,} in {counted(found.other_words, 'other word')}" if found.other_words else ""
    return (
        f"{miss}, {rate.false_alarms_an_hour:.2f} false alarms an hour ({rare:.2f} to {often:.2f}; {rate.in_noise:,} "
        f"in noise{others}), {100 * rate.confusion_rate:.1f} % of words taken for another, "
        f"{100 * rate.repeat_rate:.1f} % decided twice"
    )


def _late(found: StreamEvaluation) -> str:
    rate = found.test
    if rate is None or rate.latency_s is None or rate.latency_95_s is None:
        return "no word is found, so there is no latency"
    delay = f", {1000 * found.delay_s:.0f} ms of it the delay of deltas" if found.delay_s else ""
    side = "before" if rate.latency_s < 0 else "after"
    return (
        f"decisions come {1000 * abs(rate.latency_s):.0f} ms {side} the end of the word (median; 95 % within "
        f"{1000 * rate.latency_95_s:.0f} ms after it){delay}; where a word ends is estimated from its energy"
    )


def pictures(found: StreamEvaluation) -> dict[str, bytes]:
    """The DET curve as files by name."""
    from cello.report.plot_detection import Detection, detection
    from cello.report.plots import png, svg_file

    panel = detection(
        Detection(
            curve=found.curve, chosen=found.test, hours=found.hours_without_words, words=found.words,
            speakers=found.speakers, name=f"{found.corpus}, run {found.run[:8]}",
        )
    )  # fmt: skip
    return {"det.png": png([panel], dpi=150), "det.svg": svg_file(panel)}
