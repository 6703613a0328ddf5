"""A model on hours of sound: rates must be those of the decisions that a stream really makes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from rich.console import Console

import cello
import made_runs
from cello.audio.corpus import Corpus
from cello.audio.open import open_corpus
from cello.cli.main import main
from cello.cli.stream_table import print_stream
from cello.deploy.decisions import DecisionConfig
from cello.errors import ConfigError, CorpusError
from cello.statistics.detection import rate_interval
from cello.trained.mapping import targets_of
from cello.trained.strung import StreamConfig, StreamEvaluation, _trace, decisions_at, evaluate_stream, strung, word_end

CONFIG = StreamConfig(gap_s=0.3, most_false_alarms=1e5)


def test_decisions_are_those_that_the_stream_makes(make_run: Any, tone_corpus: Corpus) -> None:
    model, decide = cello.load_model(make_run()), DecisionConfig(threshold=0.4, refractory_s=0.5)
    trace = _trace(model, tone_corpus, "test", CONFIG, decide, None, targets_of(model.labels, tone_corpus, {}))
    pieces = [piece for piece, _ in strung(tone_corpus, tone_corpus.indices("test"), CONFIG)]
    top = np.quantile(trace.top, 0.7)
    for threshold, refractory_s in ((0.4, 0.5), (0.0, 0.0), (top, 0.02001), (top, 0.3)):
        stream = model.stream(threshold=threshold, refractory_s=refractory_s)
        expected = [d for piece in pieces for d in stream.push(piece)] + stream.finish()
        found = decisions_at(trace, threshold, model.labels, DecisionConfig(refractory_s=refractory_s))
        assert [(d.time_s, d.label) for d in expected] == found != []


def test_what_was_chosen_before_is_no_default_of_the_next_measurement(make_run: Any, tone_corpus: Corpus) -> None:
    folder = make_run()
    first = evaluate_stream(cello.load_model(folder), tone_corpus, CONFIG, DecisionConfig(refractory_s=0.6), 0.4)
    (folder / "stream.json").write_bytes(msgspec.json.encode(first))
    assert cello.load_model(folder).stream().window_s == 0.4
    again = evaluate_stream(cello.load_model(folder), tone_corpus, CONFIG, DecisionConfig())
    assert again.window_s == pytest.approx(15_000 / 16_000)
    (folder / "stream.json").unlink()
    assert again == evaluate_stream(cello.load_model(folder), tone_corpus, CONFIG, DecisionConfig())


def test_clips_are_strung_once_each_with_noise_between(tone_corpus: Corpus) -> None:
    pieces = list(strung(tone_corpus, tone_corpus.indices("test"), CONFIG))
    assert sorted(clip for _, clip in pieces if clip >= 0) == tone_corpus.indices("test").tolist()
    assert [clip for _, clip in pieces[::2]] == [-1] * 10
    assert all(len(sound) == 4800 and sound.std() > 0.05 for sound, clip in pieces if clip < 0)
    assert all(
        np.array_equal(a[0], b[0])
        for a, b in zip(pieces, strung(tone_corpus, tone_corpus.indices("test"), CONFIG), strict=True)
    )
    quiet = Corpus(tone_corpus.manifest, tone_corpus.sound)
    assert 5e-4 < next(strung(quiet, quiet.indices("test"), CONFIG))[0].std() < 2e-3


def test_the_threshold_is_chosen_on_validation_and_measured_on_test(make_run: Any, tone_corpus: Corpus) -> None:
    model = cello.load_model(make_run())
    found = evaluate_stream(model, tone_corpus, CONFIG, DecisionConfig())
    assert found.validation is not None
    assert found.test is not None
    assert found.threshold == found.validation.threshold == found.test.threshold
    assert found.test in found.curve
    assert found.words == 9
    assert found.hours == pytest.approx((9 * 15_000 + 10 * 4800) / 16_000 / 3600)
    assert found.hours_without_words < found.hours - 9 * 15_000 / 16_000 / 3600
    assert found.test.false_alarms_an_hour == found.test.false_alarms / found.hours_without_words
    assert (found.speakers, found.other_words, found.background) == (3, 0, ())
    assert found.refractory_s == DecisionConfig().refractory_s
    never = evaluate_stream(model, tone_corpus, StreamConfig(most_false_alarms=0), DecisionConfig(background=()))
    assert never.threshold is None or never.validation.false_alarms_an_hour == 0


def test_what_cannot_be_measured_is_refused(make_run: Any, tone_corpus: Corpus) -> None:
    model = cello.load_model(make_run())
    with pytest.raises(ConfigError, match="gap_s=-1 is invalid: it must be finite and at least 0"):
        StreamConfig(gap_s=-1)
    with pytest.raises(CorpusError, match="has no validation clips of words; add some to that split"):
        evaluate_stream(model, tone_corpus, CONFIG, DecisionConfig(background=("high", "low", "rough")))
    clips = tuple(msgspec.structs.replace(clip, label="x") for clip in tone_corpus.manifest.clips)
    other = Corpus(msgspec.structs.replace(tone_corpus.manifest, labels=("x",), clips=clips), tone_corpus.sound)
    with pytest.raises(CorpusError, match="the model has no label 'x' of 'tones'; give the --labels, "):
        evaluate_stream(model, other, CONFIG, DecisionConfig())


@pytest.mark.usefixtures("kernels_of_all")
def test_the_command_prints_the_rates_and_writes_them(
    tone_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "150")
    cache = tmp_path / "cache"
    corpus = open_corpus(f"folder:{tone_folder}", cache=cache)
    run = made_runs.make_run(tmp_path / "run", corpus.manifest)
    common = ["evaluate", str(run), "--corpus", f"folder:{tone_folder}", "--cache", str(cache), "--stream"]
    assert main([*common, "--false-alarms", "100000", "--out", str(tmp_path / "out")]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "3 words by 1 speaker in 0.00 hours" in out
    assert "without those words" in out
    assert "it has no label for noise and other words" in out
    assert "% of words missed" in out
    assert " the end of the word" in out or "no word is found" in out
    assert "false alarms an hour" in out
    told = json.loads((tmp_path / "out" / "stream.json").read_text())
    assert len(told["curve"]) > 40
    assert told["config"]["most_false_alarms"] == 100_000
    assert (tmp_path / "out" / "det.png").read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in (tmp_path / "out" / "det.svg").read_bytes()
    assert main([*common, "--split", "all"]) == 1
    assert "measures it on test clips; leave out --split" in " ".join(capsys.readouterr().err.split())
    assert main([*common, "--background", "hihg"]) == 1
    assert "unknown label 'hihg'; did you mean 'high'?" in " ".join(capsys.readouterr().err.split())
    settings = ["--map", "low=high", "rough=", "--background", "low", "--window-s", "0.5", "--refractory-s", "0.25"]
    assert main([*common, *settings, "--smooth-s", "0.1", "--gap-s", "0.5", "--format", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["words"], told["other_words"], told["background"]) == (2, 0, ["low"])
    assert (told["window_s"], told["refractory_s"], told["smooth_s"]) == (0.5, 0.25, 0.1)
    assert told["config"]["tolerance_s"] == 0.5


def test_clips_of_background_are_other_words_and_those_of_silence_are_noise(make_run: Any, tone_corpus: Corpus) -> None:
    model = cello.load_model(make_run())
    found = evaluate_stream(model, tone_corpus, CONFIG, DecisionConfig(background=("low",)))
    assert (found.words, found.other_words) == (6, 3)
    assert all(rate.in_noise + rate.in_other_words == rate.false_alarms for rate in found.curve)


def test_a_word_is_in_sight_for_a_window_so_a_second_decision_waits_for_longer(make_run: Any) -> None:
    model = cello.load_model(make_run())
    assert model.stream(2.0).config.refractory_s == 2.5
    assert model.stream(2.0, refractory_s=0.1).config.refractory_s == 0.1


def test_a_word_ends_where_its_energy_has_passed() -> None:
    noise = np.random.default_rng(0).normal(0, 0.01, 16_000).astype(np.float32)
    noise[4000:9600] += np.sin(np.arange(5600)).astype(np.float32)
    assert abs(word_end(noise, 16_000) - 9600) <= 320
    assert word_end(np.zeros(1000, np.float32), 16_000) == 1000
    assert word_end(np.zeros(0, np.float32), 16_000) == 0


def test_a_rate_that_so_short_a_stream_cannot_show_is_said(
    make_run: Any, tone_corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "150")
    model = cello.load_model(make_run())
    found = evaluate_stream(model, tone_corpus, CONFIG, DecisionConfig())
    assert found.validation is not None
    assert found.test is not None
    none = replace(found.validation, false_alarms=0, false_alarms_interval=(0.0, 369.0))
    early = replace(found.test, latency_s=-0.08, latency_95_s=0.5)
    for most, told, said in (
        (1, "at most 1 false alarm an hour", True),
        (368, "at most 368 false alarms an hour", True),
        (369, "at most 369 false alarms an hour", False),
    ):
        config = msgspec.structs.replace(found.config, most_false_alarms=most)
        console = Console(record=True, width=400)
        changes = {"validation": none, "test": early, "validation_hours_without_words": 0.01}
        print_stream(console, msgspec.structs.replace(found, config=config, **changes))
        out = console.export_text()
        assert told in out
        assert "on the validation clips it brings 0 false alarms in 0.6 minutes: " in out
        assert ("too short a stream to show so low a rate: it may still be 369 an hour. Add" in out) is said
        assert "decisions come 80 ms before the end of the word (median; 95 % within 500 ms after it)" in out


def printed(found: StreamEvaluation) -> str:
    console = Console(record=True, width=400)
    print_stream(console, found)
    return console.export_text()


def test_one_false_alarm_in_two_minutes_is_no_proof_of_sixty_an_hour(make_run: Any, tone_corpus: Corpus) -> None:
    found = evaluate_stream(cello.load_model(make_run()), tone_corpus, CONFIG, DecisionConfig())
    assert found.validation is not None
    one = replace(
        found.validation, false_alarms=1, false_alarms_an_hour=27.0, false_alarms_interval=rate_interval(1, 1 / 27)
    )
    config = msgspec.structs.replace(found.config, most_false_alarms=60.0)
    short = msgspec.structs.replace(found, config=config, validation=one, validation_hours_without_words=1 / 27)
    out = printed(short)
    assert "it brings 1 false alarm in 2.22 minutes: 27.00 an hour (95 % interval 0.68 to 150.43)" in out
    assert "it may still be 150 an hour" in out
    told = printed(msgspec.structs.replace(short, validation_hours_without_words=None))
    assert "it brings 1 false alarm: 27.00 an hour" in told


def test_a_threshold_that_misses_most_words_says_what_another_brings(make_run: Any, tone_corpus: Corpus) -> None:
    found = evaluate_stream(cello.load_model(make_run()), tone_corpus, CONFIG, DecisionConfig())
    assert found.test is not None
    rates = [
        replace(found.test, threshold=threshold, miss_rate=missed, false_alarms_an_hour=often)
        for threshold, missed, often in ((0.5, 0.2, 90.0), (0.7, 0.4, 30.0), (0.9, 0.8, 2.0))
    ]
    for curve, told in (
        (rates, "at threshold 0.7 it would miss 40.0 %, with 30.00 false alarms an hour; training with more clips"),
        (rates[2:], "it misses most words, and so does every other threshold; training with more clips"),
    ):
        assert told in printed(msgspec.structs.replace(found, test=rates[2], curve=tuple(curve)))
    assert "misses most words" not in printed(msgspec.structs.replace(found, test=rates[1], curve=tuple(rates)))


def test_the_table_ends_where_nothing_is_decided(make_run: Any, tone_corpus: Corpus) -> None:
    model = cello.load_model(make_run())
    found = evaluate_stream(model, tone_corpus, CONFIG, DecisionConfig())
    first = replace(found.curve[0], threshold=0.5, miss_rate=1.0, false_alarms=0)
    curve = (first, *(replace(first, threshold=each) for each in (0.6, 0.7)))
    console = Console(record=True, width=200)
    print_stream(console, msgspec.structs.replace(found, curve=curve))
    table = console.export_text().partition("Test clips at other thresholds")[2]
    assert "0.5" in table
    assert "0.6" not in table
