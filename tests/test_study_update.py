"""The study of updates: tasks arrive in groups, and copies of a memory learn in between."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from evals.reports.report import report
from evals.reports.results import read_results
from evals.rows import Row
from evals.studies.update import Update, plan
from evals.worlds import worlds
from memp import ProceduralMemory
from memp.errors import InputError
from tests.episodes import cells
from tests.studies import by_key, copied, manifest_in, rows_in, run

SMALL = Update(
    env="gridworld",
    agent="replay",
    fallback="random",
    splits=("dev",),
    episodes=8,
    train=8,
    k=2,
    groups=2,
    eras=2,
)

ARMS = ("none", "random", "fixed", "vanilla", "validation")

LEARNERS = ("vanilla", "validation")

WORLD = "universe-0"


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study that ran to its end."""
    found = tmp_path_factory.mktemp("update") / "out"
    run(found, SMALL)
    return found


@contextmanager
def opened(out: Path, name: str) -> Iterator[ProceduralMemory]:
    with ProceduralMemory.open(out / WORLD / f"{name}.db", create=False) as memory:
        yield memory


def sources(out: Path, name: str) -> set[str]:
    with opened(out, name) as memory:
        return {procedure.source for procedure in memory.procedures()}


def of(rows: list[Row], arm: str, *groups: int) -> list[Row]:
    return [row for row in rows if row.arm == arm and row.group in groups]


def test_every_arm_meets_the_same_tasks_in_the_same_groups(out: Path) -> None:
    rows = rows_in(out)
    met = {arm: {(row.task, row.seed, row.group) for row in rows if row.arm == arm} for arm in ARMS}
    assert len(met["none"]) == 2 * SMALL.episodes
    assert all(found == met["none"] for found in met.values())
    assert {row.arm for row in rows} == set(ARMS)


def test_a_later_era_brings_the_same_places_rearranged(out: Path) -> None:
    def places(*groups: int) -> set[str]:
        return {row.task.split("/")[1] for row in of(rows_in(out), "none", *groups)}

    assert places(0, 1) == places(2, 3)
    assert all(row.task.startswith("u0e1/") for row in of(rows_in(out), "none", 2, 3))


@pytest.mark.parametrize("arm", LEARNERS)
def test_a_memory_learns_of_nothing_but_the_groups_before(out: Path, arm: str) -> None:
    rows = rows_in(out)
    experts = sources(out, "start")
    for group in (1, 2, 3):
        lived = {row.task for row in of(rows, arm, *range(group))}
        learned = sources(out, f"{arm}-{group}") - experts
        assert learned <= lived
        if arm == "vanilla" and group == 1:
            assert learned == lived


def test_validation_learns_successes_alone(out: Path) -> None:
    solved = {row.task for row in rows_in(out) if row.arm == "validation" and row.success}
    assert sources(out, "validation-3") - sources(out, "start") <= solved


def test_no_episode_is_shown_the_procedure_of_its_own_task(out: Path) -> None:
    with opened(out, "vanilla-3") as memory:
        own = {procedure.source: procedure.id for procedure in memory.procedures()}
    rows = of(rows_in(out), "vanilla", 0, 1, 2, 3)
    assert any(row.shown for row in rows)
    assert all(own.get(row.task) not in row.shown for row in rows)


def test_what_was_learned_in_one_group_is_shown_in_the_next(out: Path) -> None:
    first = {procedure for row in of(rows_in(out), "vanilla", 0) for procedure in row.shown}
    later = {procedure for row in of(rows_in(out), "vanilla", 1) for procedure in row.shown}
    with opened(out, "start") as memory:
        assert first <= {procedure.id for procedure in memory.procedures()}
        assert not later <= {procedure.id for procedure in memory.procedures()}


def test_what_an_arm_lived_through_is_kept(out: Path) -> None:
    lines = [json.loads(line) for line in (out / "lived.jsonl").read_text().splitlines()]
    found = {line["episode_id"]: line for line in lines}
    for row in rows_in(out):
        lived = found["/".join(map(str, row.key))]
        assert len(lived["steps"]) == row.steps
        assert tuple(lived["shown"]) == row.shown


def test_the_manifest_notes_every_memory_that_learned(out: Path) -> None:
    learned = {f"{WORLD}/{arm}-{group}" for arm in LEARNERS for group in (1, 2, 3)}
    assert set(manifest_in(out)["memories"]) == {f"{WORLD}/start", *learned}


def test_the_report_tells_of_every_group_and_arm_and_where_places_were_rearranged(out: Path) -> None:
    found = report(read_results([out])).by_group
    assert found is not None
    groups = ("0", "1", "2 (rearranged)", "3")
    lines = cells(found)
    assert [(line["group"], line["arm"]) for line in lines] == [
        (group, arm) for group in groups for arm in ARMS
    ]
    for line in lines:
        met = of(rows_in(out), line["arm"], int(line["group"][0]))
        assert line["episodes"] == str(len(met)) == "4"
        assert line["steps"].startswith(f"{sum(row.steps for row in met) / 4:.1f} [")
        assert (line["steps over none"] == "-") == (line["arm"] == "none")


def test_the_report_tells_of_the_whole_stream_first(out: Path) -> None:
    found = cells(report(read_results([out])).table)
    assert [(line["split"], line["arm"], line["episodes"]) for line in found] == [
        ("dev", arm, "16") for arm in ARMS
    ]
    said = (out / "table.md").read_text()
    assert said.index("| split | arm |") < said.index("| group | arm |")
    assert "groups 2, eras 2" in said.splitlines()[0]
    assert "Group by group" in (out / "report.html").read_text()


def test_the_report_tells_of_what_each_arm_learned_once(out: Path) -> None:
    costs = report(read_results([out])).costs
    assert [line.partition(":")[0] for line in costs] == ["start", *LEARNERS]
    assert all(" after 3 updates, " in line for line in costs[1:])


def test_episodes_that_a_stream_has_not_run_are_counted(out: Path, tmp_path: Path) -> None:
    again = copied(out, tmp_path / "out", "manifest.json", "episodes.jsonl")
    assert read_results([again]).missing == 0
    lines = (again / "episodes.jsonl").read_text().splitlines(keepends=True)
    (again / "episodes.jsonl").write_text("".join(lines[:-7]))
    assert read_results([again]).missing == 7


def test_groups_are_plotted_one_after_the_other(out: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra `plots`)")
    assert (out / "groups.png").read_bytes().startswith(b"\x89PNG")
    assert not (out / "amounts.png").exists()


@pytest.mark.parametrize("lines", [3, 21, 45])
def test_a_study_that_was_cut_off_in_a_group_goes_on_to_the_same_rows(
    out: Path, tmp_path: Path, lines: int
) -> None:
    again = tmp_path / "out"
    shutil.copytree(out, again)
    kept = (again / "episodes.jsonl").read_text().splitlines(keepends=True)[:lines]
    (again / "episodes.jsonl").write_text("".join(kept))
    reached = max(json.loads(line)["group"] for line in kept)
    manifest = manifest_in(again)
    for name in list(manifest["memories"]):
        group = name.rpartition("/")[2].partition("-")[2]
        if group and int(group) > reached:
            del manifest["memories"][name]
            (again / f"{name}.db").unlink()
    (again / "manifest.json").write_text(json.dumps(manifest))
    run(again, SMALL)
    assert by_key(rows_in(again)) == by_key(rows_in(out))
    digests = {name: built["digest"] for name, built in manifest_in(again)["memories"].items()}
    assert digests == {name: built["digest"] for name, built in manifest_in(out)["memories"].items()}


def test_a_memory_that_changed_after_it_learned_is_refused(out: Path, tmp_path: Path) -> None:
    again = tmp_path / "out"
    shutil.copytree(out, again)
    with opened(again, "vanilla-1") as memory:
        procedure = next(memory.procedures())
        with memory.store.transaction():
            memory.store.put(procedure.model_copy(update={"task": "another"}), "planted")
    with pytest.raises(InputError, match="is not the one"):
        run(again, SMALL)


def test_a_procedure_of_a_task_still_to_come_is_refused(out: Path, tmp_path: Path) -> None:
    again = tmp_path / "out"
    shutil.copytree(out, again)
    with opened(out, "vanilla-3") as later:
        lived = {row.task for row in of(rows_in(out), "vanilla", 2)}
        leaked = next(procedure for procedure in later.procedures() if procedure.source in lived)
    with opened(again, "vanilla-1") as memory, memory.store.transaction():
        memory.store.put(leaked, "planted")
    with pytest.raises(InputError, match="holds a procedure of"):
        run(again, SMALL)


def test_only_a_world_that_can_change_has_eras() -> None:
    with pytest.raises(InputError, match="only the environment 'gridworld' can change"):
        worlds(replace(SMALL, env="scienceworld"), groups=2, eras=2)


def test_more_groups_than_tasks_are_refused() -> None:
    with pytest.raises(InputError, match="8 tasks cannot arrive in 9 groups"):
        plan(replace(SMALL, groups=9))


def test_without_a_chat_model_no_arm_reflects() -> None:
    assert [arm.name for arm in plan(SMALL).arms] == list(ARMS)
