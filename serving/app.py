"""Joins the parts once: settings, store, pool, router. The only place that knows them all.

Every door (command line, and later HTTP, MCP and the page) asks this module; it prints nothing and knows no flags.
Nothing here imports torch: what a request can be refused for is refused before a backend's module is loaded.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property, partial
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from configs.registry import ConfigError, MissingExtra, UnknownName, resolve
from configs.schema import BRIDGE, AppConfig, BackendConfig, load_config, presets
from generators.base import (
    Backend,
    CheckpointMissing,
    Generated,
    GenerationRequest,
    OnProgress,
    Readiness,
    UnsupportedRequest,
    canonical_json,
)
from generators.pool import Pool
from media.audio import Audio, encode_audio, read_audio, read_tags
from media.image import load_image
from media.refs import MediaError, MediaRef, MediaStore, MissingMedia, UnreadableMedia, write_whole
from media.video import sample_frames
from serving.weights import changed, folder_of, missing_line, readable

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

    from orchestrator.router import Router
    from orchestrator.tools import Generator, Offers, Written

SOUND_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")
SUFFIXES = {"audio": SOUND_SUFFIXES, "image": (".png",), "video": (".mp4",)}
_MIMES = {"wav": "audio/wav", "flac": "audio/flac", "ogg": "audio/ogg", "mp3": "audio/mpeg"}
FRAMES = 8  # of a video, evenly spaced, to name what is in it
_MAX_PROVENANCE = 100_000  # characters; a request of 12,000 characters of text fits many times


def loa_version() -> str:
    """Version of the installed distribution; "0+source" where loa runs from a bare folder."""
    try:
        return version("loa")
    except PackageNotFoundError:
        return "0+source"


class Provenance(BaseModel):
    """What the ``comment`` tag of every sound written by loa says: enough to make the same bytes again."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    loa: str  # version
    backend: str
    request: GenerationRequest
    fingerprint: str
    rows: int  # batch bucket
    threads: int | None = None  # of torch; None where torch took no part
    media: str  # id of the sound before it was written in this container
    lufs: float | None = None  # the loudness that it was written at, where one was asked


@dataclass(frozen=True)
class Replayed:
    """A sound made again. ``difference`` is "" where the bytes are the same, else why they are not."""

    made: Generated
    path: Path
    difference: str


class App:
    """The house: ``config``, ``rows``, ``store``, ``pool``, ``router``; each is built when first asked for."""

    def __init__(self, config: AppConfig) -> None:
        self.config = config
        self.rows = _offered(config)
        self._encoders: dict[str, Any] = {}
        if config.default_backend != "auto":
            self.row(config.default_backend)

    @cached_property
    def _eye(self) -> Any:
        from encoders.eye import Eye

        return Eye()

    @cached_property
    def store(self) -> MediaStore:
        return MediaStore(self.config.home / "store")

    @cached_property
    def pool(self) -> Pool:
        runnable = {name: row for name, row in self.rows.items() if row.kind != "published"}
        sounding = {name for name, row in runnable.items() if row.kind == "audio"}  # pictures and videos are made when they are named
        return Pool({name: partial(self._make, row) for name, row in runnable.items()}, self.config.keep_loaded, sounding)

    @cached_property
    def router(self) -> Router:
        from orchestrator.router import Router
        from orchestrator.tools import build_tools

        tools = build_tools(self._for_tools, self.describe, self._offers())
        return Router(self.chat_model, tools, self.config.home / "threads.sqlite")

    def _offers(self) -> Offers:
        """What the chat may do besides making and describing sounds; a tool whose backend is not ready is not offered."""
        from orchestrator.tools import Offers
        from serving.soundtracks import for_chat

        def maker(kind: str) -> Generator | None:
            ready = next((row.name for row in self.rows.values() if row.kind == kind and self.readiness(row).ready), None)
            return None if ready is None else lambda backend, request, **how: self.generate(request, backend or ready, **how)

        return Offers(
            seconds_of=lambda ref: read_audio(self.store.path(ref)).seconds,
            export=self.written,
            ready=self.ready_for,
            soundtrack=for_chat(self),
            generate_image=maker("image"),
            generate_video=maker("video"),
        )

    def ready_for(self, task: str) -> list[str]:
        """Names of the rows that could make a sound for ``task`` now, in order of preference."""
        return [row.name for row in self.rows.values() if row.kind == "audio" and task in row.tasks and self.readiness(row).ready]

    @cached_property
    def chat_model(self) -> BaseChatModel:
        chosen = self.config.chat_model
        model: BaseChatModel = resolve("loa.chat_models", chosen.name)(chosen.options, _Sentences(self._encoder))
        return model

    def _make(self, row: BackendConfig) -> Backend:
        kind: Callable[..., Backend] = resolve("loa.backends", row.backend or "")
        return kind(name=row.name, options=row.options, store=self.store, home=self.config.home)

    # -- before torch ---------------------------------------------------------------------------------------------
    def row(self, name: str) -> BackendConfig:
        """The offered row called ``name``.

        Raises:
            UnknownName: with the nearest known name.
        """
        if name not in self.rows:
            raise UnknownName("backend", name, [*self.rows, "auto"])
        return self.rows[name]

    def refuse_early(self, backend: str, kinds: Iterable[str], seconds: float, edit: str = "") -> None:
        """Refuse what no row that may be asked could do; reads the rows only.

        Args:
            backend: a row's name or "auto".
            kinds: of "text", "image", "audio", "video", "motion", "condition", "transcript".
            seconds: asked length; a transcript's own length is what its words take, so it is not held against a row.
            edit: the kind of an edit.

        Raises:
            UnknownName, MissingExtra (a row with published numbers only), UnsupportedRequest.
        """
        asked = frozenset(kinds)
        if backend != "auto":
            why = _why_not(self.row(backend), asked, seconds, edit)
            if why:
                raise why
            self.require_ready(backend)
            return
        sounding = [row for row in self.rows.values() if row.kind == "audio"]
        rows = [row for row in sounding if self.readiness(row).ready] or sounding  # what is not here helps nobody
        if all([_why_not(row, asked, seconds, edit) for row in rows]):
            if edit and not any(edit in row.edits for row in rows):
                raise UnsupportedRequest(f"no backend here can do the edit '{edit}' ('loa models show NAME' tells a system's edits)")
            fits = [row for row in rows if asked <= row.accepts and (not edit or edit in row.edits)]
            if fits:
                longest = max(fits, key=lambda row: row.max_seconds)
                raise UnsupportedRequest(
                    f"no backend here makes {seconds:g} s of sound: '{longest.name}' makes the most, "
                    f"{longest.max_seconds:g} s; ask for less"
                )
            takes = "; ".join(f"{row.name}: {', '.join(sorted(row.accepts))}" for row in rows)
            raise UnsupportedRequest(f"no backend here takes {' and '.join(sorted(asked))} together ({takes})")

    def request(self, backend: str = "auto", **fields: Any) -> GenerationRequest:
        """A request from loose fields, checked as far as the rows tell.

        Raises:
            UnsupportedRequest: a field is out of range, or no row covers the request.
        """
        request = valid_request(**fields)
        self.refuse_early(backend, kinds_of(request), request.seconds, edit_of(request))
        return request

    # -- making sounds --------------------------------------------------------------------------------------------
    def generate(
        self,
        request: GenerationRequest,
        backend: str = "auto",
        *,
        rows: int | None = None,
        on_progress: OnProgress | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Generated:
        """Make the sound with the named backend, or with the first ready one that covers the request."""
        chosen = self.pool.choose(request) if backend == "auto" else self.pool.get(backend)
        made = self.pool.generate(chosen.name, [request], rows=rows, on_progress=on_progress, cancelled=cancelled)
        return made[0]

    def store_envelope(self, path: Path) -> MediaRef:
        """A loudness curve (.npy or .csv, one number from 0 to 1 a time point) as a stored condition.

        Raises:
            UnreadableMedia: no such numbers, or values outside 0..1.
        """
        from media.curve import read_curve

        curve = read_curve(path)  # before torch is loaded
        from generators.conditioning import envelope_bytes

        return self.store.put_bytes(envelope_bytes(curve), "application/x-safetensors", "condition")

    def follows_motion(self, backend: str, kinds: Iterable[str]) -> bool:
        """Whether a recording of motion can only say how loud a sound is over time, and not what it is of.

        True where no row that may be asked takes "motion" among ``kinds``, and one that takes the others follows a loudness curve.
        """
        asked = frozenset(kinds)
        rows = [self.row(backend)] if backend != "auto" else [row for row in self.rows.values() if row.kind == "audio"]
        rows = [row for row in rows if asked <= row.accepts | {"motion"} and self.readiness(row).ready]
        return not any(asked <= row.accepts for row in rows) and any(self.pool.get(row.name).capabilities.envelope for row in rows)

    def store_motion_envelope(self, path: Path) -> MediaRef:
        """The loudness curve of a motion recording (media.imu.loudness_curve) as a stored condition. Raises MediaError."""
        from media.imu import load_motion, loudness_curve

        curve = loudness_curve(load_motion(path))  # before torch is loaded
        from generators.conditioning import envelope_bytes

        return self.store.put_bytes(envelope_bytes(curve), "application/x-safetensors", "condition")

    def write_loa(self, request: GenerationRequest, backend: str, path: Path) -> None:
        """The Language of Audio of a request in a file (safetensors) that ``--loa`` reads, whole or not at all.

        Raises:
            UnsupportedRequest: the backend works without one.
        """
        chosen = self.pool.choose(request) if backend == "auto" else self.pool.get(backend)
        write_whole(path, self.store.path(chosen.loa_for(request)).read_bytes())

    def _for_tools(
        self,
        backend: str | None,
        request: GenerationRequest,
        *,
        on_progress: OnProgress | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Generated:
        name = backend or self.config.default_backend
        self.refuse_early(name, kinds_of(request), request.seconds, edit_of(request))
        return self.generate(request, name, on_progress=on_progress, cancelled=cancelled)

    def describe(self, ref: MediaRef) -> list[tuple[str, float]]:
        """What is in a stored picture, sound or video: labels with probabilities, best first.

        Raises:
            MissingMedia: not in the store. UnsupportedRequest: a kind that nobody here can name.
        """
        path = self.store.path(ref)
        if ref.kind == "audio":
            labels: list[tuple[str, float]] = self._encoder("nano-audio").labels(read_audio(path))
        elif ref.kind == "image":
            labels = self._eye.labels([load_image(path)])
        elif ref.kind == "video":
            labels = self._eye.labels(sample_frames(path, FRAMES))
        else:
            raise UnsupportedRequest(f"nobody here can say what is in a {ref.kind}; give a picture, sound or video")
        return labels

    def _encoder(self, name: str) -> Any:
        if name not in self._encoders:
            self._encoders[name] = resolve("loa.encoders", name)()
        return self._encoders[name]

    def readiness(self, row: BackendConfig) -> Readiness:
        """Whether the row can run here; never raises for what is merely missing."""
        if row.kind == "published":
            return Readiness(ready=False, reason=f"published numbers only: {row.notes}")
        try:
            state = self.pool.get(row.name).readiness()
        except (MissingExtra, CheckpointMissing) as missing:
            state = Readiness(ready=False, reason=str(missing))
        folder = folder_of(row, self.config.home)
        if state.ready or not row.files or any(folder.glob("*")):  # an incomplete folder: its backend knows what lacks
            return state
        return state.model_copy(update={"reason": missing_line(row, self.config.home)})

    def files_of(self, row: BackendConfig) -> tuple[list[str], int]:
        """Where the row's files would lie, and their bytes together."""
        folder = folder_of(row, self.config.home)
        return [str(folder / file.path) for file in row.files], sum(file.bytes for file in row.files)

    def verify(self, name: str) -> dict[str, str]:
        """By part: what is wrong with the row's files; "" where they are whole and fit. Loads no weights.

        Raises:
            CheckpointMissing: nothing is here to verify. MissingExtra: a row with published numbers only.
        """
        row = self.row(name)
        if why := _why_not(row, frozenset(), 0.0):
            raise why
        self.require_ready(name)
        backend = self.pool.get(name)
        told = {**changed(row, self.config.home), **readable(backend.readiness().files)}
        return {**told, **backend.misfits()}

    def require_ready(self, name: str) -> None:
        """Raises CheckpointMissing where the named row cannot run here, with what it needs; nothing is loaded to find out."""
        state = self.readiness(self.row(name))
        if not state.ready:
            raise CheckpointMissing(state.reason)

    def export(self, made: Generated, path: Path, lufs: float | None = None) -> Path:
        """Write the stored sound to ``path`` in the format of its suffix, whole or not at all, with its provenance.

        Raises:
            MediaError: a suffix that is not a sound's, or no such folder.
        """
        check_output(path, made.media.kind)
        if made.media.kind != "audio":
            write_whole(path, self.store.path(made.media).read_bytes())
            return path
        write_whole(path, self._encoded(made.media, made, path.suffix.lower().lstrip("."), lufs)[0])
        return path

    def written(self, ref: MediaRef, made: Generated | None, form: str, lufs: float | None) -> Written:
        """A stored sound as a stored file of another format and loudness; what loa made carries its provenance there too.

        Raises:
            UnsupportedRequest: a loudness that the sound cannot have. MediaError: the sound or the format cannot be used.
        """
        from orchestrator.tools import Written

        data, seconds, note = self._encoded(ref, made, form, lufs)
        stored = self.store.put_bytes(data, _MIMES[form], "audio")
        name = (made.request.prompt or made.request.transcript or "sound") if made else "sound"
        return Written(stored, seconds, (note,) if note else (), {"format": form, "lufs": lufs, "name": name, "of": ref.id})

    def _encoded(self, ref: MediaRef, made: Generated | None, form: str, lufs: float | None) -> tuple[bytes, float, str]:
        """The bytes of a sound file, its seconds, and what is to be said about its loudness."""
        sound, remark = read_audio(self.store.path(ref)), ""
        if lufs is not None:
            from serving.sounds import at_loudness

            sound, remark = at_loudness(sound, lufs)
        if made is None:
            return encode_audio(sound, form), sound.seconds, remark
        note = Provenance(
            loa=loa_version(),
            backend=made.backend,
            request=made.request,
            fingerprint=made.fingerprint,
            rows=made.rows,
            threads=_threads(),
            media=made.media.id,
            lufs=lufs,
        )
        return encode_audio(sound, form, {"comment": canonical_json(note)}), sound.seconds, remark

    def replay(
        self,
        original: Path,
        note: Provenance,
        output: Path,
        on_progress: OnProgress | None = None,
    ) -> Replayed:
        """Make the sound of ``note`` again, write it to ``output`` and compare it with ``original`` byte by byte.

        Raises:
            UnknownName: the backend is not offered here. MissingMedia: a picture or sound that it was made from is
            no longer in the store.
        """
        self.refuse_early(note.backend, kinds_of(note.request), note.request.seconds, edit_of(note.request))
        if note.request.edit is not None and note.request.edit.source not in self.store:
            raise MissingMedia(
                f"'{original}' was edited from the sound {note.request.edit.source.id[:19]}…, which is no longer in the store "
                f"{self.store.root}; 'loa edit' with that sound's file puts it back"
            )
        made = self.generate(note.request, note.backend, rows=note.rows, on_progress=on_progress)
        same_as = original.read_bytes()
        self.export(made, output, note.lufs)
        if output.read_bytes() == same_as:
            return Replayed(made, output, "")
        if made.fingerprint != note.fingerprint:
            return Replayed(
                made,
                output,
                f"'{note.backend}' is not the same here as where the file was made (fingerprint "
                f"{made.fingerprint[:18]}… here, {note.fingerprint[:18]}… in the file: other weights, versions, "
                f"options or threads)",
            )
        if note.loa != loa_version():
            return Replayed(made, output, f"the file was made by loa {note.loa}, this is {loa_version()}")
        if made.media.id == note.media:
            return Replayed(made, output, "the sound is the same, but the file was changed after loa wrote it")
        return Replayed(made, output, "same fingerprint, other sound: this is a fault of loa, please report it")


@dataclass(frozen=True)
class _Sentences:
    """The sentence encoder, imported and loaded when a chat model first asks for it."""

    encoder: Callable[[str], Any]

    def sentences(self, texts: list[str]) -> np.ndarray:
        """[B, D] float32, unit length."""
        vectors: np.ndarray = self.encoder("minilm").sentences(texts)
        return vectors


def build(config: AppConfig | None = None) -> App:
    """The house that ``config`` describes (default: LOA_HOME/app.yaml, else the shipped settings).

    Raises:
        ConfigError: a setting is wrong or names a row that does not exist.
    """
    return App(load_config() if config is None else config)


@cache
def _shared(home: str | None) -> App:
    del home  # only the key: another LOA_HOME is another house
    return build()


def generate(
    prompt: str = "",
    *,
    media: Iterable[str | Path | MediaRef] = (),
    backend: str | None = None,
    on_progress: OnProgress | None = None,
    **fields: Any,
) -> Generated:
    """Make one sound from Python: ``generate("a dog barks", seconds=5, seed=1)``.

    Args:
        prompt: what should be heard.
        media: paths of pictures, sounds or videos, or references into the store.
        backend: a row of ``loa models list``; "auto" takes the first ready one that covers the request; None takes
            what the settings say (as they come: auto).
        fields: any other field of ``GenerationRequest``.

    Returns:
        The stored sound; ``build().store.path(result.media)`` is its WAV file.

    Raises:
        ConfigError, MediaError, BackendError: see generators/base.py.
    """
    app = _shared(os.environ.get("LOA_HOME"))
    backend = backend or app.config.default_backend
    refs = tuple(ref if isinstance(ref, MediaRef) else app.store.put_file(Path(ref)) for ref in media)
    request = app.request(backend, prompt=prompt, media=refs, **fields)
    return app.generate(request, backend, on_progress=on_progress)


def nano_folder() -> Path:
    """Where the checkpoint that ships with loa lies."""
    return Path(str(files("checkpoints") / "nano"))


def bench_nano(
    checkpoints: Sequence[Path] | None = None,
    *,
    quick: bool = False,
    core: bool = False,
    work: Path | None = None,
    jobs: int | None = None,
    clips: Path | None = None,
    make_j2: bool = False,
    on_progress: Callable[[str, int, int], None] = lambda stage, done, of: None,
) -> dict[str, Any]:
    """The figures of ``loa bench nano``; what evaluation may not know (training) is handed in here.

    Args:
        make_j2: download the sources of judge J2 and train it, where it was not built yet.
        checkpoints: folders; by default the one that ships with loa.
        clips: a folder by ``python -m training.data``, whose held-out recordings are then judged too.
        work, jobs: as in ``evaluation.nano.run``; by default nothing is kept and each processor works.
    """
    from evaluation.batches import processors
    from evaluation.j2 import CrossJudge
    from evaluation.nano import CORE, FULL, QUICK, run

    home = load_config().home
    built = (j2_folder(home) / "figures.json").is_file()
    if make_j2 and not built:
        build_j2(home, on_progress)
        built = True
    return run(
        checkpoints or [nano_folder()],
        QUICK if quick else CORE if core else FULL,
        on_progress,
        synthesise=synthesised,
        staged=staged,
        recordings=held_out_recordings(clips) if clips else None,
        second=CrossJudge.load(j2_folder(home)) if built else None,
        second_reason="judge J2 is not built: loa bench nano --build-j2 downloads 0.6 GB of Debian packages and trains it",
        work=work,
        jobs=jobs or processors(),
    )


def bench_bridge(pictures: Path, rows: Path, on_progress: Callable[[str, int, int], None]) -> dict[str, Any]:
    """The figures of ``loa bench bridge``; the fit and the true sounds are training's.

    Raises:
        ConfigError: ``pictures`` does not hold those that ``rows`` asks about, or no others.
    """
    from evaluation.crossing import run
    from training.bridge import fit_bridge, read_captions

    with TemporaryDirectory() as place:
        return run(nano_folder(), pictures, rows, read_captions(None), fit_bridge, synthesised, MediaStore(Path(place)), on_progress)


class _PackageSounds:
    """A Debian package as judge J2 reads it; training knows how packages and sounds are opened."""

    def __init__(self, files: Any) -> None:
        self._files = files

    def read(self, path_in_package: str) -> bytes:
        data: bytes = self._files.read(path_in_package)
        return data

    def sound(self, path_in_package: str) -> np.ndarray:
        from training.recordings import RecordingsError, decoded, trimmed

        try:
            return trimmed(decoded(self._files.read(path_in_package)))
        except RecordingsError as error:
            raise UnreadableMedia(str(error)) from error


def build_j2(home: Path, on_progress: Callable[[str, int, int], None]) -> None:
    """Download the packages of judge J2 (0.6 GB, one on disk at a time), train it, write it to LOA_HOME.

    Raises:
        RecordingsError: no Debian system, or a package cannot be had; the message says what to do.
    """
    from evaluation import j2
    from training import recordings

    recordings.require_tools()

    @contextmanager
    def open_package(name: str, scratch: Path) -> Iterator[_PackageSounds]:
        with recordings.debian_package(name, scratch) as files:
            yield _PackageSounds(files)

    play = played if find_spec("tinysoundfont") else None
    j2.build(j2_folder(home), open_package, play, on_progress)


def played(soundfont: bytes, instrument: str, seed: int) -> np.ndarray:
    """5.12 s of a melody drawn from ``seed``, mono 16 kHz, by another soundfont than training's."""
    from training.data import SAMPLES, SECONDS
    from training.music import MOODS, Piece, Player, compose

    draw = np.random.default_rng([seed, *instrument.encode()])
    with TemporaryDirectory() as place:
        path = Path(place, "font.sf2")
        path.write_bytes(soundfont)
        piece = Piece(str(draw.choice(list(MOODS))), instrument, "", int(draw.integers(60, 160)), backed=False, drums=False)
        return Player(path).play(piece, compose(piece, draw, SECONDS), SECONDS)[:SAMPLES]


def j2_folder(home: Path) -> Path:
    """Where judge J2 lies once it is built."""
    return home / "judges" / "j2"


def synthesised(name: str, seed: int) -> Audio:
    """A new procedural clip of class ``name``: [1, T], 5.12 s at 16 kHz; evaluation may not know training itself."""
    from training.data import SAMPLES, SECONDS
    from training.synthesis import CLASSES

    draw = np.random.default_rng([list(CLASSES).index(name), seed])
    return Audio(np.asarray(CLASSES[name](draw, SECONDS)[None, :SAMPLES], np.float32), 16_000)


def staged(kind: str, seed: int) -> tuple[Audio, float]:
    """A true train of events, 5.12 s: "tempo" and its beats per minute, or "count" and how many there are."""
    from training import scenes
    from training.data import SAMPLES, SECONDS

    draw = np.random.default_rng([{"tempo": 0, "count": 1}[kind], seed])
    scene = scenes.paced(draw, SECONDS) if kind == "tempo" else scenes.counted(draw, SECONDS)
    said = " ".join(scene.captions)
    if kind == "tempo":
        told = re.search(r"\d+", said)
        assert told, f"a caption of a paced scene names its tempo, got '{said}'"
        number = float(told[0])
    else:
        number = next((k for k, word in enumerate(scenes.NUMBERS, 1) if re.search(rf"\b{word}\b", said)), 1)
    return Audio(np.clip(scene.samples[None, :SAMPLES], -1, 1).astype(np.float32), 16_000), float(number)


def held_out_recordings(folder: Path) -> dict[str, list[Audio]]:
    """Recorded clips that nobody trains on, by category, from a folder by ``python -m training.data``.

    Raises:
        ConfigError: the folder holds no such clips.
    """
    try:
        names = json.loads((folder / "labels.json").read_text())["recorded"]
        rows = json.loads((folder / "rec_test.json").read_text())
        waves = np.load(folder / "rec_test_wav.npy", mmap_mode="r")
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"{folder} holds no held-out recordings ({error}); python -m training.data writes such a folder") from error
    found: dict[str, list[Audio]] = {}
    for (index, _), wave in zip(rows, waves, strict=True):
        found.setdefault(names[index], []).append(Audio((wave[None] / 32768).astype(np.float32), 16_000))
    return found


def valid_request(**fields: Any) -> GenerationRequest:
    """A request from loose fields.

    Raises:
        UnsupportedRequest: one clause per field that is out of range.
    """
    try:
        return GenerationRequest(**fields)
    except ValidationError as error:
        raise UnsupportedRequest("; ".join(_explain(error))) from None


def kinds_of(request: GenerationRequest) -> set[str]:
    """Kinds of input that the request holds, in the words of ``Capabilities.accepts``."""
    kinds: set[str] = {ref.kind for ref in request.media}
    kinds |= {"text"} if request.prompt else set()
    kinds |= {"transcript"} if request.transcript is not None else set()
    kinds |= {"condition"} if request.loa else set()
    return kinds


def edit_of(request: GenerationRequest) -> str:
    """The kind of edit that a request asks for; "" for none."""
    return request.edit.kind if request.edit else ""


def check_output(path: Path, kind: str = "audio") -> None:
    """Refuse a path that no sound (picture, video) can be written to, before any work is done.

    Raises:
        MediaError: saying what would be accepted.
    """
    if path.suffix.lower() not in SUFFIXES[kind]:
        got = f"'{path.suffix}'" if path.suffix else "no suffix"
        what = {"audio": "a sound", "image": "a picture", "video": "a video"}[kind]
        raise MediaError(f"cannot write '{path}': {what} ends in {', '.join(SUFFIXES[kind])}, got {got}")
    folder = path.absolute().parent
    if not folder.is_dir():
        raise MediaError(f"cannot write '{path}': there is no folder '{folder}'; make it first")
    if path.is_dir():
        raise MediaError(f"cannot write '{path}': it is a folder")
    if not os.access(folder, os.W_OK):
        raise MediaError(f"cannot write '{path}': no permission to write in '{folder}'")


def read_provenance(path: Path) -> Provenance:
    """The note inside a sound that loa wrote.

    Raises:
        MediaError: no such file, no sound, or no note of loa's in it.
    """
    if not path.is_file():
        raise MediaError(f"no such file: '{path}'")
    comment = read_tags(path).get("comment", "")
    try:
        found = json.loads(comment) if 0 < len(comment) <= _MAX_PROVENANCE else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, Mapping) or "loa" not in found:
        raise MediaError(f"'{path}' holds no provenance of loa: only files that loa wrote, unchanged, can be replayed")
    try:
        return Provenance.model_validate(found)
    except ValidationError as error:
        raise MediaError(f"the provenance inside '{path}' is damaged: {'; '.join(_explain(error))}") from None


def _offered(config: AppConfig) -> dict[str, BackendConfig]:
    rows = presets(config.home)
    for name in config.backends or ():
        if name not in rows:
            raise UnknownName("backend", name, rows)
    return {name: _as_here(rows[name], config.home) for name in (rows if config.backends is None else config.backends)}


def _as_here(row: BackendConfig, home: Path) -> BackendConfig:
    """The row with what a bridge in its folder lets in besides."""
    if not (row.bridged and (folder_of(row, home) / BRIDGE).is_file()):
        return row
    return row.model_copy(update={"accepts": row.accepts | row.bridged})


def _why_not(row: BackendConfig, asked: frozenset[str], seconds: float, edit: str = "") -> Exception | None:
    if row.kind == "published":
        return MissingExtra(
            f"'{row.name}' is a row with published numbers only, there is nothing to run: {row.notes} "
            "('loa models list' shows which rows are ready)"
        )
    refused = sorted(asked - row.accepts)
    if refused and asked <= row.accepts | row.bridged:
        return UnsupportedRequest(
            f"backend '{row.name}' takes {', '.join(sorted(row.accepts))}, not {', '.join(refused)} until it has a bridge: "
            f"'loa train bridge -o {BRIDGE}' fits one, to be put into LOA_HOME/checkpoints/{row.folder}"
        )
    if refused:
        return UnsupportedRequest(
            f"backend '{row.name}' takes {', '.join(sorted(row.accepts))}, not {', '.join(refused)}; choose another "
            f"one with --backend ('loa models list' shows what each takes)"
        )
    if edit and edit not in row.edits:
        known = ", ".join(sorted(row.edits)) or "none"
        return UnsupportedRequest(f"backend '{row.name}' cannot do the edit '{edit}' (it knows: {known})")
    if "transcript" not in asked and row.kind != "image" and seconds > row.max_seconds:
        return UnsupportedRequest(f"backend '{row.name}' makes at most {row.max_seconds:g} s, got {seconds:g} s; ask for less")
    return None


_WORDS = {
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    "finite_number": "must be a finite number",
    "string_too_long": "must have at most {max_length} characters",
    "extra_forbidden": "is not a field of a request",
}


def _explain(error: ValidationError) -> list[str]:
    lines = []
    for item in error.errors(include_url=False):
        where = ".".join(str(part) for part in item["loc"])
        if item["type"] == "value_error" and not where:
            lines.append(item["msg"].removeprefix("Value error, "))
            continue
        words = _WORDS.get(item["type"], "{msg}").format_map({"msg": item["msg"], **item.get("ctx", {})})
        shown = repr(item["input"])
        lines.append(f"'{where}' {words}, got {shown if len(shown) <= 80 else shown[:77] + '…'}")
    return lines


def _threads() -> int | None:
    torch = sys.modules.get("torch")
    return None if torch is None else int(torch.get_num_threads())
