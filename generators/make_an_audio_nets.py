"""What Make-An-Audio is made of and no library has: the caption tower of both versions, and of version 2 (Huang et al. 2023,
arXiv:2305.18474) the transformer over time and the 1-D mel autoencoder.

Knows tensors and tokens. Does not know schedules or requests. Parameters carry the names of the public checkpoints, so that those load
as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention
from diffusers.models.embeddings import get_timestep_embedding
from torch import Tensor, nn

from encoders.base import Condition
from generators.checkpoint import NO_CODE

TEXT_LENGTH = 77  # positions of a text
KERNEL = 9  # of the feed-forward convolutions


class TextReader:
    """Words to states [1, 77, D]: padded to that length and read without a mask, as both versions do.

    Args:
        folder: of the tokenizer. tower: token ids to states, or to an output that holds them as ``last_hidden_state``.
    """

    def __init__(self, folder: Path, tower: nn.Module) -> None:
        from transformers import AutoTokenizer

        self._tokenizer = AutoTokenizer.from_pretrained(folder, **NO_CODE)
        self._tower = tower

    @torch.no_grad()
    def __call__(self, text: str) -> Condition:
        ids = self._tokenizer(text, truncation=True, max_length=TEXT_LENGTH, padding="max_length", return_tensors="pt").input_ids
        out = self._tower(input_ids=ids)
        states = out if isinstance(out, Tensor) else out.last_hidden_state
        return Condition("text", states, torch.ones(states.shape[:2], dtype=torch.bool))


class _Projection(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(before, after, bias=False)
        self.linear2 = nn.Linear(after, after, bias=False)
        self.layer_norm = nn.LayerNorm(after)

    def forward(self, x: Tensor) -> Tensor:
        first = self.linear1(x)
        return self.layer_norm(first + self.linear2(F.gelu(first)))


class CaptionTower(nn.Module):
    """BERT and the projection of Microsoft's CLAP (Elizalde et al. 2022), kept at every position: ids [B, L] to [B, L, width].

    Args:
        folder: with BERT's ``config.json``; its weights are in the checkpoint.
    """

    def __init__(self, folder: Path, width: int) -> None:
        super().__init__()
        from transformers import AutoConfig, AutoModel

        config = AutoConfig.from_pretrained(folder, **NO_CODE)
        self.base = AutoModel.from_config(config, trust_remote_code=False)
        self.projection = _Projection(config.hidden_size, width)

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.projection(self.base(input_ids=input_ids).last_hidden_state)


class OneText(nn.Module):
    """A 2-D U-Net of version 1 as the engine calls one: its latents are [B, C, F, T], the engine's [B, C, T, F]."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, z: Tensor, t: Tensor, *, encoder_hidden_states: Tensor, **_: Any) -> SimpleNamespace:
        return SimpleNamespace(sample=self.unet(z.mT, t, encoder_hidden_states=encoder_hidden_states).sample.mT)


class TwoTexts(nn.Module):
    """The transformer of version 2 as the engine calls a U-Net: its latents are [B, C, T], the engine's [B, C, T, 1]."""

    def __init__(self, dit: ConcatDit) -> None:
        super().__init__()
        self.dit = dit

    def forward(
        self, z: Tensor, t: Tensor, *, encoder_hidden_states: Tensor, encoder_hidden_states_1: Tensor, **_: Any
    ) -> SimpleNamespace:
        return SimpleNamespace(sample=self.dit(z[..., 0], t, encoder_hidden_states, encoder_hidden_states_1)[..., None])


class _GatedConv(nn.Module):
    def __init__(self, width: int, inside: int) -> None:
        super().__init__()
        self.proj = nn.Conv1d(width, 2 * inside, KERNEL, padding=KERNEL // 2)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, dim=1)
        return value * F.gelu(gate)


class _FeedForward(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        last = nn.Conv1d(4 * width, width, KERNEL, padding=KERNEL // 2)
        self.net = nn.Sequential(_GatedConv(width, 4 * width), nn.Identity(), last)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.mT).mT


class _TransformerBlock(nn.Module):
    """Two self-attentions and a convolutional feed-forward, each on a normalised copy that is added back. [B, L, D] to the same."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attn1 = Attention(width, heads=heads, dim_head=width // heads)
        self.attn2 = Attention(width, heads=heads, dim_head=width // heads)
        self.ff = _FeedForward(width)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn1(self.norm1(x))
        x = x + self.attn2(self.norm2(x))
        return x + self.ff(self.norm3(x))


class _TemporalTransformer(nn.Module):
    """[B, D, L] to the same: normalise, project, transform over time, project back, add."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(32, width, eps=1e-6)
        self.proj_in = nn.Conv1d(width, width, 1)
        self.transformer_blocks = nn.ModuleList([_TransformerBlock(width, heads)])
        self.proj_out = nn.Conv1d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.proj_in(self.norm(x)).mT
        for block in self.transformer_blocks:
            hidden = block(hidden)
        return x + self.proj_out(hidden.mT)


class _Mlp(nn.Module):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.mlp = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(x)


class _Positions(nn.Module):
    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(count, width))
        nn.init.normal_(self.weight, std=0.02)


class _Final(nn.Module):
    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.norm_final = nn.GroupNorm(16, width)
        self.conv1d = nn.Conv1d(width, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv1d(self.norm_final(x))


class ConcatDit(nn.Module):
    """Time step, both texts and the latent as one sequence through self-attention; the latent's part of it is the predicted noise.

    Args:
        channels: of the latent. context: width of the texts. width, depth, heads: of the transformer.
        positions: learned ones; the longest sequence, so that a latent has at most ``positions - 1 - 2 * 77`` frames.
    """

    def __init__(self, channels: int, context: int, width: int, depth: int, heads: int, positions: int) -> None:
        super().__init__()

        def embedder() -> _Mlp:
            return _Mlp(nn.Linear(context, width), nn.GELU(approximate="tanh"), nn.Linear(width, width), nn.LayerNorm(width))

        self.t_embedder = _Mlp(nn.Linear(256, width), nn.SiLU(), nn.Linear(width, width))
        self.c1_embedder, self.c2_embedder = embedder(), embedder()
        self.proj_in = nn.Conv1d(channels, width, 5, padding=2)
        self.pos_emb = _Positions(positions, width)
        self.blocks = nn.ModuleList(_TemporalTransformer(width, heads) for _ in range(depth))
        self.final_layer = _Final(width, channels)

    def forward(self, x: Tensor, t: Tensor, caption: Tensor, structure: Tensor) -> Tensor:
        """Latent [B, C, T], steps [B], texts [B, L, D] each; gives [B, C, T]."""
        step = self.t_embedder(get_timestep_embedding(t, 256, flip_sin_to_cos=True, downscale_freq_shift=0).to(x.dtype))[:, None]
        texts = torch.cat([self.c1_embedder(caption), self.c2_embedder(structure)], dim=1)
        sequence = torch.cat([step, texts, self.proj_in(x).mT], dim=1)
        hidden = (sequence + self.pos_emb.weight[: sequence.shape[1]]).mT
        for block in self.blocks:
            hidden = block(hidden)
        return self.final_layer(hidden[..., 1 + texts.shape[1] :])


class _Resnet(nn.Module):
    def __init__(self, before: int, after: int, kernel: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(32, before, eps=1e-6)
        self.conv1 = nn.Conv1d(before, after, kernel, padding=kernel // 2)
        self.norm2 = nn.GroupNorm(32, after, eps=1e-6)
        self.conv2 = nn.Conv1d(after, after, kernel, padding=kernel // 2)
        self.nin_shortcut = nn.Conv1d(before, after, 1) if before != after else None

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))
        return hidden + (x if self.nin_shortcut is None else self.nin_shortcut(x))


class _SelfAttention(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(32, channels, eps=1e-6)
        self.q, self.k, self.v, self.proj_out = (nn.Conv1d(channels, channels, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm(x)
        q, k, v = (layer(normed).mT[:, None] for layer in (self.q, self.k, self.v))
        return x + self.proj_out(F.scaled_dot_product_attention(q, k, v)[:, 0].mT)


class _Middle(nn.Module):
    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.block_1 = _Resnet(channels, channels, kernel)
        self.attn_1 = _SelfAttention(channels)
        self.block_2 = _Resnet(channels, channels, kernel)

    def forward(self, x: Tensor) -> Tensor:
        return self.block_2(self.attn_1(self.block_1(x)))


class _Resample(nn.Module):
    """Half as many frames by a strided convolution, or twice as many by repetition and a convolution."""

    def __init__(self, channels: int, up: bool) -> None:
        super().__init__()
        self.up = up
        self.conv = nn.Conv1d(channels, channels, 3, padding=1) if up else nn.Conv1d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest") if self.up else F.pad(x, (0, 1)))


class _Level(nn.Module):
    def __init__(self, before: int, after: int, count: int, kernel: int) -> None:
        super().__init__()
        self.block = nn.ModuleList(_Resnet(before if i == 0 else after, after, kernel) for i in range(count))
        self.downsample: _Resample | None = None
        self.upsample: _Resample | None = None

    def forward(self, x: Tensor) -> Tensor:
        for block in self.block:
            x = block(x)
        resample = self.downsample or self.upsample
        return x if resample is None else resample(x)


class _Coder(nn.Module):
    """What both halves share: a first convolution ``before`` -> ``first`` and a normalised last one ``last`` -> ``after``."""

    def __init__(self, before: int, first: int, last: int, after: int, kernel: int) -> None:
        super().__init__()
        self.conv_in = nn.Conv1d(before, first, kernel, padding=kernel // 2)
        self.norm_out = nn.GroupNorm(32, last, eps=1e-6)
        self.conv_out = nn.Conv1d(last, after, kernel, padding=kernel // 2)

    def finish(self, x: Tensor) -> Tensor:
        return self.conv_out(F.silu(self.norm_out(x)))


class _Encoder(_Coder):
    def __init__(self, mels: int, latent: int, widths: Sequence[int], resnets: int, kernel: int, halved: Sequence[int]) -> None:
        super().__init__(mels, widths[0], widths[-1], 2 * latent, kernel)
        self.down = nn.ModuleList()
        for level, width in enumerate(widths):
            self.down.append(_Level(widths[max(level - 1, 0)], width, resnets, kernel))
            if level in halved:
                self.down[level].downsample = _Resample(width, up=False)
        self.mid = _Middle(widths[-1], kernel)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for level in self.down:
            x = level(x)
        return self.finish(self.mid(x))


class _Decoder(_Coder):
    def __init__(self, mels: int, latent: int, widths: Sequence[int], resnets: int, kernel: int, doubled: Sequence[int]) -> None:
        super().__init__(latent, widths[-1], widths[0], mels, kernel)
        inside = 3  # the public decoder's inner blocks have this kernel, whatever the setting says
        self.up = nn.ModuleList()
        for level, width in enumerate(widths):
            self.up.append(_Level(widths[min(level + 1, len(widths) - 1)], width, resnets + 1, inside))
            if level in doubled:
                self.up[level].upsample = _Resample(width, up=True)
        self.mid = _Middle(widths[-1], inside)

    def forward(self, z: Tensor) -> Tensor:
        x = self.mid(self.conv_in(z))
        for level in reversed(self.up):
            x = level(x)
        return self.finish(x)


class MelAutoencoder(nn.Module):
    """log-mel [B, mels, T] to a latent [B, C, T / 2 ** len(halved)] and back; frequency bins are the channels of a 1-D signal.

    Args:
        widths: channels of the levels. resnets: blocks a level. kernel: of the encoder and the decoder's ends.
        halved: levels after which the encoder halves the frame rate.
    """

    def __init__(self, mels: int, latent: int, widths: Sequence[int], resnets: int, kernel: int, halved: Sequence[int]) -> None:
        super().__init__()
        self.encoder = _Encoder(mels, latent, widths, resnets, kernel, halved)
        # A level of the decoder undoes the encoder's way *into* it, so that it doubles one level above where the encoder halved.
        self.decoder = _Decoder(mels, latent, widths, resnets, kernel, [level + 1 for level in halved])
        self.quant_conv = nn.Conv1d(2 * latent, 2 * latent, 1)
        self.post_quant_conv = nn.Conv1d(latent, latent, 1)

    def encode(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the latent."""
        mean, log_variance = self.quant_conv(self.encoder(mel)).chunk(2, dim=1)
        return mean, torch.exp(0.5 * log_variance.clamp(-30, 20))

    def decode(self, z: Tensor) -> Tensor:
        return self.decoder(self.post_quant_conv(z))
