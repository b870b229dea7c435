"""What holds for all tests."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from threading import current_thread, main_thread

import pytest

from memp import ProceduralMemory
from tests.kitchen import KitchenServer


def pytest_sessionstart() -> None:
    """Let Ctrl-C interrupt, also in what tests start: a shell that runs them in the background has it ignored."""
    if current_thread() is main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def anyio_backend() -> str:
    """What asynchronous tests run on."""
    return "asyncio"


@pytest.fixture
def server() -> Iterator[KitchenServer]:
    """A model that works in the kitchen."""
    with KitchenServer() as server:
        yield server


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[ProceduralMemory]:
    """An empty memory in a file."""
    with ProceduralMemory.open(tmp_path / "agent.db") as memory:
        yield memory
