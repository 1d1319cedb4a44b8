"""The loudness curves that a checkpoint keeps of its training clips (generators.rhythms): a few of every class."""

from __future__ import annotations

import numpy as np

from generators.rhythms import Rhythms
from media.mel import loudness_curve
from training.data import MelSet

PER_SOUND = 6


def collect(clips: MelSet) -> Rhythms:
    """Curves of up to ``PER_SOUND`` clips of every sound, by its plain name, evenly spread over those that there are.

    Of sources that call different sounds alike, the one with the most clips of the name decides: what the network has mostly heard.
    """
    found: dict[str, dict[int, list[int]]] = {}
    for number, source in enumerate(clips.of_classes().sources):
        for index, label in enumerate(source.labels):
            found.setdefault(clips.classes[label][0], {}).setdefault(number, []).append(index)
    curves: dict[str, list[np.ndarray]] = {}
    for name, sources in found.items():
        number = max(sources, key=lambda one: len(sources[one]))
        own = sources[number]
        chosen = [own[at] for at in np.unique(np.linspace(0, len(own) - 1, PER_SOUND).astype(int))]
        curves[name] = [loudness_curve(np.asarray(clips.sources[number].mel[index], np.float32)) for index in chosen]
    return Rhythms.of(curves)
