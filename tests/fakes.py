"""Tiny checkpoints with random weights: real classes, saved the real way, in the public AudioLDM 2 layout.

Nothing here is hard-coded to sound: layers that start at zero are drawn anew, so that every part answers to its input.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AudioLDM2Pipeline, AudioLDM2UNet2DConditionModel, AutoencoderKL, DDIMScheduler
from diffusers.pipelines.audioldm2.modeling_audioldm2 import AudioLDM2ProjectionModel
from safetensors.torch import save_file
from tokenizers import ByteLevelBPETokenizer
from torch import nn
from transformers import (
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    GPT2Config,
    GPT2LMHeadModel,
    GPT2Model,
    RobertaTokenizer,
    SpeechT5HifiGan,
    SpeechT5HifiGanConfig,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

from encoders.audiomae import AudioMae, AudioMaeConfig, save_audiomae
from encoders.clap import Anchors, AudioTower
from encoders.text import SentenceEncoder

TEXT = "a the dog cat barks meows loudly rain on tin roof piano techno beat low quality noise birds sing"
WORDS = TEXT.split()
ANCHORS = {"dog_bark": ["a dog barks", "a puppy yapping"], "cat_meow": ["a cat meows"], "rain": ["rain on a roof", "heavy rain"]}
PUBLIC = {"window": None, "few_steps": 3, "steps": 3, "max_seconds": 6.0, "text_length": 24}
NANO = {
    "encoders": "nano",
    "text_length": 32,
    "uncond_loa": "zeros",
    "window": 16,  # latent frames: 1.28 s
    "overlap": 4,
    "steps": 3,
    "few_steps": 2,
    "max_seconds": 6.0,
    "accepts": ["text", "image", "audio", "video", "condition"],
}


def tiny_audioldm2(folder: Path, seed: int = 0, *, trunk_only: bool = False) -> AudioLDM2Pipeline:
    """A public folder as diffusers saves it, and the pipeline in evaluation mode.

    Args:
        trunk_only: write ``language_model`` as GPT2Model, as the hub's folders do (the returned pipeline keeps the head).
    """
    torch.manual_seed(seed)
    pipeline = AudioLDM2Pipeline(
        vae=_vae((8, 16, 16)),
        text_encoder=_clap(),
        text_encoder_2=T5EncoderModel(T5Config(vocab_size=len(WORDS) + 40, d_model=24, d_kv=12, d_ff=32, num_layers=1, num_heads=2)),
        projection_model=_projection(16, 24, 16),
        language_model=GPT2LMHeadModel(_gpt2(16)),
        tokenizer=_bpe(folder),
        tokenizer_2=_pieces(),
        feature_extractor=ClapFeatureExtractor(
            feature_size=8, sampling_rate=16_000, hop_length=640, max_length_s=1, truncation="rand_trunc", padding="repeatpad"
        ),
        unet=_unet(16, 24, heads=(1, 2)),
        scheduler=_scheduler("epsilon"),
        vocoder=_vocoder(),
    )
    for part in pipeline.components.values():
        if isinstance(part, nn.Module):
            awaken(part)
            part.eval().requires_grad_(False)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.save_pretrained(folder)
    if trunk_only:
        pipeline.language_model.transformer.save_pretrained(folder / "language_model")
        index = json.loads((folder / "model_index.json").read_text()) | {"language_model": ["transformers", "GPT2Model"]}
        (folder / "model_index.json").write_text(json.dumps(index))
    (folder / "loa.json").write_text(json.dumps(PUBLIC))
    return pipeline


def tiny_nano(folder: Path, seed: int = 0) -> Path:
    """The same layout with nano's own parts at random weights: AudioMAE, audio tower, anchors, loa.json."""
    torch.manual_seed(seed)
    parts: dict[str, Any] = {
        "vae": _vae((8, 8, 8, 16)),
        "unet": _unet(128, 384, heads=(1, 2)),
        "vocoder": _vocoder(),
        "projection_model": _projection(384, 384, 128),
        "language_model": GPT2Model(_gpt2(128)),
    }
    for name, part in parts.items():
        awaken(part)
        part.eval().save_pretrained(folder / name)
    _scheduler("v_prediction").save_pretrained(folder / "scheduler")
    save_audiomae(AudioMae(AudioMaeConfig(depth=1, averaged_blocks=1)), folder / "audiomae")
    (folder / "audio_tower").mkdir()
    save_file(AudioTower().state_dict(), folder / "audio_tower" / "model.safetensors")
    texts = [text for said in ANCHORS.values() for text in said]
    labels = tuple(label for label, said in ANCHORS.items() for _ in said)
    Anchors(tuple(texts), labels, SentenceEncoder().sentences(texts).astype(np.float32)).write(folder / "anchors")
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "AudioLDM2Pipeline"}))
    (folder / "loa.json").write_text(json.dumps(NANO))
    return folder


@torch.no_grad()
def awaken(module: nn.Module) -> None:
    """Draw anew what starts at zero or so small that a part would hardly answer to its input."""
    for name, parameter in module.named_parameters():
        if parameter.dim() > 1 and float(parameter.std()) < 0.05:
            nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
        elif parameter.dim() == 1 and name.endswith("bias") and float(parameter.abs().max()) == 0:
            nn.init.normal_(parameter, std=0.05)


def _vae(channels: tuple[int, ...]) -> AutoencoderKL:
    return AutoencoderKL(
        in_channels=1,
        out_channels=1,
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        block_out_channels=channels,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        scaling_factor=0.9,
    )


TINY_UNET: dict[str, Any] = {
    "sample_size": 16,
    "in_channels": 4,
    "out_channels": 4,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "block_out_channels": (8, 16),
    "layers_per_block": 1,
    "norm_num_groups": 4,
}


def _unet(loa_width: int, text_width: int, heads: tuple[int, int]) -> AudioLDM2UNet2DConditionModel:
    return AudioLDM2UNet2DConditionModel(
        **TINY_UNET, attention_head_dim=heads, cross_attention_dim=((None, loa_width, text_width),) * 2
    )


def _scheduler(prediction: str) -> DDIMScheduler:
    return DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.0015,
        beta_end=0.0195,
        prediction_type=prediction,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def _vocoder() -> SpeechT5HifiGan:
    """160 samples a frame, exactly: kernel minus rate is even everywhere."""
    return SpeechT5HifiGan(
        SpeechT5HifiGanConfig(
            model_in_dim=64,
            upsample_initial_channel=16,
            upsample_rates=[5, 8, 4],
            upsample_kernel_sizes=[9, 16, 8],
            resblock_kernel_sizes=[3],
            resblock_dilation_sizes=[[1, 3]],
            normalize_before=False,
        )
    )


def _projection(first: int, second: int, width: int) -> AudioLDM2ProjectionModel:
    model = AudioLDM2ProjectionModel(text_encoder_dim=first, text_encoder_1_dim=second, langauge_model_dim=width)
    for table in (model.sos_embed, model.eos_embed, model.sos_embed_1, model.eos_embed_1):
        nn.init.normal_(table, std=0.5)
    return model


def _gpt2(width: int) -> GPT2Config:
    config = GPT2Config(vocab_size=8, n_embd=width, n_layer=2, n_head=2, n_positions=64, bos_token_id=0, eos_token_id=1)
    config.max_new_tokens = 8
    return config


def _clap() -> ClapModel:
    text = {
        "vocab_size": 400,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_attention_heads": 2,
        "num_hidden_layers": 1,
        "max_position_embeddings": 66,
        "projection_dim": 16,
        "pad_token_id": 1,
    }
    audio = {
        "spec_size": 16,
        "window_size": 4,
        "num_mel_bins": 8,
        "depths": [1, 1],
        "num_attention_heads": [1, 1],
        "num_hidden_layers": 2,
        "hidden_size": 192,
        "projection_dim": 16,
        "patch_size": 2,
        "patch_stride": 2,
        "patch_embed_input_channels": 1,
    }
    return ClapModel(ClapConfig(text_config=text, audio_config=audio, projection_dim=16))


def _bpe(folder: Path) -> RobertaTokenizer:
    trained = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trained.train_from_iterator([TEXT] * 4, vocab_size=400, min_frequency=1, special_tokens=special, show_progress=False)
    folder.mkdir(parents=True, exist_ok=True)
    trained.save_model(str(folder))
    vocab, merges = folder / "vocab.json", folder / "merges.txt"
    pairs = [tuple(line.split()) for line in merges.read_text().splitlines() if not line.startswith("#")]
    tokenizer = RobertaTokenizer(vocab=json.loads(vocab.read_text()), merges=pairs, model_max_length=64)
    vocab.unlink()
    merges.unlink()
    return tokenizer


def _pieces() -> T5Tokenizer:
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -3.0)]
    pieces += [("▁" + word, -2.0) for word in WORDS]
    pieces += [(letter, -5.0) for letter in "abcdefghijklmnopqrstuvwxyz,."]
    return T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=24)
