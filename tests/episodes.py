"""Episodes that nobody ran, and folders of them: for what is made of results."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from evals.arms import ArmRecord
from evals.folder import Built
from evals.reports.summary import Line
from evals.reports.table import Table
from evals.rows import Row
from tasks.base import Split

MANIFEST: dict[str, Any] = {
    **{"study": "retrieve", "env_name": "gridworld-1", "agent": "replay", "model": None},
    **{"k": 1, "train": 16, "seed": 0, "splits": ["dev", "test"], "commit": "abc1234"},
    "arms": [{"name": "none"}, {"name": "query", "recipe": "trajectory"}],
}

NAMES = ("none", "query")


def named(*names: str) -> tuple[ArmRecord, ...]:
    """Arms of which nothing but the name is known."""
    return tuple(ArmRecord(name=name) for name in names)


ARMS = named(*NAMES)


def row(
    arm: str,
    task: str,
    reward: float,
    *,
    steps: int = 10,
    split: Split = "test",
    seed: int = 0,
    tokens: int = 0,
    **where: Any,
) -> Row:
    """Make an episode; twice as many tokens come out as go in."""
    return Row(
        arm=arm,
        task=task,
        kind="k",
        split=split,
        seed=seed,
        success=reward == 1,
        reward=reward,
        steps=steps,
        tokens_in=tokens,
        tokens_out=2 * tokens,
        shown=(),
        **where,
    )


def arm_rows(arm: str, rewards: Iterable[float], *, split: Split = "test") -> list[Row]:
    """Make an episode of an arm for each reward, each in a task of its own."""
    return [row(arm, f"{split}/{number}", reward, split=split) for number, reward in enumerate(rewards)]


def line(lines: Iterable[Line], arm: str, metric: str, split: str = "test", **where: object) -> Line:
    """Find a line of a summary."""
    wanted = {"arm": arm, "metric": metric, "split": split, **where}
    (found,) = (line for line in lines if wanted.items() <= line._asdict().items())
    return found


def built(procedures: int, set_aside: int, sent: int, got: int, **more: Any) -> dict[str, Any]:
    """What a manifest notes of a memory."""
    made = Built(
        digest="",
        procedures=procedures,
        set_aside=set_aside,
        set_aside_tasks=(),
        setup_tokens_in=sent,
        setup_tokens_out=got,
        **more,
    )
    return made.model_dump(mode="json")


def cells(table: Table) -> list[dict[str, str]]:
    """The cells of each line by column."""
    return [dict(zip(table.head, line, strict=True)) for line in table.body]


def folder(path: Path, rows: Iterable[Row], **changes: object) -> Path:
    """Make the folder of a study that has these episodes."""
    path.mkdir(exist_ok=True)
    (path / "manifest.json").write_text(json.dumps({**MANIFEST, **changes}))
    (path / "episodes.jsonl").write_text("".join(row.model_dump_json() + "\n" for row in rows))
    return path
