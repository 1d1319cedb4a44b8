"""Media by content: bytes go in, a sha256 name comes out, and files are written whole or not at all.

Knows bytes and names. Does not know what a sound is for, nor who may see it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from media.audio import Audio

Kind = Literal["image", "audio", "video", "condition"]
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

    id: str  # "sha256:" and 64 hexadecimal digits
    kind: Kind
    mime: str
    span: tuple[float, float] | None = None


class MediaStore:
    """A folder of content-addressed files. Layout: ``root/ab/cdef….bin`` and ``.json`` (kind, mime) beside it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put_bytes(self, data: bytes, mime: str, kind: Kind) -> MediaRef:
        """Store trusted bytes (our own results). The same bytes give the same id."""
        ref = MediaRef(id="sha256:" + hashlib.sha256(data).hexdigest(), kind=kind, mime=mime)
        path = self._place(ref.id)
        if not path.with_suffix(".json").is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, data)
            # The description comes last: its presence means that the content is whole.
            write_whole(path.with_suffix(".json"), json.dumps({"kind": kind, "mime": mime}).encode())
        return ref

    def put_file(self, path: Path) -> MediaRef:
        """Store a foreign file, after the guard has seen that it is what its content says and that it decodes.

        Raises:
            MissingMedia, UnreadableMedia, MediaTooLarge.
        """
        from media.guard import admit

        admitted = admit(path)
        return self.put_bytes(admitted.data, admitted.mime, admitted.kind)

    def put_audio(self, audio: Audio) -> MediaRef:
        """Store a sound as 16-bit WAV; equal samples give equal bytes."""
        from media.audio import encode_audio

        return self.put_bytes(encode_audio(audio, "wav"), "audio/wav", "audio")

    def path(self, ref: MediaRef | str) -> Path:
        """Where the content lies. Raises MissingMedia."""
        name = ref if isinstance(ref, str) else ref.id
        place = self._place(name)
        if not place.with_suffix(".json").is_file():
            raise MissingMedia(f"there is no media '{name[:19]}…' in the store {self.root}; attach the file again")
        return place

    def ref(self, name: str) -> MediaRef:
        """The full reference of an id. Raises MissingMedia."""
        fields = json.loads(self.path(name).with_suffix(".json").read_text())
        return MediaRef(id=name, **fields)

    def __contains__(self, ref: MediaRef | str) -> bool:
        try:
            self.path(ref)
        except MissingMedia:
            return False
        return True

    def _place(self, name: str) -> Path:
        if not _ID.match(name):
            raise MissingMedia(f"'{name[:80]}' is not a media id; ids look like sha256:9f… with 64 hexadecimal digits")
        digest = name.removeprefix("sha256:")
        return self.root / digest[:2] / f"{digest[2:]}.bin"


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that appears whole or not at all: a temporary file beside it, flushed, then renamed."""
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise
