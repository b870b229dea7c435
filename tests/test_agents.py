"""Agents: what they do with what they are shown, in a real environment where one is needed."""

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memp import Match, ScriptedChat, Step, Trajectory
from memp.agents import Agent, LLMAgent, RandomAgent, ReplayAgent
from memp.agents.adapt import Substitution, alike, choice, nearest, way_back
from memp.agents.replay import moves
from memp.build import Builder
from memp.errors import ReplyFormatError
from tasks.base import expert_trajectory
from tasks.gridworld import GridWorld


def match(trajectory: Trajectory) -> Match:
    return Match(procedure=Builder("trajectory", None)(trajectory, datetime.now(UTC)), score=1.0)


def lived(task: str, *steps: tuple[str, str], start: str = "") -> Trajectory:
    return Trajectory(
        task=task, steps=tuple(Step(action=a, observation=o) for a, o in steps), reward=1.0, start=start
    )


def actions(
    agent: Agent, task: str, matches: Sequence[Match], replies: Sequence[str], admissible: Sequence[str]
) -> list[str]:
    """What an agent does when the environment answers with `replies`, one after the other."""
    policy = agent.start(task, matches)
    done: list[str] = []
    for reply in replies:
        action = policy.act(reply, lambda: admissible)
        if action is None:
            break
        done.append(action)
    return done


# --- adapting ---


def test_what_two_tasks_call_differently_is_substituted() -> None:
    adapted = Substitution("put a clean mug in the coffee machine", "put a clean plate in the microwave")
    assert adapted("put mug 1 in coffee machine 1") == "put plate 1 in microwave 1"


def test_substitution_leaves_parts_of_words_alone() -> None:
    assert Substitution("heat the cup", "heat the pot")("open cupboard") == "open cupboard"


def test_swapped_words_are_substituted_at_once() -> None:
    adapted = Substitution(
        "If it conducts electricity, place it in the red box. If it does not, place it in the green box.",
        "If it conducts electricity, place it in the green box. If it does not, place it in the red box.",
    )
    assert adapted("move it to red box") == "move it to green box"


@given(st.text(max_size=40), st.text(max_size=40), st.text(max_size=40))
def test_substitution_takes_any_text(old: str, new: str, text: str) -> None:
    assert isinstance(Substitution(old, new)(text), str)


def test_the_same_task_changes_nothing() -> None:
    assert Substitution("heat an egg", "heat an egg")("take egg 1") == "take egg 1"


def test_nearest_keeps_what_the_reply_repeated() -> None:
    options = ["focus on inventory", "focus on thermometer", "focus on chair in inventory"]
    wanted, reply = "focus on thermometer in inventory", "You focus on the thermometer."
    assert nearest(wanted, reply, options) == "focus on thermometer"


def test_nearest_is_none_where_the_object_is_missing() -> None:
    assert nearest("take mug", "You pick up the mug.", ["take plate", "open drawer"]) is None


def test_nearest_takes_the_exact_action_first() -> None:
    options = ["use thermometer on ice cream now", "use thermometer on ice"]
    assert nearest("use thermometer on ice", "The ice is cold.", options) == "use thermometer on ice"


def test_a_word_that_stood_in_once_stands_in_again() -> None:
    adapted = Substitution("light the bulb", "light the bulb")
    adapted.learn("connect battery to orange wire", "connect battery to red wire")
    assert adapted("connect orange wire to bulb") == "connect red wire to bulb"


def test_what_stood_in_for_a_substituted_word_stands_in_again() -> None:
    adapted = Substitution("find orange wire", "find red wire")
    adapted.learn("connect red wire", "connect blue wire")
    assert adapted("use orange wire") == "use blue wire"


def test_letters_that_fold_to_others_do_no_harm() -> None:
    assert Substitution("heat glass", "heat mug")("take gla\u017fs") == "take gla\u017fs"


def test_a_refusal_is_not_alike_an_effect() -> None:
    assert not alike("No known action matches that input.", "You move the thermometer to the inventory.")


def test_the_way_back_names_the_place_and_is_worded_like_a_move() -> None:
    options = ["look around", "mix kitchen", "teleport to kitchen", "put cup in kitchen sink"]
    found = way_back(
        "This room is called the kitchen.", "This room is called the hall.", options, ["go to hall"]
    )
    assert found == "teleport to kitchen"


def test_there_is_no_way_back_from_the_same_place() -> None:
    scene = "This room is called the kitchen."
    assert way_back(scene, scene, ["go to hall"], ["go to hall"]) is None


def test_a_move_is_what_led_to_a_scene_of_its_name() -> None:
    scene = "This room is called the kitchen. " + "There is a cup on the table. " * 5
    episode = lived("t", ("go to kitchen", "You go there."), ("wait", "Time passes."), ("look around", scene))
    assert moves(episode) == ["go to kitchen"]


def test_a_question_which_was_meant_is_answered_with_the_likest_choice() -> None:
    reply = "Which do you mean?\n0:\tmove seed to jar\n1:\tmove seed to flower pot 2\n"
    assert choice(reply, "move seed to flower pot 2") == "1"


def test_a_single_numbered_line_is_no_question() -> None:
    assert choice("1: the first step", "step") is None


# --- the replay agent ---


def test_replay_repeats_the_procedure_of_the_same_task() -> None:
    episode = lived("heat an egg", ("take egg", "You take the egg."), ("heat egg", "The egg is hot."))
    done = actions(
        ReplayAgent(), "heat an egg", [match(episode)], ["", "You take the egg.", "The egg is hot."], []
    )
    assert done == ["take egg", "heat egg"]


def test_replay_adapts_the_procedure_of_another_task() -> None:
    episode = lived("heat an egg", ("take egg", "You take the egg."))
    assert actions(ReplayAgent(), "heat an apple", [match(episode)], [""], []) == ["take apple"]


def test_replay_takes_the_nearest_admissible_action_where_a_step_is_refused() -> None:
    wanted, instead = "use thermometer in inventory on ice", "use thermometer on ice"
    episode = lived("measure ice", (wanted, "The thermometer says that the ice has 0 degrees."))
    options = ["use thermometer on stove", instead]
    done = actions(ReplayAgent(), "measure ice", [match(episode)], ["", "Nothing happens."], options)
    assert done == [wanted, instead]


def test_replay_goes_back_to_where_the_procedure_began() -> None:
    episode = lived("get warm", ("use stove", "The stove is on."), start="This room is called the kitchen.")
    done = actions(
        ReplayAgent(),
        "get warm",
        [match(episode)],
        ["This room is called the hall.", "Nothing of that kind.", "You enter.", "The stove is on."],
        ["walk to kitchen", "sleep"],
    )
    assert done == ["use stove", "walk to kitchen", "use stove"]


def test_replay_tries_the_next_procedure_when_one_no_longer_applies() -> None:
    stale = lived("a", *[(f"pull lever {n}", f"Lever {n} moves.") for n in range(5)])
    fresh = lived("a", ("push button", "The door opens."))
    done = actions(ReplayAgent(patience=2), "a", [match(stale), match(fresh)], ["No."] * 9, [])
    assert done == ["pull lever 0", "pull lever 1", "push button"]


def test_replay_does_as_another_procedure_did_where_its_own_thing_is_missing() -> None:
    mine = lived(
        "find an animal", ("focus on dove", "You focus on the dove."), ("take dove", "You take the dove.")
    )
    other = lived("find an animal", ("focus on wolf", "You focus on the wolf."))
    replies = ["", "Unknown.", "You focus on the wolf.", "You take the wolf."]
    done = actions(
        ReplayAgent(), "find an animal", [match(mine), match(other)], replies, ["focus on wolf", "wait"]
    )
    assert done == ["focus on dove", "focus on wolf", "take wolf"]


def test_replay_never_exchanges_what_the_task_names() -> None:
    mine = lived("heat the egg", ("take egg", "You take the egg."))
    other = lived("heat the cup", ("take cup", "You take the cup."), ("take pan", "You take the pan."))
    replies = ["", "Unknown.", "Unknown."]
    done = actions(ReplayAgent(), "heat the egg", [match(mine), match(other)], replies, ["take pan"])
    assert done == ["take egg"]


def test_verbatim_replay_changes_nothing() -> None:
    episode = lived("heat an egg", ("take egg", "You take the egg."), ("heat egg", "It is hot."))
    done = actions(
        ReplayAgent(adapt=False), "heat an apple", [match(episode)], ["", "No.", "No."], ["take apple"]
    )
    assert done == ["take egg", "heat egg"]


def test_replay_answers_which_thing_was_meant() -> None:
    episode = lived("plant", ("move seed to pot", "You move the seed to the pot."))
    done = actions(
        ReplayAgent(), "plant", [match(episode)], ["", "Which?\n0: move seed to jar\n1: move seed to pot"], []
    )
    assert done == ["move seed to pot", "1"]


def test_replay_hands_over_to_the_fallback_after_the_last_procedure() -> None:
    fallback = LLMAgent(ScriptedChat(["Action: call for help"]))
    episode = lived("a", ("push button", "The door opens."))
    done = actions(ReplayAgent(fallback), "a", [match(episode)], ["", "The door opens."], [])
    assert done == ["push button", "call for help"]


def test_replay_costs_no_tokens_while_the_procedure_applies() -> None:
    policy = ReplayAgent(LLMAgent(ScriptedChat(["Action: x"]))).start("a", [match(lived("a", ("b", "c")))])
    policy.act("", tuple)
    assert (policy.tokens_in, policy.tokens_out) == (0, 0)
    policy.act("c", tuple)
    assert policy.tokens_in > 0


def test_replay_ends_the_episode_where_nothing_is_left() -> None:
    assert ReplayAgent().start("a").act("", tuple) is None


def test_replay_of_an_experts_episode_solves_the_same_gridworld_task() -> None:
    env = GridWorld()
    task = env.tasks("train")[0].id
    policy = ReplayAgent().start("t", [match(expert_trajectory(env, task).model_copy(update={"task": "t"}))])
    observation, info = env.reset(0, {"task": task})
    while (action := policy.act(observation, env.admissible)) is not None:
        observation, _, terminated, _, info = env.step(action)
        if terminated:
            break
    assert info["success"]


# --- the other agents ---


def test_random_takes_only_admissible_actions() -> None:
    assert set(actions(RandomAgent(), "a", [], [""] * 20, ["x", "y"])) == {"x", "y"}


def test_random_repeats_itself_for_the_same_seed() -> None:
    agent, options = RandomAgent(), [str(number) for number in range(9)]
    assert actions(agent, "a", [], [""] * 9, options) == actions(agent, "a", [], [""] * 9, options)


def test_llm_sees_guidance_task_observation_and_possible_actions() -> None:
    chat = ScriptedChat(["Action: take egg"])
    LLMAgent(chat).start("heat an apple", [match(lived("heat an egg", ("take egg", "Taken.")))]).act(
        "You see a stove.", lambda: ["take apple"]
    )
    prompt = chat.calls[0].messages[-1]["content"]
    assert all(
        part in prompt for part in ("<procedural-memory>", "heat an apple", "You see a stove.", "take apple")
    )


def test_llm_does_what_its_last_action_line_says() -> None:
    chat = ScriptedChat(["Action: go\nno, wait.\n**Action:** `take egg`"])
    assert LLMAgent(chat).start("a").act("", tuple) == "take egg"


def test_llm_without_an_action_line_does_its_last_line(caplog: pytest.LogCaptureFixture) -> None:
    assert LLMAgent(ScriptedChat(["I will now\nlook around"])).start("a").act("", tuple) == "look around"
    assert "Action: ..." in caplog.text


def test_a_model_that_answers_nothing_has_given_up() -> None:
    def nothing(*_: object) -> str:
        raise ReplyFormatError("an answer", "")

    assert LLMAgent(ScriptedChat(nothing)).start("a").act("", tuple) is None


def test_llm_counts_its_tokens() -> None:
    policy = LLMAgent(ScriptedChat(["Action: a", "Action: b"])).start("t")
    policy.act("o", tuple)
    first = policy.tokens_in
    policy.act("o", tuple)
    assert policy.tokens_in > 2 * first  # the conversation is sent again, and longer
