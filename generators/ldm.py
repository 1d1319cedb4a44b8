"""What the latent-diffusion codebase calls and counts its own way, told to the modules of diffusers and transformers: keys, and steps.

Knows names and step numbers. Does not know files, sizes or which system a checkpoint belongs to. Nothing is renamed by guess: a key
that no rule knows keeps its name, and ``encoders.weights.load_into`` then says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from diffusers import DDIMScheduler
from torch import Tensor

_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_ATTENTION = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}
_STEM = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}


def unet_names(keys: Iterable[str]) -> dict[str, str]:
    """Key of an LDM ``UNetModel`` (with spatial transformers) to the key of diffusers' conditional 2-D U-Nets.

    Levels, residual blocks and transformers per block are read off the keys.

    >>> unet_names(["input_blocks.1.0.in_layers.0.weight"])["input_blocks.1.0.in_layers.0.weight"]
    'down_blocks.0.resnets.0.norm1.weight'
    """
    keys = list(keys)
    downs = sorted(int(key.split(".")[1]) for key in keys if re.fullmatch(r"input_blocks\.\d+\.0\.op\.weight", key))
    deepest = max((int(key.split(".")[1]) for key in keys if key.startswith("input_blocks.")), default=0)
    per_level = downs[0] if downs else deepest + 1  # residual blocks of a level and its way down, in the order of ``input_blocks``
    layers = per_level - 1
    transformers = {key.rsplit(".norm.", 1)[0] for key in keys if re.fullmatch(r"\w+_blocks?\.(\d+\.)?[1-9]\d*\.norm\.weight", key)}
    named = {}
    for key in keys:
        stem = next((s for s in _STEM if key.startswith(s + ".")), None)
        if stem is not None:
            named[key] = _STEM[stem] + key[len(stem) :]
        elif match := re.fullmatch(r"(input|output)_blocks\.(\d+)\.(\d+)\.(.+)", key):
            side, number, place, rest = match[1], int(match[2]), int(match[3]), match[4]
            level, layer = divmod(number - 1, per_level) if side == "input" else divmod(number, layers + 1)
            block = f"{'down' if side == 'input' else 'up'}_blocks.{level}"
            beside = sum(name.startswith(f"{side}_blocks.{number}.") for name in transformers)
            named[key] = f"{block}.{_unet_part(rest, place, layer * beside + place - 1, layer)}"
        elif match := re.fullmatch(r"middle_block\.(\d+)\.(.+)", key):
            place, rest = int(match[1]), match[2]
            resnet = _resnet(rest)
            named[key] = f"mid_block.resnets.{min(place, 1)}.{resnet}" if resnet else f"mid_block.attentions.{place - 1}.{rest}"
    return named


def _unet_part(rest: str, place: int, attention: int, layer: int) -> str:
    if rest.startswith("op."):
        return "downsamplers.0.conv." + rest.removeprefix("op.")
    if place == 0:
        return f"resnets.{layer}.{_resnet(rest) or rest}"
    return "upsamplers.0." + rest if rest.startswith("conv.") else f"attentions.{attention}.{rest}"


def _resnet(rest: str) -> str:
    head = next((name for name in _RESNET if rest.startswith(name + ".")), None)
    return _RESNET[head] + rest[len(head) :] if head else ""


def autoencoder_names(keys: Iterable[str]) -> dict[str, str]:
    """Key of an LDM ``AutoencoderKL`` to the key of diffusers' ``AutoencoderKL``; the decoder's levels are counted backwards there.

    >>> autoencoder_names(["encoder.mid.attn_1.q.weight"])["encoder.mid.attn_1.q.weight"]
    'encoder.mid_block.attentions.0.to_q.weight'
    """
    keys = list(keys)
    top = max((int(match[1]) for key in keys if (match := re.match(r"decoder\.up\.(\d+)\.", key))), default=0)
    named = {}
    for key in keys:
        name = key.replace(".nin_shortcut.", ".conv_shortcut.").replace(".norm_out.", ".conv_norm_out.")
        name = re.sub(r"\.mid\.block_([12])\.", lambda m: f".mid_block.resnets.{int(m[1]) - 1}.", name)
        name = re.sub(r"\.mid\.attn_1\.", ".mid_block.attentions.0.", name)
        name = re.sub(r"\.up\.(\d+)\.", lambda m: f".up_blocks.{top - int(m[1])}.", name)
        name = re.sub(r"\.down\.(\d+)\.", r".down_blocks.\1.", name)
        name = re.sub(r"\.(down|up)sample\.", r".\1samplers.0.", name)
        name = re.sub(r"(blocks\.\d+)\.block\.", r"\1.resnets.", name)
        name = re.sub(r"(blocks\.\d+)\.attn\.", r"\1.attentions.", name)
        name = re.sub(r"(\.attentions\.\d+)\.(norm|q|k|v|proj_out)\.", lambda m: f"{m[1]}.{_ATTENTION[m[2]]}.", name)
        named[key] = name
    return named


def unet_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of an LDM U-Net under diffusers' names."""
    return _renamed(state, unet_names(state))


def autoencoder_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of an LDM autoencoder under diffusers' names; attention's 1x1 convolutions become matrices there."""
    renamed = _renamed(state, autoencoder_names(state))
    return {key: value[..., 0, 0] if ".attentions." in key and value.ndim == 4 else value for key, value in renamed.items()}


def hifigan_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a HiFi-GAN without weight norm under the names of transformers' ``SpeechT5HifiGan``.

    That class also holds a mean and a scale of its input, which stay unused here.
    """
    renamed = {re.sub(r"^ups\.", "upsampler.", key): value for key, value in state.items()}
    first = state.get("conv_pre.weight")
    width = 0 if first is None else first.shape[1]  # of a file without a vocoder the caller will say that everything is missing
    return {**renamed, "mean": torch.zeros(width), "scale": torch.ones(width)}


def without_weight_norm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``weight_g`` [N, 1, 1] and ``weight_v`` [N, M, K] folded into ``weight`` = g * v / |v|, norms over all but the first axis."""
    plain = {key: value for key, value in state.items() if not key.endswith((".weight_g", ".weight_v"))}
    for key, v in state.items():
        if key.endswith(".weight_v"):
            g = state[key.removesuffix("v") + "g"]
            plain[key.removesuffix("_v")] = g * v / v.flatten(1).norm(dim=1).view(-1, *[1] * (v.ndim - 1))
    return plain


def below(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """What lies under ``prefix``, without it."""
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


class LdmDdim(DDIMScheduler):
    """DDIM with that codebase's steps: every ``1000 // steps``-th one from 1 on, also where that makes more of them than asked.

    >>> schedule = LdmDdim()
    >>> schedule.set_timesteps(6)
    >>> schedule.timesteps.tolist()
    [997, 831, 665, 499, 333, 167, 1]
    """

    def set_timesteps(self, num_inference_steps: int, device: Any = None) -> None:
        super().set_timesteps(num_inference_steps, device)
        last = self.config.num_train_timesteps
        # Some numbers of steps (3, 9, 27, …) would come out at 1000 itself, where the official code stops with an error.
        self.timesteps = torch.arange(1, last, last // num_inference_steps, device=device).flip(0)


def _renamed(state: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    return {names.get(key, key): value for key, value in state.items()}
