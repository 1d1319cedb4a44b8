import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom, binomtest, permutation_test, ttest_rel

from evaluation.distances import frechet_distance
from evaluation.statistics import (
    Difference,
    Estimate,
    corrected,
    folds_of,
    frechet_warning,
    holm,
    jackknife,
    mean_interval,
    paired_difference,
    set_difference,
    share_interval,
    sign_flip_p,
)

COVERAGE = Path(__file__).parents[2] / "docs" / "measurements" / "coverage.json"


def named(values):
    return {f"p{index:03d}": float(value) for index, value in enumerate(values)}


def test_seeds_of_one_prompt_do_not_narrow_the_interval():
    values = np.random.default_rng(0).normal(0, 1, 30)
    prompts = [f"p{index}" for index in range(30)]

    once = mean_interval(values, prompts)
    twice = mean_interval(np.repeat(values, 2), [name for name in prompts for _ in range(2)])

    assert once == pytest.approx(twice)
    assert once.n == twice.n == 30


def test_interval_of_many_normal_values_is_students():
    values = np.random.default_rng(3).normal(5, 2, 400)

    got = mean_interval(values, [str(index) for index in range(400)], resamples=20_000)

    error = values.std(ddof=1) / 20
    assert (got.low, got.high) == pytest.approx((values.mean() - 1.966 * error, values.mean() + 1.966 * error), abs=0.1 * error)


def test_two_prompts_have_a_mean_and_no_interval():
    got = mean_interval([1.0, 2.0], ["a", "b"])

    assert got.value == 1.5
    assert np.isnan(got.low) and np.isnan(got.high)


@pytest.mark.parametrize(("ones", "count"), [(0, 100), (1, 20), (7, 50), (20, 20)])
def test_the_interval_of_a_share_is_scipys_exact_one(ones, count):
    got = share_interval([1.0] * ones + [0.0] * (count - ones), [str(n) for n in range(count)])
    wanted = binomtest(ones, count).proportion_ci(0.95, "exact")
    assert got == pytest.approx((ones / count, wanted.low, wanted.high, count), abs=1e-12)


@pytest.mark.parametrize(("count", "share"), [(20, 0.02), (50, 0.05), (100, 0.01), (100, 0.3)])
def test_a_rare_failure_is_covered(count, share):
    """Summed over all outcomes, not drawn. The bootstrap of means covers 79 % of the second."""
    ends = [share_interval([1.0] * k + [0.0] * (count - k), [str(n) for n in range(count)])[1:3] for k in range(count + 1)]
    covered = [low <= share <= high for low, high in ends]
    assert 0.95 <= binom.pmf(np.arange(count + 1), count, share)[covered].sum() < 0.999


def test_seeds_of_one_prompt_are_no_further_prompts():
    assert share_interval([1, 1, 0, 0, 0, 0], list("aabbcc"))[1:] == share_interval([1, 0, 0], list("abc"))[1:]


def test_pairing_sees_what_the_spread_of_prompts_hides():
    generator = np.random.default_rng(1)
    prompts = generator.normal(0, 10, 40)
    first, second = prompts + generator.normal(0.5, 0.3, 40), prompts + generator.normal(0, 0.3, 40)

    got = paired_difference(named(first), named(second))

    assert got.estimate.low > 0 and got.p < 0.001
    assert got.estimate.value == pytest.approx((first - second).mean())
    assert got.p == pytest.approx(ttest_rel(first, second).pvalue, abs=1e-3)


def test_unequal_prompts_are_refused():
    with pytest.raises(ValueError, match="3 against 2, 2 of them common"):
        paired_difference(named([1, 2, 3]), named([1, 2]))


def test_sign_flips_are_scipys_exact_ones():
    apart = np.random.default_rng(5).normal(0.6, 1, 10)
    theirs = permutation_test((apart, np.zeros(10)), lambda a, b: (a - b).sum(), permutation_type="samples", n_resamples=np.inf)

    assert sign_flip_p(apart) == pytest.approx(theirs.pvalue)
    assert sign_flip_p(np.zeros(8)) == 1.0
    assert sign_flip_p(np.array([1.0, 1.0])) == 0.5


def test_drawn_flips_come_near_the_exact_ones():
    apart = np.random.default_rng(5).normal(0.25, 1, 60)

    assert sign_flip_p(apart) == pytest.approx(ttest_rel(apart, np.zeros(60)).pvalue, abs=0.01)


def test_holm_is_the_textbooks():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_what_was_certain_alone_may_not_be_among_twenty():
    some = [Difference("a", "b", Estimate(1, 0.1, 2, 9), 0.01)] + [Difference("a", "b", Estimate(0, -1, 1, 9), 0.5)] * 19

    assert Difference("a", "b", Estimate(1, 0.1, 2, 9), 0.01, 0.01).certain
    assert not corrected(some)[0].certain


def test_folds_are_even_and_the_same_for_everybody():
    names = [f"p{index}" for index in range(45)]
    folds = folds_of(names)

    assert folds == folds_of(list(reversed(names)))
    assert set(np.bincount(list(folds.values()))) == {2, 3}


def test_jackknife_of_a_mean_is_the_mean():
    values = named(np.random.default_rng(0).normal(3, 1, 60))
    got = jackknife(lambda prompts: float(np.mean([values[name] for name in prompts])), list(values))

    assert got.corrected.value == pytest.approx(got.plain) == pytest.approx(np.mean(list(values.values())))
    error = np.std(list(values.values()), ddof=1) / np.sqrt(60)
    assert got.corrected.high - got.corrected.value == pytest.approx(2.09 * error, rel=0.4)


def test_jackknife_takes_the_bias_off_a_variance():
    values = named(np.random.default_rng(0).normal(3, 2, 40))
    got = jackknife(lambda prompts: float(np.var([values[name] for name in prompts])), list(values), folds=40)

    assert got.corrected.value == pytest.approx(np.var(list(values.values()), ddof=1), rel=1e-9)


def fad_of(made, true):
    return lambda prompts: frechet_distance(made[[int(p) for p in prompts]], true[[int(p) for p in prompts]])


def test_corrected_frechet_is_near_the_truth_where_the_plain_one_is_not():
    generator = np.random.default_rng(0)
    made, true = generator.standard_normal((300, 16)) + 0.25, generator.standard_normal((300, 16))
    got = jackknife(fad_of(made, true), [str(index) for index in range(300)])

    assert got.plain > 1.25
    assert got.corrected.low < 1.0 < got.corrected.high  # 16 * 0.25²
    assert got.corrected.high < got.plain


def test_set_difference_of_the_same_sounds_is_zero_and_of_worse_ones_certain():
    generator = np.random.default_rng(0)
    true = generator.standard_normal((200, 8))
    good, bad = generator.standard_normal((200, 8)), generator.standard_normal((200, 8)) + 0.6
    names = [str(index) for index in range(200)]
    first, second = jackknife(fad_of(good, true), names), jackknife(fad_of(bad, true), names)

    same, worse = set_difference(first, first), set_difference(second, first)

    assert (same.estimate.value, same.p) == (0.0, 1.0)
    assert worse.estimate.low > 0 and worse.p < 1e-6
    with pytest.raises(ValueError, match="unequal n"):
        set_difference(first, jackknife(fad_of(good, true), names[:100]))


def test_too_few_clips_for_a_frechet_distance_are_said():
    assert "singular" in (frechet_warning(100, 128) or "")
    assert "may be bias" in (frechet_warning(300, 128) or "")
    assert frechet_warning(600, 128) is None


@pytest.mark.skipif(not COVERAGE.exists(), reason="not measured yet")
def test_published_coverage_is_within_the_bar():
    """What the slow test below measured, for every kind of figure that the bar names."""
    held = json.loads(COVERAGE.read_text())

    assert {row["kind"] for row in held["rows"]} >= {"mean", "paired difference", "FAD, jackknife", "FAD, percentile bootstrap"}
    for row in held["rows"]:
        if row["kind"] in ("mean", "paired difference") and row["bar"]:
            assert 0.93 <= row["coverage"] <= 0.97, row


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_intervals_cover_what_they_say():
    """A part of what `python -m tests.evaluation.coverage` measures in full."""
    from tests.evaluation.coverage import fad_coverage, mean_coverage, paired_coverage

    for row in (mean_coverage("normal", 20, 2, 1500), mean_coverage("bernoulli", 100, 2, 1500), paired_coverage("normal", 20, 2, 1500)):
        assert 0.93 <= row["coverage"] <= 0.97, row
    covered = fad_coverage(16, 200, 0.5, 200)
    assert covered["jackknife"]["coverage"] > 0.9
    assert covered["percentile"]["coverage"] < 0.1
