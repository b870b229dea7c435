"""The transition of the grid world: small integers in, small integers out, no text.

Nothing here is random and nothing branches on more than equality of integers, so that a
version over arrays of worlds, states and actions can reproduce it exactly.

Rewards, added in this order: -0.1 for every step, +1 for taking the key, +2 for opening the door,
+10 for meeting the goal of the task, which ends the episode. Neither the key nor the door can be
undone, so each is paid once.
"""

from __future__ import annotations

from typing import NamedTuple

from memp.errors import InputError, unknown_name
from tasks.gridworld.layout import Layout

CLASSIC_ACTIONS = ("move_up", "move_down", "move_left", "move_right", "pickup_key", "open_door")
"""The primitives of the classic world."""

SIGNS = ("knock", "pull_lever", "ring_bell", "light_lamp")
"""What can be done at a barred door. In each place one of them has the bar lifted; any other sends the agent
back to the start and the box back home."""

ACTIONS = (*CLASSIC_ACTIONS, "pickup_box", "drop_box", *SIGNS)
"""All actions; in the core an action is its position here."""

MOVE_UP, MOVE_DOWN, MOVE_LEFT, MOVE_RIGHT, PICKUP_KEY, OPEN_DOOR, PICKUP_BOX, DROP_BOX, FIRST_SIGN = range(9)

NO_SIGN = -1
"""The sign of a door without a bar, as in the classic world."""

NO_WALL = -1
"""The column of the inner wall of a grid that has none."""

KINDS = ("unlock", "fetch", "deliver", "greet")
"""Kinds of task; in the core a kind is its position here.

- `unlock`: open the door, then stand on the goal (the classic task);
- `fetch`: stand on the start with the box in hand;
- `deliver`: open the door, then put the box on the goal;
- `greet`: do at the door what lifts its bar, then stand on the start.
"""

UNLOCK, FETCH, DELIVER, GREET = range(4)

BOX_HOME, BOX_HELD, BOX_PLACED = range(3)
"""Where the box is: in its own cell, in the agent's hands, on the goal."""

STEP_REWARD, KEY_REWARD, DOOR_REWARD, GOAL_REWARD = -0.1, 1.0, 2.0, 10.0


class World(NamedTuple):
    """What stays the same in an episode; cells by their number, y * size + x."""

    size: int
    start: int
    key: int
    door: int
    box: int
    goal: int

    sign: int
    """The action that lifts the bar of the door, or `NO_SIGN`."""

    kind: int
    """The kind of task: decides when the goal is met."""

    wall: int = NO_WALL
    """The column of an inner wall that only the door leads through, or `NO_WALL`."""

    @classmethod
    def of(cls, layout: Layout, kind: str = "unlock", sign: str | None = None) -> World:
        """Number the cells and names; without more, the classic task of `layout`."""
        if kind not in KINDS:
            raise unknown_name("kind of task", kind, KINDS)
        if sign is not None and sign not in SIGNS:
            raise unknown_name("sign", sign, SIGNS)
        if sign is None and kind == "greet":
            raise InputError("a task of kind 'greet' needs a sign: the goal is to give it")
        return cls(
            size=layout.size,
            start=layout.number(layout.start),
            key=layout.number(layout.key),
            door=layout.number(layout.door),
            box=layout.number(layout.box),
            goal=layout.number(layout.goal),
            sign=NO_SIGN if sign is None else ACTIONS.index(sign),
            kind=KINDS.index(kind),
            wall=NO_WALL if layout.wall is None else layout.wall,
        )


class State(NamedTuple):
    """What changes in an episode: at most size**2 * 24 states."""

    at: int
    """The agent's cell."""

    key: int
    """1 once the key is taken."""

    unbarred: int
    """1 once the bar of the door is lifted; from the beginning where there is none."""

    door: int
    """1 once the door is open."""

    box: int
    """`BOX_HOME`, `BOX_HELD` or `BOX_PLACED`."""


def initial(world: World) -> State:
    """Return the state an episode begins in."""
    return State(world.start, 0, int(world.sign == NO_SIGN), 0, BOX_HOME)


def step(world: World, state: State, action: int) -> tuple[State, float, bool]:
    """Carry out an action; one that has no use here changes nothing but costs its step.

    Returns:
        The state after, the reward of this step, and whether the goal is now met.
    """
    at, key, unbarred, door, box = state
    if action <= MOVE_RIGHT:
        at = target(world, state, action)
    elif action == PICKUP_KEY:
        key |= at == world.key
    elif action == OPEN_DOOR:
        door |= at == world.door and key and unbarred
    elif action == PICKUP_BOX and at == box_cell(world, box):
        box = BOX_HELD
    elif action == DROP_BOX and at == world.goal and box == BOX_HELD and door:
        box = BOX_PLACED  # here alone, which keeps the states few
    elif action >= FIRST_SIGN and at == world.door and not unbarred:
        unbarred = int(action == world.sign)
        if not unbarred:  # costs the way back, not the episode; with the box it would be a short cut home
            at, box = world.start, BOX_HOME
    after = State(at, key, unbarred, door, box)
    done = met(world, after)
    reward = (
        STEP_REWARD + KEY_REWARD * (key - state.key) + DOOR_REWARD * (door - state.door) + GOAL_REWARD * done
    )
    return after, reward, done


def target(world: World, state: State, action: int) -> int:
    """Return the cell that a move leads to: the agent's own where a wall is in the way."""
    cell = move(world.size, state.at, action)
    return state.at if _walled_off(world, state, cell) else cell


def move(size: int, at: int, action: int) -> int:
    """Return the cell one step on, or `at` at the edge of the grid."""
    y, x = divmod(at, size)
    if action == MOVE_UP:
        y = min(y + 1, size - 1)
    elif action == MOVE_DOWN:
        y = max(y - 1, 0)
    elif action == MOVE_LEFT:
        x = max(x - 1, 0)
    else:
        x = min(x + 1, size - 1)
    return y * size + x


def _walled_off(world: World, state: State, cell: int) -> bool:
    """Whether the inner wall is in the way to a cell beside the agent's: it is passed at the door, once open."""
    if world.wall == NO_WALL:
        return False
    column = cell % world.size
    if column == world.wall:
        return cell != world.door
    return state.at == world.door and column > world.wall and not state.door


def box_cell(world: World, box: int) -> int:
    """Return the cell the box lies in, -1 while it is carried."""
    return (world.box, -1, world.goal)[box]


def met(world: World, state: State) -> bool:
    """Whether the goal of the task is fully met."""
    if world.kind == UNLOCK:
        return bool(state.door) and state.at == world.goal
    if world.kind == FETCH:
        return state.box == BOX_HELD and state.at == world.start
    if world.kind == DELIVER:
        return state.box == BOX_PLACED
    return bool(state.unbarred) and state.at == world.start


def score(world: World, state: State) -> float:
    """Return the share of the task's sub-goals that hold in `state`, 1.0 exactly when its goal is met.

    The sub-goals are, for `unlock`: key taken, door open, goal met; for `fetch`: box in hand, goal met;
    for `deliver`: key taken, door open, box in hand or on the goal, goal met; for `greet`: bar lifted,
    goal met.
    """
    moved = state.box != BOX_HOME
    parts = {
        UNLOCK: (state.key, state.door),
        FETCH: (state.box == BOX_HELD,),
        DELIVER: (state.key, state.door, moved),
        GREET: (state.unbarred,),
    }[world.kind]
    return (sum(parts) + met(world, state)) / (len(parts) + 1)


def useful(world: World, state: State) -> tuple[int, ...]:
    """Return the actions that would change `state`, in the order of `ACTIONS`."""
    return tuple(action for action in range(len(ACTIONS)) if step(world, state, action)[0] != state)
