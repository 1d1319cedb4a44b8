"""Tiny folders of the public encoders with drawn weights, in the layouts that users fill."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import ClapFeatureExtractor, T5Config, T5EncoderModel

from encoders.audiomae import PUBLIC, AudioMae, save_audiomae
from encoders.imagebind import ImageBindConfig, ImageBindModel, Trunk
from tests.drawn import draw_into
from tests.fakes import WORDS, _bpe, _clap, _pieces, awaken

PARITY = Path(__file__).parent / "data" / "parity"


def tiny_imagebind(folder: Path) -> Path:
    """All six trunks, 16 wide; its vocabulary is the first 600 merges of CLIP's list."""
    sizes = {name: [16, 1, 2] for name in ("vision", "text", "audio", "depth", "thermal", "imu")}
    (folder / "config.json").write_text(json.dumps({"out": 32, "vocabulary": 1114, **sizes}))
    model = ImageBindModel(ImageBindConfig(32, 1114, *(Trunk(*size) for size in sizes.values())))
    draw_into(model)
    save_file(model.state_dict(), folder / "imagebind_huge.safetensors")
    shutil.copy(PARITY / "bpe_tiny.txt.gz", folder / "bpe_simple_vocab_16e6.txt.gz")
    return folder


def tiny_audiomae(folder: Path) -> Path:
    """The public encoder's input and grid, 16 wide."""
    model = AudioMae(replace(PUBLIC, width=16, depth=3, heads=2))
    draw_into(model)
    save_audiomae(model, folder)
    return folder


def tiny_clap(folder: Path) -> Path:
    """A transformers folder: 16 wide, sounds of one second."""
    torch.manual_seed(0)
    tokenizer, model = _bpe(folder), _clap()
    awaken(model)
    extract = ClapFeatureExtractor(
        feature_size=8, sampling_rate=16_000, hop_length=640, max_length_s=1, truncation="rand_trunc", padding="repeatpad"
    )
    for part in (tokenizer, model, extract):
        part.save_pretrained(folder)
    return folder


def tiny_t5(folder: Path) -> Path:
    """A transformers folder: 24 wide, one layer, words of the other fakes."""
    torch.manual_seed(0)
    model = T5EncoderModel(T5Config(vocab_size=len(WORDS) + 40, d_model=24, d_kv=12, d_ff=32, num_layers=1, num_heads=2))
    awaken(model)
    for part in (_pieces(), model):
        part.save_pretrained(folder)
    return folder
