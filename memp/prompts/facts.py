"""From a task to its facts: the keys of AveFact retrieval."""

from __future__ import annotations

from string import Template

from pydantic import BaseModel

from memp.errors import ReplyFormatError
from memp.prompts.forms import items, json_object, strings

NAME = "facts"
VERSION = 1

TEMPLATE = Template("""\
Task: $task

List the facts of this task that decide how it is done: what is to be done, with what, where, and under
which conditions. Leave out wording that any task could have. One short phrase a line, at most 8.
Answer in exactly this form:
- <fact>
- <fact>
""")


class Facts(BaseModel):
    """The form a server may enforce."""

    facts: list[str]


SCHEMA = Facts


def render(task: str) -> str:
    """Ask for the facts of a task."""
    return TEMPLATE.substitute(task=task)


def parse(reply: str) -> tuple[str, ...]:
    """Return the facts, lower-cased and each once, or raise `ReplyFormatError`."""
    value = json_object(reply, "facts")
    found = items(reply) if value is None else strings(value["facts"])
    facts = tuple(dict.fromkeys(fact.lower() for fact in found))
    if not facts:
        raise ReplyFormatError("a list of facts, one behind each '- '", reply)
    return facts
