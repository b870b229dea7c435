"""Token counts: never too low where it matters, never above the bytes, never over the network."""

# ruff: noqa: RUF001  the Chinese commas are meant

from __future__ import annotations

import base64
import inspect
import os
import re
import socket
import subprocess
import sys
import time
from hashlib import sha1, sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiktoken_ext import openai_public  # type: ignore[import-untyped]

from memp import tokens
from memp.chat import Message
from memp.tokens import count, count_messages, estimate

# Text, and its true length in o200k and cl100k tokens: counted once with tiktoken 0.14 and the tables
# that the wheel of litellm 1.109.1 carries. Above 1.8 times the truth an estimate would be of little use;
# alphabets other than ours, and Chinese, are counted high so that older encodings are not undercut.
MEASURED = {
    "english": (
        "Go to the sinkbasin, clean the mug, and put it in the coffee machine. "
        "If it is not on the countertop, look in each cabinet.",
        32,
        33,
    ),
    "trajectory": (
        '{"task": "Put a clean mug in the coffeemachine.", "steps": [{"action": "go to sinkbasin 1", '
        '"observation": "On the sinkbasin 1, you see a mug 2, and a spoon 1."}], "reward": 1.0}',
        64,
        63,
    ),
    "json": (
        '[{"id": "a81f", "score": 0.8125, "tags": ["heat", "egg"], "usage": {"shown": 12, "won": null}}]',
        42,
        42,
    ),
    "python": (
        "def top_k(query: FloatVector, keys: FloatMatrix, k: int) -> list[tuple[int, float]]:\n"
        '    scores = keys @ query\n    order = np.argsort(-scores, kind="stable")[:k]\n'
        "    return [(int(row), float(scores[row])) for row in order]\n",
        63,
        62,
    ),
    "c": (
        "#ifndef SQLITE_STATIC\n# define SQLITE_STATIC ((sqlite3_destructor_type)0)\n#endif\n"
        "int sqlite3_bind_text(sqlite3_stmt*, int, const char*, int, void(*)(void*));\n",
        42,
        41,
    ),
    "markdown": (
        "## Install\n\n| extra | what for |\n|---|---|\n"
        "| `local` | [transformers](https://huggingface.co/docs) |\n"
        "\n- **Note:** run `pip install 'memp[local]'`\n",
        47,
        47,
    ),
    "log": (
        "2026-11-21T01:38:40.118Z INFO [9b5ad71b2ce53022] req=fb374d419588a463 took=3.141ms "
        "path=/v1/items/42-7f\n",
        54,
        54,
    ),
    "chinese": ("把干净的杯子放进咖啡机里。首先走到水槽边，打开水龙头，把杯子洗干净。", 32, 51),
    "traditional chinese": ("天地玄黃，宇宙洪荒。日月盈昃，辰宿列張。寒來暑往，秋收冬藏。", 31, 47),
    "japanese": ("きれいなマグカップをコーヒーメーカーに入れてください。", 20, 24),
    "korean": ("깨끗한 머그잔을 커피 머신에 넣으세요.", 16, 27),
    "russian": ("Поставьте чистую кружку в кофемашину.", 13, 20),
    "emoji": ("🎉 done ✅ — “quoted” …", 9, 11),
    "hex": (sha256(b"memp").hexdigest() * 4, 132, 132),
    "base64": (base64.b64encode(b"".join(sha256(bytes([i])).digest() for i in range(12))).decode(), 350, 366),
    "newlines": ("\n" * 400, 25, 13),
}
WEST = ("english", "trajectory", "json", "python", "c", "markdown", "log")


@pytest.mark.parametrize("kind", MEASURED)
def test_the_estimate_is_never_below_the_true_count(kind: str) -> None:
    text, o200k, cl100k = MEASURED[kind]

    assert estimate(text) >= max(o200k, cl100k)


@pytest.mark.parametrize("kind", WEST)
def test_the_estimate_of_english_and_code_stays_below_1_8_times_the_true_count(kind: str) -> None:
    text, o200k, _ = MEASURED[kind]

    assert estimate(text) < 1.8 * o200k


@given(st.text(st.characters(codec=None)))
def test_the_estimate_lies_between_nothing_and_the_number_of_bytes(text: str) -> None:
    assert 0 <= estimate(text) <= len(text.encode("utf-8", "surrogatepass"))


@given(st.text(min_size=1).filter(lambda text: text != " "))
def test_a_text_costs_at_least_one_token(text: str) -> None:
    assert text.isspace() or estimate(text) >= 1


def test_no_text_costs_no_tokens() -> None:
    assert count("") == (0, "estimate")


def test_a_million_characters_are_estimated_in_under_three_seconds_of_computing() -> None:
    start = time.process_time()

    for text in ("中" * 1_000_000, "=" * 1_000_000, "a1" * 500_000, "ab " * 333_333):
        assert estimate(text) > 100_000

    assert time.process_time() - start < 3


@pytest.mark.parametrize("model", ["", "llama-3", "gpt2", "gpt-4o", "openai:gpt-4o", "gpt-oss-20b"])
def test_without_a_table_on_disk_a_count_is_labelled_an_estimate(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))

    assert count("Take the mug.", model) == (estimate("Take the mug."), "estimate")


def test_a_cache_switched_off_is_not_looked_into(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", "")

    assert count("Take the mug.", "gpt-4o").counted_by == "estimate"


def test_a_damaged_table_is_neither_used_nor_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (url,) = re.findall(r'"(https://[^"]+)"', inspect.getsource(openai_public.o200k_base))
    table = tmp_path / sha1(url.encode()).hexdigest()
    table.write_text("IQ== 0\n")
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))

    assert count("Take the mug.", "gpt-4o").counted_by == "estimate"
    assert table.exists()


@pytest.mark.parametrize(("model", "place"), [("gpt-4o", 1), ("openai:gpt-4o", 1), ("gpt-4", 2)])
def test_where_the_table_lies_on_disk_the_count_is_exact(model: str, place: int) -> None:
    if count("", model).counted_by == "estimate":
        pytest.skip("tiktoken has no table on disk here; set TIKTOKEN_CACHE_DIR to a folder that has")

    for row in MEASURED.values():
        assert count(row[0], model) == (row[place], "tiktoken")
    assert count("<|endoftext|> \ud800", model).n > 2  # neither a control token nor a crash
    assert count(" " * 1_000_000, model).n > 100  # more than tiktoken's stack takes at once


def test_a_conversation_costs_its_texts_and_what_surrounds_each_message() -> None:
    messages: list[Message] = [
        {"role": "system", "content": "Take the mug."},
        {"role": "user", "content": "把杯子洗干净。"},
    ]
    texts = sum(estimate(message["content"]) for message in messages)

    assert count_messages(messages) == (texts + 2 * tokens.PER_MESSAGE + tokens.PER_REPLY, "estimate")


def run(code: str, **settings: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True, timeout=20, env=os.environ | settings)


def test_behind_a_proxy_that_never_answers_counting_returns_at_once(tmp_path: Path) -> None:
    code = """
import time
from memp import tokens
start = time.monotonic()
assert tokens.count("Take the mug.", "gpt-4o").counted_by == "estimate"
assert time.monotonic() - start < 2
"""
    with socket.create_server(("127.0.0.1", 0)) as black_hole:
        proxy = f"http://127.0.0.1:{black_hole.getsockname()[1]}"
        run(code, HTTPS_PROXY=proxy, HTTP_PROXY=proxy, TIKTOKEN_CACHE_DIR=str(tmp_path))


def test_importing_counts_and_chat_loads_neither_tiktoken_nor_openai() -> None:
    run(
        "import sys, memp.tokens, memp.chat\n"
        "assert not {'tiktoken', 'openai', 'requests', 'httpx', 'httpx2'} & set(sys.modules)"
    )
