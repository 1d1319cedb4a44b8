"""Real media for tests, made by the usual libraries: tones, coloured pictures, short clips, and files with bad intentions."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import soundfile
from PIL import Image

from media.audio import Audio

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
Colour = tuple[int, int, int]
_CODECS = {".mp4": ("libx264", "aac"), ".mov": ("libx264", "aac"), ".mkv": ("libx264", "flac"), ".webm": ("libvpx", "libopus")}


def tone(hz: float = 440.0, seconds: float = 1.0, sample_rate: int = 16_000, channels: int = 1, level: float = 0.5) -> Audio:
    """A sine of peak ``level``, the same in all channels."""
    wave = level * np.sin(2 * np.pi * hz * np.arange(round(seconds * sample_rate)) / sample_rate)
    return Audio(np.tile(wave.astype(np.float32), (channels, 1)), sample_rate)


def noise(seconds: float = 1.0, sample_rate: int = 16_000, channels: int = 1, seed: int = 0, level: float = 0.1) -> Audio:
    """White Gaussian noise of standard deviation ``level``."""
    shape = (channels, round(seconds * sample_rate))
    return Audio((level * np.random.default_rng(seed).standard_normal(shape)).clip(-1, 1).astype(np.float32), sample_rate)


def peak_hz(audio: Audio) -> float:
    """The loudest frequency, to a fraction of a hertz (a parabola through the logarithms around the highest bin)."""
    samples = audio.mono().samples[0].astype(np.float64)
    spectrum = np.log(np.abs(np.fft.rfft(samples * np.hanning(len(samples)))) + 1e-12)
    k = int(np.clip(spectrum.argmax(), 1, len(spectrum) - 2))
    left, middle, right = spectrum[k - 1 : k + 2]
    return float((k + 0.5 * (left - right) / (left - 2 * middle + right)) * audio.sample_rate / len(samples))


def halves(left: Colour = RED, right: Colour = BLUE, size: tuple[int, int] = (32, 16)) -> np.ndarray:
    """A picture [H, W, 3] uint8 of two colours; ``size`` is width, height."""
    pixels = np.empty((size[1], size[0], 3), np.uint8)
    pixels[:, : size[0] // 2], pixels[:, size[0] // 2 :] = left, right
    return pixels


def picture(path: Path, pixels: np.ndarray, orientation: int | None = None) -> Path:
    """Write PNG, JPEG or WEBP by the suffix, as exactly as the format can, with an EXIF orientation where asked."""
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    made = Image.fromarray(pixels)
    if path.suffix == ".jpg":
        made.save(path, exif=exif, quality=95, subsampling=0)
    else:
        made.save(path, exif=exif, lossless=True)
    return path


def clip(
    path: Path, shots: Sequence[tuple[Colour | np.ndarray, float]], fps: int = 10, sound: Audio | None = None, gop: int = 12
) -> Path:
    """A video of ``shots`` (colour or picture, seconds) by the suffix: H.264 + AAC/FLAC, or VP8 + Opus in WEBM."""
    picture_codec, sound_codec = _CODECS[path.suffix]
    size = next((s.shape[1::-1] for s, _ in shots if isinstance(s, np.ndarray)), (64, 48))
    with av.open(str(path), "w") as container:
        stream = container.add_stream(picture_codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.gop_size = gop
        if picture_codec == "libx264":
            stream.options = {"preset": "ultrafast", "crf": "10", "x264-params": "log-level=none"}
        else:
            stream.options = {"b": "2M", "deadline": "realtime", "cpu-used": "8"}
        voice = None
        if sound is not None:
            voice = container.add_stream(sound_codec, rate=sound.sample_rate, layout="mono" if sound.channels == 1 else "stereo")
        for shot, seconds in shots:
            pixels = shot if isinstance(shot, np.ndarray) else np.full((size[1], size[0], 3), shot, np.uint8)
            for _ in range(round(seconds * fps)):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
        if voice is not None and sound is not None:
            layout = "mono" if sound.channels == 1 else "stereo"
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound.samples), format="fltp", layout=layout)
            frame.sample_rate, frame.pts = sound.sample_rate, 0
            container.mux(voice.encode(frame))
            container.mux(voice.encode(None))
    return path


def sound_only(path: Path, sound: Audio, codec: str = "aac") -> Path:
    """A sound in a container of the suffix."""
    layout = "mono" if sound.channels == 1 else "stereo"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=sound.sample_rate, layout=layout)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound.samples), format="fltp", layout=layout)
        frame.sample_rate, frame.pts = sound.sample_rate, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def raw_clip(path: Path, codec: str, size: tuple[int, int] = (64, 48), times: Sequence[int] = range(5)) -> Path:
    """Red frames at ``times`` (tenths of a second), in any codec that the container of the suffix takes."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        if codec == "libx264":
            stream.options = {"preset": "ultrafast", "x264-params": "log-level=none"}
        for time in times:
            red = av.VideoFrame.from_ndarray(np.full((size[1], size[0], 3), RED, np.uint8), format="rgb24")
            red.pts, red.time_base = time, Fraction(1, 10)
            container.mux(stream.encode(red))
        container.mux(stream.encode(None))
    return path


def turned(path: Path, source: Path) -> Path:
    """The same MP4 with the display matrix of a phone that was held upright: 90 degrees clockwise when shown."""
    data = bytearray(source.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    data[at : at + 36] = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


def patched(source: Path, box: bytes, offset: int, value: bytes) -> bytes:
    """MP4 bytes with ``value`` written ``offset`` bytes behind the name of every ``box``."""
    data, at = bytearray(source.read_bytes()), 0
    assert box in data, box
    while (at := data.find(box, at)) >= 0:
        data[at + 4 + offset : at + 4 + offset + len(value)] = value
        at += 4
    return bytes(data)


def large_png(width: int, height: int) -> bytes:
    """A black PNG of one bit per pixel, a few kB for 144 million pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    row, packer = b"\0" * (1 + (width + 7) // 8), zlib.compressobj(9)
    packed = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def sound_bytes(samples: np.ndarray, sample_rate: int, form: str, subtype: str) -> bytes:
    """Samples [T] or [T, C] as libsndfile writes them, values that are not numbers included."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, sample_rate, format=form, subtype=subtype)
    return buffer.getvalue()


def hostile_files(folder: Path, port: int) -> dict[str, tuple[Path, tuple[str, ...]]]:
    """Files with bad intentions, and words that their refusal must contain. ``port``: where addresses inside them lead."""
    video = clip(folder / "plain.mp4", [(RED, 0.5)])
    wav = sound_bytes(np.zeros(8000, np.float32), 8000, "WAV", "PCM_16")
    address = f"http://127.0.0.1:{port}/a.ts"
    grain = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    photo = picture(folder / "photo.png", grain).read_bytes()
    long_flac = sound_bytes(np.zeros(30 * 60 * 44_100, np.int16), 44_100, "FLAC", "PCM_16")
    made: dict[str, tuple[bytes, tuple[str, ...]]] = {
        "empty.wav": (b"", ("empty",)),
        "text.png": (b"this is not a picture at all", ("no known type",)),
        "playlist.mp4": (f"#EXTM3U\n#EXTINF:1,\n{address}\n".encode(), ("playlist", "M3U")),
        "local.mp4": (f"#EXTM3U\n#EXTINF:1,\nfile://{video}\n".encode(), ("playlist", "M3U")),
        "ffconcat.mkv": (f"ffconcat version 1.0\nfile '{address}'\n".encode(), ("playlist", "ffconcat")),
        "concat.mp4": (f"concat:{video}|{video}".encode(), ("address",)),
        "subfile.mov": (f"subfile,,start,0,end,0,,:{video}".encode(), ("no known type",)),
        "url.wav": (address.encode(), ("address",)),
        "radio.mp3": (f"[playlist]\nFile1={address}\n".encode(), ("playlist", "PLS")),
        "manifest.mp4": (f"<?xml version='1.0'?><MPD><BaseURL>{address}</BaseURL></MPD>".encode(), ("XML",)),
        "vector.png": (f"<svg><image href='{address}'/></svg>".encode(), ("SVG",)),
        "camera.mp4": (b"RIFF\x24\0\0\0AVI LIST" + b"\0" * 64, ("AVI",)),
        "moving.png": (b"GIF89a" + b"\0" * 64, ("GIF",)),
        "phone.jpg": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 40, ("HEIC",)),
        "truncated.mp4": (video.read_bytes()[:400], ("video cannot be read",)),
        "cut.png": (photo[: len(photo) // 2], ("picture cannot be decoded",)),
        "header_only.png": (large_png(64, 64)[:33], ("picture cannot be decoded",)),
        "cut.flac": (long_flac[:20], ("sound cannot be decoded",)),
        "no_samples.wav": (wav[:44], ("empty",)),
        "tail_of_playlist.mp4": (b"\0\0\0\x18ftypisom\0\0\0\0isomiso2#EXTM3U\n" + address.encode(), ("video cannot be read",)),
        "large.png": (large_png(12_000, 12_000), ("12000 x 12000", "25 million")),
        "huge.png": (large_png(30_000, 30_000), ("900000000", "25 million")),
        "half_an_hour.flac": (long_flac, ("1800 s", "600 s")),
        "not_numbers.wav": (sound_bytes(np.full(800, np.nan, np.float32), 8000, "WAV", "FLOAT"), ("not numbers",)),
        "infinite.wav": (sound_bytes(np.full(800, np.inf, np.float32), 8000, "WAV", "FLOAT"), ("not numbers",)),
        "adpcm.wav": (sound_bytes(np.zeros(8000), 8000, "WAV", "IMA_ADPCM"), ("IMA_ADPCM",)),
        "crowd.wav": (sound_bytes(np.zeros((100, 64)), 8000, "WAV", "PCM_16"), ("64 channels", "8")),
        "fast.wav": (wav[:24] + struct.pack("<I", 2_000_000_000) + wav[28:], ("2000000000", "384000")),
        "eight_channels.flac": (sound_bytes(np.zeros((9_000_000, 8), np.int16), 96_000, "FLAC", "PCM_16"), ("72 million",)),
    }  # fmt: skip
    for name, (data, _) in made.items():
        (folder / name).write_bytes(data)
    raw_clip(folder / "ffv1.mkv", "ffv1")
    raw_clip(folder / "eight_k.mp4", "libx264", size=(7680, 4320), times=(0,))
    raw_clip(folder / "ten_hours.mp4", "libx264", times=(0, 36_000 * 10))
    words = {name: words for name, (_, words) in made.items()} | {
        "ffv1.mkv": ("frames cannot be decoded",),
        "eight_k.mp4": ("7680 x 4320", "4096 x 2304"),
        "ten_hours.mp4": ("36000 s", "14400 s"),
    }
    return {name: (folder / name, said) for name, said in words.items()}


def seeds(folder: Path) -> list[Path]:
    """One small good file of every format."""
    from media.audio import write_audio

    sound = tone(440, 0.5, 48_000)
    for form in ("wav", "flac", "ogg", "mp3"):
        write_audio(folder / f"seed.{form}", sound, {"comment": "a note"})
    pictures = [picture(folder / f"seed.{form}", halves(), orientation=6) for form in ("png", "jpg", "webp")]
    clips = [clip(folder / f"seed{suffix}", [(RED, 0.5), (BLUE, 0.5)], sound=sound) for suffix in _CODECS]
    return [*(folder / f"seed.{form}" for form in ("wav", "flac", "ogg", "mp3")), *pictures, *clips]


def mutated(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """A damaged copy: flipped bits, a cut, wild numbers in the header, a hole, or the head of another file."""
    out = bytearray(data)
    way = rng.randrange(5)
    if way == 0:
        for _ in range(rng.choice((1, 8, 64))):
            out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    elif way == 1:
        del out[rng.randrange(1, len(out)) :]
    elif way == 2:
        for _ in range(rng.randrange(1, 5)):
            at = rng.randrange(min(len(out), 600))
            out[at : at + 4] = rng.choice((b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\x80\0\0\0", rng.randbytes(4)))
    elif way == 3:
        at = rng.randrange(len(out))
        out[at : at + rng.randrange(1, 2000)] = b"\0" * rng.randrange(1000)
    else:
        at = rng.randrange(4, 400)
        out[:at] = other[:at]
    return bytes(out)
