"""Every runnable row by its own name: ``pytest -m parity -k NAME`` finds its true size and its reference, and the suite runs over it.

It speaks of what was collected, so that it needs the whole of ``tests``.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from configs.schema import presets
from tests.conftest import COLLECTED, Collected

ROWS = {name: row for name, row in presets().items() if row.kind != "published"}
SHIPPED = {"nano", "nano-signal", "hibari"}  # their weights are here: what is held against a reference has its true size


@pytest.fixture
def collected(request: pytest.FixtureRequest) -> Collected:
    found: Collected = request.config.stash[COLLECTED]
    here = Path(__file__).parent
    wanted = {path.name for path in here.glob("*/test_*.py") if "mark.parity" in path.read_text()} | {"test_conformance.py"}
    if absent := wanted - {name.partition("::")[0].rpartition("/")[2] for name in found.all}:
        pytest.fail(f"this speaks of all tests: run it with the whole of them, {min(absent)} was not collected")
    return found


NAMES = re.compile(rf"(?<![A-Za-z0-9])(?:{'|'.join(map(re.escape, sorted(ROWS, key=len, reverse=True)))})(?![A-Za-z0-9])")


@cache
def named(ids: tuple[str, ...]) -> dict[str, set[str]]:
    """By row: the ids of tests that hold its name, and not as a piece of another row's.

    >>> held = named(("a.py::t[tango2]", "a.py::t[tangoflux]", "a.py::t[tango-0]", "tango.py::t[audioldm2+audioldm2-music]"))
    >>> sorted(held["tango"]), sorted(held["audioldm2"]) == sorted(held["audioldm2-music"])
    (['a.py::t[tango-0]'], True)
    """
    told: dict[str, set[str]] = {name: set() for name in ROWS}
    for one in ids:
        for name in NAMES.findall(one.partition("::")[2]):
            told[name].add(one)
    return told


@pytest.mark.parametrize("name", ROWS)
def test_a_row_has_its_true_size_and_its_reference_under_its_own_name(name: str, collected: Collected) -> None:
    found = named(collected.parity)[name]
    sized = {one for one in found if "true_size" in one}
    assert found - sized, "nothing runs it against a reference"
    assert sized or name in SHIPPED, "nothing builds it at its true size"


@pytest.mark.parametrize("name", ROWS)
def test_a_row_is_the_same_alone_and_in_a_batch_of_eight(name: str, collected: Collected) -> None:
    found = named(collected.all)[name]
    if ROWS[name].kind == "audio":
        suite = {one.partition("::TestBackends::")[2].partition("[")[0] for one in found if "::TestBackends::" in one}
        assert len(suite) >= 14 and "test_neighbours_and_their_order_do_not_matter" in suite
    else:
        assert any("the_same_alone_and_among_eight" in one for one in found)
