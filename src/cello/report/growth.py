"""Say what was added to a study when its figures could be seen already."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from cello.report.results import StudyResults
from cello.report.settings_differences import listed
from cello.report.tables import count
from cello.study.growth import Growth

LISTED = 12


def cautions(results: StudyResults) -> list[str]:
    """What joined the plan when figures could be seen already, and what that means for the tests; empty where nothing.

    Source: Simmons, Nelson & Simonsohn 2011, doi:10.1177/0956797611417632.
    """
    if not results.growth:
        return []
    return [
        f"{added(results)} If figures seen by then decided it, p-values are too small and intervals too narrow "
        "(Simmons et al. 2011, doi:10.1177/0956797611417632); a study that is planned whole has no such doubt."
    ]


def added(results: StudyResults) -> str:
    """The rows, columns and seeds that joined the plan late, and when; empty where there are none."""
    return " ".join(_added(part, results) for part in results.growth)


def _added(part: Growth, results: StudyResults) -> str:
    kinds = (("model", part.rows), (results.column_title.lower(), part.columns), ("seed", part.seeds))
    named = [f"{kind}{'s' * (len(names) > 1)} {_few(names)}" for kind, names in kinds if names]
    day = datetime.fromtimestamp(part.time, UTC).date()
    return f"Added on {day}, when {count(part.finished, 'run')} had finished: {listed(named)}."


def _few(names: Sequence[object]) -> str:
    shown = [str(name) for name in names[:LISTED]]
    return f"{', '.join(shown)} and {len(names) - LISTED} more" if len(names) > LISTED else listed(shown)
