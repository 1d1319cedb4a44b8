"""What is asked of a generator in a benchmark: paraphrases and pictures, and which answers count.

Reads files; knows no judge and no generator. The paraphrases were written once and are never trained on.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from configs.registry import ConfigError

Kind = Literal["procedural", "recorded"]
DATA = Path(__file__).resolve().parent.parent / "tests" / "data"


@dataclass(frozen=True)
class Paraphrase:
    """One way in which a person may ask for a sound of the class ``name``."""

    name: str
    kind: Kind
    prompt: str


@dataclass(frozen=True)
class Picture:
    """A test picture and the judge's labels that a fitting sound may have; none: nothing of it can be heard."""

    file: str
    shows: str
    labels: tuple[str, ...]


PICTURES = (
    Picture("chelsea.jpg", "a cat", ("cat",)),
    Picture("rocket.jpg", "a rocket lifting off", ("airplane", "explosion", "spaceship")),
    Picture("horse.jpg", "a horse", ("horse",)),
    Picture("motorcycle.jpg", "a motorcycle", ("car_engine",)),
    Picture("coffee.jpg", "a cup of coffee", ()),
    Picture("clock.jpg", "a wall clock", ("clock", "alarm_clock")),
)

# A red square or noise shows none of these: hearing one as the first guess is a false claim.
ANIMALS = frozenset(
    {"bee", "cat", "cow", "cricket", "cuckoo", "dog", "elephant", "frog"}
    | {"goat", "horse", "mosquito", "owl", "rooster", "sheep", "songbird", "wolf"}
)


def read_paraphrases(path: Path = DATA / "prompts.jsonl") -> list[Paraphrase]:
    """All paraphrases, in the order of the file.

    Raises:
        ConfigError: the file is missing (an installation without the tests) or a line of it is wrong.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ConfigError(f"the benchmark's prompts are not at {path}: run it from a checkout of the repository") from error
    found = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            found.append(Paraphrase(row["class"], row["kind"], row["prompt"]))
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{path}, line {number}: needs class, kind and prompt ({error})") from error
    return found


def blank_pictures() -> dict[str, bytes]:
    """Two pictures of nothing, as PNG: a red square and noise."""
    red = np.zeros((224, 224, 3), np.uint8)
    red[..., 0] = 255
    noise = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    encoded = {}
    for name, pixels in (("red square", red), ("noise", noise)):
        buffer = BytesIO()
        Image.fromarray(pixels).save(buffer, format="PNG")
        encoded[name] = buffer.getvalue()
    return encoded


def moving_picture(path: Path, frames: int = 16, rate: int = 8, size: int = 224) -> bytes:
    """A silent MP4 of ``frames`` pictures that slides and zooms over a picture, as a hand-held camera would."""
    import av

    buffer = BytesIO()
    with Image.open(path) as opened, av.open(buffer, "w", format="mp4") as container:
        picture = opened.convert("RGB")
        side = min(picture.size)
        stream = container.add_stream("mpeg4", rate=rate)
        stream.width = stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.bit_rate = 2_000_000
        for index in range(frames):
            share = index / (frames - 1)
            edge = side * (1 - 0.15 * share)
            left, top = (picture.width - edge) * (0.35 + 0.3 * share), (picture.height - edge) / 2
            view = picture.resize((size, size), Image.Resampling.BICUBIC, box=(left, top, left + edge, top + edge))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.asarray(view), format="rgb24")))
        container.mux(stream.encode())
    return buffer.getvalue()
