"""PaSST (Koutini et al. 2022), the transformer behind KL and FD of recent tables: 768 numbers and 527 AudioSet classes of ten seconds.

Parameter names are those of kkoutini/PaSST. Nothing is patched out here: that is for training.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from encoders.audiomae import Block
from encoders.fbank import filterbank
from evaluation.embedders import Heard
from evaluation.embedders_public import PublicEmbedder, PublicFile, one_vector

FILE = PublicFile(
    "passt-s-f128-p16-s10-ap.476-swa.pt",
    "https://github.com/kkoutini/PaSST/releases/download/v0.0.1-audioset/passt-s-f128-p16-s10-ap.476-swa.pt",
    345,
    "Apache-2.0",
)
RATE = 32_000
SECONDS = 10.0
BINS, _FFT, _WINDOW, _HOP = 128, 1024, 800, 320
_HIGHEST = 15_000.0  # Hz: half the rate less the room that training shifts it by
_PATCH, _STRIDE = 16, 10


class _Patches(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(1, width, _PATCH, _STRIDE)


class PasstNet(nn.Module):
    """Normalised log-mels [B, 1, 128, T] to (features [B, width], logits [B, classes]).

    Args:
        frames: the longest T that there are time positions for; what is longer is cut.
    """

    def __init__(self, width: int = 768, depth: int = 12, heads: int = 12, classes: int = 527, frames: int = 998) -> None:
        super().__init__()
        self.patch_embed = _Patches(width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.dist_token = nn.Parameter(torch.zeros(1, 1, width))
        self.new_pos_embed = nn.Parameter(torch.zeros(1, 2, width))
        self.freq_new_pos_embed = nn.Parameter(torch.zeros(1, width, BINS // _STRIDE, 1))
        self.time_new_pos_embed = nn.Parameter(torch.zeros(1, width, 1, frames // _STRIDE))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, classes))
        self.head_dist = nn.Linear(width, classes)  # in the file, and used in training only

    def forward(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        x = self.patch_embed.proj(mel)
        x = x[..., : self.time_new_pos_embed.shape[-1]]
        x = x + self.time_new_pos_embed[..., : x.shape[-1]] + self.freq_new_pos_embed
        tokens = torch.cat([self.cls_token, self.dist_token], dim=1) + self.new_pos_embed
        x = torch.cat([tokens.expand(len(x), -1, -1), x.flatten(2).transpose(1, 2)], dim=1)
        for block in self.blocks:
            x = block(x)
        features = self.norm(x)[:, :2].mean(1)
        return features, self.head(features)


def log_mels(samples: Tensor) -> Tensor:
    """Samples [B, T] at 32 kHz to [B, 1, 128, 1 + (T - 1) // 320]: pre-emphasis, power, Kaldi's mels, (log + 4.5) / 5."""
    wave = samples[:, 1:] - 0.97 * samples[:, :-1]
    window = torch.hann_window(_WINDOW, periodic=False)
    power = torch.stft(wave, _FFT, _HOP, _WINDOW, window, pad_mode="reflect", return_complex=True).abs().square()
    mel = filterbank(BINS, _FFT, RATE, 0.0, _HIGHEST) @ power
    return (((mel + 1e-5).log() + 4.5) / 5)[:, None]


class Passt(PublicEmbedder[PasstNet]):
    """``passt``: KL and FD as audiocraft, TangoFlux and av-benchmark print them."""

    name, folder, file = "passt", "passt", FILE
    sample_rate = RATE
    window = "the first 10 s; a shorter clip is followed by silence"
    classes = "softmax"

    def build(self) -> PasstNet:
        return PasstNet()

    def hear(self, net: PasstNet, samples: Tensor) -> list[Heard]:
        wanted = round(SECONDS * RATE)
        wave = samples[:, :wanted]
        return one_vector(*net(log_mels(F.pad(wave, (0, wanted - wave.shape[1])))))
