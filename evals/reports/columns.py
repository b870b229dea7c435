"""The columns of a table of memories: when each tells something, and what stands in it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from evals.reports.summary import Line, over_none
from evals.reports.table import MONEY, Column, Entry, Tells, difference, interval

Cell = Callable[[Entry], str]

NOTHING = "-"
"""In a cell that there is nothing to say in."""


def known(metric: str) -> Tells:
    """Tells where a metric was measured."""

    def tells(shown: Sequence[Entry]) -> bool:
        return any(metric in entry.lines for entry in shown)

    return tells


def some(metric: str) -> Tells:
    """Tells where a metric is not 0 all over."""

    def tells(shown: Sequence[Entry]) -> bool:
        return any(entry.lines[metric].mean for entry in shown if metric in entry.lines)

    return tells


def differs(metric: str, other: str) -> Tells:
    """Tells where a metric is not the same as another one all over."""

    def tells(shown: Sequence[Entry]) -> bool:
        return any(
            entry.lines[metric].mean != entry.lines[other].mean for entry in shown if metric in entry.lines
        )

    return tells


def written(metric: str, write: Callable[[Line], str]) -> Cell:
    """A cell of one metric."""

    def cell(entry: Entry) -> str:
        return write(entry.lines[metric]) if metric in entry.lines else NOTHING

    return cell


def percent(metric: str) -> Cell:
    """A cell of a metric from 0 to 1, as 0 to 100."""
    return written(metric, lambda line: interval(line, 100))


def points(measure: str) -> Cell:
    """A cell of the difference to no memory in a measure from 0 to 1, as 0 to 100."""
    return written(over_none(measure), lambda line: difference(line, 100))


def won_and_lost(measure: str) -> Cell:
    """A cell of the episodes that did better, and worse, than without memory."""
    won, lost = (written(f"{measure}_{how}", _count) for how in ("won", "lost"))
    return lambda entry: f"{won(entry)} / {lost(entry)}" if f"{measure}_won" in entry.lines else NOTHING


def _count(line: Line) -> str:
    """Of how many episodes a share is."""
    return str(round(line.mean * line.n))


GRADED = differs("reward", "success")
"""Where the environment's score says more than success does."""

MODELS = (
    Column(
        "model",
        "who acts",
        lambda entry: entry.block.model,
        lambda shown: any(entry.block.model for entry in shown),
    ),
    Column(
        "source",
        "whose practice the received memories are of; `none` and `own` received none",
        lambda entry: entry.block.source,
        lambda shown: any(entry.block.source for entry in shown),
    ),
)

BLOCK = (Column("split", "where the tasks are from", lambda entry: entry.block.split), *MODELS)
"""What says which block a line is of."""

ARM = Column("arm", "what was shown to the agent; none: no memory", lambda entry: entry.arm)

EPISODES = Column("episodes", "how many were run", written("success", lambda line: str(line.n)))

SUCCESS = (
    Column("success %", "episodes that met the goal in full", percent("success")),
    Column(
        "success over none",
        "difference to no memory in the same tasks with the same seeds, in percentage points",
        points("success"),
        known("success_over_none"),
    ),
)

SCORE = (
    Column(
        "score (0-100)",
        "the environment's own score, which rewards parts of a task too",
        percent("reward"),
        GRADED,
    ),
    Column(
        "score over none",
        "difference to no memory in the same tasks with the same seeds, in points of the score",
        points("reward"),
        GRADED,
    ),
)

STEPS = Column("steps", "actions an episode, solved or not", written("steps", interval))

COLUMNS = (
    ARM,
    EPISODES,
    *SUCCESS,
    Column(
        "won / lost",
        "episodes solved that no memory failed / failed that no memory solved",
        won_and_lost("success"),
        known("success_won"),
    ),
    *SCORE,
    Column(
        "won / lost by score",
        "episodes with a higher / a lower score than without memory",
        won_and_lost("reward"),
        GRADED,
    ),
    STEPS,
    Column(
        "steps if solved",
        "actions of the solved episodes alone: not the same tasks in every arm, so no fair comparison",
        written("steps_solved", interval),
        differs("steps_solved", "steps"),
    ),
    Column(
        "tokens in",
        "what a chat model read, an episode",
        written("tokens_in", lambda line: f"{line.mean:,.0f}"),
        some("tokens"),
    ),
    Column(
        "tokens out",
        "what a chat model wrote, an episode",
        written("tokens_out", lambda line: f"{line.mean:,.0f}"),
        some("tokens"),
    ),
    Column(
        "USD",
        "what the tokens of an episode cost",
        written("usd", lambda line: f"{line.mean:{MONEY}}"),
        some("usd"),
    ),
)
"""In their order; a table shows those that tell something."""


def by_group(changes: Collection[int]) -> tuple[Column, ...]:
    """The columns of a table of groups.

    Args:
        changes: Before which groups all places were rearranged.
    """

    def group(entry: Entry) -> str:
        return f"{entry.block.group}{' (rearranged)' if entry.block.group in changes else ''}"

    return (
        Column(
            "group",
            "of tasks, in the order they arrive; memories that learn do so after each"
            + ("; (rearranged): all places changed before it" if changes else ""),
            group,
        ),
        *MODELS,
        ARM,
        EPISODES,
        *SUCCESS,
        *SCORE,
        STEPS,
        Column(
            "steps over none",
            "difference to no memory in the same tasks with the same seeds; below 0: steps saved",
            written(over_none("steps"), difference),
            known("steps_over_none"),
        ),
    )
