"""What holds for all tests."""

from __future__ import annotations

import signal
from threading import current_thread, main_thread


def pytest_sessionstart() -> None:
    """Let Ctrl-C interrupt, also in what tests start: a shell that runs them in the background has it ignored."""
    if current_thread() is main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)
