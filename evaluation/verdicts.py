"""What judges made of sounds, as shares with intervals, by class, and as paired differences. Knows places and groups, no sounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evaluation.metrics import bootstrap_interval


@dataclass(frozen=True)
class Verdicts:
    """What a judge made of some sounds of one kind.

    ``places`` [N] is the place (0 = first) of the right label, ``names`` [N] the class that was asked for, ``groups`` [N] tells which
    sounds answer the same prompt: intervals draw whole groups. ``seeds`` [N] tells sounds of a group apart.
    """

    names: tuple[str, ...]
    groups: tuple[int, ...]
    places: np.ndarray
    seeds: tuple[int, ...] = ()

    def share(self, k: int) -> float:
        """How many have the right label among the first ``k``, 0..1."""
        return float((self.places < k).mean())

    def interval(self, k: int) -> list[float]:
        """95 % bootstrap interval of ``share(k)``."""
        return rounded(bootstrap_interval((self.places < k).astype(float), self.groups))

    def by_class(self, k: int) -> dict[str, float]:
        """``share(k)`` of each class."""
        names = np.array(self.names)
        return {name: float((self.places[names == name] < k).mean()) for name in dict.fromkeys(self.names)}

    def hits(self, k: int) -> dict[tuple[int, int], float]:
        """(group, seed) -> whether the right label is among the first ``k``, for pairing with another's verdicts."""
        seeds = self.seeds or (0,) * len(self.groups)
        return {(group, seed): float(place < k) for group, seed, place in zip(self.groups, seeds, self.places, strict=True)}


def difference(ours: Mapping[tuple[int, int], float], theirs: Mapping[tuple[int, int], float]) -> dict[str, Any] | None:
    """Mean of ours minus theirs over the prompts and seeds that both have, with its 95 % interval; None where they share none.

    Paired: the same prompt at the same seed on both sides, so what a prompt is hard for cancels out.
    """
    shared = [key for key in ours if key in theirs]
    if not shared:
        return None
    values = [ours[key] - theirs[key] for key in shared]
    interval = bootstrap_interval(values, [key[0] for key in shared])
    return {"difference": round(float(np.mean(values)), 4), "interval": rounded(interval), "n": len(shared)}


def rounded(values: Sequence[float]) -> list[float]:
    """Four decimals, for JSON."""
    return [round(value, 4) for value in values]


# JSON key -> which verdicts, and among how many first guesses. J2's share is counted among five: its own ceiling is low.
KEYS: dict[str, tuple[str, int]] = {
    "judge_ceiling": ("judge_ceiling", 1),
    "recon_top1": ("recon", 1),
    "recon_top5": ("recon", 5),
    "vae_top1": ("vae", 1),
    "names_top1": ("names", 1),
    "names_top5": ("names", 5),
    "top1": ("paraphrases", 1),
    "top5": ("paraphrases", 5),
    "top1_few": ("few", 1),
    "top5_few": ("few", 5),
    "gt_loa_top1": ("gt_loa", 1),
    "gt_loa_top5": ("gt_loa", 5),
    "zero_loa_top1": ("zero_loa", 1),
    "zero_loa_top5": ("zero_loa", 5),
    "j2": ("j2 paraphrases", 5),
    "j2_top1": ("j2 paraphrases", 1),
    "j2_few": ("j2 few", 5),
    "j2_domain": ("j2 judge_ceiling", 5),
    "j2_recon": ("j2 recon", 5),
    "j2_gt_loa": ("j2 gt_loa", 5),
    "j2_zero_loa": ("j2 zero_loa", 5),
}


def figures(verdicts: Mapping[str, Verdicts]) -> dict[str, Any]:
    """The shares by their JSON keys, their intervals under ``intervals`` and the number of sounds under ``counts``."""
    kept = {key: (verdicts[name], k) for key, (name, k) in KEYS.items() if name in verdicts}
    return {
        **{key: round(verdict.share(k), 4) for key, (verdict, k) in kept.items()},
        "intervals": {key: verdict.interval(k) for key, (verdict, k) in kept.items()},
        "counts": {key: len(verdict.places) for key, (verdict, _) in kept.items()},
    }


def per_class(verdicts: Mapping[str, Verdicts]) -> dict[str, dict[str, float]]:
    """Class -> its figures by JSON key."""
    table: dict[str, dict[str, float]] = {}
    for key, (name, k) in KEYS.items():
        if name in verdicts:
            for label, share in verdicts[name].by_class(k).items():
                table.setdefault(label, {})[key] = round(share, 4)
    return table
