"""What every text environment must do: inherit `EnvContract`, return the environment from `make`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import get_args

import pytest

from memp.errors import TaskError
from tasks.base import Info, Split, Task, TextEnv, expert_trajectory

SPLITS: tuple[Split, ...] = get_args(Split)

NO_ACTION = "xyzzy the plugh"
"""An action no environment knows."""

Outcome = tuple[str, float, bool, bool, Info]


class EnvContract:
    sample = 3
    """Tasks of each split that the tests which play episodes visit."""

    experts_succeed = 1.0
    """Share of the visited tasks whose expert must reach score 1."""

    patience = 1000
    """Steps after which an episode that gets nowhere must have been truncated."""

    def make(self) -> TextEnv:
        raise NotImplementedError

    @pytest.fixture
    def env(self) -> Iterator[TextEnv]:
        """Override with a wider scope where starting the environment is slow."""
        env = self.make()
        yield env
        env.close()

    def chosen(self, env: TextEnv) -> list[Task]:
        """The tasks that are played: `sample` of each split, spread over its order."""
        tasks: list[Task] = []
        for split in SPLITS:
            listed = env.tasks(split)
            tasks += listed[:: max(1, len(listed) // self.sample)][: self.sample]
        return tasks

    def test_every_split_has_tasks_and_they_name_it(self, env: TextEnv) -> None:
        for split in SPLITS:
            assert env.tasks(split)
            assert {task.split for task in env.tasks(split)} == {split}

    def test_no_task_is_listed_twice_or_in_two_splits(self, env: TextEnv) -> None:
        ids = [task.id for split in SPLITS for task in env.tasks(split)]

        assert len(set(ids)) == len(ids)

    def test_tasks_have_a_fixed_order(self, env: TextEnv) -> None:
        another = self.make()
        try:
            for split in SPLITS:
                assert list(env.tasks(split)) == list(env.tasks(split)) == list(another.tasks(split))
        finally:
            another.close()

    def test_reset_begins_the_task_that_was_asked_for(self, env: TextEnv) -> None:
        for task in self.chosen(env):
            observation, info = env.reset(0, {"task": task.id})

            assert info["task_id"] == task.id
            assert info["task"].strip()
            assert observation.strip()
            assert not info["success"]

    def test_the_same_seed_task_and_actions_give_the_same_episode(self, env: TextEnv) -> None:
        for task in self.chosen(env):
            assert play_some(env, task.id) == play_some(env, task.id)

    def test_a_seed_without_a_task_draws_a_training_task(self, env: TextEnv) -> None:
        train = {task.id for task in env.tasks("train")}

        for seed in range(self.sample):
            drawn = env.reset(seed)[1]["task_id"]
            assert drawn in train
            assert env.reset(seed)[1]["task_id"] == drawn

    def test_neither_seed_nor_task_draws_a_training_task(self, env: TextEnv) -> None:
        assert env.reset()[1]["task_id"] in {task.id for task in env.tasks("train")}

    def test_an_unknown_task_is_refused_with_the_nearest_one(self, env: TextEnv) -> None:
        known = env.tasks("train")[0].id
        with pytest.raises(TaskError) as caught:
            env.reset(0, {"task": known + "x"})
        assert known in str(caught.value).replace(known + "x", "")

        with pytest.raises(TaskError):
            env.expert(known + "x")

    def test_step_before_reset_is_refused(self) -> None:
        env = self.make()
        try:
            with pytest.raises(TaskError):
                env.step(NO_ACTION)
        finally:
            env.close()

    def test_unknown_actions_cost_steps_until_the_episode_is_truncated_and_over(self, env: TextEnv) -> None:
        env.reset(0, {"task": env.tasks("train")[0].id})
        for _ in range(self.patience):
            observation, _, terminated, truncated, info = env.step(NO_ACTION)
            assert observation.strip()
            assert 0 <= info["score"] <= 1
            if terminated or truncated:
                break

        assert truncated
        assert not terminated
        assert not info["success"]
        with pytest.raises(TaskError):
            env.step(NO_ACTION)

    @pytest.mark.parametrize("action", ["", " ", "\n", "\x00", "é" * 1000, "{}", "%s"])
    def test_no_text_makes_step_raise(self, env: TextEnv, action: str) -> None:
        env.reset(0, {"task": env.tasks("train")[0].id})

        assert isinstance(env.step(action)[0], str)

    def test_admissible_actions_are_some_in_a_fixed_order(self, env: TextEnv) -> None:
        for task in self.chosen(env):
            env.reset(0, {"task": task.id})
            actions = env.admissible()
            assert actions
            assert len(set(actions)) == len(actions)
            assert env.admissible() == actions

            env.reset(0, {"task": task.id})
            assert env.admissible() == actions

    def test_admissible_actions_are_known_to_the_environment(self, env: TextEnv) -> None:
        for task in self.chosen(env):
            env.reset(0, {"task": task.id})
            for action in env.admissible()[: self.sample]:
                env.reset(0, {"task": task.id})
                unknown = env.step(NO_ACTION)[0]
                env.reset(0, {"task": task.id})
                assert env.step(action)[0] != unknown

    def test_experts_do_their_tasks(self, env: TextEnv) -> None:
        rewards = [expert_trajectory(env, task.id).reward for task in self.chosen(env)]

        assert sum(reward == 1 for reward in rewards) >= self.experts_succeed * len(rewards)

    def test_the_expert_leaves_the_environment_needing_a_reset(self, env: TextEnv) -> None:
        task = env.tasks("train")[0].id
        env.reset(0, {"task": task})
        env.expert(task)

        with pytest.raises(TaskError):
            env.step(NO_ACTION)

    def test_scores_stay_between_0_and_1_and_success_is_1(self, env: TextEnv) -> None:
        for task in self.chosen(env):
            actions = env.expert(task.id)
            _, info = env.reset(0, {"task": task.id})
            assert 0 <= info["score"] <= 1
            for outcome in steps(env, actions):
                info = outcome[4]
                assert 0 <= info["score"] <= 1
                assert not info["success"] or info["score"] == 1

    def test_closing_twice_does_no_harm(self) -> None:
        env = self.make()
        env.tasks("train")
        env.close()
        env.close()


def steps(env: TextEnv, actions: Sequence[str]) -> Iterator[Outcome]:
    """Carry out `actions` up to the end of the episode."""
    for action in actions:
        outcome = env.step(action)
        yield outcome
        if outcome[2] or outcome[3]:
            return


def play_some(env: TextEnv, task_id: str, *, length: int = 6) -> list[object]:
    """Play a few admissible actions, spread over what there is, and return all that was said."""
    said: list[object] = [env.reset(0, {"task": task_id})]
    for turn in range(length):
        actions = env.admissible()
        outcome = env.step(actions[7 * turn % len(actions)])
        said += [actions, outcome]
        if outcome[2] or outcome[3]:
            break
    return said
