"""AudioMAE: sizes, positions and pooling against closed forms; the public one against the official code."""

from __future__ import annotations

import gzip
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from encoders.audiomae import (
    PUBLIC,
    PUBLIC_PREFIX,
    AudioMae,
    AudioMaeConfig,
    LoaExtractor,
    PublicAudioMae,
    public_features,
    read_public,
    save_audiomae,
    sincos_positions,
)
from encoders.base import EncoderMissing
from encoders.weights import WeightsError, compare, shapes_of
from media.audio import Audio
from tests.drawn import draw_into, drawn_sound
from tests.encoder_fakes import PARITY

SMALL = AudioMaeConfig(frames=128, bins=64, width=16, depth=3, heads=2, averaged_blocks=2)


def mel(seed: int = 0, count: int = 1, config: AudioMaeConfig = SMALL) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(count, config.frames, config.bins, generator=draw) * config.mel_std + config.mel_mean


@pytest.fixture(scope="module")
def model() -> AudioMae:
    torch.manual_seed(0)
    return AudioMae(SMALL).eval().requires_grad_(False)


@pytest.mark.parametrize(
    ("config", "grid", "tokens"),
    [
        (AudioMaeConfig(), (32, 4), 8),  # nano: 5.12 s
        (AudioMaeConfig(frames=1024, bins=128, width=768, depth=12, heads=12, pool=(8, 8)), (64, 8), 8),  # the paper's
        (SMALL, (8, 4), 2),
    ],
)
def test_the_number_of_loa_tokens_follows_from_grid_and_pool(config: AudioMaeConfig, grid: tuple[int, int], tokens: int) -> None:
    assert config.grid == grid and config.tokens == tokens


def test_loa_is_the_mean_of_average_and_maximum_over_each_cell(model: AudioMae) -> None:
    x = mel()
    features = model.features(x)[0].reshape(8, 4, 16)  # time-major patches
    for token in range(2):
        cell = features[4 * token : 4 * token + 4].reshape(-1, 16)
        assert torch.allclose(model(x)[0, token], (cell.mean(0) + cell.amax(0)) / 2, atol=1e-6)


def test_features_are_the_mean_of_the_normalised_last_blocks(model: AudioMae) -> None:
    x = mel(1)
    blocks = model.blocks_out(model.patches(x))
    assert len(blocks) == 3 and blocks[0].shape == (1, 33, 16)
    by_hand = (model.norm(blocks[1]) + model.norm(blocks[2])) / 2
    assert torch.allclose(model.features(x), by_hand[:, 1:], atol=1e-6)


def test_patches_are_time_major(model: AudioMae) -> None:
    quiet = torch.full((1, 128, 64), SMALL.mel_mean)
    loud = quiet.clone()
    loud[:, 16:32, 48:64] += 5  # second cell in time, last in frequency
    changed = (model.patches(loud) - model.patches(quiet)).abs().sum(-1)[0].nonzero().flatten()
    assert changed.tolist() == [1 * 4 + 3]


def test_positions_are_sines_and_cosines_of_frequency_then_time() -> None:
    width, table = 16, sincos_positions((3, 2), 16)
    assert table.shape == (7, width) and not table[0].any()
    for time in range(3):
        for frequency in range(2):
            row = table[1 + time * 2 + frequency]
            for half, position in ((0, frequency), (8, time)):
                for k in range(4):
                    angle = position / 10000 ** (k / 4)
                    assert float(row[half + k]) == pytest.approx(math.sin(angle), abs=1e-6)
                    assert float(row[half + 4 + k]) == pytest.approx(math.cos(angle), abs=1e-6)


def test_the_extractor_reads_what_was_saved_one_row_at_a_time(model: AudioMae, tmp_path: Path) -> None:
    save_audiomae(model, tmp_path)
    extractor = LoaExtractor(tmp_path)
    assert extractor.model is None
    both = extractor.encode([mel(0)[0], mel(1)[0]])
    assert both.states.shape == (2, 2, 16) and bool(both.mask.all()) and both.name == "loa"
    assert torch.equal(extractor.encode([mel(1)[0]]).states[0], both.states[1])
    assert torch.allclose(both.states[0], model(mel(0))[0], atol=0.02)  # weights are kept in float16
    assert extractor.model is not None and extractor.model.config == SMALL


# -- the public ViT-B -----------------------------------------------------------------------------------------------------------------
RECORDED = np.load(PARITY / "audiomae.npz")
SOUNDS = [Audio(drawn_sound(16_000, 12.0, 1, 70), 16_000), Audio(drawn_sound(44_100, 3.0, 2, 71), 44_100)]
DRAWN = replace(PUBLIC, width=48, heads=3)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recorded encoder where a whole AudioLDM 2 file holds it, between its decoder and other parts."""
    model = AudioMae(DRAWN)
    draw_into(model)
    # The official class makes its table for a grid that is turned by 90 degrees, 8 x 64, and lays it over 64 x 8 patches. The table
    # comes with the file, so that what was trained is what is read.
    model.pos_embed.data.copy_(sincos_positions((8, 64), 48)[None])
    state = {PUBLIC_PREFIX + key: value for key, value in model.state_dict().items()}
    state |= {PUBLIC_PREFIX + key: torch.ones(3) for key in ("mask_token", "decoder_embed.weight", "decoder_blocks.0.norm1.bias")}
    path = tmp_path_factory.mktemp("audioldm2") / "audioldm2-full.pth"
    torch.save({"state_dict": {**state, "model.diffusion_model.out.0.weight": torch.ones(3)}, "global_step": 1}, path)
    return path


@pytest.mark.parity
def test_the_public_encoder_finds_its_keys_in_every_audioldm2_file() -> None:
    with gzip.open(PARITY / "audiomae_in_audioldm2_full.json.gz") as file:
        manifest = {key.removeprefix(PUBLIC_PREFIX): tuple(shape) for key, shape in json.load(file).items()}
    with torch.device("meta"):
        model = AudioMae(PUBLIC)
    wanted = {key: shape for key, shape in manifest.items() if not key.startswith(("decoder", "mask_token"))}
    assert len(wanted) == 150 and not compare(wanted, shapes_of(model))
    assert PUBLIC.grid == (64, 8) and PUBLIC.tokens == 8


@pytest.mark.parity
def test_features_of_sounds_equal_the_official_code() -> None:
    features = torch.stack([public_features(sound) for sound in SOUNDS])[:, ::64]
    assert np.abs((features.numpy() - PUBLIC.mel_mean) / PUBLIC.mel_std - RECORDED["features"]).max() < 1e-4


@pytest.mark.parity
@pytest.mark.parametrize("tokens", [8, 512])
def test_public_loa_equals_the_official_code(tokens: Literal[8, 512], checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("encoders.audiomae.PUBLIC", DRAWN)
    monkeypatch.setattr(read_public, "__defaults__", (DRAWN,))
    loa = PublicAudioMae(checkpoint, tokens).encode(SOUNDS)
    rows = loa.states.numpy() if tokens == 8 else loa.states.numpy()[:, ::16]
    assert loa.states.shape == (2, tokens, 48) and RECORDED[f"loa_{tokens}"].std() > 0.5
    assert np.abs(rows - RECORDED[f"loa_{tokens}"]).max() < 1e-4


def test_an_extracted_folder_hears_what_the_whole_checkpoint_hears(checkpoint: Path, tmp_path: Path) -> None:
    model = read_public(checkpoint, DRAWN)
    save_audiomae(model, tmp_path)
    heard = PublicAudioMae(tmp_path).encode(SOUNDS[1:]).states
    whole = model(public_features(SOUNDS[1])[None])
    assert heard.shape == (1, 8, 48) and torch.allclose(heard, whole, atol=0.02)  # weights are kept in float16
    assert PublicAudioMae(tmp_path, 512).encode(SOUNDS[1:]).states.shape == (1, 512, 48)


def test_level_and_offset_do_not_matter_and_a_short_sound_is_followed_by_silence() -> None:
    sound = drawn_sound(16_000, 2.0, 1, 1)
    x = public_features(Audio(sound, 16_000))
    again = public_features(Audio((0.1 * sound + 0.2).astype(np.float32), 16_000))
    assert x.shape == (1024, 128) and torch.allclose(x[:190], again[:190], atol=1e-2)
    silence = math.log(torch.finfo(torch.float32).eps)
    assert torch.allclose(x[210:1022], torch.full((812, 128), silence)) and not x[1022:].any()


def test_silence_stays_finite() -> None:
    assert torch.isfinite(public_features(Audio(np.zeros((1, 100), np.float32), 8_000))).all()


def test_a_file_of_another_model_is_named(tmp_path: Path) -> None:
    torch.save({"unet.weight": torch.ones(2)}, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match=r"AudioMAE in x\.pth does not fit: the file belongs to another model"):
        read_public(tmp_path / "x.pth")
    with pytest.raises(EncoderMissing, match=r"inside audioldm2-full\.pth"):
        PublicAudioMae(tmp_path / "none").load()
