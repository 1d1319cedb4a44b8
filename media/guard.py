"""The border: what may come in, and what may go out.

A foreign file is taken by what its first bytes are, never by its suffix; it is decoded first in a child process that has little memory
and little time, so that a decoder's crash is one clear line here. A made sound is looked at before anybody hears of it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from media.audio import Audio
from media.refs import Kind, MediaError, MediaTooLarge, MissingMedia, UnreadableMedia

MAX_BYTES = 512 * 2**20
CHILD_SECONDS = 20.0
CHILD_BYTES = 4 * 2**30  # address space; decoders map much more than they use
_CHILD_EXITS: dict[int, type[MediaError]] = {10: UnreadableMedia, 11: MediaTooLarge}


class GuardReport(BaseModel):
    """What is in a finished sound. Levels are in dBFS; ``fatal`` says why it must not be handed out, or is empty."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    peak_db: float
    rms_db: float
    silent: bool
    clipped_share: float
    nan: bool
    wrong_length: bool
    fatal: str = ""


@dataclass(frozen=True)
class Admitted:
    """A foreign file that was read once: what is stored is what was checked."""

    data: bytes
    mime: str
    kind: Kind


def inspect_audio(audio: Audio, seconds: float | None) -> GuardReport:
    """Levels and faults of a sound; ``seconds`` is the length that was asked for, None where any will do.

    Values that are not numbers, no samples and a wrong length are fatal. Silence (below -60 dBFS) and clipping are reported.
    """
    x = audio.samples
    nan = not bool(np.isfinite(x).all())
    clean = np.nan_to_num(x.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    peak = float(np.abs(clean).max()) if clean.size else 0.0
    rms = float(np.sqrt((clean**2).mean())) if clean.size else 0.0
    wrong = seconds is not None and abs(x.shape[1] - round(seconds * audio.sample_rate)) > 1
    if nan:
        fatal = "it holds values that are not numbers"
    elif x.shape[1] == 0:
        fatal = "it holds no samples"
    elif wrong:
        fatal = f"it lasts {audio.seconds:.3f} s and not {seconds:g} s"
    else:
        fatal = ""
    return GuardReport(
        peak_db=_db(peak),
        rms_db=_db(rms),
        silent=rms < 1e-3,
        clipped_share=float((np.abs(clean) >= 0.999).mean()) if clean.size else 0.0,
        nan=nan,
        wrong_length=wrong,
        fatal=fatal,
    )


def _db(level: float) -> float:
    return round(20 * float(np.log10(max(level, 1e-6))), 2)


def sniff(head: bytes) -> tuple[str, Kind]:
    """MIME type and kind by the first bytes of a file. Raises UnreadableMedia for anything that is not on the list."""
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png", "image"
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg", "image"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp", "image"
    if head[:4] in (b"RIFF", b"RF64") and head[8:12] == b"WAVE":
        return "audio/wav", "audio"
    if head.startswith(b"fLaC"):
        return "audio/flac", "audio"
    if head.startswith(b"OggS"):
        return "audio/ogg", "audio"
    if head.startswith(b"ID3") or (len(head) > 1 and head[0] == 0xFF and head[1] & 0xE6 in (0xE2, 0xE4, 0xE6)):
        return "audio/mpeg", "audio"
    if head[4:8] == b"ftyp":
        return ("audio/mp4", "audio") if head[8:11] == b"M4A" else ("video/mp4", "video")
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return "video/x-matroska", "video"
    if not head:
        raise UnreadableMedia("the file is empty; give a picture, a sound or a video")
    raise UnreadableMedia(
        "the content is of no known type; loa reads PNG, JPEG, WEBP, WAV, FLAC, OGG, MP3, MP4, MKV, WEBM and MOV"
    )


def admit(path: Path) -> Admitted:
    """Read a foreign file once and prove in a child process that it decodes within the limits.

    Raises:
        MissingMedia: no such file. UnreadableMedia: unknown, damaged or hostile content. MediaTooLarge: bytes, pixels, seconds.
    """
    try:
        if not path.is_file():
            raise MissingMedia(f"there is no file {path}; check the name")
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise MediaTooLarge(f"{path.name} has {size / 2**20:.0f} MB, the limit is {MAX_BYTES // 2**20} MB")
        data = path.read_bytes()
    except OSError as error:
        raise MissingMedia(f"{path} cannot be read: {error.strerror}") from None
    try:
        mime, kind = sniff(data[:64])
        prove(data, kind)
    except MediaError as error:
        raise type(error)(f"{path.name}: {error}") from None
    return Admitted(data, mime, kind)


def prove(data: bytes, kind: Kind) -> None:
    """Decode in a child with limits on memory, time and written bytes. The child gets a copy, so the file cannot change between."""
    import tempfile

    with tempfile.NamedTemporaryFile(prefix="loa-probe-") as copy:
        copy.write(data)
        copy.flush()
        try:
            done = subprocess.run(
                [sys.executable, "-m", "media.probe_child", kind, copy.name],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=CHILD_SECONDS,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "OMP_NUM_THREADS": "1"},
            )
        except subprocess.TimeoutExpired:
            raise MediaTooLarge(
                f"decoding takes longer than {CHILD_SECONDS:g} s; give a shorter or smaller file"
            ) from None
    if done.returncode != 0:
        fault = _CHILD_EXITS.get(done.returncode, UnreadableMedia)
        known = done.returncode in _CHILD_EXITS and done.stdout
        said = done.stdout.decode(errors="replace").strip() if known else "it cannot be decoded; export it again"
        raise fault(said)
