"""The arms of a study: who acts, and what is shown to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from evals.rows import EpisodeKey
from memp.agents import Agent, LLMAgent, RandomAgent, ReplayAgent, ReplayFirst
from memp.chat import ChatModel
from memp.errors import InputError, unknown_name
from memp.retrieve import Key
from memp.trajectory import Record
from memp.update import Policy
from tasks.base import Task

REPLAY_FIRST = "replay-first"
"""The agent `llm`, but for what it did before, which is done again without the model."""

AGENTS = ("llm", "neural", "random", "replay", REPLAY_FIRST, "verbatim")

BASELINE = "none"
"""The arm without memory, which the others are compared with."""

PRACTICE = "practice"
"""The arm of a model that does the training tasks beforehand, without memory."""


@dataclass(frozen=True)
class Recall:
    """How procedures come from a memory."""

    recipe: str
    """The name of the `Recipe` that the memory was built by."""

    key: Key
    k: int
    """How many procedures are shown."""


class ArmRecord(Record):
    """An arm as the manifest tells of it."""

    name: str

    model: str = ""
    """Who acts, in a study that compares chat models."""

    source: str = ""
    """Whose trajectories the memory is of, where they are another model's."""

    recipe: str = ""
    """Of the memory; empty: there is none."""

    key: Key | None = None
    """What procedures are found by."""

    amounts: Mapping[str, int] = {}
    """How many it has of what, in a study whose arms differ in that."""


@dataclass(frozen=True)
class Arm:
    """What one line of a table stands for."""

    name: str
    agent: Agent

    recall: Recall | None = None
    """What retrieves for the agent; None is no memory."""

    update: Policy | None = None
    """How a copy of the memory learns from each group of episodes; None: it stays as it was built."""

    model: str = ""
    """Who acts, in a study that compares chat models."""

    source: str = ""
    """Whose trajectories the memory is of, where they are another model's."""

    amounts: tuple[tuple[str, int], ...] = ()
    """How many it has of what, in a study whose arms differ in that."""

    @property
    def record(self) -> ArmRecord:
        """What the manifest tells of it."""
        recall = self.recall
        return ArmRecord(
            name=self.name,
            model=self.model,
            source=self.source,
            recipe="" if recall is None else recall.recipe,
            key=None if recall is None else recall.key,
            amounts=dict(self.amounts),
        )

    def key(self, task: Task, seed: int) -> EpisodeKey:
        """What its episode in a task is known by."""
        return EpisodeKey(self.name, task.id, task.split, seed, self.model, self.source)

    def memory(self, group: int) -> str:
        """The name of the memory that the arm has in a group of tasks; empty without one."""
        if self.recall is None:
            return ""
        return f"{self.name}-{group}" if self.update and group else self.recall.recipe


def agent(name: str, chat: ChatModel | None, fallback: str | None = None) -> Agent:
    """Return the agent of a name.

    Args:
        name: One of `AGENTS`.
        chat: The chat model of the agents `llm` and `replay-first`.
        fallback: The agent that goes on where the agent `replay` has no procedure that applies.

    Raises:
        InputError: if there is no such agent, or it needs a chat model and there is none.
    """
    if fallback is not None and name != "replay":
        raise InputError(f"only the agent 'replay' hands over to a fallback, not {name!r}")
    if name == "replay":
        return ReplayAgent(None if fallback is None else agent(fallback, chat))
    if name == "verbatim":
        return ReplayAgent(adapt=False)
    if name == "random":
        return RandomAgent()
    if name == "llm":
        if chat is None:
            raise InputError("the agent 'llm' needs a chat model: --model openai:<model>")
        return LLMAgent(chat)
    if name == REPLAY_FIRST:
        return ReplayFirst(agent("llm", chat))
    if name == "neural":
        from memp.neural.agent import NeuralAgent

        return NeuralAgent()
    raise unknown_name("agent", name, AGENTS)


def baseline(chosen: Agent) -> Arm:
    """The arm without memory. A replay agent that has no fallback acts at random there."""
    alone = chosen.name in ("replay", "verbatim")
    return Arm(BASELINE, RandomAgent() if alone else chosen)
