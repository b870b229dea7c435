"""Chat models: OpenAI's protocol against a real server that misbehaves, and the scripted double."""

from __future__ import annotations

import pickle
import re
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any

import openai
import pytest
from pydantic import BaseModel, Field

from memp.chat import ChatModel, Message, ScriptedChat, chat_model
from memp.chat.openai import OpenAIChat
from memp.chat.schema import strict
from memp.errors import InputError, ModelError
from tests.openai_server import (
    BROKEN_JSON,
    CUT_SHORT,
    EMPTY_CHOICES,
    GARBAGE,
    NULL_CONTENT,
    RESET,
    SILENCE,
    OpenAIServer,
    Response,
    answer,
    completion,
    error,
)

ASK: list[Message] = [
    {"role": "system", "content": "You are in a kitchen."},
    {"role": "user", "content": "Where is the mug?"},
]


class Place(BaseModel):
    """Where a thing is."""

    room: str
    shelf: int = Field(default=1, description="Counted from below.")


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_ADMIN_KEY"):
        monkeypatch.delenv(variable, raising=False)


@contextmanager
def chat_on(
    server: OpenAIServer, *, max_retries: int = 1, timeout_s: float = 5, api_key: str | None = None
) -> Iterator[OpenAIChat]:
    with closing(
        OpenAIChat(
            "m", base_url=server.base_url, api_key=api_key, max_retries=max_retries, timeout_s=timeout_s
        )
    ) as chat:
        yield chat


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


# A good answer


def test_the_answer_is_the_text_the_server_sent() -> None:
    with OpenAIServer("On the shelf.") as server, chat_on(server) as chat:
        assert chat.reply(ASK).text == "On the shelf."


def test_the_conversation_model_and_temperature_are_sent_as_given() -> None:
    with OpenAIServer() as server, chat_on(server) as chat:
        chat.reply(ASK, temperature=0.5, max_tokens=7)

        assert server.requests[0].body == {
            "model": "m",
            "messages": ASK,
            "temperature": 0.5,
            "max_tokens": 7,
        }


def test_without_a_limit_max_tokens_is_not_sent() -> None:
    with OpenAIServer() as server, chat_on(server) as chat:
        chat.reply(ASK)

        assert "max_tokens" not in server.requests[0].body


def test_tokens_are_the_servers_own_where_it_counts() -> None:
    usage = {"prompt_tokens": 11, "completion_tokens": 3}
    with OpenAIServer(completion("ok", usage=usage)) as server, chat_on(server) as chat:
        reply = chat.reply(ASK)

    assert (reply.tokens_in, reply.tokens_out, reply.counted_by) == (11, 3, "server")


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": 0, "completion_tokens": 0}, [1], "none"])
def test_tokens_are_an_estimate_where_the_server_does_not_count(usage: object) -> None:
    with OpenAIServer(completion("ok", usage=usage)) as server, chat_on(server) as chat:
        reply = chat.reply(ASK)

    assert reply.counted_by == "estimate"
    assert reply.tokens_in > reply.tokens_out > 0


def test_many_threads_share_one_model_and_each_gets_its_own_answer() -> None:
    def echo(messages: list[dict[str, str]]) -> str:
        return messages[-1]["content"]

    with OpenAIServer(echo) as server, chat_on(server) as chat, ThreadPoolExecutor(8) as pool:
        asked = [str(i) for i in range(40)]
        answers = pool.map(lambda text: chat.reply([{"role": "user", "content": text}]).text, asked)

        assert list(answers) == asked


# Transport: the client's own retries


@pytest.mark.parametrize("fault", [error(429), error(500), error(503), CUT_SHORT, RESET])
def test_a_passing_fault_of_transport_is_retried(fault: Response) -> None:
    with OpenAIServer("ok", faults=[fault]) as server, chat_on(server) as chat:
        assert chat.reply(ASK).text == "ok"
        assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("status", "way_out", "requests"),
    [
        (400, "too long for this model", 1),
        (401, "check OPENAI_API_KEY", 1),
        (403, "may not use this model", 1),
        (404, "check the model name and OPENAI_BASE_URL", 1),
        (422, "does not know this form of request", 1),
        (429, "raise max_retries", 2),
        (500, "try again later", 2),
    ],
)
def test_a_refusal_names_its_status_its_words_and_the_way_out(
    status: int, way_out: str, requests: int
) -> None:
    with OpenAIServer(faults=[error(status, "no mug")] * 2) as server, chat_on(server) as chat:
        with pytest.raises(ModelError, match=f"{status}.*no mug.*{way_out}"):
            chat.reply(ASK)

        assert len(server.requests) == requests


def test_an_error_without_json_is_still_a_model_error() -> None:
    with (
        OpenAIServer(faults=[Response(b"<h1>Forbidden</h1>", status=403)]) as server,
        chat_on(server) as chat,
        pytest.raises(ModelError, match="403"),
    ):
        chat.reply(ASK)


def test_a_key_that_the_server_echoes_is_not_shown() -> None:
    with (
        OpenAIServer(faults=[error(401, "Incorrect API key provided: sk-secret-1.")]) as server,
        chat_on(server, api_key="sk-secret-1") as chat,
        pytest.raises(ModelError) as caught,
    ):
        chat.reply(ASK)

    assert "sk-secret-1" not in str(caught.value)
    assert "***" in str(caught.value)


def test_a_server_that_never_answers_is_given_up_after_the_time_limit() -> None:
    with OpenAIServer(SILENCE) as server, chat_on(server, timeout_s=0.3, max_retries=0) as chat:
        start = time.monotonic()
        with pytest.raises(ModelError, match=r"within 0\.3 s \(1 try\); raise timeout_s"):
            chat.reply(ASK)

        assert time.monotonic() - start < 2


def test_a_slow_server_is_waited_for_within_the_time_limit() -> None:
    with OpenAIServer(completion("ok", wait_s=0.2)) as server, chat_on(server, max_retries=0) as chat:
        assert chat.reply(ASK).text == "ok"


def test_a_connection_that_breaks_every_time_is_a_model_error() -> None:
    with (
        OpenAIServer(faults=[RESET]) as server,
        chat_on(server, max_retries=0) as chat,
        pytest.raises(ModelError, match="cannot reach"),
    ):
        chat.reply(ASK)


def test_a_refused_connection_names_the_server_and_not_the_password_in_its_url() -> None:
    port = unused_port()
    with (
        closing(OpenAIChat("m", base_url=f"http://me:pass@127.0.0.1:{port}/v1", max_retries=0)) as chat,
        pytest.raises(ModelError, match=f"cannot reach http://127.0.0.1:{port}/v1/ .*BASE_URL") as caught,
    ):
        chat.reply(ASK)

    assert "pass@" not in str(caught.value)


def test_text_that_cannot_be_sent_is_an_input_error() -> None:
    with (
        OpenAIServer() as server,
        chat_on(server) as chat,
        pytest.raises(InputError, match="lone surrogate"),
    ):
        chat.reply([{"role": "user", "content": "a \ud800 mug"}])


# Content: one layer of asking again

UNUSABLE = {
    "garbage": GARBAGE,
    "broken JSON": BROKEN_JSON,
    "no body": Response(),
    "not an object": answer([1, 2]),
    "null": answer(None),
    "empty choices": EMPTY_CHOICES,
    "null choices": answer({"choices": None}),
    "a choice without message": answer({"choices": [{"index": 0}]}),
    "null content": NULL_CONTENT,
    "blank content": completion(" \n"),
    "content of another type": answer({"choices": [{"message": {"content": 7}}]}),
    "a lone surrogate": Response(b'{"choices": [{"message": {"content": "\\ud800"}}]}'),
    "deep nesting": Response(b'{"usage": ' + b"[" * 100_000),
}


@pytest.mark.parametrize("fault", UNUSABLE.values(), ids=UNUSABLE)
def test_an_unusable_success_is_asked_for_again(fault: Response) -> None:
    with OpenAIServer("ok", faults=[fault]) as server, chat_on(server) as chat:
        assert chat.reply(ASK).text == "ok"
        assert len(server.requests) == 2


@pytest.mark.parametrize("fault", UNUSABLE.values(), ids=UNUSABLE)
def test_an_unusable_success_is_asked_for_three_times_at_most(fault: Response) -> None:
    with OpenAIServer(fault) as server, chat_on(server) as chat:
        with pytest.raises(ModelError, match="answered 3 times, but never usefully"):
            chat.reply(ASK)

        assert len(server.requests) == 3


def test_an_error_inside_a_success_is_quoted() -> None:
    with (
        OpenAIServer(answer({"error": {"message": "upstream is down"}})) as server,
        chat_on(server) as chat,
        pytest.raises(ModelError, match="upstream is down"),
    ):
        chat.reply(ASK)


def test_a_model_that_refuses_is_not_asked_again() -> None:
    with OpenAIServer(completion(None, refusal="I will not.")) as server, chat_on(server) as chat:
        with pytest.raises(ModelError, match=r"refused to answer: 'I will not\.'"):
            chat.reply(ASK)

        assert len(server.requests) == 1


def test_an_answer_stopped_by_the_content_filter_is_an_error() -> None:
    with (
        OpenAIServer(completion("half", finish="content_filter")) as server,
        chat_on(server) as chat,
        pytest.raises(ModelError, match="content filter"),
    ):
        chat.reply(ASK)


def test_an_answer_with_a_schema_cut_off_at_its_limit_says_to_raise_max_tokens() -> None:
    with (
        OpenAIServer(completion('{"room": "kit', finish="length")) as server,
        chat_on(server) as chat,
        pytest.raises(ModelError, match="raise max_tokens"),
    ):
        chat.reply(ASK, schema=Place, max_tokens=4)


def test_plain_text_cut_off_at_its_limit_is_an_answer() -> None:
    with OpenAIServer(completion("On the", finish="length")) as server, chat_on(server) as chat:
        assert chat.reply(ASK, max_tokens=2).text == "On the"


def test_an_answer_that_spent_its_limit_on_thinking_is_not_asked_for_again() -> None:
    with OpenAIServer(completion("", finish="length")) as server, chat_on(server) as chat:
        with pytest.raises(ModelError, match="raise max_tokens"):
            chat.reply(ASK, max_tokens=2)

        assert len(server.requests) == 1


# Schemas, and parameters a server does not accept


def test_a_schema_is_sent_in_the_strict_form() -> None:
    with OpenAIServer() as server, chat_on(server) as chat:
        chat.reply(ASK, schema=Place)

        sent = server.requests[0].body["response_format"]
        assert sent["type"] == "json_schema"
        assert sent["json_schema"]["name"] == "Place"
        assert sent["json_schema"]["strict"] is True
        schema = sent["json_schema"]["schema"]
        assert schema["required"] == ["room", "shelf"]
        assert schema["additionalProperties"] is False
        assert "default" not in schema["properties"]["shelf"]


def test_a_strict_schema_closes_nested_objects_and_keeps_properties_named_like_keywords() -> None:
    class House(BaseModel):
        default: Place
        required: list[Place] = Field(default=[], description="All others.")

    schema = strict(House.model_json_schema())

    assert schema["required"] == ["default", "required"]
    assert schema["properties"]["default"] == {"$ref": "#/$defs/Place"}
    assert schema["$defs"]["Place"]["additionalProperties"] is False
    assert schema["properties"]["required"]["items"] == {"$ref": "#/$defs/Place"}


@pytest.mark.parametrize(
    "refusal",
    [
        error(400, "Invalid parameter: 'response_format' of type 'json_schema' is not supported."),
        error(400, "response_format", param="response_format", code="unsupported_parameter"),
        error(404, "No endpoints found that can handle the requested parameters."),
        answer({"detail": [{"loc": ["body", "response_format"], "msg": "Extra inputs"}]}, status=422),
    ],
)
def test_a_server_that_refuses_schemas_answers_without_and_this_is_remembered(refusal: Response) -> None:
    with OpenAIServer("ok", faults=[refusal]) as server, chat_on(server) as chat:
        assert chat.reply(ASK, schema=Place).text == "ok"
        assert chat.reply(ASK, schema=Place).text == "ok"

        sent = ["response_format" in request.body for request in server.requests]
        assert sent == [True, False, False]


def test_a_model_that_takes_no_temperature_answers_without_and_this_is_remembered() -> None:
    words = "Unsupported value: 'temperature' does not support 0.0 with this model."
    refusal = error(400, words, param="temperature", code="unsupported_value")
    with OpenAIServer("ok", faults=[refusal]) as server, chat_on(server) as chat:
        chat.reply(ASK)
        chat.reply(ASK)

        assert ["temperature" in request.body for request in server.requests] == [True, False, False]


def test_a_parameter_left_out_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with OpenAIServer("ok", refuses=["temperature"]) as server, chat_on(server) as chat:
        chat.reply(ASK)

    assert "openai:m does not accept temperature" in caplog.text


def test_a_model_that_wants_max_completion_tokens_gets_it() -> None:
    words = "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead."
    refusal = error(400, words, param="max_tokens", code="unsupported_parameter")
    with OpenAIServer("ok", faults=[refusal]) as server, chat_on(server) as chat:
        chat.reply(ASK, max_tokens=9)

        assert "max_tokens" not in server.requests[1].body
        assert server.requests[1].body["max_completion_tokens"] == 9


def test_a_server_that_refuses_all_options_is_still_answered_by() -> None:
    refuses = ["response_format", "temperature", "max_tokens"]
    with OpenAIServer("ok", refuses=refuses) as server, chat_on(server) as chat:
        assert chat.reply(ASK, schema=Place, max_tokens=9).text == "ok"
        assert len(server.requests) == 4


def test_threads_that_meet_the_same_refusal_at_once_are_all_answered() -> None:
    with (
        OpenAIServer("ok", refuses=["response_format", "temperature"]) as server,
        chat_on(server) as chat,
        ThreadPoolExecutor(8) as pool,
    ):
        replies = pool.map(lambda _: chat.reply(ASK, schema=Place).text, range(16))

        assert list(replies) == ["ok"] * 16


@pytest.mark.parametrize(
    "words",
    [
        "max_tokens is too large: 999999. This model supports at most 4096 completion tokens.",
        "Invalid 'temperature': decimal above maximum value. Expected a value <= 2, but got 5.",
    ],
)
def test_a_value_out_of_range_is_the_callers_to_hear(words: str) -> None:
    with OpenAIServer(faults=[error(400, words)]) as server, chat_on(server) as chat:
        with pytest.raises(ModelError, match="400"):
            chat.reply(ASK, temperature=5, max_tokens=999999)

        assert len(server.requests) == 1


# Settings


def test_with_neither_key_nor_server_it_says_what_to_set() -> None:
    with pytest.raises(InputError, match="set OPENAI_API_KEY, or set OPENAI_BASE_URL"):
        chat_model("openai:gpt-4o")


def test_a_server_of_ones_own_needs_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    with OpenAIServer("ok") as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        chat = chat_model("openai:m")
        assert isinstance(chat, OpenAIChat)
        with closing(chat):
            assert chat.reply(ASK).text == "ok"


def test_the_key_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1\n")
    with OpenAIServer() as server, chat_on(server) as chat:
        chat.reply(ASK)

        assert server.requests[0].headers["authorization"] == "Bearer sk-1"


def test_a_model_says_which_server_answers_without_user_and_password() -> None:
    with closing(OpenAIChat("m", base_url="http://me:pass@127.0.0.1:9/v1")) as chat:
        assert chat.server == "http://127.0.0.1:9/v1/"


def test_a_blank_base_url_means_openai_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", " ")
    with pytest.raises(InputError, match="no OpenAI key"):
        OpenAIChat("m")


@pytest.mark.parametrize("key", ["sk-…", "sk-1\nx"])
def test_a_key_that_cannot_be_sent_is_refused_without_being_shown(key: str) -> None:
    with pytest.raises(InputError, match="copy it again") as caught:
        OpenAIChat("m", api_key=key)

    assert key not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["localhost:8000/v1", "ftp://h/v1", "http://", "http://h:port/v1", "http://[h"]
)
def test_a_base_url_that_is_none_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(InputError, match=f"{re.escape(repr(url))} must look like http://localhost:8000/v1"):
        OpenAIChat("m", base_url=url)


@pytest.mark.parametrize("setting", [{"timeout_s": 0}, {"timeout_s": float("nan")}, {"max_retries": -1}])
def test_a_time_limit_or_number_of_retries_out_of_range_is_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(setting))):
        OpenAIChat("m", api_key="k", **setting)


def test_a_client_of_ones_own_is_used() -> None:
    with (
        OpenAIServer("ok") as server,
        openai.OpenAI(base_url=server.base_url, api_key="k") as client,
    ):
        assert OpenAIChat("m", client=client).reply(ASK).text == "ok"


def test_a_model_error_survives_pickling() -> None:
    with (
        OpenAIServer(faults=[error(401)]) as server,
        chat_on(server) as chat,
        pytest.raises(ModelError) as caught,
    ):
        chat.reply(ASK)

    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


# Names


@pytest.mark.parametrize("spec", ["gpt-4o", "", "openai:", "openai: "])
def test_a_name_without_provider_or_model_shows_the_right_form(spec: str) -> None:
    with pytest.raises(InputError, match="'openai:gpt-4o'"):
        chat_model(spec)


def test_a_mistyped_provider_is_met_with_the_nearest_one() -> None:
    with pytest.raises(InputError, match=r"unknown chat model provider 'opnai'\. Did you mean 'openai'\?"):
        chat_model("opnai:gpt-4o")


def test_an_object_and_none_pass_through() -> None:
    chat = ScriptedChat([])

    assert chat_model(chat) is chat
    assert chat_model(None) is None


def test_an_object_that_cannot_reply_is_refused() -> None:
    with pytest.raises(InputError, match="no chat model"):
        chat_model(7)  # type: ignore[arg-type]


def test_a_model_is_named_by_provider_and_model() -> None:
    assert OpenAIChat("gpt-4o", api_key="k").name == "openai:gpt-4o"


# The double


def test_a_scripted_chat_answers_in_order_and_records_what_was_asked() -> None:
    chat: ChatModel = (scripted := ScriptedChat(["one", "two"]))

    assert [chat.reply(ASK).text, chat.reply(ASK[1:], max_tokens=5, schema=Place).text] == ["one", "two"]
    assert scripted.calls[0].messages == tuple(ASK)
    assert (scripted.calls[1].max_tokens, scripted.calls[1].schema) == (5, Place)


def test_a_scripted_chat_can_compute_its_answer() -> None:
    chat = ScriptedChat(lambda messages: messages[-1]["content"].upper())

    assert chat.reply(ASK).text == "WHERE IS THE MUG?"


def test_a_scripted_exception_is_raised_in_its_turn() -> None:
    chat = ScriptedChat([ModelError("down"), "up"])

    with pytest.raises(ModelError, match="down"):
        chat.reply(ASK)
    assert chat.reply(ASK).text == "up"


def test_a_script_that_has_run_out_says_how_many_replies_it_had() -> None:
    chat = ScriptedChat(["one", "two"])
    chat.reply(ASK)
    chat.reply(ASK)

    with pytest.raises(ModelError, match="it had 2 replies"):
        chat.reply(ASK)
    assert len(chat.calls) == 3


def test_a_scripted_reply_that_is_empty_is_an_error_as_with_any_model() -> None:
    with pytest.raises(ModelError, match="empty"):
        ScriptedChat([""]).reply(ASK)


def test_a_text_is_no_script() -> None:
    with pytest.raises(InputError, match="list of texts"):
        ScriptedChat("hello")


def test_a_scripted_count_is_labelled_an_estimate() -> None:
    reply = ScriptedChat(["On the shelf."]).reply(ASK)

    assert (reply.tokens_in > 0, reply.tokens_out > 0, reply.counted_by) == (True, True, "estimate")


def test_threads_share_a_script_without_losing_or_repeating_a_reply() -> None:
    chat = ScriptedChat(str(i) for i in range(200))
    with ThreadPoolExecutor(8) as pool:
        given = list(pool.map(lambda _: chat.reply(ASK).text, range(200)))

    assert sorted(given, key=int) == [str(i) for i in range(200)]
