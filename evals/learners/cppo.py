"""The study of continual PPO: tasks whose preferences conflict are learned one after the other, and tested again."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Protocol

import torch

from evals.learners.cells import Cell
from evals.learners.cppo_arms import ARMS, FAMILIES, Arm, Cppo
from evals.learners.matrix import accuracy, backward_transfer, matrix, plasticity
from memp.neural.cppo import CPPO, CPPOSettings
from memp.neural.ewc import EWC
from memp.neural.policy import Policy
from memp.neural.ppo import PPO, Penalty, PPOSettings, kl_penalty
from memp.neural.rollouts import Rollouts, collect, joined
from memp.neural.weights import standings
from tasks.gridworld.preferences import ACTIONS, Held, Preferences

PPO_SETTINGS = PPOSettings(entropy_weight=0.05)
"""What all arms learn with: enough entropy for a policy that is sure of one object to turn to the next."""

CONSOLIDATED = 512
"""From how many steps the penalty on moving parameters is found."""


def measure(cells: Sequence[Cell]) -> dict[str, float]:
    """Return the metrics of one learner.

    Returns:
        `success` and `return`, the means over all tasks in the end; `plasticity`, the mean success in each task right
        after learning it; `forgetting`, by how much the return of a task has fallen from then to the end, in the mean
        over all but the last (the paper's SFR; negative where later tasks helped); and `forgetting_ratio`, the share
        of the success in those tasks that was lost.
    """
    success, returns = matrix(cells, lambda cell: cell.success), matrix(cells, lambda cell: cell.reward)
    learned = float(success.diagonal(-1)[:-1].mean())
    return {
        "success": accuracy(success),
        "return": accuracy(returns),
        "forgetting": -backward_transfer(returns),
        "forgetting_ratio": -backward_transfer(success) / learned if learned else 0.0,
        "plasticity": plasticity(success),
    }


def live(study: Cppo, unit: tuple[str, int]) -> list[Cell]:
    """Learn all tasks in one way with one seed; before the first and after each, be tested in all."""
    torch.set_num_threads(1)
    return _Life(study, *unit).live()


class Learner(Protocol):
    """Learns task after task."""

    @property
    def policy(self) -> Policy:
        """Who acts."""
        ...

    def update(self, rollouts: Rollouts) -> object:
        """Learn from rollouts of the policy as it is now."""
        ...

    def retain(self, rollouts: Rollouts) -> object:
        """End a task, of which these are rollouts."""
        ...


class _Held:
    """PPO with a penalty, which the end of a task decides."""

    def __init__(self, policy: Policy, arm: Arm, *, seed: int) -> None:
        self.policy = policy
        self._ppo = PPO(policy, PPO_SETTINGS, seed=seed)
        self._coefficient = arm.coefficient
        self._ewc = EWC(policy.actor, arm.coefficient) if FAMILIES[arm.family].by == "ewc" else None
        self._penalty: Penalty | None = None

    def update(self, rollouts: Rollouts) -> None:
        """Learn, held to where the last task ended."""
        self._ppo.update(rollouts, penalty=self._penalty)

    def retain(self, rollouts: Rollouts) -> None:
        """Be held to where the policy is now."""
        ewc, policy = self._ewc, self.policy
        if ewc is None:
            self._penalty = kl_penalty(policy, policy.frozen(), weight=self._coefficient)
            return
        observations, actions = (found[:CONSOLIDATED].split(1) for found in rollouts.steps)
        ewc.consolidate(policy.taken(*step).squeeze(0) for step in zip(observations, actions, strict=True))
        self._penalty = lambda _: ewc.penalty()


def learner_of(arm: Arm, policy: Policy, *, seed: int) -> Learner:
    """Make what learns in an arm."""
    family = FAMILIES[arm.family]
    if family.by != "cppo":
        return _Held(policy, arm, seed=seed)
    settings = CPPOSettings(
        alpha=family.alpha,
        beta=family.beta,
        reference=family.reference,
        coefficient=arm.coefficient,
        threshold=family.threshold,
        low=family.low,
        high=family.high,
    )
    return CPPO(policy, settings, ppo=PPO_SETTINGS, seed=seed)


class _Life:
    """One learner from its first task to its last."""

    def __init__(self, study: Cppo, name: str, seed: int) -> None:
        self._study, self._name, self._seed = study, name, seed
        self._family = FAMILIES[ARMS[name].family]
        width = self._env(0, 1, "train", "").width
        self._policy = Policy(width, len(ACTIONS), seed=seed)
        self._learner = learner_of(ARMS[name], self._policy, seed=seed)

    def live(self) -> list[Cell]:
        """Learn and be tested."""
        cells = self._tested(0)
        for task in range(self._study.tasks):
            self._learner.retain(self._learned(task))
            cells += self._tested(task + 1)
        return cells

    def _learned(self, task: int) -> Rollouts:
        """Learn a task, and return some rollouts of it."""
        study, generator = self._study, self._generator(f"learn {task}")
        env, log = self._env(task, study.rollouts, "train", "learn"), []
        for _ in range(study.iterations):
            log.append(collect(self._policy, env, generator=generator))
            self._learner.update(log[-1])
        fresh = collect(
            self._policy,
            self._env(task, study.stored, "train", "store"),
            generator=self._generator(f"store {task}"),
        )
        if not self._family.logged:
            return fresh
        every = joined(log)
        some = every[torch.randperm(len(every), generator=generator)[: study.stored]]
        return some[standings(some.returns, threshold=1) >= 0] if self._family.paid else some

    def _tested(self, after: int) -> list[Cell]:
        """How the policy does in every task now."""
        cells = []
        for task in range(self._study.tasks):
            env = self._env(task, self._study.tested, "test", "test")
            rollouts = collect(self._policy, env, generator=self._generator(f"test {task}"))
            cells.append(
                Cell(
                    arm=self._name,
                    seed=self._seed,
                    after=after,
                    number=task,
                    task=f"{env.name}/{task}",
                    episodes=self._study.tested,
                    success=env.success.mean().item(),
                    reward=rollouts.returns.mean().item(),
                    steps=rollouts.lengths.float().mean().item(),
                )
            )
        return cells

    def _env(self, task: int, episodes: int, split: Held, purpose: str) -> Preferences:
        """All arms with the same seed meet the same episodes."""
        seed = self._number(f"{split} {purpose} {task}")
        return Preferences(task, episodes, seed=seed, tasks=self._study.tasks, split=split)

    def _generator(self, purpose: str) -> torch.Generator:
        return torch.Generator().manual_seed(self._number(purpose))

    def _number(self, purpose: str) -> int:
        return Random(f"{self._seed} {purpose}").getrandbits(32)
