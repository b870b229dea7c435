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

from evals.rows import Lines, Row
from evals.runner import for_each, run_episode
from evals.settings import agent, environment, sample
from memp.agents import Agent, RandomAgent
from memp.errors import InputError
from memp.memory import ProceduralMemory
from memp.procedure import Match
from memp.prompts import act, distil, facts, reflect
from memp.retrieve import KEYS
from memp.trajectory import Trajectory
from tasks.base import Split, Task, TextEnv, expert_trajectory

Progress = Callable[[str, int, int, float], None]
"""Told of `stage, done, total, mean reward so far`, as a study goes on."""

MANIFEST = "manifest.json"

EXPERT_STEPS = 1000
"""Step budget of the experts whose trajectories fill the memory: none of them is to be cut short."""


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

    k: int = 4
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
        chosen = agent(self.settings.agent, self.settings.model, self.settings.fallback)
        open_env = environment(self.settings.env, max_steps=self.settings.max_steps)
        with closing(open_env()) as env:
            train = sample(env, "train", self.settings.train)
            splits = dict.fromkeys(self.settings.splits)
            test = [task for split in splits for task in sample(env, split, self.settings.episodes)]
            self._refuse_leak(train, test)
            self._claim(env, train, test)
        rows = Lines(self.out / "episodes.jsonl", Row)
        path = self.out / "memory.db"
        self._freeze(self._build(path, self._experts(train)))
        self._episodes(rows, test, chosen, path, open_env)
        with ProceduralMemory.open(path) as memory:
            self._freeze(memory.digest())
        return list(rows.held)

    def _episodes(
        self,
        rows: Lines[Row],
        test: Sequence[Task],
        chosen: Agent,
        path: Path,
        open_env: Callable[[], TextEnv],
    ) -> None:
        """Run every episode that has no row yet, arms side by side so that an early look compares them."""
        done = {row.key for row in rows.held}
        jobs = [
            (arm, task)
            for task in test
            for arm in self.arms
            if (arm, task.id, task.split, self.settings.seed) not in done
        ]
        self._tell("episodes", rows, len(done) + len(jobs))
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
            self._tell("episodes", rows, len(done) + len(jobs))

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

    def _experts(self, train: Sequence[Task]) -> list[Trajectory]:
        """The expert trajectories of the training tasks, kept as JSON lines so that they are made once."""
        open_env = environment(self.settings.env, max_steps=EXPERT_STEPS)
        lines = Lines(self.out / "trajectories.jsonl", Trajectory)
        done = {found.task_id for found in lines.held}

        def work(env: TextEnv, task: Task) -> None:
            lines.add(expert_trajectory(env, task.id))
            self._tell("memory", lines, len(train))

        self._tell("memory", lines, len(train))
        for_each([task for task in train if task.id not in done], work, open_env, workers=self.workers)
        experts = {found.task_id: found for found in lines.held}
        return [experts[task.id] for task in train]

    def _tell(self, stage: str, lines: Lines[Row] | Lines[Trajectory], total: int) -> None:
        rewards = [record.reward for record in lines.held]
        self.progress(stage, len(rewards), total, sum(rewards) / len(rewards) if rewards else 0.0)

    def _build(self, path: Path, trajectories: Sequence[Trajectory]) -> str:
        """Build the memory, or what is missing of it; returns its digest."""
        with ProceduralMemory.open(path, embedder=self.settings.embedder, update="vanilla") as memory:
            memory.update(trajectories)
            foreign = {procedure.source for procedure in memory.procedures()}
            foreign -= {trajectory.source for trajectory in trajectories}
            if foreign:
                raise InputError(
                    f"{path} holds a procedure of {min(foreign)!r}, no training task of this study;"
                    " give another --out"
                )
            return memory.digest()

    def _freeze(self, digest: str) -> None:
        """Note the digest of the memory, or check that it is still the one noted."""
        manifest = _read_manifest(self.out)
        if manifest.setdefault("memory_digest", digest) != digest:
            raise InputError(
                f"the memory in {self.out} is not the one this study began with; give another --out"
            )
        _write_manifest(self.out, manifest)

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
        try:
            self.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{self.out} cannot hold the results: {error}") from error
        left = [name for name in ("episodes.jsonl", "memory.db") if (self.out / name).exists()]
        if left and not (self.out / MANIFEST).exists():
            raise InputError(f"{self.out} holds {left[0]} without its {MANIFEST}; give another --out")
        if (self.out / MANIFEST).exists():
            begun = _read_manifest(self.out)
            differs = [
                name
                for name in manifest
                if name not in ("commit", "python")
                and begun.get(name) != json.loads(json.dumps(manifest[name]))
            ]
            if differs:
                raise InputError(
                    f"{self.out} holds another study: it differs in {', '.join(differs)}; give another --out"
                )
            if manifest["commit"] not in begun["commit"].split(", "):  # the table names every one
                _write_manifest(self.out, {**begun, "commit": f"{begun['commit']}, {manifest['commit']}"})
            return
        _write_manifest(self.out, manifest)


def _read_manifest(out: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((out / MANIFEST).read_text())
    except ValueError as error:
        raise InputError(f"{out / MANIFEST} is no manifest: {error}; give another --out") from error
    if not isinstance(manifest, dict):
        raise InputError(f"{out / MANIFEST} is no manifest; give another --out")
    return manifest


def _write_manifest(out: Path, manifest: dict[str, Any]) -> None:
    """Write it all or not at all, whenever a kill comes."""
    fresh = out / f"{MANIFEST}.new"
    fresh.write_text(json.dumps(manifest, indent=2) + "\n")
    fresh.replace(out / MANIFEST)


def _of_arm(chosen: Agent, arm: str) -> Agent:
    """The agent of an arm: without memory, a replay agent that has no fallback acts at random."""
    return RandomAgent() if arm == "none" and chosen.name in ("replay", "verbatim") else chosen


def _digest(names: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(names).encode()).hexdigest()


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    try:
        found = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False
        )
    except OSError:  # no git on this machine
        return "unknown"
    return found.stdout.strip() or "unknown"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
