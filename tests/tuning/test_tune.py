"""A trial lost, counted twice, or drawn otherwise because of a kill or of more workers would make the tuning unfair."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from cello.errors import ConfigError, StoreError, StudyError
from cello.files import decode_json, seal_json, unseal_json
from cello.study.config import StudyConfig
from cello.study.plan import plan
from cello.study.space import Dimension, TuneConfig
from cello.study.store import CorpusSource
from cello.study.study_file import parse_study
from cello.tuning import trials as trials_module
from cello.tuning.report import tuned_study
from cello.tuning.trials import Trial, TrialBook, importance
from cello.tuning.tune import TuneHeader, Tuning, _check_same, run_tuning
from damage import HOSTILE, damaged

pytest.importorskip("optuna")
HERE = Path(__file__).parents[1] / "study"
FAKE = "fake_training:train"
Tune = Callable[..., Tuning]
SPACE = {
    "optimiser.learning_rate": Dimension(low=1e-4, high=1e-2, log=True),
    "model.dropout": Dimension(low=0.0, high=0.5),
}
TUNE = TuneConfig(trials=13, epochs=2, space=SPACE)
SCRIPT = """
import sys
from pathlib import Path
from cello.study.space import Dimension, TuneConfig
from cello.study.study_file import load_both
from cello.study.store import CorpusSource
from cello.tuning.tune import run_tuning

study, tune = load_both(sys.argv[1])
source = CorpusSource(spec="fake", opener="fake_training:open_fake")
try:
    run_tuning(study, tune, source, Path(sys.argv[2]), workers=2, train="fake_training:train")
except KeyboardInterrupt as stop:
    sys.exit(f"interrupted: {stop}")
"""
FILE = """
[tune]
trials = 13
epochs = 2
[tune.space]
optimiser.learning_rate = { low = 1e-4, high = 1e-2, log = true }
model.dropout = { low = 0.0, high = 0.5 }
"""


def table(*hidden: int) -> str:
    rows = "".join(f'[[rows]]\nname = "{size}"\nmodel.hidden = {size}\n' for size in hidden)
    return f'name = "t"\nseeds = [3, 4]\n{rows}'


def study(*hidden: int) -> StudyConfig:
    return parse_study(table(*hidden), "t.toml")


@pytest.fixture(scope="module")
def tuned() -> Iterator[Tune]:
    """Tunes in this process's own cluster with the stand-in for training."""
    source = CorpusSource(spec="fake", opener="fake_training:open_fake")

    def run(asked: StudyConfig, tune: TuneConfig, out: Path, workers: int = 1) -> Tuning:
        return run_tuning(asked, tune, source, out, workers=workers, train=FAKE, progress=False)

    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(HERE))
        yield run


@pytest.fixture(scope="module")
def unbroken(tuned: Tune, tmp_path_factory: pytest.TempPathFactory) -> Tuning:
    """A tuning of two rows that nobody stopped."""
    return tuned(study(100, 101), TUNE, tmp_path_factory.mktemp("unbroken"), workers=3)


def test_every_row_gets_the_same_budget_and_a_known_optimum_is_found(tuned: Tune, tmp_path: Path) -> None:
    done = tuned(study(100, 101), msgspec.structs.replace(TUNE, trials=24, epochs=1), tmp_path, workers=2)
    for row in ("100", "101"):
        assert [trial.number for trial in done.of(row)] == list(range(24))
        best = done.best(row)
        assert best.accuracy == max(trial.accuracy for trial in done.of(row))
        assert 1.5e-3 < best.values["optimiser.learning_rate"] < 6e-3
    assert done.of("100")[0].values != done.of("101")[0].values


@pytest.mark.parametrize("who", ["main", "worker", "ctrl-c"])
def test_stopped_in_the_middle_it_goes_on_to_the_trials_of_an_unbroken_tuning(
    who: str, tuned: Tune, unbroken: Tuning, tmp_path: Path
) -> None:
    file, script, out = tmp_path / "t.toml", tmp_path / "script.py", tmp_path / "out"
    file.write_text(table(100, 101) + FILE)
    script.write_text(SCRIPT)
    path = os.pathsep.join([str(HERE), *sys.path])
    environment = {**os.environ, "FAKE_DEATH": f"101 2 {who}", "PYTHONPATH": path}
    command = [sys.executable, str(script), str(file), str(out)]
    stopped = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60, start_new_session=True, check=False
    )
    if who == "main":
        with (out / "optuna.jsonl").open("ab") as torn:
            torn.write(b'{"op_code": 4, "wor')
        assert stopped.returncode == -9
    elif who == "ctrl-c":
        assert "of 26 trials in" in stopped.stderr
        assert "give the same command again to go on" in stopped.stderr
    resumed = tuned(study(100, 101), TUNE, out, workers=1)
    assert resumed.trials == unbroken.trials
    assert Counter(trial.row for trial in resumed.trials) == {"100": 13, "101": 13}


def test_a_larger_budget_later_is_the_same_as_at_once(tuned: Tune, unbroken: Tuning, tmp_path: Path) -> None:
    few = tuned(study(100), msgspec.structs.replace(TUNE, trials=11), tmp_path)
    more = tuned(study(100), TUNE, tmp_path)
    assert more.trials[:11] == few.trials
    assert [*more.trials] == unbroken.of("100")


@pytest.mark.parametrize("stated", ["", '[base]\nmodel.readout = "last"\n'])
def test_a_tuning_begun_with_the_former_pooling_goes_on_with_it(
    stated: str, tuned: Tune, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = parse_study(table(100), "t.toml")
    with monkeypatch.context() as old:  # as an older Cello began it: no pooling stated, and "last" the default
        old.setattr("cello.study.former.FORMER", {"pooling": "attention"})
        begun = tuned(parse_study(table(100) + '[base]\nmodel.readout = "last"\n', "t.toml"), TUNE, tmp_path / "a")
    path = tmp_path / "a" / "tune.json"
    header = decode_json(path.read_bytes(), TuneHeader)
    path.write_bytes(seal_json(msgspec.json.encode(msgspec.structs.replace(header, study=asked))))
    more = msgspec.structs.replace(TUNE, trials=14)
    done = tuned(parse_study(table(100) + stated, "t.toml"), more, tmp_path / "a")
    assert done.trials[:13] == begun.trials
    assert {run.config.model.pooling for run in done.header.rows} == {"last"}
    # what goes on from here is trained as the trials were
    assert {run.config.model.pooling for run in plan(tuned_study(done), done.header.corpus)} == {"last"}
    assert tuned(parse_study(table(100) + stated, "t.toml"), more, tmp_path / "a").trials == done.trials


def test_another_pooling_than_a_tuning_was_begun_with_is_another_tuning(tuned: Tune, tmp_path: Path) -> None:
    tuned(study(100), TUNE, tmp_path)
    mean = parse_study(table(100) + '[base]\nmodel.readout = "mean"\n', "t.toml")
    with pytest.raises(StoreError, match=r"another tuning: in row '100', model\.pooling was 'attention', is 'mean'"):
        tuned(mean, TUNE, tmp_path)


def test_a_trial_that_diverges_is_one_of_the_budget_and_never_the_best(tuned: Tune, tmp_path: Path) -> None:
    done = tuned(study(113), TUNE, tmp_path)
    diverged = [trial for trial in done.trials if trial.values["optimiser.learning_rate"] > 3e-3]
    assert diverged
    assert all((trial.state, trial.accuracy) == ("diverged", None) for trial in diverged)
    assert len(done.trials) == 13
    assert done.best("113").values["optimiser.learning_rate"] <= 3e-3


def test_a_trial_that_fails_otherwise_is_named_and_tried_again(tuned: Tune, tmp_path: Path) -> None:
    small = msgspec.structs.replace(TUNE, trials=2)
    with pytest.raises(StudyError, match=r"2 trials failed, so 2 of 4 are not done in [\s\S]*12, trial 0.*a bug of"):
        tuned(study(12, 100), small, tmp_path)


def test_what_does_not_fit_the_study_or_the_folder_is_refused(tuned: Tune, tmp_path: Path) -> None:
    one = msgspec.structs.replace(TUNE, trials=1)
    tuned(study(100), one, tmp_path / "a")
    with pytest.raises(StoreError, match=r"holds another tuning: tune\.epochs is 2, not 3; choose another --out"):
        tuned(study(100), msgspec.structs.replace(one, epochs=3), tmp_path / "a")
    with pytest.raises(StoreError, match=r"holds another tuning: its rows are 100; choose"):
        tuned(study(100, 101), one, tmp_path / "a")
    with pytest.raises(StudyError, match=r"tune\.column: unknown column of study 't': 'x'"):
        tuned(study(100), msgspec.structs.replace(one, column="x"), tmp_path / "b")
    wide = msgspec.structs.replace(one, space={"model.dropout": Dimension(low=0.0, high=1.0)})
    with pytest.raises(
        ConfigError,
        match=r"tune\.space: model\.dropout in row '100': model\.dropout=1\.0 is invalid: it must be from 0",
    ):
        tuned(study(100), wide, tmp_path / "c")
    sized = msgspec.structs.replace(one, space={"model.hidden": Dimension(low=8, high=16)})
    matched = msgspec.structs.replace(study(100, 101), match="flops")
    with pytest.raises(StudyError, match=r"gives its rows their size \(match = 'flops'\), so model\.hidden cannot be"):
        tuned(matched, sized, tmp_path / "d")
    with pytest.raises(
        StudyError, match=r"has folds = 5, but settings are tuned on one split, whose clips other folds"
    ):
        tuned(msgspec.structs.replace(study(100), folds=5), one, tmp_path / "e")


def test_without_optuna_the_remedy_is_said(tuned: Tune, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials_module, "optuna", None)
    with pytest.raises(StudyError, match=r"needs Optuna, which is not installed; give: pip install 'cello-rnn\[tune"):
        tuned(study(100), TUNE, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_setting_that_decides_is_found_the_more_important(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    book = TrialBook(tmp_path / "optuna.jsonl", SPACE, seed=0)
    assert importance(book.trials("A"), SPACE) == {}
    for row, offset in (("A", 0.0), ("B", 0.001)):
        for number in range(20):
            trial = book.ask(row)
            book.tell(row, number, 0.5 + offset + trial.values["model.dropout"])
    shares = importance(book.trials("A"), SPACE)
    assert shares["model.dropout"] > 0.8
    assert sum(shares.values()) == pytest.approx(1)
    both = importance([*book.trials("A"), *book.trials("B")], SPACE, ("A", "B"))
    assert both["model.dropout"] > 0.8
    assert both["row"] < 0.2


def book(path: Path) -> TrialBook:
    return TrialBook(path, SPACE, seed=0)


def told(path: Path) -> list[Trial] | str:
    try:
        return book(path).trials("A")
    except StoreError as error:
        return str(error)


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """Four trials of a row: one best, one worst, one that diverged, one under way."""
    kept = book(tmp_path / "optuna.jsonl")
    for number, accuracy in enumerate((0.5, 0.25, None)):
        kept.ask("A")
        kept.tell("A", number, accuracy)
    kept.ask("A")
    return tmp_path / "optuna.jsonl"


def prefixes(path: Path) -> list[list[Trial] | str]:
    """The trials after each line of the journal."""
    lines = path.read_bytes().splitlines(keepends=True)
    found = []
    for count in range(len(lines) + 1):
        (path.parent / "part.jsonl").write_bytes(b"".join(lines[:count]))
        found.append(told(path.parent / "part.jsonl"))
    return found


def test_a_damaged_line_of_the_trials_is_named_and_a_torn_end_is_cut_off(ledger: Path) -> None:
    whole, legal = ledger.read_bytes(), prefixes(ledger)
    assert [trial.accuracy for trial in legal[-1]] == [0.5, 0.25, None, None]
    named = 0
    for how, text in damaged(whole, 100):
        ledger.write_bytes(text)
        found = told(ledger)
        if isinstance(found, str):
            assert re.search(r"optuna\.jsonl is damaged: line \d+: .*; restore it, or start afresh", found), how
            named += 1
        else:
            assert found in legal, how  # what was cut off at the end is drawn again, to the same trials
    assert named > 50


def test_lines_that_are_gone_or_stand_twice_are_noticed(ledger: Path) -> None:
    lines = ledger.read_bytes().splitlines(keepends=True)
    for other in (lines[:2] + lines[3:], [*lines[:3], lines[2], *lines[3:]], lines[:1] + lines[3:4] + lines[1:3]):
        ledger.write_bytes(b"".join(other))
        with pytest.raises(StoreError, match=r"optuna\.jsonl is damaged: line \d: its checksum does not match"):
            book(ledger)


def test_optunas_own_reader_reads_the_trials_and_unsealed_ones_of_older_versions_go_on(ledger: Path) -> None:
    import optuna
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    before = told(ledger)
    lock = JournalFileOpenLock(str(ledger.with_name("lock")))
    plain = optuna.storages.JournalStorage(JournalFileBackend(str(ledger), lock_obj=lock))
    assert [trial.value for trial in optuna.load_study(study_name="A", storage=plain).trials] == [0.5, 0.25, None, None]
    lines = [re.sub(rb',"crc32":"\w+"', b"", line) for line in ledger.read_bytes().splitlines()]
    ledger.write_bytes(b"\n".join(lines) + b"\n")
    assert told(ledger) == before
    book(ledger).tell("A", 3, 0.75)
    assert [trial.accuracy for trial in told(ledger)] == [0.5, 0.25, None, 0.75]
    ledger.write_bytes(ledger.read_bytes().replace(b"0.25", b"0.95"))  # sealed by the line below it
    with pytest.raises(StoreError, match=rf"line {len(lines) + 1}: its checksum does not match"):
        book(ledger)


@pytest.mark.parametrize(
    "text", [b'{"op_code":4}', b"[1]", b"[" * 100_000, b'{"op_code":99,"worker_id":"x"}', b"\xff", b"{}"]
)
def test_logs_that_optuna_cannot_follow_are_damage(ledger: Path, text: bytes) -> None:
    ledger.write_bytes(text + b"\n")
    with pytest.raises(StoreError, match=r"optuna\.jsonl is damaged: .*; restore it, or start afresh with another"):
        book(ledger)


def test_trials_behind_a_link_or_pipe_are_neither_read_nor_written(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_bytes(b"torn")
    (tmp_path / "optuna.jsonl").symlink_to(tmp_path / "theirs")
    with pytest.raises(StoreError, match=r"optuna\.jsonl is damaged: it is a link, which is not followed"):
        book(tmp_path / "optuna.jsonl")
    assert (tmp_path / "theirs").read_bytes() == b"torn"
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StoreError, match=r"pipe is damaged: not a regular file"):
        book(tmp_path / "pipe")


def test_a_newer_tuning_is_refused_and_kept_and_a_damaged_one_is_named(tuned: Tune, tmp_path: Path) -> None:
    one = msgspec.structs.replace(TUNE, trials=1)
    tuned(study(100), one, tmp_path)
    path = tmp_path / "tune.json"
    whole = path.read_bytes()
    newer = json.dumps({**json.loads(unseal_json(whole)), "format": 2, "surprise": 1}).encode()
    for text in (newer, seal_json(newer)):
        path.write_bytes(text)
        with pytest.raises(StoreError, match=r"tune\.json has format 2, and this is Cello .*; install a newer Cello"):
            tuned(study(100), one, tmp_path)
        assert path.read_bytes() == text
    header = decode_json(whole, TuneHeader)
    for how, text in [*damaged(whole, 100), *HOSTILE.items()]:
        path.write_bytes(text)
        with suppress(StoreError):
            _check_same(tmp_path, header)
            assert decode_json(text, TuneHeader) == header, how
    path.write_bytes(unseal_json(whole))
    assert len(tuned(study(100), one, tmp_path).trials) == 1
