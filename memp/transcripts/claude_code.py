"""Session files of Claude Code: a JSON object a line; a whole session is one trajectory."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict
from pydantic.alias_generators import to_camel

from memp import calls
from memp.trajectory import Trajectory
from memp.transcripts.events import Called, Event, Returned, Said, trajectory
from memp.transcripts.fields import Arguments, Read, Text

SYNTHETIC = "<synthetic>"
"""The model of answers that the program wrote itself, such as errors."""

_COMMAND = re.compile(
    r"<command-name>(.*?)</command-name>(?:.*<command-args>(.*?)</command-args>)?", re.DOTALL
)
_OUTPUT = re.compile(r"\s*<local-command-\w+>")


class Block(Read):
    """One part of a message."""

    type: str
    text: str | None = None
    id: str | None = None
    name: str | None = None
    input: Arguments = None
    tool_use_id: str | None = None
    content: Text = ""


def _blocks(content: object) -> object:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


class Message(Read):
    """What was said, called or returned."""

    content: Annotated[list[Block], BeforeValidator(_blocks)]
    model: str | None = None


class Entry(Read):
    """A line of a user or an assistant; those of other types say nothing of what was done."""

    model_config = ConfigDict(alias_generator=to_camel)

    message: Message
    uuid: str = ""
    session_id: str = ""
    agent_id: str = ""
    """Of a subagent, whose session is one of its own."""

    is_sidechain: bool = False
    is_meta: bool = False
    is_compact_summary: bool = False

    @property
    def counts(self) -> bool:
        """Whether the user or the agent said it, and not the program."""
        beside = self.is_sidechain and not self.agent_id  # mixed with the session that it belongs to
        return not (beside or self.is_meta or self.is_compact_summary or self.message.model == SYNTHETIC)


@dataclass
class _Session:
    """What is known of a session so far."""

    line: int
    events: list[Event] = field(default_factory=list)
    prompt: str = ""
    """The last text before the agent did anything ..."""

    command: str = ""
    """... and the last command, such as `/review`."""

    acted: bool = False
    seen: set[str] = field(default_factory=set)

    def add(self, entry: Entry, *, by_agent: bool) -> None:
        """Take in a line; one that was there before, as in a session that was resumed, is passed over."""
        if entry.uuid and entry.uuid in self.seen:
            return
        self.seen.add(entry.uuid)
        for block in entry.message.content:
            if block.type == "tool_use" and by_agent:
                self.events.append(Called(block.id or "", calls.written(block.name or "", block.input)))
            elif block.type == "tool_result":
                self.events.append(Returned(block.tool_use_id or "", block.content))
            elif block.type == "text" and by_agent:
                self.events.append(Said(True, block.text or ""))
            elif block.type == "text":
                self._told(block.text or "")
        self.acted |= by_agent

    def _told(self, text: str) -> None:
        if _OUTPUT.match(text):
            return
        command = _COMMAND.search(text)
        said = text if command is None else f"{command[1]} {command[2] or ''}".strip()
        self.events.append(Said(False, said))
        if not self.acted and command is None:
            self.prompt = said
        elif not self.acted:
            self.command = said


def read(lines: Iterable[tuple[int, Any]], refuse: Callable[[int, ValueError], None]) -> Iterator[Trajectory]:
    """Yield a trajectory from each session, in the order in which they begin.

    The task is the last prompt before the agent acts; prompts that follow are observations of what it said.
    Attempts that the user took back are in the file and stay in the trajectory.

    Args:
        lines: The value of each line, with its number; of one session file, or of several one after the other.
        refuse: Is told of each line that cannot be used, and why.
    """
    sessions: dict[tuple[str, str], _Session] = {}
    for number, value in lines:
        kind = value.get("type") if isinstance(value, dict) else None
        if kind not in ("user", "assistant"):
            if not isinstance(kind, str):
                refuse(number, ValueError("type: Field required; the line is of no session file"))
            continue
        try:
            entry = Entry.model_validate(value)
        except ValueError as error:
            refuse(number, error)
            continue
        if entry.counts:
            session = sessions.setdefault((entry.session_id, entry.agent_id), _Session(number))
            session.add(entry, by_agent=kind == "assistant")
    for (session_id, agent_id), session in sessions.items():
        try:
            task = session.prompt or session.command
            yield trajectory(session.events, task=task, episode_id=agent_id or session_id)
        except ValueError as error:
            refuse(session.line, error)
