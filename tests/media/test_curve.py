"""Curves from people's files, and the loudness curve of a sound."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from media.curve import MAX_BYTES, read_curve, read_table
from media.mel import MelSpec, log_mel, loudness_curve
from media.refs import MediaError, MediaTooLarge, UnreadableMedia


def test_npy_and_csv_say_the_same(tmp_path: Path) -> None:
    values = np.array([0.0, 0.5, 1.0, 0.25], np.float32)
    np.save(tmp_path / "a.npy", values)
    (tmp_path / "a.csv").write_text("loudness\n0\n0.5\n1\n0.25\n")
    (tmp_path / "b.csv").write_text("0\n0.5\n1\n0.25\n")
    for name in ("a.npy", "a.csv", "b.csv"):
        assert np.array_equal(read_curve(tmp_path / name), values)


def test_six_channels_of_motion_are_read_row_by_row(tmp_path: Path) -> None:
    (tmp_path / "imu.csv").write_text("1,2,3,4,5,6\n7,8,9,10,11,12\n")
    assert np.array_equal(read_table(tmp_path / "imu.csv", 6), np.arange(1, 13, dtype=np.float32).reshape(2, 6))


@pytest.mark.parametrize("text", ["", "0.5\n", "a\nb\n", "0\n2\n", "0\nnan\n", "0,1\n1,0\n", "0\n-0.1\n"])
def test_what_is_no_curve_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(UnreadableMedia, match=r"x\.csv") as caught:
        read_curve(tmp_path / "x.csv")
    assert "\n" not in str(caught.value)


def test_a_pickle_inside_npy_never_runs(tmp_path: Path) -> None:
    class Canary:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "ran",))

    np.save(tmp_path / "x.npy", np.array([Canary()], object), allow_pickle=True)
    with pytest.raises(MediaError):
        read_curve(tmp_path / "x.npy")
    assert not (tmp_path / "ran").exists()


def test_a_huge_file_is_refused_unread(tmp_path: Path) -> None:
    with open(tmp_path / "x.csv", "wb") as handle:
        handle.truncate(MAX_BYTES + 1)
    with pytest.raises(MediaTooLarge):
        read_curve(tmp_path / "x.csv")


def test_the_loudness_curve_falls_as_many_decibels_as_the_sound() -> None:
    t = np.arange(32_000) / 16_000
    gain_db = np.where(t < 1, 0.0, -25.0)
    sound = 0.5 * np.sin(2 * np.pi * 1000 * t) * 10 ** (gain_db / 20)
    curve = loudness_curve(log_mel(sound.astype(np.float32), MelSpec()))
    assert curve[20:80] - curve[120:180] == pytest.approx(0.5, abs=0.01)


def test_silence_has_a_curve_of_zeros() -> None:
    assert not loudness_curve(log_mel(np.zeros(16_000, np.float32), MelSpec())).any()
