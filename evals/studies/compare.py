"""One task with and without memory, side by side (the paper's Figures 1 and 5); and tasks that come again."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

from evals.arms import PRACTICE, REPLAY_FIRST, Arm, Recall, agent, baseline
from evals.plan import OpenChat, Plan, Recipe, kept
from evals.settings import Keyed, Settings
from evals.worlds import Group, World, worlds
from memp.chat import ChatModel, chat_model
from memp.embedding import embedder
from memp.errors import InputError
from tasks.base import Info, Split, Task, TextEnv

MEMORY = "memory"
"""The arm that has one."""

AGAIN = "/again"
"""Ends the id of a task that comes again: what was learned of it the first time is held back from no one."""


@dataclass(frozen=True, kw_only=True)
class Compare(Keyed, Settings):
    """The settings of the study `compare`."""

    study = "compare"

    task: str | None = None
    """The id of the task; None takes the first that is tested on, and all of them where they come again."""


def plan(settings: Compare, open_chat: OpenChat = chat_model) -> Plan:
    """Do one task without memory, and with one of scripts and trajectories (without a model: of trajectories).

    With the agent `replay-first`, tasks come again that its model did alone: without memory, with one of its own
    successes, and with that done again first.

    Raises:
        InputError: if the settings cannot be carried out.
    """
    chat = open_chat(settings.model)
    if settings.agent == REPLAY_FIRST:
        return _again(settings, chat)
    acting = agent(settings.agent, chat, settings.fallback)
    recipe = Recipe("memory", kept(chat), chat, settings.key)
    return Plan(
        settings,
        recipes=(recipe,),
        arms=(baseline(acting), Arm(MEMORY, acting, Recall(recipe.name, settings.key, settings.k))),
        embedder=embedder(settings.embedder),
        chat=chat,
        worlds=tuple(_narrowed(world, settings, world.test[0].id) for world in worlds(settings)),
    )


def _again(settings: Compare, chat: ChatModel | None) -> Plan:
    """Have the model do tasks, and then all arms do them again."""
    acting, alone = agent(REPLAY_FIRST, chat, settings.fallback), agent("llm", chat)
    recipe = Recipe("successes", "trajectory", key=settings.key, lived_by=str(settings.model))
    recall = Recall(recipe.name, settings.key, settings.k)
    return Plan(
        settings,
        recipes=(recipe,),
        arms=(baseline(alone), Arm(MEMORY, alone, recall), Arm(REPLAY_FIRST, acting, recall)),
        embedder=embedder(settings.embedder),
        chat=chat,
        worlds=tuple(_coming_again(_narrowed(world, settings)) for world in worlds(settings)),
        practice=(Arm(PRACTICE, alone, model=recipe.lived_by),),
    )


def _narrowed(world: World, settings: Compare, default: str | None = None) -> World:
    """The world with one task to test on; with all where none is named, and there is no default."""
    chosen = settings.task or default
    if chosen is None:
        return world
    open_env = world.groups[0].open_env
    with closing(open_env()) as env:
        tasks = {task.id: task for split in settings.splits for task in env.tasks(split)}
    if chosen not in tasks:
        near = get_close_matches(chosen, tasks, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise InputError(f"there is no task {chosen!r} in the split {' or '.join(settings.splits)}{hint}")
    return replace(world, groups=(Group((tasks[chosen],), open_env),))


def _coming_again(world: World) -> World:
    """The world with its test tasks to learn from, and then to test on."""
    open_env = world.groups[0].open_env
    again = tuple(replace(task, id=task.id + AGAIN) for task in world.test)
    return replace(world, train=world.test, groups=(Group(again, lambda: _Again(open_env())),))


class _Again:
    """An environment whose tasks can also be begun by the ids they have when they come again."""

    def __init__(self, env: TextEnv) -> None:
        self.name = env.name
        self._env = env
        self.step, self.admissible, self.expert, self.close = env.step, env.admissible, env.expert, env.close

    def tasks(self, split: Split) -> Sequence[Task]:
        return self._env.tasks(split)

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, Info]:
        named = {name: value.removesuffix(AGAIN) for name, value in (options or {}).items()}
        return self._env.reset(seed, named)
