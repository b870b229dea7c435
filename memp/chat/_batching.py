"""Threads that ask at the same time are answered together."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from threading import Condition, Event, Thread
from typing import Generic, Protocol, TypeVar

logger = logging.getLogger(__name__)

IDLE_S = 0.2
"""How long the thread that does the work waits for more of it; so long may the interpreter's end be held up."""


class Job(Protocol):
    """Work that takes some steps."""

    @property
    def done(self) -> bool:
        """Whether it needs no further step, having succeeded or failed."""
        ...

    def restart(self) -> None:
        """Forget all steps made so far."""
        ...


class TooMany(Exception):
    """There are too many jobs at once for the memory there is."""


J = TypeVar("J", bound=Job)


class _Caller(Generic[J]):
    """A thread that waits for its job."""

    def __init__(self, job: J) -> None:
        self.job = job
        self.answered = Event()
        self.error: BaseException | None = None


class Batcher(Generic[J]):
    """Advances the jobs of many threads together. Safe to use from several threads.

    A job may join at any step, and leaves as soon as it is done. All steps are made by one thread,
    which starts with the first job and ends when there have been none for a while. (That a caller
    makes them, each in its turn, was a quarter slower: torch keeps memory and helpers by thread.)

    Args:
        advance: Makes one step of every job given. A failure that concerns one job is that job's to
            keep. `TooMany` has the batch halved, from then on; the half that stays has made no step.
        limit: Most jobs in one step, at least 1.
    """

    def __init__(self, advance: Callable[[list[J]], None], limit: int) -> None:
        self._advance = advance
        self._limit = limit
        self._changed = Condition()  # over the three below; never held during a step
        self._waiting: deque[_Caller[J]] = deque()
        self._active: list[_Caller[J]] = []
        self._worker: Thread | None = None

    def run(self, job: J) -> None:
        """Return when the job is done."""
        caller = _Caller(job)
        try:
            with self._changed:
                if self._worker is None or not self._worker.is_alive():  # not alive in a process forked off
                    self._worker = Thread(target=self._work, name="memp-batcher")
                    self._worker.start()
                self._waiting.append(caller)
                self._changed.notify()
            caller.answered.wait()
        finally:
            if not caller.answered.is_set():  # Ctrl-C
                self._abandon(caller)
        if caller.error is not None:
            raise caller.error

    def _abandon(self, caller: _Caller[J]) -> None:
        with self._changed:
            if caller in self._waiting:
                self._waiting.remove(caller)
            if caller in self._active:
                self._active.remove(caller)

    def _work(self) -> None:
        while active := self._next():
            try:
                self._advance([caller.job for caller in active])
            except TooMany:
                self._halve()
            except BaseException as error:  # noqa: BLE001 - or else all callers would wait for ever
                self._dismiss([(caller, error) for caller in active])
            else:
                self._dismiss([(caller, None) for caller in active if caller.job.done])

    def _next(self) -> list[_Caller[J]]:
        """Return who takes part in the next step, or no one once there has been nothing to do for a while."""
        with self._changed:
            if not self._active:
                self._changed.wait_for(lambda: self._waiting, timeout=IDLE_S)
            while self._waiting and len(self._active) < self._limit:
                self._active.append(self._waiting.popleft())
            if not self._active:
                self._worker = None
            return list(self._active)

    def _halve(self) -> None:
        """Put the later half of the batch back to wait."""
        with self._changed:
            self._limit = (len(self._active) + 1) // 2 or 1
            self._active, later = self._active[: self._limit], self._active[self._limit :]
            for caller in later:
                caller.job.restart()
            self._waiting.extendleft(reversed(later))
        logger.warning("the memory is used up: from now on at most %d are answered at once", self._limit)

    def _dismiss(self, answered: list[tuple[_Caller[J], BaseException | None]]) -> None:
        gone = {caller for caller, _ in answered}
        with self._changed:
            self._active = [caller for caller in self._active if caller not in gone]
        for caller, error in answered:
            caller.error = error
            caller.answered.set()
