"""Rebuild the recorded training clips from the Debian 12 packages that hold them.

    python -m training.recordings OUT_DIR [--package NAME]...

No sound is kept in this repository: `recordings.jsonl` names 1,291 files inside seven packages, with the licence of
each (tier A: CC0, public domain, CC BY; tier B: CC BY-SA, Free Art). This module downloads each package with `apt-get
download`, unpacks it, opens the Qt `.rcc` and zip archives inside, and writes each clip as mono 16 kHz Opus under the
name that its row gives. It needs about 2.4 GB of downloads and, for `0ad-data` alone, 5 GB of free disk; one package is
on disk at a time.

A clip is written whole or not at all, and one that is there already is kept: an interrupted run goes on where it
stopped. Knows nothing of captions beyond carrying them, nor of how the clips are used.
"""

import argparse
import io
import json
import logging
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

log = logging.getLogger(__name__)

MANIFEST = Path(__file__).with_name("recordings.jsonl")
SAMPLE_RATE = 16000  # Hz
MAX_SECONDS = 30.0
FRAME = SAMPLE_RATE // 100  # samples; loudness for trimming is measured over 10 ms
SILENCE_DB = -45.0  # a frame this far below the loudest one is silence
OPUS_COMPRESSION = 0.928  # libsndfile's scale from 256 (0.0) to 6 kbit/s (1.0): 24 kbit/s a channel
MAX_MEMBER_BYTES = 256 * 2**20  # no clip comes near it; an archive that claims more is broken or hostile


class RecordingsError(Exception):
    """What went wrong while the clips were rebuilt, and what to do about it."""

    exit_code = 1


class MissingTool(RecordingsError):
    """A program of the operating system is not there."""

    exit_code = 2


class BadManifest(RecordingsError):
    """A row of the manifest, or a name given for one, is not understood."""

    exit_code = 2


class PackageUnavailable(RecordingsError):
    """A package could not be downloaded or unpacked."""


class BrokenArchive(RecordingsError):
    """A Qt resource file or one of its entries cannot be read."""


class MissingSource(RecordingsError):
    """The package holds no file of the name that the manifest gives."""


class BrokenSound(RecordingsError):
    """A file was found but holds no sound."""


# ------------------------------------------------------------------------------------------------------------ manifest


@dataclass(frozen=True)
class Recording:
    """One clip of the set: where it comes from and what it is."""

    file: str  # name of the clip to write
    package: str  # Debian package
    path_in_package: str  # the end of the path of the source file, inside the package or an archive in it
    licence: str
    tier: str  # A: permissive; B: share-alike
    caption: str
    category: str
    group: str
    seconds: float  # length after trimming
    take: str  # recordings of one session share it: hold out whole takes


def read_manifest(path: Path = MANIFEST) -> list[Recording]:
    """All rows of a manifest.

    Raises:
        BadManifest: a row lacks a field, has one too many, or its file name could leave the output folder.
    """
    names = {f.name for f in fields(Recording)}
    recordings = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        row = json.loads(line)
        if set(row) != names:
            raise BadManifest(f"{path.name} line {number}: fields {sorted(set(row) ^ names)} are missing or unknown")
        if not re.fullmatch(r"[0-9a-f]{12}\.ogg", row["file"]):
            raise BadManifest(f"{path.name} line {number}: {row['file']!r} is not 12 hexadecimal digits and .ogg")
        if not re.fullmatch(r"[a-z0-9][a-z0-9+.-]+", row["package"]):
            raise BadManifest(f"{path.name} line {number}: {row['package']!r} is not the name of a Debian package")
        recordings.append(Recording(**row))
    return recordings


def packages_of(recordings: Iterable[Recording]) -> list[str]:
    """The packages that the rows need, each once, in the order of first use."""
    return list(dict.fromkeys(r.package for r in recordings))


# -------------------------------------------------------------------------------------------------- Qt resource files
#
# A .rcc file is a header of big-endian 32-bit words (magic, version, offsets of tree, data and names; from version 3 on
# flags), and three tables. A tree node is (name offset: u32, flags: u16), then for a folder (children: u32, first
# child: u32) and for a file (country: u16, language: u16, data offset: u32); from version 2 on a 64-bit time follows.
# A name is (length: u16, hash: u32, UTF-16). Data is (length: u32, bytes); zlib data begins with its unpacked length.

RCC_ZLIB, RCC_FOLDER, RCC_ZSTD = 0x01, 0x02, 0x04


@dataclass(frozen=True)
class RccEntry:
    """A file inside a Qt resource file: where its bytes lie and how they are packed."""

    flags: int
    offset: int
    size: int


def rcc_entries(blob: bytes) -> dict[str, RccEntry]:
    """The files of a Qt binary resource file by path ("a/b.wav", no leading slash).

    Raises:
        BrokenArchive: not such a file, of an unknown version, cut short, or with a tree that runs in circles.
    """
    if blob[:4] != b"qres":
        raise BrokenArchive("not a Qt resource file: it does not begin with 'qres'")
    try:
        return dict(_rcc_walk(blob))
    except (struct.error, UnicodeDecodeError) as error:
        raise BrokenArchive(f"the Qt resource file is cut short or damaged: {error}") from error


def _rcc_walk(blob: bytes) -> Iterator[tuple[str, RccEntry]]:
    version, tree, data, names = struct.unpack_from(">4I", blob, 4)
    if version not in (1, 2, 3):
        raise BrokenArchive(f"Qt resource format {version} is not known; 1, 2 and 3 are")
    node_size = 14 if version == 1 else 22
    seen: set[int] = set()
    todo = [(0, "")]
    while todo:
        node, folder = todo.pop()
        if node in seen:
            raise BrokenArchive("the tree of the Qt resource file runs in circles")
        seen.add(node)
        at = tree + node * node_size
        if at + node_size > len(blob):
            raise BrokenArchive(f"the Qt resource file is cut short: node {node} of its tree lies behind its end")
        name_offset, flags = struct.unpack_from(">IH", blob, at)
        path = f"{folder}{_rcc_name(blob, names + name_offset)}" if node else ""  # the root has no name
        if flags & RCC_FOLDER:
            children, first = struct.unpack_from(">II", blob, at + 6)
            if children * node_size > len(blob):
                raise BrokenArchive(f"a folder of the Qt resource file claims {children} entries")
            todo.extend((first + k, f"{path}/" if path else "") for k in range(children))
        else:
            (data_offset,) = struct.unpack_from(">I", blob, at + 10)
            (size,) = struct.unpack_from(">I", blob, data + data_offset)
            yield path, RccEntry(flags, data + data_offset + 4, size)


def _rcc_name(blob: bytes, at: int) -> str:
    (length,) = struct.unpack_from(">H", blob, at)
    (raw,) = struct.unpack_from(f"{2 * length}s", blob, at + 6)
    return raw.decode("utf-16-be")


def rcc_read(blob: bytes, entry: RccEntry) -> bytes:
    """The unpacked bytes of one entry.

    Raises:
        BrokenArchive: cut short, of another length than it says, or packed with zstd and no `zstd` is installed.
    """
    packed = blob[entry.offset : entry.offset + entry.size]
    if len(packed) != entry.size:
        raise BrokenArchive(f"an entry of {entry.size} bytes is cut off after {len(packed)}")
    if entry.flags & RCC_ZLIB:
        return _unzlib(packed)
    if entry.flags & RCC_ZSTD:
        return _unzstd(packed)
    return packed


def _unzlib(packed: bytes) -> bytes:
    if len(packed) < 4:
        raise BrokenArchive("a zlib entry has no length")
    (size,) = struct.unpack_from(">I", packed)
    if size > MAX_MEMBER_BYTES:
        raise BrokenArchive(f"a zlib entry claims {size} bytes; at most {MAX_MEMBER_BYTES} are read")
    try:
        data = zlib.decompressobj().decompress(packed[4:], size + 1)  # one more shows an entry that is longer than it says
    except zlib.error as error:
        raise BrokenArchive(f"a zlib entry does not unpack: {error}") from error
    if len(data) != size:
        raise BrokenArchive(f"a zlib entry unpacks to {len(data)} bytes and says {size}")
    return data


def _unzstd(packed: bytes) -> bytes:
    program = shutil.which("zstd")  # Python has no zstd before 3.14
    if program is None:
        raise BrokenArchive("an entry is packed with zstd: install the program zstd (apt-get install zstd)")
    done = subprocess.run([program, "-dqc"], input=packed, capture_output=True, check=False)
    if done.returncode:
        raise BrokenArchive(f"a zstd entry does not unpack: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


# ------------------------------------------------------------------------------------------------------------ packages


class PackageFiles:
    """The files of an unpacked package, those inside its `.rcc`, `.zip` and `.pk3` (a zip) archives among them.

    Links are left out: they repeat a file that is there under its own name, or lead out of the folder.
    """

    def __init__(self, root: Path) -> None:
        self._by_name: dict[str, list[tuple[str, Callable[[], bytes]]]] = {}
        for folder, _, names in os.walk(root):
            for name in sorted(names):
                path = Path(folder, name)
                if path.is_symlink() or not path.is_file():
                    continue
                self._add(path.relative_to(root).as_posix(), path.read_bytes)
                if path.suffix == ".rcc":
                    self._add_rcc(path)
                elif path.suffix in (".zip", ".pk3"):
                    self._add_zip(path)

    def read(self, path_in_package: str) -> bytes:
        """The bytes of the file whose path ends in `path_in_package`; of several the one with the shortest path.

        Raises:
            MissingSource: there is no such file.
            BrokenArchive: it lies in an archive that cannot be read.
        """
        candidates = self._by_name.get(path_in_package.rsplit("/", 1)[-1], [])
        matching = [c for c in candidates if f"/{c[0]}".endswith(f"/{path_in_package}")]
        if not matching:
            raise MissingSource(f"no file in the package ends in {path_in_package!r}")
        _, load = min(matching, key=lambda c: (len(c[0]), c[0]))
        return load()

    def _add(self, path: str, load: Callable[[], bytes]) -> None:
        self._by_name.setdefault(path.rsplit("/", 1)[-1], []).append((path, load))

    def _add_rcc(self, path: Path) -> None:
        try:
            entries = rcc_entries(path.read_bytes())
        except BrokenArchive as error:
            log.warning("%s: %s", path.name, error)  # its rows will be reported as missing, the others go on
            return
        for name, entry in entries.items():
            self._add(name, partial(_read_rcc_entry, path, entry))

    def _add_zip(self, path: Path) -> None:
        try:
            with zipfile.ZipFile(path) as archive:
                names = [info.filename for info in archive.infolist() if not info.is_dir()]
        except zipfile.BadZipFile as error:
            log.warning("%s: %s", path.name, error)
            return
        for name in names:
            self._add(name, partial(_read_zip_member, path, name))


def _read_rcc_entry(path: Path, entry: RccEntry) -> bytes:
    return rcc_read(path.read_bytes(), entry)


def _read_zip_member(path: Path, name: str) -> bytes:
    with zipfile.ZipFile(path) as archive:
        size = archive.getinfo(name).file_size
        if size > MAX_MEMBER_BYTES:
            raise BrokenArchive(f"{name} claims {size} bytes; at most {MAX_MEMBER_BYTES} are read")
        try:
            return archive.read(name)
        except (zipfile.BadZipFile, zlib.error) as error:
            raise BrokenArchive(f"{name}: {error}") from error


def require_tools() -> None:
    """Make sure that this is a Debian-like system.

    Raises:
        MissingTool: `apt-get` or `dpkg-deb` is not there.
    """
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise MissingTool(f"{tool} is not installed: run this on Debian 12, for example in a debian:12 container")


@contextmanager
def debian_package(name: str, scratch: Path) -> Iterator[PackageFiles]:
    """Download and unpack a package below `scratch`; all of it is removed afterwards.

    Raises:
        PackageUnavailable: `apt-get download` or `dpkg-deb` failed; the message ends with what they said.
    """
    with tempfile.TemporaryDirectory(dir=scratch, prefix=f".{name}-") as folder:
        log.info("%s: downloading", name)
        _run(["apt-get", "download", name], Path(folder))
        debs = list(Path(folder).glob("*.deb"))
        if len(debs) != 1:
            raise PackageUnavailable(f"{name}: apt-get left {len(debs)} .deb files and not one")
        log.info("%s: unpacking %s", name, debs[0].name)
        root = Path(folder, "root")
        _run(["dpkg-deb", "-x", str(debs[0]), str(root)], Path(folder))
        debs[0].unlink()  # the largest is 1.4 GB
        yield PackageFiles(root)


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, env={**os.environ, "LC_ALL": "C"}, capture_output=True, text=True, check=False)
    if done.returncode:
        said = "; ".join(line for line in done.stderr.splitlines() if line.startswith(("E:", "dpkg-deb: error")))
        hint = "try `apt-get update` first" if command[0] == "apt-get" else "is the disk full?"
        raise PackageUnavailable(f"{' '.join(command[:3])} failed ({said or done.returncode}); {hint}")


# --------------------------------------------------------------------------------------------------------------- sound


def decoded(data: bytes) -> npt.NDArray[np.float64]:
    """The sound in the bytes of a WAV, AIFF, FLAC or Ogg file, mixed to mono at 16 kHz: [T], nominally in [-1, 1].

    Raises:
        BrokenSound: the bytes are no such file, or an empty one.
    """
    try:
        samples, rate = soundfile.read(io.BytesIO(data), always_2d=True)
    except soundfile.LibsndfileError as error:
        raise BrokenSound(f"cannot be decoded: {error}") from error
    if not len(samples):
        raise BrokenSound("holds no samples")
    mono = samples.mean(axis=1)
    return mono if rate == SAMPLE_RATE else soxr.resample(mono, rate, SAMPLE_RATE)


def trimmed(samples: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Cut the silence off both ends and keep at most 30 s, [T] -> [T'], T' a multiple of 10 ms.

    Silence is every 10 ms frame whose RMS lies more than 45 dB below that of the loudest frame.

    Raises:
        BrokenSound: shorter than one frame, or nothing but digital silence.
    """
    count = len(samples) // FRAME
    rms = np.sqrt((samples[: count * FRAME].reshape(count, FRAME) ** 2).mean(axis=1))
    if not rms.any():
        raise BrokenSound("holds nothing but silence")
    loud = np.flatnonzero(rms > rms.max() * 10 ** (SILENCE_DB / 20))
    start, stop = loud[0] * FRAME, (loud[-1] + 1) * FRAME
    return samples[start : min(stop, start + int(MAX_SECONDS * SAMPLE_RATE))]


def opus(samples: npt.NDArray[np.float64]) -> bytes:
    """An Ogg Opus file of mono 16 kHz `samples` at about 24 kbit/s. The Ogg serial number differs from call to call."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, SAMPLE_RATE, format="OGG", subtype="OPUS", compression_level=OPUS_COMPRESSION)
    return buffer.getvalue()


# ----------------------------------------------------------------------------------------------------------------- job


@dataclass
class Report:
    """What a run did with each row."""

    rebuilt: list[Recording] = field(default_factory=list)
    kept: list[Recording] = field(default_factory=list)  # was there from an earlier run
    changed: list[tuple[Recording, float]] = field(default_factory=list)  # rebuilt, but of this many seconds
    failed: list[tuple[Recording, str]] = field(default_factory=list)  # with the reason


def rebuild(
    recordings: Iterable[Recording],
    out_dir: Path,
    open_package: Callable[[str, Path], AbstractContextManager[PackageFiles]] = debian_package,
) -> Report:
    """Write every clip that `out_dir` lacks, and a `recordings.jsonl` of the rows whose clips are there.

    A package is opened once, and only if one of its clips is missing. A row or a whole package that fails is reported
    and the rest goes on.

    Args:
        recordings: the rows to rebuild.
        out_dir: created when it is not there.
        open_package: gives the files of a package by name, with a folder for what it needs to store meanwhile.
    """
    recordings = list(recordings)
    out_dir.mkdir(parents=True, exist_ok=True)
    report = Report()
    for package in packages_of(recordings):
        rows = [r for r in recordings if r.package == package]
        missing = [r for r in rows if not (out_dir / r.file).exists()]
        report.kept += [r for r in rows if r not in missing]
        if not missing:
            continue
        try:
            with open_package(package, out_dir) as files:
                for row in missing:
                    _rebuild_one(row, files, out_dir, report)
        except PackageUnavailable as error:
            report.failed += [(row, str(error)) for row in missing]
        log.info("%s: done", package)
    present = [r for r in recordings if (out_dir / r.file).exists()]
    lines = [json.dumps(asdict(r), ensure_ascii=False) + "\n" for r in present]
    _write_whole(out_dir / MANIFEST.name, "".join(lines).encode())
    return report


def _rebuild_one(row: Recording, files: PackageFiles, out_dir: Path, report: Report) -> None:
    try:
        samples = trimmed(decoded(files.read(row.path_in_package)))
    except (MissingSource, BrokenArchive, BrokenSound) as error:
        report.failed.append((row, str(error)))
        return
    _write_whole(out_dir / row.file, opus(samples))
    report.rebuilt.append(row)
    seconds = len(samples) / SAMPLE_RATE
    if abs(seconds - row.seconds) > max(0.1, 0.05 * row.seconds):  # resamplers differ by a few frames, other sounds by more
        report.changed.append((row, seconds))


def _write_whole(path: Path, data: bytes) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(data)
    os.replace(part, path)  # so that a name in the folder always means a complete file


def _by_reason(failed: Iterable[tuple[Recording, str]]) -> dict[str, list[Recording]]:
    """A package that cannot be had fails hundreds of rows for one reason: say it once."""
    groups: dict[str, list[Recording]] = {}
    for row, reason in failed:
        groups.setdefault(reason, []).append(row)
    return groups


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns 0, 1 (some rows could not be rebuilt) or 2 (wrong use, or not a Debian system)."""
    parser = argparse.ArgumentParser(prog="python -m training.recordings", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("out_dir", type=Path, metavar="OUT_DIR")
    parser.add_argument("--package", action="append", metavar="NAME", help="only this one; may be given several times")
    chosen = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        recordings = read_manifest(MANIFEST)
        unknown = sorted(set(chosen.package or []) - set(packages_of(recordings)))
        if unknown:
            known = ", ".join(packages_of(recordings))
            raise BadManifest(f"no clip comes from {', '.join(unknown)}; the packages are {known}")
        if chosen.package:
            recordings = [r for r in recordings if r.package in chosen.package]
        require_tools()
        report = rebuild(recordings, chosen.out_dir)
    except RecordingsError as error:
        log.error("error: %s", error)
        return error.exit_code
    for row, seconds in report.changed:
        log.warning("%s %s: %.2f s and not %.2f s", row.file, row.path_in_package, seconds, row.seconds)
    for reason, rows in _by_reason(report.failed).items():
        of = rows[0].path_in_package if len(rows) == 1 else f"{len(rows)} clips of {rows[0].package}"
        log.error("%s: %s", of, reason)
    log.info(
        "%d rebuilt (%d of another length), %d were there, %d could not be rebuilt",
        len(report.rebuilt),
        len(report.changed),
        len(report.kept),
        len(report.failed),
    )
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
