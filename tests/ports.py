"""Small checkpoints of TANGO and Make-An-Audio in the official layout: real files with weights drawn by key, so that the official code
could be given the same ones without any file being kept. ``tests/data/parity/ports_keys.json.xz`` holds the official classes' keys.
"""

from __future__ import annotations

import json
import lzma
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor
from transformers import BertConfig, PreTrainedTokenizerFast, T5Config

from encoders.weights import shapes_of
from generators.base import GenerationRequest
from generators.bigvgan import BigVgan, BigVganConfig, lowpass
from tests.drawn import drawn
from tests.fakes import _pieces

DATA = Path(__file__).parent / "data"
KEYS = DATA / "parity" / "ports_keys.json.xz"  # of the official classes at the sizes below
TRUE_KEYS = DATA / "manifests" / "ports.json.xz"  # of the official classes at their true size
TEXT = "a the dog bark ##s cat rain fall ##ing on tin roof piano thunder twice then follow ##ed by and while birds sing"
SCALE = 0.8  # scale_factor of all small checkpoints

BIGVGAN: dict[str, Any] = {
    "num_mels": 80,
    "upsample_initial_channel": 64,
    "upsample_rates": [4, 4, 2, 2, 2, 2],
    "upsample_kernel_sizes": [8, 8, 4, 4, 4, 4],
    "resblock": "1",
    "resblock_kernel_sizes": [3, 7],
    "resblock_dilation_sizes": [[1, 3, 5], [1, 3, 5]],
    "activation": "snakebeta",
    "snake_logscale": True,
    "num_gpus": 0,  # args.yml holds training settings as well
}
QUICK_BIGVGAN = {**BIGVGAN, "upsample_initial_channel": 64, "resblock_kernel_sizes": [3], "resblock_dilation_sizes": [[1]]}
MAA1: dict[str, Any] = {
    "unet_config": {
        "image_size": 32,
        "in_channels": 4,
        "out_channels": 4,
        "model_channels": 32,
        "attention_resolutions": [1, 2],
        "num_res_blocks": 2,
        "channel_mult": [1, 2],
        "num_heads": 8,
        "use_spatial_transformer": True,
        "transformer_depth": 1,
        "context_dim": 24,
        "use_checkpoint": False,
        "legacy": False,
    },
    "ddconfig": {
        "double_z": True,
        "z_channels": 4,
        "resolution": 624,
        "in_channels": 1,
        "out_ch": 1,
        "ch": 32,
        "ch_mult": [1, 1, 1, 2],
        "num_res_blocks": 1,
        "attn_resolutions": [78, 156],
        "dropout": 0.0,
    },
    "embed_dim": 4,
}
MAA2: dict[str, Any] = {
    "unet_config": {"in_channels": 20, "context_dim": 24, "hidden_size": 32, "num_heads": 4, "depth": 2, "max_len": 1000},
    "ddconfig": {
        "double_z": True,
        "in_channels": 80,
        "out_ch": 80,
        "z_channels": 20,
        "kernel_size": 5,
        "ch": 32,
        "ch_mult": [1, 2, 2],
        "num_res_blocks": 1,
        "attn_layers": [3],
        "down_layers": [0],
        "dropout": 0.0,
    },
    "embed_dim": 20,
}
TANGO_UNET: dict[str, Any] = {
    "_class_name": "UNet2DConditionModel",
    "act_fn": "silu",
    "attention_head_dim": [2, 2, 4, 4],
    "block_out_channels": [16, 16, 32, 32],
    "cross_attention_dim": 24,
    "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
    "downsample_padding": 1,
    "dual_cross_attention": False,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "in_channels": 8,
    "out_channels": 8,
    "layers_per_block": 1,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-05,
    "norm_num_groups": 8,
    "sample_size": [32, 2],
    "use_linear_projection": True,
    "upcast_attention": True,
}
TANGO_VAE: dict[str, Any] = {
    "image_key": "fbank",
    "subband": 1,
    "embed_dim": 8,
    "time_shuffle": 1,
    "ddconfig": {
        "double_z": True,
        "z_channels": 8,
        "resolution": 256,
        "downsample_time": False,
        "in_channels": 1,
        "out_ch": 1,
        "ch": 32,
        "ch_mult": [1, 1, 2],
        "num_res_blocks": 1,
        "attn_resolutions": [],
        "dropout": 0.0,
    },
    "scale_factor": SCALE,
}
TANGO_VOCODER_WIDTH = 32


def drawn_state(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """The tensors of an official file: drawn by key, but what a file of that kind can only hold in one way."""
    return {key: _tensor(key, tuple(shape)) for key, shape in shapes.items()}


def _tensor(key: str, shape: tuple[int, ...]) -> Tensor:
    if key.endswith("position_ids"):
        return torch.arange(shape[-1]).expand(shape).clone()
    if key.endswith("filter"):
        return lowpass()
    if key == "scale_factor":
        return torch.tensor(SCALE)
    if key.endswith("weight_g"):
        return 0.45 * drawn(key + ".norm.weight", shape)  # so that the waveform stays within its limits
    return drawn(key.replace("encoder.embed_tokens.", "shared."), shape)  # T5 holds its words twice


def keys(name: str, *, true_size: bool = False) -> dict[str, tuple[int, ...]]:
    """Key to shape of an official file: maa1, maa2, bigvgan, tango_main, tango_vae."""
    found: dict[str, list[int]] = json.loads(lzma.decompress((TRUE_KEYS if true_size else KEYS).read_bytes()))[name]
    return {key: tuple(shape) for key, shape in found.items()}


def empty_state(name: str) -> dict[str, Tensor]:
    """An official file at its true size, without its numbers: tensors on the meta device."""
    state = {key: torch.empty(shape, device="meta") for key, shape in keys(name, true_size=True).items()}
    return {**state, "scale_factor": torch.tensor(SCALE)} if "scale_factor" in state else state


def reference(name: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What the official code gave: its settings, and its arrays."""
    with np.load(DATA / "parity" / f"{name}.npz") as held:
        arrays = {key: held[key] for key in held.files if key != "info"}
        return json.loads(str(held["info"])), arrays


def furthest(got: Any, wanted: np.ndarray) -> float:
    """The largest difference, both taken as flat."""
    got = np.asarray(got, np.float64).reshape(-1)
    assert got.shape == wanted.reshape(-1).shape, f"{got.size} values instead of {wanted.size}"
    return float(np.abs(got - wanted.reshape(-1)).max())


def write_make_an_audio(folder: Path, version: int, vocoder: Mapping[str, Any] = BIGVGAN) -> Path:
    """A folder as ``generators.make_an_audio`` reads one; another vocoder than the recorded one is drawn by our own names."""
    config = MAA1 if version == 1 else MAA2
    weights = folder / "useful_ckpts"
    (weights / "bigvgan").mkdir(parents=True)
    (weights / "bigvgan" / "args.yml").write_text(yaml.safe_dump(dict(vocoder)))
    shapes = keys("bigvgan") if vocoder is BIGVGAN else shapes_of(BigVgan(BigVganConfig.model_validate(vocoder)))
    torch.save({"generator": drawn_state(shapes)}, weights / "bigvgan" / "best_netG.pt")
    file = weights / ("maa1_full.ckpt" if version == 1 else "maa2.ckpt")
    torch.save({"state_dict": drawn_state(keys(f"maa{version}")), "epoch": 1}, file)
    params = {
        "unet_config": {"params": config["unet_config"]},
        "first_stage_config": {"params": {"embed_dim": config["embed_dim"], "ddconfig": config["ddconfig"]}},
    }
    name = "txt2audio_args.yaml" if version == 1 else "config.yaml"
    (folder / name).write_text(yaml.safe_dump({"model": {"params": params}}))
    write_bert(folder / "bert")
    if version == 2:
        write_t5(folder / "t5")
    return folder


def write_tango(folder: Path) -> Path:
    """A folder as ``generators.tango`` reads one."""
    (folder / "configs").mkdir(parents=True)
    (folder / "configs" / "unet.json").write_text(json.dumps(TANGO_UNET))
    (folder / "vae_config.json").write_text(json.dumps(TANGO_VAE))
    main = {
        "text_encoder_name": "google/flan-t5-large",
        "scheduler_name": "stabilityai/stable-diffusion-2-1",
        "unet_model_name": None,
        "unet_model_config_path": "configs/unet.json",
        "snr_gamma": 5.0,
    }
    (folder / "main_config.json").write_text(json.dumps(main))
    for part in ("main", "vae"):
        torch.save(drawn_state(keys(f"tango_{part}")), folder / f"pytorch_model_{part}.bin")
    write_t5(folder / "flan-t5-large")
    return folder


def write_bert(folder: Path) -> None:
    """A small BERT's configuration and vocabulary."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = [*"abcdefghijklmnopqrstuvwxyz,.", *(f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz")]
    vocabulary = {word: number for number, word in enumerate(dict.fromkeys([*special, *TEXT.split(), *letters]))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=512,
    )
    fast.save_pretrained(folder)
    BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=128,
    ).save_pretrained(folder)


def write_t5(folder: Path) -> None:
    """A small T5's configuration and vocabulary."""
    tokenizer = _pieces()
    tokenizer.model_max_length = 64
    tokenizer.save_pretrained(folder)
    T5Config(
        vocab_size=96, d_model=24, d_kv=8, d_ff=32, num_layers=2, num_heads=3, feed_forward_proj="gated-gelu", tie_word_embeddings=False
    ).save_pretrained(folder)


def sounds(backend: Any, requests: list[GenerationRequest], rows: int) -> list[np.ndarray]:
    """Samples [C, T] of requests made in one batch, not yet rounded to 16 bits."""
    return [sound.samples for sound in backend._synthesise(requests, rows, lambda _: None, lambda: False)]


def assert_alone_as_among_eight(backend: Any, said: Sequence[str], seconds: tuple[float, float]) -> None:
    """Eight requests unlike in words, length, steps and negative prompt: bitwise the same in one shape of batch, else to rounding."""
    requests = [
        GenerationRequest(prompt=said[i % len(said)], seconds=seconds[i % 2], seed=i, steps=1 + i % 2, negative_prompt="rain" * (i % 3))
        for i in range(8)
    ]
    together = sounds(backend, requests, 8)
    for row in (0, 3):
        assert np.array_equal(sounds(backend, requests[row : row + 1], 8)[0], together[row])
        alone = sounds(backend, requests[row : row + 1], 1)[0]
        assert np.abs(alone - together[row]).max() <= 1e-5 * np.abs(alone).max()
