"""Tiny checkpoints of AudioLDM's family beside those of tests/fakes.py: speech."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import AudioLDM2UNet2DConditionModel
from diffusers.pipelines.audioldm2.modeling_audioldm2 import AudioLDM2ProjectionModel
from transformers import VitsConfig, VitsModel, VitsTokenizer

from generators.phonemes import SYMBOLS
from tests.fakes import PUBLIC, awaken, tiny_audioldm2

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
        "unet": AudioLDM2UNet2DConditionModel(
            sample_size=16,
            in_channels=4,
            out_channels=4,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            block_out_channels=(8, 16),
            layers_per_block=1,
            attention_head_dim=(1, 2),
            cross_attention_dim=((None, 16),) * 2,
            norm_num_groups=4,
        ),
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
    return folder
