"""The memories of a study: built once from what experts or models did, and proven to stay as they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import product
from pathlib import Path
from random import Random

from evals.arms import Arm
from evals.chats.counted import Counted
from evals.chats.noted import Noted
from evals.chats.wrapped import Guarded
from evals.experts import experts
from evals.folder import Built, Folder
from evals.plan import Plan, Recipe
from evals.rows import Episodes, Row
from evals.runner import Found, Progress, SoFar
from evals.worlds import World
from memp.chat import ChatModel
from memp.errors import InputError, ReplyFormatError
from memp.memory import ProceduralMemory
from memp.prompts import facts
from memp.retrieve import Key
from memp.trajectory import Trajectory
from memp.update import Policy
from tasks.base import Task


class Opened:
    """The memories that the arms have in a group of tasks."""

    def __init__(
        self, memories: Mapping[tuple[Arm, int], ProceduralMemory], extractor: Noted | None = None
    ) -> None:
        """Take them by arm and seed, and the chat model that extracts facts for them."""
        self._memories = memories
        self._extractor = extractor

    def retrieve(self, arm: Arm, seed: int, task: Task, text: str) -> Found:
        """Find what is shown to an arm in a task with a text; never a procedure of that task itself.

        The facts of a text are extracted once, but every episode that is shown what they find counts their tokens:
        an agent on its own would have to ask.
        """
        if arm.recall is None:
            return Found(())
        matches = self._memories[arm, seed].retrieve(text, arm.recall.k, exclude=[task.id])
        if arm.recall.key != "avefact" or self._extractor is None:
            return Found(matches)
        return Found(matches, *self._extractor.tokens(facts.render(text)))


class Memories:
    """The memories of all worlds of a plan, made one world after the other."""

    def __init__(
        self, plan: Plan, folder: Folder, *, workers: int, progress: Progress, allowed: Callable[[], None]
    ) -> None:
        """Take what to build where, and what is called before each question; nothing is built yet."""
        self._plan = plan
        self._folder = folder
        self._workers = workers
        self._progress = progress
        self._allowed = allowed
        self._extractor = None if plan.chat is None else Noted(plan.chat)
        self._lived = 0
        self._learned = 0

    def build(self, world: World, practice: Episodes) -> None:
        """Build the memories of a world that are not built yet, and prove the others unchanged.

        Args:
            world: Where.
            practice: What models did in its training tasks.

        Raises:
            InputError: if a memory is not the one noted, or holds a procedure of a task not trained on.
            ModelError: if a model could not be reached; what it had not finished is begun again.
            BudgetSpent: if what it takes is no longer allowed; the same.
        """
        missing = [recipe for recipe in self._plan.recipes if not self._holds(world, recipe.name)]
        expert = self._experts(world) if any(not recipe.lived_by for recipe in missing) else []
        self._lived += len(world.train)
        for recipe in self._plan.recipes:
            if recipe in missing and recipe.lived_by:
                arm = next(arm for arm in self._plan.practice if arm.model == recipe.lived_by)
                keys = [arm.key(task, world.seeds[0]) for task in world.train]
                lived = practice.lived(keys)
                self._make(world, recipe.name, recipe, lived, policy="validation", rows=practice.rows(keys))
            elif recipe in missing:
                self._make(world, recipe.name, recipe, _taken(expert, recipe.take, world))
            self._learned += len(world.train)
            self._tell_learned(0)
        self.prove(world)

    def learn(self, world: World, group: int, episodes: Episodes) -> None:
        """Have the memories that learn do so, for a group of tasks, from the episodes of the one before.

        Raises:
            InputError: if one that had learned is not the one noted.
            ModelError: if a model could not be reached; what it had not finished is begun again.
            BudgetSpent: if what it takes is no longer allowed; the same.
        """
        recipes = {recipe.name: recipe for recipe in self._plan.recipes}
        tasks = world.groups[group - 1].tasks
        for arm in self._plan.arms:
            if arm.update is None or arm.recall is None:
                continue
            name = arm.memory(group)
            if not self._holds(world, name):
                keys = [arm.key(task, seed) for seed in world.seeds for task in tasks]
                self._make(
                    world,
                    name,
                    recipes[arm.recall.recipe],
                    episodes.lived(keys),
                    policy=arm.update,
                    like=arm.memory(group - 1),
                    learner=arm.name,
                )
            self._learned += len(tasks) * len(world.seeds)
            self._tell_learned(0)
            self._prove(world, name, group)

    def prove(self, world: World) -> None:
        """Prove that the memories of a world are as they were built, or had learned.

        Raises:
            InputError: if one is not, or holds a procedure of a task that it cannot know.
        """
        names = [(recipe.name, 0) for recipe in self._plan.recipes]
        groups = range(1, len(world.groups))
        names += [(arm.memory(group), group) for arm in self._plan.arms if arm.update for group in groups]
        for name, group in names:
            if self._holds(world, name) or not group:
                self._prove(world, name, group)

    @contextmanager
    def opened(self, world: World, group: int) -> Iterator[Opened]:
        """Open for retrieval what every arm has in a group of tasks, with each seed; arms share what is the same."""
        with ExitStack() as stack:
            shared: dict[tuple[str, Key, int], ProceduralMemory] = {}
            memories: dict[tuple[Arm, int], ProceduralMemory] = {}
            for arm, seed in product(self._plan.arms, world.seeds):
                if arm.recall is None:
                    continue
                which = (arm.memory(group), arm.recall.key, seed)
                if which not in shared:
                    shared[which] = stack.enter_context(self._open_frozen(world, *which))
                memories[arm, seed] = shared[which]
            yield Opened(memories, self._extractor)

    def _prove(self, world: World, name: str, group: int) -> None:
        path = self._folder.memory(world.name, name)
        known = [*world.train, *(task for before in world.groups[:group] for task in before.tasks)]
        with self._open(path, create=False) as memory:
            _refuse_foreign(memory, path, known)
            built = self._folder.built(world.name, name)
            if built is None or built.digest != memory.digest():
                raise InputError(
                    f"the memory in {path} is not the one this study began with; give another --out"
                )

    def _holds(self, world: World, name: str) -> bool:
        """Whether a memory is there and was built to its end."""
        built = self._folder.built(world.name, name)
        return built is not None and self._folder.memory(world.name, name).exists()

    def _make(
        self,
        world: World,
        name: str,
        recipe: Recipe,
        trajectories: Sequence[Trajectory],
        *,
        policy: Policy = "vanilla",
        like: str | None = None,
        learner: str = "",
        rows: Sequence[Row] = (),
    ) -> None:
        """Make a memory from trajectories: of nothing, or of another memory.

        Args:
            world: Where.
            name: Of the memory.
            recipe: How procedures are built.
            trajectories: What to learn from.
            policy: What of them to learn from.
            like: The memory to begin with; None begins with an empty one.
            learner: The arm that it is updated for.
            rows: The practice that it is made from.
        """
        chat = None if recipe.chat is None else self._watched(recipe.chat)
        with self._open(
            self._folder.fresh_memory(world.name, name, like=like),
            chat=chat,
            build=recipe.build,
            key=recipe.key,
            update=policy,
            concurrency=self._workers,
        ) as memory:
            memory.update(trajectories)
            _retry_unanswered(memory, chat)
            built = _built(memory, chat, recipe, rows, learner)
        self._folder.keep_fresh(world.name, name, built)

    def _watched(self, chat: ChatModel) -> Counted:
        return Counted(Guarded(chat, self._allowed), self._tell_learned)

    def _experts(self, world: World) -> list[Trajectory]:
        total = sum(len(world.train) for world in self._plan.worlds)

        def tell(done: Sequence[Trajectory]) -> None:
            score = sum(trajectory.reward for trajectory in done) / max(1, len(done))
            self._progress("experts", self._lived + len(done), total, SoFar(score))

        return experts(world, self._folder.trajectories(world.name), workers=self._workers, tell=tell)

    def _tell_learned(self, more: int) -> None:
        worlds, learners = self._plan.worlds, [arm for arm in self._plan.arms if arm.update]
        total = len(self._plan.recipes) * sum(len(world.train) for world in worlds)
        total += len(learners) * sum(
            len(group.tasks) * len(world.seeds) for world in worlds for group in world.groups[:-1]
        )
        self._progress("memory", min(self._learned + more, total), total, None)

    def _open_frozen(self, world: World, name: str, key: Key, seed: int) -> ProceduralMemory:
        path = self._folder.memory(world.name, name)
        return self._open(
            path, chat=self._extractor, key=key, seed=seed, concurrency=self._workers, create=False
        )

    def _open(self, path: Path, **options: object) -> ProceduralMemory:
        return ProceduralMemory.open(path, embedder=self._plan.embedder, **options)  # type: ignore[arg-type]


def _retry_unanswered(memory: ProceduralMemory, chat: ChatModel | None) -> None:
    """Try again what the model gave no answer to, if it answers at all: else nothing was learned about it.

    Raises:
        ModelError: if the model cannot be reached.
    """
    unanswered = [item.id for item in memory.quarantine() if "reply" not in item.payload]
    if unanswered and chat is not None:
        with suppress(ReplyFormatError):  # whatever it answers, it can be reached
            chat.reply([{"role": "user", "content": "Answer with one word: ready."}])
        memory.retry(*unanswered)


def _taken(trajectories: Sequence[Trajectory], count: int | None, world: World) -> Sequence[Trajectory]:
    """Some of the trajectories; the more contain the fewer."""
    if count is None:
        return trajectories
    return Random(world.seeds[0]).sample(trajectories, len(trajectories))[:count]


def _built(
    memory: ProceduralMemory, chat: Counted | None, recipe: Recipe, practice: Sequence[Row], learner: str
) -> Built:
    """Say how a memory came out."""
    aside = memory.quarantine()
    tasks = {procedure.id: procedure.source for procedure in memory.procedures()}
    return Built(
        digest=memory.digest(),
        procedures=memory.stats().procedures,
        set_aside=len(aside),
        set_aside_tasks=tuple(
            item.payload["trajectory"]["task_id"]
            if "trajectory" in item.payload
            else tasks[item.payload["procedure"]]
            for item in aside
        ),
        setup_tokens_in=chat.tokens_in if chat else 0,
        setup_tokens_out=chat.tokens_out if chat else 0,
        built_by=recipe.built_by,
        practice_tokens_in=sum(row.tokens_in for row in practice),
        practice_tokens_out=sum(row.tokens_out for row in practice),
        lived_by=recipe.lived_by,
        learner=learner,
    )


def _refuse_foreign(memory: ProceduralMemory, path: Path, known: Sequence[Task]) -> None:
    """Refuse a memory with a procedure of a task that it was never told of."""
    foreign = {procedure.source for procedure in memory.procedures()} - {task.id for task in known}
    if foreign:
        raise InputError(
            f"{path} holds a procedure of {min(foreign)!r}, which this study had not done by then; give another --out"
        )
