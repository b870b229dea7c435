"""Learning tasks one after the other: by replay, by a penalty on change, or by neither.

Sizes: T steps, B sequences.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss, pad

from memp.errors import InputError
from memp.neural.ewc import EWC
from memp.neural.replay import Replay, Task


class Examples(NamedTuple):
    """Sequences, and what is asked for at some of their steps."""

    x: Tensor
    """(T, B, inputs)."""

    y: Tensor
    """Bits or numbers, (T, B, outputs)."""

    asked: Tensor
    """1 where they are asked for and 0 elsewhere, (T, B)."""

    def padded(self, steps: int) -> Examples:
        """The same with more steps, at which nothing is asked for."""
        more = steps - len(self.x)
        return Examples(
            pad(self.x, (0, 0, 0, 0, 0, more)),
            pad(self.y, (0, 0, 0, 0, 0, more)),
            pad(self.asked, (0, 0, 0, more)),
        )

    def only(self, number: int) -> Examples:
        """One of the sequences, as B = 1."""
        return Examples(*(part[:, number : number + 1] for part in self))

    @staticmethod
    def joined(parts: Sequence[Examples]) -> Examples:
        """All sequences of several parts, side by side; the parts have as many steps as each other."""
        return Examples(*(torch.cat(tensors, 1) for tensors in zip(*parts, strict=True)))


class Kept(NamedTuple):
    """One sequence in a buffer, and how it was answered when it was put there."""

    examples: Examples
    """Of B = 1."""

    logits: Tensor
    """(T, 1, outputs)."""


class Answers(Protocol):
    """What kind of answers sequences ask for."""

    def losses(self, outputs: Tensor, examples: Examples) -> Tensor:
        """The mean negative log-likelihood, up to a constant, of what each sequence is asked for.

        Args:
            outputs: Of the network, (T, B, outputs).
            examples: What is asked for.

        Returns:
            (B,).
        """
        ...

    def drawn(self, outputs: Tensor, random: torch.Generator) -> Tensor:
        """Answers drawn from what a network finds likely, (T, B, outputs)."""
        ...


class Bits(Answers):
    """Bits, of which a network tells the logits."""

    def losses(self, outputs: Tensor, examples: Examples) -> Tensor:
        """The mean cross-entropy of the bits that each sequence is asked for, (B,)."""
        return _mean_asked(binary_cross_entropy_with_logits(outputs, examples.y, reduction="none"), examples)

    def drawn(self, outputs: Tensor, random: torch.Generator) -> Tensor:
        """Each bit by its probability."""
        return torch.bernoulli(outputs.sigmoid(), generator=random)


class Numbers(Answers):
    """Numbers, of which a network tells the mean; their standard deviation is taken for 1."""

    def losses(self, outputs: Tensor, examples: Examples) -> Tensor:
        """Half the mean squared error of the numbers that each sequence is asked for, (B,)."""
        return _mean_asked((outputs - examples.y).square() / 2, examples)

    def drawn(self, outputs: Tensor, random: torch.Generator) -> Tensor:
        """Each number from a normal distribution."""
        return torch.normal(outputs, 1.0, generator=random)


def _mean_asked(each: Tensor, examples: Examples) -> Tensor:
    """The mean over what is asked for, from (T, B, outputs) to (B,)."""
    return (each.mean(-1) * examples.asked).sum(0) / examples.asked.sum(0)


BITS = Bits()
NUMBERS = Numbers()


def exact(logits: Tensor, examples: Examples) -> Tensor:
    """Whether each sequence is answered without a mistake, (B,)."""
    return (_right(logits, examples).all(-1) | (examples.asked == 0)).all(0)


def bits_right(logits: Tensor, examples: Examples) -> Tensor:
    """The share of the bits of each sequence that is right, (B,)."""
    return _mean_asked(_right(logits, examples).float(), examples)


def _right(logits: Tensor, examples: Examples) -> Tensor:
    return (logits > 0) == (examples.y > 0.5)


class Learner:
    """Learns a recurrent network task by task.

    Its loss is that of the task at hand, plus that of as many sequences of earlier tasks, of which the buffer keeps
    some, plus the penalty on change. With a buffer that draws by priority, the losses weigh as its batch says, and it
    is told of each sequence's loss.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        learning_rate: float = 3e-3,
        replay: Replay[Kept] | None = None,
        distil: float = 0.0,
        ewc: EWC | None = None,
        kind: Answers = BITS,
        longest_gradient: float = 10.0,
        seed: int = 0,
    ) -> None:
        """Take a network, and what keeps it from forgetting.

        Args:
            network: From inputs (T, B, inputs) to outputs (T, B, outputs), such as logits, and a state, which is not
                used.
            learning_rate: Of Adam.
            replay: What of earlier tasks is kept.
            distil: How much the logits of other kept sequences should stay as they were: the alpha of dark experience
                replay; with 0 there is none. Source: Buzzega et al. 2020 (arXiv:2004.07211), DER++, with beta = 1.
            ewc: The penalty on change; `end_task` tells it what matters.
            kind: Of the answers that are asked for.
            longest_gradient: The norm that gradients are clipped to.
            seed: Of the answers that the penalty is found from.
        """
        self.network = network
        self._replay, self._distil, self._ewc = replay, distil, ewc
        self._longest, self._kind = longest_gradient, kind
        self._random = torch.Generator().manual_seed(seed)
        self._optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate)

    def learn(self, fresh: Examples, task: Task) -> float:
        """Take one step.

        Args:
            fresh: Sequences of the task at hand.
            task: Which one that is.

        Returns:
            The loss in the fresh sequences.

        Raises:
            InputError: if the loss is infinite or NaN; nothing is then learned.
        """
        count = fresh.x.shape[1]
        batch = other = None
        if self._replay is not None and self._replay.counts.keys() - {task}:
            batch = self._replay.sample(count, exclude=task)
            other = self._replay.sample(count, exclude=task) if self._distil else None
        drawn = [kept for each in (batch, other) if each is not None for kept in each.items]
        together = Examples.joined([fresh, *(kept.examples for kept in drawn)])
        logits = self.network(together.x)[0]
        each = self._kind.losses(logits, together)
        own = loss = each[:count].mean()
        if batch is not None:
            loss = loss + (torch.from_numpy(batch.weights) * each[count : 2 * count]).mean()
        if other is not None:
            before = torch.cat([kept.logits for kept in other.items], 1)
            asked = together.asked[:, 2 * count :].bool()
            loss = loss + self._distil * mse_loss(logits[:, 2 * count :][asked], before[asked])
        if self._ewc is not None:
            loss = loss + self._ewc.penalty()
        if not loss.isfinite():
            raise InputError(f"the loss is {loss.item()!r} in task {task!r}: try a lower learning_rate")
        self._optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), self._longest)
        self._optimizer.step()
        if self._replay is not None:
            if batch is not None:
                self._replay.update(batch.handles, each[count : 2 * count].detach().numpy())
            for kept in _apart(fresh, logits[:, :count].detach()):
                self._replay.add(kept, task)
        return own.item()

    def end_task(self, examples: Examples) -> None:
        """Say that a task has ended, with sequences of it that show which weights matter."""
        if self._ewc is not None:
            self._ewc.consolidate(self._log_likelihoods(examples))

    def _log_likelihoods(self, examples: Examples) -> Iterator[Tensor]:
        """Of an answer to each sequence, drawn from what the network itself finds likely."""
        for number in range(examples.x.shape[1]):
            one = examples.only(number)
            logits = self.network(one.x)[0]
            drawn = self._kind.drawn(logits.detach(), self._random)
            mean = self._kind.losses(logits, one._replace(y=drawn))
            yield -(mean * one.asked.sum(0) * drawn.shape[-1]).sum()

    @torch.no_grad()
    def answers(self, x: Tensor) -> Tensor:
        """The network's outputs for sequences, such as logits, (T, B, outputs); nothing is learned."""
        outputs: Tensor = self.network(x)[0]
        return outputs


def _apart(examples: Examples, logits: Tensor) -> Iterator[Kept]:
    """Each of some sequences by itself, sharing no memory with the others."""
    for number in range(logits.shape[1]):
        one = Examples(*(part.clone() for part in examples.only(number)))
        yield Kept(one, logits[:, number : number + 1].clone())
