"""The study of transfer: what a model does with a memory of another, with its own, and with one it rebuilt."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from evals.reports.report import report
from evals.reports.results import read_results
from evals.rows import Lines, Row
from evals.studies.transfer import Transfer, plan
from memp import ProceduralMemory
from memp.errors import InputError
from tasks.gridworld import GridWorld
from tests.episodes import cells
from tests.openai_server import Messages, Request
from tests.studies import DISTIL, answer, by_key, copied, manifest_in, rows_in, run, serving

WEAK, STRONG = "openai:weak", "openai:strong"

SMALL = Transfer(env="gridworld", models=(WEAK, STRONG), episodes=4, train=8, k=1, max_steps=40)

WORLD = "universe-0"


ENV = GridWorld()


@cache
def ways() -> dict[str, tuple[str, ...]]:
    """What the models know to do: every other training task."""
    known = {}
    for task in ENV.tasks("train")[::2]:
        _, info = ENV.reset(0, {"task": task.id})
        known[info["task"]] = ENV.expert(task.id)
    return known


def knowing(messages: Messages) -> str:
    """Distil, or do what is known to do the task, if anything is."""
    asked = messages[-1]["content"]
    if DISTIL in asked:
        return answer(messages)
    first = messages[1]["content"]
    way = next((actions for task, actions in ways().items() if task in first), ())
    done = sum(message["role"] == "assistant" for message in messages)
    return f"Action: {(*way, *['move_up'] * 99)[done]}"


class Whole:
    """A study that ran to its end, and what it asked."""

    def __init__(self, out: Path) -> None:
        self.out = out
        with serving(knowing) as server:
            run(out, SMALL)
            self.requests = server.requests
        self.rows = rows_in(out)
        self.practice = list(Lines(out / "practice.jsonl", Row).held)

    def distilled_by(self, model: str) -> list[Request]:
        found = [request for request in self.requests if DISTIL in request.prompt]
        return [request for request in found if f"openai:{request.body['model']}" == model]

    def solved(self, model: str) -> set[str]:
        return {row.task for row in self.practice if row.model == model and row.success}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    return Whole(tmp_path_factory.mktemp("transfer") / "out")


def sources(out: Path, name: str) -> set[str]:
    with ProceduralMemory.open(out / WORLD / f"{name}.db", create=False) as memory:
        return {procedure.source for procedure in memory.procedures()}


def test_every_pair_of_models_is_compared_on_the_same_tasks(whole: Whole) -> None:
    arms = {(row.arm, row.model, row.source) for row in whole.rows}
    assert arms == {
        *((arm, model, "") for arm in ("none", "own") for model in (WEAK, STRONG)),
        *((arm, WEAK, STRONG) for arm in ("random", "inherit", "rebuild")),
        *((arm, STRONG, WEAK) for arm in ("random", "inherit", "rebuild")),
    }
    tasks = {
        arm: sorted(row.task for row in whole.rows if (row.arm, row.model, row.source) == arm) for arm in arms
    }
    assert all(found == tasks["none", WEAK, ""] for found in tasks.values())
    assert len(tasks["none", WEAK, ""]) == SMALL.episodes


def test_every_model_practises_on_the_training_tasks_without_a_memory(whole: Whole) -> None:
    assert all(not row.shown and row.split == "train" for row in whole.practice)
    for model in (WEAK, STRONG):
        assert sum(row.model == model for row in whole.practice) == SMALL.train


@pytest.mark.parametrize("source", ["weak", "strong"])
@pytest.mark.parametrize("builder", ["weak", "strong"])
def test_a_memory_is_of_the_successes_of_its_source(whole: Whole, source: str, builder: str) -> None:
    solved = whole.solved(f"openai:{source}")
    assert 0 < len(solved) < SMALL.train
    assert sources(whole.out, f"{source}-by-{builder}") == solved


def test_the_receiver_distils_what_it_rebuilds_and_nothing_that_it_inherits(whole: Whole) -> None:
    trajectories = len(whole.solved(WEAK)) + len(whole.solved(STRONG))
    assert [len(whole.distilled_by(model)) for model in (WEAK, STRONG)] == [trajectories, trajectories]


def test_the_manifest_notes_what_a_memory_cost_to_live_and_to_build(whole: Whole) -> None:
    built = manifest_in(whole.out)["memories"][f"{WORLD}/weak-by-strong"]
    lived = [row for row in whole.practice if row.model == WEAK]
    assert built["practice_tokens_in"] == sum(row.tokens_in for row in lived) > 0
    assert built["setup_tokens_in"] > 0


def test_a_study_that_was_cut_off_goes_on_to_the_same_rows(whole: Whole, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with serving(knowing):
        run(out, SMALL)
        for name, left in (("episodes.jsonl", 5), ("practice.jsonl", 11)):
            lines = (out / name).read_text().splitlines(keepends=True)
            (out / name).write_text("".join(lines[:left]))
        run(out, SMALL)
    assert by_key(rows_in(out)) == by_key(whole.rows)


def test_the_report_compares_what_each_model_does_with_the_memories_of_each_source(whole: Whole) -> None:
    lines = cells(report(read_results([whole.out])).table)
    arms = ("none", "own", "random", "inherit", "rebuild")
    assert [(line["model"], line["source"], line["arm"]) for line in lines] == [
        (*pair, arm) for pair in ((WEAK, STRONG), (STRONG, WEAK)) for arm in arms
    ]
    assert {line["episodes"] for line in lines} == {str(SMALL.episodes)}


def test_the_page_has_a_table_for_each_model_and_source(whole: Whole) -> None:
    page = (whole.out / "report.html").read_text()
    for model, source in ((WEAK, STRONG), (STRONG, WEAK)):
        assert f"<caption>Split test, {model}, given memories of {source}</caption>" in page


def test_the_report_says_what_a_model_paid_of_the_memory_it_has(whole: Whole) -> None:
    found = report(read_results([whole.out]))
    assert found.payback is not None
    paid = {
        line["arm"]: (line["tokens to build"], line["tokens of its own"])
        for line in cells(found.payback)
        if line["model"] == WEAK
    }
    notes = manifest_in(whole.out)["memories"]
    built, lived = (
        {name: note[f"{what}_tokens_in"] + note[f"{what}_tokens_out"] for name, note in notes.items()}
        for what in ("setup", "practice")
    )
    own, strong, rebuilt = (
        f"{WORLD}/{name}" for name in ("weak-by-weak", "strong-by-strong", "strong-by-weak")
    )
    assert paid == {
        "own": (f"{lived[own] + built[own]:,}", f"{lived[own] + built[own]:,}"),
        "random": (f"{lived[strong] + built[strong]:,}", "0"),
        "inherit": (f"{lived[strong] + built[strong]:,}", "0"),
        "rebuild": (f"{lived[rebuilt] + built[rebuilt]:,}", f"{built[rebuilt]:,}"),
    }


def test_episodes_that_were_not_run_are_counted_over_all_models(whole: Whole, tmp_path: Path) -> None:
    out = copied(whole.out, tmp_path / "out", "manifest.json", "episodes.jsonl")
    assert read_results([out]).missing == 0
    lines = (out / "episodes.jsonl").read_text().splitlines(keepends=True)
    (out / "episodes.jsonl").write_text("".join(lines[:-5]))
    assert read_results([out]).missing == 5


def test_an_episode_of_a_pair_that_there_is_not_is_refused(whole: Whole, tmp_path: Path) -> None:
    out = copied(whole.out, tmp_path / "out", "manifest.json")
    odd = whole.rows[0].model_copy(update={"arm": "inherit", "model": WEAK, "source": WEAK})
    (out / "episodes.jsonl").write_text(odd.model_dump_json() + "\n")
    with pytest.raises(
        InputError, match="of the arm 'inherit of openai:weak from openai:weak', which is not"
    ):
        read_results([out])


@pytest.mark.parametrize("models", [(), (WEAK,), (WEAK, WEAK), ("openai:a/b", "openai:a b")])
def test_models_that_cannot_be_told_apart_are_refused(models: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="two or more different models"):
        plan(replace(SMALL, models=models))


def test_only_an_agent_that_asks_a_model_can_receive() -> None:
    with pytest.raises(InputError, match="not 'replay'"):
        plan(replace(SMALL, agent="replay"))
