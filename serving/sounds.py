"""What the doors do with sounds that are there: the source of an edit, the request of an edit, a file in a format at a loudness.

Knows flags' values and the store. Does not know networks; nothing here imports torch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from generators.base import Edit, GenerationRequest, UnsupportedRequest
from generators.editing import check_edit
from media.audio import Audio, loudness_lufs, read_audio
from media.refs import MediaRef, MediaStore, UnreadableMedia

_CALLED = {"image": "picture", "video": "video", "motion": "motion recording", "condition": "stored condition"}
PEAK_DB = -1.0  # dBFS; louder than this is no peak of an export
LUFS = (-60.0, 0.0)  # what may be asked
_REGION = re.compile(r"\s*(\d*\.?\d+|\d+\.)\s*:\s*(\d*\.?\d+|\d+\.)\s*")


def source_of(store: MediaStore, given: str) -> MediaRef:
    """The stored sound that ``given`` names: a media id, or a file, which is put into the store.

    Raises:
        MediaError: no such file or id, or its content is no sound.
    """
    ref = store.ref(given) if given.startswith("sha256:") else store.put_file(Path(given))
    if ref.kind != "audio":
        raise UnreadableMedia(f"only sounds can be edited, but the content of '{given[:80]}' is a {_CALLED[ref.kind]}")
    return ref


def region(text: str) -> tuple[float, float]:
    """``A:B`` in seconds.

    >>> region("1.5:2")
    (1.5, 2.0)

    Raises:
        UnsupportedRequest: not two numbers, or the first is not below the second.
    """
    match = _REGION.fullmatch(text)
    if match is None:
        raise UnsupportedRequest(f"--region takes two times in seconds such as 1.5:2.5, got '{text[:40]}'")
    start, end = float(match[1]), float(match[2])
    if start >= end:
        raise UnsupportedRequest(f"--region runs from a time to a later one, got '{text[:40]}'")
    return start, end


def edit_request(
    store: MediaStore,
    source: MediaRef,
    kind: str,
    prompt: str = "",
    *,
    strength: float = 0.5,
    regions: Iterable[tuple[float, float]] = (),
    seconds: float | None = None,
    seed: int = 0,
    steps: int | None = None,
    negative: str = "",
) -> GenerationRequest:
    """The request of an edit. ``prompt`` is what is to be heard, for "remove" what goes; the length is the source's unless given.

    Raises:
        UnsupportedRequest: the edit does not fit the source. MediaError: the source cannot be read.
    """
    length = read_audio(store.path(source)).seconds
    if kind == "extend" and seconds is None:
        raise UnsupportedRequest(f"extend needs the whole new length: --seconds, more than the {length:.2f} s that there are")
    gone = ", ".join(filter(None, (prompt.strip(), negative.strip())))
    request = GenerationRequest(
        prompt="" if kind == "remove" else prompt,
        negative_prompt=gone if kind == "remove" else negative,
        seconds=length if seconds is None else seconds,
        seed=seed,
        steps=steps,
        edit=Edit.model_validate({"kind": kind, "source": source, "strength": strength, "regions": tuple(regions)}),
    )
    check_edit(request, length)
    return request


def at_loudness(sound: Audio, lufs: float) -> tuple[Audio, str]:
    """The sound at an integrated loudness, as far as its peaks stay below -1 dBFS, and what is to be said about it ("" for nothing).

    Raises:
        UnsupportedRequest: a loudness outside -60..0 LUFS, or a sound that has none.
    """
    if not (math.isfinite(lufs) and LUFS[0] <= lufs <= LUFS[1]):
        raise UnsupportedRequest(f"a loudness is {LUFS[0]:g} to {LUFS[1]:g} LUFS, got {lufs:g}")
    now = loudness_lufs(sound)
    if not math.isfinite(now):
        raise UnsupportedRequest("the sound is silent or shorter than 0.4 s, so it has no loudness to change; export it without lufs")
    wanted, peak = 10 ** ((lufs - now) / 20), float(np.abs(sound.samples).max())
    gain = min(wanted, 10 ** (PEAK_DB / 20) / peak)
    note = "" if gain >= wanted * 0.999 else f"its peaks allow {now + 20 * math.log10(gain):.1f} LUFS, not {lufs:g}"
    return Audio((sound.samples * np.float32(gain)).astype(np.float32), sound.sample_rate), note
