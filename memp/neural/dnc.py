"""A Differentiable Neural Computer (Graves et al. 2016), as a module of torch.

Sizes: T steps, B sequences, N slots of W numbers, R read heads, H write heads.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from memp.errors import InputError
from memp.neural import addressing


class State(NamedTuple):
    """All that a sequence has left behind so far; made anew for every sequence."""

    hidden: Tensor
    """h_t of the controller, (B, hidden)."""

    cell: Tensor
    """c_t of the controller, (B, hidden)."""

    memory: Tensor
    """M_t, (B, N, W)."""

    usage: Tensor
    """u_t, (B, N), in [0, 1]."""

    written: Tensor
    """w^w_t, (B, H, N)."""

    read: Tensor
    """w^r_t, (B, R, N)."""

    vectors: Tensor
    """What was read, r_t, (B, R * W)."""

    links: Tensor
    """L_t, (B, H, N, N); of no slots where a DNC has no links."""

    precedence: Tensor
    """p_t, (B, H, N); of no slots where a DNC has no links."""


class DNC(nn.Module):
    """A recurrent network with a memory that it writes to and reads from, differentiable throughout.

    Nothing it learns depends on the number of slots: `slots` may be set to another number at any time. Its state is
    made for every sequence, and all operations are pure: `grad`, `vmap` and `jacrev` of `torch.func` work on it.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        slots: int = 16,
        width: int = 16,
        read_heads: int = 1,
        write_heads: int = 1,
        hidden: int = 64,
        links: bool = True,
        masks: bool = False,
        deallocate: bool = False,
        sharpen: bool = False,
    ) -> None:
        """Make a network with random weights, of torch's global generator, as modules do.

        Args:
            inputs: Numbers in an input of one step.
            outputs: Numbers in an output of one step.
            slots: N, of the memory.
            width: W, numbers in a slot.
            read_heads: R.
            write_heads: H; they allocate one after the other, so that no two take the same free slot.
            hidden: Width of the LSTM that controls the memory.
            links: Whether it keeps in mind in which order it wrote (temporal links).
            masks: Whether it may compare parts of a slot only (Csordas and Schmidhuber 2019).
            deallocate: Whether freed slots are emptied as well (Csordas and Schmidhuber 2019).
            sharpen: Whether it may sharpen what links point to (Csordas and Schmidhuber 2019).

        Raises:
            InputError: if a size is below 1, or links that are not there should be sharpened.
        """
        super().__init__()
        sizes = {"inputs": inputs, "outputs": outputs, "width": width, "hidden": hidden}
        for name, size in {**sizes, "read_heads": read_heads, "write_heads": write_heads}.items():
            if size < 1:
                raise InputError(f"{name} must be at least 1, not {size!r}")
        if sharpen and not links:
            raise InputError("sharpen=True sharpens links: it needs links=True")
        self.inputs, self.outputs, self.width, self.hidden = inputs, outputs, width, hidden
        self.read_heads, self.write_heads = read_heads, write_heads
        self.has_links, self.deallocates = links, deallocate
        self.slots = slots
        self._layout = _Layout(width, read_heads, write_heads, links=links, masks=masks, sharpen=sharpen)
        read = read_heads * width
        self.from_input = nn.Linear(inputs, 4 * hidden)
        self.from_state = nn.Linear(read + hidden, 4 * hidden, bias=False)
        self.interface = nn.Linear(hidden, self._layout.size)
        self.output = nn.Linear(read + hidden, outputs)
        for layer in (self.from_input, self.from_state, self.interface, self.output):
            nn.init.xavier_uniform_(layer.weight)
        for layer in (self.from_input, self.interface, self.output):
            nn.init.zeros_(layer.bias)

    @property
    def slots(self) -> int:
        """N, for sequences that begin from now on."""
        return self._slots

    @slots.setter
    def slots(self, slots: int) -> None:
        if slots < 1:
            raise InputError(f"slots must be at least 1, not {slots!r}")
        self._slots = slots

    def begin(self, batch: int) -> State:
        """Return the state before the first step of so many sequences: all zero."""
        like, slots = self.output.weight, self._slots
        linked = slots if self.has_links else 0

        def zeros(*shape: int) -> Tensor:
            return like.new_zeros(batch, *shape)

        return State(
            hidden=zeros(self.hidden),
            cell=zeros(self.hidden),
            memory=zeros(slots, self.width),
            usage=zeros(slots),
            written=zeros(self.write_heads, slots),
            read=zeros(self.read_heads, slots),
            vectors=zeros(self.read_heads * self.width),
            links=zeros(self.write_heads, linked, linked),
            precedence=zeros(self.write_heads, linked),
        )

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Read sequences step by step.

        Args:
            x: (T, B, inputs), T at least 1.
            state: What went before; None begins anew.

        Returns:
            The outputs y_t = W_y h_t + W_r [r^1_t; ...; r^R_t], (T, B, outputs), and the state after the last step.

        Raises:
            InputError: if `x` or `state` is of another shape.
        """
        if x.ndim != 3 or x.shape[-1] != self.inputs or not len(x):
            raise InputError(f"x must be of shape (T, B, {self.inputs}), not {tuple(x.shape)}")
        if state is None:
            state = self.begin(x.shape[1])
        elif len(state.memory) != x.shape[1] or state.memory.shape[-1] != self.width:
            needed = f"(B={x.shape[1]}, N, W={self.width})"
            raise InputError(f"the state has a memory of shape {tuple(state.memory.shape)}; x needs {needed}")
        later = x.new_ones(2 * state.memory.shape[-2:-1]).triu(1)
        seen = [torch.cat((state.vectors, state.hidden), -1)]
        inverse = addressing.inverse_norms(state.memory)
        for from_input in self.from_input(x):
            gates = torch.addmm(from_input, seen[-1], self.from_state.weight.mT)
            state, inverse = self._step(gates, state, inverse, later)
            seen.append(torch.cat((state.vectors, state.hidden), -1))
        return self.output(torch.stack(seen[1:])), state

    def _step(self, gates: Tensor, state: State, inverse: Tensor, later: Tensor) -> tuple[State, Tensor]:
        """One step: the controller, then the write, then the read.

        Args:
            gates: Of the controller, before they are squashed, (B, 4 * hidden).
            state: Of the step before.
            inverse: The `addressing.inverse_norms` of its memory, (B, 1, N).
            later: As in `addressing.allocation`, (N, N).
        """
        fresh, squashed = gates.split((self.hidden, 3 * self.hidden), -1)
        let_in, forget, let_out = torch.sigmoid(squashed).chunk(3, -1)
        cell = forget * state.cell + let_in * torch.tanh(fresh)
        hidden = let_out * torch.tanh(cell)
        said = self._layout.read(self.interface(hidden))

        retained = addressing.retention(said.free, state.read)
        usage = addressing.used(state.usage, state.written, retained)
        if said.write_masks is not None:
            inverse = addressing.inverse_norms(state.memory, said.write_masks)
        found = addressing.content(state.memory, inverse, said.write_keys)
        written = self._written(said, usage, found, later)
        memory = state.memory * retained.unsqueeze(-1) if self.deallocates else state.memory
        memory = addressing.erased_and_added(memory, written, said.erase, said.add)

        links, precedence = state.links, state.precedence
        inverse = addressing.inverse_norms(memory, said.read_masks)
        read = addressing.content(memory, inverse, said.read_keys)
        if self.has_links:
            links, forward, backward = addressing.linked(links, precedence, written, state.read)
            precedence = addressing.preceded(precedence, written)
            read = self._mixed(backward, read, forward, said)
        vectors = torch.bmm(read, memory).flatten(1)
        return State(hidden, cell, memory, usage, written, read, vectors, links, precedence), inverse

    def _written(self, said: Interface, usage: Tensor, found: Tensor, later: Tensor) -> Tensor:
        """w^w = g^w (g^a a + (1 - g^a) c): where to write, (B, H, N); heads allocate one after the other."""
        by_head: list[Tensor] = []
        for alike, share, strength in zip(
            found.unbind(1), said.allocate.split(1, -1), said.write.split(1, -1), strict=True
        ):
            free = addressing.allocation(usage, later)
            by_head.append(strength * torch.lerp(alike, free, share))
            if len(by_head) < self.write_heads:
                usage = usage + (addressing.ONE - usage) * share * strength * free
        return torch.stack(by_head, 1)

    def _mixed(self, backward: Tensor, found: Tensor, forward: Tensor, said: Interface) -> Tensor:
        """w^r = pi_1 b + pi_2 c + pi_3 f: where to read, (B, R, N), with a b and an f of each write head."""
        if said.sharpness is not None:
            backward_sharpness, forward_sharpness = said.sharpness.mT.chunk(2, 1)
            backward = addressing.sharpened(backward, backward_sharpness)
            forward = addressing.sharpened(forward, forward_sharpness)
        ways = torch.cat((backward, found.unsqueeze(1), forward), 1)
        return (said.modes.mT.unsqueeze(-1) * ways).sum(1)


class Interface(NamedTuple):
    """What the controller says to the memory at one step: xi_t, taken apart."""

    read_keys: Tensor
    """With their strengths, as `addressing.pointers`, (B, R, W)."""

    write_keys: Tensor
    """The same, (B, H, W)."""

    add: Tensor
    """Write vectors, (B, H, W)."""

    sharpness: Tensor | None
    """Of backward, then of forward weightings, (B, R, 2 * H), at least 1."""

    erase: Tensor
    """(B, H, W), in (0, 1)."""

    free: Tensor
    """(B, R), in (0, 1)."""

    allocate: Tensor
    """g^a, (B, H), in (0, 1): how much of the write goes to free slots."""

    write: Tensor
    """g^w, (B, H), in (0, 1): how much is written at all."""

    read_masks: Tensor | None
    """(B, R, W), in (0, 1)."""

    write_masks: Tensor | None
    """(B, H, W), in (0, 1)."""

    modes: Tensor
    """pi, (B, R, 2 * H + 1), of sum 1: backward, content, forward."""


class _Layout:
    """Where in xi_t what is said stands: side by side what is squashed in the same way."""

    def __init__(
        self, width: int, readers: int, writers: int, *, links: bool, masks: bool, sharpen: bool
    ) -> None:
        self._heads, self._writers = (readers, writers), writers
        self._sharpen, self._modes = (readers if sharpen else 0), readers
        heads = readers + writers
        self._plain = (heads * width, writers * width)
        self._oneplus = (heads, 2 * readers * writers * sharpen)
        self._squashed = (writers * width, readers, writers, writers, heads * width * masks)
        self._parts = (
            sum(self._plain),
            sum(self._oneplus),
            sum(self._squashed),
            readers * (2 * writers * links + 1),
        )
        self.size = sum(self._parts)

    def read(self, said: Tensor) -> Interface:
        """Take apart what the controller says, (B, size)."""
        plain, above_one, squashed, modes = said.split(self._parts, -1)
        keys, add = plain.split(self._plain, -1)
        strengths, sharpness = (addressing.ONE + softplus(above_one)).split(self._oneplus, -1)
        erase, free, allocate, write, masks = torch.sigmoid(squashed).split(self._squashed, -1)
        heads = sum(self._heads)
        compared = _rows(masks, heads) if masks.shape[-1] else None
        pointers = addressing.pointers(_rows(keys, heads), strengths, compared)
        read_keys, write_keys = pointers.split(self._heads, 1)
        read_masks, write_masks = (None, None) if compared is None else compared.split(self._heads, 1)
        return Interface(
            read_keys=read_keys,
            write_keys=write_keys,
            add=_rows(add, self._writers),
            sharpness=_rows(sharpness, self._sharpen) if self._sharpen else None,
            erase=_rows(erase, self._writers),
            free=free,
            allocate=allocate,
            write=write,
            read_masks=read_masks,
            write_masks=write_masks,
            modes=torch.softmax(_rows(modes, self._modes), -1),
        )


def _rows(said: Tensor, heads: int) -> Tensor:
    """A row for each head, (B, heads, ...)."""
    split: Tensor = said.unflatten(-1, (heads, -1))
    return split
