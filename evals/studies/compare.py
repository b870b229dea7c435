"""One task with and without memory, side by side (the paper's Figures 1 and 5)."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from difflib import get_close_matches

from evals.arms import Arm, Recall, agent, baseline
from evals.plan import OpenChat, Plan, Recipe, kept
from evals.settings import Keyed, Settings
from evals.worlds import Group, World, worlds
from memp.chat import chat_model
from memp.embedding import embedder
from memp.errors import InputError

MEMORY = "memory"
"""The arm that has one."""


@dataclass(frozen=True, kw_only=True)
class Compare(Keyed, Settings):
    """The settings of the study `compare`."""

    study = "compare"

    task: str | None = None
    """The id of the task; None takes the first that is tested on."""


def plan(settings: Compare, open_chat: OpenChat = chat_model) -> Plan:
    """Do one task without memory, and with one of scripts and trajectories (without a model: of trajectories).

    Raises:
        InputError: if the settings cannot be carried out.
    """
    chat = open_chat(settings.model)
    acting = agent(settings.agent, chat, settings.fallback)
    recipe = Recipe("memory", kept(chat), chat, settings.key)
    return Plan(
        settings,
        recipes=(recipe,),
        arms=(baseline(acting), Arm(MEMORY, acting, Recall(recipe.name, settings.key, settings.k))),
        embedder=embedder(settings.embedder),
        chat=chat,
        worlds=tuple(_narrowed(world, settings) for world in worlds(settings)),
    )


def _narrowed(world: World, settings: Compare) -> World:
    """The world with one task to test on."""
    open_env = world.groups[0].open_env
    with closing(open_env()) as env:
        tasks = {task.id: task for split in settings.splits for task in env.tasks(split)}
    chosen = world.test[0].id if settings.task is None else settings.task
    if chosen not in tasks:
        near = get_close_matches(chosen, tasks, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise InputError(f"there is no task {chosen!r} in the split {' or '.join(settings.splits)}{hint}")
    return replace(world, groups=(Group((tasks[chosen],), open_env),))
