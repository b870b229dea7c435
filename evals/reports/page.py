"""The page of a study: one file that needs nothing beside it, on a screen of any size."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path

from memp.errors import MissingExtra

TEMPLATE = Path(__file__).with_name("page.html")


def page(plots: Mapping[str, bytes], **content: object) -> str:
    """Fill the template; what is filled in is escaped.

    Args:
        plots: PNG images by what they say.
        content: What else the template names.

    Raises:
        MissingExtra: if jinja2 is not installed.
    """
    try:
        import jinja2
    except ImportError as error:
        raise MissingExtra("jinja2", "evals") from error
    env = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    images = {says: b64encode(png).decode() for says, png in plots.items()}
    return env.from_string(TEMPLATE.read_text(encoding="utf-8")).render(images=images, **content)
