"""Demonstrations: conversations as memp holds them, with what the teacher would answer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from itertools import count
from random import Random
from typing import TypeVar

from evals.training import answers
from evals.training.experience import Knowledge, Lived, live
from evals.training.teacher import Decision, lesson, stray_thought
from evals.training.worlds import FreshPlace, draw_place, draw_rule, draw_style, draw_task, rearranged
from memp import guidance
from memp.procedure import Granularity, Match, Procedure, Provenance, procedure_id
from memp.prompts import act, distil, facts, reflect
from tasks.gridworld import GridWorld
from tasks.gridworld.layout import CLASSIC_SIZE
from tasks.gridworld.place import Rule
from tasks.gridworld.solver import solve
from tasks.gridworld.task import GridTask
from tasks.gridworld.world import ACTIONS, KINDS

T = TypeVar("T")

LESSONS = {"act": 55, "note": 27, "distil": 7, "facts": 5, "reflect": 6}
"""How often each lesson is given, in percent: one for each prompt, and short ones in taking notes."""

SHOWN = {0: 16, 1: 30, 2: 20, 3: 12, 4: 22}
"""How many procedures the guidance of an episode shows, in percent."""

NOTED = (4, 10)
"""From how few to how many short ones a lesson in taking notes shows: to compare names is learned from many pairs."""

RELATIONS = {"place": 32, "style": 32, "other": 36}
"""Where a shown procedure comes from: the same place, another of the same style, or of another style."""

NAMESAKE = 0.3
"""How often a place of another style has the adjective of the place at hand: it says nothing."""

SAME_KIND = 0.75
"""How often a shown procedure is of the kind of task at hand."""

STALE = 0.15
"""How often all that guidance tells of a place and its style is out of date."""

OWN_WAY = 0.25
"""How often a shown trajectory is that of an agent that had to explore, not of the solver."""

REVISED = 0.15
"""How often a shown script was put right after a failure, which may have shown only what is wrong."""

SLIPS = (0.0, 0.0, 0.1, 0.25)
"""How often the agent of a demonstration does something else than the teacher says, to learn to recover."""

BUDGETS = (12, 20, 30, 40)
"""Step budgets of the demonstrations; 50 is the environment's own."""


@dataclass(frozen=True)
class Turn:
    """One turn of a demonstration."""

    role: str
    content: str

    taught: str = ""
    """What the teacher answers here; a turn of the assistant may have done something else."""


def demonstration(seed: int) -> list[Turn]:
    """Make the demonstration of a number: the same everywhere."""
    random = Random(seed)
    make = {"act": _act, "note": _note, "distil": _distil, "facts": _facts, "reflect": _reflect}
    return make[_draw(random, LESSONS)](random)


def lesson_of(seed: int) -> str:
    """Which lesson the demonstration of a number is."""
    return _draw(Random(seed), LESSONS)


def _act(random: Random) -> list[Turn]:
    style, rule = draw_style(random), draw_rule(random)
    place = draw_place(random, style, rule)
    task = draw_task(random, place)
    granularity: Granularity = random.choice(("trajectory", "script", "proceduralization"))
    matches, noted, known = _guidance(random, task, rule, _draw(random, SHOWN), granularity)
    shown = guidance.render(matches)
    in_system = random.random() < 0.15
    system = act.SYSTEM + (shown if in_system else "")
    turns = [Turn("system", system)]
    env = _world(random.choice(BUDGETS))
    observation, info = env.begin(task)
    teacher = lesson(env, task, known)
    slips = random.choice(SLIPS)
    content = act.render(info["task"], "" if in_system else shown, observation, env.admissible())
    while True:
        decided = teacher.decide(env.at)
        given = decided if random.random() >= slips else _slipped(random, decided)
        turns += [
            Turn("user", content),
            Turn("assistant", noted + given.reply, noted + decided.reply),
        ]
        noted = ""
        observation, _, terminated, truncated, _ = env.step(given.action)
        if terminated or truncated:
            return turns
        teacher.saw(given.action, observation, env.at)
        content = act.turn(observation, env.admissible())


def _note(random: Random) -> list[Turn]:
    """The first turn of an episode, with more guidance than in others."""
    rule = draw_rule(random)
    task = draw_task(random, draw_place(random, draw_style(random), rule))
    matches, noted, known = _guidance(random, task, rule, random.randint(*NOTED), "script")
    env = _world(random.choice(BUDGETS))
    observation, info = env.begin(task)
    taught = noted + lesson(env, task, known).decide(env.at).reply
    content = act.render(info["task"], guidance.render(matches), observation, env.admissible())
    return [Turn("system", act.SYSTEM), *_question(content, taught)]


def _distil(random: Random) -> list[Turn]:
    place = draw_place(random, draw_style(random), draw_rule(random))
    lived = _lived(random, draw_task(random, place))
    task = lived.task
    taught = answers.written(answers.script(task.kind, place.style, lived.known))
    return _question(distil.render(lived.trajectory), taught)


def _facts(random: Random) -> list[Turn]:
    task = draw_task(random, draw_place(random, draw_style(random), draw_rule(random)))
    return _question(facts.render(task.words), answers.facts(task))


def _reflect(random: Random) -> list[Turn]:
    """A procedure that was once right is followed in a place of its style, or of another, and fails."""
    style, old = draw_style(random), draw_rule(random)
    before = draw_place(random, style, old)
    now = random.choice((style, style, style, draw_style(random, unlike=style)))
    rule = draw_rule(random)
    after = rearranged(random, before, rule=rule) if now == style else draw_place(random, now, rule)
    source = draw_task(random, before)
    procedure, told = _procedure(random, source)
    task = draw_task(random, after, source.kind)
    relation = told if now == style else Knowledge()
    failure = _explored(random, task, relation, budget=random.choice(BUDGETS))
    believed = (
        answers.told(source.kind, told)
        if procedure.script is not None
        else answers.signs_in([step.action for step in procedure.trajectory.steps])
        if procedure.trajectory is not None
        else Knowledge()
    )
    taught = answers.written(answers.revised(source.kind, style, believed, failure))
    return _question(reflect.render(procedure, failure.trajectory), taught)


def _guidance(
    random: Random, task: GridTask, rule: Rule, count: int, granularity: Granularity
) -> tuple[list[Match], str, Knowledge]:
    """What is shown for a task, what a reader notes from it, and then knows: what stands first counts for more."""
    place = task.place
    assert isinstance(place, FreshPlace)
    known = Knowledge()
    matches: list[Match] = []
    noted = ""
    stale = random.random() < STALE
    told_rule = draw_rule(random) if stale and random.random() < 0.5 else rule
    told_place = rearranged(random, place, rule=told_rule) if stale else place
    for _ in range(count):
        relation = _draw(random, RELATIONS)
        if relation == "place":
            where = told_place
        elif relation == "style":
            where = draw_place(random, place.style, told_rule, unlike=place.adjective)
        else:
            adjective = place.adjective if random.random() < NAMESAKE else ""
            style = draw_style(random, unlike=place.style)
            where = draw_place(random, style, draw_rule(random), adjective=adjective)
        kind = task.kind if random.random() < SAME_KIND else random.choice(KINDS)
        procedure, told = _procedure(random, draw_task(random, where, kind), granularity)
        matches.append(Match(procedure=procedure, score=0.0))
        told = {"place": told, "style": told.of_the_style(), "other": Knowledge()}[relation]
        noted += f"{answers.note(where, place, told)}\n"
        known = told.under(known)
    return matches, noted, known


def _procedure(
    random: Random, task: GridTask, granularity: Granularity | None = None
) -> tuple[Procedure, Knowledge]:
    """A procedure of a task, and what a reader of it knows."""
    granularity = granularity or random.choice(("trajectory", "script", "proceduralization"))
    revised = granularity != "trajectory" and random.random() < REVISED
    lived = _lived(random, _before(random, task) if revised else task)
    known = lived.known
    told = answers.told(task.kind, known)
    if revised:
        known = answers.put_right(told, _explored(random, task, told, budget=random.choice(BUDGETS)))
        told = known = answers.told(task.kind, known)
    procedure = Procedure(
        id=procedure_id(task.id),
        task=task.words,
        source=task.id,
        reward=lived.trajectory.reward,
        length=len(lived.trajectory.steps),
        provenance=Provenance(granularity=granularity, created=_EPOCH),
        trajectory=None if granularity == "script" else lived.trajectory,
        script=None if granularity == "trajectory" else answers.script(task.kind, task.place.style, known),
    )
    return procedure, told if granularity == "script" else known


def _before(random: Random, task: GridTask) -> GridTask:
    """A task of the kind in the same place, before all in it was moved."""
    assert isinstance(task.place, FreshPlace)
    return draw_task(random, rearranged(random, task.place, rule=draw_rule(random)), task.kind)


def _lived(random: Random, task: GridTask) -> Lived:
    """A successful episode of a task: the solver's, or that of an agent that had to explore."""
    if random.random() < OWN_WAY:
        return _explored(random, task, Knowledge(), budget=50)
    return live(_world(50), task, [ACTIONS[number] for number in solve(task.world())])


def _explored(random: Random, task: GridTask, known: Knowledge, *, budget: int) -> Lived:
    """The teacher's episode, with a slip now and then."""
    env = _world(budget)
    env.begin(task)
    teacher = lesson(env, task, known)
    slips = random.choice(SLIPS)
    actions = (_slip(random) if random.random() < slips else teacher.act(env.at) for _ in count())
    return live(env, task, actions, teacher.saw)


def _slipped(random: Random, decided: Decision) -> Decision:
    """A slip of the hand, and as often also of the mind: what was thought before is not to be relied on."""
    thought = stray_thought(random, CLASSIC_SIZE) if random.random() < 0.5 else decided.thought
    return Decision(thought, _slip(random))


def _slip(random: Random) -> str:
    """Something else: mostly a move, as the others rarely do anything."""
    return random.choice(ACTIONS[:4] if random.random() < 0.7 else ACTIONS)


def _question(prompt: str, taught: str) -> list[Turn]:
    return [Turn("user", prompt), Turn("assistant", taught, taught)]


@cache
def _world(budget: int) -> GridWorld:
    """An environment to play lessons in; its own universe is never used."""
    return GridWorld(max_steps=budget)


def _draw(random: Random, weights: dict[T, int]) -> T:
    return random.choices(list(weights), list(weights.values()))[0]


_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
