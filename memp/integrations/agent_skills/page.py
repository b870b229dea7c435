"""The page of a skill: what SKILL.md says, and how a procedure is told on one."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from typing import NamedTuple

from memp.guidance import strip
from memp.procedure import Procedure, procedure_id
from memp.tokens import estimate

FORMAT = "1"
"""Raised when a page or a record can no longer be read as this one is."""

RECORD = "references/procedure.json"
"""Where, in its folder, a skill that memp wrote keeps its record."""

MAX_NAME = 64
MAX_DESCRIPTION = 1024
"""In characters; the limits of the Agent Skills specification."""

MAX_LINES = 400
MAX_TOKENS = 4000
"""Of the steps on a page. The specification advises at most 500 lines and 5,000 tokens for all of it."""

_UNWRITABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


class Page(NamedTuple):
    """What a SKILL.md says."""

    name: str
    description: str
    metadata: Mapping[str, str]
    body: str


def page_of(procedure: Procedure) -> Page:
    """Tell a procedure as a page; equal procedures give equal pages."""
    return Page(_name(procedure), _description(procedure), _metadata(procedure), _body(procedure))


def written(page: Page) -> str:
    """A page as the text of a SKILL.md."""
    head = ["---", f"name: {page.name}", f"description: {_quoted(page.description)}", "metadata:"]
    head += [f"  {key}: {_quoted(value)}" for key, value in page.metadata.items()]
    return "\n".join([*head, "---", "", page.body])


def steps_of(procedure: Procedure) -> tuple[str, ...]:
    """What a procedure says to do: its script, or what was done where it has none."""
    if procedure.script is not None:
        return procedure.script.steps
    return tuple(step.action for step in procedure.trajectory.steps) if procedure.trajectory else ()


def shown_steps(procedure: Procedure) -> tuple[str, ...]:
    """The steps that a page has room for, from the first on."""
    lines = tokens = 0
    steps = steps_of(procedure)
    for number, step in enumerate(steps):
        lines += step.count("\n") + 1
        tokens += estimate(step) + 4  # its number
        if lines > MAX_LINES or tokens > MAX_TOKENS:
            return steps[:number]
    return steps


def described_goal(procedure: Procedure, description: str) -> str:
    """The goal that a description tells, where that of the procedure was changed to it."""
    return description.removesuffix(_when(procedure)).rstrip(" .") or procedure.goal


def _name(procedure: Procedure) -> str:
    """Words a person recognises, and the id. It is made anew: what stands in a store may be no name."""
    own_id = procedure_id(procedure.source, procedure.namespace)
    ascii_text = unicodedata.normalize("NFKD", procedure.goal[:1000]).encode("ascii", "ignore").decode()
    words = re.sub(r"[^a-z0-9]+", "-", ascii_text.lower())
    room = MAX_NAME - len(own_id) - 1
    return f"{words.strip('-')[:room].strip('-') or 'procedure'}-{own_id}"


def _description(procedure: Procedure) -> str:
    when = _when(procedure)
    return _line(procedure.goal, MAX_DESCRIPTION - len(when)).rstrip(" .") + when


def _when(procedure: Procedure) -> str:
    if procedure.script is None:
        return ". The steps of a recorded run."
    return f". Use for tasks like: {_line(procedure.task, 300)}"


def _metadata(procedure: Procedure) -> dict[str, str]:
    came = procedure.provenance
    values = {
        "format": FORMAT,
        "id": procedure.id,
        "source": _line(procedure.source, 300),
        "namespace": procedure.namespace,
        "reward": f"{procedure.reward:g}",
        "steps": str(procedure.length),
        "uses": str(procedure.usage.uses),
        "successes": str(procedure.usage.successes),
        "revision": str(procedure.revision),
        "granularity": came.granularity,
        "created": came.created.isoformat(),
        "model": _line(came.model, 300),
        "prompts": ", ".join(f"{name} {version}" for name, version in came.prompts.items()),
    }
    return {f"memp-{name}": value for name, value in values.items() if value}


def _body(procedure: Procedure) -> str:
    steps, shown = steps_of(procedure), shown_steps(procedure)
    parts = [f"# {_line(procedure.goal, 120)}", _outcome(procedure), "## Steps"]
    parts.append("\n".join(_item(number, step) for number, step in enumerate(shown, 1)))
    if len(shown) < len(steps):
        parts.append(f"{len(steps) - len(shown)} more steps did not fit here; the record has them.")
    parts.append(f"The whole record, with what was done and seen: [{RECORD}]({RECORD})")
    return "\n\n".join(part for part in parts if part) + "\n"


def _outcome(procedure: Procedure) -> str:
    """How a procedure fared, in a line."""
    usage = procedure.usage
    used = f"It helped in {usage.successes} of {usage.uses} uses." if usage.uses else "It was not used yet."
    if procedure.length == 0:
        return f"No run of it was recorded. {used}"
    task = _line(procedure.task, 300)
    return f"From the task: {task} (reward {procedure.reward:g} in {procedure.length} steps). {used}"


def _item(number: int, step: str) -> str:
    """A step as an item of a numbered list, whatever is in it."""
    marker = f"{number}. "
    first, *rest = re.sub(r"\r\n?", "\n", strip(step)).replace("\0", "\ufffd").strip().split("\n")
    return "\n".join([marker + first, *(" " * len(marker) + line if line.strip() else "" for line in rest)])


def _line(text: str, limit: int) -> str:
    """A text as one line of at most `limit` characters."""
    line = _UNWRITABLE.sub("\ufffd", " ".join(strip(text[: 10 * limit]).split()))
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def _quoted(text: str) -> str:
    """A line as YAML. Three dashes are escaped: simple readers take them for the end of the front matter."""
    return json.dumps(text, ensure_ascii=False).replace("---", r"-\u002d-")
