"""The formulas against closed forms, torchmetrics and SciPy, and what the field's own tools gave for the same arrays."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torchmetrics.image.fid import _compute_fid
from torchmetrics.image.kid import maximum_mean_discrepancy

from evaluation.distances import (
    KAD_SCALE,
    cosine,
    fad_infinity,
    frechet_distance,
    inception_score,
    kernel_distance,
    kl_divergence,
    median_distance,
    sigmoid,
    softmax,
    spread,
    twins,
)

OFFICIAL = np.load(Path(__file__).parents[1] / "data" / "parity" / "metric_formulas.npz")


def gaussian(n, width, seed=0, scale=1.0, shift=0.0):
    return scale * np.random.default_rng(seed).standard_normal((n, width)) + shift


@pytest.mark.parity
@pytest.mark.parametrize("name", ["frechet_audio_distance", "frechet_distance"])
def test_frechet_is_audioldm_evals(name):
    assert frechet_distance(OFFICIAL["made"], OFFICIAL["true"]) == pytest.approx(float(OFFICIAL[name]), rel=1e-6)


@pytest.mark.parity
def test_kernel_distance_is_kadtks():
    made, true = OFFICIAL["made"], OFFICIAL["true"]

    assert median_distance(true) == pytest.approx(float(OFFICIAL["kad_bandwidth"]), rel=1e-6)
    assert kernel_distance(made, true) == pytest.approx(float(OFFICIAL["kad_default"]), rel=1e-6)


@pytest.mark.parity
def test_kl_is_audioldm_evals_of_true_given_made():
    made, true = OFFICIAL["logits_made"], OFFICIAL["logits_true"]

    assert kl_divergence(softmax(true), softmax(made)).mean() == pytest.approx(float(OFFICIAL["kl_softmax"]), rel=1e-6)
    assert kl_divergence(sigmoid(true), sigmoid(made)).mean() == pytest.approx(float(OFFICIAL["kl_sigmoid"]), rel=1e-6)
    assert kl_divergence(softmax(made), softmax(true)).mean() != pytest.approx(float(OFFICIAL["kl_softmax"]), rel=1e-2)


@pytest.mark.parity
def test_inception_score_is_audioldm_evals():
    made = softmax(OFFICIAL["logits_made"])

    assert inception_score(made, splits=10, seed=2020) == pytest.approx(float(OFFICIAL["inception_score_10"]), rel=1e-6)
    assert inception_score(made) == pytest.approx(float(OFFICIAL["inception_score_1"]), rel=1e-6)


@pytest.mark.parametrize(("n", "m", "width"), [(200, 300, 20), (30, 40, 64), (64, 10, 32)])
def test_frechet_is_torchmetrics_and_the_matrix_roots(n, m, width):
    made, true = gaussian(n, width, 1, 1.3, 0.2), gaussian(m, width, 2) @ np.diag(np.linspace(0.3, 1.5, width))
    moments = [torch.from_numpy(f(x)) for x in (made, true) for f in (lambda x: x.mean(0), lambda x: np.cov(x, rowvar=False))]

    ours = frechet_distance(made, true)

    assert ours == pytest.approx(float(_compute_fid(*moments)), rel=1e-6)
    if n > width and m > width:
        s1, s2 = moments[1].numpy(), moments[3].numpy()
        shift = made.mean(0) - true.mean(0)
        assert ours == pytest.approx(shift @ shift + np.trace(s1 + s2 - 2 * sqrtm(s1 @ s2).real), rel=1e-6)


def test_frechet_of_diagonal_gaussians_is_the_closed_form():
    """|m1 - m2|² + sum (s1 - s2)²: the sets are whitened exactly, so that their moments are the chosen ones."""
    raw = gaussian(400, 6)
    raw = raw - raw.mean(0)
    white = raw @ np.linalg.inv(np.linalg.cholesky(np.cov(raw, rowvar=False))).T
    first, second = np.linspace(0.5, 2, 6), np.linspace(1.5, 0.2, 6)

    assert frechet_distance(white * first + 3, white[::-1] * second) == pytest.approx(6 * 9 + ((first - second) ** 2).sum(), rel=1e-9)
    assert frechet_distance(white, white) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(white, white * second) == pytest.approx(frechet_distance(white * second, white), rel=1e-12)


def test_infinity_takes_most_of_the_bias_away():
    made, true = gaussian(1000, 32, 1), gaussian(20_000, 32, 2)

    plain, infinite = frechet_distance(made, true), fad_infinity(made, true)

    assert plain > 0.2
    assert abs(infinite.value) < 0.2 * plain
    assert infinite.r2 > 0.9


def test_kernel_distance_is_torchmetrics_discrepancy():
    made, true = gaussian(50, 8, 1, shift=0.4), gaussian(50, 8, 2)
    gamma = 1 / (2 * 3.0**2 + 1e-8)
    kernels = [
        torch.from_numpy(np.exp(-gamma * ((a[:, None] - b[None]) ** 2).sum(-1))) for a, b in ((made, made), (made, true), (true, true))
    ]

    assert kernel_distance(made, true, 3.0) == pytest.approx(KAD_SCALE * float(maximum_mean_discrepancy(*kernels)), rel=1e-6)


def test_kernel_distance_of_two_points_is_the_closed_form():
    made, true = np.array([[0.0], [1.0]]), np.array([[2.0], [4.0]])
    k = lambda d: np.exp(-(d**2) / (2 * 2.0**2 + 1e-8))  # noqa: E731

    assert kernel_distance(made, true, 2.0) == pytest.approx(100 * (k(1) + k(2) - 2 * (k(2) + k(4) + k(1) + k(3)) / 4), rel=1e-9)


def test_kernel_distance_of_one_distribution_is_zero_on_average():
    values = [kernel_distance(gaussian(40, 16, s), gaussian(40, 16, s + 500)) for s in range(60)]

    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(60)
    assert min(values) < 0


def test_kl_of_coins_is_the_closed_form():
    p, q = np.array([[0.5, 0.5], [1.0, 0.0]]), np.array([[0.25, 0.75], [0.5, 0.5]])

    assert kl_divergence(p, q, epsilon=0) == pytest.approx([0.5 * np.log(2) + 0.5 * np.log(2 / 3), np.log(2)])


def test_inception_score_runs_from_one_to_the_number_of_classes():
    assert inception_score(np.full((10, 4), 0.25)) == pytest.approx(1)
    assert inception_score(np.eye(4)) == pytest.approx(4)
    with pytest.raises(ValueError, match="10 parts need at least as many clips"):
        inception_score(np.eye(4), splits=10)


def test_cosine_is_torchs():
    x, y = gaussian(5, 7, 1), gaussian(5, 7, 2)
    x[0] = 0

    assert cosine(x, y) == pytest.approx(torch.cosine_similarity(torch.from_numpy(x), torch.from_numpy(y)).numpy(), abs=1e-12)


def test_spread_is_the_mean_over_pairs():
    assert spread(np.array([[1.0, 0], [0, 2.0], [3.0, 0]])) == pytest.approx(2 / 3)
    assert spread(np.ones((3, 4))) == pytest.approx(0, abs=1e-12)


def test_one_sound_for_two_prompts_is_a_duplicate_and_two_seeds_of_one_are_not():
    same = np.array([[1.0, 0], [1.0, 0], [0, 1.0], [1.0, 1.0]])

    assert twins(same, ["a", "b", "c", "d"]).tolist() == [True, True, False, False]
    assert not twins(same, ["a", "a", "c", "d"]).any()


@pytest.mark.parametrize(
    ("made", "true"), [(np.zeros((1, 3)), np.zeros((5, 3))), (np.zeros((5, 3)), np.zeros((5, 4))), (np.zeros(5), np.zeros(5))]
)
def test_what_has_no_distance_is_refused(made, true):
    with pytest.raises(ValueError, match=r"or more|one width"):
        frechet_distance(made, true)
