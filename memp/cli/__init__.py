"""The command `memp`: parses, calls the library, prints, and translates errors."""

from __future__ import annotations

import click

from memp import __version__
from memp.cli import commands, mcp, skills, transfer


@click.group()
@click.version_option(__version__, prog_name="memp")
def main() -> None:
    """Procedural memory for LLM agents: MEMORY is one SQLite file."""


for command in (
    commands.build,
    commands.search,
    commands.show,
    commands.stats,
    commands.retry,
    commands.rollback,
    commands.reembed_command,
    transfer.export_command,
    transfer.import_command,
    skills.skills,
    mcp.mcp_command,
):
    main.add_command(command)
