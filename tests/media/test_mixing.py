"""Mixing: the asked loudness, no peak above the ceiling, speech in front, the exact length."""

from __future__ import annotations

from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pyloudnorm
import pytest
import soundfile
from scipy.signal import resample_poly

from media.loudness import LoudnessMeter, true_peak_db
from media.mixing import DUCK_DB, Stem, mix
from media.refs import UnreadableMedia
from tests import makers, toys

RATE = 48_000


def lufs(samples: np.ndarray, rate: int = RATE) -> float:
    """pyloudnorm's integrated loudness of [T, C]."""
    return float(pyloudnorm.Meter(rate).integrated_loudness(samples))


def ffmpeg_lufs(samples: np.ndarray) -> float:
    """The loudness of [T, 1 or 2] at 48 kHz by FFmpeg's ebur128 filter."""
    graph = av.filter.Graph()
    layout = "stereo" if samples.shape[1] == 2 else "mono"
    graph.link_nodes(
        graph.add_abuffer(sample_rate=RATE, format="dbl", layout=layout, time_base=Fraction(1, RATE)),
        graph.add("ebur128", "metadata=1"),
        graph.add("abuffersink"),
    ).configure()
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.reshape(1, -1)), "dbl", layout)
    frame.sample_rate, frame.pts = RATE, 0
    graph.push(frame)
    graph.push(None)
    heard = float("nan")
    with suppress(av.error.EOFError, av.error.BlockingIOError):
        while True:
            heard = float(graph.pull().metadata.get("lavfi.r128.I", heard))
    return heard


def peak_db(samples: np.ndarray, times: int = 4) -> float:
    """True peak of [T, C] by SciPy's polyphase interpolation, another filter than ours."""
    return float(20 * np.log10(np.abs(resample_poly(samples, times, 1, axis=0)).max()))


def level_db(samples: np.ndarray) -> float:
    return float(10 * np.log10((samples**2).mean() + 1e-20))


def stem(path: Path, samples: np.ndarray, rate: int = RATE) -> Path:
    soundfile.write(path, samples, rate, "FLOAT")
    return path


def textures(rng: np.random.Generator, seconds: float, rate: int) -> np.ndarray:
    """[T, 1 or 2] of one of four kinds: a steady bed, sparse blows, chords that swell, or bursts of noise, at any level."""
    count, kind = round(seconds * rate), rng.integers(4)
    time = np.arange(count) / rate
    made = np.zeros((count, int(rng.integers(1, 3))))
    for channel in range(made.shape[1]):
        if kind == 0:
            made[:, channel] = np.cumsum(rng.standard_normal(count)) * 0.01
            made[:, channel] -= np.convolve(made[:, channel], np.full(401, 1 / 401), mode="same")
        elif kind == 1:
            for start in rng.uniform(0, seconds, 6):
                made[:, channel] += rng.standard_normal(count) * np.exp(-np.maximum(time - start, 0) / 0.06) * (time >= start)
        elif kind == 2:
            for _ in range(4):
                made[:, channel] += np.sin(2 * np.pi * rng.uniform(80, 4000) * time + 6 * rng.random()) * (1 + np.sin(time * 3))
        else:
            made[:, channel] = rng.standard_normal(count) * (np.sin(2 * np.pi * 1.3 * time) > 0.6)
    return made / np.abs(made).max() * 10 ** (rng.uniform(-40, 3) / 20)


def test_the_meter_agrees_with_pyloudnorm_and_with_the_standard() -> None:
    # BS.1770-4: a 997 Hz sine of full scale in one channel reads -3.01 LUFS; EBU Tech 3341 case 1: stereo, -23 dBFS, 1 kHz -> -23.
    time = np.arange(20 * RATE) / RATE
    for samples, wanted in (
        (np.sin(2 * np.pi * 997 * time)[None], -3.01),
        (np.tile(10 ** (-23 / 20) * np.sin(2 * np.pi * 1000 * time), (2, 1)), -23.0),
    ):
        meter = LoudnessMeter(RATE, len(samples))
        for block in np.array_split(samples, 37, axis=1):
            meter.add(block)
        assert meter.lufs() == pytest.approx(wanted, abs=0.02)
    rng = np.random.default_rng(1)
    for rate in (44_100, 48_000):
        samples = textures(rng, 6, rate)
        meter = LoudnessMeter(rate, samples.shape[1])
        for block in np.array_split(samples.T, 11, axis=1):
            meter.add(block)
        assert meter.lufs() == pytest.approx(lufs(samples, rate), abs=0.1)
    # A length that is no multiple of 100 ms: BS.1770-4 leaves out the block that is not full, and FFmpeg does; pyloudnorm counts it.
    for _ in range(3):
        samples = textures(rng, float(rng.uniform(1.2, 2.4)), RATE)
        meter = LoudnessMeter(RATE, samples.shape[1])
        meter.add(samples.T)
        assert meter.lufs() == pytest.approx(ffmpeg_lufs(samples), abs=0.02)
        assert meter.lufs() == pytest.approx(lufs(samples[: len(samples) // 4800 * 4800]), abs=0.06)


def test_true_peak_finds_what_lies_between_samples() -> None:
    """A sine of a quarter of the rate, sampled 45 degrees off its tops: samples reach 0.707, the wave 1."""
    sine = np.sin(np.pi / 2 * np.arange(4000) + np.pi / 4)[None] * np.hanning(4000)
    assert 20 * np.log10(np.abs(sine).max()) == pytest.approx(-3.01, abs=0.01)
    assert true_peak_db(sine) == pytest.approx(0, abs=0.05)
    assert true_peak_db(np.zeros((2, 100))) == -np.inf


def test_twenty_random_mixes_have_the_loudness_and_keep_below_the_ceiling(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    for number in range(20):
        seconds, target = float(rng.uniform(1.2, 2.4)), float(rng.uniform(-24, -14))
        stems = []
        for k in range(int(rng.integers(1, 4))):
            rate = int(rng.choice([16_000, 44_100, 48_000]))
            path = stem(tmp_path / f"{k}.wav", textures(rng, seconds * rng.uniform(0.7, 1.2), rate), rate)
            stems.append(Stem(path, gain_db=float(rng.uniform(-10, 6)), pan=float(rng.choice([0, 0, rng.uniform(-1, 1)]))))
        made = mix(stems, tmp_path / "mix.wav", seconds=seconds, lufs=target, peak_db=-1.0)
        samples, rate = soundfile.read(made.path)
        assert (len(samples), rate) == (round(seconds * RATE), RATE)
        assert peak_db(samples) <= -1.0 and peak_db(samples, 8) <= -1.0, number
        assert made.true_peak_db == pytest.approx(peak_db(samples), abs=0.3)  # two interpolators differ near the edge of the band
        assert ffmpeg_lufs(samples) == pytest.approx(target, abs=0.2), (number, made)
        assert made.lufs == pytest.approx(target, abs=0.11)


def test_the_bed_goes_down_under_speech_and_is_back_soon(tmp_path: Path) -> None:
    """Noise in the stem, a quiet tone as the video's own sound; only the stem moves."""
    bed = stem(tmp_path / "bed.wav", makers.noise(4.5, RATE, 2).samples.T)
    tone = makers.tone(3000, 4.5, RATE, 2, level=0.1)
    video = toys.toy(tmp_path / "v.mp4", [toys.Shot("still", 4.5)], 10, (64, 48), sound=tone).path

    def own(mode: str) -> tuple[np.ndarray, np.ndarray]:
        made = mix([Stem(bed)], tmp_path / "m.wav", seconds=4.5, original=video, mode=mode, speech=[(1.5, 3)], lufs=None)  # type: ignore[arg-type]
        samples = soundfile.read(made.path)[0][:, 0]
        spectrum = np.fft.rfft(samples)
        hz = np.fft.rfftfreq(len(samples), 1 / RATE)
        band = np.abs(hz - 3000) < 50
        return np.fft.irfft(np.where(band, 0, spectrum)), np.fft.irfft(np.where(band, spectrum, 0))

    bed_kept, tone_kept = own("keep")
    bed_ducked, tone_ducked = own("duck")
    bed_alone, tone_alone = own("drop")

    def change(start: float, end: float) -> float:
        part = slice(round(start * RATE), round(end * RATE))
        return level_db(bed_ducked[part]) - level_db(bed_kept[part])

    assert change(1.5, 3) == pytest.approx(-DUCK_DB, abs=0.2) and change(1.5, 3) <= -9
    assert abs(change(0.2, 1.3)) < 0.1 and abs(change(3 + 0.4, 4.3)) < 0.1  # back within 0.4 s
    assert level_db(tone_ducked) == pytest.approx(level_db(tone_kept), abs=0.1)
    assert level_db(tone_kept) == pytest.approx(-23, abs=0.3)
    assert level_db(tone_alone) < -40 and level_db(bed_alone) == pytest.approx(level_db(bed_kept), abs=0.1)


def test_a_stem_that_does_not_duck_stays(tmp_path: Path) -> None:
    bed = stem(tmp_path / "bed.wav", makers.noise(2, RATE, 1).samples.T)
    video = toys.toy(tmp_path / "v.mp4", [toys.Shot("still", 2)], 10, (64, 48)).path
    made = mix([Stem(bed, ducks=False)], tmp_path / "m.wav", seconds=2, original=video, mode="duck", speech=[(0.5, 1.5)], lufs=None)
    heard = soundfile.read(made.path)[0]
    assert level_db(heard[RATE // 2 : 3 * RATE // 2]) == pytest.approx(level_db(heard[: RATE // 3]), abs=0.2)


def test_surround_is_folded_down_after_the_standard(tmp_path: Path) -> None:
    """BS.775: the middle and the surrounds come in at -3 dB, the low-frequency channel not at all. One tone for each speaker."""
    notes = (500, 800, 1100, 60, 1700, 2300)  # FL FR FC LFE BL BR
    six = makers.Audio(np.concatenate([makers.tone(hz, 3, RATE, level=0.1).samples for hz in notes]), RATE)
    video = toys.toy(tmp_path / "v.mkv", [toys.Shot("still", 3)], 10, (64, 48), sound=six).path
    made = mix([], tmp_path / "m.wav", seconds=3, original=video, mode="keep", lufs=None)
    heard = soundfile.read(made.path)[0][RATE // 2 : -RATE // 2]
    spectrum = np.abs(np.fft.rfft(heard * np.hanning(len(heard))[:, None], axis=0)) / len(heard) * 4
    levels = np.array([spectrum[round(hz * len(heard) / RATE) - 2 : round(hz * len(heard) / RATE) + 3].max(axis=0) for hz in notes])
    half = np.sqrt(0.5)
    wanted = 0.1 * np.array([[1, 0], [0, 1], [half, half], [0, 0], [half, 0], [0, half]])
    np.testing.assert_allclose(levels, wanted, atol=0.012)


def test_a_late_sound_stays_late(tmp_path: Path) -> None:
    """The video's sound begins 0.5 s after its picture."""
    import av

    with av.open(str(tmp_path / "v.mkv"), "w") as container:
        picture = container.add_stream("libx264", rate=10, options={"preset": "ultrafast", "x264-params": "log-level=none"})
        picture.width, picture.height, picture.pix_fmt = 64, 48, "yuv420p"
        voice = container.add_stream("flac", rate=RATE, layout="mono")
        for _ in range(20):
            container.mux(picture.encode(av.VideoFrame.from_ndarray(np.full((48, 64, 3), 90, np.uint8), "rgb24")))
        container.mux(picture.encode(None))
        for begin in range(0, RATE, 4800):
            frame = av.AudioFrame.from_ndarray(np.full((1, 4800), 8000, np.int16), "s16", "mono")
            frame.sample_rate, frame.pts = RATE, RATE // 2 + begin
            container.mux(voice.encode(frame))
        container.mux(voice.encode(None))
    made = mix([], tmp_path / "m.wav", seconds=2, original=tmp_path / "v.mkv", mode="keep", lufs=None)
    heard = np.abs(soundfile.read(made.path)[0][:, 0]) > 0.1
    assert np.flatnonzero(heard)[[0, -1]] / RATE == pytest.approx([0.5, 1.5], abs=0.002)


def test_mono_goes_to_both_sides_and_pan_moves_it(tmp_path: Path) -> None:
    path = stem(tmp_path / "a.wav", makers.tone(440, 0.5, 16_000).samples.T, 16_000)
    for pan, left, right in ((0, 1, 1), (-1, np.sqrt(2), 0), (1, 0, np.sqrt(2)), (0.5, 0.541, 1.307)):
        made = mix([Stem(path, gain_db=-6.0206, pan=pan)], tmp_path / "m.wav", seconds=0.5, lufs=None)
        heard = soundfile.read(made.path)[0][2000:-2000]
        np.testing.assert_allclose(np.sqrt((heard**2).mean(axis=0) * 2), 0.25 * np.array([left, right]), atol=0.003)
    made = mix([Stem(path)], tmp_path / "m.flac", seconds=0.5, channels=1, lufs=None)
    assert soundfile.info(made.path).channels == 1


def test_silence_and_short_sounds_are_no_faults(tmp_path: Path) -> None:
    silent = stem(tmp_path / "a.wav", np.zeros(100))
    made = mix([Stem(silent)], tmp_path / "m.wav", seconds=1)
    assert made.lufs == -np.inf and "silent" in made.notes[0] and not soundfile.read(made.path)[0].any()
    assert mix([], tmp_path / "m.wav", seconds=0.2).samples == 9600
    short = stem(tmp_path / "b.wav", makers.noise(0.2, RATE, 1).samples.T)
    made = mix([Stem(short)], tmp_path / "m.wav", seconds=0.2, lufs=-20)
    assert made.samples == 9600 and made.lufs == pytest.approx(-20, abs=0.2)
    assert lufs(np.tile(soundfile.read(made.path)[0], (10, 1))) == pytest.approx(-20, abs=0.3)


def test_one_click_is_not_pressed_through_the_ceiling(tmp_path: Path) -> None:
    click = np.zeros(3 * RATE)
    click[RATE] = 1
    made = mix([Stem(stem(tmp_path / "a.wav", click))], tmp_path / "m.wav", seconds=3, lufs=-14)
    assert peak_db(soundfile.read(made.path)[0]) <= -1.0
    assert made.lufs < -14.5 and "ceiling" in " ".join(made.notes)


def test_a_stem_that_is_no_sound_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"RIFF but not much of one")
    with pytest.raises(UnreadableMedia, match=r"a\.wav is no sound"):
        mix([Stem(tmp_path / "a.wav")], tmp_path / "m.wav", seconds=1)
    bad = stem(tmp_path / "b.wav", np.full(RATE, np.nan))
    with pytest.raises(UnreadableMedia, match="not numbers"):
        mix([Stem(bad)], tmp_path / "m.wav", seconds=1)
    assert {path.name for path in tmp_path.iterdir()} == {"a.wav", "b.wav"}
