"""The seam to text environments, in Gymnasium's terms."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypedDict

from memp.errors import TaskError
from memp.trajectory import Step, Trajectory

Split = Literal["train", "dev", "test"]


@dataclass(frozen=True)
class Task:
    """One task of an environment: the unit of splitting, sampling and pairing."""

    id: str
    """Unique in its environment, e.g. `boil/3`; what the leakage guard compares."""

    kind: str
    """The type of task it belongs to."""

    split: Split


class Info(TypedDict):
    """What `reset` and `step` say beside the observation."""

    task: str
    """The task in words: what an agent is told and a memory retrieves by."""

    task_id: str
    """`Task.id`."""

    score: float
    """The benchmark's score of the episode so far, in [0, 1]: a trajectory's reward."""

    success: bool
    """Whether the goal is fully met."""


class TextEnv(Protocol):
    """A text environment; one thread uses one at a time. Same task and seed: same episode."""

    name: str
    """The environment's name and version, e.g. `gridworld-1`."""

    def tasks(self, split: Split) -> Sequence[Task]:
        """Every task of `split`, in a fixed order."""
        ...

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, Info]:
        """Begin an episode and return its first observation.

        Args:
            seed: Decides all that is random; None draws one.
            options: `{"task": id}` chooses the task; without it the seed draws
                a task of the training split.

        Raises:
            TaskError: if there is no such task.
        """
        ...

    def step(self, action: str) -> tuple[str, float, bool, bool, Info]:
        """Act; return observation, reward of this step, terminated, truncated, info.

        An action the environment does not know costs a step and is answered in
        words; it never raises.

        Raises:
            TaskError: before the first `reset`, or after the episode ended.
        """
        ...

    def admissible(self) -> tuple[str, ...]:
        """The actions the environment would carry out now, in a fixed order."""
        ...

    def expert(self, task_id: str) -> tuple[str, ...]:
        """The actions of an expert that does this task, for `reset(0, {"task": task_id})`.

        Leaves the environment needing a `reset`.
        """
        ...

    def close(self) -> None:
        """Free what the environment holds; calling it twice does no harm."""
        ...


def spread(tasks: Sequence[Task], count: int | None) -> list[Task]:
    """Return `count` of the tasks, at even distances and in their order; all for None or where there are fewer."""
    if count is None or count >= len(tasks):
        return list(tasks)
    return [tasks[place * len(tasks) // count] for place in range(count)]


def rollout(env: TextEnv, task_id: str, actions: Iterable[str], *, seed: int = 0) -> Trajectory:
    """Carry out `actions` in one task, to the end of the episode or of the actions."""
    start, info = env.reset(seed, {"task": task_id})
    steps = []
    for action in actions:
        observation, _, terminated, truncated, info = env.step(action)
        steps.append(Step(action=action, observation=observation))
        if terminated or truncated:
            break
    if not steps:
        raise TaskError(f"there is no action to carry out in task {task_id!r}")
    return Trajectory(
        task=info["task"], steps=tuple(steps), reward=info["score"], start=start, task_id=info["task_id"]
    )


def expert_trajectory(env: TextEnv, task_id: str) -> Trajectory:
    """The episode of the environment's own expert."""
    return rollout(env, task_id, env.expert(task_id))
