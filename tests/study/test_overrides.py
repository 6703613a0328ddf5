"""What hurts: a setting that is given and not obeyed, or silently undoes what the study compares."""

from __future__ import annotations

import tomllib

import pytest

from cello.errors import ConfigError, StudyError
from cello.study.catalogue import BUILTIN, QUESTIONS, builtin_text
from cello.study.config import StudyConfig
from cello.study.overrides import override, parse_overrides, replaced
from cello.study.plan import plan
from cello.study.settings import SECTIONS, check_section, known_settings
from cello.study.study_file import load_study, parse_study
from cello.training.config import CorpusRef

CORPUS = CorpusRef(name="x", checksum="0")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model.hidden", "--set 'model.hidden' has no value; write KEY=VALUE, as model.hidden=96"),
        ("folds=5", "--set folds is invalid: folds belong to the study; give --folds '5'"),
        ("model.hiden=3", "--set: unknown setting 'model.hiden'; did you mean 'model.hidden'? cello study --settings"),
        ("hidden=3", "--set: unknown setting 'hidden'; did you mean 'model.hidden'? "),
        ("=3", "--set: unknown setting ''; cello study --settings lists all"),
        ("model=3", "--set: unknown setting 'model'; "),
        ("model.hidden.x=3", "--set: unknown setting 'model.hidden.x'; did you mean 'model.hidden'? "),
        ("model.hidden=many", "--set: model.hidden = 'many': Expected `int`, got `str`"),
        ("model.hidden=3.5", "--set: model.hidden = 3.5: Expected `int`, got `float`"),
        ("model.hidden=", "--set: model.hidden = '': Expected `int`, got `str`"),
        ("model.hidden=3\nx = 4", "--set: model.hidden = '3\\nx = 4': Expected `int`, got `str`"),
        ("model.readout=lst", "--set: model.pooling = 'lst': Invalid enum value 'lst'; choose one of 'last', 'mean', "),
        ("optimiser.learning_rate=nan", "--set: optimiser.learning_rate = nan is invalid: it must be finite"),
        ("features.window_ms=1e300", "--set: features.window_ms = 1e+300 is invalid: it must be at most"),
    ],
)
def test_what_cannot_be_set_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as met:
        parse_overrides([text])
    assert message.replace("`", "'") in str(met.value)


def test_a_setting_may_be_given_by_its_former_name(recwarn: pytest.WarningsRecorder) -> None:
    for name in ("pooling", "readout"):
        assert parse_overrides([f"model.{name}=mean"]) == {"model.readout": "mean"}
    assert parse_overrides(["model.frame_stacking=2"]) == parse_overrides(["model.stack=2"]) == {"model.stack": 2}
    with pytest.raises(ConfigError, match=r"--set model\.pooling is given twice; give it once"):
        parse_overrides(["model.pooling=mean", "model.readout=last"])
    assert not recwarn.list


def test_one_setting_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"--set model\.hidden is given twice; give it once"):
        parse_overrides(["model.hidden=3", "model.hidden = 4"])


def test_values_are_toml_and_bare_words_are_text() -> None:
    given = ["model.hidden = 96", "model.bidirectional=true", 'model.cell="lstm"', "optimiser.name=sgd"]
    assert parse_overrides([*given, "data.test_snr_db=[20, 0]"]) == {
        "model.hidden": 96,
        "model.bidirectional": True,
        "model.cell": "lstm",
        "optimiser.name": "sgd",
        "data.test_snr_db": [20, 0],
    }


def test_a_setting_wins_everywhere_and_what_it_replaces_is_said() -> None:
    study = load_study("windows", "published")
    settings = parse_overrides(["model.hidden=96", "features.window_ms=40", "optimiser.epochs=2", "model.layers=1"])
    runs = plan(override(study, settings=settings), CORPUS)
    assert {run.config.model.hidden for run in runs} == {96}
    assert {run.config.features.window_ms for run in runs} == {40}
    assert {run.config.optimiser.epochs for run in runs} == {2}
    assert replaced(study, settings) == [
        "model.hidden = 96 replaces what the study states in row 'RNN' (256), row 'GRU' (64), row 'LSTM' (64) and 3 "
        "more",
        "features.window_ms = 40 replaces what the study states in column '20 ms' (20), column '80 ms' (80), column "
        "'120 ms' (120)",
        "model.layers = 1 replaces what the study states in row 'GRU' (2), row 'LSTM' (2), row 'BiGRU' (2) and 1 more",
    ]


@pytest.mark.parametrize(("name", "protocol"), [(name, p) for name, known in BUILTIN.items() for p in known])
def test_a_study_that_is_shown_and_saved_plans_the_same_runs(name: str, protocol: str) -> None:
    text = builtin_text(name, protocol)
    assert text.startswith("# ")
    assert plan(parse_study(text, "mine.toml"), CORPUS, 10) == plan(load_study(name, protocol), CORPUS, 10)


def test_every_built_in_study_says_what_it_asks() -> None:
    assert set(QUESTIONS) == set(BUILTIN)
    assert all(question[-1] in ".?" for question in QUESTIONS.values())


def test_every_setting_has_a_line_of_help_with_its_unit() -> None:
    known = {setting.name: setting for setting in known_settings()}
    assert set(known) == {f"{name}.{field}" for name, kind in SECTIONS.items() for field in kind.__struct_fields__}
    for name, setting in known.items():
        assert 5 < len(setting.help) < 170, name
        assert setting.type, name
        for end, unit in (("_ms", "ms"), ("_hz", "Hz"), ("_db", "dB")):
            assert not name.endswith(end) or unit in setting.help, name


def test_defaults_are_told_as_a_file_states_them() -> None:
    for setting in known_settings():
        if setting.default:
            section, _, field = setting.name.partition(".")
            value = tomllib.loads(f"value = {setting.default}")["value"]
            check_section({field: value}, section, "f", section)
            default = getattr(SECTIONS[section](), field)
            assert value == (list(default) if isinstance(default, tuple) else default)


def test_override_wins_in_every_row(small: StudyConfig) -> None:
    changed = override(small, seeds=[7], settings={"optimiser.epochs": 2, "model.hidden": 9})
    assert {(r.config.optimiser.epochs, r.config.model.hidden, r.seed) for r in plan(changed, CORPUS)} == {(2, 9, 7)}
    assert override(small) == small
    with pytest.raises(ConfigError, match=r"override: unknown key optimiser\.epoch; did you mean 'epochs'"):
        override(small, settings={"optimiser.epoch": 2})
    with pytest.raises(ConfigError, match=r"override: unknown section 'optimizer'; did you mean 'optimiser'"):
        override(small, settings={"optimizer.epochs": 2})
    with pytest.raises(ConfigError, match=r"override: optimiser\.epochs = '2': Expected 'int'"):
        override(small, settings={"optimiser.epochs": "2"})
    with pytest.raises(StudyError, match="has no seeds"):
        override(small, seeds=[])
