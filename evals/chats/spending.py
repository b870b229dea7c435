"""What a study asked its chat models, what that cost, and the budget at which it stops."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

from pydantic import Field, ValidationError

from evals.chats.wrapped import Question, Wrapped
from evals.prices import Price
from evals.rows import Lines
from memp.chat import ChatModel, Reply
from memp.errors import InputError
from memp.trajectory import Record

GIVEN = "given"
"""When a price was looked up that came with the command."""

BUDGET_SPENT = 3
"""What the command exits with where the budget is spent: 0 is done, 1 an error, 2 a wrong option."""


class BudgetSpent(Exception):  # no MempError: nothing went wrong
    """A study has spent its budget; what is under way ends, and nothing else begins."""


@dataclass(frozen=True)
class Budget:
    """How much a study may spend, all its runs together; None is no bound."""

    max_tokens: int | None = None
    """Tokens of questions and replies together."""

    max_cost: float | None = None
    """In US dollars."""


class Charge(Record):
    """One reply of a chat model."""

    model: str
    tokens_in: int = Field(ge=0)
    tokens_out: int = Field(ge=0)

    remembered: bool
    """It came from the cache: nothing was spent."""


@dataclass
class Sum:
    """Replies, and their tokens."""

    replies: int = 0
    tokens_in: int = 0
    tokens_out: int = 0

    def add(self, charge: Charge) -> None:
        """Add a reply."""
        self.replies += 1
        self.tokens_in += charge.tokens_in
        self.tokens_out += charge.tokens_out


class Spending:
    """Adds up what the chat models of a study were asked, those of its earlier runs included."""

    def __init__(self, budget: Budget | None = None, price: Price | None = None) -> None:
        """Take the budget, and what tokens cost.

        Raises:
            InputError: if money is bounded and no price is known.
        """
        self._budget = budget or Budget()
        if self._budget.max_cost is not None and price is None:
            raise InputError(
                "--max-cost needs to know what tokens cost: give --price-in and --price-out,"
                " in US dollars for a million tokens; or bound the tokens with --max-tokens"
            )
        self.price = price
        self._spent, self._remembered = Sum(), Sum()
        self._lines: Lines[Charge] | None = None
        self._lock = Lock()

    def begin(self, lines: Lines[Charge]) -> None:
        """Go on from what was spent before, and write down there what will be."""
        for charge in lines.held:
            self._sum(charge)
        self._lines = lines

    def note(self, model: str, reply: Reply, *, remembered: bool) -> None:
        """Add a reply."""
        charge = Charge(
            model=model, tokens_in=reply.tokens_in, tokens_out=reply.tokens_out, remembered=remembered
        )
        with self._lock:
            self._sum(charge)
            if self._lines is not None:
                self._lines.add(charge)

    def check(self) -> None:
        """Let a study go on while it is within its budget.

        Raises:
            BudgetSpent: if it is not.
        """
        if line := self.over:
            raise BudgetSpent(line)

    @property
    def over(self) -> str:
        """Which bound is reached, and what is spent by now; empty while there is room."""
        budget, tokens, cost = self._budget, self._tokens, self._cost
        if budget.max_tokens is not None and tokens >= budget.max_tokens:
            return _over(f"{tokens:,} of {budget.max_tokens:,} tokens", "--max-tokens")
        if budget.max_cost is not None and cost is not None and not cost < budget.max_cost:
            return _over(f"USD {cost:.4f} of {budget.max_cost:g}", "--max-cost")
        return ""

    def __str__(self) -> str:
        """Say it in one line; empty where no model was asked."""
        parts = []
        if self._spent.replies:
            cost = "" if self._cost is None else f", USD {self._cost:.4f}"
            parts.append(f"spent {_said(self._spent)}{cost}")
        if self._remembered.replies:
            parts.append(f"remembered, and not asked for again: {_said(self._remembered)}")
        return "; ".join(parts)

    @property
    def _tokens(self) -> int:
        return self._spent.tokens_in + self._spent.tokens_out

    @property
    def _cost(self) -> float | None:
        spent = self._spent
        return None if self.price is None else self.price.of(spent.tokens_in, spent.tokens_out)

    def _sum(self, charge: Charge) -> None:
        (self._remembered if charge.remembered else self._spent).add(charge)


class Metered(Wrapped):
    """A chat model whose every reply is noted as spent."""

    def __init__(self, chat: ChatModel, told: Callable[[Reply], None]) -> None:
        """Take the model, and who is told of each reply."""
        super().__init__(chat)
        self._told = told

    def _answer(self, question: Question) -> Reply:
        reply = self._ask(question)
        self._told(reply)
        return reply


def price_given(price_in: float | None, price_out: float | None) -> Price | None:
    """Return the price that came with a command, in US dollars for a million tokens each way.

    Raises:
        InputError: if only one of the two came, or one is no price.
    """
    if price_in is None and price_out is None:
        return None
    if price_in is None or price_out is None:
        raise InputError("a price has two parts: give both --price-in and --price-out")
    try:
        return Price(per_million_in=price_in, per_million_out=price_out, as_of=GIVEN)
    except ValidationError as error:
        raise InputError(
            f"a price must be a number, 0 or above, not {price_in!r} and {price_out!r}"
        ) from error


def _said(total: Sum) -> str:
    replies = "1 reply" if total.replies == 1 else f"{total.replies:,} replies"
    return f"{total.tokens_in:,} tokens in and {total.tokens_out:,} out in {replies}"


def _over(spent: str, option: str) -> str:
    return f"Stopped at the budget: {spent} are spent. The same command with a larger {option} goes on."
