"""Procedures: what a memory holds, where each came from, and how it fared."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, model_validator

from memp.trajectory import MAX_TEXT, Record, Trajectory

MOST_USES = 10**11
"""More than this nobody has lived through; a store adds up those of tens of millions of procedures in 64 bits."""

NAMESPACE = r"^(?:[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*)?$"
"""What a namespace looks like, the empty one too: parts with '.' between them."""

MAX_NAMESPACE = 64
"""In characters."""

Granularity = Literal["trajectory", "script", "proceduralization"]


class Script(Record):
    """A distilled, general how-to."""

    goal: str = Field(min_length=1, max_length=MAX_TEXT)
    """The kind of task it is good for."""

    steps: tuple[Annotated[str, Field(max_length=MAX_TEXT)], ...] = Field(min_length=1)
    """What to do, in order."""


class Usage(Record):
    """How often a procedure was shown, and how those episodes ended."""

    uses: int = Field(default=0, ge=0, le=MOST_USES)
    successes: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _no_more_successes(self) -> Usage:
        if self.successes > self.uses:
            raise ValueError(f"{self.successes} successes in {self.uses} uses")
        return self

    @property
    def success(self) -> float:
        """Smoothed success rate (s + 1) / (u + 2): the mean of a Beta(1, 1) posterior."""
        return (self.successes + 1) / (self.uses + 2)


class Provenance(Record):
    """Where a procedure came from."""

    granularity: Granularity

    created: datetime
    """When this revision was built, in UTC."""

    model: str = ""
    """Name of the chat model that wrote the script; empty if none did."""

    prompts: dict[str, int] = Field(default_factory=dict)
    """Versions of the prompts used, by name."""


class Procedure(Record):
    """One item of memory. Its id follows from its source and its namespace, so one task has one procedure in each."""

    id: str

    task: str = Field(max_length=MAX_TEXT)
    """The task it was built from."""

    source: str = Field(max_length=MAX_TEXT)
    """The identity of that task; see `Trajectory.source`."""

    namespace: str = Field(default="", pattern=NAMESPACE, max_length=MAX_NAMESPACE)
    """Keeps what was brought in from elsewhere apart from our own of the same task; ours is empty."""

    reward: float = Field(ge=0, le=1)
    """The reward of the trajectory it was built from."""

    length: int = Field(ge=0)
    """The number of steps of that trajectory."""

    provenance: Provenance

    trajectory: Trajectory | None = None
    script: Script | None = None

    revision: int = Field(default=1, ge=1)
    """1 for the first; each change appends one."""

    usage: Usage = Usage()

    @property
    def goal(self) -> str:
        """What it is good for: the goal of its script, or its task where it has none."""
        return self.script.goal if self.script is not None else self.task

    def rewritten(self, script: Script, now: datetime) -> Procedure:
        """Its next revision, with a script that somebody wrote and no chat model distilled."""
        granularity: Granularity = "script" if self.trajectory is None else "proceduralization"
        provenance = Provenance(granularity=granularity, created=now)
        return self.model_copy(
            update={"script": script, "provenance": provenance, "revision": self.revision + 1}
        )


class Match(Record):
    """A procedure found for a task."""

    procedure: Procedure

    score: float = Field(ge=-1, le=1)
    """Similarity S(t_new, t_i); 0 where procedures were sampled at random."""


class Revision(Record):
    """One entry of a procedure's history."""

    procedure: Procedure
    reason: str
    """Why this revision was written."""


class Tombstone(Record):
    """Why a procedure was retired."""

    id: str
    source: str
    reason: str
    retired: datetime


def rank(procedure: Procedure) -> tuple[float, int]:
    """What makes one procedure better than another of the same task: more reward, then fewer steps."""
    return procedure.reward, -procedure.length


def procedure_id(source: str, namespace: str = "") -> str:
    """The id of the procedure of one source task: the same on every machine, another one in each namespace."""
    hashed = hashlib.blake2b(
        source.encode("utf-8", "surrogatepass"), digest_size=8, key=namespace.encode("ascii")
    )
    return hashed.hexdigest()
