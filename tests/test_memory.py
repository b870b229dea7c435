"""The memory as a whole: how it is opened, what it finds, and that vector spaces never mix."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memp import keywords, reembed
from memp.chat import Message, ScriptedChat
from memp.embedding import Embedder, FloatMatrix, HashEmbedder, Role
from memp.errors import InputError, ModelError, NotFound, SpaceMismatch, StoreError
from memp.keys import BATCH
from memp.memory import ProceduralMemory
from memp.procedure import Usage
from memp.retrieve import KEYS
from memp.store import SQLiteStore
from tests.factories import SCRIPT, id_of, trajectory

TASKS = ("heat an egg", "heat a potato", "cool a mug", "unlock the door")


class FailingEmbedder:
    """A hash embedder that fails from a given call on, or always on a given text."""

    def __init__(self, good_calls: int = 0, name: str = "", never: str = "") -> None:
        self._inner = HashEmbedder(64)
        self._left = good_calls
        self._never = never
        self.name = name or self._inner.name

    def embed(self, texts: Sequence[str], role: Role = "key") -> FloatMatrix:
        if self._left == 0 or self._never in texts:
            raise ModelError("the embedder is down")
        self._left -= 1
        return self._inner.embed(texts, role)


class WrongEmbedder:
    """Answers with whatever it is given."""

    name = "wrong:1"

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def embed(self, texts: Sequence[str], role: Role = "key") -> FloatMatrix:
        return np.asarray(self._answer, dtype=np.float32)


def facts(messages: Sequence[Message]) -> str:
    """Answer as a model that extracts the keywords of a task as its facts."""
    task = messages[-1]["content"].splitlines()[0].removeprefix("Task: ")
    return "\n".join(f"- {fact}" for fact in keywords.keywords(task))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "memory.db"


@pytest.fixture
def memory() -> Iterator[ProceduralMemory]:
    with ProceduralMemory.open(":memory:") as memory:
        memory.update([trajectory(task) for task in TASKS])
        yield memory


def learned(path: Path, tasks: Sequence[str] = TASKS, **options: Any) -> None:
    with ProceduralMemory.open(path, **options) as memory:
        memory.update([trajectory(task) for task in tasks])


def tasks_found(memory: ProceduralMemory, task: str, **options: Any) -> list[str]:
    return [match.procedure.task for match in memory.retrieve(task, **options)]


# Retrieve


def test_retrieve_puts_the_same_task_first(memory: ProceduralMemory) -> None:
    matches = memory.retrieve("heat a potato", k=4)

    assert matches[0].procedure.task == "heat a potato"
    assert matches[0].score == pytest.approx(1)
    assert [match.score for match in matches] == sorted((match.score for match in matches), reverse=True)
    assert all(-1 <= match.score <= 1 for match in matches)


def test_retrieve_returns_five_unless_told(memory: ProceduralMemory) -> None:
    memory.update([trajectory(f"task {number}") for number in range(6)])

    assert len(memory.retrieve("heat an egg")) == 5
    assert len(memory.retrieve("heat an egg", 2)) == 2
    assert len(memory.retrieve("heat an egg", k=100)) == 10


@pytest.mark.parametrize("key", KEYS)
def test_an_empty_memory_finds_nothing(key: Any) -> None:
    with ProceduralMemory.open(":memory:", key=key) as memory:
        assert memory.retrieve("heat an egg") == []


@pytest.mark.parametrize("key", KEYS)
def test_retrieve_passes_over_excluded_tasks(key: Any) -> None:
    with ProceduralMemory.open(":memory:", key=key) as memory:
        memory.update([trajectory(task) for task in TASKS])

        assert sorted(tasks_found(memory, "heat an egg", exclude=["heat an egg"])) == sorted(TASKS[1:])
        assert tasks_found(memory, "heat an egg", exclude=set(TASKS)) == []


def test_a_task_with_an_id_is_excluded_by_it(memory: ProceduralMemory) -> None:
    memory.update([trajectory("fry an egg", task_id="kitchen-7")])

    assert "fry an egg" in tasks_found(memory, "fry an egg", exclude=["fry an egg"])
    assert "fry an egg" not in tasks_found(memory, "fry an egg", exclude=["kitchen-7"])


@pytest.mark.parametrize("key", KEYS)
def test_excluding_a_text_instead_of_a_list_is_refused(key: Any) -> None:
    with (
        ProceduralMemory.open(":memory:", key=key) as memory,
        pytest.raises(InputError, match="give a list of sources"),
    ):
        memory.retrieve("heat an egg", exclude="heat an egg")


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("task", ["", " \n"])
def test_a_blank_task_is_refused(key: Any, task: str) -> None:
    with (
        ProceduralMemory.open(":memory:", key=key) as memory,
        pytest.raises(InputError, match="task is empty"),
    ):
        memory.retrieve(task)


@pytest.mark.parametrize("k", [0, -1])
def test_k_below_one_is_refused(memory: ProceduralMemory, k: int) -> None:
    with pytest.raises(InputError, match=f"k is {k}; ask for at least 1"):
        memory.retrieve("heat an egg", k)


@given(task=st.text(min_size=1))
@settings(max_examples=60, deadline=None)
def test_any_text_can_be_stored_and_found(task: str) -> None:
    with ProceduralMemory.open(":memory:") as memory:
        if not task.strip():
            with pytest.raises(InputError):
                memory.retrieve(task)
            return
        memory.update([trajectory("heat an egg"), trajectory(task)])

        assert memory.retrieve(task)[0].score == pytest.approx(1)
        assert id_of(" ".join(task.split())) in {match.procedure.id for match in memory.retrieve(task)}


def test_random_is_the_same_for_the_same_seed_and_task_and_differs_by_each() -> None:
    def drawn(seed: int, task: str) -> list[str]:
        with ProceduralMemory.open(":memory:", key="random", seed=seed) as memory:
            memory.update([trajectory(f"task {number}") for number in range(30)])
            matches = memory.retrieve(task, k=5)
            assert {match.score for match in matches} == {0.0}
            assert len({match.procedure.id for match in matches}) == 5
            return [match.procedure.id for match in matches]

    assert drawn(1, "heat an egg") == drawn(1, "heat an egg")
    assert drawn(1, "heat an egg") != drawn(2, "heat an egg")
    assert drawn(1, "heat an egg") != drawn(1, "cool a mug")


def test_random_makes_no_keys_and_another_key_makes_them_later(path: Path) -> None:
    learned(path, key="random", embedder=FailingEmbedder(name=HashEmbedder().name))
    with ProceduralMemory.open(path) as memory:
        assert tasks_found(memory, "heat an egg", k=1) == ["heat an egg"]


def test_retrieve_follows_what_another_memory_of_the_same_file_learns(path: Path) -> None:
    with ProceduralMemory.open(path) as one, ProceduralMemory.open(path, key="random") as another:
        assert one.retrieve("heat an egg") == []
        another.update([trajectory("heat an egg")])  # leaves the keys to whoever needs them
        assert tasks_found(one, "heat an egg") == ["heat an egg"]


# Keys of several kinds


def test_one_memory_is_found_by_every_kind_of_key(path: Path) -> None:
    learned(path, key="query")
    ways: list[dict[str, Any]] = [
        {"key": "avefact"},
        {"key": "avefact", "chat": ScriptedChat(facts)},
        {"key": "query"},
    ]
    for options in ways:
        with ProceduralMemory.open(path, **options) as memory:
            assert tasks_found(memory, "unlock that door", k=1) == ["unlock the door"]
            memory.update([trajectory("paint the wall")])
            assert tasks_found(memory, "paint some wall", k=1) == ["paint the wall"]


def test_avefact_compares_facts_and_not_wording() -> None:
    with ProceduralMemory.open(":memory:", key="avefact") as memory:
        memory.update(
            [trajectory("please find some way to put a hot egg in the sink"), trajectory("hot potato")]
        )
        (best, other) = memory.retrieve("hot egg sink")

    assert best.score == pytest.approx(1)
    assert other.score < best.score


def test_facts_of_stored_procedures_are_extracted_once_and_stored(path: Path) -> None:
    chat = ScriptedChat(facts)
    for _ in range(2):
        with ProceduralMemory.open(path, key="avefact", chat=chat) as memory:
            memory.update([trajectory(task) for task in TASKS])
            memory.retrieve("heat an egg")
            memory.retrieve("heat an egg")

    # the second time only the new task's: the memory has one as good of all the others
    assert [call.messages[-1]["content"].splitlines()[0] for call in chat.calls] == [
        f"Task: {task}" for task in (*TASKS, "heat an egg")
    ]


def test_facts_that_cannot_be_extracted_are_set_aside_once_and_tried_again(path: Path) -> None:
    learned(path, TASKS[:2])
    chat = ScriptedChat(["no facts", "- potato", "- egg", "- egg", "- heated"])
    with ProceduralMemory.open(path, key="avefact", chat=chat) as memory:
        assert tasks_found(memory, "fry an egg") == ["heat a potato"]
        (item,) = memory.quarantine()
        assert (item.kind, item.payload) == (
            "facts",
            {"procedure": id_of("heat an egg"), "keys": "avefact/scripted/facts-1", "reply": "no facts"},
        )
        assert tasks_found(memory, "fry an egg") == ["heat a potato"]
        assert memory.quarantine() == [item]
        assert len(chat.calls) == 3

        memory.retry()

        assert memory.quarantine() == []
        assert tasks_found(memory, "fry an egg") == ["heat an egg", "heat a potato"]


def test_a_procedure_whose_facts_cannot_be_extracted_is_stored_all_the_same() -> None:
    chat = ScriptedChat(["no facts", "- mug", "- mug"])
    with ProceduralMemory.open(":memory:", key="avefact", chat=chat) as memory:
        assert len(memory.update([trajectory("heat an egg"), trajectory("cool a mug")]).added) == 2
        assert [item.kind for item in memory.quarantine()] == ["facts"]
        assert tasks_found(memory, "cool a mug") == ["cool a mug"]


def test_what_was_set_aside_for_one_kind_of_key_is_found_by_the_others(path: Path) -> None:
    learned(path, TASKS[:1], key="avefact", chat=ScriptedChat(["no facts"]))
    for options in ({"key": "query"}, {"key": "avefact"}):
        with ProceduralMemory.open(path, **options) as memory:  # type: ignore[arg-type]
            assert tasks_found(memory, "heat an egg") == ["heat an egg"]
            assert len(memory.quarantine()) == 1


def test_nothing_is_set_aside_for_what_is_not_stored() -> None:
    memory: ProceduralMemory

    def reply(messages: Sequence[Message]) -> str:
        if "facts" in messages[-1]["content"]:
            return "no such thing"
        ProceduralMemory.open(memory.store).update([trajectory(actions="a")])  # another process is faster
        return SCRIPT

    chat = ScriptedChat(reply)
    with ProceduralMemory.open(":memory:", key="avefact", build="script", chat=chat) as memory:
        assert memory.update([trajectory()]).added == ()
        assert memory.quarantine() == []


def test_an_outage_while_facts_are_extracted_passes_without_a_trace() -> None:
    chat = ScriptedChat([ModelError("down"), ModelError("down"), "- egg", "- egg"])
    with ProceduralMemory.open(":memory:", key="avefact", chat=chat) as memory:
        assert len(memory.update([trajectory("heat an egg")]).added) == 1
        with pytest.raises(ModelError, match="down"):
            memory.retrieve("boil an egg")
        assert memory.quarantine() == []
        assert tasks_found(memory, "boil an egg") == ["heat an egg"]


def test_threads_extract_the_facts_of_a_procedure_once(path: Path) -> None:
    learned(path, TASKS)
    chat = ScriptedChat(lambda _: "- egg")
    with ProceduralMemory.open(path, key="avefact", chat=chat) as memory, ThreadPoolExecutor(4) as pool:
        list(pool.map(memory.retrieve, ["egg"] * 4))
    asked = [call.messages[-1]["content"].splitlines()[0] for call in chat.calls]
    assert sorted(set(asked) - {"Task: egg"}) == sorted(f"Task: {task}" for task in TASKS)
    assert len([task for task in asked if task != "Task: egg"]) == len(TASKS)


def test_facts_of_stored_procedures_are_extracted_side_by_side(path: Path) -> None:
    learned(path, TASKS)
    together = threading.Barrier(
        len(TASKS), timeout=10
    )  # breaks, and the test with it, where calls come one by one

    def reply(messages: Sequence[Message]) -> str:
        if "Task: egg" not in messages[-1]["content"]:
            together.wait()
        return facts(messages)

    with ProceduralMemory.open(
        path, key="avefact", chat=ScriptedChat(reply), concurrency=len(TASKS)
    ) as memory:
        assert tasks_found(memory, "egg", k=1) == ["heat an egg"]


def test_an_outage_is_not_asked_through_to_its_end(path: Path) -> None:
    learned(path, [f"task {number}" for number in range(40)])
    chat = ScriptedChat([ModelError("down")] * 100)
    with ProceduralMemory.open(path, key="avefact", chat=chat, concurrency=2) as memory:
        with pytest.raises(ModelError, match="down"):
            memory.retrieve("egg")
        assert memory.quarantine() == []
    assert len(chat.calls) < 40


def test_retry_keeps_what_this_memory_can_make_no_use_of(path: Path) -> None:
    bad = ScriptedChat(["no script"])
    with ProceduralMemory.open(path, build="script", update="vanilla", chat=bad) as memory:
        memory.update([trajectory(reward=0.4)])
    with ProceduralMemory.open(path) as memory:
        memory.retry()
        (item,) = memory.quarantine()
        with pytest.raises(InputError, match="is no success"):
            memory.retry(item.id)


def test_retrieve_says_when_the_facts_of_the_new_task_cannot_be_had() -> None:
    with (
        ProceduralMemory.open(":memory:", key="avefact", chat=ScriptedChat(["none"])) as memory,
        pytest.raises(ModelError, match="a list of facts"),
    ):
        memory.retrieve("heat an egg")


def test_more_procedures_than_one_batch_get_their_keys(path: Path) -> None:
    tasks = [f"task {number}" for number in range(BATCH + 5)]
    learned(path, tasks, key="random")
    with ProceduralMemory.open(path) as memory:
        assert len(memory.retrieve("task 1", k=1000)) == len(tasks)


def test_keys_are_made_for_the_task_as_it_is_when_they_are_written(path: Path) -> None:
    """Between reading the procedures and writing their keys, another process retires one and rewords one."""
    first, second = trajectory(task_id="a"), trajectory("cool a mug", "a, b", task_id="b")
    learned_by = ProceduralMemory.open(path, key="random")
    learned_by.update([first, second])

    class Interrupted(HashEmbedder):
        def embed(self, texts: Sequence[str], role: Role = "key") -> FloatMatrix:
            if role == "key" and learned_by.stats().retired == 0:
                for _ in range(3):
                    learned_by.update([trajectory("fail", "", 0.0, shown=[id_of("a")])])
                learned_by.update([trajectory("chill a mug", "a", task_id="b")])
            return super().embed(texts, role)

    with ProceduralMemory.open(path, embedder=Interrupted()) as memory:
        memory.retrieve("heat an egg")
        (match,) = memory.retrieve("chill a mug")
        assert match.score == pytest.approx(1)
    learned_by.close()


# Opening


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"build": "scripts"}, r"unknown build 'scripts'. Did you mean 'script'\? Known: trajectory, script"),
        ({"key": "averfact"}, r"unknown key 'averfact'. Did you mean 'avefact'\?"),
        ({"update": "validate"}, r"unknown update 'validate'. Did you mean 'validation'\?"),
        ({"embedder": "hush"}, r"unknown embedder 'hush'. Did you mean 'hash'\?"),
        ({"embedder": ""}, "unknown embedder ''"),
        ({"chat": "opena:gpt-4o"}, r"unknown chat model provider 'opena'. Did you mean 'openai'\?"),
        ({"chat": "gpt-4o"}, "provider:model"),
        (
            {"build": "script"},
            "build='script' needs a chat model: pass chat='openai:<model>', or build='trajectory'",
        ),
        ({"build": "proceduralization"}, "needs a chat model"),
        (
            {"update": "reflection"},
            "update='reflection' needs a chat model: pass chat=.*, or update='validation'",
        ),
        ({"success_at": 0}, "success_at is 0"),
        ({"success_at": float("nan")}, "success_at is nan"),
        ({"concurrency": 0}, "concurrency is 0"),
    ],
    ids=str,
)
def test_what_is_wrong_is_said_at_open_and_makes_no_file(path: Path, options: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        ProceduralMemory.open(path, **options)
    assert list(path.parent.iterdir()) == []


def test_a_memory_that_must_exist_is_not_made(path: Path) -> None:
    with pytest.raises(StoreError, match="there is no memory"):
        ProceduralMemory.open(path, create=False)
    assert not path.exists()


def test_without_a_chat_model_trajectories_are_built_validated_and_found_by_query(path: Path) -> None:
    with ProceduralMemory.open(path) as memory:
        assert memory.describe() == {
            "embedder": HashEmbedder().name,
            "build": "trajectory",
            "key": "query",
            "facts": f"keywords-{keywords.VERSION}",
            "update": "validation",
        }


def test_a_reopened_memory_holds_what_it_held(path: Path) -> None:
    learned(path)
    with ProceduralMemory.open(path) as memory:
        assert [listed.task for listed in memory.procedures()] == list(TASKS)
        assert tasks_found(memory, "cool a mug", k=1) == ["cool a mug"]


def test_the_embedder_of_a_reopened_memory_is_the_one_it_was_made_with(path: Path) -> None:
    learned(path, embedder=HashEmbedder(64))
    with ProceduralMemory.open(path) as memory:
        assert memory.describe()["embedder"] == HashEmbedder(64).name
        assert tasks_found(memory, "cool a mug", k=1) == ["cool a mug"]


def test_another_embedder_is_refused_with_the_command_that_reembeds(path: Path) -> None:
    learned(path)
    with pytest.raises(SpaceMismatch, match=rf"memp reembed {path} --embedder NAME") as raised:
        ProceduralMemory.open(path, embedder=HashEmbedder(64))

    assert HashEmbedder().name in str(raised.value)
    assert HashEmbedder(64).name in str(raised.value)
    learned(path, ["paint the wall"])  # the file was left closed and whole


def test_an_embedder_nobody_can_name_must_be_given_again(path: Path) -> None:
    learned(path, embedder=FailingEmbedder(99, name="mine:1"))
    with ProceduralMemory.open(path) as memory:
        assert memory.stats().procedures == len(TASKS)  # looking needs no embedder
        with pytest.raises(InputError, match=r"'mine:1'.*memp reembed"):
            memory.retrieve("cool a mug")
    with ProceduralMemory.open(path, embedder=FailingEmbedder(99, name="mine:1")) as memory:
        assert tasks_found(memory, "cool a mug", k=1) == ["cool a mug"]


# Embedders that fail


def test_an_embedder_that_fails_leaves_the_memory_as_it_was(path: Path) -> None:
    learned(path, embedder=HashEmbedder(64))
    episode = trajectory("boil an egg", shown=[id_of("heat an egg")], episode_id="e")
    with ProceduralMemory.open(path, embedder=FailingEmbedder()) as memory:
        before, version = memory.digest(), memory.store.version
        with pytest.raises(ModelError, match="the embedder is down"):
            memory.update([episode])
        assert (memory.digest(), memory.store.version) == (before, version)
        with pytest.raises(ModelError, match="the embedder is down"):
            memory.retrieve("heat an egg")

    with ProceduralMemory.open(path) as memory:
        assert len(memory.update([episode]).added) == 1
        assert memory.get(id_of("heat an egg")).usage == Usage(uses=1, successes=1)


@pytest.mark.parametrize(
    "answer", [[[1, 1]], [[1, 0], [0, 1]], [1, 0], [[float("nan"), 0]]], ids=["long", "two", "flat", "nan"]
)
def test_vectors_that_are_none_are_never_stored(answer: Any) -> None:
    with ProceduralMemory.open(":memory:", embedder=WrongEmbedder(answer)) as memory:
        for use in (lambda: memory.update([trajectory()]), lambda: memory.retrieve("heat an egg")):
            with pytest.raises(ModelError, match="wrong:1 returned"):
                use()
        assert memory.stats().procedures == 0


# Reembed


def test_reembed_makes_all_vectors_anew(path: Path) -> None:
    learned(path)

    assert reembed(path, HashEmbedder(64)) == len(TASKS)

    with ProceduralMemory.open(path) as memory:
        assert memory.describe()["embedder"] == HashEmbedder(64).name
        assert [tasks_found(memory, task, k=1) for task in TASKS] == [[task] for task in TASKS]
        memory.update([trajectory("paint the wall")])
        assert tasks_found(memory, "paint the wall", k=1) == ["paint the wall"]


def test_reembed_takes_a_name(path: Path) -> None:
    learned(path, embedder=HashEmbedder(64))

    assert reembed(path, "hash") == len(TASKS)
    learned(path, ["paint the wall"], embedder="hash")


def test_reembed_keeps_facts_that_a_model_extracted(path: Path) -> None:
    chat = ScriptedChat(facts)
    learned(path, key="avefact", chat=chat)
    reembed(path, HashEmbedder(64))
    asked = len(chat.calls)

    with ProceduralMemory.open(path, key="avefact", chat=chat) as memory:
        assert tasks_found(memory, "unlock that door", k=1) == ["unlock the door"]
    assert len(chat.calls) == asked + 1


@pytest.mark.parametrize("embedder", [FailingEmbedder(name="bad:1"), FailingEmbedder(1, name="bad:1")])
def test_an_embedder_that_fails_to_reembed_leaves_the_memory_as_it_was(
    path: Path, embedder: Embedder
) -> None:
    learned(path, [*TASKS, *(f"task {number}" for number in range(BATCH))])
    with pytest.raises(ModelError, match="the embedder is down"):
        reembed(path, embedder)

    with ProceduralMemory.open(path) as memory:
        assert memory.describe()["embedder"] == HashEmbedder().name
        assert [tasks_found(memory, task, k=1) for task in TASKS] == [[task] for task in TASKS]


def test_reembed_makes_no_file(path: Path) -> None:
    with pytest.raises(StoreError, match="there is no memory"):
        reembed(path, "hash")
    assert not path.exists()


def test_a_memory_that_was_reembedded_meanwhile_is_never_mixed(path: Path) -> None:
    class Alike(HashEmbedder):
        """Another space of as many dimensions."""

        name = "alike:1"

    with ProceduralMemory.open(path) as memory:
        memory.update([trajectory()])
        memory.retrieve("heat an egg")
        reembed(path, Alike())

        with pytest.raises(SpaceMismatch, match="alike:1"):
            memory.retrieve("heat an egg")
        with pytest.raises(SpaceMismatch, match="alike:1"):
            memory.update([trajectory("cool a mug")])
        assert memory.stats().procedures == 1


# Closing


def test_leaving_the_block_closes_the_memory(path: Path) -> None:
    with ProceduralMemory.open(path) as memory:
        pass
    with pytest.raises(StoreError, match="is closed"):
        memory.retrieve("heat an egg")
    memory.close()


def test_a_memory_can_be_put_together_from_its_parts() -> None:
    with ProceduralMemory(SQLiteStore(":memory:"), embedder=HashEmbedder(64)) as memory:
        memory.update([trajectory()])
        assert tasks_found(memory, "heat an egg") == ["heat an egg"]


def test_the_digest_tells_whether_anything_that_can_be_retrieved_changed(memory: ProceduralMemory) -> None:
    before = memory.digest()
    memory.retrieve("heat an egg")
    memory.update([trajectory("fail", "a", 0.0, shown=[id_of("heat an egg")])])
    assert memory.digest() == before

    memory.update([trajectory("heat an egg", "one step")])
    assert memory.digest() != before


def test_not_found_is_also_a_key_error(memory: ProceduralMemory) -> None:
    with pytest.raises(KeyError):
        memory.get("nobody")
    with pytest.raises(NotFound, match=r"^procedure 'nobody' does not exist$"):
        memory.get("nobody")
