"""How far two sets of sounds are apart, and what a set says about itself: Fréchet and kernel distance, KL, inception score, cosine.

Pure functions of arrays, in double precision. Knows no files, no networks and no intervals (evaluation/statistics.py).
The formulas are those that papers on generated audio print; where variants exist, the docstring names the one taken and who uses it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy.linalg import eigh, svdvals
from scipy.spatial.distance import pdist

KL_EPSILON = 1e-6  # what audioldm_eval adds to the predicted probabilities
KAD_SCALE = 100.0  # kadtk prints a hundred times the squared discrepancy
KAD_EPSILON = 1e-8  # what kadtk adds to twice the squared bandwidth
PAIRS = 4_000  # rows at most of which the median distance is taken: all pairs of them


def _rows(x: np.ndarray, least: int = 1) -> np.ndarray:
    rows = np.asarray(x, np.float64)
    if rows.ndim != 2 or len(rows) < least:
        raise ValueError(f"vectors are [N, D] with N of {least} or more, got shape {rows.shape}")
    return rows


# -- Fréchet ----------------------------------------------------------------------------------------------------------


def frechet_distance(made: np.ndarray, true: np.ndarray) -> float:
    """Fréchet distance of the Gaussians fitted to two sets of vectors [N, D] and [M, D]: FAD, FD, FID.

    |m1 - m2|² + tr(S1 + S2 - 2 (S1 S2)^½) with unbiased covariances (Dowson & Landau 1982; Kilgour et al. 2019). Symmetric, and 0
    for equal sets. It grows as 1/N falls: values of different N do not compare (``fad_infinity``).

    The trace of the root is the sum of the singular values of X Y', X and Y being the centred rows: exact also where N < D, where
    a matrix root of the singular product loses digits.

    Raises:
        ValueError: not two sets of vectors of one width, or fewer than two vectors.
    """
    x, y = _rows(made, 2), _rows(true, 2)
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"both sets need one width, got {x.shape[1]} and {y.shape[1]}")
    shift = x.mean(0) - y.mean(0)
    x = (x - x.mean(0)) / np.sqrt(len(x) - 1)
    y = (y - y.mean(0)) / np.sqrt(len(y) - 1)
    spread = float((x**2).sum() + (y**2).sum())
    return float(shift @ shift + spread - 2 * _root_trace(x, y))


def _root_trace(x: np.ndarray, y: np.ndarray) -> float:
    """tr (X'X Y'Y)^½ of centred, scaled rows, whichever way is smaller."""
    width = x.shape[1]
    if min(len(x), len(y)) <= width:
        return float(svdvals(x @ y.T).sum())
    values, vectors = eigh(x.T @ x)
    half = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    inner = half @ (y.T @ y) @ half
    return float(np.sqrt(np.maximum(eigh((inner + inner.T) / 2, eigvals_only=True), 0)).sum())


class Infinite(NamedTuple):
    """A straight line through distances over 1/N, read off at 0."""

    value: float  # at N = infinity
    slope: float
    r2: float  # how straight it was


def fad_infinity(made: np.ndarray, true: np.ndarray, *, least: int | None = None, sizes: int = 15, seed: int = 0) -> Infinite:
    """FAD-infinity (Chong & Forsyth 2020; Gui et al. 2024): the distance at growing numbers of made vectors, extrapolated.

    Subsets are drawn without replacement (with replacement, as fadtk does, each subset is poorer than its size says). The true set
    stays whole: its own bias stays in.

    Args:
        least: the smallest subset; None: half of them. It must be larger than the width, or the line bends.
    """
    x, y = _rows(made, 4), _rows(true, 2)
    least = least or max(len(x) // 2, 2)
    generator = np.random.default_rng(seed)
    counts = np.unique(np.linspace(least, len(x), sizes).astype(int))
    if len(counts) < 3:
        raise ValueError(f"FAD-infinity needs more than {least} vectors, got {len(x)}")
    values = np.array([frechet_distance(x[generator.choice(len(x), count, replace=False)], y) for count in counts])
    slope, intercept = np.polyfit(1 / counts, values, 1)
    rest = values - (slope / counts + intercept)
    spread = ((values - values.mean()) ** 2).sum()
    return Infinite(float(intercept), float(slope), float(1 - (rest**2).sum() / spread) if spread > 0 else 1.0)


# -- kernel -----------------------------------------------------------------------------------------------------------


def median_distance(true: np.ndarray, seed: int = 0) -> float:
    """The median Euclidean distance between vectors [N, D] (torch's median: the lower of two middle ones).

    Beyond ``PAIRS`` vectors, that of so many drawn ones: N² distances of a large set do not fit into memory.
    """
    y = _rows(true, 2)
    if len(y) > PAIRS:
        y = y[np.random.default_rng(seed).choice(len(y), PAIRS, replace=False)]
    apart = np.sort(pdist(y))
    return float(apart[(len(apart) - 1) // 2])


def kernel_distance(made: np.ndarray, true: np.ndarray, bandwidth: float | None = None) -> float:
    """KAD (Chung et al. 2025): the unbiased squared maximum mean discrepancy with a Gaussian kernel, times 100.

    No Gaussian is fitted and its expectation does not depend on N; it may fall below 0 for equal distributions.

    Args:
        bandwidth: of the kernel; None: the median distance within the true set, as kadtk does.
    """
    x, y = _rows(made, 2), _rows(true, 2)
    width = median_distance(y) if bandwidth is None else bandwidth
    gamma = 1 / (2 * width**2 + KAD_EPSILON)
    own = [_kernel_sum(rows, rows, gamma) for rows in (x, y)]
    # The diagonal of ones is left out: that is what makes it unbiased.
    within = sum((total - len(rows)) / (len(rows) * (len(rows) - 1)) for total, rows in zip(own, (x, y), strict=True))
    return float(KAD_SCALE * (within - 2 * _kernel_sum(x, y, gamma) / (len(x) * len(y))))


def _kernel_sum(x: np.ndarray, y: np.ndarray, gamma: float, block: int = 2048) -> float:
    total = 0.0
    for start in range(0, len(x), block):
        part = x[start : start + block]
        apart = (part**2).sum(1)[:, None] + (y**2).sum(1)[None] - 2 * part @ y.T
        if x is y:  # rounding must not make a vector differ from itself
            apart[np.arange(len(part)), np.arange(start, start + len(part))] = 0
        total += float(np.exp(-gamma * np.maximum(apart, 0)).sum())
    return total


# -- classes ----------------------------------------------------------------------------------------------------------


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities [N, K] of logits [N, K]."""
    shifted = np.exp(_rows(logits) - _rows(logits).max(1, keepdims=True))
    return shifted / shifted.sum(1, keepdims=True)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """1 / (1 + e^-x), without overflow."""
    return 0.5 * (1 + np.tanh(np.asarray(logits, np.float64) / 2))


def kl_divergence(p: np.ndarray, q: np.ndarray, epsilon: float = KL_EPSILON) -> np.ndarray:
    """KL(p || q) of each row, in nepers: [N] from two tables [N, K] of probabilities.

    sum p (log p - log(q + epsilon)): audioldm_eval's form, whose ``kullback_leibler_divergence_softmax`` is the mean over clips of
    KL(true || made). Its ``_sigmoid`` is the same sum over independent classes (p and q from ``sigmoid``, not summing to one).
    """
    p, q = _rows(p), _rows(q)
    if p.shape != q.shape:
        raise ValueError(f"both tables need one shape, got {p.shape} and {q.shape}")
    return np.asarray((np.where(p > 0, p * np.log(np.where(p > 0, p, 1)), 0) - p * np.log(q + epsilon)).sum(1))


def inception_score(probabilities: np.ndarray, splits: int = 1, seed: int | None = None) -> float:
    """exp of the mean KL between each clip's classes and the set's (Salimans et al. 2016): [N, K] -> 1 (all alike) .. K.

    Args:
        splits: parts whose scores are averaged. audioldm_eval: 10 parts after a permutation drawn with the seed 2020; a part of few
            clips cannot reach a high score, so with small N take 1.
        seed: of the permutation (numpy's ``RandomState``); None: in the given order.
    """
    p = _rows(probabilities)
    if seed is not None:
        p = p[np.random.RandomState(seed).permutation(len(p))]
    bounds = [index * len(p) // splits for index in range(splits + 1)]
    if any(end <= start for start, end in pairwise(bounds)):
        raise ValueError(f"{splits} parts need at least as many clips, got {len(p)}")
    scores = []
    for start, end in pairwise(bounds):
        part = p[start:end]
        mean = part.mean(0)
        log_ratio = np.log(np.where(part > 0, part, 1)) - np.log(np.where(mean > 0, mean, 1))
        scores.append(float(np.exp((part * log_ratio).sum(1).mean())))
    return float(np.mean(scores))


# -- pairs ------------------------------------------------------------------------------------------------------------


def cosine(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Cosine of each pair of rows, [N]: the CLAP score of words and sounds, the ImageBind score of pictures and sounds (times 1).

    torch's ``cosine_similarity``: norms below 1e-8 count as 1e-8, so that a vector of zeros gives 0.
    """
    x, y = _rows(x), _rows(y)
    norms = np.maximum(np.linalg.norm(x, axis=1), 1e-8) * np.maximum(np.linalg.norm(y, axis=1), 1e-8)
    return np.asarray((x * y).sum(1) / norms)


def spread(vectors: np.ndarray) -> float:
    """How different sounds of one prompt are: the mean of 1 - cosine over all pairs of [N, D]; 0 for equal ones."""
    x = _rows(vectors, 2)
    x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-8)
    count = len(x)
    return float(1 - ((x.sum(0) ** 2).sum() - (x**2).sum()) / (count * (count - 1)))


def twins(vectors: np.ndarray, groups: Sequence[str], threshold: float = 0.999) -> np.ndarray:
    """Which of [N, D] have a near twin (cosine above ``threshold``) among those of *another* group (prompt): bool [N].

    A system that answers different prompts with one sound scores well where only sets are compared.
    """
    x = _rows(vectors)
    x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-8)
    _, member = np.unique(np.asarray(groups), return_inverse=True)
    close = (x @ x.T > threshold) & (member[:, None] != member[None])
    return np.asarray(close.any(1))
