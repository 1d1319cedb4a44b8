"""The base of all backends over a real small one (it plays sines), and the form in which requests are hashed."""

from __future__ import annotations

import hashlib
import math
import pickle
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel, ValidationError

from generators.base import (
    Backend,
    Cancelled,
    Capabilities,
    CheckpointMissing,
    Edit,
    Generated,
    GenerationFailed,
    GenerationRequest,
    OnProgress,
    Progress,
    Readiness,
    UnsupportedRequest,
    _in_order,
    canonical_json,
)
from media.audio import Audio, read_audio
from media.refs import MediaRef, MediaStore, MissingMedia
from tests.makers import tone

DOG = MediaRef(id="sha256:" + "ab" * 32, kind="audio", mime="audio/wav", span=(0.5, 1.0))
FULL = GenerationRequest(
    prompt="  Größe:\n ein   Hund ",
    media=(DOG,),
    transcript="hello",
    seconds=2.5,
    seed=7,
    steps=20,
    guidance=3.0,
    negative_prompt="noise",
    candidates=2,
    edit=Edit(kind="inpaint", source=DOG, regions=((0.0, 1.0),)),
    loa=((DOG, 0.5),),
)


class Sines(Backend):
    """A tone of 100 Hz times (seed + 1); a whole number of periods below 4 kHz."""

    class Options(BaseModel):
        level: float = 0.5

    options: Options
    row_buckets = (1, 2, 4)
    lacking = ""

    def __init__(self, store: MediaStore, home: Path, **options: float) -> None:
        super().__init__("sines", options, store, home)
        self.loads, self.batches = 0, list[tuple[int, int]]()

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            accepts=frozenset({"text", "audio"}), tasks=frozenset({"sound"}), max_seconds=10, sample_rate=8000, steps=True
        )

    def readiness(self) -> Readiness:
        return Readiness(ready=not self.lacking, reason=self.lacking)

    def identity(self) -> dict[str, Any]:
        return {"weights": "none"}

    def _load(self) -> None:
        self.loads += 1

    def _synthesise(
        self, requests: Sequence[GenerationRequest], rows: int, on_progress: OnProgress, cancelled: Callable[[], bool]
    ) -> list[Audio]:
        self.batches.append((len(requests), rows))
        steps = max(request.steps or 2 for request in requests)
        for step in range(steps):
            if cancelled():
                raise Cancelled
            on_progress(Progress(step + 1, steps))
        return [tone(100 * (r.seed + 1), r.seconds, 8000, level=self.options.level) for r in requests]


@pytest.fixture
def sines(tmp_path: Path) -> Sines:
    return Sines(MediaStore(tmp_path / "store"), tmp_path)


def requests(count: int, **fields: Any) -> list[GenerationRequest]:
    return [GenerationRequest(prompt="a tone", seconds=0.5, seed=seed, **fields) for seed in range(count)]


def sha256(request: GenerationRequest) -> str:
    return hashlib.sha256(canonical_json(request).encode()).hexdigest()


# -- the hashed form: a contract; a change here makes every stored key and every ledger stale ----------------------------
def test_canonical_json_is_fixed_to_the_letter() -> None:
    assert canonical_json({"b": 1.0, "a": [True, None, "ä"]}) == '{"a":[true,null,"ä"],"b":1.0}'
    assert (
        hashlib.sha256(canonical_json(FULL).encode()).hexdigest() == "9fcee5f154a25c0e42777f965b34180693696ec4db1063fc2a9f1e15d31fb45a"
    )
    small = GenerationRequest(prompt="a dog barks")
    assert (
        hashlib.sha256(canonical_json(small).encode()).hexdigest() == "4222ba56fff55a0fe57638e984ee1868a7661c0224ccd81c82d54323278d7beb"
    )


def test_canonical_json_of_equal_requests_is_equal_and_round_trips() -> None:
    again = GenerationRequest.model_validate_json(canonical_json(FULL))
    assert again == FULL and hash(again) == hash(FULL) and canonical_json(again) == canonical_json(FULL)
    assert FULL.prompt == "Größe: ein Hund"


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_canonical_json_has_no_numbers_that_are_none(value: float) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical_json({"x": value})


# -- requests ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"prompt": "   "},
        {"prompt": "x", "seconds": 0},
        {"prompt": "x", "seconds": -1},
        {"prompt": "x", "seconds": math.nan},
        {"prompt": "x", "seed": -1},
        {"prompt": "x", "steps": 0},
        {"prompt": "x", "guidance": math.inf},
        {"prompt": "x", "candidates": 0},
        {"prompt": "x" * 4001},
        {"prompt": "x", "colour": "red"},
    ],
)
def test_impossible_requests_cannot_be_made(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        GenerationRequest(**wrong)


def test_a_request_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        FULL.seed = 8  # type: ignore[misc]


# -- refusing ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"transcript": "hello"}, "takes audio, text, not transcript"),
        ({"seconds": 11}, "at most 10 s, got 11 s"),
        ({"edit": Edit(kind="extend", source=DOG)}, "cannot do the edit 'extend'"),
        ({"negative_prompt": "x"}, "no --negative"),
        ({"guidance": 2.0}, "no --guidance"),
        ({"loa": ((DOG, 1.0),)}, "not condition"),
    ],
)
def test_what_is_not_covered_is_refused_without_loading(sines: Sines, fields: dict[str, Any], said: str) -> None:
    with pytest.raises(UnsupportedRequest, match=said):
        sines.generate([*requests(1), GenerationRequest(prompt="x", **fields)])
    assert sines.loads == 0 and sines.batches == []


def test_media_that_the_store_lacks_is_refused_without_loading(sines: Sines) -> None:
    with pytest.raises(MissingMedia):
        sines.generate([GenerationRequest(media=(DOG,))])
    assert sines.loads == 0


def test_missing_weights_are_named(sines: Sines) -> None:
    sines.lacking = "get the file there"
    with pytest.raises(CheckpointMissing, match="get the file there"):
        sines.generate(requests(1))
    assert sines.loads == 0


# -- generating -------------------------------------------------------------------------------------------------------
def test_sounds_come_in_order_and_are_signed(sines: Sines) -> None:
    asked = requests(3)
    made = sines.generate(asked)
    assert [one.request for one in made] == asked
    for seed, one in enumerate(made):
        heard = read_audio(sines.store.path(one.media))
        assert np.allclose(heard.samples, tone(100 * (seed + 1), 0.5, 8000).samples, atol=2 / 32_768)
        assert (one.rows, one.sample_rate, one.seconds, one.backend) == (4, 8000, 0.5, "sines")
        assert one.fingerprint == sines.fingerprint(4) and one.wall_seconds >= 0
        assert pickle.loads(pickle.dumps(one)) == one == Generated.model_validate_json(one.model_dump_json())


@pytest.mark.parametrize(("count", "batches"), [(1, [(1, 1)]), (2, [(2, 2)]), (3, [(3, 4)]), (6, [(4, 4), (2, 4)])])
def test_the_smallest_bucket_that_fits_is_taken(sines: Sines, count: int, batches: list[tuple[int, int]]) -> None:
    sines.generate(requests(count))
    assert sines.batches == batches


def test_a_bucket_can_be_forced(sines: Sines) -> None:
    assert [one.rows for one in sines.generate(requests(3), rows=2)] == [2, 2, 2]
    assert sines.batches == [(2, 2), (1, 2)]


def test_weights_are_loaded_once_and_again_after_unloading(sines: Sines) -> None:
    sines.generate(requests(1))
    sines.generate(requests(1))
    assert sines.loads == 1
    sines.unload()
    sines.generate(requests(1))
    assert sines.loads == 2


def test_threads_load_once(sines: Sines) -> None:
    threads = [threading.Thread(target=sines.generate, args=(requests(1),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sines.loads == 1 and len(sines.batches) == 4


def test_progress_over_several_batches_rises_to_one(sines: Sines) -> None:
    seen: list[Progress] = []
    sines.generate(requests(6), on_progress=seen.append)
    assert [p.step / p.of for p in seen] == [0.25, 0.5, 0.75, 1.0]


def test_cancelling_stops_the_batches_that_follow(sines: Sines) -> None:
    with pytest.raises(Cancelled):
        sines.generate(requests(6), cancelled=lambda: len(sines.batches) == 2)
    assert sines.batches == [(4, 4), (2, 4)]


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (Audio(np.full((1, 4000), np.nan, np.float32), 8000), "not numbers"),
        (Audio(np.zeros((1, 0), np.float32), 8000), "no samples"),
        (Audio(np.full((1, 3000), 0.1, np.float32), 8000), "0.375 s"),
    ],
)
def test_an_unusable_sound_is_our_fault_and_is_not_stored(
    sines: Sines, monkeypatch: pytest.MonkeyPatch, broken: Audio, said: str
) -> None:
    monkeypatch.setattr(sines, "_synthesise", lambda *_: [broken])
    before = sorted(sines.store.root.rglob("*"))
    with pytest.raises(GenerationFailed, match="sines") as failed:
        sines.generate(requests(1))
    assert said in str(failed.value).lower() and failed.value.exit_code == 1
    assert sorted(sines.store.root.rglob("*")) == before


def test_the_fingerprint_follows_options_rows_and_identity(sines: Sines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = sines.fingerprint(1)
    assert Sines(sines.store, tmp_path).fingerprint(1) == known
    others = {sines.fingerprint(2), Sines(sines.store, tmp_path, level=0.25).fingerprint(1)}
    monkeypatch.setattr(sines, "identity", lambda: {"weights": "other"})
    others.add(sines.fingerprint(1))
    monkeypatch.setattr(Sines, "version", "2")
    others.add(sines.fingerprint(1))
    assert len(others) == 4 and known not in others


def test_the_order_of_a_set_does_not_change_a_signature() -> None:
    words = [f"part {i}" for i in range(40)]
    orders = {tuple(frozenset(words)), tuple(frozenset(reversed(words))), tuple(pickle.loads(pickle.dumps(frozenset(words))))}
    assert len({canonical_json(_in_order({"without": frozenset(order)})) for order in orders}) == 1
    assert _in_order({"a": (frozenset({"b", "a"}), 1)}) == {"a": [["a", "b"], 1]}
