"""The two language models of the checkout do, in universes they never read of, all that memp asks of one."""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from memp import ProceduralMemory
from memp.agents import LLMAgent
from memp.chat import ChatModel, chat_model
from memp.guidance import outcome
from memp.procedure import Match, Usage
from memp.prompts import act, distil, facts
from memp.prompts.forms import ask
from memp.trajectory import Trajectory
from tasks.base import expert_trajectory
from tasks.gridworld import GridWorld
from tasks.gridworld.place import rules
from tasks.gridworld.text import DID
from tasks.gridworld.world import ACTIONS, SIGNS
from tests.factories import procedure

MODELS = Path(__file__).parent.parent / "models"

NAMES = ("memp-small", "memp-base")

SIGN_WORDS = {sign: DID[ACTIONS.index(sign)].removeprefix("You ").removesuffix(".") for sign in SIGNS}

each_model = pytest.mark.parametrize("name", NAMES)


@cache
def loaded(name: str) -> ChatModel:
    chat = chat_model(f"local:{name}")
    assert chat is not None
    return chat


@cache
def experts() -> tuple[Trajectory, ...]:
    env = GridWorld()
    return tuple(expert_trajectory(env, task.id) for task in env.tasks("train")[:24])


def style_of(trajectory: Trajectory) -> str:
    return trajectory.task_id.split("/")[1].split("-")[1]


def succeeds(chat: ChatModel, env: GridWorld, task_id: str, matches: list[Match]) -> bool:
    observation, info = env.reset(0, {"task": task_id})
    policy = LLMAgent(chat, max_tokens=40).start(info["task"], matches)
    while (action := policy.act(observation, env.admissible)) is not None:
        observation, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            return terminated
    return False


@pytest.mark.parametrize(("name", "least", "most"), [("memp-small", 0, 0.5e6), ("memp-base", 1e6, 4e6)])
def test_a_model_has_the_size_it_says(name: str, least: float, most: float) -> None:
    from safetensors import safe_open

    with safe_open(MODELS / name / "model.safetensors", "pt") as weights:
        tensors = [weights.get_tensor(key) for key in weights.keys()]  # noqa: SIM118 - not a dict
    assert least <= sum(tensor.numel() for tensor in tensors) < most
    assert {str(tensor.dtype) for tensor in tensors} == {"torch.float16"}


def test_the_models_take_less_than_ten_megabytes_together() -> None:
    assert sum(path.stat().st_size for path in MODELS.rglob("*") if path.is_file()) < 10e6


@each_model
def test_a_model_loads_with_nothing_of_memp_imported(name: str) -> None:
    world = GridWorld()
    observation, info = world.reset(0)
    prompt = act.render(info["task"], "", observation, world.admissible())
    code = f"""
import sys
from transformers import AutoModelForCausalLM, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained({str(MODELS / name)!r})
model = AutoModelForCausalLM.from_pretrained({str(MODELS / name)!r})
chat = {[{"role": "system", "content": act.SYSTEM}, {"role": "user", "content": prompt}]!r}
ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt")
print(tokenizer.decode(model.generate(**ids, max_new_tokens=24)[0][ids["input_ids"].shape[1]:]))
assert not any(module.split(".")[0] in ("memp", "evals", "tasks") for module in sys.modules)
"""
    ran = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True, cwd=MODELS
    )
    assert "action: " in ran.stdout


@each_model
def test_the_training_is_noted_beside_the_model(name: str) -> None:
    notes = json.loads((MODELS / name / "training.json").read_text())
    assert notes["curve"][-1]["step"] == notes["recipe"]["steps"]
    assert f"python -m evals.training {name}" in (MODELS / name / "README.md").read_text()


@each_model
def test_a_model_answers_alike_however_the_prose_is_worded(name: str) -> None:
    chat = loaded(name)
    observation, info = GridWorld().reset(0)
    plain = act.render(info["task"], "", observation, ["move_up"])
    reworded = plain.replace("Possible actions", "You may now choose among these").replace(
        "Task:", "Well, Task:"
    )
    first, second = (
        chat.reply([{"role": "system", "content": system}, {"role": "user", "content": user}]).text
        for system, user in ((act.SYSTEM, plain), ("Do as you are told.", reworded))
    )
    assert first == second


@each_model
def test_a_model_does_not_read_how_a_procedure_fared(name: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(MODELS / name)
    used = procedure().model_copy(update={"usage": Usage(uses=12, successes=9)})

    assert [tokenizer(outcome(each))["input_ids"] for each in (used, procedure())] == [[], []]


@each_model
def test_a_script_that_a_model_distils_names_the_sign_that_worked(name: str) -> None:
    told = right = 0
    for trajectory in experts():
        sign = rules(0)[style_of(trajectory)].sign
        if sign not in [step.action for step in trajectory.steps]:
            continue
        script = ask(loaded(name), distil.render(trajectory), distil.parse, distil.SCHEMA)
        told += 1
        right += any(SIGN_WORDS[sign] in step for step in script.steps)
    assert told > 10
    assert right >= 0.9 * told


@each_model
def test_the_facts_of_a_task_name_its_style_and_place(name: str) -> None:
    right = 0
    for trajectory in experts():
        found = ask(loaded(name), facts.render(trajectory.task), facts.parse, facts.SCHEMA)
        place = trajectory.task_id.split("/")[1].replace("-", " ")
        right += style_of(trajectory) in found and place in found
    assert right >= 0.9 * len(experts())


@pytest.mark.slow
def test_guidance_of_the_same_place_helps_the_base_model() -> None:
    env = GridWorld(max_steps=25)
    tasks = env.tasks("dev")[:16]
    with ProceduralMemory.open(":memory:", update="vanilla") as memory:
        memory.update([expert_trajectory(GridWorld(), task.id) for task in env.tasks("train")])
        chat = loaded("memp-base")
        alone = sum(succeeds(chat, env, task.id, []) for task in tasks)
        helped = 0
        for task in tasks:
            _, info = env.reset(0, {"task": task.id})
            helped += succeeds(chat, env, task.id, list(memory.retrieve(info["task"], 2)))
    assert helped > alone
