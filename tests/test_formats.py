"""Trajectories from JSON lines, good and bad."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memp.errors import InputError
from memp.formats import FORMATS, Source, read
from memp.trajectory import Step, Trajectory
from tests.shared_data import need

GOOD = {"task": "heat an egg", "steps": [{"action": "take egg", "observation": "You take it."}], "reward": 1}
EGG = Trajectory(task="heat an egg", steps=(Step(action="take egg", observation="You take it."),), reward=1.0)


def stream(*lines: object) -> io.BytesIO:
    return io.BytesIO(
        b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines)
    )


def test_a_line_is_a_trajectory() -> None:
    full = GOOD | {"start": "You are in a kitchen.", "task_id": "k1", "reward": 0.5, "finished": False}
    first, second = read(stream(GOOD, full)).trajectories

    assert first == EGG
    assert (second.start, second.task_id, second.reward, second.finished) == (
        "You are in a kitchen.",
        "k1",
        0.5,
        False,
    )


def test_a_path_a_text_stream_and_a_byte_stream_read_alike(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    path.write_bytes(b"\xef\xbb\xbf\r\n" + json.dumps(GOOD).encode() + b"\r\n \n\n")
    with path.open("rb") as file, path.open() as text:
        sources: list[Source] = [
            path,
            str(path),
            file,
            text,
            io.StringIO("\ufeff" + json.dumps(GOOD) + "\n\n"),
        ]
        assert all(read(source) == ((EGG,), ()) for source in sources)


def test_an_empty_file_has_no_trajectories() -> None:
    assert read(stream()) == ((), ())


BAD_LINES: list[tuple[object, str]] = [
    (b"{", "not JSON: Expecting property name"),
    (b'{"task": "a" "b"}', "not JSON: Expecting ',' delimiter at character 14"),
    (b"[" * 100_000, "nested too deeply"),
    (b'{"task": NaN}', "not JSON: NaN is no number"),
    (b'{"reward": -Infinity}', "not JSON: -Infinity is no number"),
    (b'{"task": "a", "task": "b"}', "the field 'task' is given twice"),
    (b'{"x": {"y": 1, "y": 2}}', "the field 'y' is given twice"),
    (b'{"task": "\xff"}', "not UTF-8: byte 11 is 0xff"),
    (b'{"task": "\\ud800"}', "a lone surrogate, '\\ud800'"),
    (b'{"\\udfff": 1}', "a lone surrogate"),
    (b"1" * 5000, "a number of 5000 digits"),
    (b"[]", "the line: Input should be"),
    (b"null", "the line: Input should be"),
    (GOOD | {"reward": 2}, "reward: Input should be less than or equal to 1"),
    (GOOD | {"reward": 10**400}, "reward: "),
    (GOOD | {"reward": "1"}, "reward: Input should be a valid number"),
    (GOOD | {"reward": True}, "reward: Input should be a valid number"),
    (GOOD | {"reward": None}, "reward: Input should be a valid number"),
    (GOOD | {"task": " "}, "task: Value error, the task is empty"),
    (GOOD | {"steps": "ab"}, "steps: Input should be a valid"),
    (
        GOOD | {"steps": [*[{"action": "a", "observation": "b"}] * 3, {"action": "a"}]},
        "steps[3].observation: ",
    ),
    (GOOD | {"steps": [{"action": "", "observation": ""}]}, "steps[0].action: String should have at least 1"),
    (GOOD | {"sucess": 1}, "sucess: Extra inputs are not permitted"),
    ({}, "task: Field required; steps: Field required"),
]


@pytest.mark.parametrize(("line", "reason"), BAD_LINES)
def test_a_bad_line_is_named_with_its_field_and_the_rest_can_be_kept(line: object, reason: str) -> None:
    with pytest.raises(InputError) as caught:
        read(stream(GOOD, b"", line, GOOD))
    assert f"line 3: {reason}" in str(caught.value)
    assert "1 of 3 lines cannot be used; --skip-bad keeps the rest" in str(caught.value)

    trajectories, ((number, said),) = read(stream(GOOD, b"", line, GOOD), skip_bad=True)
    assert trajectories == (EGG, EGG)
    assert number == 3
    assert said.startswith(reason)


def test_an_error_names_the_file_counts_all_bad_lines_and_shows_the_first(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    path.write_text("{}\n" * 7)
    with pytest.raises(InputError) as caught:
        read(path)
    head, *lines, rest = str(caught.value).splitlines()
    assert head == f"{path}: 7 of 7 lines cannot be used; --skip-bad keeps the rest"
    assert [line.split(":")[0].strip() for line in lines] == [f"line {n}" for n in range(1, 6)]
    assert rest.strip() == "and 2 more"


@pytest.mark.parametrize("name", ["missing.jsonl", ".", "a\0b"])
def test_a_file_that_cannot_be_read_is_an_input_error_that_names_it(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read(tmp_path / name)


def test_a_stream_that_is_closed_is_an_input_error() -> None:
    closed = stream(GOOD)
    closed.close()
    with pytest.raises(InputError, match="cannot be read"):
        read(closed)


def test_an_unknown_format_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"unknown format 'alfwrold'. Did you mean 'alfworld'\?"):
        read(stream(), "alfwrold")


# --- ALFWorld ---

DEMO = {
    "id": "alfworld_7",
    "task": "heat an egg",
    "source": "somewhere",
    "steps": [
        {"state": "A kitchen.", "action": "take egg 1"},
        {"state": "You take it.", "action": "heat egg 1"},
    ],
}


def test_a_state_is_what_the_action_before_it_led_to() -> None:
    (found,) = read(stream(DEMO), "alfworld").trajectories

    assert found == Trajectory(
        task="heat an egg",
        task_id="alfworld_7",
        start="A kitchen.",
        steps=(
            Step(action="take egg 1", observation="You take it."),
            Step(action="heat egg 1", observation=""),
        ),
        reward=1.0,
    )


def test_a_line_without_a_reward_is_unfinished_unless_it_is_said_how_it_ended() -> None:
    unsaid = {name: value for name, value in GOOD.items() if name != "reward"}

    (unfinished,) = read(stream(unsaid)).trajectories
    (ended,) = read(stream(unsaid), reward=0.5).trajectories

    assert (unfinished.finished, ended.finished, ended.reward) == (False, True, 0.5)


def test_a_demonstration_may_give_its_reward_and_may_be_empty() -> None:
    (found,) = read(stream(DEMO | {"reward": 0.25, "steps": []}), "alfworld").trajectories
    assert (found.reward, found.steps, found.start) == (0.25, (), "")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"steps": [{"state": "s"}]}, r"steps\[0\].action: Field required"),
        ({"steps": [{"state": "s", "action": ""}]}, r"steps\[0\].action: String should have"),
        ({"reward": -1}, "reward: Input should be greater"),
        ({"id": 7}, "id: Input should be a valid string"),
    ],
)
def test_a_bad_demonstration_is_named_with_its_field(change: dict[str, object], reason: str) -> None:
    with pytest.raises(InputError, match=f"line 1: {reason}"):
        read(stream(DEMO | change), "alfworld")


def test_all_336_experts_are_read() -> None:
    trajectories, bad = read(need("alfworld/trajectories.jsonl"), "alfworld")

    assert (len(trajectories), bad) == (336, ())
    assert sum(len(trajectory.steps) for trajectory in trajectories) == 4542
    assert len({trajectory.source for trajectory in trajectories}) == 336
    assert all(trajectory.start.startswith("You are in the middle of a room") for trajectory in trajectories)


# --- anything ---

TEXT = st.text(max_size=30)
TRAJECTORIES = st.builds(
    Trajectory,
    task=TEXT.filter(str.strip),
    steps=st.lists(
        st.builds(Step, action=st.text(min_size=1, max_size=30), observation=TEXT), max_size=4
    ).map(tuple),
    reward=st.floats(0, 1),
    start=TEXT,
    task_id=TEXT,
    finished=st.booleans(),
)


@given(st.lists(TRAJECTORIES, max_size=4))
def test_what_is_written_is_read_back_equal(trajectories: list[Trajectory]) -> None:
    lines = [trajectory.model_dump_json().encode() for trajectory in trajectories]
    assert read(stream(*lines)) == (tuple(trajectories), ())


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(sorted(GOOD)), inner, max_size=3)
    ),
)


@given(st.binary() | st.lists(JSON.map(lambda value: json.dumps(value).encode())).map(b"\n".join))
@pytest.mark.parametrize("name", FORMATS)
def test_any_bytes_are_trajectories_or_an_input_error(name: str, data: bytes) -> None:
    trajectories, bad = read(io.BytesIO(data), name, skip_bad=True)
    assert len(trajectories) + len(bad) <= data.count(b"\n") + 1
    if bad:
        with pytest.raises(InputError):
            read(io.BytesIO(data), name)
