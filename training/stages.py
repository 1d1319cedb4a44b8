"""The recipe of nano from clips to checkpoint, stage by stage: ``python -m training.stages all --data DIR --work DIR -o OUT``.

Every stage keeps its state in WORK/<stage> and goes on from there after a kill; what is finished is not done again. DIR is what
``python -m training.data`` wrote. Minutes are processor minutes of training on two cores; the whole takes about two hours.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from encoders.audiomae import AudioMae, AudioMaeConfig
from encoders.clap import Anchors, AudioTower
from encoders.loa import LoaWriter
from training.audiomae import MaskedAutoencoder, train_audiomae
from training.autoencoder import build_vae, train_vae, whiten
from training.data import MelSet
from training.export import export
from training.latent import build_unet, encode_latents, train_unet, written_loas
from training.loop import Log, LoopConfig, save_whole
from training.towers import build_anchors, extract_features, train_tower
from training.translator import CaptionBank, build_writer, extract_loa, train_writer
from training.vocoder import build_vocoder, train_vocoder

Module = TypeVar("Module", bound=nn.Module)

LOOPS = {
    "vae": LoopConfig(minutes=36, lr=2e-3, weight_decay=1e-4, ema=0.998),
    "audiomae": LoopConfig(minutes=4, lr=1.5e-3, weight_decay=0.05, ema=0.998),
    "translator": LoopConfig(minutes=4, lr=1e-3, weight_decay=0.05, ema=0.998),
    "tower": LoopConfig(minutes=2, lr=2e-3, weight_decay=0.05, ema=0.998),
    "latent": LoopConfig(minutes=68, lr=1e-3, weight_decay=0.01, ema=0.9995),
    "vocoder": LoopConfig(minutes=35, lr=1e-3, weight_decay=1e-4, betas=(0.8, 0.99), ema=0.998),
}
DECODED_CLIPS = 2_600  # draws of clips whose mels go through the autoencoder for the vocoder's training

LOA_JSON: dict[str, Any] = {
    "encoders": "nano",
    "loa_tokens": 8,
    "text_length": 32,
    "uncond_loa": "zeros",
    "window": 64,
    "overlap": 16,
    "steps": 25,
    "few_steps": 8,
    "guidance": 3.5,
    "solver": "dpmpp_2m",
    # The small HiFi-GAN, trained without discriminators, does not follow pitch; inversion does (see the model card).
    "head": "griffin_lim",
    # Chosen on 59 prompts of our own, which are in no list: top-1 0.34 without and 0.42 with it, on half-trained weights.
    "anchor_cosine": 0.4,
    "envelope": True,
    "max_seconds": 30.0,
    "accepts": ["text", "image", "audio", "video", "condition"],
    "tasks": ["sound", "music"],
}


def averaged(folder: Path, model: Module, prefix: str) -> Module:
    """The averaged weights that a stage left in ``folder``, in ``model``."""
    shadow = torch.load(folder / "state.pt", map_location="cpu", weights_only=True)["ema"]
    model.load_state_dict({key.removeprefix(prefix + "."): value for key, value in shadow.items()})
    model.eval()
    return model


@dataclass
class Recipe:
    """All stages over one folder of clips and one folder of work. Each method trains one part or finds it trained."""

    data: Path
    work: Path
    log: Log

    @cached_property
    def clips(self) -> MelSet:
        return MelSet.open(self.data)

    @cached_property
    def bank(self) -> CaptionBank:
        return CaptionBank.make(self.clips.classes, self.work / "bank.pt", scenes=self.clips.scenes)

    @cached_property
    def anchors(self) -> Anchors:
        return build_anchors(self.bank, self.clips.classes)

    def _kept(self, name: str, make: Callable[[], Any]) -> Any:
        path = self.work / name
        if not path.exists():
            save_whole(make(), path)
        return torch.load(path, weights_only=True)

    def vae(self) -> AutoencoderKL:
        """The autoencoder, its latents whitened over every third clip."""
        folder = self.work / "vae"
        if not (folder / "whitened").is_dir():
            mels = [source.mel for source in self.clips.sources]
            train_vae(mels, [source.share for source in self.clips.sources], folder, LOOPS["vae"], batch=16, crop=128, on_log=self.log)
            model = averaged(folder, build_vae(), "vae")
            whiten(model, torch.cat([encode_latents(model, mel[::3]) for mel in mels]))
            model.save_pretrained(folder / "part")
            (folder / "part").rename(folder / "whitened")
        return AutoencoderKL.from_pretrained(folder / "whitened").eval()

    def audiomae(self) -> AudioMae:
        train_audiomae(self.clips, self.work / "mae", LOOPS["audiomae"], on_log=self.log)
        return averaged(self.work / "mae", MaskedAutoencoder(AudioMaeConfig()), "mae").encoder

    def latents(self) -> list[Tensor]:
        return self._kept("latents.pt", lambda: [encode_latents(self.vae(), s.mel) for s in self.clips.sources])

    def loas(self) -> list[Tensor]:
        return self._kept("loas.pt", lambda: [extract_loa(self.audiomae(), s.mel) for s in self.clips.sources])

    def translator(self) -> LoaWriter:
        train_writer(self.clips, self.loas(), self.bank, self.work / "writer", LOOPS["translator"], on_log=self.log)
        return averaged(self.work / "writer", build_writer(), "writer")

    def tower(self) -> AudioTower:
        features = [extract_features(self.audiomae(), s.mel) for s in self.clips.sources]
        train_tower(self.clips, features, self.anchors, self.work / "tower", LOOPS["tower"], on_log=self.log)
        return averaged(self.work / "tower", AudioTower(), "tower")

    def latent(self) -> Any:
        written = self._kept("written.pt", lambda: written_loas(self.translator(), self.bank))
        folder = self.work / "unet"
        train_unet(self.clips, self.latents(), self.loas(), self.bank, written, folder, LOOPS["latent"], on_log=self.log)
        return averaged(folder, build_unet(), "unet")

    def vocoder(self) -> Any:
        folder = self.work / "vocoder"
        drawn = sorted(set(self.clips.draw(np.random.default_rng(0), DECODED_CLIPS)))
        vae, latents = self.vae(), self.latents()

        def decode() -> Tensor:
            with torch.no_grad():
                return torch.cat([vae.decode(latents[s][i][None].float()).sample[:, 0].half() for s, i in drawn])

        mels = self._kept("decoded.pt", decode).numpy()
        train_vocoder(self.clips, dict(zip(drawn, mels, strict=True)), folder, LOOPS["vocoder"], on_log=self.log)
        return averaged(folder, build_vocoder(), "vocoder")

    def all(self, out: Path) -> None:
        """Every stage in order, then the checkpoint."""
        export(
            out,
            vae=self.vae(),
            audiomae=self.audiomae(),
            writer=self.translator(),
            tower=self.tower(),
            anchors=self.anchors,
            unet=self.latent(),
            vocoder=self.vocoder(),
            loa=LOA_JSON,
        )


STAGES = ("vae", "audiomae", "translator", "tower", "latent", "vocoder", "all")


def main() -> int:
    parser = argparse.ArgumentParser(description="Train nano.")
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--data", type=Path, required=True, help="what `python -m training.data` wrote")
    parser.add_argument("--work", type=Path, required=True, help="states of the stages; kept, so that a killed run goes on")
    parser.add_argument("-o", "--out", type=Path, help="the checkpoint's folder (stage `all`)")
    given = parser.parse_args()
    if (given.stage == "all") != (given.out is not None):
        parser.error("-o OUT goes with the stage `all`, and only with it")
    given.work.mkdir(parents=True, exist_ok=True)
    recipe = Recipe(given.data, given.work, lambda line: print(line, file=sys.stderr, flush=True))
    if given.stage == "all":
        recipe.all(given.out)
    else:
        getattr(recipe, given.stage)()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
