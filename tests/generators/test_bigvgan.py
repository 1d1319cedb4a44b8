"""BigVGAN against the official generator's waveforms, and its parts against closed forms and SciPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from scipy.signal import firwin, kaiser_atten, kaiser_beta
from torch import nn

from configs.registry import ConfigError
from encoders.weights import WeightsError, compare, load_into, read_state_dict, shapes_of
from generators.bigvgan import AntiAliased, BigVgan, BigVganConfig, Snake, empty_bigvgan, lowpass
from generators.ldm import without_weight_norm
from tests.ports import BIGVGAN, drawn_state, empty_state, furthest, keys, reference


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("bigvgan")
    (made / "args.yml").write_text(yaml.safe_dump(BIGVGAN))
    torch.save({"generator": drawn_state(keys("bigvgan"))}, made / "best_netG.pt")
    return made


def _read(folder: Path) -> BigVgan:
    made = empty_bigvgan(folder)
    load_into(made, without_weight_norm(read_state_dict(folder / "best_netG.pt")), where="the file")
    return made


@pytest.mark.parity
@pytest.mark.parametrize("system", ["make-an-audio", "make-an-audio-2"])
def test_the_official_mel_gives_the_official_waveform(folder: Path, system: str) -> None:
    _, arrays = reference("make_an_audio_2" if system.endswith("2") else "make_an_audio_1")
    mel = torch.from_numpy(arrays["mel"]).reshape(1, 80, -1)
    with torch.no_grad():
        made = _read(folder)(mel)
    assert made.shape == (1, mel.shape[-1] * 256) and np.abs(arrays["wav"]).std() > 0.01
    assert furthest(made, arrays["wav"]) < 1e-6


@pytest.mark.parity
def test_keys_and_shapes_of_make_an_audios_public_vocoder() -> None:
    with torch.device("meta"):
        made = BigVgan(BigVganConfig())
    assert str(compare(shapes_of(made), shapes_of(without_weight_norm(empty_state("bigvgan"))))) == "everything fits"


def test_the_filter_is_scipys_kaiser_window_design() -> None:
    beta = kaiser_beta(kaiser_atten(6, 4 * 0.3))
    assert np.abs(lowpass().numpy().ravel() - firwin(12, 0.5, window=("kaiser", beta))).max() < 1e-7
    gentle = firwin(6, 0.5, window=("kaiser", kaiser_beta(kaiser_atten(3, 4 * 0.5))))  # another branch of the rule
    assert np.abs(lowpass(6, 0.25, 0.5).numpy().ravel() - gentle).max() < 1e-7


def test_snake_is_its_formula_and_adds_what_is_never_negative() -> None:
    act = Snake(3, own_beta=True, log_scale=True)
    with torch.no_grad():
        act.alpha.copy_(torch.tensor([-1.0, 0.0, 1.0]))
        act.beta.copy_(torch.tensor([0.5, 0.0, -0.5]))  # type: ignore[union-attr]
    x = torch.randn(2, 3, 50, generator=torch.Generator().manual_seed(0))
    alpha, beta = np.exp([-1, 0, 1])[:, None], np.exp([0.5, 0, -0.5])[:, None]
    assert np.allclose(act(x).detach(), x.numpy() + np.sin(alpha * x.numpy()) ** 2 / beta, atol=1e-6)
    plain = Snake(3, own_beta=False, log_scale=False)
    assert torch.allclose(plain(x), x + torch.sin(x) ** 2, atol=1e-6)


def test_overtones_above_the_limit_are_cut_off_and_not_folded_back() -> None:
    """A cubed tone of 0.24 of the sample rate has an overtone at 0.72, which would fold to 0.28."""

    class Cube(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x**3

    tone = torch.sin(2 * torch.pi * 0.24 * torch.arange(1000))[None, None]
    folded = [float(np.abs(np.fft.rfft(np.hanning(1000) * y[0, 0].numpy()))[280]) for y in (tone**3, AntiAliased(Cube())(tone))]
    assert folded[1] < 0.1 * folded[0]
    kept = AntiAliased(nn.Identity())(torch.ones(1, 2, 40))
    assert torch.allclose(kept, torch.ones(1, 2, 40), atol=0.01)


def test_folding_weight_norm_is_what_torch_computes() -> None:
    layer = nn.utils.parametrizations.weight_norm(nn.ConvTranspose1d(4, 6, 3))
    held = layer.state_dict()
    g, v = held["parametrizations.weight.original0"], held["parametrizations.weight.original1"]
    folded = without_weight_norm({"up.weight_g": g * 1.7, "up.weight_v": v, "up.bias": layer.bias})
    assert set(folded) == {"up.weight", "up.bias"} and torch.allclose(folded["up.weight"], layer.weight * 1.7, atol=1e-6)


def test_another_network_is_refused_by_name(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "args.yml").write_text(yaml.safe_dump({**BIGVGAN, "resblock": "2"}))
    with pytest.raises(ConfigError, match="resblock"):
        _read(tmp_path)
    (tmp_path / "args.yml").write_text(yaml.safe_dump({**BIGVGAN, "upsample_initial_channel": 128}))
    torch.save({"generator": drawn_state(keys("bigvgan"))}, tmp_path / "best_netG.pt")
    with pytest.raises(WeightsError, match=r"another size of this model.*conv_pre\.bias is \[64\] instead of \[128\]"):
        _read(tmp_path)
