"""A procedural memory: one build, one retrieve, one update over one store."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, overload

from memp import guidance, telemetry
from memp.build import Builder
from memp.chat import ChatModel, chat_model
from memp.embedding import embedder as embedder_of
from memp.embedding.base import Embedder
from memp.episode import Episode
from memp.errors import InputError, NotFound, StoreError
from memp.holdout import Holdout
from memp.keys import Keys, stored_embedder
from memp.procedure import Granularity, Match, Procedure, Revision, Tombstone
from memp.remember import A, Agent, remembering
from memp.retrieve import Key, Retriever, known_key
from memp.store import Counts, ProcedureStore, Quarantined, open_store
from memp.store.base import QuarantineKind
from memp.trajectory import Trajectory
from memp.trial import Effect, effect
from memp.update import MemoryUpdate, Policy, Updater, set_aside

GUIDANCE_TOKENS = 4000
"""How long the guidance of an episode may be, unless it is said."""


class ProceduralMemory:
    """Builds procedures from trajectories, retrieves them for a task, updates them by what then happened.

    Mem = sum B(tau, r); m = argmax S(t_new, t_i); M(t+1) = U(M(t), E(t), tau). Safe to use from several
    threads, and one file from several processes.

    Source: Memp (Fang et al. 2025, arXiv:2508.06433).
    """

    def __init__(
        self,
        store: ProcedureStore,
        *,
        embedder: Embedder,
        chat: ChatModel | None = None,
        build: Granularity = "trajectory",
        key: Key = "query",
        update: Policy = "validation",
        success_at: float = 1.0,
        concurrency: int = 1,
        seed: int = 0,
        guidance_tokens: int = GUIDANCE_TOKENS,
        min_score: float | None = None,
    ) -> None:
        """Put a memory together from its parts; `open` does it from names."""
        _checked_guidance(key, guidance_tokens, min_score)
        self.store = store
        self.success_at = success_at
        """The reward from which an episode is a success."""
        self._embedder = embedder
        self._holdout = Holdout(store, seed)
        self._guidance_tokens = guidance_tokens
        self._min_score = min_score
        self._chat_name = chat.name if chat is not None else ""
        self._retrieve = Retriever(key, store, embedder, chat, seed)
        self._update = Updater(
            update, Builder(build, chat), chat, success_at=success_at, concurrency=concurrency
        )
        self._keys = Keys(store, embedder, self._retrieve, concurrency=concurrency)

    @classmethod
    def open(
        cls,
        path: str | Path | ProcedureStore,
        *,
        chat: str | ChatModel | None = None,
        embedder: str | Embedder | None = None,
        build: Granularity = "trajectory",
        key: Key = "query",
        update: Policy = "validation",
        success_at: float = 1.0,
        concurrency: int = 1,
        seed: int = 0,
        guidance_tokens: int = GUIDANCE_TOKENS,
        min_score: float | None = None,
        create: bool = True,
    ) -> ProceduralMemory:
        """Open a memory.

        Args:
            path: One SQLite file, or `:memory:`.
            chat: `openai:<model>` (OPENAI_BASE_URL honoured), `local:<path or bundled name>`, a
                `ChatModel`, or None. Scripts, reflection and facts other than keywords need one.
            embedder: `hash` (no key, no download), `sentence-transformers:<name or path>`,
                `openai:<model>`, or an `Embedder`. None takes the one the memory was made with, `hash` for
                a new one.
            build: `trajectory`, `script` or `proceduralization`.
            key: `query`, `avefact` or `random`.
            update: `vanilla`, `validation` or `reflection`.
            success_at: The reward from which an episode is a success.
            concurrency: How many calls of the chat model may wait at once.
            seed: Decides what `key="random"` samples, and which episodes go without memory.
            guidance_tokens: The most tokens of an episode's guidance, counted as for the chat model or, where
                nothing can count them, estimated rather too high; longer procedures are shortened.
            min_score: The lowest score of a procedure that an episode is shown, in [-1, 1]; None shows any.
            create: Whether to make the memory where there is none.

        Raises:
            InputError: if a name is unknown, or an option needs a chat model and there is none.
            StoreError: if the file cannot be opened; `SpaceMismatch` if it was made with another embedder.
        """
        # All that can be said without the file is said before one is made.
        model = chat_model(chat)
        known_key(key)
        _checked_guidance(key, guidance_tokens, min_score)
        Updater(update, Builder(build, model), model, success_at=success_at, concurrency=concurrency)
        chosen = None if embedder is None else embedder_of(embedder)
        store = open_store(path, create=create)
        try:
            return cls(
                store,
                embedder=chosen or stored_embedder(store),
                chat=model,
                build=build,
                key=key,
                update=update,
                success_at=success_at,
                concurrency=concurrency,
                seed=seed,
                guidance_tokens=guidance_tokens,
                min_score=min_score,
            )
        except BaseException:
            if store is not path:
                store.close()
            raise

    def update(self, trajectories: Iterable[Trajectory]) -> MemoryUpdate:
        """Learn from episodes, in one transaction.

        Every procedure an episode was shown is credited with its outcome, once; one that keeps failing is
        retired. What the policy admits and is better than what is held is built and stored. Unfinished
        trajectories go to the quarantine. Guidance of memp's own is never learned from.

        Returns:
            What was added, revised, retired and skipped, each with the reason.

        Raises:
            InputError: if something else than trajectories was given.
            ModelError: if the embedder failed; then nothing was written.
            StoreError: if it could not be written; then nothing was.
        """
        return self._learn(list(trajectories))

    def retrieve(self, task: str, k: int = 5, *, exclude: Collection[str] = ()) -> list[Match]:
        """Find the procedures that fit a task.

        Args:
            task: The new task.
            k: How many at most; at least 1.
            exclude: Identities of tasks (`Trajectory.source`) whose procedures are passed over.

        Returns:
            Best first, ties by age.

        Raises:
            InputError: if the task is blank or `k` below 1.
            ModelError: if the facts or the vectors of the task could not be had.
            SpaceMismatch: if the memory was re-embedded since it was opened.
        """
        with telemetry.span("search_memory", self.store.name, query=task) as span:
            self._keys.complete()
            matches = list(self._retrieve(task, k, exclude))
            span.set(len(matches), matches)
            return matches

    def episode(
        self,
        task: str,
        *,
        k: int = 3,
        holdout: float = 0.0,
        task_id: str = "",
        start: str = "",
        exclude: Collection[str] = (),
    ) -> Episode:
        """Begin a live run; use it as `with memory.episode(task) as episode:`, or `async with`.

        Args:
            task: What the agent is asked for.
            k: How many procedures to show at most; 0 shows none.
            holdout: The share of episodes, below 1, to leave memory out of by chance, so that `effect` can
                say whether it helps. Only those count that something was found for.
            task_id: What tells this task from another with the same text.
            start: What the agent sees before its first action.
            exclude: As for `retrieve`.

        Raises:
            InputError: if the task is blank, a text too long, `k` negative, or `holdout` not in [0, 1).
        """
        if k < 0:
            raise InputError(f"k is {k!r}; it must be at least 0")
        if not 0 <= holdout < 1:
            raise InputError(f"holdout is {holdout!r}; it must be at least 0 and below 1, such as 0.1")
        # Twice as many, so that some that say the same leave others to show.
        matches = self.retrieve(task, 2 * k, exclude=exclude) if k else []
        shown = guidance.fit(
            matches, k, limit=self._guidance_tokens, model=self._chat_name, min_score=self._min_score
        )
        episode = Episode(task, shown, self._leave_episode, memory=self, task_id=task_id, start=start)
        if holdout and shown.matches and self._holdout.decide(episode.trajectory, holdout):
            episode.hold_out()
        return episode

    @overload
    def remember(self, agent: A, /) -> Callable[[str], Any]: ...

    @overload
    def remember(self, /, **options: Any) -> Callable[[A], Callable[[str], Any]]: ...

    def remember(self, agent: Agent | None = None, /, **options: Any) -> Any:
        """Put memory around an agent that is one function, `agent(task, guidance) -> (steps, reward)`.

        Use it as `@memory.remember`, or `@memory.remember(k=5, holdout=0.1)` with options of `episode`. What
        is left takes the task alone; each call of it is an episode, and returns what the agent did. Steps are
        pairs (action, observation). An agent that is `async` stays so, and its memory waits in a thread.
        """
        if agent is None:
            return lambda decorated: remembering(self, decorated, **options)
        return remembering(self, agent, **options)

    def effect(self) -> Effect | None:
        """Say what memory did for episodes begun with `holdout`; None where there are none yet."""
        return effect(self.store.trials())

    def get(self, procedure_id: str) -> Procedure:
        """Return a procedure in use.

        Raises:
            NotFound: if there is none of this id, or it was retired.
        """
        procedure = self.store.get(procedure_id)
        if procedure is None:
            stones = self.store.tombstones(procedure_id)
            why = f"was retired: {stones[-1].reason}" if stones else "does not exist"
            raise NotFound(f"procedure {procedure_id!r} {why}")
        return procedure

    def procedures(self) -> Iterator[Procedure]:
        """Yield all procedures in use, oldest first."""
        return self.store.procedures()

    def history(self, procedure_id: str) -> list[Revision]:
        """Return every revision of a procedure, oldest first, also of a retired one.

        Raises:
            NotFound: if there never was one of this id.
        """
        revisions = list(self.store.history(procedure_id))
        if not revisions:
            raise NotFound(f"procedure {procedure_id!r} does not exist")
        return revisions

    def rollback(self, procedure_id: str, revision: int) -> Procedure:
        """Make an earlier revision the current one, by appending it again; brings back a retired procedure.

        Raises:
            NotFound: if there is no such revision.
        """
        with (
            telemetry.span("update_memory", self.store.name, procedure_id=procedure_id) as span,
            self.store.transaction(),
        ):
            for entry in self.history(procedure_id):
                if entry.procedure.revision == revision:
                    span.set(1, [entry.procedure])
                    return self.store.put(entry.procedure, f"rolled back to revision {revision}")
            raise NotFound(f"procedure {procedure_id!r} has no revision {revision!r}")

    def adopt(self, revisions: Sequence[Revision] | Callable[[], Sequence[Revision]]) -> list[Procedure]:
        """Append revisions that were written elsewhere, in order, in one transaction, and make their keys.

        Several revisions of one procedure make its history; a procedure that this memory never had brings its
        usage along.

        Args:
            revisions: What to take; or, to decide by what the memory holds, a function that returns it. That
                is called twice: for the keys, which are made before the transaction as that takes long, and
                within it, for what is written. Keys that are missing then, the next retrieval makes.

        Returns:
            The procedures as they are stored, one for each revision.

        Raises:
            ModelError: if their keys could not be made; then nothing was written.
            StoreError: if they could not be written; then nothing was.
        """
        decide = revisions if callable(revisions) else lambda: revisions
        with telemetry.span("upsert_memory", self.store.name) as span:
            expected = _newest(decide())
            made = self._keys.make(list(expected.values()), may_wait=True)
            with self.store.transaction():
                self._keys.claim_space()
                decided = decide()
                stored = [self.store.put(revision.procedure, revision.reason) for revision in decided]
                last = _newest(decided)
                same_task = {
                    id_ for id_, now in last.items() if id_ in expected and expected[id_].task == now.task
                }
                self._keys.write(made, same_task)
            span.set(len(last), last.values())
        return stored

    def tombstones(self) -> list[Tombstone]:
        """Return why procedures were retired, oldest first."""
        return list(self.store.tombstones())

    def quarantine(self) -> list[Quarantined]:
        """Return what could not be made use of, oldest first."""
        return list(self.store.quarantined())

    def retry(self, *ids: str, reward: float | None = None) -> MemoryUpdate:
        """Try again what is in quarantine.

        Args:
            ids: What to try; without any, all but unfinished episodes and what this memory, as it was
                opened, can make no use of.
            reward: For unfinished episodes: how they ended, in [0, 1].

        Returns:
            As `update` does. What fails again stays in quarantine, as a new item.

        Raises:
            NotFound: if an id is not in quarantine.
            InputError: if an unfinished episode is to be tried without a reward, an item with a policy or
                a key that makes no use of it, or a reward is given without ids.
        """
        if reward is not None and not ids:
            raise InputError("reward= says how named episodes ended: give their ids, see memory.quarantine()")
        held = {item.id: item for item in self.quarantine()}
        if missing := [item_id for item_id in ids if item_id not in held]:
            raise NotFound(f"{missing[0]!r} is not in quarantine")
        chosen = [held[item_id] for item_id in ids] or [
            item for item in held.values() if item.kind != "unfinished" and not self._waits_for(item)
        ]
        for item in chosen:
            if reason := self._waits_for(item):
                raise InputError(f"{item.id!r} cannot be tried in this memory: {reason}")
        restored = [_restored(item, reward) for item in chosen if item.kind != "facts"]
        result = self._learn(list(dict.fromkeys(restored)), retried=chosen)
        self._keys.complete()
        return result

    def stats(self) -> Counts:
        """Return how much the memory holds."""
        return self.store.counts()

    def digest(self) -> str:
        """Return a hash of what can be retrieved; equal before and after means the memory was not changed."""
        return self.store.digest()

    def describe(self) -> dict[str, str]:
        """Return what decides how this memory behaves, for a manifest."""
        return {
            "embedder": self._embedder.name,
            "build": self._update.builder.granularity,
            "key": self._retrieve.key,
            "facts": self._retrieve.extractor,
            "update": self._update.policy,
        }

    def close(self) -> None:
        """Close the store."""
        self.store.close()

    def __enter__(self) -> ProceduralMemory:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _waits_for(self, item: Quarantined) -> str:
        """Why this memory, as it was opened, can make no use of an item; empty if it can."""
        if item.kind == "reflect" and self._update.policy != "reflection":
            return "it awaits reflection, open it with update='reflection'"
        if item.kind == "facts" and item.payload["keys"] != self._retrieve.kind:
            return f"it awaits the keys {item.payload['keys']!r}"
        if item.kind == "build":
            return self._update.refusal(Trajectory.model_validate(item.payload["trajectory"]))
        return ""

    def _leave_episode(self, trajectory: Trajectory, outdated: Collection[str]) -> MemoryUpdate:
        """Learn from one episode; what stops that is raised, but the trajectory is kept."""
        try:
            return self._learn([trajectory], outdated=outdated)
        except Exception as error:
            kind: QuarantineKind = "build" if trajectory.finished else "unfinished"
            payload = {"trajectory": trajectory.model_dump(mode="json")}
            item = set_aside(kind, f"it could not be learned from: {error}", payload, datetime.now(UTC))
            try:
                self.store.quarantine(item)
            except StoreError:
                error.add_note("the episode was not stored; memory.update([episode.trajectory]) tries again")
            else:
                error.add_note(f"the episode is kept in quarantine as {item.id}; memory.retry() tries again")
            raise

    def _learn(
        self,
        trajectories: Sequence[Trajectory],
        *,
        retried: Sequence[Quarantined] = (),
        outdated: Collection[str] = (),
    ) -> MemoryUpdate:
        """Update, and take what was tried again out of quarantine, in one transaction."""
        for trajectory in trajectories:
            if not isinstance(trajectory, Trajectory):
                raise InputError(f"update takes trajectories, and {trajectory!r:.100} is none")
        with telemetry.span("upsert_memory", self.store.name) as span:
            plan = self._update.plan(self.store, trajectories, outdated=outdated)
            made = self._keys.make([procedure for _, procedure in plan.built], may_wait=True)
            with self.store.transaction():
                self._keys.claim_space()
                result = self._update.apply(self.store, plan, retried=bool(retried))
                self._keys.write(made, {change.id for change in (*result.added, *result.revised)})
                for item in retried:
                    self.store.release(item.id)
                self._holdout.end(trajectories, self._update.succeeded)
            written = [change.id for change in (*result.added, *result.revised)]
            span.set(len(written), filter(None, map(self.store.get, written)))
        return result


def _checked_guidance(key: Key, guidance_tokens: int, min_score: float | None) -> None:
    if guidance_tokens < 1:
        raise InputError(f"guidance_tokens is {guidance_tokens!r}; it must be at least 1, k=0 shows nothing")
    if min_score is not None and not -1 <= min_score <= 1:
        raise InputError(f"min_score is {min_score!r}; scores lie between -1 and 1")
    if min_score is not None and key == "random":
        raise InputError("min_score needs a key that scores: pass key='query' or 'avefact'")


def _newest(revisions: Sequence[Revision]) -> dict[str, Procedure]:
    """The procedures that revisions make, by id."""
    return {revision.procedure.id: revision.procedure for revision in revisions}


def _restored(item: Quarantined, reward: float | None) -> Trajectory:
    trajectory = Trajectory.model_validate(item.payload["trajectory"])
    if item.kind != "unfinished":
        return trajectory
    if reward is None or not 0 <= reward <= 1:
        raise InputError(f"{item.id!r} is an unfinished episode: say how it ended with reward= from 0 to 1")
    return trajectory.ended(reward)
