"""The command `memp mcp`."""

from __future__ import annotations

import signal
from typing import Any

import click

from memp.cli._shared import options, says_errors
from memp.memory import ProceduralMemory


@click.command("mcp")
@click.argument("memory")
@click.option("--http", is_flag=True, help="Over HTTP instead of standard input and output.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to bind to, with --http.")
@click.option("--port", type=int, default=8000, show_default=True, help="0 takes a free one.")
@click.option(
    "--token", envvar="MEMP_MCP_TOKEN", show_envvar=True, help="What clients must send, with --http."
)
@click.option(
    "--name", "names", multiple=True, help="Another name that clients reach it by; may be repeated."
)
@options("chat", "embedder", "build", "key", "update", "success_at", "concurrency", "seed")
@says_errors
def mcp_command(
    memory: str,
    *,
    http: bool,
    host: str,
    port: int,
    token: str | None,
    names: tuple[str, ...],
    **options: Any,
) -> None:
    """Serve MEMORY to agents as an MCP server, making it where there is none.

    What other machines can reach needs a token.
    """
    from memp.integrations import mcp

    with ProceduralMemory.open(memory, **options) as opened:
        if not http:
            # What waits for input cannot be interrupted otherwise; a write is whole or not at all.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            mcp.serve_stdio(opened)
            return
        said = f"serving {memory} at "
        mcp.serve_http(
            opened,
            host=host,
            port=port,
            token=token,
            names=names,
            ready=lambda url: click.echo(said + url, err=True),
        )
