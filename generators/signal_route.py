"""NExT-GPT's route to nano's U-Net: media through a language model's hidden states, with no caption in between.

Knows requests, the store, and how media become vectors. The language model and its projectors are encoders.signal_lm's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from encoders.base import Condition
from encoders.eye import shows
from encoders.sights import LABELS, audible
from encoders.signal_lm import Medium, SignalLM, load
from encoders.text import pool
from generators.base import GenerationRequest
from generators.conditioning import VIDEO_FRAMES, NanoConditioner
from generators.scene import curve_of
from media.image import load_image
from media.refs import MediaRef
from media.video import sample_frames

VERSION = 3  # raise it when the same weights start to give another sound


class SignalConditioner(NanoConditioner):
    """As ``NanoConditioner``, but pictures, videos and sounds reach the U-Net through the signal model.

    A prompt alone is read as ever; beside media it is what is said to the language model.

    Args:
        folder: the signal model's checkpoint; ``cache``: for the unpacked language model.
    """

    def __init__(self, *args: Any, folder: Path, cache: Path | None, **fields: Any) -> None:
        super().__init__(*args, **fields)
        self._folder, self._unpacked = folder, cache
        self.model: SignalLM | None = None

    def load(self) -> None:
        super().load()
        self.model = self.model or load(self._folder, self._unpacked)

    def _said(self, request: GenerationRequest) -> tuple[Condition, Condition, str]:
        media = [self.medium(ref) for ref in request.media if ref.kind != "condition"]
        if not media:
            return super()._said(request)
        text = self.text_of(self.signals(request.prompt, media))
        return self._written(text), text, request.prompt

    def one_sound(self, request: GenerationRequest) -> str | None:
        """Of media the known sound whose loudness curves fit: the one that what the hidden states say lies nearest to.

        Where words beside them say when something is heard, none does.
        """
        media, anchors = [self.medium(ref) for ref in request.media if ref.kind != "condition"], self._labeller.anchors
        if not media:
            return super().one_sound(request)
        if anchors is None or self._anchor_cosine is None or curve_of(request.prompt, request.seconds) is not None:
            return None
        name, cosine = anchors.meant(pool(self.text_of(self.signals(request.prompt, media)))[0].numpy())
        return name if name and cosine >= self._anchor_cosine else None

    def signals(self, words: str, media: list[Medium]) -> Tensor:
        """Hidden states [1, 8, W] of the signal tokens: all that the generator gets to know of words and media."""
        assert self.model is not None
        return self.model.sound(words, media)

    def text_of(self, states: Tensor) -> Condition:
        """What the U-Net reads of hidden states, in the place of a text's states."""
        assert self.model is not None
        return self.model.condition(states, self._text.length)

    def medium(self, ref: MediaRef) -> Medium:
        """A stored medium as the vector that the language model reads: of a sound, what the audio tower hears."""
        assert self.model is not None
        if ref.kind == "audio":
            return "audio", self._labeller.encode([self._sound(ref)]).states[0, 0]
        path = self._store.path(ref)
        frames = [load_image(path)] if ref.kind == "image" else sample_frames(path, VIDEO_FRAMES)
        seen = self._images.probabilities(frames) if any(map(shows, frames)) else np.zeros(LABELS)  # one colour and noise show nothing
        return self.model.seen(audible(seen))
