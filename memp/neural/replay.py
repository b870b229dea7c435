"""Experience replay for learning one task after another: buffers that give every task an equal share of the room."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from memp.errors import InputError
from memp.neural.sum_tree import FloatVector, IntVector, masses

Item = TypeVar("Item")

Task = str | int
"""What tells tasks apart."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch(Generic[Item]):
    """What was drawn from a buffer; an item may be in it more than once."""

    items: list[Item]

    handles: IntVector
    """What the buffer is told by how the items did, shape (n,)."""

    weights: NDArray[np.float32]
    """What to multiply the losses of the items by, in (0, 1], shape (n,)."""


class Replay(Protocol[Item]):
    """Keeps a sample of what was met, so that it can be learned from again."""

    @property
    def capacity(self) -> int:
        """How many items it holds at most."""
        ...

    @property
    def counts(self) -> dict[Task, int]:
        """How many items of each task it holds: at least 1 of every task that was added."""
        ...

    def __len__(self) -> int:
        """How many items it holds."""
        ...

    def add(self, item: Item, task: Task) -> None:
        """Offer an item of a task; it may be left out, or another one may go for it.

        Raises:
            InputError: if there are more tasks than there is room for items.
        """
        ...

    def sample(self, n: int, *, exclude: Task | None = None) -> Batch[Item]:
        """Draw items with replacement, so that they may be more than it holds.

        Args:
            n: How many, at least 1.
            exclude: A task of which none is drawn, as a rule the one being learned.

        Raises:
            InputError: if it holds nothing that may be drawn, or `n` is less than 1.
        """
        ...

    def update(self, handles: IntVector, deltas: ArrayLike) -> None:
        """Say how far off the learner was in items that were drawn.

        Args:
            handles: Those of a batch, shape (n,).
            deltas: The losses of the items, or their temporal-difference errors, shape (n,).

        Raises:
            InputError: if the buffer heeds them, and one is infinite or NaN, or they are not as many as the handles.
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return what it holds and the state of its generator, as plain values beside the items."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned: the same calls then give the same batches.

        Raises:
            InputError: if the state is of another kind of buffer, or of another capacity.
        """
        ...


class _Balanced(Replay[Item]):
    """A buffer that holds all it was given while there is room, and then an equal share of each task.

    Two invariants: of a task, each item ever added is held with the same probability (reservoir sampling); and
    a task has fewer than another by more than one only where all of it is held. So an early task uses the whole
    room until later ones claim their shares, which it yields item by item, chosen at random.

    Source:
        Vitter 1985, algorithm R, in each task; Chrysakis and Moens 2020, algorithm 1, for the shares.
    """

    def __init__(self, capacity: int, *, seed: int = 0) -> None:
        """Make room for `capacity` items; raise `InputError` if that is less than 1."""
        if capacity < 1:
            raise InputError(f"the capacity is {capacity!r}; it has to be at least 1")
        self._capacity = capacity
        self._random = np.random.default_rng(seed)
        self._items: list[Item] = []
        self._slots: dict[Task, list[int]] = {}  # in which slots the items of each task are
        self._seen: dict[Task, int] = {}  # how many of each task were added
        self._handles = np.arange(capacity) - capacity  # slot + capacity * (writes - 1)

    @property
    def capacity(self) -> int:
        return self._capacity

    @property
    def counts(self) -> dict[Task, int]:
        return {task: len(slots) for task, slots in self._slots.items()}

    def __len__(self) -> int:
        return len(self._items)

    def add(self, item: Item, task: Task) -> None:
        slot = self._slot_for(task)
        if slot is None:
            return
        self._items[slot : slot + 1] = [item]  # also where the slot is the next one after the last
        self._handles[slot] += self._capacity
        self._added(slot, task)

    def sample(self, n: int, *, exclude: Task | None = None) -> Batch[Item]:
        if n < 1:
            raise InputError(f"{n!r} items were asked for; ask for at least 1")
        if not self._slots.keys() - {exclude}:
            held = f"only items of task {exclude!r}, which is excluded" if self._slots else "nothing"
            raise InputError(f"the buffer holds {held}; see `counts` for what can be drawn")
        slots, weights = self._draw(n, exclude)
        return Batch(
            items=[self._items[slot] for slot in slots.tolist()],
            handles=self._handles[slots],
            weights=weights.astype(np.float32),
        )

    def state_dict(self) -> dict[str, Any]:
        return {
            "kind": type(self).__name__,
            "capacity": self._capacity,
            "random": self._random.bit_generator.state,
            "items": list(self._items),
            "slots": {task: list(slots) for task, slots in self._slots.items()},
            "seen": dict(self._seen),
            "handles": self._handles.tolist(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        mine, given = (type(self).__name__, self._capacity), (state.get("kind"), state.get("capacity"))
        if mine != given:
            raise InputError(
                f"the state is of a {given[0]!r} of capacity {given[1]!r}, but this is a {mine[0]!r} of capacity "
                f"{mine[1]!r}; load it into a buffer like the one that was saved"
            )
        self._random.bit_generator.state = state["random"]
        self._items = list(state["items"])
        self._slots = {task: list(slots) for task, slots in state["slots"].items()}
        self._seen = dict(state["seen"])
        self._handles = np.array(state["handles"])

    @abstractmethod
    def _draw(self, n: int, exclude: Task | None) -> tuple[IntVector, FloatVector]:
        """Return the slots of `n` items and their weights, each of shape (n,); there is something to draw."""

    @abstractmethod
    def _added(self, slot: int, task: Task) -> None:
        """Note that a slot has a new item."""

    def _slot_for(self, task: Task) -> int | None:
        """Return where the next item of a task goes, now a slot of the task, or None where it is left out."""
        if task not in self._slots and len(self._slots) == self._capacity:
            raise InputError(
                f"there is no room for task {task!r}: the buffer has a capacity of {self._capacity}, and as many "
                "tasks; give it at least one item for each task"
            )
        mine, seen = self._slots.setdefault(task, []), self._seen.get(task, 0)
        self._seen[task] = seen + 1
        if len(self) < self._capacity:
            mine.append(len(self))
            return mine[-1]
        largest = max(self._slots.values(), key=len)
        if len(mine) + 1 < len(largest):  # all of it is held, by the second invariant
            mine.append(self._yielded(largest))
            return mine[-1]
        place = int(self._random.integers(seen + 1))
        return mine[place] if place < len(mine) else None

    def _yielded(self, slots: list[int]) -> int:
        """Take one of a task's slots away at random."""
        place = int(self._random.integers(len(slots)))
        slots[place], slots[-1] = slots[-1], slots[place]
        return slots.pop()


class Reservoir(_Balanced[Item]):
    """Draws uniformly from all that it holds; all weights are 1.

    Of a task, each item ever added is held with the same probability; and a task has fewer items than another by
    more than one only where all of it is held.
    """

    def update(self, handles: IntVector, deltas: ArrayLike) -> None:
        """Ignore it: all items are drawn alike."""

    def _draw(self, n: int, exclude: Task | None) -> tuple[IntVector, FloatVector]:
        shares = [slots for task, slots in self._slots.items() if task != exclude]
        ends = np.cumsum([len(slots) for slots in shares])
        places = self._random.integers(ends[-1], size=n)
        owners = ends.searchsorted(places, side="right")
        from_end = places - ends[owners]  # below 0
        slots = [shares[owner][place] for owner, place in zip(owners, from_end, strict=True)]
        return np.array(slots), np.ones(n)

    def _added(self, slot: int, task: Task) -> None: ...


class Prioritized(_Balanced[Item]):
    """Draws items the more often, the further off the learner was in them; holds them as a `Reservoir` does.

    With the priority p = |delta| + eps of an item, P(i) = p_i^alpha / sum_k p_k^alpha over the N items that may
    be drawn. The interval [0, 1) is cut into n equal parts, and one item is drawn from each. Its weight is
    (N P(i))^-beta over the largest one of the batch. A new item has the highest priority of all that are held.

    Source:
        Schaul et al. 2016 (arXiv:1511.05952), sections 3.3 (proportional) and 3.4, algorithm 1.
    """

    def __init__(
        self,
        capacity: int,
        *,
        beta_steps: int,
        alpha: float = 0.6,
        beta: float = 0.4,
        eps: float = 1e-3,
        seed: int = 0,
    ) -> None:
        """Make room for `capacity` items.

        Args:
            capacity: How many items, at least 1.
            beta_steps: Over how many batches beta rises to 1, in equal steps.
            alpha: How much the priorities count, in [0, 1]; 0 is uniform.
            beta: How much of the bias the weights take away at first, in [0, 1]; 1 is all of it.
            eps: Added to every |delta|, above 0.
            seed: Of its own generator.

        Raises:
            InputError: if one of them is out of its range.
        """
        super().__init__(capacity, seed=seed)
        if not (0 <= alpha <= 1 and 0 <= beta <= 1):
            raise InputError(f"alpha is {alpha!r} and beta is {beta!r}; both have to be in [0, 1]")
        if not 0 < eps < np.inf:
            raise InputError(
                f"eps is {eps!r}; it has to be finite and above 0, so that each item can be drawn"
            )
        if beta_steps < 1:
            raise InputError(f"beta_steps is {beta_steps!r}; it has to be at least 1")
        self._alpha, self._first_beta, self._beta_steps, self._eps = alpha, beta, beta_steps, eps
        self._priorities = np.zeros(capacity)
        self._highest: float | None = None  # of the priorities, where it is known
        self._masses = masses(capacity)  # p^alpha, but 0 in the slots of the excluded task
        self._excluded: Task | None = None
        self._muted = np.zeros(capacity, np.bool_)  # whether a slot is of the excluded task
        self._batches = self._stale = 0

    @property
    def beta(self) -> float:
        """How much of the bias the weights of the next batch take away, in [0, 1]."""
        return self._first_beta + (1 - self._first_beta) * min(1.0, self._batches / self._beta_steps)

    @property
    def stale(self) -> int:
        """How many handles were ignored so far, since their items were held no longer."""
        return self._stale

    def update(self, handles: IntVector, deltas: ArrayLike) -> None:
        """Set the priorities of items that were drawn to |delta| + eps; of one drawn twice the last one counts.

        A handle whose item is held no longer is ignored, and counted in `stale`.

        Args:
            handles: Those of a batch, shape (n,).
            deltas: The losses of the items, or their temporal-difference errors, shape (n,).

        Raises:
            InputError: if a delta is infinite or NaN, or they are not as many as the handles; nothing is set then.
        """
        far = np.abs(np.asarray(deltas, np.float64))
        if handles.shape != far.shape:
            raise InputError(f"there are handles of shape {handles.shape}, but deltas of shape {far.shape}")
        if not np.isfinite(far).all():
            raise InputError(f"a delta is {float(far[~np.isfinite(far)][0])!r}; deltas have to be finite")
        slots = handles % self._capacity
        held = (handles >= 0) & (handles == self._handles[slots])
        self._stale += int((~held).sum())
        self._prioritize(slots[held], far[held] + self._eps)
        self._highest = None

    def state_dict(self) -> dict[str, Any]:
        """Return what it holds and the state of its generator, as plain values beside the items."""
        return super().state_dict() | {
            "priorities": self._priorities.tolist(),
            "batches": self._batches,
            "stale": self._stale,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned: the same calls then give the same batches.

        Raises:
            InputError: if the state is of another kind of buffer, or of another capacity.
        """
        super().load_state_dict(state)
        self._priorities, self._highest = np.array(state["priorities"]), None
        self._batches, self._stale = state["batches"], state["stale"]
        self._masses = masses(self._capacity)
        self._exclude(None)

    def _draw(self, n: int, exclude: Task | None) -> tuple[IntVector, FloatVector]:
        if exclude != self._excluded:
            self._exclude(exclude)
        slots = self._masses.find((np.arange(n) + self._random.random(n)) / n)
        drawn = self._masses.at(slots)
        weights = (drawn.min() / drawn) ** self.beta  # N and the sum of the masses cancel
        self._batches += 1
        return slots, weights

    def _added(self, slot: int, task: Task) -> None:
        if self._highest is None:
            self._highest = float(self._priorities.max()) or 1.0
        self._muted[slot] = task == self._excluded
        self._prioritize(np.array([slot]), np.array([self._highest]))

    def _prioritize(self, slots: IntVector, priorities: FloatVector) -> None:
        self._priorities[slots] = priorities
        self._masses.put(slots, np.where(self._muted[slots], 0.0, priorities**self._alpha))

    def _exclude(self, task: Task | None) -> None:
        """Draw no items of one task; O(capacity), but a learner changes it only from task to task."""
        self._excluded = task
        self._muted[:] = False
        if task in self._slots:
            self._muted[self._slots[task]] = True
        held = np.arange(len(self))
        self._prioritize(held, self._priorities[held])
