"""Recordings of motion: what is read by value, and what is refused in one line."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from media.imu import Motion, load_motion, loudness_curve, stored_motion
from media.refs import MediaError, MediaStore, MediaTooLarge, MissingMedia, UnreadableMedia

VALUES = np.random.default_rng(0).standard_normal((6, 50)).astype(np.float32)
NAMES = "ax,ay,az,gx,gy,gz\n"


def csv(values: np.ndarray) -> str:
    return "\n".join(",".join(map(repr, row.tolist())) for row in values)


def test_npy_is_read_either_way_up(tmp_path: Path) -> None:
    for name, values in (("wide.npy", VALUES), ("tall.npy", VALUES.T.astype(np.float64))):
        np.save(tmp_path / name, values)
        assert np.array_equal(load_motion(tmp_path / name).samples, VALUES)


@pytest.mark.parametrize("above", ["", NAMES, "\ufeff" + NAMES])
def test_csv_is_read_with_names_above_or_without(above: str, tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text(above + csv(VALUES.T) + "\n\n")
    assert np.array_equal(load_motion(tmp_path / "m.csv").samples, VALUES)


class Canary:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_an_array_of_objects_never_runs(tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", np.array([[Canary(tmp_path / "canary")] * 6] * 3, dtype=object), allow_pickle=True)
    (tmp_path / "plain.npy").write_bytes(pickle.dumps(Canary(tmp_path / "canary")))
    for name in ("m.npy", "plain.npy"):
        with pytest.raises(UnreadableMedia, match="cannot be read as numbers"):
            load_motion(tmp_path / name)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("m.txt", b"1,2", "no motion recording by its name"),
        ("m.csv", b"", "cannot be read as numbers"),
        ("m.csv", b"a,b\n1,x\n", "cannot be read as numbers"),
        ("m.csv", b"1,2,3,4,5,6\n1,2,3\n", "cannot be read as numbers"),
        ("m.csv", b"1,2,3\n4,5,6\n", r"shape \[2, 3\]"),
        ("m.csv", b"1,2,3,4,5,6\n", "1 steps"),
        ("m.csv", b"1,2,3,4,5,6\n1,2,nan,4,5,6\n", "not numbers"),
        ("m.npy", b"\x93NUMPY\x01\x00", "cannot be read as numbers"),
        ("m.npy", b"", "cannot be read as numbers"),
    ],
)
def test_what_is_no_recording_is_refused_in_one_line(name: str, content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UnreadableMedia, match=said) as why:
        load_motion(tmp_path / name)
    assert "\n" not in str(why.value) and why.value.exit_code == 2


def test_a_missing_and_a_huge_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingMedia):
        load_motion(tmp_path / "none.npy")
    with open(tmp_path / "huge.npy", "wb") as file:
        file.truncate(100_000_000)
    with pytest.raises(MediaTooLarge, match="64 MB"):
        load_motion(tmp_path / "huge.npy")
    assert issubclass(MediaTooLarge, MediaError)


def test_a_motion_has_six_channels() -> None:
    with pytest.raises(ValueError, match=r"\[6, T\]"):
        Motion(VALUES[:5])


def test_a_stored_recording_is_the_same_whatever_file_it_came_in(tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", VALUES.T)
    (tmp_path / "m.csv").write_text(NAMES + csv(VALUES.T))
    store = MediaStore(tmp_path / "store")
    ref = store.put_motion(load_motion(tmp_path / "m.npy"))
    assert ref == store.put_motion(load_motion(tmp_path / "m.csv")) == store.ref(ref.id) and ref.kind == "motion"
    assert np.array_equal(stored_motion(store.path(ref)).samples, VALUES)
    store.path(ref).write_bytes(b"cut")
    with pytest.raises(MissingMedia, match="is damaged"):
        stored_motion(store.path(ref))


def test_the_loudness_is_how_strongly_it_moves_and_gravity_is_not_heard() -> None:
    """Still under gravity, then shaken at 2, then at 1, along axes of its own: 0, 1, 1/2."""
    samples = np.zeros((6, 3000), np.float32)
    samples[2] = 9.81
    swing = np.tile([1.0, -1.0], 500)
    samples[0, 1000:2000] = 2 * swing
    samples[1, 2000:] = swing
    samples[3:] = 7.0  # turning has no part in it
    curve = loudness_curve(Motion(samples), points=30)
    assert curve.dtype == np.float32 and curve.shape == (30,)
    assert np.allclose(curve[:10], 0, atol=1e-4) and np.allclose(curve[10:20], 1) and np.allclose(curve[20:], 0.5, atol=1e-4)
    assert len(loudness_curve(Motion(samples[:, 1500:1507]))) == 7


def test_a_recording_that_lies_still_has_no_loudness() -> None:
    with pytest.raises(UnreadableMedia, match="does not move"):
        loudness_curve(Motion(np.full((6, 50), 9.81, np.float32)))
