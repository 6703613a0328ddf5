"""What hurts: a table "at equal parameters" whose rows could have been nearer, or are not what was asked for."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cello.cells.load import zoo
from cello.errors import StudyError
from cello.models.config import TORCH_CELLS, ModelConfig
from cello.models.size import ModelSize
from cello.study.config import StudyConfig
from cello.study.match import Match, closest, counter, matched, unit_of
from cello.study.overrides import override
from cello.study.plan import plan
from cello.study.study_file import load_study, parse_study
from cello.training.config import CorpusRef, RunConfig

CORPUS = CorpusRef(name="tones", checksum="0" * 64)
CELLS = st.sampled_from([*zoo(), *TORCH_CELLS])
MATCHES: st.SearchStrategy[Match] = st.sampled_from(["parameters", "flops"])


@given(steps=st.lists(st.integers(1, 99), min_size=1, max_size=40), target=st.integers(0, 3000))
def test_no_size_is_nearer_and_no_smaller_one_as_near(steps: list[int], target: int) -> None:
    def count(size: int) -> int:
        return sum(steps[:size]) + 100 * max(0, size - len(steps))

    found = closest(count, target)
    distances = {size: abs(count(size) - target) for size in range(1, 80)}
    assert found == min(distances, key=lambda size: (distances[size], size))


@st.composite
def models(draw: st.DrawFn) -> ModelConfig:
    return ModelConfig(
        cell=draw(CELLS),
        layers=draw(st.integers(1, 3)),
        bidirectional=draw(st.booleans()),
        pooling=draw(st.sampled_from(["last", "mean", "attention"])),
    )


@given(
    rows=st.lists(models(), min_size=1, max_size=4),
    hidden=st.integers(1, 300),
    match=MATCHES,
    labels=st.integers(2, 40),
)
def test_every_row_is_as_near_to_the_reference_as_it_can_be(
    rows: list[ModelConfig], hidden: int, match: Match, labels: int
) -> None:
    configs = {
        str(k): RunConfig(corpus=CORPUS, model=msgspec.structs.replace(row, hidden=hidden))
        for k, row in enumerate(rows)
    }
    found = matched(configs, "0", match, labels, "here")
    assert list(found) == list(configs)
    assert found["0"] == configs["0"]
    target = counter(match, found["0"], labels)(hidden)
    for row, config in found.items():
        count, own, unit = counter(match, config, labels), config.model.hidden, unit_of(config)
        assert own % unit == 0 or row == "0"
        distances = [abs(count(size) - target) for size in (own - unit, own, own + unit) if size > 0]
        assert abs(count(own) - target) == min(distances)
        assert msgspec.structs.replace(config.model, hidden=hidden) == configs[row].model


def test_the_sizes_land_in_the_runs_and_their_ids() -> None:
    study = load_study("gates")
    at = {match: plan(override(study, match=match), CORPUS, 12) for match in ("width", "parameters", "flops")}
    hidden = {match: {run.row: run.config.model.hidden for run in runs} for match, runs in at.items()}
    assert set(hidden["width"].values()) == {64}
    assert hidden["parameters"] == {
        "LSTM": 64,
        "Peephole": 51,
        "Coupled gates": 76,
        "No forget gate": 76,
        "No input gate": 76,
        "No output gate": 76,
    }
    shared = {run.id for run in at["width"]} & {run.id for run in at["parameters"]}
    assert shared == {run.id for run in at["width"] if run.row == "LSTM"}
    for run in at["parameters"]:
        assert run.id == run.config.id


def test_each_column_has_its_own_reference() -> None:
    text = (
        'name = "x"\nmatch = "parameters"\nmatch_to = "B"\n[base.model]\nhidden = 30\n'
        '[[columns]]\nname = "narrow"\n[[columns]]\nname = "wide"\nfeatures.kind = "log-mel"\nmodel.hidden = 20\n'
        '[[rows]]\nname = "A"\nmodel.cell = "rnn"\n[[rows]]\nname = "B"\nmodel.cell = "lstm"\n'
    )
    runs = plan(parse_study(text, "f"), CORPUS, 5)
    assert {(run.row, run.column) for run in runs} == {(row, col) for row in "AB" for col in ("narrow", "wide")}
    for run in runs:
        size = ModelSize.of(run.config.model, run.config.features.dimensions).parameters(5)
        target = {"narrow": (39, 30), "wide": (120, 20)}[run.column]
        lstm = ModelSize.of(ModelConfig(cell="lstm"), target[0]).parameters(5, target[1])
        assert abs(size / lstm - 1) < 0.02
        assert run.row == "A" or run.config.model.hidden == target[1]


ROWS = '[[rows]]\nname = "A"\nmodel.cell = "gru"\n[[rows]]\nname = "B"\nmodel.cell = "lstm"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            'match = "flops"\n' + ROWS + "model.hidden = 9\n",
            r"study 'x', row 'B': model\.hidden=9 is stated, but match = 'flops' chooses it \(the reference 'A' "
            r"has 64\); leave it out there, or write match = 'width'",
        ),
        (
            'match = "flops"\nmatch_to = "C"\n' + ROWS,
            r"f: match_to: unknown row of study 'x': 'C'.* Known: A, B",
        ),
    ],
)
def test_what_cannot_be_matched_is_refused(text: str, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        plan(parse_study('name = "x"\n' + text, "f"), CORPUS, 3)


def test_parameters_are_not_matched_for_an_unknown_number_of_labels() -> None:
    study = parse_study('name = "x"\nmatch = "parameters"\n' + ROWS, "f")
    with pytest.raises(StudyError, match=r"depends on how many labels .* as in plan\(study, corpus, labels=12\)"):
        plan(study, CORPUS)
    assert len(plan(override(study, match="flops"), CORPUS)) == 2


def test_a_study_is_as_wide_as_stated_unless_it_says_otherwise(small: StudyConfig) -> None:
    assert (small.match, small.reference) == ("width", "")
    assert override(small, match="flops").reference == "A"
    assert override(load_study("zoo"), match="width").reference == ""
