"""Tool calls of running episodes, for the adapters: each has its place when it begins, and is a step once it ends."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from threading import Lock
from weakref import WeakKeyDictionary

from memp.episode import Episode
from memp.trajectory import Step, heard


class ToolCalls:
    """Tells episodes of the calls made in them, in the order in which they were asked for or began.

    Holds any number of episodes at once, and is safe to use from several threads. It never raises: an agent is not
    to fail because of what cannot be recorded.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._places: WeakKeyDictionary[Episode, list[tuple[Hashable, Step | None]]] = WeakKeyDictionary()

    def expect(self, episode: Episode, keys: Iterable[Hashable]) -> None:
        """Keep a place for each of some calls, in this order; one that has a place keeps it."""
        with self._lock:
            places = self._places.setdefault(episode, [])
            known = {key for key, _ in places}
            places += [(key, None) for key in keys if key not in known]

    def ended(self, episode: Episode, key: Hashable, action: str, observation: str) -> None:
        """Tell an episode of a call that has ended; one without a place, or that is made again, comes last."""
        step = heard(action, observation)
        with self._lock:
            places = self._places.setdefault(episode, [])
            if (key, None) in places:
                places[places.index((key, None))] = (key, step)
            else:
                places.append((key, step))
            episode.hear([step for _, step in places if step is not None])
