"""The folder of a study: whose it is, what was learned there, and a line an episode."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from evals.chats.spending import Charge
from evals.manifest import PASSING
from evals.prices import Price
from evals.rows import Episodes, Lines, Row
from memp.errors import InputError
from memp.trajectory import Record, Trajectory

MANIFEST = "manifest.json"

EPISODES = "episodes.jsonl"

LIVED = "lived.jsonl"

PRACTICE, PRACTICE_LIVED = "practice.jsonl", "practice-lived.jsonl"

TRAJECTORIES = "trajectories.jsonl"

CHARGES = "spent.jsonl"

LOCK = "study.lock"

FRESH = ".new.db"
"""The end of the name of a memory that is being built."""


class Built(Record):
    """A memory as it was when it had been built."""

    digest: str
    """Of all it holds: what proves it unchanged."""

    procedures: int

    set_aside: int
    """How many trajectories no procedure could be made of, or found by; its quarantine has them."""

    set_aside_tasks: tuple[str, ...]
    """Which tasks they are of."""

    setup_tokens_in: int
    setup_tokens_out: int
    """Tokens of the chat model that it took to build."""

    built_by: str = ""
    """That model, in a study that compares chat models."""

    practice_tokens_in: int = 0
    practice_tokens_out: int = 0
    """Tokens of the chat model whose practice it is of."""

    lived_by: str = ""
    """That model; empty: it is of experts."""

    learner: str = ""
    """The arm that it was updated for, from the one that the arm had before; empty: it is as it was first built."""


class Folder:
    """A folder that one study claims, with a folder below for each of its worlds.

    The manifest is written all or not at all, whenever a kill comes.
    """

    def __init__(self, path: Path) -> None:
        """Take the path; nothing is read or made yet."""
        self.path = path

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep every other process out until the block ends, or this process does, be it by a kill.

        Raises:
            InputError: if another process is in, or the folder cannot be made or locked.
        """
        path = _make(self.path) / LOCK
        with ExitStack() as stack:
            try:
                lock = stack.enter_context(closing(sqlite3.connect(path, timeout=0, isolation_level=None)))
                lock.execute("BEGIN EXCLUSIVE")  # never written to: the lock of the operating system is all
            except sqlite3.Error as error:
                why = "another process runs a study there" if "locked" in str(error) else str(error)
                raise InputError(
                    f"{self.path} cannot be used: {why}; wait for it, or give another --out"
                ) from error
            yield

    def claim(self, manifest: dict[str, Any]) -> None:
        """Write the manifest, or check that the study begun here is this one.

        Raises:
            InputError: if the folder cannot be made, or holds something else.
        """
        _make(self.path)
        if not (self.path / MANIFEST).exists():
            self._refuse_orphans()
            self._write(manifest)
            return
        begun = self.manifest()
        asked = json.loads(json.dumps(manifest))
        differs = [name for name in asked if name not in PASSING and begun.get(name) != asked[name]]
        if differs:
            raise InputError(
                f"{self.path} holds another study: it differs in {', '.join(differs)}; give another --out"
            )
        if manifest["commit"] not in begun["commit"].split(", "):  # the table names every one
            self._write({**begun, "commit": f"{begun['commit']}, {manifest['commit']}"})

    def manifest(self) -> dict[str, Any]:
        """What decided the result of the study.

        Raises:
            InputError: if there is no manifest, or what is there is none.
        """
        path = self.path / MANIFEST
        try:
            manifest = json.loads(path.read_text())
        except FileNotFoundError as error:
            raise InputError(f"{self.path} holds no study: there is no {MANIFEST}") from error
        except ValueError as error:
            raise InputError(f"{path} is no manifest: {error}") from error
        if not isinstance(manifest, dict):
            raise InputError(f"{path} is no manifest")
        return manifest

    def episodes(self) -> Episodes:
        """The episodes run so far, to be added to."""
        return self._episodes(EPISODES, LIVED)

    def practice(self) -> Episodes:
        """What models did without a memory in the training tasks, to be added to."""
        return self._episodes(PRACTICE, PRACTICE_LIVED)

    def charges(self) -> Lines[Charge]:
        """What the chat models were asked so far, to be added to."""
        return Lines(self.path / CHARGES, Charge)

    def trajectories(self, world: str) -> Lines[Trajectory]:
        """What the experts of a world did so far, to be added to."""
        return Lines(_make(self.path / world) / TRAJECTORIES, Trajectory)

    def memory(self, world: str, name: str) -> Path:
        """Where a memory lies once it is built to the end."""
        return self.path / world / f"{name}.db"

    def fresh_memory(self, world: str, name: str, *, like: str | None = None) -> Path:
        """Where to build a memory, empty or like another one; what a kill left of another attempt is removed."""
        path = self.memory(world, name).with_suffix(FRESH)
        _make(path.parent)
        _discard(path)
        if like is not None:
            _copy(self.memory(world, like), path)
        return path

    def built(self, world: str, name: str) -> Built | None:
        """What is noted about a memory; None while it is not built to the end."""
        found = self.manifest().get("memories", {}).get(f"{world}/{name}")
        return None if found is None else Built.model_validate_json(json.dumps(found))

    def keep_fresh(self, world: str, name: str, built: Built) -> None:
        """Put a memory that is built and closed in its place, and note it.

        What was noted before stays: a memory that was lost has to come out the same.
        """
        path = self.memory(world, name)
        _discard(path)
        path.with_suffix(FRESH).replace(path)
        manifest = self.manifest()
        manifest.setdefault("memories", {}).setdefault(f"{world}/{name}", built.model_dump(mode="json"))
        self._write(manifest)

    def state(self, price: Price) -> None:
        """Put what tokens cost into the manifest; it decides no result, so that another one may come later."""
        self._write({**self.manifest(), "price": price.model_dump(mode="json", by_alias=True)})

    def _episodes(self, rows: str, lived: str) -> Episodes:
        return Episodes(Lines(self.path / rows, Row), Lines(self.path / lived, Trajectory))

    def _refuse_orphans(self) -> None:
        """Refuse results that nothing says the origin of."""
        left = [path for path in (self.path / EPISODES, *sorted(self.path.glob("*/*.db"))) if path.exists()]
        if left:
            name = left[0].relative_to(self.path)
            raise InputError(f"{self.path} holds {name} without its {MANIFEST}; give another --out")

    def _write(self, manifest: dict[str, Any]) -> None:
        fresh = self.path / f"{MANIFEST}.new"
        fresh.write_text(json.dumps(manifest, indent=2) + "\n")
        fresh.replace(self.path / MANIFEST)


def _copy(memory: Path, to: Path) -> None:
    """Copy a memory with all that SQLite keeps beside it."""
    with closing(sqlite3.connect(memory)) as source, closing(sqlite3.connect(to)) as target:
        source.backup(target)


def _discard(path: Path) -> None:
    """Remove a memory with what SQLite keeps beside it."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _make(path: Path) -> Path:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path} cannot hold the results: {error}") from error
    return path
