"""How much memory helps: procedures shown, and procedures in memory (the paper's Figure 4b)."""

from __future__ import annotations

from dataclasses import dataclass

from evals.arms import Arm, Recall, agent, baseline
from evals.plan import OpenChat, Plan, Recipe, kept
from evals.settings import Keyed, Settings
from evals.worlds import worlds
from memp.chat import chat_model
from memp.embedding import embedder

WHOLE = "whole"
"""The memory of all training tasks."""

SHOWN, HELD = "procedures shown", "training tasks in memory"
"""What the arms differ in, as the axes of a plot say it."""


@dataclass(frozen=True, kw_only=True)
class Scaling(Keyed, Settings):
    """The settings of the study `scaling`."""

    study = "scaling"

    shown: tuple[int, ...] = (1, 2, 4, 8)
    """How many procedures are shown, from a memory of all training tasks; each is an arm."""

    held: tuple[int, ...] = (4, 8, 16, 32)
    """How many training tasks a memory is built from, `k` of whose procedures are shown; each is an arm."""


def plan(settings: Scaling, open_chat: OpenChat = chat_model) -> Plan:
    """Compare no memory, more and more procedures shown, and larger and larger memories.

    The arms are named `k=1`, `k=2`, ... and `n=4`, `n=8`, ...; `random` shows `k` of the whole memory.

    Raises:
        InputError: if the settings cannot be carried out.
    """
    chat = open_chat(settings.model)
    acting = agent(settings.agent, chat, settings.fallback)
    held = sorted({count for count in settings.held if count < settings.train})
    parts = [Recipe(f"n={count}", kept(chat), chat, settings.key, take=count) for count in held]

    whole = (HELD, settings.train)
    drawn = Arm("random", acting, Recall(WHOLE, "random", settings.k), amounts=((SHOWN, settings.k), whole))

    def showing(k: int) -> Arm:
        amounts = ((SHOWN, k), whole) if k == settings.k else ((SHOWN, k),)
        return Arm(f"k={k}", acting, Recall(WHOLE, settings.key, k), amounts=amounts)

    def holding(count: int) -> Arm:
        recall = Recall(f"n={count}", settings.key, settings.k)
        return Arm(f"n={count}", acting, recall, amounts=((HELD, count),))

    return Plan(
        settings,
        recipes=(*parts, Recipe(WHOLE, kept(chat), chat, settings.key)),
        arms=(
            baseline(acting),
            drawn,
            *map(showing, sorted(set(settings.shown))),
            *map(holding, held),
        ),
        embedder=embedder(settings.embedder),
        chat=chat,
        worlds=worlds(settings),
    )
