"""Turns names into objects through entry points, one import at a time, and answers a wrong name with the nearest one.

Does not know what the objects are, nor how they are configured.

The groups are ``loa.backends``, ``loa.encoders``, ``loa.embedders`` and ``loa.chat_models``; a stranger's package
adds to them with one line in its own pyproject.toml.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable
from functools import lru_cache
from importlib import import_module
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from typing import Any

GROUPS = ("loa.backends", "loa.encoders", "loa.embedders", "loa.chat_models")


class ConfigError(Exception):
    """A setting is wrong; the message names the file, the field, what was got and what is known."""

    exit_code = 2


class UnknownName(ConfigError):
    """Nothing goes by this name; the message holds the nearest known name and the list of all."""

    def __init__(self, what: str, name: str, known: Iterable[str]) -> None:
        self.what, self.name, self.known = what, name, sorted(known)
        near = nearest(name, self.known)
        hint = f"did you mean '{near}'? " if near else ""
        listed = ", ".join(self.known) or "none"
        super().__init__(f"unknown {what} '{name}': {hint}known: {listed}")

    def __reduce__(self) -> tuple[type[UnknownName], tuple[str, str, list[str]]]:
        return type(self), (self.what, self.name, self.known)


class MissingExtra(ConfigError):
    """The name is known, but a package that it needs is not installed."""

    exit_code = 3


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that looks most like ``name``, or None where nothing comes close.

    >>> nearest("nanno", ["hibari", "nano"])
    'nano'
    """
    by_lower = {k.lower(): k for k in known}
    found = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.5)
    return by_lower[found[0]] if found else None


def entries(group: str) -> dict[str, EntryPoint]:
    """Entry points of ``group`` by name, sorted; reads package metadata and imports nothing.

    Raises:
        UnknownName: ``group`` is none of GROUPS.
    """
    if group not in GROUPS:
        raise UnknownName("group", group, GROUPS)
    return {entry.name: entry for entry in sorted(_installed(group, tuple(sys.path)), key=lambda e: e.name)}


@lru_cache(maxsize=8)
def _installed(group: str, path: tuple[str, ...]) -> EntryPoints:
    """What is installed on ``path`` (= ``sys.path``): read once, for a list of systems asks 60 times at 25 ms each."""
    return entry_points(group=group)


def names(group: str) -> list[str]:
    """The names registered in ``group``, sorted."""
    return list(entries(group))


def resolve(group: str, name: str) -> Any:
    """The object that ``name`` stands for; imports its module now and no sooner.

    Raises:
        UnknownName: with the nearest known name.
        MissingExtra: the module needs a package that is not installed.
        ConfigError: the module has no such object.
    """
    known = entries(group)
    if name not in known:
        raise UnknownName(group.removeprefix("loa.").removesuffix("s").replace("_", " "), name, known)
    entry = known[name]
    try:
        module = import_module(entry.module)
    except ModuleNotFoundError as missing:
        package = (missing.name or "?").partition(".")[0]
        raise MissingExtra(
            f"'{name}' needs the package '{package}', which is not installed here: install it ('make install' brings "
            f"everything that loa's own parts need)"
        ) from missing
    try:
        found: Any = module
        for part in entry.attr.split("."):
            found = getattr(found, part)
    except AttributeError as error:
        raise ConfigError(f"entry point '{name}' of {group} says {entry.value}, but {error}") from error
    return found
