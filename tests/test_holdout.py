"""Memory left out by chance: who goes without, what is noted, and what is concluded."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from memp import ProceduralMemory
from memp.cli import main
from memp.errors import InputError
from memp.holdout import held_out
from memp.trial import Effect, Trial, _student, effect
from tests.factories import NOW, trajectory

TASK = "heat an egg"


@pytest.fixture
def memory() -> Iterator[ProceduralMemory]:
    with ProceduralMemory.open(":memory:") as opened:
        opened.update([trajectory(TASK)])
        yield opened


def live(
    memory: ProceduralMemory, task: str = TASK, *, holdout: float = 0.5, reward: float | None = 1.0
) -> bool:
    """Live one episode; returns whether it went without memory."""
    with memory.episode(task, holdout=holdout) as episode:
        episode.record("open oven", "it is open")
        if reward is not None:
            episode.finish(reward)
    return episode.held_out


def trial(number: int, held_out: bool, success: bool | None, steps: int = 5, holdout: float = 0.5) -> Trial:
    return Trial(
        episode_id=f"{number}/{held_out}/{holdout}",
        source=TASK,
        held_out=held_out,
        holdout=holdout,
        begun=NOW,
        success=success,
        steps=None if success is None else steps,
    )


def trials(with_memory: tuple[int, int], without: tuple[int, int], **options: float) -> list[Trial]:
    """Make trials of (successes, episodes) on each side."""
    return [
        trial(number, held_out, number < successes, **options)  # type: ignore[arg-type]
        for held_out, (successes, n) in ((False, with_memory), (True, without))
        for number in range(n)
    ]


def found(some: list[Trial]) -> Effect:
    said = effect(some)
    assert said is not None
    return said


# --- who goes without ---


def test_an_episode_held_out_is_shown_nothing_and_credits_nothing(memory: ProceduralMemory) -> None:
    while not live(memory):
        pass
    uses = memory.stats().uses
    treated = sum(not each.held_out for each in memory.store.trials())

    assert uses == treated


def test_the_guidance_of_a_held_out_episode_is_empty(memory: ProceduralMemory) -> None:
    episodes = [memory.episode(TASK, holdout=0.5) for _ in range(20)]

    assert {episode.held_out for episode in episodes} == {True, False}
    assert all((episode.guidance == "") == episode.held_out for episode in episodes)
    assert all((episode.trajectory.shown == ()) == episode.held_out for episode in episodes)


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_about_the_share_asked_for_goes_without(share: float) -> None:
    chosen = [held_out(f"task {n}", 0, holdout=share, seed=0) for n in range(4000)]

    assert abs(np.mean(chosen) - share) < 0.02


def test_the_decision_can_be_repeated_and_depends_on_seed_task_and_turn() -> None:
    def run(seed: int) -> list[bool]:
        return [held_out(f"task {n % 20}", n // 20, holdout=0.5, seed=seed) for n in range(200)]

    assert run(1) == run(1) != run(2)


def test_a_task_that_comes_again_is_decided_anew(memory: ProceduralMemory) -> None:
    assert {live(memory) for _ in range(20)} == {True, False}


def test_an_episode_that_nothing_was_found_for_is_no_trial() -> None:
    with ProceduralMemory.open(":memory:") as empty:
        assert not live(empty, holdout=0.999)
        assert empty.effect() is None


def test_without_holdout_nothing_is_noted(memory: ProceduralMemory) -> None:
    live(memory, holdout=0)

    assert memory.store.trials() == []


@pytest.mark.parametrize("holdout", [-0.1, 1, 1.5, math.nan])
def test_a_share_that_is_none_is_refused(memory: ProceduralMemory, holdout: float) -> None:
    with pytest.raises(InputError, match=r"holdout is .*below 1"):
        memory.episode(TASK, holdout=holdout)


# --- what is noted ---


def test_how_a_trial_ended_is_noted(memory: ProceduralMemory) -> None:
    live(memory, reward=0.4)

    (noted,) = memory.store.trials()
    assert (noted.source, noted.holdout, noted.reward, noted.success, noted.steps) == (
        TASK,
        0.5,
        0.4,
        False,
        1,
    )


def test_an_episode_that_broke_off_stays_unfinished_until_its_reward_is_known(
    memory: ProceduralMemory,
) -> None:
    live(memory, reward=None)
    assert memory.store.trials()[0].success is None

    (item,) = memory.quarantine()
    memory.retry(item.id, reward=1.0)

    assert memory.store.trials()[0].success is True


def test_an_episode_that_was_never_left_is_known_as_unfinished(memory: ProceduralMemory) -> None:
    memory.episode(TASK, holdout=0.5)

    said = memory.effect()

    assert said is not None
    assert said.with_memory.unfinished + said.without.unfinished == 1


def test_trials_survive_reopening(tmp_path: Path) -> None:
    with ProceduralMemory.open(tmp_path / "m.db") as opened:
        opened.update([trajectory(TASK)])
        live(opened)
        noted = opened.store.trials()
    with ProceduralMemory.open(tmp_path / "m.db") as again:
        assert again.store.trials() == noted != []


# --- what is concluded ---


def test_the_interval_of_success_is_newcombes() -> None:
    # Newcombe 1998, table II: 56/70 against 48/80, method 10
    said = found(trials((56, 70), (48, 80))).success

    assert said is not None
    assert (said.mean, said.low, said.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=1e-4)


def test_the_interval_of_steps_is_welchs() -> None:
    with_memory, without = [5, 6, 7, 9, 4, 5], [9, 12, 14, 8, 10]
    some = [trial(n, False, True, steps) for n, steps in enumerate(with_memory)]
    some += [trial(n, True, True, steps) for n, steps in enumerate(without)]

    said = found(some).steps
    reference = stats.ttest_ind(with_memory, without, equal_var=False).confidence_interval()

    assert said is not None
    assert (said.low, said.high) == pytest.approx((reference.low, reference.high), abs=0.05)


def test_no_interval_of_steps_is_given_where_it_cannot_be_known() -> None:
    assert found(trials((4, 4), (4, 4))).steps is None
    assert found([*trials((9, 9), (0, 0)), *trials((0, 0), (9, 9), steps=8)]).steps is None  # all alike


@given(st.floats(4, 1e6))
def test_the_quantile_is_that_of_student(freedom: float) -> None:
    assert _student(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=0.003)


def test_a_clear_difference_needs_no_more_episodes() -> None:
    assert found(trials((90, 100), (10, 100))).needed == 0


def test_no_difference_says_nothing_of_how_many_are_needed() -> None:
    assert found(trials((5, 10), (5, 10))).needed is None


def test_as_many_episodes_as_are_said_to_be_needed_show_the_difference() -> None:
    said = found(trials((6, 10), (5, 10)))
    assert said.needed is not None
    rng = np.random.default_rng(0)
    p, q, n = 0.6, 0.5, (said.needed + 20) // 2

    shown = [
        found(trials((int(rng.binomial(n, p)), n), (int(rng.binomial(n, q)), n))).success for _ in range(100)
    ]

    assert 0.6 < np.mean([bool(each and each.shown) for each in shown]) < 0.95


def test_one_side_without_episodes_says_no_difference() -> None:
    said = found(trials((3, 4), (0, 0)))

    assert (said.success, said.steps, said.needed, said.without.success) == (None, None, None, None)


def test_episodes_with_another_share_are_told_and_not_mixed_in() -> None:
    said = found(trials((9, 10), (5, 10), holdout=0.5) + trials((0, 5), (0, 5), holdout=0.1))

    assert (said.holdout, said.others, said.with_memory.successes) == (0.5, 10, 9)


def test_an_interval_never_leaves_out_its_mean() -> None:
    for some in (trials((0, 1), (1, 1)), trials((1, 1), (0, 1)), trials((3, 3), (3, 3))):
        said = found(some).success
        assert said is not None
        assert -1 <= said.low <= said.mean <= said.high <= 1


# --- what the command says ---


def said_by_stats(path: Path, *options: str) -> str:
    return CliRunner().invoke(main, ["stats", str(path), *options]).output


def test_stats_states_the_effect(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    with ProceduralMemory.open(path) as opened:
        opened.update([trajectory(TASK)])
        for each in trials((90, 100), (10, 100)):
            opened.store.put_trial(each)

    text = said_by_stats(path)

    assert "with memory  90 of 100 succeeded (90.0%), 5.0 steps, 0 unfinished" in text
    assert "success      +80.0 [+69.5, +86.3] points" in text
    assert "Memory helps: the 95 % interval of success excludes 0." in text
    assert json.loads(said_by_stats(path, "--json"))["effect"]["success"]["mean"] == pytest.approx(0.8)


def test_stats_says_how_many_more_episodes_are_needed(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    with ProceduralMemory.open(path) as opened:
        for each in trials((6, 10), (5, 10)):
            opened.store.put_trial(each)

    assert "Not sure yet: some " in said_by_stats(path)


def test_stats_of_a_memory_without_trials_says_nothing_of_an_effect(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    ProceduralMemory.open(path).close()

    assert "without" not in said_by_stats(path)
    assert json.loads(said_by_stats(path, "--json"))["effect"] is None
