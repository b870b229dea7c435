"""Agents of smolagents with memory, on a model behind the OpenAI protocol."""

from __future__ import annotations

import re
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from smolagents import CodeAgent, OpenAIModel, Tool, ToolCallingAgent, tool
from smolagents.utils import AgentGenerationError

from memp import ProceduralMemory, Trajectory
from memp.errors import InputError, MissingExtra
from memp.guidance import OPEN
from memp.integrations.smolagents import attach
from tests.kitchen import (
    RIGHT_WAY,
    SEARCH,
    Asked,
    Call,
    Kitchen,
    KitchenServer,
    actions,
    kept,
    plan,
    task,
    texts,
)
from tests.openai_server import OpenAIServer, error
from tests.pages import printed


def agent(server: OpenAIServer, kitchen: Kitchen, **options: Any) -> ToolCallingAgent:
    return ToolCallingAgent(
        [tool(function) for function in kitchen.tools()], model(server), verbosity_level=-1, **options
    )


def model(server: OpenAIServer) -> OpenAIModel:
    return OpenAIModel("test", api_base=server.base_url, api_key="none", client_kwargs={"max_retries": 0})


def live(memory: ProceduralMemory, server: OpenAIServer, thing: str = "mug") -> Trajectory:
    """Bring a thing to the table with memory."""
    kitchen = Kitchen()
    with memory.episode(task(thing)) as episode:
        attach(agent(server, kitchen)).run(task(thing))
        episode.finish(kitchen.reward(thing))
    return episode.trajectory


def test_the_second_run_takes_five_steps_instead_of_eight(
    memory: ProceduralMemory, server: OpenAIServer
) -> None:
    assert actions(live(memory, server)) == SEARCH + RIGHT_WAY
    assert actions(live(memory, server)) == RIGHT_WAY


def test_guidance_is_in_the_system_prompt_and_the_tools_answers_are_recorded(
    memory: ProceduralMemory, server: OpenAIServer
) -> None:
    live(memory, server)
    asked = len(server.requests)
    second = live(memory, server)

    assert all(OPEN in texts(request.body)["system"] for request in server.requests[asked:])
    assert second.steps[1].observation == "You hold the mug. It is dirty."


def test_one_agent_serves_episodes_and_runs_outside_of_them(
    memory: ProceduralMemory, server: OpenAIServer
) -> None:
    live(memory, server)
    plain, attached = agent(server, Kitchen()), attach(agent(server, Kitchen()))
    with memory.episode(task()):
        attached.run(task())
    sent = []
    for one in (plain, attached):
        before = len(server.requests)
        one.run(task())
        sent.append([texts(request.body) for request in server.requests[before:]])

    assert sent[0] == sent[1]


def test_attaching_twice_records_each_step_once(memory: ProceduralMemory, server: OpenAIServer) -> None:
    with memory.episode(task()) as episode:
        attach(attach(agent(server, Kitchen()))).run(task())

    assert actions(episode.trajectory) == SEARCH + RIGHT_WAY


def test_episodes_in_two_threads_do_not_mix(memory: ProceduralMemory, server: OpenAIServer) -> None:
    with ThreadPoolExecutor(2) as pool:
        mug, pan = pool.map(lambda thing: live(memory, server, thing), ("mug", "pan"))

    assert actions(mug) == SEARCH + RIGHT_WAY
    assert {thing for action in actions(pan) for thing in re.findall(r'thing="(\w+)"', action)} == {"pan"}


def test_calls_asked_for_at_once_are_steps_of_their_own(memory: ProceduralMemory) -> None:
    with KitchenServer(at_once=True) as server:
        lived = live(memory, server)

    doors = sorted((step.action, step.observation) for step in lived.steps[:4])
    assert [action for action, _ in doors] == sorted([*SEARCH, RIGHT_WAY[0]])
    assert doors[0][1] == "You open the cupboard. You see a mug."


def test_a_run_that_hits_its_limit_leaves_its_steps_unfinished(
    memory: ProceduralMemory, server: OpenAIServer
) -> None:
    with memory.episode(task()):
        result = attach(agent(server, Kitchen(), max_steps=2)).run(task(), return_full_result=True)

    assert result.state == "max_steps_error"
    assert actions(kept(memory)) == SEARCH[:2]


def test_a_run_whose_model_fails_leaves_its_steps_unfinished(memory: ProceduralMemory) -> None:
    class Breaks(KitchenServer):
        def move(self, asked: Asked) -> list[Call] | str:
            if len(asked.made) == 2:
                self._faults.append(error(500))
            return super().move(asked)

    with Breaks() as server, pytest.raises(AgentGenerationError), memory.episode(task()):
        attach(agent(server, Kitchen())).run(task())

    assert actions(kept(memory)) == SEARCH


def test_a_call_that_fails_is_a_step_with_the_error(memory: ProceduralMemory) -> None:
    with KitchenServer(blunders=True) as server, memory.episode(task()) as episode:
        attach(agent(server, Kitchen(), max_steps=1)).run(task())

    (step,) = episode.trajectory.steps
    assert step.action == 'take(thing="mug")'
    assert "KitchenError: you see no mug" in step.observation


class Coder(KitchenServer):
    """The same model, which writes code."""

    def move(self, asked: Asked) -> list[Call] | str:
        calls = plan(asked.thing, asked.guidance)
        lines = [
            f"print({call.name}({', '.join(f'{k}={v!r}' for k, v in call.arguments.items())}))"
            for call in calls
        ]
        code = "\n".join([*lines, 'final_answer("It is done.")'])
        return f"<code>\n{code}\n</code>"


def code_agent(server: OpenAIServer, *tools: Tool) -> CodeAgent:
    return attach(CodeAgent(list(tools), model(server), verbosity_level=-1, max_steps=1))


def test_the_step_of_a_code_agent_is_its_code_with_what_it_printed(memory: ProceduralMemory) -> None:
    kitchen = Kitchen()
    with Coder() as server, memory.episode(task()) as episode:
        code_agent(server, *(tool(function) for function in kitchen.tools())).run(task())
        episode.finish(kitchen.reward())

    (step,) = episode.trajectory.steps
    assert step.action.startswith("print(open_door(place='drawer'))\n")
    assert "You open the drawer. You see a fork.\nYou open the fridge." in step.observation
    assert episode.trajectory.reward == 1


def test_code_that_fails_is_a_step_with_what_it_printed_and_the_error(memory: ProceduralMemory) -> None:
    open_door, *_ = Kitchen().tools()
    with Coder() as server, memory.episode(task()) as episode:
        code_agent(server, tool(open_door)).run(task())

    (step,) = episode.trajectory.steps
    assert "You see a mug." in step.observation
    assert "'take'" in step.observation


def test_what_is_no_agent_is_refused() -> None:
    with pytest.raises(InputError, match="attach takes an agent of smolagents, and 'agent' is none"):
        attach("agent")


def test_without_the_framework_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "smolagents", None)
    monkeypatch.delitem(sys.modules, "memp.integrations.smolagents")
    with pytest.raises(
        MissingExtra, match=re.escape("'smolagents'; install it with: pip install 'memp[smolagents]'")
    ):
        import_module("memp.integrations.smolagents")


def test_the_page_is_true(tmp_path: Path) -> None:
    with KitchenServer(offered_only=True) as server:
        out = printed("smolagents.md", tmp_path, **server.environment)

    assert out.split() == ["5", "2"]
