"""What the experts of a world did: kept as JSON lines, so that it is done once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from evals.rows import Lines
from evals.runner import for_each
from evals.worlds import World
from memp.trajectory import Trajectory
from tasks.base import Task, TextEnv, expert_trajectory


def experts(
    world: World, lines: Lines[Trajectory], *, workers: int, tell: Callable[[Sequence[Trajectory]], None]
) -> list[Trajectory]:
    """Return the expert trajectories of a world's training tasks, in their order; the missing ones are made.

    Args:
        world: Where.
        lines: Those made so far; what is there of other tasks is passed over.
        workers: How many are made at once.
        tell: Is told of what there is, first and after each.

    Raises:
        MempError: if the environment failed; what was made stays.
    """
    wanted = {task.id for task in world.train}

    def found() -> dict[str, Trajectory]:
        return {held.task_id: held for held in lines.held if held.task_id in wanted}

    def work(env: TextEnv, task: Task) -> None:
        lines.add(expert_trajectory(env, task.id))
        tell(list(found().values()))

    done = found()
    tell(list(done.values()))
    missing = [task for task in world.train if task.id not in done]
    for_each(missing, work, world.open_for_experts, workers=workers)
    made = found()
    return [made[task.id] for task in world.train]
