"""What hurts: an option given twice, of which the first is forgotten without a word."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest

from cello.cli.evaluate import Evaluate
from cello.cli.export import Export
from cello.cli.main import _parsed, main
from cello.cli.repeated import Option, gathered, options_of
from cello.cli.train import Train


@pytest.mark.parametrize(
    ("arguments", "field", "value"),
    [
        ("evaluate RUN --map a=x --map b=x --map c=", "mapping", ("a=x", "b=x", "c=")),
        ("evaluate RUN --map a=x b=x --map=c=x", "mapping", ("a=x", "b=x", "c=x")),
        ("evaluate --map=a=x RUN --map=b=x", "mapping", ("a=x", "b=x")),
        ("evaluate RUN --background a --split all --background b c", "background", ("a", "b", "c")),
        ("evaluate RUN --columns label=a --columns path=b", "columns", ("label=a", "path=b")),
        ("evaluate RUN --labels yes,no --labels up", "labels", "yes,no,up"),
        ("evaluate RUN --allow-bad 0.1 --allow_bad 0.1", "allow_bad", 0.1),
        ("export RUN --to onnx --to c99", "to", ("onnx", "c99")),
        ("export --to onnx c99 RUN", "to", ("onnx", "c99")),
        ("export RUN --background a --background b", "background", ("a", "b")),
        ("report DIR --format html csv --format md", "format", ("html", "csv", "md")),
        ("study --set model.hidden=3 optimiser.epochs=2 gates", "set_", ("model.hidden=3", "optimiser.epochs=2")),
        ("tune gates --set model.hidden=3 --set optimiser.epochs=2", "set_", ("model.hidden=3", "optimiser.epochs=2")),
        ("train --data.test-snr-db 0 -5 --data.test_snr_db 5", "data.test_snr_db", (0.0, -5.0, 5.0)),
        ("bench cells --cell lstm --cell gru", "cell", (("lstm",), ("gru",))),
        ("corpus inspect spoken --columns label=a --columns path=b", "columns", ("label=a", "path=b")),
    ],
)
def test_what_is_given_again_is_added(arguments: str, field: str, value: object) -> None:
    found: Any = _parsed(arguments.split())
    for part in field.split("."):
        found = getattr(found, part)
    assert found == value
    assert "RUN" not in str(value)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("evaluate RUN --corpus a --corpus b", "--corpus takes one value and is given twice (a, b); give it once"),
        ("train --seed 1 --model.hidden=4 --seed=2", "--seed takes one value and is given twice (1, 2); give it once"),
        ("train --model.hidden 4 --model.hidden=8", "--model.hidden takes one value and is given twice (4, 8)"),
    ],
)
def test_an_option_of_one_value_is_refused_with_two(
    arguments: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments.split()) == 1
    assert said in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("arguments", "field", "value"),
    [
        ("evaluate --map a=x RUN --split all", "mapping", ("a=x",)),
        ("evaluate --map a=x b=y RUN --split all --stream", "mapping", ("a=x", "b=y")),
        ("evaluate --map=a=x RUN --split all", "mapping", ("a=x",)),
        ("evaluate --map a=x --split all RUN", "mapping", ("a=x",)),
        ("evaluate --columns label=a path=b RUN --map c=", "columns", ("label=a", "path=b")),
        ("evaluate --split all RUN --background a b --out x", "background", ("a", "b")),
        ("evaluate --stream RUN --background a b --out x", "background", ("a", "b")),
        ("evaluate --background a b --out x RUN", "background", ("a", "b")),
        ("export --to onnx c99 RUN --background a b --out x", "background", ("a", "b")),
    ],
)
def test_what_a_command_needs_is_no_value_of_an_option_before_it(arguments: str, field: str, value: object) -> None:
    found: Any = _parsed(arguments.split())
    assert getattr(found, field) == value
    assert str(getattr(found, "run_folder", getattr(found, "folder", getattr(found, "corpus", "")))) in (
        "RUN",
        "spoken",
    )


def test_what_an_option_swallowed_is_told_with_the_place_for_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--background", "a", "RUN", "--split", "all"]) == 1
    assert (
        "RUN is missing: --background takes every word after it for a value, 'RUN' too; write RUN before the options"
    ) in " ".join(capsys.readouterr().err.split())
    for left in ("evaluate --background a b --out x --help", "corpus list"):  # nothing is missing
        with suppress(SystemExit):
            main(left.split())
        assert "is missing" not in capsys.readouterr().err


def test_every_option_is_known_by_what_it_takes() -> None:
    known = options_of(Evaluate) | options_of(Train)
    taken = {flag: known[flag].takes for flag in ("--map", "--labels", "--corpus", "--optimiser.epochs", "--from")}
    assert taken == {
        "--map": "several values",
        "--labels": "a list",
        "--corpus": "one value",
        "--optimiser.epochs": "one value",
        "--from": "one value",
    }
    assert not {"--run-folder", "--stated", "--stream"} & set(known)
    assert options_of(Export)["--to"].follows("c99")
    assert not options_of(Export)["--to"].follows("runs/first")


def test_words_that_are_not_an_options_own_stay() -> None:
    options = {"--map": Option("several values")}
    assert gathered(["evaluate", "--map=a=b", "RUN", "--map=c=d", "x"], options) == [
        "evaluate",
        "RUN",
        "x",
        "--map",
        "a=b",
        "c=d",
    ]
    plain = ["evaluate", "RUN", "--map=a=b", "--out=", "-x"]
    assert gathered(plain, options) == plain
