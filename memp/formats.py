"""Reading trajectories from JSON lines."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from os import PathLike, fspath
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeAlias

from pydantic import BaseModel, ValidationError

from memp import _json
from memp.errors import InputError, unknown_name
from memp.trajectory import Trajectory

Source: TypeAlias = str | PathLike[str] | IO[bytes] | IO[str]

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
) -> ReadResult:
    """Read a trajectory from each line that is not blank.

    Args:
        source: A file's path, or an open stream, which stays open. UTF-8, with or without a BOM.
        format: One of `FORMATS`.
        skip_bad: Leave bad lines out of the trajectories instead of raising.

    Raises:
        InputError: if the file cannot be read, the format is unknown, or, without `skip_bad`, any
            line is bad; then the message says which and why.
    """
    if format not in FORMATS:
        raise unknown_name("format", format, FORMATS)
    name, trajectories, bad = _name(source), [], []
    for number, line in _lines(source, name):
        try:
            trajectories.append(FORMATS[format](_json.loads(line)))
        except ValidationError as error:
            bad.append(BadLine(number, _explain(error)))
        except ValueError as error:
            bad.append(BadLine(number, str(error)))
    if bad and not skip_bad:
        raise _refusal(name, len(trajectories) + len(bad), bad)
    return ReadResult(tuple(trajectories), tuple(bad))


# --- formats: the value of one line -> a trajectory ---


def parse_memp(value: Any) -> Trajectory:
    """A `Trajectory`: {"task", "steps": [{"action", "observation"}], "reward"}, and its optional fields."""
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


FORMATS: dict[str, Callable[[Any], Trajectory]] = {"memp": parse_memp, "alfworld": parse_alfworld}
"""Every format by its name. A parser raises `ValueError`, of which pydantic's errors are a kind."""


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
