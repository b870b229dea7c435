"""The words of the bundled models, and their tokenizer.

A *word* is a word or a fixed phrase of GridWorld's text and of the answers to memp's prompts, in lower case.
What is no word is passed over: prose of a prompt, the list of possible actions (which says nothing that the
observation does not), that a cell holds nothing but floor. So a turn of some forty English words takes
about ten tokens, and a prompt may be worded anew without the models noticing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from memp.guidance import CLOSE, OPEN
from tasks.gridworld.text import ADJECTIVES, STYLES
from tasks.gridworld.world import ACTIONS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD, SYSTEM, USER, ASSISTANT, END = SPECIAL = (
    "<|pad|>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|end|>",
)

TRAINING_ADJECTIVES = (
    *("airy", "bare", "bitter", "bold", "brown", "calm", "chilly", "clean", "coarse", "cosy", "damp", "dim"),
    *(
        "elder",
        "fair",
        "foggy",
        "grand",
        "grey",
        "handsome",
        "heavy",
        "idle",
        "keen",
        "lofty",
        "mellow",
        "modest",
    ),
)
"""Adjectives of the training places: none that an evaluation uses."""

TRAINING_STYLES = (
    *("academy", "arsenal", "brewery", "chapel", "dairy", "embassy"),
    *("foundry", "granary", "harbour", "hospital", "inn", "villa"),
)
"""Styles of the training places: none that an evaluation uses."""

NAMES = {
    "adjectives": (*ADJECTIVES, *TRAINING_ADJECTIVES),
    "styles": (*STYLES, *TRAINING_STYLES),
}
"""All words of place names. All that a name says is whether two are the same, so these are not learned."""

REGIONS = tuple(
    f"in the {row} {column}" for row in ("lower", "middle", "upper") for column in ("left", "center", "right")
)

PROMPTS = (
    *("task:", "the task now:", "how to", "what was done:", OPEN, CLOSE),
    *("reward:", "shortest general procedure", "list the facts", "from its memory"),
)
"""What tells the parts of a prompt apart."""

TASKS = (
    *("unlock", "reach", "open the locked door", "is shut", "its door is open", "its door is unbarred"),
    *("fetch", "find", "return", "wanted", "carry it", "come back", "its box", "at the start"),
    *("deliver", "put the box", "put it there", "on the goal", "greet", "the keeper", "a greeting"),
)
"""What the wordings of a task are told apart by."""

THINGS = ("the key", "the door", "the box", "the goal", "the start")

VIEWS = (
    *("here is", "up is", "down is", "left is", "right is", "a wall", "you carry"),
    *("the door is barred", "the door is locked", "the door is open"),
)

EFFECTS = (
    *("pick up the key", "open the door", "pick up the box", "put down the box"),
    *("knock on the door", "pull the lever", "ring the bell", "light the lamp"),
    *("lifts the bar", "takes the box", "sends you back to the start", "nothing happens"),
    *("the task is done", "no steps are left"),
)

SCRIPTS = (
    *("goal:", "of any", "beside the door", "beside the box", "at the door", "to lift the bar", "do not"),
    *("go to", "return to", "search everywhere for", *(f"\n{number}." for number in range(1, 10)), "\n-"),
)
"""What scripts and facts are made of, beside the words above."""

NOTES = ("same style", "elsewhere", "same place", "another place")
"""What notes from guidance are made of, beside the words above and below."""

TARGETS = (*(f"({number}," for number in range(10)), *(f"{number})" for number in range(10)))
"""Column and row in a thought: other words than in a view, or a model would go on as a view does."""

WORDS = (
    *(f"\naction: {action}" for action in ACTIONS),
    *(f"> {action}" for action in ACTIONS),
    *(f"column {number}" for number in range(10)),
    *(f"row {number}" for number in range(10)),
    *REGIONS,
    *PROMPTS,
    *TASKS,
    *THINGS,
    *VIEWS,
    *EFFECTS,
    *SCRIPTS,
    *NOTES,
    *TARGETS,
    *NAMES["adjectives"],
    *NAMES["styles"],
)

EMPTY = {**{f"{side} is": "floor" for side in ("up", "down", "left", "right")}, "you carry": "nothing"}
"""Words that are passed over where this follows."""

CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{ '<|' + message['role'] + '|>' + message['content'] }}"
    "{%- if message['role'] == 'assistant' -%}{{ '<|end|>' }}{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|assistant|>' }}{%- endif -%}"
)


def pattern() -> str:
    """The regular expression that finds words, the longest first; shared beginnings are tried but once."""
    letters = _branches({word: word for word in WORDS if word[0].isalpha()})
    others = _branches({word: word for word in WORDS if not word[0].isalpha()})
    return rf"\b(?:{letters})|(?:{others})"


def _branches(words: Mapping[str, str]) -> str:
    """Match what is left of any of some words; left over nothing, a word ends."""
    by_letter: dict[str, dict[str, str]] = {}
    ended = ""
    for rest, word in words.items():
        if rest:
            by_letter.setdefault(rest[0], {})[rest[1:]] = word
        else:
            ended = word
    branches = [re.escape(letter) + _group(_branches(rests)) for letter, rests in by_letter.items()]
    if ended:
        follows = rf"(?! {EMPTY[ended]}\b)" if ended in EMPTY else ""
        branches.append((r"\b" if ended[-1].isalnum() else "") + follows)
    return "|".join(branches)


def _group(branches: str) -> str:
    return f"(?:{branches})" if "|" in branches else branches


def ids(words: Iterable[str]) -> list[int]:
    """The numbers of words in the vocabulary."""
    return [_NUMBERS[word] for word in words]


def vocabulary_size() -> int:
    """How many words there are, special ones included."""
    return len(_NUMBERS)


_NUMBERS = {word: number for number, word in enumerate((*SPECIAL, *WORDS))}


def tokenizer(context: int) -> PreTrainedTokenizerFast:
    """Make the tokenizer of models with `context` positions."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.WordLevel(_NUMBERS, unk_token=PAD))
    made.normalizer = normalizers.Sequence(
        [normalizers.Lowercase(), normalizers.Replace("action:", "\naction:")]  # the form it is answered in
    )
    made.pre_tokenizer = pre_tokenizers.Split(Regex(pattern()), "removed", invert=True)
    wrapped = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=made,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[SYSTEM, USER, ASSISTANT],
        model_max_length=context,
        clean_up_tokenization_spaces=False,
    )
    wrapped.chat_template = CHAT_TEMPLATE
    return wrapped


def save_tokenizer(folder: Path, context: int) -> None:
    """Write the tokenizer beside a model."""
    tokenizer(context).save_pretrained(folder)
