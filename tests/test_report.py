"""From rows to a summary, a table and a plot."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from evals.metrics import bootstrap
from evals.report import METRICS, OVER_NONE, Line, cells, costs, summarise, write
from evals.rows import Row
from tasks.base import Split

CHECKOUT = Path(__file__).parent.parent

ARMS = ("none", "query")

MANIFEST = {
    **{"study": "retrieve", "env_name": "gridworld-1", "agent": "replay", "model": None},
    **{"k": 1, "train": 16, "seed": 0, "commit": "abc1234"},
}


def row(
    arm: str,
    task: str,
    reward: float,
    *,
    steps: int = 10,
    split: Split = "test",
    seed: int = 0,
    tokens: int = 0,
) -> Row:
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
    )


def arm_rows(arm: str, rewards: Iterable[float], *, split: Split = "test") -> list[Row]:
    return [row(arm, f"{split}/{number}", reward, split=split) for number, reward in enumerate(rewards)]


def written(
    out: Path, rows: list[Row], arms: tuple[str, ...] = ARMS, manifest: Mapping[str, object] = MANIFEST
) -> str:
    """Write the report of a folder; return its table."""
    (out / "manifest.json").write_text(json.dumps(manifest))
    write(out, rows, arms)
    return (out / "table.md").read_text()


def line(lines: Iterable[Line], arm: str, metric: str, split: str = "test") -> Line:
    (found,) = (line for line in lines if (line.arm, line.metric, line.split) == (arm, metric, split))
    return found


WON = arm_rows("none", [0.0, 0.25, 0.5, 0.0, 1.0]) + arm_rows("query", [1.0, 1.0, 1.0, 0.75, 1.0])
EVEN = arm_rows("none", [0.0, 1.0, 0.0, 1.0]) + arm_rows("query", [1.0, 0.0, 0.0, 1.0])


# --- summary.json ---


def test_a_summary_has_the_documented_fields(tmp_path: Path) -> None:
    written(tmp_path, WON)
    for found in json.loads((tmp_path / "summary.json").read_text()):
        assert list(found) == ["arm", "split", "metric", "mean", "low", "high", "n"]


def test_a_summary_has_every_metric_of_every_arm_and_split() -> None:
    rows = [*WON, *arm_rows("none", [0.0], split="dev"), *arm_rows("query", [1.0], split="dev")]
    found = {(line.arm, line.split, line.metric) for line in summarise(rows, ARMS)}
    plain = {(arm, split, metric) for arm in ARMS for split in ("test", "dev") for metric in METRICS}
    assert found == plain | {("query", split, name) for split in ("test", "dev") for name in OVER_NONE}
    assert set(OVER_NONE) == {"success_over_none", "reward_over_none", "steps_over_none"}


def test_means_are_those_of_the_rows_with_their_bootstrap_interval() -> None:
    found = line(summarise(WON, ARMS), "query", "reward")
    assert found[3:] == bootstrap([1.0, 1.0, 1.0, 0.75, 1.0], list("abcde"))
    assert (found.mean, found.n) == (0.95, 5)


def test_the_difference_to_no_memory_is_paired_by_task() -> None:
    rows = arm_rows("none", [0.0, 0.25, 0.5, 0.75]) + arm_rows("query", [0.25, 0.5, 0.75, 1.0])
    found = line(summarise(rows, ARMS), "query", "reward_over_none")
    assert (found.mean, found.low, found.high, found.n) == (0.25, 0.25, 0.25, 4)  # unpaired it would be wide


def test_the_difference_is_paired_by_seed_too() -> None:
    rows = [row(arm, "t", seed / 4 + (arm == "query") / 4, seed=seed) for arm in ARMS for seed in range(3)]
    assert line(summarise(rows, ARMS), "query", "reward_over_none").mean == 0.25


def test_success_and_steps_are_compared_in_pairs_too() -> None:
    none = [row("none", "a", 0.5, steps=10), row("none", "b", 1.0, steps=7), row("none", "c", 0.0, steps=10)]
    query = [
        row("query", "a", 1.0, steps=8),
        row("query", "b", 1.0, steps=5),
        row("query", "c", 0.0, steps=8),
    ]
    lines = summarise(none + query, ARMS)
    assert line(lines, "query", "success_over_none").mean == pytest.approx(1 / 3)
    assert line(lines, "query", "steps_over_none")[3:] == (-2, -2, -2, 3)


def test_repeats_of_one_task_are_one_cluster() -> None:
    rows = [row("none", "t", seed / 4, seed=seed) for seed in range(4)]
    found = line(summarise(rows, ARMS), "none", "reward")
    assert (found.low, found.high, found.n) == (found.mean, found.mean, 4)


def test_the_order_of_the_rows_changes_nothing() -> None:
    assert summarise(WON[::-1], ARMS) == summarise(WON, ARMS)


def test_an_arm_without_rows_is_left_out() -> None:
    assert {found.arm for found in summarise(WON, (*ARMS, "avefact"))} == set(ARMS)


def test_an_arm_whose_tasks_have_no_baseline_yet_has_no_difference() -> None:
    rows = [row("none", "a", 0.0), row("query", "b", 1.0)]
    lines = summarise(rows, ARMS)
    assert {found.metric for found in lines if found.arm == "query"} == set(METRICS)
    _, body = cells(lines, rows)
    assert (body[1][4], *body[1][6:8]) == ("-", "-", "0 / 0")


# --- table.md ---


def table(rows: list[Row], arms: tuple[str, ...] = ARMS) -> dict[str, dict[str, str]]:
    head, body = cells(summarise(rows, arms), rows)
    return {line[1]: dict(zip(head, line, strict=True)) for line in body}


def test_the_table_has_every_arm_and_split_in_order(tmp_path: Path) -> None:
    rows = [*WON, *arm_rows("none", [0.0], split="dev"), *arm_rows("query", [1.0], split="dev")]
    text = written(tmp_path, rows)
    found = [line.split(" | ")[:2] for line in text.splitlines() if line.startswith(("| test", "| dev"))]
    assert found == [["| test", "none"], ["| test", "query"], ["| dev", "none"], ["| dev", "query"]]


def test_the_table_says_what_ran(tmp_path: Path) -> None:
    head = written(tmp_path, WON).splitlines()[0]
    assert head == ("# retrieve: env_name gridworld-1, agent replay, k 1, train 16, seed 0, commit abc1234")


def test_the_table_is_markdown_with_as_many_cells_in_every_row(tmp_path: Path) -> None:
    lines = [line for line in written(tmp_path, WON).splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(ARMS)
    assert len({line.count("|") for line in lines}) == 1


def test_a_win_is_printed_with_its_sign_and_without_ns() -> None:
    gain = table(WON)["query"]["score over none"]
    assert gain.startswith("+60.0 [+")
    assert not gain.endswith("ns")


def test_a_loss_is_printed_with_its_sign() -> None:
    rows = arm_rows("none", [1.0] * 5) + arm_rows("query", [0.0] * 5)
    assert table(rows)["query"]["score over none"] == "-100.0 [-100.0, -100.0]"


def test_a_null_result_is_printed_as_one(tmp_path: Path) -> None:
    assert table(EVEN)["query"]["score over none"].endswith(" ns")
    assert "`ns`: its interval includes 0, so no difference was shown" in written(tmp_path, EVEN)


def test_no_difference_at_all_is_a_null_result() -> None:
    rows = arm_rows("none", [0.5] * 5) + arm_rows("query", [0.5] * 5)
    assert table(rows)["query"]["score over none"] == "+0.0 [+0.0, +0.0] ns"


def test_a_difference_in_success_stands_beside_that_in_score() -> None:
    rows = arm_rows("none", [0.0, 0.25, 0.5, 0.75]) + arm_rows("query", [1.0, 1.0, 1.0, 0.75])
    assert table(rows)["query"]["success over none"].startswith("+75.0 [+")
    assert table(rows)["query"]["score over none"].startswith("+56.2 [+")
    assert table(rows)["none"]["success over none"] == "-"


def test_wins_and_losses_are_counted_by_task() -> None:
    assert table(WON)["query"]["won / lost"] == "4 / 0"
    assert table(EVEN)["query"]["won / lost"] == "1 / 1"
    assert table(WON)["none"]["won / lost"] == "-"


def test_tokens_are_both_ways_together() -> None:
    assert (
        table([row("none", "a", 0.0, tokens=10), row("none", "b", 0.0, tokens=20)])["none"]["tokens"] == "45"
    )


# --- what the memories took to build ---


def built(procedures: int, set_aside: int, sent: int, got: int) -> dict[str, int]:
    return {
        **{"procedures": procedures, "set_aside": set_aside},
        **{"setup_tokens_in": sent, "setup_tokens_out": got},
    }


def test_the_table_says_what_the_memories_hold_and_cost(tmp_path: Path) -> None:
    memories = {"universe-0/script": built(64, 0, 30_000, 1_204), "universe-0/trajectory": built(64, 0, 0, 0)}
    text = written(tmp_path, WON, manifest={**MANIFEST, "memories": memories})
    assert "- script: 64 procedures, 0 set aside, 31,204 tokens to build\n" in text
    assert "- trajectory: 64 procedures, 0 set aside, 0 tokens to build\n" in text


def test_the_memories_of_several_seeds_are_summed() -> None:
    memories = {f"universe-{seed}/script": built(60 + seed, 4 - seed, 100, 10) for seed in range(2)}
    assert costs({"memories": memories}) == [
        "script: 121 procedures in 2 memories, 7 set aside, 220 tokens to build"
    ]


def test_a_study_without_memories_says_nothing_of_them() -> None:
    assert costs({}) == []


# --- the plot ---


def test_the_plot_is_a_png(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra `plots`)")
    written(tmp_path, [*WON, *arm_rows("none", [0.0], split="dev")])
    data = (tmp_path / "plot.png").read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    assert len(data) > 5000


def test_rewards_that_no_float_holds_exactly_can_be_plotted(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra `plots`)")
    rows = [row(arm, str(task), 1 / 3, seed=seed) for arm in ARMS for task in range(7) for seed in range(3)]
    written(tmp_path, rows)  # matplotlib refuses an interval that ends below its mean, be it by 1e-17
    assert (tmp_path / "plot.png").exists()


WITHOUT_MATPLOTLIB = """
import json, sys
from pathlib import Path

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "matplotlib":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
from evals.__main__ import main
main(["retrieve", "--env", "gridworld", "--agent", "random", "--episodes", "1", "--train", "1", "--out", sys.argv[1]])
"""


def test_without_matplotlib_there_is_no_plot_and_it_is_said(tmp_path: Path) -> None:
    found = subprocess.run(
        [sys.executable, "-c", WITHOUT_MATPLOTLIB, str(tmp_path)],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert (
        "no plot: this needs the package 'matplotlib'; install it with: pip install 'memp[plots]'"
        in found.stderr
    )
    assert (tmp_path / "table.md").exists()
    assert not (tmp_path / "plot.png").exists()
