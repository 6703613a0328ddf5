"""List the built-in studies: the question of each, its protocols and its file."""

from __future__ import annotations

from importlib import resources

from cello.errors import StudyError, unknown

PROTOCOLS = ("fair", "published", "quick")
BUILTIN: dict[str, tuple[str, ...]] = {
    "data": ("fair", "quick"),
    "gates": PROTOCOLS,
    "odyssey": ("fair", "quick"),
    "robustness": ("fair", "quick"),
    "streaming": ("fair", "quick"),
    "windows": PROTOCOLS,
    "windows-fixed-hop": PROTOCOLS,
    "zoo": ("fair", "quick"),
}
"""The studies that come with Cello, and the protocols that each has a file for."""
QUESTIONS = {
    "data": "How many training clips does a cell need?",
    "gates": "What is each gate of the LSTM worth?",
    "odyssey": "How do the LSTM variants of Greff et al. (2017) compare?",
    "robustness": "How robust are cells to noise and time shifts, with and without augmentation?",
    "streaming": "What does it cost a model to run on endless sound, in accuracy and in delay?",
    "windows": "Which length of the analysis window suits which network?",
    "windows-fixed-hop": "The same with a frame every 10 ms, whatever the window.",
    "zoo": "Which of all cells is best at the same number of parameters?",
}
"""What each asks, in a sentence."""


def builtin_file(name: str, protocol: str | None) -> str:
    """The file of a built-in study; ``protocol`` is "fair" unless said.

    Raises:
        StudyError: there is no such study, or it has no such protocol.
    """
    if name not in BUILTIN:
        raise StudyError(unknown("study", name, BUILTIN, "cello study --list says what they ask."))
    chosen, known = protocol or "fair", BUILTIN[name]
    if chosen not in known:
        raise StudyError(unknown("protocol", chosen, known, f"Those are the ones of {name!r}."))
    return f"{name}-{chosen}.toml"


def builtin_text(name: str, protocol: str | None = None) -> str:
    """The TOML text of a built-in study, comments included: saved as a file it plans the same runs.

    Raises:
        StudyError: as ``builtin_file``.

    >>> builtin_text("zoo", "quick").splitlines()[2]
    'name = "zoo"'
    """
    return (resources.files("cello.study") / "builtin" / builtin_file(name, protocol)).read_text("utf-8")
