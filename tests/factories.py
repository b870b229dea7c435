"""Small makers of what the tests need; every argument has a value that works."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
from numpy.typing import ArrayLike

from memp.embedding.base import FloatMatrix, unit
from memp.procedure import Procedure, Provenance, Script, procedure_id
from memp.trajectory import Step, Trajectory

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

SCRIPT = "Goal: heat things\n1. open the {oven}\n2. pay $5"
"""What a chat model answers when it is asked for a script."""


def trajectory(
    task: str = "heat an egg",
    actions: str = "open oven, put egg",
    reward: float = 1.0,
    *,
    start: str = "",
    task_id: str = "",
    episode_id: str = "",
    shown: Sequence[str] = (),
    finished: bool = True,
) -> Trajectory:
    """Make an episode; its actions are separated by commas."""
    return Trajectory(
        task=task,
        steps=tuple(
            Step(action=action, observation=f"you {action}") for action in actions.split(", ") if action
        ),
        reward=reward,
        start=start,
        task_id=task_id,
        episode_id=episode_id,
        shown=tuple(shown),
        finished=finished,
    )


def procedure(
    task: str = "heat an egg", reward: float = 1.0, *, source: str = "", script: Script | None = None
) -> Procedure:
    """Make a procedure as `build` would."""
    source = source or task
    return Procedure(
        id=procedure_id(source),
        task=task,
        source=source,
        reward=reward,
        length=2,
        trajectory=trajectory(task, reward=reward),
        script=script,
        provenance=Provenance(granularity="trajectory", created=NOW),
    )


def id_of(task: str) -> str:
    """The id of the procedure of a task."""
    return procedure_id(task)


def vectors(*rows: ArrayLike) -> FloatMatrix:
    """Make unit rows."""
    return unit(np.array(rows, dtype=np.float64))
