"""What a finished sound is told about itself, against closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from media.audio import Audio
from media.guard import inspect_audio
from tests import makers


def test_levels_of_a_sine() -> None:
    report = inspect_audio(makers.tone(440, 1, 16_000, level=0.5), seconds=1.0)
    assert report.peak_db == pytest.approx(20 * np.log10(0.5), abs=0.01)
    assert report.rms_db == pytest.approx(20 * np.log10(0.5 / np.sqrt(2)), abs=0.01)
    assert not (report.silent or report.nan or report.wrong_length or report.clipped_share or report.fatal)


def test_silence_is_reported_and_not_fatal() -> None:
    report = inspect_audio(Audio(np.zeros((1, 16_000), np.float32), 16_000), 1.0)
    assert report.silent and report.fatal == "" and report.peak_db == report.rms_db == -120


def test_silence_begins_below_minus_60() -> None:
    for rms_db, silent in [(-61, True), (-59, False)]:
        level = 10 ** (rms_db / 20) * np.sqrt(2)
        assert inspect_audio(makers.tone(440, 1, level=level), None).silent is silent


def test_the_clipped_share_of_an_overdriven_sine() -> None:
    """|2 sin x| >= 1 for two thirds of the circle: arcsin(1/2) is a third of the way up."""
    loud = makers.tone(441.7, 1, 48_000, level=2.0)
    report = inspect_audio(Audio(loud.samples.clip(-1, 1), 48_000), 1.0)
    assert report.clipped_share == pytest.approx(2 / 3, abs=0.002)
    assert report.peak_db == 0 and report.fatal == ""


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_value_that_is_no_number_is_fatal(bad: float) -> None:
    audio = makers.tone(440, 1, level=0.5)
    samples = audio.samples.copy()
    samples[0, 7] = bad
    report = inspect_audio(Audio(samples, 16_000), 1.0)
    assert report.nan and "not numbers" in report.fatal
    assert report.peak_db == pytest.approx(-6.02, abs=0.01)


def test_a_wrong_length_is_fatal_and_one_sample_is_not() -> None:
    for missing, wrong in [(0, False), (1, False), (2, True), (8000, True)]:
        report = inspect_audio(Audio(makers.tone().samples[:, missing:], 16_000), 1.0)
        assert report.wrong_length is wrong and bool(report.fatal) is wrong
    assert not inspect_audio(makers.tone(seconds=0.3), None).wrong_length


def test_no_samples_are_fatal() -> None:
    assert "no samples" in inspect_audio(Audio(np.zeros((1, 0), np.float32), 16_000), None).fatal
