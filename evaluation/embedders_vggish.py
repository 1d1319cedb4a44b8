"""VGGish (Hershey et al. 2017), the embedder of the original FAD: 128 numbers for each 0.96 s.

Parameter names are those of harritaylor/torchvggish, whose file audioldm_eval and fadtk read. As there, no PCA, no quantising, and the
values before the last ReLU.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from evaluation.embedders import Heard
from evaluation.embedders_public import PublicEmbedder, PublicFile

FILE = PublicFile(
    "vggish-10086976.pth",
    "https://github.com/harritaylor/torchvggish/releases/download/v0.1/vggish-10086976.pth",
    288,
    "Apache-2.0",
)
RATE = 16_000
BANDS, FRAMES = 64, 96  # of one example: 0.96 s
_WINDOW, _HOP, _FFT = 400, 160, 512  # samples
_LOW, _HIGH, _OFFSET = 125.0, 7500.0, 0.01  # Hz, Hz, added before the logarithm
LEAST = _WINDOW + (FRAMES - 1) * _HOP  # samples of one whole example


class VggishNet(nn.Module):
    """log-mels [N, 1, 96, 64] to [N, 128].

    Args:
        widths: channels of the six convolutions, and of the hidden layers; the defaults are those of the public file.
    """

    def __init__(self, widths: Sequence[int] = (64, 128, 256, 256, 512, 512), hidden: int = 4096, out: int = 128) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        previous = 1
        for index, width in enumerate(widths):
            layers += [nn.Conv2d(previous, width, 3, padding=1), nn.ReLU(inplace=True)]
            if index in (0, 1, 3, 5):
                layers.append(nn.MaxPool2d(2))
            previous = width
        self.features = nn.Sequential(*layers)
        flat = previous * (FRAMES // 16) * (BANDS // 16)
        self.embeddings = nn.Sequential(
            nn.Linear(flat, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, out)
        )

    def forward(self, examples: Tensor) -> Tensor:
        # Channels last, as in the TensorFlow network that the weights come from.
        return self.embeddings(self.features(examples).permute(0, 2, 3, 1).flatten(1))


def mel_matrix() -> np.ndarray:
    """HTK's triangles, linear in mels, [257, 64] float64; the bin of 0 Hz counts for nothing."""
    mel = lambda hz: 1127 * np.log(1 + np.asarray(hz) / 700)  # noqa: E731
    at = mel(np.linspace(0, RATE / 2, _FFT // 2 + 1))[:, None]
    edges = np.linspace(mel(_LOW), mel(_HIGH), BANDS + 2)
    rise, fall = (at - edges[:-2]) / np.diff(edges)[:-1], (edges[2:] - at) / np.diff(edges)[1:]
    triangles = np.maximum(0, np.minimum(rise, fall))
    triangles[0] = 0
    return triangles


def examples(samples: np.ndarray) -> Tensor:
    """Samples [B, T] at 16 kHz to log-mels [B, E, 96, 64] of E whole, adjoining examples of 0.96 s; a shorter sound is filled up."""
    wave = torch.from_numpy(samples)
    if wave.shape[1] < LEAST:
        wave = nn.functional.pad(wave, (0, LEAST - wave.shape[1]))
    window = torch.from_numpy(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_WINDOW) / _WINDOW)).float()
    magnitude = torch.fft.rfft(wave.unfold(1, _WINDOW, _HOP) * window, _FFT).abs()
    mel = (magnitude @ torch.from_numpy(mel_matrix()).float() + _OFFSET).log()
    count = mel.shape[1] // FRAMES
    return mel[:, : count * FRAMES].unflatten(1, (count, FRAMES))


class Vggish(PublicEmbedder[VggishNet]):
    """``vggish``: FAD's embedder. ``vector`` is the mean of the frames."""

    name, folder, file = "vggish", "vggish", FILE
    sample_rate = RATE
    window = "adjoining windows of 0.96 s; what is left over is not heard"
    classes = ""

    def build(self) -> VggishNet:
        return VggishNet()

    def hear(self, net: VggishNet, samples: Tensor) -> list[Heard]:
        mels = examples(samples.numpy())
        vectors = net(mels.flatten(0, 1)[:, None]).unflatten(0, mels.shape[:2]).numpy()
        return [Heard(frames.mean(0), frames.copy()) for frames in vectors]
