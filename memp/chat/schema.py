"""The JSON schema of a pydantic model, in the strict form that servers can enforce."""

from __future__ import annotations

import re
from typing import Any

from pydantic import BaseModel


def response_format(model: type[BaseModel]) -> dict[str, Any]:
    """Return the `response_format` that asks a server for JSON of this form."""
    name = re.sub(r"[^a-zA-Z0-9_-]", "_", model.__name__)[:64]  # the characters and length the API allows
    return {
        "type": "json_schema",
        "json_schema": {"name": name, "strict": True, "schema": strict(model.model_json_schema())},
    }


def strict(node: Any) -> Any:
    """Return the schema with every object closed, every property required, and no defaults.

    Source:
        https://platform.openai.com/docs/guides/structured-outputs ("Supported schemas")
    """
    if isinstance(node, list):
        return [strict(item) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return {"$ref": node["$ref"]}  # nothing may stand beside a reference
    closed: dict[str, Any] = {}
    for key, value in node.items():
        if key in ("properties", "$defs"):  # their keys are names, not keywords
            closed[key] = {name: strict(child) for name, child in value.items()}
        elif key != "default":
            closed[key] = strict(value)
    if "properties" in closed:
        closed |= {"additionalProperties": False, "required": list(closed["properties"])}
    return closed
