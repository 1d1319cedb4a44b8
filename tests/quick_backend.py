"""A backend of a few lines that runs without torch, installed as a stranger's package is: tests ask who ran what, how often.

Its sound is a tone whose pitch is drawn from prompt and seed. "fail" in a prompt raises, "nan" gives numbers that are none, and whoever
makes a sound leaves a line in ``LOA_QUICK_LOG``.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict

from generators.base import Backend, Capabilities, GenerationRequest, OnProgress, Readiness
from media.audio import Audio

RATE = 8000
ROW = """\
name: {name}
system: Quick
backend: quick
options: {options}
licence: CC0-1.0
sample_rate: 8000
max_seconds: 4
accepts: [text, image, audio, condition]
tasks: [sound]
"""


class Quick(Backend):
    """Tones by hash."""

    class Options(BaseModel):
        model_config = ConfigDict(extra="forbid", frozen=True)

        pause: float = 0.0  # seconds that a batch takes
        shift: float = 0.0  # Hz
        here: bool = True  # whether its weights are
        die_on: str = ""  # a prompt that kills the process

    options: Options
    row_buckets: ClassVar[tuple[int, ...]] = (1, 2, 4, 8)

    @property
    def capabilities(self) -> Capabilities:
        accepts = frozenset({"text", "image", "audio", "condition"})
        return Capabilities(accepts=accepts, tasks=frozenset({"sound"}), max_seconds=4.0, sample_rate=RATE, steps=True, guidance=True)

    def readiness(self) -> Readiness:
        return Readiness(
            ready=self.options.here, reason="" if self.options.here else "quick lacks its weights; run: loa models pull quick"
        )

    def identity(self) -> dict[str, Any]:
        return {"weights": "none"}

    def _load(self) -> None:
        _note("load", self.name, str(self.options.shift))

    def _synthesise(
        self, requests: Sequence[GenerationRequest], rows: int, on_progress: OnProgress, cancelled: Callable[[], bool]
    ) -> list[Audio]:
        time.sleep(self.options.pause)
        if any("fail" in request.prompt for request in requests):
            raise RuntimeError("asked to fail")
        sounds = []
        for request in requests:
            if self.options.die_on and self.options.die_on in request.prompt:
                os.kill(os.getpid(), 9)
            _note("make", self.name, request.prompt, str(request.seed))
            sounds.append(tone(request, self.options.shift))
        return sounds


def tone(request: GenerationRequest, shift: float = 0.0) -> Audio:
    """[1, T] at 8 kHz; anybody can work it out from the request."""
    digest = hashlib.sha256(f"{request.prompt}|{request.seed}|{request.steps}|{[ref.id for ref, _ in request.loa]}".encode()).digest()
    hz = 200 + int.from_bytes(digest[:2], "big") / 64 + shift
    wave = 0.5 * np.sin(2 * np.pi * hz * np.arange(round(request.seconds * RATE)) / RATE)
    return Audio((wave * (np.nan if "nan" in request.prompt else 1)).astype(np.float32)[None], RATE)


def install(folder: Path, home: Path, **options: Any) -> Path:
    """Write the package's metadata below ``folder`` and its row ``quick`` below ``home``; the folder goes on the path."""
    info = folder / "quick_backend-1.0.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: quick-backend\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[loa.backends]\nquick = tests.quick_backend:Quick\n")
    (home / "backends").mkdir(parents=True, exist_ok=True)
    given = "{" + ", ".join(f"{key}: {value!r}" for key, value in options.items()) + "}"
    (home / "backends" / "quick.yaml").write_text(ROW.format(name="quick", options=given))
    return folder


def _note(*words: str) -> None:
    if path := os.environ.get("LOA_QUICK_LOG"):
        with open(path, "a", encoding="utf-8") as file:
            file.write("|".join((str(os.getpid()), *words)) + "\n")
