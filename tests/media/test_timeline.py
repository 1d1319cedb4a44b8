"""Watching: cuts to the frame, blows and flashes where the maker's schedule has them, and nothing for a bystander."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from media.refs import MediaTooLarge, MissingMedia, UnreadableMedia
from media.timeline import RATE, Struck, Timeline, blows, watch
from tests import makers, toys
from tests.toys import Shot

STORY = [Shot("bounce", 2.2, 21), Shot("flash", 1.6, 22), Shot("step", 2.2, 23), Shot("still", 0.6, 24), Shot("still", 0.6, 25)]


def scored(toy: toys.Toy, seen: Timeline, frame: float) -> tuple[int, int, int, list[float]]:
    """(found, wanted, false, how far off) of the onsets, one to one, within a frame or 20 ms."""
    left, off = [onset.time for onset in seen.onsets], []
    for wanted in toy.onsets:
        near = [time for time in left if abs(time - wanted) <= max(frame, 0.02) + 1e-3]
        if near:
            best = min(near, key=lambda time: abs(time - wanted))
            left.remove(best)
            off.append(best - wanted)
    return len(off), len(toy.onsets), len(left), off


def told(folder: Path, clips: Sequence[tuple[str, Fraction, int]]) -> None:
    """The story in containers, rates and numbers of B-frames: cuts to the frame, every onset, at most 5 % false ones."""
    found = wanted = false = 0
    off: list[float] = []
    for suffix, fps, bframes in clips:
        toy = toys.toy(folder / f"v{suffix}", STORY, fps, bframes=bframes)
        seen = watch(toy.path)
        assert seen.cuts == pytest.approx(toy.cuts, abs=0.0011), suffix  # Matroska's times are milliseconds
        assert seen.seconds == pytest.approx(toy.seconds, abs=0.002)
        assert seen.fps == pytest.approx(float(fps), rel=0.01)
        scores = scored(toy, seen, float(1 / fps))
        found, wanted, false, off = found + scores[0], wanted + scores[1], false + scores[2], off + scores[3]
    assert found == wanted and false <= 0.05 * (found + false), (found, wanted, false)
    assert np.abs(off).max() <= 0.04 and np.median(np.abs(off)) < 0.015


def test_cuts_and_onsets_of_a_story(tmp_path: Path) -> None:
    told(tmp_path, [(".mp4", toys.NTSC_FILM, 2)])


@pytest.mark.slow
def test_cuts_and_onsets_of_a_story_in_all_containers_at_all_rates(tmp_path: Path) -> None:
    told(tmp_path, [(".mkv", Fraction(25), 3), (".webm", toys.NTSC, 0), (".mov", Fraction(60), 0), (".mp4", Fraction(60), 2)])


@pytest.mark.slow
def test_a_variable_rate_changes_nothing(tmp_path: Path) -> None:
    times = toys.variable_times(6.0, seed=3)
    toy = toys.toy(tmp_path / "v.mp4", STORY[:3], times=times)
    seen = watch(toy.path)
    assert seen.cuts == pytest.approx(toy.cuts, abs=1e-3)
    found, wanted, false, _ = scored(toy, seen, 0.04)
    assert (found, false) == (wanted, 0), (found, wanted, false)


def test_a_bystander_alone_is_no_event_but_moves(tmp_path: Path) -> None:
    events = []
    for seed in (31, 32):
        seen = watch(toys.toy(tmp_path / "v.mp4", [Shot("still", 2, seed)], 25).path)
        events += seen.onsets
        assert seen.cuts == ()
    assert len(events) <= 1
    still = watch(toys.toy(tmp_path / "v.mp4", [Shot("still", 2, 31)], 25, bystander=False).path)
    assert still.motion.max() < 0.05 < seen.motion.max() and still.onsets == ()


def test_blows_stand_out_of_what_goes_on_around_them() -> None:
    """Ten blows among small losses all count, one in four pictures (drumming); where all else loses a third as much none does."""

    def losing(usual: float) -> list[Struck]:
        return [
            Struck(k / 25, 0.04, loss, (0.0, 0.04), (loss, 0.04), [(0.0, 0.04)] * 2)
            for k, loss in enumerate([usual, usual, 70.0, usual] * 10)
        ]

    assert [onset.time for onset in blows(losing(8.0))] == pytest.approx([(4 * k + 2) / 25 for k in range(10)])
    assert blows(losing(25.0)) == []


def test_motion_is_where_things_move_and_does_not_ask_for_the_rate(tmp_path: Path) -> None:
    """Blocks that hop: the curve is high within the 0.35 s before a landing and low after it; 25 and 60 frames give the same curve."""
    curves = []
    for fps in (25, 60):
        toy = toys.toy(tmp_path / "v.mp4", [Shot("step", 3, 5)], fps, bystander=False)
        seen = watch(toy.path)
        assert (len(seen.motion), seen.rate, seen.motion.dtype) == (75, RATE, np.float32)
        assert seen.motion.min() >= 0 and seen.motion.max() == 1
        at = np.arange(75) / RATE
        flying = np.any([(at > land - 0.3) & (at < land - 0.05) for land in toy.onsets], axis=0)
        resting = np.all([(at < land - 0.45) | (at > land + 0.12) for land in toy.onsets], axis=0)
        assert seen.motion[flying].min() > 0.3 and seen.motion[resting].max() < 0.05
        curves.append(seen.motion)
    assert np.corrcoef(curves)[0, 1] > 0.95


def test_a_flash_over_the_whole_picture_is_no_cut(tmp_path: Path) -> None:
    ground = np.random.default_rng(0).integers(40, 120, (48, 64, 3)).astype(np.uint8)
    bright = np.full_like(ground, 235)
    path = makers.clip(tmp_path / "v.mp4", [(ground, 1), (bright, 0.08), (ground, 1)], fps=25)
    seen = watch(path)
    assert seen.cuts == () and [onset.time for onset in seen.onsets] == pytest.approx([1.0], abs=0.02)


def test_a_turned_video_and_one_of_a_fifth_of_a_second(tmp_path: Path) -> None:
    toy = toys.toy(tmp_path / "v.mp4", [Shot("flash", 1.2, 22), Shot("still", 0.4, 24)], 25)
    plain, turned = watch(toy.path), watch(makers.turned(tmp_path / "t.mp4", toy.path))
    assert (turned.cuts, turned.onsets) == (plain.cuts, plain.onsets) and np.array_equal(turned.motion, plain.motion)
    short = watch(toys.toy(tmp_path / "s.mp4", [Shot("still", 0.2)], 25).path)
    assert (short.seconds, short.cuts, short.onsets, short.scenes, len(short.motion)) == (0.2, (), (), ((0.0, 0.2),), 5)
    one = watch(toys.toy(tmp_path / "o.mp4", [Shot("still", 0.04)], 25).path)
    assert one.seconds == pytest.approx(0.04) and len(one.motion) == 1


def test_progress_is_reported_and_watching_can_be_stopped(tmp_path: Path) -> None:
    path = toys.toy(tmp_path / "v.mp4", [Shot("still", 3)], 25, (64, 48)).path
    told: list[float] = []
    watch(path, told.append)
    assert told == sorted(told) and told[-1] == 1.0 and len(told) >= 3
    with pytest.raises(InterruptedError):
        watch(path, cancelled=lambda: True)


def refused(path: Path, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words) as caught:
        watch(path)
    assert "\n" not in str(caught.value) and path.name in str(caught.value)


def test_bad_videos_are_refused_in_one_line(tmp_path: Path) -> None:
    sound = makers.tone(440, 0.3, 48_000)
    refused(makers.sound_only(tmp_path / "a.mp4", sound), UnreadableMedia, "no video")
    refused(tmp_path / "none.mp4", MissingMedia, "no file")
    playlist = tmp_path / "list.mp4"
    playlist.write_text(f"#EXTM3U\n#EXTINF:1,\nfile://{tmp_path}/a.mp4\n")
    refused(playlist, UnreadableMedia, "playlist")
    refused(makers.raw_clip(tmp_path / "8k.mp4", "libx264", (7680, 4320), (0,)), MediaTooLarge, "7680 x 4320")
    refused(makers.raw_clip(tmp_path / "long.mp4", "libx264", times=(0, 36_000 * 10)), MediaTooLarge, "36000 s")


def test_a_damaged_end_is_refused(tmp_path: Path) -> None:
    """Bytes that are missing at the end (a broken copy), and bytes that are noise."""
    for suffix in (".mp4", ".mkv", ".webm"):
        whole = toys.toy(tmp_path / f"w{suffix}", [Shot("bounce", 3)], 25, sound=makers.tone(440, 3, 48_000)).path
        data = whole.read_bytes()
        if suffix == ".mp4":  # its index first, as the web wants it: else nothing could be read at all
            data = fast(whole, tmp_path / "f.mp4")
        cut = tmp_path / f"cut{suffix}"
        cut.write_bytes(data[: int(0.6 * len(data))])
        refused(cut, UnreadableMedia, "damaged|ends")


def fast(source: Path, target: Path) -> bytes:
    import av

    with av.open(str(source)) as old, av.open(str(target), "w", options={"movflags": "+faststart"}) as new:
        copies = [new.add_stream_from_template(stream) for stream in old.streams]
        for packet in old.demux():
            if packet.dts is not None:
                packet.stream = copies[packet.stream_index]
                new.mux(packet)
    return target.read_bytes()


def shots(seconds: Sequence[float]) -> list[Shot]:
    return [Shot("still", length, 40 + k) for k, length in enumerate(seconds)]


def test_short_scenes_are_found_one_by_one(tmp_path: Path) -> None:
    toy = toys.toy(tmp_path / "v.mp4", shots([0.6, 0.4, 0.5, 0.8, 0.4, 0.6]), 25)
    assert watch(toy.path).cuts == pytest.approx(toy.cuts, abs=1e-3)


def test_a_cut_out_of_a_fast_pan_is_found_and_the_pan_is_none(tmp_path: Path) -> None:
    """A landscape that runs through ever faster, also with every picture shown twice, then another one that stands still."""
    rng = np.random.default_rng(3)
    wide, after = (rng.uniform(20, 235, (2, count)).repeat(24, 0).repeat(24, 1).astype(np.uint8) for count in (6, 3))
    wide, after = np.dstack([wide] * 3), np.dstack([after[:, :64]] * 3)
    at = [round(0.12 * k * k) for k in range(25)]
    for twice in (1, 2):
        run = [(wide[:, x : x + 64], 0.04 * twice) for x in at]
        seen = watch(makers.clip(tmp_path / "v.mp4", [*run, (after, 0.6)], fps=25))
        assert seen.cuts == pytest.approx([len(at) * twice / 25], abs=1e-3)
