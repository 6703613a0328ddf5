"""A space that tries what was not meant, or what could never run, would waste the whole budget."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from cello.errors import ConfigError
from cello.study.catalogue import BUILTIN
from cello.study.overrides import override
from cello.study.plan import plan
from cello.study.space import DEFAULT, Dimension, TuneConfig, Tuned, applied, parse_tune
from cello.study.store import Header, Store
from cello.study.study_file import load_both, load_study, parse_study
from cello.training.config import CorpusRef, RunConfig

CORPUS = CorpusRef(name="tones", checksum="0" * 64)
STUDY = 'name = "x"\nseeds = [0, 1]\n[[rows]]\nname = "A"\n'
TUNE = """
[tune]
trials = 7
epochs = 3
seed = 4
column = "40 ms"
[tune.space]
"optimiser.learning_rate" = { low = 1e-4, high = 1e-2, log = true }
model.hidden = { low = 16, high = 64 }
optimiser.batch = { choices = [32, 64] }
"""
ROOT = Path(__file__).parents[2]
RESULTS = sorted((ROOT / "results" / "speech_commands_12").rglob("study.json"))
"""The committed stores; what a user has computed beside them is the user's, and may be of any study."""


def test_a_file_says_what_is_tried_with_or_without_quotes_around_a_setting(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text(STUDY + TUNE)
    assert load_both(file)[1] == TuneConfig(
        trials=7,
        epochs=3,
        seed=4,
        column="40 ms",
        space={
            "optimiser.learning_rate": Dimension(low=1e-4, high=1e-2, log=True),
            "model.hidden": Dimension(low=16, high=64),
            "optimiser.batch": Dimension(choices=(32, 64)),
        },
    )
    assert load_both("gates", "quick")[1] == TuneConfig(space=DEFAULT)


def test_tune_changes_no_run_and_no_header() -> None:
    plain, tuned = parse_study(STUDY, "x.toml"), parse_study(STUDY + TUNE, "x.toml")
    assert plan(plain, CORPUS) == plan(tuned, CORPUS)
    assert msgspec.json.encode(plain) == msgspec.json.encode(tuned)
    assert "tune" not in msgspec.to_builtins(tuned)


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.parent.name)
@pytest.mark.filterwarnings("ignore:study .windows. was begun here with PyTorch")
def test_committed_stores_are_still_those_of_their_studies(path: Path) -> None:
    store = Store.open(path.parent)
    if store.study.tuned is None:
        built_in = store.study.name in BUILTIN
        file = ROOT / "studies" / f"{store.study.name}.toml"
        study = load_study(store.study.name, store.study.protocol) if built_in else load_study(file)
    else:  # a tuning wrote it, which is committed beside it
        stem = f"{store.study.name}-{store.study.protocol.removesuffix('-tuned')}-tuning"
        tuned = load_study(path.parents[1] / stem / "tuned.toml")
        study = override(tuned, seeds=store.study.seeds, match=store.study.match)
    header = store.grown(study, store.header.corpus, store.header.source)
    assert {run.id for run in header.runs} == {run.id for run in store.runs}
    assert store.pending(header.runs) == store.pending()
    assert msgspec.json.decode(msgspec.json.encode(header), type=Header) == header


@pytest.mark.parametrize(
    ("tune", "message"),
    [
        ("[tune]\ntrails = 3", r"f\.toml: unknown key tune\.trails; did you mean 'trials'\? Known: column, epochs"),
        ("[tunes]\ntrials = 3", r"f\.toml: unknown key tunes; did you mean 'tune'\?"),
        (
            '[tune.space]\n"optimiser.batch" = { choices = [[32], [64]] }',
            r"f\.toml: tune\.space: optimiser\.batch: choices holds \[32\], but each must be one value; write ",
        ),
        (
            '[tune.space]\n"optimiser.batch" = { choices = [{ a = 1 }, 2] }',
            r"choices holds \{'a': 1\}, but each must be",
        ),
        (
            '[tune.space]\n"model.dropout" = { low = 0, high = nan }',
            r"model\.dropout: nan is invalid: it must be finite",
        ),
        ("[tune]\ntrials = 1000000000", r"f\.toml: tune\.trials=1000000000 is too large; give at most 1000000"),
        ("[tune]\ntrials = 0", r"f\.toml: tune\.trials=0 is invalid: it must be at least 1"),
        ('[tune]\ntrials = "all"', r"f\.toml: tune: Expected 'int'"),
        ("[tune.space]", r"tune\.space is empty, so nothing to try"),
        ("[tune.space]\noptimiser.learning_rat = {low = 1}", r"key tune\.space\.optimiser\.learning_rat; did you mean"),
        ("[tune.space]\noptimizer.momentum = {low = 1}", r"unknown section 'optimizer'; did you mean 'optimiser'\?"),
        ("[tune.space]\nfeatures.window_ms = {low = 1}", r"unknown section 'features'"),
        ("[tune.space]\nmodel.cell = {choices = ['gru', 'lstm']}", r"model\.cell cannot be tuned: the cell is what"),
        (
            "[tune.space]\nmodel.dropout = 0.3",
            r"model\.dropout = 0\.3 is one value, not a range or a list; write \"opt",
        ),
        (
            "[tune.space]\nmodel.dropout = {low = 0, hihg = 1}",
            r"key tune\.space\.model\.dropout\.hihg; did you mean 'hi",
        ),
        ("[tune.space]\nmodel.dropout = {low = 0}", r"model\.dropout needs both low and high, or choices"),
        ("[tune.space]\nmodel.dropout = {low = 0.5, high = 0.1}", r"low = 0\.5 is not below high = 0\.1"),
        ("[tune.space]\nmodel.dropout = {low = 0, high = 0.1, log = true}", r"low = 0 has no logarithm; give"),
        ("[tune.space]\nmodel.hidden = {low = 1.5, high = 9}", r"model\.hidden = 1\.5: Expected 'int', got 'float'"),
        (
            "[tune.space]\nmodel.readout = {low = 1, high = 9}",
            r"model\.pooling is not a number, so low and high are invalid",
        ),
        ("[tune.space]\nmodel.readout = {choices = ['mean', 'lst']}", r"'lst': .*choose one of 'last', 'mean', 'att"),
        (
            "[tune.space]\noptimiser.batch = {choices = [32, 32]}",
            r"choices = \[32, 32\] is invalid: it must be two or more",
        ),
    ],
)
def test_what_cannot_be_tried_is_refused_with_the_remedy(tune: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_study(STUDY + tune, "f.toml")


def test_a_trial_is_the_rows_run_with_its_values() -> None:
    base = RunConfig(corpus=CORPUS)
    changed = applied(base, {"optimiser.learning_rate": 0.5, "model.dropout": 0.25, "optimiser.batch": 8})
    assert (changed.optimiser.learning_rate, changed.model.dropout, changed.optimiser.batch) == (0.5, 0.25, 8)
    assert applied(changed, {"optimiser.learning_rate": 2e-3, "model.dropout": 0.0, "optimiser.batch": 64}) == base
    with pytest.raises(ConfigError, match=r"model\.dropout=1\.5 is invalid: it must be from 0"):
        applied(base, {"model.dropout": 1.5})


def test_a_space_says_itself_to_people() -> None:
    space = parse_tune({"space": {"optimiser.batch": {"choices": [32, 64]}}}, "f.toml").space
    assert list(map(str, [*DEFAULT.values(), *space.values()])) == [
        "0.0001 to 0.01, logarithmic",
        "1e-05 to 0.1, logarithmic",
        "0 to 0.5",
        "one of 32, 64",
    ]


def test_a_former_name_is_tuned_as_the_same_setting() -> None:
    spaces = [
        parse_tune({"space": {f"model.{name}": {"choices": ["mean", "last"]}}}, "f") for name in ("pooling", "readout")
    ]
    assert spaces[0] == spaces[1]
    config = applied(RunConfig(corpus=CorpusRef(name="x", checksum="0")), {"model.readout": "mean"})
    assert config.model.pooling == "mean"
    tuned = Tuned(space=spaces[0].space, epochs=1)
    assert str(tuned).endswith("Tried: model.pooling one of mean, last.")
