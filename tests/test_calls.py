"""How a call of a tool is written as an action."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memp.calls import written


@pytest.mark.parametrize(
    ("arguments", "action"),
    [
        ({"room": "kitchen", "times": 2}, 'open_door(room="kitchen", times=2)'),
        ('{"room": "kitchen", "times": 2}', 'open_door(room="kitchen", times=2)'),
        ({}, "open_door()"),
        (None, "open_door()"),
        ("", "open_door()"),
        ("{broken", "open_door({broken)"),
        ("[1, 2]", "open_door([1, 2])"),
        ({"to": {"a": [None, True]}}, 'open_door(to={"a": [null, true]})'),
        ({"café": "Zürich"}, 'open_door(café="Zürich")'),
        ({"at": object}, "open_door(at=\"<class 'object'>\")"),
        ("[" * 100_000, "open_door(" + "[" * 100_000 + ")"),
    ],
)
def test_a_call_is_written_with_its_arguments_by_name(arguments: Any, action: str) -> None:
    assert written("open_door", arguments) == action


@given(st.text() | st.dictionaries(st.text(), st.integers() | st.text() | st.none()))
def test_any_arguments_can_be_written(arguments: Any) -> None:
    assert written("tool", arguments).startswith("tool(")
