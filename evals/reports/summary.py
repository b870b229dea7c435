"""From the episodes of a study to its summary: every metric of every arm, and its difference to no memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from evals.arms import BASELINE, ArmRecord
from evals.prices import Price
from evals.reports.blocks import Block, blocks
from evals.reports.metrics import Estimate, bootstrap, share
from evals.reports.significance import ALPHA, holm, sign_flip
from evals.rows import Row

Measure = Callable[[Row], float]

MEASURES: Mapping[str, Measure] = {
    "success": lambda row: float(row.success),
    "reward": lambda row: row.reward,
    "steps": lambda row: float(row.steps),
    "tokens": lambda row: float(row.tokens_in + row.tokens_out),
    "tokens_in": lambda row: float(row.tokens_in),
    "tokens_out": lambda row: float(row.tokens_out),
}
"""What is told of every episode, by the name of its metric."""

CONTESTED = ("success", "reward")
"""The measures by which an episode is won or lost against no memory: `<measure>_won`, `<measure>_lost`."""

Pair = tuple[Row, Row]
"""An episode of an arm, and that of no memory in the same task with the same seed."""


class Line(NamedTuple):
    """One row of a summary."""

    arm: str

    split: str
    """`ALL` of a group."""

    metric: str
    """One of `MEASURES`; `<measure>_over_none`, its mean paired difference to the arm without memory; `steps_solved`;
    or the share of pairs won or lost."""

    mean: float
    low: float
    high: float
    n: int

    p: float | None = None
    """Of a difference, that luck alone makes it as large; corrected for the number of arms."""

    model: str = ""
    source: str = ""
    group: int | None = None
    """With the split: the block."""

    @property
    def block(self) -> Block:
        """What it is of, and within which the arms are compared."""
        return Block(self.split, self.model, self.source, self.group)

    @property
    def estimate(self) -> Estimate:
        """The mean with its interval."""
        return Estimate(self.mean, self.low, self.high, self.n)

    @property
    def significant(self) -> bool:
        """Whether it is a difference that luck alone hardly makes."""
        return self.p is not None and self.p < ALPHA


def over_none(measure: str) -> str:
    """The name of the metric that is a measure's difference to no memory."""
    return f"{measure}_over_none"


def summarise(rows: Sequence[Row], arms: Sequence[ArmRecord], price: Price | None = None) -> list[Line]:
    """Estimate every metric of every block and arm, with 95 % intervals; with a price, also what episodes cost.

    Episodes that have no partner without memory are left out of the differences.
    """
    measures = dict(MEASURES)
    if price is not None:
        measures["usd"] = lambda row: price.of(row.tokens_in, row.tokens_out)
    ordered = sorted(rows, key=lambda row: row.key)
    lines = []
    for block in blocks(rows, arms):
        by_arm: dict[str, list[Row]] = {}
        for row in filter(block.holds, ordered):
            by_arm.setdefault(row.arm, []).append(row)
        base = {(row.task, row.seed): row for row in by_arm.get(BASELINE, [])}
        for arm in dict.fromkeys(arm.name for arm in arms):
            mine = by_arm.get(arm, [])
            lines += _alone(block, arm, mine, measures)
            if arm != BASELINE:
                pairs = [(row, base[row.task, row.seed]) for row in mine if (row.task, row.seed) in base]
                lines += _compared(block, arm, pairs, measures)
    return _corrected(lines)


def _alone(block: Block, arm: str, rows: Sequence[Row], measures: Mapping[str, Measure]) -> list[Line]:
    """What an arm did."""
    tasks = [row.task for row in rows]
    lines = []
    for metric, measure in measures.items() if rows else ():
        estimate = share if metric == "success" else bootstrap
        lines.append(_line(block, arm, metric, estimate([measure(row) for row in rows], tasks)))
    if solved := [row for row in rows if row.success]:
        steps = bootstrap([row.steps for row in solved], [row.task for row in solved])
        lines.append(_line(block, arm, "steps_solved", steps))
    return lines


def _compared(block: Block, arm: str, pairs: Sequence[Pair], measures: Mapping[str, Measure]) -> list[Line]:
    """What an arm did beside no memory; the ps are not corrected yet."""
    if not pairs:
        return []
    tasks = [row.task for row, _ in pairs]
    lines = []
    for metric, measure in measures.items():
        gains = [measure(row) - measure(base) for row, base in pairs]
        lines.append(_line(block, arm, over_none(metric), bootstrap(gains, tasks), sign_flip(gains, tasks)))
        if metric in CONTESTED:
            won, lost = [gain > 0 for gain in gains], [gain < 0 for gain in gains]
            lines.append(_line(block, arm, f"{metric}_won", share(won, tasks)))
            lines.append(_line(block, arm, f"{metric}_lost", share(lost, tasks)))
    return lines


def _line(block: Block, arm: str, metric: str, found: Estimate, p: float | None = None) -> Line:
    return Line(arm, metric=metric, p=p, **found._asdict(), **block._asdict())


def _corrected(lines: Sequence[Line]) -> list[Line]:
    """Correct the ps of each block and metric for the number of arms."""
    families: dict[tuple[Block, str], dict[int, float]] = {}
    for place, line in enumerate(lines):
        if line.p is not None:
            families.setdefault((line.block, line.metric), {})[place] = line.p
    corrected = list(lines)
    for family in families.values():
        for place, p in zip(family, holm(list(family.values())), strict=True):
            corrected[place] = lines[place]._replace(p=p)
    return corrected
