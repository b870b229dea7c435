"""Blocks: the episodes within which the arms of a study are compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from evals.arms import ArmRecord
from evals.rows import Row

ALL = "all"
"""In place of a split, where a block is of every split."""


class Block(NamedTuple):
    """Tasks that several arms did, with one model where there are several: those of a split, or of a group."""

    split: str

    model: str = ""
    """Who acts, in a study that compares chat models."""

    source: str = ""
    """Whose trajectories the memories are of, in the arms that have another model's."""

    group: int | None = None
    """Which group of a stream; None: the whole of it."""

    @property
    def label(self) -> str:
        """What it is called over a table or a plot."""
        split = "all splits" if self.split == ALL else self.split
        given = f"given memories of {self.source}" if self.source else ""
        return ", ".join(filter(None, (split, self.model, given)))

    def has(self, arm: Row | ArmRecord) -> bool:
        """Whether an arm is compared here: those without a source are so in every block of their model."""
        return arm.model == self.model and arm.source in ("", self.source)

    def holds(self, row: Row) -> bool:
        """Whether an episode is compared here."""
        return self.has(row) and self.split in (ALL, row.split) and self.group in (None, row.group)


def blocks(rows: Sequence[Row], arms: Sequence[ArmRecord]) -> list[Block]:
    """Return every block of a study: split by split; and group by group, where its tasks came in several."""
    pairs = [pair for model in dict.fromkeys(arm.model for arm in arms) for pair in _received(model, arms)]
    splits = sorted({row.split for row in rows})
    groups = sorted({row.group for row in rows})
    return [
        *(Block(split, *pair) for split in splits for pair in pairs),
        *(Block(ALL, *pair, group) for pair in pairs for group in groups if len(groups) > 1),
    ]


def arm_in(block: Block, name: str, arms: Sequence[ArmRecord]) -> ArmRecord:
    """Find the arm of a name that is compared in a block."""
    return next(arm for arm in arms if arm.name == name and block.has(arm))


def _received(model: str, arms: Sequence[ArmRecord]) -> list[tuple[str, str]]:
    """A model with each source that it receives from; with none, where it does from nobody."""
    sources = dict.fromkeys(arm.source for arm in arms if arm.model == model and arm.source)
    return [(model, source) for source in sources or ("",)]
