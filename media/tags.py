"""Text tags inside sound files: RIFF INFO (WAV), ID3v2 (MP3) and Vorbis comments (FLAC, OGG).

Knows bytes. Does not know samples: a note is read from a foreign file without any decoder having seen it.

libsndfile drops WAV tags of more than 2 kB without a word and writes MP3 tags in Latin-1, and provenance is longer than the one and may
hold more than the other: both are written here.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

NAMES = ("title", "artist", "comment", "software", "copyright", "date")
_INFO = dict(zip(NAMES, (b"INAM", b"IART", b"ICMT", b"ISFT", b"ICOP", b"ICRD"), strict=True))
_ID3 = dict(zip(NAMES, (b"TIT2", b"TPE1", b"COMM", b"TSSE", b"TCOP", b"TDRC"), strict=True))
_ENCODINGS = ("latin-1", "utf-16", "utf-16-be", "utf-8")  # by ID3's number
_SIGNATURE = re.compile(r" \(libsndfile-[\d.]+\)$")  # libsndfile adds itself to the software
MAX_BYTES = 2**20  # of all tags together; more is no note of ours


def with_info(wav: bytes, tags: Mapping[str, str]) -> bytes:
    """RIFF bytes with a LIST/INFO chunk of the tags at the end."""
    entries = b"".join(_riff(_INFO[name], text.encode() + b"\0") for name, text in tags.items())
    body = wav + _riff(b"LIST", b"INFO" + entries)
    return body[:4] + struct.pack("<I", len(body) - 8) + body[8:]


def with_id3(mp3: bytes, tags: Mapping[str, str]) -> bytes:
    """MP3 bytes behind an ID3v2.4 tag in UTF-8."""
    frames = b""
    for name, text in tags.items():
        # A comment carries its language and an empty description before its text.
        content = b"\x03" + (b"und\0" if name == "comment" else b"") + text.encode()
        frames += _ID3[name] + _synchsafe(len(content)) + b"\0\0" + content
    return b"ID3\x04\0\0" + _synchsafe(len(frames)) + frames + mp3


def read(path: Path) -> dict[str, str]:
    """The known tags of a file; empty where there are none, or where they are damaged. Raises OSError."""
    with path.open("rb") as file:
        head = file.read(12)
        file.seek(0)
        try:
            if head[:4] in (b"RIFF", b"RF64") and head[8:] == b"WAVE":
                return _read_info(file)
            if head[:3] == b"ID3":
                return _read_id3(file)
            if head[:4] == b"fLaC":
                return _read_vorbis(_flac_comment(file))
            if head[:4] == b"OggS":
                return _read_vorbis(_ogg_comment(file))
        except (struct.error, IndexError, UnicodeError):
            return {}
    return {}


def _riff(code: bytes, content: bytes) -> bytes:
    return code + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def _read_info(file: BinaryIO) -> dict[str, str]:
    names = {code: name for name, code in _INFO.items()}
    found: dict[str, str] = {}
    file.seek(12)
    while len(header := file.read(8)) == 8:
        size = struct.unpack("<I", header[4:])[0]
        after = file.tell() + size + size % 2
        if header[:4] == b"LIST" and size <= MAX_BYTES:
            chunk, at = file.read(size), 4
            while chunk[:4] == b"INFO" and at + 8 <= len(chunk):
                length = struct.unpack("<I", chunk[at + 4 : at + 8])[0]
                if chunk[at : at + 4] in names:
                    raw = chunk[at + 8 : at + 8 + length]
                    found[names[chunk[at : at + 4]]] = raw.rstrip(b"\0").decode(errors="replace")
                at += 8 + length + length % 2
        file.seek(after)
    return found


def _read_id3(file: BinaryIO) -> dict[str, str]:
    names = {code: name for name, code in _ID3.items()}
    found: dict[str, str] = {}
    header = file.read(10)
    version, flags = header[3], header[5]
    if version not in (3, 4) or flags & 0xC0:  # unsynchronised or extended: not written by anybody we know
        return found
    body, at = file.read(min(_from_synchsafe(header[6:10]), MAX_BYTES)), 0
    while at + 10 <= len(body) and body[at]:
        size = _from_synchsafe(body[at + 4 : at + 8]) if version == 4 else struct.unpack(">I", body[at + 4 : at + 8])[0]
        name, content = names.get(body[at : at + 4]), body[at + 10 : at + 10 + size]
        if name and content and content[0] < len(_ENCODINGS):
            text = content[4 if name == "comment" else 1 :].decode(_ENCODINGS[content[0]], errors="replace")
            text = text.partition("\0")[2] if name == "comment" else text
            found.setdefault(name, text.lstrip("\ufeff").rstrip("\0"))
        at += 10 + size
    return found


def _read_vorbis(packet: bytes) -> dict[str, str]:
    """Tags of a Vorbis comment: vendor, count, then ``NAME=text``, each behind its length."""
    found: dict[str, str] = {}
    at = 4 + struct.unpack_from("<I", packet)[0]
    count = struct.unpack_from("<I", packet, at)[0]
    at += 4
    for _ in range(min(count, 1000)):
        if at + 4 > len(packet):
            break
        size = struct.unpack_from("<I", packet, at)[0]
        name, _, text = packet[at + 4 : at + 4 + size].decode(errors="replace").partition("=")
        if name.lower() in NAMES:
            found.setdefault(name.lower(), _SIGNATURE.sub("", text))
        at += 4 + size
    return found


def _flac_comment(file: BinaryIO) -> bytes:
    file.seek(4)
    while len(header := file.read(4)) == 4:
        size = int.from_bytes(header[1:], "big")
        if header[0] & 0x7F == 4:
            return file.read(min(size, MAX_BYTES))
        if header[0] & 0x80:  # the last block
            break
        file.seek(size, 1)
    return struct.pack("<II", 0, 0)


def _ogg_comment(file: BinaryIO) -> bytes:
    for number, packet in enumerate(_ogg_packets(file)):
        for signature in (b"\x03vorbis", b"OpusTags"):
            if packet.startswith(signature):
                return packet[len(signature) :]
        if number >= 2:
            break
    return struct.pack("<II", 0, 0)


def _ogg_packets(file: BinaryIO) -> Iterator[bytes]:
    """Packets of the first pages; no more than MAX_BYTES are read."""
    packet = b""
    while len(header := file.read(27)) == 27 and header[:4] == b"OggS" and file.tell() < MAX_BYTES:
        for size in file.read(header[26]):
            packet += file.read(size)
            if size < 255:
                yield packet
                packet = b""


def with_ogg_serial(ogg: bytes, serial: int) -> bytes:
    """The same single OGG stream under another serial number, checksums made anew.

    libsndfile draws the number at random, and equal sounds are to give equal bytes.
    """
    out, at = [], 0
    while ogg[at : at + 4] == b"OggS":
        lacing = ogg[at + 27 : at + 27 + ogg[at + 26]]
        end = at + 27 + len(lacing) + sum(lacing)
        page = ogg[at : at + 14] + struct.pack("<I", serial) + ogg[at + 18 : at + 22] + b"\0\0\0\0" + ogg[at + 26 : end]
        out.append(page[:22] + struct.pack("<I", _ogg_crc(page)) + page[26:])
        at = end
    assert at == len(ogg), "libsndfile writes whole pages"
    return b"".join(out)


_MIRROR = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def _ogg_crc(page: bytes) -> int:
    """OGG's checksum is zlib's polynomial read from the other end, starting from 0 and not inverted.

    >>> hex(_ogg_crc(b"OggS"))
    '0x5fb0a94f'
    """
    import zlib

    mirrored = zlib.crc32(page.translate(_MIRROR), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{mirrored:032b}"[::-1], 2)


def _synchsafe(size: int) -> bytes:
    return bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))


def _from_synchsafe(raw: bytes) -> int:
    return (raw[0] & 0x7F) << 21 | (raw[1] & 0x7F) << 14 | (raw[2] & 0x7F) << 7 | raw[3] & 0x7F
