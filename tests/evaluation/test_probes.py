import numpy as np
import pytest

from evaluation import probes
from media.mel import log_mel, loudness_curve

RATE = 16_000
SAMPLES = 81_920  # 5.12 s


def mel(samples: np.ndarray) -> np.ndarray:
    return log_mel(samples.astype(np.float32), probes.SPEC)


def clicks(times, decay=0.02, hz=1500.0, floor=1e-4) -> np.ndarray:
    """Decaying tones at the given seconds, over a noise floor."""
    at = np.arange(SAMPLES) / RATE
    sound = floor * np.random.default_rng(0).standard_normal(SAMPLES)
    for start in times:
        since = np.maximum(at - start, 0)
        sound += 0.5 * np.where(at >= start, np.exp(-since / decay) * np.sin(2 * np.pi * hz * since), 0)
    return sound


@pytest.mark.parametrize("bpm", [40, 55, 72, 97, 120, 150, 180, 240])
def test_tempo_of_a_click_train_is_its_tempo(bpm):
    assert probes.tempo(mel(clicks(np.arange(0.13, 5.1, 60 / bpm)))) == pytest.approx(bpm, rel=0.02)


def test_tempo_of_uneven_steps_is_that_of_the_steps():
    steps = np.arange(0.2, 5, 0.5)
    sound = clicks(steps) + 0.6 * clicks(steps + 0.07)  # heel and toe

    assert probes.tempo(mel(sound)) == pytest.approx(120, rel=0.03)


def test_noise_and_silence_have_no_tempo():
    assert probes.tempo(mel(np.zeros(SAMPLES))) is None
    assert probes.tempo(mel(0.1 * np.random.default_rng(1).standard_normal(SAMPLES))) is None


def test_octave_errors_are_told_from_wrong_tempi():
    assert probes.tempo_verdict(100, 107.9) == "right" and probes.tempo_verdict(100, 92.1) == "right"
    assert probes.tempo_verdict(100, 108.1) == "wrong" and probes.tempo_verdict(100, None) == "wrong"
    assert probes.tempo_verdict(100, 205) == "octave" and probes.tempo_verdict(100, 48) == "octave"


def test_onsets_are_found_where_clicks_are():
    times = [0.3, 0.72, 1.9, 2.05, 3.3, 4.81]

    found = probes.onsets(mel(clicks(times)))

    assert found == pytest.approx(times, abs=0.03)


def test_a_steady_tone_begins_once_and_silence_never():
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(SAMPLES) / RATE)
    late = np.concatenate([np.zeros(RATE), tone[:-RATE]]) + 1e-5 * np.random.default_rng(2).standard_normal(SAMPLES)

    assert probes.onsets(mel(late)) == pytest.approx([1.0], abs=0.03)
    assert len(probes.onsets(mel(np.zeros(SAMPLES)))) == 0


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_events_are_counted_and_echoes_are_not(count):
    starts = 0.4 + 0.7 * np.arange(count)

    assert probes.count_events(mel(clicks(starts) + 0.5 * clicks(starts + 0.12))) == count


def test_onset_rate_is_events_a_second():
    assert probes.onset_rate(mel(clicks(np.arange(0.2, 5, 0.25)))) == pytest.approx(4, rel=0.03)


def test_matching_pairs_each_onset_once():
    match = probes.match_onsets([1.0, 2.0, 3.0], [1.03, 1.035, 2.05, 3.0])

    assert (match.precision, match.recall) == (0.5, pytest.approx(2 / 3))
    assert match.f1 == pytest.approx(2 * 2 / 7)
    assert probes.match_onsets([1.0], []) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("hz", [82.0, 220.0, 440.0, 1000.0, 2500.0])
def test_pitch_of_a_harmonic_tone_is_its_fundamental(hz):
    at = np.arange(RATE) / RATE
    tone = sum(np.sin(2 * np.pi * hz * k * at) / k for k in range(1, 6) if hz * k < 8000)

    assert probes.median_pitch(0.2 * tone) == pytest.approx(hz, rel=0.01)


def test_noise_has_no_pitch():
    assert probes.median_pitch(0.1 * np.random.default_rng(3).standard_normal(2 * RATE)) is None


@pytest.mark.parametrize("octaves_a_second", [-0.5, 0.3, 1.0])
def test_pitch_slope_of_a_glide_is_its_slope(octaves_a_second):
    at = np.arange(2 * RATE) / RATE
    hz = 400 * 2 ** (octaves_a_second * at)

    glide = 0.3 * np.sin(2 * np.pi * np.cumsum(hz) / RATE)

    assert probes.pitch_slope(glide) == pytest.approx(octaves_a_second, rel=0.03)


def test_level_of_a_full_scale_sine_is_minus_three_decibels():
    sine = np.sin(2 * np.pi * 440 * np.arange(SAMPLES) / RATE)

    assert probes.level_db(sine) == pytest.approx(-3.01, abs=0.05)
    assert probes.level_db(0.1 * sine) == pytest.approx(-23.01, abs=0.05)
    assert probes.level_db(np.zeros(SAMPLES)) == -120


def test_level_is_that_of_the_louder_half():
    half = np.sin(2 * np.pi * 440 * np.arange(SAMPLES) / RATE) * (np.arange(SAMPLES) < SAMPLES / 2)

    assert probes.level_db(half) == pytest.approx(-3.01, abs=0.1)


def test_brightness_of_a_tone_is_its_frequency_and_a_low_pass_lowers_that_of_noise():
    tone = np.sin(2 * np.pi * 2000 * np.arange(SAMPLES) / RATE)
    noise = np.random.default_rng(4).standard_normal(SAMPLES)
    dull = np.convolve(noise, np.ones(8) / 8, mode="same")

    assert probes.brightness_hz(tone) == pytest.approx(2000, rel=0.02)
    assert probes.brightness_hz(noise) == pytest.approx(4000, rel=0.03)
    assert probes.brightness_hz(dull) < 0.7 * probes.brightness_hz(noise)


def test_correlation_compares_curves_of_different_lengths():
    slow, fine = np.linspace(0, 1, 16), np.linspace(0, 1, 512)

    assert probes.correlation(slow, fine) == pytest.approx(1.0, abs=0.01)
    assert probes.correlation(slow, 1 - fine) == pytest.approx(-1.0, abs=0.01)
    assert probes.correlation(np.ones(16), fine) == 0.0


def test_a_sound_shaped_by_a_curve_follows_it():
    wanted = np.interp(np.arange(SAMPLES), [0, SAMPLES / 2, SAMPLES - 1], [0.2, 1.0, 0.2])
    noise = np.random.default_rng(5).standard_normal(SAMPLES)
    shaped = 0.1 * noise * 10 ** ((wanted - 1) * 50 / 20)  # the curve is linear in decibels over 50 dB

    assert probes.correlation(wanted, loudness_curve(mel(shaped))) > 0.95
    assert abs(probes.correlation(wanted, loudness_curve(mel(0.1 * noise)))) < 0.3


def test_stft_distance_is_zero_for_equal_sounds_and_known_for_a_gain():
    noise = 0.1 * np.random.default_rng(6).standard_normal(SAMPLES)

    assert probes.stft_distance(noise, noise) == (0.0, 0.0)
    halved = probes.stft_distance(noise, 0.5 * noise)
    assert halved.convergence == pytest.approx(0.5)
    assert halved.log_magnitude == pytest.approx(np.log(2), rel=1e-3)
    assert probes.stft_distance(noise, -noise) == (0.0, 0.0)
