"""Commands that move a memory: export, import."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

import click

from memp.cli._shared import options, says_errors
from memp.transfer import Ids, ImportResult, export_bundle, import_bundle
from memp.transfer.merge import ON_CONFLICT

SHOWN = 20
"""How many ids of a kind are printed; --json prints all."""


@click.command("export")
@click.argument("memory")
@click.argument("file")
@click.option("--vectors", is_flag=True, help="Write the vectors too, for a memory of the same embedder.")
@click.option("--namespace", help="Only what is in this namespace; '' is what was learned here.")
@click.option("--force", is_flag=True, help="Replace FILE if it is there.")
@says_errors
def export_command(memory: str, file: str, vectors: bool, namespace: str | None, force: bool) -> None:
    """Write MEMORY to FILE, one portable file of text that `memp import` takes in."""
    written = export_bundle(memory, file, vectors=vectors, namespace=namespace, force=force)
    click.echo(f"{written.procedures} procedures and {written.tombstones} tombstones in {file}")
    click.echo(f"sha256 {written.sha256}")
    if written.quarantined:
        click.echo(f"{written.quarantined} items in quarantine are not exported", err=True)


@click.command("import")
@click.argument("memory")
@click.argument("file")
@click.option("--namespace", default="", help="Keep what is taken in apart, under this name.")
@click.option(
    "--on-conflict",
    default="better",
    show_default=True,
    help=f"Which stays where both have a procedure: {' | '.join(ON_CONFLICT)}.",
)
@click.option("--dry-run", is_flag=True, help="Only print what would change.")
@click.option("--json", "as_json", is_flag=True, help="As one JSON object, with all ids.")
@options("embedder")
@says_errors
def import_command(memory: str, file: str, as_json: bool, **options: Any) -> None:
    """Take the bundle FILE into MEMORY, making it where there is none.

    All of it is taken in or, where anything is wrong with it, nothing. What was retired in MEMORY stays retired.
    """
    result = import_bundle(memory, file, **options)
    fates = {name: ids for name, ids in _fields(result).items() if isinstance(ids, Ids)}
    if as_json:
        said = {**_fields(result), **{name: list(ids) for name, ids in fates.items()}}
        click.echo(json.dumps({"dry_run": options["dry_run"], **said}))
        return
    would = "would be: " if options["dry_run"] else ""
    click.echo(would + ", ".join(f"{len(ids)} {name.replace('_', ' ')}" for name, ids in fates.items()))
    listed = ("added", "replaced", "kept") if options["dry_run"] else ()
    for name in (*listed, "refused", "retired_there"):
        for procedure_id in fates[name][:SHOWN]:
            click.echo(f"{name.replace('_', ' ')} {procedure_id}")
        if len(fates[name]) > SHOWN:
            click.echo(f"{name.replace('_', ' ')}: and {len(fates[name]) - SHOWN} more, --json prints all")


def _fields(result: ImportResult) -> dict[str, Any]:
    return {entry.name: getattr(result, entry.name) for entry in fields(result)}
