"""What a study has made: one line of JSON a cell, appended and never changed, safe from kills and shared by processes.

Knows files and locks. Does not know how a sound is made nor what it is worth. Imports no torch.

A line is a row only with its newline. What a killed process left of a line is cut off before the next append, so nothing can be glued
to it. Who may make a cell is settled by locking one byte of ``claims``, at a place that the cell's key names: the kernel frees it with
its process, so a claim outlives nobody. (POSIX locks: Linux, macOS.)
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from configs.registry import ConfigError
from generators.base import GenerationRequest, canonical_json
from media.guard import GuardReport

LEDGER = "ledger.jsonl"
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
STOPS = FULL | {errno.EROFS, errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.EIO}  # of no cell, but of the machine


class StudyStopped(Exception):
    """The study cannot go on here and now: no cell is to blame, and the same command goes on later."""

    exit_code = 1


class Measured(BaseModel):
    """What making the sound took here; all else in a row is a function of the specification."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    wall_seconds: float  # of the batch, divided by its sounds
    rtf: float | None = None  # wall seconds per second of sound
    peak_mb: float | None = None  # resident memory of the worker at its highest so far; None off Linux
    rows: int = 1  # sounds that were made together
    energy_j: float | None = None  # joules of the card, where it tells
    worker: str = ""
    first: bool = False  # of the batch with which a worker began on these weights: what is loaded late and warmed up is in its time


def steady(measured: Sequence[Measured]) -> list[Measured]:
    """Those that tell what a sound costs: without the batches that a worker began with, unless there are no others."""
    return [each for each in measured if not each.first] or list(measured)


class Row(BaseModel):
    """A finished cell: a sound, or why there is none."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str  # sha256 over the canonical JSON of request and fingerprint
    prompt: str  # id
    backend: str  # label
    seed: int
    request: GenerationRequest
    fingerprint: str
    status: Literal["done", "failed"]
    audio: str | None = None  # below the study's folder
    audio_sha256: str | None = None
    sample_rate: int | None = None  # Hz
    seconds: float | None = None
    guard: GuardReport | None = None
    error: str | None = None  # "UnsupportedRequest: …"
    measured: Measured

    @property
    def cell(self) -> tuple[str, str, str]:
        """What one row is kept of. Two labels may ask for the same sound: they share its key and its file."""
        return (self.key, self.prompt, self.backend)


class Ledger:
    """The rows of a study's folder, as they are now and as others append to them.

    Args:
        folder: the study's; made where it is missing.

    Raises:
        ConfigError: a whole line is no row.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / LEDGER
        self._rows: dict[tuple[str, str, str], Row] = {}
        self._read = 0  # bytes
        self._line = 0
        self.refresh()

    @property
    def rows(self) -> list[Row]:
        """The latest row of every cell, in the order of the file."""
        return list(self._rows.values())

    def get(self, cell: tuple[str, str, str]) -> Row | None:
        return self._rows.get(cell)

    def refresh(self) -> None:
        """Read what was appended since."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self._read)
            new = file.read()
        whole = new[: new.rfind(b"\n") + 1]
        for line in whole.splitlines():
            self._line += 1
            row = _row(line, self.path, self._line)
            self._rows.pop(row.cell, None)
            self._rows[row.cell] = row
        self._read += len(whole)

    def append(self, rows: Sequence[Row]) -> None:
        """Add whole lines, flushed to the disk; all of them or, where the disk is full, none.

        Raises:
            OSError: disk full, no permission.
        """
        if not rows:
            return
        from filelock import FileLock

        data = "".join(canonical_json(row.model_dump(mode="json")) + "\n" for row in rows).encode()
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / "ledger.lock"):
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
            try:
                end = _cut_torn(handle)
                try:
                    left = memoryview(data)
                    while left:
                        left = left[os.write(handle, left) :]
                    os.fsync(handle)
                except OSError:
                    os.ftruncate(handle, end)
                    raise
            finally:
                os.close(handle)
        self.refresh()


def read_ledger(folder: Path) -> list[Row]:
    """The latest row of every cell; a torn last line is left out.

    Raises:
        ConfigError: no ledger there, or a line of it is no row.
    """
    if not (folder / LEDGER).is_file():
        raise ConfigError(f"{folder} holds no {LEDGER}: 'loa study run SPEC.yaml -o {folder}' makes one")
    return Ledger(folder).rows


def _cut_torn(handle: int) -> int:
    """Cut the file behind its last newline; the length that is left."""
    end = size = os.fstat(handle).st_size
    while end:
        start = max(0, end - 65_536)
        found = os.pread(handle, end - start, start).rfind(b"\n")
        if found >= 0:
            end = start + found + 1
            break
        end = start
    if end < size:
        os.ftruncate(handle, end)
    return end


def _row(line: bytes, path: Path, number: int) -> Row:
    try:
        return Row.model_validate_json(line)
    except (ValidationError, json.JSONDecodeError) as error:
        why = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise ConfigError(f"{path}, line {number} is no row of a study ({why}); mend or remove the line") from None


# -- who makes what ---------------------------------------------------------------------------------------------------


class Claims:
    """Cells that this process may make now; freed when it ends, however it ends."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._handle = os.open(folder / "claims", os.O_RDWR | os.O_CREAT, 0o666)

    def close(self) -> None:
        os.close(self._handle)

    @contextmanager
    def some_of(self, keys: Iterable[str], wait: bool = False) -> Iterator[list[str]]:
        """Those of the keys that nobody else is making. ``wait``: the first one that somebody is making is waited for."""
        import fcntl

        got: list[str] = []
        try:
            for key in dict.fromkeys(keys):
                try:
                    fcntl.lockf(self._handle, fcntl.LOCK_EX | (0 if wait and not got else fcntl.LOCK_NB), 1, _place(key))
                except BlockingIOError:
                    continue
                except PermissionError:  # how some systems say the same
                    continue
                got.append(key)
            yield got
        finally:
            for key in got:
                fcntl.lockf(self._handle, fcntl.LOCK_UN, 1, _place(key))


def _place(key: str) -> int:
    return int(key[:15], 16)  # below 2^60: a byte that nobody ever writes


@contextmanager
def stopping(folder: Path, progress: Callable[[], str]) -> Iterator[None]:
    """A full disk, and whatever else keeps every cell from being written, as one clear line that says how far the study is.

    Raises:
        StudyStopped: instead of the OSError.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in STOPS:
            raise
        what = "the disk is full" if error.errno in FULL else "the study cannot be written"
        raise StudyStopped(
            f"{what} ({folder}: {error.strerror}); {progress()}; make room and run the same command, which goes on from there"
        ) from error
