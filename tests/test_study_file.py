"""Studies described in a file: the very command line, its defaults and its refusals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from evals.__main__ import main
from evals.settings import SCALES, Settings
from evals.studies.build import Build
from tests.studies import by_key, manifest_in, rows_in

CHECKOUT = Path(__file__).parent.parent

EXAMPLES = sorted((CHECKOUT / "studies").glob("*.toml"))

SMALL = """
study = "retrieve"
env = "gridworld"
agent = "random"
split = ["dev", "test"]
episodes = 4
train = 4
max_steps = 3
k = 2
"""


def written(folder: Path, text: str = SMALL) -> str:
    path = folder / "study.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def run(*words: str) -> Result:
    return CliRunner().invoke(main, ["run", *words])


class Asked:
    """What reached the study, instead of running it."""

    def __init__(self) -> None:
        self.options: dict[str, Any] = {}
        self.settings: Settings | None = None

    def __call__(self, kind: type[Settings], plan: Callable[..., Any], **options: Any) -> None:
        known = {name: value for name, value in options.items() if name in kind.__dataclass_fields__}
        self.options = options
        self.settings = kind.of(**known)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    found = Asked()
    monkeypatch.setattr("evals.__main__.conduct", found)
    return found


@pytest.mark.parametrize("path", EXAMPLES, ids=[path.stem for path in EXAMPLES])
def test_every_example_is_accepted(asked: Asked, path: Path) -> None:
    result = run(str(path))
    assert result.exit_code == 0, result.output
    assert asked.settings is not None
    assert path.stem.startswith(asked.settings.study)


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 2


def test_a_file_runs_the_study_that_the_command_line_does(tmp_path: Path) -> None:
    from_file = run(written(tmp_path), "--out", str(tmp_path / "file"))
    words = [
        "--env",
        "gridworld",
        "--agent",
        "random",
        "--split",
        "dev",
        "--split",
        "test",
        "--episodes",
        "4",
    ]
    words += ["--train", "4", "--max-steps", "3", "-k", "2", "--out", str(tmp_path / "words")]
    from_words = CliRunner().invoke(main, ["retrieve", *words])
    assert from_file.exit_code == from_words.exit_code == 0, from_file.output
    assert by_key(rows_in(tmp_path / "file")) == by_key(rows_in(tmp_path / "words"))
    assert manifest_in(tmp_path / "file") == manifest_in(tmp_path / "words")


def test_what_a_file_leaves_unsaid_has_the_defaults_of_the_command_line(asked: Asked, tmp_path: Path) -> None:
    assert run(written(tmp_path, 'study = "build"\nenv = "gridworld"\n')).exit_code == 0
    assert asked.settings == Build.of("gridworld")
    assert asked.options["out"] is None


def test_dashes_and_underscores_are_the_same(asked: Asked, tmp_path: Path) -> None:
    for key in ("max-steps", "max_steps"):
        run(written(tmp_path, f'study = "build"\nenv = "gridworld"\n{key} = 7\nno-cache = true\n'))
        assert asked.options["max_steps"] == 7
        assert asked.options["no_cache"] is True


def test_how_a_study_is_run_may_be_said_on_the_command_line(asked: Asked, tmp_path: Path) -> None:
    file = written(tmp_path, SMALL + 'out = "there"\nconcurrency = 3\nmax_tokens = 5\nprice-in = 2\n')
    run(file)
    before = dict(asked.options)
    run(file, "--out", "here", "--concurrency", "4", "--max-tokens", "6", "--no-cache")
    names = ("out", "workers", "max_tokens", "price_in", "no_cache")
    assert [before[name] for name in names] == [Path("there"), 3, 5, 2.0, False]
    assert [asked.options[name] for name in names] == [Path("here"), 4, 6, 2.0, True]


def test_what_is_studied_is_said_in_the_file_alone(tmp_path: Path) -> None:
    assert "No such option" in run(written(tmp_path), "--episodes", "3").stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('env = "gridworld"', "must name its study, as in study = 'build'"),
        ("study = 3", "must name its study, as in study = 'build'"),
        ('study = "retreive"', "'retreive'. Did you mean 'retrieve'? Known: "),
        (SMALL + "epsiodes = 3", "'epsiodes'. Did you mean 'episodes'? Known: env, agent, "),
        (SMALL + "help = true", "'help'"),
        (SMALL + 'seed = "3"', "seed = '3' is of the wrong type; it takes int"),
        (SMALL + "seed = 3.0", "seed = 3.0 is of the wrong type; it takes int"),
        (SMALL + "seed = true", "seed = True is of the wrong type; it takes int"),
        (SMALL + "seed = [1, 2]", "seed = [1, 2] is of the wrong type; it takes int"),
        (SMALL + "model = 4", "model = 4 is of the wrong type; it takes str"),
        (SMALL + 'no-cache = "yes"', "no-cache = 'yes' is of the wrong type; it takes bool"),
        (SMALL + "max-cost = true", "max-cost = True is of the wrong type; it takes float or int"),
        (
            SMALL.replace('["dev", "test"]', "[1]"),
            "split = 1 is of the wrong type; it takes str, or a list of them",
        ),
        (SMALL + "seed = ", "cannot be read as TOML"),
    ],
)
def test_a_file_that_is_wrong_is_refused_naming_what_is(tmp_path: Path, text: str, said: str) -> None:
    result = run(written(tmp_path, text), "--out", str(tmp_path / "out"))
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: ")
    assert "study.toml" in line
    assert said in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (SMALL.replace("episodes = 4", "episodes = 0"), "Invalid value for '--episodes': 0"),
        (SMALL.replace('"dev", ', '"train", '), "Invalid value for '--split': 'train'"),
        (SMALL.replace('env = "gridworld"', ""), "Missing option '--env'"),
    ],
)
def test_a_value_that_the_command_line_refuses_is_refused_as_there(
    tmp_path: Path, text: str, said: str
) -> None:
    result = run(written(tmp_path, text), "--out", str(tmp_path / "out"))
    assert result.exit_code == 2
    assert said in result.stderr


def test_every_study_can_be_described_in_a_file() -> None:
    assert SCALES.keys() <= main.commands.keys()
