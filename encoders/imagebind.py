"""One space for pictures, videos, sounds, motion and words: ImageBind (Girdhar et al. 2023), own module, public weights.

Parameter names and shapes are those of ``imagebind_huge.pth``, so that the file loads as it is; preprocessing is part of the model.
Depth and thermal trunks are loaded, since the file holds them, and nothing here makes inputs for them.

The weights are CC BY-NC-SA 4.0 and lie at https://dl.fbaipublicfiles.com/imagebind/imagebind_huge.pth. Of the packages of that name,
``imagebind`` on PyPI holds no code and ``imagebind-packaged`` pins torch 1.13: neither is needed.
"""

from __future__ import annotations

import gzip
import html
import json
import math
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from encoders.base import Condition, EncoderMissing
from encoders.fbank import RATE, fbank, fitted, wave_at
from encoders.weights import load_into, read_state_dict
from media.audio import Audio
from media.imu import Motion

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SIDE = 224  # pixels
FRAMES = 204  # of a sound's features, 2 s
STEPS = 2000  # of a motion
CONTEXT = 77  # tokens
VIDEO_CLIPS, SOUND_CLIPS, CLIP_SECONDS = 5, 3, 2
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # of red, green, blue in 0..1
SOUND_MEAN, SOUND_STD = -4.268, 9.138
LONGEST_SCALE = 100.0

WEIGHTS, VOCABULARY = "imagebind_huge", "bpe_simple_vocab_16e6.txt.gz"
WHERE = (
    "imagebind_huge.pth (4.8 GB, CC BY-NC-SA 4.0: not for commercial use) comes from "
    "https://dl.fbaipublicfiles.com/imagebind/imagebind_huge.pth and bpe_simple_vocab_16e6.txt.gz (1.3 MB, MIT) from "
    "https://github.com/openai/CLIP/tree/main/clip; the PyPI package 'imagebind' holds no code and 'imagebind-packaged' pins "
    "torch 1.13: neither is needed"
)


@dataclass(frozen=True)
class Trunk:
    """A transformer's sizes."""

    width: int
    depth: int
    heads: int


@dataclass(frozen=True)
class ImageBindConfig:
    """Sizes of all trunks; the defaults are those of imagebind_huge."""

    out: int = 1024
    vocabulary: int = 49_408
    vision: Trunk = Trunk(1280, 32, 16)
    text: Trunk = Trunk(1024, 24, 16)
    audio: Trunk = Trunk(768, 12, 12)
    depth: Trunk = Trunk(384, 12, 8)
    thermal: Trunk = Trunk(768, 12, 12)
    imu: Trunk = Trunk(512, 6, 8)

    @classmethod
    def read(cls, path: Path) -> ImageBindConfig:
        """From a JSON file of these fields, a trunk as [width, depth, heads]."""
        fields = json.loads(path.read_text())
        sizes: dict[str, Any] = {key: Trunk(*value) if isinstance(value, list) else value for key, value in fields.items()}
        return cls(**sizes)


# -- the network ----------------------------------------------------------------------------------------------------------------------
class _Block(nn.Module):
    """Pre-norm transformer block; all but vision and text attend to one learned key and value more."""

    def __init__(self, size: Trunk, bias_kv: bool) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(size.width, size.heads, add_bias_kv=bias_kv, batch_first=True)
        self.norm_1 = nn.LayerNorm(size.width, eps=1e-6)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(size.width, 4 * size.width), "fc2": nn.Linear(4 * size.width, size.width)})
        self.norm_2 = nn.LayerNorm(size.width, eps=1e-6)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        y = self.norm_1(x)
        x = x + self.attn(y, y, y, need_weights=False, attn_mask=mask)[0]
        return x + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm_2(x))))


class _Trunk(nn.Module):
    def __init__(self, size: Trunk, bias_kv: bool, norm_first: bool) -> None:
        super().__init__()
        if norm_first:
            self.pre_transformer_layer = nn.Sequential(nn.LayerNorm(size.width, eps=1e-6))
        self.norm_first = norm_first
        self.blocks = nn.ModuleList(_Block(size, bias_kv) for _ in range(size.depth))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        if self.norm_first:
            x = self.pre_transformer_layer(x)
        for block in self.blocks:
            x = block(x, mask)
        return x


class _Stem(nn.Module):
    """What turns an input into tokens, and the norm behind it."""

    def __init__(self, proj: nn.Module, width: int | None) -> None:
        super().__init__()
        self.proj = proj
        self.norm_layer = nn.LayerNorm(width) if width else None

    def forward(self, x: Tensor) -> Tensor:
        x = self.proj(x)
        if x.ndim > 3:  # a grid of patches
            x = x.flatten(2).transpose(1, 2)
        return x if self.norm_layer is None else self.norm_layer(x)


class _Positions(nn.Module):
    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.pos_embed = nn.Parameter(torch.zeros(1, tokens, width))


class _Patches(nn.Module):
    """Patches of a picture, a video, a spectrogram: class token, tokens, learned positions."""

    def __init__(self, stem: str, proj: nn.Module, patches: int, width: int, norm: bool = True) -> None:
        super().__init__()
        self.stem = stem
        self.add_module(stem, _Stem(proj, width if norm else None))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embedding_helper = _Positions(patches + 1, width)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.get_submodule(self.stem)(x)
        return torch.cat([self.cls_token.expand(len(x), -1, -1), tokens], dim=1) + self.pos_embedding_helper.pos_embed


class _Motion(nn.Module):
    """Eight steps of six channels make a token."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.imu_stem = _Stem(nn.Linear(48, width, bias=False), width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, STEPS // 8 + 1, width))

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.imu_stem(x.unflatten(2, (-1, 8)).transpose(1, 2).flatten(2))
        return torch.cat([self.cls_token.expand(len(x), -1, -1), tokens], dim=1) + self.pos_embed


class _Words(nn.Module):
    mask: Tensor

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(vocabulary, width)
        self.pos_embed = nn.Parameter(torch.zeros(1, CONTEXT, width))
        self.register_buffer("mask", torch.full((CONTEXT, CONTEXT), -torch.inf).triu(1))  # a token sees none behind it

    def forward(self, tokens: Tensor) -> Tensor:
        return self.token_embedding(tokens) + self.pos_embed


class _Scale(nn.Module):
    """Multiplies by a stored scale of at most 100."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.log_logit_scale = nn.Parameter(torch.tensor(math.log(scale)))

    def forward(self, x: Tensor) -> Tensor:
        return self.log_logit_scale.exp().clamp(max=LONGEST_SCALE) * x


class _ToVideo(nn.Module):
    """A picture [B, 3, H, W] as a video of two equal frames [B, 3, 2, H, W]; videos pass."""

    def forward(self, x: Tensor) -> Tensor:
        return x if x.ndim == 5 else x[:, :, None].expand(-1, -1, 2, -1, -1)


class _Head(nn.Module):
    """Norm and projection of the token that stands for the text."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.proj = nn.Sequential(nn.LayerNorm(width, eps=1e-6), nn.Linear(width, out, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x)


class ImageBindModel(nn.Module):
    """All six trunks. A vision vector has unit length; the others carry their scale (text at most 100, audio 20, IMU 5)."""

    def __init__(self, config: ImageBindConfig) -> None:
        super().__init__()
        sizes: dict[str, Trunk] = {name: getattr(config, name) for name in ("vision", "text", "audio", "depth", "thermal", "imu")}
        width = {name: size.width for name, size in sizes.items()}
        patch = SIDE // 14
        self.modality_preprocessors = nn.ModuleDict(
            {
                "vision": _Patches(
                    "rgbt_stem",
                    nn.Sequential(_ToVideo(), nn.Conv3d(3, width["vision"], (2, 14, 14), (2, 14, 14), bias=False)),
                    patch * patch,
                    width["vision"],
                    norm=False,
                ),
                "text": _Words(config.vocabulary, width["text"]),
                "audio": _Patches("rgbt_stem", nn.Conv2d(1, width["audio"], 16, 10, bias=False), 12 * 19, width["audio"]),
                "depth": _Patches("depth_stem", nn.Conv2d(1, width["depth"], 16, 16, bias=False), 14 * 14, width["depth"]),
                "thermal": _Patches("rgbt_stem", nn.Conv2d(1, width["thermal"], 16, 16, bias=False), 14 * 14, width["thermal"]),
                "imu": _Motion(width["imu"]),
            }
        )
        self.modality_trunks = nn.ModuleDict(
            {name: _Trunk(size, bias_kv=name not in ("vision", "text"), norm_first=name == "vision") for name, size in sizes.items()}
        )
        heads: dict[str, nn.Module] = {"text": _Head(width["text"], config.out)}
        for name in ("vision", "audio", "depth", "thermal", "imu"):
            # The middle ones hold nothing: the numbers in the names are those of the file.
            between = [nn.Identity()] * (2 if name == "imu" else 1)
            heads[name] = nn.Sequential(nn.LayerNorm(width[name], eps=1e-6), *between, nn.Linear(width[name], config.out, bias=False))
        self.modality_heads = nn.ModuleDict(heads)
        scales = {"text": 1 / 0.07, "audio": 20.0, "depth": 5.0, "thermal": 10.0, "imu": 5.0}
        self.modality_postprocessors = nn.ModuleDict(
            {name: nn.Sequential(nn.Identity(), _Scale(scale)) for name, scale in scales.items()}
        )

    def forward(self, modality: str, x: Tensor) -> Tensor:
        """Vectors [B, out] of inputs.

        Args:
            modality: "vision": pictures [B, 3, 224, 224] or two frames [B, 3, 2, 224, 224]; "text": tokens [B, 77]; "audio":
                features [B, 1, 128, 204]; "imu": [B, 6, 2000]; "depth", "thermal": [B, 1, 224, 224].
        """
        words = modality == "text"
        tokens = self.modality_preprocessors[modality](x)
        states = self.modality_trunks[modality](tokens, self.modality_preprocessors["text"].mask if words else None)
        if words:  # the end mark has the highest number
            vector = self.modality_heads["text"](states[torch.arange(len(x)), x.argmax(dim=1)])
        else:
            vector = self.modality_heads[modality](states[:, 0])
        vector = F.normalize(vector, dim=-1)
        return vector if modality == "vision" else self.modality_postprocessors[modality](vector)


# -- inputs ---------------------------------------------------------------------------------------------------------------------------
def picture_input(frame: np.ndarray) -> Tensor:
    """A picture [H, W, 3] uint8 to [1, 3, 224, 224]: shorter side to 224 (bicubic, as Pillow), middle, normalised."""
    if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
        raise ValueError(f"a frame is [H, W, 3] uint8, got {frame.shape} {frame.dtype}")
    from PIL import Image

    picture = Image.fromarray(frame)
    short = min(picture.size)
    width, height = (int(SIDE * side / short) for side in picture.size)
    left, top = (round((side - SIDE) / 2) for side in (width, height))
    pixels = np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC), np.float32)[top : top + SIDE, left : left + SIDE]
    return _normalised(torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255)


def video_input(frames: Sequence[np.ndarray]) -> Tensor:
    """First and last frames of five clips [10 times H, W, 3] uint8 to three crops of each clip [15, 3, 2, 224, 224].

    Shorter side to 224 (bilinear, without anti-aliasing), then left, middle and right, or top, middle and bottom.
    """
    if len(frames) != 2 * VIDEO_CLIPS or any(f.ndim != 3 or f.dtype != np.uint8 for f in frames):
        raise ValueError(f"a video is {2 * VIDEO_CLIPS} frames [H, W, 3] uint8, two of each clip, got {len(frames)}")
    pixels = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).float() / 255
    short = min(pixels.shape[2:])
    size = [SIDE if side == short else math.floor(side / short * SIDE) for side in pixels.shape[2:]]
    pixels = _normalised(F.interpolate(pixels, size=size, mode="bilinear", align_corners=False))
    spare = [side - SIDE for side in size]
    middle = [math.ceil(rest / 2) for rest in spare]
    along = 0 if spare[0] > 0 else 1
    crops = []
    for at in (0, middle[along], spare[along]):
        top, left = (at, middle[1]) if along == 0 else (middle[0], at)
        crops.append(pixels[:, :, top : top + SIDE, left : left + SIDE])
    # [3 crops, 5 clips, 2 frames, channels, ...] to one row for each crop of each clip, channels before frames
    return torch.stack(crops).unflatten(1, (VIDEO_CLIPS, 2)).transpose(0, 1).flatten(0, 1).transpose(1, 2).contiguous()


def sound_input(audio: Audio) -> Tensor:
    """The first channel of a sound as three clips of 2 s [3, 1, 128, 204], spread evenly; where it is shorter, all three are alike.

    The official code takes the mean off each clip in place, so that clips that overlap have it taken off twice; kept.
    """
    wave = wave_at(audio)
    clips = []
    for start in _starts(wave.shape[1] / RATE, SOUND_CLIPS):
        clip = wave[:, int(start * RATE) : int((start + CLIP_SECONDS) * RATE)]
        clip -= clip.mean()
        clips.append((fitted(fbank(clip[0]), FRAMES).T - SOUND_MEAN) / SOUND_STD)
    return torch.stack(clips)[:, None]


def motion_input(motion: Motion) -> Tensor:
    """Six channels to [1, 6, 2000]; another number of steps is stretched linearly, the recording being the network's five seconds."""
    samples = torch.from_numpy(motion.samples)[None]
    return samples if samples.shape[2] == STEPS else F.interpolate(samples, STEPS, mode="linear", align_corners=True)


def clip_frames(path: Path) -> list[np.ndarray]:
    """The frames that ``video_input`` wants: the first and the last of five clips of 2 s, spread evenly over a video.

    Frames are counted at the average rate. Raises as ``media.video.frames_at``.
    """
    from media.video import frames_at, probe

    info = probe(path)
    fps = info.fps or 25.0
    return frames_at(path, [(index + 0.5) / fps for index in clip_indices(max(1, round(info.seconds * fps)), fps)])


def clip_indices(count: int, fps: float) -> list[int]:
    """Which of ``count`` frames are the first and the last of each of five clips of 2 s."""
    starts = _starts(count / fps, VIDEO_CLIPS)
    pairs = ((math.ceil(fps * start), min(math.ceil(fps * (start + CLIP_SECONDS)), count) - 1) for start in starts)
    return [min(index, count - 1) for first, last in pairs for index in (first, max(first, last))]


def _starts(seconds: float, clips: int) -> list[Fraction]:
    """Where clips of 2 s begin: in steps of a ``clips``-th of what a clip leaves over, so that the end is never reached.

    Exact fractions, since the next frame or sample is taken, and a rounding error would skip one.
    """
    return [Fraction(max(seconds - CLIP_SECONDS, 0)) / clips * index for index in range(clips)]


def _normalised(pixels: Tensor) -> Tensor:
    """[N, 3, H, W] in 0..1 to zero mean and unit deviation of each colour."""
    return (pixels - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


class Vocabulary:
    """CLIP's byte-pair encoding (Radford et al. 2021), from its list of merges.

    Raises:
        EncoderMissing: no such file, or not a gzipped list of merges.
    """

    def __init__(self, path: Path) -> None:
        try:
            lines = gzip.decompress(path.read_bytes()).decode().split("\n")[1 : 49_152 - 256 - 2 + 1]
            merges = [(first, second) for first, second in (line.split() for line in lines if line)]
        except FileNotFoundError:
            raise EncoderMissing(f"{path} is missing; {WHERE}") from None
        except (OSError, EOFError, ValueError) as error:
            raise EncoderMissing(f"{path.name} is no gzipped list of merges ({type(error).__name__}); {WHERE}") from None
        letters = _byte_letters()
        words = [*letters, *(letter + "</w>" for letter in letters), *(first + second for first, second in merges)]
        self.start, self.end = len(words), len(words) + 1
        self._tokenizer = _byte_pair_tokenizer({word: number for number, word in enumerate(words)}, merges)

    def tokens(self, text: str) -> Tensor:
        """[77] int64: start, words, end, zeros. A text that is too long is cut and still has its end mark."""
        words = self._tokenizer.encode(_cleaned(text)).ids[: CONTEXT - 2]
        return F.pad(torch.tensor([self.start, *words, self.end]), (0, CONTEXT - 2 - len(words)))


def _byte_letters() -> list[str]:
    """A printable letter for every byte, in CLIP's order: those that print as themselves, then the others."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return [chr(byte) for byte in plain] + [chr(256 + extra) for extra in range(256 - len(plain))]


def _byte_pair_tokenizer(words: dict[str, int], merges: list[tuple[str, str]]) -> Tokenizer:
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.BPE(vocab=words, merges=merges, end_of_word_suffix="</w>"))
    pieces = Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")
    split = pre_tokenizers.Split(pieces, behavior="removed", invert=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    return tokenizer


_QUOTES = {ord(c): "'" for c in "‘’‚‛ʼ"} | {ord(c): '"' for c in "“”„‟"}
_LIGATURES = set("ĲĳŉǄǅǆǇǈǉǊǋǌǱǲǳﬀﬁﬂﬃﬄﬅﬆ\u3000")


def _cleaned(text: str) -> str:
    """Straight quotes, plain ligatures and widths, no control characters, HTML undone, single spaces, small letters.

    What the official code asks ftfy for, less the repair of text that was decoded wrongly.
    """
    text = "".join(c for c in text if c.isspace() or unicodedata.category(c) != "Cc")
    plain = (unicodedata.normalize("NFKC", c) if c in _LIGATURES or "！" <= c <= "\uffef" else c for c in text)
    text = unicodedata.normalize("NFC", "".join(plain).translate(_QUOTES))
    return " ".join(html.unescape(html.unescape(text)).split()).lower()


def modality_of(given: Any) -> str:
    """ "text", "vision", "audio" or "imu": which trunk reads an input. Raises TypeError for anything else."""
    for kind, modality in ((str, "text"), (np.ndarray, "vision"), (list, "vision"), (Audio, "audio"), (Motion, "imu")):
        if isinstance(given, kind):
            return modality
    raise TypeError(f"ImageBind reads str, a picture, ten frames, Audio or Motion, got {type(given).__name__}")


# -- the encoder ----------------------------------------------------------------------------------------------------------------------
class ImageBind:
    """Words, pictures, videos, sounds and motion to vectors [B, 1, 1024] of one space.

    Inputs: ``str``; a picture [H, W, 3] uint8; a video as the list of ten frames that ``clip_frames`` gives; ``Audio``; ``Motion``.
    Clips of a video or a sound are averaged. Pictures and clips have unit length (their mean less); the others carry a scale.

    Args:
        folder: holds ``imagebind_huge.pth`` or ``.safetensors`` and ``bpe_simple_vocab_16e6.txt.gz``; a ``config.json`` with
            ``ImageBindConfig``'s fields says where sizes differ. None: ``checkpoints/imagebind`` in loa's home.
    """

    name = "imagebind"

    def __init__(self, folder: Path | None = None) -> None:
        from configs.schema import default_home

        self.folder = folder or default_home() / "checkpoints" / "imagebind"
        self._model: ImageBindModel | None = None
        self._vocabulary: Vocabulary | None = None

    def load(self) -> None:
        if self._model is not None:
            return
        files = [self.folder / f"{WEIGHTS}{suffix}" for suffix in (".safetensors", ".pth")]
        path = next((file for file in files if file.is_file()), None)
        if path is None:
            raise EncoderMissing(f"{self.folder} holds no {WEIGHTS}.pth; {WHERE}")
        own = self.folder / "config.json"
        config = ImageBindConfig.read(own) if own.is_file() else ImageBindConfig()
        with torch.device("meta"):  # the file's tensors are taken over, page by page as they are used
            model = ImageBindModel(config)
        load_into(model, read_state_dict(path), where=str(path))
        self._model = model.eval().requires_grad_(False)

    def sample_input(self) -> list[Any]:
        noise = np.random.default_rng(0).integers(0, 256, (120, 90, 3), np.uint8)
        tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(40_000) / 16_000).astype(np.float32)[None]
        return ["a dog barks", noise, Audio(tone, 16_000)]

    @torch.no_grad()
    def encode(self, inputs: list[Any]) -> Condition:
        """One vector for each input, computed one by one, so that it never depends on its neighbours."""
        self.load()
        assert self._model is not None
        rows = [self._model(*self._prepared(given)).mean(0) for given in inputs]
        return Condition("imagebind", torch.stack(rows)[:, None], torch.ones(len(rows), 1, dtype=torch.bool))

    def _prepared(self, given: Any) -> tuple[str, Tensor]:
        modality = modality_of(given)
        if isinstance(given, list):
            return modality, video_input(given)
        ways: dict[str, Callable[[Any], Tensor]] = {"vision": picture_input, "audio": sound_input, "imu": motion_input}
        return modality, ways.get(modality, self._tokens)(given)

    def _tokens(self, text: str) -> Tensor:
        if self._vocabulary is None:
            self._vocabulary = Vocabulary(self.folder / VOCABULARY)
        return self._vocabulary.tokens(text)[None]
