"""Chat models in this process: that reuse and batches change no answer, and what happens at every limit."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from threading import Barrier, Event, current_thread, main_thread
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    PreTrainedTokenizerFast,
)

from memp.chat import Message, chat_model
from memp.chat import _checkpoint as checkpoint
from memp.chat import _decoding as decoding
from memp.chat import _packing as packing
from memp.chat._batching import Batcher, TooMany
from memp.chat.local import LocalChat
from memp.errors import InputError, MissingExtra, ModelError, ReplyFormatError

SPECIALS = ["<pad>", "<unk>", "<end>", "<system>", "<user>", "<assistant>"]
WORDS = [f"w{n}" for n in range(120)]
END = SPECIALS.index("<end>")
TEMPLATE = (
    "{% for message in messages %}<{{ message['role'] }}> {{ message['content'] }} <end> {% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
NO_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + TEMPLATE
)

SHAPE: dict[str, Any] = {"vocab_size": len(SPECIALS + WORDS), "eos_token_id": END, "pad_token_id": 0}
WIDE: dict[str, Any] = {
    "initializer_range": 0.3
}  # so that what is attended to matters, and nothing is a near-tie
SMALL: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 64} | SHAPE | WIDE
HEADS: dict[str, Any] = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512}
CONFIGS: dict[str, Callable[[], Any]] = {
    "llama": lambda: LlamaConfig(**SMALL, **HEADS),
    "gpt2": lambda: GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=512, **SHAPE, **WIDE),
    "sliding": lambda: MistralConfig(**SMALL, **HEADS, sliding_window=20),
}


def tokenizer() -> PreTrainedTokenizerFast:
    words = Tokenizer(WordLevel({word: n for n, word in enumerate(SPECIALS + WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = WhitespaceSplit()
    made = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=words,
        pad_token="<pad>",
        unk_token="<unk>",
        eos_token="<end>",
        additional_special_tokens=SPECIALS[3:],
    )
    made.chat_template = TEMPLATE
    return made


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder for each kind of model, with random weights."""
    root = tmp_path_factory.mktemp("models")
    for name, config in CONFIGS.items():
        torch.manual_seed(0)
        make: Any = AutoModelForCausalLM.from_config
        make(config()).save_pretrained(root / name)
        tokenizer().save_pretrained(root / name)
    return {name: root / name for name in CONFIGS}


@pytest.fixture(scope="session")
def llama(folders: dict[str, Path]) -> str:
    return str(folders["llama"])


@pytest.fixture
def copy(folders: dict[str, Path], tmp_path: Path) -> Path:
    """A folder with a model that a test may break."""
    return Path(shutil.copytree(folders["llama"], tmp_path / "model"))


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tokens went into each forward pass so far."""
    seen: list[int] = []
    real = packing.forward

    def counted(model: Any, parts: Any) -> torch.Tensor:
        seen.append(sum(len(part.ids) for part in parts))
        return real(model, parts)

    monkeypatch.setattr("memp.chat._decoding.forward", counted)
    return seen


def words(random: Random, n: int) -> str:
    return " ".join(random.choice(WORDS) for _ in range(n))


def conversation(seed: int, *, length: int = 30, turns: int = 0) -> list[Message]:
    random = Random(seed)
    messages: list[Message] = [
        {"role": "system", "content": "w1 w2 w3 w4 w5"},
        {"role": "user", "content": words(random, length)},
    ]
    for _ in range(turns):
        messages.append({"role": "assistant", "content": words(random, 3)})
        messages.append({"role": "user", "content": words(random, 6)})
    return messages


def talk(chat: LocalChat, seed: int, *, turns: int = 5, **options: Any) -> list[str]:
    """What the model answers in an episode of some turns."""
    messages, random = conversation(seed, length=10 + 7 * (seed % 5)), Random(seed)
    said = []
    for _ in range(turns):
        said.append(chat.reply(messages, max_tokens=8, **options).text)
        messages.append({"role": "assistant", "content": said[-1]})
        messages.append({"role": "user", "content": words(random, 5)})
    return said


def generated(folder: str | Path, messages: list[Message], *, max_tokens: int) -> str:
    """What transformers' own greedy `generate` answers."""
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    tokens: Any = AutoTokenizer.from_pretrained(folder)
    text = tokens.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    ids = tokens(text, add_special_tokens=False, return_tensors="pt")
    config = GenerationConfig(max_new_tokens=max_tokens, eos_token_id=END, pad_token_id=0)  # type: ignore[no-untyped-call]
    row = model.generate(**ids, generation_config=config)[0, ids["input_ids"].shape[1] :]
    return str(tokens.decode(row, skip_special_tokens=True))


# The answer is the model's own, however it is computed


@pytest.mark.parametrize("kind", CONFIGS)
def test_an_answer_is_what_transformers_would_generate(folders: dict[str, Path], kind: str) -> None:
    chat = LocalChat(str(folders[kind]))
    for seed, turns in (1, 0), (2, 1), (3, 4):
        asked = conversation(seed, length=9 * seed, turns=turns)

        assert chat.reply(asked, max_tokens=12).text == generated(folders[kind], asked, max_tokens=12)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_reuse_changes_no_answer_of_an_episode(folders: dict[str, Path], kind: str) -> None:
    with_reuse, without = LocalChat(str(folders[kind])), LocalChat(str(folders[kind]), cache_tokens=0)

    assert with_reuse.reuses
    for seed in range(6):
        assert talk(with_reuse, seed) == talk(without, seed)


@pytest.mark.parametrize("kind", CONFIGS)
def test_threads_that_ask_together_get_the_answers_they_would_get_alone(
    folders: dict[str, Path], kind: str
) -> None:
    chat, alone = LocalChat(str(folders[kind])), LocalChat(str(folders[kind]), batch=1)
    start = Barrier(16)

    def ask(seed: int) -> list[str]:
        start.wait()
        return talk(chat, seed, turns=3)

    with ThreadPoolExecutor(16) as pool:
        together = list(pool.map(ask, range(16)))

    assert together == [talk(alone, seed, turns=3) for seed in range(16)]


def test_threads_that_ask_together_share_forward_passes(llama: str, passes: list[int]) -> None:
    chat, start = LocalChat(llama), Barrier(16)

    def ask(seed: int) -> int:
        start.wait()
        return chat.reply(conversation(seed), max_tokens=8).tokens_out

    with ThreadPoolExecutor(16) as pool:
        tokens = sum(pool.map(ask, range(16)))

    assert len(passes) < tokens / 3


def test_a_batch_is_no_larger_than_asked_for(llama: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = out_of_memory_above(3, monkeypatch, AssertionError("a batch too large"))
    chat = LocalChat(llama, batch=3)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda seed: chat.reply(conversation(seed), max_tokens=4), range(16)))

    assert max(sizes) <= 3


def test_long_prompts_are_computed_in_pieces_with_the_same_answer(
    llama: str, monkeypatch: pytest.MonkeyPatch, passes: list[int]
) -> None:
    asked = conversation(4, length=100)
    whole = LocalChat(llama).reply(asked, max_tokens=6).text
    monkeypatch.setattr(decoding.PackedDecoder, "TOKENS", 16)
    passes.clear()

    assert LocalChat(llama).reply(asked, max_tokens=6).text == whole
    assert max(passes) == 16


def test_the_second_turn_computes_only_what_is_new(llama: str, passes: list[int]) -> None:
    chat, asked = LocalChat(llama), conversation(1, length=100)
    first = chat.reply(asked, max_tokens=4)
    computed = sum(passes)
    asked += [{"role": "assistant", "content": first.text}, {"role": "user", "content": "w7 w8"}]
    second = chat.reply(asked, max_tokens=4)

    assert computed == first.tokens_in + first.tokens_out - 1  # the last token is followed by none
    assert sum(passes) == second.tokens_in + second.tokens_out - 1


def test_conversations_that_begin_alike_share_what_was_computed_and_stay_apart(
    llama: str, passes: list[int]
) -> None:
    chat, plain = LocalChat(llama), LocalChat(llama, cache_tokens=0)
    begin = words(Random(0), 60)
    one, two = (
        [*conversation(0)[:1], Message(role="user", content=f"{begin} {end}")]
        for end in ("w1 w2", "w3 " * 30)
    )
    expected = [plain.reply(asked, max_tokens=6).text for asked in (one, two)]
    passes.clear()

    assert [chat.reply(asked, max_tokens=6).text for asked in (one, two, one)] == [*expected, expected[0]]
    assert max(passes[passes.index(max(passes)) + 1 :]) < 50  # the first prompt alone was computed whole


def test_an_answer_shown_changed_in_the_next_turn_is_not_taken_for_the_old_one(llama: str) -> None:
    chat, plain = LocalChat(llama), LocalChat(llama, cache_tokens=0)
    asked = conversation(3)
    chat.reply(asked, max_tokens=6)
    asked += [{"role": "assistant", "content": "w9 w9 w9"}, {"role": "user", "content": "w5"}]

    assert chat.reply(asked, max_tokens=6).text == plain.reply(asked, max_tokens=6).text


def test_what_is_kept_is_bounded_and_the_oldest_goes_first(llama: str, passes: list[int]) -> None:
    chat = LocalChat(llama, cache_tokens=300)
    for seed in range(4):
        chat.reply(conversation(seed, length=60), max_tokens=2)
    passes.clear()
    chat.reply(conversation(3, length=60), max_tokens=1)
    chat.reply(conversation(0, length=60), max_tokens=1)

    assert passes[0] == 1
    assert passes[1] > 50


def test_a_model_with_another_kind_of_attention_runs_without_reuse(folders: dict[str, Path]) -> None:
    assert not LocalChat(str(folders["sliding"])).reuses


def test_a_prompt_longer_than_the_sliding_window_is_answered_in_a_batch_as_alone(
    folders: dict[str, Path],
) -> None:
    chat, start = LocalChat(str(folders["sliding"])), Barrier(4)

    def ask(seed: int) -> str:
        start.wait()
        return chat.reply(conversation(seed, length=10 + 30 * seed), max_tokens=5 + seed).text

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(ask, range(4)))

    asked = [conversation(seed, length=10 + 30 * seed) for seed in range(4)]
    alone = [generated(folders["sliding"], each, max_tokens=5 + seed) for seed, each in enumerate(asked)]
    assert together == alone


# Counts, limits and draws


def test_a_reply_counts_the_rendered_conversation_and_the_generated_tokens(llama: str) -> None:
    asked: list[Message] = [{"role": "system", "content": "w1"}, {"role": "user", "content": "w2 w3"}]
    reply = LocalChat(llama).reply(asked, max_tokens=3)

    assert (reply.tokens_in, reply.tokens_out, reply.counted_by) == (3 + 4 + 1, 3, "model")


def test_an_answer_ends_at_the_stop_token_which_is_counted_and_not_shown(llama: str, copy: Path) -> None:
    asked = conversation(1)
    text = LocalChat(llama).reply(asked, max_tokens=8).text.split()
    settings = GenerationConfig.from_pretrained(copy)
    stop = next(word for word in text[2:] if word not in text[:2])
    settings.eos_token_id = [END, len(SPECIALS) + WORDS.index(stop)]  # any one of a list
    settings.save_pretrained(copy)
    reply = LocalChat(str(copy)).reply(asked)

    assert reply.text.split() == text[: text.index(stop) + 1]  # a word, and so shown, unlike <end>
    assert reply.tokens_out == text.index(stop) + 1


def test_a_draw_at_a_temperature_can_be_repeated_by_its_seed(llama: str) -> None:
    def draws(seed: int) -> list[str]:
        chat = LocalChat(llama, seed=seed)
        return [chat.reply(conversation(1), temperature=1.5, max_tokens=8).text for _ in range(3)]

    assert draws(0) == draws(0)
    assert draws(0) != draws(1)
    assert len(set(draws(0))) == 3


def test_both_ways_to_decode_draw_the_same(llama: str, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = talk(LocalChat(llama, seed=3), 1, temperature=0.8)
    monkeypatch.setattr("memp.chat._packing.packs", lambda model: False)
    whole = LocalChat(llama, seed=3)

    assert not whole.reuses
    assert talk(whole, 1, temperature=0.8) == packed


def test_draws_follow_the_softmax_of_the_logits_over_the_temperature() -> None:
    logits = torch.tensor([0.0, 1.0, 2.0])
    answer = decoding.Answer([0], limit=1, temperature=2.0, seed=0)
    counts = Counter(int(answer.drawn(logits).argmax()) for _ in range(4000))

    shares = [counts[token] / 4000 for token in range(3)]
    assert shares == pytest.approx((logits / 2.0).softmax(dim=0).tolist(), abs=0.03)


def test_an_empty_answer_is_one_in_no_form(copy: Path) -> None:
    settings = GenerationConfig.from_pretrained(copy)
    settings.eos_token_id = list(range(len(SPECIALS + WORDS)))
    settings.save_pretrained(copy)
    made = tokenizer()
    made.add_special_tokens({"additional_special_tokens": SPECIALS[3:] + WORDS})  # never shown
    made.save_pretrained(copy)

    with pytest.raises(ReplyFormatError, match=r"asked for an answer of local:.*, but answered ''"):
        LocalChat(str(copy)).reply(conversation(1))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_tokens": 0}, "max_tokens must be at least 1, not 0"),
        ({"temperature": -1.0}, r"temperature must be 0 or above, not -1\.0"),
        ({"temperature": float("nan")}, "temperature must be 0 or above, not nan"),
    ],
)
def test_an_option_out_of_range_is_refused(llama: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        LocalChat(llama).reply(conversation(1), **options)


def test_no_message_is_an_input_error(llama: str) -> None:
    with pytest.raises(InputError, match="messages is empty"):
        LocalChat(llama).reply([])


def test_text_that_cannot_be_encoded_is_an_input_error(llama: str) -> None:
    with pytest.raises(InputError, match="cannot be encoded"):
        LocalChat(llama).reply([{"role": "user", "content": "a \ud800 mug"}])


# Conversations longer than the context


def test_a_conversation_that_outgrows_the_context_loses_its_oldest_turns(
    llama: str, caplog: pytest.LogCaptureFixture
) -> None:
    chat, asked = LocalChat(llama, context=128), conversation(1, turns=10)
    reply = chat.reply(asked, max_tokens=8)
    gone = chat.dropped

    assert gone > 0
    assert gone % 2 == 0
    assert reply.text == LocalChat(llama).reply(asked[:2] + asked[2 + gone :], max_tokens=8).text
    assert reply.tokens_in + reply.tokens_out <= 128
    assert f"oldest {gone} messages" in caplog.text


def test_what_had_no_room_is_warned_of_once_a_conversation_and_counted_each_time(
    llama: str, caplog: pytest.LogCaptureFixture
) -> None:
    chat, asked = LocalChat(llama, context=128), conversation(1, turns=10)
    chat.reply(asked, max_tokens=2)
    once = chat.dropped
    chat.reply(asked, max_tokens=2)

    assert chat.dropped == 2 * once
    assert caplog.text.count("outgrew the context") == 1


def test_what_is_left_of_an_outgrown_conversation_begins_the_same_for_some_turns(
    llama: str, passes: list[int]
) -> None:
    chat, asked = LocalChat(llama, context=256), conversation(1, turns=20)
    new = []
    for seed in range(16):
        passes.clear()
        reply = chat.reply(asked, max_tokens=2)
        new.append(passes[0])
        asked += [
            {"role": "assistant", "content": reply.text},
            {"role": "user", "content": words(Random(seed), 3)},
        ]

    assert chat.dropped > 16
    assert sum(n < 15 for n in new) > len(new) / 2


def test_a_conversation_without_old_turns_that_does_not_fit_says_what_to_do(llama: str) -> None:
    with pytest.raises(
        ModelError, match=r"has 311 tokens.*context 256.*fewer procedures \(k\).*longer context"
    ):
        LocalChat(llama, context=256).reply(conversation(1, length=301))


def test_a_conversation_that_fills_the_context_still_gets_the_room_there_is(llama: str) -> None:
    reply = LocalChat(llama, context=64).reply(conversation(1, length=50), max_tokens=30)

    assert reply.tokens_in + reply.tokens_out == 64


def test_a_conversation_too_long_fails_alone(llama: str) -> None:
    chat, start = LocalChat(llama), Barrier(6)

    def ask(seed: int) -> str:
        start.wait()
        try:
            return chat.reply(conversation(seed, length=600 if seed == 3 else 20), max_tokens=4).text
        except ModelError:
            return "too long"

    with ThreadPoolExecutor(6) as pool:
        said = list(pool.map(ask, range(6)))

    assert [seed for seed, text in enumerate(said) if text == "too long"] == [3]


def test_batched_answers_of_a_model_without_reuse_stay_within_the_context(folders: dict[str, Path]) -> None:
    chat, start = LocalChat(str(folders["sliding"]), context=100), Barrier(2)

    def ask(length: int) -> int:
        start.wait()
        reply = chat.reply(conversation(1, length=length))
        return reply.tokens_in + reply.tokens_out

    with ThreadPoolExecutor(2) as pool:
        assert max(pool.map(ask, (85, 5))) <= 100


# Faults


def out_of_memory_above(rows: int, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> list[int]:
    """Have forward passes of more than `rows` conversations fail; return the sizes tried."""
    tried: list[int] = []
    real = packing.forward

    def limited(model: Any, parts: Any) -> torch.Tensor:
        tried.append(len(parts))
        if len(parts) > rows:
            raise error
        return real(model, parts)

    monkeypatch.setattr("memp.chat._decoding.forward", limited)
    return tried


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp] . DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_a_batch_too_large_for_the_memory_is_halved_and_answered(
    llama: str, monkeypatch: pytest.MonkeyPatch, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    expected = [LocalChat(llama).reply(conversation(seed), max_tokens=5).text for seed in range(8)]
    out_of_memory_above(2, monkeypatch, error)
    chat, start = LocalChat(llama), Barrier(8)

    def ask(seed: int) -> str:
        start.wait()
        return chat.reply(conversation(seed), max_tokens=5).text

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(8))) == expected
    assert "at most 2 are answered at once" in caplog.text


def test_what_is_kept_goes_before_a_conversation_is_given_up(
    llama: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    chat = LocalChat(llama)
    chat.reply(conversation(1), max_tokens=2)
    errors = iter([torch.OutOfMemoryError("out of memory")])
    real = packing.forward

    def once(model: Any, parts: Any) -> torch.Tensor:
        for error in errors:
            raise error
        return real(model, parts)

    monkeypatch.setattr("memp.chat._decoding.forward", once)

    assert chat.reply(conversation(2), max_tokens=2).text
    assert "what was kept of earlier turns is dropped" in caplog.text


def test_too_little_memory_for_one_conversation_says_what_to_do(
    llama: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = LocalChat(llama)
    out_of_memory_above(0, monkeypatch, torch.OutOfMemoryError("out of memory"))

    with pytest.raises(ModelError, match=r"out of memory, even with one .*lower context.*fewer procedures"):
        chat.reply(conversation(1))


def test_a_fault_hits_only_the_conversation_it_concerns(llama: str, monkeypatch: pytest.MonkeyPatch) -> None:
    chat, start = LocalChat(llama), Barrier(6)
    real = packing.forward

    def fragile(model: Any, parts: Any) -> torch.Tensor:
        if any(len(SPECIALS) + WORDS.index("w119") in part.ids for part in parts):
            raise IndexError("index out of range in self")
        return real(model, parts)

    monkeypatch.setattr("memp.chat._decoding.forward", fragile)

    def ask(seed: int) -> str:
        start.wait()
        asked: Message = {"role": "user", "content": "w119" if seed == 2 else "w5"}
        try:
            return chat.reply([asked], max_tokens=1).text
        except ModelError as error:
            return str(error)

    with ThreadPoolExecutor(6) as pool:
        said = list(pool.map(ask, range(6)))

    assert "IndexError: index out of range" in said[2]
    assert len(set(said)) == 2


# Threads


class Steps:
    """A job of some steps."""

    def __init__(self, left: int) -> None:
        self.total = self.left = left
        self.restarts = 0

    @property
    def done(self) -> bool:
        return self.left <= 0

    def restart(self) -> None:
        self.left = self.total
        self.restarts += 1


def advance(jobs: list[Steps]) -> None:
    for job in jobs:
        job.left -= 1


def press_ctrl_c() -> None:
    signal.pthread_kill(main_thread().ident or 0, signal.SIGINT)


@pytest.mark.skipif(current_thread() is not main_thread(), reason="only the main thread is interrupted")
def test_a_caller_that_is_interrupted_leaves_and_the_others_are_answered() -> None:
    endless, jobs = Steps(10**9), [Steps(5), Steps(5)]
    started = Event()

    def step(jobs: list[Steps]) -> None:
        started.wait(10)
        if endless in jobs:
            time.sleep(0.05)
            press_ctrl_c()
            time.sleep(0.2)  # until it has left
        advance(jobs)

    batcher = Batcher(step, limit=8)
    with ThreadPoolExecutor(2) as pool:
        others = [pool.submit(batcher.run, job) for job in jobs]
        started.set()
        with pytest.raises(KeyboardInterrupt):
            batcher.run(endless)
        for other in others:
            other.result(timeout=10)

    assert [job.left for job in jobs] == [0, 0]


@pytest.mark.skipif(current_thread() is not main_thread(), reason="only the main thread is interrupted")
def test_after_an_interrupt_the_model_answers_again(llama: str, monkeypatch: pytest.MonkeyPatch) -> None:
    chat, expected = LocalChat(llama), LocalChat(llama).reply(conversation(1), max_tokens=5)
    real = packing.forward

    def interrupting(model: Any, parts: Any) -> torch.Tensor:
        press_ctrl_c()
        time.sleep(0.1)
        return real(model, parts)

    with monkeypatch.context() as broken:
        broken.setattr("memp.chat._decoding.forward", interrupting)
        with pytest.raises(KeyboardInterrupt):
            chat.reply(conversation(1), max_tokens=5)

    assert chat.reply(conversation(1), max_tokens=5) == expected


def test_the_thread_that_answers_ends_when_there_is_nothing_to_do() -> None:
    batcher = Batcher(advance, limit=8)
    for _ in range(2):
        batcher.run(Steps(3))
        worker = batcher._worker
        assert worker is not None
        worker.join(10)

        assert not worker.is_alive()
        assert batcher._worker is None


def test_a_step_that_fails_ends_in_every_caller() -> None:
    def failing(jobs: list[Steps]) -> None:
        raise RuntimeError("a fault of ours")

    batcher = Batcher(failing, limit=2)
    with ThreadPoolExecutor(5) as pool:
        ends = [pool.submit(batcher.run, Steps(1)) for _ in range(5)]

        assert [str(end.exception(timeout=10)) for end in ends] == ["a fault of ours"] * 5


def test_jobs_put_back_for_lack_of_memory_are_all_done_in_the_end() -> None:
    def only_three(jobs: list[Steps]) -> None:
        advance(jobs)
        if len(jobs) > 3:
            for job in jobs[: (len(jobs) + 1) // 2]:
                job.left += 1  # as those that stay have made no step
            raise TooMany

    batcher, jobs = Batcher(only_three, limit=16), [Steps(1 + n % 4) for n in range(40)]
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(batcher.run, jobs, timeout=20))

    assert all(job.left == 0 for job in jobs)


def test_many_threads_lose_no_job() -> None:
    batcher, jobs = Batcher(advance, limit=4), [Steps(1 + n % 3) for n in range(600)]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(batcher.run, jobs, timeout=20))

    assert all(job.left == 0 for job in jobs)


# Loading


def test_a_local_model_is_named_by_what_was_given(llama: str) -> None:
    chat = chat_model(f"local:{llama}")

    assert isinstance(chat, LocalChat)
    assert (chat.name, chat.path, chat.context) == (f"local:{llama}", llama, 512)


def test_a_folder_is_loaded_without_the_network(llama: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)

    assert LocalChat(llama).reply(conversation(1), max_tokens=1).text


def test_a_bundled_model_is_found_beside_the_package(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "MODELS", copy.parent)
    copy.rename(copy.parent / "memp-small")
    chat = LocalChat("memp-small")

    assert (chat.name, chat.path) == ("local:memp-small", str(copy.parent / "memp-small"))


def test_without_a_checkout_a_bundled_name_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "MODELS", tmp_path)
    with pytest.raises(InputError, match=r"'memp-small' is not at .*come with a checkout.*give the path"):
        LocalChat("memp-small")


def test_a_mistyped_bundled_name_is_met_with_the_nearest_one() -> None:
    with pytest.raises(InputError, match=r"unknown bundled model 'memp-smal'\. Did you mean 'memp-small'\?"):
        LocalChat("memp-smal")


@pytest.mark.parametrize("model", ["/no/such/model", "./none", "~/no-such-model", "tests/none", "a b"])
def test_a_path_that_is_not_there_is_an_input_error(model: str) -> None:
    with pytest.raises(InputError, match="there is no folder"):
        LocalChat(model)


def test_a_file_or_a_folder_without_a_model_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no model: there is no config\.json"):
        LocalChat(str(tmp_path))
    (tmp_path / "model.gguf").touch()
    with pytest.raises(InputError, match="is a file; give the folder"):
        LocalChat(str(tmp_path / "model.gguf"))


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_broken_file_is_a_model_error_that_names_the_folder(copy: Path, file: str) -> None:
    (copy / file).write_text("{", encoding="utf-8")

    with pytest.raises(ModelError, match=f"no model could be loaded from the folder '{copy}'"):
        LocalChat(str(copy))


def test_weights_that_lack_a_part_are_refused_rather_than_made_up(copy: Path) -> None:
    config = (copy / "config.json").read_text(encoding="utf-8")
    (copy / "config.json").write_text(
        config.replace('"num_hidden_layers": 2', '"num_hidden_layers": 3'), encoding="utf-8"
    )

    with pytest.raises(ModelError, match=r"lacks the weights .*layers\.2"):
        LocalChat(str(copy))


def test_a_name_that_the_hub_does_not_know_is_a_model_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise OSError("nobody/none is not a valid model identifier")

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", unknown)
    with pytest.raises(ModelError, match="from the hub, there being no folder of that name, 'nobody/none'"):
        LocalChat("nobody/none")


def test_a_tokenizer_without_a_chat_template_is_refused(copy: Path) -> None:
    (copy / "chat_template.jinja").unlink()

    with pytest.raises(InputError, match=r"no chat template.*Instruct.*chat_template\.jinja"):
        LocalChat(str(copy))


def test_a_chat_template_that_does_not_work_is_refused(copy: Path) -> None:
    (copy / "chat_template.jinja").write_text("{{ nothing.at.all }}", encoding="utf-8")

    with pytest.raises(InputError, match="chat template does not work"):
        LocalChat(str(copy))


def test_a_system_message_that_the_template_refuses_is_said_by_the_user(llama: str, copy: Path) -> None:
    (copy / "chat_template.jinja").write_text(NO_SYSTEM, encoding="utf-8")
    joined: list[Message] = [{"role": "user", "content": "w1 w2 w3"}]

    reply = LocalChat(str(copy)).reply(
        [{"role": "system", "content": "w1"}, {"role": "user", "content": "w2 w3"}]
    )

    assert reply.text == LocalChat(llama).reply(joined).text


def test_a_conversation_that_the_template_refuses_is_a_model_error(copy: Path) -> None:
    template = "{% if messages | length > 2 %}{{ raise_exception('two at most') }}{% endif %}" + TEMPLATE
    (copy / "chat_template.jinja").write_text(template, encoding="utf-8")

    with pytest.raises(ModelError, match="refuses the conversation: two at most"):
        LocalChat(str(copy)).reply(conversation(1, turns=1))


@pytest.mark.parametrize("missing", ["transformers", "torch"])
def test_without_the_extra_it_says_what_to_install(
    llama: str, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)

    with pytest.raises(MissingExtra, match=rf"{missing}.*memp\[local\]"):
        LocalChat(llama)


def test_importing_the_module_loads_neither_torch_nor_transformers() -> None:
    code = "import sys, memp.chat.local; print({'torch', 'transformers'} & set(sys.modules))"
    ran = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=True,
    )

    assert ran.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch": 0}, "batch must be at least 1, not 0"),
        ({"cache_tokens": -1}, "cache_tokens must be at least 0, not -1"),
        ({"seed": -1}, "seed must be at least 0, not -1"),
        ({"context": 513}, "context must be 2 to 512, which is the model's own, not 513"),
        ({"context": 0}, "context must be 2 to 512"),
    ],
)
def test_a_setting_out_of_range_is_refused(llama: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        LocalChat(llama, **options)


def test_an_unknown_device_or_dtype_is_a_model_error(llama: str) -> None:
    for option in {"device": "nowhere"}, {"dtype": "float7"}:
        with pytest.raises(ModelError, match="no model could be loaded"):
            LocalChat(llama, **option)  # type: ignore[arg-type]


def test_weights_are_float32_on_a_cpu_unless_asked_otherwise(copy: Path) -> None:
    AutoModelForCausalLM.from_pretrained(copy, dtype="bfloat16").save_pretrained(copy)

    assert LocalChat(str(copy), device="cpu")._decoder._model.dtype == torch.float32
    half = LocalChat(str(copy), device="cpu", dtype="bfloat16")
    assert half._decoder._model.dtype == torch.bfloat16
    assert half.reuses
    assert half.reply(conversation(1), max_tokens=3, temperature=1.0).text
