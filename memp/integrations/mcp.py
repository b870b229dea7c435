"""A memory as an MCP server, for agents of any kind: over standard streams, or over HTTP (extra `mcp`).

The agent has to call the tools: `recall` before a task, `record` after it, `feedback` on what it followed. The
server sees nothing of a task but what it is told.
"""

from __future__ import annotations

import functools
import hmac
import ipaddress
import re
import socket
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Annotated, ParamSpec, TypeVar

from pydantic import AnyHttpUrl, Field, ValidationError

from memp import __version__
from memp.errors import InputError, MempError, MissingExtra, NotFound, first_fault
from memp.guidance import own_steps, strip
from memp.memory import ProceduralMemory
from memp.procedure import Procedure, Script
from memp.trajectory import Record, Step, Trajectory
from memp.update import MemoryUpdate

try:
    import uvicorn
    from mcp.server.auth.provider import AccessToken
    from mcp.server.auth.settings import AuthSettings
    from mcp.server.mcpserver import MCPServer
    from mcp.server.mcpserver.exceptions import ResourceError, ResourceNotFoundError, ToolError
    from mcp.server.transport_security import TransportSecuritySettings
    from mcp_types import ToolAnnotations
    from starlette.applications import Starlette
except ImportError as error:  # also with mcp 1.x, which has no MCPServer
    raise MissingExtra("mcp", "mcp") from error

LISTED = 1000
"""How many procedures the resource `memp://procedures` lists."""

PATH = "/mcp"
"""Where the HTTP server answers."""

LOOPBACK_NAMES = ("127.0.0.1", "localhost", "::1")

INSTRUCTIONS = """\
A memory of how earlier tasks were done. Before a task, call recall with its text and follow what fits. After it,
call record with what you did and how it ended, and feedback for each recalled procedure that you followed."""

P = ParamSpec("P")
R = TypeVar("R")

Reward = Annotated[float, Field(ge=0, le=1, description="How the task ended: 1 is fully met, 0 is failed.")]
ProcedureId = Annotated[str, Field(description="The id of a procedure, as recall gave it.")]


class Summary(Record):
    """A procedure, without what it says."""

    id: str
    task: str

    reward: float
    """How the task ended that it was built from."""

    length: int
    """The number of steps that took; 0 where nobody took any."""

    uses: int
    successes: int


class Recalled(Record):
    """What fits a task."""

    guidance: str
    """The procedures as text, between memp's marks; empty where there is none."""

    procedures: list[Summary]
    """Whose text that is, best first."""


class Credited(Record):
    """How a procedure fares, after feedback."""

    id: str
    uses: int
    successes: int
    retired: str
    """Why it was retired; empty if it is in use."""


class Done(Record):
    """One step of a task."""

    action: str
    observation: str = ""


def server(memory: ProceduralMemory, *, token: str | None = None) -> MCPServer:
    """Make the server of a memory, to be run or mounted.

    Args:
        memory: What it serves; it stays open.
        token: What clients over HTTP must send as `Authorization: Bearer <token>`; None asks for nothing.

    Raises:
        InputError: if a header cannot carry the token.
    """
    made = MCPServer(
        "memp",
        version=__version__,
        instructions=INSTRUCTIONS,
        log_level="WARNING",
        # The settings must name who issues tokens. Nobody does, and the name is told to no one.
        auth=None
        if token is None
        else AuthSettings(issuer_url=AnyHttpUrl("http://localhost"), resource_server_url=None),
        token_verifier=None if token is None else _OneToken(token),
    )
    tools = Tools(memory)
    reads, adds = ToolAnnotations(read_only_hint=True), ToolAnnotations(destructive_hint=False)
    made.add_tool(_said(tools.recall), annotations=reads)
    for tool in (tools.record, tools.feedback, tools.revise):
        made.add_tool(_said(tool), annotations=adds)
    made.resource("memp://procedures", mime_type="application/json")(_found(tools.procedures))
    made.resource("memp://procedures/{id}", mime_type="application/json")(_found(tools.procedure))
    return made


def app(
    memory: ProceduralMemory, *, host: str = "127.0.0.1", token: str | None = None, names: Sequence[str] = ()
) -> Starlette:
    """Make the HTTP server of a memory, an ASGI application that answers at `/mcp`.

    Args:
        memory: What it serves; it stays open.
        host: The address it will be bound to.
        token: As for `server`.
        names: Other names that clients reach it by, such as that of a proxy before it.

    Raises:
        InputError: if it can be reached from other machines and there is no token.
    """
    for name in (host, *names):
        if token is None and not _is_loopback(name):
            raise InputError(
                f"{name!r} can be reached from other machines: give a token (--token, or MEMP_MCP_TOKEN), "
                "or serve on '127.0.0.1'"
            )
    security = _security(host, names)
    return server(memory, token=token).streamable_http_app(
        streamable_http_path=PATH, host=host, transport_security=security
    )


def serve_stdio(memory: ProceduralMemory) -> None:
    """Serve a memory to the process that started this one, until that closes the stream."""
    server(memory).run("stdio")


def serve_http(
    memory: ProceduralMemory,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    token: str | None = None,
    names: Sequence[str] = (),
    ready: Callable[[str], object] = lambda _: None,
) -> None:
    """Serve a memory over HTTP until the process is interrupted.

    Args:
        memory: What is served.
        host: The address to bind to.
        port: 0 takes a free one.
        token: As for `server`.
        names: As for `app`.
        ready: Called with the address once connections are taken.

    Raises:
        InputError: as for `app`, and if the address cannot be had.
    """
    application = app(memory, host=host, token=token, names=names)
    if not 0 <= port < 2**16:
        raise InputError(f"port is {port!r}; it must be from 0 to 65535")
    try:
        bound = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise InputError(f"port {port!r} of {host!r} cannot be had: {error}") from error
    with bound:
        ready(f"http://{_bracketed(host)}:{bound.getsockname()[1]}{PATH}")
        config = uvicorn.Config(application, log_level="warning", timeout_graceful_shutdown=2)
        uvicorn.Server(config).run(sockets=[bound])


class Tools:
    """What an agent can do with a memory. The docstrings are what it reads.

    They block: the server runs each call in a thread.
    """

    def __init__(self, memory: ProceduralMemory) -> None:
        self._memory = memory

    def recall(
        self,
        task: Annotated[str, Field(description="What you are asked to do, in full.")],
        k: Annotated[int, Field(ge=1, le=20, description="How many procedures at most.")] = 3,
    ) -> Recalled:
        """Find how tasks like this one were done before. Call it before you begin."""
        found = self._memory.episode(task, k=k)
        return Recalled(
            guidance=found.guidance, procedures=[_summary(match.procedure) for match in found.matches]
        )

    def record(
        self,
        task: Annotated[str, Field(description="What you were asked to do, in full.")],
        steps: Annotated[list[Done], Field(description="What you did, and what came of it, in order.")],
        reward: Reward,
    ) -> MemoryUpdate:
        """Remember how a task was done. Call it once, when the task is over, also when it failed."""
        done = tuple(Step(action=step.action, observation=step.observation) for step in steps)
        return self._memory.update([Trajectory(task=task, steps=done, reward=reward)])

    def feedback(self, id: ProcedureId, reward: Reward) -> Credited:  # noqa: A002  what agents know it by
        """Say how a task ended in which you followed this procedure. One that keeps failing is retired."""
        followed = self._memory.get(id)
        credit = Trajectory(
            task=followed.task, steps=(), reward=reward, shown=(id,), episode_id=uuid.uuid4().hex
        )
        retired = [change.reason for change in self._memory.update([credit]).retired]
        usage = self._memory.history(id)[-1].procedure.usage
        return Credited(id=id, uses=usage.uses, successes=usage.successes, retired="".join(retired))

    def revise(
        self,
        id: ProcedureId,  # noqa: A002
        steps: Annotated[list[str], Field(min_length=1, description="What to do, in order.")],
        reason: Annotated[str, Field(description="What was wrong with the former steps.")] = "",
    ) -> Summary:
        """Rewrite the steps of a procedure that proved wrong or clumsy. The former ones are kept as history."""
        own = own_steps(steps)
        if not own:
            raise InputError("the steps are empty; say what to do")
        with self._memory.store.transaction():
            former = self._memory.get(id)
            revised = former.rewritten(Script(goal=former.goal, steps=own), datetime.now(UTC))
            because = strip(reason).strip() or "it gave no reason"
            # Its task is the same, and with it what it is found by.
            stored = self._memory.store.put(revised, f"revised by an agent: {because}")
        return _summary(stored)

    def procedures(self) -> str:
        """The procedures in memory, oldest first: how many there are, and the first thousand of them."""
        listed = [_summary(each) for each in islice(self._memory.procedures(), LISTED)]
        return _Listing(count=self._memory.stats().procedures, procedures=listed).model_dump_json()

    def procedure(self, id: str) -> str:  # noqa: A002
        """One procedure, with all that is known of it."""
        return self._memory.get(id).model_dump_json()


class _Listing(Record):
    count: int
    procedures: list[Summary]


class _OneToken:
    """Lets in who sends the one token there is."""

    def __init__(self, token: str) -> None:
        if not re.fullmatch(r"[A-Za-z0-9._~+/-]+=*", token):
            raise InputError(
                "the token must be of letters, digits and -._~+/ only, such as: python -c "
                "'import secrets; print(secrets.token_urlsafe())'"
            )
        self._token = token.encode()

    async def verify_token(self, token: str) -> AccessToken | None:
        """Compare in a time that says nothing about how much of it was right."""
        if not hmac.compare_digest(token.encode(), self._token):
            return None
        return AccessToken(token=token, client_id="memp", scopes=[])


def _security(host: str, names: Sequence[str]) -> TransportSecuritySettings:
    """Which names a request may be for: a web page that rebinds its own name to this address has another.

    Bound to all addresses and with no names given, any; then there is a token, which no web page has.
    """
    if host in {"", "0.0.0.0", "::"} and not names:
        return TransportSecuritySettings(enable_dns_rebinding_protection=False)
    known = [_bracketed(name) for name in dict.fromkeys((*LOOPBACK_NAMES, host, *names))]
    origins = [f"{scheme}://{name}" for scheme in ("http", "https") for name in known]
    return TransportSecuritySettings(
        enable_dns_rebinding_protection=True,
        allowed_hosts=[allowed for name in known for allowed in (name, f"{name}:*")],
        allowed_origins=[allowed for origin in origins for allowed in (origin, f"{origin}:*")],
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _bracketed(host: str) -> str:
    """A host as an address on the web has it."""
    return f"[{host}]" if ":" in host else host


def _summary(procedure: Procedure) -> Summary:
    usage = procedure.usage
    return Summary(
        id=procedure.id,
        task=procedure.task,
        reward=procedure.reward,
        length=procedure.length,
        uses=usage.uses,
        successes=usage.successes,
    )


def _said(tool: Callable[P, R]) -> Callable[P, R]:
    """A tool whose errors are answers that an agent can read."""

    @functools.wraps(tool)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return tool(*args, **kwargs)
        except ValidationError as error:
            raise ToolError(first_fault(error)) from error
        except MempError as error:
            raise ToolError(str(error)) from error

    return wrapped


def _found(resource: Callable[P, str]) -> Callable[P, str]:
    """A resource whose errors say what is not there."""

    @functools.wraps(resource)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> str:
        try:
            return resource(*args, **kwargs)
        except NotFound as error:
            raise ResourceNotFoundError(str(error)) from error
        except MempError as error:
            raise ResourceError(str(error)) from error

    return wrapped
