"""The live run: guidance in, steps recorded, outcome out, and nothing lost on the way."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextvars import copy_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memp import guidance
from memp.chat import ScriptedChat
from memp.embedding import FloatMatrix, HashEmbedder, Role
from memp.episode import current
from memp.errors import InputError, ModelError, StoreError
from memp.memory import ProceduralMemory
from memp.procedure import Usage
from memp.tokens import count
from memp.trajectory import MAX_TEXT, Step, Trajectory
from tests.factories import id_of, trajectory

TASK = "put a clean mug in the coffee machine"


@pytest.fixture
def memory() -> Iterator[ProceduralMemory]:
    with ProceduralMemory.open(":memory:") as memory:
        memory.update([trajectory("put a mug in the sink", "go to sink, put mug")])
        yield memory


def kept(memory: ProceduralMemory) -> Trajectory:
    """The one episode in quarantine."""
    (item,) = memory.quarantine()
    assert item.kind == "unfinished"
    return Trajectory.model_validate(item.payload["trajectory"])


def steps(*actions: str) -> tuple[Step, ...]:
    return tuple(Step(action=action, observation="ok") for action in actions)


def test_the_five_lines_of_the_readme_learn(tmp_path: Path) -> None:
    for expected in ("", "> wash mug"):
        with ProceduralMemory.open(tmp_path / "agent.db") as memory, memory.episode(TASK) as episode:
            assert expected in episode.guidance
            episode.record(action="wash mug", observation="it is clean")
            episode.record("put mug in coffee machine", "done")
            episode.finish(reward=1.0)

    with ProceduralMemory.open(tmp_path / "agent.db") as memory:
        (procedure,) = memory.procedures()
        assert procedure.task == TASK
        assert procedure.length == 2
        assert procedure.usage == Usage(uses=1, successes=1)


def test_an_episode_says_what_the_memory_made_of_it(memory: ProceduralMemory) -> None:
    with memory.episode(TASK) as episode:
        assert episode.update is None
        episode.record("wash mug", "ok")
        episode.finish(1)

    assert episode.update is not None
    assert [change.task for change in episode.update.added] == [TASK]


def test_everything_about_the_task_is_recorded(memory: ProceduralMemory) -> None:
    with memory.episode(TASK, task_id="kitchen-7", start="you are in a kitchen") as episode:
        episode.record("wash mug", "ok")
        episode.finish(1)

    learned = memory.get(id_of("kitchen-7"))
    assert learned.trajectory is not None
    assert learned.trajectory.model_dump(include={"task", "task_id", "start", "steps"}) == {
        "task": TASK,
        "task_id": "kitchen-7",
        "start": "you are in a kitchen",
        "steps": ({"action": "wash mug", "observation": "ok"},),
    }


@pytest.mark.parametrize(("reward", "success"), [(1.0, True), (0.5, False), (0.0, False)])
def test_what_was_shown_is_credited_with_the_outcome(
    memory: ProceduralMemory, reward: float, success: bool
) -> None:
    with memory.episode(TASK) as episode:
        episode.finish(reward)

    (match,) = episode.matches
    assert memory.get(match.procedure.id).usage == Usage(uses=1, successes=int(success))


def test_handing_in_an_episode_again_credits_nothing_twice(memory: ProceduralMemory) -> None:
    with memory.episode(TASK) as episode:
        episode.finish(1)
    memory.update([episode.trajectory])

    assert memory.get(episode.matches[0].procedure.id).usage.uses == 1


def test_at_most_k_procedures_are_shown_best_first(memory: ProceduralMemory) -> None:
    memory.update([trajectory(f"put a mug in drawer {n}", f"go to drawer {n}, put mug") for n in range(5)])
    memory.update([trajectory(TASK)])

    assert len(memory.episode(TASK).matches) == 3
    assert [match.procedure.task for match in memory.episode(TASK, k=1).matches] == [TASK]
    assert [match.procedure.task for match in memory.episode(TASK, k=9, exclude=[TASK]).matches].count(
        TASK
    ) == 0


def test_procedures_that_say_the_same_make_room_for_others(memory: ProceduralMemory) -> None:
    memory.update([trajectory(f"put a mug in drawer {n}", "open it, put mug") for n in range(3)])
    memory.update([trajectory("put a mug in drawer 9 and close it", "open it, put mug, close it")])

    shown = memory.episode("put a mug in drawer 1", k=2).matches

    assert [match.procedure.length for match in shown] == [2, 3]


def test_nothing_is_shown_below_min_score() -> None:
    with ProceduralMemory.open(":memory:", min_score=0.9) as strict:
        strict.update([trajectory("heat an egg")])

        assert strict.episode("water the plants").guidance == ""
        assert strict.episode("heat an egg").guidance != ""


def test_guidance_keeps_to_its_tokens() -> None:
    with ProceduralMemory.open(":memory:", guidance_tokens=200) as narrow:
        narrow.update([trajectory("heat an egg", ", ".join(f"open oven {n}" for n in range(100)))])

        assert count(narrow.episode("heat an egg").guidance).n <= 200


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"guidance_tokens": 0}, "guidance_tokens is 0; it must be at least 1"),
        ({"min_score": 1.5}, "min_score is 1.5; scores lie between -1 and 1"),
        ({"min_score": 0.5, "key": "random"}, "min_score needs a key that scores"),
    ],
)
def test_a_guidance_that_cannot_be_is_refused(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        ProceduralMemory.open(tmp_path / "m.db", **options)
    assert not (tmp_path / "m.db").exists()


def test_the_running_episode_is_known_inside_its_block_alone(memory: ProceduralMemory) -> None:
    assert current() is None
    with memory.episode(TASK) as outer:
        assert current() is outer
        with memory.episode("another task") as inner:
            assert current() is inner
        assert current() is outer
    assert current() is None


def test_an_async_block_learns_in_a_thread(memory: ProceduralMemory) -> None:
    async def live(task: str) -> None:
        async with memory.episode(task) as episode:
            await asyncio.sleep(0)
            assert current() is episode
            episode.record(f"do {task}", "done")
            episode.finish(1)
        assert episode.update is not None
        assert episode.update.added

    async def both() -> None:
        await asyncio.gather(live("one"), live("two"))

    asyncio.run(both())

    assert {kept.task for kept in memory.procedures()} > {"one", "two"}


def test_a_cancelled_episode_is_kept(memory: ProceduralMemory) -> None:
    async def live() -> None:
        async with memory.episode(TASK) as episode:
            episode.record("go", "gone")
            await asyncio.sleep(60)

    async def cancelled() -> None:
        task = asyncio.create_task(live())
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())

    assert [step.action for step in kept(memory).steps] == ["go"]


def test_what_an_adapter_heard_is_recorded_and_replaced_by_what_it_hears_later(
    memory: ProceduralMemory,
) -> None:
    with memory.episode(TASK) as episode:
        episode.hear(steps("go"))
        episode.hear(steps("go", "take"))

    assert kept(memory).steps == steps("go", "take")


def test_what_is_recorded_by_hand_goes_before_what_an_adapter_heard(memory: ProceduralMemory) -> None:
    with memory.episode(TASK) as episode:
        episode.hear(steps("go", "take"))
        for step in steps("walk"):
            episode.record(step.action, step.observation)

    assert kept(memory).steps == steps("walk")


def test_what_is_heard_after_a_replay_follows_what_was_replayed(memory: ProceduralMemory) -> None:
    memory.update([trajectory("fetch a spoon", "open drawer, take spoon")])

    with memory.episode("fetch a spoon") as episode:
        replayed = episode.replay(lambda action: f"you {action}")
        episode.hear(steps("say thanks"))

    assert replayed.completed
    assert [step.action for step in kept(memory).steps] == ["open drawer", "take spoon", "say thanks"]


def test_an_episode_that_has_ended_replays_nothing(memory: ProceduralMemory) -> None:
    memory.update([trajectory("fetch a spoon")])
    with memory.episode("fetch a spoon") as episode:
        pass

    with pytest.raises(InputError, match="the episode has ended"):
        episode.replay(lambda action: pytest.fail(f"{action} was done"))


def test_an_episode_left_in_another_context_is_learned_from(memory: ProceduralMemory) -> None:
    episode = memory.episode("fetch a spoon")
    copy_context().run(episode.__enter__)
    episode.record("go", "gone")
    episode.finish(1)

    episode.__exit__(None, None, None)

    assert episode.update is not None
    assert episode.update.added


def test_an_episode_that_has_ended_is_known_to_no_task_it_started(memory: ProceduralMemory) -> None:
    with memory.episode(TASK):
        context = copy_context()

    assert context.run(current) is None


def test_the_running_episode_of_one_memory_is_found_inside_that_of_another(memory: ProceduralMemory) -> None:
    with (
        ProceduralMemory.open(":memory:") as other,
        memory.episode(TASK) as outer,
        other.episode(TASK) as inner,
    ):
        assert (current(memory), current(other), current()) == (outer, inner, inner)


def test_what_an_adapter_hears_after_the_block_is_left_out_and_logged(
    memory: ProceduralMemory, caplog: pytest.LogCaptureFixture
) -> None:
    with memory.episode(TASK) as episode:
        pass

    episode.note("go", "gone")

    assert episode.trajectory.steps == ()
    assert "what came after the end of the episode" in caplog.text


def test_what_an_adapter_hears_is_cut_to_what_can_be_stored(memory: ProceduralMemory) -> None:
    with memory.episode(TASK) as episode:
        episode.note("look", "x" * (MAX_TEXT + 1))
        episode.note("read", "half a \udc80")

    assert [len(step.observation) for step in kept(memory).steps] == [MAX_TEXT, 8]


def test_what_was_replayed_before_the_world_failed_is_followed_by_what_is_heard(
    memory: ProceduralMemory,
) -> None:
    memory.update([trajectory("fetch a spoon", "open drawer, take spoon")])

    def execute(action: str) -> str:
        if action == "take spoon":
            raise RuntimeError("no spoon")
        return f"you {action}"

    with memory.episode("fetch a spoon") as episode:
        with pytest.raises(RuntimeError, match="no spoon"):
            episode.replay(execute, success_at=0.5)
        episode.hear(steps("take fork"))

    assert [step.action for step in kept(memory).steps] == ["open drawer", "take fork"]


def test_k_zero_shows_nothing_and_still_learns(memory: ProceduralMemory) -> None:
    with memory.episode(TASK, k=0) as episode:
        assert (episode.guidance, episode.matches) == ("", ())
        episode.record("wash mug", "ok")
        episode.finish(1)

    assert memory.stats().procedures == 2
    assert memory.stats().uses == 0


def test_an_empty_memory_gives_no_guidance() -> None:
    with ProceduralMemory.open(":memory:") as memory:
        assert memory.episode(TASK).guidance == ""


# Episodes that break off


def test_leaving_without_finish_keeps_the_episode_as_unfinished(memory: ProceduralMemory) -> None:
    before = memory.digest()
    with memory.episode(TASK, start="you are in a kitchen") as episode:
        episode.record("wash mug", "ok")

    assert kept(memory) == episode.trajectory
    assert kept(memory).steps == steps("wash mug")
    assert not kept(memory).finished
    assert (memory.digest(), memory.stats().uses) == (before, 0)


@pytest.mark.parametrize("error", [RuntimeError("the agent broke"), KeyboardInterrupt(), SystemExit(1)])
@pytest.mark.parametrize("finished", [False, True], ids=["before finish", "after finish"])
def test_an_exception_keeps_the_episode_as_unfinished_and_goes_on(
    memory: ProceduralMemory, error: BaseException, finished: bool
) -> None:
    before = memory.digest()

    def run() -> None:
        with memory.episode(TASK) as episode:
            episode.record("wash mug", "ok")
            if finished:
                episode.finish(1.0)
            raise error

    with pytest.raises(type(error)) as raised:
        run()

    assert raised.value is error
    assert kept(memory).steps == steps("wash mug")
    assert (memory.digest(), memory.stats().uses) == (before, 0)


def test_an_unfinished_episode_is_learned_from_once_its_reward_is_known(memory: ProceduralMemory) -> None:
    with memory.episode(TASK) as episode:
        episode.record("wash mug", "ok")
    (item,) = memory.quarantine()

    assert [change.task for change in memory.retry(item.id, reward=1.0).added] == [TASK]
    assert memory.quarantine() == []
    assert memory.get(episode.matches[0].procedure.id).usage == Usage(uses=1, successes=1)


def test_an_update_that_fails_leaves_the_episode_in_hand(tmp_path: Path) -> None:
    memory = ProceduralMemory.open(tmp_path / "agent.db")
    episode = memory.episode(TASK)

    def run() -> None:
        with episode:
            episode.record("wash mug", "ok")
            episode.finish(1)
            memory.close()

    with pytest.raises(StoreError, match="is closed") as raised:
        run()

    assert any("memory.update([episode.trajectory])" in note for note in raised.value.__notes__)
    assert episode.update is None
    with ProceduralMemory.open(tmp_path / "agent.db") as again:
        assert len(again.update([episode.trajectory]).added) == 1


def test_an_update_that_fails_does_not_hide_what_broke_the_episode(tmp_path: Path) -> None:
    memory = ProceduralMemory.open(tmp_path / "agent.db")
    episode = memory.episode(TASK)
    error = RuntimeError("the agent broke")

    def run() -> None:
        with episode:
            episode.record("wash mug", "ok")
            memory.close()
            raise error

    with pytest.raises(StoreError, match="is closed") as raised:
        run()

    causes = [raised.value.__context__]
    while causes[-1] is not None:
        causes.append(causes[-1].__context__)
    assert error in causes
    assert episode.trajectory.steps == steps("wash mug")
    assert not episode.trajectory.finished


def test_a_chat_model_that_fails_loses_nothing() -> None:
    chat = ScriptedChat([ModelError("the server is down")])
    with ProceduralMemory.open(":memory:", chat=chat, build="script") as memory:
        with memory.episode(TASK) as episode:
            episode.record("wash mug", "ok")
            episode.finish(1)
        (item,) = memory.quarantine()

    assert item.kind == "build"


# Bad input


@pytest.mark.parametrize(
    ("action", "observation", "said"),
    [
        ("", "ok", r"step 2: action: .*at least 1 character$"),
        ("look", "x" * 10_000_000, r"step 2: observation: .*at most 1000000 characters; shorten it"),
        ("x" * (MAX_TEXT + 1), "ok", r"step 2: action: .*; shorten it"),
        (None, "ok", "step 2: action: "),
        ("look", 7, "step 2: observation: "),
        ("look", "\ud800", "step 2: observation: "),
    ],
    ids=["no action", "10 MB", "long action", "None", "number", "half a character"],
)
def test_a_bad_step_is_named_and_loses_nothing(
    memory: ProceduralMemory, action: Any, observation: Any, said: str
) -> None:
    with memory.episode(TASK) as episode:
        episode.record("wash mug", "ok")
        with pytest.raises(InputError, match=said):
            episode.record(action, observation)
        episode.record("put mug", "ok")
        episode.finish(1)

    learned = memory.get(id_of(TASK)).trajectory
    assert learned is not None
    assert learned.steps == steps("wash mug", "put mug")


def test_a_bad_step_that_ends_the_episode_leaves_it_unfinished(memory: ProceduralMemory) -> None:
    def run() -> None:
        with memory.episode(TASK) as episode:
            episode.record("wash mug", "ok")
            episode.record("", "")

    with pytest.raises(InputError):
        run()

    assert kept(memory).steps == steps("wash mug")


@pytest.mark.parametrize("reward", [1.5, -0.1, float("nan"), float("inf"), None, "good", [1]])
def test_a_reward_outside_0_to_1_is_refused_and_loses_nothing(memory: ProceduralMemory, reward: Any) -> None:
    with memory.episode(TASK) as episode:
        episode.record("wash mug", "ok")
        with pytest.raises(InputError, match=r"reward is .*; it must be a number from 0 to 1"):
            episode.finish(reward)

    assert kept(memory).steps == steps("wash mug")


@pytest.mark.parametrize("reward", [1, True, np.float32(1), np.int64(1)])
def test_any_kind_of_number_is_a_reward(memory: ProceduralMemory, reward: Any) -> None:
    with memory.episode(TASK) as episode:
        episode.record("wash mug", "ok")
        episode.finish(reward)

    assert memory.get(id_of(TASK)).reward == 1.0


def test_the_last_finish_counts(memory: ProceduralMemory) -> None:
    with memory.episode(TASK) as episode:
        episode.record("wash mug", "ok")
        episode.finish(0)
        episode.finish(1)

    assert memory.get(id_of(TASK)).reward == 1.0


@pytest.mark.parametrize("k", [0, 3])
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"task": " "}, "task.* is empty"),
        ({"task": "x" * (MAX_TEXT + 1)}, "task: .*at most 1000000 characters"),
        ({"task": TASK, "start": "x" * (MAX_TEXT + 1)}, "start: .*at most 1000000 characters; shorten it"),
        ({"task": TASK, "task_id": 7}, "task_id: "),
    ],
    ids=["no task", "long task", "long start", "number"],
)
def test_an_episode_that_could_not_be_stored_never_begins(
    memory: ProceduralMemory, k: int, options: Any, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        memory.episode(**options, k=k)


def test_a_negative_k_is_refused(memory: ProceduralMemory) -> None:
    with pytest.raises(InputError, match="k is -1"):
        memory.episode(TASK, k=-1)


# Guidance is never learned from


def test_guidance_in_what_was_recorded_is_not_learned(memory: ProceduralMemory) -> None:
    secret = "go to sink"
    with memory.episode(TASK) as first:
        marked = first.guidance
        assert secret in marked
    with memory.episode(f"{TASK}\n{marked}", start=f"{marked} you are in a kitchen") as episode:
        episode.record("wash mug", f"you were told: {marked} and it is clean")
        episode.record(marked, "nothing happens")
        episode.record(f"put mug {marked}", f"done {marked[:-30]}")
        episode.finish(1)

    learned = memory.get(id_of(TASK))
    assert learned.task == TASK
    assert learned.trajectory == Trajectory(
        task=TASK,
        start=" you are in a kitchen",
        steps=(
            Step(action="wash mug", observation="you were told:  and it is clean"),
            Step(action="put mug ", observation="done "),
        ),
        reward=1,
    )
    with ProceduralMemory.open(memory.store) as again:
        assert guidance.HEADER not in learned.model_dump_json()
        assert again.stats().procedures == 2


def test_guidance_in_an_unfinished_episode_is_not_kept_either(memory: ProceduralMemory) -> None:
    with memory.episode(TASK) as episode:
        episode.record("wash mug", episode.guidance)

    assert kept(memory).steps == (Step(action="wash mug", observation=""),)


def test_an_episode_that_could_not_be_learned_from_is_kept_and_tried_again() -> None:
    class Down(HashEmbedder):
        down = False

        def embed(self, texts: Sequence[str], role: Role = "key") -> FloatMatrix:
            if self.down:
                raise ModelError("the embedding server is down")
            return super().embed(texts, role)

    embedder = Down()
    with ProceduralMemory.open(":memory:", embedder=embedder) as memory:
        episode = memory.episode("heat an egg")
        episode.record("take egg", "You take the egg.")
        episode.finish(1.0)
        embedder.down = True
        with pytest.raises(ModelError, match="down"):
            episode.__exit__(None, None, None)
        assert [item.kind for item in memory.quarantine()] == ["build"]

        embedder.down = False
        assert len(memory.retry().added) == 1
        assert memory.quarantine() == []


def test_what_comes_after_the_block_is_refused() -> None:
    with ProceduralMemory.open(":memory:") as memory:
        with memory.episode("heat an egg") as episode:
            episode.finish(1.0)
        with pytest.raises(InputError, match="has ended"):
            episode.record("take egg", "You take the egg.")
        with pytest.raises(InputError, match="has ended"):
            episode.finish(0.0)
