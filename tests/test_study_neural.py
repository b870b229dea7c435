"""The studies of neural learners: their rows, tables and pictures, and that they go on where they stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from evals.__main__ import main
from evals.folder import EPISODES
from evals.learners.cells import Cell
from evals.learners.cppo_arms import Cppo
from evals.learners.fits import Fit
from evals.learners.settings import FAMILIES, LONGER, TASKS, WAYS, Algorithms, Continual, Sinusoids
from evals.rows import read
from memp.errors import InputError

RUN = ("finetune", "ewc-10", "prioritized", "derpp", "lstm-replay", "joint")
"""One arm of each kind of learning in sequence."""

IN_SEQUENCE = [
    "continual",
    *(word for arm in RUN for word in ("--arm", arm)),
    *("--steps", "2", "--tested", "8", "--buffer", "16"),
]

SMALL = {
    "continual": IN_SEQUENCE,
    "functions": [*IN_SEQUENCE, "--tasks", "functions"],
    "dnc": ["dnc", "--steps", "2", "--tested", "4"],
    "cppo": [
        "cppo",
        *(word for arm in ("ppo", "ewc", "cppo-d2") for word in ("--arm", arm)),
        *("--iterations", "2", "--tested", "20", "--stored", "8"),
    ],
    "maml": ["maml", "--iterations", "3", "--tested", "6"],
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small run of each study and of each kind of tasks, with two seeds."""
    made = {}
    for study, options in SMALL.items():
        made[study] = tmp_path_factory.mktemp(study)
        out = ["--seeds", "2", "--concurrency", "1", "--out", str(made[study])]
        result = CliRunner().invoke(main, [*options, *out])
        assert result.exit_code == 0, result.output
    return made


def lines(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / "summary.json").read_text())
    return found


@pytest.mark.parametrize(("study", "tasks"), [("continual", "sequences"), ("functions", "functions")])
def test_every_arm_is_tested_in_every_task_after_every_task(
    folders: dict[str, Path], study: str, tasks: str
) -> None:
    cells = read(folders[study] / EPISODES, Cell)[0]
    for arm in RUN:
        way = WAYS[arm]
        found = {(cell.seed, cell.after, cell.task) for cell in cells if cell.arm == arm}
        names = TASKS[tasks]
        stages = (len(names),) if way.joint else range(len(names) + 1)
        assert found == {(seed, after, task) for seed in (0, 1) for after in stages for task in names}


def test_arms_begin_with_the_same_weights_and_the_same_held_out_sequences(folders: dict[str, Path]) -> None:
    cells = read(folders["continual"] / EPISODES, Cell)[0]
    for task in TASKS["sequences"]:
        first = {
            (cell.success, cell.reward)
            for cell in cells
            if (cell.after, cell.task, cell.seed) == (0, task, 0) and WAYS[cell.arm].network == "dnc"
        }
        assert len(first) == 1


def test_the_summary_of_learning_in_sequence_has_its_four_metrics(folders: dict[str, Path]) -> None:
    found = lines(folders["continual"])
    for metric in ("accuracy", "bwt", "forgetting", "fwt"):
        arms = {line["arm"] for line in found if line["metric"] == metric}
        assert arms == set(RUN) - ({"joint"} if metric != "accuracy" else set())
    assert all(line["low"] <= line["mean"] <= line["high"] and line["n"] == 2 for line in found)


def test_every_length_is_tested_and_the_slots_of_training_too(folders: dict[str, Path]) -> None:
    found = lines(folders["dnc"])
    for arm, families in FAMILIES.items():
        metrics = [line["metric"] for line in found if line["arm"] == arm]
        assert len(metrics) == sum(len(LONGER[family]) for family in families) + (arm != "lstm")
        assert ("copy-12-few" in metrics) == (arm != "lstm")


def test_errors_are_told_after_each_number_of_gradient_steps(folders: dict[str, Path]) -> None:
    fits = read(folders["maml"] / EPISODES, Fit)[0]

    assert {fit.steps for fit in fits if fit.arm == "maml"} == {0, 1, 5, 10}
    assert {fit.steps for fit in fits if fit.arm == "scratch-tuned"} == {0, 1, 5, 10, 100}
    assert {line["metric"] for line in lines(folders["maml"])} == {
        f"mse-{steps}" for steps in (0, 1, 5, 10, 100)
    }


def test_continual_ppo_is_told_with_its_four_metrics(folders: dict[str, Path]) -> None:
    found = lines(folders["cppo"])
    for metric in ("success", "return", "forgetting", "plasticity"):
        assert [line["arm"] for line in found if line["metric"] == metric] == ["ppo", "ewc", "cppo-d2"]


def test_functions_are_told_by_the_variance_that_is_explained(folders: dict[str, Path]) -> None:
    found = lines(folders["functions"])
    assert {line["arm"] for line in found if line["metric"] == "explained"} == set(RUN)
    assert not any(line["metric"] == "bits" for line in found)


@pytest.mark.parametrize("study", ["continual", "functions", "cppo", "dnc"])
def test_what_was_found_is_drawn(folders: dict[str, Path], study: str) -> None:
    for picture in ("plot.png", *(["memory.png"] if study == "dnc" else [])):
        assert (folders[study] / picture).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("study", list(SMALL))
def test_a_study_that_was_broken_off_comes_out_the_same(
    folders: dict[str, Path], study: str, tmp_path: Path
) -> None:
    whole = (folders[study] / EPISODES).read_bytes().splitlines(keepends=True)
    (tmp_path / EPISODES).write_bytes(b"".join(whole[: len(whole) - 3]))
    (tmp_path / "manifest.json").write_bytes((folders[study] / "manifest.json").read_bytes())
    result = CliRunner().invoke(main, [*SMALL[study], "--seeds", "2", "--out", str(tmp_path)])

    assert result.exit_code == 0, result.output
    assert sorted((tmp_path / EPISODES).read_bytes().splitlines(keepends=True)) == sorted(whole)
    assert (tmp_path / "summary.json").read_bytes() == (folders[study] / "summary.json").read_bytes()


def test_the_report_is_written_again_from_the_folder_alone(folders: dict[str, Path], tmp_path: Path) -> None:
    for study, folder in folders.items():
        result = CliRunner().invoke(main, ["report", str(folder), "--out", str(tmp_path / study)])

        assert result.exit_code == 0, result.output
        assert (tmp_path / study / "table.md").read_bytes() == (folder / "table.md").read_bytes()


@pytest.mark.parametrize("kind", [Continual, Algorithms, Sinusoids, Cppo])
def test_an_unknown_arm_and_nothing_to_do_are_refused(kind: type[Any]) -> None:
    with pytest.raises(InputError, match="unknown arm 'lsmt'"):
        kind(arms=("lsmt",))
    with pytest.raises(InputError, match="seeds=0 is too low"):
        kind(seeds=0)
    assert kind(arms=kind.known[::-1]).arms == kind.known


def test_a_folder_of_sequences_says_what_it_said_before_there_were_other_tasks(
    folders: dict[str, Path],
) -> None:
    def tasks(study: str) -> Any:
        return json.loads((folders[study] / "manifest.json").read_text()).get("tasks")

    assert (tasks("continual"), tasks("functions")) == (None, "functions")
    assert (folders["continual"] / "table.md").read_text().startswith("# continual: tasks sequences, ")


def test_unknown_tasks_are_refused() -> None:
    with pytest.raises(InputError, match=r"unknown tasks 'function'. Did you mean 'functions'"):
        Continual(tasks="function")


def test_lengths_the_wrong_way_round_are_refused() -> None:
    with pytest.raises(InputError, match="longest=2 is below shortest=3"):
        Continual(shortest=3, longest=2)
