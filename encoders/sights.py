"""What is heard where something is seen: which ImageNet labels show the source of which sound.

The names of the labels alone do not say it: a tick is no clock, a dingo does not ding, a bow tie is drawn by no archer. ``sights.txt``
was written by hand from the labels' meanings. Knows labels' numbers and names of sounds; no vectors, no pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.resources import files

import numpy as np

LABELS = 1000
LEAST_HEARD = 0.15  # of the probability must speak for things that sound
SHARPER = 1.5
OWN_NAME = "music"  # its labels are instruments: what they play is asked for by the instrument's own name


@cache
def sights() -> dict[str, tuple[int, ...]]:
    """Name of a sound (as in ``training.captions.phrases``) -> numbers of the ImageNet labels that show its source."""
    return {name: labels for name, labels in _table().items() if name != OWN_NAME}


@cache
def silent() -> tuple[int, ...]:
    """Labels whose things make no sound of their own."""
    heard = {k for labels in _table().values() for k in labels}
    return tuple(k for k in range(LABELS) if k not in heard)


def audible(probabilities: np.ndarray) -> np.ndarray:
    """Label probabilities [1000] float32 of a picture without what makes no sound, sharpened, to sum to one.

    Drawings are taken for hooks and comic books, and who asks for the sound of a picture does not mean those. Where hardly anything in
    view makes a sound, they sum to less, so that nothing is made of little.
    """
    heard = np.asarray(probabilities, np.float32).copy()
    heard[list(silent())] = 0
    share = float(heard.sum())
    sharp = heard**SHARPER
    return sharp / max(float(sharp.sum()), 1e-12) * min(1.0, share / LEAST_HEARD)


def heard_as(names: Sequence[str]) -> tuple[str | None, ...]:
    """For each of the thousand labels what it sounds like, in words; None where it makes no sound.

    Args:
        names: the labels' own, which instruments keep.
    """
    words: list[str | None] = [None] * LABELS
    for name, labels in _table().items():
        for k in labels:
            words[k] = names[k] if name == OWN_NAME else name.replace("_", " ")
    return tuple(words)


@cache
def _table() -> dict[str, tuple[int, ...]]:
    table: dict[str, tuple[int, ...]] = {}
    for line in (files("encoders") / "sights.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            continue
        name, _, rest = line.partition(": ")
        spans = [part.strip().partition("-") for part in rest.split(",")]
        table[name] = tuple(k for first, _, last in spans for k in range(int(first), int(last or first) + 1))
    return table
