"""Video: the right colour at the right time, upright, with its sound, out of every container."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from media.audio import read_audio
from media.refs import UnreadableMedia
from media.video import SEEK_AHEAD, frames_at, probe, sample_frames
from tests import makers

SUFFIXES = [".mp4", ".mov", ".mkv", ".webm"]


def colour(frame: np.ndarray) -> str:
    """The name of the frame's main colour, by its middle pixel; the others must be dark."""
    middle = frame[frame.shape[0] // 2, frame.shape[1] // 2].astype(int)
    assert middle.max() > 220 and np.sort(middle)[1] < 40, middle
    return ("red", "green", "blue")[int(middle.argmax())]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_each_time_shows_its_colour(tmp_path: Path, suffix: str) -> None:
    path = makers.clip(tmp_path / f"a{suffix}", [(makers.RED, 1), (makers.GREEN, 0.5), (makers.BLUE, 1.5)])
    info = probe(path)
    assert (info.width, info.height, info.has_audio) == (64, 48, False)
    assert info.fps == pytest.approx(10)
    assert info.seconds == pytest.approx(3, abs=0.02)
    # The order asked is the order answered; a frame is shown until the next begins; beyond the end stays the last.
    times = [2.9, 0.0, 0.95, 1.0, 1.45, 1.5, 0.5, 99.0]
    assert [colour(f) for f in frames_at(path, times)] == ["blue", "red", "red", "green", "green", "blue", "red", "blue"]
    assert [colour(f) for f in sample_frames(path, 6)] == ["red", "red", "green", "blue", "blue", "blue"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_far_times_are_reached_by_jumps_and_are_the_same_frames(tmp_path: Path, suffix: str) -> None:
    colours = [makers.RED, makers.GREEN, makers.BLUE]
    path = makers.clip(tmp_path / f"a{suffix}", [(colours[k % 3], 1) for k in range(30)], gop=25)
    times = [27.5, 0.5, 4.5, 10.95, 11.0, 19.5, 29.95]
    assert max(b - a for a, b in zip(sorted(times), sorted(times)[1:], strict=False)) > SEEK_AHEAD
    assert [colour(f) for f in frames_at(path, times)] == [("red", "green", "blue")[int(t) % 3] for t in times]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_sound_of_a_video_keeps_its_pitch_and_length(tmp_path: Path, suffix: str) -> None:
    sound = makers.tone(440, 2, 48_000, channels=2)
    path = makers.clip(tmp_path / f"a{suffix}", [(makers.RED, 2)], sound=sound)
    assert probe(path).has_audio
    audio = read_audio(path)
    assert (audio.channels, audio.sample_rate) == (2, 48_000)
    assert makers.peak_hz(audio) == pytest.approx(440, abs=0.5)
    assert audio.seconds == pytest.approx(2, abs=0.05)
    assert np.abs(audio.samples).max() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("codec", ["pcm_u8", "pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le"])
def test_plain_samples_in_a_container_keep_their_level(tmp_path: Path, codec: str) -> None:
    path = makers.sound_only(tmp_path / "a.mkv", makers.tone(440, 0.5, 16_000, level=0.5), codec)
    audio = read_audio(path)
    assert makers.peak_hz(audio) == pytest.approx(440, abs=0.5)
    assert np.sqrt((audio.samples**2).mean()) == pytest.approx(0.5 / np.sqrt(2), rel=0.01)


def test_a_phone_held_upright_gives_an_upright_picture(tmp_path: Path) -> None:
    """Stored with red on the left and shown turned clockwise: what was on the left is at the top."""
    plain = makers.clip(tmp_path / "a.mp4", [(makers.halves(makers.RED, makers.BLUE, (64, 48)), 0.5)])
    frame = frames_at(makers.turned(tmp_path / "b.mp4", plain), [0.1])[0]
    assert frame.shape == (64, 48, 3)
    assert colour(frame[:20]) == "red" and colour(frame[-20:]) == "blue"


def test_a_recording_without_a_duration_is_measured(tmp_path: Path) -> None:
    """What a browser records: Matroska written to a pipe, so that nobody could go back and fill in the length."""
    source = makers.clip(tmp_path / "a.webm", [(makers.RED, 1), (makers.BLUE, 1)])
    with open(tmp_path / "b.webm", "wb") as file:

        class Pipe:
            def write(self, data: bytes) -> int:
                return file.write(data)

        with av.open(str(source)) as old, av.open(Pipe(), "w", format="webm", options={"live": "1"}) as new:
            stream = new.add_stream_from_template(old.streams.video[0])
            for packet in old.demux():
                if packet.dts is not None:
                    packet.stream = stream
                    new.mux(packet)
    with av.open(str(tmp_path / "b.webm")) as made:
        assert not made.duration
    assert probe(tmp_path / "b.webm").seconds == pytest.approx(2, abs=0.15)
    assert [colour(f) for f in sample_frames(tmp_path / "b.webm", 2)] == ["red", "blue"]


def test_a_damaged_end_shows_the_last_good_picture(tmp_path: Path) -> None:
    path = makers.clip(tmp_path / "a.mkv", [(makers.RED, 1), (makers.BLUE, 2)])
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.7)])
    assert colour(frames_at(path, [0.0])[0]) == "red"
    assert len(frames_at(path, [0.0, 1.5, 2.9])) == 3


def test_a_header_that_lies_about_its_size_gives_the_true_picture(tmp_path: Path) -> None:
    plain = makers.clip(tmp_path / "a.mp4", [(makers.RED, 0.5)])
    (tmp_path / "b.mp4").write_bytes(makers.patched(plain, b"avc1", 24, b"\x1e\x00\x10\xe0"))  # 7680 x 4320
    assert frames_at(tmp_path / "b.mp4", [0.0])[0].shape == (48, 64, 3)


def test_a_cover_is_not_a_video(tmp_path: Path) -> None:
    import io

    from PIL import Image

    cover = io.BytesIO()
    Image.new("RGB", (16, 16), makers.RED).save(cover, "JPEG")
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        voice = container.add_stream("aac", rate=48_000, layout="mono")
        art = container.add_stream("mjpeg")
        art.width, art.height, art.pix_fmt = 16, 16, "yuvj420p"
        art.disposition = av.stream.Disposition.attached_pic
        frame = av.AudioFrame.from_ndarray(makers.tone(440, 1, 48_000).samples, format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 48_000, 0
        container.mux(voice.encode(frame))
        container.mux(voice.encode(None))
        packet = av.Packet(cover.getvalue())
        packet.stream, packet.pts, packet.dts = art, 0, 0
        container.mux(packet)
    with av.open(str(tmp_path / "a.mp4")) as made:
        assert len(made.streams.video) == 1
    with pytest.raises(UnreadableMedia, match="holds no video"):
        probe(tmp_path / "a.mp4")
    assert makers.peak_hz(read_audio(tmp_path / "a.mp4")) == pytest.approx(440, abs=1)
