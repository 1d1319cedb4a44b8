"""From ImageBind's space to the one that AudioLDM 2's GPT-2 reads, so that its public weights hear pictures, videos, sounds and motion.

Those weights were trained on words alone: on CLAP's vector of a caption and on its FLAN-T5 states. The bridge was fitted on captions
alone, too, which both spaces hold. Other inputs lie elsewhere in ImageBind's space than words that mean the same (the modality gap,
Liang et al. 2022); each kind is therefore moved by its own mean before it crosses.

Knows vectors and captions. Does not know how they were made; training/bridge.py fits it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from encoders.base import Condition, Encoder
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


def weighted_states(parts: Sequence[Condition], weights: Sequence[float], length: int) -> Condition:
    """Several captions' token states as one sequence [1, L <= length, D]: real tokens only, one caption behind the other.

    The states of each are scaled by its weight over the greatest. Cross-attention makes its keys and values of them without an offset,
    so that a caption of half the weight says half as much.
    """
    heaviest = max(weights)
    rows = [part.states[0][part.mask[0]] * (weight / heaviest) for part, weight in zip(parts, weights, strict=True)]
    states = torch.cat(rows)[None, :length]
    return Condition(parts[0].name, states, torch.ones(states.shape[:2], dtype=torch.bool))


class BridgedReader:
    """What ImageBind reads, as the two conditions that AudioLDM 2 reads in place of a caption.

    The vector of CLAP comes over the bridge. The U-Net's (and GPT-2's) FLAN-T5 states are those of the captions nearest to that vector,
    weighed by how near they are; words that were said beside the input stand before them, at full weight.

    Args:
        encoder: ImageBind, or another encoder of the bridge's first space.
        t5: the FLAN-T5 states [1, L, D] of a text.
        length: the longest sequence of states.
    """

    def __init__(self, bridge: Bridge, encoder: Encoder, t5: Callable[[str], Condition], *, length: int = 128, k: int = 4) -> None:
        self.bridge, self.encoder, self.length, self.k = bridge, encoder, length, k
        self._t5 = t5

    def read(
        self, inputs: Sequence[tuple[str, Any]], said: tuple[Condition, Condition] | None = None
    ) -> tuple[Condition, Condition, str]:
        """The two conditions, and the nearest caption for people.

        Args:
            inputs: (modality, what the encoder reads), one or more: their vectors are averaged.
            said: the CLAP vector [1, 1, D] and FLAN-T5 states of a prompt, which counts as much as all inputs together.
        """
        crossed = [self.bridge.to_clap(self.encoder.encode([given]).states[0, 0], modality) for modality, given in inputs]
        vector = F.normalize(torch.stack(crossed).mean(0), dim=-1)
        near = self.bridge.captions(vector, self.k)
        parts, weights = [self._t5(caption) for caption, _ in near], [weight for _, weight in near]
        if said is not None:
            vector = F.normalize(vector + F.normalize(said[0].states[0, 0], dim=-1), dim=-1)
            parts, weights = [said[1], *parts], [max(weights), *weights]
        clap = Condition("clap", vector[None, None], torch.ones(1, 1, dtype=torch.bool))
        return clap, weighted_states(parts, weights, self.length), near[0][0]
