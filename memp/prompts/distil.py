"""From a trajectory to its script."""

from __future__ import annotations

from string import Template

from memp.procedure import Script
from memp.prompts.forms import script, transcript
from memp.trajectory import Trajectory

NAME = "distil"
VERSION = 1
SCHEMA = Script

TEMPLATE = Template("""\
An agent was given a task and lived through the episode below.

Task: $task
Episode (what the agent did stands behind >, what it then saw below):
$episode
Reward: $reward (1 means the goal was fully met)

Write the shortest general procedure for any task of this kind. Name what changes from task to task by its
role (the object, the place), keep what is always so, and leave out detours and mistakes.
Answer in exactly this form:
Goal: <the kind of task>
1. <first step>
2. <next step>
""")


def render(trajectory: Trajectory) -> str:
    """Ask for the script of one trajectory."""
    return TEMPLATE.substitute(
        task=trajectory.task, episode=transcript(trajectory), reward=f"{trajectory.reward:g}"
    )


parse = script
