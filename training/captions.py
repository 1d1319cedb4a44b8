"""Words for training clips: phrases a class, and the frames that people put around them.

The benchmark's prompts are written apart; a test holds the two lists apart.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import numpy as np

# Around the phrase; the empty frame is as likely as all others together.
FRAMES = (
    "the sound of {}",
    "sound of {}",
    "{} sound effect",
    "a recording of {}",
    "{}, close up",
    "{} in the background",
    "I hear {}",
    "the noise of {}",
    "{} outside",
    "audio of {}",
    "please make {}",
    "{} nearby",
    "give me {}",
    "a clip of {}",
)


@cache
def phrases() -> dict[str, tuple[str, ...]]:
    """Class name (procedural names with underscores, recorded categories with spaces) to its phrases, plain name first."""
    table: dict[str, tuple[str, ...]] = {}
    for line in (files("training") / "phrases.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            name, _, rest = line.partition(": ")
            plain = name.replace("_", " ")
            said = [p.strip() for p in rest.split(";") if p.strip()]
            table[name] = tuple(dict.fromkeys([plain, *said]))
    return table


def captions_of(name: str, recorded: tuple[str, ...] = ()) -> tuple[str, ...]:
    """All phrases of a class and the captions of its recordings, without frames."""
    known = phrases().get(name) or phrases().get(name.replace(" ", "_")) or (name,)
    return tuple(dict.fromkeys([*known, *recorded]))


def all_phrases() -> list[str]:
    """Every phrase, with and without every frame: what a prompt of the benchmark must not equal."""
    plain = [p for said in phrases().values() for p in said]
    return plain + [frame.format(p) for frame in FRAMES for p in plain]


def framed(phrase: str, draw: np.random.Generator) -> str:
    """The phrase, half of the time inside a frame."""
    return phrase if draw.random() < 0.5 else FRAMES[int(draw.integers(len(FRAMES)))].format(phrase)
