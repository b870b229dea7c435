"""A budget: a study stops at it in good order, and goes on with a larger one to the rows it would have had."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from evals.__main__ import main
from evals.chats.spending import BUDGET_SPENT, Budget, BudgetSpent, Charge, Spending, price_given
from evals.rows import Lines
from memp.chat import Reply
from memp.errors import InputError
from tests.studies import DISTIL, by_key, manifest_in, options, rows_in, serving

OPTIONS = [*options(8), "--no-cache"]

PRICES = ["--price-in", "1000", "--price-out", "2000"]


def study(out: Path, *more: str) -> Result:
    """Run a small study from the command line."""
    return CliRunner().invoke(main, ["build", *OPTIONS, "--out", str(out), *more])


def spent_in(out: Path) -> int:
    """What a study has spent."""
    return sum(charge.tokens_in + charge.tokens_out for charge in Lines(out / "spent.jsonl", Charge).held)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study that no budget stopped."""
    out = tmp_path_factory.mktemp("whole")
    with serving():
        assert study(out).exit_code == 0
    return out


# --- stopping, and going on ---


def test_a_study_stops_at_its_tokens_and_goes_on_with_more_of_them(whole: Path, tmp_path: Path) -> None:
    half = spent_in(whole) // 2
    with serving():
        stopped = study(tmp_path, "--max-tokens", str(half))
        begun = rows_in(tmp_path)
        spent = spent_in(tmp_path)
        table = (tmp_path / "table.md").read_text()
        done = study(tmp_path, "--max-tokens", str(10 * half))

    assert stopped.exit_code == BUDGET_SPENT == 3
    line = stopped.stdout.splitlines()[-1]
    assert line == (
        f"Stopped at the budget: {spent:,} of {half:,} tokens are spent."
        " The same command with a larger --max-tokens goes on."
    )
    assert half <= spent < spent_in(whole)
    assert 0 < len(begun) < 32
    assert "| test | none |" in table
    assert re.search(r"^ test +none ", stopped.stdout, re.MULTILINE)
    assert done.exit_code == 0, done.output
    assert "Stopped" not in done.stdout
    assert rows_in(tmp_path)[: len(begun)] == begun
    assert by_key(rows_in(tmp_path)) == by_key(rows_in(whole))
    assert (tmp_path / "summary.json").read_text() == (whole / "summary.json").read_text()


def test_episodes_under_way_end_and_no_other_begins(whole: Path, tmp_path: Path) -> None:
    with serving():
        study(tmp_path, "--max-tokens", str(spent_in(whole) // 2), "--concurrency", "1")
    rows = rows_in(tmp_path)
    before_last = spent_in(tmp_path) - rows[-1].tokens_in - rows[-1].tokens_out
    assert before_last < spent_in(whole) // 2 <= spent_in(tmp_path)


def test_building_a_memory_stops_at_the_budget_too(tmp_path: Path) -> None:
    with serving() as server:
        stopped = study(tmp_path, "--max-tokens", "1", "--concurrency", "1")
        distilled = sum(DISTIL in request.prompt for request in server.requests)
    assert stopped.exit_code == BUDGET_SPENT
    assert distilled == len(server.requests) == 1
    assert rows_in(tmp_path) == []
    assert not (tmp_path / "table.md").exists()
    assert stopped.stdout.splitlines()[-1].startswith("Stopped at the budget: ")
    with serving():
        assert study(tmp_path).exit_code == 0


def test_a_spent_budget_stops_before_the_first_question(whole: Path, tmp_path: Path) -> None:
    half = str(spent_in(whole) // 2)
    with serving():
        study(tmp_path, "--max-tokens", half)
    begun = rows_in(tmp_path)
    with serving() as server:
        assert study(tmp_path, "--max-tokens", half).exit_code == BUDGET_SPENT
    assert server.requests == []
    assert rows_in(tmp_path) == begun


def test_a_study_that_is_done_is_done_whatever_it_cost(whole: Path) -> None:
    with serving():
        assert study(whole, "--max-tokens", "1").exit_code == 0


def test_a_budget_makes_no_other_study(whole: Path) -> None:
    assert not {"budget", "max_tokens", "max_cost"} & manifest_in(whole).keys()


# --- money ---


def test_a_study_stops_at_its_cost_and_says_what_it_spent(whole: Path, tmp_path: Path) -> None:
    with serving():
        stopped = study(tmp_path, "--max-cost", "1.5", *PRICES)
        done = study(tmp_path, *PRICES)
    assert stopped.exit_code == BUDGET_SPENT
    assert re.search(
        r"Stopped at the budget: USD \d\.\d{4} of 1\.5 are spent.*larger --max-cost", stopped.stdout
    )
    charges = Lines(tmp_path / "spent.jsonl", Charge).held
    cost = sum(charge.tokens_in * 1000 + charge.tokens_out * 2000 for charge in charges) / 1e6
    assert f"in {len(charges)} replies, USD {cost:.4f}\n" in done.stdout
    assert by_key(rows_in(tmp_path)) == by_key(rows_in(whole))


def test_a_given_price_stands_in_the_manifest_and_may_change(tmp_path: Path) -> None:
    with serving():
        study(tmp_path, *PRICES)
        assert manifest_in(tmp_path)["price"] == {"in": 1000, "out": 2000, "as_of": "given"}
        study(tmp_path)
        assert manifest_in(tmp_path)["price"] == {"in": 1000, "out": 2000, "as_of": "given"}
        assert study(tmp_path, "--price-in", "1", "--price-out", "2").exit_code == 0
    assert manifest_in(tmp_path)["price"] == {"in": 1, "out": 2, "as_of": "given"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            ["--max-cost", "1"],
            "Error: --max-cost needs to know what tokens cost: give --price-in and --price-out",
        ),
        (["--price-in", "1"], "Error: a price has two parts: give both --price-in and --price-out"),
        (
            ["--price-in", "nan", "--price-out", "1"],
            "Error: a price must be a number, 0 or above, not nan and 1.0",
        ),
    ],
)
def test_a_price_that_is_missing_or_none_is_refused_and_nothing_is_begun(
    tmp_path: Path, given: list[str], said: str
) -> None:
    with serving() as server:
        refused = study(tmp_path / "out", *given)
    assert refused.exit_code == 1
    assert said in refused.stderr
    assert server.requests == []
    assert not (tmp_path / "out").exists()


# --- adding up ---


def reply(tokens_in: int, tokens_out: int) -> Reply:
    return Reply(text="ok", tokens_in=tokens_in, tokens_out=tokens_out)


def test_what_is_remembered_counts_for_nothing() -> None:
    spending = Spending(Budget(max_tokens=10))
    spending.note("m", reply(90, 9), remembered=True)
    spending.check()
    spending.note("m", reply(9, 1), remembered=False)
    with pytest.raises(BudgetSpent, match="10 of 10 tokens"):
        spending.check()


def test_what_earlier_runs_spent_counts(tmp_path: Path) -> None:
    for _ in range(2):
        spending = Spending(Budget(max_tokens=15))
        spending.begin(Lines(tmp_path / "spent.jsonl", Charge))
        spending.check()
        spending.note("m", reply(8, 2), remembered=False)
    with pytest.raises(BudgetSpent, match="20 of 15 tokens"):
        spending.check()


def test_a_cost_that_is_no_number_lets_nothing_through() -> None:
    with pytest.raises(BudgetSpent):
        Spending(Budget(max_cost=float("nan")), price_given(1, 1)).check()


def test_money_without_a_price_is_refused() -> None:
    with pytest.raises(InputError, match="--max-cost needs to know what tokens cost"):
        Spending(Budget(max_cost=1))


def test_a_study_without_a_model_says_nothing_of_spending() -> None:
    assert str(Spending()) == ""
