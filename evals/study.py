"""Running a study: every arm on the same tasks and seeds, resumed where it stopped."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from evals.arms import Arm
from evals.folder import Folder
from evals.manifest import describe
from evals.memories import Memories, Opened
from evals.plan import Plan
from evals.rows import Episodes, Key, Row, episode_id
from evals.runner import Progress, for_each, run_episode
from evals.worlds import World, refuse_leaks
from memp.procedure import Match
from memp.trajectory import Trajectory
from tasks.base import Task, TextEnv


class Job(NamedTuple):
    """An episode to run."""

    arm: Arm
    task: Task
    seed: int
    group: int

    @property
    def key(self) -> Key:
        """That of its row."""
        return self.arm.name, self.task.id, self.task.split, self.seed


def run(plan: Plan, folder: Folder, *, workers: int = 2, progress: Progress = lambda *_: None) -> list[Row]:
    """Run what is not yet run, and return all rows.

    A memory stays as it is while episodes are run with it, and is proven to. Memories that learn do so between
    one group of tasks and the next; every group has its own.

    Args:
        plan: What to do.
        folder: Where the results are, or will be.
        workers: Episodes, and calls of a model that builds a memory, at once.
        progress: Is told of each expert's episode, each procedure and each episode.

    Raises:
        InputError: if `folder` holds another study, or a test task is in a memory.
        MempError: if the environment or a model failed; what had ended stays, and `run` goes on there.
    """
    refuse_leaks(plan.worlds)
    folder.claim(describe(plan))
    episodes = folder.episodes()
    total = len(plan.arms) * sum(len(world.test) * len(world.seeds) for world in plan.worlds)

    def tell() -> None:
        rewards = [row.reward for row in episodes.held]
        progress("episodes", len(rewards), total, sum(rewards) / len(rewards) if rewards else 0.0)

    memories = Memories(plan, folder, workers=workers, progress=progress)
    for world in plan.worlds:
        memories.build(world)
        tell()
        for group in range(len(world.groups)):
            if group:
                memories.learn(world, group, episodes)
            jobs = _jobs(plan, world, group, episodes)
            with memories.opened(world, group) as opened:
                _episodes(jobs, world, opened, episodes, workers=workers, tell=tell)
        memories.prove(world)
    return list(episodes.held)


def _jobs(plan: Plan, world: World, group: int, episodes: Episodes) -> list[Job]:
    """What has no row yet, arms side by side so that an early look compares them."""
    done = {row.key for row in episodes.held}
    jobs = [
        Job(arm, task, seed, group)
        for seed in world.seeds
        for task in world.groups[group].tasks
        for arm in plan.arms
    ]
    return [job for job in jobs if job.key not in done]


def _episodes(
    jobs: list[Job],
    world: World,
    opened: Opened,
    episodes: Episodes,
    *,
    workers: int,
    tell: Callable[[], None],
) -> None:
    """Run the episodes of a group."""

    def work(env: TextEnv, job: Job) -> None:
        episodes.add(*_episode(env, job, opened))
        tell()

    if jobs:
        for_each(jobs, work, world.groups[jobs[0].group].open_env, workers=workers)


def _episode(env: TextEnv, job: Job, opened: Opened) -> tuple[Row, Trajectory]:
    """Run one episode; it is never shown a procedure of its own task."""
    arm, task, seed, group = job

    def matches(text: str) -> list[Match]:
        if arm.recall is None:
            return []
        return opened[arm.name, seed].retrieve(text, arm.recall.k, exclude=[task.id])

    outcome = run_episode(env, task.id, arm.agent, matches, seed=seed, episode_id=episode_id(job.key))
    trajectory = outcome.trajectory
    row = Row(
        arm=arm.name,
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
