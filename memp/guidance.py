"""Guidance: retrieved procedures rendered for a prompt, marked so that they are never learned from."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from difflib import SequenceMatcher
from typing import NamedTuple

from memp import tokens
from memp.procedure import Match, Procedure
from memp.prompts.forms import numbered, transcript
from memp.trajectory import Step, Trajectory

OPEN = "<procedural-memory>"
CLOSE = "</procedural-memory>"

HEADER = "Procedures from earlier tasks, for reference. Follow what fits this task; leave what does not."

DEFUSED = "[procedural-memory]"
"""What stands for a mark that a text brought along. Not nothing: that could join its neighbours to a mark."""

CLIPPED = 300
"""Most characters of an observation in a procedure that has to be shortened."""

ALIKE = 0.9
"""The share of their lines, in order, from which two procedures say the same."""

LONG = 16
"""A text of more characters a token than this is over its limit without being counted."""

_MARKED = re.compile(rf"{OPEN}.*?(?:{CLOSE}|\Z)", re.DOTALL)
_MARK = re.compile(rf"{OPEN}|{CLOSE}")


class Guidance(NamedTuple):
    """What an agent is shown."""

    text: str = ""
    """Between marks; empty where nothing is shown."""

    matches: tuple[Match, ...] = ()
    """Whose procedures are in it, best first."""


def render(matches: Sequence[Match]) -> str:
    """Render procedures whole, best first, between marks; the empty text where there are none."""
    return _fenced([body(match.procedure) for match in matches])


def fit(
    matches: Sequence[Match], k: int, *, limit: int, model: str = "", min_score: float | None = None
) -> Guidance:
    """Render the best `k` that are worth showing, within a limit.

    Procedures below `min_score` are left out, and those that say the same as a better one. Where the others
    are too long together, the longest are shortened: first their observations, then their last steps. One
    of which no step would be left is left out, and so is, from the last, what is still too much.

    Args:
        matches: Best first; may be more than `k`.
        k: How many procedures at most.
        limit: Most tokens of the text, by `tokens.count`.
        model: Whose tokens are counted, as for `tokens.count`.
        min_score: The lowest score to be shown; None shows any.
    """
    chosen = _distinct([match for match in matches if min_score is None or match.score >= min_score])[:k]
    whole = [body(match.procedure) for match in chosen]

    def size(text: str) -> int:
        return len(text) // LONG + 1 if len(text) > LONG * limit else tokens.count(text, model).n

    if size(_fenced(whole)) <= limit:
        return Guidance(_fenced(whole), tuple(chosen))
    alone = limit - size(_fenced(["."]))
    chosen = [match for match in chosen if _within(match.procedure, alone, size)]
    while chosen:
        whole = [body(match.procedure) for match in chosen]
        room = limit - size(_fenced(["." for _ in chosen]))
        shares = _shares([size(text) for text in whole], room)
        parts = [_within(match.procedure, share, size) for match, share in zip(chosen, shares, strict=True)]
        if all(parts) and size(_fenced(parts)) <= limit:
            return Guidance(_fenced(parts), tuple(chosen))
        chosen = chosen[:-1]
    return Guidance()


def strip(text: str) -> str:
    """Remove every marked guidance from a text; one that was cut off before its end mark to the end."""
    if OPEN not in text and CLOSE not in text:
        return text
    return defused(_MARKED.sub("", text))


def own_steps(steps: Iterable[str]) -> tuple[str, ...]:
    """Steps that somebody wrote, without memp's marks; what is empty then is left out."""
    return tuple(step for step in (strip(step).strip() for step in steps) if step)


def defused(text: str) -> str:
    """The text with nothing in it that could be taken for a mark."""
    return _MARK.sub(DEFUSED, text)


def own_words(trajectory: Trajectory) -> Trajectory:
    """The trajectory without any guidance that found its way into its texts."""
    steps = [
        Step(action=action, observation=strip(step.observation))
        for step in trajectory.steps
        if (action := strip(step.action)).strip()
    ]
    task = strip(trajectory.task).strip()
    return trajectory.model_copy(
        update={"task": task or trajectory.task, "steps": tuple(steps), "start": strip(trajectory.start)}
    )


def body(procedure: Procedure) -> str:
    """One procedure as a reader sees it: its task, how it fared, its script and what was done, if it has them."""
    lines = [f"Task: {procedure.task}", outcome(procedure)]
    if procedure.script is not None:
        lines.append(f"How to {procedure.script.goal}:")
        lines.append(numbered(procedure.script.steps))
    if procedure.trajectory is not None:
        lines += ["What was done:", transcript(procedure.trajectory)]
    return "\n".join(lines)


def outcome(procedure: Procedure) -> str:
    """How the episode ended that a procedure was built from, and those it was shown in since."""
    usage = procedure.usage
    since = (
        f"shown {usage.uses} times since, {usage.successes} successes" if usage.uses else "not shown since"
    )
    built = (
        f"reward {procedure.reward:g} in {procedure.length} steps" if procedure.length else "no run recorded"
    )
    return f"Outcome: {built}; {since}"


def _fenced(bodies: Sequence[str]) -> str:
    if not bodies:
        return ""
    return "\n\n".join([f"{OPEN}\n{HEADER}", *map(defused, bodies)]) + f"\n{CLOSE}"


def _distinct(matches: Sequence[Match]) -> list[Match]:
    """The matches without those whose procedure says what a better one says."""
    kept: list[tuple[Match, list[str]]] = []
    for match in matches:
        said = _said(match.procedure)
        if not any(_alike(said, other) for _, other in kept):
            kept.append((match, said))
    return [match for match, _ in kept]


def _said(procedure: Procedure) -> list[str]:
    """What a procedure says to do, line by line."""
    told = procedure.script.steps if procedure.script is not None else ()
    done = procedure.trajectory.steps if procedure.trajectory is not None else ()
    return [*told, *(step.action for step in done)]


def _alike(said: list[str], other: list[str]) -> bool:
    compared = SequenceMatcher(None, said, other, autojunk=False)
    # The first two cost little and are never below the third.
    return (
        compared.real_quick_ratio() >= ALIKE and compared.quick_ratio() >= ALIKE and compared.ratio() >= ALIKE
    )


def _shares(lengths: Sequence[int], room: int) -> list[int]:
    """Share out a room: everyone has what they need, but for the longest, which have equal parts of the rest."""
    shares = [0] * len(lengths)
    for rank, index in enumerate(sorted(range(len(lengths)), key=lengths.__getitem__)):
        shares[index] = min(lengths[index], max(room, 0) // (len(lengths) - rank))
        room -= shares[index]
    return shares


def _within(procedure: Procedure, limit: int, size: Callable[[str], int]) -> str:
    """A procedure within a size, if need be cut between steps; empty where no step would be left."""
    clipped = _clipped(procedure)
    for text in (body(procedure), body(clipped)):
        if size(text) <= limit:
            return text
    low, high = 0, len(_said(clipped)) - 1  # the most steps that fit, by bisection
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if size(_first(clipped, middle)) <= limit else (low, middle - 1)
    return _first(clipped, low) if low else ""


def _first(procedure: Procedure, count: int) -> str:
    """A procedure with its first `count` steps, those of the script before those that were done."""
    script, done = procedure.script, procedure.trajectory
    told = min(count, len(script.steps)) if script is not None else 0
    acted = count - told
    changed = {
        "script": script and script.model_copy(update={"steps": script.steps[:told]}),
        "trajectory": done.model_copy(update={"steps": done.steps[:acted]}) if done and acted else None,
    }
    left = len(_said(procedure)) - count
    return f"{body(procedure.model_copy(update=changed))}\n[{left} more steps are left out]"


def _clipped(procedure: Procedure) -> Procedure:
    """A procedure whose observations are short."""
    if procedure.trajectory is None:
        return procedure
    done = procedure.trajectory
    steps = tuple(step.model_copy(update={"observation": _clip(step.observation)}) for step in done.steps)
    trajectory = done.model_copy(update={"start": _clip(done.start), "steps": steps})
    return procedure.model_copy(update={"trajectory": trajectory})


def _clip(text: str) -> str:
    return text if len(text) <= CLIPPED else f"{text[:CLIPPED]} [...]"
