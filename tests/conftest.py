"""What the whole collection holds, for the tests that say something about the collection; garbage that is none is passed over."""

from __future__ import annotations

import gc
from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class Collected:
    """Ids of what was collected, before marks chose among it: all tests, and those that compare with an official code or library."""

    all: tuple[str, ...]
    parity: tuple[str, ...]


COLLECTED = pytest.StashKey[Collected]()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    parity = tuple(item.nodeid for item in items if item.get_closest_marker("parity"))
    config.stash[COLLECTED] = Collected(tuple(item.nodeid for item in items), parity)


def pytest_collection_finish() -> None:
    """What the imports brought stays: let no later collection of garbage walk through it (a quarter of a second each)."""
    gc.collect()
    gc.freeze()
