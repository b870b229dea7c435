"""Every text of the environment: names, the phrasings of a task, what is seen and what an action did.

One file, so that names can be held out. Sentences are short and regular, a word level tokenizer needs
fewer than 300 words, and directions are named as the actions name them (up, down, left, right).
"""

from __future__ import annotations

from dataclasses import dataclass

from memp.errors import InputError
from tasks.gridworld.layout import region
from tasks.gridworld.world import (
    BOX_HELD,
    DROP_BOX,
    FIRST_SIGN,
    MOVE_RIGHT,
    PICKUP_BOX,
    PICKUP_KEY,
    State,
    World,
    box_cell,
    target,
)

ADJECTIVES = (
    *("amber", "ancient", "blue", "bright", "broad", "copper", "crooked", "dusty"),
    *("faded", "frosty", "gentle", "golden", "green", "hollow", "humble", "ivory"),
    *("jade", "little", "lonely", "marble", "misty", "mossy", "narrow", "painted"),
    *("quiet", "red", "rusty", "silver", "sunny", "tall", "weathered", "windy"),
)
"""What tells two places of one style apart, and otherwise means nothing."""

STYLES = (
    *("abbey", "barn", "bakery", "castle", "cottage", "forge"),
    *("lodge", "mill", "palace", "stable", "temple", "tower"),
)
"""What a place is; in one universe all places of a style follow one rule."""


@dataclass(frozen=True)
class Names:
    """The names a universe may use; pass fewer to hold the others out."""

    adjectives: tuple[str, ...] = ADJECTIVES
    styles: tuple[str, ...] = STYLES

    def __post_init__(self) -> None:
        for what, names, known in (
            ("adjectives", self.adjectives, ADJECTIVES),
            ("styles", self.styles, STYLES),
        ):
            if strange := sorted(set(names) - set(known)):
                raise InputError(f"{what} has {strange!r}; choose among {', '.join(known)}")
            if len(set(names)) != len(names):
                raise InputError(f"{what} names something twice: {', '.join(names)}")


PHRASES = {
    "unlock": (
        "Unlock the door of the {place} and go to the goal.",
        "In the {place}, open the locked door, then reach the goal.",
        "The door of the {place} is shut. Open it and walk to the goal.",
        "Reach the goal of the {place} once its door is open.",
    ),
    "fetch": (
        "Fetch the box of the {place} and bring it back to the start.",
        "In the {place}, find the box, then return to the start with it.",
        "The box of the {place} is wanted at the start. Carry it there.",
        "Come back to the start of the {place} once you have its box.",
    ),
    "deliver": (
        "Open the door of the {place} and deliver the box to the goal.",
        "In the {place}, open the locked door, then put the box on the goal.",
        "The box of the {place} is wanted on the goal. Open the door and put it there.",
        "Put down the box on the goal of the {place} once its door is open.",
    ),
    "greet": (
        "Greet the keeper of the {place} at the door and come back to the start.",
        "In the {place}, greet the keeper, then return to the start.",
        "The keeper of the {place} wants a greeting at the door. Give it and walk back to the start.",
        "Come back to the start of the {place} once its door is unbarred.",
    ),
}
"""Ways to say the same task, by kind; some are worded more like another kind than like each other."""

DIRECTIONS = ("Up", "Down", "Left", "Right")
"""In the order of the four moves."""

NO_ACTION = "There is no such action; nothing happens."
DONE = "The task is done."
OUT_OF_STEPS = "No steps are left."

DID = (
    *(f"You move {direction.lower()}." for direction in DIRECTIONS),
    *("You pick up the key.", "You open the door.", "You pick up the box.", "You put down the box."),
    *("You knock on the door.", "You pull the lever.", "You ring the bell.", "You light the lamp."),
)
"""In the order of `ACTIONS`: what an action did, where it did something."""


def ask(kind: str, phrase: int, place: str) -> str:
    """Put a task into words."""
    return PHRASES[kind][phrase].format(place=place)


def arrival(place: str) -> str:
    """Say how an episode begins."""
    return f"You enter the {place}."


def view(world: World, state: State) -> str:
    """Say what the agent sees: its own cell, the four cells around it, what it carries, the door.

    Of where things are, tells nothing beyond those five cells.
    """
    y, x = divmod(state.at, world.size)
    sentences = [f"You are at column {x} row {y} in the {region(world.size, (x, y))}."]
    if here := _things(world, state, state.at):
        sentences.append(f"Here is {_join(here)}.")
    if state.at == world.door:
        sentences.append("Beside it are a lever, a bell and a lamp.")
    for action, direction in enumerate(DIRECTIONS):
        cell = target(world, state, action)
        seen = "a wall" if cell == state.at else _join(_things(world, state, cell)) or "floor"
        sentences.append(f"{direction} is {seen}.")
    carried = ["the key"] * state.key + ["the box"] * (state.box == BOX_HELD)
    sentences.append(f"You carry {_join(carried) or 'nothing'}.")
    sentences.append(f"The door is {_door(state)}.")
    return " ".join(sentences)


def effect(world: World, before: State, action: int, after: State) -> str:
    """Say what an action did, or why it did nothing."""
    if action >= FIRST_SIGN and before.at == world.door:
        return f"{DID[action]} {_answer(before, after)}"
    if after != before:
        return DID[action]
    return f"{_obstacle(world, before, action)}; nothing happens."


def _answer(before: State, after: State) -> str:
    """Say what a sign at the door brought about."""
    if before.unbarred:
        return "Nothing happens."
    if after.unbarred:
        return "The keeper greets you and lifts the bar."
    took = "takes the box and " if before.box == BOX_HELD else ""
    return f"The keeper {took}sends you back to the start."


def _obstacle(world: World, before: State, action: int) -> str:
    """Say why an action is of no use."""
    if action <= MOVE_RIGHT:
        return "There is a wall"
    if action in (PICKUP_KEY, PICKUP_BOX):
        return f"There is no {'key' if action == PICKUP_KEY else 'box'} here"
    if action == DROP_BOX:
        held = before.box == BOX_HELD
        return "The box belongs on the goal once the door is open" if held else "You carry no box"
    return f"The door is {_door(before)}" if before.at == world.door else "There is no door here"


def _door(state: State) -> str:
    """Say what keeps the door shut: the bar until the right sign, then the lock until the key."""
    if state.door:
        return "open"
    return "locked" if state.unbarred else "barred"


def _things(world: World, state: State, cell: int) -> list[str]:
    """Name what is in a cell."""
    present = (
        ("the start", cell == world.start),
        ("the key", cell == world.key and not state.key),
        ("the box", cell == box_cell(world, state.box)),
        ("the door", cell == world.door),
        ("the goal", cell == world.goal),
    )
    return [thing for thing, there in present if there]


def _join(things: list[str]) -> str:
    """Join names as English does, without a comma."""
    return " and ".join(things)
