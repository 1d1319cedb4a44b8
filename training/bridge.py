"""Stage ``bridge``: ImageBind's space to CLAP's, fitted in closed form on captions, without a sound.

Ridge regression from the ImageBind vectors of captions to their CLAP vectors. How much to shrink is chosen by the error on captions
left out one at a time, which has a closed form, too (Allen 1974). Knows the two encoders by what they give.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from configs.registry import ConfigError
from configs.schema import BridgeConfig
from encoders.base import Encoder
from encoders.bridge import Bridge
from media.refs import MediaError, write_whole
from training.captions import phrases

LEAST_EXAMPLES = 5  # of a kind: the mean of fewer says more about them than about the kind
LEAST_CAPTIONS = 100
OnProgress = Callable[[str, float], None]

STRENGTHS = tuple(10.0**power for power in range(-5, 3))  # of the ridge, in units of the mean variance


@dataclass(frozen=True)
class Ridge:
    """y - mean(y) = (x - mean(x)) @ weight; ``error`` is the mean squared error on rows left out, over the variance of y."""

    weight: Tensor
    strength: float
    error: float


def ridge(x: Tensor, y: Tensor, strengths: Sequence[float] = STRENGTHS) -> Ridge:
    """The best of some ridge regressions of y [N, b] on x [N, a], both centred here, by leave-one-out."""
    x, y = (value.double() - value.double().mean(0) for value in (x, y))
    variances, axes = torch.linalg.eigh(x.T @ x)
    variances = variances.clamp(min=0)
    along, seen = x @ axes, axes.T @ (x.T @ y)
    tried = []
    for strength in strengths:
        shrunk = 1 / (variances + strength * variances.mean() + 1e-12)
        left = 1 - 1 / len(x) - (along.square() * shrunk).sum(1)  # how much of a row's error it does not take away itself
        residual = (y - along @ (shrunk[:, None] * seen)) / left.clamp(min=1e-6)[:, None]
        error = float(residual.square().sum() / y.square().sum())
        tried.append(Ridge((axes @ (shrunk[:, None] * seen)).float(), strength, error))
    return min(tried, key=lambda fit: fit.error)


def fit_bridge(captions: Sequence[str], source: Tensor, target: Tensor, examples: Mapping[str, Tensor]) -> Bridge:
    """The bridge over captions.

    Args:
        source: their vectors in the first space [N, a], of any length; ``target``: in the second [N, b].
        examples: kind of input -> vectors [n, a] of the first space, whose mean stands for the kind. What they show does not matter,
            as long as it is mixed.
    """
    x, y = F.normalize(source.float(), dim=-1), F.normalize(target.float(), dim=-1)
    fit = ridge(x, y)
    means = {kind: F.normalize(vectors.float(), dim=-1).mean(0) for kind, vectors in examples.items()} | {"text": x.mean(0)}
    about = {
        "fitted": f"{len(captions)} captions, ridge {fit.strength:g}",
        "unexplained": f"{fit.error:.3f} of the variance of captions left out",
        "examples": ", ".join(f"{len(vectors)} {kind}" for kind, vectors in examples.items()) or "none",
    }
    spread = float((y - y.mean(0)).norm(dim=-1).mean())
    return Bridge(fit.weight, means, y.mean(0), spread, tuple(captions), y, about)


def train_bridge(config: BridgeConfig, out: Path, on_progress: OnProgress = lambda what, share: None) -> Bridge:
    """Fit the bridge and write it.

    Args:
        config: captions, examples, and where the two encoders lie (None: loa's home).
        out: the file, ``.safetensors``; written whole or not at all.

    Raises:
        ConfigError: too few captions, a wrong name. EncoderMissing: no weights; says which and where from.
    """
    from encoders.imagebind import ImageBind
    from encoders.laion_clap import LaionClap

    if out.suffix != ".safetensors":
        raise ConfigError(f"the bridge is a .safetensors file, got '{out.name}'; give -o bridge.safetensors")
    captions = read_captions(config.captions)
    source, target = ImageBind(config.imagebind), LaionClap(config.clap)
    source.load()
    target.load()  # before the long work: what is missing is said at once
    examples = read_examples(config.examples, source, on_progress) if config.examples else {}
    words = [_vectors(encoder, captions, on_progress) for encoder in (source, target)]
    bridge = fit_bridge(captions, words[0], words[1], examples)
    write_whole(out, bridge.to_bytes())
    return bridge


def read_captions(path: Path | None) -> list[str]:
    """One caption a line, each once; None: the phrases that nano's classes of sound are called by.

    Raises:
        ConfigError: not readable, or fewer than 100.
    """
    if path is None:
        return list(dict.fromkeys(phrase for said in phrases().values() for phrase in said))
    try:
        lines = [" ".join(line.split()) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"captions: {path} cannot be read ({type(error).__name__}); give a text file, one caption a line") from None
    captions = list(dict.fromkeys(line for line in lines if line))
    if len(captions) < LEAST_CAPTIONS:
        raise ConfigError(f"captions: {path} holds {len(captions)}, a bridge wants {LEAST_CAPTIONS} or more, better thousands")
    return captions


def read_examples(folder: Path, source: Encoder, on_progress: OnProgress = lambda what, share: None) -> dict[str, Tensor]:
    """Vectors [n, a] of the pictures, videos, sounds and motions in a folder, by kind; kinds with fewer than five are left out.

    Files that cannot be read are passed over: they are examples of a kind, nothing depends on any one.

    Raises:
        ConfigError: no such folder, or nothing in it can be read.
    """
    if not folder.is_dir():
        raise ConfigError(f"examples: there is no folder {folder}; give one with pictures and sounds of all sorts")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    found: dict[str, list[Tensor]] = {}
    for number, path in enumerate(files, 1):
        for kind, given in _read(path):
            found.setdefault(kind, []).append(source.encode([given]).states[0, 0])
        on_progress("examples", number / len(files))
    if not found:
        raise ConfigError(f"examples: {folder} holds no picture, sound, video or motion that can be read")
    return {kind: torch.stack(vectors) for kind, vectors in found.items() if len(vectors) >= LEAST_EXAMPLES}


def _read(path: Path) -> Iterator[tuple[str, Any]]:
    """What ImageBind reads of a file, with its kind; nothing where it cannot be read."""
    from encoders.imagebind import clip_frames
    from media.audio import read_audio
    from media.guard import sniff_file
    from media.image import load_image
    from media.imu import load_motion

    try:
        if path.suffix.lower() in (".npy", ".csv"):
            yield "imu", load_motion(path)
            return
        kind = sniff_file(path)[1]
        if kind == "image":
            yield "vision", load_image(path)
        elif kind == "video":
            yield "vision", clip_frames(path)
        elif kind == "audio":
            yield "audio", read_audio(path)
    except MediaError:
        return


def _vectors(encoder: Encoder, texts: Sequence[str], on_progress: OnProgress, at_once: int = 64) -> Tensor:
    """[N, D] of texts, some at a time."""
    rows = []
    for start in range(0, len(texts), at_once):
        rows.append(encoder.encode(list(texts[start : start + at_once])).states[:, 0])
        on_progress(f"captions through {encoder.name}", min(start + at_once, len(texts)) / len(texts))
    return torch.cat(rows)
