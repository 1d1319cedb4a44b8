"""Media by content: bytes go in, a sha256 name comes out, and files are written whole or not at all.

Knows bytes and names. Does not know what a sound is for, nor who may see it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

if TYPE_CHECKING:
    from media.audio import Audio
    from media.imu import Motion

Kind = Literal["image", "audio", "video", "motion", "condition"]
_ID = re.compile(r"sha256:[0-9a-f]{64}\Z")


class MediaError(Exception):
    """A file or id that cannot be used; the message says what was wrong, what was got and what to do."""

    exit_code = 2


class UnreadableMedia(MediaError):
    """The bytes are not what loa reads, or are damaged."""


class MissingMedia(MediaError):
    """No such file, or no such id in the store."""


class MediaTooLarge(MediaError):
    """Bytes, pixels or seconds beyond the limit."""


class MediaRef(BaseModel):
    """A name for stored content. Identity is the content; ``span`` (seconds) is a view of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern=r"^sha256:[0-9a-f]{64}$")
    kind: Kind
    mime: str
    span: tuple[float, float] | None = None

    @field_validator("span")
    @classmethod
    def _is_a_span(cls, span: tuple[float, float] | None) -> tuple[float, float] | None:
        if span is not None and not 0 <= span[0] < span[1] < float("inf"):
            raise ValueError(f"a span runs from a second to a later one, got {span[0]:g} to {span[1]:g}")
        return span


class MediaStore:
    """A folder of content-addressed files. Layout: ``root/ab/cdef….bin`` and ``.json`` (kind, mime) beside it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put_bytes(self, data: bytes, mime: str, kind: Kind) -> MediaRef:
        """Store trusted bytes (our own results). The same bytes give the same id.

        What the store knows already keeps its first kind and mime: identity is content.
        """
        name = "sha256:" + hashlib.sha256(data).hexdigest()
        if name in self:
            return self.ref(name)
        path = self._place(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, data, mode=0o600)
        return self._describe(name, mime, kind)

    def put_file(self, path: Path) -> MediaRef:
        """Store a foreign file, after the guard has seen that it is what its content says and that it decodes.

        The file is copied first and the copy is looked at, so that what is stored is what was checked.

        Raises:
            MissingMedia, UnreadableMedia, MediaTooLarge.
        """
        from media.guard import prove, sniff_file, take_copy

        path = Path(path)
        sniff_file(path)
        self.root.mkdir(parents=True, exist_ok=True)
        part = self.root / f".loa-{secrets.token_hex(8)}.part"
        try:
            name = "sha256:" + take_copy(path, part)
            if name in self:  # proved when it came in for the first time
                return self.ref(name)
            proof = prove(part, shown_as=shown(path))
            place = self._place(name)
            place.parent.mkdir(parents=True, exist_ok=True)
            os.replace(part, place)
        finally:
            part.unlink(missing_ok=True)
        return self._describe(name, proof.mime, proof.kind)

    def put_audio(self, audio: Audio) -> MediaRef:
        """Store a sound as 16-bit WAV; equal samples give equal bytes."""
        from media.audio import encode_audio

        return self.put_bytes(encode_audio(audio, "wav"), "audio/wav", "audio")

    def put_motion(self, motion: Motion) -> MediaRef:
        """Store a recording of motion as .npy, whatever file it was read from; equal samples give equal bytes."""
        from media.imu import MIME, encode_motion

        return self.put_bytes(encode_motion(motion), MIME, "motion")

    def path(self, ref: MediaRef | str) -> Path:
        """Where the content lies. Raises MissingMedia."""
        name = ref if isinstance(ref, str) else ref.id
        place = self._place(name)
        if not (place.with_suffix(".json").is_file() and place.is_file()):
            raise MissingMedia(f"there is no media '{name[:19]}…' in the store {self.root}; attach the file again")
        return place

    def ref(self, name: str) -> MediaRef:
        """The full reference of an id. Raises MissingMedia."""
        description = self.path(name).with_suffix(".json")
        try:
            return MediaRef(id=name, **json.loads(description.read_text()))
        except (ValueError, TypeError):
            raise MissingMedia(f"the store's description of '{name[:19]}…' is damaged; remove {description}") from None

    def __contains__(self, ref: object) -> bool:
        try:
            self.path(ref if isinstance(ref, MediaRef) else str(ref))
        except MissingMedia:
            return False
        return True

    def _place(self, name: str) -> Path:
        if not _ID.match(name):
            raise MissingMedia(f"'{name[:80]}' is not a media id; ids look like sha256:9f… with 64 hexadecimal digits")
        digest = name.removeprefix("sha256:")
        return self.root / digest[:2] / f"{digest[2:]}.bin"

    def _describe(self, name: str, mime: str, kind: Kind) -> MediaRef:
        # The description comes last: its presence means that the content is whole.
        description = json.dumps({"kind": kind, "mime": mime}).encode()
        write_whole(self._place(name).with_suffix(".json"), description, mode=0o600)
        return MediaRef(id=name, kind=kind, mime=mime)


def write_whole(path: Path, data: bytes | Iterable[bytes], mode: int = 0o666, lasting: bool = True) -> None:
    """Write a file that appears whole or not at all: a temporary file beside it, flushed, then renamed.

    Args:
        data: the content, or its pieces in order.
        mode: permissions, less the umask.
        lasting: wait until it is on the disk. False for what is made again where it is damaged: after a power cut it may be empty.

    Raises:
        OSError: no such folder, no permission, disk full. Nothing is left behind.
    """
    # A short name: a suffix to one of 255 bytes would be refused by the file system.
    part = path.parent / f".loa-{secrets.token_hex(8)}.part"
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(handle, "wb") as file:
            file.writelines((data,) if isinstance(data, bytes | bytearray | memoryview) else data)
            file.flush()
            if lasting:
                os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def shown(path: Path | str) -> str:
    """A file's name as one printable line of at most 80 characters: names come from strangers too."""
    name = path.name if isinstance(path, Path) else path
    clean = "".join(c if c.isprintable() else "?" for c in name)
    return clean if len(clean) <= 80 else f"{clean[:60]}…{clean[-19:]}"


def require_file(path: Path) -> None:
    """Raises MissingMedia for anything that is not a plain file on this machine: nothing there, a folder, a pipe, an address."""
    try:
        if path.is_file():
            return
        folder, there = path.is_dir(), path.exists()
    except OSError as error:  # no permission, a name that is too long
        raise MissingMedia(f"'{shown(path)}' cannot be opened: {error.strerror}; check the name and its folder") from None
    except ValueError:  # a NUL inside the name
        folder = there = False
    if re.match(r"[a-z][a-z0-9+.-]+:/", str(path)):
        raise MissingMedia(f"'{shown(str(path))}' is an address; loa reads only files on this machine: download it first")
    if folder:
        raise MissingMedia(f"'{shown(path)}' is a folder; name a file in it")
    if there:
        raise MissingMedia(f"'{shown(path)}' is a device or a pipe; give a plain file")
    raise MissingMedia(f"there is no file '{shown(str(path))}'; check the name")
