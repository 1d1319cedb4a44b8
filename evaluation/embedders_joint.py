"""Embedders whose space holds words or pictures too: CLAP, ImageBind, and nano's own small tower, which needs no download.

They wrap encoders of the floor below and add what metrics ask for. nano's tower is the one that the shipped model reads with, and is no
judge of it (that is evaluation/judge.py): its figures carry its name and stand beside no published ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from encoders.weights import sha256_of
from evaluation.embedders import EmbedderMissing, Heard
from media.audio import Audio

if TYPE_CHECKING:
    import torch

    from encoders.clap import AudioLabeller
    from encoders.imagebind import ImageBind
    from encoders.laion_clap import LaionClap

ROWS = 8


def _digest(files: Sequence[Path], version: str) -> str:
    return "sha256:" + hashlib.sha256(" ".join([version, *(sha256_of(path) for path in files)]).encode()).hexdigest()


class NanoClap:
    """``nano-clap``: unit vectors [384] in the sentence encoder's space, and scores of nano's own classes.

    Args:
        folder: a nano checkpoint; None: the shipped one.
    """

    name = "nano-clap"
    sample_rate = 16_000
    window = "the loudest 5.12 s, its peak at 0.7; a shorter clip is repeated"
    classes = "softmax"

    def __init__(self, folder: Path | None = None) -> None:
        from encoders.clap import NANO

        self.folder = folder or NANO
        self._labeller: AudioLabeller | None = None
        self._names: torch.Tensor | None = None

    @cached_property
    def digest(self) -> str:
        parts = ("audiomae", "audio_tower", "anchors")
        files = [path for part in parts for path in sorted((self.folder / part).glob("*")) if path.is_file()]
        return _digest(files, "nano-clap-1")

    def load(self) -> AudioLabeller:
        import torch

        from encoders.clap import AudioLabeller

        if self._labeller is None:
            labeller = AudioLabeller(self.folder)
            labeller.load()
            assert labeller.anchors is not None
            self._names = torch.from_numpy(labeller.anchors.classes()[1])
            self._labeller = labeller
        return self._labeller

    def embed(self, sounds: Sequence[Audio]) -> list[Heard]:
        import torch

        from encoders.clap import clip_mel

        labeller = self.load()
        model, tower = labeller._loa.model, labeller._tower
        assert model is not None and tower is not None and self._names is not None
        rows: list[Heard] = []
        with torch.inference_mode():
            for start in range(0, len(sounds), ROWS):
                mels = np.stack([clip_mel(sound) for sound in sounds[start : start + ROWS]])
                count = len(mels)
                batch = torch.from_numpy(np.concatenate([mels, np.zeros((ROWS - count, *mels.shape[1:]), np.float32)]))
                vectors = tower(model.features(batch))[:count]
                logits = (tower.log_scale.exp() * vectors @ self._names.T).numpy()
                found = vectors.numpy()
                rows += [Heard(found[i].copy(), found[i : i + 1].copy(), logits[i].copy()) for i in range(count)]
        return rows

    def words(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors [N, 384]."""
        from encoders.text import SentenceEncoder

        return SentenceEncoder().sentences(list(texts))


class Clap:
    """``clap``: LAION's, from a transformers folder or LAION's own ``.pt`` in ``LOA_HOME/checkpoints/clap``.

    AudioLDM 2's tables were made with ``music_speech_audioset_epoch_15_esc_89.98.pt``; which file it was is in the digest.
    """

    name = "clap"
    sample_rate = 48_000
    window = "the first 10 s; a shorter clip is repeated"
    classes = ""

    def __init__(self, folder: Path | None = None) -> None:
        from encoders.laion_clap import LaionClap

        self._clap: LaionClap = LaionClap(folder)

    @cached_property
    def digest(self) -> str:
        from encoders.laion_clap import WHERE

        folder = self._clap.folder
        files = sorted(folder.glob("*.pt"))[:1] if not (folder / "config.json").is_file() else []
        files = files or sorted(path for suffix in ("*.safetensors", "*.bin") for path in folder.glob(suffix))
        if not files:
            raise EmbedderMissing(f"{folder} holds no CLAP; {WHERE}")
        return _digest(files, "clap-1")

    def embed(self, sounds: Sequence[Audio]) -> list[Heard]:
        vectors = self._clap.encode(list(sounds)).states[:, 0].numpy()
        return [Heard(row, row[None]) for row in vectors]

    def words(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors [N, 512]."""
        found: np.ndarray = self._clap.encode(list(texts)).states[:, 0].numpy()
        return found


class ImageBindSound:
    """``imagebind``: Meta's, from ``LOA_HOME/checkpoints/imagebind``; the score of a picture or video and a sound is their cosine.

    av-benchmark prints it times 100, HunyuanVideo-Foley as it is; here as it is.
    """

    name = "imagebind"
    sample_rate = 0  # the encoder resamples as the official code does
    window = "three clips of 2 s, spread evenly, their vectors averaged"
    classes = ""

    def __init__(self, folder: Path | None = None) -> None:
        from encoders.imagebind import ImageBind

        self._bind: ImageBind = ImageBind(folder)

    @cached_property
    def digest(self) -> str:
        from encoders.imagebind import WEIGHTS, WHERE

        files = [path for suffix in (".safetensors", ".pth") if (path := self._bind.folder / f"{WEIGHTS}{suffix}").is_file()]
        if not files:
            raise EmbedderMissing(f"{self._bind.folder} holds no {WEIGHTS}.pth; {WHERE}")
        return _digest(files[:1], "imagebind-1")

    def embed(self, sounds: Sequence[Audio]) -> list[Heard]:
        vectors = self._bind.encode(list(sounds)).states[:, 0].numpy()
        return [Heard(row, row[None]) for row in vectors]

    def sights(self, paths: Sequence[Path]) -> np.ndarray:
        """Vectors [N, 1024] of pictures and videos.

        Raises:
            MediaError: a file that is neither.
        """
        from encoders.imagebind import clip_frames
        from media.guard import sniff_file
        from media.image import load_image

        inputs = [clip_frames(path) if sniff_file(path)[1] == "video" else load_image(path) for path in paths]
        found: np.ndarray = self._bind.encode(inputs).states[:, 0].numpy()
        return found
