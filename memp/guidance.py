"""Guidance: retrieved procedures rendered for a prompt, marked so that they are never learned from."""

from __future__ import annotations

import re
from collections.abc import Sequence

from memp.procedure import Match, Procedure
from memp.prompts.forms import numbered, transcript
from memp.trajectory import Step, Trajectory

OPEN = "<procedural-memory>"
CLOSE = "</procedural-memory>"

HEADER = "Procedures from earlier tasks, for reference. Follow what fits this task; leave what does not."

DEFUSED = "[procedural-memory]"
"""What stands for a mark that a text brought along. Not nothing: that could join its neighbours to a mark."""

_MARKED = re.compile(rf"{OPEN}.*?(?:{CLOSE}|\Z)", re.DOTALL)
_MARK = re.compile(rf"{OPEN}|{CLOSE}")


def render(matches: Sequence[Match]) -> str:
    """Render procedures best first, between marks; the empty text where there are none."""
    if not matches:
        return ""
    parts = [_MARK.sub(DEFUSED, body(match.procedure)) for match in matches]
    return "\n\n".join([f"{OPEN}\n{HEADER}", *parts]) + f"\n{CLOSE}"


def strip(text: str) -> str:
    """Remove every marked guidance from a text; one that was cut off before its end mark to the end."""
    if OPEN not in text and CLOSE not in text:
        return text
    return _MARK.sub(DEFUSED, _MARKED.sub("", text))


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
    """One procedure as a reader sees it: its task, its script and what was done, as far as it has them."""
    lines = [f"Task: {procedure.task}"]
    if procedure.script is not None:
        lines.append(f"How to {procedure.script.goal}:")
        lines.append(numbered(procedure.script.steps))
    if procedure.trajectory is not None:
        lines += ["What was done:", transcript(procedure.trajectory)]
    return "\n".join(lines)
