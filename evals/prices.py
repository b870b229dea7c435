"""What tokens cost in money, where the manifest of a study says it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ConfigDict, Field, ValidationError

from memp.errors import InputError
from memp.trajectory import Record


class Price(Record):
    """What a chat model takes for its tokens, in US dollars."""

    model_config = ConfigDict(populate_by_name=True)

    per_million_in: float = Field(ge=0, allow_inf_nan=False, alias="in")
    per_million_out: float = Field(ge=0, allow_inf_nan=False, alias="out")

    as_of: str = ""
    """The day it was looked up, for prices change."""

    def of(self, tokens_in: float, tokens_out: float) -> float:
        """Return what these tokens cost."""
        return (tokens_in * self.per_million_in + tokens_out * self.per_million_out) / 1e6

    def __str__(self) -> str:
        as_of = f" (as of {self.as_of})" if self.as_of else ""
        return f"USD {self.per_million_in:g} in and {self.per_million_out:g} out for a million tokens{as_of}"


def price_of(manifest: Mapping[str, Any]) -> Price | None:
    """Return the price that a manifest states as `{"in": ..., "out": ..., "as_of": ...}`; None if it states none.

    Raises:
        InputError: if what it states is no price.
    """
    stated = manifest.get("price")
    if stated is None:
        return None
    try:
        return Price.model_validate(stated)
    except ValidationError as error:
        raise InputError(f"the manifest's price {stated!r} is none: {error}") from error
