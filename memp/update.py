"""Update: from what happened to what the memory holds, U(M, E, tau) of the paper.

An update has two halves. `Updater.plan` does what is slow and needs no lock: it builds and revises with the
chat model. `Updater.apply` then writes it all in one transaction, deciding anew against what other processes
wrote meanwhile.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar, get_args

from memp._threads import side_by_side
from memp.build import Builder
from memp.chat.base import ChatModel
from memp.errors import InputError, ModelError, ReplyFormatError, unknown_name
from memp.guidance import own_words, strip
from memp.procedure import Procedure, Provenance, procedure_id, rank
from memp.prompts import reflect
from memp.prompts.forms import ask
from memp.store.base import ProcedureStore, Quarantined, QuarantineKind
from memp.trajectory import Record, Trajectory

Policy = Literal["vanilla", "validation", "reflection"]

POLICIES: tuple[Policy, ...] = get_args(Policy)

RETIRE_BELOW = 0.35
"""A procedure is retired when its smoothed success (s + 1) / (u + 2) falls below this ..."""

RETIRE_AFTER = 3
"""... and it has been used at least this often."""

T = TypeVar("T")
R = TypeVar("R")


class Change(Record):
    """One thing an update did, or did not do."""

    id: str
    """Of the procedure."""

    task: str
    reason: str


class MemoryUpdate(Record):
    """What an update changed, and why."""

    added: tuple[Change, ...] = ()
    revised: tuple[Change, ...] = ()
    retired: tuple[Change, ...] = ()
    skipped: tuple[Change, ...] = ()


@dataclass
class Plan:
    """What an update is going to write, in the order it was lived through."""

    trajectories: list[Trajectory]
    built: list[tuple[Trajectory, Procedure]] = field(default_factory=list)
    reflected: list[tuple[Trajectory, Procedure]] = field(default_factory=list)
    """Revised procedures, still with the revision number that was reflected on."""

    quarantined: list[Quarantined] = field(default_factory=list)
    skipped: list[Change] = field(default_factory=list)

    outdated: Collection[str] = ()
    """Ids of procedures that no longer hold: a success of the same task takes their place, a longer one too."""


class Updater:
    """Updates a memory by one policy.

    `vanilla` adds every trajectory, `validation` only successful ones; `reflection` adds successful ones and,
    where procedures were shown and the episode failed, has the chat model revise those procedures.
    """

    def __init__(
        self,
        policy: Policy,
        builder: Builder,
        chat: ChatModel | None,
        *,
        success_at: float = 1.0,
        concurrency: int = 1,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Take the policy, the builder, and the chat model that reflects.

        Raises:
            InputError: if there is no such policy, or it needs a chat model and there is none.
        """
        if policy not in POLICIES:
            raise unknown_name("update", policy, POLICIES)
        if policy == "reflection" and chat is None:
            raise InputError(
                "update='reflection' needs a chat model: pass chat='openai:<model>', or update='validation'"
            )
        if not 0 < success_at <= 1:
            raise InputError(f"success_at is {success_at!r}; it must be above 0 and at most 1")
        if concurrency < 1:
            raise InputError(f"concurrency is {concurrency!r}; it must be at least 1")
        self.policy = policy
        self.builder = builder
        self._chat = chat
        self._success_at = success_at
        self._concurrency = concurrency
        self._clock = clock

    def plan(
        self, store: ProcedureStore, trajectories: Sequence[Trajectory], *, outdated: Collection[str] = ()
    ) -> Plan:
        """Build and revise, without writing anything.

        What the chat model could not do goes to the plan's quarantine; nothing is raised for it.
        """
        plan = Plan([], outdated=outdated)
        for trajectory in map(own_words, trajectories):
            if trajectory.finished:
                plan.trajectories.append(_identified(trajectory))
            else:
                self._set_aside(plan, "unfinished", trajectory, "the episode ended without a reward")
        candidates = self._candidates(store, plan)
        for trajectory, outcome in self._map(self._build, candidates):
            if isinstance(outcome, ModelError):
                self._set_aside(plan, "build", trajectory, outcome)
            else:
                plan.built.append((trajectory, outcome))
        for (trajectory, shown), revised in self._map(self._reflect, self._failures(store, plan)):
            if isinstance(revised, ModelError):
                # To be tried again for this procedure alone: others it was shown may have been revised.
                again = trajectory.model_copy(update={"shown": (shown.id,)})
                self._set_aside(plan, "reflect", again, revised)
            else:
                plan.reflected.append((trajectory, revised))
        return plan

    def apply(self, store: ProcedureStore, plan: Plan, *, retried: bool = False) -> MemoryUpdate:
        """Write a plan in one transaction.

        An episode that was counted before is not reflected on again, unless it is `retried` from quarantine.
        """
        with store.transaction():
            counted, retired = self._credit(store, plan)
            gone = {change.id for change in retired}
            added: list[Change] = []
            revised: list[Change] = []
            skipped = list(plan.skipped)
            for trajectory, built in plan.built:
                verdict = self._refusal(store, trajectory, plan.outdated)
                if verdict:
                    skipped.append(_change(built, verdict))
                    continue
                known = bool(store.history(built.id))
                reason = f"reward {built.reward:g} in {built.length} steps"
                store.put(built, reason)
                (revised if known else added).append(_change(built, reason))
            for trajectory, changed in plan.reflected:
                if not retried and (trajectory.episode_id, changed.id) not in counted:
                    skipped.append(_change(changed, "not revised: this episode was counted before"))
                    continue
                current = store.get(changed.id)
                if current is None or current.revision != changed.revision:
                    why = "retired" if changed.id in gone else "changed meanwhile"
                    skipped.append(_change(changed, f"not revised: {why}"))
                    continue
                reason = f"reflected on the failure of {trajectory.task!r} (reward {trajectory.reward:g})"
                store.put(changed, reason)
                revised.append(_change(changed, reason))
            for item in plan.quarantined:
                store.quarantine(item)
        return MemoryUpdate(
            added=tuple(added), revised=tuple(revised), retired=tuple(retired), skipped=tuple(skipped)
        )

    def succeeded(self, trajectory: Trajectory) -> bool:
        """Whether a trajectory counts as a success."""
        return trajectory.reward >= self._success_at - 1e-9

    def _candidates(self, store: ProcedureStore, plan: Plan) -> list[Trajectory]:
        """The trajectories worth building from: allowed by the policy, the best of each task, better than
        what is stored. The others are skipped, with the reason."""
        best: dict[str, Trajectory] = {}
        for trajectory in plan.trajectories:
            reason = self.refusal(trajectory) or self._refusal(store, trajectory, plan.outdated)
            if reason:
                plan.skipped.append(_unbuilt(trajectory, reason))
                continue
            rival = best.setdefault(trajectory.source, trajectory)
            if rival is trajectory:
                continue
            better = max(rival, trajectory, key=_rank)
            best[trajectory.source] = better
            worse = trajectory if better is rival else rival
            plan.skipped.append(_unbuilt(worse, "this update has one as good of the same task"))
        return list(best.values())

    def refusal(self, trajectory: Trajectory) -> str:
        """Why the policy builds nothing from a trajectory; empty if it does."""
        if not strip(trajectory.task).strip():
            return "its task is nothing but guidance"
        if not trajectory.steps:
            return "it has no steps"
        if self.policy == "vanilla" or self.succeeded(trajectory):
            return ""
        return f"reward {trajectory.reward:g} is no success, and update={self.policy!r} adds only those"

    def _refusal(self, store: ProcedureStore, trajectory: Trajectory, outdated: Collection[str]) -> str:
        """Why a trajectory adds nothing to what the store holds or has retired; empty if it does."""
        known = store.history(procedure_id(trajectory.source))
        if not known:
            return ""
        last = known[-1].procedure
        current = store.get(last.id)
        tried = any(_same_way(revision.procedure, trajectory) for revision in known)
        if current is None:
            if tried or trajectory.reward < last.reward:
                return f"the procedure of this task was retired: {store.tombstones(last.id)[-1].reason}"
            return ""
        if current.id in outdated and self.succeeded(trajectory):
            return ""
        if _rank(trajectory) > rank(current):
            return "an earlier revision was built from it, and was given up" if tried else ""
        return "the memory has one as good of the same task"

    def _failures(self, store: ProcedureStore, plan: Plan) -> list[tuple[Trajectory, Procedure]]:
        """The failed episodes to reflect on, each with a procedure it was shown; each procedure once."""
        if self.policy != "reflection":
            return []
        found: dict[str, tuple[Trajectory, Procedure]] = {}
        for trajectory in plan.trajectories:
            if self.succeeded(trajectory) or not trajectory.steps:
                continue
            for shown in dict.fromkeys(trajectory.shown):
                procedure = store.get(shown)
                if procedure is not None:
                    found[shown] = (trajectory, procedure)
        return list(found.values())

    def _build(self, trajectory: Trajectory) -> Procedure | ModelError:
        try:
            return self.builder(trajectory, self._clock())
        except ModelError as error:
            return error

    def _reflect(self, failure: tuple[Trajectory, Procedure]) -> Procedure | ModelError:
        trajectory, procedure = failure
        assert self._chat is not None
        try:
            script = ask(self._chat, reflect.render(procedure, trajectory), reflect.parse, reflect.SCHEMA)
        except ModelError as error:
            return error
        provenance = Provenance(
            granularity=procedure.provenance.granularity,
            created=self._clock(),
            model=self._chat.name,
            prompts={**procedure.provenance.prompts, reflect.NAME: reflect.VERSION},
        )
        return procedure.model_copy(update={"script": script, "provenance": provenance})

    def _credit(self, store: ProcedureStore, plan: Plan) -> tuple[set[tuple[str, str]], list[Change]]:
        """Count the outcome of every episode for what it was shown; retire what keeps failing.

        Returns:
            The pairs of episode and procedure that were counted, and what was retired.
        """
        counted: dict[tuple[str, str], None] = {}  # in order, as a set is not
        for trajectory in plan.trajectories:
            for shown in dict.fromkeys(trajectory.shown):
                if store.credit(shown, success=self.succeeded(trajectory), episode_id=trajectory.episode_id):
                    counted[trajectory.episode_id, shown] = None
        retired = []
        for shown in dict.fromkeys(shown for _, shown in counted):
            procedure = store.get(shown)
            if procedure is None:
                continue
            usage = procedure.usage
            if usage.uses >= RETIRE_AFTER and usage.success < RETIRE_BELOW:
                reason = f"helped in {usage.successes} of {usage.uses} episodes"
                store.retire(shown, reason, self._clock())
                retired.append(_change(procedure, reason))
        return set(counted), retired

    def _set_aside(
        self, plan: Plan, kind: QuarantineKind, trajectory: Trajectory, why: ModelError | str
    ) -> None:
        """Keep what cannot be made use of now."""
        item = set_aside(kind, why, {"trajectory": trajectory.model_dump(mode="json")}, self._clock())
        plan.quarantined.append(item)
        plan.skipped.append(_unbuilt(trajectory, f"in quarantine as {item.id}: {item.reason}"))

    def _map(self, function: Callable[[T], R], items: Sequence[T]) -> list[tuple[T, R]]:
        """Apply `function` to every item, with as many threads as the concurrency where a model is asked."""
        return side_by_side(function, items, 1 if self._chat is None else self._concurrency)


def set_aside(
    kind: QuarantineKind, why: ModelError | str, payload: dict[str, Any], now: datetime
) -> Quarantined:
    """Make an item for the quarantine, with the model's whole reply where that could not be read."""
    if isinstance(why, ReplyFormatError):
        payload = {**payload, "reply": why.reply}
    return Quarantined(id=uuid.uuid4().hex[:12], kind=kind, reason=str(why), payload=payload, added=now)


def _identified(trajectory: Trajectory) -> Trajectory:
    """Give an episode that was shown something an id, so that trying again never credits it twice."""
    if trajectory.episode_id or not trajectory.shown:
        return trajectory
    return trajectory.model_copy(update={"episode_id": uuid.uuid4().hex})


def _rank(trajectory: Trajectory) -> tuple[float, int]:
    """What makes one episode better than another: more reward, then fewer steps."""
    return trajectory.reward, -len(trajectory.steps)


def _same_way(procedure: Procedure, trajectory: Trajectory) -> bool:
    """Whether a procedure was built from an episode like this one, as far as it kept its episode."""
    if (procedure.reward, procedure.length) != (trajectory.reward, len(trajectory.steps)):
        return False
    if procedure.trajectory is None:
        return True
    return [step.action for step in procedure.trajectory.steps] == [step.action for step in trajectory.steps]


def _change(procedure: Procedure, reason: str) -> Change:
    return Change(id=procedure.id, task=procedure.task, reason=reason)


def _unbuilt(trajectory: Trajectory, reason: str) -> Change:
    return Change(id=procedure_id(trajectory.source), task=trajectory.task, reason=reason)
