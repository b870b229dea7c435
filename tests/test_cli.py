"""The command `memp`: what it prints, how it fails, and that it is the library under the same names."""

from __future__ import annotations

import inspect
import json
import math
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from memp import ProceduralMemory, Trajectory, __version__
from memp.build import GRANULARITIES
from memp.cli import main
from memp.formats import FORMATS
from memp.procedure import Procedure
from memp.retrieve import KEYS
from memp.trajectory import MAX_TEXT
from memp.update import POLICIES
from tests.factories import SCRIPT, trajectory
from tests.openai_server import GARBAGE, Messages, OpenAIServer, Response, completion, error
from tests.shared_data import need

CHECKOUT = Path(__file__).parent.parent

EGG, MUG, BOX = (
    trajectory("heat an egg", "take egg, heat egg"),
    trajectory("clean a mug", "take mug, wash mug"),
    trajectory("open the [/bold] box :smile:", "pull [red]lid"),
)


def memp(*args: object, stdin: bytes | None = None, env: dict[str, str] | None = None) -> Result:
    """Run a command; anything but a message and an exit status is a failure of the test."""
    result = CliRunner().invoke(main, [str(arg) for arg in args], input=stdin, env=env)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def refused(*args: object, stdin: bytes | None = None) -> str:
    """Run a command that must fail; return the one line it says on stderr."""
    result = memp(*args, stdin=stdin)
    assert (result.exit_code, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    return line.removeprefix("Error: ")


def lines(*trajectories: Trajectory | dict[str, Any] | bytes) -> bytes:
    parts = []
    for given in trajectories:
        if isinstance(given, bytes):
            parts.append(given)
        else:
            value = given if isinstance(given, dict) else given.model_dump(mode="json")
            parts.append(json.dumps(value).encode())
    return b"\n".join(parts) + b"\n"


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    """A memory of three procedures."""
    path = tmp_path / "agent.db"
    result = memp("build", path, "-", stdin=lines(EGG, MUG, BOX))
    assert (result.exit_code, result.output) == (0, "3 added, 0 revised, 0 retired, 0 skipped\n")
    return path


def held(path: Path) -> list[Procedure]:
    with ProceduralMemory.open(path, create=False) as opened:
        return list(opened.procedures())


def counts(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(memp("stats", path, "--json").stdout)
    return found


def chat_env(server: OpenAIServer) -> dict[str, str]:
    return {"OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "sk-test"}


# --- build ---


def test_build_reads_a_file(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_bytes(lines(EGG, MUG))
    result = memp("build", tmp_path / "m.db", tmp_path / "t.jsonl")

    assert (result.exit_code, result.output) == (0, "2 added, 0 revised, 0 retired, 0 skipped\n")
    assert [procedure.task for procedure in held(tmp_path / "m.db")] == ["heat an egg", "clean a mug"]


def test_build_reads_standard_input(memory: Path) -> None:
    assert [procedure.trajectory for procedure in held(memory)] == [EGG, MUG, BOX]


def test_build_twice_adds_nothing_and_says_why(memory: Path) -> None:
    result = memp("build", memory, "-", stdin=lines(EGG, MUG, BOX))

    assert result.exit_code == 0
    assert result.stdout == "0 added, 0 revised, 0 retired, 3 skipped\n"
    assert "skipped 'heat an egg': the memory has one as good" in result.stderr
    assert counts(memory)["revisions"] == 3


def test_build_of_no_lines_makes_an_empty_memory(tmp_path: Path) -> None:
    assert memp("build", tmp_path / "m.db", "-", stdin=b"").exit_code == 0
    assert counts(tmp_path / "m.db")["procedures"] == 0


def test_build_keeps_a_failure_only_where_the_update_policy_does(tmp_path: Path) -> None:
    failed = lines(trajectory("heat an egg", reward=0.5))
    strict = memp("build", tmp_path / "m.db", "-", stdin=failed)
    assert "0 added" in strict.stdout
    assert "reward 0.5 is no success, and update='validation' adds only those" in strict.stderr
    assert "1 added" in memp("build", tmp_path / "m.db", "-", "--update", "vanilla", stdin=failed).stdout
    assert "1 added" in memp("build", tmp_path / "n.db", "-", "--success-at", "0.5", stdin=failed).stdout


def test_build_puts_an_unfinished_episode_in_quarantine_without_failing(tmp_path: Path) -> None:
    result = memp("build", tmp_path / "m.db", "-", stdin=lines(trajectory(reward=0, finished=False)))
    assert result.exit_code == 0
    assert "in quarantine as " in result.stderr
    assert counts(tmp_path / "m.db")["unfinished"] == 1


def test_a_pipe_into_the_real_command_builds_a_memory(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "memp.cli", "build", str(tmp_path / "m.db"), "-"]
    found = subprocess.run(command, input=lines(EGG), capture_output=True, check=True, cwd=CHECKOUT)
    assert found.stdout == b"1 added, 0 revised, 0 retired, 0 skipped\n"


# --- ALFWorld ---


@pytest.fixture(scope="module")
def alfworld(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A memory of the 336 real demonstrations."""
    source = need("alfworld/trajectories.jsonl")
    path = tmp_path_factory.mktemp("alfworld") / "m.db"
    result = memp("build", path, source, "--format", "alfworld")
    assert (result.exit_code, result.output) == (0, "336 added, 0 revised, 0 retired, 0 skipped\n")
    return path


@pytest.mark.parametrize(
    ("task", "parts"),
    [
        ("heat a tomato and put it in the garbage can", ("hot|heat", "tomato", "garbagecan")),
        ("cool a tomato, then put it in the microwave", ("cool", "tomato", "microwave")),
        ("clean a soap bar and put it into the cabinet", ("clean", "soapbar", "cabinet")),
        ("examine the bowl with the desk lamp", ("examine", "bowl", "desklamp")),
        ("find two rolls of toilet paper and put them in the cabinet", ("two", "toiletpaper", "cabinet")),
    ],
)
def test_search_puts_the_same_deed_object_and_place_first(
    alfworld: Path, task: str, parts: tuple[str, ...]
) -> None:
    found = [
        json.loads(line) for line in memp("search", alfworld, task, "-k", 1, "--json").stdout.splitlines()
    ]
    (match,) = found
    assert all(re.search(part, match["procedure"]["task"]) for part in parts), match["procedure"]["task"]


def test_search_prints_real_neighbours_one_a_row(alfworld: Path) -> None:
    header, *rows = memp(
        "search", alfworld, "heat an egg and put it in the garbage can", "-k", 3
    ).stdout.splitlines()
    assert header.split() == ["score", "id", "task", "steps", "reward", "used"]
    assert len(rows) == 3
    assert all("egg" in row for row in rows)


# --- search ---


@pytest.mark.parametrize("key", KEYS)
def test_search_as_json_holds_what_the_library_says(memory: Path, key: str) -> None:
    printed = memp("search", memory, "heat a mug", "--json", "--key", key).stdout.splitlines()
    with ProceduralMemory.open(memory, key=key) as opened:  # type: ignore[arg-type]
        matches = opened.retrieve("heat a mug", 5)
    assert [json.loads(line) for line in printed] == [match.model_dump(mode="json") for match in matches]
    assert len(matches) == 3


def test_search_prints_the_best_first(memory: Path) -> None:
    scores = [
        json.loads(line)["score"]
        for line in memp("search", memory, "heat eggs", "--json").stdout.splitlines()
    ]
    assert scores == sorted(scores, reverse=True)


def test_search_prints_k_procedures(memory: Path) -> None:
    assert len(memp("search", memory, "heat", "-k", 2, "--json").stdout.splitlines()) == 2


def test_search_with_the_random_key_follows_the_seed(memory: Path) -> None:
    drawn = [
        memp("search", memory, "x", "-k", 1, "--key", "random", "--seed", seed, "--json").stdout
        for seed in (1, 1, *range(9))
    ]
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) > 1


def test_search_of_an_empty_memory_finds_nothing(tmp_path: Path) -> None:
    memp("build", tmp_path / "m.db", "-", stdin=b"")
    assert memp("search", tmp_path / "m.db", "heat", "--json").output == ""


@pytest.mark.parametrize("command", [["search"], ["show"]])
def test_a_task_that_looks_like_markup_is_printed_as_it_is(memory: Path, command: list[str]) -> None:
    task = ["open"] if command == ["search"] else []
    assert BOX.task in memp(*command, memory, *task).stdout


def test_a_table_in_a_pipe_is_not_cut_off(memory: Path) -> None:
    words = " ".join(f"word{number}" for number in range(60))
    memp("build", memory, "-", stdin=lines(trajectory(words)))
    shown = memp("show", memory).stdout
    assert all(word in shown for word in words.split())


# --- show, stats, rollback ---


def test_show_lists_every_procedure(memory: Path) -> None:
    header, *rows = memp("show", memory).stdout.splitlines()
    assert header.split() == ["id", "task", "steps", "reward", "used"]
    assert [row.split()[0] for row in rows] == [procedure.id for procedure in held(memory)]


def test_show_as_json_lists_every_procedure(memory: Path) -> None:
    printed = memp("show", memory, "--json").stdout.splitlines()
    assert [Procedure.model_validate_json(line) for line in printed] == held(memory)


def test_show_prints_a_procedure_with_its_history(memory: Path) -> None:
    memp("build", memory, "-", stdin=lines(trajectory("heat an egg", "heat egg")))
    shown = memp("show", memory, held(memory)[0].id).stdout
    assert shown.startswith("Task: heat an egg\nOutcome: reward 1 in 1 steps; not shown since\n")
    assert "\nWhat was done:\n> heat egg\n" in shown
    assert re.findall(r"^revision (\d) \(\d{4}-\d\d-\d\d \d\d:\d\d\): (.*)", shown, re.MULTILINE) == [
        ("1", "reward 1 in 2 steps"),
        ("2", "reward 1 in 1 steps"),
    ]


def test_show_as_json_prints_the_procedure_asked_for(memory: Path) -> None:
    first = held(memory)[0]
    assert Procedure.model_validate_json(memp("show", memory, first.id, "--json").stdout) == first


def test_show_says_why_a_procedure_was_retired(memory: Path) -> None:
    first = held(memory)[0]
    with ProceduralMemory.open(memory) as opened:
        opened.update([trajectory("t", reward=0, shown=[first.id], episode_id=str(n)) for n in range(4)])
    assert "retired" in memp("show", memory, first.id).stdout
    assert first.id not in memp("show", memory).stdout


def test_show_of_an_unknown_id_says_so(memory: Path) -> None:
    assert refused("show", memory, "nope") == "procedure 'nope' does not exist"


def test_stats_prints_what_the_library_counts(memory: Path) -> None:
    with ProceduralMemory.open(memory) as opened:
        wanted = opened.stats().model_dump() | {"embedder": opened.describe()["embedder"]}
    printed = dict(line.split() for line in memp("stats", memory).stdout.splitlines())
    assert printed == {name: str(value) for name, value in wanted.items()}
    assert counts(memory) == wanted | {"effect": None}


def test_stats_shows_the_quarantine(memory: Path) -> None:
    memp("build", memory, "-", stdin=lines(trajectory(reward=0, finished=False)))
    assert re.search(r"^quarantined +1$", memp("stats", memory).stdout, re.MULTILINE)


def test_rollback_brings_back_an_earlier_revision(memory: Path) -> None:
    memp("build", memory, "-", stdin=lines(trajectory("heat an egg", "heat egg")))
    first = held(memory)[0].id
    assert memp("rollback", memory, first, 1).stdout == "revision 3 is revision 1 again\n"
    assert held(memory)[0].trajectory == EGG


def test_rollback_to_an_unknown_revision_says_so(memory: Path) -> None:
    first = held(memory)[0].id
    assert refused("rollback", memory, first, 9) == f"procedure {first!r} has no revision 9"


# --- chat models, quarantine, retry ---


def test_build_script_without_chat_says_what_to_pass(tmp_path: Path) -> None:
    said = refused("build", tmp_path / "m.db", "-", "--build", "script", stdin=lines(EGG))
    assert "build='script' needs a chat model: pass chat='openai:<model>'" in said
    assert not (tmp_path / "m.db").exists()


def test_build_distils_scripts_with_the_chat_model(tmp_path: Path) -> None:
    with OpenAIServer(SCRIPT) as server:
        result = memp(
            *("build", tmp_path / "m.db", "-", "--build", "proceduralization", "--chat", "openai:m"),
            *("--concurrency", 2),
            stdin=lines(EGG, MUG),
            env=chat_env(server),
        )
    assert (result.exit_code, result.stdout) == (0, "2 added, 0 revised, 0 retired, 0 skipped\n")
    assert all(found.script and found.script.goal == "heat things" for found in held(tmp_path / "m.db"))
    assert "How to heat things:" in memp("show", tmp_path / "m.db", held(tmp_path / "m.db")[0].id).stdout


FAULTS: dict[str, tuple[Callable[[Messages], str | Response], str]] = {
    "401": (lambda _: error(401, "bad key"), "the server answered 401: 'bad key'; check OPENAI_API_KEY"),
    "garbage": (lambda _: GARBAGE, "never usefully"),
    "unparsable": (lambda _: "I would rather not.", "but answered 'I would rather not.'"),
    "empty": (lambda _: completion(None), "never usefully"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_build_keeps_in_quarantine_what_the_chat_model_failed_at(tmp_path: Path, fault: str) -> None:
    reply, reason = FAULTS[fault]
    with OpenAIServer(reply) as server:
        result = memp(
            *("build", tmp_path / "m.db", "-", "--build", "script", "--chat", "openai:m"),
            stdin=lines(EGG, MUG),
            env=chat_env(server),
        )

    assert result.exit_code == 1
    assert result.stdout == "0 added, 0 revised, 0 retired, 2 skipped\n"
    assert "2 failed and are kept in quarantine; the last: " in result.stderr
    assert reason in result.stderr
    assert "`memp retry " in result.stderr
    with ProceduralMemory.open(tmp_path / "m.db") as opened:
        kept = [Trajectory.model_validate(item.payload["trajectory"]) for item in opened.quarantine()]
    assert kept == [EGG, MUG]


def test_build_that_fails_in_part_succeeds_and_says_so(tmp_path: Path) -> None:
    with OpenAIServer(lambda messages: SCRIPT if "mug" in messages[-1]["content"] else "no") as server:
        result = memp(
            *("build", tmp_path / "m.db", "-", "--build", "script", "--chat", "openai:m"),
            stdin=lines(EGG, MUG),
            env=chat_env(server),
        )
    assert (result.exit_code, result.stdout) == (0, "1 added, 0 revised, 0 retired, 1 skipped\n")
    assert "1 failed and are kept in quarantine" in result.stderr


def test_facts_that_could_not_be_had_are_said_and_the_procedure_stays(tmp_path: Path) -> None:
    with OpenAIServer("no list") as server:
        result = memp(
            *("build", tmp_path / "m.db", "-", "--key", "avefact", "--chat", "openai:m"),
            stdin=lines(EGG),
            env=chat_env(server),
        )
    assert (result.exit_code, result.stdout) == (0, "1 added, 0 revised, 0 retired, 0 skipped\n")
    assert "1 failed and are kept in quarantine" in result.stderr
    assert counts(tmp_path / "m.db")["quarantined"] == 1


def test_search_says_that_the_chat_model_failed(memory: Path) -> None:
    with OpenAIServer(lambda _: error(401)) as server:
        args = ("search", memory, "heat", "--key", "avefact", "--chat", "openai:m")
        result = memp(*args, env=chat_env(server))
    assert (result.exit_code, result.stdout) == (1, "")
    assert "401" in result.stderr.splitlines()[-1]


def test_retry_lists_the_quarantine_and_leaves_it(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    with OpenAIServer("no script") as server:
        build = ("--build", "script", "--chat", "openai:m")
        memp("build", path, "-", *build, stdin=lines(EGG), env=chat_env(server))
    memp("build", path, "-", stdin=lines(trajectory(reward=0, finished=False)))

    first, second = memp("retry", path, "--list").stdout.splitlines()

    assert re.fullmatch(
        r"[0-9a-f]{12} build \d{4}-\d\d-\d\d \d\d:\d\d: the model was asked for .* answered 'no script'",
        first,
    )
    assert " unfinished " in second
    assert counts(path)["quarantined"] == 2


def test_retry_builds_what_could_not_be_parsed_before(tmp_path: Path) -> None:
    path, build = tmp_path / "m.db", ("--build", "script", "--chat", "openai:m")
    with OpenAIServer(["no script", "still none", SCRIPT]) as server:
        env = chat_env(server)
        memp("build", path, "-", *build, stdin=lines(EGG), env=env)
        again = memp("retry", path, *build, env=env)
        assert (again.exit_code, again.stdout) == (1, "0 added, 0 revised, 0 retired, 1 skipped\n")
        assert counts(path)["quarantined"] == 1
        done = memp("retry", path, *build, env=env)

    assert (done.exit_code, done.output) == (0, "1 added, 0 revised, 0 retired, 0 skipped\n")
    assert counts(path)["quarantined"] == 0
    assert held(path)[0].script is not None


def test_retry_finishes_an_unfinished_episode_with_its_reward(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    memp("build", path, "-", stdin=lines(trajectory(reward=0, finished=False)))
    assert memp("retry", path).stdout == "0 added, 0 revised, 0 retired, 0 skipped\n"
    item = memp("retry", path, "--list").stdout.split()[0]
    assert "say how it ended" in refused("retry", path, item)
    assert "1 added" in memp("retry", path, item, "--reward", 1).stdout


def test_retry_of_an_unknown_id_says_so(memory: Path) -> None:
    assert refused("retry", memory, "zz") == "'zz' is not in quarantine"


# --- embedders ---


def test_another_embedder_is_refused_with_the_command_that_reembeds(memory: Path) -> None:
    with OpenAIServer() as server:
        result = memp("search", memory, "heat", "--embedder", "openai:e", env=chat_env(server))
    assert result.exit_code == 1
    assert f"memp reembed {memory} --embedder NAME" in result.stderr


def test_reembed_moves_a_memory_to_another_embedder_and_back(memory: Path) -> None:
    before = memp("search", memory, "heat eggs", "--json").stdout
    with OpenAIServer() as server:
        env = chat_env(server)
        done = memp("reembed", memory, "--embedder", "openai:e", env=env)
        assert done.output == "3 procedures re-embedded with openai:e\n"
        assert counts_with(env, memory)["embedder"].startswith("openai:e")
        assert len(memp("search", memory, "heat eggs", "--json", env=env).stdout.splitlines()) == 3
    memp("reembed", memory, "--embedder", "hash")
    assert memp("search", memory, "heat eggs", "--json").stdout == before


def counts_with(env: dict[str, str], path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(memp("stats", path, "--json", env=env).stdout)
    return found


def test_reembed_that_fails_leaves_the_memory_as_it_was(memory: Path) -> None:
    before = memp("search", memory, "heat eggs", "--json").stdout
    with OpenAIServer(faults=[error(401)] * 9) as server:
        result = memp("reembed", memory, "--embedder", "openai:e", env=chat_env(server))
    assert result.exit_code == 1
    assert "401" in result.stderr
    assert memp("search", memory, "heat eggs", "--json").stdout == before


# --- options ---

OPEN = inspect.signature(ProceduralMemory.open).parameters
NOT_OF_THE_MEMORY = {
    "memory",
    "trajectories",
    "task",
    "form",
    "skip_bad",
    "k",
    "as_json",
    "ids",
    "reward",
    "only_list",
}


def options(command: str) -> dict[str, click.Parameter]:
    return {str(found.name): found for found in main.commands[command].params}


@pytest.mark.parametrize("command", ["build", "search", "retry"])
def test_options_have_the_names_and_defaults_of_open(command: str) -> None:
    taken = {name: option for name, option in options(command).items() if name not in NOT_OF_THE_MEMORY}
    assert taken.keys() <= OPEN.keys()
    assert {
        name: option.default
        for name, option in taken.items()
        if isinstance(option.default, str | int | float)
    } == {name: OPEN[name].default for name in taken if OPEN[name].default is not None}
    assert [option.opts for option in taken.values()] == [["--" + name.replace("_", "-")] for name in taken]


def test_every_option_of_open_that_is_not_about_episodes_is_on_the_command_line() -> None:
    given = {name for command in ("build", "search", "retry") for name in options(command)}
    assert OPEN.keys() - given == {"path", "create", "guidance_tokens", "min_score"}


@pytest.mark.parametrize(
    ("option", "choices"),
    [("--build", GRANULARITIES), ("--key", KEYS), ("--update", POLICIES), ("--format", tuple(FORMATS))],
)
def test_help_names_every_choice(option: str, choices: tuple[str, ...]) -> None:
    text = " ".join(memp("build", "--help").stdout.split())
    described = text.partition(f" {option} ")[2].partition(" --")[0]
    assert all(choice in described for choice in choices)


def test_help_lists_the_commands_of_the_design() -> None:
    of_the_design = {"build", "search", "show", "stats", "export", "import", "mcp", "skills"}
    assert of_the_design | {"retry", "rollback", "reembed"} == main.commands.keys()


@pytest.mark.parametrize("command", list(main.commands))
def test_help_uses_the_words_of_the_design(command: str) -> None:
    text = memp(command, "--help").stdout
    foreign = {"database", "db", "skill", "workflow", "experience", "goal", "history item", "record"}
    if command == "skills":  # a word of others, which it is about
        foreign -= {"skill"}
    else:
        assert "MEMORY" in text
    assert not re.search(rf"\b({'|'.join(foreign)})s?\b", text, re.IGNORECASE)


def test_version_is_printed_also_from_a_checkout() -> None:
    assert memp("--version").stdout == f"memp, version {__version__}\n"


# --- what is refused ---


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--key", "quary"], "unknown key 'quary'. Did you mean 'query'?"),
        (["--build", "scrip"], "unknown build 'scrip'. Did you mean 'script'?"),
        (["--update", "reflexion"], "unknown update 'reflexion'. Did you mean 'reflection'?"),
        (["--embedder", "hsh"], "unknown embedder 'hsh'. Did you mean 'hash'?"),
        (["--chat", "opnai:gpt-4o"], "unknown chat model provider 'opnai'. Did you mean 'openai'?"),
        (["--chat", "gpt-4o"], "the chat model 'gpt-4o' must be written provider:model"),
        (["--format", "alfwrld"], "unknown format 'alfwrld'. Did you mean 'alfworld'?"),
        (["--concurrency", "0"], "concurrency is 0; it must be at least 1"),
        (["--success-at", "nan"], "success_at is nan"),
    ],
)
def test_an_unusable_option_is_named_and_makes_no_memory(tmp_path: Path, given: list[str], said: str) -> None:
    assert refused("build", tmp_path / "m.db", "-", *given, stdin=lines(EGG)).startswith(said)
    assert not (tmp_path / "m.db").exists()


def test_a_chat_model_without_a_key_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    assert "set OPENAI_API_KEY" in refused("build", tmp_path / "m.db", "-", "--chat", "openai:m", stdin=b"")


GOOD = EGG.model_dump(mode="json")

BAD_LINES: list[tuple[dict[str, Any] | bytes, str]] = [
    (b'{"task": ', "not JSON"),
    (GOOD | {"reward": 1.5}, "reward: Input should be less than or equal to 1"),
    (GOOD | {"reward": math.nan}, "not JSON: NaN is no number"),
    (GOOD | {"task": " "}, "task: "),
    (GOOD | {"steps": [{"action": "a"}]}, "steps[0].observation: Field required"),
    (GOOD | {"steps": [{"action": "a", "observation": "x" * 10_000_000}]}, "steps[0].observation: "),
]


@pytest.mark.parametrize(("bad", "said"), BAD_LINES, ids=[said for _, said in BAD_LINES])
def test_a_bad_line_is_named_with_its_field_and_nothing_is_built(
    tmp_path: Path, bad: dict[str, Any] | bytes, said: str
) -> None:
    result = memp("build", tmp_path / "m.db", "-", stdin=lines(MUG, bad))

    assert (result.exit_code, result.stdout) == (1, "")
    head, line = result.stderr.splitlines()
    assert head.startswith("Error: ")
    assert head.endswith("1 of 2 lines cannot be used; --skip-bad keeps the rest")
    assert line.strip().startswith(f"line 2: {said}")
    assert len(line) < 1000
    assert not (tmp_path / "m.db").exists()


def test_skip_bad_keeps_the_rest_and_says_how_many(tmp_path: Path) -> None:
    bad = [line for line, _ in BAD_LINES]
    result = memp("build", tmp_path / "m.db", "-", "--skip-bad", stdin=lines(EGG, *bad, MUG))

    assert (result.exit_code, result.stdout) == (0, "2 added, 0 revised, 0 retired, 0 skipped\n")
    assert re.findall(r"^line (\d) skipped: ", result.stderr, re.MULTILINE) == list("234567")
    assert result.stderr.endswith("6 bad lines skipped, 2 kept\n")


def test_the_largest_observation_is_kept_whole(tmp_path: Path) -> None:
    step = {"action": "read", "observation": "é" * MAX_TEXT}
    memp("build", tmp_path / "m.db", "-", stdin=lines(GOOD | {"steps": [step]}))
    (found,) = held(tmp_path / "m.db")
    assert found.trajectory is not None
    assert len(found.trajectory.steps[0].observation) == MAX_TEXT


def test_a_missing_file_of_trajectories_is_named(tmp_path: Path) -> None:
    said = refused("build", tmp_path / "m.db", tmp_path / "none.jsonl")
    assert said.startswith(f"{tmp_path / 'none.jsonl'}: cannot be read: ")
    assert not (tmp_path / "m.db").exists()


COMMANDS = [["search", "heat"], ["show"], ["show", "x"], ["stats"], ["retry"], ["rollback", "x", "1"]]


def on(path: Path, command: list[str]) -> list[object]:
    return [command[0], path, *command[1:]]


@pytest.mark.parametrize("command", [*COMMANDS, ["reembed", "--embedder", "hash"]], ids=" ".join)
def test_a_memory_that_does_not_exist_is_not_made_by_reading_it(tmp_path: Path, command: list[str]) -> None:
    path = tmp_path / "none.db"
    assert refused(*on(path, command)) == f"there is no memory at {path}; `memp build` makes one"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [*COMMANDS, ["build", "-"]], ids=" ".join)
def test_a_file_that_is_no_memory_is_refused_and_left_alone(tmp_path: Path, command: list[str]) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("my notes\n" * 200)
    assert "not a memory of memp" in refused(*on(path, command), stdin=lines(EGG))
    assert path.read_text() == "my notes\n" * 200


def test_another_programs_sqlite_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE t (x)")
    other.close()
    before = path.read_bytes()
    assert "not a memory of memp" in refused("build", path, "-", stdin=lines(EGG))
    assert path.read_bytes() == before


def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert "is a folder" in refused("stats", tmp_path)


def test_a_memory_in_a_missing_folder_is_refused(tmp_path: Path) -> None:
    assert "does not exist; create it first" in refused("build", tmp_path / "a" / "m.db", "-", stdin=b"")


@pytest.mark.parametrize(
    ("task", "k", "said"),
    [(" ", 5, "the task is empty"), ("x", 0, "k is 0")],
)
def test_an_unusable_question_is_refused(memory: Path, task: str, k: int, said: str) -> None:
    assert refused("search", memory, task, "-k", k).startswith(said)


@pytest.mark.parametrize("command", [["search"], ["show"], ["retry"], ["build"]], ids=" ".join)
def test_an_argument_that_is_not_utf_8_does_no_harm(memory: Path, command: list[str]) -> None:
    assert memp(*command, memory, "\udcff").exit_code in (0, 1)  # and no traceback: see `memp`
    assert counts(memory)["procedures"] == 3


def test_the_real_command_fails_with_one_line_and_no_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "memp.cli", "stats", str(tmp_path / "none.db")]
    found = subprocess.run(command, capture_output=True, text=True, cwd=CHECKOUT, check=False)
    assert (found.returncode, found.stdout) == (1, "")
    assert found.stderr == f"Error: there is no memory at {tmp_path / 'none.db'}; `memp build` makes one\n"


def test_an_interrupted_build_leaves_the_memory_whole(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    with OpenAIServer(lambda _: completion(SCRIPT, wait_s=20)) as server:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "memp.cli",
                "build",
                str(path),
                "-",
                "--build",
                "script",
                "--chat",
                "openai:m",
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=CHECKOUT,
            env={**os.environ, **chat_env(server)},
        )
        with process:
            assert process.stdin is not None
            process.stdin.write(lines(EGG))
            process.stdin.close()
            process.stdin = None
            while not server.requests and process.poll() is None:
                time.sleep(0.01)
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=10)
    assert (process.returncode, said.strip()) == (1, b"Aborted!")
    assert counts(path)["procedures"] == 0
