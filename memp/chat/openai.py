"""Chat models behind OpenAI, or behind any server that speaks its protocol."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from memp import tokens
from memp._openai import ContentError, address, ask, connect
from memp.chat.base import Message, Reply
from memp.chat.dialect import Dialect, Request
from memp.chat.schema import response_format
from memp.errors import InputError, ModelError

if TYPE_CHECKING:
    from openai import OpenAI


class OpenAIChat:
    """A chat model on an OpenAI-compatible server.

    The `openai` client retries transport faults and keeps the time limit; on top, a broken or an
    empty answer is asked for again. A parameter that the server refuses (a schema, a temperature)
    is left out from then on.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        timeout_s: float = 60,
        max_retries: int = 4,
        client: OpenAI | None = None,
    ) -> None:
        """Connect; nothing is sent yet.

        Args:
            model: As the server calls it.
            base_url: Of the server; None reads OPENAI_BASE_URL, and then takes OpenAI's own.
            api_key: None reads OPENAI_API_KEY; a server of one's own may need none.
            timeout_s: Longest silence of the server, in seconds, for one try.
            max_retries: Tries after the first one, for faults of transport.
            client: A client to use instead; the four options above are then its own.

        Raises:
            InputError: if the model's name is empty, or there is neither a key nor a base URL.
        """
        if not model.strip():
            raise InputError("the model name is empty; write for example 'openai:gpt-4o'")
        self._model = model
        self._client = client or connect(base_url, api_key, timeout_s=timeout_s, max_retries=max_retries)
        self._dialect = Dialect(self.name)

    @property
    def name(self) -> str:
        """`openai:<model>`."""
        return f"openai:{self._model}"

    @property
    def server(self) -> str:
        """The URL of the server; a model of the same name at another one is another model."""
        return address(self._client)

    def reply(
        self,
        messages: Sequence[Message],
        *,
        schema: type[BaseModel] | None = None,
        temperature: float = 0.0,
        max_tokens: int | None = None,
    ) -> Reply:
        """Answer the conversation; see `ChatModel.reply`.

        The tokens are those of the try that succeeded, as the server counted them, or else as
        `memp.tokens` does.

        Raises:
            ModelError: if the server could not be reached, refused, answered nothing usable, or
                cut an answer with a schema short at `max_tokens`.
        """
        request: Request = {"model": self._model, "messages": list(messages), "temperature": temperature}
        if max_tokens is not None:
            request["max_tokens"] = max_tokens
        if schema is not None:
            request["response_format"] = response_format(schema)

        def read(body: bytes) -> Reply:
            completion = _Completion.model_validate_json(body)
            text = self._text(completion, cut_is_fault=schema is not None)
            return self._counted(text, messages, completion.usage)

        return ask(self.name, self._client, lambda: self._send(request), read)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _send(self, request: Request) -> bytes:
        """Return the body of the answer, after leaving out whatever the server refuses."""
        from openai import APIStatusError

        while True:  # at most once per parameter that can be refused
            sent = self._dialect.adapt(request)
            try:
                # The raw body, because the client builds its values without checking them; and all of the
                # request as an extra one, because it would else match each message with every type that a
                # message may be, which takes more time than all the rest, the more the longer they talk.
                completions = self._client.chat.completions.with_raw_response
                return completions.create(model=self._model, messages=[], extra_body=sent).content
            except APIStatusError as error:
                if not self._dialect.learn(error, sent):
                    raise

    def _text(self, completion: _Completion, *, cut_is_fault: bool) -> str:
        if not completion.choices:
            raise ContentError(
                f"no choices, error {completion.error!r}" if completion.error else "no choices"
            )
        message, finish = completion.choices[0].message, completion.choices[0].finish_reason
        text = message.content or ""
        if message.refusal:
            raise ModelError(f"{self.name} refused to answer: {message.refusal!r}")
        if finish == "content_filter":
            raise ModelError(f"{self.name}: the server's content filter stopped the answer")
        if finish == "length" and (cut_is_fault or not text.strip()):
            raise ModelError(f"{self.name}: the answer was cut off at its token limit; raise max_tokens")
        if not text.strip():
            raise ContentError("empty content")
        return text

    def _counted(self, text: str, messages: Sequence[Message], usage: object) -> Reply:
        """Put the tokens beside the text; zeros from a server that does not count are no count."""
        counts = usage if isinstance(usage, dict) else {}
        sent, got = counts.get("prompt_tokens"), counts.get("completion_tokens")
        if isinstance(sent, int) and isinstance(got, int) and sent > 0 and got > 0:
            return Reply(text=text, tokens_in=sent, tokens_out=got)
        asked, answered = tokens.count_messages(messages, self._model), tokens.count(text, self._model)
        return Reply(text=text, tokens_in=asked.n, tokens_out=answered.n, counted_by=answered.counted_by)


class _Message(BaseModel):
    content: str | None = None
    refusal: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Completion(BaseModel):
    """The part of a chat completion that is used."""

    choices: list[_Choice] | None = None
    usage: Any = None
    error: Any = None  # some routers answer 200 with an error inside
