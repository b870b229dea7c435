"""Running a study: every arm on the same tasks and seeds, resumed where it stopped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from evals.arms import Arm
from evals.folder import Folder
from evals.manifest import describe
from evals.memories import Memories, Opened
from evals.plan import Plan
from evals.rows import Lines, Row
from evals.runner import Progress, for_each, run_episode
from evals.tally import Tally
from evals.worlds import World, refuse_leaks
from memp.procedure import Match
from tasks.base import Split, Task, TextEnv


class Job(NamedTuple):
    """An episode to run."""

    arm: Arm
    task: Task
    seed: int

    @property
    def key(self) -> tuple[str, str, Split, int]:
        """That of its row."""
        return self.arm.name, self.task.id, self.task.split, self.seed


def run(
    plan: Plan,
    folder: Folder,
    *,
    workers: int = 2,
    progress: Progress = lambda *_: None,
    allowed: Callable[[], None] = lambda: None,
) -> list[Row]:
    """Run what is not yet run, and return all rows.

    The memories of each world are proven unchanged before and after its episodes.

    Args:
        plan: What to do.
        folder: Where the results are, or will be.
        workers: Episodes, and calls of a model that builds a memory, at once.
        progress: Is told of each expert's episode, each procedure and each episode.
        allowed: Called before each episode, and each question for a memory; what it raises ends the study, once
            the episodes under way have ended.

    Raises:
        InputError: if `folder` holds another study, or a test task is in a memory.
        MempError: if the environment or a model failed; what had ended stays, and `run` goes on there.
    """
    refuse_leaks(plan.worlds)
    folder.claim(describe(plan))
    rows = folder.rows()
    total = len(plan.arms) * sum(len(world.test) * len(world.seeds) for world in plan.worlds)
    tally = Tally(rows.held, total, progress)
    memories = Memories(plan, folder, workers=workers, progress=progress, allowed=allowed)
    for world in plan.worlds:
        memories.build(world)
        tally.tell()
        try:
            _episodes(plan.arms, world, memories, rows, workers=workers, tell=tally.add, allowed=allowed)
        finally:
            memories.prove(world)
    return list(rows.held)


def _episodes(
    arms: Sequence[Arm],
    world: World,
    memories: Memories,
    rows: Lines[Row],
    *,
    workers: int,
    tell: Callable[[Row], None],
    allowed: Callable[[], None],
) -> None:
    """Run every episode of a world that has no row yet, arms side by side so that an early look compares them."""
    done = {row.key for row in rows.held}
    jobs = [Job(arm, task, seed) for seed in world.seeds for task in world.test for arm in arms]
    recalls = [arm.recall for arm in arms if arm.recall is not None]
    with memories.opened(world, recalls) as opened:

        def work(env: TextEnv, job: Job) -> None:
            allowed()
            row = _episode(env, job, opened)
            rows.add(row)
            tell(row)

        for_each([job for job in jobs if job.key not in done], work, world.open_env, workers=workers)


def _episode(env: TextEnv, job: Job, opened: Opened) -> Row:
    """Run one episode; it is never shown a procedure of its own task."""
    arm, task, seed = job

    def matches(text: str) -> list[Match]:
        if arm.recall is None:
            return []
        return opened[arm.recall, seed].retrieve(text, arm.recall.k, exclude=[task.id])

    outcome, shown = run_episode(env, task.id, arm.agent, matches, seed=seed)
    return Row(
        arm=arm.name,
        task=task.id,
        kind=task.kind,
        split=task.split,
        seed=seed,
        shown=shown,
        **outcome._asdict(),
    )
