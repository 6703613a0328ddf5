"""What hurts: a study that cannot state the figures it is compared with, or states wrong ones and is not told."""

from __future__ import annotations

from pathlib import Path

import pytest

from cello.errors import ConfigError
from cello.study.config import StudyConfig
from cello.study.reference_figures import BUILTIN, builtin_figures
from cello.study.study_file import load_study, parse_study

STUDY = 'name = "x"\n[[rows]]\nname = "A"\n'
FIGURES = """\
name = "smith"
[[figures]]
key = "accuracy"
measured = "best of ten runs, validation, %"
[[models]]
name = "theirs"
cells = ["lstm"]
values = { accuracy = 93.1 }
"""


def written(folder: Path, figures: str, stated: str = 'reference_figures = "beside.toml"') -> Path:
    (folder / "beside.toml").write_text(figures)
    study = folder / "mine.toml"
    study.write_text(f"{stated}\n{STUDY}")
    return study


def test_a_study_names_a_file_beside_it(tmp_path: Path) -> None:
    found = load_study(written(tmp_path, FIGURES)).reference_figures
    assert found is not None
    assert (found.name, found.corpus, found.heading) == ("smith", None, "Reference figures")
    assert found.models[0].values == {"accuracy": 93.1}
    assert found.figures[0].measured == "best of ten runs, validation, %"


def test_a_study_holds_the_table_itself() -> None:
    table = '[reference_figures]\nname = "smith"\nsentences = ["Theirs is 93.1 %."]\n'
    found = parse_study(f"{STUDY}{table}", "f.toml").reference_figures
    assert found is not None
    assert found.sentences == ("Theirs is 93.1 %.",)


@pytest.mark.parametrize("name", BUILTIN)
def test_built_in_figures_go_by_name_wherever_the_file_lies(name: str, tmp_path: Path) -> None:
    study = load_study(written(tmp_path, "", f'reference_figures = "{name}"'))
    assert study.reference_figures == builtin_figures(name)
    assert study.reference_figures.corpus == "speech-commands"


@pytest.mark.parametrize(
    ("figures", "message"),
    [
        ("name == 3", r"beside\.toml: not valid TOML: .*line 1.*; mend it there"),
        ('title = "x"', r"beside\.toml: Object missing required field 'name'"),
        ('name = "x"\ntitel = "t"\nsentences = ["s"]', r"beside\.toml: Object contains unknown field 'titel'"),
        ('name = "x"', r"beside\.toml: reference figures 'x' are empty; add \[\[models\]\] or sentences"),
        ('name = "x"\ncorpus = "esc"\nsentences = ["s"]', r"beside\.toml: Invalid enum value 'esc' - at 'corpus'"),
        (FIGURES.replace("{ accuracy", "{ acuracy"), r"model 'theirs' has a value for 'acuracy', .* known: accuracy"),
        (FIGURES.replace("93.1", "nan"), r"model 'theirs': accuracy=nan is not finite; leave out what is not known"),
        (FIGURES.replace("93.1", '"93"'), r"Expected 'float', got 'str' - at 'models\[0\]\.values"),
        (FIGURES + '[[figures]]\nkey = "accuracy"\nmeasured = "m"', r"figures of 'smith' share a key \(accuracy, acc"),
        (FIGURES.replace("measured", "decimals = 7\nmeasured"), r"figure 'accuracy': decimals=7; give 0 to 6"),
        ('name = "x"\n[[models]]\nname = "m"\nvalues = {a = 1}', r"'a', which is not a figure; there are no \[\[fig"),
    ],
)
def test_a_wrong_table_is_told_what_is_wrong_with_it(tmp_path: Path, figures: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_study(written(tmp_path, figures))


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        (
            'reference_figures = "gate"',
            r"reference_figures: unknown table 'gate'; did you mean 'gates'\?.* \.toml file",
        ),
        (
            'reference_figures = "gone.toml"',
            r"reference_figures = 'gone\.toml' cannot be read: No such file or directory; give the path of a "
            r"TOML file, seen from the study's file",
        ),
        ("reference_figures = 3", r"Expected 'object \| null', got 'int' - at 'reference_figures' \(reference_figures"),
        ('notebook = "../x.ipynb"', r"notebook='\.\./x\.ipynb' is not the name of a notebook file; write for example"),
        ('notebook = "x.py"', r"notebook='x\.py' is not the name of a notebook file"),
    ],
)
def test_figures_and_notebooks_that_cannot_be_are_refused(tmp_path: Path, stated: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_study(written(tmp_path, FIGURES, stated))


@pytest.mark.parametrize("name", ["windows", "gates"])
def test_a_study_file_of_before_means_what_the_built_in_study_states(name: str) -> None:
    old, new = parse_study(f'stage = "{name}"\n{STUDY}', "f.toml"), load_study(name)
    assert (old.notebook, old.reference_figures) == (new.notebook, new.reference_figures)
    own = parse_study(f'stage = "{name}"\nnotebook = "Mine.ipynb"\n{STUDY}', "f.toml")
    assert own.notebook == "Mine.ipynb"
    assert StudyConfig(name="x").notebook is None
