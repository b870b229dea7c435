"""Reading skills from a folder, all or none. What stands there is other people's, and may be hostile."""

from __future__ import annotations

import os
import stat
import unicodedata
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from memp._json import loads
from memp.errors import InputError, first_fault
from memp.integrations.agent_skills.markup import read_page
from memp.integrations.agent_skills.page import FORMAT, MAX_DESCRIPTION, MAX_NAME, RECORD, Page
from memp.integrations.agent_skills.record import SkillRecord
from memp.procedure import procedure_id

MAX_PAGE = 256 * 1024
MAX_RECORD = 64 * 1024 * 1024
"""In bytes."""

MAX_SKILLS = 10_000

SHOWN = 5
"""How many refused skills an error names; the rest it counts."""


class Skill(NamedTuple):
    """A skill that was read."""

    page: Page

    record: SkillRecord | None
    """Of a skill that memp wrote."""

    @property
    def id(self) -> str:
        """The id of its procedure."""
        return self.record.last.id if self.record else procedure_id(self.source)

    @property
    def source(self) -> str:
        """The identity of its procedure's task."""
        return self.record.last.source if self.record else f"skill:{self.page.name}"


class SkillFolder(NamedTuple):
    """What a folder held."""

    skills: tuple[Skill, ...]
    """By the names of their folders."""

    passed_over: tuple[str, ...]
    """Names of the folders without a SKILL.md."""


def read_skills(directory: str | Path) -> SkillFolder:
    """Read a skill, or every skill in a folder of skills.

    Args:
        directory: A folder with a SKILL.md, or one whose folders have one. Hidden folders are no skills.

    Raises:
        InputError: if there is no skill there, or any is refused; then the message says which and why.
        MissingExtra: if the packages of the extra `skills` are not installed.
    """
    directory = Path(directory)
    try:
        folders, passed_over = _folders(directory)
    except (OSError, ValueError) as error:
        raise InputError(f"{str(directory)!r} cannot be read: {error}") from error
    if not folders:
        raise InputError(f"{str(directory)!r} has no folder with a SKILL.md")
    if len(folders) > MAX_SKILLS:
        raise InputError(f"{str(directory)!r} has {len(folders)} skills; import at most {MAX_SKILLS} at once")
    skills, refused = [], []
    for folder in folders:
        try:
            skills.append(_skill(folder))
        except InputError as error:
            refused.append(f"{folder.name!r}: {error}")
    refused += [f"{source!r}: more than one skill has this procedure" for source in _doubles(skills)]
    if refused:
        more = [f"and {len(refused) - SHOWN} more"] if len(refused) > SHOWN else []
        head = f"{str(directory)!r}: {len(refused)} of {len(folders)} skills cannot be used"
        raise InputError("\n  ".join([head, *refused[:SHOWN], *more]))
    return SkillFolder(tuple(skills), passed_over)


def _folders(directory: Path) -> tuple[list[Path], tuple[str, ...]]:
    """The folders of skills, and the names of the other folders."""
    if _page_file(directory) is not None:
        return [directory.resolve()], ()
    inside = sorted(path for path in directory.iterdir() if path.is_dir() and not path.name.startswith("."))
    folders = [path for path in inside if _page_file(path) is not None]
    return folders, tuple(path.name for path in inside if path not in folders)


def _page_file(folder: Path) -> Path | None:
    return next((path for name in ("SKILL.md", "skill.md") if os.path.lexists(path := folder / name)), None)


def _skill(folder: Path) -> Skill:
    if folder.is_symlink():
        raise InputError("is a symbolic link")
    page_file = _page_file(folder)
    assert page_file is not None
    page = read_page(_read(page_file, MAX_PAGE))
    _check_name(page.name, folder.name)
    if len(page.description) > MAX_DESCRIPTION:
        raise InputError(
            f"its description has {len(page.description)} characters, not at most {MAX_DESCRIPTION}"
        )
    if "memp-format" not in page.metadata:
        return Skill(page, None)
    if page.metadata["memp-format"] != FORMAT:
        raise InputError(
            f"it is of memp's format {page.metadata['memp-format']!r}; this memp reads {FORMAT!r}"
        )
    return Skill(page, _record(folder, page.metadata.get("memp-id", "")))


def _check_name(name: str, folder: str) -> None:
    """Refuse a name that breaks the specification's rules: it could not be a folder's, or not one's alone."""
    name, folder = unicodedata.normalize("NFKC", name), unicodedata.normalize("NFKC", folder)
    if (
        len(name) > MAX_NAME
        or name != name.lower()
        or not all(part.isalnum() for part in name.split("-"))  # also no hyphen at an end, or two together
    ):
        raise InputError(
            f"its name {name!r:.100} is not of at most {MAX_NAME} small letters, digits and hyphens"
        )
    if name != folder:
        raise InputError(f"its name {name!r} is not that of its folder")


def _record(folder: Path, expected_id: str) -> SkillRecord:
    """Read the record of a skill that memp wrote, and check that it is one.

    Raises:
        InputError: if it is missing, or no record, or that of another procedure.
    """
    path = folder / RECORD
    if path.parent.is_symlink():
        raise InputError(f"{path.parent.name!r} is a symbolic link")
    if not os.path.lexists(path):
        raise InputError(
            f"{RECORD!r} is missing; without its 'memp-format', the page is imported as a skill of any kind"
        )
    text = _read(path, MAX_RECORD)
    try:
        loads(text)
        record = SkillRecord.model_validate_json(text, strict=True)
    except ValidationError as error:
        raise InputError(f"{RECORD!r} is no record: {first_fault(error)}") from error
    except ValueError as error:
        raise InputError(f"{RECORD!r} is no record: {error}") from error
    record.check(expected_id)
    return record


def _read(path: Path, limit: int) -> str:
    """Read a text file of at most `limit` bytes; not through a link, and not from a pipe, which has no end.

    Raises:
        InputError: if it is none, or too large, or not UTF-8.
    """
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    if path.is_symlink():
        raise InputError(f"{path.name!r} is a symbolic link")
    try:
        with open(path, "rb", opener=lambda name, _: os.open(name, flags)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise InputError(f"{path.name!r} is no regular file")
            content = file.read(limit + 1)
    except OSError as error:
        raise InputError(f"{path.name!r} cannot be read: {error.strerror}") from error
    if len(content) > limit:
        raise InputError(f"{path.name!r} has more than {limit} bytes")
    if b"\0" in content:
        raise InputError(f"{path.name!r} is binary: it holds a null byte")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path.name!r} is not UTF-8: byte {error.start + 1} is {content[error.start]:#04x}"
        ) from error


def _doubles(skills: list[Skill]) -> list[str]:
    """The sources of procedures that several skills have."""
    times = Counter(skill.id for skill in skills)
    return [source for id_, source in {skill.id: skill.source for skill in skills}.items() if times[id_] > 1]
