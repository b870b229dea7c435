"""What the teacher writes down: notes from guidance, scripts, facts, revised procedures."""

from __future__ import annotations

from collections.abc import Sequence

from evals.training.experience import BESIDE, Knowledge, Lived
from memp.procedure import Script
from memp.prompts.forms import numbered
from tasks.gridworld.layout import cells, region
from tasks.gridworld.place import Place
from tasks.gridworld.task import GridTask
from tasks.gridworld.text import DID
from tasks.gridworld.world import ACTIONS, SIGNS

DEEDS = {
    "unlock": "unlock the door",
    "fetch": "fetch the box",
    "deliver": "deliver the box",
    "greet": "greet the keeper",
}
"""A kind of task in a few words."""

THINGS = ("key", "door", "box", "goal")

SIGN_WORDS = {sign: DID[ACTIONS.index(sign)].removeprefix("You ").removesuffix(".") for sign in SIGNS}


def note(source: Place, here: Place, told: Knowledge) -> str:
    """Whether a procedure is of the place at hand, and what it tells of it: said before the first step.

    Each name stands beside that of the place at hand, and is judged right behind: names that stand apart, a model
    of this size learns to compare late, or never.

    Args:
        source: The place that the procedure is of.
        here: The place at hand.
        told: What the procedure tells of the place at hand.
    """
    if source.style != here.style:
        return f"{source.style} / {here.style}: elsewhere."
    place = "same place" if source.name == here.name else "another place"
    things = [f"the {thing} {where}" for thing in THINGS if (where := _where(thing, told))]
    styles, adjectives = f"{source.style} / {here.style}", f"{source.adjective} / {here.adjective}"
    parts = (f"{styles}: same style", f"{adjectives}: {place}", *things, _sign(told))
    return f"{', '.join(part for part in parts if part)}."


def script(kind: str, style: str, known: Knowledge) -> Script:
    """The general how-to of a kind of task in places of a style, as far as it is known."""
    bar = f"at the door {_sign(known)} to lift the bar"
    door = [f"{_find('key', known)}", bar, "open the door"]
    steps = {
        "unlock": [*door, "go to the goal"],
        "fetch": [_find("box", known), "return to the start"],
        "deliver": [*door, _find("box", known), "put down the box on the goal"],
        "greet": [bar, "return to the start"],
    }[kind]
    return Script(goal=f"{DEEDS[kind]} of any {style}", steps=tuple(" ".join(step.split()) for step in steps))


def told(kind: str, known: Knowledge) -> Knowledge:
    """What of `known` its script tells."""
    spots = {"unlock": ("key",), "fetch": ("box",), "deliver": ("key", "box"), "greet": ()}[kind]
    told_spots = {thing: known.spots[thing] for thing in spots if thing in known.spots}
    if kind == "fetch":
        return Knowledge({}, told_spots)
    return Knowledge({}, told_spots, known.sign, frozenset() if known.sign else known.wrong)


def written(script: Script) -> str:
    """A script in the form its prompts ask for."""
    return f"Goal: {script.goal}\n{numbered(script.steps)}"


def facts(task: GridTask) -> str:
    """What decides how a task is done: the deed, the style, the place."""
    return "\n".join(f"- {fact}" for fact in (DEEDS[task.kind], task.place.style, task.place.name))


def revised(kind: str, style: str, believed: Knowledge, failure: Lived) -> Script:
    """A script put right by what a failed episode showed; one of another style than the episode stays."""
    if failure.task.place.style == style:
        believed = put_right(believed, failure)
    return script(kind, style, believed)


def put_right(believed: Knowledge, failure: Lived) -> Knowledge:
    """What is left of a belief after a failed episode in a place of its style, and what that showed."""
    found = failure.known
    kept = Knowledge(
        {},
        {thing: spot for thing, spot in believed.spots.items() if not _missed(thing, spot, failure)},
        "" if believed.sign in found.wrong else believed.sign,
        believed.wrong,
    )
    return kept.under(found)


def signs_in(actions: Sequence[str]) -> Knowledge:
    """What a bare list of actions tells: the last sign is the one that worked."""
    given = [action for action in actions if action in SIGNS]
    return Knowledge(sign=given[-1] if given else "")


def _find(thing: str, known: Knowledge) -> str:
    spot = _spot(thing, known)
    return f"find the {thing} {spot}" if spot else f"search everywhere for the {thing}"


def _where(thing: str, known: Knowledge) -> str:
    if thing in known.cells:
        return "({}, {})".format(*known.cells[thing])
    return _spot(thing, known)


def _spot(thing: str, known: Knowledge) -> str:
    spot = known.spots.get(thing, "")
    return f"in the {spot}" if spot and spot not in BESIDE else spot


def _sign(known: Knowledge) -> str:
    if known.sign:
        return SIGN_WORDS[known.sign]
    return " ".join(f"do not {SIGN_WORDS[sign]}" for sign in SIGNS if sign in known.wrong)


def _missed(thing: str, spot: str, failure: Lived) -> bool:
    """Whether the episode looked everywhere in a region, and the thing was not there."""
    size = failure.task.place.size
    there = {cell for cell in cells(size) if region(size, cell) == spot}
    return bool(there) and there <= failure.seen and failure.task.place.things[thing] not in there
