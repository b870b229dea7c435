"""The exact record of a procedure, as a skill carries it beside its page."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from memp.errors import InputError
from memp.procedure import Procedure, Revision, procedure_id
from memp.trajectory import Record


class SkillRecord(Record):
    """What `references/procedure.json` holds."""

    format: Literal["1"] = "1"

    history: tuple[Revision, ...] = Field(min_length=1)
    """Every revision of the procedure, oldest first."""

    @property
    def last(self) -> Procedure:
        """The procedure as it stood."""
        return self.history[-1].procedure

    def check(self, expected_id: str) -> None:
        """Refuse what no memory could have written.

        Raises:
            InputError: if it is of another procedure than `expected_id`, or contradicts itself.
        """
        for number, revision in enumerate(self.history, 1):
            procedure = revision.procedure
            own_id = procedure_id(procedure.source, procedure.namespace)
            if not procedure.id == own_id == expected_id:
                raise InputError(
                    f"its record is of the procedure {procedure.id!r:.100}, not of {expected_id!r:.100}"
                )
            if procedure.revision != number:
                raise InputError(f"its record has revision {procedure.revision} in place {number}")
            if not procedure.task.strip():
                raise InputError("its record has an empty task")
