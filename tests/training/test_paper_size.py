"""The recipes at the paper's size, built without memory: every part has the number of parameters of the public checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from configs.schema import TrainConfig, train_config
from training.audiomae import build_audiomae
from training.autoencoder import build_vae
from training.latent import build_unet
from training.translator import build_writer
from training.vocoder import build_vocoder


def count(build: Callable[[], Any]) -> int:
    with torch.device("meta"):
        parameters = list(build().parameters())
    assert all(parameter.device.type == "meta" for parameter in parameters)
    return sum(parameter.numel() for parameter in parameters)


@pytest.fixture(scope="module", params=["audioldm2", "audioldm2-large"])
def recipe(request: pytest.FixtureRequest) -> TrainConfig:
    return train_config(request.param)


@pytest.mark.parametrize(("name", "parameters"), [("audioldm2", 346_943_496), ("audioldm2-large", 718_012_296)])
def test_the_u_nets_have_the_papers_size_to_the_number(name: str, parameters: int) -> None:
    assert count(lambda: build_unet(train_config(name).latent.model)) == parameters


def test_gpt2_and_its_projection(recipe: TrainConfig) -> None:
    size = recipe.translator.model
    assert count(lambda: build_writer(size).language_model) == 124_439_808
    assert count(lambda: build_writer(size).projection) == 1_184_256


def test_autoencoder(recipe: TrainConfig) -> None:
    assert count(lambda: build_vae(recipe.vae.model)) == 55_376_873


def test_vocoder(recipe: TrainConfig) -> None:
    assert count(lambda: build_vocoder(recipe.vocoder.model)) == 55_264_897


def test_audiomae_is_a_vit_b_that_writes_eight_tokens(recipe: TrainConfig) -> None:
    with torch.device("meta"):
        encoder = build_audiomae(recipe.audiomae).encoder
    assert encoder.pos_embed.shape == (1, 513, 768) and encoder.config.tokens == 8 == recipe.translator.model.tokens
    # ViT-B as in He et al. 2022: per block 12 D^2 + 13 D; patches of one channel, class token, positions, last norm.
    width = 768
    assert (
        sum(p.numel() for p in encoder.parameters())
        == 12 * (12 * width**2 + 13 * width) + 257 * width + width + 513 * width + 2 * width
    )


def test_loa_reaches_the_u_net_in_the_width_that_gpt2_writes(recipe: TrainConfig) -> None:
    for block in recipe.latent.model.cross_attention_dim:
        assert block[:3] == (None, recipe.translator.model.width, recipe.translator.model.second)
