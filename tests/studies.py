"""Running small studies as the command does, and reading what they left."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from evals.folder import Folder
from evals.plan import Plan
from evals.reports.report import write
from evals.reports.results import read_results
from evals.reports.summary import Line
from evals.rows import Lines, Row
from evals.runner import Progress
from evals.settings import Settings
from evals.studies import build, compare, retrieve, scaling, transfer, update
from evals.study import run as run_plan
from tests.openai_server import Messages, OpenAIServer, Response

PLANS = {
    study.__name__.rpartition(".")[2]: study.plan
    for study in (build, compare, retrieve, scaling, transfer, update)
}

DISTIL = "Write the shortest general procedure"

SCRIPT = "Goal: reach the goal\n1. take the key\n2. open the door"

FACTS = "- open\n- door"

Reply = Callable[[Messages], str | Response]


def answer(messages: Messages) -> str:
    """Distil, list facts, or take the first action possible, whatever is asked for."""
    asked = messages[-1]["content"]
    if DISTIL in asked:
        return SCRIPT
    if "List the facts" in asked:
        return FACTS
    return f"Action: {asked.rpartition('Possible actions: ')[2].split(', ')[0]}"


@contextmanager
def serving(reply: Reply = answer) -> Iterator[OpenAIServer]:
    """Serve as `openai:test`."""
    with OpenAIServer(reply) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_BASE_URL", server.base_url)
        patch.setenv("OPENAI_API_KEY", "sk-test")
        yield server


def plan(settings: Settings) -> Plan:
    """Make the plan of whichever study the settings are of."""
    made: Plan = PLANS[settings.study](settings)
    return made


def ran(out: Path, settings: Settings, *, workers: int = 2, progress: Progress = lambda *_: None) -> Path:
    """Run a study; return its folder."""
    run_plan(plan(settings), Folder(out), workers=workers, progress=progress)
    return out


def run(
    out: Path, settings: Settings, *, workers: int = 2, progress: Progress = lambda *_: None
) -> list[Line]:
    """Run a study and write its report; return its summary."""
    return write(out, read_results([ran(out, settings, workers=workers, progress=progress)])).lines


def options(episodes: int) -> list[str]:
    """What the command line is told of a study that is over in a moment."""
    return (
        f"--env gridworld --model openai:test --split test --episodes {episodes} --train 4 --max-steps 2 --seeds 1"
    ).split()


def rows_in(out: Path) -> list[Row]:
    """The episodes of a folder, in the order they ended."""
    return list(Lines(out / "episodes.jsonl", Row).held)


def by_key(rows: list[Row]) -> list[Row]:
    """Episodes in an order that no thread decides."""
    return sorted(rows, key=lambda row: row.key)


def manifest_in(out: Path) -> dict[str, Any]:
    """The manifest of a folder."""
    found: dict[str, Any] = json.loads((out / "manifest.json").read_text())
    return found


def change_manifest(out: Path, **changes: object) -> None:
    """Write other values into the manifest of a folder."""
    (out / "manifest.json").write_text(json.dumps({**manifest_in(out), **changes}))


def copied(whole: Path, out: Path, *names: str) -> Path:
    """Begin a folder with some files of another one, all where none are named."""
    for path in whole.rglob("*"):
        name = path.relative_to(whole)
        if path.is_file() and (not names or str(name) in names):
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (out / name).write_bytes(path.read_bytes())
    return out
