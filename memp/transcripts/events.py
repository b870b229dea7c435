"""The common form of a transcript, what was said, called and returned, and how it becomes steps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import NamedTuple, TypeAlias

from memp.guidance import strip
from memp.trajectory import Step, Trajectory, heard, storable


class Said(NamedTuple):
    """A text of the agent, or one that it was told."""

    by_agent: bool
    text: str


class Called(NamedTuple):
    """The agent called a tool."""

    id: str
    """By which the result names the call; need not be unique in a transcript, nor be there at all."""

    action: str
    """As `memp.calls.written` writes it."""


class Returned(NamedTuple):
    """The result of a call."""

    id: str
    text: str


Event: TypeAlias = Said | Called | Returned


class _Open(NamedTuple):
    """A step whose observation is still being gathered."""

    action: str
    seen: list[str]


def steps(events: Iterable[Event]) -> list[Step]:
    """Turn what was said, called and returned, in order, into steps.

    Each call is an action, in the order of the calls, and its result the observation. Text beside calls is
    no action. A turn of the agent without calls is an action if it has text; the observation is then what the
    agent is told next. An action to which nothing came back has an empty observation. Results of calls that
    are not in the transcript are passed over.
    """
    made: list[_Open] = []
    waiting: dict[str, list[_Open]] = {}
    told: list[str] = []  # where the agent's last text finds its observation
    for by_agent, group in groupby(events, _is_by_agent):
        turn = list(group)
        if not by_agent:
            for event in turn:
                if isinstance(event, Returned) and waiting.get(event.id):
                    waiting[event.id].pop(0).seen.append(event.text)
                elif isinstance(event, Said):
                    told.append(event.text)
            continue
        acted = _acted(turn)
        made += acted
        # An id that is used again means the newest call: some servers count from 0 in each answer.
        fresh: dict[str, list[_Open]] = {}
        for call, step in zip((event for event in turn if isinstance(event, Called)), acted, strict=False):
            fresh.setdefault(call.id, []).append(step)
        waiting |= fresh
        told = acted[-1].seen if acted and not fresh else []
    return [heard(step.action, "\n".join(step.seen)) for step in made]


def trajectory(
    events: Sequence[Event],
    *,
    task: str = "",
    task_id: str = "",
    episode_id: str = "",
    reward: float | None = None,
) -> Trajectory:
    """Make a trajectory of a transcript; without a reward it is unfinished.

    Args:
        events: In order.
        task: What was asked for; empty: the first text that the agent was told, without guidance.
        task_id: As in `Trajectory`.
        episode_id: As in `Trajectory`.
        reward: In [0, 1]; None where it is not known.

    Raises:
        ValueError: if there is no task, or a field is out of its range.
    """
    told = (strip(event.text).strip() for event in events if isinstance(event, Said) and not event.by_agent)
    asked = task.strip() or next(filter(None, told), "")
    if not asked:
        raise ValueError('no task: nothing was said to the agent; give the field "task"')
    return Trajectory(
        task=storable(asked, "a task"),
        task_id=task_id,
        episode_id=episode_id,
        steps=tuple(steps(events)),
        reward=0.0 if reward is None else reward,
        finished=reward is not None,
    )


def _is_by_agent(event: Event) -> bool:
    return isinstance(event, Called) or (isinstance(event, Said) and event.by_agent)


def _acted(turn: Sequence[Event]) -> list[_Open]:
    """What the agent did in one turn: its calls, or else what it said."""
    calls = [_Open(event.action, []) for event in turn if isinstance(event, Called)]
    if calls:
        return calls
    text = "\n".join(event.text for event in turn if isinstance(event, Said)).strip()
    return [_Open(text, [])] if text else []
