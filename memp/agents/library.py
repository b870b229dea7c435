"""A skill library: the view of a procedural memory whose procedures are skills."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np

from memp.agents.skills import Skill
from memp.embedding.base import FloatMatrix
from memp.embedding.skill import DIMS, SkillEmbedder, vector
from memp.errors import InputError
from memp.memory import ProceduralMemory
from memp.situation import Context, Situation
from memp.trajectory import Trajectory

SAME = 0.9
"""Skills of the same preconditions and effect are of one context where their cosine is above this."""

APPLIES = 0.97
"""A skill applies where its cosine with the situation is at least this: exactly there."""

VARIANTS = 4
"""How many skills of one context and effect are seen."""

DOUBTFUL = 0.5
"""A skill of a smoothed success rate below this fails more often than not."""


class Found(NamedTuple):
    """A skill that applies."""

    skill: Skill

    score: float
    """Its cosine with the situation; 0 where there was none to compare with."""


class SkillLibrary:
    """Adds skills, finds those that apply, and counts how they fare; all of it lies in a procedural memory.

    Not safe to use from several threads.
    """

    def __init__(self, memory: ProceduralMemory, environment: str, *, variants: int = VARIANTS) -> None:
        """See a memory as a library.

        Args:
            memory: Made with the embedder `SkillEmbedder`.
            environment: The name of the environment that the skills are of.
            variants: How many skills of one context and effect are seen.

        Raises:
            InputError: if the memory holds something else than skills of this environment.
        """
        if variants < 1:
            raise InputError(f"variants is {variants!r}; it must be at least 1")
        if not environment.strip() or ": " in environment:
            raise InputError(f"environment is {environment!r}; it must be a name without ': '")
        self.memory = memory
        self.environment = environment
        self._variants = variants
        self._read()
        if strange := sorted({skill.environment for skill in self.skills} - {environment}):
            raise InputError(
                f"{memory.store.name} holds skills of {strange[0]!r}, not of {environment!r}; "
                "open another library for this environment"
            )

    @classmethod
    def open(cls, path: str | Path, environment: str, *, variants: int = VARIANTS) -> Self:
        """Open a library in a file, or in `:memory:`.

        Raises:
            InputError: as the constructor.
            StoreError: if the file cannot be opened; `SpaceMismatch` if it is a memory of another embedder, or a
                library of another version.
        """
        memory = ProceduralMemory.open(path, embedder=SkillEmbedder())
        try:
            return cls(memory, environment, variants=variants)
        except BaseException:
            memory.close()
            raise

    @property
    def skills(self) -> Sequence[Skill]:
        """All that are seen, oldest first."""
        return self._skills

    @property
    def moves(self) -> Mapping[str, tuple[int, int]]:
        """Where actions take the agent, as far as skills show it: cells to the right, and up."""
        return self._moves

    def __len__(self) -> int:
        return len(self._skills)

    def retrieve(self, situation: Situation | None = None, k: int = 5) -> list[Found]:
        """Find the skills that apply.

        Args:
            situation: What the agent sees; without it, all skills are compared by how they fared.
            k: How many at most.

        Returns:
            Best first. With a situation: by similarity; then what did not fail more often than not, and of that the
            shortest. Without: by smoothed success rate.
        """
        if k < 1:
            raise InputError(f"k is {k!r}; it must be at least 1")
        if situation is None:
            return sorted((Found(skill, 0.0) for skill in self._skills), key=_by_success)[:k]
        if situation not in self._applying:
            self._applying[situation] = self._found(situation)
        return self._applying[situation][:k]

    def serves(self, flags: frozenset[str]) -> bool:
        """Whether any skill has these flags among its preconditions."""
        return flags in self._flags

    def learn(self, skills: Iterable[Skill], attempts: Iterable[Trajectory] = ()) -> None:
        """Add skills, and count attempts, in one update of the memory.

        A skill is merged with those of the same preconditions and effect: the same actions add nothing, and of more
        than `variants` ways the best are seen, in the order of `retrieve`. One that keeps failing is retired, and
        what it stood before is seen again.
        """
        new = self._admitted(skills)
        lived = [*(skill.trajectory for skill in new), *attempts]
        if lived:
            self.memory.update(lived)
            self._read()

    def close(self) -> None:
        """Close the memory."""
        self.memory.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _admitted(self, skills: Iterable[Skill]) -> list[Skill]:
        """Those of some skills that are new, and better than the worst of their kind where that is full."""
        new = []
        for skill in dict.fromkeys(skills):
            if skill.environment != self.environment:
                raise InputError(
                    f"a skill of {skill.environment!r} cannot be added to a library of {self.environment!r}"
                )
            alike = self._alike(skill)
            known = any(other.actions == skill.actions for other in alike)
            if not known and (len(alike) < self._variants or _worth(skill) < max(map(_worth, alike))):
                new.append(skill)
        return new

    def _alike(self, skill: Skill) -> list[Skill]:
        """The skills that do the same as one, from where it does."""
        scores = self._vectors @ vector(skill.preconditions)
        return [
            other
            for other in map(self._skills.__getitem__, np.flatnonzero(scores > SAME))
            if other.effect == skill.effect and other.preconditions.flags == skill.preconditions.flags
        ]

    def _found(self, situation: Situation) -> list[Found]:
        """All skills that apply, seen from whichever thing suits each best."""
        if not self.serves(situation.flags) or not situation.things:
            return []
        contexts = np.stack([vector(context) for context in situation.contexts()])
        scores = (contexts @ self._vectors.T).max(axis=0)
        close = [
            Found(self._skills[place], float(scores[place])) for place in np.flatnonzero(scores >= APPLIES)
        ]
        return sorted(
            (found for found in close if found.skill.preconditions.flags == situation.flags), key=_by_fit
        )

    def _read(self) -> None:
        """See what the memory holds now."""
        held = [Skill.of(procedure) for procedure in self.memory.procedures()]
        alike: dict[tuple[Context, frozenset[str]], int] = {}
        seen = set()
        for skill in sorted(held, key=_worth):
            place = skill.preconditions, skill.effect
            alike[place] = alike.get(place, 0) + 1
            if alike[place] <= self._variants:
                seen.add(skill.id)
        self._skills = [skill for skill in held if skill.id in seen]
        self._moves = {skill.actions[0]: skill.move for skill in self._skills if any(skill.move)}
        self._flags = {skill.preconditions.flags for skill in self._skills}
        self._applying: dict[Situation, list[Found]] = {}
        rows = [vector(skill.preconditions) for skill in self._skills]
        self._vectors: FloatMatrix = np.stack(rows) if rows else np.empty((0, DIMS), np.float32)


def _worth(skill: Skill) -> tuple[bool, int, float]:
    """What sorts skills that do the same: smaller is better."""
    success = skill.usage.success
    return success < DOUBTFUL, len(skill.actions), -success


def _by_fit(found: Found) -> tuple[float, tuple[bool, int, float], str]:
    return -round(found.score, 3), _worth(found.skill), found.skill.id


def _by_success(found: Found) -> tuple[float, int, str]:
    return -found.skill.usage.success, len(found.skill.actions), found.skill.id
