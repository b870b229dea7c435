"""The shortest way to do a task."""

from __future__ import annotations

from collections import deque
from functools import lru_cache

from memp.errors import TaskError
from tasks.gridworld.world import ACTIONS, State, World, initial, step


@lru_cache(maxsize=4096)
def solve(world: World) -> tuple[int, ...]:
    """Return a shortest sequence of actions that meets the goal, by breadth-first search over all states.

    Among equally short ones the first in the order of `ACTIONS`, so a run can be repeated exactly.

    Raises:
        TaskError: if no sequence does; cannot happen in a world made by `World.of`.
    """
    first = initial(world)
    came: dict[State, tuple[State, int]] = {}
    queue = deque([first])
    while queue:
        state = queue.popleft()
        for action in range(len(ACTIONS)):
            after, _, done = step(world, state, action)
            if after == first or after in came:
                continue
            came[after] = (state, action)
            if done:
                return _way(came, after)
            queue.append(after)
    raise TaskError(f"nothing that can be done meets the goal of {world!r}")


def _way(came: dict[State, tuple[State, int]], state: State) -> tuple[int, ...]:
    """Follow the search back from `state` and return the actions forward."""
    actions = []
    while state in came:
        state, action = came[state]
        actions.append(action)
    return tuple(reversed(actions))
