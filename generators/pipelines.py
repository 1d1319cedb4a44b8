"""Systems that diffusers runs from end to end, as rows of data: which pipeline, what its arguments are called, what it can do.

Knows how to call a pipeline. Does not know what is inside one. A folder names its parts itself (``model_index.json``); only classes of
diffusers and transformers are taken, and no code from a folder is run.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from generators.base import (
    Cancelled,
    Capabilities,
    ConfigError,
    Generated,
    GenerationRequest,
    OnProgress,
    Progress,
)
from generators.checkpoint import NO_CODE, WEIGHTS, on_meta, shards
from generators.folder import FolderBackend, Limits, Part, seeded
from media.guard import GuardReport

INDEX = "model_index.json"
LIBRARIES = ("diffusers", "transformers")


class Arguments(BaseModel):
    """What a pipeline calls the parts of a request; None: it has no such thing."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt: str = "prompt"
    seconds: str | None = None
    steps: str | None = "num_inference_steps"
    guidance: str | None = "guidance_scale"
    negative_prompt: str | None = None
    transcript: str | None = None


class _Pipeline(FolderBackend):
    class Options(FolderBackend.Options):
        pipeline: str  # a class of diffusers
        arguments: Arguments = Arguments()
        fixed: dict[str, Any] = Field(default_factory=dict)  # further arguments of every call
        steps: int = Field(ge=1, le=1000)
        guidance: float = Field(ge=0, le=100)
        offload: Literal["none", "model", "sequential"] = "none"  # parts wait in the CPU's memory; needs a card
        without: frozenset[str] = frozenset()  # parts of the folder that are not loaded
        scheduler: Literal["folder", "cosine-dpm"] = "folder"  # cosine-dpm: see generators.cosine_dpm

    options: Options
    libraries: ClassVar[tuple[str, ...]] = ("torch", "diffusers", "transformers", "numpy")

    # -- what can be said without torch ---------------------------------------------------------------------------
    @property
    def capabilities(self) -> Capabilities:
        named = self.options.arguments
        return super().capabilities.model_copy(
            update={
                "negative_prompt": named.negative_prompt is not None,
                "guidance": named.guidance is not None,
                "steps": named.steps is not None,
            }
        )

    @cached_property
    def _parts(self) -> dict[str, tuple[str, str]]:
        """Library and class by part, as the folder's index says.

        Raises:
            ConfigError: a part of another library than diffusers and transformers.
        """
        parts = {}
        for name, said in self._json(INDEX).items():
            if name.startswith("_") or not isinstance(said, list) or len(said) != 2 or said[1] is None:
                continue
            if name in self.options.without:
                continue
            library, kind = map(str, said)
            own = library.isidentifier() and library == library.lower() and library not in LIBRARIES  # a module beside the pipeline
            if library not in LIBRARIES and not (own and self._beside(library, kind)):
                raise ConfigError(
                    f"{self.folder / INDEX}: '{name}' is '{kind}' of '{library}'; only diffusers and transformers are read"
                )
            parts[name] = (library, kind)
        return parts

    def _beside(self, module: str, kind: str) -> bool:
        """Whether diffusers ships a pipeline folder of that name (``stable_audio``); nothing is imported."""
        from importlib.util import find_spec

        spec = find_spec("diffusers")
        places = [Path(p) / "pipelines" / module for p in (spec.submodule_search_locations or ())] if spec else []
        return kind.isidentifier() and any(place.is_dir() for place in places)

    def lacking(self) -> list[str]:
        if not (self.folder / INDEX).is_file():
            return [INDEX]
        missing = []
        for name in self._parts:
            place = self.folder / name
            if not place.is_dir():
                missing.append(name)
            elif (place / "config.json").is_file():  # a network; the rest are tokenizers, schedulers and settings
                found = shards(place)
                missing += [f"{name}/*{WEIGHTS[0]}"] if not found else [f"{name}/{p.name}" for p in found if not p.is_file()]
        return missing

    # -- loading --------------------------------------------------------------------------------------------------
    def _class(self, name: str) -> Any:
        """The class of a part; diffusers keeps a pipeline's own parts in a module beside it."""
        import diffusers
        import transformers

        library, kind = self._parts[name]
        home = {"diffusers": diffusers, "transformers": transformers}.get(library) or getattr(diffusers.pipelines, library)
        found = getattr(home, kind, None)
        if found is None:
            raise ConfigError(f"{self.folder / INDEX}: '{library}' has no '{kind}' in the version that is installed here")
        if not isinstance(found, type) or issubclass(found, diffusers.DiffusionPipeline):  # a pipeline would read an index of its own
            raise ConfigError(f"{self.folder / INDEX}: '{name}' is '{kind}', which is no part of a pipeline")
        return found

    def _load(self) -> None:
        import diffusers

        kind = getattr(diffusers, self.options.pipeline, None)
        if kind is None:
            raise ConfigError(f"diffusers {diffusers.__version__} has no pipeline '{self.options.pipeline}'; see the row '{self.name}'")
        self.require_fit()
        taken = inspect.signature(kind.__init__).parameters
        flags = {name: said for name, said in self._json(INDEX).items() if name in taken and not isinstance(said, list)}
        absent = {name: None for name in taken if name in self._json(INDEX) and name not in flags}
        if "safety_checker" in self.options.without and "requires_safety_checker" in taken:
            flags["requires_safety_checker"] = False
        self._pipe: Any = kind(**flags | absent | {name: self._part(name) for name in self._parts})
        self._pipe.set_progress_bar_config(disable=True)
        if self.options.offload != "none" and self.device.startswith("cuda"):
            {"model": self._pipe.enable_model_cpu_offload, "sequential": self._pipe.enable_sequential_cpu_offload}[
                self.options.offload
            ](device=self.device)
        else:
            self._pipe.to(self.device)

    def _part(self, name: str) -> Any:
        place, own = self.folder / name, NO_CODE if self._parts[name][0] == "transformers" else {"local_files_only": True}
        if name == "scheduler" and self.options.scheduler == "cosine-dpm":  # the folder's own needs a package that nothing else needs
            from generators.cosine_dpm import CosineDpm

            return CosineDpm.from_pretrained(place, local_files_only=True)
        if not (place / "config.json").is_file():
            return self._class(name).from_pretrained(place, **own)
        return self._class(name).from_pretrained(place, **own, dtype=self.dtype).eval().requires_grad_(False)

    def _unload(self) -> None:
        del self._pipe

    def networks(self) -> dict[str, Part]:
        return {
            name: Part(on_meta(self._class(name), self.folder / name), shards(self.folder / name))
            for name in self._parts
            if (self.folder / name / "config.json").is_file()
        }

    # -- calling --------------------------------------------------------------------------------------------------
    def _call(self, request: GenerationRequest, on_step: Callable[[int, int], None], **more: Any) -> Any:
        named, steps = self.options.arguments, request.steps or self.options.steps
        said: dict[str | None, Any] = {
            named.prompt: request.prompt,
            named.steps: steps,
            named.guidance: self.options.guidance if request.guidance is None else request.guidance,
            named.negative_prompt: request.negative_prompt or None,
            named.transcript: request.transcript or "",
        }
        asked = {**self.options.fixed, **{str(name): value for name, value in said.items() if name is not None}, **more}
        generator = seeded(request.seed)
        if self.options.scheduler == "cosine-dpm":
            self._pipe.scheduler.generator = generator
        return self._pipe(**asked, **self._watched(on_step, steps), generator=generator)

    def _watched(self, on_step: Callable[[int, int], None], steps: int) -> dict[str, Any]:
        """The pipeline's own way to say that a step is done."""

        def modern(pipe: Any, step: int, time: Any, values: dict[str, Any]) -> dict[str, Any]:
            on_step(min(step + 1, steps), steps)
            return values

        known = inspect.signature(type(self._pipe).__call__).parameters
        if "callback_on_step_end" in known:
            return {"callback_on_step_end": modern}
        return {"callback": lambda step, time, latents: on_step(min(step + 1, steps), steps), "callback_steps": 1}


class SoundPipeline(_Pipeline):
    """A text-to-audio pipeline, mono or stereo."""

    class Options(_Pipeline.Options):
        limits: Limits

    options: Options

    @property
    def limits(self) -> Limits:
        return self.options.limits

    def _make(self, request: GenerationRequest, on_step: Callable[[int, int], None]) -> np.ndarray:
        named = self.options.arguments.seconds
        made = self._call(request, on_step, **({named: request.seconds} if named else {})).audios[0]
        sound: np.ndarray = made.float().cpu().numpy() if hasattr(made, "cpu") else np.asarray(made, np.float32)
        return sound


class Riffusion(SoundPipeline):
    """Stable Diffusion that draws spectrograms (Forsgren & Martiros 2022); the picture is turned into sound here."""

    class Options(SoundPipeline.Options):
        drawing: dict[str, Any] = Field(default_factory=dict)  # generators.spectrogram_image.Drawing, where it differs
        columns_step: int = Field(default=8, ge=1)  # the network's pictures are a multiple of this wide

    options: Options

    def _make(self, request: GenerationRequest, on_step: Callable[[int, int], None]) -> np.ndarray:
        from generators.spectrogram_image import Drawing, undraw

        drawing = Drawing(**self.options.drawing)
        columns = 1 + -(-round(request.seconds * drawing.sample_rate) // drawing.hop)
        width = -(-columns // self.options.columns_step) * self.options.columns_step
        made = self._call(request, on_step, width=width, height=drawing.bins, output_type="np").images[0]
        return undraw(_bytes(made), drawing, seed=request.seed)[None]


@dataclass(frozen=True)
class Drawn:
    """Pictures [N, H, W, 3] uint8 in the order of time; a still picture is one."""

    frames: np.ndarray
    fps: float


class PicturePipeline(_Pipeline):
    """A text-to-image or text-to-video pipeline: a tool beside the sounds. Its result is a PNG or a silent MP4 in the store."""

    class Options(_Pipeline.Options):
        kind: Literal["image", "video"]
        width: int = Field(default=512, ge=16, le=4096, multiple_of=8)  # pixels
        height: int = Field(default=512, ge=16, le=4096, multiple_of=8)
        fps: float = Field(default=16.0, gt=0, le=120)
        max_seconds: float = Field(default=3600.0, gt=0)  # of a video
        frame_step: int = Field(default=1, ge=1)  # the network makes 1 + a multiple of this many frames

    options: Options

    @property
    def limits(self) -> Limits:
        return Limits(sample_rate=0, max_seconds=self.options.max_seconds, tasks=frozenset())

    def _make(self, request: GenerationRequest, on_step: Callable[[int, int], None]) -> np.ndarray:
        raise NotImplementedError("draws, see _draw")

    def _draw(self, request: GenerationRequest, on_step: Callable[[int, int], None]) -> Drawn:
        options = self.options
        size = {"width": options.width, "height": options.height}
        if options.kind == "image":
            made = self._call(request, on_step, **size, output_type="np").images[0]
            return Drawn(_bytes(made[None]), options.fps)
        wanted = max(1, round(request.seconds * options.fps))
        count = 1 + -(-(wanted - 1) // options.frame_step) * options.frame_step
        made = self._call(request, on_step, **size, num_frames=count, output_type="np").frames[0]
        return Drawn(_bytes(np.asarray(made))[:wanted], options.fps)

    def _synthesise(  # type: ignore[override] # pictures instead of sounds, from here to _finish
        self, requests: Sequence[GenerationRequest], rows: int, on_progress: OnProgress, cancelled: Callable[[], bool]
    ) -> list[Drawn]:
        del rows
        done = []
        for index, request in enumerate(requests):

            def on_step(step: int, of: int, index: int = index) -> None:
                if cancelled():
                    raise Cancelled
                on_progress(Progress(index * of + step, len(requests) * of))

            done.append(self._draw(request, on_step))
        return done

    def _finish(self, request: GenerationRequest, drawn: Drawn, rows: int, wall: float, signed: str) -> Generated:  # type: ignore[override]
        from media.image import encode_png
        from media.video import encode_frames

        if self.options.kind == "image":
            media = self.store.put_bytes(encode_png(drawn.frames[0]), "image/png", "image")
        else:
            media = self.store.put_bytes(encode_frames(drawn.frames, drawn.fps), "video/mp4", "video")
        return Generated(
            media=media,
            request=request,
            backend=self.name,
            fingerprint=signed,
            sample_rate=0,
            seconds=0.0 if self.options.kind == "image" else len(drawn.frames) / drawn.fps,
            wall_seconds=wall,
            guard=_seen(drawn.frames),
            rows=rows,
        )


def _bytes(pictures: np.ndarray) -> np.ndarray:
    """Floats in [0, 1] as bytes; what is no number becomes black."""
    clean = np.nan_to_num(np.asarray(pictures, np.float32), nan=0.0)
    return np.asarray(np.round(np.clip(clean, 0.0, 1.0) * 255), np.uint8)


def _seen(frames: np.ndarray) -> GuardReport:
    """The guard's report where nothing is to be heard: "silent" is a picture of one colour, as a safety filter gives it."""
    blank = bool((frames == frames[:1, :1, :1]).all())
    return GuardReport(peak_db=-120.0, rms_db=-120.0, silent=blank, clipped_share=0.0, nan=False, wrong_length=False)
