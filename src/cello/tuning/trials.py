"""Keep the trials of a tuning and draw the values of the next one, with Optuna.

A trial's values depend on its row, its number, the seed, and on how the trials of earlier rounds went; never on how
many ran at a time, which of them ended first, or how often the command was stopped.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from cello.errors import StoreError, StudyError
from cello.files import DamagedFileError, naming_damage, read_stored, seal_json, unseal_json
from cello.study.folder import RESTORE
from cello.study.space import Dimension, whole

try:
    import optuna
except ImportError:
    optuna = None

FIRST_ROUND = 10
"""So many trials of a row are drawn before anything is known of it."""
ROUND = 4
"""So many are drawn from the same knowledge after that, and may run side by side."""


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """One set of values tried in one row; ``accuracy`` on validation clips once it is finished."""

    row: str
    number: int
    values: dict[str, Any]
    state: Literal["running", "finished", "diverged"] = "running"
    accuracy: float | None = None


def need_optuna() -> None:
    """Refuse where Optuna is not installed.

    Raises:
        StudyError: what to install.
    """
    if optuna is None:
        raise StudyError("tuning needs Optuna, which is not installed; give: pip install 'cello-rnn[tune]'")


def round_start(number: int) -> int:
    """The first trial of a trial's round: all before it are over when it is drawn.

    >>> [round_start(number) for number in (0, 9, 10, 13, 14)]
    [0, 0, 10, 10, 14]
    """
    return 0 if number < FIRST_ROUND else number - (number - FIRST_ROUND) % ROUND


class _Ledger:
    """Optuna's journal in a file whose every line is sealed with all that stands above it; one process writes it.

    Optuna's own reader finds what it wrote, and passes over the seal. Lines from before there were seals are sealed by
    the first that has one.

    Raises:
        DamagedFileError: a line is not as it was written; a last one that a crash tore is cut off.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.crc, self.sealed = path, 0, False
        self.logs: list[dict[str, Any]] = []
        if path.is_symlink():
            raise DamagedFileError("it is a link, which is not followed")
        if not path.exists():
            return
        lines = read_stored(path).split(b"\n")
        for number, line in enumerate(lines[:-1], 1):
            self._take(number, line)
        if lines[-1]:
            os.truncate(path, sum(len(line) + 1 for line in lines[:-1]))

    def _take(self, number: int, line: bytes) -> None:
        try:
            text = unseal_json(line, self.crc)
            if text is line and self.sealed:
                raise DamagedFileError("its checksum is missing")
            log = json.loads(text)
            if not isinstance(log, dict):
                raise DamagedFileError("no log of Optuna's")
            self.logs.append(log)
        except (ValueError, RecursionError) as error:
            raise DamagedFileError(f"line {number}: {error}") from error
        self.sealed = text is not line
        self.crc = zlib.crc32(line + b"\n", self.crc)

    def read_logs(self, log_number_from: int) -> list[dict[str, Any]]:
        """The logs from a number on, as Optuna asks for them."""
        return self.logs[log_number_from:]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write logs so that they are on the disk when this returns.

        Raises:
            OSError: the file cannot be written, or is a link, through which nothing is written.
        """
        text, crc = b"", self.crc
        for log in logs:
            line = seal_json(json.dumps(log, separators=(",", ":")).encode(), crc) + b"\n"
            text, crc = text + line, zlib.crc32(line, crc)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with os.fdopen(os.open(self.path, flags, 0o644), "ab") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        self.crc, self.sealed = crc, True
        self.logs += json.loads(b"[" + text.strip().replace(b"\n", b",") + b"]")


class TrialBook:
    """Every trial of every row, in one append-only file, an Optuna study for each row. One process writes it."""

    def __init__(self, path: Path, space: Mapping[str, Dimension], seed: int) -> None:
        need_optuna()
        self.seed, self.space = seed, {name: _distribution(name, space[name]) for name in sorted(space)}
        optuna.logging.set_verbosity(optuna.logging.WARNING)  # else a line for each trial, beside our own view
        with naming_damage(path, StoreError, RESTORE):
            ledger = _Ledger(path)
            try:
                self.storage = optuna.storages.JournalStorage(ledger)
                self.known = set(optuna.get_all_study_names(self.storage))
                self._check()
            except Exception as error:  # whatever Optuna meets in logs that it did not write
                raise DamagedFileError(f"its logs do not follow from each other ({error})") from error

    def _check(self) -> None:
        """Hold what is told of trials to what a tuning tells: an accuracy, and values within the space."""
        for trial in (trial for row in sorted(self.known) for trial in self.trials(row)):
            if trial.accuracy is not None and not 0 <= trial.accuracy <= 1:
                raise DamagedFileError(f"trial {trial.number} of row {trial.row!r} has accuracy {trial.accuracy}")

    def trials(self, row: str) -> list[Trial]:
        """The trials of a row so far, by their number."""
        states = {optuna.trial.TrialState.COMPLETE: "finished", optuna.trial.TrialState.PRUNED: "diverged"}
        found = [
            {
                "row": row,
                "number": frozen.number,
                "values": frozen.params,
                "state": states.get(frozen.state, "running"),
                "accuracy": frozen.value,
            }
            for frozen in self._study(row).trials
        ]
        return msgspec.convert(found, list[Trial])

    def ask(self, row: str) -> Trial:
        """The row's next trial, noted as running; the trials of all earlier rounds must be over."""
        study = self._study(row)
        before, number = study.trials, len(study.trials)
        running = optuna.trial.TrialState.RUNNING
        sampler = optuna.samplers.TPESampler(seed=_seed(self.seed, row, number))
        memory = optuna.create_study(direction="maximize", sampler=sampler)
        start = round_start(number)
        # What its own round has found by now must not matter, else the number of workers would.
        memory.add_trials([t if t.number < start else _frozen(running, t.params, t.distributions) for t in before])
        values = memory.ask(fixed_distributions=self.space).params
        study.add_trial(_frozen(running, values, self.space))  # one line of the file: it is there whole or not at all
        return self.trials(row)[number]

    def tell(self, row: str, number: int, accuracy: float | None) -> None:
        """Note how a trial ended; without an accuracy it diverged, which counts as the worst."""
        if accuracy is None:
            self._study(row).tell(number, state=optuna.trial.TrialState.PRUNED)
        else:
            self._study(row).tell(number, accuracy)

    def _study(self, row: str) -> Any:
        if row not in self.known:
            optuna.create_study(study_name=row, storage=self.storage, direction="maximize")
            self.known.add(row)
        return optuna.load_study(study_name=row, storage=self.storage)


def importance(trials: Sequence[Trial], space: Mapping[str, Dimension], rows: Sequence[str] = ()) -> dict[str, float]:
    """The share of the finished trials' differences in accuracy that each setting explains by itself, by fANOVA.

    With ``rows``, the row is a setting too. Empty where too few trials are finished to say, or all are alike.

    Raises:
        StudyError: scikit-learn, which grows the trees of fANOVA, is not installed.
    """
    need_optuna()
    finished = [trial for trial in trials if trial.state == "finished"]
    if len(finished) < 4 or len({trial.accuracy for trial in finished}) < 2:
        return {}
    distributions = {name: _distribution(name, space[name]) for name in sorted(space)}
    if rows:
        distributions["row"] = optuna.distributions.CategoricalDistribution(tuple(rows))
    study = optuna.create_study(direction="maximize")
    for trial in finished:
        values = {**trial.values, **({"row": trial.row} if rows else {})}
        study.add_trial(_frozen(optuna.trial.TrialState.COMPLETE, values, distributions, trial.accuracy))
    try:
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    except ImportError as error:
        raise StudyError(
            f"the importance of settings needs scikit-learn ({error}); give: pip install 'cello-rnn[tune]'"
        ) from error
    return {name: float(share) for name, share in found.items()}


def _frozen(state: Any, values: Mapping[str, Any], distributions: Mapping[str, Any], value: float | None = None) -> Any:
    return optuna.trial.create_trial(
        state=state, value=value, params=dict(values), distributions={name: distributions[name] for name in values}
    )


def _distribution(name: str, values: Dimension) -> Any:
    if values.choices:
        return optuna.distributions.CategoricalDistribution(values.choices)
    kind = optuna.distributions.IntDistribution if whole(name) else optuna.distributions.FloatDistribution
    return kind(values.low, values.high, log=values.log)


def _seed(seed: int, row: str, number: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}:{row}:{number}".encode()).digest()[:4], "big")
