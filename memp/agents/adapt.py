"""Carrying what was done for one task over to another: alignment, substitution, the nearest action."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from difflib import SequenceMatcher

FUNCTION_WORDS = frozenset("a an and at from in into of on onto out the to with".split())

UNREPEATED = 0.3
"""What a word of an action weighs that the reply to it did not repeat."""

EXTRA = 0.1
"""What each word costs that an admissible action has beyond the one wanted."""

NEAR = 0.7
"""The least share of the wanted action's weight that an admissible one must keep to stand for it."""

COMPARED_WORDS = 30
"""How much of two replies is compared: the effect of an action is told first."""

ALIKE = 0.4
"""From this similarity on, a reply says that the action did what it did before."""

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
        self._phrases = dict(_replaced(words(old_task), words(new_task)))

    def __call__(self, text: str) -> str:
        """Carry a text of the old task over to the new one."""
        if not self._phrases:
            return text
        longest_first = sorted(self._phrases, key=len, reverse=True)
        pattern = "|".join(re.escape(phrase) for phrase in longest_first)
        return re.sub(
            rf"(?<![\w-])(?:{pattern})(?![\w-])",
            lambda found: self._phrases[found.group().lower()],
            text,
            flags=re.IGNORECASE,
        )

    def learn(self, wanted: str, done: str) -> None:
        """Remember a word for which another stood in, so that it does again in the steps to come."""
        verb = words(wanted)[:1]
        for old, new in _replaced(content_words(wanted), content_words(done)):
            if " " not in old and " " not in new and [old] != verb:
                self._phrases[old] = new


def _replaced(old: list[str], new: list[str]) -> list[tuple[str, str]]:
    matcher = SequenceMatcher(None, old, new, autojunk=False)
    return [
        (" ".join(old[a:b]), " ".join(new[c:d]))
        for tag, a, b, c, d in matcher.get_opcodes()
        if tag == "replace"
    ]


def alike(reply: str, expected: str) -> bool:
    """Whether a reply says that an action had the effect it had before."""
    matcher = SequenceMatcher(
        None, words(reply)[:COMPARED_WORDS], words(expected)[:COMPARED_WORDS], autojunk=False
    )
    return matcher.ratio() >= ALIKE


def nearest(action: str, expected: str, admissible: Sequence[str]) -> str | None:
    """Return the admissible action that comes nearest to `action`, or None if none comes near.

    The words that count are those the reply repeated: to `focus on thermometer in inventory` it was "You focus
    on the thermometer.", so `focus on thermometer` comes near and `focus on inventory` does not.

    Args:
        action: What cannot be done as it stands.
        expected: The reply to it when it could be done.
        admissible: What can be done instead.
    """
    repeated = set(words(expected))
    weights = [(word, 1.0 if _in(word, repeated) else UNREPEATED) for word in content_words(action)]
    total = sum(weight for _, weight in weights)
    best, best_score = None, 0.0
    for option in admissible:
        left = Counter(content_words(option))
        kept = 0.0
        for word, weight in weights:
            if left[word] > 0:
                left[word] -= 1
                kept += weight
        score = kept / total - EXTRA * sum(left.values()) if total else 0.0
        if score >= NEAR and score > best_score:
            best, best_score = option, score
    return best


def _in(word: str, repeated: set[str]) -> bool:
    """Whether a reply repeats a word, also inflected (activate, activated)."""
    stem = word[: max(4, len(word) - 2)]
    return word in repeated or (len(word) > 3 and any(other.startswith(stem) for other in repeated))


def way_back(expected: str, actual: str, admissible: Sequence[str]) -> str | None:
    """Return the shortest admissible action that names what sets the expected scene apart from the actual.

    Where a procedure began in the kitchen ("This room is called the kitchen.") and the agent stands in the
    hall, that is an action that names the kitchen and little else.
    """
    here = set(_first_sentence(actual))
    missing = {word for word in _first_sentence(expected) if word not in here}
    if not missing:
        return None
    options = [option for option in admissible if missing <= set(words(option))]
    return min(options, key=lambda option: (len(words(option)), option), default=None)


def _first_sentence(text: str) -> list[str]:
    return words(re.split(r"[.\n]", text.strip(), maxsplit=1)[0])
