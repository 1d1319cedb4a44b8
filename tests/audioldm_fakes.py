"""Tiny checkpoints of AudioLDM's family beside those of tests/fakes.py: speech, AudioLDM and MusicLDM."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AudioLDM2UNet2DConditionModel, UNet2DConditionModel
from diffusers.pipelines.audioldm2.modeling_audioldm2 import AudioLDM2ProjectionModel
from torch import nn
from transformers import ClapFeatureExtractor, ClapTextModelWithProjection, VitsConfig, VitsModel, VitsTokenizer

from generators.phonemes import SYMBOLS
from tests.fakes import PUBLIC, TINY_UNET, _bpe, _clap, _scheduler, _vae, _vocoder, awaken, tiny_audioldm2
from tests.official_weights import Recording, small_sizes, weight, write_tokenizers

LETTERS = 30  # numbers of a transcript


def tiny_speech(folder: Path, seed: int = 0) -> Path:
    """A speech folder as diffusers reads it: VITS reads letters (so that no espeak-ng is needed), the U-Net reads LOA only."""
    tiny_audioldm2(folder, seed)
    torch.manual_seed(seed)
    parts = {
        "text_encoder_2": VitsModel(
            VitsConfig(
                vocab_size=len(SYMBOLS),
                hidden_size=24,
                num_hidden_layers=1,
                ffn_dim=16,
                flow_size=24,
                spectrogram_bins=9,
                upsample_initial_channel=8,
                upsample_rates=[2],
                upsample_kernel_sizes=[4],
                resblock_kernel_sizes=[3],
                resblock_dilation_sizes=[[1]],
                wavenet_dilation_rate=1,
                posterior_encoder_num_wavenet_layers=1,
                prior_encoder_num_flows=1,
                prior_encoder_num_wavenet_layers=1,
            )
        ),
        "projection_model": AudioLDM2ProjectionModel(
            text_encoder_dim=16,
            text_encoder_1_dim=24,
            langauge_model_dim=16,
            use_learned_position_embedding=True,
            max_seq_length=LETTERS,
        ),
        "unet": AudioLDM2UNet2DConditionModel(**TINY_UNET, attention_head_dim=(1, 2), cross_attention_dim=((None, 16),) * 2),
    }
    for name, part in parts.items():
        awaken(part)
        part.eval().save_pretrained(folder / name)
    vocab = folder / "vocab.json"
    vocab.write_text(json.dumps({symbol: number for number, symbol in enumerate(SYMBOLS)}))
    for old in (folder / "tokenizer_2").iterdir():
        old.unlink()
    tokenizer = VitsTokenizer(vocab, pad_token="_", unk_token="_", add_blank=False, phonemize=False, model_max_length=LETTERS)
    tokenizer.save_pretrained(folder / "tokenizer_2")
    vocab.unlink()
    (folder / "loa.json").write_text(json.dumps(PUBLIC | {"loa_tokens": 8}))
    index = json.loads((folder / "model_index.json").read_text())
    index |= {"text_encoder_2": ["transformers", "VitsModel"], "tokenizer_2": ["transformers", "VitsTokenizer"]}
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def tiny_audioldm(folder: Path, *, whole_clap: bool) -> dict[str, Any]:
    """A folder of AudioLDM (CLAP's text tower alone) or of MusicLDM (both towers) as diffusers saves it; gives its parts.

    Weights are drawn by key, so that a recording of diffusers' pipelines and this folder hold the same ones.
    """
    parts: dict[str, Any] = {
        "unet": UNet2DConditionModel(
            **TINY_UNET,
            attention_head_dim=(1, 2),
            cross_attention_dim=(8, 16),
            class_embed_type="simple_projection",
            projection_class_embeddings_input_dim=16,
            class_embeddings_concat=True,
        ),
        "vae": _vae((8, 16, 16)),
        "vocoder": _vocoder(),
        "text_encoder": _clap() if whole_clap else ClapTextModelWithProjection(_clap().config.text_config),
    }
    for part, network in parts.items():
        draw(network, part)
        network.eval().requires_grad_(False).save_pretrained(folder / part)
    parts |= {"scheduler": _scheduler("epsilon"), "tokenizer": _bpe(folder)}
    if whole_clap:
        parts["feature_extractor"] = ClapFeatureExtractor(
            feature_size=8, sampling_rate=16_000, hop_length=640, max_length_s=1, truncation="rand_trunc", padding="repeatpad"
        )
    for part in ("scheduler", "tokenizer", "feature_extractor"):
        if part in parts:
            parts[part].save_pretrained(folder / part)
    kind = "MusicLDMPipeline" if whole_clap else "AudioLDMPipeline"
    (folder / "model_index.json").write_text(json.dumps({"_class_name": kind}))
    return parts


def small_audioldm(folder: Path, layout: str) -> dict[str, Any]:
    """A small checkpoint of a layout of generators/audioldm.py, and the options that go with its size."""
    if layout not in ("48k", "16k-t5"):
        tiny_audioldm(folder, whole_clap=layout == "musicldm")
        return {}
    recording = Recording(f"audioldm2_{layout.replace('-', '_')}")
    write_tokenizers(folder)
    torch.save({"state_dict": recording.state()}, folder / "audioldm2.pth")
    return {"sizes": small_sizes(recording), "candidates": 1}


@torch.no_grad()
def draw(network: nn.Module, name: str) -> None:
    """Weights by key; those that words go through are larger, so that one shallow layer already tells prompts apart."""
    gain = 3.0 if name == "text_encoder" else 1.0
    for key, value in network.state_dict().items():
        if value.is_floating_point() and not key.endswith(("mean", "scale")):
            value.copy_(weight(f"{name}.{key}", tuple(value.shape)) * (gain if value.ndim > 1 else 1.0))
