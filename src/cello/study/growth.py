"""Record what was added to a study's plan while finished runs were there to look at."""

from __future__ import annotations

import time

import msgspec

from cello.study.config import StudyConfig


class Growth(msgspec.Struct, frozen=True, kw_only=True):
    """What joined a plan when ``finished`` runs of it were done; ``time`` in seconds since 1970."""

    time: float
    finished: int
    rows: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()


def growth(before: StudyConfig, after: StudyConfig, finished: int) -> tuple[Growth, ...]:
    """What the wider study adds, where somebody could have seen figures before; else nothing."""
    rows, columns = (
        tuple(item.name for item in new if item.name not in {other.name for other in old})
        for old, new in ((before.rows, after.rows), (before.columns, after.columns))
    )
    seeds = tuple(seed for seed in after.seeds if seed not in before.seeds)
    if not finished or not (rows or columns or seeds):
        return ()
    return (Growth(time=time.time(), finished=finished, rows=rows, columns=columns, seeds=seeds),)
