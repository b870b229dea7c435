"""From a failure to a revised procedure (the paper's adjustment)."""

from __future__ import annotations

from string import Template

from memp.procedure import Procedure, Script
from memp.prompts.forms import numbered, script, transcript
from memp.trajectory import Trajectory

NAME = "reflect"
VERSION = 1
SCHEMA = Script

TEMPLATE = Template("""\
An agent followed a procedure from its memory, and failed.

The procedure, from the task: $source_task
$procedure

The task now: $task
What the agent did (behind >) and saw:
$episode
Reward: $reward (1 means the goal was fully met)

Find where the procedure led the agent wrong, and write it anew so that it would have helped: correct the
step that was wrong, and say what to check where it depends on the place.
Answer in exactly this form:
Goal: <the kind of task>
1. <first step>
2. <next step>
""")


def render(procedure: Procedure, failure: Trajectory) -> str:
    """Ask for the revision of a procedure after an episode it was shown in failed."""
    return TEMPLATE.substitute(
        source_task=procedure.task,
        procedure=_procedure(procedure),
        task=failure.task,
        episode=transcript(failure),
        reward=f"{failure.reward:g}",
    )


parse = script


def _procedure(procedure: Procedure) -> str:
    if procedure.script is not None:
        return numbered(procedure.script.steps)
    steps = procedure.trajectory.steps if procedure.trajectory is not None else ()
    return "\n".join(f"> {step.action}" for step in steps)
