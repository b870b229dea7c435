"""From skills to procedures: what a page says, and what a memory makes of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from memp.errors import InputError
from memp.guidance import own_steps, own_words, strip
from memp.integrations.agent_skills.markup import steps_in
from memp.integrations.agent_skills.page import Page, described_goal, page_of, shown_steps, steps_of
from memp.integrations.agent_skills.reading import Skill, read_skills
from memp.memory import ProceduralMemory
from memp.procedure import Procedure, Provenance, Revision, Script, rank
from memp.update import Change, MemoryUpdate


def import_skills(memory: ProceduralMemory, directory: str | Path) -> MemoryUpdate:
    """Bring the skills of a folder into a memory, all of them or, where one is refused, none.

    As `read_skills`, then `take_in`.
    """
    return take_in(memory, read_skills(directory).skills)


def take_in(
    memory: ProceduralMemory, skills: Iterable[Skill], *, now: datetime | None = None
) -> MemoryUpdate:
    """Bring skills into a memory, in one transaction.

    A skill that memp wrote comes back as it was, with its history and usage, where the memory never had its
    procedure. Where it has, the better one stays, more reward and then fewer steps, as in `update`; usage
    stays the memory's own. A page that a person changed, and a skill of other origin, is a new revision unless
    the memory had it before. What was retired stays so, unless the page is another one by now.

    Args:
        memory: Gets the procedures.
        skills: From `read_skills`.
        now: When pages became procedures, in UTC; now, if it is left out.

    Returns:
        What was added, revised and skipped, each with the reason.

    Raises:
        InputError: if a page tells no steps; then nothing was written.
        ModelError: if the embedder failed; then nothing was written.
        StoreError: if it could not be written; then nothing was.
    """
    now = now or datetime.now(UTC)
    offers = sorted((_offer(skill, now) for skill in skills), key=lambda offer: offer.created)
    result = MemoryUpdate()

    def decide() -> Sequence[Revision]:
        nonlocal result
        written, result = _decided(memory, offers)
        return written

    memory.adopt(decide)
    return result


@dataclass(frozen=True)
class _Offer:
    """What a skill offers to a memory."""

    history: Sequence[Revision]
    """For a memory that never had the procedure: all of it, oldest first."""

    reason: str

    origin: Literal["record", "edit", "foreign"]
    """Where the last revision is from: a record of memp's, a page of memp's that a person changed, any page."""

    @property
    def procedure(self) -> Procedure:
        """As it stands in the end."""
        return self.history[-1].procedure

    @property
    def created(self) -> datetime:
        """When its first revision was built; a time without a zone is in UTC."""
        created = self.history[0].procedure.provenance.created
        return created if created.tzinfo is not None else created.replace(tzinfo=UTC)


def _offer(skill: Skill, now: datetime) -> _Offer:
    try:
        return _foreign(skill, now) if skill.record is None else _recorded(skill, now)
    except InputError as error:
        raise InputError(f"the skill {skill.page.name!r} cannot be used: {error}") from error


def _foreign(skill: Skill, now: datetime) -> _Offer:
    """A skill of other origin: nobody knows how it fares, so that its reward is 0, and its length too."""
    page = skill.page
    procedure = Procedure(
        id=skill.id,
        task=" ".join(_own(page.description, "description").split()),
        source=skill.source,
        reward=0,
        length=0,
        script=_script(page.name.replace("-", " "), steps_in(page.body)),
        provenance=Provenance(granularity="script", created=now),
    )
    reason = f"imported from the skill {page.name!r}"
    return _Offer([Revision(procedure=procedure, reason=reason)], reason, "foreign")


def _recorded(skill: Skill, now: datetime) -> _Offer:
    """A skill that memp wrote: its record, and what a person made of its page since."""
    assert skill.record is not None
    history = [
        revision.model_copy(update={"procedure": _own_procedure(revision.procedure)})
        for revision in skill.record.history
    ]
    script = _edited_script(skill.page, skill.record.last)
    if script is None:
        return _Offer(history, f"imported from the skill {skill.page.name!r}", "record")
    reason = f"edited as the skill {skill.page.name!r}"
    edited = history[-1].procedure.rewritten(script, now)
    return _Offer([*history, Revision(procedure=edited, reason=reason)], reason, "edit")


def _edited_script(page: Page, procedure: Procedure) -> Script | None:
    """The script that a page tells where it says something else than its record; None where it does not.

    The page is compared with the one that memp writes of the record, not with a hash of it: a hash can be made
    to fit a page that hides what the record says.
    """
    told, wrote = steps_in(page.body), page_of(procedure)
    expected = steps_in(wrote.body)
    new_goal = " ".join(page.description.split()) != wrote.description
    if told == expected and not new_goal:
        return None
    every, shown = steps_of(procedure), shown_steps(procedure)
    hidden = every[len(shown) :]
    # What is on the page besides steps: how the procedure fared, and where the record is.
    around = {expected[0], *expected[-2 if hidden else -1 :]}
    goal = described_goal(procedure, page.description) if new_goal else procedure.goal
    return _script(goal, [*(step for step in told if step not in around), *hidden])


def _decided(memory: ProceduralMemory, offers: Iterable[_Offer]) -> tuple[list[Revision], MemoryUpdate]:
    """What a memory, as it is now, takes of what it is offered, and what that does to it."""
    written: list[Revision] = []
    added: list[Change] = []
    revised: list[Change] = []
    skipped: list[Change] = []
    for offer in offers:
        known = memory.store.history(offer.procedure.id)
        verdict = _verdict(memory, offer, known) if known else offer.history
        if isinstance(verdict, str):
            skipped.append(_change(offer, verdict))
        else:
            written += verdict
            (revised if known else added).append(_change(offer, offer.reason))
    return written, MemoryUpdate(added=tuple(added), revised=tuple(revised), skipped=tuple(skipped))


def _verdict(memory: ProceduralMemory, offer: _Offer, known: Sequence[Revision]) -> list[Revision] | str:
    """What to append to a procedure that the memory has, or had; or why nothing is."""
    current = memory.store.get(offer.procedure.id)
    wanted = offer.procedure
    if offer.origin == "edit" and current is not None and wanted.script is not None:
        # Only the script was changed; what else there is of the task, the memory knows better.
        wanted = current.rewritten(wanted.script, wanted.provenance.created)
    tried = any(_same(revision.procedure, wanted) for revision in known)
    if current is None and (tried or offer.origin == "record"):
        return f"the procedure of this task was retired: {memory.store.tombstones(wanted.id)[-1].reason}"
    if current is not None and _same(current, wanted):
        return "the memory has it"
    if tried:
        return "the memory gave this revision up for a later one"
    if current is not None and offer.origin == "record" and rank(wanted) <= rank(current):
        return "the memory has one as good of the same task"
    return [Revision(procedure=wanted, reason=offer.reason)]


def _same(one: Procedure, other: Procedure) -> bool:
    """Whether two revisions say the same, whenever and by whom they were built."""
    return all(
        getattr(one, name) == getattr(other, name) for name in ("task", "script", "trajectory", "reward")
    )


def _script(goal: str, steps: Iterable[str]) -> Script:
    """The script that a page tells.

    Raises:
        InputError: if it tells none.
    """
    kept = own_steps(steps)
    if not kept:
        raise InputError("its page tells no steps")
    return Script(goal=" ".join(_own(goal, "goal").split()), steps=kept)


def _own_procedure(procedure: Procedure) -> Procedure:
    """A procedure without memp's marks in its texts, which would pass for guidance."""
    script, trajectory = procedure.script, procedure.trajectory
    if script is not None:
        steps = tuple(strip(step) for step in script.steps)
        script = script.model_copy(update={"goal": _own(script.goal, "goal"), "steps": steps})
    return procedure.model_copy(
        update={
            "task": _own(procedure.task, "task"),
            "script": script,
            "trajectory": None if trajectory is None else own_words(trajectory),
        }
    )


def _own(text: str, field: str) -> str:
    own = strip(text)
    if own != text and not own.strip():
        raise InputError(f"its {field} is nothing but guidance")
    return own


def _change(offer: _Offer, reason: str) -> Change:
    return Change(id=offer.procedure.id, task=offer.procedure.task, reason=reason)
