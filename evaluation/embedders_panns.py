"""PANNs' CNN14 (Kong et al. 2020), the tagger behind FD, KL and IS of most tables: 2,048 numbers and 527 AudioSet classes a clip.

Parameter names are those of qiuqiangkong/audioset_tagging_cnn. The spectrogram's own tensors in the file are computed here instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evaluation.embedders import Heard
from evaluation.embedders_public import PublicEmbedder, PublicFile, one_vector
from media.mel import MelSpec, mel_filterbank

FILE_16K = PublicFile("Cnn14_16k_mAP=0.438.pth", "https://zenodo.org/record/3987831/files/Cnn14_16k_mAP%3D0.438.pth", 327, "CC BY 4.0")
FILE_32K = PublicFile("Cnn14_mAP=0.431.pth", "https://zenodo.org/record/3576403/files/Cnn14_mAP%3D0.431.pth", 327, "CC BY 4.0")
ANALYSIS_16K = MelSpec(16_000, 512, 160, 64, 50.0, 8_000.0)
ANALYSIS_32K = MelSpec(32_000, 1024, 320, 64, 50.0, 14_000.0)
LEAST_SECONDS = 2.0  # audioldm_eval fills shorter sounds up with zeros to 32,000 samples at 16 kHz


class _ConvBlock(nn.Module):
    def __init__(self, inside: int, out: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, out, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(out), nn.BatchNorm2d(out)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu_(self.bn2(self.conv2(F.relu_(self.bn1(self.conv1(x))))))


class Cnn14(nn.Module):
    """log-mels in decibels [B, 1, T, 64] to (embedding [B, D], logits [B, K]).

    Args:
        widths: channels of the six blocks; the defaults are those of the public files.
    """

    def __init__(self, widths: Sequence[int] = (64, 128, 256, 512, 1024, 2048), classes: int = 527, bands: int = 64) -> None:
        super().__init__()
        self.bn0 = nn.BatchNorm2d(bands)
        for number, (inside, out) in enumerate(zip((1, *widths), widths, strict=False), start=1):
            setattr(self, f"conv_block{number}", _ConvBlock(inside, out))
        self.depth = len(widths)
        self.fc1 = nn.Linear(widths[-1], widths[-1])
        self.fc_audioset = nn.Linear(widths[-1], classes)

    def forward(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        x = self.bn0(mel.transpose(1, 3)).transpose(1, 3)
        for number in range(1, self.depth + 1):
            x = getattr(self, f"conv_block{number}")(x)
            if number < self.depth:
                x = F.avg_pool2d(x, 2)
        x = x.mean(3)
        embedding = F.relu(self.fc1(x.amax(2) + x.mean(2)))
        return embedding, self.fc_audioset(embedding)


@lru_cache(maxsize=2)
def _filters(spec: MelSpec) -> Tensor:
    return torch.from_numpy(mel_filterbank(spec).copy()).T


def log_mels(samples: Tensor, spec: MelSpec) -> Tensor:
    """Samples [B, T] to [B, 1, 1 + T // hop, 64] in decibels: power, mirrored at both ends, at least -100."""
    window = torch.hann_window(spec.n_fft)
    power = torch.stft(samples, spec.n_fft, spec.hop, window=window, pad_mode="reflect", return_complex=True).abs().square()
    return 10 * (power.transpose(1, 2) @ _filters(spec)).clamp(min=1e-10).log10()[:, None]


class Panns(PublicEmbedder[Cnn14]):
    """``panns-cnn14``: the 16 kHz network that AudioLDM's evaluation hears with."""

    name, folder, file = "panns-cnn14", "panns", FILE_16K
    spec = ANALYSIS_16K
    computed = ("spectrogram_extractor.", "logmel_extractor.")
    window = "the whole clip, at least 2 s"
    classes = "sigmoid"

    @property
    def sample_rate(self) -> int:
        return self.spec.sample_rate

    def build(self) -> Cnn14:
        return Cnn14()

    def hear(self, net: Cnn14, samples: Tensor) -> list[Heard]:
        wave = F.pad(samples, (0, max(0, round(LEAST_SECONDS * self.sample_rate) - samples.shape[1])))
        return one_vector(*net(log_mels(wave, self.spec)))


class Panns32k(Panns):
    """``panns-cnn14-32k``: the 32 kHz network, which av-benchmark and fadtk hear with."""

    name = "panns-cnn14-32k"
    file, spec = FILE_32K, ANALYSIS_32K
