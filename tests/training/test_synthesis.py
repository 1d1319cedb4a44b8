"""The procedural classes sound like what they are called: measured on clips of several seeds, with plain DSP."""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from training.synthesis import CLASSES, SAMPLE_RATE, low_pass, modal, pink, place, reverb, wander

REFERENCE = json.loads(Path(__file__).with_name("synthesis_reference.json").read_text())
SEEDS = range(4)

Signal = npt.NDArray[np.floating]


def clip(name: str, seed: int, seconds: float = 5.0) -> Signal:
    return CLASSES[name](np.random.default_rng(seed), seconds)


def power(x: Signal) -> tuple[Signal, Signal]:
    """Frequencies in Hz and Hann-windowed power spectrum."""
    return np.fft.rfftfreq(len(x), 1 / SAMPLE_RATE), np.abs(np.fft.rfft(x * np.hanning(len(x)))) ** 2


def peak_hz(x: Signal, low_hz: float = 0, high_hz: float = SAMPLE_RATE / 2) -> float:
    """The strongest frequency between two bounds."""
    f, p = power(x)
    return float(f[np.argmax(np.where((f >= low_hz) & (f <= high_hz), p, -1))])


def two_tones_hz(x: Signal, low_hz: float, high_hz: float, apart_hz: float) -> tuple[float, float]:
    """The strongest frequency between two bounds and the strongest one at least `apart_hz` away from it, sorted."""
    first = peak_hz(x, low_hz, high_hz)
    f, p = power(x)
    second = float(f[np.argmax(np.where((f >= low_hz) & (f <= high_hz) & (np.abs(f - first) >= apart_hz), p, -1))])
    return min(first, second), max(first, second)


def share_between(x: Signal, low_hz: float, high_hz: float) -> float:
    """The share of the energy that lies between two frequencies."""
    f, p = power(x)
    return float(p[(f >= low_hz) & (f < high_hz)].sum() / p.sum())


def loudness(x: Signal, frame_seconds: float = 0.01) -> Signal:
    """RMS of each frame."""
    n = int(frame_seconds * SAMPLE_RATE)
    count = len(x) // n
    return np.sqrt((x[: count * n].reshape(count, n).astype(np.float64) ** 2).mean(axis=1))


def onsets(x: Signal, threshold: float, quiet_seconds: float) -> Signal:
    """Times in seconds at which |x| first exceeds `threshold` x its peak after at least `quiet_seconds` below it."""
    loud = np.flatnonzero(np.abs(x) > threshold * np.abs(x).max())
    first = np.r_[True, np.diff(loud) > quiet_seconds * SAMPLE_RATE]
    return loud[first] / SAMPLE_RATE


def frame_peaks_hz(x: Signal, frame_seconds: float, low_hz: float, high_hz: float) -> Signal:
    """The strongest frequency of each frame that is not 30 dB quieter than the loudest."""
    n = int(frame_seconds * SAMPLE_RATE)
    frames = [x[i : i + n] for i in range(0, len(x) - n + 1, n)]
    loudest = max(float((f**2).sum()) for f in frames)
    return np.array([peak_hz(f, low_hz, high_hz) for f in frames if (f**2).sum() > loudest * 1e-3])


def modulation_hz(x: Signal, low_hz: float, high_hz: float) -> float:
    """The strongest frequency of the loudness of `x` between two bounds."""
    envelope = loudness(x, 0.005)
    envelope = envelope - envelope.mean()
    f = np.fft.rfftfreq(4 * len(envelope), 0.005)
    p = np.abs(np.fft.rfft(envelope * np.hanning(len(envelope)), 4 * len(envelope)))
    return float(f[np.argmax(np.where((f >= low_hz) & (f <= high_hz), p, -1))])


# ------------------------------------------------------------------------------------------------------- every class


def test_there_are_59_classes_in_the_agreed_order() -> None:
    assert list(CLASSES) == list(REFERENCE)
    assert len(CLASSES) == 59


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("seconds", [1.3, 3.0])
def test_clip_is_finite_of_right_length_and_peak(name: str, seconds: float) -> None:
    for seed in range(2):
        x = clip(name, seed, seconds)
        assert x.dtype == np.float32
        assert x.shape == (int(seconds * SAMPLE_RATE),)
        assert np.isfinite(x).all()
        if x.any():  # nothing may happen within a second where events come by chance
            assert 0.49 < np.abs(x).max() < 0.96
            assert abs(x.mean()) < 1e-4


def test_no_class_is_silent_for_five_seconds() -> None:
    assert [name for name in CLASSES if loudness(clip(name, 0), 5.0)[0] < 0.01] == []


@pytest.mark.parametrize("name", CLASSES)
def test_same_seed_same_sound_and_another_seed_another(name: str) -> None:
    assert np.array_equal(clip(name, 7, 2.0), clip(name, 7, 2.0))
    assert not np.array_equal(clip(name, 7, 2.0), clip(name, 8, 2.0))


@pytest.mark.parametrize("name", CLASSES)
def test_seed_0_still_gives_the_sound_that_training_sets_were_made_with(name: str) -> None:
    expected = REFERENCE[name]  # the loudest sample of each eighth of the clip, as it was
    x = clip(name, 0, 3.0)
    np.testing.assert_allclose(x[expected["positions"]], expected["values"], rtol=0, atol=1e-5)


# ------------------------------------------------------------------------------------------------------ single sounds


@pytest.mark.parametrize("seed", range(6))
def test_siren_moves_between_its_bounds(seed: int) -> None:
    f = frame_peaks_hz(clip("siren", seed), 0.05, 300, 1700)
    assert np.quantile(f, 0.02) > 430
    assert np.quantile(f, 0.98) < 1620
    assert np.quantile(f, 0.9) - np.quantile(f, 0.1) > 120


@pytest.mark.parametrize("seed", SEEDS)
def test_car_horn_is_two_tones_a_major_third_apart(seed: int) -> None:
    x = clip("car_horn", seed)
    low, high = two_tones_hz(x, 310, 610, apart_hz=60)
    assert 319 <= low <= 481
    assert high / low == pytest.approx(1.25, abs=0.01)


@pytest.mark.parametrize("seed", SEEDS)
def test_clock_ticks_at_one_exact_period(seed: int) -> None:
    gaps = np.diff(onsets(clip("clock", seed), 0.1, 0.1))
    assert len(gaps) >= 4
    period = gaps[0]
    assert min(abs(period - p) for p in (0.25, 0.5, 1.0)) < 0.003
    np.testing.assert_allclose(gaps, period, atol=0.003)


@pytest.mark.parametrize("seed", SEEDS)
def test_alarm_clock_beeps_for_60_ms_at_one_high_frequency(seed: int) -> None:
    x = clip("alarm_clock", seed)
    assert 1800 <= peak_hz(x) <= 3200
    x = x - np.median(x)  # the level between the beeps
    starts = onsets(x, 0.5, 0.03)
    assert np.median(np.diff(starts)) == pytest.approx(0.11, abs=0.002)
    sounding_seconds = (np.abs(x) > 0.5 * np.abs(x).max()).sum() / SAMPLE_RATE
    assert sounding_seconds / len(starts) == pytest.approx(0.06, abs=0.004)


@pytest.mark.parametrize("seed", SEEDS)
def test_bell_rings_down_to_its_hum_and_prime(seed: int) -> None:
    x = clip("bell", seed)
    level = loudness(x, 1.0)
    assert (np.diff(level) < 0).all()
    assert level[-1] < 0.6 * level[0]
    hum, prime = two_tones_hz(x[-2 * SAMPLE_RATE :], 80, 720, apart_hz=30)
    assert prime / hum == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("seed", SEEDS)
def test_church_bell_decays_between_strokes(seed: int) -> None:
    x = clip("church_bell", seed)
    level = loudness(x, 0.05)
    strokes = np.flatnonzero(level[1:] > 1.4 * level[:-1])
    assert 2 <= len(strokes) <= 6


@pytest.mark.parametrize("seed", SEEDS)
def test_heartbeat_is_almost_all_below_200_hz(seed: int) -> None:
    x = clip("heartbeat", seed)
    assert share_between(x, 0, 200) > 0.99
    assert 2 * 5 / 1.1 - 2 <= len(onsets(x, 0.3, 0.06)) <= 2 * 5 / 0.6 + 2


@pytest.mark.parametrize("seed", SEEDS)
def test_cricket_sings_above_3_khz_in_fast_pulses(seed: int) -> None:
    x = clip("cricket", seed)
    assert share_between(x, 3000, 8000) > 0.98
    assert 3500 <= peak_hz(x) <= 5200
    assert 25 <= modulation_hz(x, 20, 90) <= 46


def test_mosquito_is_higher_than_a_bee() -> None:
    for seed in SEEDS:
        bee, mosquito = clip("bee", seed), clip("mosquito", seed)
        assert 157 <= peak_hz(bee, 100, 350) <= 302
        assert 427 <= peak_hz(mosquito, 300, 800) <= 736
        assert share_between(mosquito, 0, 400) < 0.01


@pytest.mark.parametrize("seed", SEEDS)
def test_dial_tones_pair_a_row_with_a_column(seed: int) -> None:
    x = clip("dial_tones", seed)
    rows, columns = np.array([697, 770, 852, 941]), np.array([1209, 1336, 1477])
    starts = onsets(x, 0.05, 0.03)
    assert len(starts) >= 12
    for start in starts:
        key = x[int(start * SAMPLE_RATE) :][: int(0.115 * SAMPLE_RATE)]
        assert np.abs(rows - peak_hz(key, 600, 1050)).min() < 10
        assert np.abs(columns - peak_hz(key, 1100, 1600)).min() < 10


@pytest.mark.parametrize("seed", range(6))
def test_telephone_rings_and_pauses_on_two_tones(seed: int) -> None:
    x = clip("telephone", seed)
    level = loudness(x, 0.1)
    assert (level > 0.1).any()
    assert (level < 0.1 * level.max()).sum() >= 1
    tones = (440, 480) if share_between(x, 0, 600) > 0.9 else (peak_hz(x, 890, 1310), peak_hz(x, 1310, 1710))
    assert sum(share_between(x, t - 130, t + 130) for t in tones) > 0.6


@pytest.mark.parametrize("seed", SEEDS)
def test_cuckoo_falls_by_a_minor_third(seed: int) -> None:
    x = clip("cuckoo", seed)
    low, high = two_tones_hz(x, 500, 860, apart_hz=60)
    assert high / low == pytest.approx(1.2, abs=0.02)
    call = x[int(onsets(x, 0.3, 0.2)[0] * SAMPLE_RATE) :]
    assert peak_hz(call[:3200]) == pytest.approx(high, rel=0.02)
    assert peak_hz(call[5440:8640]) == pytest.approx(low, rel=0.02)


@pytest.mark.parametrize("seed", SEEDS)
def test_owl_hoots_on_one_low_note(seed: int) -> None:
    x = clip("owl", seed)
    note = peak_hz(x)
    assert 300 <= note <= 480
    assert share_between(x, note - 40, note + 40) > 0.85


@pytest.mark.parametrize("seed", SEEDS)
def test_wolf_howls_between_230_and_590_hz(seed: int) -> None:
    f = frame_peaks_hz(clip("wolf", seed), 0.1, 100, 2000)
    assert np.quantile(f, 0.05) > 225
    assert np.quantile(f, 0.95) < 600


@pytest.mark.parametrize("seed", SEEDS)
def test_rooster_crows_higher_than_a_cow_moos(seed: int) -> None:
    assert share_between(clip("rooster", seed), 700, 4000) > 0.7
    assert share_between(clip("cow", seed), 80, 1200) > 0.8


@pytest.mark.parametrize("seed", SEEDS)
def test_referee_whistle_trills(seed: int) -> None:
    x = clip("referee_whistle", seed)
    assert 2350 <= peak_hz(x) <= 3450
    start = int(onsets(x, 0.3, 0.15)[0] * SAMPLE_RATE)
    assert 22 <= modulation_hz(x[start : start + 3200], 15, 60) <= 48


@pytest.mark.parametrize("seed", SEEDS)
def test_helicopter_chops_9_to_16_times_a_second(seed: int) -> None:
    assert 8.8 <= modulation_hz(clip("helicopter", seed), 5, 17) <= 16.2


@pytest.mark.parametrize("seed", SEEDS)
def test_sonar_pings_on_one_tone(seed: int) -> None:
    x = clip("sonar", seed)
    tone = peak_hz(x)
    assert 800 <= tone <= 1500
    assert share_between(x, tone - 20, tone + 20) > 0.9


@pytest.mark.parametrize("seed", SEEDS)
def test_vacuum_cleaner_is_steady(seed: int) -> None:
    level = loudness(clip("vacuum_cleaner", seed), 0.25)
    assert level.std() < 0.05 * level.mean()


@pytest.mark.parametrize("seed", SEEDS)
def test_ocean_waves_swell_slowly(seed: int) -> None:
    level = loudness(clip("ocean_waves", seed, 18.0), 0.25)
    assert level.max() > 5 * level.min()
    assert 1 / 9.5 <= modulation_hz(clip("ocean_waves", seed, 18.0), 0.05, 1) <= 1 / 3.8


@pytest.mark.parametrize("seed", SEEDS)
def test_laser_falls_in_pitch(seed: int) -> None:
    x = clip("laser", seed)
    start = int(onsets(x, 0.2, 0.05)[0] * SAMPLE_RATE)
    assert peak_hz(x[start : start + 320]) > 1.3 * peak_hz(x[start + 1280 : start + 1920])


@pytest.mark.parametrize("seed", SEEDS)
def test_thunder_and_explosion_rumble_and_die_away(seed: int) -> None:
    for name, cutoff in (("thunder", 1000), ("explosion", 2500)):
        x = clip(name, seed)
        assert share_between(x, 0, cutoff) > 0.8
        level = loudness(x, 0.5)
        assert level[-1] < 0.35 * level.max()


@pytest.mark.parametrize("seed", SEEDS)
def test_geiger_clicks_are_equal_and_irregular(seed: int) -> None:
    times = onsets(clip("geiger", seed), 0.6, 0.002)
    assert 5 * 5 * 0.5 <= len(times) <= 40 * 5 * 1.3
    gaps = np.diff(times)
    assert gaps.std() > 0.5 * gaps.mean()


@pytest.mark.parametrize("seed", SEEDS)
def test_coins_and_bicycle_bell_are_bright(seed: int) -> None:
    assert share_between(clip("coins", seed), 2400, 8000) > 0.95
    assert share_between(clip("bicycle_bell", seed), 1700, 8000) > 0.95


# ---------------------------------------------------------------------------------------------------- building blocks


def test_place_cuts_what_hangs_over_and_ignores_what_starts_after_the_end() -> None:
    canvas = np.zeros(SAMPLE_RATE)
    place(canvas, np.ones(100), 1 - 40 / SAMPLE_RATE, 0.5)
    place(canvas, np.ones(100), 2.0)
    assert canvas.sum() == 20
    assert (canvas[-40:] == 0.5).all()


def slope_db_per_octave(x: Signal, low_hz: float, high_hz: float) -> float:
    f, p = power(x)
    inside = (f > low_hz) & (f < high_hz)
    return float(np.polyfit(np.log2(f[inside]), 10 * np.log10(p[inside]), 1)[0])


@pytest.mark.parametrize(("exponent", "expected"), [(0.0, 0.0), (1.0, -3.01), (2.0, -6.02)])
def test_pink_noise_falls_by_3_db_an_octave_for_each_exponent(exponent: float, expected: float) -> None:
    x = pink(np.random.default_rng(0), 20, exponent)
    assert slope_db_per_octave(x, 50, 6000) == pytest.approx(expected, abs=0.3)


def test_low_pass_is_3_db_down_at_its_corner() -> None:
    impulse = np.zeros(SAMPLE_RATE)
    impulse[0] = 1
    response = np.abs(np.fft.rfft(low_pass(impulse, 1000)))
    assert 20 * np.log10(response[1000]) == pytest.approx(-3.01, abs=0.01)
    assert response[100] == pytest.approx(1, abs=1e-3)


def test_modal_partials_decay_with_their_own_time() -> None:
    x = modal(np.random.default_rng(0), 1000, (1,), (0.25,), 1.0)
    level = loudness(x, 0.05)
    assert np.polyfit(np.arange(20) * 0.05, np.log(level), 1)[0] == pytest.approx(-4, rel=0.02)
    assert peak_hz(x) == pytest.approx(1000, rel=0.04)


def test_wander_stays_inside_its_depth() -> None:
    for depth in (0.2, 1.0):
        control = wander(np.random.default_rng(0), 10, 5, depth)
        assert 1 - depth <= control.min() < 1 - 0.8 * depth
        assert 1 - 0.2 * depth < control.max() <= 1


def test_reverb_adds_a_tail_of_the_given_strength() -> None:
    impulse = np.zeros(SAMPLE_RATE)
    impulse[0] = 1
    tail = reverb(np.random.default_rng(0), impulse, length=0.5, wet=0.25) - impulse
    assert np.sqrt((tail**2).sum()) == pytest.approx(0.25, rel=1e-6)
    assert np.abs(tail[SAMPLE_RATE // 2 :]).max() < 1e-12
