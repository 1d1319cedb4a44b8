"""The configured chat model behind a router that makes nothing, for `loa bench routing`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.languages import detect
from orchestrator.rehearsal import Rehearsal, Rehearsed

if TYPE_CHECKING:
    from evaluation.routing import Row
    from serving.app import App


@contextmanager
def rehearsed(app: App) -> Iterator[tuple[Callable[[Row], Rehearsed], Callable[[str], str]]]:
    """Who answers a row, and who names its language. One sentence is answered before the first row, to load the weights."""
    with tempfile.TemporaryDirectory(prefix="loa-routing-") as folder:
        rehearsal = Rehearsal(app.chat_model, Path(folder))
        try:
            rehearsal.answer("could I perhaps hear some wind, or what do you think?")
            yield (lambda row: rehearsal.answer(row.say, row.attach, row.history)), detect
        finally:
            rehearsal.close()
