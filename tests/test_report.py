"""The report of a study: its table, its plots, its page, and the command that makes them again."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from evals.__main__ import main
from evals.reports.report import report, write
from evals.reports.results import Results, read_results
from evals.rows import Row
from evals.studies.retrieve import Retrieve
from tests.episodes import ARMS, MANIFEST, NAMES, arm_rows, built, cells, folder, row
from tests.studies import change_manifest, copied, manifest_in, ran, run

CHECKOUT = Path(__file__).parent.parent

SMALL = Retrieve(env="gridworld", agent="random", episodes=4, train=4, max_steps=2, splits=("dev", "test"))

WON = [
    *arm_rows("none", [0.0, 0.25, 0.5, 0.0, 1.0, 0.0, 0.0]),
    *arm_rows("query", [1.0, 1.0, 1.0, 0.75, 1.0, 0.5, 0.5]),
]

EVEN = arm_rows("none", [0.0, 1.0, 0.0, 1.0]) + arm_rows("query", [1.0, 0.0, 0.0, 1.0])

DEV = arm_rows("none", [0.0], split="dev") + arm_rows("query", [1.0], split="dev")


def written(out: Path, rows: Sequence[Row], **changes: object) -> str:
    """Write the report of a folder; return its table."""
    write(out, read_results([folder(out, rows, **changes)]))
    return (out / "table.md").read_text()


def table(rows: Sequence[Row]) -> dict[str, dict[str, str]]:
    """The cells of one split by arm and column."""
    return {line["arm"]: line for line in cells(report(Results((MANIFEST,), tuple(rows), ARMS)).table)}


# --- summary.json ---


def test_a_summary_has_the_documented_fields(tmp_path: Path) -> None:
    written(tmp_path, WON)
    for found in json.loads((tmp_path / "summary.json").read_text()):
        documented = ["arm", "split", "metric", "mean", "low", "high", "n", "p", "model", "source", "group"]
        assert list(found) == documented
        assert (found["p"] is not None) == found["metric"].endswith("_over_none")


# --- table.md ---


def test_the_table_has_every_arm_and_split_in_order(tmp_path: Path) -> None:
    text = written(tmp_path, [*WON, *DEV])
    found = [line.split(" | ")[:2] for line in text.splitlines() if line.startswith(("| test", "| dev"))]
    assert found == [["| dev", "none"], ["| dev", "query"], ["| test", "none"], ["| test", "query"]]


def test_the_table_says_what_ran(tmp_path: Path) -> None:
    head = written(tmp_path, WON).splitlines()[0]
    assert head == "# retrieve: env_name gridworld-1, agent replay, k 1, train 16, seed 0, commit abc1234"


def test_the_table_is_markdown_with_as_many_cells_in_every_row(tmp_path: Path) -> None:
    lines = [line for line in written(tmp_path, WON).splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(NAMES)
    assert len({line.count("|") for line in lines}) == 1


def test_what_would_end_a_cell_of_markdown_is_escaped(tmp_path: Path) -> None:
    rows = [*arm_rows("none", [0.0]), *arm_rows("a|b", [1.0])]
    assert r"| test | a\|b | 1 |" in written(tmp_path, rows, arms=[{"name": "none"}, {"name": "a|b"}])


def test_a_win_is_printed_with_its_sign_and_without_ns() -> None:
    gain = table(WON)["query"]["score over none"]
    assert gain.startswith("+57.1 [+")
    assert not gain.endswith("ns")


def test_three_wins_and_no_loss_may_be_luck_whatever_their_interval_says() -> None:
    gain = table(WON)["query"]["success over none"]
    assert gain.startswith("+42.9 [+")
    assert gain.endswith(" ns")


def test_a_loss_is_printed_with_its_sign() -> None:
    rows = arm_rows("none", [1.0] * 6) + arm_rows("query", [0.0] * 6)
    assert table(rows)["query"]["success over none"] == "-100.0 [-100.0, -100.0]"


def test_a_null_result_is_printed_as_one(tmp_path: Path) -> None:
    assert table(EVEN)["query"]["success over none"].endswith(" ns")
    assert "`ns`: not significant at 5 %" in written(tmp_path, EVEN)


def test_no_difference_at_all_is_a_null_result() -> None:
    rows = arm_rows("none", [0.0] * 5) + arm_rows("query", [0.0] * 5)
    assert table(rows)["query"]["success over none"] == "+0.0 [+0.0, +0.0] ns"


def test_wins_and_losses_are_counted_by_success_and_by_score() -> None:
    rows = arm_rows("none", [0.0, 0.25, 1.0, 1.0, 0.5]) + arm_rows("query", [1.0, 0.75, 0.5, 1.0, 0.5])
    assert table(rows)["query"]["won / lost"] == "1 / 1"
    assert table(rows)["query"]["won / lost by score"] == "2 / 1"
    assert table(rows)["none"]["won / lost"] == "-"


def test_a_score_that_is_success_has_no_columns() -> None:
    assert list(table(EVEN)["query"]) == [
        *("split", "arm", "episodes", "success %", "success over none", "won / lost", "steps"),
    ]


def test_a_graded_score_has_columns_of_its_own() -> None:
    assert {"score (0-100)", "score over none", "won / lost by score"} <= table(WON)["query"].keys()


def test_steps_to_a_solution_are_shown_where_they_differ_from_all_steps() -> None:
    rows = [row("none", "a", 1.0, steps=4), row("none", "b", 0.0, steps=10), row("query", "a", 0.0, steps=10)]
    assert table(rows)["none"]["steps"].startswith("7.0 [")
    assert table(rows)["none"]["steps if solved"] == "4.0 [4.0, 4.0]"
    assert table(rows)["query"]["steps if solved"] == "-"


def test_tokens_are_shown_both_ways_where_a_model_took_part() -> None:
    found = table([row("none", "a", 0.0, tokens=1000), row("none", "b", 0.0, tokens=2000)])["none"]
    assert (found["tokens in"], found["tokens out"]) == ("1,500", "3,000")


def test_an_arm_without_a_baseline_yet_has_no_difference() -> None:
    assert (
        table([row("none", "a", 0.0), row("query", "b", 1.0)])["query"]
        .keys()
        .isdisjoint({"success over none", "won / lost"})
    )


def test_every_column_is_explained(tmp_path: Path) -> None:
    text = written(tmp_path, WON)
    head = next(line for line in text.splitlines() if line.startswith("| split"))
    assert re.findall(r"^- \*(.+)\*: ", text, re.MULTILINE) == head.strip("| ").split(" | ")


def test_the_table_says_what_the_memories_hold_and_cost(tmp_path: Path) -> None:
    rows = [row(arm, task, 0.0, tokens=9 - 3 * (arm == "query")) for arm in NAMES for task in "ab"]
    text = written(tmp_path, rows, memories={"universe-0/trajectory": built(64, 0, 30_000, 1_204)})
    assert "- trajectory: 64 procedures, 0 set aside, 31,204 tokens to build\n" in text
    assert "| test | query | 31,204 | -9 [-9, -9] ns | after 3,468 tasks [3,468, 3,468] |" in text


def test_a_stated_price_adds_money(tmp_path: Path) -> None:
    rows = [row(arm, "a", 0.0, tokens=1000) for arm in NAMES]
    text = written(tmp_path, rows, price={"in": 2, "out": 10, "as_of": "2026-11-01"})
    assert "price USD 2 in and 10 out for a million tokens (as of 2026-11-01)" in text.splitlines()[0]
    assert " | USD |" in text
    assert " | 0.0220 |" in text


def test_an_unfinished_study_says_so(tmp_path: Path) -> None:
    assert "**Unfinished: 8 episodes have not been run.**" in written(tmp_path, WON, episodes_per_arm=11)
    assert "Unfinished" not in written(tmp_path, WON, episodes_per_arm=7)


# --- plots ---


PLOTS = ("plot.png", "over_none.png")


@pytest.mark.parametrize("name", PLOTS)
def test_the_plots_are_png(tmp_path: Path, name: str) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra `plots`)")
    written(tmp_path, [*WON, *arm_rows("none", [0.0], split="dev")])
    data = (tmp_path / name).read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    assert len(data) > 5000


def test_rewards_that_no_float_holds_exactly_can_be_plotted(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra `plots`)")
    rows = [row(arm, str(task), 1 / 3, seed=seed) for arm in NAMES for task in range(7) for seed in range(3)]
    written(
        tmp_path, rows, seeds=3
    )  # matplotlib refuses an interval that ends below its mean, be it by 1e-17
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


def test_without_matplotlib_there_is_a_page_but_no_plot_and_it_is_said(tmp_path: Path) -> None:
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
    assert "<img" not in (tmp_path / "report.html").read_text()
    assert not (tmp_path / "plot.png").exists()


# --- the page ---


class Page(HTMLParser):
    """What a browser reads of a page; refuses tags that do not close."""

    VOID = ("meta", "img", "br")

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.cells: list[str] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._open and self._open[-1] in ("td", "th"):
            self.cells.append(data)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of two splits that ran to its end; left as it is by the tests."""
    out = tmp_path_factory.mktemp("study")
    run(out, SMALL)
    return out


def test_the_page_holds_the_figures_of_the_table(study: Path) -> None:
    page = Page(study / "report.html")
    lines = (study / "table.md").read_text().splitlines()
    cells = [
        cell for line in lines if line.startswith(("| dev", "| test")) for cell in line[2:-2].split(" | ")[1:]
    ]
    assert len(cells) > 8 * 5
    assert [cell for cell in page.cells if cell in cells] == cells
    assert page.text.count("Split dev") == page.text.count("Split test") == 1


def test_the_page_needs_nothing_beside_it(study: Path) -> None:
    text = (study / "report.html").read_text()
    page = Page(study / "report.html")
    assert all(link.startswith("data:image/png;base64,") for link in page.links)
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert not re.search(r"https?://|@import|url\(", text)


def test_the_page_shows_both_plots(study: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra `plots`)")
    assert len(Page(study / "report.html").links) == len(PLOTS)


def test_the_page_is_for_dark_and_light_and_any_width(study: Path) -> None:
    text = (study / "report.html").read_text()
    assert 'name="viewport" content="width=device-width' in text
    assert 'name="color-scheme" content="light dark"' in text
    assert "@media (prefers-color-scheme: dark)" in text


def test_the_page_says_what_the_memories_took_and_what_the_columns_mean(study: Path) -> None:
    text = Page(study / "report.html").text
    assert "trajectory: 4 procedures, 0 set aside, 0 tokens to build" in text
    assert "episodes that met the goal in full" in text


def test_the_page_folds_away_the_whole_manifest(study: Path) -> None:
    page = Page(study / "report.html")
    assert page.tags.count("details") == 1
    assert json.dumps(manifest_in(study), indent=2) in page.text


def test_what_stands_in_the_page_is_escaped(tmp_path: Path) -> None:
    odd = "<script>alert(1)</script>"
    rows = [*arm_rows("none", [0.0]), *arm_rows(odd, [1.0])]
    written(tmp_path, rows, arms=[{"name": "none"}, {"name": odd}], model='"><img src=x>')
    page = Page(tmp_path / "report.html")
    assert "script" not in page.tags
    assert odd in page.cells
    assert all(link.startswith("data:") for link in page.links)


# --- the command ---


def again(*given: object) -> Result:
    return CliRunner().invoke(main, ["report", *map(str, given)])


def test_a_report_is_made_again_from_episodes_and_manifest_alone(study: Path, tmp_path: Path) -> None:
    out = copied(study, tmp_path / "out", "episodes.jsonl", "manifest.json")
    found = again(out)
    assert found.exit_code == 0, found.output
    assert found.stdout.endswith(f"the report is in {out}\n")
    for name in ("summary.json", "table.md", "report.html"):
        assert (out / name).read_text() == (study / name).read_text()
    assert re.findall(r"^ dev +(\w+) ", found.stdout, re.MULTILINE) == ["none", "random", "query", "avefact"]


def test_the_report_of_one_folder_may_go_elsewhere(study: Path, tmp_path: Path) -> None:
    assert again(study, "--out", tmp_path / "new" / "place").exit_code == 0
    assert (tmp_path / "new" / "place" / "table.md").read_text() == (study / "table.md").read_text()


def test_two_universes_in_two_folders_make_the_table_of_both(study: Path, tmp_path: Path) -> None:
    second, pooled = ran(tmp_path / "second", replace(SMALL, seed=1)), tmp_path / "pooled"
    found = again(study, second, "--out", pooled)
    assert found.exit_code == 0, found.output
    both = report(read_results([ran(tmp_path / "both", replace(SMALL, seeds=2))]))
    assert json.loads((pooled / "summary.json").read_text()) == [line._asdict() for line in both.lines]
    text = (pooled / "table.md").read_text()
    assert "seed 0 and 1, seeds 1" in text.splitlines()[0]
    assert "- trajectory: 8 procedures in 2 memories" in text
    assert json.loads((pooled / "manifests.json").read_text()) == [manifest_in(study), manifest_in(second)]
    assert Page(pooled / "report.html").tags.count("details") == 2


def test_several_folders_need_a_place_for_their_report(study: Path) -> None:
    found = again(study, study)
    assert found.exit_code == 1
    assert "several folders make one report: say with --out where to write it" in found.stderr


def test_a_report_overwrites_that_of_no_other_study(study: Path, tmp_path: Path) -> None:
    mine = copied(study, tmp_path / "mine")
    for folders in ([study, mine], [study]):
        found = again(*folders, "--out", mine)
        assert found.exit_code == 1
        assert "holds a study, whose own report would be lost; give another --out" in found.stderr


def test_a_table_of_two_models_is_refused_in_one_line(study: Path, tmp_path: Path) -> None:
    other = copied(study, tmp_path / "other")
    change_manifest(other, model="openai:other")
    found = again(study, other, "--out", tmp_path / "pooled")
    assert found.exit_code == 1
    (said,) = found.stderr.splitlines()
    assert said.startswith("Error: ")
    assert said.endswith("model is None here and 'openai:other' there")
    assert not (tmp_path / "pooled").exists()


def test_a_folder_without_a_study_has_no_report(tmp_path: Path) -> None:
    found = again(tmp_path)
    assert found.exit_code == 1
    assert "holds no study" in found.stderr
