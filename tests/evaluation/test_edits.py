"""The figures of edits, by sounds whose levels are known."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.edits import NEAR, Seam, rank_correlation, seam_at, told_seams


def test_a_step_of_six_decibels_is_found_at_its_seam() -> None:
    x = np.sin(np.arange(16_000))
    x[8_000:] *= 0.5
    seam = seam_at(x, 8_000)
    assert seam.before == pytest.approx(-3.01, abs=0.1) and seam.step == pytest.approx(-6.02, abs=0.1)
    assert abs(seam_at(x, 8_000 - NEAR).step) < 0.1


def test_seams_beyond_a_decibel_are_named_with_their_levels() -> None:
    told = told_seams([Seam(-20, -20.9), Seam(-95.04, -93), Seam(-30, -30)])
    assert (told["within_1_db"], told["n"], told["largest_db"], told["beyond"]) == (2, 3, 2.04, [[-95.0, -93]])


def test_ranks_correlate_as_spearman_says() -> None:
    assert rank_correlation([0, 1, 2, 3], [0.1, 0.2, 0.2, 0.9]) == pytest.approx(0.948683, abs=1e-6)  # scipy.stats.spearmanr
    assert rank_correlation([0, 1], [3, 3]) == 0.0
