"""Commands on Agent Skills: skills export, skills import."""

from __future__ import annotations

from typing import Any

import click

from memp.cli._shared import options, says_errors
from memp.integrations import agent_skills
from memp.memory import ProceduralMemory


@click.group()
def skills() -> None:
    """Procedures as Agent Skills (SKILL.md folders), and such skills as procedures."""


@skills.command("export")
@click.argument("memory")
@click.argument("directory")
@click.option("-n", type=int, help="How many at most, the best: success of uses, reward, fewer steps.")
@click.option("--replace", is_flag=True, help="Write anew the skills that are there.")
@says_errors
def export_command(memory: str, directory: str, n: int | None, replace: bool) -> None:
    """Write the procedures of MEMORY into DIRECTORY, each as a folder with a SKILL.md."""
    with ProceduralMemory.open(memory, create=False) as opened:
        written = agent_skills.export_skills(opened, directory, n=n, replace=replace)
    click.echo(f"{len(written)} skills in {directory}")


@skills.command("import")
@click.argument("memory")
@click.argument("directory")
@options("chat", "embedder", "key")
@says_errors
def import_command(memory: str, directory: str, **options: Any) -> None:
    """Bring the skill or skills in DIRECTORY into MEMORY, making it where there is none.

    Only the text of a SKILL.md is taken, and the record of one that memp wrote; nothing of it is run.
    """
    found = agent_skills.read_skills(directory)
    for name in found.passed_over:
        click.echo(f"passed over {name!r}: it has no SKILL.md", err=True)
    with ProceduralMemory.open(memory, **options) as opened:
        result = agent_skills.take_in(opened, found.skills)
    click.echo(f"{len(result.added)} added, {len(result.revised)} revised, {len(result.skipped)} skipped")
    for change in result.skipped:
        click.echo(f"skipped {change.task!r}: {change.reason}", err=True)
