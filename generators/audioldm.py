"""AudioLDM (s, m, l), MusicLDM, and the two AudioLDM 2 checkpoints without a Language of Audio: text straight into latent diffusion.

The text is one CLAP vector that shifts every layer of the U-Net (48 kHz included), or FLAN-T5's states (16 kHz crossattn-T5). A
checkpoint is a folder in diffusers' layout, or with the authors' one file and the tokenizers beside it. diffusers has put its own
pipelines for the first two away as deprecated; nothing of those is used.

The official CLAP puts nothing in the prompt's place at every tenth request, in use as in training: that is not done here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from generators.base import Capabilities, GenerationRequest, OnProgress, UnsupportedRequest
from generators.checkpoint import NO_CODE, WEIGHING, Shapes, part_shapes
from generators.official import OfficialBackend, nothing
from media.audio import Audio, fit_length

if TYPE_CHECKING:
    from torch import Tensor

    from encoders.base import Condition
    from generators.official import Parts, Read

FOLDERS = ("unet", "vae", "vocoder", "scheduler", "text_encoder", "tokenizer")
MUSIC = frozenset({"music"})
TEXT_LENGTH = 128  # tokens of FLAN-T5


@dataclass(frozen=True)
class _System:
    """What the authors sample with, and what a sound is made of."""

    guidance: float
    candidates: int
    quick_steps: int = 200  # diffusers' default
    sample_rate: int = 16_000  # Hz
    hop: int = 160  # samples a mel frame
    bins: int = 64
    tasks: frozenset[str] = frozenset({"sound", "music"})


SYSTEMS = {
    "audioldm-s": _System(2.5, 3, quick_steps=10),
    "audioldm-m": _System(2.5, 3, quick_steps=10),
    "audioldm-l": _System(2.5, 3, quick_steps=10),
    "musicldm": _System(2.0, 5, tasks=MUSIC),
    "48k": _System(3.5, 3, sample_rate=48_000, hop=480, bins=256),
    "16k-t5": _System(3.5, 3),
}


class _Parts(SimpleNamespace):
    """The loaded networks by part, tokenizers and what CLAP hears with."""


class AudioLDM(OfficialBackend):
    """Any of these systems; ``options.layout`` says which."""

    class Options(OfficialBackend.Options):
        layout: Literal["audioldm-s", "audioldm-m", "audioldm-l", "musicldm", "48k", "16k-t5"] = "audioldm-s"
        protocol: Literal["official", "diffusers"] = "official"  # fresh noise at every step and the best of several, or neither
        candidates: int | None = Field(default=None, ge=1, le=16)  # where a request asks for no number of its own
        sizes: dict[str, dict[str, Any]] = Field(default_factory=dict)  # of an official file whose parts differ from the public ones

    options: Options
    required = (("model_index.json",),)

    # -- what can be said without torch ---------------------------------------------------------------------------
    @property
    def system(self) -> _System:
        return SYSTEMS[self.options.layout]

    @property
    def max_seconds(self) -> float:
        return 30.0

    @property
    def capabilities(self) -> Capabilities:
        return super().capabilities.model_copy(update={"sample_rate": self.system.sample_rate, "tasks": self.system.tasks})

    @cached_property
    def original(self) -> Path | None:
        """The authors' one file, where the folder holds it instead of diffusers' parts."""
        if (self.folder / "model_index.json").is_file():
            return None
        return next((path for kind in ("*.ckpt", "*.pth") for path in sorted(self.folder.glob(kind))), None)

    @property
    def weighing(self) -> list[Path]:
        suffixes = WEIGHING | ({self.original.suffix} if self.original else set())
        return sorted(p for p in self.folder.rglob("*") if p.suffix in suffixes and p.is_file())

    def lacking(self) -> list[str]:
        if self.original is not None:
            wanted: tuple[str, ...] = ("tokenizer_2", "tokenizer") if self.options.layout == "16k-t5" else ("tokenizer",)
        else:
            wanted = FOLDERS
        missing = [part for part in wanted if not any(p.suffix in WEIGHING for p in (self.folder / part).glob("*"))]
        row = self._row() if self.original is None and len(missing) == len(wanted) else None
        return [file.path for file in row.files] if row else missing

    def check(self, request: GenerationRequest) -> None:
        super().check(request.model_copy(update={"candidates": 1}))
        if request.candidates > 1 and not self._ranks:
            raise UnsupportedRequest(
                f"backend '{self.name}' has no audio tower of CLAP to rank candidates with (diffusers' folders of AudioLDM leave it "
                "out); ask for one, or take the authors' own file"
            )

    @property
    def _ranks(self) -> bool:
        """Whether the checkpoint holds CLAP's audio tower."""
        if self.original is not None or not self.folder.is_dir():
            return True
        config = self.folder / "text_encoder" / "config.json"
        whole = config.is_file() and json.loads(config.read_text()).get("model_type") == "clap"
        return whole and (self.folder / "feature_extractor").is_dir()

    # -- loading --------------------------------------------------------------------------------------------------
    def matched(self, read: Read) -> Parts:
        from generators.audioldm_layouts import LAYOUTS, build, parts_of, state_of

        assert self.original is not None, "folders of diffusers are read by diffusers"
        layout, state = LAYOUTS[self.options.layout].resized(self.options.sizes), read(self.original)
        self._scale = state["scale_factor"]
        return {part: (build(layout, part), state_of(layout, part, state), self.original) for part in parts_of(layout)}

    def compared(self) -> Iterator[tuple[str, Shapes, Shapes]]:
        if self.original is not None:
            yield from super().compared()
        else:
            yield from ((part, *part_shapes(kind, self.folder / part)) for part, kind in self._kinds().items())

    def _load(self) -> None:
        if self.original is not None:
            super()._load()
        else:
            self.assemble(self._stock())

    def _stock(self) -> dict[str, Any]:
        """What lies in the folders of diffusers' layout."""
        import torch

        read = {"local_files_only": True, "dtype": torch.float32}
        parts = {part: kind.from_pretrained(self.folder / part, **read).eval() for part, kind in self._kinds().items()}
        clap = parts.pop("text_encoder")
        return {part: network.requires_grad_(False) for part, network in {**parts, "clap": clap, "ranking": clap}.items()}

    def _kinds(self) -> dict[str, Any]:
        """The library's class of every part in those folders."""
        from diffusers import AutoencoderKL, UNet2DConditionModel
        from transformers import ClapModel, ClapTextModelWithProjection, SpeechT5HifiGan

        told = json.loads((self.folder / "text_encoder" / "config.json").read_text())
        clap = ClapModel if told.get("model_type") == "clap" else ClapTextModelWithProjection
        return {"unet": UNet2DConditionModel, "vae": AutoencoderKL, "vocoder": SpeechT5HifiGan, "text_encoder": clap}

    def assemble(self, networks: Mapping[str, Any]) -> None:
        from transformers import AutoTokenizer, ClapFeatureExtractor

        def tokenizer(part: str) -> Any:
            return AutoTokenizer.from_pretrained(self.folder / part, **NO_CODE)

        self._parts = _Parts(**networks)
        self._parts.tokenizer = tokenizer("tokenizer")
        if self.original is not None:
            self._parts.vae.register_to_config(scaling_factor=float(self.__dict__.pop("_scale")))
            extract = ClapFeatureExtractor(frequency_min=50, frequency_max=14_000, truncation="rand_trunc", padding="repeatpad")
        elif self._ranks:
            extract = ClapFeatureExtractor.from_pretrained(self.folder / "feature_extractor", local_files_only=True)
        else:
            extract = None
        self._parts.extract = extract
        if "t5" in networks:
            networks["t5"].tie_weights()  # the file holds its table of words twice
            self._parts.tokenizer_2 = tokenizer("tokenizer_2")

    def _unload(self) -> None:
        del self._parts

    # -- making sound ---------------------------------------------------------------------------------------------
    @property
    def network(self) -> Any:
        return (_Attended if hasattr(self._parts, "t5") else _Filmed)(self._parts.unet)

    def scheduler(self) -> Any:
        from diffusers import DDIMScheduler

        from generators.audioldm_layouts import SCHEDULE

        if self.original is not None:
            return DDIMScheduler.from_config(SCHEDULE)
        return DDIMScheduler.from_config(json.loads((self.folder / "scheduler" / "scheduler_config.json").read_text()))

    def read_text(self, text: str) -> tuple[Condition, Condition]:
        import torch

        from encoders.base import Condition
        from generators.conditioning import clap_words, padded, t5_words

        if hasattr(self._parts, "t5"):
            states = t5_words(self._parts.t5, self._parts.tokenizer_2, text, longest=TEXT_LENGTH)
            return padded(states, TEXT_LENGTH), nothing()
        vector = clap_words(self._parts.clap, self._parts.tokenizer, text)
        return Condition("clap", vector[:, None], torch.ones(1, 1, dtype=torch.bool)), nothing()

    @property
    def _down(self) -> int:
        """Mel frames per latent frame."""
        return int(2 ** (len(self._parts.vae.config.block_out_channels) - 1))

    def noise_shape(self, seconds: float) -> tuple[int, int, int]:
        frames = -(-round(seconds * self.system.sample_rate) // (self.system.hop * self._down))
        return self._parts.unet.config.in_channels, -(-frames // 8) * 8, self.system.bins // self._down

    def decode(self, latent: Tensor) -> Audio:
        import torch

        vae = self._parts.vae
        with torch.no_grad():
            mel = vae.decode(latent[None] / vae.config.scaling_factor).sample
            wave = self._parts.vocoder(mel[0, 0])
        return Audio(wave.float().numpy().reshape(1, -1), self.system.sample_rate)

    def _candidates(self, request: GenerationRequest) -> int:
        if request.candidates > 1 or not (self._ranks and request.prompt):
            return request.candidates
        official = self.system.candidates if self.options.protocol == "official" else 1
        return self.options.candidates or official

    def _job(self, request: GenerationRequest) -> Any:
        official = self.options.protocol == "official"
        given = (request.guidance, self.options.guidance, self.system.guidance)
        steps = request.steps or self.options.steps or (200 if official else self.system.quick_steps)
        guidance = next(value for value in given if value is not None)
        return replace(super()._job(request), steps=steps, guidance=guidance, eta=1.0 if official else 0.0)

    def _synthesise(
        self, requests: Sequence[GenerationRequest], rows: int, on_progress: OnProgress, cancelled: Callable[[], bool]
    ) -> list[Audio]:
        from generators.engine import denoise

        tries = [[self._job(one) for one in attempts(request, self._candidates(request))] for request in requests]
        jobs = [job for several in tries for job in several]
        latents = iter(
            denoise(self.network, jobs, self.scheduler, rows=rows, window=None, overlap=0, on_progress=on_progress, cancelled=cancelled)
        )
        # Decoded alone, so that no neighbour can change a bit of it.
        made = [
            [fit_length(self.decode(next(latents)), request.seconds) for _ in several]
            for request, several in zip(requests, tries, strict=True)
        ]
        return [self._best(sounds, request.prompt) for sounds, request in zip(made, requests, strict=True)]

    def _best(self, sounds: list[Audio], words: str) -> Audio:
        """The sound nearest to the words in CLAP's space."""
        return sounds[0] if len(sounds) == 1 else sounds[int(np.argmax(self.scores(sounds, words)))]

    def scores(self, sounds: Sequence[Audio], words: str) -> list[float]:
        """Cosines of sounds and words."""
        import torch

        from generators.conditioning import clap_sound, clap_words

        ranker = self._parts.ranking
        wanted = clap_words(ranker, self._parts.tokenizer, words)[0]
        return [float(torch.cosine_similarity(clap_sound(ranker, self._parts.extract, one), wanted, dim=0)) for one in sounds]


def attempts(request: GenerationRequest, count: int) -> list[GenerationRequest]:
    """The request ``count`` times with seeds of its own; the first is the request itself, whatever the count."""
    seeds = [int(np.random.SeedSequence([request.seed, k]).generate_state(1, np.uint64)[0]) >> 1 for k in range(count)]
    return [request.model_copy(update={"seed": seed if k else request.seed}) for k, seed in enumerate(seeds)]


class _Filmed:
    """The U-Net as the engine calls one: CLAP's vector joins the time embedding, and attention is over the latent alone."""

    def __init__(self, unet: Any) -> None:
        self._unet = unet

    def __call__(self, z: Tensor, t: Tensor, *, encoder_hidden_states: Tensor, **_: Any) -> Any:
        return self._unet(z, t, encoder_hidden_states=None, class_labels=encoder_hidden_states[:, 0])


class _Attended:
    """The U-Net as the engine calls one: it reads one text, and where that is padding."""

    def __init__(self, unet: Any) -> None:
        self._unet = unet

    def __call__(self, z: Tensor, t: Tensor, *, encoder_hidden_states: Tensor, encoder_attention_mask: Tensor, **_: Any) -> Any:
        return self._unet(z, t, encoder_hidden_states=encoder_hidden_states, encoder_attention_mask=encoder_attention_mask)
