"""Sound to the Language of Audio: A(x) of the paper. A masked autoencoder's features, pooled to a few tokens.

Huang et al. 2022 (AudioMAE); AudioLDM 2 (Liu et al. 2024), section III-A: LOA is the average of the layer-normalised outputs of
the last encoder blocks, pooled by (average + maximum) / 2. Parameter names are those of the public AudioMAE, so that a ViT-B can be
read from inside an AudioLDM 2 checkpoint (``PublicAudioMae``); ``nano`` is the same module, smaller.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from encoders.base import Condition, EncoderMissing
from encoders.fbank import RATE, fbank, fitted, wave_at
from encoders.weights import load_into, read_state_dict
from media.audio import Audio


@dataclass(frozen=True)
class AudioMaeConfig:
    """Sizes of the transformer and of its input."""

    frames: int = 512
    bins: int = 64
    patch: int = 16
    width: int = 128
    depth: int = 6
    heads: int = 4
    averaged_blocks: int = 3  # LOA averages the outputs of this many last blocks
    pool: tuple[int, int] = (4, 4)  # patches per LOA token along (time, frequency)
    mel_mean: float = -5.8  # of log-mels, natural logarithm
    mel_std: float = 3.3

    @property
    def grid(self) -> tuple[int, int]:
        return self.frames // self.patch, self.bins // self.patch

    @property
    def tokens(self) -> int:
        """How many LOA tokens one clip gives."""
        return (self.grid[0] // self.pool[0]) * (self.grid[1] // self.pool[1])


# The ViT-B inside every AudioLDM 2 checkpoint; its input is Kaldi's filterbank (encoders/fbank.py), not media/mel.py.
PUBLIC = AudioMaeConfig(1024, 128, width=768, depth=12, heads=12, pool=(8, 8), mel_mean=-4.2677393, mel_std=2 * 4.5689974)
PUBLIC_PREFIX = "cond_stage_models.0.cond_stage_models.2.audiomae.model."  # inside ``audioldm2-*.pth``
_PUBLIC_SECONDS = 10.24


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        b, n, d = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, d))


class _Mlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = _Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = _Mlp(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class _PatchEmbed(nn.Module):
    def __init__(self, patch: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(1, width, patch, patch)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).flatten(2).transpose(1, 2)


class AudioMae(nn.Module):
    """The encoder half. log-mel [B, frames, bins] (natural log) to LOA [B, tokens, width]."""

    def __init__(self, config: AudioMaeConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = _PatchEmbed(config.patch, config.width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.pos_embed = nn.Parameter(sincos_positions(config.grid, config.width)[None], requires_grad=False)
        self.blocks = nn.ModuleList(Block(config.width, config.heads) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width, eps=1e-6)

    def patches(self, mel: Tensor) -> Tensor:
        """log-mel [B, frames, bins] to embedded patches with positions, [B, grid, width], time-major."""
        x = (mel - self.config.mel_mean) / self.config.mel_std
        return self.patch_embed(x[:, None]) + self.pos_embed[:, 1:]

    def blocks_out(self, patches: Tensor) -> list[Tensor]:
        """Outputs of every block for [B, n, width] patches (all, or the visible ones in training), class token first."""
        x = torch.cat([(self.cls_token + self.pos_embed[:, :1]).expand(len(patches), -1, -1), patches], dim=1)
        out = []
        for block in self.blocks:
            x = block(x)
            out.append(x)
        return out

    def features(self, mel: Tensor) -> Tensor:
        """Patch features [B, grid, width]: mean of the layer-normalised outputs of the last blocks."""
        last = self.blocks_out(self.patches(mel))[-self.config.averaged_blocks :]
        return torch.stack([self.norm(x) for x in last]).mean(0)[:, 1:]

    def forward(self, mel: Tensor) -> Tensor:
        """LOA [B, tokens, width] of log-mels [B, frames, bins]."""
        x = self.features(mel)
        x = x.transpose(1, 2).unflatten(2, self.config.grid)
        x = (F.avg_pool2d(x, self.config.pool) + F.max_pool2d(x, self.config.pool)) / 2
        return x.flatten(2).transpose(1, 2)


def sincos_positions(grid: tuple[int, int], width: int) -> Tensor:
    """Fixed two-dimensional sine-cosine positions [1 + T*F, width]; the class token has zeros. MAE (He et al. 2022)."""
    half = width // 2
    omega = 1.0 / 10000 ** (torch.arange(half // 2) / (half / 2))

    def along(positions: Tensor) -> Tensor:
        angle = positions.flatten().float()[:, None] * omega[None]
        return torch.cat([angle.sin(), angle.cos()], dim=1)

    time, frequency = torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij")
    return torch.cat([torch.zeros(1, width), torch.cat([along(frequency), along(time)], dim=1)])


class LoaExtractor:
    """A frozen AudioMae from ``folder`` (config.json, model.safetensors): clips to the condition "loa"."""

    name = "audiomae"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.model: AudioMae | None = None

    def load(self) -> None:
        if self.model is None:
            fields = json.loads((self.folder / "config.json").read_text())
            model = AudioMae(AudioMaeConfig(**{**fields, "pool": tuple(fields["pool"])})).eval()
            model.load_state_dict(load_file(self.folder / "model.safetensors"))
            self.model = model.float()

    @torch.no_grad()
    def encode(self, mels: list[Tensor]) -> Condition:
        """log-mels [frames, bins] of exactly the model's length; one row each, independent of the others."""
        self.load()
        assert self.model is not None
        rows = torch.cat([self.model(mel[None]) for mel in mels])
        return Condition("loa", rows, torch.ones(rows.shape[:2], dtype=torch.bool))


def public_features(audio: Audio, frames: int = PUBLIC.frames) -> Tensor:
    """The first 10.24 s of a sound as AudioLDM 2's AudioMAE hears it: [1024, 128], before the mean and deviation of training.

    First channel, 16 kHz, mean removed, peak 0.5, zeros behind it to the full length; then Kaldi's filterbank, and rows of zeros up to
    ``frames``. Where the official training data puts a short sound at a random place, here it stands at the start.
    """
    wave = wave_at(Audio(audio.samples[:1, : int(audio.sample_rate * _PUBLIC_SECONDS)], audio.sample_rate))[0]
    wave = wave - wave.mean()
    wave = 0.5 * wave / (wave.abs().max() + 1e-8)
    wave = F.pad(wave, (0, max(0, int(RATE * _PUBLIC_SECONDS) - len(wave))))
    return fitted(fbank(wave - wave.mean()), frames)


def read_public(path: Path, config: AudioMaeConfig = PUBLIC) -> AudioMae:
    """The encoder out of an AudioLDM 2 checkpoint (``audioldm2-*.pth``), or out of AudioMAE's own file.

    Raises:
        WeightsError: the file cannot be read, or holds no such encoder.
    """
    state = read_state_dict(path)
    inside = any(key.startswith(PUBLIC_PREFIX) for key in state)
    encoder = {key.removeprefix(PUBLIC_PREFIX): value for key, value in state.items() if key.startswith(PUBLIC_PREFIX) or not inside}
    wanted = {key: value for key, value in encoder.items() if not key.startswith(("decoder", "mask_token"))}
    with torch.device("meta"):
        model = AudioMae(config)
    load_into(model, wanted, where=f"AudioMAE in {path.name}")
    return model.eval().requires_grad_(False)


class PublicAudioMae:
    """Sounds to the LOA that public AudioLDM 2 weights read.

    Args:
        path: an ``audioldm2-*.pth``, or the folder that ``save_audiomae`` wrote from one (0.2 GB instead of several). None:
            ``checkpoints/audiomae`` in loa's home.
        tokens: 8, for sound and music, or 512, for speech.
    """

    name = "audiomae"
    width = PUBLIC.width

    def __init__(self, path: Path | None = None, tokens: Literal[8, 512] = 8) -> None:
        from configs.schema import default_home

        self.path = path or default_home() / "checkpoints" / "audiomae"
        self.pool = (8, 8) if tokens == 8 else (1, 1)
        self._model: AudioMae | None = None

    def load(self) -> None:
        if self._model is not None:
            return
        if (self.path / "config.json").is_file():
            extractor = LoaExtractor(self.path)
            extractor.load()
            model = extractor.model
            assert model is not None
        elif self.path.is_file():
            model = read_public(self.path)
        else:
            raise EncoderMissing(
                f"{self.path} holds no AudioMAE; it lies inside audioldm2-full.pth (CC BY-NC-SA 4.0, several GB, "
                "https://huggingface.co/haoheliu/audioldm2-full): name that file, or a folder that save_audiomae wrote from it"
            )
        model.config = replace(model.config, pool=self.pool)
        self._model = model.eval().requires_grad_(False)

    def sample_input(self) -> list[Any]:
        time = np.arange(40_000) / 16_000
        noise = 0.1 * np.random.default_rng(0).standard_normal((1, 30_000)).astype(np.float32)
        tone = 0.5 * np.sin(2 * np.pi * 440 * time).astype(np.float32)[None]
        return [Audio(tone, 16_000), Audio(noise, 16_000), Audio(np.repeat(tone, 2, 0), 44_100)]

    @torch.no_grad()
    def encode(self, inputs: list[Any]) -> Condition:
        """``Audio`` values to LOA [B, tokens, 768], one by one."""
        self.load()
        assert self._model is not None
        rows = torch.cat([self._model(public_features(audio, self._model.config.frames)[None]) for audio in inputs])
        return Condition("loa", rows, torch.ones(rows.shape[:2], dtype=torch.bool))


def save_audiomae(model: AudioMae, folder: Path) -> None:
    """Write the folder that LoaExtractor reads; weights as float16."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(asdict(model.config), indent=1) + "\n")
    save_file({k: v.half().contiguous() for k, v in model.state_dict().items()}, folder / "model.safetensors")
