"""An agent that asks a chat model what to do."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from memp import guidance
from memp.agents.base import Admissible, Policy
from memp.chat.base import ChatModel, Message
from memp.errors import ReplyFormatError
from memp.procedure import Match
from memp.prompts import act

log = logging.getLogger(__name__)


class LLMAgent:
    """Shows the chat model the guidance, the task and what it sees, and does what it answers.

    A model that answers nothing has given up.
    """

    def __init__(self, chat: ChatModel, *, temperature: float = 0.0, max_tokens: int = 512) -> None:
        """Take the chat model, and how it is to answer."""
        self._chat = chat
        self._temperature = temperature
        self._max_tokens = max_tokens

    @property
    def name(self) -> str:
        """`llm/<chat model>`."""
        return f"llm/{self._chat.name}"

    def start(self, task: str, matches: Sequence[Match] = (), *, seed: int = 0) -> Policy:  # noqa: ARG002
        """Begin an episode; a chat model has no seed of ours."""
        return _LLMPolicy(self._chat, task, guidance.render(matches), self._temperature, self._max_tokens)


class _LLMPolicy:
    """The conversation of one episode."""

    def __init__(self, chat: ChatModel, task: str, guide: str, temperature: float, max_tokens: int) -> None:
        self.tokens_in = 0
        self.tokens_out = 0
        self._chat = chat
        self._task = task
        self._guidance = guide
        self._temperature = temperature
        self._max_tokens = max_tokens
        self._messages: list[Message] = [{"role": "system", "content": act.SYSTEM}]

    def act(self, observation: str, admissible: Admissible) -> str | None:
        self._tell(observation, admissible())
        try:
            return act.parse(self._answer())
        except ReplyFormatError as error:
            said = error.reply.strip()
            then = "its last line is taken as the action" if said else "the episode ends there"
            log.warning("%s; %s", error, then)
            return said.splitlines()[-1].strip() if said else None

    def lived(self, observation: str, admissible: Sequence[str], action: str) -> None:
        """Take over a turn that was done for it, as if the chat model had answered it so."""
        self._tell(observation, admissible)
        self._messages.append({"role": "assistant", "content": act.answer(action)})

    def _tell(self, observation: str, options: Sequence[str]) -> None:
        """Say what there is to see and what can be done."""
        first = len(self._messages) == 1
        content = (
            act.render(self._task, self._guidance, observation, options)
            if first
            else act.turn(observation, options)
        )
        self._messages.append({"role": "user", "content": content})

    def _answer(self) -> str:
        """What the chat model says next."""
        reply = self._chat.reply(self._messages, temperature=self._temperature, max_tokens=self._max_tokens)
        self.tokens_in += reply.tokens_in
        self.tokens_out += reply.tokens_out
        self._messages.append({"role": "assistant", "content": reply.text})
        return reply.text
