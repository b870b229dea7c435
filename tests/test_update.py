"""What a memory makes of episodes: what it adds, revises, retires and skips, and why."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import pytest

from memp.build import GRANULARITIES
from memp.chat import Message, ScriptedChat
from memp.errors import InputError, ModelError, NotFound
from memp.memory import ProceduralMemory
from memp.procedure import Procedure, Usage
from memp.trajectory import Trajectory
from memp.update import POLICIES, RETIRE_AFTER, RETIRE_BELOW
from tests.factories import SCRIPT, id_of, trajectory

BETTER = '{"goal": "heat things well", "steps": ["look for the oven", "open it"]}'

TWO_PROCEDURES = ("heat an egg", "cool a mug")

Opened = Callable[..., ProceduralMemory]


@pytest.fixture
def opened() -> Iterator[Opened]:
    """Opens memories, and closes them after the test."""
    memories: list[ProceduralMemory] = []

    def open_one(replies: Any = None, **options: Any) -> ProceduralMemory:
        chat = None if replies is None else ScriptedChat(replies)
        memories.append(ProceduralMemory.open(":memory:", chat=chat, **options))
        return memories[-1]

    yield open_one
    for memory in memories:
        memory.close()


@pytest.fixture
def memory(opened: Opened) -> ProceduralMemory:
    return opened()


def the_procedure(memory: ProceduralMemory) -> Procedure:
    (procedure,) = memory.procedures()
    return procedure


def outcomes(memory: ProceduralMemory, rewards: Iterable[float], task: str = "heat an egg") -> None:
    """Show the procedure of a task in an episode of another task for each reward."""
    for number, reward in enumerate(rewards):
        memory.update([trajectory(f"another task {number}", "", reward, shown=[id_of(task)])])


# Policies


@pytest.mark.parametrize(
    ("policy", "adds"),
    [("vanilla", [True, True]), ("validation", [False, True]), ("reflection", [False, True])],
)
def test_a_policy_adds_what_it_should(opened: Opened, policy: str, adds: list[bool]) -> None:
    memory = opened([], update=policy)
    result = memory.update([trajectory("cool a mug", reward=0.9), trajectory("heat an egg", reward=1.0)])

    assert [
        id_of(task) in {change.id for change in result.added} for task in ("cool a mug", "heat an egg")
    ] == adds
    assert memory.stats().procedures == sum(adds)


def test_what_is_added_says_why(memory: ProceduralMemory) -> None:
    (change,) = memory.update([trajectory()]).added

    assert (change.id, change.task, change.reason) == (
        id_of("heat an egg"),
        "heat an egg",
        "reward 1 in 2 steps",
    )
    assert memory.history(change.id)[0].reason == change.reason


@pytest.mark.parametrize("policy", ["validation", "reflection"])
def test_a_failure_is_skipped_with_the_reason(opened: Opened, policy: str) -> None:
    (change,) = opened([], update=policy).update([trajectory(reward=0.5)]).skipped

    assert (change.id, change.task) == (id_of("heat an egg"), "heat an egg")
    assert "reward 0.5 is no success" in change.reason
    assert policy in change.reason


@pytest.mark.parametrize("policy", POLICIES)
def test_an_episode_without_steps_is_never_learned_from(opened: Opened, policy: str) -> None:
    (change,) = opened([], update=policy).update([trajectory(actions="")]).skipped

    assert change.reason == "it has no steps"


def test_success_begins_at_success_at(opened: Opened) -> None:
    memory = opened(success_at=0.5)

    assert len(memory.update([trajectory("a", reward=0.5), trajectory("b", reward=0.49)]).added) == 1


def test_an_update_without_trajectories_changes_nothing(memory: ProceduralMemory) -> None:
    before = memory.digest()

    assert not any(memory.update([]).model_dump().values())
    assert memory.digest() == before


def test_an_update_takes_any_iterable(memory: ProceduralMemory) -> None:
    assert len(memory.update(trajectory(task) for task in TWO_PROCEDURES).added) == 2


def test_something_else_than_trajectories_is_refused(memory: ProceduralMemory) -> None:
    wrong: Any = trajectory()
    with pytest.raises(InputError, match="update takes trajectories"):
        memory.update(wrong)
    with pytest.raises(InputError, match="update takes trajectories"):
        memory.update([trajectory(), {"task": "heat an egg"}])  # type: ignore[list-item]
    assert memory.stats().procedures == 0


def test_an_iterable_that_fails_changes_nothing(memory: ProceduralMemory) -> None:
    def broken() -> Iterator[Trajectory]:
        yield trajectory()
        raise ValueError("line 2")

    with pytest.raises(ValueError, match="line 2"):
        memory.update(broken())
    assert memory.stats().procedures == 0


# Granularities


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_a_granularity_keeps_the_trajectory_the_script_or_both(opened: Opened, granularity: str) -> None:
    memory = opened([SCRIPT], build=granularity)
    memory.update([trajectory()])
    built = the_procedure(memory)

    assert (built.trajectory is not None) == (granularity != "script")
    assert (built.script is not None) == (granularity != "trajectory")
    assert built.provenance.granularity == granularity
    assert built.provenance.model == ("" if granularity == "trajectory" else "scripted")
    assert built.provenance.prompts == ({} if granularity == "trajectory" else {"distil": 1})


def test_a_script_is_what_the_model_wrote(opened: Opened) -> None:
    memory = opened([SCRIPT], build="script")
    memory.update([trajectory()])

    script = the_procedure(memory).script
    assert script is not None
    assert (script.goal, script.steps) == ("heat things", ("open the {oven}", "pay $5"))


def test_a_procedure_does_not_say_which_episode_it_is_of(memory: ProceduralMemory) -> None:
    memory.update([trajectory(episode_id="e", shown=["x"])])
    kept = the_procedure(memory).trajectory

    assert kept is not None
    assert (kept.episode_id, kept.shown) == ("", ())


# Two trajectories of one task


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (trajectory(reward=0.5), trajectory(reward=1.0)),
        (trajectory(actions="a, b, c"), trajectory(actions="a, b")),
    ],
    ids=["more reward", "fewer steps"],
)
def test_the_better_of_two_of_one_task_replaces_as_a_new_revision(
    opened: Opened, first: Trajectory, second: Trajectory
) -> None:
    memory = opened(update="vanilla")
    memory.update([first])
    (change,) = memory.update([second]).revised

    assert the_procedure(memory).trajectory == second
    assert [entry.procedure.trajectory for entry in memory.history(change.id)] == [first, second]


@pytest.mark.parametrize(
    "second",
    [
        trajectory(),
        trajectory(actions="x, y"),
        trajectory(actions="a, b, c"),
        trajectory(reward=0.9),
        trajectory("heat  an\n egg "),
    ],
    ids=["the same", "as good", "more steps", "less reward", "other white space"],
)
def test_one_that_is_no_better_does_not_duplicate(opened: Opened, second: Trajectory) -> None:
    memory = opened(update="vanilla")
    memory.update([trajectory()])
    before = memory.digest()
    result = memory.update([second])

    assert [change.reason for change in result.skipped] == ["the memory has one as good of the same task"]
    assert memory.digest() == before


@pytest.mark.parametrize("best", [0, 1, 2])
def test_of_one_task_in_one_batch_only_the_best_is_stored(opened: Opened, best: int) -> None:
    memory = opened(update="vanilla")
    batch = [trajectory(actions="a, b, c"), trajectory(reward=0.5), trajectory(actions="a, b, c, d")]
    batch[best] = trajectory(actions="a")
    result = memory.update(batch)

    assert (len(result.added), len(result.revised), len(result.skipped)) == (1, 0, 2)
    assert {change.reason for change in result.skipped} == {"this update has one as good of the same task"}
    assert the_procedure(memory).trajectory == batch[best]
    assert memory.stats().revisions == 1


def test_of_two_equals_in_one_batch_the_first_is_stored(memory: ProceduralMemory) -> None:
    memory.update([trajectory(actions="a"), trajectory(actions="b")])

    assert the_procedure(memory).trajectory == trajectory(actions="a")


def test_tasks_of_one_text_are_told_apart_by_their_ids(memory: ProceduralMemory) -> None:
    memory.update([trajectory(task_id="kitchen-1"), trajectory(task_id="kitchen-2"), trajectory()])

    assert [listed.source for listed in memory.procedures()] == ["kitchen-1", "kitchen-2", "heat an egg"]


def test_a_better_trajectory_keeps_usage(memory: ProceduralMemory) -> None:
    memory.update([trajectory(actions="a, b")])
    outcomes(memory, [1.0])
    memory.update([trajectory(actions="a")])

    assert the_procedure(memory).usage == Usage(uses=1, successes=1)


# Credit and retirement


def test_each_procedure_that_was_shown_is_credited_once(memory: ProceduralMemory) -> None:
    heat, cool = map(id_of, TWO_PROCEDURES)
    memory.update([trajectory(task) for task in TWO_PROCEDURES])
    memory.update([trajectory("boil an egg", shown=[heat, cool, heat])])
    memory.update([trajectory("fry an egg", reward=0.2, shown=[heat, "nobody"])])

    assert memory.get(heat).usage == Usage(uses=2, successes=1)
    assert memory.get(cool).usage == Usage(uses=1, successes=1)


def test_an_update_that_is_tried_again_credits_nothing_twice(memory: ProceduralMemory) -> None:
    memory.update([trajectory()])
    again = trajectory("boil an egg", shown=[id_of("heat an egg")], episode_id="e")
    memory.update([again, again])
    memory.update([again])

    assert memory.get(id_of("heat an egg")).usage == Usage(uses=1, successes=1)


def test_episodes_without_an_id_are_different_episodes(memory: ProceduralMemory) -> None:
    memory.update([trajectory()])
    again = trajectory("boil an egg", shown=[id_of("heat an egg")])
    memory.update([again])
    memory.update([again])

    assert memory.get(id_of("heat an egg")).usage.uses == 2


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_credits(opened: Opened, policy: str) -> None:
    memory = opened(lambda _: BETTER, update=policy)
    memory.update([trajectory()])
    outcomes(memory, [0.0, 1.0])

    assert memory.get(id_of("heat an egg")).usage == Usage(uses=2, successes=1)


@pytest.mark.parametrize("successes", range(5))
def test_a_procedure_is_retired_exactly_when_its_smoothed_success_is_too_low(
    memory: ProceduralMemory, successes: int
) -> None:
    memory.update([trajectory()])
    outcomes(memory, [1.0] * successes)
    uses = successes
    while True:
        uses += 1
        (change, *_) = [*memory.update([_failure(uses)]).retired, None]
        too_low = uses >= RETIRE_AFTER and (successes + 1) / (uses + 2) < RETIRE_BELOW
        assert (change is not None) == too_low
        if change is not None:
            break

    assert (change.id, change.reason) == (id_of("heat an egg"), f"helped in {successes} of {uses} episodes")
    assert [stone.reason for stone in memory.tombstones()] == [change.reason]
    assert memory.retrieve("heat an egg") == []
    with pytest.raises(NotFound, match=rf"was retired: helped in {successes} of {uses}"):
        memory.get(change.id)


def _failure(number: int) -> Trajectory:
    return trajectory(f"fail {number}", "a", 0.0, shown=[id_of("heat an egg")])


def test_failures_in_one_batch_retire_as_well(memory: ProceduralMemory) -> None:
    memory.update([trajectory()])

    assert len(memory.update(map(_failure, range(2))).retired) == 0
    assert len(memory.update(map(_failure, range(2, 5))).retired) == 1


@pytest.fixture
def retired(memory: ProceduralMemory) -> ProceduralMemory:
    """A memory whose one procedure was retired."""
    memory.update([trajectory()])
    outcomes(memory, [0.0] * 3)
    assert memory.stats().retired == 1
    return memory


def test_what_was_retired_is_not_built_again(retired: ProceduralMemory) -> None:
    result = retired.update([trajectory()])

    assert [change.reason for change in result.skipped] == [
        "the procedure of this task was retired: helped in 0 of 3 episodes"
    ]
    assert retired.stats().procedures == 0


def test_another_success_of_the_task_is_built_after_a_retirement(retired: ProceduralMemory) -> None:
    (change,) = retired.update([trajectory(actions="find oven, open oven, put egg")]).revised

    assert change.id == id_of("heat an egg")
    assert the_procedure(retired).usage == Usage()
    assert len(retired.history(change.id)) == 2
    assert retired.retrieve("heat an egg")[0].procedure.id == change.id


def test_no_revision_that_was_tried_is_built_after_a_retirement(opened: Opened) -> None:
    memory = opened()
    memory.update([trajectory(actions="a, b, c")])
    memory.update([trajectory(actions="a, b")])
    outcomes(memory, [0.0] * 3)

    assert len(memory.update([trajectory(actions="a, b, c")]).skipped) == 1
    assert len(memory.update([trajectory(actions="a, b")]).skipped) == 1
    assert memory.stats().procedures == 0


def test_a_worse_trajectory_is_not_built_after_a_retirement(opened: Opened) -> None:
    memory = opened(update="vanilla")
    memory.update([trajectory()])
    outcomes(memory, [0.0] * 3)

    assert len(memory.update([trajectory(actions="x", reward=0.5)]).skipped) == 1


def test_a_script_alone_knows_its_episode_by_reward_and_length(opened: Opened) -> None:
    memory = opened(lambda _: SCRIPT, build="script")
    memory.update([trajectory()])
    outcomes(memory, [0.0] * 3)

    assert len(memory.update([trajectory()]).skipped) == 1
    assert len(memory.update([trajectory(actions="a, b, c")]).revised) == 1


# Reflection


def test_a_failure_revises_the_procedure_that_was_shown(opened: Opened) -> None:
    memory = opened([BETTER], update="reflection")
    memory.update([trajectory()])
    (change,) = memory.update([_failure(1)]).revised

    revised = memory.get(id_of("heat an egg"))
    assert change.id == revised.id
    assert "'fail 1'" in change.reason
    assert revised.script is not None
    assert revised.script.steps == ("look for the oven", "open it")
    assert revised.trajectory == trajectory()
    assert (revised.revision, revised.usage.uses) == (2, 1)
    assert revised.provenance.prompts == {"reflect": 1}
    assert revised.provenance.model == "scripted"


def test_reflection_keeps_the_history(opened: Opened) -> None:
    memory = opened([SCRIPT, BETTER], update="reflection", build="proceduralization")
    memory.update([trajectory()])
    memory.update([_failure(1)])

    goals = [
        entry.procedure.script and entry.procedure.script.goal
        for entry in memory.history(id_of("heat an egg"))
    ]
    assert goals == ["heat things", "heat things well"]


def test_reflection_is_told_of_procedure_task_and_failure(opened: Opened) -> None:
    prompts: list[str] = []

    def reply(messages: Sequence[Message]) -> str:
        prompts.append(messages[-1]["content"])
        return BETTER

    memory = opened(reply, update="reflection")
    memory.update([trajectory()])
    memory.update([trajectory("warm a $mug {now}", "go north", 0.25, shown=[id_of("heat an egg")])])

    for part in ("heat an egg", "> open oven", "warm a $mug {now}", "> go north", "you go north", "0.25"):
        assert part in prompts[0]


def test_a_success_is_not_reflected_on(opened: Opened) -> None:
    memory = opened([], update="reflection")
    memory.update([trajectory()])
    result = memory.update([trajectory("boil an egg", shown=[id_of("heat an egg")])])

    assert (len(result.added), len(result.revised)) == (1, 0)


def test_a_failure_that_was_shown_nothing_is_not_reflected_on(opened: Opened) -> None:
    assert opened([], update="reflection").update([trajectory(reward=0.0)]).revised == ()


def test_every_procedure_that_was_shown_is_revised_once(opened: Opened) -> None:
    memory = opened([BETTER, BETTER], update="reflection")
    memory.update([trajectory(task) for task in TWO_PROCEDURES])
    shown = [id_of(task) for task in (*TWO_PROCEDURES, *TWO_PROCEDURES)]
    result = memory.update(
        [trajectory("fail 1", "a", 0.0, shown=shown), trajectory("fail 2", "a", 0.0, shown=shown)]
    )

    assert sorted(change.id for change in result.revised) == sorted(set(shown))
    assert memory.stats().revisions == 4


def test_an_update_that_is_tried_again_reflects_on_nothing_twice(opened: Opened) -> None:
    memory = opened(lambda _: BETTER, update="reflection")
    memory.update([trajectory()])
    failure = trajectory("fail", "a", 0.0, shown=[id_of("heat an egg")], episode_id="e")
    assert len(memory.update([failure]).revised) == 1
    result = memory.update([failure])

    assert "not revised: this episode was counted before" in [change.reason for change in result.skipped]
    assert len(memory.history(id_of("heat an egg"))) == 2


def test_what_this_update_retires_is_not_revised(opened: Opened) -> None:
    memory = opened(lambda _: BETTER, update="reflection")
    memory.update([trajectory()])
    memory.update([_failure(1)])
    memory.update([_failure(2)])
    result = memory.update([_failure(3)])

    assert (len(result.retired), len(result.revised)) == (1, 0)
    assert "not revised: retired" in [change.reason for change in result.skipped]


def test_a_reflection_on_what_was_replaced_meanwhile_is_skipped(opened: Opened) -> None:
    memory = opened([BETTER], update="reflection")
    memory.update([trajectory(actions="a, b, c")])
    result = memory.update([_failure(1), trajectory(actions="a, b")])

    assert [change.reason for change in result.revised] == ["reward 1 in 2 steps"]
    assert "not revised: changed meanwhile" in [change.reason for change in result.skipped]
    assert the_procedure(memory).trajectory == trajectory(actions="a, b")


# Rollback


def test_rollback_appends_the_earlier_revision(opened: Opened) -> None:
    memory = opened([BETTER], update="reflection")
    memory.update([trajectory()])
    memory.update([_failure(1)])

    restored = memory.rollback(id_of("heat an egg"), 1)

    assert (restored.revision, restored.script) == (3, None)
    assert memory.get(restored.id) == restored
    assert [entry.reason for entry in memory.history(restored.id)][-1] == "rolled back to revision 1"
    assert memory.retrieve("heat an egg")[0].procedure == restored


def test_rollback_brings_back_what_was_retired(retired: ProceduralMemory) -> None:
    restored = retired.rollback(id_of("heat an egg"), 1)

    assert restored.usage == Usage()
    assert [match.procedure for match in retired.retrieve("heat an egg")] == [restored]
    assert len(retired.tombstones()) == 1


def test_rollback_and_history_name_what_there_is_not(memory: ProceduralMemory) -> None:
    memory.update([trajectory()])
    with pytest.raises(NotFound, match="'nobody' does not exist"):
        memory.history("nobody")
    with pytest.raises(NotFound, match="'nobody' does not exist"):
        memory.rollback("nobody", 1)
    with pytest.raises(NotFound, match="'nobody' does not exist"):
        memory.get("nobody")
    with pytest.raises(NotFound, match="has no revision 2"):
        memory.rollback(id_of("heat an egg"), 2)
    assert memory.stats().revisions == 1


# Quarantine


@pytest.mark.parametrize(
    "reply",
    ["I would rather not." + " no" * 500, ModelError("the server is down")],
    ids=["not in the form", "no answer"],
)
def test_what_could_not_be_built_goes_to_quarantine_and_is_built_later(
    opened: Opened, reply: str | Exception
) -> None:
    memory = opened([reply, SCRIPT], build="script")
    result = memory.update([trajectory()])
    (item,) = memory.quarantine()

    assert (result.added, memory.stats().procedures) == ((), 0)
    assert item.kind == "build"
    assert item.id in result.skipped[0].reason
    if isinstance(reply, str):
        assert item.payload["reply"] == reply
    else:
        assert str(reply) in item.reason

    assert len(memory.retry().added) == 1
    assert memory.quarantine() == []
    assert the_procedure(memory).length == 2


def test_one_bad_reply_does_not_hold_back_the_others(opened: Opened) -> None:
    memory = opened([SCRIPT, "no", SCRIPT], build="script")
    memory.update([trajectory(task) for task in ("a", "b", "c")])

    assert [listed.task for listed in memory.procedures()] == ["a", "c"]
    assert len(memory.quarantine()) == 1


def test_what_fails_again_stays_in_quarantine(opened: Opened) -> None:
    memory = opened(["no", "no again", SCRIPT], build="script")
    memory.update([trajectory()])
    memory.retry()
    (item,) = memory.quarantine()

    assert item.payload["reply"] == "no again"
    assert len(memory.retry(item.id).added) == 1


@pytest.mark.parametrize("episode_id", ["", "e"])
def test_trying_again_never_credits_twice(opened: Opened, episode_id: str) -> None:
    memory = opened([SCRIPT, "no", "no", SCRIPT], build="script")
    memory.update([trajectory()])
    memory.update([trajectory("boil an egg", shown=[id_of("heat an egg")], episode_id=episode_id)])
    memory.retry()
    memory.retry()

    assert memory.stats().procedures == 2
    assert memory.get(id_of("heat an egg")).usage == Usage(uses=1, successes=1)


def test_a_reflection_that_failed_is_tried_again_for_its_procedure_alone(opened: Opened) -> None:
    memory = opened([BETTER, "no", BETTER], update="reflection")
    memory.update([trajectory(task) for task in TWO_PROCEDURES])
    memory.update([trajectory("fail", "a", 0.0, shown=[id_of(task) for task in TWO_PROCEDURES])])
    (item,) = memory.quarantine()
    assert (item.kind, item.payload["reply"]) == ("reflect", "no")

    result = memory.retry()

    assert [change.id for change in result.revised] == [id_of("cool a mug")]
    assert memory.quarantine() == []
    assert [listed.usage.uses for listed in memory.procedures()] == [1, 1]


def test_a_reflection_waits_for_a_memory_that_reflects(opened: Opened) -> None:
    memory = opened(["no"], update="reflection")
    memory.update([trajectory()])
    memory.update([_failure(1)])
    (item,) = memory.quarantine()

    later = ProceduralMemory.open(memory.store, update="validation")
    later.retry()
    assert later.quarantine() == [item]
    with pytest.raises(InputError, match="update='reflection'"):
        later.retry(item.id)
    assert later.quarantine() == [item]


def test_retry_names_what_is_not_in_quarantine(opened: Opened) -> None:
    memory = opened(["no", SCRIPT], build="script")
    memory.update([trajectory()])
    with pytest.raises(NotFound, match="'nobody' is not in quarantine"):
        memory.retry(memory.quarantine()[0].id, "nobody")
    assert len(memory.quarantine()) == 1


def test_retry_of_an_empty_quarantine_does_nothing(memory: ProceduralMemory) -> None:
    assert not any(memory.retry().model_dump().values())


def test_an_unfinished_episode_is_kept_and_waits_for_its_reward(memory: ProceduralMemory) -> None:
    memory.update([trajectory()])
    begun = trajectory("boil an egg", shown=[id_of("heat an egg")], finished=False)
    result = memory.update([begun])
    (item,) = memory.quarantine()

    assert (item.kind, Trajectory.model_validate(item.payload["trajectory"])) == ("unfinished", begun)
    assert item.id in result.skipped[0].reason
    assert memory.get(id_of("heat an egg")).usage.uses == 0
    assert (memory.stats().unfinished, memory.stats().procedures) == (1, 1)

    memory.retry()
    assert memory.quarantine() == [item]
    for wrong in (None, 1.5, -0.1, float("nan")):
        with pytest.raises(InputError, match="reward= from 0 to 1"):
            memory.retry(item.id, reward=wrong)
    assert memory.quarantine() == [item]

    assert len(memory.retry(item.id, reward=1.0).added) == 1
    assert memory.quarantine() == []
    assert memory.get(id_of("heat an egg")).usage == Usage(uses=1, successes=1)


def test_retry_leaves_the_quarantine_alone_where_it_cannot_write(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = opened(["no", SCRIPT], build="script")
    memory.update([trajectory()])
    held = memory.quarantine()

    def broken(item_id: str) -> None:
        raise OSError(item_id)

    with monkeypatch.context() as patched:
        patched.setattr(memory.store, "release", broken)
        with pytest.raises(OSError, match=held[0].id):
            memory.retry()

    assert memory.quarantine() == held
    assert memory.stats().procedures == 0


# Several at once


def test_concurrency_changes_nothing_but_the_time(opened: Opened) -> None:
    def reply(messages: Sequence[Message]) -> str:
        prompt = messages[-1]["content"]
        if "task 3" in prompt:
            raise ModelError("the server is down")
        return f"Goal: goal of {len(prompt)}\n1. {prompt.splitlines()[2]}"

    def learn(concurrency: int) -> tuple[Any, ...]:
        memory = opened(reply, build="proceduralization", update="reflection", concurrency=concurrency)
        results = [
            memory.update([trajectory(f"task {number}") for number in range(9)]),
            memory.update([trajectory(f"fail {n}", "a", 0.0, shown=[id_of(f"task {n}")]) for n in range(9)]),
        ]
        changes = [
            (name, [(change.id, change.task) for change in found])
            for result in results
            for name, found in result
        ]
        return changes, memory.digest(), memory.stats(), [item.reason for item in memory.quarantine()]

    assert learn(1) == learn(4)


def test_a_better_one_that_another_process_wrote_meanwhile_stays(
    opened: Opened,
) -> None:
    memory: ProceduralMemory

    def reply(_: Sequence[Message]) -> str:
        ProceduralMemory.open(memory.store).update([trajectory(actions="a")])
        return SCRIPT

    memory = opened(reply, build="proceduralization")
    result = memory.update([trajectory(actions="a, b")])

    assert [change.reason for change in result.skipped] == ["the memory has one as good of the same task"]
    assert the_procedure(memory).trajectory == trajectory(actions="a")


def test_what_another_process_retired_meanwhile_stays_retired(opened: Opened) -> None:
    memory: ProceduralMemory

    def reply(_: Sequence[Message]) -> str:
        other = ProceduralMemory.open(memory.store)
        other.update([trajectory()])
        outcomes(other, [0.0] * 3)
        return SCRIPT

    memory = opened(reply, build="proceduralization")
    result = memory.update([trajectory()])

    assert ["was retired" in change.reason for change in result.skipped] == [True]
    assert memory.stats().procedures == 0


def test_an_update_is_one_transaction(memory: ProceduralMemory, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[bool] = []
    real = memory.store.transaction

    def counted() -> AbstractContextManager[None]:
        connection: Any = memory.store
        begun.append(not connection._connection.in_transaction)
        return real()

    monkeypatch.setattr(memory.store, "transaction", counted)
    memory.update([trajectory(f"task {number}") for number in range(5)] + [trajectory("x", finished=False)])

    assert begun.count(True) == 1
