"""The command that measures how fast the neural memory trains."""

from __future__ import annotations

import torch

from evals.neural_speed import Sizes, milliseconds, one_at_a_time, ours

SMALL = Sizes(slots=8, width=4, heads=1, hidden=8, steps=3, batch=64)


def test_one_sample_at_a_time_computes_the_same() -> None:
    torch.manual_seed(0)
    together = ours(SMALL)
    torch.manual_seed(0)
    apart = one_at_a_time(SMALL)
    x = torch.rand(3, 64, 8)

    assert torch.allclose(together(x), apart(x), atol=1e-6)


def test_a_batch_takes_a_fraction_of_its_samples_one_by_one() -> None:
    slow, fast = milliseconds((one_at_a_time(SMALL), ours(SMALL)), SMALL, rounds=3)

    assert slow > 10 * fast
