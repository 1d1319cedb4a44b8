"""What listens to sounds for a metric: one decode and one resample per clip, vectors kept by content hash and embedder digest.

Knows the contract of an embedder, files and the cache. Does not know any network (``embedders_*.py``) nor what is made of the vectors.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable
from zipfile import BadZipFile

import numpy as np

from configs.registry import ConfigError, names, resolve
from media.audio import Audio, read_audio
from media.polyphase import NAME, resample_to_hear
from media.refs import MediaError, write_whole

GROUP = "loa.embedders"
ROWS = 16  # clips that are decoded, resampled and heard together
WORKERS = max(1, min(4, (os.cpu_count() or 1) // 2))  # threads that decode ahead; one outruns a network on one core by far


class EmbedderMissing(ConfigError):
    """An embedder's weights are not on this machine; the message names file, size, licence and the command that gets it."""

    exit_code = 3


@dataclass(frozen=True)
class Heard:
    """What an embedder heard in one sound.

    ``vector`` [D] stands for the whole clip (KAD, diversity, CLAP); ``frames`` [F, D] are what a Fréchet distance counts, of one or
    more windows of the clip (VGGish: one each 0.96 s), else the vector itself; ``logits`` [K] are class scores, where it has classes.
    """

    vector: np.ndarray
    frames: np.ndarray
    logits: np.ndarray | None = None


@runtime_checkable
class Embedder(Protocol):
    """A frozen network that hears sounds.

    Contract (tests/evaluation/test_embedders.py runs it over everything registered): nothing is loaded before ``embed`` or ``digest``;
    ``embed`` takes mono sounds at ``sample_rate`` and gives one ``Heard`` each, finite float32, the same alone and in any batch up to
    rounding.
    """

    name: str
    sample_rate: int  # Hz; 0: the file's own
    window: str  # which part of a clip it hears, for the protocol
    classes: str  # what its logits mean: "softmax", "sigmoid" (classes that do not exclude each other), or "" for none

    @property
    def digest(self) -> str:
        """sha256 of the weights and of what else decides the vectors. Raises EmbedderMissing."""

    def embed(self, sounds: Sequence[Audio]) -> list[Heard]: ...


@runtime_checkable
class Joint(Embedder, Protocol):
    """An embedder whose space holds words too."""

    def words(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors [N, D] of texts."""


def embedder(name: str) -> Embedder:
    """The registered embedder of this name, unloaded. Raises UnknownName with the nearest one."""
    made: Embedder = resolve(GROUP, name)()
    return made


def known() -> list[str]:
    """Names of all registered embedders; imports nothing."""
    return names(GROUP)


# -- hearing many clips -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Clip:
    """A sound file and the sha256 of its content."""

    path: Path
    sha256: str

    @classmethod
    def of(cls, path: Path) -> Clip:
        """Reads the whole file once for its hash."""
        with path.open("rb") as file:
            return cls(path, hashlib.file_digest(file, "sha256").hexdigest())


class Cache:
    """Vectors by content and embedder below ``folder``: ``DIGEST[:16]-RESAMPLER/SHA256.npz``, written whole. None: nothing is kept.

    A sound that is made again with other bytes has another name, and so has another version of the weights or of the way to another
    rate: nothing here can be stale.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def _place(self, digest: str, clip: Clip) -> Path:
        assert self.folder is not None
        return self.folder / f"{digest.removeprefix('sha256:')[:16]}-{NAME}" / f"{clip.sha256}.npz"

    def get(self, digest: str, clip: Clip) -> Heard | None:
        if self.folder is None:
            return None
        try:
            with np.load(self._place(digest, clip)) as kept:  # allow_pickle stays off
                frames = kept["frames"]
                return Heard(kept["vector"], frames, kept["logits"] if "logits" in kept.files else None)
        except (OSError, ValueError, KeyError, EOFError, BadZipFile):  # not there, or damaged: heard anew
            return None

    def put(self, digest: str, clip: Clip, heard: Heard) -> None:
        if self.folder is None:
            return
        buffer = io.BytesIO()
        held: dict[str, Any] = {"vector": heard.vector, "frames": heard.frames}
        np.savez(buffer, **held | ({} if heard.logits is None else {"logits": heard.logits}))
        place = self._place(digest, clip)
        place.parent.mkdir(parents=True, exist_ok=True)
        write_whole(place, buffer.getvalue(), lasting=False)  # ``get`` knows a damaged file


Heards = dict[str, dict[str, Heard]]  # by embedder's name, then by the clip's sha256


def hear(
    clips: Sequence[Clip],
    embedders: Sequence[Embedder],
    cache: Cache | None = None,
    on_progress: Callable[[int, int], None] = lambda done, of: None,
) -> tuple[Heards, dict[str, str]]:
    """Every embedder's view of every clip, and by sha256 why a clip could not be read.

    Each clip that an embedder has not heard yet is decoded once and resampled once per rate, while the networks hear the ones before.
    """
    cache = cache or Cache(None)
    heard: Heards = {each.name: {} for each in embedders}
    unreadable: dict[str, str] = {}
    missing: dict[str, list[Embedder]] = {}
    wanted: dict[str, Clip] = {}
    for clip in {clip.sha256: clip for clip in clips}.values():
        for each in embedders:
            kept = cache.get(each.digest, clip)
            if kept is None:
                missing.setdefault(clip.sha256, []).append(each)
                wanted[clip.sha256] = clip
            else:
                heard[each.name][clip.sha256] = kept
    done = 0
    for batch, opened in _opened(list(wanted.values()), missing):
        for each in embedders:
            rows = [(clip, sounds[each.sample_rate]) for clip, sounds in opened if each in missing[clip.sha256] and sounds]
            if rows:
                for (clip, _), result in zip(rows, each.embed([sound for _, sound in rows]), strict=True):
                    heard[each.name][clip.sha256] = result
                    cache.put(each.digest, clip, result)
        unreadable |= {clip.sha256: why for clip, why in batch if why}
        done += len(batch)
        on_progress(done, len(wanted))
    return heard, unreadable


_Opened = tuple[list[tuple[Clip, str]], list[tuple[Clip, dict[int, Audio]]]]


def _opened(clips: Sequence[Clip], missing: dict[str, list[Embedder]]) -> Iterator[_Opened]:
    """Batches of decoded clips, two batches ahead of who asks."""

    def open_one(clip: Clip) -> tuple[dict[int, Audio], str]:
        try:
            whole = read_audio(clip.path, mono=True)
        except MediaError as error:
            return {}, str(error)
        rates = {each.sample_rate for each in missing[clip.sha256]}
        return {rate: resample_to_hear(whole, rate) if rate else whole for rate in rates}, ""

    batches = [clips[start : start + ROWS] for start in range(0, len(clips), ROWS)]
    with ThreadPoolExecutor(WORKERS) as pool:
        ahead = [[pool.submit(open_one, clip) for clip in batch] for batch in batches[:2]]
        for index, batch in enumerate(batches):
            results = [future.result() for future in ahead.pop(0)]
            if index + 2 < len(batches):
                ahead.append([pool.submit(open_one, clip) for clip in batches[index + 2]])
            told = [(clip, why) for clip, (_, why) in zip(batch, results, strict=True)]
            yield told, [(clip, sounds) for clip, (sounds, _) in zip(batch, results, strict=True)]


def by_length(sounds: Sequence[Audio], rows: int) -> Iterator[tuple[list[int], np.ndarray]]:
    """Indices and samples [rows, T] of sounds of equal length, the last batch filled up with silence.

    The number of rows never changes, so that a sound's vector does not depend on how many were heard beside it.
    """
    lengths: dict[int, list[int]] = {}
    for index, sound in enumerate(sounds):
        lengths.setdefault(sound.samples.shape[1], []).append(index)
    for length, members in lengths.items():
        for start in range(0, len(members), rows):
            chosen = members[start : start + rows]
            batch = np.zeros((rows, length), np.float32)
            for row, index in enumerate(chosen):
                batch[row] = sounds[index].mono().samples[0]
            yield chosen, batch
