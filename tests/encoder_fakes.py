"""Tiny folders of the public encoders with drawn weights, in the layouts that users fill."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

from safetensors.torch import save_file

from encoders.audiomae import PUBLIC, AudioMae, save_audiomae
from encoders.imagebind import ImageBindConfig, ImageBindModel, Trunk
from tests.drawn import draw_into

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
