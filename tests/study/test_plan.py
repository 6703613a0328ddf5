"""A plan that trains something else than the file says, or forgives a typing mistake, would spoil a night's work."""

from __future__ import annotations

import subprocess
import sys
from importlib import resources

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cello.audio.augment import AugmentConfig
from cello.cells.load import load_cell, zoo
from cello.errors import CellError, CelloError, ConfigError, ModelError, StudyError
from cello.features.stream import FrameStream
from cello.models.config import ModelConfig
from cello.study.catalogue import BUILTIN
from cello.study.config import Column, Row, StudyConfig
from cello.study.estimate import far_off
from cello.study.overrides import override
from cello.study.plan import PlannedRun, cost, plan, sample_rate
from cello.study.settings import SECTIONS, changed_settings
from cello.study.space import TuneConfig
from cello.study.study_file import load_study, parse_study
from cello.training.config import CorpusRef, OptimiserConfig, RunConfig

CORPUS = CorpusRef(name="tones", checksum="0" * 64)
HEAD = 'name = "x"\n'
ROWS = '[[rows]]\nname = "A"\n[[rows]]\nname = "B"\n[[rows]]\nname = "C"\n'


def test_row_wins_over_column_wins_over_base() -> None:
    text = HEAD + (
        "[base.model]\nhidden = 1\nlayers = 1\ndropout = 0.5\n[base.features]\nwindow_ms = 20\n"
        '[[columns]]\nname = "c"\n[columns.model]\nhidden = 2\nlayers = 2\n[columns.features]\nwindow_ms = 80\n'
        '[[rows]]\nname = "r"\n[rows.model]\nhidden = 3\n[rows.optimiser]\nlearning_rate = 1\n'
    )
    (run,) = plan(parse_study(text, "f"), CORPUS)
    model = run.config.model
    assert (model.hidden, model.layers, model.dropout) == (3, 2, 0.5)
    assert (run.config.features.window_ms, run.config.optimiser.learning_rate) == (80, 1.0)
    assert run.config.optimiser.batch == OptimiserConfig().batch
    assert (run.id, run.row, run.column, run.seed) == (run.config.id, "r", "c", 0)


@pytest.mark.parametrize(("name", "protocol"), [(name, p) for name, protocols in BUILTIN.items() for p in protocols])
def test_builtin_studies_are_whole(name: str, protocol: str) -> None:
    study = load_study(name, protocol)
    runs = plan(study, CORPUS, 12)
    assert (study.name, study.protocol) == (name, protocol)
    beside = study.reference_figures
    assert (beside and beside.name) == (name if name in ("windows", "gates") else None)
    columns = len(study.columns) or 1
    assert len({run.id for run in runs}) == len(runs) == len(study.rows) * columns * len(study.seeds)
    for match in ("parameters", "flops"):
        if (name, protocol) not in STATES_WIDTHS:
            assert far_off(override(study, match=match), plan(override(study, match=match), CORPUS, 12), 12) == []


STATES_WIDTHS = {("windows", "published"), ("windows-fixed-hop", "published")}
"""Where the published study's own hidden sizes stand in the rows, which nothing may choose again."""


def test_every_builtin_file_is_known_and_every_known_one_is_there() -> None:
    files = {path.name for path in (resources.files("cello.study") / "builtin").iterdir()} - {"reference_figures"}
    assert files == {f"{name}-{protocol}.toml" for name, protocols in BUILTIN.items() for protocol in protocols}


@pytest.mark.parametrize("protocol", BUILTIN["zoo"])
def test_the_zoo_study_has_every_cell_of_the_zoo_once(protocol: str) -> None:
    study = load_study("zoo", protocol)
    assert [row.name for row in study.rows] == list(zoo())
    assert [row.model["cell"] for row in study.rows] == list(zoo())


def test_the_odyssey_has_the_papers_eight_variants_of_its_vanilla_lstm() -> None:
    cells = {row.name: row.model["cell"] for row in load_study("odyssey").rows}
    assert cells["Vanilla"] == "lstm-peephole"
    eight = ("NIG", "NFG", "NOG", "NIAF", "NOAF", "CIFG", "NP", "FGR")
    assert {name: cells[name] for name in eight} == {name: name.lower() for name in eight}
    for name in eight:
        assert load_cell(cells[name]).doc.startswith(f"{name}, ")
        assert "search space" in load_cell(cells[name]).reference


@pytest.mark.parametrize("protocol", BUILTIN["windows-fixed-hop"])
def test_windows_at_one_hop_differ_from_windows_in_the_hop_alone(protocol: str) -> None:
    moving, fixed = (plan(load_study(name, protocol), CORPUS) for name in ("windows", "windows-fixed-hop"))
    ours = {run.place: run.config for run in fixed}
    assert {run.place for run in moving} == set(ours)
    for run in moving:
        assert changed_settings(run.config, ours[run.place]) == ["features.hop_ms was None, is 10.0"]


def test_the_data_study_trains_small_sets_no_shorter_than_large_ones() -> None:
    runs = plan(load_study("data"), CORPUS)
    seen = {run.config.data.clips_per_label: run.config.optimiser.epochs for run in runs}
    assert sorted(seen, key=str) == [10, 20, 40, 80, None]
    assert seen[80] * 80 == seen[40] * 40 == seen[20] * 20
    assert {len({run.row for run in runs if run.column == c.name}) for c in load_study("data").columns} == {6}


def test_the_robustness_study_tests_alike_what_it_trains_clean_and_augmented() -> None:
    for protocol in BUILTIN["robustness"]:
        runs = plan(load_study("robustness", protocol), CORPUS)
        assert len({run.config.data for run in runs}) == 1
        assert runs[0].config.data.test_snr_db
        assert runs[0].config.data.test_shift_ms
        noisy = {run.column: run.config.augment for run in runs}
        assert noisy["clean"] == AugmentConfig()
        assert noisy["augmented"].noise_share > 0
        assert noisy["augmented"].shift_ms > 0


@pytest.mark.parametrize("protocol", BUILTIN["streaming"])
def test_rows_of_the_streaming_study_say_truly_whether_and_how_late_they_stream(protocol: str) -> None:
    runs = plan(load_study("streaming", protocol), CORPUS, 12)
    assert len({run.row for run in runs}) <= 8
    for run in runs:
        features = run.config.features
        if run.config.model.bidirectional or features.normalisation == "clip":
            assert run.row.endswith(", whole clip")
            continue
        late_ms = 1000 * FrameStream(features).delay_frames * features.hop_samples // features.rate_hz
        assert run.row.endswith(f", delay {late_ms} ms" if late_ms else ", no delay")


def test_published_settings_are_the_published_ones() -> None:
    windows = {run.row: run.config for run in plan(load_study("windows", "published"), CORPUS)}
    assert [(windows[r].model.hidden, windows[r].model.layers) for r in ("RNN", "GRU", "LSTM")] == [
        (256, 1),
        (64, 2),
        (64, 2),
    ]
    gates = plan(load_study("gates", "published"), CORPUS)[0].config
    for config, name, rate, epochs in ((windows["GRU"], "rmsprop", 2e-4, 100), (gates, "adam", 3e-4, 50)):
        optimiser = config.optimiser
        assert (optimiser.name, optimiser.learning_rate, optimiser.epochs) == (name, rate, epochs)
        assert (optimiser.batch, optimiser.schedule, config.model.pooling) == (64, "constant", "last")
    assert (gates.model.hidden, gates.model.layers, gates.model.forget_bias) == (64, 1, 1.0)


def test_settings_that_do_not_go_together_name_their_row_and_column() -> None:
    study = parse_study(HEAD + '[[columns]]\nname = "c"\n[columns.features]\nn_mels = 5\n[[rows]]\nname = "r"\n', "f")
    with pytest.raises(ConfigError, match=r"study 'x', row 'r', column 'c': features\.n_mfcc=13 .* n_mels=5"):
        plan(study, CORPUS)


@pytest.mark.parametrize(
    ("cell", "kind", "message"),
    [
        ("lsmt", CellError, "unknown cell 'lsmt'; did you mean 'lstm'"),
        ("torch:gur", ModelError, "unknown torch layer 'torch:gur'; did you mean 'torch:gru'"),
        ("none.py:mine", CellError, r"file .*none\.py does not exist"),
    ],
)
def test_a_cell_that_does_not_exist_names_its_row_and_column(cell: str, kind: type[Exception], message: str) -> None:
    study = parse_study(
        HEAD + f'[[columns]]\nname = "c"\n{ROWS}[[rows]]\nname = "r"\n[rows.model]\ncell = "{cell}"\n', "f"
    )
    with pytest.raises(kind, match=rf"study 'x', row 'r', column 'c': .*{message}"):
        plan(study, CORPUS)


VALUES = [
    *("nan", "inf", "-inf", "-1", "1e300", "1e9", str(10**9), str(10**30), str(-(10**30)), '""', '"x"', "[]", "[1]"),
    *("[[32], [64]]", "{}", "{ a = 1 }", "1979-05-27", "07:32:00", "1979-05-27T07:32:00Z", "true", "[nan]", "[inf, 1]"),
    *("[1979-05-27]", f'"{"R" * 3000}"', r'"\u0000"', r'"\u001b[31m"', '"none.py:x"'),
]
PLACES = [
    *(
        f"[base.{section}]\n{key} = {{}}\n[[rows]]\nname = 'A'"
        for section, kind in SECTIONS.items()
        for key in kind.__struct_fields__
    ),
    *(f"{key} = {{}}\n[[rows]]\nname = 'A'" for key in StudyConfig.__struct_fields__ if key not in ("name", "rows")),
    *(f"[[rows]]\nname = 'A'\n{section} = {{}}" for section in SECTIONS),
    *(f"[[rows]]\nname = 'A'\n[[columns]]\nname = 'c'\n{section} = {{}}" for section in SECTIONS),
    *(
        "rows = {}",
        "[[rows]]\nname = {}",
        "[[columns]]\nname = {}\n[[rows]]\nname = 'A'",
        "seeds = [0, {}]\n[[rows]]\nname = 'A'",
    ),
    *(f"[[rows]]\nname = 'A'\n[tune]\n{key} = {{}}" for key in TuneConfig.__struct_fields__),
    *(
        f"[[rows]]\nname = 'A'\n[tune.space]\n'{name}' = {values}"
        for name in ("optimiser.learning_rate", "optimiser.batch", "model.pooling", "model.bidirectional", "model", "x")
        for values in (
            "{}",
            "{{ choices = {} }}",
            "{{ choices = [{}, 2] }}",
            "{{ low = {}, high = 2 }}",
            "{{ low = 1, high = {} }}",
        )
    ),
]


@pytest.mark.parametrize("place", PLACES)
def test_every_value_at_every_place_is_a_plan_or_a_short_sentence(place: str) -> None:
    for value in VALUES:
        try:
            (run, *_) = plan(parse_study(HEAD + place.format(value), "mine.toml"), CORPUS, 3)
        except CelloError as error:
            assert len(str(error)) < 1000, value  # noqa: PT017
        else:
            assert msgspec.json.decode(msgspec.json.encode(run), type=PlannedRun) == run


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[base.model]\nhidden = 1000000000",
            r"base\.model\.hidden = 1000000000 is invalid: it must be at most 1000000",
        ),
        (
            "[base.model]\nhidden = 1000000",
            r"row 'A': model\.hidden=1000000, .* elements, 16,001 GB of memory to train",
        ),
        (
            "[base.model]\ncell = 'retention'\nhidden = 20000\n[base.features]\nwindow_ms = 40",
            r"row 'A': model\.hidden=20000 makes states of cell 'retention' matrices of [\d,]+ elements in a second",
        ),
        ("[base.features]\nhop_ms = 1e300", r"features\.hop_ms = 1e\+300 is invalid: it must be at most 3600000"),
        ("[base.augment]\ntime_masks = 10000000", r"time_masks = 10000000 is invalid: it must be at most"),
        ("[base.data]\ntest_snr_db = [inf]", r"data\.test_snr_db = \[inf\] is invalid: it must be finite"),
        ("[base.optimiser]\nlearning_rate = nan", r"learning_rate = nan is invalid: it must be finite"),
    ],
)
def test_absurd_numbers_are_refused_before_anything_is_made(text: str, message: str) -> None:
    with pytest.raises(CelloError, match=message):
        plan(parse_study(HEAD + text + "\n" + ROWS, "f.toml"), CORPUS)


def test_more_runs_than_anyone_wants_are_refused_before_they_are_listed(small: StudyConfig) -> None:
    with pytest.raises(StudyError, match=r"3 rows × 1 columns × 1000000000 seeds of study 'small' are more than the"):
        override(small, seeds=range(10**9))
    with pytest.raises(
        StudyError, match=r"seed 9223372036854775808 of study 'small' is too large; at most 922337203685"
    ):
        override(small, seeds=[2**63])


@given(
    rows=st.lists(st.text(min_size=1), min_size=1, max_size=4, unique=True),
    columns=st.lists(st.text(min_size=1), max_size=3, unique=True),
    seeds=st.lists(st.integers(0, 2**31), min_size=1, max_size=3, unique=True),
    hidden=st.lists(st.integers(1, 9), min_size=4, max_size=4),
)
def test_every_place_is_planned_once_seed_by_seed(
    rows: list[str], columns: list[str], seeds: list[int], hidden: list[int]
) -> None:
    study = StudyConfig(
        name="x",
        seeds=tuple(seeds),
        rows=tuple(Row(name=name, model={"hidden": h}) for name, h in zip(rows, hidden, strict=False)),
        columns=tuple(Column(name=name) for name in columns),
    )
    runs = plan(study, CORPUS)
    places = [(row, column, seed) for row in rows for column in columns or [""] for seed in seeds]
    assert sorted(run.place for run in runs) == sorted(places)
    assert [run.seed for run in runs] == [seed for seed in seeds for _ in range(len(runs) // len(seeds))]
    costs = [cost(run.config) for run in runs[: len(runs) // len(seeds)]]
    assert costs == sorted(costs, reverse=True)
    assert msgspec.json.decode(msgspec.json.encode(study), type=StudyConfig) == study


def test_differences_name_the_key_and_both_values() -> None:
    old = RunConfig(corpus=CORPUS)
    new = msgspec.structs.replace(old, optimiser=OptimiserConfig(epochs=3), seed=1)
    assert changed_settings(old, new) == ["optimiser.epochs was 30, is 3", "seed was 0, is 1"]


def test_what_reports_read_imports_neither_torch_nor_distributed() -> None:
    heavy = "{'torch', 'distributed', 'dask', 'rich'} & set(sys.modules)"
    code = f"import sys, cello.study.plan, cello.study.store; sys.exit(str({heavy}) if {heavy} else 0)"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_equations_that_changed_are_said_in_words() -> None:
    one, two = (RunConfig(corpus=CORPUS, model=ModelConfig(cell="mine.py:mine", equations=mark * 16)) for mark in "ab")
    assert changed_settings(one, two) == [
        f"the equations of 'mine.py:mine' have changed (fingerprint {'a' * 16}, now {'b' * 16})"
    ]


def test_a_study_reads_its_corpus_at_one_rate() -> None:
    eight = parse_study(HEAD + "[base.features]\nrate_hz = 8000\n" + ROWS, "x.toml")
    assert sample_rate(eight) == 8000
    two = parse_study(HEAD + ROWS + "[rows.features]\nrate_hz = 8000\n", "x.toml")
    with pytest.raises(
        StudyError, match=r"features\.rate_hz = 8000, 16000, but reads its corpus once; make it one study"
    ):
        sample_rate(two)


FORMER = [("pooling", "readout", "'mean'"), ("frame_stacking", "stack", "2")]


@pytest.mark.parametrize(("former", "beside"), [FORMER, FORMER[::-1]])
def test_a_former_name_of_a_setting_means_the_same_runs_and_ids(
    former: tuple[str, str, str], beside: tuple[str, str, str]
) -> None:
    (name, before, value), (other, _, own) = former, beside
    rows = "[[rows]]\nname = 'A'\nmodel.{} = {}\n"
    studies = [parse_study(HEAD + rows.format(key, value), "f.toml") for key in (name, before)]
    assert studies[0] == studies[1]
    (run, *_), (again, *_) = (plan(study, CORPUS) for study in studies)
    assert run.id == again.id
    assert repr(getattr(run.config.model, name)) == value
    assert before in msgspec.to_builtins(run.config)["model"]
    with pytest.raises(ConfigError, match=rf"^f\.toml: model\.{name} and model\.{before} are one setting and cannot"):
        parse_study(
            HEAD + f"[base.model]\n{other} = {own}\n{name} = {value}\n{before} = {value}\n[[rows]]\nname = 'A'\n",
            "f.toml",
        )
    assert override(studies[0], settings={f"model.{name}": msgspec.json.decode(value.replace("'", '"'))}) == override(
        studies[0], settings={f"model.{before}": msgspec.json.decode(value.replace("'", '"'))}
    )
