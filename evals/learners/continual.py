"""The study of learning tasks one after the other: which memory of earlier ones keeps them from being forgotten."""

from __future__ import annotations

import torch

from evals.learners.cells import Cell
from evals.learners.curricula import curriculum
from evals.learners.networks import network
from evals.learners.settings import WAYS, Continual
from memp.neural.continual import Kept, Learner
from memp.neural.ewc import EWC
from memp.neural.replay import Prioritized, Replay, Reservoir

LEARNING_RATE = 1e-2

CONSOLIDATED = 32
"""How many examples the penalty is found from, at the end of a task."""


def live(study: Continual, unit: tuple[str, int]) -> list[Cell]:
    """Learn all tasks in one way with one seed; after each, answer the held-out sequences of all."""
    torch.set_num_threads(1)
    return _Life(study, *unit).live()


class _Life:
    """One learner from its first task to its last."""

    def __init__(self, study: Continual, name: str, seed: int) -> None:
        self._study, self._name, self._seed, self._arm = study, name, seed, WAYS[name]
        torch.manual_seed(seed)
        self._curriculum = curriculum(study)
        self._tasks = self._curriculum.tasks
        self._network = network(self._arm.network, self._curriculum.inputs, self._curriculum.outputs)
        self._learner = Learner(
            self._network,
            learning_rate=LEARNING_RATE,
            replay=self._buffer(),
            distil=self._arm.distil,
            ewc=EWC(self._network, self._arm.strength) if self._arm.strength else None,
            kind=self._curriculum.answers,
            seed=seed,
        )
        self._training = torch.Generator().manual_seed(2 * seed)
        held_out = torch.Generator().manual_seed(2 * seed + 1)
        self._tests = {task: self._curriculum.draw(task, study.tested, held_out) for task in self._tasks}

    def live(self) -> list[Cell]:
        """Learn and be tested."""
        if self._arm.joint:
            for step in range(self._study.steps * len(self._tasks)):
                task = self._tasks[step % len(self._tasks)]
                self._learner.learn(self._curriculum.draw(task, self._study.batch, self._training), "all")
            return self._tested(len(self._tasks))
        cells = self._tested(0)
        for number, task in enumerate(self._tasks):
            for _ in range(self._study.steps * self._arm.times):
                self._learner.learn(self._curriculum.draw(task, self._study.batch, self._training), task)
            self._learner.end_task(self._curriculum.draw(task, CONSOLIDATED, self._training))
            cells += self._tested(number + 1)
        return cells

    def _buffer(self) -> Replay[Kept] | None:
        study = self._study
        if self._arm.replay == "prioritized":
            steps = study.steps * (len(self._tasks) - 1)
            return Prioritized(study.buffer, beta_steps=steps, seed=self._seed)
        return Reservoir(study.buffer, seed=self._seed) if self._arm.replay else None

    def _tested(self, after: int) -> list[Cell]:
        """How the learner does in every task now."""
        cells = []
        for number, (task, examples) in enumerate(self._tests.items()):
            answers = self._learner.answers(examples.x)
            cells.append(
                Cell(
                    arm=self._name,
                    seed=self._seed,
                    after=after,
                    number=number,
                    task=task,
                    steps=examples.asked.sum(0).mean().item(),
                    **self._curriculum.scored(answers, examples),
                )
            )
        return cells
