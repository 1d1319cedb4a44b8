"""`loa soundtrack`: a video in, the same picture with a made soundtrack out; joins the planner with the house.

Knows flags' values, the house, what sees, makes, mixes and muxes. A killed run goes on where it stopped: finished spans are in the
store and in a ledger under LOA_HOME; all else is made again in a folder of its own, which the next run clears.
"""

from __future__ import annotations

import errno
import hashlib
import math
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from configs.registry import resolve
from generators.base import (
    Cancelled,
    Generated,
    GenerationFailed,
    GenerationRequest,
    OnProgress,
    Progress,
    UnsupportedRequest,
    canonical_json,
)
from media.audio import Audio, read_audio, resample
from media.guard import admit
from media.refs import MediaError, MediaRef, UnreadableMedia, shown, write_whole
from media.timeline import Timeline, watch
from orchestrator.scoring import Heard, Ledger, Score, make, write_stem
from orchestrator.soundtrack import LAYERS, Layer, Maker, Plan, Seen, plan, understood
from orchestrator.sync import Sync, plot, report, stem_onsets

if TYPE_CHECKING:
    from orchestrator.contract import soundtrack_video
    from orchestrator.tools import Written
    from serving.app import App

SUFFIXES = (".mp4", ".mov", ".mkv", ".webm")
READ = (*SUFFIXES, ".m4v")
MARK = ".soundtrack"  # before the suffix of what we write
ORIGINALS = ("keep", "duck", "drop")
LUFS = (-60.0, 0.0)
FRAMES = 3  # of a scene, for what is in it
PICTURE = 512  # pixels of the longer side of what a backend sees of a scene
MIMES = {"video/mp4": ".mp4", "video/quicktime": ".mov", "video/x-matroska": ".mkv", "video/webm": ".webm"}
STAGES = (("watching", 0.08), ("looking", 0.06), ("making", 0.76), ("mixing", 0.10))  # and their shares of the whole

CLOSE = 0.5  # share of the labels that are worn, from which somebody fills the picture
WORN = frozenset({
    "bow tie", "Windsor tie", "bolo tie", "suit", "groom", "academic gown", "mortarboard", "wig", "sunglasses", "sunglass",
    "lab coat", "jersey", "sweatshirt", "cardigan", "trench coat", "neck brace", "seat belt", "lipstick", "stole", "bonnet",
    "kimono", "abaya", "cloak", "poncho", "brassiere", "bikini", "maillot", "shower cap", "bathing cap", "ski mask",
    "oxygen mask", "military uniform", "vestment", "bulletproof vest", "pajama", "fur coat", "cowboy hat", "sombrero",
    "feather boa", "bib", "Band Aid",
})  # fmt: skip
SPOKEN = 0.3  # share of a sound's time in which somebody speaks, from which it is speech
NEIGHBOURS = 15  # phrases that vote on whether a sound is music
UNWANTED = 0.1  # share of their votes from which it is; measured: 0.00 for 36 sounds, over it for half of 18 pieces of music
_SPOKEN = re.compile(r"\b(?:says|saying|talk\w*|speak\w*|speech|voice|spoken|announc\w+)\b", re.I)

Original = Literal["keep", "duck", "drop"]
OnStage = Callable[[str, float], None]  # stage, share of the whole in 0..1


@dataclass(frozen=True)
class Asked:
    """What is wanted of one video."""

    prompt: str = ""
    layers: tuple[Layer, ...] = LAYERS
    original: Original = "duck"
    lufs: float = -16.0
    rerolls: int = 2
    seed: int = 0
    backend: str = "auto"
    stems: Path | None = None


@dataclass(frozen=True)
class Soundtrack:
    """A finished video. ``facts`` is JSON: the contract's keys and more."""

    path: Path
    seconds: float
    notes: tuple[str, ...]
    facts: dict[str, Any] = field(default_factory=dict)


def asked(layers: str, **fields: Any) -> Asked:
    """Wishes from flags.

    Raises:
        UnsupportedRequest: saying what would be accepted.
    """
    names = tuple(dict.fromkeys(name.strip().lower() for name in layers.split(",") if name.strip()))
    if not names or set(names) - set(LAYERS):
        raise UnsupportedRequest(f"--layers takes {', '.join(LAYERS)}, got '{layers[:60]}'")
    wanted = Asked(layers=cast(tuple[Layer, ...], names), **fields)
    if not understood(wanted.prompt, wanted.layers).layers:
        raise UnsupportedRequest("no layer is left to make: ask for ambience, foley or music")
    if wanted.original not in ORIGINALS:
        raise UnsupportedRequest(f"--original takes {', '.join(ORIGINALS)}, got '{wanted.original[:40]}'")
    if not (math.isfinite(wanted.lufs) and LUFS[0] <= wanted.lufs <= LUFS[1]):
        raise UnsupportedRequest(f"--lufs is a loudness from {LUFS[0]:g} to {LUFS[1]:g}, got {wanted.lufs:g}")
    if not 0 <= wanted.rerolls <= 20:
        raise UnsupportedRequest(f"--rerolls is a number from 0 to 20, got {wanted.rerolls}")
    if not 0 <= wanted.seed < 2**63:
        raise UnsupportedRequest(f"--seed is a number from 0 to 2^63 - 1, got {wanted.seed}")
    if len(wanted.prompt) > 2000:
        raise UnsupportedRequest(f"--prompt has at most 2000 characters, got {len(wanted.prompt)}")
    return wanted


# -- files before any work ---------------------------------------------------------------------------------------------


def videos_in(folder: Path) -> list[Path]:
    """The videos of a folder by name, without what we wrote ourselves.

    Raises:
        MediaError: there is none.
    """
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in READ and p.is_file() and not p.stem.endswith(MARK))
    if not found:
        raise UnreadableMedia(f"the folder '{shown(str(folder))}' holds no video; give one with {', '.join(READ)}")
    return found


def output_for(video: Path, output: Path | None, many: bool) -> Path:
    """Where a video's soundtrack goes: as asked, else ``NAME.soundtrack.mp4`` here; ``many``: ``output`` is a folder.

    Raises:
        MediaError: it cannot be written there, or it would take the place of the input.
    """
    suffix = video.suffix.lower() if video.suffix.lower() in SUFFIXES else ".mp4"
    target = output or Path(".")
    if many or target.is_dir():
        target = target / f"{video.stem}{MARK}{suffix}"
    if target.suffix.lower() not in SUFFIXES:
        got = f"'{target.suffix}'" if target.suffix else "no suffix"
        raise MediaError(f"cannot write '{target}': a video ends in {', '.join(SUFFIXES)}, got {got}")
    parent = target.absolute().parent
    if not parent.is_dir():
        raise MediaError(f"cannot write '{target}': there is no folder '{parent}'; make it first")
    if target.is_dir():
        raise MediaError(f"cannot write '{target}': it is a folder")
    if not os.access(parent, os.W_OK):
        raise MediaError(f"cannot write '{target}': no permission to write in '{parent}'")
    if target.exists() and video.exists() and target.samefile(video):
        raise MediaError(f"'{target}' is the video itself, which is never overwritten; choose another name with -o")
    return target


@dataclass(frozen=True)
class Outcome:
    """One video of several: its soundtrack, its plan, or why there is none."""

    video: Path
    made: Soundtrack | None = None
    plan: Plan | None = None
    error: Exception | None = None


def outcomes(
    studio: Studio, wanted: Asked, files: Sequence[Path], targets: Sequence[Path], *, only_plan: bool, many: bool
) -> Iterator[Outcome]:
    """One after the other. Of many, a video that fails is told and the next ones are made; of one, its error is raised.

    Raises:
        Cancelled, and what is no video's own fault.
    """
    for video, target in zip(files, targets, strict=True):
        try:
            if only_plan:
                yield Outcome(video, plan=studio.planned(video, wanted)[0])
            else:
                yield Outcome(video, made=studio.make(video, target, wanted))
        except (MediaError, UnsupportedRequest, GenerationFailed) as error:
            if not many:
                raise
            yield Outcome(video, error=error)


# -- one video ---------------------------------------------------------------------------------------------------------


@dataclass
class Studio:
    """The house's rooms as a soundtrack needs them."""

    app: App
    on_stage: OnStage = lambda stage, share: None
    cancelled: Callable[[], bool] = lambda: False

    def planned(self, video: Path, wanted: Asked) -> tuple[Plan, Timeline]:
        """Watch a video, look at its scenes, and plan; nothing is made.

        Raises:
            MediaError: it cannot be used. UnsupportedRequest, UnknownName, CheckpointMissing: nobody can make this.
        """
        admit(video)
        makers = self._makers(wanted)
        try:
            timeline = watch(video, on_progress=self._stage("watching"), cancelled=self.cancelled)
        except InterruptedError:
            raise Cancelled from None
        seen = self._look(video, timeline)
        return plan(timeline, seen, makers, prompt=wanted.prompt, layers=wanted.layers, seed=wanted.seed), timeline

    def make(self, video: Path, output: Path, wanted: Asked) -> Soundtrack:
        """The video with its soundtrack at ``output``, which appears whole or not at all.

        Raises:
            as ``planned``; Cancelled; BackendError.
        """
        planned, timeline = self.planned(video, wanted)
        # The detector loads torch, so it is imported once the video is known to be good.
        from encoders.speech import speech_spans
        from media.mixing import Stem, mix
        from media.mux import mux
        from media.onsets import audio_onsets

        ledger = Ledger(self.app.config.home / "cache" / "soundtrack" / "spans", self.holds)
        score = make(planned, self, ledger, rerolls=wanted.rerolls, on_progress=self._steps("making"), cancelled=self.cancelled)
        tell = self._stage("mixing")
        with self._workplace(video, planned, wanted) as work:
            stems: list[tuple[Layer, Path]] = []
            for layer in planned.layers():
                self._check()
                path = work / f"{layer}.wav"
                write_stem(planned, layer, score, self, path)
                stems.append((layer, path))
            tell(0.3)
            foley = dict(stems).get("foley")
            sound = stem_onsets(foley, audio_onsets) if foley else []
            visual = [each.time for each in (planned.events if "foley" in planned.wishes.layers else timeline.onsets)]
            synced = report(timeline.scenes, visual, sound)
            keeps = wanted.original != "drop" and has_sound(video)
            speech = speech_spans(video) if keeps and wanted.original == "duck" else []
            self._check()
            tell(0.5)
            mixed = mix(
                [Stem(path=path) for _, path in stems],
                work / "mix.wav",
                seconds=timeline.seconds,
                original=video if keeps else None,
                mode=wanted.original,
                speech=speech,
                lufs=wanted.lufs,
            )
            self._check()
            tell(0.8)
            muxed = mux(video, mixed.path, work / f"made{output.suffix.lower()}", comment=self._provenance(planned, score, wanted))
            deliver(muxed.path, output)
            kept = self._hand_over(stems, wanted, output, timeline, visual, sound)
            tell(1.0)
        notes = (*planned.notes, *mixed.notes, *_complaints(score))
        facts = {
            "path": str(output.absolute()),
            "seconds": muxed.seconds,
            "samples": muxed.samples,
            "codec": muxed.codec,
            "scenes": [_scene_json(planned, index, sync) for index, sync in enumerate(synced)],
            "lufs": _number(mixed.lufs),
            "true_peak_db": _number(mixed.true_peak_db),
            "stems": [{"layer": layer, "path": kept.get(layer)} for layer, _ in stems],
            "plot": kept.get("plot"),
            "layers": [layer for layer, _ in stems],
            "speech": [[round(a, 3), round(b, 3)] for a, b in speech],
            "verdicts": [verdict.model_dump(mode="json") for verdict in score.verdicts],
            "backend": {layer: tape.maker for tape in planned.tapes for layer in (tape.layer,)},
            "seed": wanted.seed,
            "prompt": wanted.prompt,
            "original": wanted.original if keeps else "drop",
            "notes": list(notes),
        }
        return Soundtrack(output, muxed.seconds, notes, facts)

    # -- seeing ----------------------------------------------------------------------------------------------------
    def _look(self, video: Path, timeline: Timeline) -> list[Seen]:
        """What is in each scene; one scene's frames are in memory at a time."""
        from media.video import frames_at

        pictures = resolve("loa.encoders", "efficientnet-lite0")()
        tell, seen = self._stage("looking"), []
        for index, (start, end) in enumerate(timeline.scenes):
            self._check()
            frames = frames_at(video, [start + (end - start) * (k + 0.5) / FRAMES for k in range(FRAMES)])
            vector = pictures.encode(frames).states[:, 0].mean(0).numpy()
            picture = self.app.store.put_bytes(png(frames[FRAMES // 2]), "image/png", "image")
            labels = tuple((name, round(share, 4)) for name, share in pictures.labels(frames))
            seen.append(Seen(labels, self._known_sound(picture), vector, picture, worn_share(labels) >= CLOSE))
            tell((index + 1) / len(timeline.scenes))
        return seen

    def _makers(self, wanted: Asked) -> dict[str, Maker]:
        """By layer, the named backend or the first ready one; it must take words."""
        found: dict[str, Maker] = {}
        for layer in LAYERS:
            task = "music" if layer == "music" else "sound"
            if wanted.backend == "auto":
                able = (row for row in self.app.rows.values() if row.kind == "audio" and task in row.tasks and "text" in row.accepts)
                first = next((row for row in able if self.app.readiness(row).ready), None)
                names = [first.name] if first else []
            else:
                row = self.app.row(wanted.backend)
                self.app.refuse_early(row.name, {"text"}, 1.0)
                names = [row.name] if row.kind == "audio" and task in row.tasks else []
            if names:
                found[layer] = Maker(names[0], self.app.pool.get(names[0]).capabilities)
        return found

    # -- what a score asks for (orchestrator.scoring.Hands) --------------------------------------------------------
    def generate(
        self, maker: str, requests: Sequence[GenerationRequest], rows: int, on_progress: OnProgress, cancelled: Callable[[], bool]
    ) -> list[Generated]:
        return self.app.pool.generate(maker, requests, rows=rows, on_progress=on_progress, cancelled=cancelled)

    def bucket(self, maker: str, count: int) -> int:
        return self.app.pool.get(maker).bucket(count)

    def fingerprint(self, maker: str, rows: int) -> str:
        return self.app.pool.get(maker).fingerprint(rows)

    def path(self, ref: MediaRef) -> Path:
        return self.app.store.path(ref)

    def holds(self, ref: MediaRef) -> bool:
        return ref in self.app.store

    def keep_curve(self, curve: np.ndarray) -> MediaRef:
        from generators.conditioning import envelope_bytes

        return self.app.store.put_bytes(envelope_bytes(curve), "application/x-safetensors", "condition")

    def listen(self, path: Path) -> Heard:
        """Speech (Silero's detector), music or the known sound (the ears that ship with nano): nobody who judges a benchmark."""
        ears = self._ears
        sound = read_audio(path)
        vector = ears.encode([sound]).states[0, 0].numpy()
        anchors = ears.anchors
        likeness = anchors.vectors @ vector
        near = np.argsort(-likeness)[:NEIGHBOURS]
        weights = np.exp(12 * likeness[near])
        unnamed = np.asarray([anchors.labels[row] == "" and not _SPOKEN.search(anchors.texts[row]) for row in near])
        if (share := spoken_share(sound)) >= SPOKEN:
            return Heard("speech", share, "a voice")
        if (share := float(weights[unnamed].sum() / weights.sum())) >= UNWANTED:
            return Heard("music", share, anchors.texts[near[0]])
        name, cosine = anchors.meant(vector)
        return Heard("sound", cosine, name or anchors.texts[near[0]])

    @cached_property
    def _ears(self) -> Any:
        ears = resolve("loa.encoders", "nano-audio")()
        ears.load()
        return ears

    @cached_property
    def _reader(self) -> Any:
        from generators.conditioning import NanoConditioner

        def nobody() -> Any:
            raise AssertionError("a picture is named without writing a LOA")

        reader = NanoConditioner(self.app.store, nobody, self._ears, text_length=32, loa_mode="predicted")
        reader.load()
        return reader

    def _known_sound(self, picture: MediaRef) -> str | None:
        """The name of what a stored picture sounds like; None where nobody is sure."""
        name: str | None = self._reader.understand(picture)
        return name

    # -- files -----------------------------------------------------------------------------------------------------
    @contextmanager
    def _workplace(self, video: Path, planned: Plan, wanted: Asked) -> Iterator[Path]:
        """A folder for stems and mix; what killed runs left behind is cleared."""
        from filelock import FileLock, Timeout

        root = self.app.config.home / "cache" / "soundtrack" / "work"
        root.mkdir(parents=True, exist_ok=True)
        for lock in root.glob("*.lock"):
            with suppress(Timeout), FileLock(lock, timeout=0):
                shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
                lock.unlink(missing_ok=True)
        name = hashlib.sha256(f"{os.getpid()} {video.absolute()} {canonical_json(planned)} {wanted}".encode()).hexdigest()[:24]
        with FileLock(root / f"{name}.lock"):
            place = root / name
            place.mkdir(exist_ok=True)
            try:
                yield place
            finally:
                shutil.rmtree(place, ignore_errors=True)
        (root / f"{name}.lock").unlink(missing_ok=True)

    def _hand_over(
        self,
        stems: Sequence[tuple[Layer, Path]],
        wanted: Asked,
        output: Path,
        timeline: Timeline,
        visual: Sequence[float],
        sound: Sequence[float],
    ) -> dict[str, str]:
        """Stems and the plot of their timing in the folder that was asked for."""
        if wanted.stems is None:
            return {}
        wanted.stems.mkdir(parents=True, exist_ok=True)
        name = output.stem.removesuffix(MARK)
        kept: dict[str, str] = {}
        picture = plot(
            timeline.seconds,
            timeline.motion,
            timeline.rate,
            timeline.cuts,
            visual,
            sound,
            # the lane below the motion carries what is heard
            sorted(stems, key=lambda stem: stem[0] != "foley"),
        )
        for layer, path in stems:
            target = wanted.stems / f"{name}.{layer}.wav"
            deliver(path, target)
            kept[layer] = str(target.absolute())
        write_whole(wanted.stems / f"{name}.sync.png", picture)
        kept["plot"] = str((wanted.stems / f"{name}.sync.png").absolute())
        return kept

    def _provenance(self, planned: Plan, score: Score, wanted: Asked) -> str:
        from serving.app import loa_version

        signs = {made.backend: made.fingerprint for each in score.sounds for made in each}
        return canonical_json(
            {
                "loa": loa_version(),
                "made": "soundtrack",
                "generated": {layer: tape.maker for tape in planned.tapes for layer in (tape.layer,)},
                "fingerprints": signs,
                "prompt": wanted.prompt,
                "seed": wanted.seed,
                "original": wanted.original,
                "plan": "sha256:" + hashlib.sha256(canonical_json(planned).encode()).hexdigest(),
            }
        )

    # -- progress --------------------------------------------------------------------------------------------------
    def _stage(self, name: str) -> Callable[[float], None]:
        begin = sum(share for stage, share in STAGES[: [stage for stage, _ in STAGES].index(name)])
        size = dict(STAGES)[name]
        return lambda share: self.on_stage(name, begin + size * min(max(share, 0.0), 1.0))

    def _steps(self, name: str) -> OnProgress:
        tell = self._stage(name)
        return lambda progress: tell(progress.step / max(progress.of, 1))

    def _check(self) -> None:
        if self.cancelled():
            raise Cancelled


def for_chat(app: App) -> Callable[..., Written]:
    """The chat's ``soundtrack_video``: a stored video in, a stored video out."""

    def soundtrack(
        video: MediaRef,
        wishes: soundtrack_video,
        *,
        on_progress: OnProgress | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Written:
        from tempfile import TemporaryDirectory

        from orchestrator.tools import Written

        notify = on_progress or (lambda _: None)
        wanted = asked(
            ",".join(wishes.layers),
            prompt=wishes.prompt,
            original=wishes.original,
            lufs=-16.0 if wishes.lufs is None else wishes.lufs,
            seed=wishes.seed,
            backend=wishes.backend or app.config.default_backend,
        )
        studio = Studio(app, lambda stage, share: notify(Progress(round(1000 * share), 1000)), cancelled or (lambda: False))
        suffix = MIMES.get(video.mime, ".mp4")
        app.store.root.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=app.store.root, prefix=".loa-") as place:
            made = studio.make(app.store.path(video), Path(place) / f"made{suffix}", wanted)
            stored = app.store.put_bytes(made.path.read_bytes(), video.mime if video.mime in MIMES else "video/mp4", "video")
        facts = {key: value for key, value in made.facts.items() if key not in ("path", "stems", "plot")}
        details = {"name": f"soundtrack {wanted.prompt}".strip(), "of": video.id, "soundtrack": facts}
        return Written(stored, made.seconds, told(made), details)

    return soundtrack


def told(made: Soundtrack) -> tuple[str, ...]:
    """What a person is told about a soundtrack, a clause each."""
    facts = made.facts
    backends = sorted(set(facts["backend"].values()))
    scenes = facts["scenes"]
    prompts = list(dict.fromkeys(scene["prompt"] for scene in scenes))
    offsets = [scene["offset_ms"] for scene in scenes if scene["offset_ms"] is not None]
    lines = [f"{' and '.join(facts['layers'])} made with {', '.join(backends)} (seed {facts['seed']})"]
    lines.append(f"{len(scenes)} scene{'s' if len(scenes) > 1 else ''}: {', '.join(prompts[:6])}{' …' if len(prompts) > 6 else ''}")
    if offsets:
        events = sum(scene["visual_onsets"] for scene in scenes)
        lines.append(f"{events} visible event{'s' if events > 1 else ''}, their sounds {np.mean(offsets):+.0f} ms off on average")
    if facts["lufs"] is not None:
        lines.append(f"{facts['lufs']:.1f} LUFS")
    return (*lines, *made.notes)


# -- small parts -------------------------------------------------------------------------------------------------------


def spoken_share(sound: Audio) -> float:
    """The share of a sound's time in which somebody speaks, 0..1; 0 where the detector is not installed."""
    from encoders.base import EncoderMissing
    from encoders.speech import CHUNK, RATE, spans, speech_probabilities

    try:
        found = spans(speech_probabilities(iter([resample(sound, RATE).samples.mean(axis=0)])), CHUNK / RATE)
    except EncoderMissing:
        return 0.0
    return sum(end - begin for begin, end in found) / max(sound.seconds, 1e-9)


def worn_share(labels: Sequence[tuple[str, float]]) -> float:
    """How much of what a picture is taken for is worn by somebody, 0..1: the labels know clothes, but no faces."""
    return sum(share for name, share in labels if name in WORN)


def deliver(made: Path, target: Path) -> None:
    """Move a finished file to its place; there it appears whole or not at all, on another disk too."""
    try:
        os.replace(made, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        part = target.parent / f".loa-{secrets.token_hex(8)}.part"
        try:
            shutil.copyfile(made, part)
            os.replace(part, target)
        finally:
            part.unlink(missing_ok=True)


def has_sound(video: Path) -> bool:
    """Whether a video brings sound of its own."""
    from media.video import probe

    return probe(video).has_audio


def png(frame: np.ndarray) -> bytes:
    """A frame [H, W, 3] uint8 as PNG, at most ``PICTURE`` pixels long; equal frames give equal bytes."""
    import io

    from PIL import Image

    image = Image.fromarray(frame)
    image.thumbnail((PICTURE, PICTURE))
    made = io.BytesIO()
    image.save(made, "PNG")
    return made.getvalue()


def _scene_json(planned: Plan, index: int, sync: Sync) -> dict[str, Any]:
    scene = planned.scenes[index]
    return {
        "start": scene.start,
        "end": scene.end,
        "prompt": scene.prompt,
        "offset_ms": sync.offset_ms,
        "worst_ms": sync.worst_ms,
        "visual_onsets": len(sync.visual),
        "sound_onsets": len(sync.sound),
        "within_40_ms": sync.within,
        "extra": sync.extra,
        "visual": list(sync.visual),
        "sound": list(sync.sound),
        "place": scene.place,
        "sure": scene.sure,
        "labels": [list(label) for label in scene.labels[:3]],
    }


def _number(value: float) -> float | None:
    return round(value, 2) if math.isfinite(value) else None


def _complaints(score: Score) -> list[str]:
    """One clause for what failed every roll of its check."""
    failed = [verdict for verdict in score.verdicts if verdict.fault]
    return [f"{verdict.layer} {verdict.prompt!r}: {verdict.fault}, after {verdict.rolls} rolls" for verdict in failed[:4]] + (
        [f"{len(failed) - 4} more spans failed their check"] if len(failed) > 4 else []
    )
