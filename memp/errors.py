"""What can go wrong.

MempError
├── InputError             what the caller gave cannot be used (also a ValueError)
├── MissingExtra           an optional dependency is not installed (also an ImportError)
├── ModelError             a chat or embedding model could not answer
│   └── ReplyFormatError   it answered, but not in the agreed form
├── StoreError             the memory could not be read or written
│   ├── NotFound           no such procedure, revision or quarantined item (also a KeyError)
│   └── SpaceMismatch      vectors from two different embedders met
└── TaskError              an environment was misused or could not run
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


class MempError(Exception):
    """Base of every error memp raises on purpose."""


class InputError(MempError, ValueError):
    """What the caller gave cannot be used; the message names the field and the way out."""


class MissingExtra(MempError, ImportError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(package, extra)
        self.package = package
        self.extra = extra

    def __str__(self) -> str:
        return f"this needs the package {self.package!r}; install it with: pip install 'memp[{self.extra}]'"


class ModelError(MempError):
    """A chat or embedding model could not answer."""


class ReplyFormatError(ModelError):
    """The model answered, but not in the form its prompt asked for."""

    def __init__(self, expected: str, reply: str) -> None:
        super().__init__(expected, reply)
        self.expected = expected
        self.reply = reply

    def __str__(self) -> str:
        shown = self.reply if len(self.reply) <= 200 else self.reply[:200] + "..."
        return f"the model was asked for {self.expected}, but answered {shown!r}"


class StoreError(MempError):
    """The memory could not be read or written."""


class NotFound(StoreError, KeyError):
    """No such procedure, revision or quarantined item."""

    def __str__(self) -> str:
        return str(self.args[0])  # KeyError would show the repr


class SpaceMismatch(StoreError):
    """Vectors from two different embedders met."""


class TaskError(MempError):
    """An environment was misused or could not run."""


def first_fault(error: ValidationError, *, whole: str = "") -> str:
    """The first thing that is wrong with a value, behind the field that it is in, or what the whole is called."""
    fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(map(str, fault["loc"])) or whole
    said = fault["msg"].removeprefix("Value error, ")
    return f"{where}: {said}" if where else said


def unknown_name(what: str, name: str, known: Iterable[str]) -> InputError:
    """Say that `name` is no known `what`, with the nearest known name and all of them."""
    known = list(known)
    near = get_close_matches(name, known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return InputError(f"unknown {what} {name!r}.{hint} Known: {', '.join(known)}")
