"""AudioMAE: sizes, positions and pooling against closed forms."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from encoders.audiomae import AudioMae, AudioMaeConfig, LoaExtractor, save_audiomae, sincos_positions

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
