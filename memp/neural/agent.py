"""An agent that learns to act from the trajectories of the procedures it is shown, by imitation, with a DNC."""

from __future__ import annotations

import re
from collections import Counter, OrderedDict
from collections.abc import Sequence
from hashlib import blake2b
from random import Random
from threading import Lock

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence

from memp.agents.base import Admissible, Policy
from memp.errors import InputError
from memp.neural.dnc import DNC, State
from memp.procedure import Match
from memp.trajectory import Trajectory

SENTENCE = re.compile(r"[^.!?\n]+")

LEARNED = 16
"""How many learned networks are kept: each takes some 5 MB."""

AGAIN = 5.0
"""By how much an action is put back for every time it was taken at the very same observation, in logits."""


class NeuralAgent:
    """Learns, from nothing, what was done in the trajectories it is shown, and then does what they would have.

    A network is learned once for each set of procedures, however they are ranked; so where the whole memory is shown,
    it is learned once for all tasks. Where no procedure has a trajectory, actions are drawn at random. An action that
    was taken before at the very same observation is put back, so that it does not run in circles.
    """

    def __init__(
        self,
        *,
        features: int = 1024,
        slots: int = 16,
        hidden: int = 128,
        steps: int = 300,
        learning_rate: float = 1e-2,
        seed: int = 0,
    ) -> None:
        """Say how it learns.

        Args:
            features: Numbers that a text becomes, by hashing its sentences.
            slots: Of the memory of the DNC.
            hidden: Width of its controller.
            steps: Of training, each over all trajectories.
            learning_rate: Of Adam at first; it falls to 0.
            seed: Of the first weights.

        Raises:
            InputError: if `steps` or `features` is below 1.
        """
        if min(steps, features) < 1:
            raise InputError(f"steps={steps!r} and features={features!r} must be at least 1")
        self._features, self._slots, self._hidden = features, slots, hidden
        self._steps, self._rate, self._seed = steps, learning_rate, seed
        self._learned: OrderedDict[tuple[str, ...], Imitator] = OrderedDict()
        self._lock = Lock()

    @property
    def name(self) -> str:
        """`neural/dnc`."""
        return "neural/dnc"

    def start(self, task: str, matches: Sequence[Match] = (), *, seed: int = 0) -> Policy:
        """Begin an episode; what the procedures show is learned first, unless that was done before."""
        shown = {
            match.procedure.trajectory.model_dump_json(): match.procedure.trajectory
            for match in matches
            if match.procedure.trajectory is not None
        }
        return _NeuralPolicy(self._imitator(shown) if shown else None, task, seed)

    def _imitator(self, shown: dict[str, Trajectory]) -> Imitator:
        key = tuple(sorted(shown))
        with self._lock:  # learning is what takes time: two threads would learn the same
            if key not in self._learned:
                self._learned[key] = self._new([shown[text] for text in key])
                if len(self._learned) > LEARNED:
                    self._learned.popitem(last=False)
            self._learned.move_to_end(key)
            return self._learned[key]

    def _new(self, trajectories: Sequence[Trajectory]) -> Imitator:
        actions = sorted({step.action for trajectory in trajectories for step in trajectory.steps})
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._seed)
            network = DNC(2 * self._features, len(actions), slots=self._slots, width=16, hidden=self._hidden)
        imitator = Imitator(network, actions, self._features)
        imitator.learn(trajectories, steps=self._steps, learning_rate=self._rate)
        return imitator


class Imitator:
    """A network that names the next action, from the task and what was observed so far."""

    def __init__(self, network: DNC, actions: Sequence[str], features: int) -> None:
        """Take a network from 2 * `features` inputs to a logit for each action."""
        self.actions = tuple(actions)
        self._network = network
        self._features = features

    def learn(self, trajectories: Sequence[Trajectory], *, steps: int, learning_rate: float) -> float:
        """Learn which action was taken at each step, and return the last loss: the mean cross-entropy.

        Raises:
            InputError: if the loss is infinite or NaN.
        """
        numbers = {action: number for number, action in enumerate(self.actions)}
        seen = [
            self.inputs(one.task, [one.start, *(step.observation for step in one.steps[:-1])])
            for one in trajectories
        ]
        done = [torch.tensor([numbers[step.action] for step in one.steps]) for one in trajectories]
        x, y = pad_sequence(seen), pad_sequence(done, padding_value=-1)
        optimizer = torch.optim.Adam(self._network.parameters(), lr=learning_rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        loss = torch.tensor(0.0)
        for _ in range(steps):
            loss = cross_entropy(self._network(x)[0].flatten(0, 1), y.flatten(), ignore_index=-1)
            if not loss.isfinite():
                raise InputError(
                    f"the loss is {loss.item()!r}: try a lower learning_rate than {learning_rate!r}"
                )
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self._network.parameters(), 10.0)
            optimizer.step()
            schedule.step()
        return loss.item()

    def inputs(self, task: str, observations: Sequence[str]) -> Tensor:
        """What the network reads, (T, 2 * features)."""
        of_task = _hashed(task, self._features)
        return torch.stack([torch.cat((of_task, _hashed(text, self._features))) for text in observations])

    @torch.no_grad()
    def logits(self, task: str, observation: str, state: State | None) -> tuple[Tensor, State]:
        """A logit for each action, (actions,), and what is kept for the next step."""
        y, state = self._network(self.inputs(task, [observation]).unsqueeze(1), state)
        return y[0, 0], state


class _NeuralPolicy:
    """One episode of the agent."""

    tokens_in = 0
    tokens_out = 0

    def __init__(self, imitator: Imitator | None, task: str, seed: int) -> None:
        self._imitator, self._task = imitator, task
        self._state: State | None = None
        self._random = Random(seed)
        self._taken: Counter[tuple[str, str]] = Counter()

    def act(self, observation: str, admissible: Admissible) -> str | None:
        """Take the likeliest of the actions that are possible; the others stand behind all that were learned."""
        options = list(admissible())
        if not options:
            return None
        self._random.shuffle(options)  # decides between equals
        likely = dict.fromkeys(options, 0.0)
        if self._imitator is not None:
            logits, self._state = self._imitator.logits(self._task, observation, self._state)
            lowest = logits.min().item()
            known = dict(zip(self._imitator.actions, logits.tolist(), strict=True))
            likely = {action: known.get(action, lowest) for action in options}
        chosen = max(options, key=lambda action: likely[action] - AGAIN * self._taken[observation, action])
        self._taken[observation, chosen] += 1
        return chosen


def _hashed(text: str, features: int) -> Tensor:
    """The sentences and the words of a text, each added to or taken from one of so many numbers."""
    found = torch.zeros(features)
    sentences = [sentence.strip().lower() for sentence in SENTENCE.findall(text)]
    for part in (*sentences, *(word for sentence in sentences for word in sentence.split())):
        drawn = int.from_bytes(blake2b(part.encode(), digest_size=8).digest())
        found[drawn // 2 % features] += 1 - 2 * (drawn % 2)
    return found
