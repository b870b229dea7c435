"""Build: from a trajectory to a procedure, B(tau, r) of the paper."""

from __future__ import annotations

from datetime import datetime
from typing import get_args

from memp.chat.base import ChatModel
from memp.errors import InputError, unknown_name
from memp.procedure import Granularity, Procedure, Provenance, procedure_id
from memp.prompts import distil
from memp.prompts.forms import ask
from memp.trajectory import Trajectory

GRANULARITIES: tuple[Granularity, ...] = get_args(Granularity)


class Builder:
    """Builds procedures of one granularity.

    `trajectory` keeps the whole record, `script` has the chat model distil it, `proceduralization` keeps both.
    """

    def __init__(self, granularity: Granularity, chat: ChatModel | None) -> None:
        """Take the granularity and the chat model.

        Raises:
            InputError: if there is no such granularity, or it needs a chat model and there is none.
        """
        if granularity not in GRANULARITIES:
            raise unknown_name("build", granularity, GRANULARITIES)
        if granularity != "trajectory" and chat is None:
            raise InputError(
                f"build={granularity!r} needs a chat model: pass chat='openai:<model>', or build='trajectory'"
            )
        self.granularity = granularity
        self._chat = chat

    def __call__(self, trajectory: Trajectory, now: datetime) -> Procedure:
        """Build the procedure of one trajectory.

        Raises:
            ModelError: if the script could not be had.
        """
        script, model, prompts = None, "", {}
        if self.granularity != "trajectory" and self._chat is not None:
            script = ask(self._chat, distil.render(trajectory), distil.parse, distil.SCHEMA)
            model, prompts = self._chat.name, {distil.NAME: distil.VERSION}
        return Procedure(
            id=procedure_id(trajectory.source),
            task=trajectory.task,
            source=trajectory.source,
            reward=trajectory.reward,
            length=len(trajectory.steps),
            trajectory=None if self.granularity == "script" else _kept(trajectory),
            script=script,
            provenance=Provenance(granularity=self.granularity, created=now, model=model, prompts=prompts),
        )


def _kept(trajectory: Trajectory) -> Trajectory:
    """The trajectory without what says which episode it was."""
    return trajectory.model_copy(update={"episode_id": "", "shown": ()})
