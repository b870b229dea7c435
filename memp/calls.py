"""How a call of a tool is written as an action: one way for every framework."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def written(name: str, arguments: Mapping[str, Any] | str | None = None) -> str:
    """Write a call, e.g. `open_door(room="kitchen", times=2)`.

    Args:
        name: Of the tool.
        arguments: By their names, or the JSON text of that; a text that holds no JSON object is put between
            the parentheses as it stands. What JSON cannot hold is written as its `str`.
    """
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments) if arguments.strip() else {}
        except (ValueError, RecursionError):
            return f"{name}({arguments})"
        if not isinstance(arguments, dict):
            return f"{name}({json.dumps(arguments, ensure_ascii=False)})"
    given = (
        f"{key}={json.dumps(value, ensure_ascii=False, default=str)}"
        for key, value in (arguments or {}).items()
    )
    return f"{name}({', '.join(given)})"
