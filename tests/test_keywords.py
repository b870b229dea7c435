"""The built-in extractor of facts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memp.formats import read
from memp.keywords import FUNCTION_WORDS, keywords
from tests.shared_data import need


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("Put a clean mug in the coffee machine.", "put clean mug coffee machine"),
        ("find two laptop and put them in bed.", "find two laptop put bed"),
        ("Your task is to find a(n) animal. First, focus on the thing.", "find n animal focus thing"),
        ("Do not turn off the user's lamp; don't break it", "not turn off user lamp don't break"),
        ("In order to order pizza, make sure you are logged in", "order pizza logged"),
        ("state-of-the-art, state-of-the-art!", "state-of-the-art"),
        ("把鸡蛋放进冰箱。然后关门", "把鸡蛋放进冰箱 然后关门"),
        ("अंडा गरम करो", "अंडा गरम करो"),
        ("CAFÉ cafe\u0301", "café"),
        ("🐛", "🐛"),
        ("  The  OF \n", None),
    ],
)
def test_facts_are_the_words_that_matter_in_order(text: str, facts: str | None) -> None:
    assert keywords(text, limit=20) == (tuple(facts.split()) if facts else ("the of",))


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("above 50.0 degrees celsius", "50.0 degrees celsius"),
        ("weigh 5 kg of rice", "5 kg"),
        ("a 3-day trip", "3-day"),
        ("for 2 people", "2 people"),
        ("under $1,900 in all", "$1,900"),
        ("50% off", "50%"),
        ("at 7:30", "7:30"),
        ("cool to 20 °C", "20"),
        ("cool to 20°C", "20°c"),
        ("room 12b", "12b"),
        ("5 mugs", "5"),
    ],
)
def test_a_number_keeps_its_unit(text: str, fact: str) -> None:
    assert fact in keywords(text)


def test_no_more_facts_than_asked_for_the_first_ones() -> None:
    assert keywords("heat egg cool mug clean pan", limit=2) == ("heat", "egg")


@pytest.mark.parametrize("text", ["", " \n\t", "\u3000"])
def test_a_blank_text_has_no_facts(text: str) -> None:
    assert keywords(text) == ()


def test_a_long_text_of_no_facts_is_its_own() -> None:
    assert keywords("the " * 3) == ("the the the",)


@given(st.text(alphabet=st.characters()), st.integers(1, 10))
def test_any_text_has_facts_in_lower_case_each_once(text: str, limit: int) -> None:
    facts = keywords(text, limit)
    assert bool(facts) == bool(text.strip())
    assert len(set(facts)) == len(facts) <= limit
    assert all(fact == fact.lower() and fact.strip() for fact in facts)
    assert len(facts) == 1 or not FUNCTION_WORDS & set(facts)


def test_alfworld_tasks_have_their_object_and_place_among_their_facts() -> None:
    for trajectory in read(need("alfworld/trajectories.jsonl"), "alfworld").trajectories:
        words = trajectory.task.rstrip(".").split()
        facts = keywords(trajectory.task)
        assert words[-1] in facts
        assert 2 <= len(facts) <= 6
