"""Small checkpoints with random weights of the systems that libraries run: real classes, in the layout that the public folders have."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tests.fakes import _pieces, awaken

RATE = 8000  # Hz, of every small model


def small(name: str, folder: Path) -> dict[str, Any]:
    """Write what row ``name`` needs into ``folder``; the options that go with its size."""
    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    return WRITERS[name](folder)


def limits(seconds: float, accepts: tuple[str, ...] = ("text",), tasks: tuple[str, ...] = ("sound", "music")) -> dict[str, Any]:
    return {"limits": {"sample_rate": RATE, "max_seconds": seconds, "accepts": accepts, "tasks": tasks}}


def save(folder: Path, parts: dict[str, tuple[str, Any]], kind: str) -> None:
    """A folder of diffusers: each part in its own, and the index of their classes."""
    index: dict[str, Any] = {"_class_name": kind, "_diffusers_version": "0.42.1"}
    for name, (library, part) in parts.items():
        if isinstance(part, nn.Module):
            awaken(part)
            part.eval()
        part.save_pretrained(folder / name)
        index[name] = [library, type(part).__name__]
    (folder / "model_index.json").write_text(json.dumps(index))


def t5(width: int = 8) -> Any:
    from transformers import T5Config, T5EncoderModel

    return T5EncoderModel(T5Config(vocab_size=len(_pieces()), d_model=width, d_kv=4, d_ff=16, num_layers=1, num_heads=2))


def oobleck(latents: int, ratios: list[int], channels: int = 2) -> Any:
    from diffusers import AutoencoderOobleck

    return AutoencoderOobleck(**oobleck_sizes(latents, ratios, channels))


def oobleck_sizes(latents: int, ratios: list[int], channels: int = 2) -> dict[str, Any]:
    return {
        "encoder_hidden_size": 2 * latents,
        "downsampling_ratios": ratios,
        "decoder_channels": 4,
        "decoder_input_channels": latents,
        "audio_channels": channels,
        "channel_multiples": [1, 2, 2][: len(ratios)],
        "sampling_rate": RATE,
    }


def stable_audio_open(folder: Path) -> dict[str, Any]:
    from diffusers import EDMDPMSolverMultistepScheduler, StableAudioDiTModel
    from diffusers.pipelines.stable_audio.modeling_stable_audio import StableAudioProjectionModel

    transformer = StableAudioDiTModel(
        sample_size=40,
        in_channels=4,
        out_channels=4,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        num_key_value_attention_heads=1,
        cross_attention_input_dim=8,
        cross_attention_dim=8,
        global_states_input_dim=16,
        time_proj_dim=8,
    )
    parts = {
        "projection_model": ("stable_audio", StableAudioProjectionModel(8, 8, 0, 64)),
        "scheduler": ("diffusers", EDMDPMSolverMultistepScheduler()),
        "text_encoder": ("transformers", t5()),
        "tokenizer": ("transformers", _pieces()),
        "transformer": ("diffusers", transformer),
        "vae": ("diffusers", oobleck(4, [20, 32])),
    }
    save(folder, parts, "StableAudioPipeline")
    # As the public folder has it: a class that diffusers has only beside torchsde.
    (folder / "scheduler" / "scheduler_config.json").write_text(
        json.dumps({"_class_name": "CosineDPMSolverMultistepScheduler", "sigma_min": 0.3, "sigma_max": 500, "solver_order": 2})
    )
    index = json.loads((folder / "model_index.json").read_text())
    index["scheduler"] = ["diffusers", "CosineDPMSolverMultistepScheduler"]
    (folder / "model_index.json").write_text(json.dumps(index))
    return limits(3.2)


def stable_audio_3(folder: Path) -> dict[str, Any]:
    from diffusers import AutoencoderSAME, FlowMatchEulerDiscreteScheduler, StableAudio3DiTModel
    from diffusers.pipelines.stable_audio_3.modeling_stable_audio_3 import StableAudio3DurationEmbedder
    from transformers import T5GemmaConfig, T5GemmaEncoderModel
    from transformers.models.t5gemma.configuration_t5gemma import T5GemmaModuleConfig

    half = T5GemmaModuleConfig(
        vocab_size=len(_pieces()),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=64,
        sliding_window=64,
        layer_types=["full_attention"],
    )
    text = T5GemmaEncoderModel(T5GemmaConfig(encoder=half.to_dict(), decoder=half.to_dict(), is_encoder_decoder=False))
    transformer = StableAudio3DiTModel(
        io_channels=8,
        embed_dim=16,
        depth=1,
        num_heads=2,
        cond_token_dim=16,
        global_cond_dim=16,
        local_add_cond_dim=5,
        timestep_features_dim=8,
        ff_mult=2,
        num_memory_tokens=2,
        use_differential_attention=False,
    )
    vae = AutoencoderSAME(
        audio_channels=2,
        patch_size=64,
        encoder_channels=8,
        encoder_c_mults=(2,),
        encoder_strides=(4,),
        encoder_transformer_depths=(1,),
        latent_dim=8,
        use_differential_attention=False,
        dim_heads=4,
        ff_mult=2,
        sampling_rate=RATE,
    )
    parts = {
        "duration_embedder": ("stable_audio_3", StableAudio3DurationEmbedder(output_dim=16, fourier_dim=8)),
        "scheduler": ("diffusers", FlowMatchEulerDiscreteScheduler(stochastic_sampling=True)),
        "text_encoder": ("transformers", text),
        "tokenizer": ("transformers", _pieces()),
        "transformer": ("diffusers", transformer),
        "vae": ("diffusers", vae),
    }
    save(folder, parts, "StableAudio3Pipeline")
    return limits(4)


def ace_step(folder: Path) -> dict[str, Any]:
    from diffusers import AceStepConditionEncoder, AceStepTransformer1DModel, FlowMatchEulerDiscreteScheduler
    from transformers import Qwen3Config, Qwen3Model

    shape = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8}
    text = Qwen3Model(Qwen3Config(**shape, num_hidden_layers=1, vocab_size=len(_pieces()), max_position_embeddings=128))
    transformer = AceStepTransformer1DModel(
        **shape, num_hidden_layers=1, in_channels=12, audio_acoustic_hidden_dim=4, patch_size=2, sliding_window=16
    )
    condition = AceStepConditionEncoder(
        **shape,
        text_hidden_dim=16,
        timbre_hidden_dim=4,
        num_lyric_encoder_hidden_layers=1,
        num_timbre_encoder_hidden_layers=1,
        sliding_window=16,
    )
    parts = {
        "condition_encoder": ("ace_step", condition),
        "scheduler": ("diffusers", FlowMatchEulerDiscreteScheduler(num_train_timesteps=1, shift=1.0)),
        "text_encoder": ("transformers", text),
        "tokenizer": ("transformers", _pieces()),
        "transformer": ("diffusers", transformer),
        "vae": ("diffusers", oobleck(4, [16, 20])),  # 25 Hz, as the public one
    }
    save(folder, parts, "AceStepPipeline")
    return {**limits(4, ("text", "transcript"), ("music",)), "dtype": {"cpu": "fp32"}, "fixed": {"max_text_length": 512}}


def diffusion(folder: Path) -> dict[str, Any]:
    """Stable Diffusion; the filter is named in the index and not there, as after a pull."""
    from diffusers import AutoencoderKL, PNDMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(_pieces()),
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            eos_token_id=1,
            pad_token_id=0,
            bos_token_id=2,
        )
    )
    unet = UNet2DConditionModel(
        sample_size=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(8, 16),
        layers_per_block=1,
        cross_attention_dim=16,
        attention_head_dim=4,
        norm_num_groups=4,
    )
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(4, 4, 8),
        layers_per_block=1,
        norm_num_groups=4,
    )
    parts = {
        "scheduler": ("diffusers", PNDMScheduler(beta_schedule="scaled_linear", skip_prk_steps=True, steps_offset=1)),
        "text_encoder": ("transformers", text),
        "tokenizer": ("transformers", _pieces()),
        "unet": ("diffusers", unet),
        "vae": ("diffusers", vae),
    }
    save(folder, parts, "StableDiffusionPipeline")
    index = json.loads((folder / "model_index.json").read_text())
    index |= {
        "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
        "feature_extractor": ["transformers", "CLIPImageProcessor"],
        "requires_safety_checker": True,
        "image_encoder": [None, None],
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    return {}


def riffusion(folder: Path) -> dict[str, Any]:
    drawing = {"sample_rate": RATE, "n_fft": 640, "window": 400, "hop": 160, "bins": 64, "top": 3000.0}
    return {**diffusion(folder), **limits(4, tasks=("music",)), "drawing": drawing}


def video(folder: Path) -> dict[str, Any]:
    from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler, WanTransformer3DModel

    vae = AutoencoderKLWan(base_dim=3, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True])
    transformer = WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=16,
        out_channels=16,
        text_dim=8,
        freq_dim=16,
        ffn_dim=16,
        num_layers=1,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
        rope_max_seq_len=32,
    )
    parts = {
        "scheduler": ("diffusers", FlowMatchEulerDiscreteScheduler(shift=7.0)),
        "text_encoder": ("transformers", t5()),
        "tokenizer": ("transformers", _pieces()),
        "transformer": ("diffusers", transformer),
        "vae": ("diffusers", vae),
    }
    save(folder, parts, "WanPipeline")
    return {"width": 32, "height": 16, "fps": 8, "dtype": {"cpu": "fp32"}, "steps": 2}


FLUX = {
    "in_channels": 8,
    "num_layers": 1,
    "num_single_layers": 1,
    "attention_head_dim": 16,
    "joint_attention_dim": 16,
    "num_attention_heads": 2,
}
FLUX_VAE = oobleck_sizes(8, [5, 10, 15])


# The official code fixes the rotary axes (128 channels a head) and the latent's 64 channels.
OFFICIAL_FLUX = {"num_layers": 1, "num_single_layers": 1, "num_attention_heads": 1, "joint_attention_dim": 16}


def tangoflux(folder: Path) -> dict[str, Any]:
    options = {"flux": {"axes_dims_rope": (4, 6, 6)}, "vae": FLUX_VAE, "sample_rate": RATE}
    return _flux(folder, {**FLUX, "audio_seq_len": 64, "max_duration": 6}, options)


def official_tangoflux(folder: Path) -> dict[str, Any]:
    """As small as the official code can be built."""
    return _flux(
        folder, {**OFFICIAL_FLUX, "audio_seq_len": 12, "max_duration": 6}, {"vae": oobleck_sizes(64, [5, 10, 15]), "sample_rate": RATE}
    )


def _flux(folder: Path, sizes: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    from safetensors.torch import save_file

    from generators.tangoflux import EMBEDDED, TangoFlux
    from media.refs import MediaStore

    t5(16).config.save_pretrained(folder / "flan-t5-large")
    _pieces().save_pretrained(folder / "flan-t5-large")
    (folder / "config.json").write_text(json.dumps(sizes))
    parts = TangoFlux("small", {"checkpoint": str(folder), **options}, MediaStore(folder), folder).networks()
    for name, file in (("main", "tangoflux.safetensors"), ("vae", "vae.safetensors")):
        state = random_state(parts[name].network)
        save_file({key: value for key, value in state.items() if key != EMBEDDED}, folder / file)
    return options


def random_state(network: nn.Module) -> dict[str, Tensor]:
    """Values for every key of a network on the meta device, of a size that keeps signals alive."""
    drawn = torch.Generator().manual_seed(0)

    def values(key: str, like: Tensor) -> Tensor:
        if not like.is_floating_point():
            return torch.zeros(like.shape, dtype=like.dtype)
        if key.endswith(("weight_g", "original0")) or (like.dim() < 2 and key.endswith("weight")):
            return 1 + 0.05 * torch.randn(like.shape, generator=drawn)
        return torch.randn(like.shape, generator=drawn) * (like[0].numel() ** -0.5 if like.dim() > 1 else 0.05)

    return {key: values(key, value) for key, value in network.state_dict().items()}


CODEC: dict[str, Any] = {
    "sampling_rate": RATE,
    "audio_channels": 1,
    "upsampling_ratios": [40, 40],  # five frames a second
    "num_filters": 4,
    "hidden_size": 8,
    "codebook_size": 16,
    "codebook_dim": 8,
    "target_bandwidths": [0.04],  # kbit/s: two codebooks of four bits
    "use_causal_conv": False,
    "norm_type": "weight_norm",
    "normalize": False,
    "num_lstm_layers": 1,
    "chunk_length_s": None,
    "use_conv_shortcut": False,
}
DECODER: dict[str, Any] = {
    "vocab_size": 16,
    "hidden_size": 16,
    "ffn_dim": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_codebooks": 2,
}


def musicgen(folder: Path, channels: int = 1, melody: bool = False) -> dict[str, Any]:
    import transformers
    from transformers import EncodecConfig

    kind = "MusicgenMelody" if melody else "Musicgen"
    decoder = getattr(transformers, f"{kind}DecoderConfig")(
        **{**DECODER, "num_codebooks": 2 * channels}, audio_channels=channels, tie_word_embeddings=False
    )
    config = getattr(transformers, f"{kind}Config")(
        text_encoder=t5(16).config.to_dict(), audio_encoder=EncodecConfig(**CODEC).to_dict(), decoder=decoder.to_dict()
    )
    model = getattr(transformers, f"{kind}ForConditionalGeneration")(config)
    awaken(model)
    for layer in model.audio_encoder.quantizer.layers:
        layer.codebook.embed.normal_()  # zeros before training: every code would sound the same
    model.save_pretrained(folder)
    _pieces().save_pretrained(folder)
    return limits(4, ("text", "audio") if melody else ("text",), ("music",))


def audiogen(folder: Path) -> dict[str, Any]:
    t5().save_pretrained(folder / "t5")
    _pieces().save_pretrained(folder / "t5")
    lm, codec = official_audiogen(DECODER, CODEC, text_width=8)
    torch.save({"best_state": lm, "xp.cfg": "name: small", "version": "1"}, folder / "state_dict.bin")
    torch.save({"best_state": codec, "xp.cfg": "name: small"}, folder / "compression_state_dict.bin")
    return {**limits(4, tasks=("sound",)), "decoder": DECODER, "codec": CODEC}


def official_audiogen(
    decoder: dict[str, Any], codec: dict[str, Any], text_width: int, device: str = "cpu"
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Language model and codec as audiocraft's modules name and shape their tensors, from the sizes alone.

    Read off models/lm.py, modules/{transformer,seanet,lstm,conv}.py and quantization/core_vq.py of audiocraft @ 896ec7c.
    """
    drawn = torch.Generator().manual_seed(0)

    def tensor(*shape: int) -> Tensor:
        if device == "meta":
            return torch.empty(shape, device="meta")
        return torch.randn(shape, generator=drawn) * (shape[-1] if len(shape) > 1 else 100) ** -0.5

    d, ff, card = decoder["hidden_size"], decoder["ffn_dim"], decoder.get("vocab_size", 2048)
    lm = {
        f"condition_provider.conditioners.description.output_proj.{name}": tensor(*s)
        for name, s in (("weight", (d, text_width)), ("bias", (d,)))
    }
    for k in range(decoder.get("num_codebooks", 4)):
        lm |= {f"emb.{k}.weight": tensor(card + 1, d), f"linears.{k}.weight": tensor(card, d)}
    for i in range(decoder["num_hidden_layers"]):
        at = f"transformer.layers.{i}."
        for attention in ("self_attn", "cross_attention"):
            lm |= {f"{at}{attention}.in_proj_weight": tensor(3 * d, d), f"{at}{attention}.out_proj.weight": tensor(d, d)}
        lm |= {f"{at}linear1.weight": tensor(ff, d), f"{at}linear2.weight": tensor(d, ff)}
        for norm in ("norm1", "norm2", "norm_cross"):
            lm |= {f"{at}{norm}.weight": 1 + tensor(d), f"{at}{norm}.bias": tensor(d)}
    lm |= {"out_norm.weight": 1 + tensor(d), "out_norm.bias": tensor(d)}

    wide, dim, ratios = codec["num_filters"], codec.get("hidden_size", 128), codec["upsampling_ratios"]
    made: dict[str, Tensor] = {}

    def conv(at: str, out: int, into: int, kernel: int, turned: bool = False) -> None:
        name = f"{at}.convtr.convtr" if turned else f"{at}.conv.conv"
        first, second = (into, out) if turned else (out, into)
        made[f"{name}.weight_g"] = tensor(first, 1, 1).abs() + 0.1 if device != "meta" else tensor(first, 1, 1)
        made[f"{name}.weight_v"], made[f"{name}.bias"] = tensor(first, second, kernel), tensor(out)

    def block(at: str, width: int) -> None:
        conv(f"{at}.block.1", width // 2, width, 3)
        conv(f"{at}.block.3", width, width // 2, 1)

    def lstm(at: str, width: int) -> None:
        for layer in range(codec.get("num_lstm_layers", 2)):
            for name, shape in (
                ("weight_ih", (4 * width, width)),
                ("weight_hh", (4 * width, width)),
                ("bias_ih", (4 * width,)),
                ("bias_hh", (4 * width,)),
            ):
                made[f"{at}.lstm.{name}_l{layer}"] = tensor(*shape)

    conv("encoder.model.0", wide, 1, 7)
    index, width = 1, wide
    for ratio in reversed(ratios):
        block(f"encoder.model.{index}", width)
        conv(f"encoder.model.{index + 2}", 2 * width, width, 2 * ratio)
        index, width = index + 3, 2 * width
    lstm(f"encoder.model.{index}", width)
    conv(f"encoder.model.{index + 2}", dim, width, 7)
    conv("decoder.model.0", width, dim, 7)
    lstm("decoder.model.1", width)
    index = 3
    for ratio in ratios:
        conv(f"decoder.model.{index}", width // 2, width, 2 * ratio, turned=True)
        width //= 2
        block(f"decoder.model.{index + 1}", width)
        index += 3
    conv(f"decoder.model.{index}", 1, width, 7)
    for k in range(decoder.get("num_codebooks", 4)):
        at, bins = f"quantizer.vq.layers.{k}._codebook.", codec["codebook_size"]
        made |= {
            f"{at}inited": tensor(1),
            f"{at}cluster_size": tensor(bins),
            f"{at}embed": tensor(bins, dim),
            f"{at}embed_avg": tensor(bins, dim),
        }
    return lm, made


def fastspeech2(folder: Path) -> dict[str, Any]:
    from transformers import (
        FastSpeech2ConformerConfig,
        FastSpeech2ConformerHifiGanConfig,
        FastSpeech2ConformerWithHifiGan,
        FastSpeech2ConformerWithHifiGanConfig,
    )

    from generators.fastspeech2 import _CONSONANTS, _VOWELS

    symbols = [
        "<blank>",
        "<unk>",
        *sorted(set(_CONSONANTS.values())),
        *sorted({v + s for v in _VOWELS.values() for s in "012"}),
        ",",
        ".",
        "<sos/eos>",
    ]
    acoustic = FastSpeech2ConformerConfig(
        hidden_size=16,
        vocab_size=len(symbols),
        num_mel_bins=8,
        encoder_layers=1,
        decoder_layers=1,
        encoder_num_attention_heads=2,
        decoder_num_attention_heads=2,
        encoder_linear_units=16,
        decoder_linear_units=16,
        speech_decoder_postnet_layers=1,
        speech_decoder_postnet_units=8,
        duration_predictor_channels=8,
        energy_predictor_channels=8,
        pitch_predictor_channels=8,
    )
    vocoder = FastSpeech2ConformerHifiGanConfig(
        model_in_dim=8,
        upsample_initial_channel=8,
        upsample_rates=[8, 8],
        upsample_kernel_sizes=[16, 16],
        resblock_kernel_sizes=[3],
        resblock_dilation_sizes=[[1]],
    )
    model = FastSpeech2ConformerWithHifiGan(
        FastSpeech2ConformerWithHifiGanConfig(model_config=acoustic.to_dict(), vocoder_config=vocoder.to_dict())
    )
    awaken(model)
    model.model.duration_predictor.linear.bias.data.fill_(2.5)  # so that random weights give every symbol some frames
    model.save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps({symbol: index for index, symbol in enumerate(symbols)}))
    return {"sample_rate": RATE}


WRITERS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "stable-audio-open": stable_audio_open,
    "stable-audio-3": stable_audio_3,
    "ace-step": ace_step,
    "riffusion": riffusion,
    "tangoflux": tangoflux,
    "fastspeech2": fastspeech2,
    "audiogen-medium": audiogen,
    "musicgen-small": musicgen,
    "musicgen-medium": musicgen,
    "musicgen-large": musicgen,
    "musicgen-melody": lambda folder: musicgen(folder, melody=True),
    "musicgen-stereo": lambda folder: musicgen(folder, channels=2),
    "stable-diffusion": lambda folder: {**diffusion(folder), "width": 16, "height": 16, "steps": 2},
    "text-to-video": video,
}
