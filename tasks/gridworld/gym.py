"""The classic world for Gymnasium: `gymnasium.make("memp/GridWorld-v0")` once this module is imported."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from memp.errors import InputError, MissingExtra, TaskError
from tasks.gridworld.base import STEPS_PER_SIDE
from tasks.gridworld.layout import CLASSIC_SIZE, Layout
from tasks.gridworld.world import CLASSIC_ACTIONS, World, initial, step

try:
    import gymnasium
    from gymnasium.spaces import Discrete, MultiDiscrete
except ImportError as error:
    raise MissingExtra("gymnasium", "gridworld") from error

ID = "memp/GridWorld-v0"

Observation = NDArray[np.int64]
"""Shape (4,): x, y, has_key, door_open."""


class GridWorldEnv(gymnasium.Env[Observation, np.int64]):
    """Get the key, open the door, reach the goal; rewards as in `tasks.gridworld.world`.

    An action is a position in `CLASSIC_ACTIONS`. The episode is truncated after `max_steps` (None: 10 per
    cell of a side). Nothing is random.
    """

    metadata: dict[str, Any] = {"render_modes": ["ansi"], "render_fps": 4}  # noqa: RUF012 - Gymnasium's own declaration

    def __init__(
        self,
        size: int = CLASSIC_SIZE,
        layout: Layout | None = None,
        *,
        max_steps: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        """Take a size, for the classic layout in a grid of that size, or a whole layout."""
        self.layout = layout or Layout.classic(size)
        self.max_steps = STEPS_PER_SIDE * self.layout.size if max_steps is None else max_steps
        if self.max_steps < 1:
            raise InputError(f"max_steps is {max_steps!r}; an episode needs at least 1")
        self.render_mode = render_mode
        self.observation_space = MultiDiscrete([self.layout.size, self.layout.size, 2, 2])
        self.action_space = Discrete(len(CLASSIC_ACTIONS))
        self._world = World.of(self.layout)
        self._over = True

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode; there are no options."""
        super().reset(seed=seed, options=options)
        self._state = initial(self._world)
        self._steps, self._over = 0, False
        return self._observe(), {}

    def step(self, action: np.int64 | int) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Carry out one primitive action."""
        if self._over:
            raise TaskError("no episode is running; call `reset` first")
        if not self.action_space.contains(action):
            raise InputError(f"action is {action!r}; it must be 0 to {len(CLASSIC_ACTIONS) - 1}")
        self._state, reward, terminated = step(self._world, self._state, int(action))
        self._steps += 1
        truncated = not terminated and self._steps >= self.max_steps
        self._over = terminated or truncated
        return self._observe(), reward, terminated, truncated, {}

    def render(self) -> str | None:
        """Draw the grid, top row first: Agent, Key, Door, Box, Goal, and a dot for floor."""
        if self.render_mode is None:
            return None
        size, state = self._world.size, self._state
        letters = {self._world.goal: "G", self._world.box: "B", self._world.door: "D"}
        if not state.key:
            letters[self._world.key] = "K"
        letters[state.at] = "A"
        rows = (range(y * size, y * size + size) for y in reversed(range(size)))
        return "\n".join(" ".join(letters.get(cell, ".") for cell in row) for row in rows)

    def _observe(self) -> Observation:
        y, x = divmod(self._state.at, self._world.size)
        return np.array([x, y, self._state.key, self._state.door], dtype=np.int64)


gymnasium.register(ID, entry_point="tasks.gridworld.gym:GridWorldEnv")
