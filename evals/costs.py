"""What the memories took to build, and after how many tasks that has paid."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import ceil
from typing import Any, NamedTuple

from evals.prices import Price
from evals.summary import Line, over_none
from evals.table import MONEY, Entry, Table, difference

COUNTED = ("procedures", "set_aside", "setup_tokens_in", "setup_tokens_out")
"""The fields of `Built` that can be summed up."""


class SetUp(NamedTuple):
    """What the memories of one recipe hold, and the tokens of the chat model that it took to build them."""

    memories: int
    procedures: int
    set_aside: int
    tokens_in: int
    tokens_out: int

    @property
    def tokens(self) -> int:
        """Both ways together."""
        return self.tokens_in + self.tokens_out


def set_ups(manifests: Iterable[Mapping[str, Any]]) -> dict[str, SetUp]:
    """Sum up the memories of all worlds and folders, by recipe."""
    found: dict[str, list[tuple[int, ...]]] = {}
    for manifest in manifests:
        for name, built in manifest.get("memories", {}).items():
            recipe = name.rpartition("/")[2]
            found.setdefault(recipe, []).append((1, *(built[field] for field in COUNTED)))
    return {recipe: SetUp(*map(sum, zip(*counts, strict=True))) for recipe, counts in found.items()}


def costs(built: Mapping[str, SetUp], price: Price | None) -> list[str]:
    """Say what the memories hold and took to build, a line for each recipe."""
    lines = []
    for recipe, made in built.items():
        where = f" in {made.memories} memories" if made.memories > 1 else ""
        money = "" if price is None else f" (USD {price.of(made.tokens_in, made.tokens_out):{MONEY}})"
        lines.append(
            f"{recipe}: {made.procedures:,} procedures{where}, {made.set_aside:,} set aside,"
            f" {made.tokens:,} tokens to build{money}"
        )
    return lines


class Currency(NamedTuple):
    """What is paid with."""

    name: str
    measure: str
    """Of the summary: what an episode takes."""

    form: str
    """How an amount is written."""

    cost: Callable[[SetUp], float]
    """What it took to build all the memories."""


def currencies(price: Price | None) -> list[Currency]:
    """Tokens, and money where the price is known."""
    tokens = Currency("tokens", "tokens", ",.0f", lambda made: made.tokens)
    if price is None:
        return [tokens]
    money = Currency("USD", "usd", MONEY, lambda made: price.of(made.tokens_in, made.tokens_out))
    return [tokens, money]


def payback(
    shown: Sequence[Entry], arms: Mapping[str, str | None], built: Mapping[str, SetUp], price: Price | None
) -> Table | None:
    """Say for each split and arm when one memory has paid for its building; None where no model took part.

    Args:
        shown: The entries of the summary.
        arms: The recipe of each arm's memory.
        built: What the memories of each recipe took.
        price: What tokens cost; None: that is not known.
    """
    by_arm = {arm: built[recipe] for arm, recipe in arms.items() if recipe is not None and recipe in built}
    taking = [
        (entry, by_arm[entry.arm])
        for entry in shown
        if entry.arm in by_arm and over_none("tokens") in entry.lines
    ]
    if not any(made.tokens or entry.lines["tokens"].mean for entry, made in taking):
        return None
    paid = currencies(price)
    head = [f"{currency.name} {what}" for currency in paid for what in ("to build", "over none", "paid back")]
    body = [
        [entry.split, entry.arm, *(cell for currency in paid for cell in _cells(currency, entry, made))]
        for entry, made in taking
    ]
    return Table(["split", "arm", *head], body)


def paid_back(cost: float, line: Line, unit: str, form: str) -> str:
    """Say after how many tasks a memory has saved what it took to build, with the interval of that number.

    Args:
        cost: Of building the memory.
        line: The difference to no memory in what a task takes.
        unit: What both are counted in.
        form: How an amount is written.
    """
    if line.mean > 0:
        return f"never: each task takes {line.mean:{form}} {unit} more"
    if cost == 0:
        return "at once: building took none"
    if line.mean == 0:
        return "never: each task takes as much"
    count, soonest, latest = (_tasks(cost, more) for more in line.estimate[:3])
    return f"after {count} task{'' if count == '1' else 's'} [{soonest}, {latest}]"


def _cells(currency: Currency, entry: Entry, made: SetUp) -> list[str]:
    cost = currency.cost(made) / made.memories
    line = entry.lines[over_none(currency.measure)]
    return [
        format(cost, currency.form),
        difference(line, form="+" + currency.form),
        paid_back(cost, line, currency.name, currency.form),
    ]


def _tasks(cost: float, more: float) -> str:
    """How many tasks save what building cost, if each takes so much more, or less, than without memory."""
    return f"{ceil(cost / -more):,}" if more < 0 else "never"
