"""What a procedure is to keep of what was lived through (the paper's Table 1)."""

from __future__ import annotations

from dataclasses import dataclass

from evals.arms import Arm, Recall, agent, baseline
from evals.plan import OpenChat, Plan, Recipe
from evals.settings import Keyed, Settings
from evals.worlds import worlds
from memp.chat import chat_model
from memp.embedding import embedder
from memp.errors import InputError
from memp.procedure import Granularity

GRANULARITIES: tuple[Granularity, ...] = ("script", "trajectory", "proceduralization")


@dataclass(frozen=True, kw_only=True)
class Build(Keyed, Settings):
    """The settings of the study `build`."""

    study = "build"


def plan(settings: Build, open_chat: OpenChat = chat_model) -> Plan:
    """Compare no memory with scripts, trajectories, and both: a memory of each from the same trajectories.

    The arm `random` shows procedures of the last of these memories that nothing but chance has chosen.

    Raises:
        InputError: if the settings cannot be carried out.
    """
    if settings.model is None:
        raise InputError(
            "the arms 'script' and 'proceduralization' need a chat model that distils:"
            " --model openai:<model> or local:<path or name>"
        )
    chat = open_chat(settings.model)
    acting = agent(settings.agent, chat, settings.fallback)
    recipes = [Recipe(granularity, granularity, chat, settings.key) for granularity in GRANULARITIES]
    arms = [Arm(recipe.name, acting, Recall(recipe.name, settings.key, settings.k)) for recipe in recipes]
    drawn = Arm("random", acting, Recall(recipes[-1].name, "random", settings.k))
    return Plan(
        settings,
        recipes=tuple(recipes),
        arms=(baseline(acting), drawn, *arms),
        embedder=embedder(settings.embedder),
        chat=chat,
        worlds=worlds(settings),
    )
