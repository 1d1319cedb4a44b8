"""M(condition) of the paper: GPT-2 reads conditions and writes the Language of Audio.

AudioLDM 2 (Liu et al. 2024), section III-C. Each condition is projected to GPT-2's width and wrapped by its own start and end
vector; GPT-2 continues the sequence by N vectors, feeding every output state back as the next input. diffusers'
AudioLDM2ProjectionModel holds the projections; the loop is ours because diffusers' one calls a method that transformers 5 removed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from encoders.base import Condition

if TYPE_CHECKING:
    from diffusers.pipelines.audioldm2.modeling_audioldm2 import AudioLDM2ProjectionModel
    from transformers import GPT2Model


class LoaWriter(nn.Module):
    """GPT-2 over projected conditions.

    Args:
        projection: widths of the two conditions to the width of GPT-2, with start and end vectors.
        language_model: the GPT-2 trunk; its vocabulary is never used.
        tokens: length N of the written LOA (8 for sound and music, 512 for speech).
    """

    def __init__(self, projection: AudioLDM2ProjectionModel, language_model: GPT2Model, tokens: int) -> None:
        super().__init__()
        self.projection, self.language_model, self.tokens = projection, language_model, tokens

    def prefix(self, first: Condition, second: Condition) -> tuple[Tensor, Tensor]:
        """Projected conditions with their start and end vectors: states [B, L, D] and mask [B, L]."""
        out = self.projection(
            hidden_states=first.states,
            hidden_states_1=second.states,
            attention_mask=first.mask.long(),
            attention_mask_1=second.mask.long(),
        )
        return out.hidden_states, out.attention_mask

    def teacher_forced(self, first: Condition, second: Condition, loa: Tensor) -> Tensor:
        """Outputs [B, N, D] that should equal ``loa`` [B, N, D], each position having read the true earlier ones."""
        states, mask = self.prefix(first, second)
        fed = torch.cat([states, loa[:, :-1]], dim=1)
        mask = torch.cat([mask, mask.new_ones(loa.shape[0], self.tokens - 1)], dim=1)
        hidden = self.language_model(inputs_embeds=fed, attention_mask=mask, use_cache=False).last_hidden_state
        return hidden[:, -self.tokens :]

    def forward(self, first: Condition, second: Condition) -> Condition:
        """Write LOA [B, N, D] after the two conditions; each output state is the next input."""
        states, mask = self.prefix(first, second)
        cache, written = None, []
        for _ in range(self.tokens):
            out = self.language_model(inputs_embeds=states, attention_mask=mask, past_key_values=cache, use_cache=True)
            cache, states = out.past_key_values, out.last_hidden_state[:, -1:]
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
            written.append(states)
        loa = torch.cat(written, dim=1)
        return Condition("loa", loa, torch.ones(loa.shape[:2], dtype=torch.bool))
