"""Episodes of conflicting preferences: what they pay, how they end, and that the test holds nothing of training."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from memp.errors import InputError, TaskError
from tasks.gridworld.preferences import (
    ACTIONS,
    MOVES,
    OBJECTS,
    PAYS,
    SIZE,
    WORTH,
    Held,
    Observations,
    Preferences,
    arrangements,
    shapes,
)

UP, DOWN, LEFT, RIGHT = range(len(ACTIONS))

SPAN = 2 * SIZE - 1


def distances(seen: Observations) -> NDArray[np.int64]:
    """How far each object is to the right and above, read from observations, shape (n, objects, 2)."""
    one_hots = seen[:, : OBJECTS * 2 * SPAN].reshape(-1, OBJECTS, 2, SPAN)
    assert (one_hots.sum(-1) == 1).all()
    found: NDArray[np.int64] = one_hots.argmax(-1) - (SIZE - 1)
    return found


def everything(split: Held, count: int) -> set[bytes]:
    """What is seen in episodes of random actions, without the cue."""
    env, random = Preferences(0, count, seed=5, split=split), np.random.default_rng(0)
    seen = [env.reset()]
    seen += [env.step(random.integers(4, size=count)).observations for _ in range(env.max_steps)]
    return {row.tobytes() for row in np.concatenate(seen)[:, : OBJECTS * 2 * SPAN].astype(np.bool_)}


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.integers(0, 5), st.integers(1, 30), st.integers(1, 14))
def test_each_episode_does_what_it_would_do_alone(seed: int, task: int, count: int, budget: int) -> None:
    env, random = Preferences(task, count, seed=seed, tasks=6, max_steps=budget), np.random.default_rng(seed)
    away = distances(env.reset())
    paid, reached = np.zeros(count), [-1] * count
    for number in range(1, budget + 3):
        actions = random.integers(4, size=count)
        found = env.step(actions)
        for row in range(count):
            over = reached[row] >= 0 or number > budget
            before, after = away[row], distances(found.observations)[row]
            moved = before[0] - after[0]
            assert (before - after == moved).all()  # the agent moves, the objects do not
            assert (moved == (MOVES[actions[row]] if moved.any() else 0)).all()
            assert not (over and moved.any())
            away[row] = after
            at = np.flatnonzero((after == 0).all(-1))
            if at.size and not over:
                reached[row] = int(at[0])
                paid[row] += PAYS[task][at[0]]
                assert found.rewards[row] == PAYS[task][at[0]]
            else:
                assert found.rewards[row] == 0
        assert found.terminated.tolist() == [thing >= 0 for thing in reached]
        assert found.truncated.tolist() == [thing < 0 and number >= budget for thing in reached]
    assert env.success.tolist() == [thing == PAYS[task].argmax() for thing in reached]


def test_a_wall_holds_the_agent_back() -> None:
    env = Preferences(0, 400, seed=3, max_steps=12)
    env.reset()
    for _ in range(SIZE):
        leftmost = env.step(np.full(400, LEFT))
    for _ in range(SIZE):
        rightmost = env.step(np.full(400, RIGHT))
    free = ~rightmost.terminated
    crossed = distances(leftmost.observations)[free] - distances(rightmost.observations)[free]

    assert free.sum() > 50
    assert (crossed == (SIZE - 1, 0)).all()


def test_the_cue_says_which_task_it_is() -> None:
    cues = [Preferences(task, 2, seed=0, tasks=4).reset()[:, -4:].tolist() for task in range(4)]
    assert cues == [[row, row] for row in np.eye(4).tolist()]
    assert Preferences(0, 2, seed=0, tasks=4).width == OBJECTS * 2 * SPAN + 4


def test_the_preferences_of_tasks_conflict() -> None:
    assert len({tuple(pays) for pays in PAYS.tolist()}) == 6
    assert all(sorted(pays, reverse=True) == list(WORTH) for pays in PAYS.tolist())
    assert sorted(PAYS[:3].argmax(1)) == sorted(PAYS[:3].argmin(1)) == [0, 1, 2]


def test_nothing_that_is_seen_in_the_test_can_be_seen_in_training() -> None:
    train, test = arrangements("train"), arrangements("test")

    assert len(train) + len(test) == 25 * 24 * 23
    assert not set(shapes(train)) & set(shapes(test))
    assert 0.15 < len(test) / len(train) < 0.3
    assert not everything("train", 3000) & everything("test", 3000)


def test_the_same_seed_gives_the_same_episodes_and_reset_gives_new_ones() -> None:
    one, same, other = (Preferences(1, 50, seed=seed) for seed in (7, 7, 8))
    first = one.reset()

    assert (first == same.reset()).all()
    assert (first != other.reset()).any()
    assert (first != one.reset()).any()


def test_agent_and_objects_begin_in_different_cells() -> None:
    away = distances(Preferences(0, 5000, seed=1).reset())

    assert (away != 0).any(-1).all()
    assert all((away[:, one] != away[:, other]).any(-1).all() for one, other in ((0, 1), (0, 2), (1, 2)))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"tasks": 0}, "1 to 6 tasks, not 0"),
        ({"tasks": 7}, "1 to 6 tasks, not 7"),
        ({"task": 3}, "task 3 is none of the 3"),
        ({"task": -1}, "task -1 is none of the 3"),
        ({"split": "tset"}, "unknown split 'tset'. Did you mean 'test'"),
        ({"episodes": 0}, "0 episodes of 12 steps"),
        ({"max_steps": 0}, "2 episodes of 0 steps"),
    ],
)
def test_episodes_that_there_cannot_be_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Preferences(**{"task": 0, "episodes": 2, "seed": 0} | wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [[0], [0, 1, 2], [0, 4], [-1, 0]])
def test_what_is_no_action_of_each_episode_is_refused(wrong: list[int]) -> None:
    env = Preferences(0, 2, seed=0)
    env.reset()
    with pytest.raises(InputError, match="actions"):
        env.step(np.array(wrong))


def test_an_episode_has_to_begin_before_it_goes_on() -> None:
    env = Preferences(0, 2, seed=0)
    with pytest.raises(TaskError, match=r"call reset\(\) first"):
        env.step(np.array([0, 0]))
    with pytest.raises(TaskError, match=r"call reset\(\) first"):
        _ = env.success
