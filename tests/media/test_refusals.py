"""What is not let in: one clear line each, quickly, from the header where there is one, and without a step into the network."""

from __future__ import annotations

import json
import os
import random
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import pytest

from media.audio import read_audio, read_tags
from media.guard import MAX_BYTES, prove_all, sniff
from media.image import load_image
from media.refs import MediaError, MediaStore, MediaTooLarge, MissingMedia, UnreadableMedia
from media.video import frames_at, open_container, probe
from tests import makers

TOO_LARGE = {
    "large.png", "huge.png", "half_an_hour.flac", "crowd.wav", "eight_channels.flac", "ten_hours.mp4", "eight_k.mp4",
}  # fmt: skip


@dataclass
class Trap:
    """A listener on this machine that counts who comes."""

    server: socket.socket
    port: int

    def visits(self) -> int:
        count = 0
        while True:
            try:
                self.server.accept()[0].close()
                count += 1
            except BlockingIOError:
                return count


@pytest.fixture(scope="module")
def trap() -> Iterator[Trap]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield Trap(server, server.getsockname()[1])


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory, trap: Trap) -> dict[str, tuple[Path, tuple[str, ...]]]:
    return makers.hostile_files(tmp_path_factory.mktemp("hostile"), trap.port)


def refusal(path: Path) -> MediaError:
    with pytest.raises(MediaError) as caught:
        MediaStore(path.parent / "store").put_file(path)
    return caught.value


def test_each_hostile_file_is_one_clear_line_within_the_time(hostile: dict[str, tuple[Path, tuple[str, ...]]], trap: Trap) -> None:
    trap.visits()
    for name, (path, words) in hostile.items():
        before = os.times()
        error = refusal(path)
        after = os.times()
        text = str(error)
        assert text.startswith(f"{name}: "), (name, text)
        assert "\n" not in text and len(text) < 250, (name, text)
        assert all(word in text for word in words), (name, text)
        assert isinstance(error, MediaTooLarge) == (name in TOO_LARGE), (name, text)
        # Processor time, ours and the child's: the clock of a busy machine says nothing about us.
        assert sum(after[:4]) - sum(before[:4]) < 1.5, (name, sum(after[:4]) - sum(before[:4]))
    store = next(iter(hostile.values()))[0].parent / "store"
    assert [p for p in store.rglob("*") if p.is_file()] == []
    assert trap.visits() == 0


def test_the_trap_would_have_seen_a_visit(trap: Trap) -> None:
    trap.visits()
    with pytest.raises(av.error.FFmpegError):
        av.open(f"http://127.0.0.1:{trap.port}/a.ts", timeout=0.3)
    assert trap.visits() > 0


@pytest.mark.parametrize("name", ["playlist.mp4", "local.mp4", "ffconcat.mkv", "concat.mp4", "subfile.mov", "url.wav", "manifest.mp4"])
def test_ffmpeg_itself_follows_no_pointer(hostile: dict[str, tuple[Path, tuple[str, ...]]], trap: Trap, name: str) -> None:
    """The second wall: even a file that the first look let through reaches nothing but itself."""
    trap.visits()
    with pytest.raises(UnreadableMedia):
        probe(hostile[name][0])
    with pytest.raises(UnreadableMedia):
        read_audio(hostile[name][0])
    assert trap.visits() == 0


@pytest.mark.parametrize("address", ["http://127.0.0.1:{}/a.png", "https://127.0.0.1:{}/a.wav", "file:///etc/passwd", "ftp://a/b.mp4"])
def test_addresses_are_no_files(tmp_path: Path, trap: Trap, address: str) -> None:
    trap.visits()
    for reader in (MediaStore(tmp_path).put_file, load_image, read_audio, read_tags, probe):
        with pytest.raises(MissingMedia, match="only files on this machine"):
            reader(Path(address.format(trap.port)))
    assert trap.visits() == 0


def test_a_folder_a_pipe_a_device_and_odd_names_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, word in [
        (tmp_path, "folder"),
        (tmp_path / "pipe", "pipe"),
        (Path("/dev/zero"), "device"),
        (tmp_path / "none.wav", "no file"),
        (tmp_path / ("long" * 100), "too long"),
        (tmp_path / "a\0b.wav", "no file"),
        (tmp_path / "two\nlines\x1b[31m.wav", "no file"),
    ]:
        for reader in (MediaStore(tmp_path / "store").put_file, load_image, read_audio, read_tags, probe):
            with pytest.raises(MissingMedia) as caught:
                reader(path)
            assert word in str(caught.value)
            assert str(caught.value).isprintable()


def test_a_file_beyond_the_byte_cap_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    with path.open("wb") as file:
        file.write(b"RIFF\xff\xff\xff\xffWAVE")
        file.truncate(MAX_BYTES + 1)  # a sparse file: nothing on the disk
    start = time.process_time()
    assert "512 MB" in str(refusal(path))
    assert time.process_time() - start < 0.1


def test_refusing_costs_little_memory_and_no_torch(hostile: dict[str, tuple[Path, tuple[str, ...]]], tmp_path: Path) -> None:
    names = ["half_an_hour.flac", "large.png", "huge.png", "eight_channels.flac", "ten_hours.mp4", "playlist.mp4"]
    code = """
import json, resource, sys
from pathlib import Path
from media.refs import MediaError, MediaStore
said = []
for name in sys.argv[2:]:
    try:
        MediaStore(Path(sys.argv[1])).put_file(Path(name))
    except MediaError as error:
        said.append(type(error).__name__)
# ru_maxrss of a process starts with what its parent had when it forked; VmHWM starts anew with the program.
ours = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
childs = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
print(json.dumps([said, [ours, childs], [m for m in ("torch", "transformers", "diffusers", "scipy", "av") if m in sys.modules]]))
"""
    paths = [str(hostile[name][0]) for name in names]
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path), *paths], capture_output=True, text=True, check=True)
    said, (ours, childs), heavy = json.loads(done.stdout)
    assert said == ["MediaTooLarge"] * 5 + ["UnreadableMedia"]
    assert ours < 120 and childs < 160, (ours, childs)  # decoded, the flac alone would take 318 MB and the pictures 1.5 GB
    assert heavy == []


def test_a_header_that_lies_about_four_gigabytes_costs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "lie.wav"
    wav = makers.sound_bytes(makers.tone(440, 0.5).samples[0], 16_000, "WAV", "PCM_16")
    at = wav.index(b"data") + 4
    path.write_bytes(b"RIFF\xff\xff\xff\xff" + wav[8:at] + b"\xf0\xff\xff\xff" + wav[at + 4 :])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        audio = read_audio(path)
    except MediaError as error:
        assert "s, the limit is" in str(error)
    else:
        assert audio.samples.shape == (1, 8000)
        assert abs(makers.peak_hz(audio) - 440) < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kB


def test_listed_codecs_pass_and_others_do_not(tmp_path: Path) -> None:
    good = makers.clip(tmp_path / "good.mkv", [(makers.RED, 0.5)])
    bad = makers.raw_clip(tmp_path / "bad.mkv", "ffv1")
    with av.open(str(bad)) as container:  # FFmpeg as it comes decodes it: the list is what stops it
        assert len(list(container.decode(video=0))) == 5
    assert frames_at(good, [0.0])[0][20, 20, 0] > 240
    with pytest.raises(UnreadableMedia):
        frames_at(bad, [0.0])
    with open_container(bad) as container, pytest.raises(av.error.FFmpegError):
        list(container.decode(video=0))


def test_subtitles_beside_picture_and_sound_do_no_harm(tmp_path: Path) -> None:
    source = makers.clip(tmp_path / "source.mkv", [(makers.GREEN, 0.5)], sound=makers.tone(440, 0.5, 48_000))
    path = tmp_path / "subtitled.mkv"
    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        streams = {s.index: new.add_stream_from_template(s) for s in old.streams}
        words = new.add_stream("srt")
        words.codec_context.subtitle_header = b"[Script Info]\n"
        for packet in old.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                new.mux(packet)
        packet = av.Packet(b"a word")
        packet.stream, packet.pts, packet.dts, packet.duration, packet.time_base = words, 0, 0, 400, words.time_base
        new.mux(packet)
    with av.open(str(path)) as made:
        assert [s.type for s in made.streams] == ["video", "audio", "subtitle"]
    assert MediaStore(tmp_path / "store").put_file(path).kind == "video"
    assert makers.peak_hz(read_audio(path)) == pytest.approx(440, abs=3)


def test_a_module_named_media_in_the_current_folder_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "media").mkdir()
    (tmp_path / "media" / "__init__.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    (tmp_path / "numpy.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    path = makers.picture(tmp_path / "a.png", makers.halves())
    monkeypatch.chdir(tmp_path)
    assert MediaStore(tmp_path / "store").put_file(path).mime == "image/png"
    assert not (tmp_path / "ran").exists()


def test_mislabelled_files_are_taken_for_what_they_are(tmp_path: Path) -> None:
    tone = makers.tone(440, 0.5, 48_000)
    makers.clip(tmp_path / "v.mp4", [(makers.RED, 0.5)]).rename(tmp_path / "really_a_video.png")
    makers.picture(tmp_path / "p.jpg", makers.halves()).rename(tmp_path / "really_a_picture.wav")
    makers.sound_only(tmp_path / "only_sound.mp4", tone)
    makers.sound_only(tmp_path / "only_sound.webm", tone, "libopus")
    store = MediaStore(tmp_path / "store")
    found = {p.name: store.put_file(p) for p in tmp_path.iterdir() if p.is_file()}
    assert {name: (ref.kind, ref.mime) for name, ref in found.items()} == {
        "really_a_video.png": ("video", "video/mp4"),
        "really_a_picture.wav": ("image", "image/jpeg"),
        "only_sound.mp4": ("audio", "audio/mp4"),
        "only_sound.webm": ("audio", "audio/webm"),
    }


def test_every_format_is_known_by_its_first_bytes(tmp_path: Path) -> None:
    kinds = {path.suffix: sniff(path.read_bytes()[:64]) for path in makers.seeds(tmp_path)}
    assert kinds == {
        ".wav": ("audio/wav", "audio"),
        ".flac": ("audio/flac", "audio"),
        ".ogg": ("audio/ogg", "audio"),
        ".mp3": ("audio/mpeg", "audio"),
        ".png": ("image/png", "image"),
        ".jpg": ("image/jpeg", "image"),
        ".webp": ("image/webp", "image"),
        ".mp4": ("video/mp4", "video"),
        ".mkv": ("video/x-matroska", "video"),
        ".webm": ("video/webm", "video"),
        ".mov": ("video/quicktime", "video"),
    }


def fuzz(folder: Path, count: int) -> None:
    """Every mutant ends as a proof or a MediaError, in the child and, where it was let in, in this process as well."""
    rng = random.Random(20_26)
    good = [path.read_bytes() for path in makers.seeds(folder)]
    mutants = []
    for number in range(count):
        mutants.append(folder / f"mutant-{number:04d}")
        mutants[-1].write_bytes(makers.mutated(good[number % len(good)], rng.choice(good), rng))
    outcomes = prove_all(mutants)
    assert len(outcomes) == count
    admitted = 0
    for path, outcome in zip(mutants, outcomes, strict=True):
        if isinstance(outcome, MediaError):
            assert str(outcome).isprintable() and 20 < len(str(outcome)) < 250
            continue
        admitted += 1
        try:
            if outcome.kind == "image":
                assert load_image(path).shape[2] == 3
            elif outcome.kind == "audio":
                assert abs(read_audio(path).samples).max() <= 1.0
                if sniff(path.read_bytes()[:64])[1] == "audio":  # a sound inside Matroska has no notes of ours
                    assert len(read_tags(path)) <= 6
            else:
                assert frames_at(path, [0.1])[0].shape[2] == 3
        except MediaError as error:
            pytest.fail(f"{path.name} was let in and then refused: {error}")
    assert count * 0.1 < admitted < count * 0.9  # neither all nor nothing, or the fuzzing shows nothing


def test_200_damaged_files_crash_nobody(tmp_path: Path) -> None:
    fuzz(tmp_path, 200)


@pytest.mark.slow
def test_2000_damaged_files_crash_nobody(tmp_path: Path) -> None:
    fuzz(tmp_path, 2000)
