"""The grid world: the classic world exactly, and the universes built around it."""

from __future__ import annotations

import hashlib
import itertools
import random
import re
import subprocess
import sys
import warnings
from collections import Counter
from dataclasses import replace
from typing import Any, get_args

import gymnasium
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given
from hypothesis import strategies as st

import tasks.gridworld.gym as classic
from memp.errors import InputError, TaskError
from tasks.base import Split, TextEnv
from tasks.gridworld import (
    ACTIONS,
    CLASSIC_ACTIONS,
    KINDS,
    GridTask,
    GridWorld,
    Layout,
    Names,
    Universe,
    World,
)
from tasks.gridworld.layout import neighbours, region
from tasks.gridworld.place import Place, rules
from tasks.gridworld.solver import solve
from tasks.gridworld.text import ADJECTIVES, DID, PHRASES, STYLES, view
from tasks.gridworld.world import SIGNS, initial, score, step, useful
from tests.env_contract import EnvContract

SPLITS: tuple[Split, ...] = get_args(Split)
ENV = GridWorld()
TASKS = [task.id for split in SPLITS for task in ENV.tasks(split)]

CLASSIC_WAY = (
    *("move_right", "move_up", "move_right", "move_up", "pickup_key"),
    *("move_right", "move_up", "open_door", "move_right", "move_up"),
)


class TestContract(EnvContract):
    sample = 8

    def make(self) -> TextEnv:
        return GridWorld()


class TestContractOfALargerWorld(EnvContract):
    def make(self) -> TextEnv:
        return GridWorld(universe=7, size=8, style_count=4, places=3)


def play(world: World, *actions: str) -> tuple[list[float], bool]:
    """Carry out actions; return each step's reward and whether the last one met the goal."""
    state, rewards, done = initial(world), [], False
    for action in actions:
        state, reward, done = step(world, state, ACTIONS.index(action))
        rewards.append(reward)
    return rewards, done


def classic_world() -> World:
    return World.of(Layout.classic())


def numbered(cells: list[int], *, size: int = 5, sign: str = "knock", kind: int = 0) -> World:
    """A world by the numbers of its start, key, door, box and goal."""
    start, key, door, box, goal = cells
    return World(size, start, key, door, box, goal, ACTIONS.index(sign), kind)


# The classic world


def test_the_classic_layout_is_the_tutorials() -> None:
    layout = Layout.classic()

    assert layout == Layout(size=5, start=(0, 0), key=(2, 2), door=(3, 3), box=(1, 3), goal=(4, 4))
    assert Layout.classic(7) == replace(layout, size=7, goal=(6, 6))


def test_the_classic_task_is_done_by_the_six_classic_actions_in_ten_steps() -> None:
    way = [ACTIONS[action] for action in solve(classic_world())]

    assert len(way) == 10
    assert set(way) <= set(CLASSIC_ACTIONS)


def test_the_classic_way_earns_exactly_the_classic_rewards() -> None:
    rewards, done = play(classic_world(), *CLASSIC_WAY)

    assert rewards == [-0.1, -0.1, -0.1, -0.1, -0.1 + 1, -0.1, -0.1, -0.1 + 2, -0.1, -0.1 + 10]
    assert done


def test_up_is_one_more_y_and_right_is_one_more_x() -> None:
    world = classic_world()
    start = initial(world)

    assert step(world, start, ACTIONS.index("move_up"))[0].at == Layout.classic().number((0, 1)) == 5
    assert step(world, start, ACTIONS.index("move_right"))[0].at == Layout.classic().number((1, 0)) == 1


def test_a_wall_stops_a_move_and_the_step_still_costs() -> None:
    world = classic_world()
    for action in ("move_down", "move_left"):
        assert step(world, initial(world), ACTIONS.index(action)) == (initial(world), -0.1, False)


def test_an_inner_wall_is_passed_at_the_door_alone_and_only_once_that_is_open() -> None:
    world = World.of(replace(Layout.classic(), wall=3))
    beside = initial(world)._replace(at=3 * 5 + 2, key=1)
    assert step(world, beside._replace(at=2 * 5 + 2), ACTIONS.index("move_right"))[0].at == 2 * 5 + 2

    at_the_door = step(world, beside, ACTIONS.index("move_right"))[0]
    assert at_the_door.at == world.door
    assert [step(world, at_the_door, move)[0].at for move in range(4)] == [
        world.door,
        world.door,
        3 * 5 + 2,
        world.door,
    ]

    opened = step(world, at_the_door, ACTIONS.index("open_door"))[0]
    assert step(world, opened, ACTIONS.index("move_right"))[0].at == world.door + 1
    assert len(solve(world)) == 10


def test_the_key_is_paid_once() -> None:
    way = CLASSIC_WAY[:5]

    assert play(classic_world(), *way, "pickup_key")[0][-2:] == [0.9, -0.1]


def test_the_door_needs_the_key() -> None:
    to_the_door = ("move_right", "move_up") * 3

    assert play(classic_world(), *to_the_door, "open_door")[0][-1] == -0.1


def test_the_door_opens_only_where_it_stands_and_is_paid_once() -> None:
    key_in_hand = CLASSIC_WAY[:5]

    assert play(classic_world(), *key_in_hand, "open_door")[0][-1] == -0.1
    assert play(classic_world(), *CLASSIC_WAY[:8], "open_door")[0][-2:] == [1.9, -0.1]


def test_the_goal_counts_only_with_the_door_open() -> None:
    rewards, done = play(classic_world(), *("move_right", "move_up") * 4)

    assert rewards == [-0.1] * 8
    assert not done


def test_a_classic_door_has_no_bar_and_answers_no_sign() -> None:
    world = classic_world()
    at_the_door = initial(world)._replace(at=world.door)

    assert not {ACTIONS[action] for action in useful(world, at_the_door)} & set(SIGNS)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"size": 2}, "at least 3"),
        ({"size": 4}, "goal is at"),
        ({"key": (5, 0)}, "key is at (5, 0), outside"),
        ({"box": (-1, 0)}, "box is at (-1, 0), outside"),
        ({"door": (2, 2)}, "key and door are both at (2, 2)"),
        ({"wall": 4}, "the wall is column 4; it needs a column on either side"),
        ({"wall": 2}, "the door is at (3, 3), not in the wall"),
        ({"wall": 3, "key": (4, 0)}, "key is at (4, 0): it must be left of the wall"),
        ({"wall": 3, "box": (3, 0)}, "box is at (3, 0), in the wall"),
    ],
)
def test_an_impossible_layout_is_refused_with_its_fault(change: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=re.escape(said)):
        replace(Layout.classic(), **change)


def test_greeting_where_there_is_no_sign_to_give_is_refused() -> None:
    with pytest.raises(InputError, match="needs a sign"):
        World.of(Layout.classic(), "greet")


def test_unknown_kinds_and_signs_are_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match="'unlock'"):
        World.of(Layout.classic(), "unlok")
    with pytest.raises(InputError, match="'knock'"):
        World.of(Layout.classic(), "unlock", "nock")


# Kinds and signs


def test_a_barred_door_opens_only_after_its_sign() -> None:
    world = World.of(Layout.classic(), sign="ring_bell")
    at_the_door = initial(world)._replace(at=world.door, key=1)

    shut, _, _ = step(world, at_the_door, ACTIONS.index("open_door"))
    unbarred, reward, _ = step(world, at_the_door, ACTIONS.index("ring_bell"))
    opened, _, _ = step(world, unbarred, ACTIONS.index("open_door"))

    assert (shut.door, unbarred.at, reward, opened.door) == (0, world.door, -0.1, 1)


def test_a_wrong_sign_sends_the_agent_back_to_the_start_and_the_box_home() -> None:
    world = World.of(Layout.classic(), sign="ring_bell")
    at_the_door = initial(world)._replace(at=world.door, key=1, box=1)

    after, reward, _ = step(world, at_the_door, ACTIONS.index("knock"))

    assert (after, reward) == (initial(world)._replace(key=1), -0.1)


def test_the_kinds_have_different_procedures() -> None:
    ways = {
        kind: [
            ACTIONS[action]
            for action in solve(World.of(Layout.classic(), kind, "knock"))
            if not ACTIONS[action].startswith("move")
        ]
        for kind in KINDS
    }

    assert ways["unlock"] == ["pickup_key", "knock", "open_door"]
    assert ways["fetch"] == ["pickup_box"]
    assert sorted(ways["deliver"]) == ["drop_box", "knock", "open_door", "pickup_box", "pickup_key"]
    assert ways["greet"] == ["knock"]


def test_the_box_can_be_put_down_on_the_goal_alone_and_once_the_door_is_open() -> None:
    world = World.of(Layout.classic(), "deliver")
    held = initial(world)._replace(at=world.goal, box=1)

    assert step(world, held, ACTIONS.index("drop_box"))[0] == held
    assert step(world, held._replace(door=1), ACTIONS.index("drop_box"))[2]
    assert not step(world, held._replace(door=1, at=0), ACTIONS.index("drop_box"))[2]


@pytest.mark.parametrize("task_id", TASKS[:8])
def test_the_experts_score_never_falls_and_ends_at_1(task_id: str) -> None:
    _, info = ENV.reset(0, {"task": task_id})
    scores = [info["score"]]
    expert = ENV.expert(task_id)
    ENV.reset(0, {"task": task_id})
    scores += [ENV.step(action)[4]["score"] for action in expert]

    assert scores[0] == 0
    assert scores == sorted(scores)
    assert scores[-2] < scores[-1] == 1


# Universes


@pytest.mark.parametrize("universe", [0, 1, 2**40])
def test_the_rules_of_a_universe_deal_every_option_evenly_and_no_two_alike(universe: int) -> None:
    drawn = list(rules(universe).values())

    assert len(set(drawn)) == len(STYLES)
    assert set(Counter(rule.sign for rule in drawn).values()) == {3}
    assert set(Counter(rule.box for rule in drawn).values()) == {3}
    assert set(Counter(rule.key for rule in drawn).values()) == {2}


@given(universe=st.integers(0, 10**6), size=st.integers(4, 9), style=st.sampled_from(STYLES))
def test_every_place_of_a_style_follows_its_rule(universe: int, size: int, style: str) -> None:
    rule = rules(universe)[style]
    for adjective in ADJECTIVES[:4]:
        place = Place(universe, size, adjective, style)
        things = place.things
        spots = {
            "beside the door": neighbours(size, things["door"]),
            "beside the box": neighbours(size, things["box"]),
        }

        assert region(size, things["box"]) == rule.box
        assert place.rule.sign == rule.sign
        assert things["key"] in spots.get(rule.key, []) or region(size, things["key"]) == rule.key


def test_another_universe_has_other_rules() -> None:
    kept = [rules(one)[style] == rules(one + 1)[style] for one in range(10) for style in STYLES]

    assert sum(kept) < len(kept) / 20


def test_places_of_one_style_differ_in_their_cells() -> None:
    cells = {tuple(Place(0, 5, adjective, "mill").things.values()) for adjective in ADJECTIVES}

    assert len(cells) > len(ADJECTIVES) / 2


def test_a_place_has_the_same_cells_from_every_start() -> None:
    layouts: dict[str, set[Layout]] = {}
    for task_id in TASKS:
        task = ENV.task(task_id)
        common = replace(task.place.layout(task.start), start=task.place.starts[0])
        layouts.setdefault(task.place.name, set()).add(common)

    assert {len(found) for found in layouts.values()} == {1}


def test_the_size_and_the_universe_change_a_place() -> None:
    assert Place(0, 5, "amber", "barn").things != Place(1, 5, "amber", "barn").things
    assert Place(0, 5, "amber", "barn").things != Place(0, 8, "amber", "barn").things


def test_another_era_rearranges_every_place_under_its_name_and_changes_nothing_else() -> None:
    before, after = GridWorld(3), GridWorld(3, era=1)
    for split in SPLITS:
        pairs = list(zip(before.universe.tasks(split), after.universe.tasks(split), strict=True))
        assert all(old.place.name == new.place.name and old.kind == new.kind for old, new in pairs)
        assert all(old.place.things != new.place.things for old, new in pairs)
        assert {old.id for old, _ in pairs}.isdisjoint(new.id for _, new in pairs)
    assert rules(3) != rules(3, 1) != rules(3, 2)


# Splits


def grid_tasks(split: Split) -> list[GridTask]:
    return [ENV.task(task.id) for task in ENV.tasks(split)]


@pytest.mark.parametrize(("split", "size"), [("train", 64), ("dev", 32), ("test", 32)])
def test_a_split_holds_every_pair_of_style_and_kind_equally_often(split: Split, size: int) -> None:
    pairs = Counter((task.place.style, task.kind) for task in grid_tasks(split))

    assert len(grid_tasks(split)) == size
    assert len(pairs) == 8 * len(KINDS)
    assert len(set(pairs.values())) == 1


@pytest.mark.parametrize("split", SPLITS)
def test_the_first_eight_tasks_of_a_split_have_all_styles_and_each_kind_twice(split: Split) -> None:
    first = grid_tasks(split)[:8]

    assert len({task.place.style for task in first}) == 8
    assert set(Counter(task.kind for task in first).values()) == {2}


def test_no_place_of_the_test_split_occurs_in_training() -> None:
    train = {task.place.name for task in grid_tasks("train")}

    assert not train & {task.place.name for task in grid_tasks("test")}


def test_dev_revisits_training_places_from_new_starts() -> None:
    train = {(task.place.name, task.start) for task in grid_tasks("train")}
    dev = {(task.place.name, task.start) for task in grid_tasks("dev")}

    assert not train & dev
    assert {name for name, _ in dev} == {name for name, _ in train}


def test_the_styles_of_the_test_split_are_known_and_its_adjectives_mislead() -> None:
    train = {(task.place.adjective, task.place.style) for task in grid_tasks("train")}
    styles_of = dict(train)
    for task in grid_tasks("test"):
        assert task.place.style in styles_of.values()
        assert styles_of[task.place.adjective] != task.place.style


def test_no_two_tasks_of_a_universe_have_the_same_world() -> None:
    worlds = [(ENV.task(task_id).place.name, ENV.task(task_id).world()) for task_id in TASKS]

    assert len(set(worlds)) == len(worlds)


def test_held_out_names_do_not_occur_and_leave_the_other_rules_alone() -> None:
    names = Names(adjectives=ADJECTIVES[:16], styles=STYLES[:6])
    universe = Universe(3, style_count=6, names=names)
    placed = {task.place for split in SPLITS for task in universe.tasks(split)}

    assert {place.style for place in placed} == set(names.styles)
    assert {place.adjective for place in placed} <= set(names.adjectives)
    assert all(place.rule == rules(3)[place.style] for place in placed)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"universe": -1}, "universe is -1"),
        ({"size": 3}, "at least 4"),
        ({"style_count": 13}, "choose 2 to 12"),
        ({"style_count": 1}, "choose 2 to 12"),
        ({"places": 0}, "at least 1"),
        ({"places": 5}, "use fewer"),
        ({"era": -1}, "era is -1"),
        ({"max_steps": 0}, "max_steps is 0"),
    ],
)
def test_options_that_cannot_be_are_refused_with_their_fault(options: dict[str, int], said: str) -> None:
    with pytest.raises(InputError, match=said):
        GridWorld(**options)  # type: ignore[arg-type]


def test_names_that_are_not_known_are_refused() -> None:
    with pytest.raises(InputError, match="windmill"):
        Names(styles=("mill", "windmill"))
    with pytest.raises(InputError, match="twice"):
        Names(styles=("mill", "mill"))


# Ids


@pytest.mark.parametrize("env", [ENV, GridWorld(universe=12, size=8), GridWorld(era=1)])
def test_a_task_id_says_all_that_decides_the_task(env: GridWorld) -> None:
    for split in SPLITS:
        for task in env.tasks(split):
            assert GridTask.parse(task.id) == env.task(task.id)


def test_an_id_names_its_size_where_it_is_not_the_classic_one() -> None:
    assert re.fullmatch(r"u0/[a-z]+-[a-z]+/[a-z]+/start-\d+/p\d", TASKS[0])
    assert GridWorld(size=8).tasks("train")[0].id.startswith("u0x8/")


def test_an_id_names_its_era_after_the_first() -> None:
    assert GridWorld(size=8, era=2).tasks("train")[0].id.startswith("u0x8e2/")


@pytest.mark.parametrize(
    "wrong",
    [
        *("", "boil/3", "u0/amber-barn/unlock", "u0/amber-barn/dance/start-3/p2"),
        *(
            "u0/amber-barn/fetch/start-999/p0",
            "u00/quiet-cottage/unlock/start-10/p3",
            "u0x3/amber-barn/fetch/start-1/p0",
        ),
    ],
)
def test_what_is_no_id_is_refused(wrong: str) -> None:
    with pytest.raises(TaskError):
        GridTask.parse(wrong)


def test_tasks_are_the_same_in_every_process() -> None:
    """Pinned: stored trajectories name these ids; what changes them needs a new version in `name`."""
    worlds = repr([(task_id, tuple(ENV.task(task_id).world()[:-1])) for task_id in TASKS])

    assert hashlib.sha256(worlds.encode()).hexdigest()[:16] == "e88a3af7f4344583"


# What the agent is told


def test_a_kind_is_asked_for_in_several_wordings() -> None:
    for phrases in PHRASES.values():
        assert len(set(phrases)) == len(phrases) >= 4
        assert all("{place}" in phrase for phrase in phrases)
    assert {task.phrase for task in grid_tasks("train")} == {0, 1, 2, 3}


def test_the_task_text_names_the_place() -> None:
    for task_id in TASKS:
        assert ENV.task(task_id).place.name in ENV.reset(0, {"task": task_id})[1]["task"]


@given(at=st.integers(0, 24), order=st.permutations(range(25)), another=st.permutations(range(25)))
def test_an_observation_does_not_tell_what_lies_further_than_one_step(
    at: int, order: list[int], another: list[int]
) -> None:
    y, x = divmod(at, 5)
    seen = {at, *(Layout.classic().number(cell) for cell in neighbours(5, (x, y)))}
    texts = set()
    for cells, sign in ((order, "knock"), (another, "ring_bell")):
        world = numbered([cell for cell in cells if cell not in seen][:5], sign=sign)
        texts.add(view(world, initial(world)._replace(at=at)))

    assert len(texts) == 1


def test_an_observation_names_what_is_here_and_beside() -> None:
    world = classic_world()
    here = view(world, initial(world)._replace(at=Layout.classic().number((2, 3))))

    assert here == (
        "You are at column 2 row 3 in the upper center. Up is floor. Down is the key. Left is the box. "
        "Right is the door. You carry nothing. The door is locked."
    )


def test_walls_are_seen_at_the_edges() -> None:
    world = classic_world()

    assert "Here is the start. Up is floor. Down is a wall. Left is a wall. Right is floor." in view(
        world, initial(world)
    )


def test_the_admissible_actions_are_those_that_change_something() -> None:
    ENV.reset(0, {"task": TASKS[0]})
    moves = ENV.admissible()

    assert set(moves) < set(ACTIONS)
    for action in ACTIONS:
        ENV.reset(0, {"task": TASKS[0]})
        assert ("nothing happens" in ENV.step(action)[0].lower()) == (action not in moves)


def test_at_a_barred_door_every_sign_is_admissible() -> None:
    world = World.of(Layout.classic(), sign="ring_bell")
    at_the_door = initial(world)._replace(at=world.door)

    assert {*SIGNS} <= {ACTIONS[action] for action in useful(world, at_the_door)}


def test_every_action_has_its_words() -> None:
    assert len(DID) == len(ACTIONS) == len(set(DID))


def test_an_unknown_action_is_answered_in_words_and_costs_a_step() -> None:
    ENV.reset(0, {"task": TASKS[0]})
    observation, reward, *_ = ENV.step("dance")

    assert observation.startswith("There is no such action; nothing happens.")
    assert reward == -0.1


def test_the_episode_is_truncated_at_the_step_budget() -> None:
    for env, budget in ((ENV, 50), (GridWorld(max_steps=3), 3), (GridWorld(size=6), 60)):
        env.reset(0)
        ends = [env.step("dance")[2:4] for _ in range(budget)]
        assert ends == [(False, False)] * (budget - 1) + [(False, True)]


def test_an_unknown_option_or_split_is_refused() -> None:
    with pytest.raises(InputError, match="'task'"):
        ENV.reset(0, {"tasks": TASKS[0]})
    with pytest.raises(InputError, match="'train'"):
        ENV.tasks("trian")  # type: ignore[arg-type]


def test_all_texts_need_fewer_than_300_words() -> None:
    words: set[str] = set(ADJECTIVES) | set(STYLES) | set(ACTIONS)
    for task_id in TASKS:
        draw = random.Random(task_id)
        observation, info = ENV.reset(0, {"task": task_id})
        words |= set(re.findall(r"\w+|[^\w\s]", f"{observation} {info['task']}".lower()))
        for _ in range(20):
            observation, _, terminated, truncated, _ = ENV.step(draw.choice(ACTIONS))
            words |= set(re.findall(r"\w+|[^\w\s]", observation.lower()))
            if terminated or truncated:
                break

    assert 60 < len(words) < 300


# Episodes


@given(task_id=st.sampled_from(TASKS), actions=st.lists(st.sampled_from([*ACTIONS, "dance"]), max_size=60))
def test_no_sequence_of_actions_breaks_an_episode(task_id: str, actions: list[str]) -> None:
    env = GridWorld()
    env.reset(0, {"task": task_id})
    for action in actions:
        observation, reward, terminated, truncated, info = env.step(action)
        assert observation
        assert -0.1 <= reward <= 12.9
        assert 0 <= info["score"] <= 1
        assert (info["score"] == 1) == info["success"] == terminated
        if terminated or truncated:
            break
        assert env.admissible()


@given(task_id=st.sampled_from(TASKS), actions=st.lists(st.integers(0, len(ACTIONS) - 1), max_size=40))
def test_key_and_door_are_never_paid_twice(task_id: str, actions: list[int]) -> None:
    world = ENV.task(task_id).world()
    state, paid = initial(world), 0.0
    for action in actions:
        state, reward, done = step(world, state, action)
        paid += reward + 0.1 - 10 * done
        if done:
            break

    assert paid == pytest.approx(state.key + 2 * state.door)


@pytest.mark.parametrize("universe", [0, 1, 2, 99])
@pytest.mark.parametrize("size", [4, 5])
def test_the_expert_does_every_task_within_the_budget(universe: int, size: int) -> None:
    env = GridWorld(universe, size)
    for task in itertools.chain.from_iterable(env.tasks(split) for split in SPLITS):
        actions = env.expert(task.id)
        env.reset(0, {"task": task.id})
        *_, last = [env.step(action) for action in actions]
        assert last[2]
        assert last[4]["score"] == 1
        assert env.shortest(task.id) == len(actions) <= env.max_steps


@given(
    cells=st.lists(st.integers(0, 24), min_size=5, max_size=5, unique=True),
    kind=st.integers(0, len(KINDS) - 1),
)
def test_the_expert_never_gives_a_wrong_sign(cells: list[int], kind: int) -> None:
    """Being sent back must not be a short cut: what the expert shows is what a memory learns."""
    world = numbered(cells, kind=kind)

    assert {ACTIONS[action] for action in solve(world)} & set(SIGNS) <= {"knock"}


@given(start=st.integers(0, 24), others=st.permutations(range(25)))
def test_the_expert_of_a_classic_task_walks_from_key_to_door_to_goal(start: int, others: list[int]) -> None:
    key, door, box, goal = [cell for cell in others if cell != start][:4]
    world = World(5, start, key, door, box, goal, -1, 0)
    stops = itertools.pairwise(divmod(cell, 5) for cell in (start, key, door, goal))

    assert len(solve(world)) == 2 + sum(abs(x - u) + abs(y - v) for (y, x), (v, u) in stops)


@given(
    cells=st.lists(st.integers(0, 15), min_size=5, max_size=5, unique=True),
    kind=st.integers(0, 3),
    actions=st.lists(st.integers(0, len(ACTIONS) - 1), max_size=30),
)
def test_no_sequence_of_actions_is_shorter_than_the_experts(
    cells: list[int], kind: int, actions: list[int]
) -> None:
    world = numbered(cells, size=4, kind=kind)
    shortest = len(solve(world))
    state = initial(world)
    for taken, action in enumerate(actions, 1):
        state, _, done = step(world, state, action)
        if done:
            assert taken >= shortest
            break


def test_the_score_is_1_exactly_when_the_goal_is_met() -> None:
    for task_id in TASKS[:8]:
        world = ENV.task(task_id).world()
        state = initial(world)
        for action in solve(world):
            assert score(world, state) < 1
            state, _, done = step(world, state, action)
            assert done == (score(world, state) == 1)


# Gymnasium


def test_gymnasiums_checker_has_no_complaint() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gymnasium.make(classic.ID).unwrapped)
        check_env(gymnasium.make(classic.ID, size=8, render_mode="ansi").unwrapped)


def test_the_gymnasium_world_is_the_classic_one() -> None:
    env = gymnasium.make(classic.ID)
    first, _ = env.reset(seed=0)
    outcomes = [env.step(CLASSIC_ACTIONS.index(action)) for action in CLASSIC_WAY]

    assert first.tolist() == [0, 0, 0, 0]
    assert [outcome[1] for outcome in outcomes] == play(classic_world(), *CLASSIC_WAY)[0]
    assert outcomes[-1][0].tolist() == [4, 4, 1, 1]
    assert outcomes[-1][2:4] == (True, False)


def test_the_gymnasium_world_takes_a_layout_and_a_step_budget() -> None:
    layout = Layout(size=3, start=(2, 2), key=(0, 0), door=(1, 1), box=(0, 1), goal=(0, 2))
    env = classic.GridWorldEnv(layout=layout, max_steps=2)
    first, _ = env.reset()

    assert first.tolist() == [2, 2, 0, 0]
    assert env.step(0)[2:4] == (False, False)
    assert env.step(0)[2:4] == (False, True)
    with pytest.raises(TaskError):
        env.step(0)


def test_the_gymnasium_world_draws_itself() -> None:
    env = classic.GridWorldEnv(render_mode="ansi")
    env.reset()

    rendered = env.render()

    assert rendered is not None
    assert rendered.split("\n") == [". . . . G", ". B . D .", ". . K . .", ". . . . .", "A . . . ."]


def test_an_action_out_of_range_is_refused() -> None:
    env = classic.GridWorldEnv()
    env.reset()
    with pytest.raises(InputError, match="0 to 5"):
        env.step(6)


def test_importing_the_text_environment_does_not_import_gymnasium() -> None:
    code = "import sys, tasks.gridworld; sys.exit('gymnasium' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
