"""Guidance: rendered between marks that nothing inside can forge, and stripped again."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from memp import tokens
from memp.guidance import CLOSE, HEADER, OPEN, body, fit, own_words, render, strip
from memp.procedure import Match, Procedure, Script, Usage
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
        "Task: heat an egg\nOutcome: reward 1 in 2 steps; not shown since\n"
        "How to heat things:\n1. open {it}\n2. pay $5\n"
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


def lived(task: str, steps: int, observation: str = "a shelf, a cup and a door") -> Procedure:
    """A procedure of some steps that has nothing in common with that of another task."""
    done = [Step(action=f"{task} {number}", observation=observation) for number in range(steps)]
    kept = trajectory(task).model_copy(update={"steps": tuple(done)})
    return procedure(task).model_copy(update={"trajectory": kept, "length": steps})


def found(*procedures: Procedure, score: float = 0.9) -> list[Match]:
    return [Match(procedure=each, score=score) for each in procedures]


def test_what_fits_is_rendered_whole() -> None:
    matches = found(lived("heat", 3), lived("cool", 3))

    assert fit(matches, 99, limit=4000) == (render(matches), tuple(matches))


def test_nothing_is_shown_where_no_score_is_high_enough() -> None:
    assert fit(found(lived("heat", 3), score=0.4), 99, limit=4000, min_score=0.5) == ("", ())


def test_only_what_scores_high_enough_is_shown() -> None:
    good, bad = found(lived("heat", 3), score=0.5) + found(lived("cool", 3), score=0.4)

    assert fit([good, bad], 99, limit=4000, min_score=0.5).matches == (good,)


def test_a_procedure_that_says_what_a_better_one_says_is_left_out() -> None:
    first, second, other = found(lived("heat", 20), lived("warm", 20), lived("cool", 20))
    same = second.model_copy(
        update={"procedure": second.procedure.model_copy(update={"trajectory": first.procedure.trajectory})}
    )

    assert fit([first, same, other], 99, limit=4000).matches == (first, other)


def test_the_same_actions_in_another_order_are_not_the_same() -> None:
    forth = lived("heat", 20)
    assert forth.trajectory is not None
    turned = forth.trajectory.model_copy(update={"steps": forth.trajectory.steps[::-1]})
    back = forth.model_copy(update={"id": "back", "task": "back", "trajectory": turned})

    assert len(fit(found(forth, back), 99, limit=4000).matches) == 2


def test_the_longest_is_shortened_and_the_others_stay_whole() -> None:
    short, long = lived("heat", 3), lived("cool", 200)
    limit = tokens.count(render(found(short))).n * 2

    shown = fit(found(long, short), 99, limit=limit)

    assert body(short) in shown.text
    assert "> cool 0\n" in shown.text
    assert "more steps are left out]" in shown.text
    assert [match.procedure.task for match in shown.matches] == ["cool", "heat"]


def test_long_observations_are_clipped_before_any_step_is_left_out() -> None:
    shown = fit(found(lived("heat", 4, observation="word " * 1000)), 99, limit=1000)

    assert "> heat 3" in shown.text
    assert "left out" not in shown.text
    assert shown.text.count("[...]") == 4


def test_a_script_goes_before_what_was_done() -> None:
    script = Script(goal="heat", steps=("open", "put", "close"))
    told = lived("heat", 300).model_copy(update={"script": script})

    shown = fit(found(told), 99, limit=250).text

    assert "1. open\n2. put\n3. close" in shown
    assert "left out]" in shown


def test_what_cannot_be_shortened_is_left_out_and_the_rest_is_shown() -> None:
    huge = procedure("huge", script=Script(goal="g", steps=("x " * 5000,))).model_copy(
        update={"trajectory": None}
    )

    assert [match.procedure.task for match in fit(found(huge, lived("heat", 3)), 99, limit=300).matches] == [
        "heat"
    ]


def test_where_there_is_no_room_the_best_are_shown() -> None:
    shown = fit(found(*(lived(f"task{number}", 9) for number in range(30))), 99, limit=200)

    assert [match.procedure.task for match in shown.matches] == [
        f"task{number}" for number in range(len(shown.matches))
    ]
    assert 0 < len(shown.matches) < 30


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.tuples(st.integers(1, 20), st.integers(0, 300)), max_size=5),
    st.integers(0, 1500),
)
def test_guidance_is_never_over_its_limit(sizes: list[tuple[int, int]], limit: int) -> None:
    matches = found(*(lived(f"t{n}", steps, "w " * wide) for n, (steps, wide) in enumerate(sizes)))

    shown = fit(matches, 99, limit=limit)

    assert tokens.count(shown.text).n <= limit
    assert [match for match in matches if match in shown.matches] == list(shown.matches)


@pytest.mark.parametrize("length", range(3195, 3220))
def test_a_text_that_is_just_too_long_to_be_counted_is_too_long(length: int) -> None:
    matches = found(lived("heat", 5, observation="-;" * (length // 10)))

    assert tokens.count(fit(matches, 1, limit=200).text).n <= 200


def test_a_megabyte_is_shortened_at_once() -> None:
    matches = found(*(lived(f"t{n}", 9, "long text " * 100_000) for n in range(3)))

    began = time.process_time()
    shown = fit(matches, 99, limit=4000)

    assert len(shown.matches) == 3
    assert time.process_time() - began < 1


def test_the_outcome_of_earlier_uses_is_visible() -> None:
    used = procedure().model_copy(update={"usage": Usage(uses=5, successes=4)})

    assert "Outcome: reward 1 in 2 steps; shown 5 times since, 4 successes" in render(found(used))
