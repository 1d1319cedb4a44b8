"""Figures and how sure they are. Knows arrays of numbers; does not know what was judged."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def bootstrap_interval(
    values: Sequence[float] | np.ndarray,
    groups: Sequence[int] | np.ndarray | None = None,
    *,
    level: float = 0.95,
    resamples: int = 5000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean.

    Args:
        values: [N] numbers, for instance 1.0 where the answer was right.
        groups: [N] which values belong together (seeds of one prompt): whole groups are drawn, since two seeds of one
            prompt tell less than two prompts. By default each value stands alone.
        seed: of the resampling, so that the same values give the same interval.

    Returns: lower and upper end.

    Raises:
        ValueError: no values, or one group number per value is not given.
    """
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1 or not len(numbers):
        raise ValueError(f"an interval needs a row of at least one value, got shape {numbers.shape}")
    members = np.arange(len(numbers)) if groups is None else np.asarray(groups)
    if members.shape != numbers.shape:
        raise ValueError(f"one group per value: got {members.shape} groups for {numbers.shape} values")
    _, index = np.unique(members, return_inverse=True)
    sums, sizes = np.bincount(index, weights=numbers), np.bincount(index).astype(np.float64)
    draw = np.random.default_rng(seed).integers(0, len(sums), (resamples, len(sums)))
    means = sums[draw].sum(axis=1) / sizes[draw].sum(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
