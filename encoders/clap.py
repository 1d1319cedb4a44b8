"""The joint space of words, pictures and sounds that nano reads in CLAP's place.

Its axes are those of the sentence encoder. A sound reaches it through a tower trained contrastively on top of the frozen AudioMAE
(Wu et al. 2023, LAION-CLAP, with the text side frozen); a picture reaches it through the names of its ImageNet labels. ``Anchors`` are
phrases of known sounds in this space: the nearest ones say in words what a picture or a sound is.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from encoders.audiomae import AudioMae, LoaExtractor
from encoders.base import Condition, EncoderMissing
from encoders.text import SentenceEncoder
from media.audio import Audio, resample
from media.mel import MelSpec, log_mel

# Cosine to the nearest class at which a sound is as likely known as not, and how soon doubt ends. Unseen clips of known classes have a
# median of 0.28; 28 tones, chords and noises at most 0.27; recordings of other things 0.18.
KNOWN, UNSURE = 0.27, 0.015
NANO = Path(__file__).resolve().parent.parent / "checkpoints" / "nano"


class AudioTower(nn.Module):
    """AudioMAE features [B, P, W] to unit vectors [B, 384] in the space of sentences."""

    def __init__(self, width: int = 128, hidden: int = 256, out: int = 384) -> None:
        super().__init__()
        self.score = nn.Linear(width, 4)  # four learned poolings over time and frequency
        self.mlp = nn.Sequential(nn.LayerNorm(5 * width), nn.Linear(5 * width, hidden), nn.GELU(), nn.Linear(hidden, out))
        self.log_scale = nn.Parameter(torch.tensor(2.65))  # of the softmax over labels; exp = 14, CLIP's start

    def forward(self, features: Tensor) -> Tensor:
        weights = self.score(features).softmax(dim=1)
        pooled = torch.einsum("bpk,bpw->bkw", weights, features).flatten(1)
        return F.normalize(self.mlp(torch.cat([pooled, features.amax(1)], dim=1)), dim=-1)


@dataclass(frozen=True)
class Anchors:
    """Phrases of known sounds: ``texts`` and their class ``labels`` ("" where they name none: music, speech), ``vectors`` [P, 384] unit
    length. The first phrase of a class is its plain name."""

    texts: tuple[str, ...]
    labels: tuple[str, ...]
    vectors: np.ndarray

    @classmethod
    def read(cls, folder: Path) -> Anchors:
        rows = json.loads((folder / "phrases.json").read_text())
        stored = load_file(folder / "vectors.safetensors")
        vectors = stored["vectors"].float().numpy()
        if "largest" in stored:
            vectors *= stored["largest"].float().numpy()[:, None] / 127
        return cls(tuple(r[1] for r in rows), tuple(r[0] for r in rows), vectors)

    def write(self, folder: Path) -> None:
        """Vectors as bytes, each with its largest value: their cosines are right to 1e-3, in half the room of float16."""
        folder.mkdir(parents=True, exist_ok=True)
        rows = [list(pair) for pair in zip(self.labels, self.texts, strict=True)]
        (folder / "phrases.json").write_text(json.dumps(rows, ensure_ascii=False, indent=0) + "\n")
        largest = np.abs(self.vectors).max(axis=1)
        whole = np.rint(self.vectors / largest[:, None] * 127).astype(np.int8)
        save_file({"vectors": torch.from_numpy(whole), "largest": torch.from_numpy(largest)}, folder / "vectors.safetensors")

    def nearest(self, vector: np.ndarray) -> tuple[str, float]:
        """The phrase closest to a vector [384] and their cosine."""
        scores = self.vectors @ (vector / (np.linalg.norm(vector) + 1e-9))
        best = int(np.argmax(scores))
        return self.texts[best], float(scores[best])

    def meant(self, vector: np.ndarray, neighbours: int = 5, sharpness: float = 12.0) -> tuple[str, float]:
        """The name of the sound that a vector [384] means, and the cosine of its nearest phrase; "" for phrases of no class.

        The nearest phrases vote with the weight exp(sharpness * cosine); a class is called by its first phrase.
        """
        scores = self.vectors @ (vector / (np.linalg.norm(vector) + 1e-9))
        votes: dict[str, float] = {}
        for row in np.argsort(-scores)[:neighbours]:
            votes[self.labels[row]] = votes.get(self.labels[row], 0.0) + float(np.exp(sharpness * scores[row]))
        label = max(votes, key=lambda name: votes[name])
        return (self.texts[self.labels.index(label)] if label else ""), float(scores.max())

    def classes(self) -> tuple[tuple[str, ...], np.ndarray]:
        """Class names in order of appearance, and the unit mean of each one's phrases [K, 384]."""
        names = tuple(name for name in dict.fromkeys(self.labels) if name)
        labels = np.asarray(self.labels)
        means = np.stack([self.vectors[labels == name].mean(0) for name in names])
        return names, means / np.linalg.norm(means, axis=1, keepdims=True)


def image_vector(labels: list[tuple[str, float]], text: SentenceEncoder) -> np.ndarray:
    """Labels with probabilities to one vector [384]: the mean of the names, weighted.

    Its length is a confidence: near 1 where the labels are sure or agree in meaning (three breeds of cat), small where a blurred or
    empty picture scatters over unrelated things.
    """
    names = text.sentences([name for name, _ in labels])
    weights = np.asarray([p for _, p in labels], np.float32)
    return (weights[:, None] * names).sum(0)


def clip_mel(audio: Audio, samples: int = 81_920) -> np.ndarray:
    """log-mel [512, 64] of the loudest ``samples`` (5.12 s) of a sound at 16 kHz; a short sound is repeated to fill them."""
    mono = resample(audio, MelSpec().sample_rate).samples.mean(0)
    if len(mono) < samples:
        mono = np.tile(mono, -(-samples // max(len(mono), 1)))[:samples]
    elif len(mono) > samples:
        energy = np.concatenate([[0.0], np.cumsum(mono.astype(np.float64) ** 2)])
        starts = np.arange(0, len(mono) - samples + 1, 1600)
        at = int(starts[np.argmax(energy[starts + samples] - energy[starts])])
        mono = mono[at : at + samples]
    peak = float(np.abs(mono).max())
    return log_mel(mono * (0.7 / peak) if peak > 1e-4 else mono, MelSpec())


class AudioLabeller:
    """Sounds to nano's own classes, and to the joint space. Weights lie in the checkpoint's folder."""

    name = "nano-audio"
    width = 384

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or NANO
        self._loa = LoaExtractor(self.folder / "audiomae")
        self._tower: AudioTower | None = None
        self.anchors: Anchors | None = None

    def load(self) -> None:
        if self._tower is not None:
            return
        if not (self.folder / "audio_tower" / "model.safetensors").is_file():
            raise EncoderMissing(f"{self.folder} holds no audio_tower; give the folder of a nano checkpoint")
        self._loa.load()
        tower = AudioTower().eval().requires_grad_(False)
        tower.load_state_dict({k: v.float() for k, v in load_file(self.folder / "audio_tower" / "model.safetensors").items()})
        self.anchors = Anchors.read(self.folder / "anchors")
        self._tower = tower

    def sample_input(self) -> list[Any]:
        time = np.arange(32_000) / 16_000
        noise = np.random.default_rng(0).standard_normal((1, 90_000)).astype(np.float32) * 0.1
        tone = (0.5 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)[None]
        return [Audio(tone, 16_000), Audio(noise, 16_000), Audio(np.repeat(tone, 2, 0), 44_100)]

    @torch.no_grad()
    def encode(self, inputs: list[Any]) -> Condition:
        """Audio values to unit vectors [B, 1, 384]."""
        self.load()
        assert self._tower is not None and self._loa.model is not None
        model: AudioMae = self._loa.model
        rows = torch.cat([self._tower(model.features(torch.from_numpy(clip_mel(a))[None])) for a in inputs])
        return Condition("clap", rows[:, None], torch.ones(len(inputs), 1, dtype=torch.bool))

    def loa(self, audio: Audio) -> Condition:
        """The Language of Audio of a sound: A(x), [1, 8, 128]."""
        return self._loa.encode([torch.from_numpy(clip_mel(audio))])

    def fits(self, sounds: Sequence[Audio], wanted: np.ndarray) -> list[float]:
        """How well each sound fits a sentence's vector [384], in 0..1 or as a cosine.

        Where the sentence means a known sound: the probability that the sound is one, against all other classes (the softmax that the
        tower was trained with); a cosine alone does not say that a third thing is likelier still. Otherwise the cosine.
        """
        vectors = self.encode(list(sounds)).states[:, 0]
        assert self.anchors is not None and self._tower is not None
        name, _ = self.anchors.meant(wanted)
        names, means = self.anchors.classes()
        label = self.anchors.labels[self.anchors.texts.index(name)] if name else ""
        if label not in names:
            return [float(vector @ wanted) for vector in vectors.numpy()]
        chances = (float(self._tower.log_scale.exp()) * vectors @ torch.from_numpy(means).T).softmax(1)
        return [float(p) for p in chances[:, names.index(label)]]

    def labels(self, audio: Audio, top: int = 5) -> list[tuple[str, float]]:
        """The likeliest ``top`` classes with probabilities, best first; they sum to how well the sound is known, at most 1.

        A softmax alone is sure of sounds that are like nothing: chords and square waves, most recordings of what was never trained on.
        """
        vector = self.encode([audio]).states[0, 0]
        assert self.anchors is not None and self._tower is not None
        names, means = self.anchors.classes()
        cosines, scale = torch.from_numpy(means) @ vector, float(self._tower.log_scale.exp())
        known = torch.sigmoid((cosines.max() - KNOWN) / UNSURE)
        p = (known * (scale * cosines).softmax(0)).numpy()
        return [(names[i].replace("_", " "), float(p[i])) for i in np.argsort(-p)[:top]]


__all__ = ["Anchors", "AudioLabeller", "AudioTower", "clip_mel", "image_vector"]
