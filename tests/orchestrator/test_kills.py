"""SIGKILL at moments of a turn, and several processes in one thread: nothing is lost, nothing is doubled, no call is left open."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, ToolMessage

from orchestrator.conversation import text_of
from tests.orchestrator.parts import House, house

ROOT = Path(__file__).parents[2]


def run(folder: Path, order: dict[str, Any]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.orchestrator.killed", str(folder)],
        input=json.dumps(order), cwd=ROOT, capture_output=True, text=True, check=True, timeout=110,
    )  # fmt: skip
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def assert_whole(home: House, sent: list[str], heard: list[str]) -> None:
    """Each message at most once, in order; those that were answered at all are there; every call has its answer."""
    messages = home.router.conversation("t").messages
    said = [text_of(m) for m in messages if m.type == "human"]
    assert max(Counter(said).values(), default=1) == 1, said
    assert said == [text for text in sent if text in said], said
    assert set(heard) <= set(said)
    asked = [call["id"] for m in messages if isinstance(m, AIMessage) for call in m.tool_calls]
    answered = [m.tool_call_id for m in messages if isinstance(m, ToolMessage)]
    assert sorted(asked) == sorted(answered) and len(set(asked)) == len(asked)
    assert len({m.id for m in messages}) == len(messages)
    for sound in home.router.conversation("t").sounds:
        assert sound.media in home.store


def killed_at(folder: Path, moments: list[float]) -> None:
    """A turn that dies at each moment (0 to 1 of its statements), in one thread, and at last one that lives."""
    sent = [f"make the sound of rain, seed {k}" for k in range(len(moments))]
    turns = [*zip(sent, moments, strict=True), ("make the sound of wind", None)]
    results = run(folder, {"turns": turns})["ends"]
    assert [r["signal"] for r in results] == [9] * len(moments) + [0]
    home = house(folder / "thread")
    home.router._repair(home.router._config("t"))
    heard = [text for text, result in zip(sent, results, strict=False) if result["heard"]]
    assert_whole(home, [*sent, "make the sound of wind"], [*heard, "make the sound of wind"])
    assert home.router.conversation("t").sounds[-1].request["prompt"] == "wind"
    home.router.close()


@pytest.fixture
def places(tmp_path: Path) -> Path:
    for name in ("measure", "thread"):
        (tmp_path / name).mkdir()
    return tmp_path


def test_killed_early_and_late_in_a_turn_the_thread_is_whole(places: Path) -> None:
    killed_at(places, [0.3, 0.7])


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_killed_at_ten_random_moments_the_thread_is_whole(places: Path, seed: int) -> None:
    killed_at(places, [random.Random(seed * 10 + k).random() for k in range(10)])


def test_two_processes_that_talk_at_once_lose_no_message(places: Path) -> None:
    texts = [[f"make the sound of {thing}, seed {k}" for k in range(3)] for thing in ("rain", "wind")]
    assert run(places, {"together": texts})["signals"] == [0, 0]
    home = house(places / "thread")
    messages = home.router.conversation("t").messages
    assert [m.type for m in messages] == ["human", "ai", "tool", "ai"] * 6
    said = [text_of(m) for m in messages if m.type == "human"]
    assert sorted(said) == sorted(texts[0] + texts[1])
    assert all([text for text in said if text in own] == own for own in texts)  # each one's order is kept
    home.router.close()
