"""Reading replies tolerantly: JSON where a server enforces it, plain lines where it cannot."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from pydantic import BaseModel

from memp.chat.base import ChatModel
from memp.errors import ReplyFormatError
from memp.procedure import Script
from memp.trajectory import Trajectory

T = TypeVar("T")

_ITEM = re.compile(r"^\s*(?:\d+[.):]|[-*•])\s+(\S.*?)\s*$", re.MULTILINE)


def ask(chat: ChatModel, prompt: str, parse: Callable[[str], T], schema: type[BaseModel]) -> T:
    """Put one question and read the answer.

    Raises:
        ModelError: if there is no answer; `ReplyFormatError` if it is not in the form asked for.
    """
    return parse(chat.reply([{"role": "user", "content": prompt}], schema=schema).text)


def json_object(reply: str) -> dict[str, Any] | None:
    """The first JSON object in a reply, whatever prose or fence is around it; None if there is none."""
    decoder = json.JSONDecoder()
    for brace in re.finditer(r"\{", reply):
        try:
            value, _ = decoder.raw_decode(reply, brace.start())
        except (json.JSONDecodeError, RecursionError):
            continue
        if isinstance(value, dict):
            return value
    return None


def items(reply: str) -> tuple[str, ...]:
    """The lines of a numbered or bulleted list, without their numbers."""
    return tuple(_ITEM.findall(reply))


def strings(value: object) -> tuple[str, ...]:
    """The texts of a JSON list that are not blank."""
    if not isinstance(value, list):
        return ()
    return tuple(text.strip() for text in value if isinstance(text, str) and text.strip())


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
        ReplyFormatError: if it is in neither.
    """
    value = json_object(reply)
    if value is not None:
        goal, steps = value.get("goal"), strings(value.get("steps"))
    else:
        found = re.search(r"^\W*goal\W*:\W*(\S.*?)\s*$", reply, re.MULTILINE | re.IGNORECASE)
        goal, steps = found and found.group(1), items(reply)
    if not isinstance(goal, str) or not goal.strip(" *") or not steps:
        raise ReplyFormatError("a line 'Goal: ...' and numbered steps", reply)
    return Script(goal=goal.strip(" *"), steps=steps)
