"""Where the third-party data files lie that are never copied into the project."""

from __future__ import annotations

import os
from pathlib import Path

from memp.errors import InputError

CHECKOUT = Path(__file__).resolve().parent.parent


def shared_data(name: str, root: Path | None = None) -> Path:
    """Return the path of a data file, as `alfworld/trajectories.jsonl`.

    Args:
        name: Its path below the root.
        root: Where to look; else $MEMP_DATA, or `shared/data` beside the checkout.

    Raises:
        InputError: if it is not there.
    """
    chosen = root or Path(os.environ.get("MEMP_DATA") or CHECKOUT.parent / "shared" / "data")
    path = chosen / name
    if not path.exists():
        raise InputError(f"no data at {str(path)!r}; set MEMP_DATA to the folder that holds {name!r}")
    return path
