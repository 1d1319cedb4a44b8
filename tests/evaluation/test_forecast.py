"""What is foretold follows what was measured, at the pace of the day."""

from pathlib import Path

import pytest

from configs.schema import presets
from evaluation.forecast import (
    IDLE,
    MOST,
    REMEMBERED,
    START,
    Cost,
    forecast,
    keep_costs,
    keep_error,
    reach,
    read_costs,
    read_errors,
    setting_of,
    yardstick,
)
from evaluation.workers import Cell, Recipe
from generators.base import GenerationRequest

RECIPE = Recipe(presets()["nano"], Path())
CELLS = [Cell(f"k{n}", f"p{n}", "nano", 0, GenerationRequest(prompt="rain", seconds=5.0, steps=8), "f") for n in range(10)]


def foretold(known, pace=None):
    return forecast(CELLS, {"nano": RECIPE}, 1, {"nano": 8}, {"nano": 20.0}, known, pace)


def cost(steps=8, rtf=0.2, seconds=5.0, **more):
    return Cost(setting=setting_of(RECIPE, CELLS[0], 1, 8), steps=steps, rtf=rtf, seconds=seconds, **more)


def test_what_was_measured_is_foretold():
    ahead = foretold([cost(peak_mb=700.0)])
    assert (ahead.seconds, ahead.memory_mb, ahead.basis) == (pytest.approx(10 * 5 * 0.2), 700.0, "measured here")
    assert ahead.wall(2) == pytest.approx(START + 5)


def test_a_machine_that_is_half_as_fast_takes_twice_as_long():
    assert foretold([cost(yardstick=0.2)], pace=0.4).seconds == pytest.approx(20)
    assert foretold([cost(yardstick=0.2)], pace=0.1).seconds == pytest.approx(5)
    assert foretold([cost(yardstick=0.2)], pace=100.0).seconds == pytest.approx(10 * MOST)  # nobody believes that
    assert foretold([cost()], pace=0.4).seconds == pytest.approx(10)  # measured before there was a yardstick


def test_other_steps_are_scaled_and_said_to_be():
    ahead = foretold([cost(steps=25, rtf=0.54)])
    assert ahead.seconds == pytest.approx(10 * 5 * 0.2)
    assert ahead.basis.startswith("scaled")
    assert foretold([]).basis.startswith("guessed")


def test_a_trial_with_short_sounds_says_little_of_long_ones():
    """A model that always makes a whole window took as long for one second as it will for five."""
    trial = cost(seconds=1.0, rtf=1.0)
    ahead = foretold([trial])
    assert 10 * 1.0 < ahead.seconds < 10 * 5.0 and ahead.basis.startswith("scaled")
    known = foretold([trial, cost(steps=25, seconds=5.12, rtf=0.54)])  # its length counts for more than its steps
    assert known.seconds == pytest.approx(10 * 5 * 0.2) and known.basis.startswith("scaled")
    assert foretold([trial, cost(seconds=5.12)]).basis == "measured here"


def test_costs_are_kept_with_their_pace(tmp_path):
    keep_costs(tmp_path, [cost(yardstick=0.3), cost(steps=25, rtf=0.6)])
    keep_costs(tmp_path, [cost(rtf=0.1, yardstick=0.15)])
    assert {(c.steps, c.rtf, c.yardstick) for c in read_costs(tmp_path)} == {(8, 0.1, 0.15), (25, 0.6, None)}


def test_the_yardstick_is_seven_times_the_median_of_its_pieces(monkeypatch):
    ticks = iter(range(100))
    monkeypatch.setattr("evaluation.forecast.time.perf_counter", lambda: 0.01 * next(ticks))
    assert yardstick() == pytest.approx(0.07)


def test_a_guess_knows_how_busy_the_machine_is():
    assert foretold([], pace=3 * IDLE).seconds == pytest.approx(3 * foretold([]).seconds)


def test_a_forecast_says_how_far_earlier_ones_were_off(tmp_path):
    for took in (90.0, 120.0, 150.0):
        keep_error(tmp_path, "measured here", 100.0, took)
    assert reach(10.0, read_errors(tmp_path, "measured here")) is None  # three say nothing
    keep_error(tmp_path, "guessed from the size of the weights", 100.0, 900.0)
    keep_error(tmp_path, "measured here", 100.0, 80.0)
    assert reach(10.0, read_errors(tmp_path, "measured here")) == pytest.approx((8.0, 15.0))
    for _ in range(REMEMBERED):
        keep_error(tmp_path, "measured here", 100.0, 100.0)
    assert read_errors(tmp_path, "measured here") == [1.0] * REMEMBERED
    assert read_errors(tmp_path, "guessed from the size of the weights") == [9.0]
