"""DoorKey: numbered layouts with everything in sight, and how their observations are read."""

from __future__ import annotations

import pytest

from memp.errors import InputError
from memp.situation import Situation, Thing
from tasks.base import Split, TextEnv, rollout
from tasks.gridworld.doorkey import DOOR_OPEN, GOAL, KEY, DoorKey, Room, perceive
from tasks.gridworld.world import CLASSIC_ACTIONS
from tests.env_contract import EnvContract


class TestContract(EnvContract):
    def make(self) -> TextEnv:
        return DoorKey()


class TestContractOfALargerOne(EnvContract):
    def make(self) -> TextEnv:
        return DoorKey(3, 9, layouts=2, starts=7)


def test_dev_starts_elsewhere_in_the_layouts_of_training_and_test_is_in_others() -> None:
    splits = DoorKey(layouts=864, starts=2).splits

    def rooms(split: Split) -> set[Room]:
        return {task.room for task in splits[split]}

    assert rooms("train") == rooms("dev")
    assert len(rooms("train")) == len(rooms("test")) == 864
    assert not rooms("train") & rooms("test")
    starts = {(task.room, task.layout.start) for task in splits["train"]}
    assert not starts & {(task.room, task.layout.start) for task in splits["dev"]}


def test_a_layout_is_the_same_whatever_others_there_are() -> None:
    few, many = DoorKey(5, layouts=1, starts=1), DoorKey(5, layouts=50)

    assert few.splits["train"][0].layout == many.splits["train"][0].layout


def test_layouts_of_other_seeds_are_others() -> None:
    one, other = ([task.layout for task in DoorKey(seed).splits["train"]] for seed in (0, 1))

    assert not set(one) & set(other)


def test_only_the_classic_actions_do_anything() -> None:
    env = DoorKey()
    task = env.tasks("train")[0].id
    assert set(env.expert(task)) <= set(CLASSIC_ACTIONS)

    env.reset(0, {"task": task})
    assert "no such action" in env.step("pickup_box")[0]


def test_an_episode_is_read_as_where_things_are_and_what_holds() -> None:
    env = DoorKey()
    task = env.splits["train"][0]
    lived = rollout(env, task.id, env.expert(task.id))
    seen = [perceive(lived.start), *(perceive(step.observation) for step in lived.steps)]

    (x, y), layout = task.layout.start, task.layout
    things = {"key": layout.key, "door": layout.door, "goal": layout.goal}
    assert seen[0] == Situation(
        frozenset(), tuple(Thing(name, cell[0] - x, cell[1] - y) for name, cell in sorted(things.items()))
    )
    flags = list(dict.fromkeys(situation.flags for situation in seen))
    assert flags == [set(), {KEY}, {KEY, DOOR_OPEN}, {KEY, DOOR_OPEN, GOAL}]
    assert [thing.name for thing in seen[-1].things] == ["door", "goal"]


def test_a_grid_without_room_for_a_wall_is_refused() -> None:
    with pytest.raises(InputError, match="at least 4"):
        DoorKey(size=3, starts=1, layouts=1)
    env = DoorKey(size=4, starts=1, layouts=1)
    assert rollout(env, env.tasks("test")[0].id, env.expert(env.tasks("test")[0].id)).reward == 1


def test_a_text_that_is_no_observation_is_refused() -> None:
    with pytest.raises(InputError, match="where the agent is"):
        perceive("You are in a maze of twisty little passages.")


@pytest.mark.parametrize("wrong", [{"layouts": 0}, {"starts": 0}, {"starts": 6}, {"layouts": 865}])
def test_more_starts_than_there_are_cells_and_no_layouts_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(InputError, match="at least 1"):
        DoorKey(**wrong)
