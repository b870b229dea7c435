"""How many tokens a text costs, without asking anyone.

A server's own count comes first, and is not made here. Where a model's BPE table already lies on
disk, `tiktoken` counts; nothing is ever fetched for that, because a fetch can hang. Everywhere
else the count is an estimate, and says so.
"""

from __future__ import annotations

import math
import os
import re
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha1, sha256
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from tiktoken import Encoding

    from memp.chat.base import Message


class TokenCount(NamedTuple):
    """A number of tokens, and how it came about."""

    n: int
    counted_by: Literal["tiktoken", "estimate"]


PER_MESSAGE, PER_REPLY = 4, 3
"""Tokens around each message and before the answer: what the gpt-4 chat format adds, rounded up."""

SLICE = 100_000
"""Most characters given to tiktoken at once: a million spaces overflow its stack."""


def count(text: str, model: str = "") -> TokenCount:
    """Count the tokens of a text.

    Args:
        text: Any text.
        model: A model's name, with or without `openai:`; an unknown one, or none, gives an estimate.
    """
    encoding = _encoding(model.removeprefix("openai:"), _cache_dir())
    if encoding is None:
        return TokenCount(estimate(text), "estimate")
    slices = (text[start : start + SLICE] for start in range(0, len(text), SLICE))
    return TokenCount(sum(len(encoding.encode_ordinary(part)) for part in slices), "tiktoken")


def count_messages(messages: Sequence[Message], model: str = "") -> TokenCount:
    """Count the tokens of a conversation, with what surrounds each message."""
    counts = [count(message["content"], model) for message in messages]
    n = sum(each.n for each in counts) + PER_MESSAGE * len(counts) + PER_REPLY
    return TokenCount(n, counts[0].counted_by if counts else "estimate")


_PIECES = re.compile(
    r"""
      (?P<blob>[A-Za-z0-9]{41,})              # a key, a hash, base64: no words in it
    | (?P<word>[A-Z]?[a-z]+)
    | (?P<capitals>[A-Z]+)
    | (?P<digits>[0-9]+)
    | (?P<gap>[ ]{2,}|[ ](?=[0-9])|\t+|[\r\n]+)
    | (?P<joined>[ ])                         # one space is part of the word after it, but not of a number
    | (?P<mark>[\x00-\x7f])                   # ASCII punctuation, control characters
    | (?P<letter>[\u0250-\u10ff\u1200-\u1dff])  # Greek to Ethiopic: alphabets, some characters to a token
    | (?P<sign>.)                             # Chinese, kana, Hangul, emoji, accents: about one token each
    """,
    re.VERBOSE | re.DOTALL,
)
_WEIGHTS = {"joined": 0, "mark": 0.75, "letter": 0.9, "sign": 1.4}
_MARGIN = 1.2  # so that JSON, trajectories and Chinese were never counted too low, code almost never


def estimate(text: str) -> int:
    """Estimate the tokens of a text, rather too many than too few; never more than its bytes.

    Measured against the true o200k count, on up to 3000 pieces of 200 characters of each kind
    (lowest ratio, median): trajectories 1.12, 1.23; JSON 1.03, 1.40; C 0.99, 1.47; Python 0.84,
    1.45 (13 pieces below 1, tables of glyph names and the like); Chinese 1.47, 2.07. Against cl100k
    the first four differ by 0.04 at most, and Chinese is 1.00 at the lowest. It can be too low for
    dense base64 (0.91; cl100k 0.87), rows of mathematical signs (0.95), European languages other
    than English (0.70; cl100k 0.57), and on cl100k for Hindi, Greek and Hebrew (0.81).
    """
    tokens = 0.0
    for piece in _PIECES.finditer(text):
        kind, length = piece.lastgroup or "", piece.end() - piece.start()
        if kind in _WEIGHTS:
            tokens += _WEIGHTS[kind]
        elif kind == "word":
            tokens += math.ceil(length / 7)
        elif kind == "gap":
            tokens += math.ceil(length / 16)
        elif kind == "blob":
            tokens += length / 1.5
        else:
            tokens += math.ceil(length / 3)  # capitals and digits
    return min(math.ceil(tokens * _MARGIN), len(text.encode("utf-8", "surrogatepass")))


def _cache_dir() -> str:
    """Return the folder where `tiktoken` keeps its tables; empty where it keeps none.

    Source:
        `tiktoken.load.read_file_cached`, version 0.14.
    """
    for variable in ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR"):
        if variable in os.environ:
            return os.environ[variable]
    return str(Path(tempfile.gettempdir()) / "data-gym-cache")


@lru_cache(maxsize=16)
def _encoding(model: str, cache_dir: str) -> Encoding | None:
    """Return the encoding of a model if its table lies whole in `cache_dir`; touch no network."""
    if not model or not cache_dir:
        return None
    from tiktoken import Encoding
    from tiktoken.load import load_tiktoken_bpe
    from tiktoken.model import encoding_name_for_model

    def load(url: str, expected_hash: str) -> dict[bytes, int]:
        table = Path(cache_dir, sha1(url.encode(), usedforsecurity=False).hexdigest()).read_bytes()
        if sha256(table).hexdigest() != expected_hash:
            raise ValueError(f"the table of {model!r} in {cache_dir!r} is damaged")
        return load_tiktoken_bpe(url, expected_hash)  # which now finds it in the cache

    try:
        name = encoding_name_for_model(model)
        # A copy of tiktoken's own list of encodings, so that only here a table is loaded from disk alone.
        spec = find_spec("tiktoken_ext.openai_public")
        if spec is None or spec.loader is None:
            return None
        public = module_from_spec(spec)
        spec.loader.exec_module(public)
        vars(public)["load_tiktoken_bpe"] = load
        vars(public)["data_gym_to_mergeable_bpe_ranks"] = _absent  # gpt2: two tables, long out of use
        return Encoding(**public.ENCODING_CONSTRUCTORS[name]())
    except (KeyError, OSError, ValueError):  # no such model; no table; a damaged one
        return None


def _absent(**_: object) -> dict[bytes, int]:
    raise FileNotFoundError("tables of this kind are not looked for")
