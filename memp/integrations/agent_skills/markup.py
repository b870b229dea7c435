"""Reading a page: its front matter as plain text, and the steps that its body tells."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from memp.errors import InputError, MissingExtra
from memp.integrations.agent_skills.page import Page

if TYPE_CHECKING:
    from markdown_it.token import Token

_FRONT = re.compile(r"---[ \t]*\n(.*?)^---[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)
_MARKER = re.compile(r"[ ]*(?:[-*+]|\d+[.)])[ ]*")

SAYS_NOTHING = {"steps", "instructions", "procedure", "workflow"}
"""Headings that only say that steps follow."""


class _Block(NamedTuple):
    """A part of a page."""

    kind: str
    """`title`, `heading`, `code` or `step`."""

    text: str


def read_page(text: str) -> Page:
    """Read a SKILL.md.

    Raises:
        InputError: if it has no front matter, or that is not as the specification wants it.
        MissingExtra: if PyYAML is not installed.
    """
    text = re.sub(r"\r\n?", "\n", text)
    front = _FRONT.match(text)
    if front is None:
        raise InputError("it does not begin with front matter between two lines '---'")
    fields = _fields(front[1])
    return Page(_text(fields, "name"), _text(fields, "description"), _metadata(fields), text[front.end() :])


def steps_in(body: str) -> tuple[str, ...]:
    """The steps that a body tells, in order: the items of its lists, its paragraphs.

    A heading stands before the first step below it, unless it only says that steps follow. A block of code
    belongs to the step before it. What stands under an item of a list stays with it.

    Raises:
        MissingExtra: if markdown-it-py is not installed.
    """
    steps: list[str] = []
    heading = ""
    for kind, text in _blocks(body):
        if kind == "heading":
            heading = "" if text.lower() in SAYS_NOTHING else text
        elif kind == "code" and steps and not heading:
            steps[-1] += f"\n{text}"
        elif kind != "title":
            steps.append(f"{heading}: {text}" if heading else text)
            heading = ""
    return tuple(steps)


def _fields(front: str) -> dict[str, Any]:
    """The fields of a front matter, as nodes: YAML makes nothing of them but texts, lists and maps."""
    try:
        import yaml
    except ImportError as error:
        raise MissingExtra("pyyaml", "skills") from error
    try:
        node = yaml.compose(front, Loader=yaml.BaseLoader)
    except RecursionError:
        raise InputError("its front matter is nested too deeply") from None
    except yaml.YAMLError as error:
        said = " ".join(str(error).split())
        raise InputError(f"its front matter is no YAML: {said}") from error
    return _map(node, "its front matter")


def _map(node: Any, where: str) -> dict[str, Any]:
    if getattr(node, "id", "") != "mapping":
        raise InputError(f"{where} is no map of names to values")
    found: dict[str, Any] = {}
    for key, value in node.value:
        if key.id != "scalar":
            raise InputError(f"{where} has a name that is no text")
        if key.value in found:
            raise InputError(f"{where} gives {key.value!r} twice")
        found[key.value] = value
    return found


def _text(fields: dict[str, Any], name: str) -> str:
    node = fields.get(name)
    if node is None or node.id != "scalar" or not node.value.strip():
        raise InputError(f"its front matter gives no {name}")
    return str(node.value).strip()


def _metadata(fields: dict[str, Any]) -> dict[str, str]:
    """The `metadata` that are texts; other tools put other things there, which say nothing to memp."""
    if "metadata" not in fields:
        return {}
    given = _map(fields["metadata"], "its 'metadata'")
    return {name: str(node.value) for name, node in given.items() if node.id == "scalar"}


def _blocks(body: str) -> Iterator[_Block]:
    """Yield the top-level blocks of a Markdown text, as they stand in it; items of lists one by one."""
    try:
        from markdown_it import MarkdownIt
    except ImportError as error:
        raise MissingExtra("markdown-it-py", "skills") from error
    # Only the blocks are wanted. A reference, which leaves no block, is read as a paragraph.
    tokens = MarkdownIt("commonmark").disable(["inline", "reference"]).parse(body)
    lines = body.split("\n")
    for token in tokens:
        if token.map is None:
            continue
        text = "\n".join(lines[slice(*token.map)])
        if token.type == "list_item_open" and token.level == 1:
            block = _Block("step", _item(text))
        elif token.level == 0 and not token.type.endswith("list_open") and token.type != "hr":
            block = _Block(_kind(token), _heading(text) if token.type == "heading_open" else text.strip())
        else:
            continue
        if block.text:
            yield block


def _kind(token: Token) -> str:
    if token.type == "heading_open":
        return "title" if token.tag == "h1" else "heading"
    return "code" if token.type in {"fence", "code_block"} else "step"


def _heading(text: str) -> str:
    """A heading without its number signs, or the line beneath it."""
    lines = text.strip().split("\n")
    if len(lines) > 1 and not lines[-1].strip().strip("=-"):
        lines.pop()
    return "\n".join(lines).strip().lstrip("#").rstrip().rstrip("#").strip()


def _item(text: str) -> str:
    """An item of a list without its marker, and without the room that the marker takes on the lines below."""
    marker = _MARKER.match(text)
    assert marker is not None
    room = marker.end()
    first, *rest = text.split("\n")
    kept = [line[min(room, len(line) - len(line.lstrip(" "))) :] for line in rest]
    return "\n".join([first[room:], *kept]).strip()
