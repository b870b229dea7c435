"""A memory moved from one model to another (the paper's Figure 4a)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import permutations
from typing import Any

from evals.arms import PRACTICE, Arm, Recall, baseline
from evals.plan import OpenChat, Plan, Recipe
from evals.settings import BASE, SMALL, Settings
from evals.worlds import worlds
from memp.agents import Agent, LLMAgent
from memp.chat import chat_model
from memp.embedding import embedder
from memp.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Transfer(Settings):
    """The settings of the study `transfer`."""

    study = "transfer"

    models: tuple[str, ...] = ()
    """The chat models, two or more: each receives from each."""

    @classmethod
    def bundled(cls) -> dict[str, Any]:
        """The chat models where nobody says."""
        return {"models": (SMALL, BASE)}

    @property
    def all_models(self) -> tuple[str, ...]:
        """The names of every chat model."""
        return self.models


def plan(settings: Transfer, open_chat: OpenChat = chat_model) -> Plan:
    """Let every model do the training tasks, build memories from that, and give them to the others.

    The arms of a model: `none`; `own`, built by itself from what it did itself; and for every other model as
    the source `inherit`, the memory that the source built from what it did, `rebuild`, the one that this model
    built from the same trajectories, and `random`, which draws from the inherited one. Only successes are
    learned from.

    Raises:
        InputError: if the settings cannot be carried out.
    """
    if settings.agent != "llm":
        raise InputError(f"only the agent 'llm' has a model to move a memory to, not {settings.agent!r}")
    names = settings.models
    if len(set(names)) < 2 or len(set(map(_short, names))) < len(names):
        raise InputError(
            f"a memory moves between two or more different models: give --model for each, not {names}"
        )
    chats = {name: chat for name in names if (chat := open_chat(name)) is not None}
    agents: dict[str, Agent] = {name: LLMAgent(chat) for name, chat in chats.items()}
    own = [Arm("own", agents[name], _recall(settings, name, name), model=name) for name in names]
    return Plan(
        settings,
        recipes=tuple(
            Recipe(
                _memory(source, builder),
                "proceduralization",
                chats[builder],
                lived_by=source,
                built_by=builder,
            )
            for source in names
            for builder in names
        ),
        arms=(
            *(Arm(baseline(agent).name, agent, model=name) for name, agent in agents.items()),
            *own,
            *(arm for pair in permutations(names, 2) for arm in _received(settings, agents, *pair)),
        ),
        embedder=embedder(settings.embedder),
        chat=None,
        worlds=worlds(settings),
        practice=tuple(Arm(PRACTICE, agent, model=name) for name, agent in agents.items()),
    )


def _received(settings: Transfer, agents: dict[str, Agent], source: str, model: str) -> list[Arm]:
    """What a model gets from a source."""
    recalls = {
        "random": _recall(settings, source, source, random=True),
        "inherit": _recall(settings, source, source),
        "rebuild": _recall(settings, source, model),
    }
    return [Arm(name, agents[model], recall, model=model, source=source) for name, recall in recalls.items()]


def _recall(settings: Transfer, source: str, builder: str, *, random: bool = False) -> Recall:
    return Recall(_memory(source, builder), "random" if random else "query", settings.k)


def _memory(source: str, builder: str) -> str:
    """The name of the memory of what one model did, built by another."""
    return f"{_short(source)}-by-{_short(builder)}"


def _short(model: str) -> str:
    """A model's name as part of a file's."""
    return re.sub(r"[^\w.-]+", "-", model.partition(":")[2])
