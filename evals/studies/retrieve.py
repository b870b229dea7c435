"""Which key finds the procedures that help (the paper's Table 2)."""

from __future__ import annotations

from dataclasses import dataclass

from evals.arms import Arm, Recall, agent, baseline
from evals.plan import OpenChat, Plan, Recipe
from evals.settings import Settings
from evals.worlds import worlds
from memp.chat import chat_model
from memp.embedding import embedder
from memp.retrieve import Key

KEYS: tuple[Key, ...] = ("random", "query", "avefact")


@dataclass(frozen=True, kw_only=True)
class Retrieve(Settings):
    """The settings of the study `retrieve`."""

    study = "retrieve"


def plan(settings: Retrieve, open_chat: OpenChat = chat_model) -> Plan:
    """Compare no memory, a random sample of one memory, and retrieval from it by query and by AveFact.

    Raises:
        InputError: if the settings cannot be carried out.
    """
    chat = open_chat(settings.model)
    acting = agent(settings.agent, chat, settings.fallback)
    recipe = Recipe("trajectory", "trajectory")
    arms = [Arm(key, acting, Recall(recipe.name, key, settings.k)) for key in KEYS]
    return Plan(
        settings,
        recipes=(recipe,),
        arms=(baseline(acting), *arms),
        embedder=embedder(settings.embedder),
        chat=chat,
        worlds=worlds(settings),
    )
