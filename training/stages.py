"""The recipe from clips to checkpoint, stage by stage: ``loa train STAGE|all --config FILE``.

Every stage keeps its state in WORK/<stage> and goes on from there after a kill; what is finished is not done again. Knows which stage
needs which, and what is made once and kept between them. How a stage trains stands in the file of its name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from diffusers import AudioLDM2UNet2DConditionModel, AutoencoderKL
from torch import Tensor, nn

from configs.registry import ConfigError
from configs.schema import STAGES, TrainConfig, parse
from encoders.audiomae import AudioMae, AudioMaeConfig
from encoders.clap import Anchors, AudioTower
from encoders.loa import LoaWriter
from generators.audioldm2 import LoaConfig
from training.audiomae import build_audiomae, train_audiomae
from training.autoencoder import build_vae, train_vae, whiten
from training.card import write_card
from training.data import MelSet, make_clips, recordings, split_of
from training.diffusion import Estimate, from_v, guided, sample_ddim
from training.export import check_replaceable, export
from training.joint import train_joint
from training.latent import build_scheduler, build_unet, encode_latents, train_unet, without_envelope, written_loas
from training.loop import Loop, Sampler, averaged, quiet, room_named, save_whole
from training.music import check_music
from training.rhythms import collect
from training.staged import Staged
from training.towers import build_anchors, extract_features, train_tower
from training.translator import CaptionBank, build_writer, extract_loa, moved, train_writer
from training.vocoder import build_vocoder, train_vocoder

# What each stage reads of others.
NEEDS: dict[str, tuple[str, ...]] = {
    "vae": (),
    "audiomae": (),
    "translator": ("audiomae",),
    "tower": ("audiomae",),
    "latent": ("vae", "audiomae", "translator"),
    "joint": ("vae", "audiomae", "translator", "latent"),
    "vocoder": ("vae",),
}
WORDS = 384  # numbers of one word of the sentence encoder
MEL = (512, 64)  # frames and bins of a clip
PICTURED = 4  # clips or captions in a sheet of spectrograms


@dataclass
class Recipe(Staged[TrainConfig]):
    """All stages over one folder of clips and one folder of work."""

    needs = NEEDS

    def __post_init__(self) -> None:
        self.state = PartialState(cpu=self.config.device == "cpu")
        if not self.state.is_main_process:
            self.on_log = quiet
        if self.state.device.type == "cuda":  # shapes never change within a stage; losses in float32 need no more than TF32
            torch.backends.cudnn.benchmark = True
            torch.set_float32_matmul_precision("high")

    # -- what is asked ------------------------------------------------------------------------------------------------
    def run(self, stage: str) -> dict[str, Any]:
        """Train one stage; or, asked for ``all``, every stage of the recipe, then write the checkpoint and its card.

        Raises:
            ConfigError: the stage cannot be trained as asked; nothing was written.
            OutOfRoom: the disk is full; what was there is whole.
        """
        stages = [s for s in STAGES if self.section(s) is not None] if stage == "all" else [stage]
        with room_named(self.work):
            self.check(stages)
            if stage == "all":
                check_replaceable(self.out)
            self._make_missing_clips()
            self.check_states(stages)
            self._say_what_is_missing()
            done = self.train_missing(stages)
            if stage == "all":
                self.export()
        told = {"config": self.config.name, "work": str(self.work), "skipped_clips": self.skipped, "stages": done}
        return told | ({"checkpoint": str(self.out)} if stage == "all" else {})

    def export(self) -> None:
        """The checkpoint and its card."""
        joint = self.config.joint is not None
        parts: dict[str, Any] = {
            "vae": self.vae(),
            "audiomae": self.audiomae(),
            "writer": self.translator(joint),
            "tower": self.tower(),
            "anchors": self.anchors,
            "rhythms": collect(self.clips) if self.config.checkpoint.get("rhythms") else None,
            "unet": self.unet(joint),
            "vocoder": self.vocoder(),
        }
        if self.state.is_main_process:
            card = partial(write_card, config=self.config, clips=self.clips, work=self.work, skipped=self.skipped)
            export(self.out, **parts, loa=self.config.checkpoint, card=card)
        self.state.wait_for_everyone()

    # -- what must hold -----------------------------------------------------------------------------------------------
    def check(self, stages: Sequence[str]) -> None:
        parse(self.config.checkpoint, LoaConfig, f"the recipe '{self.config.name}', 'checkpoint'")
        for field, start in (("vae.start", self.config.vae.start), ("latent.start", self.config.latent.start)):
            if start is not None and not (start / "config.json").is_file():
                raise ConfigError(f"'{field}' is no folder of a trained part (no config.json in it), got '{start}'")
        for reason in _misfits(self.config):
            if set(stages) - {"vae", "vocoder"}:
                raise ConfigError(f"the recipe '{self.config.name}' cannot be trained on these clips: {reason}")
        super().check(stages)
        source, soundfont = self.config.recordings, self.config.soundfont
        if source is not None and soundfont is not None and not (self.data / "labels.json").is_file():
            check_music(soundfont)
        if source is None and not all((self.data / f"{part}.json").is_file() for part in ("proc", "rec_train")):
            raise ConfigError(
                f"no clips in {self.data}; --recordings DIR makes them, of what 'python -m training.recordings DIR' fetched"
            )

    @cached_property
    def skipped(self) -> int:
        """Recordings of the training split that could not be read when the clips were made."""
        there = {row for row, _ in json.loads((self.data / "rec_train.json").read_text())}
        return sum(split_of(str(row["take"])) == "train" and index not in there for index, row in enumerate(recordings()))

    def _say_what_is_missing(self) -> None:
        sizes = ", ".join(f"{len(source.labels)}" for source in self.clips.sources)
        self.on_log(f"clips: {sizes}; {self.skipped} recordings could not be read and are left out")

    # -- folders and data ---------------------------------------------------------------------------------------------
    @property
    def data(self) -> Path:
        assert self.config.data is not None
        return self.config.data

    def _make_missing_clips(self) -> None:
        with self.state.main_process_first():
            if self.config.recordings is not None and not (self.data / "labels.json").is_file():
                make_clips(self.data, self.config.recordings, self.config.soundfont, self.on_log)

    @cached_property
    def clips(self) -> MelSet:
        try:
            return MelSet.open(self.data)
        except (OSError, ValueError, KeyError, IndexError) as error:
            raise ConfigError(f"the clips in {self.data} are damaged ({error}); make them anew") from error

    @cached_property
    def bank(self) -> CaptionBank:
        with self.state.main_process_first():
            self.work.mkdir(parents=True, exist_ok=True)
            return CaptionBank.make(self.clips.classes, self.work / "bank.pt", scenes=self.clips.scenes)

    @cached_property
    def anchors(self) -> Anchors:
        return build_anchors(self.bank, self.clips.classes)

    @cached_property
    def _clips_hash(self) -> str:
        """Which clips, in which order: what is kept between stages is of these and no others."""
        names = json.dumps([[source.labels, source.share] for source in self.clips.sources])
        return hashlib.sha256(names.encode()).hexdigest()[:16]

    def loop(self, stage: str, sample: Sampler | None = None) -> Loop[Any]:
        about: dict[str, object] = {"stage": stage, "clips": self._clips_hash}
        return Loop(self.section(stage), about, self.on_log, partial(self.on_progress, stage), sample)

    def _kept(self, path: Path, make: Callable[[], Any]) -> Any:
        """What ``make`` gives, made once by one process. It lies in the folder of the stage it comes from and goes with it."""
        with self.state.main_process_first():
            if not path.exists():
                save_whole(make(), path)
        return torch.load(path, weights_only=True)

    # -- trained parts ------------------------------------------------------------------------------------------------
    def vae(self) -> AutoencoderKL:
        """The autoencoder; unless it has the latents of another, they are whitened over every third clip."""
        folder = self.folder("vae")
        with self.state.main_process_first():
            if not (folder / "part").is_dir():
                model = averaged(folder, self._untrained_vae(), "vae").to(self.state.device)
                if not self.config.vae.decoder_only:
                    whiten(model, torch.cat([encode_latents(model, source.mel[::3]) for source in self.clips.sources]).to(model.device))
                model.cpu().save_pretrained(folder / "part.new")
                (folder / "part.new").rename(folder / "part")
        return AutoencoderKL.from_pretrained(folder / "part").eval()

    def _untrained_vae(self) -> AutoencoderKL:
        start = self.config.vae.start
        return build_vae(self.config.vae.model) if start is None else AutoencoderKL.from_pretrained(start).float()

    def audiomae(self) -> AudioMae:
        return averaged(self.folder("audiomae"), build_audiomae(self.config.audiomae), "mae").encoder

    def translator(self, joint: bool = False) -> LoaWriter:
        return averaged(self.folder("joint" if joint else "translator"), build_writer(self.config.translator.model), "writer")

    def tower(self) -> AudioTower:
        return averaged(self.folder("tower"), AudioTower(width=self.config.audiomae.model.width), "tower")

    def unet(self, joint: bool = False) -> AudioLDM2UNet2DConditionModel:
        return averaged(self.folder("joint" if joint else "latent"), build_unet(self.config.latent.model), "unet")

    def vocoder(self) -> Any:
        return averaged(self.folder("vocoder"), build_vocoder(self.config.vocoder.model), "vocoder")

    # -- what is made once from clips and parts -----------------------------------------------------------------------
    # Parts are read before ``_kept`` is called, not inside ``make``, and by every process: each wait is one that all come to.
    def latents(self) -> list[Tensor]:
        return self._of_clips(self.folder("vae") / "latents.pt", self.vae(), encode_latents)

    def loas(self) -> list[Tensor]:
        return self._of_clips(self.folder("audiomae") / "loas.pt", self.audiomae(), extract_loa)

    def _of_clips(self, path: Path, model: Any, extract: Callable[[Any, np.ndarray], Tensor]) -> list[Tensor]:
        clips = self.clips.sources
        return list(self._kept(path, lambda: [extract(model.to(self.state.device), source.mel) for source in clips]))

    def written(self) -> Tensor:
        writer, bank = self.translator().to(self.state.device), self.bank
        written: Tensor = self._kept(self.folder("translator") / "written.pt", lambda: written_loas(writer, bank))
        return written

    def decoded(self) -> dict[tuple[int, int], np.ndarray]:
        """Log-mels of some clips as they come out of the autoencoder."""
        drawn = sorted(set(self.clips.draw(np.random.default_rng(0), self.config.vocoder.decoded_clips)))
        if not drawn:
            return {}
        vae, latents = self.vae().to(self.state.device), self.latents()

        @torch.no_grad()
        def make() -> Tensor:
            return torch.cat([vae.decode(latents[s][i][None].float().to(vae.device)).sample[:, 0].half().cpu() for s, i in drawn])

        return dict(zip(drawn, self._kept(self.folder("vae") / "decoded.pt", make).numpy(), strict=True))

    # -- the stages ---------------------------------------------------------------------------------------------------
    def train(self, stage: str) -> None:
        getattr(self, "_train_" + stage)()

    def _train_vae(self) -> None:
        mels, shares = [source.mel for source in self.clips.sources], [source.share for source in self.clips.sources]
        train_vae(mels, shares, self.folder("vae"), self.loop("vae", self._reconstructions))

    def _train_audiomae(self) -> None:
        train_audiomae(self.clips, self.folder("audiomae"), self.loop("audiomae"))

    def _train_translator(self) -> None:
        train_writer(self.clips, self.loas(), self.bank, self.folder("translator"), self.loop("translator"))

    def _train_tower(self) -> None:
        clips, mae = self.clips.of_classes(), self.audiomae().to(self.state.device)
        features = [extract_features(mae, source.mel) for source in clips.sources]
        train_tower(clips, features, self.anchors, self.folder("tower"), self.loop("tower"))

    def _train_latent(self) -> None:
        start = self.config.latent.start
        known = None if start is None else without_envelope(AudioLDM2UNet2DConditionModel.from_pretrained(start).float())
        writer, vae = self.translator(), self.vae()
        loop = self.loop("latent", lambda modules: self._made(modules["unet"], writer, vae))
        train_unet(self.clips, self.latents(), self.loas(), self.bank, self.written(), self.folder("latent"), loop, start=known)

    def _train_joint(self) -> None:
        vae = self.vae()
        loop = self.loop("joint", lambda modules: self._made(modules["unet"], modules["writer"], vae))
        train_joint(self.unet(), self.translator(), self.clips, self.latents(), self.loas(), self.bank, self.folder("joint"), loop)

    def _train_vocoder(self) -> None:
        train_vocoder(self.clips, self.decoded(), self.folder("vocoder"), self.loop("vocoder"))

    # -- pictures -----------------------------------------------------------------------------------------------------
    def _reconstructions(self, modules: nn.ModuleDict) -> list[np.ndarray]:
        """Clips, and below each what the autoencoder in training makes of it."""
        out = []
        for s, i in self.clips.draw(np.random.default_rng(1), PICTURED):
            mel = np.asarray(self.clips.sources[s].mel[i], np.float32)
            made = modules["vae"](torch.from_numpy(mel)[None, None].to(self.state.device)).sample
            out += [mel, made[0, 0].float().cpu().numpy()]
        return out

    def _made(self, unet: Any, writer: Any, vae: Any) -> list[np.ndarray]:
        """What the network in training makes of a few captions, in ten DDIM steps without an envelope."""
        device, size = self.state.device, self.config.latent.model
        labels = list(self.bank.rows)[:: max(1, len(self.bank.rows) // PICTURED)][:PICTURED]
        sentence, text = (moved(c, device) for c in self.bank.conditions([int(self.bank.rows[label][0]) for label in labels]))
        loa = writer.to(device)(sentence, text).states
        words = {
            "encoder_hidden_states": torch.cat([torch.zeros_like(loa), loa]),
            "encoder_hidden_states_1": torch.cat([torch.zeros_like(text.states), text.states]),
            "encoder_attention_mask_1": torch.cat([torch.ones_like(text.mask), text.mask]),
        }
        alpha_bar = torch.cat([torch.ones(1), build_scheduler().alphas_cumprod]).to(device)
        no_envelope = torch.zeros(len(labels), size.in_channels - size.out_channels, *size.sample_size, device=device)

        def denoise(x: Tensor, t: int) -> Estimate:
            seen = torch.cat([x, no_envelope], dim=1)
            null, said = unet(torch.cat([seen, seen]), torch.tensor(t - 1, device=device), **words).sample.chunk(2)
            return from_v(guided(said, null), x, alpha_bar[t])

        noise = torch.randn(len(labels), size.out_channels, *size.sample_size, generator=torch.Generator().manual_seed(0))
        latents = sample_ddim(denoise, noise.to(device), alpha_bar, range(1000, 0, -100))
        return list(vae.to(device).decode(latents).sample[:, 0].float().cpu().numpy())


def _misfits(config: TrainConfig) -> Iterator[str]:
    """Why the parts of a recipe do not fit each other or the clips and captions that there are."""
    mae, writer, unet = AudioMaeConfig(**config.audiomae.model.model_dump()), config.translator.model, config.latent.model
    vae = config.vae.model
    down = 2 ** (len(vae.block_out_channels) - 1)
    widths = {width for block in unet.cross_attention_dim for width in block if width is not None}
    wanted = [
        ("audiomae.model.frames and bins", (mae.frames, mae.bins), MEL),
        ("translator.model.first and second", (writer.first, writer.second), (WORDS, WORDS)),
        ("translator.model.width", writer.width, mae.width),
        ("translator.model.tokens", writer.tokens, mae.tokens),
        ("latent.model.cross_attention_dim", widths, {mae.width, WORDS}),
        ("latent.model.out_channels", unet.out_channels, vae.latent_channels),
        ("latent.model.in_channels", unet.in_channels, vae.latent_channels + down + 1),
        ("latent.model.sample_size", unet.sample_size, (MEL[0] // down, MEL[1] // down)),
    ]
    yield from (f"'{field}' is {got}, and {fits} would fit" for field, got, fits in wanted if got != fits)
