"""What every backend and every encoder must do, whoever wrote it. Subclass a suite and say what is under test:

class TestMine(BackendSuite):
    @pytest.fixture(scope="class")
    @classmethod
    def subject(cls, tmp_path_factory): return Subject(lambda: MyBackend("mine", {}, store, home), store)
"""

from __future__ import annotations

import gc
import pickle
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import BaseModel
from torch import nn

from encoders.base import Condition, Encoder
from generators.base import (
    Backend,
    Cancelled,
    CheckpointMissing,
    Edit,
    Generated,
    GenerationRequest,
    MissingMedia,
    Progress,
    UnsupportedRequest,
)
from media.audio import Audio, read_audio
from media.refs import MediaRef, MediaStore
from tests import makers

KINDS = ("text", "image", "audio", "video", "condition", "transcript")
CAT = Path(__file__).parent / "data" / "pictures" / "chelsea.jpg"
SECONDS = 1.0


@dataclass(frozen=True)
class Subject:
    """A backend under test: ``make()`` builds it anew, unloaded, over ``store``."""

    make: Callable[[], Backend]
    store: MediaStore

    def media(self, kind: str, backend: Backend, folder: Path) -> MediaRef:
        """A real stored medium of a kind."""
        if kind == "image":
            return self.store.put_file(CAT)
        if kind == "audio":
            return self.store.put_audio(makers.tone(440))
        if kind == "video":
            return self.store.put_file(makers.clip(folder / "red.mp4", [(makers.RED, 0.5)]))
        if kind == "condition" and "condition" in backend.capabilities.accepts:
            stored: MediaRef = backend.loa_for(ask(backend))  # type: ignore[attr-defined]
            return stored
        return self.store.put_bytes(b"a condition of somebody else", "application/x-safetensors", "condition")


def ask(backend: Backend, words: str = "a dog barks", **fields: Any) -> GenerationRequest:
    """A small request that the backend should take."""
    can = backend.capabilities
    said = {"transcript": words} if can.tasks == {"speech"} else {"prompt": words}
    return GenerationRequest(**said, seconds=SECONDS, **({"steps": 2} if can.steps else {}), **fields)


def asking(backend: Backend, kind: str, subject: Subject, folder: Path) -> GenerationRequest:
    """A request that holds one ``kind`` of input."""
    if kind == "text":
        spoken = "hello" if backend.capabilities.tasks == {"speech"} and "text" in backend.capabilities.accepts else None
        return GenerationRequest(prompt="a dog barks", transcript=spoken, seconds=SECONDS)
    if kind == "transcript":
        return GenerationRequest(transcript="a dog barks", seconds=SECONDS)
    ref = subject.media(kind, backend, folder)
    if kind == "condition":
        return GenerationRequest(loa=((ref, 1.0),), seconds=SECONDS)
    return GenerationRequest(media=(ref,), seconds=SECONDS)


def samples(subject: Subject, made: Generated) -> Audio:
    return read_audio(subject.store.path(made.media))


class BackendSuite:
    """Runs over ``subject``; ``backend`` is one that stays loaded for the whole class."""

    @pytest.fixture(scope="class")
    @classmethod
    def subject(cls) -> Subject:
        raise NotImplementedError("say what is under test")

    @pytest.fixture(scope="class")
    @classmethod
    def backend(cls, subject: Subject) -> Iterator[Backend]:
        made = subject.make()
        yield made
        made.unload()

    # -- before loading -----------------------------------------------------------------------------------------------
    def test_it_is_ready_and_names_its_files(self, subject: Subject) -> None:
        fresh = subject.make()
        state = fresh.readiness()
        assert state.ready and state.files and not fresh._loaded
        assert state.bytes == sum(Path(name).stat().st_size for name in state.files) > 0

    def test_capabilities_are_words_that_we_know(self, backend: Backend) -> None:
        can = backend.capabilities
        assert can.accepts and can.accepts <= set(KINDS)
        assert can.tasks and can.tasks <= {"sound", "music", "speech"}
        assert can.max_seconds > 0 and can.sample_rate >= 8000
        assert can.edits <= {"variation", "inpaint", "extend", "remove"}

    def test_what_it_cannot_do_is_refused_before_loading(
        self, subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fresh = subject.make()
        can = fresh.capabilities
        source = subject.store.put_audio(makers.tone(440))
        refused = [ask(fresh).model_copy(update={"seconds": can.max_seconds + 1})]
        refused += [asking(fresh, kind, subject, tmp_path) for kind in sorted(set(KINDS) - can.accepts)]
        edits = ("variation", "inpaint", "extend", "remove")
        refused += [ask(fresh, edit=Edit(kind=kind, source=source)) for kind in edits if kind not in can.edits]
        refused += [] if can.negative_prompt else [ask(fresh, negative_prompt="noise")]
        refused += [] if can.guidance else [ask(fresh, guidance=2.0)]
        refused += [] if can.steps else [ask(fresh).model_copy(update={"steps": 3})]

        def must_not_load() -> None:
            raise AssertionError("the weights were loaded for a request that cannot be done")

        monkeypatch.setattr(fresh, "_load", must_not_load)
        for request in refused:
            with pytest.raises(UnsupportedRequest, match=fresh.name) as why:
                fresh.generate([ask(fresh), request])  # one that cannot be done stops all before any is made
            assert "\n" not in str(why.value) and why.value.exit_code == 2
        gone = MediaRef(id="sha256:" + "0" * 64, kind="audio", mime="audio/wav")
        if "audio" in can.accepts:
            with pytest.raises(MissingMedia):
                fresh.generate([GenerationRequest(media=(gone,), seconds=SECONDS)])

    def test_a_backend_that_is_not_ready_says_why(self, subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
        fresh = subject.make()
        lacking = fresh.readiness().model_copy(update={"ready": False, "reason": "the file x is missing; get it there"})
        monkeypatch.setattr(fresh, "readiness", lambda: lacking)
        with pytest.raises(CheckpointMissing, match="the file x is missing; get it there"):
            fresh.generate([ask(fresh)])

    # -- sounds -------------------------------------------------------------------------------------------------------
    def test_it_takes_what_it_says(self, subject: Subject, backend: Backend, tmp_path: Path) -> None:
        taken = sorted(backend.capabilities.accepts)
        requests = [asking(backend, kind, subject, tmp_path) for kind in taken]
        if backend.capabilities.steps:
            requests = [request.model_copy(update={"steps": 4, "seconds": 2.0}) for request in requests]  # longer than a pause
        made = backend.generate(requests)
        assert [one.request for one in made] == requests and len(taken) >= 1
        for one in made:
            assert float(np.abs(samples(subject, one).samples).max()) > 1e-3

    def test_a_sound_has_the_promised_rate_length_and_type(self, subject: Subject, backend: Backend) -> None:
        backend.load()
        can = backend.capabilities
        request = ask(backend)
        raw = backend._synthesise([request], 1, lambda _: None, lambda: False)[0]
        assert raw.samples.dtype == np.float32 and raw.samples.ndim == 2 and np.isfinite(raw.samples).all()
        assert float(np.abs(raw.samples).max()) <= 1 and raw.sample_rate == can.sample_rate
        made = backend.generate([request])[0]
        stored = samples(subject, made)
        assert made.sample_rate == stored.sample_rate == can.sample_rate
        assert made.seconds == pytest.approx(stored.seconds, abs=1e-6) and made.wall_seconds > 0
        assert np.abs(stored.samples - raw.samples).max() <= 1 / 32_768 + 1e-6
        if request.transcript is None:
            assert stored.samples.shape[1] == round(SECONDS * can.sample_rate)
        assert made.backend == backend.name and made.fingerprint == backend.fingerprint(made.rows) and not made.guard.fatal

    def test_same_seed_same_sound_and_another_seed_another(self, backend: Backend) -> None:
        first, again, other = (backend.generate([ask(backend, seed=seed)])[0].media for seed in (1, 1, 2))
        assert first == again and (first != other) == backend.draws

    def test_other_words_another_sound(self, backend: Backend) -> None:
        assert backend.generate([ask(backend)])[0].media != backend.generate([ask(backend, "rain on a tin roof")])[0].media

    def test_neighbours_and_their_order_do_not_matter(self, backend: Backend) -> None:
        """Three requests alone, turned round, and among five others: in a batch of eight, the largest that any backend makes."""
        words = ["a dog barks", "rain on a tin roof", "piano"]
        requests = [ask(backend, said, seed=seed) for seed, said in enumerate(words)]
        if backend.capabilities.steps:
            requests[1] = requests[1].model_copy(update={"steps": 3})
        alone = [backend.generate([request], rows=8)[0].media for request in requests]
        assert len(set(alone)) == 3
        assert [made.media for made in backend.generate(requests[::-1], rows=8)] == alone[::-1]
        others = [ask(backend, words[seed % 3], seed=seed) for seed in range(3, 8)]
        assert [made.media for made in backend.generate([*others, *requests], rows=8)][5:] == alone

    def test_progress_rises_to_one(self, backend: Backend) -> None:
        seen: list[Progress] = []
        requests = [ask(backend, seed=seed) for seed in range(2)]
        backend.generate(requests, rows=1, on_progress=seen.append)
        shares = [p.step / p.of for p in seen]
        assert shares == sorted(shares) and shares[-1] == 1.0 and len(shares) >= 2 and shares[0] > 0

    def test_cancelling_stops_and_leaves_the_backend_usable(self, backend: Backend) -> None:
        before = backend.generate([ask(backend)])[0].media
        with pytest.raises(Cancelled):
            backend.generate([ask(backend)], cancelled=lambda: True)
        seen: list[Progress] = []
        long = [ask(backend, seed=seed) for seed in range(3)]
        if backend.capabilities.steps:
            long = [request.model_copy(update={"steps": 50}) for request in long]
        with pytest.raises(Cancelled):
            backend.generate(long, rows=4, on_progress=seen.append, cancelled=lambda: len(seen) >= 1)
        assert len(seen) == 1
        assert backend.generate([ask(backend)])[0].media == before

    # -- identity and memory ------------------------------------------------------------------------------------------
    def test_fingerprints_name_the_backend_and_not_the_moment(self, subject: Subject, backend: Backend) -> None:
        fresh = subject.make()
        assert fresh.fingerprint() == backend.fingerprint() != fresh.fingerprint(rows=2) and not fresh._loaded

    def test_values_survive_a_trip_to_another_process(self, subject: Subject, backend: Backend) -> None:
        made = backend.generate([ask(backend)])[0]
        assert pickle.loads(pickle.dumps(made)) == made
        assert type(made).model_validate_json(made.model_dump_json()) == made
        arguments = (backend.name, backend.options, backend.store, backend.home)
        again = type(backend)(*pickle.loads(pickle.dumps(arguments)))
        assert again.fingerprint() == backend.fingerprint() and again.capabilities == backend.capabilities

    def test_unloading_frees_the_weights_and_the_next_request_loads_them_again(self, subject: Subject) -> None:
        backend = subject.make()
        before = set(vars(backend))
        wanted = backend.generate([ask(backend)])[0].media
        watched = {k: weakref.ref(v) for k, v in vars(backend).items() if k not in before and _weighs(v)}
        assert watched
        backend.unload()
        gc.collect()
        left = [name for name, ref in watched.items() if ref() is not None]
        assert not left, left
        backend.unload()  # twice is once
        assert backend.generate([ask(backend)])[0].media == wanted


def _weighs(value: object) -> bool:
    """Whether it may hold weights: not a path, a string or a small setting."""
    try:
        weakref.ref(value)
    except TypeError:
        return False
    return not isinstance(value, (str, Path, BaseModel)) and type(value).__module__.partition(".")[0] != "media"


class EncoderSuite:
    """Runs over ``make``, which builds the encoder anew."""

    @pytest.fixture(scope="class")
    @classmethod
    def make(cls) -> Callable[[], Encoder]:
        raise NotImplementedError("say what is under test")

    @pytest.fixture(scope="class")
    @classmethod
    def encoder(cls, make: Callable[[], Encoder]) -> Encoder:
        return make()

    def test_it_keeps_the_contract(self, encoder: Encoder) -> None:
        assert isinstance(encoder, Encoder) and encoder.name
        assert len(encoder.sample_input()) == 3

    def test_weights_come_on_first_use_and_not_before(self, make: Callable[[], Encoder]) -> None:
        fresh = make()
        assert weights(fresh) == 0
        first = fresh.encode(fresh.sample_input()[:1])
        count = weights(fresh)
        assert count > 1000
        fresh.load()
        assert weights(fresh) == count and torch.equal(fresh.encode(fresh.sample_input()[:1]).states, first.states)

    def test_one_finite_float32_row_for_each_input(self, encoder: Encoder) -> None:
        inputs = encoder.sample_input()
        made = encoder.encode(inputs)
        assert isinstance(made, Condition) and len(made.states) == len(made.mask) == 3
        assert made.states.dtype == torch.float32 and bool(torch.isfinite(made.states).all())
        assert bool(made.mask.any(dim=1).all()) and not made.states.requires_grad

    def test_an_input_alone_is_bitwise_what_it_is_in_any_batch(self, encoder: Encoder) -> None:
        inputs = encoder.sample_input()
        batch = encoder.encode(inputs)
        for row, one in enumerate(inputs):
            alone = encoder.encode([one])
            assert torch.equal(alone.states[0], batch.states[row]) and torch.equal(alone.mask[0], batch.mask[row])
        turned = encoder.encode(inputs[::-1])
        assert torch.equal(turned.states.flip(0), batch.states)

    def test_different_inputs_give_different_vectors(self, encoder: Encoder) -> None:
        a, b, c = encoder.encode(encoder.sample_input()).states
        assert not torch.allclose(a, b, atol=1e-3) and not torch.allclose(b, c, atol=1e-3) and not torch.allclose(a, c, atol=1e-3)

    def test_two_instances_agree(self, make: Callable[[], Encoder], encoder: Encoder) -> None:
        inputs = encoder.sample_input()[1:2]
        assert torch.equal(make().encode(inputs).states, encoder.encode(inputs).states)


def weights(holder: object, seen: set[int] | None = None) -> int:
    """Numbers in all networks and tensors that an object of ours holds, however deep."""
    seen = set() if seen is None else seen
    if id(holder) in seen:
        return 0
    seen.add(id(holder))
    if isinstance(holder, nn.Module):
        return sum(parameter.numel() for parameter in holder.parameters())
    if isinstance(holder, torch.Tensor):
        return holder.numel()
    held = holder.values() if isinstance(holder, Mapping) else vars(holder).values() if hasattr(holder, "__dict__") else ()
    return sum(weights(value, seen) for value in held)
