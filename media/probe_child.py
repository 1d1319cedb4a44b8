"""Decodes foreign files away from the caller: ``python -m media.probe_child PATH…``.

Says "ready", then one line of JSON per file: ``{"mime", "kind"}`` where it decodes, ``{"fault", "message"}`` where not. A process
that ends before it has spoken about a file was killed by it. Knows limits and readers; ``media.guard`` is the only one who starts it.
"""

from __future__ import annotations

import contextlib
import json
import resource
import signal
import sys
from pathlib import Path

from media.guard import CHILD_BYTES, CHILD_CPU_SECONDS, CHILD_SECONDS, READY, Proof
from media.refs import MediaError

SOUND_SECONDS = 10.0  # how much of a video's sound is tried


def main(paths: list[str]) -> int:
    limit()
    _say(READY)
    for path in paths:
        # Nobody handles these signals, so they end a decoder even where it never comes back to Python.
        signal.setitimer(signal.ITIMER_PROF, CHILD_CPU_SECONDS)
        signal.setitimer(signal.ITIMER_REAL, CHILD_SECONDS)
        _say(json.dumps(outcome(Path(path))))
    return 0


def limit() -> None:
    """Little memory, no written bytes, no core; never more than what we are allowed already."""
    for name, most in ((resource.RLIMIT_AS, CHILD_BYTES), (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_CORE, 0)):
        hard = resource.getrlimit(name)[1]
        least = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(name, (least, least))


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def outcome(path: Path) -> dict[str, str]:
    """What a file is, or what is wrong with it."""
    try:
        proof = decode(path)
    except MediaError as error:
        return {"fault": type(error).__name__, "message": str(error)}
    return {"mime": proof.mime, "kind": proof.kind}


def decode(path: Path) -> Proof:
    """Decode by the content's type: a picture and a sound whole, of a video two frames and the first seconds of sound.

    Raises:
        MediaError.
    """
    from media.guard import MAX_IN_PLACE, sniff_file

    mime, kind = sniff_file(path, MAX_IN_PLACE)  # who asks has looked at the size
    if kind == "image":
        from media.image import load_image

        load_image(path)
        return Proof(mime, kind)
    from media.audio import read_audio

    if kind == "video":
        from media.video import has_picture, sample_frames

        if has_picture(path):
            sample_frames(path, 2)
            # A picture whose sound nobody reads is still a video; only a decoder's death would count.
            with contextlib.suppress(Exception):  # blocks raise what the decoder raises
                _hear(path)
            return Proof(mime, kind)
    read_audio(path)
    return Proof(mime.replace("video/", "audio/"), "audio")


def _hear(path: Path) -> None:
    from media.audio import open_blocks
    from media.video import MAX_SECONDS

    heard, (rate, blocks, _) = 0, open_blocks(path, MAX_SECONDS)
    for block in blocks:
        heard += block.shape[1]
        if heard > SOUND_SECONDS * rate:
            return


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
