"""Recorded clips come back from packages: Qt resources, zips, plain files. Archives are made here, byte by byte."""

import io
import json
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from training import recordings
from training.recordings import (
    SAMPLE_RATE,
    BadManifest,
    BrokenArchive,
    BrokenSound,
    MissingSource,
    PackageFiles,
    PackageUnavailable,
    RccEntry,
    Recording,
    decoded,
    main,
    opus,
    packages_of,
    rcc_entries,
    rcc_read,
    read_manifest,
    rebuild,
    trimmed,
)

Samples = npt.NDArray[np.float64]
Tree = dict[str, "bytes | tuple[int, bytes] | Tree"]


def tone(frequency_hz: float, seconds: float, rate: int = SAMPLE_RATE) -> Samples:
    return 0.5 * np.sin(2 * np.pi * frequency_hz * np.arange(int(seconds * rate)) / rate)


def wav(samples: Samples, rate: int = SAMPLE_RATE, format: str = "WAV") -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=format, subtype="PCM_16")
    return buffer.getvalue()


def frequency_of(samples: Samples, rate: int = SAMPLE_RATE) -> float:
    return float(np.argmax(np.abs(np.fft.rfft(samples * np.hanning(len(samples))))) * rate / len(samples))


def qt_zlib(data: bytes) -> tuple[int, bytes]:
    """Flag and stored bytes of a compressed entry."""
    return 1, struct.pack(">I", len(data)) + zlib.compress(data)


def qt_resource(tree: Tree, version: int = 3) -> bytes:
    """A .rcc file as Qt's compiler lays it out: header, data, names, breadth-first tree."""
    data, names, nodes = b"", b"", b""
    queue: list[tuple[str, bytes | tuple[int, bytes] | Tree]] = [("", tree)]
    following = 1
    for name, content in queue:  # grows while it is walked
        name_offset = len(names)
        if name:
            names += struct.pack(">HI", len(name), 0) + name.encode("utf-16-be")
        if isinstance(content, dict):
            nodes += struct.pack(">IHII", name_offset, 2, len(content), following)
            queue.extend(content.items())
            following += len(content)
        else:
            flags, stored = content if isinstance(content, tuple) else (0, content)
            nodes += struct.pack(">IHHHI", name_offset, flags, 0, 1, len(data))
            data += struct.pack(">I", len(stored)) + stored
        if version >= 2:
            nodes += struct.pack(">Q", 1_700_000_000_000)
    header_size = 24 if version >= 3 else 20
    names_at = header_size + len(data)
    header = b"qres" + struct.pack(">4I", version, names_at + len(names), header_size, names_at)
    if version >= 3:
        header += struct.pack(">I", 0)
    return header + data + names + nodes


def row(file: str, path: str, seconds: float = 0.5, package: str = "toy-sounds") -> Recording:
    return Recording(file, package, path, "CC0", "A", "a tone", "tone", "electronic", seconds, f"{package}:{path}")


# -------------------------------------------------------------------------------------------------- Qt resource files


@pytest.mark.parametrize("version", [1, 2, 3])
def test_qt_resource_gives_back_every_file_of_a_nested_tree(version: int) -> None:
    long = b"meow " * 1000
    blob = qt_resource({"src": {"cat": {"meow.wav": qt_zlib(long), "größe.txt": b"4 kg"}, "empty": {}}, "top.bin": b"\0\1"}, version)
    entries = rcc_entries(blob)
    assert {path: rcc_read(blob, entry) for path, entry in entries.items()} == {
        "src/cat/meow.wav": long,
        "src/cat/größe.txt": b"4 kg",
        "top.bin": b"\0\1",
    }


def test_qt_resource_refuses_what_is_none() -> None:
    with pytest.raises(BrokenArchive, match="qres"):
        rcc_entries(b"PK\3\4 not a resource")
    with pytest.raises(BrokenArchive, match="format 9"):
        rcc_entries(qt_resource({"a": b"1"}, version=3)[:4] + struct.pack(">I", 9) + bytes(40))


@pytest.mark.parametrize("kept", [10, 30, -1, -20])
def test_qt_resource_that_is_cut_short_is_refused(kept: int) -> None:
    with pytest.raises(BrokenArchive, match="cut short"):
        rcc_entries(qt_resource({"folder": {"a.wav": b"12345678"}})[:kept])


def test_qt_resource_that_contains_itself_is_refused() -> None:
    blob = bytearray(qt_resource({"folder": {"a.wav": b"1"}}))
    (tree_at,) = struct.unpack_from(">I", blob, 8)
    struct.pack_into(">I", blob, tree_at + 22 + 10, 0)  # the first child of "folder" is the root again
    with pytest.raises(BrokenArchive, match="circles"):
        rcc_entries(bytes(blob))


def test_qt_entry_that_lies_about_its_length_is_refused() -> None:
    bomb = struct.pack(">I", 10) + zlib.compress(bytes(10_000_000))
    blob = qt_resource({"a.wav": (1, bomb)})
    with pytest.raises(BrokenArchive, match="says 10"):
        rcc_read(blob, rcc_entries(blob)["a.wav"])
    with pytest.raises(BrokenArchive, match="cut off"):
        rcc_read(b"12345", RccEntry(0, 3, 10))
    with pytest.raises(BrokenArchive, match="does not unpack"):
        rcc_read(b"\0\0\0\5garbage", RccEntry(1, 0, 11))


def test_qt_entry_in_zstd_without_the_program_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(BrokenArchive, match="apt-get install zstd"):
        rcc_read(b"\x28\xb5\x2f\xfd", RccEntry(4, 0, 4))


# ------------------------------------------------------------------------------------------------------------ packages


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder as `dpkg-deb -x` leaves it: a plain file, a Qt resource, a zip, a link and a broken resource."""
    share = tmp_path / "package/usr/share/toy"
    (share / "more/samples").mkdir(parents=True)
    (share / "samples").mkdir()
    (share / "samples/low.flac").write_bytes(wav(tone(200, 0.5, 44100), 44100, "FLAC"))
    (share / "more/samples/low.flac").write_bytes(b"another one of the same name, deeper down")
    (share / "samples/link.wav").symlink_to("/etc/hostname")
    (share / "samples/empty.wav").write_bytes(wav(np.zeros(8000)))
    middle = wav(tone(1000, 0.5, 22050), 22050)
    (share / "game.rcc").write_bytes(qt_resource({"src": {"resource": {"middle.wav": qt_zlib(middle)}}}))
    (share / "torn.rcc").write_bytes(b"qres\0\0")
    with zipfile.ZipFile(share / "public.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("audio/actor/high.wav", wav(np.stack([tone(3000, 0.5), tone(3000, 0.5)], axis=1)))
    return tmp_path / "package"


def test_files_are_found_plain_in_qt_resources_and_in_zips(package: Path) -> None:
    files = PackageFiles(package)
    for path, expected in (("samples/low.flac", 200), ("resource/middle.wav", 1000), ("actor/high.wav", 3000)):
        assert frequency_of(decoded(files.read(path))) == pytest.approx(expected, abs=3)


def test_only_whole_folder_names_match(package: Path) -> None:
    files = PackageFiles(package)
    for path in ("ples/low.flac", "samples/high.wav", "low.wav", "samples/link.wav"):
        with pytest.raises(MissingSource, match=path):
            files.read(path)


def test_a_damaged_zip_member_is_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("sound.wav", b"0123456789")
    damaged = (tmp_path / "a.zip").read_bytes().replace(b"0123456789", b"012345678X")
    (tmp_path / "a.zip").write_bytes(damaged)
    with pytest.raises(BrokenArchive, match=r"sound\.wav"):
        PackageFiles(tmp_path).read("sound.wav")


# --------------------------------------------------------------------------------------------------------------- sound


def test_stereo_is_averaged_and_resampled_to_16_khz() -> None:
    left, right = tone(500, 1, 44100), 0.5 * tone(500, 1, 44100)
    samples = decoded(wav(np.stack([left, right], axis=1), 44100))
    assert len(samples) == SAMPLE_RATE
    assert frequency_of(samples) == pytest.approx(500, abs=1)
    assert np.abs(samples[1000:-1000]).max() == pytest.approx(0.375, abs=2e-3)


def test_what_lies_above_8_khz_does_not_fold_down() -> None:
    samples = decoded(wav(tone(11000, 1, 44100), 44100))
    assert np.sqrt((samples[800:-800] ** 2).mean()) < 1e-3


def test_silence_below_45_db_is_cut_off_both_ends_and_kept_inside() -> None:
    sound = tone(400, 0.2)
    faint = 10 ** (-46 / 20) * tone(400, 0.3)
    audible = 10 ** (-44 / 20) * tone(400, 0.1)
    samples = np.r_[faint, sound, np.zeros(1600), sound, audible, faint]
    assert len(trimmed(samples)) / SAMPLE_RATE == pytest.approx(0.2 + 0.1 + 0.2 + 0.1, abs=1e-9)
    np.testing.assert_array_equal(trimmed(samples)[:3200], sound)


def test_at_most_30_seconds_are_kept() -> None:
    assert len(trimmed(tone(100, 31))) == 30 * SAMPLE_RATE


@pytest.mark.parametrize("samples", [np.zeros(16000), np.ones(10)], ids=["silence", "shorter than a frame"])
def test_silence_is_refused(samples: Samples) -> None:
    with pytest.raises(BrokenSound, match="silence"):
        trimmed(samples)


def test_what_is_no_sound_is_refused() -> None:
    with pytest.raises(BrokenSound, match="decoded"):
        decoded(b"<html>not found</html>")
    with pytest.raises(BrokenSound, match="no samples"):
        decoded(wav(np.zeros(0)))


def test_opus_keeps_length_pitch_and_about_24_kbit() -> None:
    noisy = tone(700, 10) + 0.05 * np.random.default_rng(0).standard_normal(160000)
    data = opus(noisy)
    assert soundfile.info(io.BytesIO(data)).subtype == "OPUS"
    samples, rate = soundfile.read(io.BytesIO(data))
    assert (rate, len(samples)) == (SAMPLE_RATE, 160000)
    assert frequency_of(samples) == pytest.approx(700, abs=1)
    assert 18_000 < len(data) * 8 / 10 < 32_000


# ----------------------------------------------------------------------------------------------------------------- job


class Shop:
    """Opens packages that lie unpacked in a folder, and remembers which."""

    def __init__(self, **roots: Path) -> None:
        self.roots = {name.replace("_", "-"): root for name, root in roots.items()}
        self.opened: list[str] = []

    @contextmanager
    def __call__(self, name: str, scratch: Path) -> Iterator[PackageFiles]:
        self.opened.append(name)
        if name not in self.roots:
            raise PackageUnavailable(f"{name}: no such package")
        yield PackageFiles(self.roots[name])


ROWS = [
    row("000000000001.ogg", "samples/low.flac"),
    row("000000000002.ogg", "src/resource/middle.wav"),
    row("000000000003.ogg", "actor/high.wav"),
]


def test_rebuilt_clips_are_opus_files_under_the_names_of_their_rows(package: Path, tmp_path: Path) -> None:
    report = rebuild(ROWS, tmp_path / "out", Shop(toy_sounds=package))
    assert report.rebuilt == ROWS
    assert (report.kept, report.changed, report.failed) == ([], [], [])
    for file, expected in (("000000000001.ogg", 200), ("000000000002.ogg", 1000), ("000000000003.ogg", 3000)):
        samples, rate = soundfile.read(tmp_path / "out" / file)
        assert rate == SAMPLE_RATE
        assert len(samples) / rate == pytest.approx(0.5, abs=0.011)
        assert frequency_of(samples) == pytest.approx(expected, abs=5)
    assert read_manifest(tmp_path / "out/recordings.jsonl") == ROWS
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [*(r.file for r in ROWS), "recordings.jsonl"]


def test_second_run_opens_nothing_and_a_lost_clip_alone_is_made_again(package: Path, tmp_path: Path) -> None:
    out, shop = tmp_path / "out", Shop(toy_sounds=package)
    rebuild(ROWS, out, shop)
    before = {r.file: (out / r.file).read_bytes() for r in ROWS}
    assert rebuild(ROWS, out, shop).kept == ROWS
    assert shop.opened == ["toy-sounds"]
    (out / ROWS[1].file).unlink()
    report = rebuild(ROWS, out, shop)
    assert report.rebuilt == [ROWS[1]]
    assert [(out / ROWS[k].file).read_bytes() for k in (0, 2)] == [before[ROWS[k].file] for k in (0, 2)]


def test_rows_that_cannot_be_rebuilt_are_reported_and_the_rest_goes_on(package: Path, tmp_path: Path) -> None:
    rows = [
        row("0000000000aa.ogg", "samples/gone.wav"),
        row("0000000000ab.ogg", "samples/empty.wav"),
        row("0000000000ac.ogg", "boom.wav", package="unknown-sounds"),
        ROWS[0],
    ]
    report = rebuild(rows, tmp_path / "out", Shop(toy_sounds=package))
    assert report.rebuilt == [ROWS[0]]
    reasons = {failed.file: reason for failed, reason in report.failed}
    assert reasons.keys() == {r.file for r in rows[:3]}
    assert "gone.wav" in reasons["0000000000aa.ogg"]
    assert "silence" in reasons["0000000000ab.ogg"]
    assert "no such package" in reasons["0000000000ac.ogg"]
    assert read_manifest(tmp_path / "out/recordings.jsonl") == [ROWS[0]]


def test_a_clip_of_another_length_than_the_manifest_says_is_pointed_out(package: Path, tmp_path: Path) -> None:
    odd = replace(ROWS[0], seconds=2.0)
    report = rebuild([odd], tmp_path, Shop(toy_sounds=package))
    assert report.rebuilt == [odd]
    [(changed, seconds)] = report.changed
    assert changed == odd
    assert seconds == pytest.approx(0.5, abs=0.011)


# ---------------------------------------------------------------------------------------------------- the real manifest


def test_manifest_names_1291_free_clips_of_seven_packages() -> None:
    rows = read_manifest()
    assert Counter(r.tier for r in rows) == {"A": 365, "B": 926}
    assert Counter(r.package for r in rows) == {
        "0ad-data": 761,
        "hydrogen-drumkits": 244,
        "sonic-pi-samples": 156,
        "supertuxkart-data": 66,
        "gcompris-qt-data": 49,
        "sound-theme-freedesktop": 10,
        "tuxpaint-stamps-default": 5,
    }
    assert len({r.file for r in rows}) == len(rows)
    assert all(0.1 <= r.seconds <= 30 for r in rows)
    assert not [r.licence for r in rows if r.licence.startswith("GPL") or "NC" in r.licence]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"file": "../../evil.ogg"}, "12 hexadecimal digits"),
        ({"package": "-o=Dir::Etc"}, "not the name of a Debian package"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_manifest_rows_that_could_do_harm_are_refused(change: dict[str, str], message: str, tmp_path: Path) -> None:
    good = json.loads((recordings.MANIFEST).read_text(encoding="utf-8").splitlines()[0])
    path = tmp_path / "recordings.jsonl"
    path.write_text(json.dumps(good | change) + "\n", encoding="utf-8")
    with pytest.raises(BadManifest, match=message):
        read_manifest(path)


def test_packages_are_listed_once_in_order() -> None:
    assert packages_of([row("a", "x", package="b"), row("c", "y", package="a"), row("d", "z", package="b")]) == [
        "b",
        "a",
    ]


# -------------------------------------------------------------------------------------------------------- command line


def test_without_apt_get_the_command_refuses_with_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main([str(tmp_path / "out")]) == 2
    assert "apt-get is not installed" in caplog.text
    assert not (tmp_path / "out").exists()


def test_an_unknown_package_is_refused_with_2(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert main([str(tmp_path / "out"), "--package", "wesnoth-data"]) == 2
    assert "wesnoth-data" in caplog.text
    assert "sonic-pi-samples" in caplog.text


def fake_tools(folder: Path, apt_get: str, dpkg_deb: str) -> None:
    for name, script in (("apt-get", apt_get), ("dpkg-deb", dpkg_deb)):
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)


def test_download_that_fails_ends_with_1_and_what_apt_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    fake_tools(tmp_path, "echo 'E: Unable to locate package' >&2; exit 100", "exit 0")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main([str(tmp_path / "out"), "--package", "sound-theme-freedesktop"]) == 1
    assert caplog.text.count("Unable to locate package") == 1
    assert "10 clips of sound-theme-freedesktop" in caplog.text
    assert "10 could not be rebuilt" in caplog.text


def test_the_command_downloads_unpacks_and_leaves_only_clips(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools, out = tmp_path / "tools", tmp_path / "out"
    tools.mkdir()
    fake_tools(tools, ': > "$2_1.0_all.deb"', f'/bin/cp -r {package} "$3"')  # dpkg-deb -x DEB FOLDER
    manifest = tmp_path / "recordings.jsonl"
    manifest.write_text("".join(json.dumps(vars(r)) + "\n" for r in ROWS))
    monkeypatch.setattr(recordings, "MANIFEST", manifest)
    monkeypatch.setenv("PATH", str(tools))
    assert main([str(out)]) == 0
    assert sorted(p.name for p in out.iterdir()) == [*(r.file for r in ROWS), "recordings.jsonl"]
