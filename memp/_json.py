"""JSON, read strictly: what the standard library lets pass, and means nothing, is refused."""

from __future__ import annotations

import json
import math
from typing import Any


def loads(line: bytes | str) -> Any:
    """Return the value of a text of strict JSON.

    Raises:
        ValueError: if it is not UTF-8, is no JSON, gives a field twice, is nested too deeply, or holds NaN, an
            infinity, a lone surrogate or a number that is too large.
    """
    try:
        text = line.decode() if isinstance(line, bytes) else line
        value = json.loads(
            text,
            parse_int=_integer,
            parse_float=_finite,
            parse_constant=_no_constant,
            object_pairs_hook=_no_duplicates,
        )
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8: byte {error.start + 1} is {line[error.start]:#04x}") from None
    except UnicodeEncodeError as error:
        raise ValueError(f"a lone surrogate, {error.object[error.start]!r}, which is no character") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at character {error.colno}") from None
    return value


def _integer(digits: str) -> int:
    try:
        return int(digits)
    except ValueError:  # Python's own limit, with words about Python
        raise ValueError(f"a number of {len(digits)} digits, which is too many") from None


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"the number {digits!r:.40} is too large")
    return number


def _no_constant(name: str) -> None:
    raise ValueError(f"not JSON: {name} is no number")


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the field {twice!r} is given twice")
    return members
