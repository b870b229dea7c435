"""The DNC: against its equations written out slot by slot, its invariants, its gradients."""

from __future__ import annotations

from math import sqrt
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.func import functional_call, jacrev, vmap

from memp.errors import InputError
from memp.neural import addressing
from memp.neural.dnc import DNC, State

EPSILON = addressing.EPSILON.item()

VARIANTS: list[dict[str, Any]] = [
    {},
    {"links": False},
    {"read_heads": 3},
    {"write_heads": 2},
    {"masks": True},
    {"deallocate": True},
    {"sharpen": True},
    {"read_heads": 2, "write_heads": 2, "masks": True, "deallocate": True, "sharpen": True},
    {"links": False, "write_heads": 3, "deallocate": True},
]


def network(**options: Any) -> DNC:
    torch.manual_seed(0)
    made = DNC(3, 2, **{"slots": 5, "width": 4, "hidden": 6, **options}).double()
    for weights in made.parameters():
        torch.nn.init.normal_(weights, std=0.5)
    return made


def sequences(steps: int = 6, batch: int = 2) -> Tensor:
    return torch.randn(steps, batch, 3, dtype=torch.double, generator=torch.Generator().manual_seed(1))


def states(dnc: DNC, x: Tensor) -> list[State]:
    """The states after each step."""
    found, state = [], None
    for step in x:
        _, state = dnc(step[None], state)
        found.append(state)
    return found


class Plain:
    """The equations of Graves et al. 2016 for one sequence and one head of each kind, written out in loops."""

    def __init__(self, dnc: DNC) -> None:
        self.dnc, self.slots, self.width = dnc, dnc.slots, dnc.width

    def run(self, x: Tensor) -> list[list[float]]:
        d, n, w = self.dnc, self.slots, self.width
        h = c = torch.zeros(d.hidden, dtype=x.dtype)
        memory = [[0.0] * w for _ in range(n)]
        usage, ww, wr, p = [0.0] * n, [0.0] * n, [0.0] * n, [0.0] * n
        link = [[0.0] * n for _ in range(n)]
        r = [0.0] * w
        outputs = []
        for step in x:
            state = torch.cat((torch.tensor(r, dtype=x.dtype), h))
            g, i, f, o = (d.from_input(step) + d.from_state(state)).chunk(4)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            keys, strengths, erase, gates, modes = d.interface(h).split((3 * w, 2, w, 3, 3))
            kr, kw, v = keys.view(3, w).tolist()
            br, bw = (1 + strengths.exp().log1p()).tolist()
            e, (free, ga, gw) = erase.sigmoid().tolist(), gates.sigmoid().tolist()
            pi = modes.softmax(0).tolist()

            psi = [1 - free * wr[j] for j in range(n)]
            usage = [(usage[j] + ww[j] - usage[j] * ww[j]) * psi[j] for j in range(n)]
            a, product = [0.0] * n, 1.0
            for j in sorted(range(n), key=lambda j: usage[j]):
                u = EPSILON + (1 - EPSILON) * usage[j]
                a[j], product = (1 - u) * product, product * u
            cw = self.content(memory, kw, bw)
            ww = [gw * (ga * a[j] + (1 - ga) * cw[j]) for j in range(n)]
            memory = [[memory[j][k] * (1 - ww[j] * e[k]) + ww[j] * v[k] for k in range(w)] for j in range(n)]
            link = [
                [0.0 if j == k else (1 - ww[j] - ww[k]) * link[j][k] + ww[j] * p[k] for k in range(n)]
                for j in range(n)
            ]
            p = [(1 - sum(ww)) * p[j] + ww[j] for j in range(n)]
            cr = self.content(memory, kr, br)
            forward = [sum(link[j][k] * wr[k] for k in range(n)) for j in range(n)]
            backward = [sum(link[k][j] * wr[k] for k in range(n)) for j in range(n)]
            wr = [pi[0] * backward[j] + pi[1] * cr[j] + pi[2] * forward[j] for j in range(n)]
            r = [sum(memory[j][k] * wr[j] for j in range(n)) for k in range(w)]
            outputs.append(d.output(torch.cat((torch.tensor(r, dtype=x.dtype), h))).tolist())
        return outputs

    def content(self, memory: list[list[float]], key: list[float], strength: float) -> Any:
        def norm(v: list[float]) -> float:
            return sqrt(sum(number * number for number in v) + EPSILON)

        cosines = [
            sum(k * m for k, m in zip(key, slot, strict=True)) / norm(key) / norm(slot) for slot in memory
        ]
        return torch.softmax(strength * torch.tensor(cosines, dtype=torch.double), 0).tolist()


def test_it_computes_the_equations_of_the_paper() -> None:
    dnc, x = network(), sequences(steps=12, batch=1)

    with torch.no_grad():
        y, _ = dnc(x)
        expected = Plain(dnc).run(x[:, 0])

    assert y[:, 0].flatten().tolist() == pytest.approx(torch.tensor(expected).flatten().tolist(), abs=1e-6)


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_what_is_read_and_written_keeps_the_invariants(options: dict[str, Any]) -> None:
    dnc = network(**options)
    for state in states(dnc, 3 * sequences(steps=20, batch=8)):
        assert 0 <= state.usage.min() <= state.usage.max() <= 1
        for weighting in (state.written, state.read, state.precedence):
            assert (weighting >= 0).all()
            assert (weighting.sum(-1) <= 1 + 1e-9).all()
        links = state.links
        assert (links >= 0).all()
        assert (links.diagonal(dim1=-2, dim2=-1) == 0).all()
        assert (links.sum(-1) <= 1 + 1e-9).all()
        assert (links.sum(-2) <= 1 + 1e-9).all()


def test_two_writes_leave_a_memory_of_rank_two() -> None:
    second = states(network(), sequences())[1]

    assert torch.linalg.matrix_rank(second.memory, atol=1e-4).min() >= 2


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_gradients_are_those_of_finite_differences(options: dict[str, Any]) -> None:
    dnc = network(**options)
    names = list(dict(dnc.named_parameters()))
    x = sequences(steps=4).requires_grad_()

    def run(x: Tensor, *weights: Tensor) -> Tensor:
        y: Tensor = functional_call(dnc, dict(zip(names, weights, strict=True)), x)[0]
        return y

    assert torch.autograd.gradcheck(run, (x, *dnc.parameters()), fast_mode=True)


def test_what_is_read_last_depends_on_what_was_written_first() -> None:
    dnc, x = network(), sequences(steps=8).requires_grad_()
    _, first = dnc(x[:1])
    first.memory.retain_grad()
    y, _ = dnc(x[1:], first._replace(hidden=first.hidden.detach(), cell=first.cell.detach()))
    y[-1].sum().backward()

    assert first.memory.grad is not None
    assert first.memory.grad.abs().max() > 0
    assert x.grad is not None
    assert x.grad[0].abs().max() > 0


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_every_weight_is_trained(options: dict[str, Any]) -> None:
    dnc = network(**options)
    y, _ = dnc(sequences())
    y.square().sum().backward()

    assert [name for name, weights in dnc.named_parameters() if not weights.grad.abs().any()] == []  # type: ignore[union-attr]


def test_a_sequence_leaves_nothing_behind_for_the_next() -> None:
    dnc, x = network(), sequences()

    assert torch.equal(dnc(x)[0], dnc(x)[0])


def test_sequences_of_a_batch_do_not_meet() -> None:
    dnc, x = network(write_heads=2), sequences(batch=3)

    assert torch.allclose(dnc(x)[0][:, 1:2], dnc(x[:, 1:2])[0], atol=1e-12)


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_a_sequence_may_be_read_in_parts(options: dict[str, Any]) -> None:
    dnc, x = network(**options), sequences()
    first, state = dnc(x[:2])
    second, _ = dnc(x[2:], state)

    assert torch.allclose(torch.cat((first, second)), dnc(x)[0], atol=1e-12)


def test_it_has_more_slots_when_it_is_told_so() -> None:
    dnc, x = network(), sequences()
    before = dict(dnc.named_parameters())
    dnc.slots = 40
    _, state = dnc(x)

    assert state.memory.shape == (2, 40, 4)
    assert dict(dnc.named_parameters()) == before


def test_it_works_over_many_sets_of_weights_at_once() -> None:
    dnc, x = network(), sequences()
    many = {name: torch.stack([w, 2 * w, -w]) for name, w in dnc.named_parameters()}
    found = vmap(lambda weights: functional_call(dnc, weights, x)[0])(many)

    for row in range(3):
        alone = functional_call(dnc, {name: weights[row] for name, weights in many.items()}, x)[0]
        assert torch.allclose(found[row], alone, atol=1e-10)


def test_a_jacobian_in_one_go_is_that_of_output_by_output() -> None:
    dnc, x = network(), sequences()
    weights = {name: weight.detach() for name, weight in dnc.named_parameters()}
    found = jacrev(lambda weights: functional_call(dnc, weights, x)[0])(weights)
    last = torch.autograd.grad(dnc(x)[0][2, 1, 0], dnc.from_state.weight)[0]

    assert torch.allclose(found["from_state.weight"][2, 1, 0], last)
    assert last.any()


def test_write_heads_do_not_take_the_same_free_slot() -> None:
    dnc = network(write_heads=2)
    with torch.no_grad():
        dnc.interface.weight.zero_()
        dnc.interface.bias.fill_(12)  # all gates open: allocate, and write
    _, state = dnc(sequences(steps=1))

    first, second = state.written.argmax(-1).unbind(-1)
    assert (first != second).all()
    assert state.written.amax(-1).min() > 0.99


def test_deallocation_empties_what_was_freed() -> None:
    with torch.no_grad():
        memories = []
        for deallocate in (False, True):
            dnc = network(deallocate=deallocate, links=False)
            dnc.interface.weight.zero_()
            dnc.interface.bias.fill_(12)
            before = dnc.begin(1)
            full = before._replace(
                memory=torch.ones_like(before.memory), read=torch.ones_like(before.read) / 2
            )
            memories.append(dnc(sequences(steps=1, batch=1), full)[1].memory)

    kept, emptied = memories
    assert torch.allclose(kept[0, 1:], torch.ones(4, 4, dtype=torch.double), atol=1e-3)
    assert torch.allclose(emptied[0, 1:], torch.full((4, 4), 0.5, dtype=torch.double), atol=1e-3)


def test_a_mask_leaves_numbers_out_of_the_comparison() -> None:
    memory = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    keys, strengths = torch.tensor([[[1.0, 1.0]]]), torch.tensor([[50.0]])

    def found(masks: Tensor) -> list[float]:
        pointers = addressing.pointers(keys, strengths, masks)
        both: list[float] = addressing.content(memory, addressing.inverse_norms(memory, masks), pointers)[
            0, 0
        ].tolist()
        return both

    assert found(torch.ones(1, 1, 2)) == [0.5, 0.5]
    assert found(torch.tensor([[[1.0, 1e-4]]]))[0] > 0.99


def test_sharpening_brings_out_the_largest() -> None:
    found = addressing.sharpened(torch.tensor([0.2, 0.3, 0.0]), torch.tensor(20.0))

    assert found.argmax() == 1
    assert found[1] > 0.99
    assert found.sum() == pytest.approx(1)


def test_links_find_what_was_written_after_and_before() -> None:
    links, precedence = torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4)
    read = torch.tensor([[[1.0, 0, 0, 0]]])
    for slot in (2, 0, 3):
        written = torch.zeros(1, 1, 4)
        written[..., slot] = 1
        links, forward, backward = addressing.linked(links, precedence, written, read)
        precedence = addressing.preceded(precedence, written)

    assert forward.flatten().tolist() == [0, 0, 0, 1]
    assert backward.flatten().tolist() == [0, 0, 1, 0]


@given(st.lists(st.integers(0, 100), min_size=1, max_size=12))
@settings(deadline=None)
def test_an_allocation_prefers_what_is_used_less(usage: list[int]) -> None:
    later = torch.ones(len(usage), len(usage), dtype=torch.double).triu(1)
    found = addressing.allocation(torch.tensor([usage], dtype=torch.double) / 100, later)[0]

    assert found.min() >= 0
    assert found.sum() <= 1 + 1e-9
    least = min(range(len(usage)), key=lambda slot: usage[slot])
    assert found[least] == found.max()


@pytest.mark.parametrize("size", ["inputs", "width", "hidden", "read_heads", "write_heads", "slots"])
def test_sizes_below_one_are_refused(size: str) -> None:
    with pytest.raises(InputError, match=f"{size} must be at least 1"):
        DNC(**{"inputs": 3, "outputs": 2, size: 0})  # type: ignore[arg-type]


def test_wrong_shapes_are_refused() -> None:
    dnc = network()
    with pytest.raises(InputError, match=r"\(T, B, 3\), not \(2, 3\)"):
        dnc(torch.zeros(2, 3))
    with pytest.raises(InputError, match=r"\(T, B, 3\)"):
        dnc(torch.zeros(0, 2, 3))
    with pytest.raises(InputError, match="memory of shape"):
        dnc(sequences(batch=3), dnc.begin(2))
    with pytest.raises(InputError, match="needs links"):
        network(links=False, sharpen=True)
