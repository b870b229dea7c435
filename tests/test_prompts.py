"""The prompts: what they ask for, and that any reply is either read or refused."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from memp.errors import ReplyFormatError
from memp.procedure import Script
from memp.prompts import act, distil, facts, reflect
from memp.trajectory import MAX_TEXT
from tests.factories import procedure, trajectory

SCRIPT = Script(goal="heat things", steps=("find the oven", "open it"))

SCRIPT_JSON = '{"goal": "heat things", "steps": ["find the oven", "open it"]}'

PLAIN = "Goal: heat things\n1. find the oven\n2. open it"

ODD = "a $task {goal} ${x} $$ %s \\n \\1 </b>"
"""What a template could stumble over."""

PARSERS: dict[str, Callable[[str], object]] = {
    "act": act.parse,
    "distil": distil.parse,
    "facts": facts.parse,
    "reflect": reflect.parse,
}

MODULES = {"act": act, "distil": distil, "facts": facts, "reflect": reflect}

PIECES = [
    *"{}[]\":,\n -1.*`'\t\r",
    *(
        "Goal:",
        "**Goal**: ",
        "goal",
        "Action:",
        "action: ",
        "- ",
        "1. ",
        "2) ",
        "```json\n",
        "\\ud800",
        "\\u00e9",
    ),
    *(
        '"goal":',
        '"steps":',
        '"facts":',
        '["a", "b"]',
        "null",
        "1e999",
        "9" * 5000,
        "NaN",
        '{"goal": "x", "steps": ',
    ),
    *("\u2028", "é", "\x00", "[" * 2000, '{"a":' * 2000),
]

REPLIES = st.text() | st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=30).map("".join)
"""Any text, and texts made of what the parsers look for."""


@pytest.mark.parametrize("name", PARSERS)
def test_a_prompt_has_a_name_and_a_version(name: str) -> None:
    assert name == MODULES[name].NAME
    assert MODULES[name].VERSION >= 1


# Rendering


def test_distil_shows_the_whole_episode() -> None:
    prompt = distil.render(trajectory(ODD, f"{ODD}, look", 0.5, start=f"start {ODD}"))

    for part in (f"Task: {ODD}\n", f"> {ODD}\nyou {ODD}\n> look\nyou look\n", f"start {ODD}", "Reward: 0.5 "):
        assert part in prompt


def test_facts_shows_the_task() -> None:
    assert facts.render(ODD).startswith(f"Task: {ODD}\n")


@pytest.mark.parametrize(
    ("script", "shown"),
    [(None, "> open oven\n> put egg"), (Script(goal="g", steps=(ODD, "b")), f"1. {ODD}\n2. b")],
    ids=["trajectory", "script"],
)
def test_reflect_shows_procedure_and_failure(script: Script | None, shown: str) -> None:
    prompt = reflect.render(procedure(f"old {ODD}", script=script), trajectory(f"new {ODD}", ODD, 0.25))

    for part in (
        f"from the task: old {ODD}\n{shown}\n",
        f"The task now: new {ODD}\n",
        f"> {ODD}\n",
        "Reward: 0.25 ",
    ):
        assert part in prompt


def test_act_shows_guidance_task_observation_and_actions() -> None:
    prompt = act.render(f"task {ODD}", f"guidance {ODD}", f"sight {ODD}", ["look", ODD])

    assert prompt == (f"guidance {ODD}\nTask: task {ODD}\n\nsight {ODD}\nPossible actions: look, {ODD}")
    assert act.render("task", "", "sight", []) == "Task: task\n\nsight\nPossible actions: any"


def test_act_lists_at_most_a_hundred_actions() -> None:
    assert act.turn("sight", ["go"] * 101).endswith("go, ...")
    assert act.turn("sight", ["go"] * 101).count("go") == 100


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_nothing_in_a_task_disturbs_its_prompt(text: str) -> None:
    assert text in facts.render(text)
    assert text in act.render("task", "", text, [])
    assert text in distil.render(trajectory(f"x{text}"))


# Parsing


@pytest.mark.parametrize("parse", [distil.parse, reflect.parse], ids=["distil", "reflect"])
@pytest.mark.parametrize(
    "reply",
    [
        SCRIPT_JSON,
        json.dumps(json.loads(SCRIPT_JSON), indent=2),
        f"```json\n{SCRIPT_JSON}\n```",
        f"Sure! Here {{it}} is:\n{SCRIPT_JSON}\nGood luck {{with that}}.",
        f'{{"thinking": "hm"}}\n{SCRIPT_JSON}',
        PLAIN,
        f"Sure!\n\n```\n{PLAIN}\n```\nGood luck.",
        PLAIN.replace("\n", "\r\n"),
        "**Goal:** heat things\n\n  1) find the oven\n  2) open it  ",
        "## Goal: *heat things*\n* find the oven\n* open it",
        "goal: heat things\n- find the oven\n• open it",
        f"{PLAIN}\n3.\n4. ",
    ],
    ids=[
        "json",
        "indented",
        "fenced",
        "prose around json",
        "another object first",
        "plain",
        "prose around plain",
        "windows",
        "bold",
        "heading",
        "bullets",
        "empty items",
    ],
)
def test_a_script_is_read_in_every_form(parse: Callable[[str], Script], reply: str) -> None:
    assert parse(reply) == SCRIPT


def test_a_script_too_long_to_be_kept_is_refused() -> None:
    with pytest.raises(ReplyFormatError, match="at most 1000000 characters each"):
        distil.parse("Goal: heat\n1. wait" + "!" * MAX_TEXT)


def test_a_script_whose_steps_hold_json_is_read() -> None:
    reply = 'Goal: call the API\n1. send {"name": "x", "steps": []}\n2. wait'

    assert distil.parse(reply).steps == ('send {"name": "x", "steps": []}', "wait")


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "I cannot.",
        "Goal: heat things",
        "1. find the oven",
        "Goal:\n1. find the oven\n2. open it",
        "Goal: **\n1. find the oven",
        '{"goal": "", "steps": ["a"]}',
        '{"goal": " ", "steps": ["a"]}',
        '{"goal": "x", "steps": []}',
        '{"goal": "x", "steps": ["", " "]}',
        '{"goal": "x", "steps": "a"}',
        '{"goal": 7, "steps": ["a"]}',
        '{"goal": "x", "steps": ["a"',
        '["goal", "steps"]',
        "null",
    ],
)
def test_what_is_no_script_is_refused_with_the_reply(reply: str) -> None:
    with pytest.raises(ReplyFormatError) as raised:
        distil.parse(reply)
    assert raised.value.reply == reply


@pytest.mark.parametrize(
    "reply",
    [
        '{"facts": ["Egg", "hot", "egg", " hot ", "", 7]}',
        'Of course: ```json\n{"facts": ["egg", "hot"]}\n```',
        "- egg\n- hot",
        "Facts:\n1. Egg\n2. hot\n3. EGG",
    ],
)
def test_facts_are_read_in_every_form_each_once(reply: str) -> None:
    assert facts.parse(reply) == ("egg", "hot")


@pytest.mark.parametrize("reply", ["", "egg", '{"facts": []}', '{"facts": "egg"}', "{}", "-egg"])
def test_what_holds_no_facts_is_refused(reply: str) -> None:
    with pytest.raises(ReplyFormatError, match="a list of facts"):
        facts.parse(reply)


@pytest.mark.parametrize(
    "reply",
    [
        "Action: go north",
        "I see a door.\nAction: go north",
        "Action: go south\nNo, wait.\nACTION: go north  ",
        "**Action:** `go north`",
        "> Action: 'go north'\r\n",
        "Action:\n`go north`",
    ],
)
def test_the_last_action_named_is_read(reply: str) -> None:
    assert act.parse(reply) == "go north"


@pytest.mark.parametrize("reply", ["", "go north", "Action", "Action:", "Action: ", "Actions: go north"])
def test_what_names_no_action_is_refused(reply: str) -> None:
    with pytest.raises(ReplyFormatError):
        act.parse(reply)


@pytest.mark.parametrize("name", PARSERS)
@given(reply=REPLIES)
@settings(deadline=None)
@example('{"goal": "\\ud800", "steps": ["\\udfff"], "facts": ["\\ud800"]}')
@example('{"goal": ' + "9" * 5000 + ', "steps": ["a"], "facts": ["a"]}')
@example('{"goal": "x", "steps": ' + "[" * 100_000)
def test_any_reply_is_read_or_refused(name: str, reply: str) -> None:
    try:
        value = PARSERS[name](reply)
    except ReplyFormatError:
        return
    texts: Any = (value.goal, *value.steps) if isinstance(value, Script) else value
    texts = (texts,) if isinstance(texts, str) else texts
    assert texts
    for text in texts:
        assert text.strip()
        text.encode()  # nothing that could not be stored


@pytest.mark.parametrize("name", PARSERS)
@pytest.mark.parametrize(
    "reply",
    [
        "\n" * 60_000,
        " " * 60_000,
        "1. a" + " " * 60_000 + "b",
        "*" * 60_000,
        "Goal:" + " " * 60_000,
        "{" * 60_000,
        '{"a":' * 12_000,
        "Action: " + "'" * 60_000 + "a",
        "Action: a" + "' " * 30_000 + "b",
        "Action:" + "\n" * 60_000,
    ],
    ids=["lines", "spaces", "wide", "stars", "goal", "braces", "nested", "quotes", "ends", "nothing"],
)
def test_a_reply_is_read_in_time_in_proportion_to_it(name: str, reply: str) -> None:
    begun = time.process_time()
    with suppress(ReplyFormatError):
        PARSERS[name](reply)
    assert time.process_time() - begun < 1


@given(st.lists(st.text("abc ${}", min_size=1).map(str.strip).filter(bool), min_size=1))
def test_a_script_that_is_shown_can_be_read_again(steps: list[str]) -> None:
    shown = distil.parse("Goal: x\n" + "\n".join(f"{n}. {step}" for n, step in enumerate(steps, 1)))

    assert shown.steps == tuple(steps)
