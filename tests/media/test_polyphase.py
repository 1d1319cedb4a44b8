"""The resampler of metrics: its filter against the figures it states, its sounds against soxr's (its vectors: test_embedders.py)."""

import numpy as np
import pytest

from media.audio import Audio, resample
from media.polyphase import _filters, resample_to_hear


def tone(hz, rate=44_100, seconds=0.5):
    return Audio(np.sin(2 * np.pi * hz * np.arange(int(rate * seconds)) / rate, dtype=np.float64)[None].astype(np.float32), rate)


@pytest.mark.parametrize(("rate", "asked"), [(44_100, 16_000), (48_000, 16_000), (22_050, 16_000), (44_100, 32_000), (16_000, 32_000)])
def test_the_filter_is_as_flat_and_as_deep_as_it_says(rate, asked):
    common = int(np.gcd(rate, asked))
    _, _, filters = _filters(rate // common, asked // common)
    first, taps = filters[0]
    parts = np.linspace(0, 2, 401)  # of the lower Nyquist frequency
    turns = np.outer(parts * min(rate, asked) / rate, np.arange(first, first + len(taps)))
    gain = 20 * np.log10(np.abs(np.exp(-1j * np.pi * turns) @ taps[:, :3]) + 1e-9)
    heard = parts * min(rate, asked) < rate  # what the given sound can hold

    assert np.abs(gain[parts <= 0.89]).max() < 0.01
    assert gain[(parts >= 1.05) & heard].max(initial=-200) < -80


@pytest.mark.parametrize(("rate", "asked"), [(44_100, 16_000), (48_000, 16_000), (22_050, 16_000), (24_000, 32_000), (8_000, 16_000)])
def test_a_tone_stays_where_and_as_loud_as_it_was(rate, asked):
    made = resample_to_hear(tone(1_000, rate), asked)
    wanted = tone(1_000, asked)

    assert made.sample_rate == asked and made.samples.shape == wanted.samples.shape == resample(tone(1_000, rate), asked).samples.shape
    assert np.abs(made.samples - wanted.samples)[:, 200:-200].max() < 2e-4
    assert np.abs(made.samples - resample(tone(1_000, rate), asked).samples)[:, 200:-200].max() < 2e-4


def test_what_does_not_fit_is_not_folded_back():
    assert np.abs(resample_to_hear(tone(9_000), 16_000).samples[:, 200:-200]).max() < 2e-4


def test_short_odd_and_equal_rates():
    assert resample_to_hear(Audio(np.zeros((1, 1), np.float32), 44_100), 16_000).samples.shape == (1, 0)
    assert resample_to_hear(Audio(np.ones((1, 7), np.float32), 8_000), 16_000).samples.shape == (1, 14)
    odd = Audio(np.ones((1, 44_101), np.float32), 44_101)  # nothing in common: soxr's
    assert np.array_equal(resample_to_hear(odd, 16_000).samples, resample(odd, 16_000).samples)
    same = tone(440, 16_000)
    assert resample_to_hear(same, 16_000) is same
    with pytest.raises(ValueError, match="mono"):
        resample_to_hear(Audio(np.zeros((2, 9), np.float32), 44_100), 16_000)


@pytest.mark.parametrize("count", [3, 440, 14_200, 28_223, 44_100, 60_001, 260_001])
def test_every_sample_is_the_filters_sum_over_what_lies_around_it_also_at_both_ends(count):
    given = np.random.default_rng(count).standard_normal(count).astype(np.float32) * 0.1
    made = resample_to_hear(Audio(given[None], 44_100), 16_000).samples[0]
    step, period, filters = _filters(441, 160)
    taps = {
        at + k: (first, column)
        for at, (first, block) in zip(range(0, period, 32), filters, strict=True)
        for k, column in enumerate(block.T)
    }
    around = np.concatenate([np.zeros(1_000), given, np.zeros(1_000)])
    for place in {*range(0, len(made), max(1, len(made) // 50)), len(made) - 1} if len(made) else ():
        first, column = taps[place % period]
        start = 1_000 + place // period * step + first
        assert made[place] == pytest.approx(float(around[start : start + len(column)] @ column), abs=1e-6)
