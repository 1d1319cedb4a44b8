"""From ImageBind's space to the one that AudioLDM 2's GPT-2 reads, so that its public weights hear pictures, videos, sounds and motion.

Those weights were trained on words alone: on CLAP's vector of a caption and on its FLAN-T5 states. The bridge was fitted on captions
alone, too, which both spaces hold. Other inputs lie elsewhere in ImageBind's space than words that mean the same (the modality gap,
Liang et al. 2022); each kind is therefore moved by its own mean before it crosses.

Knows vectors and captions. Does not know how they were made; training/bridge.py fits it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from encoders.weights import WeightsError, read_state_dict

SHARPNESS = 20.0  # of the softmax over cosines that weighs captions


@dataclass(frozen=True)
class Bridge:
    """A line from one space to another, and captions that stand in the second.

    All vectors are float32; those of ImageBind are brought to unit length first, since only vision has it.
    """

    weight: Tensor  # [source, target]
    means: Mapping[str, Tensor]  # kind of input -> mean of its unit vectors [source]; "text" is always there
    target: Tensor  # [target]: the mean of the captions
    spread: float  # how far a caption lies from that mean, on average
    texts: tuple[str, ...]  # the captions
    vectors: Tensor  # [captions, target], unit length
    about: Mapping[str, str] = field(default_factory=dict)  # what it was fitted on, and how well

    @classmethod
    def load(cls, path: Path) -> Bridge:
        """Read what ``loa train bridge`` wrote.

        Raises:
            WeightsError: missing, damaged, or another file.
        """
        from safetensors import safe_open

        if path.suffix != ".safetensors":
            raise WeightsError(f"{path} is no bridge, which is a .safetensors file; make one with 'loa train bridge'")
        state = read_state_dict(path)
        with safe_open(path, framework="pt") as file:
            note = file.metadata() or {}
        try:
            about = json.loads(note["bridge"])
            texts = tuple(about.pop("captions"))
            means = {key.removeprefix("mean."): value.float() for key, value in state.items() if key.startswith("mean.")}
            weight, target, vectors = (state[key].float() for key in ("weight", "target", "vectors"))
            fits = weight.shape == (len(means["text"]), len(target)) and vectors.shape == (len(texts), len(target))
            spread = float(state["spread"])
        except (KeyError, ValueError, TypeError, AttributeError):
            fits = False
        if not fits:
            raise WeightsError(f"{path} is no bridge; make one with 'loa train bridge'")
        return cls(weight, means, target, spread, texts, F.normalize(vectors, dim=-1), about)

    def to_bytes(self) -> bytes:
        """safetensors, in half precision but for the means: 5 MB for 4,000 captions."""
        from safetensors.torch import save

        tensors = {f"mean.{kind}": mean for kind, mean in self.means.items()}
        tensors |= {"weight": self.weight.half(), "target": self.target, "vectors": self.vectors.half()}
        tensors |= {"spread": torch.tensor(self.spread)}
        # One entry: safetensors writes several in no fixed order, and equal bridges are equal bytes.
        note = json.dumps({**self.about, "captions": self.texts}, ensure_ascii=False)
        return save({key: value.contiguous() for key, value in tensors.items()}, {"bridge": note})

    def to_clap(self, vector: Tensor, modality: str) -> Tensor:
        """A vector [source] or [B, source] of ImageBind as a unit vector of CLAP.

        Only the direction in which an input lies from the mean of its kind crosses; in the other space it is as far from the mean of
        the captions as captions are. A kind without a mean is taken for text.

        Args:
            modality: "vision", "audio", "imu" or "text".
        """
        away = F.normalize(vector.float(), dim=-1) - self.means.get(modality, self.means["text"])
        return F.normalize(self.target + self.spread * F.normalize(away @ self.weight, dim=-1), dim=-1)

    def captions(self, vector: Tensor, k: int = 4) -> list[tuple[str, float]]:
        """The captions nearest to a vector [target] of CLAP, best first, with weights that sum to one."""
        cosines = self.vectors @ F.normalize(vector.float(), dim=-1)
        best = cosines.topk(min(k, len(self.texts)))
        weights = (SHARPNESS * best.values).softmax(0).tolist()
        return [(self.texts[index], weight) for index, weight in zip(best.indices.tolist(), weights, strict=True)]
