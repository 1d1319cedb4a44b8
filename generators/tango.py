"""TANGO and TANGO 2: sound from text by a latent diffusion model that reads FLAN-T5 (Ghosal et al. 2023, arXiv:2304.13731; Majumder et
al. 2024, arXiv:2404.09956), from the official files.

The folder is what the authors' hub pages hold, beside FLAN-T5's configuration and vocabulary (its weights are in the main file):

    tango/  main_config.json  pytorch_model_main.bin  vae_config.json  pytorch_model_vae.bin  flan-t5-large/{config.json,tokenizer.json}

``pytorch_model_stft.bin`` is not read: it holds a mel filterbank for training, which is ``media.mel``'s.

The noise schedule is spelt out here, since the repository that the official code takes it from is gone: the DDIM settings of Stable
Diffusion 2.1, read by a DDPM scheduler (velocity prediction; fresh noise at every step). Not taken over: officially, texts are padded
to the longest neighbour, so that a sound depends on its neighbours (here always to T5's limit; padding is masked and changes nothing
but rounding), and the waveform is cast to int16 without a limit, so that full scale wraps around.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from generators.base import ConfigError
from generators.checkpoint import NO_CODE
from generators.official import OfficialBackend, nothing
from media.audio import Audio

if TYPE_CHECKING:
    from torch import Tensor

    from encoders.base import Condition
    from generators.official import Parts, Read

TEXT_LENGTH = 512  # tokens; FLAN-T5's limit
HOP = 160  # samples a mel frame
DOWN = 4  # mel frames a latent frame
# configs/diffusion_model_config.json of the official repository: Stable Diffusion 2.1's U-Net with 8 channels.
UNET: dict[str, Any] = {
    "sample_size": (32, 2),
    "in_channels": 8,
    "out_channels": 8,
    "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "attention_head_dim": (5, 10, 20, 20),  # diffusers' name for the numbers of heads
    "cross_attention_dim": 1024,
    "use_linear_projection": True,
    "upcast_attention": True,
}


class _MelSizes(BaseModel):
    """``ddconfig`` of ``vae_config.json``."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    z_channels: int = 8
    ch: int = 128
    ch_mult: tuple[int, ...] = (1, 2, 4)
    num_res_blocks: int = 2


class _VaeFile(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    ddconfig: _MelSizes = _MelSizes()
    scale_factor: float = 1.0  # latents are divided by it before the decoder


@dataclass(frozen=True)
class _Parts:
    unet: Any
    tokenizer: Any
    text_encoder: Any
    vae: Any
    vocoder: Any


class _MaskedText:
    """The U-Net as the engine calls one: it reads one text, and where that is padding."""

    def __init__(self, unet: Any) -> None:
        self._unet = unet

    def __call__(self, z: Tensor, t: Tensor, *, encoder_hidden_states: Tensor, encoder_attention_mask: Tensor, **_: Any) -> Any:
        return self._unet(z, t, encoder_hidden_states=encoder_hidden_states, encoder_attention_mask=encoder_attention_mask)


class Tango(OfficialBackend):
    """Any public checkpoint of the family; all have one architecture."""

    class Options(OfficialBackend.Options):
        latent_frames: int = Field(default=256, ge=8, le=4096, multiple_of=8)  # that the U-Net was trained on; always all are made

    options: Options

    @property
    def required(self) -> tuple[tuple[str, ...], ...]:
        named = ("main_config.json", "pytorch_model_main.bin", "vae_config.json", "pytorch_model_vae.bin")
        vocabularies = tuple(f"{folder}/{name}" for folder in self._t5_places for name in ("tokenizer.json", "spiece.model"))
        return (*((name,) for name in named), tuple(f"{folder}/config.json" for folder in self._t5_places), vocabularies)

    @property
    def max_seconds(self) -> float:
        return self.options.latent_frames * DOWN * HOP / self.sample_rate

    @property
    def network(self) -> Any:
        return _MaskedText(self._parts.unet)

    def matched(self, read: Read) -> Parts:
        from generators.ldm import autoencoder_state, below, hifigan_state

        main, sound = self.folder / "pytorch_model_main.bin", self.folder / "pytorch_model_vae.bin"
        weights, decoders = read(main), read(sound)
        voice = below(decoders, "vocoder.")
        mel_coder = {key: value for key, value in decoders.items() if not key.startswith("vocoder.")}
        unet, text_encoder, vae, vocoder = self._networks(_width(voice))
        return {
            "unet": (unet, below(weights, "unet."), main),
            "text_encoder": (text_encoder, below(weights, "text_encoder."), main),
            "vae": (vae, autoencoder_state(mel_coder), sound),
            "vocoder": (vocoder, hifigan_state(voice), sound),
        }

    def assemble(self, networks: Mapping[str, Any]) -> None:
        from transformers import AutoTokenizer

        self._parts = _Parts(**networks, tokenizer=AutoTokenizer.from_pretrained(self._t5, **NO_CODE))

    def _networks(self, vocoder_width: int) -> tuple[Any, Any, Any, Any]:
        """U-Net, T5, autoencoder and vocoder without weights; the official code spells the vocoder out, all but its width."""
        from accelerate import init_empty_weights
        from diffusers import AutoencoderKL, UNet2DConditionModel
        from transformers import AutoConfig, SpeechT5HifiGan, SpeechT5HifiGanConfig, T5EncoderModel

        mel = self._vae_file.ddconfig
        with init_empty_weights():
            unet = UNet2DConditionModel.from_config(self._unet_config)
            text_encoder = T5EncoderModel(AutoConfig.from_pretrained(self._t5, **NO_CODE))
            vae = AutoencoderKL(
                in_channels=1,
                out_channels=1,
                down_block_types=("DownEncoderBlock2D",) * len(mel.ch_mult),
                up_block_types=("UpDecoderBlock2D",) * len(mel.ch_mult),
                block_out_channels=tuple(mel.ch * times for times in mel.ch_mult),
                layers_per_block=mel.num_res_blocks,
                latent_channels=mel.z_channels,
            )
            vocoder = SpeechT5HifiGan(
                SpeechT5HifiGanConfig(
                    model_in_dim=64,
                    upsample_initial_channel=vocoder_width,
                    upsample_rates=[5, 4, 2, 2, 2],
                    upsample_kernel_sizes=[16, 16, 8, 4, 4],
                    normalize_before=False,
                )
            )
        return unet, text_encoder, vae, vocoder

    def _unload(self) -> None:
        del self._parts

    @property
    def _t5_places(self) -> tuple[str, ...]:
        """Where FLAN-T5's small files may lie: in a folder of its usual name, or where ``main_config.json`` says."""
        try:
            said = str(self._json("main_config.json").get("text_encoder_name") or "")
        except ConfigError:  # missing or damaged, which is said elsewhere
            said = ""
        return ("flan-t5-large", *([said] if said and said != "google/flan-t5-large" else []))

    @property
    def _t5(self) -> Path:
        return next(self.folder / place for place in self._t5_places if (self.folder / place / "config.json").is_file())

    @cached_property
    def _vae_file(self) -> _VaeFile:
        from configs.schema import parse

        return parse(self._json("vae_config.json"), _VaeFile, str(self.folder / "vae_config.json"))

    @cached_property
    def _unet_config(self) -> dict[str, Any]:
        """The file that ``main_config.json`` names, if it lies in the folder; else the public U-Net."""
        main = self._json("main_config.json")
        if main.get("unet_model_name"):
            raise ConfigError(
                f"{self.folder / 'main_config.json'}: this checkpoint was grown from '{main['unet_model_name']}' "
                "(4 channels between two extra layers), which loa does not run; take one of the public checkpoints"
            )
        named = str(main.get("unet_model_config_path") or "")
        return self._json(named) if named and (self.folder / named).is_file() else UNET

    def _json(self, name: str) -> dict[str, Any]:
        try:
            found = json.loads((self.folder / name).read_text())
        except (OSError, ValueError) as error:
            raise ConfigError(f"{self.folder / name} cannot be read as JSON ({error}); get the file again") from error
        if not isinstance(found, dict):
            raise ConfigError(f"{self.folder / name} must hold an object, got a {type(found).__name__}; get the file again")
        return found

    def scheduler(self) -> Any:
        from diffusers import DDPMScheduler

        return DDPMScheduler(
            beta_schedule="scaled_linear",  # linear in the square root
            beta_start=0.00085,
            beta_end=0.012,
            prediction_type="v_prediction",
            variance_type="fixed_small",
            timestep_spacing="leading",
            steps_offset=1,
            clip_sample=False,
        )

    def read_text(self, text: str) -> tuple[Condition, Condition]:
        import torch

        from encoders.base import Condition

        parts = self._parts
        length = min(TEXT_LENGTH, parts.tokenizer.model_max_length)
        read = parts.tokenizer(text, max_length=length, padding="max_length", truncation=True, return_tensors="pt")
        with torch.no_grad():
            states = parts.text_encoder(input_ids=read.input_ids, attention_mask=read.attention_mask).last_hidden_state
        return Condition("t5", states, read.attention_mask == 1), nothing()

    def noise_shape(self, seconds: float) -> tuple[int, int, int]:
        return self._parts.unet.config.in_channels, self.options.latent_frames, 16

    def decode(self, latent: Tensor) -> Audio:
        import torch

        with torch.no_grad():
            mel = self._parts.vae.decode(latent[None] / self._vae_file.scale_factor).sample
            return Audio(self._parts.vocoder(mel[:, 0]).float().reshape(1, -1).numpy(), self.sample_rate)


def _width(vocoder: dict[str, Tensor]) -> int:
    """Channels of the vocoder; of a file without one, what the public files have, so that loading names what is missing."""
    first = vocoder.get("conv_pre.weight")
    return 1024 if first is None else first.shape[0]
