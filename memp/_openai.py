"""What chat and embeddings share over the `openai` client: connecting, asking again, explaining errors."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from pydantic import ValidationError

from memp.errors import InputError, ModelError, first_fault

if TYPE_CHECKING:
    from openai import APIStatusError, OpenAI

T = TypeVar("T")

TRIES = 3
"""How often one question is put while the answers arrive but cannot be used."""

OPENAI_URL = "https://api.openai.com/v1"

NO_KEY = "placeholder-key"
"""Sent where a server of one's own asks for no key: the client insists on one."""

WAYS_OUT = {
    400: "the conversation may be too long for this model, or hold a parameter it does not know",
    401: "check OPENAI_API_KEY",
    403: "this key may not use this model; check OPENAI_API_KEY and the model name",
    404: "check the model name and OPENAI_BASE_URL",
    422: "the server does not know this form of request; check OPENAI_BASE_URL and the model name",
    429: "the rate limit or the quota is used up; wait, lower the concurrency, or raise max_retries",
}


class ContentError(Exception):
    """The server answered 200 with content of no use; asking again may help."""


def connect(base_url: str | None, api_key: str | None, *, timeout_s: float, max_retries: int) -> OpenAI:
    """Make a client; it reads OPENAI_API_KEY and OPENAI_BASE_URL where the arguments are None.

    Args:
        base_url: Of any server that speaks the OpenAI protocol, with its `/v1`.
        api_key: May be missing where a base URL is given: servers of one's own need none.
        timeout_s: Longest silence of the server, in seconds, for one try.
        max_retries: Tries after the first one, for faults of transport; the client spaces them.

    Raises:
        InputError: if there is neither key nor base URL, or an argument cannot be used.
    """
    from openai import OpenAI

    url = (base_url or os.environ.get("OPENAI_BASE_URL", "")).strip()
    key = (api_key or os.environ.get("OPENAI_API_KEY", "")).strip()
    if not url and not key:
        raise InputError(
            "no OpenAI key: set OPENAI_API_KEY, or set OPENAI_BASE_URL to a server that needs no key"
        )
    if url and not _usable(url):
        raise InputError(f"the base URL {url!r} must look like http://localhost:8000/v1")
    if not timeout_s > 0 or max_retries < 0:
        raise InputError(f"{timeout_s=} must be above 0, and {max_retries=} at least 0")
    if not key.isascii() or not key.isprintable():
        raise InputError("the OpenAI key holds characters no key has; copy it again")
    return OpenAI(
        base_url=url or OPENAI_URL, api_key=key or NO_KEY, timeout=timeout_s, max_retries=max_retries
    )


def _usable(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port or an address that is none
        return False


def ask(name: str, client: OpenAI, send: Callable[[], bytes], read: Callable[[bytes], T]) -> T:
    """Send until the answer can be read, at most `TRIES` times.

    Faults of transport (429, 5xx, resets, time-outs) are the client's to retry and are not
    retried here again; this covers what it takes for a success: a broken or an empty answer.

    Args:
        name: `provider:model`, for the messages.
        client: What `send` uses.
        send: Puts the question; returns the body of a 200.
        read: Turns the body into the answer; raises `ValidationError` or `ContentError` if it cannot.

    Raises:
        ModelError: if no answer came, or none that could be read.
        InputError: if the question holds text that cannot be sent.
    """
    fault = ""
    for _ in range(TRIES):
        with _translated(name, client):
            body = send()
        try:
            return read(body)
        except ValidationError as error:
            fault = first_fault(error, whole="the body")
        except ContentError as error:
            fault = str(error)
    raise ModelError(f"{name} answered {TRIES} times, but never usefully; the last time: {fault}")


def address(client: OpenAI) -> str:
    """Return the URL of the server; a user and password in it stay out."""
    url = client.base_url
    return f"{url.scheme}://{url.netloc.decode()}{url.path}"


def said(error: APIStatusError) -> str:
    """Return the server's own words about an error: its message, or else all it sent."""
    message = error.body.get("message") if isinstance(error.body, dict) else None
    return message if isinstance(message, str) and message else error.response.text


@contextmanager
def _translated(name: str, client: OpenAI) -> Iterator[None]:
    """Turn the client's errors into memp's, with the status and the way out."""
    from openai import OpenAIError

    try:
        yield
    except OpenAIError as error:
        raise ModelError(f"{name}: {_explain(error, client)}") from error
    except UnicodeEncodeError as error:
        raise InputError(f"{name}: the text holds a lone surrogate, which cannot be sent: {error}") from error


def _explain(error: Exception, client: OpenAI) -> str:
    from openai import APIConnectionError, APIStatusError, APITimeoutError

    where = address(client)
    tries = f"{client.max_retries + 1} {'try' if client.max_retries == 0 else 'tries'}"
    if isinstance(error, APITimeoutError):
        limit = f"{client.timeout:g} s" if isinstance(client.timeout, int | float) else "the time limit"
        return f"no answer from {where} within {limit} ({tries}); raise timeout_s, or check the server"
    if isinstance(error, APIConnectionError):
        cause = error.__cause__ or error
        return f"cannot reach {where} ({tries}): {cause}; check OPENAI_BASE_URL and that the server runs"
    if isinstance(error, APIStatusError):
        way_out = WAYS_OUT.get(error.status_code, "the server failed; try again later")
        words = said(error).replace(client.api_key, "***") if client.api_key else said(error)
        return f"the server answered {error.status_code}: {words[:300]!r}; {way_out}"
    return str(error)
