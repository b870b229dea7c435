"""The facts a task is about, read from its text without a model."""

from __future__ import annotations

import re
import unicodedata

VERSION = 1  # raised with every change of what is extracted; stored with the keys made from it

LETTER = (
    r"[\w\u0300-\u036f\u0591-\u05c7\u064b-\u065f\u0900-\u0963\u0966-\u0dff"
    r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]"
)
"""A letter, a digit, or one of the accents and vowel signs that `\\w` leaves out."""

FUNCTION_WORDS = frozenset(
    """
    a about above across after again all along also am an and any are around as at be because been before
    being below between both but by can could did do does doing down during each either else etc even every
    for from further had has have having he her here hers him his how i if in inside into is it its itself
    just may me might must my near neither nor of on once only onto or other our ours out outside over own
    per please shall she should so some such than that the their theirs them then there these they this
    those through to too toward towards under until up upon us very via was we were what when where which
    while who whom whose why will with within would you your yours
    """.split()
)
"""English words that hold others together; those that turn a task round ('no', 'off', 'without') stay."""

BOILERPLATE = frozenset(
    """
    according additionally ensure finally first firstly following given goal instruction instructions lastly
    let need needed needs next task tasks try use using want wants
    """.split()
)
"""Words that task texts share whatever they are about."""

DROPPED = FUNCTION_WORDS | BOILERPLATE

PHRASES = re.compile(
    r"\b(?:in order to|(?:make|be) sure|as (?:soon|quickly) as possible|when you are done)\b"
)
"""Boilerplate of words that alone would be facts, as in 'order pizza'."""

UNITS = r"""
    (?:degrees?[ ])?(?:celsius|fahrenheit|kelvin) | degrees? | percent
  | [mck]?m | [mk]?g | m?l | [kmgt]b | seconds? | minutes? | hours? | days? | weeks? | months? | years?
  | inch(?:es)? | foot | feet | miles? | met(?:er|re)s? | lit(?:er|re)s? | (?:kilo)?grams? | pounds? | ounces?
  | dollars? | euros? | usd | eur | people | persons?
"""

FACT = re.compile(
    rf"""
    [$€£¥]?\d+(?:[.,:/]\d+)*(?:%|°[cf]?|[ -]?(?:{UNITS})(?!{LETTER}))?(?!{LETTER})  # a number, its unit
  | {LETTER}+(?:[-']{LETTER}+)*                                                      # a word
    """,
    re.VERBOSE,
)


def keywords(text: str, limit: int = 8) -> tuple[str, ...]:
    """Return the facts of a task: its first objects, places, actions and qualities.

    Single words: joined to phrases of two ('hot tomato') they found procedures of the same kind on
    ALFWorld with a mean average precision of 0.67 instead of 0.73, of the same kind and object with
    0.78 instead of 0.82 (`by_facts` in `evals.alfworld_retrieval`). The first ones: what a text says
    after some eight facts is detail.

    Args:
        text: What was asked for, in any language; the lists of words to drop are English.
        limit: Most facts returned, at least 1.

    Returns:
        Facts in lower case, in order of appearance, each once. A text without any yields itself,
        its white space folded; only a blank text yields none.
    """
    folded = unicodedata.normalize("NFKC", text).lower()
    found = (
        fact.removesuffix("'s") for fact in FACT.findall(PHRASES.sub(".", folded.replace("\u2019", "'")))
    )
    facts = dict.fromkeys(fact for fact in found if fact not in DROPPED)
    return tuple(facts)[:limit] or tuple(filter(None, [" ".join(folded.split())]))
