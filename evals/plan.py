"""What a study is going to do, as a value: the worlds, how memories are built, and the arms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from evals.arms import Arm
from evals.settings import Settings
from evals.worlds import World
from memp.chat import ChatModel
from memp.embedding import Embedder
from memp.procedure import Granularity
from memp.retrieve import Key

OpenChat = Callable[[str | None], ChatModel | None]
"""Opens the chat model of a name, as `chat_model` does; None of none."""


def kept(chat: ChatModel | None) -> Granularity:
    """What procedures keep where a study does not compare that: also a script, where a model can write one."""
    return "trajectory" if chat is None else "proceduralization"


@dataclass(frozen=True)
class Recipe:
    """How a memory is built from the trajectories of a world's training tasks."""

    name: str
    """What `Recall.recipe` says; also of the memory's file."""

    build: Granularity

    chat: ChatModel | None = None
    """Who writes what is distilled; None: nothing is."""

    key: Key = "query"
    """What procedures are to be found by first: their keys of this kind are made at once."""

    take: int | None = None
    """From how many of the training tasks, in an order that the seed decides; None is all."""

    lived_by: str = ""
    """The model whose practice the trajectories are, successes alone; empty: the environment's experts."""

    built_by: str = ""
    """The model that distils, in a study that compares chat models."""


@dataclass(frozen=True)
class Plan:
    """A study: arms that differ in one thing, on the same tasks, seeds and step budget."""

    settings: Settings
    worlds: tuple[World, ...]
    recipes: tuple[Recipe, ...]
    arms: tuple[Arm, ...]
    embedder: Embedder

    chat: ChatModel | None
    """Who extracts the facts of a task under test; None: the built-in keywords."""

    practice: tuple[Arm, ...] = ()
    """Who does the training tasks beforehand, without a memory."""
