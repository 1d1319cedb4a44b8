"""Backends behind names: built on first use, chosen by what they cover, few of them loaded at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from generators.base import (
    Backend,
    Capabilities,
    GenerationRequest,
    MissingMedia,
    OnProgress,
    Readiness,
    UnknownName,
    UnsupportedRequest,
)
from generators.pool import Pool
from media.audio import Audio
from media.refs import MediaRef, MediaStore
from tests.makers import tone


class Tone(Backend):
    class Options(BaseModel):
        takes: frozenset[str] = frozenset({"text"})
        ready: bool = True

    options: Options

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(accepts=self.options.takes, tasks=frozenset({"sound"}), max_seconds=10, sample_rate=8000)

    def readiness(self) -> Readiness:
        return Readiness(ready=self.options.ready, reason="" if self.options.ready else "its file is missing")

    def identity(self) -> dict[str, Any]:
        return {}

    def _load(self) -> None:
        pass

    def _synthesise(
        self, requests: Sequence[GenerationRequest], rows: int, on_progress: OnProgress, cancelled: Callable[[], bool]
    ) -> list[Audio]:
        return [tone(440, r.seconds, 8000) for r in requests]


class House:
    """A pool of tones that counts what is built."""

    def __init__(self, folder: Path, keep: int = 2, **rows: dict[str, Any]) -> None:
        self.built: list[str] = []
        store = MediaStore(folder / "store")

        def maker(name: str, options: dict[str, Any]) -> Callable[[], Backend]:
            def make() -> Backend:
                self.built.append(name)
                return Tone(name, options, store, folder)

            return make

        self.pool = Pool({name: maker(name, options) for name, options in rows.items()}, keep)

    def loaded(self) -> list[str]:
        return [name for name in self.pool.names() if self.pool.get(name)._loaded]


ASK = GenerationRequest(prompt="a tone", seconds=0.5)
SPEAK = GenerationRequest(transcript="hello", seconds=0.5)


def test_a_backend_is_built_once_and_on_first_use(tmp_path: Path) -> None:
    house = House(tmp_path, one={}, two={})
    assert house.pool.names() == ["one", "two"] and house.built == []
    assert house.pool.get("two") is house.pool.get("two") and house.built == ["two"]


def test_an_unknown_name_is_answered_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="did you mean 'hibari'"):
        House(tmp_path, hibari={}, nano={}).pool.get("hibary")


def test_the_first_ready_backend_that_covers_the_request_is_chosen(tmp_path: Path) -> None:
    pool = House(tmp_path, absent={"ready": False}, voice={"takes": {"transcript"}}, first={}, second={}).pool
    assert pool.choose(ASK).name == "first" and pool.choose(SPEAK).name == "voice"
    assert pool.generate("auto", [ASK])[0].backend == "first"


def test_where_none_covers_it_each_one_says_why(tmp_path: Path) -> None:
    pool = House(tmp_path, absent={"ready": False, "takes": {"transcript"}}, tones={}).pool
    with pytest.raises(UnsupportedRequest, match=r"'absent' is not ready: its file is missing.*'tones' takes text, not transcript"):
        pool.choose(SPEAK)


def test_a_missing_medium_is_nobodys_fault_but_the_callers(tmp_path: Path) -> None:
    gone = MediaRef(id="sha256:" + "0" * 64, kind="audio", mime="audio/wav")
    with pytest.raises(MissingMedia):
        House(tmp_path, ears={"takes": {"audio"}}).pool.choose(GenerationRequest(media=(gone,)))


def test_the_backend_used_longest_ago_makes_room(tmp_path: Path) -> None:
    house = House(tmp_path, keep=2, a={}, b={}, c={})
    for name in ("a", "b", "a", "c"):
        house.pool.generate(name, [ASK])
    assert house.loaded() == ["a", "c"]
    house.pool.generate("b", [ASK])
    assert house.loaded() == ["b", "c"]
    house.pool.unload()
    assert house.loaded() == []


def test_a_refused_request_takes_nobodys_place(tmp_path: Path) -> None:
    house = House(tmp_path, keep=1, a={}, b={})
    house.pool.generate("a", [ASK])
    with pytest.raises(UnsupportedRequest):
        house.pool.generate("b", [SPEAK])
    assert house.loaded() == ["a"]
