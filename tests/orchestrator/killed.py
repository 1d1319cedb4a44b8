"""A turn that dies at a chosen statement of its database: processes for tests/orchestrator/test_kills.py.

Everything is imported once; each turn runs in a fork that kills itself with SIGKILL, so that ten deaths cost seconds.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from orchestrator.conversation import Turn
from tests.orchestrator.parts import house


def forked(does: Callable[[], None]) -> int:
    """The signal that ended ``does`` in a process of its own; 0 where it came to its end."""
    child = os.fork()
    if child == 0:
        try:
            does()
        finally:
            os._exit(0)
    return os.WTERMSIG(os.waitpid(child, 0)[1])


def turn(folder: Path, text: str, dies_at: int | None) -> None:
    """One turn; SIGKILL before statement ``dies_at``. Writes how many statements there were, and whether anything was answered."""
    home = house(folder)
    statements = 0

    def count(statement: str) -> None:
        nonlocal statements
        statements += 1
        if statements == dies_at:
            os.kill(os.getpid(), signal.SIGKILL)

    home.router._connection.set_trace_callback(count)
    heard = folder / "heard.txt"
    heard.unlink(missing_ok=True)
    for event in home.router.reply("t", Turn(text=text)):
        heard.write_text(event.type)  # the person has seen something of an answer
    (folder / "statements.txt").write_text(str(statements))


def many(folder: Path, thread: str, texts: list[str]) -> None:
    """The turns one after another, while other processes talk in the same thread."""
    home = house(folder)
    for text in texts:
        for _ in home.router.reply(thread, Turn(text=text)):
            pass


def together(folder: Path, lists: list[list[str]]) -> list[int]:
    """Each list of turns in a process of its own, all at once; the signals that ended them."""
    children = []
    for texts in lists:
        child = os.fork()
        if child == 0:
            try:
                many(folder, "t", texts)
            finally:
                os._exit(0)
        children.append(child)
    return [os.WTERMSIG(os.waitpid(child, 0)[1]) for child in children]


def main(folder: Path, order: dict[str, Any]) -> dict[str, Any]:
    """``{"together": [[text, …], …]}``, or ``{"turns": [[text, moment], …]}``: moments from 0 to 1 of a turn, null to live."""
    if "together" in order:
        return {"signals": together(folder / "thread", order["together"])}
    forked(lambda: turn(folder / "measure", "make the sound of rain", None))
    statements = int((folder / "measure" / "statements.txt").read_text())
    ends = []
    for text, moment in order["turns"]:
        dies_at = None if moment is None else 1 + int(moment * (statements - 1))
        ended = forked(lambda text=text, dies_at=dies_at: turn(folder / "thread", text, dies_at))  # type: ignore[misc]
        ends.append({"signal": ended, "heard": (folder / "thread" / "heard.txt").exists()})
    return {"ends": ends, "statements": statements}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), json.loads(sys.stdin.read()))))
