"""Fresh worlds to learn in: every lesson draws its own, none of which an evaluation uses."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from random import Random

from evals.training.words import TRAINING_ADJECTIVES, TRAINING_STYLES
from tasks.gridworld import text
from tasks.gridworld.layout import CLASSIC_SIZE, CORNERS
from tasks.gridworld.place import KEY_SPOTS, Place, Rule
from tasks.gridworld.task import GridTask
from tasks.gridworld.world import KINDS, SIGNS

FIRST_UNIVERSE = 10**9
"""Universes of training are numbered from here on; an evaluation counts from 0."""


@dataclass(frozen=True)
class FreshPlace(Place):
    """A place whose style follows a rule drawn for this lesson."""

    drawn: Rule

    @cached_property
    def rule(self) -> Rule:
        """The rule of its style, in this lesson."""
        return self.drawn


def draw_rule(random: Random) -> Rule:
    """Draw what the places of a style have in common."""
    return Rule(random.choice(KEY_SPOTS), random.choice(CORNERS), random.choice(SIGNS))


def draw_place(
    random: Random, style: str, rule: Rule, *, unlike: str = "", adjective: str = ""
) -> FreshPlace:
    """Draw a place of a style, in a universe of its own: with an adjective, or with any but `unlike`."""
    adjective = adjective or random.choice([word for word in TRAINING_ADJECTIVES if word != unlike])
    return FreshPlace(_universe(random), CLASSIC_SIZE, adjective, style, rule)


def rearranged(random: Random, place: FreshPlace, *, rule: Rule | None = None) -> FreshPlace:
    """The place of this name as it was before all in it was moved, under the same rule or another."""
    return FreshPlace(_universe(random), place.size, place.adjective, place.style, rule or place.rule)


def draw_style(random: Random, *, unlike: str = "") -> str:
    """Draw a style other than `unlike`."""
    return random.choice([style for style in TRAINING_STYLES if style != unlike])


def draw_task(random: Random, place: Place, kind: str = "") -> GridTask:
    """Draw a task in a place: its kind unless one is given, its start and its wording."""
    kind = kind or random.choice(KINDS)
    return GridTask(place, kind, random.choice(place.starts), random.randrange(len(text.PHRASES[kind])))


def _universe(random: Random) -> int:
    return FIRST_UNIVERSE + random.getrandbits(40)
