"""TangoFlux against the official code: the same weights, words and noise, run side by side once and recorded."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from configs.schema import preset
from generators.base import GenerationRequest
from generators.tangoflux import TangoFlux
from media.refs import MediaStore
from tests.library_fakes import official_tangoflux

RECORDED = Path(__file__).parents[1] / "data" / "parity" / "tangoflux.npz"


@pytest.fixture(scope="module")
def flux(tmp_path_factory: pytest.TempPathFactory) -> TangoFlux:
    folder = tmp_path_factory.mktemp("tangoflux")
    options = official_tangoflux(folder)
    backend = TangoFlux("tangoflux", {**options, "checkpoint": str(folder)}, MediaStore(folder / "store"), folder)
    backend.load()
    return backend


@pytest.mark.parity
@pytest.mark.parametrize("case", [0, 1])
def test_tangoflux_flows_where_the_official_code_flows(flux: TangoFlux, case: int) -> None:
    kept = np.load(RECORDED)
    asked = GenerationRequest(**json.loads(str(kept[f"asked{case}"])))
    noise = torch.randn(1, 12, 64, generator=torch.Generator().manual_seed(asked.seed))
    assert torch.equal(noise, torch.from_numpy(kept[f"noise{case}"]))
    made = flux.flow(asked, noise).numpy()
    assert np.abs(kept[f"latent{case}"] - kept[f"noise{case}"]).max() > 1  # it went somewhere
    assert np.abs(made - kept[f"latent{case}"]).max() < 1e-4


def test_the_row_is_stereo_at_44100_hz(flux: TangoFlux) -> None:
    made = flux._make(GenerationRequest(prompt="rain", seconds=1.0, steps=2), lambda *_: None)
    assert made.shape[0] == 2 and np.abs(made[0] - made[1]).max() > 1e-4
    assert preset("tangoflux").sample_rate == 44_100 == TangoFlux.Options().sample_rate


def test_the_length_that_is_asked_for_is_read(flux: TangoFlux) -> None:
    noise = torch.randn(1, 12, 64, generator=torch.Generator().manual_seed(0))
    short, long = (flux.flow(GenerationRequest(prompt="rain", seconds=s, steps=2), noise) for s in (1.0, 5.0))
    assert float((short - long).abs().max()) > 1e-3
