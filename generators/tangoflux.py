"""TangoFlux: 44.1 kHz stereo from text by rectified flow (Hung et al. 2024, arXiv:2412.21037), from the official files.

The folder is what the authors' hub page holds, beside FLAN-T5's configuration and vocabulary (its weights are in the main file):

    tangoflux/  config.json  tangoflux.safetensors  vae.safetensors  flan-t5-large/{config.json,tokenizer.json}

All parts are diffusers' and transformers'; the assembly follows the official code (declare-lab/TangoFlux @ 164420f), whose numbers
tests/generators/test_tangoflux.py holds. As there, half a minute is always made and cut to the asked length.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from generators.base import Capabilities, GenerationRequest
from generators.checkpoint import NO_CODE
from generators.folder import FolderBackend, Limits, Part, seeded

if TYPE_CHECKING:
    from torch import Tensor

MAIN, SOUND, TEXT = "tangoflux.safetensors", "vae.safetensors", "flan-t5-large"
EMBEDDED = "text_encoder.encoder.embed_tokens.weight"  # the same as shared.weight, and stored once


class FluxSizes(BaseModel):
    """``config.json``."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    num_layers: int = 6
    num_single_layers: int = 18
    in_channels: int = 64
    attention_head_dim: int = 128
    joint_attention_dim: int = 1024
    num_attention_heads: int = 8
    audio_seq_len: int = 645  # latent frames; always all are made
    max_duration: float = 30.0  # seconds


class TangoFlux(FolderBackend):
    """The released checkpoint, and any of its layout."""

    class Options(FolderBackend.Options):
        steps: int = Field(default=50, ge=1, le=1000)
        guidance: float = Field(default=4.5, ge=0, le=100)
        flux: dict[str, Any] = Field(default_factory=dict)  # diffusers' FluxTransformer2DModel, what config.json does not say
        vae: dict[str, Any] = Field(default_factory=dict)  # diffusers' AutoencoderOobleck, where it differs from its defaults
        sample_rate: int = Field(default=44_100, gt=0)

    options: Options
    libraries: ClassVar[tuple[str, ...]] = ("torch", "diffusers", "transformers", "numpy")

    @cached_property
    def _sizes(self) -> FluxSizes:
        from configs.schema import parse

        found = (self.folder / "config.json").is_file()
        return parse(self._json("config.json"), FluxSizes, str(self.folder / "config.json")) if found else FluxSizes()

    @property
    def limits(self) -> Limits:
        return Limits(sample_rate=self.options.sample_rate, max_seconds=self._sizes.max_duration, tasks=frozenset({"sound", "music"}))

    @property
    def capabilities(self) -> Capabilities:
        return super().capabilities.model_copy(update={"guidance": True, "steps": True})

    def lacking(self) -> list[str]:
        needed = ["config.json", MAIN, SOUND, f"{TEXT}/config.json", f"{TEXT}/tokenizer.json"]
        return [name for name in needed if not (self.folder / name).is_file()]

    # -- loading --------------------------------------------------------------------------------------------------
    def networks(self) -> dict[str, Part]:
        from accelerate import init_empty_weights
        from diffusers import AutoencoderOobleck, FluxTransformer2DModel
        from diffusers.pipelines.stable_audio.modeling_stable_audio import StableAudioNumberConditioner
        from torch import nn
        from transformers import AutoConfig, T5EncoderModel

        sizes, config = self._sizes, AutoConfig.from_pretrained(self.folder / TEXT, **NO_CODE)
        with init_empty_weights():
            main = nn.ModuleDict(
                {
                    "transformer": FluxTransformer2DModel(
                        in_channels=sizes.in_channels,
                        num_layers=sizes.num_layers,
                        num_single_layers=sizes.num_single_layers,
                        attention_head_dim=sizes.attention_head_dim,
                        num_attention_heads=sizes.num_attention_heads,
                        joint_attention_dim=sizes.joint_attention_dim,
                        pooled_projection_dim=config.d_model,
                        guidance_embeds=False,
                        **self.options.flux,
                    ),
                    "text_encoder": T5EncoderModel(config),
                    "fc": nn.Sequential(nn.Linear(config.d_model, sizes.joint_attention_dim), nn.ReLU()),
                    "duration_emebdder": StableAudioNumberConditioner(config.d_model, 0, sizes.max_duration),  # as it is spelt there
                }
            )
            sound = AutoencoderOobleck(**self.options.vae)
        return {"main": Part(main, [self.folder / MAIN], whole), "vae": Part(sound, [self.folder / SOUND])}

    def _load(self) -> None:
        from transformers import AutoTokenizer

        from encoders.weights import load_into, read_state_dict

        self.require_fit()
        parts = self.networks()
        for part in parts.values():
            load_into(part.network, part.convert(read_state_dict(part.files[0])), where=str(part.files[0]))
            part.network.to(self.device, self.dtype).eval().requires_grad_(False)
        self._main: Any = parts["main"].network
        self._vae: Any = parts["vae"].network
        self._tokenizer: Any = AutoTokenizer.from_pretrained(self.folder / TEXT, **NO_CODE)

    def _unload(self) -> None:
        del self._main, self._vae, self._tokenizer

    # -- making sound ---------------------------------------------------------------------------------------------
    def _make(self, request: GenerationRequest, on_step: Callable[[int, int], None]) -> np.ndarray:
        import torch

        shape = (1, self._sizes.audio_seq_len, self._sizes.in_channels)
        noise = torch.randn(shape, generator=seeded(request.seed)).to(self.device, self.dtype)
        with torch.no_grad():
            latent = self.flow(request, noise, on_step)
            sound: np.ndarray = self._vae.decode(latent.transpose(1, 2)).sample[0].float().cpu().numpy()
        return sound

    def flow(self, request: GenerationRequest, latent: Tensor, on_step: Callable[[int, int], None] = lambda *_: None) -> Tensor:
        """From noise [1, T, C] to the latent [1, T, C] of the autoencoder."""
        import torch
        from diffusers import FlowMatchEulerDiscreteScheduler

        steps = request.steps or self.options.steps
        guidance = self.options.guidance if request.guidance is None else request.guidance
        texts = ["", request.prompt] if guidance > 1 else [request.prompt]
        states, pooled = self.read(texts, request.seconds)
        scheduler = FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000)
        scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps), device=self.device)
        places = torch.arange(latent.shape[1], device=latent.device)[:, None].expand(-1, 3).to(latent.dtype)
        for index, time in enumerate(scheduler.timesteps):
            velocity = self._main["transformer"](
                hidden_states=latent.expand(len(texts), -1, -1),
                timestep=(time / 1000).to(latent.dtype)[None],
                guidance=None,
                pooled_projections=pooled,
                encoder_hidden_states=states,
                txt_ids=torch.zeros(states.shape[1], 3, device=latent.device, dtype=latent.dtype),
                img_ids=places,
                return_dict=False,
            )[0]
            if guidance > 1:
                null, said = velocity.chunk(2)
                velocity = null + guidance * (said - null)
            latent = scheduler.step(velocity, time, latent).prev_sample
            on_step(index + 1, steps)
        return latent

    def read(self, texts: list[str], seconds: float) -> tuple[Tensor, Tensor]:
        """States [B, L + 1, D] of the texts, all as long as the last one, and of the length asked for; their projected mean [B, D]."""
        import torch

        whole = self._tokenizer(texts[-1:], truncation=True, return_tensors="pt")
        how = {"max_length": whole.input_ids.shape[1], "padding": "max_length", "truncation": True, "return_tensors": "pt"}
        tokens = self._tokenizer(texts, **how).to(self.device)
        states = self._main["text_encoder"](input_ids=tokens.input_ids, attention_mask=tokens.attention_mask)[0]
        mask = tokens.attention_mask[..., None].to(states.dtype)
        pooled = self._main["fc"]((states * mask).sum(1) / mask.sum(1))
        length = self._main["duration_emebdder"](torch.tensor([seconds], device=states.device)).to(states.dtype)
        return torch.cat([states, length.expand(len(texts), -1, -1)], dim=1), pooled


def whole(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The main file's tensors with the shared embedding under both of its names."""
    shared = {EMBEDDED: state["text_encoder.shared.weight"]} if "text_encoder.shared.weight" in state else {}
    return {**shared, **state}
