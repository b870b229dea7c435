"""What a study is run with, by name: environments, agents, and the sample of tasks."""

from __future__ import annotations

from collections.abc import Callable

from memp.agents import Agent, LLMAgent, RandomAgent, ReplayAgent
from memp.chat import chat_model
from memp.errors import InputError, unknown_name
from tasks.base import Split, Task, TextEnv, spread

ENVIRONMENTS = ("gridworld", "scienceworld")

AGENTS = ("llm", "random", "replay", "verbatim")


def environment(name: str, *, max_steps: int | None = None, universe: int = 0) -> Callable[[], TextEnv]:
    """Return what opens the environment of a name; each worker opens its own.

    Raises:
        InputError: if there is no such environment.
    """
    if name == "gridworld":
        from tasks.gridworld import GridWorld

        return lambda: GridWorld(universe, max_steps=max_steps)
    if name == "scienceworld":
        from tasks.scienceworld import ScienceWorld

        return lambda: ScienceWorld() if max_steps is None else ScienceWorld(max_steps=max_steps)
    raise unknown_name("environment", name, ENVIRONMENTS)


def agent(name: str, model: str | None, fallback: str | None = None) -> Agent:
    """Return the agent of a name.

    Args:
        name: One of `AGENTS`.
        model: The chat model of the agent `llm`.
        fallback: The agent that goes on where the agent `replay` has no procedure that applies.

    Raises:
        InputError: if there is no such agent, or it needs a chat model and none is named.
    """
    if fallback is not None and name != "replay":
        raise InputError(f"only the agent 'replay' hands over to a fallback, not {name!r}")
    if name == "replay":
        return ReplayAgent(None if fallback is None else agent(fallback, model))
    if name == "verbatim":
        return ReplayAgent(adapt=False)
    if name == "random":
        return RandomAgent()
    if name == "llm":
        chat = chat_model(model)
        if chat is None:
            raise InputError("the agent 'llm' needs a chat model: --model openai:<model>")
        return LLMAgent(chat)
    raise unknown_name("agent", name, AGENTS)


def sample(env: TextEnv, split: Split, count: int) -> list[Task]:
    """Take about `count` tasks of a split: as many of each kind, spread evenly over the kind's tasks.

    At least one of each kind is taken, so that no kind is left out of a table.

    Raises:
        InputError: if the split has no tasks.
    """
    kinds: dict[str, list[Task]] = {}
    for task in env.tasks(split):
        kinds.setdefault(task.kind, []).append(task)
    if not kinds:
        raise InputError(f"{env.name} has no tasks in the split {split!r}")
    each = max(1, round(count / len(kinds)))
    return [task for tasks in kinds.values() for task in spread(tasks, each)]
