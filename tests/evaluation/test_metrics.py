import numpy as np
import pytest
from scipy.stats import binom

from evaluation.metrics import bootstrap_interval


def test_interval_of_hits_is_the_binomial_one():
    low, high = bootstrap_interval([1.0] * 60 + [0.0] * 40, resamples=20_000)

    assert low == pytest.approx(binom.ppf(0.025, 100, 0.6) / 100, abs=0.011)
    assert high == pytest.approx(binom.ppf(0.975, 100, 0.6) / 100, abs=0.011)


def test_interval_of_measurements_is_two_standard_errors_wide():
    values = np.random.default_rng(3).normal(5.0, 2.0, 400)

    low, high = bootstrap_interval(values, resamples=20_000)

    error = values.std() / np.sqrt(len(values))
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.1 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.1 * error)


def test_asking_twice_does_not_narrow_the_interval():
    hits = (np.random.default_rng(0).random(50) < 0.4).astype(float)

    once = bootstrap_interval(hits)
    twice = bootstrap_interval(np.repeat(hits, 2), groups=np.repeat(np.arange(50), 2))
    as_if_new = bootstrap_interval(np.repeat(hits, 2))

    assert twice == pytest.approx(once)
    assert as_if_new[1] - as_if_new[0] < 0.8 * (once[1] - once[0])


def test_same_values_same_interval():
    values = [1, 0, 0, 1, 1, 0, 1]

    assert bootstrap_interval(values) == bootstrap_interval(values)
    assert bootstrap_interval([1, 1, 1]) == (1.0, 1.0)


@pytest.mark.parametrize(("values", "groups"), [([], None), ([[1.0]], None), ([1.0, 0.0], [0])])
def test_values_without_an_interval_are_refused(values, groups):
    with pytest.raises(ValueError, match=r"at least one value|one group per value"):
        bootstrap_interval(values, groups)
