"""What hurts: a record read fast that is not the record, or one that is damaged and taken for whole."""

from __future__ import annotations

import json

import msgspec
import pytest
from fake_training import epoch_of, manifest, result_of

from cello.study.config import StudyConfig
from cello.study.plan import plan
from cello.study.reading import Reader
from cello.training.config import CorpusRef, DataConfig, RunConfig
from cello.training.result import ConditionMetrics, RunResult, SplitMetrics


def made_up(hidden: int = 3, seed: int = 0, data: DataConfig | None = None) -> RunResult:
    config = RunConfig(corpus=CorpusRef(name="fake", checksum="a" * 64), seed=seed, data=data or DataConfig())
    config = msgspec.structs.replace(config, model=msgspec.structs.replace(config.model, hidden=hidden))
    result = result_of(config, [epoch_of(config, 1, 0.0), epoch_of(config, 2, 0.5)])
    return msgspec.structs.replace(result, hardware={"cpu": "x"}, versions={"cello": "1"})


def test_a_record_is_as_the_plain_decoder_reads_it() -> None:
    metrics = SplitMetrics(clips=3, loss=1.0, accuracy=0.5, word_mean=0.5)
    noisy = msgspec.structs.replace(
        made_up(data=DataConfig(clips_per_label=9, test_snr_db=(0.0, 5.0))),
        conditions=(ConditionMetrics(kind="snr_db", value=0.0, test=metrics),),
    )
    for result in (made_up(), made_up(hidden=64, seed=5), noisy):
        text = msgspec.json.encode(result)
        assert Reader().result(text) == msgspec.json.decode(text, type=RunResult) == result
        assert Reader(curves=False).result(text) == msgspec.structs.replace(result, history=())


def test_a_record_of_before_a_section_or_field_was_there_has_its_default() -> None:
    tree = msgspec.to_builtins(made_up())
    del tree["config"]["data"], tree["config"]["model"]["zoneout"], tree["conditions"], tree["format"]
    assert Reader().result(json.dumps(tree).encode()) == made_up_again(tree)


@pytest.mark.parametrize("curves", [True, False])
def test_times_of_whole_epochs_that_an_old_record_lacks_come_from_its_history(curves: bool) -> None:
    new = made_up()
    tree = msgspec.to_builtins(new)
    for part in (tree, *tree["history"]):
        for name in ("epoch_seconds", "epoch_cpu_seconds", "epoch_clips_per_second"):
            part.pop(name, None)
    found = Reader(curves).result(json.dumps(tree).encode())
    assert found == (new if curves else msgspec.structs.replace(new, history=()))
    assert found.epoch_seconds == new.history[1].train_seconds > 0


def made_up_again(tree: dict[str, object]) -> RunResult:
    return msgspec.json.decode(json.dumps(tree), type=RunResult)


def test_what_runs_share_is_one_object() -> None:
    reader = Reader()
    one, two = (reader.result(msgspec.json.encode(made_up(seed=seed))) for seed in (0, 1))
    other = reader.result(msgspec.json.encode(made_up(hidden=4)))
    assert one.labels is two.labels
    assert one.hardware is two.hardware
    assert one.config.features is two.config.features
    assert one.config.model is two.config.model
    assert other.config.model.hidden == 4
    assert (one.config.seed, two.config.seed) == (0, 1)


def test_plans_are_as_the_plain_decoder_reads_them(small: StudyConfig) -> None:
    runs = plan(small, CorpusRef(name="fake", checksum=manifest().checksum))
    assert Reader().planned(msgspec.Raw(msgspec.json.encode(runs))) == runs


@pytest.mark.parametrize(
    "change",
    [
        {"config": {}},
        {"labels": [1]},
        {"history": [{"epoch": 1}]},
        {"hardware": 3},
        {"test": None},
        {"confusion": [["a"]]},
    ],
)
def test_a_record_of_another_shape_is_refused(change: dict[str, object]) -> None:
    tree = msgspec.to_builtins(made_up()) | change
    with pytest.raises(msgspec.DecodeError):
        Reader().result(json.dumps(tree).encode())


def test_an_unknown_setting_is_refused_as_the_plain_decoder_does() -> None:
    for section in ("model", "features"):
        tree = msgspec.to_builtins(made_up())
        tree["config"][section]["surprise"] = 1
        with pytest.raises(msgspec.ValidationError, match="unknown field `surprise`"):
            Reader().result(json.dumps(tree).encode())
    tree = msgspec.to_builtins(made_up())
    tree["config"]["surprise"] = {}
    with pytest.raises(msgspec.ValidationError, match="unknown field `surprise`"):
        Reader().result(json.dumps(tree).encode())
