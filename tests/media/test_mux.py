"""Mux: not a bit of the picture changes, the sound lies where it lay and is as long as the picture."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from media.mux import mux
from media.refs import MissingMedia, UnreadableMedia
from media.streaming import track_blocks
from media.video import frames_at, picture_span
from tests import makers, toys

RATES = [toys.NTSC_FILM, Fraction(25), toys.NTSC, Fraction(60)]


def picture_packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(video=0) if packet.size]


def decoded_sound(path: Path) -> np.ndarray:
    """[2, T] at 48 kHz, all that a decoder gives, the first sample where the picture begins."""
    return np.concatenate(list(track_blocks(path, 48_000, picture_span(path)[0])), axis=1)


def clicks(path: Path, seconds: float, at: float) -> Path:
    """A WAV of ``seconds`` with one click."""
    samples = np.zeros((round(seconds * 48_000), 2), np.float32)
    samples[round(at * 48_000) : round(at * 48_000) + 48] = 0.8
    soundfile.write(path, samples, 48_000)
    return path


def test_every_container_and_rate_keeps_the_picture_and_gives_the_sound_its_length(tmp_path: Path) -> None:
    """A bouncing ball of 0.8 s; the sound handed in is longer than the picture once and shorter once."""
    for suffix in (".mp4", ".mov", ".mkv", ".webm"):
        for number, fps in enumerate(RATES):
            video = toys.toy(tmp_path / f"in{suffix}", [toys.Shot("bounce", 0.8)], fps, (64, 48), bframes=2 * (suffix != ".webm")).path
            sound = clicks(tmp_path / "a.wav", 2.0 if number % 2 else 0.6, at=0.4)
            made = mux(video, sound, tmp_path / f"out{suffix}")
            assert picture_packets(made.path) == picture_packets(video), (suffix, fps)
            seconds = picture_span(video)[1]
            assert made.seconds == pytest.approx(np.ceil(0.8 * fps) / fps, abs=0.002)
            assert picture_span(made.path)[1] == pytest.approx(seconds, abs=0.002)
            assert made.samples == round(seconds * 48_000)
            heard = decoded_sound(made.path)
            assert heard.shape[1] == made.samples, (suffix, fps)
            assert abs(int(np.abs(heard[0]).argmax()) - 0.4005 * 48_000) < 60, (suffix, fps)


def test_the_header_of_an_mp4_says_the_length_to_the_sample(tmp_path: Path) -> None:
    video = toys.toy(tmp_path / "in.mp4", [toys.Shot("still", 0.7)], 25, (64, 48)).path
    made = mux(video, clicks(tmp_path / "a.wav", 1, 0.1), tmp_path / "out.mp4")
    with av.open(str(made.path)) as container:
        stream = container.streams.audio[0]
        assert stream.duration * stream.time_base == Fraction(made.samples, 48_000) == Fraction(18, 25)


def test_a_phone_video_stays_upright(tmp_path: Path) -> None:
    plain = makers.clip(tmp_path / "a.mp4", [(makers.halves(makers.RED, makers.BLUE, (64, 48)), 0.5)])
    turned = makers.turned(tmp_path / "b.mp4", plain)
    for suffix in (".mp4", ".mov", ".mkv"):
        made = mux(turned, clicks(tmp_path / "a.wav", 0.5, 0.1), tmp_path / f"c{suffix}")
        frame = frames_at(made.path, [0.1])[0]
        assert frame.shape == (64, 48, 3) and frame[10, 24, 0] > 200 and frame[-10, 24, 2] > 200, suffix


def test_subtitles_chapters_tags_and_language_are_kept_and_the_old_sound_is_gone(tmp_path: Path) -> None:
    source = tmp_path / "a.mkv"
    with av.open(str(source), "w") as container:
        picture = container.add_stream("libx264", rate=10, options={"preset": "ultrafast", "x264-params": "log-level=none"})
        picture.width, picture.height, picture.pix_fmt = 64, 48, "yuv420p"
        voice = container.add_stream("aac", rate=48_000, layout="mono")
        words = container.add_mux_stream("subrip")
        words.time_base, words.metadata["language"] = Fraction(1, 1000), "ger"
        container.metadata["artist"] = "somebody"
        container.set_chapters([{"id": 1, "start": 0, "end": 500, "time_base": Fraction(1, 1000), "metadata": {"title": "one"}}])
        for _ in range(10):
            container.mux(picture.encode(av.VideoFrame.from_ndarray(np.full((48, 64, 3), 90, np.uint8), "rgb24")))
        container.mux(picture.encode(None))
        frame = av.AudioFrame.from_ndarray(makers.tone(440, 1, 48_000).samples, "fltp", "mono")
        frame.sample_rate, frame.pts = 48_000, 0
        container.mux(voice.encode(frame))
        container.mux(voice.encode(None))
        packet = av.Packet(b"Guten Tag")
        packet.stream, packet.pts, packet.dts, packet.duration, packet.time_base = words, 100, 100, 400, Fraction(1, 1000)
        container.mux(packet)
    made = mux(source, clicks(tmp_path / "a.wav", 1, 0.5), tmp_path / "b.mkv", comment='{"seed": 1}', title="A title")
    with av.open(str(made.path)) as container:
        assert [stream.type for stream in container.streams] == ["video", "subtitle", "audio"]
        assert container.streams.subtitles[0].metadata["language"] == "ger"
        assert [bytes(packet) for packet in container.demux(subtitles=0) if packet.size] == [b"Guten Tag"]
        tags = {name.lower(): text for name, text in container.metadata.items()}
        assert (tags["artist"], tags["comment"], tags["title"]) == ("somebody", '{"seed": 1}', "A title")
        assert container.chapters()[0]["metadata"]["title"] == "one"
    heard = decoded_sound(made.path)
    assert np.abs(heard[:, :20_000]).max() < 0.01 < 0.5 < np.abs(heard).max()  # the tone is gone


def test_equal_inputs_give_equal_bytes(tmp_path: Path) -> None:
    sound = clicks(tmp_path / "a.wav", 0.4, 0.1)
    for suffix in (".mp4", ".mkv", ".webm"):
        video = toys.toy(tmp_path / f"v{suffix}", [toys.Shot("still", 0.4)], 25, (64, 48)).path
        made = [mux(video, sound, tmp_path / f"{name}{suffix}", comment="same").path.read_bytes() for name in "ab"]
        assert made[0] == made[1], suffix


def test_the_input_is_never_the_output(tmp_path: Path) -> None:
    video = toys.toy(tmp_path / "v.mp4", [toys.Shot("still", 0.2)], 25, (64, 48)).path
    sound, before = clicks(tmp_path / "a.wav", 0.2, 0.1), video.read_bytes()
    os.link(video, tmp_path / "hard.mp4")
    (tmp_path / "soft.mp4").symlink_to(video)
    for output in (video, tmp_path / "hard.mp4", tmp_path / "soft.mp4", tmp_path / "." / "v.mp4"):
        with pytest.raises(UnreadableMedia, match="input itself"):
            mux(video, sound, output)
    assert video.read_bytes() == before


def test_what_cannot_be_joined_is_refused_in_a_line_and_leaves_nothing(tmp_path: Path) -> None:
    video = toys.toy(tmp_path / "v.mp4", [toys.Shot("still", 0.2)], 25, (64, 48)).path
    sound = clicks(tmp_path / "a.wav", 0.2, 0.1)
    music = makers.sound_only(tmp_path / "m.mp4", makers.tone(440, 0.2, 48_000))
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(video.read_bytes()[:500])
    files = set(tmp_path.iterdir())
    for source, output, words in (
        (video, "o.webm", "webm cannot hold"),
        (video, "o.avi", "choose one of"),
        (music, "o.mp4", "no video"),
        (cut, "o.mp4", "cannot be read"),
        (sound, "o.mp4", "no video"),
    ):
        with pytest.raises(UnreadableMedia, match=words) as caught:
            mux(source, sound, tmp_path / output)
        assert "\n" not in str(caught.value)
    with pytest.raises(MissingMedia):
        mux(tmp_path / "none.mp4", sound, tmp_path / "o.mp4")
    assert set(tmp_path.iterdir()) == files
