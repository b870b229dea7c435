"""Many grid worlds at once do what each of them does alone."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memp.errors import InputError
from tasks.gridworld import ACTIONS, KINDS, Layout, World
from tasks.gridworld.batch import States, Worlds
from tasks.gridworld.world import SIGNS, State, initial, step


def drawn(random: Random, size: int) -> World:
    """A world by chance, with an inner wall or without."""
    wall = random.choice((None, *range(2, size - 1)))
    cells = [(x, y) for x in range(size) for y in range(size)]
    left = [cell for cell in cells if wall is None or cell[0] < wall]
    start, key = random.sample(left, 2)
    rest = [cell for cell in cells if cell not in (start, key)]
    door = random.choice([cell for cell in rest if wall is None or cell[0] == wall])
    box, goal = random.sample([cell for cell in rest if cell != door and cell[0] != wall], 2)
    layout = Layout(size=size, start=start, key=key, door=door, box=box, goal=goal, wall=wall)
    kind = random.choice(KINDS)
    return World.of(layout, kind, random.choice(SIGNS) if kind == "greet" else random.choice((None, *SIGNS)))


def plain(states: States) -> list[State]:
    """The states one by one."""
    return [State(*map(int, state)) for state in zip(*states, strict=True)]


@given(st.integers(0, 10**6), st.integers(4, 7), st.integers(1, 40))
def test_a_batch_does_what_each_of_its_worlds_does(seed: int, size: int, count: int) -> None:
    random = Random(seed)
    worlds = [drawn(random, size) for _ in range(count)]
    batch, alone = Worlds.of(worlds), [initial(world) for world in worlds]
    states = batch.initial()
    for _ in range(30):
        actions = [random.randrange(len(ACTIONS)) for _ in worlds]
        one_by_one = list(map(step, worlds, alone, actions))
        states, rewards, done = batch.step(states, np.array(actions, dtype=np.int16))
        alone = [state for state, _, _ in one_by_one]
        assert plain(states) == alone
        assert rewards.tolist() == [reward for _, reward, _ in one_by_one]
        assert done.tolist() == [met for _, _, met in one_by_one]


@pytest.mark.parametrize("sizes", [(), (4, 5)])
def test_a_batch_of_no_world_or_of_several_sizes_is_refused(sizes: tuple[int, ...]) -> None:
    worlds = [drawn(Random(0), size) for size in sizes]
    with pytest.raises(InputError, match="all of one size"):
        Worlds.of(worlds)
