"""Running episodes: one at a time, or many with a worker each that has an environment of its own."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import ExitStack, closing
from typing import NamedTuple, TypeVar

from memp.agents import Agent
from memp.procedure import Match
from memp.trajectory import Step, Trajectory
from tasks.base import TextEnv

T = TypeVar("T")


class SoFar(NamedTuple):
    """How what is done of a stage came out."""

    score: float
    """The mean reward."""

    success: float | None = None
    """The part of the episodes that met their goal."""

    tokens: int | None = None
    """Of all episodes together, both ways."""


Progress = Callable[[str, int, int, SoFar | None], None]
"""Told of `stage, done, total, how it came out so far`, as a study goes on; None where nothing is rewarded."""


class Found(NamedTuple):
    """What is shown in an episode, and the tokens that it took a chat model to say what to look for."""

    matches: Sequence[Match]
    tokens_in: int = 0
    tokens_out: int = 0


class Outcome(NamedTuple):
    """How an episode went."""

    trajectory: Trajectory
    """With the ids of the procedures shown."""

    success: bool
    tokens_in: int
    tokens_out: int
    """Of the agent's chat model, and of finding what is shown."""


def run_episode(
    env: TextEnv,
    task_id: str,
    agent: Agent,
    find: Callable[[str], Found],
    *,
    seed: int,
    episode_id: str = "",
) -> Outcome:
    """Run one episode to its end, or until the agent gives up.

    Args:
        env: Where.
        task_id: Which task.
        agent: Who.
        find: From the task's text to what the agent is shown.
        seed: Of the environment and the agent.
        episode_id: What the trajectory is told from others by.
    """
    start, info = env.reset(seed, {"task": task_id})
    found = find(info["task"])
    policy = agent.start(info["task"], found.matches, seed=seed)
    observation, steps = start, []
    while (action := policy.act(observation, env.admissible)) is not None:
        observation, _, terminated, truncated, info = env.step(action)
        steps.append(Step(action=action, observation=observation))
        if terminated or truncated:
            break
    trajectory = Trajectory(
        task=info["task"],
        steps=tuple(steps),
        reward=info["score"],
        start=start,
        task_id=task_id,
        episode_id=episode_id,
        shown=tuple(match.procedure.id for match in found.matches),
    )
    tokens_in, tokens_out = policy.tokens_in + found.tokens_in, policy.tokens_out + found.tokens_out
    return Outcome(trajectory, info["success"], tokens_in, tokens_out)


def for_each(
    jobs: Iterable[T], work: Callable[[TextEnv, T], None], open_env: Callable[[], TextEnv], *, workers: int
) -> None:
    """Do every job, with `workers` threads that have an environment each.

    The first error stops the rest and is raised; jobs that had ended stay done.
    """
    waiting: queue.SimpleQueue[T] = queue.SimpleQueue()
    for job in jobs:
        waiting.put(job)
    count = min(workers, waiting.qsize())
    stop = threading.Event()

    def worker() -> None:
        with closing(open_env()) as env:
            while not stop.is_set():
                try:
                    job = waiting.get_nowait()
                except queue.Empty:
                    return
                work(env, job)

    with ExitStack() as stack:
        if not count:
            return
        pool = stack.enter_context(ThreadPoolExecutor(count))
        stack.callback(stop.set)  # an interrupt must not wait for all that is left
        done, _ = wait([pool.submit(worker) for _ in range(count)], return_when=FIRST_EXCEPTION)
        stop.set()
        for future in done:
            future.result()
