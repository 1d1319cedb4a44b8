"""One event out of a sound: its attack is found to the millisecond, and nothing but it is left."""

from __future__ import annotations

import numpy as np
import pytest

from media.takes import Take, cut_take

RATE = 16_000


def strokes(*at: float, seconds: float = 3.0, attack: float = 0.002, decay: float = 0.08, floor: float = 1e-4) -> np.ndarray:
    """[1, T] noise bursts that begin at the given seconds."""
    draw, time = np.random.default_rng(0), np.arange(round(seconds * RATE)) / RATE
    level = np.full(len(time), floor)
    for moment in at:
        since = time - moment
        level += 0.5 * np.where(since >= 0, np.minimum(since / attack, 1) * np.exp(-since / decay), 0)
    return (level * draw.standard_normal(len(time)))[None].clip(-1, 1).astype(np.float32)


def begin_in(samples: np.ndarray, take: Take) -> float:
    """Where the take's attack lies in the sound it was cut from, by its samples alone (the gain is undone by correlation)."""
    probe = take.samples[0, take.lead : take.lead + 400]
    windows = np.lib.stride_tricks.sliding_window_view(samples[0], len(probe))
    likeness = windows @ probe / (np.linalg.norm(windows, axis=1) + 1e-9)
    return float(likeness.argmax() / RATE)


@pytest.mark.parametrize("at", [0.0, 0.31, 1.2345])
def test_the_attack_is_found_to_four_milliseconds(at: float) -> None:
    sound = strokes(at)
    for near in (None, at + 0.03, max(at - 0.05, 0.0)):
        take = cut_take(sound, RATE, near)
        assert take is not None
        assert begin_in(sound, take) == pytest.approx(at, abs=0.004)


def test_of_several_events_the_asked_one_is_taken_and_the_next_is_left_out() -> None:
    sound = strokes(0.3, 0.8, 1.5)
    take = cut_take(sound, RATE, 0.8, longest=2.0)
    assert take is not None
    assert begin_in(sound, take) == pytest.approx(0.8, abs=0.004)
    assert take.samples.shape[1] / RATE < 0.71  # it ends before the one at 1.5
    halves = np.abs(take.samples[0, take.lead + RATE // 2 :])
    assert halves.max(initial=0.0) < 0.02


def test_takes_come_out_equally_loud() -> None:
    soft, loud = cut_take(0.05 * strokes(0.5), RATE), cut_take(strokes(0.5), RATE)
    assert soft is not None and loud is not None

    def first(take: Take) -> float:
        return float(np.sqrt(np.mean(take.samples[:, take.lead : take.lead + RATE // 20] ** 2)))

    assert first(soft) == pytest.approx(first(loud), rel=0.1)
    assert np.abs(loud.samples).max() <= 0.951


def test_silence_has_no_event_and_a_steady_sound_no_clear_one() -> None:
    assert cut_take(np.zeros((1, RATE), np.float32), RATE) is None
    steady = (0.1 * np.random.default_rng(1).standard_normal((1, 2 * RATE))).astype(np.float32)
    take = cut_take(steady, RATE, 1.0)
    assert take is not None and take.clear_db < 6
    clear = cut_take(strokes(1.0), RATE, 1.0)
    assert clear is not None and clear.clear_db > 20


def test_a_slow_attack_is_heard_where_it_has_risen_but_not_much_later() -> None:
    quick, slow, late = (cut_take(strokes(0.5, attack=attack, decay=0.5), RATE) for attack in (0.002, 0.02, 0.07))
    assert quick is not None and slow is not None and late is not None
    assert quick.lead / RATE < 0.010
    assert 0.010 < slow.lead / RATE < 0.025
    assert late.lead / RATE <= 0.035
