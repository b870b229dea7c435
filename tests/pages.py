"""The tutorials under docs/: what they show, and how it runs as it stands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"


def shown(name: str) -> str:
    """The code of a tutorial, which has under forty lines and one block of Python."""
    page = (DOCS / name).read_text(encoding="utf-8")
    assert len(page.splitlines()) < 40
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    return str(code)


def printed(name: str, folder: Path, **env: str) -> str:
    """What the code of a tutorial prints, run from a file in a folder, by a process of its own."""
    (folder / "page.py").write_text(shown(name), encoding="utf-8")
    return subprocess.run(
        [sys.executable, "page.py"],
        cwd=folder,
        env=os.environ | env,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
