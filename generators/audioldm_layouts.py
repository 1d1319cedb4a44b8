"""AudioLDM, AudioLDM 2 and MusicLDM as their authors saved them: the sizes of every part, and which keys of the one file fill it.

Knows sizes, key names and head counts. Does not know requests or samplers. The official U-Nets have heads of 32 (L: 64) channels, so
the number of heads grows with the level; diffusers' own conversion leaves 8 everywhere, and as keys and shapes are the same either
way, nothing but the sound tells. The counts are therefore spelt out here (``attention_head_dim`` is diffusers' name for them).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

from torch import Tensor, nn

from encoders.laion_clap import clap_state
from encoders.weights import load_into
from generators.ldm import autoencoder_state, below, hifigan_state, unet_state

Config = dict[str, Any]

SCHEDULE: Config = {
    "num_train_timesteps": 1000,
    "beta_start": 0.0015,
    "beta_end": 0.0195,
    "beta_schedule": "scaled_linear",  # linear in the square root
    "prediction_type": "epsilon",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}


@dataclass(frozen=True)
class Layout:
    """Constructor arguments of every part, and where each lies in the official file ("" where a part lies nowhere)."""

    unet: Config
    vae: Config
    vocoder: Config
    clap: Config
    t5: Config | None = None
    gpt2: Config | None = None
    projection: Config | None = None
    phonemes: Config | None = None
    schedule: Config = field(default_factory=lambda: SCHEDULE)
    averaged: bool = False  # AudioLDM and MusicLDM sample with the averaged weights that their files also hold, AudioLDM 2 does not
    prefixes: Mapping[str, str] = field(default_factory=dict)  # of clap, ranking, t5, gpt2, projection, phonemes

    def resized(self, sizes: Mapping[str, Config]) -> Layout:
        """The same layout with other numbers: part -> arguments that replace its own."""
        resized: Any = {part: {**(getattr(self, part) or {}), **changed} for part, changed in sizes.items()}
        return replace(self, **resized)


def _unet(cross: Any, *, channels: int = 128, head: int = 32, depth: int = 1, latent: int = 8, film: bool = False) -> Config:
    levels = tuple(channels * times for times in (1, 2, 3, 5))
    config: Config = {
        "sample_size": 256,
        "in_channels": latent,
        "out_channels": latent,
        "down_block_types": ("DownBlock2D", *("CrossAttnDownBlock2D",) * 3),
        "up_block_types": (*("CrossAttnUpBlock2D",) * 3, "UpBlock2D"),
        "block_out_channels": levels,
        "layers_per_block": 2,
        "transformer_layers_per_block": depth,
        "cross_attention_dim": cross,
        "attention_head_dim": tuple(width // head for width in levels),
    }
    if film:
        config |= {
            "class_embed_type": "simple_projection",
            "projection_class_embeddings_input_dim": 512,
            "class_embeddings_concat": True,
        }
    return config


def _vae(levels: tuple[int, ...] = (128, 256, 512), latent: int = 8) -> Config:
    return {
        "in_channels": 1,
        "out_channels": 1,
        "down_block_types": ("DownEncoderBlock2D",) * len(levels),
        "up_block_types": ("UpDecoderBlock2D",) * len(levels),
        "block_out_channels": levels,
        "layers_per_block": 2,
        "latent_channels": latent,
        "sample_size": 1024,
    }


def _hifigan(**changed: Any) -> Config:
    return {
        "model_in_dim": 64,
        "sampling_rate": 16_000,
        "upsample_initial_channel": 1024,
        "upsample_rates": [5, 4, 2, 2, 2],
        "upsample_kernel_sizes": [16, 16, 8, 4, 4],
        "resblock_kernel_sizes": [3, 7, 11],
        "resblock_dilation_sizes": [[1, 3, 5]] * 3,
        "normalize_before": False,
    } | changed


def _clap(base: bool) -> Config:
    """LAION's CLAP over HTSAT-base or HTSAT-tiny. RoBERTa normalises with 1e-5; the default of transformers' CLAP is 1e-12."""
    width = 128 if base else 96
    audio = {
        "patch_embeds_hidden_size": width,
        "hidden_size": 8 * width,
        "depths": [2, 2, 12, 2] if base else [2, 2, 6, 2],
        "num_attention_heads": [4, 8, 16, 32],
    }
    return {"text_config": {"vocab_size": 50265, "layer_norm_eps": 1e-5}, "audio_config": audio}


_T5: Config = {
    "vocab_size": 32128,
    "d_model": 1024,
    "d_kv": 64,
    "d_ff": 2816,
    "num_layers": 24,
    "num_heads": 16,
    "feed_forward_proj": "gated-gelu",
}
_PHONEMES: Config = {
    "vocab_size": 183,
    "hidden_size": 192,
    "num_hidden_layers": 6,
    "num_attention_heads": 2,
    "ffn_dim": 768,
    "flow_size": 192,
}
_LDM_16K: Any = {"vae": _vae(), "vocoder": _hifigan()}
_SEQUENCE = "cond_stage_models.0."  # what writes the Language of Audio
_INSIDE = {
    "gpt2": _SEQUENCE + "model.",
    "projection": _SEQUENCE,
    "clap": _SEQUENCE + "cond_stage_models.0.model.",
    "ranking": "clap.model.",
}


def _audioldm2(cross: tuple[int | None, ...], depth: int = 1) -> Layout:
    return Layout(
        unet=_unet((cross,) * 4, depth=depth),
        **_LDM_16K,
        clap=_clap(base=True),
        t5=_T5,
        gpt2={},  # transformers' defaults are GPT-2 small
        projection={"text_encoder_dim": 512, "text_encoder_1_dim": 1024, "langauge_model_dim": 768},
        prefixes=_INSIDE | {"t5": _SEQUENCE + "cond_stage_models.1.model."},
    )


def _audioldm(channels: int, head: int, base: bool) -> Layout:
    levels = tuple(channels * times for times in (1, 2, 3, 5))
    return Layout(
        unet=_unet(levels, channels=channels, head=head, film=True),  # "cross" attention over itself
        **_LDM_16K,
        clap=_clap(base),
        averaged=True,
        prefixes={"clap": "cond_stage_model.model.", "ranking": "cond_stage_model.model."},
    )


LAYOUTS: dict[str, Layout] = {
    "full": _audioldm2((None, 768, 1024)),
    "large": _audioldm2((None, 768, 1024, None), depth=2),
    "speech": Layout(
        unet=_unet(((None, 768),) * 4),
        **_LDM_16K,
        clap=_clap(base=True),
        gpt2={},
        projection={
            "text_encoder_dim": 512,
            "text_encoder_1_dim": 192,
            "langauge_model_dim": 768,
            "use_learned_position_embedding": True,
            "max_seq_length": 310,
        },
        phonemes=_PHONEMES,
        prefixes=_INSIDE | {"phonemes": _SEQUENCE + "cond_stage_models.1."},
    ),
    "48k": Layout(
        unet=_unet(((None, None),) * 4, latent=16, film=True),
        vae=_vae((128, 256, 512, 1024), latent=16),
        vocoder=_hifigan(
            model_in_dim=256,
            sampling_rate=48_000,
            upsample_initial_channel=1536,
            upsample_rates=[6, 5, 4, 2, 2],
            upsample_kernel_sizes=[12, 10, 8, 4, 4],
            resblock_kernel_sizes=[3, 7, 11, 15],
            resblock_dilation_sizes=[[1, 3, 5]] * 4,
        ),
        clap=_clap(base=True),
        prefixes={"clap": "cond_stage_models.0.model.", "ranking": "clap.model."},
    ),
    "16k-t5": Layout(
        unet=_unet(((None, 1024),) * 4),
        **_LDM_16K,
        clap=_clap(base=True),
        t5=_T5,
        prefixes={"t5": "cond_stage_models.0.model.", "ranking": "clap.model."},
    ),
    "audioldm-s": _audioldm(128, 32, base=False),
    "audioldm-m": _audioldm(192, 32, base=True),
    "audioldm-l": _audioldm(256, 64, base=False),
    "musicldm": _audioldm(128, 32, base=True),
}


# -- networks ---------------------------------------------------------------------------------------------------------
def build(layout: Layout, part: str) -> nn.Module:
    """A part without weights: its parameters lie on the meta device, its buffers are real.

    ``part``: unet, vae, vocoder, clap (or ranking), t5, gpt2, projection or phonemes.
    """
    from accelerate import init_empty_weights
    from diffusers import AudioLDM2UNet2DConditionModel, AutoencoderKL, UNet2DConditionModel
    from diffusers.pipelines.audioldm2.modeling_audioldm2 import AudioLDM2ProjectionModel
    from transformers import (
        ClapConfig,
        ClapModel,
        GPT2Config,
        GPT2Model,
        SpeechT5HifiGan,
        SpeechT5HifiGanConfig,
        T5Config,
        T5EncoderModel,
        VitsConfig,
    )
    from transformers.models.vits.modeling_vits import VitsTextEncoder

    config = getattr(layout, "clap" if part == "ranking" else part)
    several = part == "unet" and any(isinstance(width, (tuple, list)) for width in config["cross_attention_dim"])
    made = {
        "unet": lambda: (AudioLDM2UNet2DConditionModel if several else UNet2DConditionModel)(**config),
        "vae": lambda: AutoencoderKL(**config),
        "vocoder": lambda: SpeechT5HifiGan(SpeechT5HifiGanConfig(**config)),
        "clap": lambda: ClapModel(ClapConfig(**config)),
        "t5": lambda: T5EncoderModel(T5Config(**config)),
        "gpt2": lambda: GPT2Model(GPT2Config(**config)),
        "projection": lambda: AudioLDM2ProjectionModel(**config),
        # Told to no model, the masks of this encoder would come in a form that its attention does not read.
        "phonemes": lambda: VitsTextEncoder(VitsConfig(**config, attn_implementation="eager")),
    }
    with init_empty_weights():
        network: nn.Module = made["clap" if part == "ranking" else part]()
    return network.eval().requires_grad_(False)


def parts_of(layout: Layout) -> tuple[str, ...]:
    """The parts that a layout has."""
    every = ("unet", "vae", "vocoder", "clap", "ranking", "t5", "gpt2", "projection", "phonemes")
    return tuple(p for p in every if p in ("unet", "vae", "vocoder") or p in layout.prefixes)


def filled(layout: Layout, part: str, state: Mapping[str, Tensor], where: str) -> nn.Module:
    """A part with its weights out of an official file's ``state``; ``where`` names the file in errors.

    Raises:
        encoders.weights.WeightsError: keys or shapes do not fit.
    """
    network = build(layout, part)
    load_into(network, state_of(layout, part, state), where=f"{where} ({part})")
    if part == "t5":
        cast(Any, network).tie_weights()  # the file holds its table of words twice
    return network


# -- keys -------------------------------------------------------------------------------------------------------------
def state_of(layout: Layout, part: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of one part of an official file under the names of our modules."""
    if part == "unet":
        held = averaged(state) if layout.averaged else below(state, "model.diffusion_model.")
        film = {"film_emb." + name: "class_embedding." + name for name in ("weight", "bias")}
        return unet_state({key: value for key, value in held.items() if key not in film}) | {
            film[key]: held[key] for key in film if key in held
        }
    if part == "vae":
        held = below(state, "first_stage_model.")
        outside = ("vocoder.", "loss.", "decoder.wave", "stft.")
        return autoencoder_state({key: value for key, value in held.items() if not key.startswith(outside)})
    if part == "vocoder":
        return hifigan_state(below(state, "first_stage_model.vocoder."))
    held = below(state, layout.prefixes[part])
    if part in ("clap", "ranking"):
        return clap_state(held)
    if part == "projection":
        return projection_state(held)
    if part == "phonemes":
        return phonemes_state(held)
    return held


def averaged(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The U-Net's weights, the averages over training in their place where the file holds them (their names have lost all dots)."""
    plain = below(state, "model.diffusion_model.")
    return {key: state.get("model_ema." + f"diffusion_model.{key}".replace(".", ""), value) for key, value in plain.items()}


def projection_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The way into GPT-2: rows 0 and 1 of the tables of start and end vectors belong to the two conditions."""
    named = {}
    for place, suffix in ((0, ""), (1, "_1")):
        named[f"sos_embed{suffix}"] = state["start_of_sequence_tokens.weight"][place]
        named[f"eos_embed{suffix}"] = state["end_of_sequence_tokens.weight"][place]
        for kind in ("weight", "bias"):
            named[f"projection{suffix}.{kind}"] = state[f"input_sequence_embed_linear.{place}.{kind}"]
    learned = "cond_stage_models.1.learnable_positional_embedding"
    if learned in state:
        named["learnable_positional_embedding"] = state[learned]
    return named


_PHONEME_NAMES = (
    (r"^text_encoder\.emb\.", "embed_tokens."),
    (r"^text_encoder\.proj\.", "project."),
    (r"^text_encoder\.encoder\.attn_layers\.(\d+)\.conv_([qkv])\.", r"encoder.layers.\1.attention.\2_proj."),
    (r"^text_encoder\.encoder\.attn_layers\.(\d+)\.conv_o\.", r"encoder.layers.\1.attention.out_proj."),
    (r"^text_encoder\.encoder\.attn_layers\.(\d+)\.", r"encoder.layers.\1.attention."),
    (r"^text_encoder\.encoder\.ffn_layers\.(\d+)\.", r"encoder.layers.\1.feed_forward."),
    (r"^text_encoder\.encoder\.norm_layers_1\.(\d+)\.", r"encoder.layers.\1.layer_norm."),
    (r"^text_encoder\.encoder\.norm_layers_2\.(\d+)\.", r"encoder.layers.\1.final_layer_norm."),
    (r"\.gamma$", ".weight"),
    (r"\.beta$", ".bias"),
)


def phonemes_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of VITS' text encoder under the names of transformers' ``VitsTextEncoder``, whose 1x1 convolutions are matrices."""
    named = {}
    for key, value in below(state, "text_encoder.").items():
        name = "text_encoder." + key
        for pattern, said in _PHONEME_NAMES:
            name = re.sub(pattern, said, name)
        named[name] = value[..., 0] if re.search(r"_proj\.weight$", name) else value
    return named
