"""Names of latent-diffusion checkpoints: onto diffusers' and transformers' modules, key by key and number by number."""

from __future__ import annotations

import re

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint
from torch import nn

from encoders.weights import shapes_of
from generators.ldm import LdmDdim, autoencoder_names, autoencoder_state, below, hifigan_state, unet_names, unet_state
from tests.ports import drawn_state, empty_state, keys


@pytest.mark.parity
def test_a_u_net_is_renamed_as_diffusers_own_script_renames_it() -> None:
    """That script wants the configuration; here the levels are read off the keys."""
    state = below(drawn_state(keys("maa1")), "model.diffusion_model.")
    theirs = convert_ldm_unet_checkpoint(
        {f"model.diffusion_model.{key}": value for key, value in state.items()}, {"layers_per_block": 2, "class_embed_type": None}
    )
    ours = unet_state(state)
    assert set(ours) == set(theirs) and all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_several_transformers_a_block_are_counted_through() -> None:
    blocks = [f"input_blocks.{block}.{place}.norm.weight" for block in (4, 5) for place in (1, 2, 3)]
    named = unet_names([*blocks, "input_blocks.3.0.op.weight", "output_blocks.2.3.norm.bias", "middle_block.2.norm.weight"])
    assert [named[key] for key in blocks] == [f"down_blocks.1.attentions.{index}.norm.weight" for index in range(6)]
    assert named["input_blocks.3.0.op.weight"] == "down_blocks.0.downsamplers.0.conv.weight"
    assert named["middle_block.2.norm.weight"] == "mid_block.attentions.1.norm.weight"


def test_a_u_net_without_a_way_down_is_one_level() -> None:
    small = ["input_blocks.0.0.weight", "input_blocks.1.0.in_layers.0.weight", "input_blocks.2.0.in_layers.0.weight"]
    assert [*unet_names(small).values()] == [
        "conv_in.weight",
        "down_blocks.0.resnets.0.norm1.weight",
        "down_blocks.0.resnets.1.norm1.weight",
    ]


def test_no_two_keys_get_one_name_and_unknown_keys_keep_theirs() -> None:
    for name, prefix, rename in (
        ("maa1", "model.diffusion_model.", unet_names),
        ("maa1", "first_stage_model.", autoencoder_names),
        ("tango_vae", "", autoencoder_names),
    ):
        named = rename(list(below(empty_state(name), prefix)))
        assert len(set(named.values())) == len(named)
    assert unet_names(["label_emb.0.weight"]).get("label_emb.0.weight", "label_emb.0.weight") == "label_emb.0.weight"
    assert autoencoder_names(["loss.logvar"]) == {"loss.logvar": "loss.logvar"}


def test_attentions_convolutions_become_matrices_and_nothing_else_does() -> None:
    state = autoencoder_state(below(empty_state("maa1"), "first_stage_model."))
    assert state["encoder.mid_block.attentions.0.to_q.weight"].shape == (512, 512)
    assert state["quant_conv.weight"].shape == (8, 8, 1, 1)
    assert sum(bool(re.search(r"attentions\.\d\.to_", key)) for key in state) == 8 * (4 + 6 + 1 + 1)  # down, up, middle twice


def test_the_decoders_levels_are_turned_around() -> None:
    """The level nearest to the mel is ``up.0`` there and the last of ``up_blocks`` in diffusers."""
    vae = AutoencoderKL(
        in_channels=1,
        out_channels=1,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(32, 32, 64),
        layers_per_block=1,
        latent_channels=8,
    )
    held = {key: value for key, value in drawn_state(keys("tango_vae")).items() if not key.startswith("vocoder.")}
    state = autoencoder_state(held)
    assert torch.equal(state["decoder.up_blocks.2.resnets.0.conv1.weight"], held["decoder.up.0.block.0.conv1.weight"])
    assert shapes_of(vae) == {key: shapes_of(state)[key] for key in shapes_of(vae)} and len(state) == len(shapes_of(vae))


def test_a_hifigan_keeps_its_numbers_and_gets_the_mean_and_scale_that_do_nothing() -> None:
    held = below(drawn_state(keys("tango_vae")), "vocoder.")
    state = hifigan_state(held)
    assert torch.equal(state["upsampler.0.weight"], held["ups.0.weight"]) and len(state) == len(held) + 2
    assert torch.equal(state["mean"], torch.zeros(64)) and torch.equal(state["scale"], torch.ones(64))


def test_a_prefix_is_taken_off_where_it_stands() -> None:
    layer = nn.Linear(1, 1).state_dict()
    assert set(below({f"a.{key}": value for key, value in layer.items()} | {"b.weight": layer["bias"]}, "a.")) == {"weight", "bias"}


def test_the_unet_class_takes_the_renamed_state_whole() -> None:
    unet = UNet2DConditionModel(
        in_channels=4,
        out_channels=4,
        down_block_types=("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2,
        block_out_channels=(32, 64),
        layers_per_block=2,
        attention_head_dim=8,
        cross_attention_dim=24,
    )
    unet.load_state_dict(unet_state(below(drawn_state(keys("maa1")), "model.diffusion_model.")), strict=True)


@pytest.mark.parametrize("steps", [1, 2, 7, 30, 100, 150, 500, 999])
def test_steps_are_spaced_as_the_codebase_spaces_them(steps: int) -> None:
    schedule = LdmDdim(clip_sample=False, steps_offset=1, set_alpha_to_one=False)
    schedule.set_timesteps(steps)
    official = [t + 1 for t in range(0, 1000, 1000 // steps)]
    assert schedule.timesteps.tolist() == [t for t in official[::-1] if t < 1000]
    made = schedule.step(torch.zeros(1, 2), schedule.timesteps[-1], torch.ones(1, 2)).prev_sample
    ends = schedule.alphas_cumprod[0] / schedule.alphas_cumprod[1]  # the last step ends at the first noise level, not at none
    assert made == pytest.approx(torch.ones(1, 2) * ends.sqrt())
