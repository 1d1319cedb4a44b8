"""The figures of joins: a dip is found, an even bed is unremarkable, and crossfades do what their names say."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.seams import SECONDS, WINDOW_S, WINDOWS, crossfaded, curves, differences, figures, joins, standing_out

RATE = 16_000


def windows(seed: int) -> list[np.ndarray]:
    draw = np.random.default_rng(seed)
    return [0.1 * draw.standard_normal(round(WINDOW_S * RATE)) for _ in range(WINDOWS)]


def test_an_equal_power_fade_of_noise_leaves_no_trace_and_a_linear_one_dips_by_three_decibels() -> None:
    even, dips = (
        np.mean([differences(curves(crossfaded(windows(seed), RATE, fade), RATE)[0], joins()) for seed in range(6)])
        for fade in ("equal power", "linear")
    )
    assert even == pytest.approx(0.0, abs=0.15)
    assert dips == pytest.approx(-2.4, abs=0.4)  # -3 dB in the middle of the overlap, less around it


def test_joins_of_an_even_bed_lie_anywhere_in_its_interior_and_dips_lie_at_its_end() -> None:
    even = [p for seed in range(8) for p in standing_out(curves(crossfaded(windows(seed), RATE, "equal power"), RATE)[0], joins())]
    dips = [p for seed in range(8) for p in standing_out(curves(crossfaded(windows(seed), RATE, "linear"), RATE)[0], joins())]
    assert 0.3 < np.mean(even) < 0.7 and figures(even, [0.0])["within_95"] > 0.8
    assert np.mean(dips) < 0.02 and figures(dips, [0.0])["within_95"] < 0.1


def test_the_pieces_fill_the_whole_bed() -> None:
    assert len(crossfaded(windows(0), RATE, "linear")) == round(SECONDS * RATE)
    assert joins() == pytest.approx([4.48, 8.32, 12.16, 16.0])


def test_a_step_shows_in_level_and_flux_where_it_is() -> None:
    bed = 0.01 * np.random.default_rng(3).standard_normal(4 * RATE)
    bed[2 * RATE :] *= 10  # 20 dB
    level, flux = curves(bed, RATE)
    assert level[41:80].mean() - level[:40].mean() == pytest.approx(20, abs=0.5)
    assert flux.argmax() == 40 and flux[40] == pytest.approx(20, abs=3)
