"""Sounds survive every format, lengths and rates are what they say, and equal sounds are equal files."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from media.audio import Audio, crossfade, encode_audio, loudness_lufs, read_audio, resample, write_audio
from media.refs import MediaError, MediaTooLarge, MissingMedia, UnreadableMedia
from tests.makers import RED, clip, peak_hz, sound_bytes, sound_only, tone

FORMS = ("wav", "flac", "ogg", "mp3")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_440_hz_in_440_hz_out(tmp_path: Path, form: str, rate: int):
    write_audio(tmp_path / f"a.{form}", tone(hz=440, sample_rate=rate))
    back = read_audio(tmp_path / f"a.{form}")
    assert back.sample_rate == rate
    assert back.seconds == pytest.approx(1.0, abs=0.08 if form == "mp3" else 1e-9)
    assert peak_hz(back) == pytest.approx(440, abs=0.5)
    middle = back.samples[0, rate // 4 : rate // 2]
    assert np.abs(middle).max() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("form", FORMS)
def test_left_stays_left(tmp_path: Path, form: str):
    left, right = tone(hz=440), tone(hz=1000)
    write_audio(tmp_path / f"a.{form}", Audio(np.concatenate([left.samples, right.samples]), 16_000))
    back = read_audio(tmp_path / f"a.{form}")
    assert [round(peak_hz(Audio(row[None], 16_000)), -1) for row in back.samples] == [440, 1000]


@pytest.mark.parametrize("form", ["wav", "flac"])
def test_what_was_read_is_written_back_without_loss(tmp_path: Path, form: str):
    every = (np.arange(-32768, 32768) / 32768).astype(np.float32)[None]
    write_audio(tmp_path / f"a.{form}", Audio(every, 16_000))
    np.testing.assert_array_equal(read_audio(tmp_path / f"a.{form}").samples, every)


@pytest.mark.parametrize("form", FORMS)
def test_equal_sounds_give_equal_bytes(form: str):
    first = encode_audio(tone(), form, {"comment": "a note"})
    time.sleep(1.1 if form == "ogg" else 0)  # libsndfile seeds its serial numbers with the clock
    assert encode_audio(tone(), form, {"comment": "a note"}) == first
    assert encode_audio(tone(hz=441), form, {"comment": "a note"}) != first


@pytest.mark.parametrize("form", FORMS)
def test_ten_minutes_are_written_and_read(tmp_path: Path, form: str):
    """libsndfile's Vorbis encoder died of them when they came in one piece."""
    sound = Audio(np.tile(tone(hz=400, sample_rate=8_000).samples, (1, 600)), 8_000)
    write_audio(tmp_path / f"a.{form}", sound)
    back = read_audio(tmp_path / f"a.{form}", max_seconds=601)
    assert back.seconds == pytest.approx(600, abs=0.5)
    assert peak_hz(Audio(back.samples[:, -8_000:], 8_000)) == pytest.approx(400, abs=2)


def test_values_beyond_full_scale_are_clipped(tmp_path: Path):
    write_audio(tmp_path / "a.wav", Audio(np.array([[2.0, -2.0, 0.25]], np.float32), 16_000))
    np.testing.assert_array_equal(read_audio(tmp_path / "a.wav").samples, np.float32([[32767 / 32768, -1.0, 0.25]]))
    (tmp_path / "loud.wav").write_bytes(sound_bytes(np.float32([3.0, -7.0, 0.5]), 16_000, "WAV", "FLOAT"))
    np.testing.assert_array_equal(read_audio(tmp_path / "loud.wav").samples, np.float32([[1.0, -1.0, 0.5]]))


def test_eight_bit_samples_have_their_zero_in_the_middle(tmp_path: Path):
    (tmp_path / "a.wav").write_bytes(sound_bytes(np.float32([0, 127 / 128, -1.0, 0.5]), 16_000, "WAV", "PCM_U8"))
    np.testing.assert_allclose(read_audio(tmp_path / "a.wav").samples, [[0.0, 127 / 128, -1.0, 0.5]])


@pytest.mark.parametrize("name", ["a.webm", "a.mp4", "a.mkv"])
def test_the_sound_of_a_film_is_read(tmp_path: Path, name: str):
    path = clip(tmp_path / name, [(RED, 1.0)], sound=tone(440, 1.0, 48_000))
    back = read_audio(path, sample_rate=16_000, mono=True)
    assert back.sample_rate == 16_000 and back.channels == 1
    assert back.seconds == pytest.approx(1.0, abs=0.06)
    assert peak_hz(back) == pytest.approx(440, abs=1)
    assert np.abs(back.samples[0, 4000:12000]).max() == pytest.approx(0.5, abs=0.06)  # AAC overshoots a little


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_no_number_is_refused(tmp_path: Path, value: float):
    sound = np.float32([0.1, 0.2, value, 0.3])
    (tmp_path / "a.wav").write_bytes(sound_bytes(sound, 16_000, "WAV", "FLOAT"))
    with pytest.raises(UnreadableMedia, match="not numbers"):
        read_audio(tmp_path / "a.wav")
    with pytest.raises(ValueError, match="not numbers"):
        write_audio(tmp_path / "b.wav", Audio(sound[None], 16_000))
    assert [p.name for p in tmp_path.iterdir()] == ["a.wav"]


def test_a_limit_of_the_caller_holds(tmp_path: Path):
    write_audio(tmp_path / "a.wav", tone(seconds=2.0))
    assert read_audio(tmp_path / "a.wav", max_seconds=2.0).seconds == 2.0
    with pytest.raises(MediaTooLarge, match=r"limit is 1\.5 s"):
        read_audio(tmp_path / "a.wav", max_seconds=1.5)
    with pytest.raises(MediaTooLarge, match=r"limit is 0\.5 s"):
        read_audio(sound_only(tmp_path / "a.webm", tone(440, 2.0, 48_000), "libopus"), max_seconds=0.5)


def test_a_sample_rate_out_of_this_world_is_refused(tmp_path: Path):
    for rate in (1, 4_000_000):
        (tmp_path / "a.wav").write_bytes(sound_bytes(np.zeros(100, np.int16), rate, "WAV", "PCM_16"))
        with pytest.raises(MediaError, match=str(rate)):
            read_audio(tmp_path / "a.wav")


def test_what_is_missing_empty_or_no_sound_has_its_own_error(tmp_path: Path):
    with pytest.raises(MissingMedia, match=r"no\.wav"):
        read_audio(tmp_path / "no.wav")
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "none.wav").write_bytes(sound_bytes(np.zeros(0, np.int16), 16_000, "WAV", "PCM_16"))
    (tmp_path / "text.wav").write_text("this is no sound")
    for name in ("empty.wav", "none.wav", "text.wav"):
        with pytest.raises(UnreadableMedia):
            read_audio(tmp_path / name)
    with pytest.raises(UnreadableMedia, match="no sound"):
        read_audio(clip(tmp_path / "mute.mp4", [(RED, 0.5)]))


def test_a_format_that_nobody_writes_names_those_that_are(tmp_path: Path):
    with pytest.raises(MediaError, match=r"'\.aiff'.*\.wav, \.flac, \.ogg, \.mp3"):
        write_audio(tmp_path / "a.aiff", tone())
    with pytest.raises(MediaError, match="96000 Hz"):
        write_audio(tmp_path / "a.mp3", tone(seconds=0.1, sample_rate=96_000))
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_audio(tmp_path / "a.wav", tone())
    before = (tmp_path / "a.wav").read_bytes()
    monkeypatch.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        write_audio(tmp_path / "a.wav", tone(hz=880))
    assert [p.name for p in tmp_path.iterdir()] == ["a.wav"]
    assert (tmp_path / "a.wav").read_bytes() == before


def test_a_written_file_has_the_permissions_of_every_other(tmp_path: Path):
    write_audio(tmp_path / "a.wav", tone())
    (tmp_path / "b").write_bytes(b"")
    assert (tmp_path / "a.wav").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_resampling_keeps_pitch_level_and_length():
    for rate in (8_000, 22_050, 48_000):
        there = resample(tone(hz=440, level=0.5), rate)
        assert there.samples.shape == (1, rate)
        assert peak_hz(there) == pytest.approx(440, abs=0.2)
        assert np.sqrt(2 * (there.samples[0, rate // 4 : rate // 2].astype(np.float64) ** 2).mean()) == pytest.approx(0.5, rel=2e-3)
    same = tone()
    assert resample(same, 16_000) is same


def test_mono_is_the_mean_of_the_channels(tmp_path: Path):
    both = Audio(np.float32([[0.5, -0.5], [0.25, 0.25]]), 16_000)
    np.testing.assert_array_equal(both.mono().samples, np.float32([[0.375, -0.125]]))
    write_audio(tmp_path / "a.wav", both)
    np.testing.assert_array_equal(read_audio(tmp_path / "a.wav", mono=True).samples, both.mono().samples)


def test_loudness_agrees_with_the_broadcast_standard():
    """EBU Tech 3341, case 1: a stereo sine of 1 kHz at -23 dBFS has -23 LUFS; one channel of it has 3 less."""
    level = 10 ** (-23 / 20)
    wave = tone(seconds=5, hz=1000, sample_rate=48_000, level=level).samples
    assert loudness_lufs(Audio(np.concatenate([wave, wave]), 48_000)) == pytest.approx(-23.0, abs=0.1)
    assert loudness_lufs(Audio(wave, 48_000)) == pytest.approx(-26.0, abs=0.1)
    assert loudness_lufs(tone(level=0.0)) == loudness_lufs(tone(seconds=0.3)) == -np.inf
    with pytest.raises(ValueError, match="not numbers"):
        loudness_lufs(Audio(np.full((1, 16_000), np.nan, np.float32), 16_000))


def test_a_crossfade_keeps_the_power_and_has_the_length_of_both_less_the_overlap():
    noise = np.random.default_rng(0).standard_normal((2, 1, 32_000)).astype(np.float32) * 0.1
    first, second = (Audio(x, 16_000) for x in noise)
    joined = crossfade(first, second, 0.5)
    assert joined.samples.shape == (1, 56_000)
    np.testing.assert_array_equal(joined.samples[:, :24_000], first.samples[:, :24_000])
    np.testing.assert_array_equal(joined.samples[:, 32_000:], second.samples[:, 8_000:])
    assert joined.samples[0, 24_000:32_000].std() == pytest.approx(0.1, rel=0.05)
    np.testing.assert_array_equal(crossfade(first, second, 0.0).samples, np.concatenate([first.samples, second.samples], axis=1))
    assert crossfade(first, second, 99.0).seconds == 2.0
    with pytest.raises(ValueError, match="rate"):
        crossfade(first, tone(sample_rate=8_000), 0.1)
    with pytest.raises(ValueError, match="overlap"):
        crossfade(first, second, -1.0)


def test_audio_is_a_matrix_of_float32():
    for wrong in (np.zeros(10, np.float32), np.zeros((1, 10))):
        with pytest.raises(ValueError, match="float32"):
            Audio(wrong, 16_000)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7, 8])
def test_sixteen_bits_are_read_as_libsndfile_reads_them(tmp_path: Path, channels: int):
    values = np.random.default_rng(channels).integers(-32768, 32768, (300_000, channels), np.int16)
    (tmp_path / "a.wav").write_bytes(sound_bytes(values, 16_000, "WAV", "PCM_16"))
    floats, _ = soundfile.read(tmp_path / "a.wav", dtype="float32", always_2d=True)
    assert np.array_equal(read_audio(tmp_path / "a.wav").samples, floats.T)
    assert np.array_equal(read_audio(tmp_path / "a.wav", mono=True).samples, floats.T.mean(0, keepdims=True, dtype=np.float32))


def test_a_flac_that_was_written_as_a_stream_is_read_whole(tmp_path: Path):
    """``ffmpeg ... -f flac - > a.flac``: its header says a length of 0, for unknown."""
    values = np.random.default_rng(0).integers(-3000, 3000, (50_000, 2), np.int16)
    flac = bytearray(sound_bytes(values, 16_000, "FLAC", "PCM_16"))
    flac[21] &= 0xF0
    flac[22:26] = bytes(4)
    (tmp_path / "a.flac").write_bytes(flac)
    assert np.array_equal(read_audio(tmp_path / "a.flac").samples * 32768, values.T)
