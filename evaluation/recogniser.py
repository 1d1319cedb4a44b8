"""Writes down what is said, for the character error rate: a wav2vec 2.0 with letters (Baevski et al. 2020), where its folder is here.

Knows one transformers folder. No weights are shipped or fetched; without them the metric is null and says why.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from configs.schema import default_home
from evaluation.embedders import EmbedderMissing
from media.audio import Audio, resample

if TYPE_CHECKING:
    import torch

WHERE = (
    "put there the folder facebook/wav2vec2-base-960h (Apache-2.0, 378 MB): "
    "https://huggingface.co/facebook/wav2vec2-base-960h, its config, weights, vocabulary and preprocessor"
)
RATE = 16_000


class Recogniser:
    """Sounds to letters, the likeliest of each frame (no language model).

    Args:
        folder: None: ``LOA_HOME/checkpoints/asr``.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or default_home() / "checkpoints" / "asr"
        self._parts: tuple[Any, Any, Any] | None = None

    def load(self) -> None:
        """Raises EmbedderMissing where there is no such folder."""
        if self._parts is not None:
            return
        if not (self.folder / "config.json").is_file():
            raise EmbedderMissing(f"{self.folder} holds no speech recogniser; {WHERE}")
        from transformers import Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC

        here = {"local_files_only": True}
        model = Wav2Vec2ForCTC.from_pretrained(self.folder, **here).eval().requires_grad_(False)
        self._parts = (
            model,
            Wav2Vec2CTCTokenizer.from_pretrained(self.folder, **here),
            Wav2Vec2FeatureExtractor.from_pretrained(self.folder, **here),
        )

    def write(self, sounds: Sequence[Audio]) -> list[str]:
        """What is said in each, heard one by one."""
        import torch

        self.load()
        assert self._parts is not None
        model, tokenizer, extract = self._parts
        said = []
        with torch.inference_mode():
            for sound in sounds:
                mono = resample(sound, RATE).mono().samples[0]
                mono = np.pad(mono, (0, max(0, RATE // 2 - len(mono))))
                given = extract(mono, sampling_rate=RATE, return_tensors="pt")
                best: torch.Tensor = model(given.input_values).logits[0].argmax(-1)
                said.append(str(tokenizer.decode(best)))
        return said
