"""Decodes one foreign file in a process of its own: ``python -m media.probe_child KIND PATH``.

Exit 0: it decodes. 10: unreadable, 11: too large, with one line on stdout. Anything else is a crash, which the parent calls unreadable.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path


def main(kind: str, path: Path) -> int:
    from media.guard import CHILD_BYTES
    from media.refs import MediaError, MediaTooLarge

    resource.setrlimit(resource.RLIMIT_AS, (CHILD_BYTES, CHILD_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (15, 20))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        if kind == "image":
            from media.image import load_image

            load_image(path)
        elif kind == "audio":
            from media.audio import read_audio

            read_audio(path)
        else:
            from media.video import sample_frames

            sample_frames(path, 2)
    except MediaError as error:
        print(error)
        return 11 if isinstance(error, MediaTooLarge) else 10
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1], Path(sys.argv[2])))
