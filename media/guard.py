"""The border: what may come in, and what may go out.

A foreign file is taken by what its first bytes are, never by its suffix; it is decoded first in a child process that has little memory
and little time, so that a decoder's crash is one clear line here. A made sound is looked at before anybody hears of it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from media.audio import Audio, is_mpeg
from media.refs import Kind, MediaError, MediaTooLarge, MissingMedia, UnreadableMedia, require_file, shown

MAX_BYTES = 512 * 2**20
MAX_IN_PLACE = 2**40  # of a video that is read where it lies, block by block: no copy, nothing held in memory
CHILD_BYTES = 4 * 2**30  # address space; decoders map much more than they use
CHILD_CPU_SECONDS = 15  # for one file
CHILD_SECONDS = 30.0  # on the clock for one file: a busy machine gives us half a core
READY = "ready"  # the child's first line: what goes wrong before it is the installation's fault, not a file's
_FAULTS: dict[str, type[MediaError]] = {kind.__name__: kind for kind in (UnreadableMedia, MediaTooLarge, MissingMedia)}
_KNOWN = "loa reads PNG, JPEG, WEBP, WAV, FLAC, OGG, MP3, MP4, MKV, WEBM and MOV"
# What people and attackers hand in most often, so that the refusal can say what it was.
_FOREIGN = (
    (rb"\s*#EXTM3U", "a playlist (M3U), which only points to other files"),
    (rb"\s*ffconcat", "a playlist (ffconcat), which only points to other files"),
    (rb"\s*\[playlist\]", "a playlist (PLS), which only points to other files"),
    (rb"\s*(concat|subfile|https?|rtsp|file|ftp|data):", "an address in a text file"),
    (rb"RIFF....AVI ", "an AVI video"),
    (rb"GIF8[79]a", "a GIF"),
    (rb"BM", "a BMP picture"),
    (rb"(II\*\0|MM\0\*)", "a TIFF picture"),
    (rb"....ftyp(heic|heix|mif1|msf1|avif|avis|hevc)", "a HEIC or AVIF picture"),
    (rb"MThd", "a MIDI file"),
    (rb"FORM....AIF[FC]", "an AIFF sound"),
    (rb"caff", "a CAF sound"),
    (rb"%PDF", "a PDF"),
    (rb"PK\x03\x04", "a ZIP archive or an office document"),
    (rb"\x1f\x8b", "a gzip archive"),
    (rb"\x7fELF|MZ", "a program"),
    (rb"\s*<(\?xml|svg|!doctype|html|MPD)", "a web page, an SVG or another XML text"),
)


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
class Proof:
    """What a foreign file turned out to be when it was decoded in the child."""

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
    """MIME type and kind by the first bytes (64 are enough). Raises UnreadableMedia for anything that is not on the list."""
    if not head:
        raise UnreadableMedia("the file is empty; give a picture, a sound or a video")
    for pattern, what in _FOREIGN:
        if re.match(pattern, head, re.IGNORECASE | re.DOTALL):
            raise UnreadableMedia(f"the content is {what}; {_KNOWN}")
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
    if is_mpeg(head):
        return "audio/mpeg", "audio"
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return ("video/webm" if b"webm" in head[:64] else "video/x-matroska"), "video"
    if head[4:8] == b"ftyp":
        return _sniff_brand(head[8:12])
    if head[4:8] in (b"moov", b"mdat", b"wide"):  # QuickTime from before 2001
        return "video/quicktime", "video"
    raise UnreadableMedia(f"the content is of no known type (it starts with {head[:8].hex(' ')}); {_KNOWN}")


def _sniff_brand(brand: bytes) -> tuple[str, Kind]:
    """Type by the brand of an ISO base media file."""
    if brand.startswith((b"M4A", b"M4B")):
        return "audio/mp4", "audio"
    return ("video/quicktime" if brand == b"qt  " else "video/mp4"), "video"


def sniff_file(path: Path, most: int = MAX_BYTES) -> tuple[str, Kind]:
    """``sniff`` of a file, and the first look at it: it exists, is a plain file and has no more than ``most`` bytes.

    Raises:
        MissingMedia, UnreadableMedia, MediaTooLarge; the message names the file.
    """
    try:
        require_file(path)
        if (size := path.stat().st_size) > most:
            raise MediaTooLarge(f"it has {size / 2**20:.0f} MB, the limit is {most // 2**20} MB; cut or compress it")
        with path.open("rb") as file:
            return sniff(file.read(64))
    except MissingMedia:
        raise
    except MediaError as error:
        raise type(error)(f"{shown(path)}: {error}") from None
    except OSError as error:  # no permission, a broken disk
        raise MissingMedia(f"'{shown(path)}' cannot be read: {error.strerror}; check its permissions") from None


def take_copy(source: Path, target: Path) -> str:
    """Copy a foreign file and give its sha256 (64 hexadecimal digits); the memory used does not grow with it.

    Raises:
        MissingMedia: unreadable. MediaTooLarge: it goes on beyond ``MAX_BYTES``, whatever its size claimed.
        OSError: the target's disk is full, which is no fault of the file.
    """
    digest = hashlib.sha256()
    handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as copy:
        for block in _blocks(source):
            digest.update(block)
            copy.write(block)
        copy.flush()
        os.fsync(copy.fileno())
    return digest.hexdigest()


def _blocks(source: Path) -> Iterator[bytes]:
    total = 0
    try:
        with source.open("rb") as file:
            while block := file.read(2**20):
                total += len(block)
                if total > MAX_BYTES:
                    raise MediaTooLarge(f"{shown(source)}: it has more than {MAX_BYTES // 2**20} MB; cut or compress it")
                yield block
    except OSError as error:
        raise MissingMedia(f"'{shown(source)}' cannot be read: {error.strerror}; check its permissions") from None


def admit(path: Path, most: int = MAX_BYTES) -> Proof:
    """What a foreign file is, after a child process has decoded it within the limits.

    Raises:
        MissingMedia: no such file. UnreadableMedia: unknown, damaged or hostile content. MediaTooLarge: bytes, pixels, seconds.
    """
    sniff_file(path, most)
    return prove(path, shown_as=shown(path))


def prove(path: Path, shown_as: str) -> Proof:
    """Decode one file in a child; messages call it ``shown_as``. Raises UnreadableMedia, MediaTooLarge."""
    (outcome,) = prove_all([path])
    if isinstance(outcome, MediaError):
        raise type(outcome)(f"{shown_as}: {outcome}") from None
    return outcome


def prove_all(paths: Sequence[Path]) -> list[Proof | MediaError]:
    """Decode files one after the other in a child with limits on memory, time and written bytes.

    A file that kills the child is unreadable; the next ones get a new child. A bad file raises nothing: it is in the answer.

    Raises:
        RuntimeError: no child can be started.
    """
    outcomes: list[Proof | MediaError] = []
    while len(outcomes) < len(paths):
        batch = [str(path.resolve()) for path in paths[len(outcomes) :][:500]]
        said, code = _run_child(batch)
        outcomes += said[: len(batch)]
        if len(said) < len(batch):
            outcomes.append(_death(code))
    return outcomes


def _run_child(paths: list[str]) -> tuple[list[Proof | MediaError], int]:
    """Outcomes in order, as many as the child lived to tell, and how it ended (negative: the signal that killed it)."""
    # -P and a clean environment: no module of the current folder is imported, and no key of ours is within a decoder's reach.
    root = str(Path(__file__).resolve().parents[1])
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT") if name in os.environ}
    search = os.pathsep.join([root, *(entry for entry in sys.path if entry)])
    child = subprocess.Popen(
        [sys.executable, "-P", "-m", "media.probe_child", *paths],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=kept | {"PYTHONPATH": search, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONUTF8": "1"},
    )
    try:
        said, _ = child.communicate(timeout=CHILD_SECONDS * len(paths))
        code = child.returncode
    except subprocess.TimeoutExpired:
        child.kill()
        said, _ = child.communicate()
        code = -9
    except BaseException:  # Ctrl-C: the child goes with us
        child.kill()
        child.wait()
        raise
    lines = said.decode(errors="replace").splitlines()
    if lines[:1] != [READY]:
        raise RuntimeError("the process that decodes foreign files does not start; see `python -m media.probe_child`")
    return [_outcome(line) for line in lines[1:]], code


def _outcome(line: str) -> Proof | MediaError:
    """One line of the child. It has met hostile bytes, so it is believed no more than any stranger."""
    try:
        told = json.loads(line)
        if told.get("fault") in _FAULTS:
            return _FAULTS[told["fault"]](re.sub(r"[^\x20-\x7e]", "", str(told["message"]))[:300])
        mime, kind = str(told["mime"]), told["kind"]
        if kind in ("image", "audio", "video") and re.fullmatch(r"(image|audio|video)/[a-z0-9-]{2,20}", mime):
            return Proof(mime, kind)
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    return UnreadableMedia("it cannot be decoded; export it again")


def _death(code: int) -> MediaError:
    """Why a child that said nothing about a file ended."""
    import signal

    if -code in (signal.SIGXCPU, signal.SIGPROF, signal.SIGALRM, signal.SIGKILL):
        return MediaTooLarge(f"decoding takes more than {CHILD_CPU_SECONDS} s; give a shorter or smaller file")
    return UnreadableMedia("it cannot be decoded; export it again")
