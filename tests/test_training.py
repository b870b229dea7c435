"""The lessons of the bundled models: what they say is true, in memp's own forms, and gives nothing away."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from random import Random
from typing import Any

import pytest

from evals.training import answers
from evals.training.batches import KNOWN_NAME_WEIGHT, encode, example
from evals.training.card import undisturbed
from evals.training.demonstrations import Turn, demonstration
from evals.training.experience import Knowledge, live
from evals.training.teacher import lesson
from evals.training.train import Point
from evals.training.words import END, NAMES, WORDS, ids, tokenizer
from evals.training.worlds import FIRST_UNIVERSE, draw_place, draw_rule, draw_style, draw_task, rearranged
from memp.errors import InputError
from memp.guidance import CLOSE
from memp.prompts import act, distil, facts
from tasks.gridworld import GridWorld
from tasks.gridworld.solver import solve
from tasks.gridworld.task import GridTask
from tasks.gridworld.text import ADJECTIVES, STYLES
from tasks.gridworld.world import ACTIONS, KINDS, SIGNS

SEEDS = range(200)

NOTE = re.compile(r": (?:same style|elsewhere)\b")


def lessons() -> Iterator[list[Turn]]:
    return map(demonstration, SEEDS)


def is_act(turns: list[Turn]) -> bool:
    return turns[0].role == "system"


def solved(task: GridTask) -> list[str]:
    return [ACTIONS[number] for number in solve(task.world())]


def steps_of_teacher(task: GridTask, knowledge: Knowledge) -> int:
    env = GridWorld()
    env.begin(task)
    teacher = lesson(env, task, knowledge)
    for count in range(1, 51):
        action = teacher.act(env.at)
        observation, _, terminated, truncated, info = env.step(action)
        teacher.saw(action, observation, env.at)
        if terminated or truncated:
            assert info["success"]
            return count
    raise AssertionError("the teacher ran out of steps")


def test_no_name_of_an_evaluation_occurs_in_a_lesson() -> None:
    said = {
        word for turns in lessons() for turn in turns for word in re.findall("[a-z]+", turn.content.lower())
    }
    assert said & {*ADJECTIVES, *STYLES} == set()


def test_no_universe_of_an_evaluation_occurs_in_a_lesson() -> None:
    random = Random(0)
    universes = [draw_place(random, "inn", draw_rule(random)).universe for _ in SEEDS]
    assert min(universes) >= FIRST_UNIVERSE
    assert len(set(universes)) == len(universes)


def test_a_number_makes_the_same_demonstration_each_time() -> None:
    assert demonstration(7) == demonstration(7) != demonstration(8)


def test_every_answer_is_read_by_the_parser_of_its_prompt() -> None:
    for turns in lessons():
        for turn in turns:
            if turn.role != "assistant":
                continue
            if is_act(turns):
                assert act.parse(turn.taught) in ACTIONS
            elif turn.taught.startswith("- "):
                assert len(facts.parse(turn.taught)) == 3
            else:
                assert distil.parse(turn.taught).steps


def test_every_prompt_is_taught() -> None:
    firsts = [turns[0].content for turns in lessons()]
    for mark in ("You act in", "lived through", "List the facts", "followed a procedure"):
        assert any(mark in first for first in firsts)


def test_tokens_of_a_lesson_are_those_of_the_chat_template() -> None:
    made = tokenizer(4096)
    for turns in map(demonstration, range(40)):
        messages = [{"role": turn.role, "content": turn.content} for turn in turns]
        found: Any = made.apply_chat_template(messages, tokenize=True)
        assert example(turns).read == found["input_ids"][:-1]


def test_answers_count_in_full_up_to_where_they_slip() -> None:
    slipped = 0
    for turns in lessons():
        one = example(turns)
        counted = [number for number, weight in zip(one.taught, one.weights, strict=True) if weight >= 1]
        wanted: list[int] = []
        for turn in turns:
            if turn.role != "assistant":
                continue
            given, taught = ([*encode(text), *ids([END])] for text in (turn.content, turn.taught))
            right = sum(
                1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(given, taught, strict=True))
            )
            slipped += given != taught
            wanted += taught[: right + 1]
        assert counted == wanted
    assert slipped > 20


def test_a_name_counts_where_it_is_read_again_and_nothing_can_be_learned_from_its_first_place() -> None:
    names = {number for words in NAMES.values() for number in ids(words)}
    found = 0
    for turns in lessons():
        one, known = example(turns), set[int]()
        for number, weight in zip(one.taught, one.weights, strict=True):
            if number in names and weight < 1:
                assert weight == (KNOWN_NAME_WEIGHT if number in known else 0)
                found += number in known
            if number in names:
                known.add(number)
    assert found > 20


def test_words_outside_the_vocabulary_are_passed_over() -> None:
    made = tokenizer(4096)
    plain = made.tokenize("Up is the key.")
    assert made.tokenize("Well now, up is, as they say, (hm) the key!") == plain == ["up is", "the key"]


def test_the_list_of_possible_actions_is_passed_over() -> None:
    made = tokenizer(4096)
    assert made.tokenize(act.turn("Up is floor.", ACTIONS)) == []


def test_the_vocabulary_has_every_word_once() -> None:
    assert len(set(WORDS)) == len(WORDS)
    assert not {*ADJECTIVES, *STYLES} - {word for words in NAMES.values() for word in words}


@pytest.mark.parametrize("kind", KINDS)
def test_the_teacher_does_every_task_without_guidance(kind: str) -> None:
    random = Random(kind)
    for _ in range(20):
        place = draw_place(random, draw_style(random), draw_rule(random))
        steps_of_teacher(draw_task(random, place, kind), Knowledge())


def test_the_teacher_needs_fewer_steps_the_better_it_is_told() -> None:
    random = Random(0)
    steps: dict[str, list[int]] = {"nothing": [], "style": [], "place": []}
    for _ in range(60):
        style, rule = draw_style(random), draw_rule(random)
        place = draw_place(random, style, rule)
        kin = draw_place(random, style, rule, unlike=place.adjective)
        task = draw_task(random, place)
        known = {
            name: live(GridWorld(), other, solved(other)).known
            for name, other in (
                ("place", draw_task(random, place, task.kind)),
                ("style", draw_task(random, kin, task.kind)),
            )
        }
        steps["nothing"].append(steps_of_teacher(task, Knowledge()))
        steps["style"].append(steps_of_teacher(task, known["style"].of_the_style()))
        steps["place"].append(steps_of_teacher(task, known["place"]))
    assert sum(steps["place"]) < sum(steps["style"]) < sum(steps["nothing"])


def test_the_teacher_acts_on_what_it_saw_alone() -> None:
    random = Random(1)
    compared = 0
    for _ in range(300):
        place = draw_place(random, "inn", draw_rule(random))
        moved = rearranged(random, place)
        task = GridTask(place, "unlock", random.choice(place.starts), 0)
        if task.start not in moved.starts:
            continue
        twin = GridTask(moved, "unlock", task.start, 0)
        env, other = GridWorld(), GridWorld()
        if env.begin(task)[0] != other.begin(twin)[0]:
            continue
        compared += 1
        assert lesson(env, task, Knowledge()).act(env.at) == lesson(other, twin, Knowledge()).act(other.at)
    assert compared > 10


def test_a_wrong_claim_costs_the_teacher_steps_but_not_the_task() -> None:
    random = Random(2)
    for _ in range(40):
        place = draw_place(random, draw_style(random), draw_rule(random))
        task = draw_task(random, place)
        old = draw_task(random, rearranged(random, place, rule=draw_rule(random)), task.kind)
        steps_of_teacher(task, live(GridWorld(), old, solved(old)).known)


def test_a_note_says_where_a_procedure_is_of_and_what_it_tells_of_the_place_at_hand() -> None:
    random = Random(0)
    style, rule = draw_style(random), draw_rule(random)
    here = draw_place(random, style, rule)
    alike = draw_place(random, style, rule, unlike=here.adjective)
    other = draw_place(random, draw_style(random, unlike=style), rule)
    told = Knowledge({"key": (3, 2)}, {"key": "upper left", "box": "lower right"}, SIGNS[2])
    sign = answers.SIGN_WORDS[SIGNS[2]]
    assert answers.note(here, here, told) == (
        f"{style} / {style}: same style, {here.adjective} / {here.adjective}: same place,"
        f" the key (3, 2), the box in the lower right, {sign}."
    )
    assert answers.note(alike, here, told.of_the_style()) == (
        f"{style} / {style}: same style, {alike.adjective} / {here.adjective}: another place,"
        f" the key in the upper left, the box in the lower right, {sign}."
    )
    assert answers.note(other, here, Knowledge()) == f"{other.style} / {style}: elsewhere."


def test_every_procedure_is_noted_in_the_first_answer_and_in_no_other() -> None:
    for turns in filter(is_act, lessons()):
        shown = turns[1].content.partition(CLOSE)[0].count("Task: ") if CLOSE in turns[1].content else 0
        shown += turns[0].content.count("Task: ")
        first, *others = (turn.taught for turn in turns if turn.role == "assistant")
        assert len(NOTE.findall(first)) == shown
        assert not any(map(NOTE.search, others))


def test_a_revised_script_names_the_sign_that_worked() -> None:
    random = Random(3)
    place = draw_place(random, "inn", draw_rule(random))
    task = draw_task(random, place, "greet")
    lived = live(GridWorld(), task, solved(task))
    wrong = next(sign for sign in answers.SIGN_WORDS if sign != place.rule.sign)
    script = answers.revised("greet", "inn", Knowledge(sign=wrong), lived)
    assert answers.SIGN_WORDS[place.rule.sign] in script.steps[0]


def test_a_script_of_another_style_is_not_revised() -> None:
    random = Random(4)
    task = draw_task(random, draw_place(random, "inn", draw_rule(random)), "greet")
    believed = Knowledge(sign="knock")
    lived = live(GridWorld(), task, solved(task))
    assert answers.revised("greet", "villa", believed, lived) == answers.script("greet", "villa", believed)


@pytest.mark.slow
def test_a_trained_model_is_a_standard_checkpoint(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from evals.training.train import Recipe, train

    recipe = Recipe(width=16, layers=1, heads=2, inner=32, steps=2, learning_rate=1e-3, batch_tokens=2_000)
    curve = train(recipe, tmp_path, workers=0, every=1, tell=lambda *_: None)
    assert [point.step for point in curve] == [1, 2]
    assert json.loads((tmp_path / "training.json").read_text())["recipe"]["width"] == 16
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert model.dtype == torch.float16
    assert AutoTokenizer.from_pretrained(tmp_path).chat_template


def test_a_training_that_was_broken_off_goes_on_to_the_same_model(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file

    from evals.training.train import UNFINISHED, Point, Recipe, train

    class Broken(Exception):
        pass

    def break_off(step: int, _: list[Point]) -> None:
        if step == 3:
            raise Broken

    recipe = Recipe(width=16, layers=1, heads=2, inner=32, steps=4, learning_rate=1e-3, batch_tokens=2_000)
    whole = train(recipe, tmp_path / "whole", workers=0, every=2, tell=lambda *_: None)
    with pytest.raises(Broken):
        train(recipe, tmp_path / "broken", workers=0, every=2, tell=break_off)
    with pytest.raises(InputError, match="of another recipe; delete it"):
        train(replace(recipe, steps=5), tmp_path / "broken", workers=0, tell=lambda *_: None)
    again = train(recipe, tmp_path / "broken", workers=0, every=2, tell=lambda *_: None)
    assert [replace(point, seconds=0) for point in again] == [replace(point, seconds=0) for point in whole]
    made, wanted = (load_file(tmp_path / name / "model.safetensors") for name in ("broken", "whole"))
    assert all(torch.equal(made[name], weights) for name, weights in wanted.items())
    assert not (tmp_path / "broken" / UNFINISHED).exists()


def test_a_training_beside_other_work_is_reckoned_by_its_fastest_part() -> None:
    curve = [Point(step, 0, seconds, 0.0, 0.0) for step, seconds in ((200, 90.0), (400, 110.0), (600, 170.0))]

    assert undisturbed(curve) == pytest.approx(600 * 0.1)
    assert undisturbed(curve[:1]) == pytest.approx(90)
