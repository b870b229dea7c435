"""Two episodes of one task side by side, and what memory showed in one of them; or tasks that come again."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product, zip_longest

from evals.arms import BASELINE
from evals.folder import Folder
from evals.plan import Plan
from evals.reports.metrics import bootstrap, share
from evals.reports.table import Table, interval
from evals.rows import Row
from evals.studies.compare import AGAIN, MEMORY
from memp.memory import ProceduralMemory
from memp.procedure import Match
from memp.trajectory import Trajectory

Side = tuple[Row, Trajectory]


def compared(plan: Plan, folder: Folder) -> str:
    """Say what a finished study `compare` found, and write it to its folder as `compare.md`."""
    text = _again(plan, folder) if plan.practice else _text(plan, folder)
    (folder.path / "compare.md").write_text(text + "\n")
    return text


def _text(plan: Plan, folder: Folder) -> str:
    episodes = folder.episodes()
    found = {row.arm: row for row in episodes.held}
    rows = [found[BASELINE], found[MEMORY]]
    without, with_ = zip(rows, episodes.lived([row.key for row in rows]), strict=True)
    return "\n\n".join(
        [
            f"# {without[1].task}",
            f"{without[0].task}, {plan.settings.agent} {', '.join(plan.settings.all_models)}",
            _saved(without[0], with_[0]),
            "## What was retrieved",
            _retrieved(plan, folder, with_),
            "## What was done",
            _steps(without, with_),
        ]
    )


def _again(plan: Plan, folder: Folder) -> str:
    """How each arm did the tasks that come again: those solved the first time, and those not."""
    solved = {row.task + AGAIN: row.success for row in folder.practice().held}
    rows = folder.episodes().held
    return "\n\n".join(
        [
            "# Tasks that come again",
            f"{plan.worlds[0].env_name}, {', '.join(plan.settings.all_models)}",
            Table(
                ["the first time", "arm", "tasks", "success %", "steps", "tokens"],
                [
                    ["solved" if first else "not solved", arm.name, *_means(found)]
                    for first, arm in product((True, False), plan.arms)
                    if (found := [row for row in rows if row.arm == arm.name and solved[row.task] == first])
                ],
            ).markdown(),
            (folder.path / "table.md").read_text().strip(),
        ]
    )


def _means(rows: Sequence[Row]) -> list[str]:
    """How many, and the means with their intervals."""
    tasks = [row.task for row in rows]
    tokens = bootstrap([row.tokens_in + row.tokens_out for row in rows], tasks)
    return [
        str(len(rows)),
        interval(share([row.success for row in rows], tasks), 100),
        interval(bootstrap([row.steps for row in rows], tasks)),
        interval(tokens, 1, ",.0f"),
    ]


def _saved(without: Row, with_: Row) -> str:
    """The outcomes, and what memory saved or cost."""
    tokens = [row.tokens_in + row.tokens_out for row in (without, with_)]
    lines = [
        "| | solved | score (0-100) | steps | tokens |",
        "|---|---|---|---|---|",
        *(
            f"| {name} memory | {'yes' if row.success else 'no'} | {100 * row.reward:.0f} | {row.steps} | {spent:,} |"
            for name, row, spent in (("without", without, tokens[0]), ("with", with_, tokens[1]))
        ),
        f"| difference | | {100 * (with_.reward - without.reward):+.0f} | {with_.steps - without.steps:+d} "
        f"| {tokens[1] - tokens[0]:+,} |",
    ]
    return "\n".join(lines)


def _retrieved(plan: Plan, folder: Folder, side: Side) -> str:
    row, trajectory = side
    (recall,) = [arm.recall for arm in plan.arms if arm.recall is not None]
    (world,) = plan.worlds
    path = folder.memory(world.name, recall.recipe)
    with ProceduralMemory.open(
        path, chat=plan.chat, embedder=plan.embedder, key=recall.key, seed=row.seed, create=False
    ) as memory:
        matches = memory.retrieve(trajectory.task, recall.k, exclude=[row.task])
    return "\n\n".join(_match(number, match) for number, match in enumerate(matches, 1)) or "Nothing."


def _match(number: int, match: Match) -> str:
    procedure = match.procedure
    script, about = procedure.script, f"similarity {match.score:.2f}, done in {procedure.length} steps"
    text = f"{number}. {procedure.task} ({about}, {procedure.source})"
    return text if script is None else "\n".join([text, *(f"   - {step}" for step in script.steps)])


def _steps(without: Side, with_: Side) -> str:
    """A line a step: what each did, and what it saw then."""
    rows = ["| | without memory | with memory |", "|---|---|---|"]
    begun = [_cell(side[1].start) for side in (without, with_)]
    rows.append(f"| 0 | {begun[0]} | {begun[1]} |")
    pairs = zip_longest(_done(without[1]), _done(with_[1]), fillvalue="")
    rows += [f"| {number} | {one} | {other} |" for number, (one, other) in enumerate(pairs, 1)]
    return "\n".join(rows)


def _done(trajectory: Trajectory) -> list[str]:
    return [f"**{_cell(step.action)}** {_cell(step.observation)}" for step in trajectory.steps]


def _cell(text: str) -> str:
    """A text as it stands in a cell of a table."""
    return " ".join(text.replace("|", "\\|").split())
