"""A study: arms that differ in one thing, on the same tasks, seeds and step budget."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from evals.rows import Row, Rows
from evals.runner import for_each, run_episode
from evals.settings import agent, environment, sample
from memp.agents import Agent, RandomAgent
from memp.errors import InputError, MempError
from memp.formats import read
from memp.memory import ProceduralMemory
from memp.procedure import Match
from memp.prompts import act, distil, facts, reflect
from memp.retrieve import KEYS
from memp.trajectory import Trajectory
from tasks.base import Split, Task, TextEnv, expert_trajectory

Progress = Callable[[str, int, int, float], None]
"""Told of `stage, done, total, success so far`, as a study goes on."""


@dataclass(frozen=True)
class Settings:
    """All that decides the result of a study."""

    study: str
    env: str
    agent: str
    model: str | None = None
    fallback: str | None = None
    """The agent that a replay agent hands over to; None ends the episode there."""

    embedder: str = "hash"
    splits: tuple[Split, ...] = ("test",)
    episodes: int = 60
    """Tasks per arm and split."""

    train: int = 150
    """Training tasks whose expert trajectories the memory is built from."""

    k: int = 1
    """Procedures shown."""

    max_steps: int | None = None
    """Step budget of an episode; None takes the environment's own."""

    seed: int = 0


@dataclass
class Study:
    """The retrieve study: which key finds the procedures that help (the paper's Table 2).

    The memory holds the expert trajectories of training tasks and stays as it is; the arms are no memory, a
    random sample of it, and retrieval by query and by AveFact.
    """

    settings: Settings
    out: Path
    workers: int = 2
    progress: Progress = field(default=lambda *_: None)

    arms = ("none", "random", "query", "avefact")

    def run(self) -> list[Row]:
        """Run what is not yet run, and return all rows.

        Raises:
            InputError: if `out` holds another study, or a test task is in the memory.
            MempError: if the environment or a model failed; what had ended stays, and `run` goes on there.
        """
        self.out.mkdir(parents=True, exist_ok=True)
        open_env = environment(self.settings.env, max_steps=self.settings.max_steps)
        with closing(open_env()) as env:
            train = sample(env, "train", self.settings.train)
            test = [
                task for split in self.settings.splits for task in sample(env, split, self.settings.episodes)
            ]
            self._claim(env, train, test)
        self._refuse_leak(train, test)
        rows = Rows(self.out / "episodes.jsonl")
        trajectories = self._experts(train, open_env)
        path = self.out / "memory.db"
        with ProceduralMemory.open(path, embedder=self.settings.embedder, update="vanilla") as memory:
            memory.update(trajectories)
            digest = memory.digest()
        self._episodes(rows, test, path, open_env)
        with ProceduralMemory.open(path) as memory:
            if memory.digest() != digest:
                raise MempError("the memory changed during the study, though it is frozen; run it anew")
        self._note(memory_digest=digest)
        return rows.rows

    def _episodes(
        self, rows: Rows, test: Sequence[Task], path: Path, open_env: Callable[[], TextEnv]
    ) -> None:
        """Run every episode that has no row yet, arms side by side so that an early look compares them."""
        done = {row.key for row in rows.rows}
        jobs = [
            (arm, task)
            for task in test
            for arm in self.arms
            if (arm, task.id, task.split, self.settings.seed) not in done
        ]
        chosen = agent(self.settings.agent, self.settings.model, self.settings.fallback)
        memories = {str(key): self._memory(path, key) for key in KEYS}

        def work(env: TextEnv, job: tuple[str, Task]) -> None:
            arm, task = job

            def matches(text: str) -> list[Match]:
                return (
                    [] if arm == "none" else memories[arm].retrieve(text, self.settings.k, exclude=[task.id])
                )

            outcome, shown = run_episode(env, task.id, _of_arm(chosen, arm), matches, seed=self.settings.seed)
            rows.add(
                Row(
                    arm=arm,
                    task=task.id,
                    kind=task.kind,
                    split=task.split,
                    seed=self.settings.seed,
                    shown=shown,
                    **outcome._asdict(),
                )
            )
            rewards = [row.reward for row in rows.rows]
            self.progress("episodes", len(rows.rows), len(done) + len(jobs), sum(rewards) / len(rewards))

        try:
            for_each(jobs, work, open_env, workers=self.workers)
        finally:
            for memory in memories.values():
                memory.close()

    def _memory(self, path: Path, key: Any) -> ProceduralMemory:
        chat = self.settings.model
        return ProceduralMemory.open(
            path, chat=chat, embedder=self.settings.embedder, key=key, seed=self.settings.seed
        )

    def _experts(self, train: Sequence[Task], open_env: Callable[[], TextEnv]) -> list[Trajectory]:
        """The expert trajectories of the training tasks, kept as JSON lines so that they are made once."""
        path = self.out / "trajectories.jsonl"
        held = {found.task_id: found for found in read(path).trajectories} if path.exists() else {}
        missing = [task for task in train if task.id not in held]
        with path.open("a", encoding="utf-8") as file:

            def work(env: TextEnv, task: Task) -> None:
                found = expert_trajectory(env, task.id)
                file.write(found.model_dump_json() + "\n")
                file.flush()
                held[task.id] = found
                rewards = [known.reward for known in held.values()]
                self.progress("memory", len(held), len(train), sum(rewards) / len(rewards))

            for_each(missing, work, open_env, workers=self.workers)
        return [held[task.id] for task in train]

    def _refuse_leak(self, train: Sequence[Task], test: Sequence[Task]) -> None:
        leaked = {task.id for task in train} & {task.id for task in test}
        if leaked:
            raise InputError(
                f"{len(leaked)} tasks are both in the memory and under test, e.g. {min(leaked)!r}"
            )

    def _claim(self, env: TextEnv, train: Sequence[Task], test: Sequence[Task]) -> None:
        """Write the manifest, or check that the study begun here is this one."""
        manifest = {
            **asdict(self.settings),
            "env_name": env.name,
            "prompts": {prompt.NAME: prompt.VERSION for prompt in (act, distil, facts, reflect)},
            "split_digest": _digest([task.id for task in (*train, *test)]),
            "commit": _commit(),
            "python": platform.python_version(),
            "versions": {name: _version(name) for name in ("memp", "numpy", "scienceworld", "gymnasium")},
        }
        with self._memory(Path(":memory:"), "avefact") as memory:
            manifest["memory"] = {
                name: value for name, value in memory.describe().items() if name in ("embedder", "facts")
            }
        path = self.out / "manifest.json"
        if path.exists():
            begun = json.loads(path.read_text())
            differs = [
                name
                for name in manifest
                if name not in ("commit", "python", "versions")
                and begun.get(name) != json.loads(json.dumps(manifest[name]))
            ]
            if differs:
                raise InputError(
                    f"{self.out} holds another study: it differs in {', '.join(differs)}; give another --out"
                )
            return
        path.write_text(json.dumps(manifest, indent=2) + "\n")

    def _note(self, **facts_of_run: str) -> None:
        path = self.out / "manifest.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **facts_of_run}, indent=2) + "\n")


def _of_arm(chosen: Agent, arm: str) -> Agent:
    """The agent of an arm: without memory, a replay agent that has no fallback acts at random."""
    return RandomAgent() if arm == "none" and chosen.name == "replay" else chosen


def _digest(names: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(names).encode()).hexdigest()


def _commit() -> str:
    found = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return found.stdout.strip() or "unknown"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
