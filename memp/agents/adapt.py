"""Carrying what was done for one task over to another: alignment, substitution, the nearest action."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Sequence
from difflib import SequenceMatcher

FUNCTION_WORDS = frozenset("a an and at from in into of on onto out the to with".split())

UNREPEATED = 0.3
"""What a word of an action weighs that the reply to it did not repeat."""

EXTRA = 0.16
"""What each word costs that an admissible action has beyond the one wanted: one is borne, two are too many."""

NEAR = 0.7
"""The least share of the wanted action's weight that an admissible one must keep to stand for it."""

COMPARED_WORDS = 30
"""How much of two replies is compared: the effect of an action is told first."""

ALIKE = 0.4
"""From this similarity on, a reply says that the action did what it did before."""

_CHOICE = re.compile(r"^\s*(\d+)\s*[:.)]\s*(\S.*)$", re.MULTILINE)

_WORD = re.compile(r"[^\W_]+(?:[-'_][^\W_]+)*")


def words(text: str) -> list[str]:
    """The words of a text, lower-cased."""
    return _WORD.findall(text.lower())


def content_words(text: str) -> list[str]:
    """The words of an action that are not function words."""
    return [word for word in words(text) if word not in FUNCTION_WORDS]


class Substitution:
    """What a new task calls differently: phrases of the old task's text, and what stands in their place.

    The texts are aligned word by word (longest matching blocks); each stretch that was replaced becomes one
    substitution, and all are made at once, longest first, on word boundaries.
    """

    def __init__(self, old_task: str, new_task: str) -> None:
        old = words(old_task)
        self._phrases = {
            " ".join(old[start:end]): instead for start, end, instead in _replaced(old, words(new_task))
        }
        self._learned: dict[str, str] = {}

    def __call__(self, text: str) -> str:
        """Carry a text of the old task over to the new one."""
        return _substituted(_substituted(text, self._phrases), self._learned)

    def learn(self, wanted: str, done: str) -> None:
        """Remember what stood in for what, so that it does again in the steps to come.

        A word is remembered with the one behind it: a red wire for an orange wire is no red bulb.
        """
        before, after = words(wanted), words(done)
        for start, end, stood_in in _replaced(before, after):
            if start > 0:  # never the verb
                behind = before[end : end + 1]
                self._learned[" ".join(before[start:end] + behind)] = " ".join([stood_in, *behind])


def _substituted(text: str, phrases: dict[str, str]) -> str:
    """Make all substitutions at once, longest first, on word boundaries."""
    if not phrases:
        return text
    pattern = "|".join(re.escape(phrase) for phrase in sorted(phrases, key=len, reverse=True))
    return re.sub(
        rf"(?<![\w-])(?:{pattern})(?![\w-])",
        lambda found: phrases.get(found.group().lower(), found.group()),
        text,
        flags=re.IGNORECASE,
    )


def _replaced(old: list[str], new: list[str]) -> list[tuple[int, int, str]]:
    """Where `new` has something else than `old`: start and end in `old`, and what `new` has instead."""
    matcher = SequenceMatcher(None, old, new, autojunk=False)
    return [
        (start, end, " ".join(new[c:d]))
        for tag, start, end, c, d in matcher.get_opcodes()
        if tag == "replace"
    ]


def alike(reply: str, expected: str) -> bool:
    """Whether a reply says that an action had the effect it had before."""
    matcher = SequenceMatcher(
        None, words(reply)[:COMPARED_WORDS], words(expected)[:COMPARED_WORDS], autojunk=False
    )
    return matcher.ratio() >= ALIKE


def nearest(
    action: str, expected: str, admissible: Sequence[str], spoken_for: Collection[str] = ()
) -> str | None:
    """Return the admissible action that comes nearest to `action`, or None if none comes near.

    The words that count are those the reply repeated: to `focus on thermometer in inventory` it was "You focus
    on the thermometer.", so `focus on thermometer` comes near and `focus on inventory` does not.

    Args:
        action: What cannot be done as it stands.
        expected: The reply to it when it could be done.
        admissible: What can be done instead.
        spoken_for: Words that have a part of their own in what is to come; among equals, an action that
            uses them for another part comes last.
    """
    repeated = set(words(expected))
    weights = [(word, 1.0 if _in(word, repeated) else UNREPEATED) for word in content_words(action)]
    total = sum(weight for _, weight in weights)
    best, best_rank = None, (NEAR, -math.inf)
    for option in admissible:
        left = Counter(content_words(option))
        kept = 0.0
        for word, weight in weights:
            if left[word] > 0:
                left[word] -= 1
                kept += weight
        score = kept / total - EXTRA * sum(left.values()) if total else 0.0
        rank = score, -float(sum(left[word] for word in spoken_for))
        if rank > best_rank:
            best, best_rank = option, rank
    return best


def _in(word: str, repeated: set[str]) -> bool:
    """Whether a reply repeats a word, also inflected (activate, activated)."""
    stem = word[: max(4, len(word) - 2)]
    return word in repeated or (len(word) > 3 and any(other.startswith(stem) for other in repeated))


def way_back(expected: str, actual: str, admissible: Sequence[str], moves: Sequence[str]) -> str | None:
    """Return an admissible action that names what sets the expected scene apart from the actual one.

    Where a procedure took place in the kitchen ("This room is called the kitchen.") and the agent stands in
    the hall, that is an action that names the kitchen, worded as much as possible like one of the `moves`:
    `teleport to kitchen` rather than `mix kitchen` for one who knows `go to hall`.
    """
    here = set(first_sentence(actual))
    missing = {word for word in first_sentence(expected) if word not in here}
    if not missing:
        return None
    options = [option for option in admissible if missing <= set(words(option))]
    wordings = [words(move) for move in dict.fromkeys(moves)]

    def familiarity(option: str) -> float:
        return max((_shared(words(option), wording) for wording in wordings), default=0.0)

    return max(options, key=lambda option: (familiarity(option), -len(words(option))), default=None)


def choice(reply: str, action: str) -> str | None:
    """Return the number to answer where a reply asks which of several things was meant; None if it does not."""
    menu = _CHOICE.findall(reply)
    if len(menu) < 2:
        return None
    wanted = words(action)
    number, _ = max(menu, key=lambda entry: _shared(wanted, words(entry[1])))
    return str(number)


def _shared(some: list[str], others: list[str]) -> float:
    """Dice's coefficient of two lists of words."""
    common = sum((Counter(some) & Counter(others)).values())
    return 2 * common / (len(some) + len(others)) if common else 0.0


def first_sentence(text: str) -> list[str]:
    """The words of a text up to its first full stop or line break."""
    return words(re.split(r"[.\n]", text.strip(), maxsplit=1)[0])
