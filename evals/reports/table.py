"""From a summary to a table: a line for each block and arm, and the columns that tell something."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol, TypeVar

from evals.reports.blocks import Block
from evals.reports.summary import Line

MONEY = ",.4f"
"""How an amount of US dollars is written: an episode often takes less than a cent."""


class Table(NamedTuple):
    """Head and body, all in text."""

    head: list[str]
    body: list[list[str]]

    def markdown(self) -> str:
        """The table as Markdown."""
        lines = [self.head, ["---"] * len(self.head), *self.body]
        return "\n".join("| " + " | ".join(map(_escaped, line)) + " |" for line in lines)


class Entry(NamedTuple):
    """What a line of a table is about."""

    block: Block
    arm: str

    lines: Mapping[str, Line]
    """By metric."""


Tells = Callable[[Sequence[Entry]], bool]
"""Whether something says anything about these entries that nothing else says."""


class Column(NamedTuple):
    """A column, and what it means."""

    head: str
    means: str
    cell: Callable[[Entry], str]
    tells: Tells = bool


def entries(lines: Iterable[Line]) -> list[Entry]:
    """Group the lines of a summary by block and arm, in their order."""
    found: dict[tuple[Block, str], dict[str, Line]] = {}
    for line in lines:
        found.setdefault((line.block, line.arm), {})[line.metric] = line
    return [Entry(block, arm, by_metric) for (block, arm), by_metric in found.items()]


class Interval(Protocol):
    """A mean with its interval."""

    @property
    def mean(self) -> float:
        """The mean."""
        ...

    @property
    def low(self) -> float:
        """Where the interval begins."""
        ...

    @property
    def high(self) -> float:
        """Where it ends."""
        ...


class Telling(Protocol):
    """What may be left out where it tells nothing."""

    @property
    def tells(self) -> Tells:
        """Whether it does."""
        ...


T = TypeVar("T", bound=Telling)


def telling(parts: Iterable[T], shown: Sequence[Entry]) -> list[T]:
    """Those of some columns, or of other parts, that tell something."""
    return [part for part in parts if part.tells(shown)]


def fill(columns: Sequence[Column], shown: Iterable[Entry]) -> Table:
    """Write a line for each entry."""
    return Table(
        [column.head for column in columns], [[column.cell(entry) for column in columns] for entry in shown]
    )


def interval(found: Interval, scale: float = 1, form: str = ".1f") -> str:
    """Write a mean with its interval."""
    mean, low, high = (format(value * scale, form) for value in (found.mean, found.low, found.high))
    return f"{mean} [{low}, {high}]"


def difference(line: Line, scale: float = 1, form: str = "+.1f") -> str:
    """A difference with its interval, and `ns` where it could be luck."""
    return interval(line, scale, form) + ("" if line.significant else " ns")


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
