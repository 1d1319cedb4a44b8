"""What a generator is: requests in, stored sounds out, and the errors on the way.

Knows requests, capabilities, guards and the store. Does not know what a network is, which backends exist, or who asks.

A backend is deep above and two methods below: this class checks a request against the capabilities, loads the weights once,
times, guards, stores and signs; a backend writes ``_load`` and ``_synthesise``.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import to_jsonable_python

from configs.registry import ConfigError, MissingExtra, UnknownName
from media.audio import Audio
from media.guard import GuardReport, inspect_audio
from media.refs import MediaError, MediaRef, MediaStore, MediaTooLarge, MissingMedia, UnreadableMedia

__all__ = [
    "Backend",
    "BackendError",
    "Cancelled",
    "Capabilities",
    "CheckpointMissing",
    "ConfigError",
    "Edit",
    "Generated",
    "GenerationFailed",
    "GenerationRequest",
    "MediaError",
    "MediaTooLarge",
    "MissingExtra",
    "MissingMedia",
    "Progress",
    "Readiness",
    "UnknownName",
    "UnreadableMedia",
    "UnsupportedRequest",
    "canonical_json",
]


class BackendError(Exception):
    """A generator could not do what was asked."""

    exit_code = 1


class CheckpointMissing(BackendError):
    """The weights are not on this machine; the message names the file, its size, its licence and how to get it."""

    exit_code = 3


class UnsupportedRequest(BackendError):
    """The backend cannot do this request; the message says which limit was met and what would be accepted."""

    exit_code = 2


class GenerationFailed(BackendError):
    """The network ran and gave nothing usable (NaN, wrong length): our fault, not the caller's."""


class Cancelled(Exception):
    """The caller asked to stop; raised within one denoising step."""

    exit_code = 130


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Edit(_Value):
    """How a stored sound is to be changed (``loa edit``).

    ``strength`` is the share of the noise schedule that is run again: 0 gives the source back, 1 forgets it.
    ``regions`` are spans in seconds of the source.
    """

    kind: Literal["variation", "inpaint", "extend", "remove"]
    source: MediaRef
    strength: float = Field(default=0.5, ge=0.0, le=1.0)
    regions: tuple[tuple[float, float], ...] = ()


class GenerationRequest(_Value):
    """One sound that somebody wants: hashable, JSON, no tensors. ``None`` means the backend's own default."""

    prompt: str = Field(default="", max_length=4000)
    media: tuple[MediaRef, ...] = ()
    transcript: str | None = Field(default=None, max_length=4000)
    seconds: float = Field(default=5.0, gt=0.0, le=3600.0, allow_inf_nan=False)
    seed: int = Field(default=0, ge=0, lt=2**63)
    steps: int | None = Field(default=None, ge=1, le=1000)
    guidance: float | None = Field(default=None, ge=0.0, le=100.0, allow_inf_nan=False)
    negative_prompt: str = Field(default="", max_length=4000)
    candidates: int = Field(default=1, ge=1, le=16)
    edit: Edit | None = None
    loa: tuple[tuple[MediaRef, float], ...] = ()
    envelope: MediaRef | None = None  # a stored loudness curve over the whole length of the sound (media/curve.py reads it)

    @field_validator("prompt", "negative_prompt", mode="after")
    @classmethod
    def _one_line(cls, text: str) -> str:
        return " ".join(text.split())

    @model_validator(mode="after")
    def _says_something(self) -> GenerationRequest:
        if not (self.prompt or self.media or self.transcript or self.edit or self.loa):
            raise ValueError("the request is empty: give a prompt, a picture, a sound, a video or a transcript")
        return self


class Capabilities(_Value):
    """What a backend takes and gives; read without loading any weights."""

    accepts: frozenset[str]  # of "text", "image", "audio", "video", "motion", "condition", "transcript"
    tasks: frozenset[str]  # of "sound", "music", "speech"
    max_seconds: float
    sample_rate: int  # Hz
    edits: frozenset[str] = frozenset()
    negative_prompt: bool = False
    guidance: bool = False
    steps: bool = False
    envelope: bool = False  # follows a loudness curve over time


class Generated(_Value):
    """A finished sound in the store, with all that is needed to make it again."""

    media: MediaRef
    request: GenerationRequest
    backend: str
    fingerprint: str
    sample_rate: int
    seconds: float
    wall_seconds: float
    guard: GuardReport
    rows: int = 1  # size of the batch bucket it was made in; part of the fingerprint


class Readiness(_Value):
    """Whether a backend can run here, and if not what to do about it."""

    ready: bool
    reason: str = ""
    files: tuple[str, ...] = ()
    bytes: int = 0


@dataclass(frozen=True)
class Progress:
    """``step`` of ``of`` denoising steps done; ``eta_s`` seconds are left, or None where not known yet."""

    step: int
    of: int
    eta_s: float | None = None


OnProgress = Callable[[Progress], None]


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: the form that is hashed. Contract: see tests/generators/test_base.py."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _in_order(value: Any) -> Any:
    """The value with every set as a sorted list: the order of a set differs between processes, and a signature must not."""
    if isinstance(value, dict):
        return {key: _in_order(each) for key, each in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    return [_in_order(each) for each in value] if isinstance(value, (list, tuple)) else value


@dataclass
class Backend(ABC):
    """A system that turns requests into sounds.

    Args:
        name: the row's name ("nano"), as users type it.
        options: the preset's options, already typed by the backend's own ``Options`` model.
        store: where media come from and results go.
        home: LOA_HOME; checkpoints lie under ``home / "checkpoints"``.
    """

    name: str
    options: Any
    store: MediaStore
    home: Path
    _lock: threading.RLock = field(default_factory=threading.RLock, init=False, repr=False)
    _loaded: bool = field(default=False, init=False, repr=False)

    Options: ClassVar[type[BaseModel]]
    draws: ClassVar[bool] = True  # whether another seed gives another sound
    version: ClassVar[str] = "1"  # raise it when the same request starts to give another sound

    def __post_init__(self) -> None:
        if not isinstance(self.options, self.Options):
            self.options = self.Options.model_validate(self.options or {})

    # -- what a backend writes ------------------------------------------------------------------------------------
    @property
    @abstractmethod
    def capabilities(self) -> Capabilities:
        """Read from the options or a small config file; loads nothing."""

    @abstractmethod
    def readiness(self) -> Readiness:
        """Whether the weights and packages are here. Loads nothing, takes milliseconds."""

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """All that decides the sound besides the request: weights hash, dtype, library versions, threads."""

    @abstractmethod
    def _load(self) -> None: ...

    @abstractmethod
    def _synthesise(
        self, requests: Sequence[GenerationRequest], rows: int, on_progress: OnProgress, cancelled: Callable[[], bool]
    ) -> list[Audio]:
        """One Audio per request, in order, at ``capabilities.sample_rate`` and of the asked length.

        ``rows`` is the batch bucket to pad to. Call ``on_progress`` per step; raise ``Cancelled`` soon after
        ``cancelled()`` turns true.
        """

    def _unload(self) -> None:  # noqa: B027 - a backend that holds nothing has nothing to drop
        """Drop the weights."""

    def misfits(self) -> dict[str, str]:
        """By part: what keeps its files from its network, by keys and shapes; "" where they fit. Empty: not known before loading."""
        return {}

    def loa_for(self, request: GenerationRequest) -> MediaRef:
        """M(condition): the Language of Audio that a request is made from, stored.

        Raises:
            UnsupportedRequest: the backend works without one.
        """
        raise UnsupportedRequest(f"backend '{self.name}' has no Language of Audio to write; leave --loa-out out")

    # -- what every backend gets ----------------------------------------------------------------------------------
    row_buckets: ClassVar[tuple[int, ...]] = (1,)

    def check(self, request: GenerationRequest) -> None:
        """Refuse what the capabilities do not cover, before anything is loaded.

        Raises:
            UnsupportedRequest: naming the limit, what was got, and what to do.
            MissingMedia: a media id that the store does not hold.
        """
        can = self.capabilities
        asked: set[str] = {ref.kind for ref in request.media}
        if request.prompt:
            asked.add("text")
        if request.transcript is not None:
            asked.add("transcript")
        if request.loa:
            asked.add("condition")
        refused = sorted(asked - can.accepts)
        if refused:
            raise UnsupportedRequest(
                f"backend '{self.name}' takes {', '.join(sorted(can.accepts))}, not {', '.join(refused)}; "
                f"choose another one with --backend ('loa models list' shows what each takes)"
            )
        if "transcript" in can.accepts and "text" not in can.accepts and not request.transcript:
            raise UnsupportedRequest(f"backend '{self.name}' speaks words: give them with --transcript")
        if request.seconds > can.max_seconds:
            raise UnsupportedRequest(
                f"backend '{self.name}' makes at most {can.max_seconds:g} s, got {request.seconds:g} s; ask for less"
            )
        if request.edit is not None and request.edit.kind not in can.edits:
            known = ", ".join(sorted(can.edits)) or "none"
            raise UnsupportedRequest(f"backend '{self.name}' cannot do the edit '{request.edit.kind}' (it knows: {known})")
        for flag, given, known_here in (
            ("--negative", bool(request.negative_prompt), can.negative_prompt),
            ("--guidance", request.guidance is not None, can.guidance),
            ("--steps", request.steps is not None, can.steps),
            ("--envelope", request.envelope is not None, can.envelope),
        ):
            if given and not known_here:
                raise UnsupportedRequest(f"backend '{self.name}' has no {flag}; leave it out")
        others = (request.edit.source if request.edit else None, request.envelope)
        for ref in (*request.media, *(ref for ref, _ in request.loa), *(ref for ref in others if ref is not None)):
            self.store.path(ref)

    def bucket(self, count: int) -> int:
        """The smallest row bucket that holds ``count`` requests (the largest one, if none does)."""
        return next((b for b in self.row_buckets if b >= count), self.row_buckets[-1])

    def fingerprint(self, rows: int = 1) -> str:
        """sha256 over identity and bucket: the same fingerprint and request give the same bytes."""
        signed = {
            "backend": self.name,
            "version": self.version,
            "rows": rows,
            "options": to_jsonable_python(_in_order(self.options.model_dump())),
        }
        return "sha256:" + hashlib.sha256(canonical_json(signed | self.identity()).encode()).hexdigest()

    def load(self) -> None:
        """Load the weights unless they are loaded.

        Raises:
            CheckpointMissing: with what is missing and where it goes.
        """
        with self._lock:
            if self._loaded:
                return
            state = self.readiness()
            if not state.ready:
                raise CheckpointMissing(state.reason)
            self._load()
            self._loaded = True

    def unload(self) -> None:
        """Free the weights; the next request loads them again."""
        with self._lock:
            if self._loaded:
                self._unload()
                self._loaded = False

    def generate(
        self,
        requests: Sequence[GenerationRequest],
        *,
        rows: int | None = None,
        on_progress: OnProgress | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> list[Generated]:
        """Make one sound per request, in order.

        A request's sound does not depend on its neighbours or their order: bitwise inside one bucket, to rounding
        across buckets. ``rows`` forces the bucket (replay does); by default the smallest that fits.

        Raises:
            UnsupportedRequest, MediaError: before loading. GenerationFailed: the guard refused a result.
        """
        for request in requests:
            self.check(request)
        with self._lock:
            self.load()
            done: list[Generated] = []
            size = rows or self.bucket(len(requests))
            notify = on_progress or (lambda _: None)
            chunks = [requests[i : i + size] for i in range(0, len(requests), size)]
            for index, chunk in enumerate(chunks):

                def shifted(p: Progress, index: int = index) -> None:
                    eta = p.eta_s
                    notify(Progress(index * p.of + p.step, len(chunks) * p.of, eta))

                start = time.perf_counter()
                sounds = self._synthesise(chunk, size, shifted, cancelled or (lambda: False))
                wall = time.perf_counter() - start
                signed = self.fingerprint(size)
                done += [self._finish(r, s, size, wall / len(chunk), signed) for r, s in zip(chunk, sounds, strict=True)]
            return done

    def _finish(self, request: GenerationRequest, sound: Audio, rows: int, wall: float, signed: str) -> Generated:
        wanted = None if request.transcript is not None else request.seconds
        report = inspect_audio(sound, seconds=wanted)
        if report.fatal:
            raise GenerationFailed(f"backend '{self.name}' gave an unusable sound ({report.fatal}); try another seed")
        return Generated(
            media=self.store.put_audio(sound),
            request=request,
            backend=self.name,
            fingerprint=signed,
            sample_rate=sound.sample_rate,
            seconds=sound.seconds,
            wall_seconds=wall,
            guard=report,
            rows=rows,
        )
