"""Reading trajectories from JSON lines."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from os import PathLike, fspath
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeAlias

from pydantic import BaseModel, ValidationError

from memp import _json
from memp.errors import InputError, unknown_name
from memp.trajectory import Trajectory
from memp.transcripts import chat, claude_code, langgraph, openai_agents

Source: TypeAlias = str | PathLike[str] | IO[bytes] | IO[str]

Refuse: TypeAlias = Callable[[int, ValueError], None]
"""Is told the number of a line that cannot be used, and why."""

Format: TypeAlias = Callable[[Iterable[tuple[int, Any]], Refuse], Iterator[Trajectory]]
"""Reads the values of lines, which come with their numbers, as trajectories."""

SHOWN = 5
"""How many bad lines an error quotes; the rest it counts."""


class BadLine(NamedTuple):
    """A line that is no trajectory."""

    line: int
    """Its number in the file, from 1."""

    reason: str
    """What is wrong, with the field: `steps[3].observation: Field required`."""


class ReadResult(NamedTuple):
    """What a file held."""

    trajectories: tuple[Trajectory, ...]
    """In the order of the file."""

    bad: tuple[BadLine, ...]
    """The lines left out."""


def read(
    source: Source,
    format: str = "memp",  # noqa: A002  the name of the command-line option
    *,
    skip_bad: bool = False,
    reward: float | None = None,
) -> ReadResult:
    """Read trajectories from lines; blank ones are passed over.

    Args:
        source: A file's path, or an open stream, which stays open. UTF-8, with or without a BOM.
        format: One of `FORMATS`.
        skip_bad: Leave bad lines out of the trajectories instead of raising.
        reward: How the episodes ended of which the file does not say it, in [0, 1]; without it they are
            unfinished.

    Raises:
        InputError: if the file cannot be read, the format is unknown, the reward is not in [0, 1], or,
            without `skip_bad`, any line is bad; then the message says which and why.
    """
    if format not in FORMATS:
        raise unknown_name("format", format, FORMATS)
    if reward is not None and not 0 <= reward <= 1:
        raise InputError(f"reward is {reward!r}; it must be from 0 to 1")
    name, numbers, bad = _name(source), list[int](), list[BadLine]()

    def refuse(number: int, error: ValueError) -> None:
        bad.append(BadLine(number, _explain(error) if isinstance(error, ValidationError) else str(error)))

    def values() -> Iterator[tuple[int, Any]]:
        for number, line in _lines(source, name):
            numbers.append(number)
            try:
                value = _json.loads(line)
            except ValueError as error:
                refuse(number, error)
            else:
                yield number, value

    trajectories = [
        trajectory if trajectory.finished or reward is None else trajectory.ended(reward)
        for trajectory in FORMATS[format](values(), refuse)
    ]
    if bad and not skip_bad:
        raise _refusal(name, len(numbers), sorted(bad))
    return ReadResult(tuple(trajectories), tuple(sorted(bad)))


# --- formats: the value of one line -> a trajectory ---


def parse_memp(value: Any) -> Trajectory:
    """A `Trajectory`: {"task", "steps": [{"action", "observation"}], "reward"}, and its optional fields.

    One without a reward is unfinished.
    """
    if isinstance(value, dict) and "reward" not in value:
        value = {"reward": 0, "finished": False, **value}
    # Back to JSON: only there do pydantic's strict types take a list for a tuple.
    return Trajectory.model_validate_json(json.dumps(value), strict=True)


def parse_alfworld(value: Any) -> Trajectory:
    """An expert demonstration: {"id", "task", "steps": [{"state", "action"}]}, optionally "reward", else 1.

    A state is what was seen before its action, so that it is what the action before it led to;
    nobody noted what the last action led to.
    """
    line = _AlfworldLine.model_validate(value, strict=True)
    states = [step.state for step in line.steps]
    return parse_memp(
        {
            "task": line.task,
            "task_id": line.id,
            "start": states[0] if states else "",
            "steps": [
                {"action": step.action, "observation": after}
                for step, after in zip(line.steps, [*states[1:], ""], strict=False)
            ],
            "reward": line.reward,
        }
    )


class _AlfworldStep(BaseModel):
    state: str
    action: str


class _AlfworldLine(BaseModel):
    id: str
    task: str
    steps: list[_AlfworldStep]
    reward: float = 1.0


def each(parse: Callable[[Any], Trajectory]) -> Format:
    """The format in which each line is a trajectory.

    Args:
        parse: Reads the value of a line. It raises `ValueError`, of which pydantic's errors are a kind.
    """

    def read_each(lines: Iterable[tuple[int, Any]], refuse: Refuse) -> Iterator[Trajectory]:
        for number, value in lines:
            try:
                yield parse(value)
            except ValueError as error:
                refuse(number, error)

    return read_each


FORMATS: dict[str, Format] = {
    "memp": each(parse_memp),
    "openai": each(chat.parse),
    "openai-agents": openai_agents.read,
    "langgraph": each(langgraph.parse),
    "claude-code": claude_code.read,
    "alfworld": each(parse_alfworld),
}
"""Every format by its name."""


# --- lines and JSON ---


def _name(source: Source) -> str:
    if isinstance(source, str | PathLike):
        return fspath(source)
    return str(getattr(source, "name", "the stream"))


def _lines(source: Source, name: str) -> Iterator[tuple[int, bytes | str]]:
    """Yield each line that is not blank, with its number."""
    try:
        with _open(source) as stream:
            for number, line in enumerate(stream, start=1):
                bom = "\ufeff" if isinstance(line, str) else b"\xef\xbb\xbf"
                text = line.removeprefix(bom) if number == 1 else line
                if text.strip():
                    yield number, text
    except (OSError, ValueError) as error:  # ValueError: a name with a null byte, a closed stream
        raise InputError(f"{name}: cannot be read: {error}") from error


def _open(source: Source) -> AbstractContextManager[Any]:
    if isinstance(source, str | PathLike):
        return Path(source).open("rb")
    # The bytes beneath a text stream such as sys.stdin: its own decoding would stop at the first fault.
    return nullcontext(getattr(source, "buffer", source))


def _explain(error: ValidationError) -> str:
    faults = error.errors(include_url=False, include_context=False)
    said = []
    for fault in faults[:SHOWN]:
        where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in fault["loc"])
        said.append(f"{where.removeprefix('.') or 'the line'}: {fault['msg']}")
    more = f" (and {len(faults) - SHOWN} more)" if len(faults) > SHOWN else ""
    return "; ".join(said) + more


def _refusal(name: str, n: int, bad: list[BadLine]) -> InputError:
    shown = [f"  line {line}: {reason}" for line, reason in bad[:SHOWN]]
    rest = [f"  and {len(bad) - SHOWN} more"] if len(bad) > SHOWN else []
    head = f"{name}: {len(bad)} of {n} lines cannot be used; --skip-bad keeps the rest"
    return InputError("\n".join([head, *shown, *rest]))
