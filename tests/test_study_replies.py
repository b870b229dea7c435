"""Replies that are remembered: each question asked once, the rows the same, and only what was asked is spent."""

from __future__ import annotations

import multiprocessing
import re
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from pydantic import BaseModel

from evals.__main__ import main
from evals.chats.models import CACHE, Models
from evals.chats.replies import Remembering, Replies
from evals.chats.spending import Charge, Spending
from evals.manifest import fingerprint, weights
from evals.rows import Lines
from memp import ScriptedChat
from memp.chat import ChatModel, Message, Reply
from memp.errors import InputError, ModelError, StoreError
from tests.openai_server import Messages
from tests.studies import by_key, manifest_in, options, rows_in, serving

HELLO: list[Message] = [{"role": "user", "content": "hello"}]

OPTIONS = options(4)


def remembering(
    chat: ChatModel, path: Path, *, identity: str = "", hits: list[Reply] | None = None
) -> Remembering:
    """A model that remembers in a file of its own connection."""
    told = hits.append if hits is not None else lambda _: None
    return Remembering(chat, Replies(path), identity=identity, told=told)


def tiny_model(folder: Path, *, seed: int = 0) -> Path:
    """Put a model with random weights into a folder."""
    import torch
    from transformers import AutoModelForCausalLM

    from tests.test_chat_local import CONFIGS, tokenizer

    torch.manual_seed(seed)
    make: Any = AutoModelForCausalLM.from_config
    make(CONFIGS["llama"]()).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


class Facts(BaseModel):
    facts: list[str]


class Steps(BaseModel):
    steps: list[str]


# --- the same question ---


def test_a_question_is_asked_once_and_answered_the_same(tmp_path: Path) -> None:
    plain, hits = ScriptedChat(["one", "two"]), list[Reply]()
    chat = remembering(plain, tmp_path / "r.db", hits=hits)
    first, again = chat.reply(HELLO), chat.reply(HELLO)
    assert chat.name == plain.name
    assert first == again
    assert (first.text, first.counted_by) == ("one", "estimate")
    assert hits == [again]
    assert len(plain.calls) == 1


@pytest.mark.parametrize(
    "other",
    [
        lambda chat: chat.reply([{"role": "user", "content": "hello!"}]),
        lambda chat: chat.reply([{"role": "system", "content": "hello"}]),
        lambda chat: chat.reply([*HELLO, *HELLO]),
        lambda chat: chat.reply(HELLO, max_tokens=9),
        lambda chat: chat.reply(HELLO, schema=Facts),
        lambda chat: chat.reply(HELLO, schema=Steps),
    ],
)
def test_all_that_decides_a_reply_makes_another_question(
    tmp_path: Path, other: Callable[[ChatModel], Reply]
) -> None:
    chat = remembering(ScriptedChat(["one", "two"]), tmp_path / "r.db")
    chat.reply(HELLO, schema=Steps if "Facts" in other.__code__.co_names else Facts)
    assert other(chat).text == "two"


def test_another_model_of_the_name_is_asked_anew(tmp_path: Path) -> None:
    for identity, text in ("weights a", "one"), ("weights b", "two"), ("weights a", "one"):
        chat = remembering(ScriptedChat([text]), tmp_path / "r.db", identity=identity)
        assert chat.reply(HELLO).text == text


def test_a_sampled_reply_is_asked_for_anew_each_time(tmp_path: Path) -> None:
    chat = remembering(ScriptedChat(["one", "two"]), tmp_path / "r.db")
    assert [chat.reply(HELLO, temperature=0.7).text for _ in range(2)] == ["one", "two"]


def test_an_error_is_not_remembered(tmp_path: Path) -> None:
    chat = remembering(ScriptedChat([ModelError("out of order"), "one"]), tmp_path / "r.db")
    with pytest.raises(ModelError, match="out of order"):
        chat.reply(HELLO)
    assert chat.reply(HELLO).text == "one"


# --- threads and processes ---


def test_threads_that_ask_the_same_at_once_share_one_reply(tmp_path: Path) -> None:
    def slow(messages: Messages) -> str:
        threading.Event().wait(0.1)
        return f"to {messages[0]['content']}"

    plain = ScriptedChat(slow)  # type: ignore[arg-type]
    chat = remembering(plain, tmp_path / "r.db")
    asked: list[list[Message]] = [[{"role": "user", "content": str(number % 4)}] for number in range(32)]
    with ThreadPoolExecutor(32) as pool:
        replies = list(pool.map(chat.reply, asked))
    assert [reply.text for reply in replies] == [f"to {number % 4}" for number in range(32)]
    assert len(plain.calls) == 4


def test_threads_that_ask_different_things_do_not_wait_for_each_other(tmp_path: Path) -> None:
    together = threading.Barrier(8, timeout=10)  # breaks, and the test with it, where calls come one by one
    chat = remembering(ScriptedChat(lambda _: f"{together.wait()}"), tmp_path / "r.db")
    asked: list[list[Message]] = [[{"role": "user", "content": str(number)}] for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        assert len({reply.text for reply in pool.map(chat.reply, asked)}) == 8


def test_where_the_first_of_two_fails_the_second_asks(tmp_path: Path) -> None:
    first = threading.Event()

    def reply(_: object) -> str:
        if not first.is_set():
            first.set()
            threading.Event().wait(0.1)
            raise ModelError("out of order")
        return "one"

    chat = remembering(ScriptedChat(reply), tmp_path / "r.db")
    with ThreadPoolExecutor(2) as pool:
        failed = pool.submit(chat.reply, HELLO)
        first.wait(10)
        assert pool.submit(chat.reply, HELLO).result().text == "one"
    assert isinstance(failed.exception(), ModelError)


def ask_many(path: Path, start: int) -> int:
    """Ask forty questions, half of which another process asks too; return how many the model was asked."""
    plain = ScriptedChat(lambda messages: f"to {messages[0]['content']}")
    chat = remembering(plain, path)
    for number in range(start, start + 40):
        assert chat.reply([{"role": "user", "content": str(number)}]).text == f"to {number}"
    return len(plain.calls)


def test_processes_share_one_file(tmp_path: Path) -> None:
    path = tmp_path / "r.db"
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        asked = pool.starmap(ask_many, [(path, 0), (path, 20)])
    assert 60 <= sum(asked) <= 80
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT count(*) FROM replies").fetchone() == (60,)


# --- a file that cannot be used ---


def test_a_file_that_is_no_cache_is_refused_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "r.db").write_text("dear diary\n" * 100)
    with pytest.raises(StoreError, match=r"the reply cache .*r\.db.*delete the file .* or give --no-cache"):
        Replies(tmp_path / "r.db")


def test_a_reply_that_cannot_be_read_is_an_error_and_not_asked_for_again(tmp_path: Path) -> None:
    chat = remembering(ScriptedChat(["one", "two"]), tmp_path / "r.db")
    chat.reply(HELLO)
    with closing(sqlite3.connect(tmp_path / "r.db")) as db, db:
        db.execute("UPDATE replies SET value = ?", (b'{"text": "o',))
    with pytest.raises(
        StoreError, match=r"r\.db.*a reply in it cannot be read; delete the file .* or give --no-cache"
    ):
        chat.reply(HELLO)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match=r"cannot hold the replies: .*; give another --cache"):
        Replies(tmp_path / "file" / "r.db")


def test_questions_are_not_kept(tmp_path: Path) -> None:
    chat = remembering(ScriptedChat(["one"]), tmp_path / "r.db")
    chat.reply([{"role": "user", "content": "a secret of mine"}])
    held = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"one" in held
    assert b"secret" not in held


# --- in a study ---


def study(out: Path, *more: str) -> str:
    """Run a small study from the command line; return what it printed."""
    result = CliRunner().invoke(main, ["build", *OPTIONS, "--out", str(out), *more])
    assert result.exit_code == 0, result.output
    return result.stdout


def charges(out: Path) -> list[Charge]:
    return list(Lines(out / "spent.jsonl", Charge).held)


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[int], list[str]]:
    """A study without a cache, one that fills a cache, and one that takes all from it; what each asked and said."""
    out = tmp_path_factory.mktemp("twice")
    asked, said = [], []
    with serving() as server:
        for name, more in (
            ("plain", ["--no-cache"]),
            ("first", ["--cache", str(out / "r.db")]),
            ("again", ["--cache", str(out / "r.db")]),
        ):
            before = len(server.requests)
            said.append(study(out / name, *more))
            asked.append(len(server.requests) - before)
    return out, asked, said


def test_a_study_has_the_same_rows_and_costs_with_and_without_a_cache(
    twice: tuple[Path, list[int], list[str]],
) -> None:
    out, _, _ = twice
    plain, first, again = (by_key(rows_in(out / name)) for name in ("plain", "first", "again"))
    assert plain == first == again
    assert all(row.tokens_in > 0 for row in again)
    memories = [manifest_in(out / name)["memories"] for name in ("plain", "again")]
    for name in memories[0]:
        assert memories[0][name]["setup_tokens_in"] == memories[1][name]["setup_tokens_in"]


def test_a_second_study_asks_the_model_nothing(twice: tuple[Path, list[int], list[str]]) -> None:
    _, asked, _ = twice
    assert asked[0] >= asked[1] > asked[2] == 0


def test_what_was_asked_and_what_was_remembered_are_told_apart(
    twice: tuple[Path, list[int], list[str]],
) -> None:
    out, asked, said = twice
    for name, spent in zip(("plain", "first", "again"), asked, strict=True):
        found = charges(out / name)
        assert len(found) == asked[0]
        assert sum(not charge.remembered for charge in found) == spent
    assert f"out in {asked[0]:,} replies" in said[0]
    assert "remembered" not in said[0]
    assert "spent " not in said[2]
    assert (
        f"remembered, and not asked for again: {sum(c.tokens_in for c in charges(out / 'again')):,}"
        in said[2]
    )


def test_a_cache_makes_no_other_study(twice: tuple[Path, list[int], list[str]]) -> None:
    out, _, _ = twice
    with serving():
        study(out / "plain", "--cache", str(out / "r.db"))
    digests = [manifest_in(out / name)["memories"] for name in ("plain", "first")]
    assert digests[0].keys() == digests[1].keys()


def test_a_model_of_an_api_remembers_in_runs_where_nobody_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with serving():
        study(tmp_path / "out", "--max-steps", "1")
    assert (tmp_path / CACHE).exists()


def test_without_a_cache_no_file_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with serving():
        study(tmp_path / "out", "--max-steps", "1", "--no-cache")
    assert not (tmp_path / CACHE).exists()


def test_a_cache_and_none_cannot_both_be_had() -> None:
    with pytest.raises(InputError, match="give --cache or --no-cache, not both"):
        Models(Spending(), cache=Path("r.db"), no_cache=True)


def said_by(models: Models) -> str:
    chat = models.open("openai:test")
    assert chat is not None
    return chat.reply(HELLO).text


def test_the_same_name_at_another_server_is_another_model(tmp_path: Path) -> None:
    with closing(Models(Spending(), cache=tmp_path / "r.db")) as models, serving(lambda _: "one"):
        assert said_by(models) == "one"
        with serving(lambda _: "two"):  # while the first has its port
            assert said_by(models) == "two"
        assert said_by(models) == "one"


@pytest.mark.parametrize("given", [True, False])
def test_a_model_in_this_process_remembers_only_where_a_file_is_named(tmp_path: Path, given: bool) -> None:
    folder, spending = tiny_model(tmp_path / "model"), Spending()
    with closing(Models(spending, cache=tmp_path / "r.db" if given else None)) as models:
        chat = models.open(f"local:{folder}")
        assert chat is not None
        first, again = (chat.reply(HELLO, max_tokens=4) for _ in range(2))
    assert first == again
    assert weights(chat) == fingerprint(folder)
    assert re.findall(r"in (\d+) repl", str(spending)) == (["1", "1"] if given else ["2"])


def test_a_model_that_was_trained_on_is_asked_anew(tmp_path: Path) -> None:
    folder, spending = tiny_model(tmp_path / "model"), Spending()
    for seed in (0, 1, 1):
        tiny_model(folder, seed=seed)
        with closing(Models(spending, cache=tmp_path / "r.db")) as models:
            chat = models.open(f"local:{folder}")
            assert chat is not None
            chat.reply(HELLO, max_tokens=4)
    assert re.findall(r"in (\d+) repl", str(spending)) == ["2", "1"]
