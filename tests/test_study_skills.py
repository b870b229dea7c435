"""The study of the skill agent: its rows, its table, and that it goes on where it stopped."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from scipy.stats import t

from evals.__main__ import main
from evals.folder import EPISODES
from evals.learners.rows import LearnerRow
from evals.learners.skills import LEARNERS, REGIMES, Skills, Unit, live, sub_goal
from evals.learners.skills_report import _curve
from evals.learners.summary import T_975, over_seeds, summarise
from evals.rows import read
from memp.errors import InputError
from memp.situation import Thing
from tasks.gridworld.doorkey import KEY, perceive

SMALL = ["--episodes", "12", "--tested", "4", "--seeds", "2", "--concurrency", "2"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small study, run to its end."""
    out = tmp_path_factory.mktemp("skills")
    result = CliRunner().invoke(main, ["skills", *SMALL, "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert "over shortest" in result.output
    return out


def rows_in(folder: Path) -> list[LearnerRow]:
    return read(folder / EPISODES, LearnerRow)[0]


def test_every_arm_lives_through_the_same_tasks_in_every_regime(folder: Path) -> None:
    rows = rows_in(folder)
    counts: Counter[tuple[str, str, str]] = Counter((row.kind, row.arm, row.split) for row in rows)

    assert {regime for regime, _, _ in counts} == set(REGIMES)
    for regime in REGIMES:
        held_out = "test" if regime == "random" else "dev"
        for arm in LEARNERS:
            assert counts[regime, arm, "train"] == 24
            assert counts[regime, "skills-frozen" if arm == "skills" else arm, held_out] == 8
        for split in ("train", held_out):
            by_arm: dict[str, list[tuple[int, int, str]]] = {}
            for row in rows:
                if (row.kind, row.split) == (regime, split):
                    by_arm.setdefault(row.arm, []).append((row.seed, row.episode, row.task))
            assert len(by_arm) == 4
            assert len({tuple(sorted(tasks)) for tasks in by_arm.values()}) == 1


def test_nothing_is_tested_from_where_it_was_trained(folder: Path) -> None:
    rows = rows_in(folder)
    trained = {(row.seed, row.kind, row.task) for row in rows if row.split == "train"}

    assert not trained & {(row.seed, row.kind, row.task) for row in rows if row.split != "train"}


def test_the_oracle_takes_the_shortest_way_and_nobody_a_shorter_one(folder: Path) -> None:
    for row in rows_in(folder):
        assert row.steps >= row.shortest or not row.success
        assert row.arm != "oracle" or (row.success and row.steps == row.shortest)
        assert row.decisions <= row.steps


def test_only_skill_arms_have_skills_and_a_frozen_library_stays_as_it_is(folder: Path) -> None:
    rows = rows_in(folder)
    assert all(row.skills == row.uses == 0 for row in rows if not row.arm.startswith("skills"))
    for regime in REGIMES:
        for seed in (0, 1):
            mine = [row for row in rows if (row.kind, row.seed) == (regime, seed)]
            last = [row.skills for row in mine if row.arm == "skills"][-1]
            assert {row.skills for row in mine if row.arm == "skills-frozen"} == {last}


def test_the_summary_has_the_metrics_of_every_arm_with_intervals(folder: Path) -> None:
    lines = json.loads((folder / "summary.json").read_text())

    for metric in ("success", "steps", "decisions", "steps_over_shortest"):
        arms = {line["arm"] for line in lines if line["metric"] == metric}
        assert arms == {*LEARNERS, "skills-frozen"}
    assert all(line["low"] <= line["mean"] <= line["high"] for line in lines)
    assert (folder / "plot.png").read_bytes().startswith(b"\x89PNG")
    assert "| random | train | oracle |" in (folder / "table.md").read_text()


def test_a_study_that_was_broken_off_comes_out_the_same(folder: Path, tmp_path: Path) -> None:
    whole = (folder / EPISODES).read_bytes().splitlines(keepends=True)
    (tmp_path / EPISODES).write_bytes(b"".join(whole[: len(whole) // 2 + 3]))
    (tmp_path / "manifest.json").write_bytes((folder / "manifest.json").read_bytes())

    result = CliRunner().invoke(main, ["skills", *SMALL, "--out", str(tmp_path)])

    assert result.exit_code == 0, result.output
    assert sorted((tmp_path / EPISODES).read_bytes().splitlines(keepends=True)) == sorted(whole)
    assert (tmp_path / "summary.json").read_bytes() == (folder / "summary.json").read_bytes()


def test_another_study_is_not_mixed_in(folder: Path) -> None:
    result = CliRunner().invoke(main, ["skills", *SMALL, "--seed", "5", "--out", str(folder)])

    assert result.exit_code == 1
    assert "differs in seed" in result.output


def test_skills_need_fewer_decisions_than_exploring() -> None:
    rows = live(Skills(episodes=60, tested=20, seeds=1), Unit("recurring", 3))
    by_arm = {
        line.arm: line for line in summarise(rows, 20) if (line.metric, line.split) == ("decisions", "dev")
    }

    assert 20 * by_arm["skills-frozen"].mean < by_arm["random"].mean


def test_means_are_over_seeds_with_students_interval() -> None:
    found = over_seeds([1, 3, 4, 8, 9, 11], [0, 0, 1, 1, 2, 2])

    assert (found.mean, found.n) == (6, 6)
    assert found.high - 6 == pytest.approx(6 - found.low) == pytest.approx(4.303 * 4 / 3**0.5)


def test_quantiles_are_those_of_students_t() -> None:
    assert list(T_975) == [
        pytest.approx(t.ppf(0.975, freedom + 1), abs=5e-4) for freedom in range(len(T_975))
    ]


def test_a_curve_adds_up_uses_and_averages_all_else(folder: Path) -> None:
    mine = [row for row in rows_in(folder) if (row.arm, row.kind, row.split) == ("skills", "fixed", "train")]
    places, uses = _curve(mine, "uses")

    assert places == [10, 12]
    assert uses[1].mean == sum(row.uses for row in mine) / 2
    assert uses[0].mean == sum(row.uses for row in mine if row.episode < 10) / 2
    _, steps = _curve(mine, "steps")
    assert steps[1].mean == pytest.approx(sum(row.steps for row in mine if row.episode >= 10) / 4)


@pytest.mark.parametrize("wrong", [{"episodes": 0}, {"tested": 0}, {"seeds": 0}])
def test_a_study_of_nothing_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="at least 1"):
        Skills(**wrong)


def test_an_unknown_regime_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(InputError, match="Did you mean 'random'"):
        Skills(regimes=("randm",))  # type: ignore[arg-type]


def test_q_learning_is_told_where_to_go_next() -> None:
    seen = "You are at column 1 row 2. The door is at column 3 row 1. The goal is at column 5 row 4."
    assert sub_goal(perceive(f"{seen} You carry the key. The door is locked.")) == (
        frozenset({KEY}),
        Thing("door", 2, -1),
    )


def test_the_report_is_written_again_from_the_folder_alone(folder: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["report", str(folder), "--out", str(tmp_path)])

    assert result.exit_code == 0, result.output
    for name in ("summary.json", "table.md"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_several_folders_of_learners_are_refused(folder: Path) -> None:
    result = CliRunner().invoke(main, ["report", str(folder), str(folder)])

    assert result.exit_code == 1
    assert "folder by folder" in result.output


def test_a_regime_that_is_named_twice_is_run_once_and_options_go_before_those_of_quick(
    tmp_path: Path,
) -> None:
    twice = ["--regime", "fixed", "--regime", "fixed", "--quick", "--episodes", "3", "--tested", "5"]
    result = CliRunner().invoke(main, ["skills", *twice, "--out", str(tmp_path)])

    assert result.exit_code == 0, result.output
    rows = rows_in(tmp_path)
    assert len(rows) == len({row.place for row in rows}) == len(LEARNERS) * (3 + 5)
    assert "the last 3 episodes" in result.output


def test_the_report_of_one_study_is_not_written_over_that_of_another(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    result = CliRunner().invoke(main, ["report", str(folder), "--out", str(tmp_path)])

    assert result.exit_code == 1
    assert "whose own report would be lost" in result.output
