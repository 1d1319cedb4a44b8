"""What is left of a picture's labels for a sound."""

from __future__ import annotations

import numpy as np
import pytest

from encoders.sights import LEAST_HEARD, SHARPER, audible, sights, silent

CAT, DOG, QUIET = sights()["cat"][0], sights()["dog"][0], silent()[0]


def seen(**shares: float) -> np.ndarray:
    p = np.zeros(1000, np.float32)
    p[[CAT, DOG, QUIET]] = shares.get("cat", 0), shares.get("dog", 0), shares.get("quiet", 0)
    return p


def test_what_makes_no_sound_is_left_out_and_what_stands_out_stands_out_more() -> None:
    p = seen(cat=0.2, dog=0.05, quiet=0.75)
    left = audible(p)
    assert left[QUIET] == 0 and left.sum() == pytest.approx(1) and left.dtype == np.float32
    assert left[CAT] / left[DOG] == pytest.approx(4**SHARPER) and p[QUIET] == 0.75


def test_nothing_is_made_of_little() -> None:
    assert audible(seen(cat=LEAST_HEARD / 3, quiet=0.95)).sum() == pytest.approx(1 / 3)
    assert audible(seen(quiet=1)).sum() == 0
