"""Writing procedures as skills."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from heapq import nsmallest
from pathlib import Path

from memp.errors import InputError
from memp.integrations.agent_skills.page import RECORD, page_of, written
from memp.integrations.agent_skills.record import SkillRecord
from memp.memory import ProceduralMemory
from memp.procedure import Procedure


def export_skills(
    memory: ProceduralMemory, directory: str | Path, *, n: int | None = None, replace: bool = False
) -> list[Path]:
    """Write procedures as folders that any agent with Agent Skills can use, all or none.

    Args:
        memory: Where the procedures are.
        directory: Gets a folder for each, and is made where there is none.
        n: How many at most, the best; all, if it is left out. See `best`.
        replace: Write anew the skills that are there; without it, they are an error.

    Returns:
        The folders written, best first.

    Raises:
        InputError: if `n` is below 1, a skill is there already, or the folder cannot be written.
        StoreError: if the memory cannot be read.
    """
    directory = Path(directory)
    chosen = best(memory.procedures(), n)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".memp-", dir=directory) as staged:
            new, old = Path(staged, "new"), Path(staged, "old")
            old.mkdir()
            folders = [_write(memory, procedure.id, new) for procedure in chosen]
            places = [directory / folder.name for folder in folders]
            taken = [place for place in places if os.path.lexists(place)]
            for place in taken:
                if not replace or place.is_symlink() or not place.is_dir():
                    way_out = (
                        "--replace (replace=True) writes a skill anew" if not replace else "it is no folder"
                    )
                    raise InputError(f"{str(place)!r} is there already; {way_out}")
            _move([(place, old / place.name) for place in taken] + list(zip(folders, places, strict=True)))
            return places
    except OSError as error:
        raise InputError(f"skills cannot be written to {str(directory)!r}: {error}") from error


def _move(moves: Iterable[tuple[Path, Path]]) -> None:
    """Rename folders, each from one path to another; all or none."""
    done: list[tuple[Path, Path]] = []
    try:
        for was, becomes in moves:
            was.rename(becomes)
            done.append((was, becomes))
    except BaseException:
        for was, becomes in reversed(done):
            becomes.rename(was)
        raise


def best(procedures: Iterable[Procedure], n: int | None = None) -> list[Procedure]:
    """Return the `n` best procedures, or all, best first.

    The best helped most often (smoothed success of its uses); then come reward, fewer steps, and age.

    Raises:
        InputError: if `n` is below 1.
    """
    if n is None:
        return sorted(procedures, key=_demerits)
    if n < 1:
        raise InputError(f"n is {n!r}; export at least 1 procedure")
    return nsmallest(n, procedures, key=_demerits)


def _demerits(procedure: Procedure) -> tuple[float, float, int]:
    return -procedure.usage.success, -procedure.reward, procedure.length


def _write(memory: ProceduralMemory, procedure_id: str, directory: Path) -> Path:
    """Write one skill; returns its folder."""
    record = SkillRecord(history=tuple(memory.history(procedure_id)))
    page = page_of(record.last)
    folder = directory / page.name
    (folder / RECORD).parent.mkdir(parents=True)
    (folder / RECORD).write_bytes(record.model_dump_json(indent=1).encode())
    (folder / "SKILL.md").write_bytes(written(page).encode())
    return folder
