"""How sure a figure is: intervals over prompts, differences of two systems on the same prompts, many comparisons at once.

Prompts are what was drawn, so prompts are what is resampled: two seeds of one prompt tell less than two prompts. Knows arrays. Does not
know what was measured. Coverage of every interval here was simulated: docs/measurements/coverage.json.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.stats import beta
from scipy.stats import t as student

RESAMPLES = 4000
FLIPS = 20_000
EXACT = 13  # with so few prompts all 2^n sign patterns are tried
FOLDS = 20


class Estimate(NamedTuple):
    """A value and its 95 % interval; ``low`` and ``high`` are NaN where none can be given."""

    value: float
    low: float
    high: float
    n: int  # prompts behind it


def by_prompt(values: Sequence[float] | np.ndarray, prompts: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Prompts in order of appearance and the mean of each one's values."""
    numbers = np.asarray(values, np.float64)
    if numbers.ndim != 1 or len(numbers) != len(prompts):
        raise ValueError(f"one prompt a value: got {len(prompts)} prompts for values of shape {numbers.shape}")
    names = list(dict.fromkeys(prompts))
    at = {name: index for index, name in enumerate(names)}
    member = np.fromiter((at[name] for name in prompts), int, len(prompts))
    return names, np.bincount(member, numbers, len(names)) / np.bincount(member, minlength=len(names))


def mean_interval(
    values: Sequence[float] | np.ndarray, prompts: Sequence[str], *, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> Estimate:
    """The mean over prompts and its symmetric bootstrap-t interval (Hall 1988).

    Whole prompts are drawn, and what is looked at is |mean - value| in standard errors of each drawn set: so many of them as 95 % stay
    below. With 10 prompts it covers 94 to 96 % where percentiles cover 92 to 94 %, of skewed figures too; it is as much as a quarter
    wider there, and Student's own from 20 prompts on.

    Args:
        values, prompts: [N] one prompt a value; a prompt's values (seeds) are averaged first.

    Returns: NaN ends with fewer than three prompts, which say nothing about the spread.
    """
    names, means = by_prompt(values, prompts)
    count = len(names)
    value = float(means.mean())
    if count < 3:
        return Estimate(value, math.nan, math.nan, count)
    error = float(means.std(ddof=1)) / math.sqrt(count)
    if error <= 1e-12 * abs(value):
        return Estimate(value, value, value, count)
    generator = np.random.default_rng(seed)
    far = []
    for start in range(0, resamples, 500):  # in blocks: 4,000 draws of 10,000 prompts at once take 300 MB
        drawn = means[generator.integers(0, count, (min(500, resamples - start), count))]
        errors = drawn.std(axis=1, ddof=1) / math.sqrt(count)
        some = errors > 1e-9 * error  # a set of one and the same prompt has no scale of its own
        far.append(np.abs(drawn.mean(1) - value)[some] / errors[some])
    reach = float(np.quantile(np.concatenate(far), level)) * error
    return Estimate(value, value - reach, value + reach, count)


def share_interval(values: Sequence[float] | np.ndarray, prompts: Sequence[str], *, level: float = 0.95) -> Estimate:
    """The share of ones among figures that are 0 or 1 (failures), and its exact interval (Clopper & Pearson 1934).

    A bootstrap cannot see what was not drawn: it calls no failure among 100 prompts certain, and covers 79 % where one in 20 of 50
    fails. This one covers 95 % or more of every share. Seeds of one prompt fail together or not at all: prompts alone are counted,
    which errs on the wide side.

    >>> [round(x, 3) for x in share_interval([0.0] * 100, [str(n) for n in range(100)])]
    [0.0, 0.0, 0.036, 100]
    """
    names, means = by_prompt(values, prompts)
    count, ones, tail = len(names), float(means.sum()), (1 - level) / 2
    low = float(beta.ppf(tail, ones, count - ones + 1)) if ones > 0 else 0.0
    high = float(beta.ppf(1 - tail, ones + 1, count - ones)) if ones < count else 1.0
    return Estimate(ones / count, low, high, count)


# -- differences ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Difference:
    """``first`` minus ``second`` on the same prompts; ``p`` of both being alike, ``p_holm`` after Holm's correction."""

    first: str
    second: str
    estimate: Estimate
    p: float
    p_holm: float = math.nan

    @property
    def certain(self) -> bool:
        """Whether the difference holds at 5 % after the correction for all comparisons made beside it."""
        return self.p_holm < 0.05


def paired_difference(
    first: Mapping[str, float], second: Mapping[str, float], names: tuple[str, str] = ("first", "second"), *, seed: int = 0
) -> Difference:
    """The mean difference over the prompts that both have, its interval, and the p-value of a sign-flip test.

    If two systems are alike, the sign of each prompt's difference is a coin: p is the share of sign patterns whose mean is at least as
    far from 0 (Fisher 1935), all of them with up to 13 prompts.

    Raises:
        ValueError: the prompts differ. Equal n is a rule here: take the common ones first (``common_prompts``).
    """
    if first.keys() != second.keys():
        raise ValueError(f"unequal prompts: {len(first)} against {len(second)}, {len(first.keys() & second.keys())} of them common")
    prompts = sorted(first)
    apart = np.array([first[name] - second[name] for name in prompts], np.float64)
    return Difference(*names, mean_interval(apart, prompts, seed=seed), sign_flip_p(apart, seed=seed))


def sign_flip_p(differences: np.ndarray, *, flips: int = FLIPS, seed: int = 0) -> float:
    """Two-sided p-value of the mean of [N] differences under random signs; 1 for none."""
    apart = np.asarray(differences, np.float64)
    count = len(apart)
    if count == 0 or not apart.any():
        return 1.0
    seen = abs(apart.sum()) * (1 - 1e-12)
    if count <= EXACT:
        signs = 1 - 2 * ((np.arange(2**count)[:, None] >> np.arange(count)) & 1)
        return float((np.abs(signs @ apart) >= seen).mean())
    generator = np.random.default_rng(seed)
    hits = 0
    for _ in range(flips // 1000):
        drawn = 1 - 2 * generator.integers(0, 2, (1000, count), np.int8).astype(np.float64)
        hits += int((np.abs(drawn @ apart) >= seen).sum())
    return (hits + 1) / (flips // 1000 * 1000 + 1)  # the pattern that was seen is one of them: never 0


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's (1979) step-down correction: the chance of one false difference among all of these stays below the level.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted = [math.nan] * len(p_values)
    largest = 0.0
    for place, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def corrected(differences: Sequence[Difference]) -> list[Difference]:
    """The same comparisons with ``p_holm`` over all of them."""
    adjusted = holm([each.p for each in differences])
    return [Difference(d.first, d.second, d.estimate, d.p, p) for d, p in zip(differences, adjusted, strict=True)]


def common_prompts(tables: Sequence[Mapping[str, float]]) -> list[str]:
    """The prompts that all have, sorted."""
    return sorted(set.intersection(*(set(table) for table in tables))) if tables else []


# -- figures of whole sets ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SetEstimate:
    """A figure of a whole set (FAD, KAD, IS): ``plain`` as it is printed in tables, and the value freed of its bias, with an interval.

    ``pseudo`` [K] are the jackknife's pseudo-values; two systems on the same folds are compared by their differences.
    """

    plain: float
    corrected: Estimate
    pseudo: np.ndarray


def folds_of(prompts: Sequence[str], folds: int = FOLDS, seed: int = 0) -> dict[str, int]:
    """Each prompt's fold, of equal sizes up to one; drawn from the sorted names, so that it is the same for every system."""
    names = sorted(set(prompts))
    order = np.random.default_rng(seed).permutation(len(names))
    return {names[index]: place % min(folds, len(names)) for place, index in enumerate(order)}


def jackknife(figure: Callable[[Sequence[str]], float], prompts: Sequence[str], *, folds: int = FOLDS, seed: int = 0) -> SetEstimate:
    """Delete-a-group jackknife over prompts (Quenouille 1956; Shao & Tu 1995) of a figure whose bias falls with 1/n.

    FAD grows with every vector that is missing; resampling with replacement throws vectors away, so that the whole bootstrap
    distribution lies above the true value (its percentiles cover 0 %). Leaving out a K-th of the prompts at a time shows how the
    figure moves with n instead: K f - (K - 1) mean(f without a fold) has no bias in 1/n, and its pseudo-values give the spread.

    Args:
        figure: of a list of prompts: the figure of their sounds (and of their references, where those go by prompt).
        prompts: distinct names.

    Returns: an interval with Student's t of K - 1; NaN ends with fewer than 5 prompts.
    """
    names = sorted(set(prompts))
    whole = figure(names)
    if len(names) < 5:
        return SetEstimate(whole, Estimate(math.nan, math.nan, math.nan, len(names)), np.zeros(0))
    fold = folds_of(names, folds, seed)
    count = max(fold.values()) + 1
    without = np.array([figure([name for name in names if fold[name] != out]) for out in range(count)])
    pseudo = count * whole - (count - 1) * without
    return SetEstimate(whole, _by_pseudo(pseudo, len(names)), pseudo)


def _by_pseudo(pseudo: np.ndarray, n: int, level: float = 0.95) -> Estimate:
    count = len(pseudo)
    value, error = float(pseudo.mean()), float(pseudo.std(ddof=1) / math.sqrt(count))
    reach = float(student.ppf((1 + level) / 2, count - 1)) * error
    return Estimate(value, value - reach, value + reach, n)


def set_difference(first: SetEstimate, second: SetEstimate, names: tuple[str, str] = ("first", "second")) -> Difference:
    """Two systems' figures on the same prompts and folds: the difference freed of bias, and p of a t-test on pseudo-values."""
    if first.pseudo.shape != second.pseudo.shape or first.corrected.n != second.corrected.n:
        raise ValueError(f"unequal n: {first.corrected.n} and {second.corrected.n} prompts")
    n = first.corrected.n
    if len(first.pseudo) < 2:
        return Difference(*names, Estimate(first.plain - second.plain, math.nan, math.nan, n), math.nan)
    apart = first.pseudo - second.pseudo
    estimate = _by_pseudo(apart, n)
    error = float(apart.std(ddof=1) / math.sqrt(len(apart)))
    p = 1.0 if error == 0 else float(2 * student.sf(abs(estimate.value) / error, len(apart) - 1))
    return Difference(*names, estimate, p)


def frechet_warning(n: int, width: int) -> str | None:
    """What to know before reading a Fréchet distance of ``n`` vectors of ``width`` dimensions, or None where n is large enough.

    Measured between two samples of one Gaussian, where the true distance is 0 (docs/measurements/coverage.json).
    """
    if n <= width:
        return (
            f"n = {n} for {width} dimensions: the covariance is singular and the distance mostly bias (at n = 100 a 128-dimensional "
            f"Gaussian is 57 away from itself, 85 from another hundred); no interval is given. Use KAD, or at least {4 * width} clips"
        )
    if n < 4 * width:
        return (
            f"n = {n} for {width} dimensions: most of the plain distance may be bias; read the corrected one, or take {4 * width} clips"
        )
    return None
