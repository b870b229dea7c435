"""What the memories took to make, and after how many tasks that has paid."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any, NamedTuple

from evals.arms import ArmRecord
from evals.folder import Built
from evals.prices import Price
from evals.reports.blocks import arm_in
from evals.reports.columns import ARM, BLOCK
from evals.reports.summary import Line, over_none
from evals.reports.table import MONEY, Entry, Table, difference, telling


@dataclass(frozen=True)
class Tokens:
    """What a chat model read and wrote."""

    read: int = 0
    wrote: int = 0

    @property
    def both(self) -> int:
        """Both together."""
        return self.read + self.wrote

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(self.read + other.read, self.wrote + other.wrote)


@dataclass(frozen=True)
class SetUp:
    """What the memories of a recipe, or of an arm that learned, hold in all worlds, and what they took to make."""

    memories: int
    procedures: int
    set_aside: int

    building: Tokens
    """To distil what is in them."""

    practice: Tokens = Tokens()
    """To live through what they are of."""

    built_by: str = ""
    lived_by: str = ""
    """The models, in a study that compares some."""

    updates: int = 0
    """How many times they learned; 0 where a recipe made them."""

    @property
    def whole(self) -> Tokens:
        """All that they took."""
        return self.building + self.practice

    def paid_by(self, model: str) -> Tokens:
        """What of it one model took; the name is empty where there is but one."""
        building = self.building if self.built_by == model else Tokens()
        practice = self.practice if self.lived_by == model else Tokens()
        return building + practice


def set_ups(manifests: Iterable[Mapping[str, Any]]) -> dict[str, SetUp]:
    """Sum up the memories of all worlds and folders, by recipe, and by arm that learned."""
    found: dict[str, dict[tuple[int, str], list[Built]]] = {}
    for number, manifest in enumerate(manifests):
        for path, noted in manifest.get("memories", {}).items():
            world, _, name = path.rpartition("/")
            built = Built.model_validate(noted)
            found.setdefault(built.learner or name, {}).setdefault((number, world), []).append(built)
    return {name: _summed(list(worlds.values())) for name, worlds in found.items()}


def _summed(worlds: Sequence[Sequence[Built]]) -> SetUp:
    """Sum up what was made in each world, one memory from the other where there are several."""
    last = [made[-1] for made in worlds]
    every = [built for made in worlds for built in made]
    return SetUp(
        memories=len(worlds),
        procedures=sum(built.procedures for built in last),
        set_aside=sum(built.set_aside for built in last),
        building=sum((Tokens(built.setup_tokens_in, built.setup_tokens_out) for built in every), Tokens()),
        practice=sum(
            (Tokens(built.practice_tokens_in, built.practice_tokens_out) for built in every), Tokens()
        ),
        built_by=last[0].built_by,
        lived_by=last[0].lived_by,
        updates=sum(bool(built.learner) for built in every),
    )


def costs(made: Mapping[str, SetUp], price: Price | None) -> list[str]:
    """Say what the memories hold and took to make, a line for each recipe and each arm that learned."""
    return [f"{name}: {_held(found)}, {_took(found, price)}" for name, found in made.items()]


def _held(made: SetUp) -> str:
    where = f" in {made.memories} memories" if made.memories > 1 else ""
    when = f" after {made.updates} update{'s' * (made.updates > 1)}" if made.updates else ""
    return f"{made.procedures:,} procedures{where}{when}, {made.set_aside:,} set aside"


def _took(made: SetUp, price: Price | None) -> str:
    said = f"{made.building.both:,} tokens to {'learn' if made.updates else 'build'}{_by(made.built_by)}"
    if made.lived_by:
        said += f" from {made.practice.both:,} tokens of practice{_by(made.lived_by)}"
    return said if price is None else f"{said} (USD {_usd(made.whole, price):{MONEY}})"


def _by(model: str) -> str:
    return f" by {model}" if model else ""


def _usd(tokens: Tokens, price: Price) -> float:
    return price.of(tokens.read, tokens.wrote)


class Currency(NamedTuple):
    """What is paid with."""

    name: str
    measure: str
    """Of the summary: what an episode takes."""

    form: str
    """How an amount is written."""

    cost: Callable[[Tokens], float]
    """What tokens come to."""


def currencies(price: Price | None) -> list[Currency]:
    """Tokens, and money where the price is known."""
    tokens = Currency("tokens", "tokens", ",.0f", lambda taken: taken.both)
    if price is None:
        return [tokens]
    return [tokens, Currency("USD", "usd", MONEY, lambda taken: _usd(taken, price))]


def payback(
    shown: Sequence[Entry], arms: Sequence[ArmRecord], made: Mapping[str, SetUp], price: Price | None
) -> Table | None:
    """Say for each block and arm when one memory has paid for its making; None where no model took part.

    Args:
        shown: The entries of the summary.
        arms: The arms, which say what memory each has.
        made: What the memories took.
        price: What tokens cost; None: that is not known.
    """
    taking = [
        (entry, took)
        for entry in shown
        if (took := _whole(arm_in(entry.block, entry.arm, arms), made)) is not None
        and over_none("tokens") in entry.lines
    ]
    if not any(took.whole.both or entry.lines["tokens"].mean for entry, took in taking):
        return None
    where = [*telling(BLOCK, shown), ARM]
    received = any(took.paid_by(entry.block.model) != took.whole for entry, took in taking)
    paid = currencies(price)
    heads = ("to build", *(["of its own"] if received else []), "over none", "paid back")
    return Table(
        [
            *(column.head for column in where),
            *(f"{currency.name} {head}" for currency in paid for head in heads),
        ],
        [
            [
                *(column.cell(entry) for column in where),
                *(cell for currency in paid for cell in _cells(currency, entry, took, received=received)),
            ]
            for entry, took in taking
        ],
    )


def _whole(arm: ArmRecord, made: Mapping[str, SetUp]) -> SetUp | None:
    """All that the memory of an arm took, from the first procedure to the last update; None without one."""
    began, learned = made.get(arm.recipe), made.get(arm.name)
    if began is None or learned is None or not learned.updates:
        return began
    return replace(began, building=began.building + learned.building)


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


def _cells(currency: Currency, entry: Entry, took: SetUp, *, received: bool) -> list[str]:
    cost, own = (
        currency.cost(tokens) / took.memories for tokens in (took.whole, took.paid_by(entry.block.model))
    )
    line = entry.lines[over_none(currency.measure)]
    return [
        format(cost, currency.form),
        *([format(own, currency.form)] if received else []),
        difference(line, form="+" + currency.form),
        paid_back(cost, line, currency.name, currency.form),
    ]


def _tasks(cost: float, more: float) -> str:
    """How many tasks save what building cost, if each takes so much more, or less, than without memory."""
    return f"{ceil(cost / -more):,}" if more < 0 else "never"
