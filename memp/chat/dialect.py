"""Which optional parameters a server turned out not to accept.

Servers that speak the OpenAI protocol differ: some cannot enforce a schema, some models take no
`temperature`, some want `max_completion_tokens` for `max_tokens`. Each is learnt from the server's
own refusal, once, and then remembered.
"""

from __future__ import annotations

import logging
import re
from threading import Lock
from typing import TYPE_CHECKING, Any

from memp._openai import said

if TYPE_CHECKING:
    from openai import APIStatusError

logger = logging.getLogger(__name__)

Request = dict[str, Any]

# How a refusal names the parameter. A schema is only a hint, so any complaint about it will do; of the
# others, a complaint about the *value* (too large, out of range) is the caller's to hear.
_UNSUPPORTED = r"unsupported|(?:not|n't) support|deprecated|unknown|unrecogni[sz]ed|not (?:allowed|permitted)"
_REFUSALS = {
    "response_format": re.compile(
        r"response.?format|json.?schema|structured.?output|guided|grammar|requested parameters", re.I
    ),
    "temperature": re.compile(rf"(?=.*temperature).*(?:{_UNSUPPORTED})", re.I | re.S),
    "max_tokens": re.compile(rf"(?=.*max_tokens).*(?:{_UNSUPPORTED})", re.I | re.S),
}
_STATUSES = (400, 404, 422)


class Dialect:
    """What one model on one server accepts. Safe to use from several threads."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._refused: set[str] = set()
        self._lock = Lock()

    def adapt(self, request: Request) -> Request:
        """Return the request in the form the server is known to accept."""
        with self._lock:
            refused = frozenset(self._refused)
        adapted = {key: value for key, value in request.items() if key not in refused}
        if "max_tokens" in refused and "max_tokens" in request:
            adapted["max_completion_tokens"] = request["max_tokens"]
        return adapted

    def learn(self, error: APIStatusError, sent: Request) -> bool:
        """Remember what this error says about `sent`; False if it teaches nothing new about it."""
        if error.status_code not in _STATUSES:
            return False
        for parameter, refusal in _REFUSALS.items():
            if parameter in sent and (refusal.search(said(error)) or _named(error, parameter)):
                logger.warning("%s does not accept %s; it is left out from now on", self._name, parameter)
                with self._lock:
                    self._refused.add(parameter)
                return True
        return False


def _named(error: APIStatusError, parameter: str) -> bool:
    """Tell whether the error's fields, rather than its text, refuse the parameter."""
    return error.param == parameter and str(error.code).startswith("unsupported")
