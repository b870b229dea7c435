"""A study described in a TOML file: the name of the study, and its options by their names on the command line."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from memp.errors import InputError, unknown_name

STUDY = "study"


def read(path: Path, studies: Mapping[str, click.Command]) -> tuple[click.Command, list[str]]:
    """Return the command that a file names, and what it would be given on the command line.

    Raises:
        InputError: if the file cannot be read, or names no study, an unknown option, or a value of another
            type than the option's.
    """
    try:
        described = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as TOML: {error}") from error
    name = described.pop(STUDY, None)
    if not isinstance(name, str):
        raise InputError(f"{path} must name its study, as in {STUDY} = {min(studies)!r}")
    if name not in studies:
        raise unknown_name(f"study in {path}", name, studies)
    options = _options(studies[name])
    words = []
    for key, value in described.items():
        option = options.get(key.replace("_", "-"))
        if option is None:
            raise unknown_name(f"option of the study {name!r} in {path}", key, options)
        for one in value if option.multiple and isinstance(value, list) else [value]:
            if type(one) not in _types(option):
                raise InputError(f"{path}: {key} = {one!r} is of the wrong type; it takes {_said(option)}")
        words += as_words(option, value)
    return studies[name], words


def as_words(option: click.Option, value: Any) -> list[str]:
    """Return an option with its value, or its values, as it is written on the command line."""
    if option.is_flag:
        return [option.opts[0]] if value else []
    values = value if isinstance(value, list) else [value]
    return [word for one in values for word in (option.opts[0], str(one))]


def _options(command: click.Command) -> dict[str, click.Option]:
    """The options of a command by name, without dashes before it."""
    return {
        option.opts[0].lstrip("-"): option for option in command.params if isinstance(option, click.Option)
    }


def _types(option: click.Option) -> tuple[type, ...]:
    """The types of a value of an option; a bool is no int here."""
    if option.is_flag:
        return (bool,)
    if isinstance(option.type, click.types.FloatParamType):
        return (float, int)
    return (int,) if isinstance(option.type, click.types.IntParamType) else (str,)


def _said(option: click.Option) -> str:
    """What an option takes, in words."""
    kind = " or ".join(found.__name__ for found in _types(option))
    return f"{kind}, or a list of them" if option.multiple else kind
