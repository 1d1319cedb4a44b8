"""Make-An-Audio 1 and 2: sound from text by latent diffusion over mels and BigVGAN, from the official files.

The folder holds what the official repositories keep under ``useful_ckpts`` beside the text encoders' configuration and vocabulary:

    make-an-audio/    useful_ckpts/{maa1_full.ckpt,bigvgan/{args.yml,best_netG.pt}}  bert/{config.json,tokenizer.json}
    make-an-audio-2/  useful_ckpts/{maa2.ckpt,bigvgan/{args.yml,best_netG.pt}}       bert/…  t5/{config.json,tokenizer.json}

Left as it is officially: texts are padded to 77 and read without a mask; the latent is as long as the official scripts make it for
whole seconds; a number of steps that does not divide 1000 runs one or more steps beyond it. Not taken over: a sound that came out short
was padded on both sides (here the latent is made long enough).

Version 2 also reads the order of events, ``<dog barking& start>@<rain& end>``. Officially ChatGPT writes it; see ``structured``.
"""

from __future__ import annotations

import math
import re
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict

from generators.checkpoint import NO_CODE
from generators.official import OfficialBackend, inner, nothing
from media.audio import Audio

if TYPE_CHECKING:
    from torch import Tensor, nn

    from encoders.base import Condition
    from generators.make_an_audio_nets import TextReader
    from generators.official import Parts, Read

BERT = (("bert/config.json",), ("bert/tokenizer.json", "bert/vocab.txt"))
BIGVGAN = (("useful_ckpts/bigvgan/args.yml",), ("useful_ckpts/bigvgan/best_netG.pt",))
MEL_HOP = 256  # samples
Sizes = TypeVar("Sizes", bound=BaseModel)


class _Sizes(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class UnetSizes(_Sizes):
    """``unet_config`` of version 1."""

    in_channels: int = 4
    out_channels: int = 4
    model_channels: int = 320
    channel_mult: tuple[int, ...] = (1, 2)
    num_res_blocks: int = 2
    attention_resolutions: tuple[int, ...] = (1, 2)  # how many times smaller than the latent
    num_heads: int = 8
    transformer_depth: int = 1
    context_dim: int = 1024


class DitSizes(_Sizes):
    """``unet_config`` of version 2."""

    in_channels: int = 20
    context_dim: int = 1024
    hidden_size: int = 576
    num_heads: int = 8
    depth: int = 4
    max_len: int = 1000


class MelSizes(_Sizes):
    """``ddconfig`` of the autoencoder of version 1; of ``resolution`` frames, those of ``attn_resolutions`` see attention."""

    z_channels: int = 4
    resolution: int = 624
    ch: int = 128
    ch_mult: tuple[int, ...] = (1, 2, 2, 4)
    num_res_blocks: int = 2
    attn_resolutions: tuple[int, ...] = (78, 156)


class Mel1dSizes(_Sizes):
    """``ddconfig`` of the autoencoder of version 2."""

    in_channels: int = 80
    z_channels: int = 20
    kernel_size: int = 5
    ch: int = 384
    ch_mult: tuple[int, ...] = (1, 2, 4)
    num_res_blocks: int = 2
    down_layers: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class _Loaded:
    """The networks as they are called. ``unet`` as the engine calls one; ``texts`` turn words into states."""

    unet: nn.Module
    vae: Any
    scale: float  # latents are divided by it before the decoder
    vocoder: Any
    texts: tuple[TextReader, ...]


class _MakeAnAudio(OfficialBackend):
    _parts: _Loaded
    checkpoint_file: ClassVar[str]
    config_files: ClassVar[tuple[str, ...]]

    @property
    def network(self) -> Any:
        return self._parts.unet

    def matched(self, read: Read) -> Parts:
        from generators.bigvgan import empty_bigvgan
        from generators.ldm import without_weight_norm

        path, voice = self.folder / self.checkpoint_file, self.folder / "useful_ckpts" / "bigvgan"
        state, sound = read(path), without_weight_norm(read(voice / "best_netG.pt"))
        filled = {name: (network, tensors, path) for name, (network, tensors) in self._matched(state).items()}
        return {**filled, "vocoder": (empty_bigvgan(voice), sound, voice / "best_netG.pt")}

    @abstractmethod
    def _matched(self, state: dict[str, Tensor]) -> dict[str, tuple[nn.Module, dict[str, Tensor]]]:
        """The parts in the one official file."""

    def _scale(self) -> float:
        from encoders.weights import WeightsError, read_state_dict

        path = self.folder / self.checkpoint_file
        state = read_state_dict(path)
        if "scale_factor" not in state:
            raise WeightsError(f"{path} holds no scale_factor, by which latents are divided; get the file again")
        return float(state["scale_factor"])

    def _unload(self) -> None:
        del self._parts

    @cached_property
    def _config(self) -> dict[str, Any]:
        """The official YAML, if one lies in the folder; the public checkpoints need none."""
        from configs.schema import read_yaml

        path = next((self.folder / name for name in self.config_files if (self.folder / name).is_file()), None)
        return {} if path is None else read_yaml(path, _ConfigFile).model

    def sizes(self, kind: type[Sizes], *path: str) -> Sizes:
        """The part of the official YAML under ``model.params``; without a YAML, the public sizes."""
        from configs.schema import parse

        return parse(inner(self._config, "params", *path), kind, f"{self.folder}: {'.'.join(path)}")

    def scheduler(self) -> Any:
        from generators.ldm import LdmDdim

        return LdmDdim(
            beta_schedule="scaled_linear",  # linear in the square root
            beta_start=0.00085,
            beta_end=0.012,
            clip_sample=False,
            set_alpha_to_one=False,
            steps_offset=1,
        )

    def _sound(self, mel: Tensor) -> Audio:
        """log10-mel [1, 80, T] to sound."""
        return Audio(self._parts.vocoder(mel).float().numpy(), self.sample_rate)


class _ConfigFile(_Sizes):
    model: dict[str, Any] = {}


class MakeAnAudio(_MakeAnAudio):
    """Version 1 (Huang et al. 2023, arXiv:2301.12661): a 2-D U-Net over mels, conditioned on CLAP's text tower."""

    checkpoint_file = "useful_ckpts/maa1_full.ckpt"
    config_files = ("txt2audio_args.yaml", "configs/text_to_audio/txt2audio_args.yaml")
    required = ((checkpoint_file,), *BIGVGAN, *BERT)
    max_seconds = 10.24
    bins: ClassVar[int] = 10  # latent bins of 80 mels
    down: ClassVar[int] = 8  # mel frames a latent frame

    def _matched(self, state: dict[str, Tensor]) -> dict[str, tuple[nn.Module, dict[str, Tensor]]]:
        from generators.ldm import autoencoder_state, below, unet_state

        unet, vae, text = self._networks()
        return {
            "unet": (unet, unet_state(below(state, "model.diffusion_model."))),
            "vae": (vae, autoencoder_state(_mel_coder(state))),
            "caption": (text, below(state, "cond_stage_model.caption_encoder.")),
        }

    def assemble(self, networks: Mapping[str, Any]) -> None:
        from generators.make_an_audio_nets import OneText, TextReader

        reader = TextReader(self.folder / "bert", networks["caption"])
        self._parts = _Loaded(OneText(networks["unet"]), networks["vae"], self._scale(), networks["vocoder"], (reader,))

    def _networks(self) -> tuple[Any, Any, Any]:
        """U-Net, autoencoder and caption tower without weights."""
        from accelerate import init_empty_weights
        from diffusers import AutoencoderKL, UNet2DConditionModel

        from generators.make_an_audio_nets import CaptionTower

        size = self.sizes(UnetSizes, "unet_config", "params")
        mel = self.sizes(MelSizes, "first_stage_config", "params", "ddconfig")
        crossed = [2**level in size.attention_resolutions for level in range(len(size.channel_mult))]
        attended = [mel.resolution >> level in mel.attn_resolutions for level in range(len(mel.ch_mult))]
        with init_empty_weights():
            unet = UNet2DConditionModel(
                in_channels=size.in_channels,
                out_channels=size.out_channels,
                down_block_types=tuple("CrossAttnDownBlock2D" if yes else "DownBlock2D" for yes in crossed),
                up_block_types=tuple("CrossAttnUpBlock2D" if yes else "UpBlock2D" for yes in reversed(crossed)),
                block_out_channels=tuple(size.model_channels * times for times in size.channel_mult),
                layers_per_block=size.num_res_blocks,
                transformer_layers_per_block=size.transformer_depth,
                attention_head_dim=size.num_heads,  # diffusers' name for the number of heads
                cross_attention_dim=size.context_dim,
            )
            vae = AutoencoderKL(
                in_channels=1,
                out_channels=1,
                down_block_types=tuple("AttnDownEncoderBlock2D" if yes else "DownEncoderBlock2D" for yes in attended),
                up_block_types=tuple("AttnUpDecoderBlock2D" if yes else "UpDecoderBlock2D" for yes in reversed(attended)),
                block_out_channels=tuple(mel.ch * times for times in mel.ch_mult),
                layers_per_block=mel.num_res_blocks,
                latent_channels=mel.z_channels,
            )
            text = CaptionTower(self.folder / "bert", size.context_dim)
        return unet, vae, text

    def read_text(self, text: str) -> tuple[Condition, Condition]:
        (read_caption,) = self._parts.texts
        return read_caption(text), nothing()

    def noise_shape(self, seconds: float) -> tuple[int, int, int]:
        # Officially int(7.8 * seconds), rounded up to a multiple of 4: the same for 1 to 10 whole seconds, but short for others.
        frames = math.ceil(seconds * self.sample_rate / (self.down * MEL_HOP))
        return self._parts.vae.config.latent_channels, -(-frames // 4) * 4, self.bins

    def decode(self, latent: Tensor) -> Audio:
        import torch

        with torch.no_grad():
            mel = self._parts.vae.decode(latent.mT[None] / self._parts.scale).sample
            return self._sound(mel[:, 0])


class MakeAnAudio2(_MakeAnAudio):
    """Version 2 (Huang et al. 2023, arXiv:2305.18474): a transformer over time, which also reads the order of events."""

    checkpoint_file = "useful_ckpts/maa2.ckpt"
    config_files = ("config.yaml", "configs/text2audio-ConcatDiT-ae1dnat_Skl20d2_struct2MLPanylen.yaml")
    required = ((checkpoint_file,), *BIGVGAN, *BERT, ("t5/config.json",), ("t5/tokenizer.json", "t5/spiece.model"))
    max_seconds = 26.0  # 1000 learned positions less 155 for step and texts: 844 latent frames of 32 ms

    def _matched(self, state: dict[str, Tensor]) -> dict[str, tuple[nn.Module, dict[str, Tensor]]]:
        from generators.ldm import below

        dit, vae, text, t5 = self._networks()
        return {
            "transformer": (dit, below(state, "model.diffusion_model.")),
            "vae": (vae, _mel_coder(state)),
            "caption": (text, below(state, "cond_stage_model.caption_encoder.")),
            "t5": (t5, below(state, "cond_stage_model.t5_transformer.")),
        }

    def assemble(self, networks: Mapping[str, Any]) -> None:
        from generators.make_an_audio_nets import TextReader, TwoTexts

        readers = (TextReader(self.folder / "bert", networks["caption"]), TextReader(self.folder / "t5", networks["t5"]))
        self._parts = _Loaded(TwoTexts(networks["transformer"]), networks["vae"], self._scale(), networks["vocoder"], readers)

    def _networks(self) -> tuple[Any, Any, Any, Any]:
        """Transformer, autoencoder, caption tower and T5 without weights."""
        from accelerate import init_empty_weights
        from transformers import AutoConfig, T5EncoderModel

        from generators.make_an_audio_nets import CaptionTower, ConcatDit, MelAutoencoder

        size = self.sizes(DitSizes, "unet_config", "params")
        mel = self.sizes(Mel1dSizes, "first_stage_config", "params", "ddconfig")
        widths = [mel.ch * times for times in mel.ch_mult]
        with init_empty_weights():
            dit = ConcatDit(size.in_channels, size.context_dim, size.hidden_size, size.depth, size.num_heads, size.max_len)
            vae = MelAutoencoder(mel.in_channels, mel.z_channels, widths, mel.num_res_blocks, mel.kernel_size, mel.down_layers)
            text = CaptionTower(self.folder / "bert", size.context_dim)
            t5 = T5EncoderModel(AutoConfig.from_pretrained(self.folder / "t5", **NO_CODE))
        return dit, vae, text, t5

    def read_text(self, text: str) -> tuple[Condition, Condition]:
        caption, structure = structured(text)
        read_caption, read_structure = self._parts.texts
        return read_caption(caption), read_structure(structure)

    def noise_shape(self, seconds: float) -> tuple[int, int, int]:
        # Officially int(31.5 * seconds), made even; for some fractions of a second that is a little short.
        frames = max(int(seconds * 31.5), math.ceil(seconds * self.sample_rate / (2 * MEL_HOP)))
        return self._parts.vae.post_quant_conv.in_channels, frames + frames % 2, 1

    def decode(self, latent: Tensor) -> Audio:
        import torch

        with torch.no_grad():
            return self._sound(self._parts.vae.decode(latent[None, :, :, 0] / self._parts.scale))


def _mel_coder(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The autoencoder's tensors, without those of the losses it was trained with, which some files may still hold."""
    from generators.ldm import below

    return {key: value for key, value in below(state, "first_stage_model.").items() if not key.startswith("loss.")}


# -- texts -------------------------------------------------------------------------------------------------------------

_EVENT = r"<[^<>&@]+&\s*(?:all|start|mid|end)>"
_STRUCTURE = re.compile(rf"{_EVENT}(?:@{_EVENT})*")
_THEN = re.compile(r"\s*,?\s*\b(?:followed(?: \w+)? by|and then|then|before|after which)\b\s*|[.;]\s+")
_AFTER = re.compile(r"^after (?P<first>.+?), (?P<second>.+)$|^(?P<late>.+?),? after (?P<early>.+)$")
_WHILE = re.compile(r"\s*,?\s+(?:as|while|with|during|amid)\s+|\s*,\s*(?:and\s+)?")
_AND = re.compile(r"\s+and\s+")
_ARTICLE = re.compile(r"^(?:(?:a|an|the|some|and|as|while|with)\s+)+")
_THROUGHOUT = re.compile(r"\b(?:in the background|throughout|continuously|constantly|the whole time)\b")


def structured(text: str) -> tuple[str, str]:
    """A caption and its order of events, as Make-An-Audio 2 reads both.

    Text that ends in the official form is taken as it is: what stands before is the caption, or else the events in their order.
    Any other text is parsed, without a language model: "followed by", "then", "before", "after" and ends of sentences cut it into
    phases (one phase: ``all``; two: ``start``, ``end``; more: ``mid`` between); "while", "as", "with", commas and "and" between two
    phrases cut a phase into events that sound together; what goes on "throughout" or "in the background" is ``all``.

    >>> structured("A dog barks twice, then rain falls")[1]
    '<dog barks twice& start>@<rain falls& end>'
    >>> structured("rain <rain& all>@<thunder& mid>")
    ('rain', '<rain& all>@<thunder& mid>')
    """
    text = " ".join(text.split())
    if given := re.search(rf"{_STRUCTURE.pattern}$", text):
        named = ", ".join(event[1:].split("&")[0].strip() for event in given[0].split("@"))
        return text[: given.start()].strip() or named, given[0]
    plain = " ".join(re.sub(r"[<>&@]", " ", text).lower().split()).strip(" .!?")
    phases = [phase for part in _THEN.split(plain) for phase in _in_order(part.strip(" ,")) if phase]
    tagged = []
    for number, phase in enumerate(phases):
        time = "all" if len(phases) == 1 else "start" if number == 0 else "end" if number == len(phases) - 1 else "mid"
        tagged += [f"<{event}& {'all' if _THROUGHOUT.search(event) else time}>" for event in _events(phase)]
    return text, "@".join(tagged)


def _in_order(phase: str) -> list[str]:
    """ "B after A" and "after A, B" as A, B."""
    match = _AFTER.match(phase)
    return [match["first"] or match["early"], match["second"] or match["late"]] if match else [phase]


def _events(phase: str) -> list[str]:
    """What sounds together. "and" joins two events where both sides are phrases; "food and oil sizzle" is one."""
    found = []
    for part in _WHILE.split(phase):
        sides = [_ARTICLE.sub("", side).strip() for side in _AND.split(part)]
        found += sides if all(" " in side for side in sides) else [_ARTICLE.sub("", part).strip()]
    return [event for event in found if event]
