"""Reading replies tolerantly: JSON where a server enforces it, plain lines where it cannot."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from memp.chat.base import ChatModel
from memp.errors import ReplyFormatError
from memp.procedure import Script
from memp.trajectory import MAX_TEXT, Trajectory

T = TypeVar("T")

ATTEMPTS = 100
"""How many braces of a reply are tried: each may cost reading it to its end."""

_OBJECT = re.compile(r"\{(?=\s*\")")

# One line each, and nothing that could match a line in two ways: a reply may be anything, of any length.
_ITEM = re.compile(r"^[^\S\n]*(?:\d+[.):]|[-*•])[^\S\n]+(\S.*)$", re.MULTILINE)
_GOAL = re.compile(r"^[^\w\n]*goal[^\w\n]*?:[ \t*_`]*([^\s*_`].*)$", re.MULTILINE | re.IGNORECASE)


def ask(chat: ChatModel, prompt: str, parse: Callable[[str], T], schema: type[BaseModel]) -> T:
    """Put one question and read the answer.

    Raises:
        ModelError: if there is no answer; `ReplyFormatError` if it is not in the form asked for.
    """
    return parse(chat.reply([{"role": "user", "content": prompt}], schema=schema).text)


def json_object(reply: str, *keys: str) -> dict[str, Any] | None:
    """The first JSON object in a reply that has all `keys`, whatever prose or fence is around it, or None."""
    decoder = json.JSONDecoder()
    for brace in islice(_OBJECT.finditer(reply), ATTEMPTS):
        try:
            value, _ = decoder.raw_decode(reply, brace.start())
        except (ValueError, RecursionError):  # Python reads no number of 5,000 digits
            continue
        if isinstance(value, dict) and value.keys() >= set(keys):
            return value
    return None


def items(reply: str) -> tuple[str, ...]:
    """The lines of a numbered or bulleted list, without their numbers."""
    return tuple(item.rstrip() for item in _ITEM.findall(reply))


def strings(value: object) -> tuple[str, ...]:
    """The texts of a JSON list that are not blank."""
    if not isinstance(value, list):
        return ()
    return tuple(_text(text).strip() for text in value if isinstance(text, str) and text.strip())


def transcript(trajectory: Trajectory) -> str:
    """An episode as a prompt shows it: observations, and actions behind `> `."""
    lines = [trajectory.start] if trajectory.start else []
    for step in trajectory.steps:
        lines += [f"> {step.action}", step.observation]
    return "\n".join(lines)


def numbered(steps: Iterable[str]) -> str:
    """Steps as numbered lines, the form `script` reads."""
    return "\n".join(f"{number}. {step}" for number, step in enumerate(steps, 1))


def script(reply: str) -> Script:
    """Read a script in either form: `{"goal", "steps"}`, or a line `Goal: ...` and numbered lines.

    Raises:
        ReplyFormatError: if it is in neither, or a text of it is too long to be kept.
    """
    value = json_object(reply, "goal", "steps")
    if value is not None:
        goals, steps = strings([value["goal"]]), strings(value["steps"])
    else:
        goals, steps = tuple(goal.rstrip(" \t\r*_`") for goal in _GOAL.findall(reply)), items(reply)
    if not goals or not steps:
        raise ReplyFormatError("a line 'Goal: ...' and numbered steps", reply)
    try:
        return Script(goal=goals[0], steps=steps)
    except ValidationError as error:
        raise ReplyFormatError(f"a goal and steps of at most {MAX_TEXT} characters each", reply) from error


def _text(text: str) -> str:
    """The text without halves of characters, which JSON can write and nothing can store."""
    return text.encode("utf-8", "replace").decode()
