"""State dicts in the layout of an official file, drawn by key: what a recording ran with, without keeping any weights."""

from __future__ import annotations

import json
import math
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests.fakes import _bpe, _pieces

PARITY = Path(__file__).parent / "data" / "parity"
# What a network computes for itself and no training changes: noise schedules, spectrogram windows, index tables.
_FIXED = re.compile(
    r"(spectrogram_extractor|logmel_extractor|mel_transform|stft|mel_basis)|"
    r"(attn_mask|relative_position_index|position_ids|num_batches_tracked|scale_factor)$|"
    r"^(betas|alphas_|sqrt_|log_one|posterior_|logvar)|^model_ema"
)


def fixed(key: str) -> bool:
    """Whether a key's value is not drawn; none of these is read by the ports but ``scale_factor`` and the index tables."""
    return bool(_FIXED.search(key))


def weight(key: str, shape: tuple[int, ...]) -> Tensor:
    """float32 values that depend on key and shape alone, of a size that lets signals through at about the strength they came in."""
    key = key.replace(".shared.weight", ".encoder.embed_tokens.weight")  # T5's one table of words has two names
    noise = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(shape, np.float32)
    if key.endswith("running_var") or (len(shape) == 1 and key.endswith(("weight", "gamma"))):
        return torch.from_numpy(np.abs(1 + np.float32(0.1) * noise))
    table = "embed" in key or ".emb" in key or "token" in key or "bias_table" in key
    scale = 1 / math.sqrt(math.prod(shape[1:])) if len(shape) > 1 and not table else 0.3
    if key.endswith(("film_emb.weight", "input_sequence_embed_linear.0.weight")):  # they read CLAP's vectors of unit length
        scale = 1.0
    if ".vocoder." in key:  # its last layer is a tanh, which should not be saturated
        scale = 1 / math.sqrt(shape[0]) if ".ups." in key and len(shape) == 3 else 0.4 * scale
    return torch.from_numpy(np.asarray(np.float32(scale) * noise, np.float32))


class Recording:
    """Arrays that official code computed at random weights, and the note of how.

    ``note`` holds repository, commit, settings and seed; ``shapes`` the keys of the official state dict.
    """

    def __init__(self, name: str) -> None:
        self.arrays = np.load(PARITY / f"{name}.npz")
        self.note: dict[str, Any] = json.loads(str(self.arrays["note"]))
        self.shapes: dict[str, list[int]] = json.loads(str(self.arrays["shapes"])) if "shapes" in self.arrays.files else {}

    def __getitem__(self, name: str) -> Tensor:
        return torch.from_numpy(self.arrays[name])

    def state(self) -> dict[str, Tensor]:
        """The official state dict that the recording ran with, as far as ports read it."""
        state = {key: weight(key, tuple(shape)) for key, shape in self.shapes.items() if not fixed(key)}
        for key in self.shapes:
            if key.endswith("relative_position_index"):
                state[key] = self["swin_index"].long()
            elif key.endswith("num_batches_tracked"):
                state[key] = torch.zeros((), dtype=torch.long)
            elif key.startswith("model.diffusion_model.") and self.note["settings"].get("averaged"):
                name = "model_ema." + key.removeprefix("model.").replace(".", "")
                state[name] = weight("averaged:" + key, tuple(self.shapes[key]))
        return state | {"scale_factor": torch.tensor(self.note["settings"]["scale_factor"])}


def small_sizes(recording: Recording) -> dict[str, dict[str, Any]]:
    """Arguments of our parts for the sizes that a recording ran with (``generators.audioldm_layouts``)."""
    told = recording.note["settings"]
    unet, vae, htsat, roberta = told["unet"], told["vae"], told["htsat"], told["roberta"]
    levels = [unet["model_channels"] * times for times in unet["channel_mult"]]
    deep = [2**level in unet["attention_resolutions"] for level in range(len(levels))]
    sizes: dict[str, dict[str, Any]] = {
        "unet": {
            "block_out_channels": levels,
            "layers_per_block": unet["num_res_blocks"],
            "down_block_types": ["CrossAttnDownBlock2D" if attends else "DownBlock2D" for attends in deep],
            "up_block_types": ["CrossAttnUpBlock2D" if attends else "UpBlock2D" for attends in reversed(deep)],
            "attention_head_dim": [width // unet["num_head_channels"] for width in levels],
            "cross_attention_dim": [[None, *unet["context_dim"]]] * len(levels) if "context_dim" in unet else levels,
        },
        "vae": {
            "block_out_channels": [vae["ch"] * times for times in ([1, 2, 4, 8] if recording.note["layout"] == "48k" else [1, 2, 4])],
            "layers_per_block": vae["num_res_blocks"],
        },
        "vocoder": told["vocoder"],
        "clap": {
            "text_config": roberta,
            "audio_config": {
                "patch_embeds_hidden_size": htsat["embed_dim"],
                "hidden_size": 8 * htsat["embed_dim"],
                "depths": htsat["depths"],
                "num_attention_heads": htsat["num_heads"],
                "num_classes": 4,
            },
        },
    }
    if recording.note["layout"] in ("full", "large", "speech"):
        sizes["gpt2"] = told["gpt2"]
    if recording.note["layout"] in ("full", "large", "16k-t5"):
        sizes["t5"] = told["t5"]
    if recording.note["layout"] in ("full", "large"):
        sizes["projection"] = {"text_encoder_1_dim": told["t5"]["d_model"]}
    return sizes


def write_tokenizers(folder: Path) -> None:
    """The small tokenizers that the recordings ran with, as ``tokenizer`` (RoBERTa) and ``tokenizer_2`` (T5)."""
    folder.mkdir(parents=True, exist_ok=True)
    _bpe(folder).save_pretrained(folder / "tokenizer")
    pieces = _pieces()
    pieces.model_max_length = 128
    pieces.save_pretrained(folder / "tokenizer_2")
