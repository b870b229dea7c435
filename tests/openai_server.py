"""A server that speaks the OpenAI protocol on loopback, and misbehaves on request.

    with OpenAIServer("Take the mug first.") as server:
        chat = OpenAIChat("m", base_url=server.base_url)

Chat answers come from `reply`; `faults` are sent first, one a request, whatever is asked for.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock, Thread
from types import TracebackType
from typing import Any
from zlib import crc32

Messages = list[dict[str, str]]


@dataclass(frozen=True)
class Request:
    """What a client sent."""

    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]

    @property
    def prompt(self) -> str:
        """All message texts, joined."""
        return "\n".join(message["content"] for message in self.body["messages"])


@dataclass(frozen=True)
class Response:
    """What to send back instead of a good answer."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    missing: int = 0  # bytes announced and not sent
    wait_s: float = 0
    reset: bool = False


def answer(value: object, *, status: int = 200, wait_s: float = 0) -> Response:
    """Any JSON; clients are told to retry after a millisecond."""
    return Response(json.dumps(value).encode(), status, {"retry-after-ms": "1"}, wait_s=wait_s)


def completion(
    text: str | None,
    *,
    finish: str = "stop",
    refusal: str | None = None,
    usage: object = None,
    wait_s: float = 0,
) -> Response:
    """A chat completion; without `usage` the field is left out."""
    message = {"role": "assistant", "content": text, "refusal": refusal}
    value = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 0,
        "model": "test",
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
    }
    return answer(value if usage is None else value | {"usage": usage}, wait_s=wait_s)


def error(status: int, message: str = "", *, param: str | None = None, code: str | None = None) -> Response:
    """An error in OpenAI's form."""
    words = message or f"error {status} on purpose"
    return answer({"error": {"message": words, "type": "error", "param": param, "code": code}}, status=status)


GARBAGE = Response(b"<html>502 Bad Gateway</html>", headers={"content-type": "text/html"})
BROKEN_JSON = Response(b'{"id": "chatcmpl-1", "choices": [{"index": 0, "mess')
CUT_SHORT = Response(b'{"id": "chatcmpl-1", ', missing=500)
RESET = Response(reset=True)
SILENCE = Response(wait_s=30)  # longer than any client here waits; ends when the server closes
EMPTY_CHOICES = answer({"id": "chatcmpl-1", "object": "chat.completion", "choices": []})
NULL_CONTENT = completion(None)

Answer = str | Response
Reply = Answer | Sequence[Answer] | Callable[[Messages], Answer]


def bag_of_words(text: str) -> list[float]:
    """Eight numbers; texts that share words are alike."""
    vector = [0.0] * 8
    for word in text.lower().split() or [""]:
        vector[crc32(word.encode()) % 8] += 1
    return vector


class OpenAIServer:
    """Serves chat completions, embeddings and the list of models until closed.

    Args:
        reply: The chat answer: always the same, one after the other, or computed from the messages.
        faults: Sent first, one a request, at every path.
        refuses: Parameters a request may not have; each is refused with a 400 that names it.
        embed: The vector of a text.
    """

    def __init__(
        self,
        reply: Reply = "ok",
        *,
        faults: Iterable[Response] = (),
        refuses: Iterable[str] = (),
        embed: Callable[[str], Sequence[float]] = bag_of_words,
    ) -> None:
        self._reply = reply if callable(reply) or isinstance(reply, (str, Response)) else list(reply)
        self._faults = list(faults)
        self._refuses = frozenset(refuses)
        self._embed = embed
        self._requests: list[Request] = []
        self._lock = Lock()
        self._closing = Event()
        self._crash: Exception | None = None
        self._http = _HTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def base_url(self) -> str:
        """What to give a client, with `/v1`."""
        return f"http://127.0.0.1:{self._http.server_port}/v1"

    @property
    def requests(self) -> list[Request]:
        """What was asked so far, in order."""
        with self._lock:
            return list(self._requests)

    def __enter__(self) -> OpenAIServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()
        if self._crash and value is None:
            raise self._crash  # of a `reply` or `embed` function: the test's own mistake

    def respond(self, request: Request) -> Response:
        """Return what to send for a request."""
        with self._lock:
            self._requests.append(request)
            if self._faults:
                return self._faults.pop(0)
        if request.path == "/v1/models":
            return answer({"object": "list", "data": [{"id": "test", "object": "model"}]})
        if refused := self._refuses & request.body.keys():
            name = min(refused)
            words = f"Unsupported parameter: '{name}' is not supported with this model."
            return error(400, words, param=name, code="unsupported_parameter")
        if request.path == "/v1/chat/completions":
            return self._complete(request)
        if request.path == "/v1/embeddings":
            return self._embeddings(request)
        return error(404, f"no such path: {request.path}")

    def _complete(self, request: Request) -> Response:
        reply = self._reply
        if isinstance(reply, list):
            with self._lock:
                if not reply:
                    return error(400, "the test server has no reply left")
                given = reply.pop(0)
        else:
            given = reply(request.body["messages"]) if callable(reply) else reply
        if isinstance(given, Response):
            return given
        counts = {"prompt_tokens": len(request.prompt.split()), "completion_tokens": len(given.split())}
        return completion(given, usage=counts | {"total_tokens": sum(counts.values())})

    def _embeddings(self, request: Request) -> Response:
        texts = [request.body["input"]] if isinstance(request.body["input"], str) else request.body["input"]
        rows = [
            {"object": "embedding", "index": index, "embedding": list(self._embed(text))}
            for index, text in enumerate(texts)
        ]
        # Last first: the protocol says which is which by `index`, not by place.
        return answer({"object": "list", "model": "test", "data": rows[::-1]})

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):  # HTTP/1.0: a connection a request, so closing is quick
            timeout = 5

            def do_GET(self) -> None:
                self._exchange({})

            def do_POST(self) -> None:
                self._exchange(json.loads(self.rfile.read(int(self.headers["content-length"]))))

            def _exchange(self, body: dict[str, Any]) -> None:
                headers = {name.lower(): value for name, value in self.headers.items()}
                try:
                    response = server.respond(Request(self.path, headers, body))
                except Exception as crash:  # noqa: BLE001  raised again where the server is closed
                    server._crash = crash
                    response = error(400, repr(crash))
                server._closing.wait(response.wait_s)
                if response.reset:
                    linger_0 = struct.pack("ii", 1, 0)  # closing then sends a reset
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_0)
                    os.close(self.connection.detach())
                    return
                self.send_response(response.status)
                for name, value in ({"content-type": "application/json"} | dict(response.headers)).items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(response.body) + response.missing))
                self.end_headers()
                self.wfile.write(response.body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Stay silent."""

        return Handler


class _HTTPServer(ThreadingHTTPServer):
    daemon_threads = False  # joined at close, so that no test leaves a thread behind
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):  # a client that hung up is part of the tests
            super().handle_error(request, client_address)
