"""What a wrapped client has heard in an episode, and the steps that this makes."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock, RLock
from typing import TypeAlias
from weakref import WeakKeyDictionary

from memp.episode import Episode
from memp.integrations.openai.wire import Body, Wire
from memp.transcripts.events import Called, Event, Returned, steps

log = logging.getLogger(__name__)

Answer: TypeAlias = Callable[[], list[Event]]
"""What an answer says and calls, as far as it has come."""


@dataclass
class Turn:
    """One request with its answer."""

    asked: int
    told: list[Event]
    answers: list[Answer] = field(default_factory=list)
    """Several where the same was asked again."""

    def answer(self, returned: Collection[str]) -> list[Event]:
        """The answer that was made use of: the last whose calls returned something, or else the last."""
        found = [answer() for answer in reversed(self.answers)]
        used = (
            answer
            for answer in found
            if any(isinstance(event, Called) and event.id in returned for event in answer)
        )
        return next(used, found[0] if found else [])


class Hearing:
    """What was heard in one episode. Safe to use from several threads."""

    def __init__(self) -> None:
        self._turns: list[Turn] = []
        self._lock = RLock()  # a stream may end where a garbage collection interrupts another method
        self._changed = False

    def ask(self, wire: Wire, body: Body) -> Turn:
        """Hear a request; one that is put again, because it failed or another answer is wanted, is the same turn."""
        with self._lock:
            asked = _fingerprint(wire.asked(body))
            if self._turns and self._turns[-1].asked == asked:
                return self._turns[-1]
            turn = Turn(asked, wire.told(body, self._waiting()))
            self._turns.append(turn)
            self._changed = True
            return turn

    def answer(self, turn: Turn, answer: Answer) -> None:
        """Hear an answer."""
        with self._lock:
            turn.answers.append(answer)
            self._changed = True

    def answered_before(self, turn: Turn) -> bool:
        """Whether a request other than this one was answered."""
        with self._lock:
            return any(other.answers for other in self._turns if other is not turn)

    def came(self) -> None:
        """Note that more has come of an answer."""
        self._changed = True

    def tell(self, episode: Episode) -> None:
        """Tell the episode its steps, if anything was heard since it was last told."""
        with self._lock:
            if self._changed:
                self._changed = False
                episode.hear(steps(self._events()))

    def _events(self) -> list[Event]:
        returned = {event.id for turn in self._turns for event in turn.told if isinstance(event, Returned)}
        return [event for turn in self._turns for event in (*turn.told, *turn.answer(returned))]

    def _waiting(self) -> set[str]:
        """The ids of calls without a result."""
        waiting: set[str] = set()
        for turn in self._turns:
            waiting -= {event.id for event in turn.told if isinstance(event, Returned)}
            waiting |= {
                event.id for answer in turn.answers for event in answer() if isinstance(event, Called)
            }
        return waiting


_HEARINGS: WeakKeyDictionary[Episode, Hearing] = WeakKeyDictionary()
_HEARINGS_LOCK = Lock()


def hearing(episode: Episode) -> Hearing:
    """What is heard in an episode, by all clients together."""
    with _HEARINGS_LOCK:
        return _HEARINGS.setdefault(episode, Hearing())


@contextmanager
def never_breaking() -> Iterator[None]:
    """Log what goes wrong in here: the caller's loop goes on without being recorded."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  whatever it is, the request is not to fail for it
        log.warning("a request or its answer cannot be recorded and is passed over: %r", error)


def _fingerprint(value: object) -> int:
    """Equal for equal JSON; made in one pass, for a conversation may be long."""
    return hash(json.dumps(value, ensure_ascii=False, default=repr))
