"""The trials of a tuning, and which values the next one has. The only file that knows Optuna.

A trial's values depend on its row, its number, the seed, and on how the trials of earlier rounds went; never on how
many ran at a time, which of them ended first, or how often the command was stopped.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from cello.errors import StoreError, StudyError
from cello.study.space import Dimension, whole

try:
    import optuna
    from optuna.storages.journal import JournalFileBackend
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


class _Held:
    """The lock of a file in a folder that this process holds already; Optuna's own would outlive a kill."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None: ...


class TrialBook:
    """Every trial of every row, in one append-only file, an Optuna study for each row. One process writes it."""

    def __init__(self, path: Path, space: Mapping[str, Dimension], seed: int) -> None:
        need_optuna()
        self.seed, self.space = seed, {name: _distribution(name, space[name]) for name in sorted(space)}
        optuna.logging.set_verbosity(optuna.logging.WARNING)  # else a line for each trial, beside our own view
        _mend(path)
        try:
            self.storage = optuna.storages.JournalStorage(JournalFileBackend(str(path), lock_obj=_Held()))
            self.known = set(optuna.get_all_study_names(self.storage))
        except (ValueError, KeyError) as error:
            raise StoreError(f"{path} is damaged: {error}; restore it, or start afresh with another --out") from error

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


def _mend(path: Path) -> None:
    """Cut off a last line that a crash tore: Optuna would refuse the file once another line stands after it."""
    if path.exists():
        text = path.read_bytes()
        if not text.endswith(b"\n"):
            with path.open("r+b") as file:
                file.truncate(text.rfind(b"\n") + 1)
