"""Skills: how they are written and found, cut out of episodes, kept in a library, and executed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from memp import ProceduralMemory
from memp.agents import QLearner, RandomExplorer, Skill, SkillAgent, SkillLibrary
from memp.agents.library import APPLIES, SAME
from memp.agents.skill import SkillPolicy
from memp.agents.skills import Lived, skills_in
from memp.cli import main
from memp.embedding import embedder
from memp.embedding.skill import REACH, SkillEmbedder
from memp.errors import InputError, ModelError, SpaceMismatch
from memp.situation import Context, Situation, Thing
from tasks.gridworld.doorkey import KEY, DoorKey, perceive
from tasks.gridworld.world import CLASSIC_ACTIONS

ENV = DoorKey.name
NAMES = st.sampled_from(["key", "door open", "goal", "lamp 2", "a_b"])
FLAGS = st.frozensets(NAMES, max_size=3)
CONTEXTS = st.builds(Context, FLAGS, NAMES, st.integers(-40, 40), st.integers(-40, 40))


@pytest.fixture
def library() -> Iterator[SkillLibrary]:
    with SkillLibrary.open(":memory:", ENV) as library:
        yield library


def at(dx: int, dy: int, *flags: str, thing: str = "key") -> Situation:
    """A situation with one thing in sight."""
    return Situation(frozenset(flags), (Thing(thing, dx, dy),))


def walk(*actions: str, to: str = KEY) -> Skill:
    """A skill that takes the key by moves, from where they lead to it."""
    moves = {"move_right": (1, 0), "move_left": (-1, 0), "move_up": (0, 1), "move_down": (0, -1)}
    places = [(0, 0)]
    for action in reversed(actions):
        x, y = moves[action]
        places.insert(0, (places[0][0] + x, places[0][1] + y))
    contexts = [Context(frozenset(), "key", *place) for place in places]
    return Skill(ENV, frozenset({to}), contexts[0], (*actions, "pickup_key"), tuple(contexts[1:]))


class TestWriting:
    @given(CONTEXTS)
    def test_a_context_is_read_as_it_was_written(self, context: Context) -> None:
        assert Context.parse(context.text) == context
        assert Context.parse(f"doorkey-1: door open + key from {context.text}") == context

    @pytest.mark.parametrize(
        "text", ["", "open the door", "door at 2 -1 with key", "door at +2 -1", "Door at +2 -1 with key"]
    )
    def test_what_is_no_context_is_refused_with_an_example(self, text: str) -> None:
        with pytest.raises(InputError, match="one reads like"):
            Context.parse(text)

    @pytest.mark.parametrize("name", ["Key", "gift from bob", "nothing", "", "two  blanks", "a: b"])
    def test_a_name_that_could_not_be_read_again_is_refused(self, name: str, library: SkillLibrary) -> None:
        with pytest.raises(InputError, match="lower-case words"):
            library.learn([walk("move_right", to=name)])
        with pytest.raises(InputError, match="lower-case words"):
            library.learn([walk()._replace(preconditions=Context(frozenset(), name, 0, 0))])
        assert len(library) == 0

    @pytest.mark.parametrize("environment", ["", "mini: grid"])
    def test_an_environment_that_could_not_be_read_again_is_refused(self, environment: str) -> None:
        with pytest.raises(InputError, match="must be a name"):
            SkillLibrary.open(":memory:", environment)

    @given(CONTEXTS, st.lists(st.sampled_from(CLASSIC_ACTIONS), min_size=1, max_size=6), st.data())
    def test_a_skill_survives_being_a_procedure(
        self, first: Context, actions: list[str], data: st.DataObject
    ) -> None:
        rest = data.draw(st.lists(CONTEXTS, min_size=len(actions) - 1, max_size=len(actions) - 1))
        skill = Skill(ENV, frozenset({"goal"}), first, tuple(actions), tuple(rest))
        with SkillLibrary.open(":memory:", ENV) as library:
            library.learn([skill])
            assert [kept._replace(id="") for kept in library.skills] == [skill]


class TestEmbedding:
    @given(CONTEXTS, CONTEXTS)
    def test_only_the_same_context_is_so_close_that_a_skill_applies(
        self, one: Context, other: Context
    ) -> None:
        vectors = SkillEmbedder().embed([one.text, other.text])
        cosine = float(vectors[0] @ vectors[1])
        if _far(one) == _far(other):
            assert cosine > APPLIES
        else:
            assert cosine < SAME

    def test_it_is_found_by_its_name(self) -> None:
        assert embedder("skill").name == embedder(SkillEmbedder.name).name == "skill:context-v1"
        with pytest.raises(InputError, match="skill:context-v1"):
            embedder("skill:context-v9")

    def test_places_side_by_side_are_closer_than_places_apart(self) -> None:
        texts = [Context(frozenset(), "key", dx, 0).text for dx in (0, 1, 2, 5)]
        cosines = SkillEmbedder().embed(texts) @ SkillEmbedder().embed(texts)[0]
        assert list(cosines) == sorted(cosines, reverse=True)

    def test_rows_are_of_unit_length_and_the_same_in_every_process(self) -> None:
        text = "door at +2 -1 with door open + key"
        mine = SkillEmbedder().embed([text])
        assert np.linalg.norm(mine) == pytest.approx(1)
        program = (
            f"from memp.embedding.skill import *; print(SkillEmbedder().embed([{text!r}]).tobytes().hex())"
        )
        for seed in ("0", "1"):
            said = subprocess.run(
                [sys.executable, "-c", program],
                env={"PYTHONHASHSEED": seed, "PYTHONPATH": "."},
                capture_output=True,
                text=True,
                check=True,
            )
            assert said.stdout.strip() == mine.tobytes().hex()

    def test_a_text_without_a_context_is_refused(self) -> None:
        with pytest.raises(ModelError, match="one reads like"):
            SkillEmbedder().embed(["open the door"])


class TestCutting:
    def test_every_event_gives_a_skill_from_every_place_before_it(self) -> None:
        situations = [at(2, 0), at(1, 0), at(0, 0), Situation(frozenset({KEY}), (Thing("door", 0, 1),))]
        found = skills_in(ENV, Lived(situations, ["move_right", "move_right", "pickup_key"]))

        assert {skill.preconditions.dx: skill.actions for skill in found} == {
            2: ("move_right", "move_right", "pickup_key"),
            1: ("move_right", "pickup_key"),
            0: ("pickup_key",),
        }
        assert {skill.name for skill in found} == {KEY}

    def test_what_led_nowhere_falls_away(self) -> None:
        situations = [at(1, 0), at(2, 0), at(1, 0), at(1, 0), at(0, 0), at(0, 0, KEY)]
        actions = ["move_left", "move_right", "open_door", "move_right", "pickup_key"]
        found = {
            skill.preconditions.dx: skill.actions for skill in skills_in(ENV, Lived(situations, actions))
        }

        assert found[1] == ("move_right", "pickup_key")
        assert found[2] == ("move_right", "move_right", "pickup_key")

    def test_an_episode_that_failed_teaches_as_far_as_it_came(self) -> None:
        situations = [at(0, 0), at(0, 0, KEY), at(1, 0, KEY), at(2, 0, KEY)]
        found = skills_in(ENV, Lived(situations, ["pickup_key", "move_left", "move_left"]))

        assert [(skill.name, skill.actions) for skill in found] == [(KEY, ("pickup_key",))]

    def test_an_episode_in_which_nothing_happened_teaches_nothing(self) -> None:
        assert skills_in(ENV, Lived([at(1, 0), at(0, 0)], ["move_right"])) == []
        assert skills_in(ENV, Lived([at(1, 0)], [])) == []

    def test_the_skills_of_an_explored_episode_work_from_where_they_were_cut(self) -> None:
        env = DoorKey(2, layouts=1, max_steps=2000)
        task, tried = env.splits["train"][0], 0
        with SkillLibrary.open(":memory:", ENV) as library:
            play(env, task.id, SkillAgent(perceive, RandomExplorer(CLASSIC_ACTIONS), library), seed=1)
            for turn in range(10):
                here = replace(task, turn=turn)
                for found in library.retrieve(perceive(env.begin(here)[0])):
                    env.begin(here)
                    observations = [env.step(action)[0] for action in found.skill.actions]
                    assert found.skill.effect <= perceive(observations[-1]).flags
                    tried += 1
        assert tried >= 5


class TestLibrary:
    def test_a_skill_is_found_exactly_where_its_preconditions_hold(self, library: SkillLibrary) -> None:
        library.learn([walk("move_right", "move_up")])

        assert [found.skill.actions for found in library.retrieve(at(1, 1))] == [
            ("move_right", "move_up", "pickup_key")
        ]
        assert library.retrieve(at(1, 2)) == []
        assert library.retrieve(at(1, 1, "lamp")) == []
        assert library.retrieve(at(1, 1, thing="door")) == []
        assert library.retrieve(Situation(frozenset(), ())) == []

    def test_the_same_actions_from_the_same_place_are_one_skill(self, library: SkillLibrary) -> None:
        library.learn([walk("move_right"), walk("move_right")])
        library.learn([walk("move_right")])

        assert len(library) == 1
        assert library.skills[0].usage.uses == 0

    def test_of_too_many_ways_the_shortest_are_kept(self) -> None:
        detours = [walk(*["move_left", "move_right"] * count, "move_right") for count in range(4)]
        with SkillLibrary.open(":memory:", ENV, variants=2) as library:
            for detour in reversed(detours):
                library.learn([detour])
            assert [found.skill.actions for found in library.retrieve(at(1, 0))] == [
                way.actions for way in detours[:2]
            ]
            library.learn(detours)
            assert len(library) == 2

    def test_a_way_that_was_surpassed_is_seen_again_when_the_better_one_keeps_failing(self) -> None:
        long, short = walk("move_left", "move_right", "move_right"), walk("move_right")
        with SkillLibrary.open(":memory:", ENV, variants=1) as library:
            library.learn([long])
            library.learn([short])
            assert [skill.actions for skill in library.skills] == [short.actions]
            library.learn([], [library.skills[0].attempt(1, success=False)] * 4)
            assert [skill.actions for skill in library.skills] == [long.actions]

    def test_a_way_longer_than_any_text_may_be_is_kept(self, library: SkillLibrary) -> None:
        library.learn([walk(*["move_left", "move_right"] * 200, "move_right")])
        assert len(library.skills[0].actions) == 402

    def test_skills_with_another_effect_or_place_are_not_merged(self, library: SkillLibrary) -> None:
        library.learn([walk("move_right"), walk("move_right", to="lamp"), walk("move_right", "move_right")])

        assert len(library) == 3

    def test_attempts_alone_count_and_one_that_fails_more_often_than_not_steps_back(
        self, library: SkillLibrary
    ) -> None:
        short, long = walk("move_right"), walk("move_up", "move_down", "move_right")
        library.learn([short, long])
        first = library.retrieve(at(1, 0))[0].skill
        assert first.actions == short.actions

        library.learn([], [first.attempt(1, success=False)])
        assert [found.skill.actions for found in library.retrieve(at(1, 0))] == [long.actions, short.actions]
        assert {(skill.usage.uses, skill.usage.successes) for skill in library.skills} == {(1, 0), (0, 0)}

        library.learn([], [first.attempt(2, success=True), first.attempt(2, success=True)])
        assert library.retrieve(at(1, 0))[0].skill.usage.successes == 2
        assert library.retrieve()[0].skill.actions == short.actions

    def test_one_that_keeps_failing_is_retired_and_does_not_come_back(self, library: SkillLibrary) -> None:
        library.learn([walk("move_right")])
        attempt = library.skills[0].attempt(1, success=False)
        library.learn([], [attempt] * 4)
        library.learn([walk("move_right")])

        assert len(library) == 0
        assert "helped in 0 of 4" in library.memory.tombstones()[0].reason

    def test_a_library_is_a_memory_like_any_other(self, tmp_path: Path) -> None:
        path = tmp_path / "skills.db"
        with SkillLibrary.open(path, ENV) as library:
            library.learn([walk("move_right"), walk("move_up")])
            kept = library.skills
        with SkillLibrary.open(path, ENV) as library:
            assert library.skills == kept
        with ProceduralMemory.open(path) as memory:
            match = memory.retrieve("key at +1 +0 with nothing", k=1)[0]
            assert match.score == pytest.approx(1)
            assert match.procedure.task == "doorkey-1: key from key at +1 +0 with nothing"
            assert [step.action for step in match.procedure.trajectory.steps] == ["move_right", "pickup_key"]  # type: ignore[union-attr]

    def test_the_command_line_searches_a_library(self, tmp_path: Path) -> None:
        path = tmp_path / "skills.db"
        with SkillLibrary.open(path, ENV) as library:
            library.learn([walk("move_right")])

        found = CliRunner().invoke(main, ["search", str(path), "key at +1 +0 with nothing", "--json"])
        assert found.exit_code == 0, found.output
        assert "doorkey-1: key from key at +1 +0 with nothing" in found.output

        refused = CliRunner().invoke(main, ["search", str(path), "get the key"])
        assert refused.exit_code == 1
        assert "one reads like 'door at +2 -1 with key'" in refused.output

    def test_a_library_of_another_environment_is_refused(self, tmp_path: Path) -> None:
        with SkillLibrary.open(tmp_path / "skills.db", ENV) as library:
            library.learn([walk("move_right")])
            with pytest.raises(InputError, match="cannot be added"):
                library.learn([walk("move_up")._replace(environment="another-1")])
        with pytest.raises(InputError, match="skills of 'doorkey-1', not of 'another-1'"):
            SkillLibrary.open(tmp_path / "skills.db", "another-1")

    def test_a_memory_of_something_else_and_a_library_of_another_version_are_refused(
        self, tmp_path: Path
    ) -> None:
        with ProceduralMemory.open(tmp_path / "other.db") as memory:
            memory.digest()
        with pytest.raises(SpaceMismatch, match="'hash:"):
            SkillLibrary.open(tmp_path / "other.db", ENV)

        SkillLibrary.open(tmp_path / "old.db", ENV).close()
        with ProceduralMemory.open(tmp_path / "old.db") as memory, memory.store.transaction():
            memory.store.set("embedder", "skill:context-v0")
        with pytest.raises(SpaceMismatch, match="skill:context-v0"):
            SkillLibrary.open(tmp_path / "old.db", ENV)

    @pytest.mark.parametrize("wrong", [0, -1])
    def test_no_variants_and_no_results_are_refused(self, library: SkillLibrary, wrong: int) -> None:
        with pytest.raises(InputError, match="at least 1"):
            library.retrieve(at(0, 0), wrong)
        with pytest.raises(InputError, match="at least 1"):
            SkillLibrary(library.memory, ENV, variants=wrong)


class Played(NamedTuple):
    """How an episode went."""

    policy: SkillPolicy
    success: bool
    steps: int


def play(env: DoorKey, task: str, agent: SkillAgent, *, seed: int) -> Played:
    """Run one episode, and let the agent learn from it."""
    observation, info = env.reset(0, {"task": task})
    policy, steps, over = agent.start(info["task"], seed=seed), 0, False
    while not over:
        observation, _, terminated, truncated, info = env.step(policy.act(observation, env.admissible))
        steps, over = steps + 1, terminated or truncated
    policy.finish(observation)
    return Played(policy, info["success"], steps)


class TestActing:
    def test_a_skill_is_one_decision(self, library: SkillLibrary) -> None:
        env = DoorKey(1)
        task = env.tasks("train")[0].id
        first = learned(env, task, library)
        again = play(env, task, SkillAgent(perceive, RandomExplorer(CLASSIC_ACTIONS), library), seed=7)

        assert again.success
        assert again.policy.decisions == 3 < first.policy.decisions
        assert [attempt.reward for attempt in again.policy.attempts] == [1.0] * 3

    def test_a_skill_that_does_not_go_as_expected_is_abandoned_at_once_and_blamed(
        self, library: SkillLibrary
    ) -> None:
        library.learn([walk("move_left", "move_right", "move_right")])
        policy = SkillAgent(said, Waiting(), library).start("")

        assert policy.act("1 0", tuple) == "move_left"
        policy.act("1 0", tuple)  # there is a wall
        assert [(attempt.reward, len(attempt.steps)) for attempt in policy.attempts] == [(0.0, 1)]

    def test_after_a_skill_was_abandoned_another_one_is_executed(self, library: SkillLibrary) -> None:
        library.learn([walk("move_right", "move_up"), walk("move_up", "move_right")])
        policy = SkillAgent(said, Waiting(), library).start("")

        first = policy.act("1 1", tuple)
        second = policy.act("1 1", tuple)
        assert {first, second} == {"move_right", "move_up"}

    def test_a_way_known_to_be_blocked_is_not_taken_again(self, library: SkillLibrary) -> None:
        library.learn([walk("move_right"), walk("move_up", "move_right")])
        policy = SkillAgent(said, Waiting(), library).start("")

        assert policy.act("1 0", tuple) == "move_right"
        assert policy.act("1 0", tuple) != "move_right"
        policy.act("1 -1", tuple)
        assert ("move_right", "pickup_key") not in [
            tuple(step.action for step in attempt.steps) for attempt in policy.attempts[1:]
        ]

    def test_where_no_skill_applies_it_goes_to_where_one_does(self, library: SkillLibrary) -> None:
        library.learn([walk("move_right", "move_right"), walk("move_up")])
        policy = SkillAgent(said, Waiting(), library).start("")

        assert policy.act("4 0", tuple) == "move_right"
        assert policy.act("3 0", tuple) == "move_right"
        assert policy.act("2 0", tuple) == "move_right"
        assert policy.decisions == 3

    def test_where_it_knows_no_way_it_explores(self, library: SkillLibrary) -> None:
        policy = SkillAgent(said, Waiting(), library).start("")
        assert policy.act("1 0", tuple) == "wait"

    def test_what_the_budget_cuts_short_is_no_attempt(self, library: SkillLibrary) -> None:
        library.learn([walk("move_right", "move_right")])
        policy = SkillAgent(said, Waiting(), library).start("")
        policy.act("2 0", tuple)
        policy.finish("1 0")

        assert policy.attempts == []
        assert library.skills[0].usage.uses == 0

    @settings(max_examples=30, deadline=None)
    @given(
        st.integers(0, 10_000),
        st.lists(st.lists(st.sampled_from(CLASSIC_ACTIONS[:4]), max_size=5), min_size=1, max_size=8),
    )
    def test_no_skill_is_executed_twice_from_the_same_situation(
        self, seed: int, walks: list[list[str]]
    ) -> None:
        env = DoorKey(seed, layouts=1, max_steps=120)
        with SkillLibrary.open(":memory:", ENV) as library:
            library.learn([walk(*actions) for actions in walks])
            agent = SkillAgent(perceive, RandomExplorer(CLASSIC_ACTIONS), library, learns=False)
            policy = play(env, env.tasks("train")[0].id, agent, seed=seed).policy

        assert len(policy.executed) == len(set(policy.executed))

    def test_a_frozen_agent_learns_nothing(self, library: SkillLibrary) -> None:
        env = DoorKey(1)
        learned(env, env.tasks("train")[0].id, library)
        before = library.memory.digest(), [skill.usage for skill in library.skills]
        frozen = SkillAgent(perceive, RandomExplorer(CLASSIC_ACTIONS), library, learns=False)
        play(env, env.tasks("dev")[0].id, frozen, seed=3)

        assert (library.memory.digest(), [skill.usage for skill in library.skills]) == before

    def test_actions_that_the_environment_does_not_know_are_refused(self, library: SkillLibrary) -> None:
        library.learn([walk("move_right")])
        with pytest.raises(InputError, match="'move_right', which the environment does not know"):
            SkillAgent(said, RandomExplorer(["wait", "pickup_key"]), library)

    def test_it_learns_layouts_it_never_saw_from_exploring_alone(self) -> None:
        env = DoorKey(11, layouts=60, starts=1, max_steps=216)
        with SkillLibrary.open(":memory:", ENV) as library:
            agent = SkillAgent(perceive, RandomExplorer(CLASSIC_ACTIONS), library)
            for number, task in enumerate(env.tasks("train")):
                play(env, task.id, agent, seed=number)
            frozen = SkillAgent(perceive, RandomExplorer(CLASSIC_ACTIONS), library, learns=False)
            tested = [
                play(env, task.id, frozen, seed=number) for number, task in enumerate(env.tasks("test")[:30])
            ]
        alone = [
            play(env, task.id, SkillAgent(perceive, RandomExplorer(CLASSIC_ACTIONS)), seed=1)
            for task in env.tasks("test")[:30]
        ]

        assert sum(played.success for played in tested) >= 28
        assert sum(played.success for played in alone) <= 15
        assert 20 * sum(one.policy.decisions for one in tested) < sum(one.policy.decisions for one in alone)


def test_q_learning_learns_a_layout() -> None:
    env = DoorKey(4, layouts=1, starts=1, max_steps=216)
    task, learner = env.tasks("train")[0].id, QLearner(CLASSIC_ACTIONS)
    steps = [play(env, task, SkillAgent(perceive, learner), seed=number).steps for number in range(60)]

    assert np.mean(steps[-10:]) < np.mean(steps[:10]) / 4
    assert np.mean(steps[-10:]) < 2 * env.shortest(task)


class Waiting:
    """An explorer that does nothing but wait."""

    name = "waiting"
    actions = (*CLASSIC_ACTIONS, "wait")

    def act(self, situation: Situation, random: np.random.Generator) -> str:
        return "wait"

    def learn(self, lived: Lived) -> None:
        pass


def _far(context: Context) -> Context:
    """A context as far as distances are told apart."""
    dx, dy = (max(-REACH, min(REACH, distance)) for distance in (context.dx, context.dy))
    return context._replace(dx=dx, dy=dy)


def said(observation: str) -> Situation:
    """A situation in which the key is as many cells away as two numbers say."""
    dx, dy = map(int, observation.split())
    return at(dx, dy)


def learned(env: DoorKey, task: str, library: SkillLibrary) -> Played:
    """Explore a task until it was done, and learn from that."""
    agent = SkillAgent(perceive, RandomExplorer(CLASSIC_ACTIONS), library)
    for seed in range(100):
        played = play(env, task, agent, seed=seed)
        if played.success:
            return played
    raise AssertionError("exploring never did the task")
