"""Doing a task again without a model: how far it goes, and what the model is told that takes over."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import pytest
from pydantic import BaseModel

from memp import Match, ProceduralMemory, ScriptedChat, Step, Trajectory
from memp.agents import Agent, LLMAgent, RandomAgent
from memp.agents.adapt import alike
from memp.agents.replay_first import PROVEN, ReplayFirst, TakesOver, proven, replay
from memp.chat import ChatModel, chat_model
from memp.chat.base import Message, Reply
from memp.errors import InputError
from memp.procedure import Script, Usage
from memp.prompts import act
from tasks.base import expert_trajectory
from tasks.gridworld import GridWorld
from tests import factories
from tests.pages import printed

KNOWN = "u0/little-lodge/deliver/start-9/p3"
"""A task of the grid world."""

REARRANGED = "u0e1/little-lodge/deliver/start-9/p3"
"""A task of the same text that begins with the same view, in the same place after all in it was moved."""

BUDGET = 14


class Heard:
    """A chat model that keeps what it was asked."""

    def __init__(self, chat: ChatModel) -> None:
        self.chat, self.name = chat, chat.name
        self.asked: list[list[Message]] = []
        self.replies: list[Reply] = []

    def reply(
        self,
        messages: Sequence[Message],
        *,
        schema: type[BaseModel] | None = None,
        temperature: float = 0.0,
        max_tokens: int | None = None,
    ) -> Reply:
        self.asked.append(list(messages))
        reply = self.chat.reply(messages, schema=schema, temperature=temperature, max_tokens=max_tokens)
        self.replies.append(reply)
        return reply


@cache
def small() -> ChatModel:
    chat = chat_model("local:memp-small")
    assert chat is not None
    return chat


@cache
def expert(task_id: str) -> Trajectory:
    return expert_trajectory(GridWorld(), task_id)


def match(trajectory: Trajectory, usage: Usage | None = None) -> Match:
    made = factories.procedure(trajectory.task, trajectory.reward, source=trajectory.source)
    kept = {"trajectory": trajectory, "length": len(trajectory.steps), "usage": usage or Usage()}
    return Match(procedure=made.model_copy(update=kept), score=0.9)


class Run:
    """An episode of the grid world: what was seen, what was possible, what was done."""

    def __init__(self, agent: Agent, task_id: str, matches: Sequence[Match], *, steps: int = BUDGET) -> None:
        env = GridWorld(era=int(task_id.startswith("u0e1")), max_steps=steps)
        observation, info = env.reset(0, {"task": task_id})
        self.task = info["task"]
        self.policy = agent.start(self.task, matches)
        self.turns: list[tuple[str, tuple[str, ...], str]] = []
        self.succeeded = False
        while (action := self.policy.act(observation, env.admissible)) is not None:
            self.turns.append((observation, env.admissible(), action))
            observation, _, self.succeeded, truncated, _ = env.step(action)
            if self.succeeded or truncated:
                break

    @property
    def actions(self) -> list[str]:
        return [action for _, _, action in self.turns]

    @property
    def tokens(self) -> tuple[int, int]:
        return self.policy.tokens_in, self.policy.tokens_out


def lived(task: str, *steps: tuple[str, str], reward: float = 1.0, start: str = "") -> Trajectory:
    taken = tuple(Step(action=action, observation=observation) for action, observation in steps)
    return Trajectory(task=task, steps=taken, reward=reward, start=start)


SPOON = lived(
    "fetch a spoon",
    ("open drawer", "The drawer is open."),
    ("take spoon", "You have a spoon."),
    start="The drawer is closed.",
)


def acted(
    agent: Agent, task: str, matches: Sequence[Match], seen: Sequence[str], possible: Sequence[str] = ()
) -> list[str | None]:
    """What an agent does, seeing one thing after the other."""
    policy = agent.start(task, matches)
    return [policy.act(observation, lambda: possible) for observation in seen]


def model(*answers: str) -> LLMAgent:
    return LLMAgent(ScriptedChat([f"Action: {action}" for action in answers]))


# --- what is proven ---


def test_a_success_that_was_never_shown_is_proven() -> None:
    assert proven(match(SPOON)) == SPOON


@pytest.mark.parametrize(
    ("uses", "successes", "is_proven"), [(1, 1, True), (1, 0, False), (4, 2, True), (4, 1, False)]
)
def test_a_procedure_that_failed_more_often_than_it_helped_is_not_proven(
    uses: int, successes: int, is_proven: bool
) -> None:
    usage = Usage(uses=uses, successes=successes)
    assert (usage.success >= PROVEN) == is_proven
    assert (proven(match(SPOON, usage)) is not None) == is_proven


def test_a_failure_is_not_proven_and_what_counts_as_one_can_be_said() -> None:
    half = match(SPOON.model_copy(update={"reward": 0.5}))
    assert proven(half) is None
    assert proven(half, success_at=0.5) is not None


def test_what_was_brought_in_under_a_namespace_is_not_proven() -> None:
    stranger = match(SPOON).procedure.model_copy(update={"namespace": "stranger"})
    assert proven(Match(procedure=stranger, score=1.0)) is None


def test_a_script_alone_is_not_proven() -> None:
    script = Script(goal="fetch things", steps=("open the drawer",))
    made = factories.procedure(script=script).model_copy(update={"trajectory": None})
    assert proven(Match(procedure=made, score=1.0)) is None


# --- the agent ---


def test_a_known_task_is_done_again_without_a_token() -> None:
    chat = Heard(small())
    run = Run(ReplayFirst(LLMAgent(chat)), KNOWN, [match(expert(KNOWN))], steps=50)
    assert run.succeeded
    assert run.actions == [step.action for step in expert(KNOWN).steps]
    assert (chat.asked, run.tokens) == ([], (0, 0))


def test_where_all_was_moved_the_model_takes_over_at_the_first_difference() -> None:
    chat = Heard(small())
    run = Run(ReplayFirst(LLMAgent(chat)), REARRANGED, [match(expert(KNOWN))])
    record = expert(KNOWN)
    before = (record.start, *(step.observation for step in record.steps))
    seen = [observation for observation, _, _ in run.turns]
    first = next(number for number, (now, then) in enumerate(zip(seen, before, strict=False)) if now != then)
    assert 0 < first < len(record.steps)
    assert run.actions[:first] == [step.action for step in record.steps[:first]]
    assert len(chat.asked) == len(run.turns) - first


def test_the_model_that_takes_over_has_answered_every_turn_itself() -> None:
    chat = Heard(small())
    found = [match(expert(KNOWN))]
    run = Run(ReplayFirst(LLMAgent(chat)), REARRANGED, found)
    conversation = chat.asked[0]
    replayed = run.turns[: len(run.turns) - len(chat.asked)]
    told = [act.turn(observation, possible) for observation, possible, _ in run.turns]
    asked = [message["content"] for message in conversation if message["role"] == "user"]
    said = [message["content"] for message in conversation if message["role"] == "assistant"]
    assert asked[0].startswith("<procedural-memory>")
    assert asked[0].endswith(f"Task: {run.task}\n\n{told[0]}")
    assert asked[1:] == told[1 : len(replayed) + 1]
    assert [act.parse(reply) for reply in said] == [action for _, _, action in replayed]
    assert [message["role"] for message in conversation] == [
        "system",
        *["user", "assistant"] * len(said),
        "user",
    ]


def test_only_what_the_model_was_asked_costs_tokens() -> None:
    chat = Heard(small())
    run = Run(ReplayFirst(LLMAgent(chat)), REARRANGED, [match(expert(KNOWN))])
    assert run.tokens == (
        sum(reply.tokens_in for reply in chat.replies),
        sum(reply.tokens_out for reply in chat.replies),
    )


@pytest.mark.parametrize("unproven", ["nothing", "another task", "another start", "a failure"])
def test_where_nothing_is_proven_the_model_does_what_it_does_alone(unproven: str) -> None:
    record = expert(KNOWN)
    matches = {
        "nothing": [],
        "another task": [match(expert(GridWorld().tasks("train")[0].id))],
        "another start": [match(record.model_copy(update={"start": "You are elsewhere."}))],
        "a failure": [match(record.model_copy(update={"reward": 0.5}))],
    }[unproven]
    alone = Run(LLMAgent(small()), KNOWN, matches)
    first = Run(ReplayFirst(LLMAgent(small())), KNOWN, matches)
    assert (first.turns, first.tokens) == (alone.turns, alone.tokens)
    assert first.tokens[0] > 0


def test_an_action_that_is_not_possible_is_left_to_the_model() -> None:
    agent = ReplayFirst(model("look", "wait"))
    seen = ["The drawer is closed.", "The drawer is open."]
    assert acted(agent, "fetch a spoon", [match(SPOON)], seen, ["look", "wait"]) == ["look", "wait"]


def test_an_action_is_done_where_nobody_knows_what_is_possible() -> None:
    assert acted(ReplayFirst(model()), "fetch a spoon", [match(SPOON)], ["The drawer is closed."]) == [
        "open drawer"
    ]


def test_once_the_model_has_taken_over_nothing_is_replayed() -> None:
    agent = ReplayFirst(model("pull", "pull", "pull"))
    seen = ["The drawer is closed.", "The drawer is stuck.", "The drawer is open.", "The drawer is closed."]
    assert acted(agent, "fetch a spoon", [match(SPOON)], seen) == ["open drawer", "pull", "pull", "pull"]


def test_the_model_goes_on_where_the_procedure_has_come_to_its_end() -> None:
    agent = ReplayFirst(model("wash spoon"))
    seen = ["The drawer is closed.", "The drawer is open.", "You have a spoon."]
    assert acted(agent, "fetch a spoon", [match(SPOON)], seen) == ["open drawer", "take spoon", "wash spoon"]


def test_the_best_procedure_that_began_as_now_is_done_again() -> None:
    other = lived("fetch a spoon", ("open box", "The box is open."), start="The box is closed.")
    agent, found = ReplayFirst(model()), [match(other), match(SPOON)]
    assert acted(agent, "fetch a spoon", found, ["The drawer is closed."]) == ["open drawer"]


def test_white_space_makes_no_difference() -> None:
    agent, seen = ReplayFirst(model()), ["The  drawer\nis closed.", "The drawer is open.\n"]
    assert acted(agent, " fetch a\nspoon", [match(SPOON)], seen) == ["open drawer", "take spoon"]


def test_who_compares_observations_can_be_chosen() -> None:
    seen = ["The drawer is closed, at 9:14.", "The drawer is open, at 9:15."]
    strict = acted(ReplayFirst(model("a", "b")), "fetch a spoon", [match(SPOON)], seen)
    tolerant = acted(ReplayFirst(model(), same=alike), "fetch a spoon", [match(SPOON)], seen)
    assert (strict, tolerant) == (["a", "b"], ["open drawer", "take spoon"])


def test_an_agent_that_cannot_be_told_of_turns_takes_over_too() -> None:
    agent = ReplayFirst(RandomAgent())
    seen = ["The drawer is closed.", "The drawer is stuck."]
    assert acted(agent, "fetch a spoon", [match(SPOON)], seen, ["open drawer", "open drawer"]) == [
        "open drawer",
        "open drawer",
    ]


def test_a_language_model_takes_over() -> None:
    assert isinstance(model().start("t"), TakesOver)
    assert not isinstance(RandomAgent().start("t"), TakesOver)


def test_the_name_says_who_takes_over() -> None:
    assert ReplayFirst(model()).name == "replay-first+llm/scripted"


# --- in one's own loop ---


class Kitchen:
    """A drawer with a spoon in it; what it answers can be changed."""

    def __init__(self, **answers: str) -> None:
        self.answers = {step.action: step.observation for step in SPOON.steps} | answers
        self.done: list[str] = []

    def execute(self, action: str) -> str:
        self.done.append(action)
        return self.answers[action]


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[ProceduralMemory]:
    with ProceduralMemory.open(tmp_path / "memory.db") as opened:
        opened.update([SPOON])
        yield opened


def test_a_procedure_is_carried_out_to_its_end(memory: ProceduralMemory) -> None:
    kitchen = Kitchen()
    with memory.episode("fetch a spoon", start="The drawer is closed.") as episode:
        replayed = replay(episode, kitchen.execute)
        episode.finish(1.0)
    assert kitchen.done == ["open drawer", "take spoon"]
    assert (replayed.ended, replayed.completed, replayed.expected) == ("completed", True, None)
    assert replayed.steps == episode.trajectory.steps == SPOON.steps
    assert replayed.observation == "You have a spoon."
    assert memory.get(replayed.procedure_id).usage == Usage(uses=1, successes=1)


def test_it_ends_with_the_first_step_that_has_another_effect(memory: ProceduralMemory) -> None:
    kitchen = Kitchen(**{"open drawer": "The drawer is stuck."})
    with memory.episode("fetch a spoon", start="The drawer is closed.") as episode:
        replayed = replay(episode, kitchen.execute)
        episode.finish(0.0)
    assert kitchen.done == ["open drawer"]
    assert (replayed.ended, replayed.completed, replayed.expected) == ("diverged", False, SPOON.steps[0])
    assert replayed.observation == "The drawer is stuck."
    assert (
        replayed.steps
        == episode.trajectory.steps
        == (Step(action="open drawer", observation="The drawer is stuck."),)
    )


def test_what_is_not_possible_is_not_done(memory: ProceduralMemory) -> None:
    kitchen = Kitchen()
    with memory.episode("fetch a spoon", start="The drawer is closed.") as episode:
        replayed = replay(episode, kitchen.execute, actions=lambda: ["open drawer"])
        episode.finish(0.0)
    assert kitchen.done == ["open drawer"]
    assert (replayed.ended, replayed.expected) == ("inadmissible", SPOON.steps[1])
    assert replayed.steps == SPOON.steps[:1]


@pytest.mark.parametrize(
    ("task", "start", "task_id", "k"),
    [
        ("fetch a fork", "The drawer is closed.", "", 3),
        ("fetch a spoon", "The drawer is open.", "", 3),
        ("fetch a spoon", "", "", 3),
        ("fetch a spoon", "The drawer is closed.", "the other kitchen", 3),
        ("fetch a spoon", "The drawer is closed.", "", 0),
    ],
    ids=["another task", "another start", "no start", "another task of the same text", "nothing shown"],
)
def test_nothing_is_done_where_nothing_is_proven(
    memory: ProceduralMemory, task: str, start: str, task_id: str, k: int
) -> None:
    kitchen = Kitchen()
    with memory.episode(task, start=start, task_id=task_id, k=k) as episode:
        replayed = replay(episode, kitchen.execute)
        episode.finish(0.0)
    assert kitchen.done == []
    assert (replayed.ended, replayed.steps, replayed.procedure_id) == ("unproven", (), "")
    assert replayed.observation == start


def test_what_is_seen_now_can_be_said(memory: ProceduralMemory) -> None:
    with memory.episode("fetch a spoon") as episode:
        assert replay(episode, Kitchen().execute, start="The drawer is closed.").completed


def test_in_the_middle_of_an_episode_what_was_seen_last_counts(memory: ProceduralMemory) -> None:
    with memory.episode("fetch a spoon", start="The drawer is closed.") as episode:
        episode.record("look", "The drawer is open.")
        assert replay(episode, Kitchen().execute).ended == "unproven"
        episode.record("close drawer", "The drawer is closed.")
        assert replay(episode, Kitchen().execute).completed
    assert len(episode.trajectory.steps) == 4


def test_what_execute_raises_passes_and_what_was_done_before_is_kept(memory: ProceduralMemory) -> None:
    def execute(action: str) -> str:
        if action == "take spoon":
            raise ConnectionError("the robot is gone")
        return "The drawer is open."

    with (
        pytest.raises(ConnectionError, match="the robot is gone"),
        memory.episode("fetch a spoon", start="The drawer is closed.") as episode,
    ):
        replay(episode, execute)
    assert episode.trajectory.steps == SPOON.steps[:1]
    assert [item.kind for item in memory.quarantine()] == ["unfinished"]


def test_what_is_no_observation_is_refused(memory: ProceduralMemory) -> None:
    def execute(_: str) -> str:
        return None  # type: ignore[return-value]

    with (
        pytest.raises(InputError, match="step 1: observation"),
        memory.episode("fetch a spoon", start="The drawer is closed.") as episode,
    ):
        replay(episode, execute)


def test_what_failed_when_it_was_done_again_is_done_no_more(memory: ProceduralMemory) -> None:
    ended = []
    for _ in range(2):
        with memory.episode("fetch a spoon", start="The drawer is closed.") as episode:
            ended.append(replay(episode, Kitchen(**{"take spoon": "It slips."}).execute).ended)
            episode.finish(0.0)
    assert ended == ["diverged", "unproven"]


def test_the_page_runs_as_it_stands(tmp_path: Path) -> None:
    assert printed("replay-first.md", tmp_path).splitlines() == [
        "unproven 0 of 2",
        "completed 2 of 2",
        "diverged 1 of 3",
    ]


OPEN = ("open drawer", "take spoon")
STUCK = ("open drawer", "pull hard", "take spoon")


def test_a_way_that_works_now_replaces_one_that_no_longer_does() -> None:
    world = {"open drawer": "It is open.", "take spoon": "You have a spoon.", "pull hard": "It is open."}
    with ProceduralMemory.open(":memory:") as memory:
        ends = []
        for day, way in enumerate([OPEN, OPEN, STUCK, STUCK]):
            if day == 2:
                world["open drawer"] = "It is stuck."
            with memory.episode("fetch a spoon", start="It is closed.") as episode:
                replayed = episode.replay(lambda action: world[action])
                for action in way[len(replayed.steps) :]:
                    episode.record(action, world[action])
                episode.finish(1.0)
            ends.append((replayed.ended, len(episode.trajectory.steps)))
        (kept,) = memory.procedures()

    assert ends == [("unproven", 2), ("completed", 2), ("diverged", 3), ("completed", 3)]
    assert (kept.revision, kept.length) == (2, 3)
