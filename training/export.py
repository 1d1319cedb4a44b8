"""Trained parts become a checkpoint folder in the public AudioLDM 2 layout, weights in float16, whole or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from diffusers import AudioLDM2UNet2DConditionModel, AutoencoderKL
from safetensors.torch import save_file
from transformers import SpeechT5HifiGan

from configs.registry import ConfigError
from encoders.audiomae import AudioMae, save_audiomae
from encoders.clap import Anchors, AudioTower
from encoders.loa import LoaWriter
from generators.rhythms import Rhythms
from training.latent import build_scheduler

# What diffusers' pipeline loader would find; the encoders are nano's own (loa.json).
MODEL_INDEX = {
    "_class_name": "AudioLDM2Pipeline",
    "vae": ["diffusers", "AutoencoderKL"],
    "unet": ["diffusers", "AudioLDM2UNet2DConditionModel"],
    "projection_model": ["audioldm2", "AudioLDM2ProjectionModel"],
    "language_model": ["transformers", "GPT2Model"],
    "vocoder": ["transformers", "SpeechT5HifiGan"],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["loa", "SentenceEncoder"],
    "text_encoder_2": ["loa", "SentenceEncoder"],
}


def export(
    folder: Path,
    *,
    vae: AutoencoderKL,
    unet: AudioLDM2UNet2DConditionModel,
    vocoder: SpeechT5HifiGan,
    writer: LoaWriter,
    audiomae: AudioMae,
    tower: AudioTower,
    anchors: Anchors,
    rhythms: Rhythms | None,
    loa: dict[str, Any],
    card: Callable[[Path], None],
) -> None:
    """Write everything beside ``folder``, then swap it in.

    Args:
        loa: the fields of loa.json (generators.audioldm2.LoaConfig).
        card: writes README.md into the folder it is given, where all else lies already.
    """
    check_replaceable(folder)
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    for name, model in (("vae", vae), ("unet", unet), ("vocoder", vocoder)):
        model.half().save_pretrained(part / name, safe_serialization=True)
    writer.projection.half().save_pretrained(part / "projection_model", safe_serialization=True)
    writer.language_model.half().save_pretrained(part / "language_model", safe_serialization=True)
    build_scheduler().save_pretrained(part / "scheduler")
    save_audiomae(audiomae, part / "audiomae")
    (part / "audio_tower").mkdir()
    save_file({k: v.half().contiguous() for k, v in tower.state_dict().items()}, part / "audio_tower" / "model.safetensors")
    anchors.write(part / "anchors")
    if rhythms is not None:
        rhythms.write(part / "rhythms" / "curves.safetensors")
    (part / "loa.json").write_text(json.dumps(loa, indent=1) + "\n")
    (part / "model_index.json").write_text(json.dumps(MODEL_INDEX, indent=1) + "\n")
    for config in part.glob("*/config.json"):  # diffusers notes where a part was read from, which is nobody's business
        fields = json.loads(config.read_text())
        if fields.pop("_name_or_path", None):
            config.write_text(json.dumps(fields, indent=2) + "\n")
    card(part)
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)


def check_replaceable(folder: Path) -> None:
    """Raises ConfigError where ``folder`` holds something that is no checkpoint: it would be lost."""
    if folder.exists() and not (folder / "model_index.json").is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"'{folder}' holds something that is no checkpoint, and would be replaced; give another folder with -o")
