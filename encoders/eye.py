"""What a picture shows, and what it sounds like: two networks look at its middle and at the whole of it.

People send photographs, drawings and screenshots of all shapes, with what they mean off the centre. The views and the networks were
chosen on pictures that are named in docs/measurements/eye.json; zooming in, more networks and other means gave nothing more.
Knows pixels and labels; encoders/sights.py knows which labels sound alike.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from encoders.image import LITE1, LITE2, EfficientNetLite, label_names, loaded, middle, named, opened, pixels
from encoders.sights import LABELS, heard_as

VERSION = 1  # raise it when the same picture comes to sound like something else; encoders/sights.txt counts
SIZES = (LITE1, LITE2)
LARGEST = 1024  # pixels of a side from which a picture is scaled down once, before it is looked at several times
NOTHING = 0.15  # of the probability is spread over all labels where nothing is known: a kind of many labels gets no more for it
FLAT, KIN = 1.0, 0.3  # variance of a picture that is one colour, and correlation of neighbours below which all is noise
LEAST = 0.01  # share below which a sound is not named


class Eye:
    """Frames to ImageNet labels with probabilities, and to what is heard. Loads its networks on first use."""

    def __init__(self) -> None:
        self._models: tuple[EfficientNetLite, ...] = ()

    def load(self) -> None:
        self._models = self._models or tuple(folded(loaded(size)) for size in SIZES)

    @torch.no_grad()
    def probabilities(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        """[1000] float32: the mean over the views of all frames (of one picture or one video).

        Of several frames only the whole is looked at: together they show the middle often enough.
        """
        self.load()
        looks = []
        for frame in frames:
            logits = torch.stack([model(seen) for model, seen in self._seen(frame, at_middle=len(frames) == 1)]).mean(0)
            looks.append(logits.softmax(dim=-1).mean(0))
        return torch.stack(looks).mean(0).numpy()

    def labels(self, frames: Sequence[np.ndarray], top: int = 5) -> list[tuple[str, float]]:
        """The likeliest ``top`` labels, best first; the first of a label's synonyms is its name."""
        return named(self.probabilities(frames), top)

    def heard(self, frames: Sequence[np.ndarray], top: int = 5) -> list[tuple[str, float]]:
        """What the frames sound like, in words, best first, with the share of the probability that speaks for it.

        All labels that sound alike are added up before one is chosen: breeds of dogs agree. What makes no sound is left out, so that
        the shares sum to less than one, and there may be none; one colour and noise show nothing.
        """
        if frames and not any(map(shows, frames)):
            return []
        probabilities, shares = self.probabilities(frames), dict[str, float]()
        for said, share in zip(heard_as([name.split(",")[0] for name in label_names()]), probabilities, strict=True):
            if said is not None:
                shares[said] = shares.get(said, 0.0) + float(share) - NOTHING / LABELS
        best = sorted(shares.items(), key=lambda pair: -pair[1])[:top]
        return [(said, share) for said, share in best if share >= LEAST]

    def _seen(self, frame: np.ndarray, *, at_middle: bool = True) -> list[tuple[EfficientNetLite, Tensor]]:
        """Each network with the views [V, 3, S, S] that it is shown."""
        picture = opened(frame)
        picture.thumbnail((LARGEST, LARGEST))
        views = (middle, squeezed, framed) if at_middle else (squeezed, framed)
        return [
            (model, torch.stack([pixels(view(picture, size.side)) for view in views]).to(memory_format=torch.channels_last))
            for model, size in zip(self._models, SIZES, strict=True)
        ]


def shows(frame: np.ndarray) -> bool:
    """Whether pixels know of their neighbours: in pictures of things they do, in noise (a hawk to the networks) they do not."""
    grey = frame.mean(axis=2)[:, :LARGEST]
    here, beside = grey[:, :-1], grey[:, 1:]
    spread = float(here.std() * beside.std())
    return spread > FLAT and float(((here - here.mean()) * (beside - beside.mean())).mean()) > KIN * spread


def folded(model: EfficientNetLite) -> EfficientNetLite:
    """The same function in a third less time: each normalisation inside the convolution before it (equal to 1e-5)."""
    pairs: list[tuple[nn.Module, str, str]] = [(model, "_conv_stem", "_bn0"), (model, "_conv_head", "_bn1")]
    for block in model._blocks:
        own = [("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2"), *([("_expand_conv", "_bn0")] if block.expands else [])]
        pairs += [(block, conv, norm) for conv, norm in own]
    for holder, conv, norm in pairs:
        whole = fuse_conv_bn_eval(getattr(holder, conv), getattr(holder, norm))
        whole.weight.data = whole.weight.data.contiguous(memory_format=torch.channels_last)
        setattr(holder, conv, whole)
        setattr(holder, norm, nn.Identity())
    return model


def squeezed(picture: Image.Image, side: int) -> Image.Image:
    """The whole of it as a square, out of its proportions."""
    return picture.resize((side, side), Image.Resampling.BICUBIC)


def framed(picture: Image.Image, side: int) -> Image.Image:
    """The whole of it in its proportions, on the colour of its border."""
    scale = side / max(picture.size)
    width, height = (max(1, round(length * scale)) for length in picture.size)
    small = picture.resize((width, height), Image.Resampling.BICUBIC)
    seen = np.asarray(small)
    border = np.median(np.concatenate([seen[0], seen[-1], seen[:, 0], seen[:, -1]]), axis=0)
    square = Image.new("RGB", (side, side), tuple(round(float(value)) for value in border))
    square.paste(small, ((side - width) // 2, (side - height) // 2))
    return square
