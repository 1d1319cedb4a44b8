"""Real small parts for the router's tests: a generator that writes a true tone, and a house around it."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from langchain_core.language_models import BaseChatModel

from configs.registry import UnknownName
from generators.base import (
    Cancelled,
    Generated,
    GenerationRequest,
    OnProgress,
    Progress,
    UnsupportedRequest,
)
from media.audio import Audio, encode_audio, read_audio
from media.guard import inspect_audio
from media.refs import MediaRef, MediaStore
from orchestrator.chat_model import build_rules
from orchestrator.conversation import Event, Turn
from orchestrator.router import Router
from orchestrator.tools import Generator, Label, Offers, Soundtracker, Written, build_tools

RATE = 16000  # Hz
MAX_SECONDS = 20.0
STEPS = 4


class WordCounts:
    """A sentence encoder small enough for a test: which letters a text holds, as a unit vector [384]."""

    def sentences(self, texts: list[str]) -> np.ndarray:
        rows = np.zeros((len(texts), 384), np.float32)
        for row, text in zip(rows, texts, strict=True):
            np.add.at(row, [ord(c) % 384 for c in text.lower()], 1.0)
        return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)


@dataclass
class Tones:
    """Generates a sine whose pitch is the seed's; really stores it. ``pause`` seconds pass at every step."""

    store: MediaStore
    pause: float = 0.0
    requests: list[tuple[str | None, GenerationRequest]] = field(default_factory=list)
    on_step: Callable[[int], None] = lambda step: None

    def __call__(
        self,
        backend: str | None,
        request: GenerationRequest,
        *,
        on_progress: OnProgress | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Generated:
        self.requests.append((backend, request))
        if backend not in (None, "tones"):
            raise UnknownName("backend", backend or "", ["tones"])
        if request.seconds > MAX_SECONDS:
            raise UnsupportedRequest(f"backend 'tones' makes at most {MAX_SECONDS:g} s, got {request.seconds:g} s")
        for step in range(STEPS):
            self.on_step(step)
            time.sleep(self.pause)
            if cancelled and cancelled():
                raise Cancelled
            if on_progress:
                on_progress(Progress(step + 1, STEPS))
        t = np.arange(round(request.seconds * RATE)) / RATE
        audio = Audio(0.3 * np.sin(2 * np.pi * pitch(request.seed) * t)[None].astype(np.float32), RATE)
        return Generated(
            media=self.store.put_audio(audio),
            request=request,
            backend="tones",
            fingerprint="sha256:tones",
            sample_rate=RATE,
            seconds=audio.seconds,
            wall_seconds=0.0,
            guard=inspect_audio(audio, seconds=request.seconds),
        )


def pitch(seed: int) -> float:
    """Hz."""
    return 200.0 + 10.0 * seed


def colours(ref: MediaRef) -> list[Label]:
    """A describer: sure of pictures, unsure of sounds."""
    return [("fire engine", 0.9), ("toaster", 0.02)] if ref.kind == "image" else [("dog", 0.1), ("cat", 0.08)]


@dataclass
class House:
    router: Router
    tones: Tones
    store: MediaStore
    model: BaseChatModel
    offers: Offers

    def say(self, text: str, *media: MediaRef, thread: str = "t") -> list[Event]:
        return list(self.router.reply(thread, Turn(text=text, media=media)))


def house(
    folder: Path,
    chat_model: BaseChatModel | None = None,
    pause: float = 0.0,
    generate: Generator | None = None,
    soundtrack: Soundtracker | None = None,
) -> House:
    """``chat_model``: the shipped rules unless given; ``generate``: the tones unless given."""
    store = MediaStore(folder / "store")
    tones = Tones(store, pause)
    model = chat_model or build_rules({"backends": ["tones"]}, WordCounts())

    def export(ref: MediaRef, made: Generated | None, form: str, lufs: float | None) -> Written:
        """The real bytes of a format, without provenance."""
        sound = read_audio(store.path(ref))
        mime = {"wav": "audio/wav", "mp3": "audio/mpeg"}[form]
        return Written(store.put_bytes(encode_audio(sound, form), mime, "audio"), sound.seconds)

    offers = Offers(
        seconds_of=lambda ref: read_audio(store.path(ref)).seconds,
        export=export,
        ready=lambda task: ("tones",) if task == "sound" else (),
        soundtrack=soundtrack,
    )
    router = Router(model, build_tools(generate or tones, colours, offers), folder / "threads.sqlite")
    return House(router, tones, store, model, offers)


def of_type(events: Sequence[Event], kind: str) -> list[Event]:
    return [event for event in events if event.type == kind]


def main(folder: str, thread: str, text: str, pause: str) -> None:
    """A process of its own: says "started" once the tool runs, and the answer when it is there."""
    home = house(Path(folder), pause=float(pause))
    home.tones.on_step = lambda step: print("started", step, flush=True) or None
    for event in home.router.reply(thread, Turn(text=text)):
        if event.type == "turn_done":
            print("done", event.text, flush=True)


if __name__ == "__main__":
    threading.current_thread().name = "turn"
    main(*sys.argv[1:])
