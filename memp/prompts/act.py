"""From what an agent sees to what it does next."""

from __future__ import annotations

import re
from collections.abc import Sequence
from string import Template

from memp.errors import ReplyFormatError

NAME = "act"
VERSION = 1

SYSTEM = """\
You act in a text environment to do a task. Each turn you are told what you see and which actions are
possible. Think briefly if you must, then end your answer with one line of exactly this form:
Action: <one action>
"""

FIRST = Template("""\
$guidance
Task: $task

$turn""")

TURN = Template("""\
$observation
Possible actions: $actions""")

# Nothing in it could match a text in two ways: a reply may be anything, of any length.
_ACTION = re.compile(r"^[^\w\n]*action[^\w\n]*?:[\s`*\"']*([^\s`*\"'].*)$", re.MULTILINE | re.IGNORECASE)


def turn(observation: str, admissible: Sequence[str]) -> str:
    """What the agent is told each turn; at most 100 actions are listed."""
    listed = ", ".join(admissible[:100]) + (", ..." if len(admissible) > 100 else "")
    return TURN.substitute(observation=observation, actions=listed or "any")


def render(task: str, guidance: str, observation: str, admissible: Sequence[str]) -> str:
    """The first turn: guidance, task, and what the agent sees."""
    return FIRST.substitute(guidance=guidance, task=task, turn=turn(observation, admissible)).lstrip()


def answer(action: str) -> str:
    """An answer that names an action, as `parse` reads it."""
    return f"Action: {action}"


def parse(reply: str) -> str:
    """Return the last action named, or raise `ReplyFormatError`."""
    found = _ACTION.findall(reply)
    if not found:
        raise ReplyFormatError("a line 'Action: ...'", reply)
    return str(found[-1]).rstrip(" \t\r`*\"'")
