"""FLAN-T5 (Chung et al. 2022) as a frozen reader of words: the sequence that the U-Nets of AudioLDM 2 and TANGO attend to.

transformers' ``T5EncoderModel`` over a folder with tokenizer; google/flan-t5-large is Apache-2.0.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from encoders.base import Condition, EncoderMissing

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, T5EncoderModel

WHERE = "put there google/flan-t5-large (Apache-2.0; config.json, model.safetensors, tokenizer files), or any T5 folder"


class FlanT5:
    """Texts to last hidden states [B, length, D].

    A text is read alone, at its own length, and followed by masked zeros, so that its states never depend on its neighbours.

    Args:
        folder: a transformers folder. None: ``checkpoints/flan-t5-large`` in loa's home.
        length: tokens that are kept; longer texts are cut (128 in AudioLDM 2, which are about 90 words).
    """

    name = "flan-t5"

    def __init__(self, folder: Path | None = None, length: int = 128) -> None:
        from configs.schema import default_home

        self.folder, self.length = folder or default_home() / "checkpoints" / "flan-t5-large", length
        self._model: T5EncoderModel | None = None
        self._tokenizer: PreTrainedTokenizerBase | None = None

    def load(self) -> None:
        if self._model is not None:
            return
        if not (self.folder / "config.json").is_file():
            raise EncoderMissing(f"{self.folder} holds no T5; {WHERE}")
        if not any((self.folder / name).is_file() for name in ("tokenizer.json", "spiece.model")):
            raise EncoderMissing(f"{self.folder} holds no tokenizer; {WHERE}")
        from transformers import AutoTokenizer, T5EncoderModel

        self._tokenizer = AutoTokenizer.from_pretrained(self.folder, local_files_only=True, trust_remote_code=False)
        model = T5EncoderModel.from_pretrained(self.folder, local_files_only=True, dtype=torch.float32)
        self._model = model.eval().requires_grad_(False)

    def sample_input(self) -> list[Any]:
        return ["a dog barks", "heavy rain on a tin roof at night", "piano"]

    def encode(self, inputs: list[Any]) -> Condition:
        self.load()
        rows = [self._states(text) for text in inputs]
        states = [torch.nn.functional.pad(row, (0, 0, 0, self.length - len(row))) for row in rows]
        return Condition("t5", torch.stack(states), torch.stack([torch.arange(self.length) < len(row) for row in rows]))

    @torch.no_grad()
    def _states(self, text: str) -> Tensor:
        """[L, D] at the text's own length."""
        assert self._model is not None and self._tokenizer is not None
        tokens = self._tokenizer([text], truncation=True, max_length=self.length, return_tensors="pt")
        states: Tensor = self._model(tokens.input_ids, attention_mask=tokens.attention_mask).last_hidden_state[0]
        return states
