"""Weights in a file, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from memp.errors import InputError
from memp.neural.checkpoint import load, save
from memp.neural.dnc import DNC


def test_weights_come_back_as_they_were(tmp_path: Path) -> None:
    first, second = DNC(3, 2), DNC(3, 2)
    save(first, tmp_path / "dnc.pt")
    load(second, tmp_path / "dnc.pt")

    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert [path.name for path in tmp_path.iterdir()] == ["dnc.pt"]


def test_a_network_with_another_number_of_slots_takes_the_same_weights(tmp_path: Path) -> None:
    few, many = DNC(3, 2, slots=4), DNC(3, 2, slots=40)
    save(few, tmp_path / "dnc.pt")
    load(many, tmp_path / "dnc.pt")

    assert all(torch.equal(a, b) for a, b in zip(few.parameters(), many.parameters(), strict=True))
    assert many.slots == 40


@pytest.mark.parametrize("other", [{"width": 8}, {"read_heads": 2}, {"masks": True}])
def test_weights_of_other_sizes_are_refused_and_nothing_changes(
    tmp_path: Path, other: dict[str, int]
) -> None:
    save(DNC(3, 2), tmp_path / "dnc.pt")
    network = DNC(3, 2, **other)  # type: ignore[arg-type]
    before = [weights.clone() for weights in network.parameters()]
    with pytest.raises(InputError, match=r"of other sizes: .* has shape .* there and .* here"):
        load(network, tmp_path / "dnc.pt")

    assert all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))


@pytest.mark.parametrize("content", [b"", b"no weights", b"PK\x03\x04 cut short"])
def test_a_file_that_holds_no_weights_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "dnc.pt").write_bytes(content)
    with pytest.raises(InputError, match="no weights"):
        load(DNC(3, 2), tmp_path / "dnc.pt")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no weights"):
        load(DNC(3, 2), tmp_path / "none.pt")


def test_something_else_than_weights_is_refused(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "dnc.pt")
    with pytest.raises(InputError, match="of other sizes"):
        load(DNC(3, 2), tmp_path / "dnc.pt")
