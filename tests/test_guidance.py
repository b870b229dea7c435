"""Guidance: rendered between marks that nothing inside can forge, and stripped again."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from memp.guidance import CLOSE, HEADER, OPEN, body, own_words, render, strip
from memp.procedure import Match, Script
from memp.trajectory import Step, Trajectory
from tests.factories import procedure, trajectory

PIECES = st.lists(
    st.sampled_from(
        [OPEN, CLOSE, "<procedural-", "</procedural-", "memory>", "<", ">", " told ", "\n", HEADER]
    )
)
"""What a text is put together from that tries to forge a mark."""


def match(task: str = "heat an egg", script: Script | None = None) -> Match:
    return Match(procedure=procedure(task, script=script), score=1)


def test_no_match_is_no_text() -> None:
    assert render([]) == ""


def test_procedures_stand_between_marks_best_first() -> None:
    text = render([match("heat an egg"), match("cool a mug")])

    assert text.startswith(f"{OPEN}\n{HEADER}\n\nTask: heat an egg\n")
    assert text.endswith(f"\n{CLOSE}")
    assert text.index("heat an egg") < text.index("cool a mug")


def test_a_procedure_shows_script_and_what_was_done() -> None:
    shown = body(procedure(script=Script(goal="heat things", steps=("open {it}", "pay $5"))))

    assert shown == (
        "Task: heat an egg\nHow to heat things:\n1. open {it}\n2. pay $5\n"
        "What was done:\n> open oven\nyou open oven\n> put egg\nyou put egg"
    )


@given(PIECES)
@example(["<procedural-", OPEN, "memory>"])
@example(["</procedural-", CLOSE, "memory>"])
def test_no_procedure_breaks_out_of_the_marks(pieces: list[str]) -> None:
    text = render([match("x" + "".join(pieces)), match("last")])

    assert text.count(OPEN) == text.count(CLOSE) == 1
    assert strip(f"before{text}after") == "beforeafter"


@given(PIECES)
@example(["<procedural-", OPEN, "told", CLOSE, "memory>"])
@example(["</procedural-", CLOSE, "memory>"])
def test_what_is_stripped_holds_no_mark(pieces: list[str]) -> None:
    rest = strip("".join(pieces))

    assert OPEN not in rest
    assert CLOSE not in rest
    assert strip(rest) == rest


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("nothing of ours", "nothing of ours"),
        (f"a {OPEN}told{CLOSE} b {OPEN}told{CLOSE} c", "a  b  c"),
        (f"a {OPEN}\ntold\n\nand cut o", "a "),
        (f"a {CLOSE} b", "a [procedural-memory] b"),
        ("a <procedural-memory b", "a <procedural-memory b"),
    ],
    ids=["none", "two", "cut off", "end alone", "no mark"],
)
def test_strip_removes_what_is_marked(text: str, rest: str) -> None:
    assert strip(text) == rest


def test_strip_takes_time_in_proportion_to_the_text() -> None:
    begun = time.process_time()
    for text in (OPEN * 50_000, CLOSE * 50_000, ("<procedural-" + OPEN) * 20_000, "<procedural-" * 80_000):
        strip(text)

    assert time.process_time() - begun < 2


def test_own_words_leaves_out_actions_that_were_nothing_but_guidance() -> None:
    told = render([match()])
    episode = trajectory(actions="a, b").model_copy(
        update={"steps": (Step(action=told, observation="?"), Step(action="b", observation=told))}
    )

    assert own_words(episode).steps == (Step(action="b", observation=""),)


def test_own_words_keeps_what_holds_no_guidance() -> None:
    episode = trajectory(start="a kitchen", task_id="7", episode_id="e", shown=["x"])

    assert own_words(episode) == episode
    assert isinstance(own_words(episode), Trajectory)
