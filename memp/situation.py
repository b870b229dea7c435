"""What an agent without a language model sees: what holds, and where things are. And how that is written."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple, Self

from memp.errors import InputError

NAME = r"[a-z][a-z0-9_]*(?: [a-z0-9_]+)*"

_CONTEXT = re.compile(
    rf"(?P<thing>{NAME}) at (?P<dx>[+-]\d+) (?P<dy>[+-]\d+) with (?P<flags>{NAME}(?: \+ {NAME})*)"
)

NOTHING = "nothing"
"""What is written where no flag holds."""

RESERVED = frozenset({NOTHING, "from", "at", "with", "by"})
"""Words that no name may hold."""


class Thing(NamedTuple):
    """Something in sight."""

    name: str

    dx: int
    """How many cells to the right of the agent it is; negative: to the left."""

    dy: int
    """How many cells above the agent it is; negative: below."""


class Situation(NamedTuple):
    """What an agent sees between two of its actions; the same value is the same situation."""

    flags: frozenset[str]
    """What holds, by names such as `door open`."""

    things: tuple[Thing, ...]
    """In the order of their names."""

    def moved(self, dx: int, dy: int) -> Situation:
        """The situation after the agent alone has moved."""
        things = tuple(Thing(thing.name, thing.dx - dx, thing.dy - dy) for thing in self.things)
        return Situation(self.flags, things)

    def contexts(self) -> list[Context]:
        """The same seen from each thing."""
        return [Context(self.flags, *thing) for thing in self.things]


class Context(NamedTuple):
    """What has to hold for a skill to apply: flags, and where the agent is from one thing."""

    flags: frozenset[str]
    thing: str
    dx: int
    dy: int

    @property
    def text(self) -> str:
        """E.g. `door at +2 -1 with key`; raises `InputError` where a name cannot be written so."""
        return f"{checked_name(self.thing)} at {self.dx:+d} {self.dy:+d} with {written(self.flags)}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `text` wrote, also at the end of a longer text.

        Raises:
            InputError: if no context stands there.
        """
        found = _CONTEXT.fullmatch(text.rpartition(" from ")[2])
        if found is None:
            raise InputError(
                f"{text!r} ends in no context of a skill; one reads like 'door at +2 -1 with key'"
            )
        return cls(read(found["flags"]), found["thing"], int(found["dx"]), int(found["dy"]))


def written(flags: frozenset[str]) -> str:
    """Write flags, e.g. `door open + key`."""
    return " + ".join(sorted(map(checked_name, flags))) or NOTHING


def read(text: str) -> frozenset[str]:
    """Read flags as they are written."""
    return frozenset() if text == NOTHING else frozenset(text.split(" + "))


@lru_cache
def checked_name(name: str) -> str:
    """Return the name of a flag or a thing, if it can be read again where it is written.

    Raises:
        InputError: if it cannot.
    """
    if not re.fullmatch(NAME, name) or RESERVED & set(name.split()):
        raise InputError(
            f"{name!r} is no name of a flag or a thing: use lower-case words such as 'door open', "
            f"none of them {', '.join(sorted(RESERVED))}"
        )
    return name
