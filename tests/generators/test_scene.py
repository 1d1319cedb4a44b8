"""What words say about when and where becomes layers and curves, and layers become one sound."""

from __future__ import annotations

import doctest

import numpy as np
import pytest

from generators import scene
from generators.scene import CURVE_RATE, Layer, arranged, balance_db, curve_of, glimpsed, number_of, plan, tempo_of, where_of
from media.audio import Audio
from media.mel import MelSpec, log_mel

RATE = 16_000


def tone(hz: float, seconds: float = 5.12, amplitude: float = 0.3) -> Audio:
    time = np.arange(round(seconds * RATE)) / RATE
    return Audio((amplitude * np.sin(2 * np.pi * hz * time)).astype(np.float32)[None], RATE)


def power_at(samples: np.ndarray, hz: float) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)))) ** 2
    near = np.abs(np.fft.rfftfreq(len(samples), 1 / RATE) - hz) < 10
    return float(spectrum[near].sum() / spectrum.sum())


def starts(curve: np.ndarray | None) -> np.ndarray:
    """When a curve rises from below to above one half, in seconds."""
    assert curve is not None
    high = np.concatenate([[False], curve > 0.5])
    return np.flatnonzero(high[1:] & ~high[:-1]) / CURVE_RATE


def split(words: str) -> list[str]:
    return words.split(" while ")


def test_the_examples_hold() -> None:
    result = doctest.testmod(scene)
    assert result.failed == 0 and result.attempted >= 5


# -- words to layers ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("prompt", "layers"),
    [
        ("a dog barks", [("a dog barks", 0, 6)]),
        ("a dog barks while rain falls", [("a dog barks", 0, 5.2), ("rain falls", 0.8, 5.2)]),
        ("rain; thunder", [("rain", 0, 3), ("thunder", 3, 3)]),
        ("first a bell, and then a dog while it rains.", [("a bell", 0, 3), ("a dog", 3, 2.52), ("it rains", 3.48, 2.52)]),
        ("one hammer blow, then silence", [("one hammer blow", 0, 3)]),
        ("now and then a bird sings", [("now and then a bird sings", 0, 6)]),
        ("a while b while c while d while e", [("a while b while c while d while e", 0, 6)]),  # more than can be told apart
    ],
)
def test_a_prompt_is_parted_into_what_is_heard_when(prompt: str, layers: list[tuple[str, float, float]]) -> None:
    planned = plan(prompt, 6.0, split)
    assert [layer.words for layer in planned] == [words for words, _, _ in layers]
    assert np.allclose([(layer.start, layer.seconds) for layer in planned], [when for _, *when in layers])


def test_what_the_words_put_in_time_keeps_its_time_beside_another_sound() -> None:
    clock, rain = plan("a clock ticks at 120 bpm while rain falls", 5.0, split)
    assert (clock.start, clock.seconds) == (0, 5) and (rain.start, rain.seconds) == pytest.approx((0.8, 4.2))
    assert np.diff(starts(clock.curve)) == pytest.approx(0.5, abs=0.011)


def test_instruments_of_one_piece_stay_together_and_music_beside_rain_does_not() -> None:
    def by_over(words: str) -> list[str]:
        return words.split(" over ")

    assert len(plan("tense strings over drums", 5.0, by_over)) == 1
    assert len(plan("a piano tune over rain", 5.0, by_over)) == 2


@pytest.mark.parametrize(
    ("words", "bpm"),
    [
        ("hammering at 100 bpm", 100),
        ("he walks 66 steps per minute", 66),
        ("a tap that drips 50 times a minute", 50),
        ("a slow heartbeat", 54),
        ("she hurries along", 190),
        ("slow, then fast", None),
        ("a fastener", None),
        ("900 bpm", None),
        ("in 1999 a clock ticked", None),
    ],
)
def test_words_say_a_tempo(words: str, bpm: float | None) -> None:
    assert tempo_of(words) == bpm


@pytest.mark.parametrize(
    ("words", "number"),
    [
        ("three loud knocks", 3),
        ("12 beeps", 12),
        ("a single gunshot", 1),
        ("somebody claps four times", 4),
        ("many short beeps", 8),
        ("several bell strokes", None),
        ("one man walking", None),
        ("two dogs barking", None),
        ("99 knocks", None),
    ],
)
def test_words_say_a_number(words: str, number: int | None) -> None:
    assert number_of(words) == (4 if "several" in words else number)


@pytest.mark.parametrize("bpm", [50, 84, 200])
def test_a_tempo_becomes_evenly_spaced_strokes(bpm: int) -> None:
    times = starts(curve_of(f"hammering at {bpm} beats per minute", 5.12))
    assert np.allclose(np.diff(times), 60 / bpm, atol=0.011) and len(times) >= int(5.12 * bpm / 60) - 1


@pytest.mark.parametrize("count", [1, 3, 5, 20])
def test_a_number_becomes_as_many_strokes_and_then_silence(count: int) -> None:
    curve = curve_of(f"{count} knocks" if count > 1 else "one knock", 5.12)
    assert curve is not None and (np.diff(np.concatenate([[0.0], curve])) > 0.1).sum() == count
    assert curve[-5:].max() < 0.2


def test_a_bell_rings_out_and_what_fades_slowly_is_not_struck_slowly() -> None:
    curve = curve_of("one bell stroke", 5.12)
    assert curve is not None and curve[200] > 0.3  # 1.6 s after it was struck
    assert curve_of("a gong, fading slowly", 5.12) is None
    assert len(starts(curve_of("a church bell at 60 bpm", 5.12))) >= 4


def test_one_sound_that_changes_is_not_two() -> None:
    prompt = "an engine idling, then revving up"
    assert [layer.words for layer in plan(prompt, 5.0, differ=lambda parts: False)] == [prompt]
    assert len(plan("one knock, then silence", 5.0, differ=lambda parts: len(parts) > 1)) == 1


def test_words_without_time_or_without_strokes_draw_no_curve() -> None:
    assert curve_of("a dog barks", 5.0) is None
    assert curve_of("a fast river", 5.0) is None
    assert curve_of("a sad piano tune", 5.0) is None


def test_music_keeps_its_body_between_the_beats() -> None:
    curve = curve_of("a banjo tune at 120 bpm with drums", 5.0)
    assert curve is not None and curve.min() >= 0.5
    peaks = np.flatnonzero(curve > 0.98) / CURVE_RATE
    assert np.allclose(np.diff(peaks)[np.diff(peaks) > 0.1], 0.5, atol=0.02)


def test_far_and_near_are_heard_in_words() -> None:
    assert [where_of(w) for w in ("thunder, a long way off", "bells in the distance", "gunshots from afar")] == ["far"] * 3
    assert [where_of(w) for w in ("a dog right beside me", "at very close range, a horn", "a close-up of a cat")] == ["near"] * 3
    assert where_of("far away and then right next to me") == "" == where_of("he closes the door")


# -- layers to a sound --------------------------------------------------------------------------------------------------
def test_one_layer_without_a_place_is_given_back_untouched() -> None:
    made = tone(300)
    assert arranged([Layer("x", 0, 5.12, 5.12)], [made], 5.12) is made


def test_sounds_at_once_are_heard_alike_whatever_their_levels() -> None:
    both = arranged(
        [Layer("x", 0, 5.12, 5.12), Layer("y", 0, 5.12, 5.12)], [tone(300, amplitude=0.9), tone(2000, amplitude=0.01)], 5.12
    )
    samples = both.samples[0]
    assert samples.shape == (81_920,) and np.abs(samples).max() <= 0.95
    assert power_at(samples, 300) == pytest.approx(0.5, abs=0.02) and power_at(samples, 2000) == pytest.approx(0.5, abs=0.02)


def test_each_of_two_sounds_at_once_is_heard_alone_for_a_while_and_both_most_of_the_time() -> None:
    samples = arranged(plan("low while high", 5.12, split), [tone(300), tone(2000)], 5.12).samples[0]
    alone = round(0.8 * RATE)
    assert power_at(samples[:alone], 300) > 0.98 and power_at(samples[-alone:], 2000) > 0.98
    middle = samples[alone + RATE // 2 : -alone - RATE // 2]
    assert power_at(middle, 300) == pytest.approx(power_at(middle, 2000), rel=0.3) and np.abs(np.diff(samples)).max() < 0.3


def test_a_sound_that_enters_later_is_levelled_with_what_is_there_and_not_with_what_is_over() -> None:
    layers = [Layer("x", 0, 2, 5.12), Layer("y", 2, 2, 5.12), Layer("z", 2.5, 1.5, 5.12)]
    made = [tone(500, amplitude=0.9), tone(300, amplitude=0.9), tone(2000, amplitude=0.001)]
    end = arranged(layers, made, 4.0).samples[0][3 * RATE :]
    assert power_at(end, 300) == pytest.approx(0.5, abs=0.1) and power_at(end, 2000) == pytest.approx(0.5, abs=0.1)


def test_sounds_one_after_another_change_in_the_middle() -> None:
    layers = [Layer("x", 0, 3.0, 5.12), Layer("y", 3.0, 3.0, 5.12)]
    samples = arranged(layers, [tone(300), tone(2000)], 6.0).samples[0]
    assert power_at(samples[: 3 * RATE], 300) > 0.98 and power_at(samples[3 * RATE :], 2000) > 0.98
    assert np.abs(np.diff(samples[3 * RATE - 8 : 3 * RATE + 8])).max() < 0.05  # no click


def test_a_late_sound_is_cut_out_where_it_is_loud() -> None:
    late = tone(300)
    late.samples[0, : 3 * RATE] = 0
    samples = arranged([Layer("x", 0, 2.0, 5.12), Layer("y", 2.0, 2.0, 5.12)], [late, tone(2000)], 4.0).samples[0]
    assert (samples[: 2 * RATE] ** 2).mean() > 0.5 * (samples[2 * RATE :] ** 2).mean()


def test_a_silent_layer_stays_silent() -> None:
    quiet = Audio(np.zeros((1, 81_920), np.float32), RATE)
    samples = arranged([Layer("x", 0, 5.12, 5.12), Layer("y", 0, 5.12, 5.12)], [quiet, tone(440)], 5.12).samples[0]
    assert np.isfinite(samples).all() and power_at(samples, 440) > 0.98


def test_far_is_softer_and_darker_and_near_is_loud() -> None:
    noise = Audio(np.random.default_rng(0).standard_normal((1, 32_000)).astype(np.float32) * 0.1, RATE)
    far, near = (arranged([Layer("x", 0, 2, 2, where=where)], [noise], 2.0).samples[0] for where in ("far", "near"))
    assert np.abs(near).max() == pytest.approx(0.95) and np.abs(far).max() == pytest.approx(0.15)
    highs = [np.abs(np.fft.rfft(x))[8000:].sum() / np.abs(np.fft.rfft(x)).sum() for x in (far, near)]
    assert highs[0] < 0.7 * highs[1]


@pytest.mark.parametrize(
    ("words", "left"),
    [
        ("a dog barking, a long way off", "a dog barking"),
        ("thunder rolling, only a step away", "thunder rolling"),
        ("in the distance, a wolf howls", "a wolf howls"),
        ("a far-off train", "a train"),
        ("a close-up of a cat", "a cat"),
        ("an owl close by the barn", "an owl close by the barn"),  # the barn would be left behind
        ("distant", "distant"),
        ("a dog barks near the fence", "a dog barks near the fence"),
    ],
)
def test_far_and_near_are_one_sound_at_two_places(words: str, left: str) -> None:
    assert [layer.words for layer in plan(words, 5.12)] == [left]
    assert plan(words, 5.12)[0].where == where_of(words)


def noise(seed: int, low: float, high: float, amplitude: float) -> np.ndarray:
    """Noise between two frequencies, 2 s."""
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(2 * RATE))
    hz = np.fft.rfftfreq(2 * RATE, 1 / RATE)
    band = np.fft.irfft(spectrum * ((hz > low) & (hz < high)))
    return (amplitude * band / band.std()).astype(np.float32)


def test_of_two_noises_in_one_band_the_weaker_one_is_raised_until_both_are_heard() -> None:
    loud, soft = noise(1, 300, 3000, 0.1), noise(2, 300, 3000, 0.1 * 10 ** (-9 / 20))
    up, down = balance_db([soft, loud], RATE)
    assert up - down == pytest.approx(9, abs=0.5) and up + down == pytest.approx(0, abs=1e-9)


def test_what_lies_under_a_wide_noise_at_the_same_loudness_is_brought_out_and_no_further_than_allowed() -> None:
    wide, narrow = noise(1, 50, 7900, 0.1), noise(2, 3000, 3500, 0.02)
    levels = [20 / np.log(10) * log_mel(x, MelSpec()) for x in (wide, narrow)]
    gains = balance_db([wide, narrow], RATE)
    before, after = glimpsed(levels), glimpsed([level + gain for level, gain in zip(levels, gains, strict=True)])
    assert before[1] < 0.2 and after[1] > 0.8 and abs(after[0] - after[1]) < 0.1
    assert np.abs(balance_db([noise(1, 300, 3000, 0.5), noise(2, 300, 3000, 0.001)], RATE)).max() <= scene.MOST_GAIN_DB


def test_shares_of_two_levels_are_counted_by_hand() -> None:
    x = np.array([[0.0, -10.0], [-20.0, -90.0]])  # three cells of its own
    y = np.array([[-4.0, -12.0], [0.0, -90.0]])  # three of its own
    assert glimpsed([x, y]) == pytest.approx([1 / 3, 1 / 3])
