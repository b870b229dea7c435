"""The pages under docs/: short, and what they show runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from memp import ProceduralMemory
from tests.pages import DOCS, printed

TUTORIALS = sorted(DOCS.glob("*.md"))

REFERENCE = {"bundle.md"}
"""Pages that are no tutorials."""


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: str(page.name))
def test_a_tutorial_has_under_forty_lines(page: Path) -> None:
    if page.name in REFERENCE:
        pytest.skip("a description of a format")
    assert len(page.read_text().splitlines()) < 40


def test_the_page_on_your_own_loop_runs_as_it_stands(tmp_path: Path) -> None:
    printed("agent-loop.md", tmp_path)

    with ProceduralMemory.open(tmp_path / "agent.db") as memory:
        assert [kept.task for kept in memory.procedures()] == ["fetch a spoon", "fetch a fork"]
