from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from cello.report import findings, paper
from cello.report.formats import markdown
from cello.report.metrics import BY_KEY
from cello.report.results import Failure, Run, StudyResults
from cello.report.tables import best_cell
from cello.statistics.random_effects import Estimate
from cello.study.config import StudyConfig
from cello.study.space import Dimension, Tuned

Without = Callable[[StudyResults, Callable[[Run], bool]], StudyResults]


def test_a_whole_study_says_so(windows: StudyResults) -> None:
    assert findings.progress(windows) == "6 models × 4 windows × 2 seeds, protocol “fair”: all 48 runs are finished."
    assert findings.missing(windows) == []


def test_a_partial_study_says_so_and_names_what_is_missing(windows: StudyResults, without: Without) -> None:
    partial = without(windows, lambda r: r.row == "gru" and r.column == "40 ms")
    partial = msgspec.structs.replace(
        partial, failures=(Failure(row="gru", column="40 ms", seed=1, reason="loss is not finite"),)
    )
    assert "46 of 48 planned runs are finished" in findings.progress(partial)
    assert findings.missing(partial) == [
        "Failed: gru, 40 ms, seed 1: loss is not finite",
        "Not finished: gru, 40 ms, seed 0",
    ]
    assert "up to 2 seeds" in findings.seeds(partial)


def test_many_missing_runs_are_counted_not_listed(windows: StudyResults, without: Without) -> None:
    lines = findings.missing(without(windows, lambda r: r.row != "gru"))
    assert len(lines) == findings.LISTED + 1
    assert lines[-1] == "Not finished: 28 more"


def test_one_seed_is_said_to_carry_no_interval(many_labels: StudyResults) -> None:
    assert findings.seeds(many_labels).startswith("One seed")


def test_different_machines_are_named_beside_their_times(windows: StudyResults) -> None:
    other = msgspec.structs.replace(windows.runs[0].result, hardware={"cpu": "Another"})
    mixed = msgspec.structs.replace(
        windows, runs=(msgspec.structs.replace(windows.runs[0], result=other), *windows.runs[1:])
    )
    assert "do not compare" in findings.machines(mixed)
    assert "cpu Another (1 run)" in findings.machines(mixed)
    assert "do not compare" not in findings.machines(windows)


def test_a_precision_other_than_float32_is_named(windows: StudyResults) -> None:
    def with_precision(run: Run, precision: str) -> Run:
        return msgspec.structs.replace(run, result=msgspec.structs.replace(run.result, precision=precision))

    rounded = [with_precision(run, "bf16") for run in windows.runs]
    alike = msgspec.structs.replace(windows, runs=tuple(rounded))
    mixed = msgspec.structs.replace(windows, runs=(windows.runs[0], *rounded[1:]))
    assert findings.machines(alike).endswith(" Matrix products: bf16.")
    assert f" differs between runs: float32 (1 run); bf16 ({len(rounded) - 1} runs)." in findings.machines(mixed)
    assert "precision" not in findings.machines(windows)
    assert "products" not in findings.machines(windows)
    assert " with products in bfloat16. The wall times" in paper.paragraph(alike)
    assert "products in" not in paper.paragraph(windows)


def test_methods_follow_the_configs(windows: StudyResults) -> None:
    assert "training clips alone" in " ".join(findings.methods(windows))
    assert "of the last of 6 epochs" in " ".join(findings.methods(windows))
    config = windows.runs[0].result.config
    chosen = msgspec.structs.replace(config.optimiser, choose="best", ema=0.999)
    config = msgspec.structs.replace(config, optimiser=chosen)
    run = msgspec.structs.replace(
        windows.runs[0], result=msgspec.structs.replace(windows.runs[0].result, config=config)
    )
    text = " ".join(findings.methods(msgspec.structs.replace(windows, runs=(run, *windows.runs[1:]))))
    assert "moving average over steps) with the highest validation accuracy. (1 run)" in text
    assert "fixed beforehand. (47 runs)" in text


def test_a_tuned_study_says_what_was_tried_and_how_often(windows: StudyResults) -> None:
    assert not any("tuned" in sentence for sentence in findings.methods(windows))
    space = {"model.dropout": Dimension(low=0.0, high=0.5)}
    tuned = Tuned(trials=16, epochs=15, seed=100, column="40 ms", space=space, match="parameters")
    assert findings.methods(msgspec.structs.replace(windows, tuned=tuned))[0] == (
        "Settings of each row: tuned, 16 trials of each row in column 40 ms (equal parameters), 15 epochs each, seed "
        "100, chosen by validation accuracy; trained without evaluating the test set. Tried: model.dropout 0 to 0.5."
    )


def test_no_text_but_a_tested_difference_claims_significance(windows: StudyResults, gates: StudyResults) -> None:
    for study in (windows, gates):
        tested = findings.against_others(study)
        text = " ".join([one for one in findings.summary(study) if one not in tested] + findings.methods(study))
        assert "signific" not in text.lower()


def test_the_summary_begins_with_the_chosen_model_and_whether_it_is_better(
    gates: StudyResults, windows: StudyResults
) -> None:
    row, column = best_cell(gates)
    chosen, answer, *_ = findings.summary(gates)
    assert chosen.startswith(f"Best by validation accuracy: {row}, {column} (")
    accuracies = {other: BY_KEY["validation_accuracy"].over(gates.cell(other, column)).mean for other in gates.rows}
    second = sorted(accuracies, key=lambda name: -accuracies[name])[1]
    assert f"the runner-up by validation accuracy, {second}" in answer
    assert "the first model of the table, lstm" in answer or second == "lstm"
    assert "(95 % interval " in answer
    assert "Indicative only" not in answer
    assert f"by validation accuracy at {best_cell(windows)[1]}, " in findings.against_others(windows)[0]
    assert findings.against_others(windows)[0].endswith("Indicative only, with fewer than 5 seeds.")


@pytest.mark.parametrize(
    ("value", "p", "said"),
    [
        (0.02, 0.01, "It is significantly better than B, by 2.00 points (95 % interval 1.00 to 3.00; p = 0.010 "),
        (-0.02, 0.01, "It is significantly worse than B, by 2.00 points (95 % interval 1.00 to 3.00; p = 0.010 "),
        (0.02, 0.3, "It is not significantly better than B: 2.00 points higher on the test clips (95 % interval 1.00 "),
        (
            -0.002,
            0.3,
            "It is not significantly better than B: 0.20 points lower on the test clips (95 % interval −0.80",
        ),
    ],
)
def test_a_difference_is_told_from_the_chosen_models_side(
    gates: StudyResults, value: float, p: float, said: str
) -> None:
    found = Estimate(value, value - 0.01, value + 0.01, 0.005, 9.0)
    pair = gates.comparisons[0].comparisons[0]._replace(first="A", second="B", difference=found, p_holm=p)
    assert findings._against("A", "B", pair).startswith(said)
    other = pair._replace(first="B", second="A", difference=Estimate(-value, -value - 0.01, -value + 0.01, 0.005, 9.0))
    assert findings._against("A", "B", other) == findings._against("A", "B", pair)


def test_what_could_not_be_tested_is_said_and_one_model_alone_has_no_rival(
    gates: StudyResults, without: Without
) -> None:
    (text,) = findings.against_others(msgspec.structs.replace(gates, comparisons=()))
    assert text.startswith("Whether it is better than the runner-up by validation accuracy, ")
    assert "could not be tested." in text
    assert findings.against_others(without(gates, lambda run: run.row != "lstm")) == []


def test_the_best_model_has_seconds_of_training_and_of_the_whole_epoch(many_labels: StudyResults) -> None:
    assert findings.best(many_labels).endswith("trains at 1.50 s/epoch (1.95 s for the whole epoch).")
    unknown = msgspec.structs.replace(
        many_labels,
        runs=tuple(
            msgspec.structs.replace(run, result=msgspec.structs.replace(run.result, history=(), epoch_seconds=0.0))
            for run in many_labels.runs
        ),
    )
    assert findings.best(unknown).endswith("trains at 1.50 s/epoch.")
    assert "features, training steps and evaluation on the validation clips" in findings.methods(many_labels)[-1]


def test_a_protocol_is_shown_only_where_one_is_stated(gates: StudyResults) -> None:
    assert ", protocol “fair”: all 30 runs" in findings.progress(gates)
    unstated = msgspec.structs.replace(gates, protocol=StudyConfig(name="mine").protocol)
    assert findings.progress(unstated) == "6 models × 1 window × 5 seeds: all 30 runs are finished."
    assert "protocol" not in markdown.report(unstated)
