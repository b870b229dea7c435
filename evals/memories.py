"""The memories of a study: built once from what experts did, and proven to stay as they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import product
from pathlib import Path

from evals.arms import Recall
from evals.counted import Counted
from evals.experts import experts
from evals.folder import Built, Folder
from evals.plan import Plan, Recipe
from evals.runner import Progress, SoFar
from evals.worlds import World
from evals.wrapped import Guarded
from memp.chat import ChatModel
from memp.errors import InputError
from memp.memory import ProceduralMemory
from memp.procedure import procedure_id
from memp.trajectory import Trajectory
from tasks.base import Task

Opened = dict[tuple[Recall, int], ProceduralMemory]
"""By what retrieves from them, and the seed."""


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
        self._lived = 0
        self._learned = 0

    def build(self, world: World) -> None:
        """Build the memories of a world that are not built yet, and prove the others unchanged.

        Raises:
            InputError: if a memory is not the one noted, or holds a procedure of a task not trained on.
            ModelError: if a model could not be reached; what it had not finished is begun again.
            BudgetSpent: if what it takes is no longer allowed; the same.
        """
        missing = [recipe for recipe in self._plan.recipes if not self._holds(world, recipe)]
        trajectories = self._experts(world) if missing else []
        self._lived += len(world.train)
        for recipe in self._plan.recipes:
            if recipe in missing:
                self._build(world, recipe, trajectories)
            self._learned += len(world.train)
            self._tell_learned(0)
        self.prove(world)

    def prove(self, world: World) -> None:
        """Prove that the memories of a world are as they were built.

        Raises:
            InputError: if one is not, or holds a procedure of a task not trained on.
        """
        for recipe in self._plan.recipes:
            path = self._folder.memory(world.name, recipe.name)
            with self._open(path, create=False) as memory:
                _refuse_foreign(memory, path, world.train)
                built = self._folder.built(world.name, recipe.name)
                if built is None or built.digest != memory.digest():
                    raise InputError(
                        f"the memory in {path} is not the one this study began with; give another --out"
                    )

    @contextmanager
    def opened(self, world: World, recalls: Sequence[Recall]) -> Iterator[Opened]:
        """Open the memories of a world for retrieval, with each seed."""
        with ExitStack() as stack:
            yield {
                (recall, seed): stack.enter_context(
                    self._open(
                        self._folder.memory(world.name, recall.recipe),
                        chat=self._plan.chat,
                        key=recall.key,
                        seed=seed,
                        concurrency=self._workers,
                        create=False,
                    )
                )
                for recall, seed in product(dict.fromkeys(recalls), world.seeds)
            }

    def _holds(self, world: World, recipe: Recipe) -> bool:
        """Whether a memory is there and was built to its end."""
        built = self._folder.built(world.name, recipe.name)
        return built is not None and self._folder.memory(world.name, recipe.name).exists()

    def _build(self, world: World, recipe: Recipe, trajectories: Sequence[Trajectory]) -> None:
        chat = None if recipe.chat is None else self._watched(recipe.chat)
        with self._open(
            self._folder.fresh_memory(world.name, recipe.name),
            chat=chat,
            build=recipe.build,
            key=recipe.key,
            update="vanilla",
            concurrency=self._workers,
        ) as memory:
            memory.update(trajectories)
            _retry_unanswered(memory, chat)
            built = _built(memory, chat, trajectories)
        self._folder.keep_fresh(world.name, recipe.name, built)

    def _watched(self, chat: ChatModel) -> Counted:
        return Counted(Guarded(chat, self._allowed), self._tell_learned)

    def _experts(self, world: World) -> list[Trajectory]:
        total = sum(len(world.train) for world in self._plan.worlds)

        def tell(done: Sequence[Trajectory]) -> None:
            score = sum(trajectory.reward for trajectory in done) / max(1, len(done))
            self._progress("experts", self._lived + len(done), total, SoFar(score))

        return experts(world, self._folder.trajectories(world.name), workers=self._workers, tell=tell)

    def _tell_learned(self, more: int) -> None:
        total = len(self._plan.recipes) * sum(len(world.train) for world in self._plan.worlds)
        self._progress("memory", min(self._learned + more, total), total, None)

    def _open(self, path: Path, **options: object) -> ProceduralMemory:
        return ProceduralMemory.open(path, embedder=self._plan.embedder, **options)  # type: ignore[arg-type]


def _retry_unanswered(memory: ProceduralMemory, chat: ChatModel | None) -> None:
    """Try again what the model gave no answer to, if it answers at all: else nothing was learned about it.

    Raises:
        ModelError: if the model cannot be reached.
    """
    unanswered = [item.id for item in memory.quarantine() if "reply" not in item.payload]
    if unanswered and chat is not None:
        chat.reply([{"role": "user", "content": "Answer with one word: ready."}])
        memory.retry(*unanswered)


def _built(memory: ProceduralMemory, chat: Counted | None, trajectories: Sequence[Trajectory]) -> Built:
    """Say how a memory came out."""
    aside = memory.quarantine()
    tasks = {procedure_id(trajectory.source): trajectory.source for trajectory in trajectories}
    return Built(
        digest=memory.digest(),
        procedures=memory.stats().procedures,
        set_aside=len(aside),
        set_aside_tasks=tuple(
            item.payload["trajectory"]["task_id"]
            if item.kind == "build"
            else tasks[item.payload["procedure"]]
            for item in aside
        ),
        setup_tokens_in=chat.tokens_in if chat else 0,
        setup_tokens_out=chat.tokens_out if chat else 0,
    )


def _refuse_foreign(memory: ProceduralMemory, path: Path, train: Sequence[Task]) -> None:
    """Refuse a memory with a procedure of a task that was not trained on."""
    foreign = {procedure.source for procedure in memory.procedures()} - {task.id for task in train}
    if foreign:
        raise InputError(
            f"{path} holds a procedure of {min(foreign)!r}, no training task of this study; give another --out"
        )
