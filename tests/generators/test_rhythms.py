"""Loudness curves of known sounds: kept small, drawn by the seed, cut and joined to any length."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from generators.rhythms import POINTS, RATE, Rhythms
from generators.scene import CURVE_RATE


def bursts(*starts: float) -> np.ndarray:
    """A curve over 5.12 s, 100 points a second: full for a tenth of a second from each start."""
    at = (np.arange(512) + 0.5) / CURVE_RATE
    return np.max([((at >= start) & (at < start + 0.1)).astype(np.float32) for start in starts], axis=0)


KNOWN = Rhythms.of({"dog": [bursts(0.5, 2.0), bursts(1.0, 4.0)], "rain": [np.full(512, 0.6, np.float32)], "nobody": []})


def test_a_file_keeps_every_curve_in_half_a_byte_a_point(tmp_path: Path) -> None:
    KNOWN.write(tmp_path / "curves.safetensors")
    again = Rhythms.read(tmp_path / "curves.safetensors")
    assert (again.levels == KNOWN.levels).all() and again.rows == {"dog": (0, 1), "rain": (2,)}
    assert (tmp_path / "curves.safetensors").stat().st_size < 3 * POINTS / 2 + 300
    whole = again.curve("dog", 5.12, 0)
    assert whole is not None and whole.dtype == np.float32
    assert min(np.abs(whole - wanted).max() for wanted in (bursts(0.5, 2.0), bursts(1.0, 4.0))) <= 0.51  # the edges alone are softened
    rain = again.curve("rain", 5.12, 0)
    assert rain is not None and np.abs(rain - 0.6).max() < 0.5 / 15


def test_the_seed_draws_and_the_same_seed_draws_the_same() -> None:
    drawn = [KNOWN.curve("dog", 5.12, seed) for seed in range(12)]
    assert all(np.array_equal(one, KNOWN.curve("dog", 5.12, seed)) for seed, one in enumerate(drawn))
    assert len({one.tobytes() for one in drawn if one is not None}) == 2
    assert KNOWN.curve("unicorn", 5.12, 0) is None and KNOWN.curve("nobody", 5.12, 0) is None


def test_a_short_sound_holds_an_event_and_a_long_one_goes_on() -> None:
    for seed in range(4):
        short = KNOWN.curve("dog", 0.5, seed)
        assert short is not None and short.shape == (50,) and short.max() > 0.9
        long = KNOWN.curve("dog", 12.0, seed)
        assert long is not None and long.shape == (1200,) and all((long[at : at + 512] > 0.9).any() for at in (0, 512, 688))
        assert np.abs(np.diff(KNOWN.curve("rain", 12.0, seed))).max() < 1e-6  # no dip where curves are joined
    tiny = KNOWN.curve("dog", 0.01, 0)
    assert tiny is not None and tiny.shape == (1,) and 0 <= tiny[0] <= 1 and RATE * 2 == CURVE_RATE
