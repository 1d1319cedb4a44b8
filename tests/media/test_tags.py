"""The note inside a sound: written and read back letter for letter in every format, and never by a decoder."""

import json
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from media import tags
from media.audio import encode_audio, read_audio, read_tags, write_audio
from media.refs import MissingMedia, UnreadableMedia
from tests.makers import halves, picture, tone

NOTE = json.dumps({"loa": "0.1.0", "prompt": 'déjà vu, 犬が吠える ✓ "quoted"\nnew line', "long": "x" * 4_000}, ensure_ascii=False)
FORMS = ("wav", "flac", "ogg", "mp3")


@pytest.mark.parametrize("form", FORMS)
def test_four_kilobytes_of_any_letters_come_back(tmp_path: Path, form: str):
    wanted = {
        "comment": NOTE,
        "title": "Žluťoučký kůň",
        "artist": "loa",
        "date": "2026",
        "copyright": "© nobody",
        "software": "loa 0.1",
    }
    write_audio(tmp_path / f"a.{form}", tone(), wanted)
    assert read_tags(tmp_path / f"a.{form}") == wanted


@pytest.mark.parametrize("form", FORMS)
def test_a_note_does_not_change_the_sound(tmp_path: Path, form: str):
    write_audio(tmp_path / f"a.{form}", tone())
    write_audio(tmp_path / f"b.{form}", tone(), {"comment": NOTE})
    np.testing.assert_array_equal(read_audio(tmp_path / f"a.{form}").samples, read_audio(tmp_path / f"b.{form}").samples)
    assert read_tags(tmp_path / f"a.{form}") == {}


@pytest.mark.parametrize("form", FORMS)
def test_another_library_reads_the_note_too(tmp_path: Path, form: str):
    """FFmpeg reads what we wrote, so players show it."""
    import av

    write_audio(tmp_path / f"a.{form}", tone(), {"comment": NOTE, "title": "Žluť"})
    with av.open(str(tmp_path / f"a.{form}")) as container:
        found = {key.lower(): text for key, text in (container.metadata | container.streams.audio[0].metadata).items()}
    assert found["comment"] == NOTE
    assert found["title"] == "Žluť"


def test_a_long_ogg_keeps_valid_checksums_under_its_fixed_serial(tmp_path: Path):
    write_audio(tmp_path / "a.ogg", tone(seconds=20, sample_rate=44_100))
    raw = (tmp_path / "a.ogg").read_bytes()
    assert raw.count(b"OggS") > 5
    assert soundfile.read(tmp_path / "a.ogg")[0].shape == (882_000,)
    # A page with a wrong checksum is skipped by libogg, so that the check above is a check.
    at = raw.index(b"OggS", len(raw) // 2)
    (tmp_path / "b.ogg").write_bytes(raw[: at + 22] + b"\0\0\0\0" + raw[at + 26 :])
    assert len(soundfile.read(tmp_path / "b.ogg")[0]) < 882_000


def test_the_checksum_of_a_page_is_that_of_its_definition():
    def by_the_book(data: bytes) -> int:
        crc = 0
        for byte in data:
            crc ^= byte << 24
            for _ in range(8):
                crc = (crc << 1 ^ 0x04C11DB7 if crc & 0x80000000 else crc << 1) & 0xFFFFFFFF
        return crc

    for data in (b"", b"OggS", bytes(range(256)) * 3):
        assert tags._ogg_crc(data) == by_the_book(data)


@pytest.mark.parametrize("form", FORMS)
def test_damaged_notes_are_no_notes_and_no_crash(tmp_path: Path, form: str):
    whole = encode_audio(tone(seconds=0.2), form, {"comment": NOTE})
    draw = np.random.default_rng(5)
    where = [at for at in range(len(whole)) if at < 120 or at > len(whole) - 4_400][::23]
    for at in where:
        damaged = bytearray(whole)
        damaged[at] = int(draw.integers(0, 256))
        (tmp_path / "a.bin").write_bytes(bytes(damaged) if draw.random() < 0.5 else whole[: max(12, at)])
        assert all(isinstance(text, str) for text in tags.read(tmp_path / "a.bin").values())


def test_a_wav_of_a_million_empty_chunks_is_read_in_no_time(tmp_path: Path):
    body = b"WAVE" + b"JUNK\0\0\0\0" * 200_000
    (tmp_path / "a.wav").write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    assert tags.read(tmp_path / "a.wav") == {}


def test_reading_a_note_loads_no_decoder(tmp_path: Path):
    write_audio(tmp_path / "a.flac", tone(), {"comment": "hello"})
    code = (
        "import sys, pathlib; from media.audio import read_tags; print(read_tags(pathlib.Path(sys.argv[1]))['comment'], "
        "sorted({'soundfile', '_soundfile', 'av', 'PIL', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.flac")], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[0] == "hello []"


def test_only_sounds_have_notes(tmp_path: Path):
    with pytest.raises(MissingMedia, match=r"no\.wav"):
        read_tags(tmp_path / "no.wav")
    picture(tmp_path / "a.png", halves())
    with pytest.raises(UnreadableMedia, match=r"a\.png"):
        read_tags(tmp_path / "a.png")


def test_a_tag_that_nobody_reads_back_is_refused():
    with pytest.raises(ValueError, match="mood"):
        encode_audio(tone(), "wav", {"mood": "good"})
