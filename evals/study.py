"""Running a study: every arm on the same tasks and seeds, resumed where it stopped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from evals.arms import Arm
from evals.folder import Folder
from evals.manifest import describe
from evals.memories import Memories, Opened
from evals.plan import Plan
from evals.rows import EpisodeKey, Episodes, Row, episode_id
from evals.runner import Progress, for_each, run_episode
from evals.tally import Tally
from evals.worlds import refuse_leaks
from memp.trajectory import Trajectory
from tasks.base import Task, TextEnv


class Job(NamedTuple):
    """An episode to run."""

    arm: Arm
    task: Task
    seed: int
    group: int

    @property
    def key(self) -> EpisodeKey:
        """That of its row."""
        return self.arm.key(self.task, self.seed)


def run(
    plan: Plan,
    folder: Folder,
    *,
    workers: int = 2,
    progress: Progress = lambda *_: None,
    allowed: Callable[[], None] = lambda: None,
) -> list[Row]:
    """Run what is not yet run, and return all rows.

    A memory stays as it is while episodes are run with it, and is proven to. Memories that learn do so between
    one group of tasks and the next; every group has its own.

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
    trained = sum(len(world.train) for world in plan.worlds)
    tested = sum(len(world.test) * len(world.seeds) for world in plan.worlds)
    stage = partial(Stage, workers=workers, progress=progress, allowed=allowed)
    practice = stage("practice", folder.practice(), len(plan.practice) * trained)
    test = stage("episodes", folder.episodes(), len(plan.arms) * tested)
    memories = Memories(plan, folder, workers=workers, progress=progress, allowed=allowed)
    for world in plan.worlds:
        practice.run(_jobs(plan.practice, world.train, world.seeds[:1]), world.groups[0].open_env, Opened({}))
        memories.build(world, practice.episodes)
        try:
            for number, group in enumerate(world.groups):
                if number:
                    memories.learn(world, number, test.episodes)
                with memories.opened(world, number) as opened:
                    test.run(_jobs(plan.arms, group.tasks, world.seeds, number), group.open_env, opened)
        finally:
            memories.prove(world)
    return list(test.episodes.held)


def _jobs(arms: Sequence[Arm], tasks: Sequence[Task], seeds: Sequence[int], group: int = 0) -> list[Job]:
    """All episodes, arms side by side so that an early look compares them."""
    return [Job(arm, task, seed, group) for seed in seeds for task in tasks for arm in arms]


class Stage:
    """Episodes that are kept together, and told of as they end."""

    def __init__(
        self,
        name: str,
        episodes: Episodes,
        total: int,
        *,
        workers: int,
        progress: Progress,
        allowed: Callable[[], None],
    ) -> None:
        """Take what there is and how many episodes there will be; nothing is run yet."""
        self.episodes = episodes
        self._tally = Tally(name, episodes.held, total, progress)
        self._workers = workers
        self._allowed = allowed

    def run(self, jobs: Sequence[Job], open_env: Callable[[], TextEnv], opened: Opened) -> None:
        """Run the jobs that have no row yet."""
        done = {row.key for row in self.episodes.held}

        def work(env: TextEnv, job: Job) -> None:
            self._allowed()
            row, trajectory = _episode(env, job, opened)
            self.episodes.add(row, trajectory)
            self._tally.add(row)

        if jobs:
            self._tally.tell()
        for_each([job for job in jobs if job.key not in done], work, open_env, workers=self._workers)


def _episode(env: TextEnv, job: Job, opened: Opened) -> tuple[Row, Trajectory]:
    """Run one episode."""
    arm, task, seed, group = job
    find = partial(opened.retrieve, arm, seed, task)
    outcome = run_episode(env, task.id, arm.agent, find, seed=seed, episode_id=episode_id(job.key))
    trajectory = outcome.trajectory
    row = Row(
        arm=arm.name,
        model=arm.model,
        source=arm.source,
        task=task.id,
        kind=task.kind,
        split=task.split,
        seed=seed,
        group=group,
        success=outcome.success,
        reward=trajectory.reward,
        steps=len(trajectory.steps),
        tokens_in=outcome.tokens_in,
        tokens_out=outcome.tokens_out,
        shown=trajectory.shown,
    )
    return row, trajectory
