"""Weights in a file."""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import nn

from memp.errors import InputError


def save(module: nn.Module, path: Path) -> None:
    """Write the weights of a module; what was in the file stays until all of them are there."""
    torch.save(module.state_dict(), unfinished := path.with_name(f"{path.name}.new"))
    unfinished.replace(path)


def load(module: nn.Module, path: Path) -> None:
    """Read the weights of a module of the same sizes; nothing but numbers is read.

    Raises:
        InputError: if the file holds no weights, or those of another module; the module then stays as it is.
    """
    try:
        weights = torch.load(path, weights_only=True)
    except (OSError, EOFError, RuntimeError, UnpicklingError) as error:
        raise InputError(f"{path} holds no weights that can be read: {error}") from error
    expected = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    found = {
        str(name): tuple(value.shape)
        for name, value in (weights.items() if isinstance(weights, dict) else ())
        if isinstance(value, torch.Tensor)
    }
    if found != expected:
        name = next(name for name in {**expected, **found} if found.get(name) != expected.get(name))
        raise InputError(
            f"{path} is of a module of other sizes: {name} has shape {found.get(name, 'none')} there"
            f" and {expected.get(name, 'none')} here; make the module with the sizes that were saved"
        )
    module.load_state_dict(weights)
