"""A film without pictures: what the planner reads of a video, and hands that make true sounds by arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np

from generators.base import Cancelled, Capabilities, Generated, GenerationRequest, Progress
from media.audio import Audio
from media.guard import inspect_audio
from media.refs import MediaRef, MediaStore
from orchestrator.scoring import Heard
from orchestrator.soundtrack import Maker, Seen

RATE = 16_000
HERE, THERE = np.array([1.0, 0.0]), np.array([0.0, 1.0])


@dataclass(frozen=True)
class Flash:
    time: float
    strength: float = 1.0


@dataclass(frozen=True)
class Film:
    seconds: float
    cuts: tuple[float, ...] = ()
    onsets: tuple[Flash, ...] = ()
    motion: np.ndarray = field(default_factory=lambda: np.zeros(50, np.float32))
    rate: float = 25.0

    @property
    def scenes(self) -> tuple[tuple[float, float], ...]:
        return tuple(pairwise((0.0, *self.cuts, self.seconds)))


def can(longest: float = 30.0, *, envelope: bool = True, accepts: Sequence[str] = ("text", "image")) -> Capabilities:
    return Capabilities(
        accepts=frozenset(accepts), tasks=frozenset({"sound", "music"}), max_seconds=longest, sample_rate=RATE, envelope=envelope,
        negative_prompt=True,
    )  # fmt: skip


def makers(**how: object) -> dict[str, Maker]:
    return {layer: Maker("toy", can(**how)) for layer in ("ambience", "foley", "music")}  # type: ignore[arg-type]


def seen(*vectors: np.ndarray | None, sound: str | None = None) -> list[Seen]:
    return [Seen((("a thing", 0.5),), sound, vector) for vector in vectors]


@dataclass
class Toy:
    """Hands that make seeded noise: beds steady, events as bursts 20 ms after where a curve's pulses (or 0.4 s) ask for them."""

    store: MediaStore
    spoiled: Callable[[GenerationRequest], str] = lambda request: ""
    quiet: Callable[[GenerationRequest], float] = lambda request: 1.0
    made: list[GenerationRequest] = field(default_factory=list)
    kinds: dict[Path, str] = field(default_factory=dict)
    batches: list[tuple[int, int]] = field(default_factory=list)
    stop_after: int | None = None  # requests, then as if the power failed
    sign: str = "sha256:" + "1" * 64

    def generate(
        self,
        maker: str,
        requests: Sequence[GenerationRequest],
        rows: int,
        on_progress: Callable[[Progress], None],
        cancelled: Callable[[], bool],
    ) -> list[Generated]:
        self.batches.append((len(requests), rows))
        sounds = []
        for number, request in enumerate(requests):
            if cancelled():
                raise Cancelled
            if self.stop_after is not None and len(self.made) >= self.stop_after:
                raise KeyboardInterrupt
            self.made.append(request)
            on_progress(Progress(number + 1, len(requests)))
            sounds.append(self._one(maker, request))
        return sounds

    def _one(self, maker: str, request: GenerationRequest) -> Generated:
        draw = np.random.default_rng(request.seed)
        time = np.arange(round(request.seconds * RATE)) / RATE
        noise = 0.1 * draw.standard_normal(len(time))
        if "impact" in request.prompt or "knock" in request.prompt:
            curve = None if request.envelope is None else np.load(self.store.path(request.envelope))
            at = [0.4] if curve is None else [k * request.seconds / len(curve) + 0.02 for k in np.flatnonzero(np.diff(curve) > 0.5) + 1]
            noise *= 0.001 + sum(np.where(time >= t, np.exp(-np.maximum(time - t, 0) / 0.05), 0) for t in at)
        if self.spoiled(request) == "silent":
            noise *= 0
        noise *= self.quiet(request)
        sound = Audio(noise[None].clip(-1, 1).astype(np.float32), RATE)
        media = self.store.put_audio(sound)
        self.kinds[self.store.path(media)] = self.spoiled(request)
        return Generated(
            media=media, request=request, backend=maker, fingerprint=self.sign, sample_rate=RATE,
            seconds=sound.seconds, wall_seconds=0.0, guard=inspect_audio(sound, seconds=sound.seconds),
        )  # fmt: skip

    def bucket(self, maker: str, count: int) -> int:
        return next(size for size in (1, 2, 4, 8) if size >= count)

    def fingerprint(self, maker: str, rows: int) -> str:
        return self.sign

    def path(self, ref: MediaRef) -> Path:
        return self.store.path(ref)

    def holds(self, ref: MediaRef) -> bool:
        return ref in self.store

    def keep_curve(self, curve: np.ndarray) -> MediaRef:
        import io

        data = io.BytesIO()
        np.save(data, curve)
        return self.store.put_bytes(data.getvalue(), "application/x-npy", "condition")

    def listen(self, path: Path) -> Heard:
        kind = self.kinds.get(path, "")
        return Heard(kind if kind in ("music", "speech") else "sound", 0.2, "noise")  # type: ignore[arg-type]
