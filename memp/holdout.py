"""Leaving memory out of some episodes by chance, and noting how those and the others ended."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from memp.store.base import ProcedureStore
from memp.trajectory import Trajectory
from memp.trial import Trial


class Holdout:
    """Decides which episodes go without memory, and keeps the account in the store."""

    def __init__(self, store: ProcedureStore, seed: int) -> None:
        """Take the store, and what decides together with the tasks."""
        self._store = store
        self._seed = seed

    def decide(self, begun: Trajectory, share: float) -> bool:
        """Say whether an episode goes without memory, and note it before it is lived through."""
        with self._store.transaction():
            earlier = self._store.count_trials(begun.source)
            decided = held_out(begun.source, earlier, holdout=share, seed=self._seed)
            self._store.put_trial(
                Trial(
                    episode_id=begun.episode_id,
                    source=begun.source,
                    held_out=decided,
                    holdout=share,
                    begun=datetime.now(UTC),
                )
            )
        return decided

    def end(self, trajectories: Iterable[Trajectory], succeeded: Callable[[Trajectory], bool]) -> None:
        """Note how those episodes ended that were decided on; within a transaction."""
        for trajectory in trajectories:
            if not trajectory.finished or not trajectory.episode_id:
                continue
            for trial in self._store.trials(trajectory.episode_id):
                ended = {
                    "reward": trajectory.reward,
                    "success": succeeded(trajectory),
                    "steps": len(trajectory.steps),
                }
                self._store.put_trial(trial.model_copy(update=ended))


def held_out(source: str, earlier: int, *, holdout: float, seed: int) -> bool:
    """Let chance decide, the same way each time it is asked about the same episode.

    Args:
        source: The identity of the task.
        earlier: How many trials of this task there were before.
        holdout: The share of episodes to leave memory out of.
        seed: Of the memory.
    """
    return random.Random(f"{seed}/{earlier}/{source}").random() < holdout
