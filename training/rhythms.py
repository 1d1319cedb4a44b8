"""The loudness curves that a checkpoint keeps of its training clips (generators.rhythms): a few of every class."""

from __future__ import annotations

import numpy as np

from generators.rhythms import Rhythms
from media.mel import loudness_curve
from training.data import MelSet

PER_SOUND = 6


def collect(clips: MelSet) -> Rhythms:
    """Curves of up to ``PER_SOUND`` clips of every sound, by its plain name, evenly spread over those that there are."""
    found: dict[str, list[tuple[int, int]]] = {}
    for number, source in enumerate(clips.of_classes().sources):
        for index, label in enumerate(source.labels):
            found.setdefault(clips.classes[label][0], []).append((number, index))
    chosen = {name: [own[i] for i in np.unique(np.linspace(0, len(own) - 1, PER_SOUND).astype(int))] for name, own in found.items()}
    return Rhythms.of(
        {name: [loudness_curve(np.asarray(clips.sources[s].mel[i], np.float32)) for s, i in own] for name, own in chosen.items()}
    )
