"""Rows of diffusers: the solver that needs no torchsde, folders that are refused, pictures and videos, numbers and devices."""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from configs.registry import resolve
from configs.schema import preset
from encoders.weights import WeightsError
from generators.base import Backend, ConfigError, GenerationRequest
from generators.fastspeech2 import arpabet
from generators.folder import FolderBackend
from media.refs import MediaStore
from tests.library_fakes import small

ASK = GenerationRequest(prompt="a dog barks", seconds=1.0, steps=2)


def made(name: str, home: Path, **more: Any) -> FolderBackend:
    row = preset(name)
    folder = home / "checkpoints" / name
    options = {**row.options, **(small(name, folder) if not folder.is_dir() else {}), **more}
    backend: FolderBackend = resolve("loa.backends", row.backend or "")(
        name=name, options=options, store=MediaStore(home / "store"), home=home
    )
    return backend


@pytest.mark.parity
def test_stable_audio_open_steps_as_diffusers_own_solver_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchsde", ModuleType("torchsde"))  # imported by diffusers for the noise, which is given here
    from diffusers.schedulers.scheduling_cosine_dpmsolver_multistep import CosineDPMSolverMultistepScheduler

    from generators.cosine_dpm import CosineDpm

    judge, own = CosineDPMSolverMultistepScheduler(), CosineDpm()
    for scheduler in (judge, own):
        scheduler.set_timesteps(12)
    assert torch.allclose(judge.timesteps, own.timesteps) and torch.allclose(judge.sigmas, own.sigmas)
    start = torch.randn(1, 4, 30, generator=torch.Generator().manual_seed(0)) * judge.init_noise_sigma
    assert float(judge.init_noise_sigma) == pytest.approx(float(own.init_noise_sigma))
    judged, mine = start, start.clone()
    for index, time in enumerate(judge.timesteps):
        noise = torch.randn(start.shape, generator=torch.Generator().manual_seed(index))
        judge.noise_sampler = lambda *_, noise=noise: noise
        own.generator = torch.Generator().manual_seed(index)
        network = [torch.tanh(scheduler.scale_model_input(x, time)) for scheduler, x in ((judge, judged), (own, mine))]
        judged = judge.step(network[0], time, judged).prev_sample
        mine = own.step(network[1], own.timesteps[index], mine).prev_sample
        assert float((judged - mine).abs().max()) <= 1e-5 * float(judged.abs().max())


def test_a_pickle_in_a_folder_never_runs(tmp_path: Path) -> None:
    backend = made("stable-audio-open", tmp_path)
    part = backend.folder / "vae"
    (part / "diffusion_pytorch_model.safetensors").unlink()
    canary = tmp_path / "sang"

    class Canary:
        def __reduce__(self) -> Any:
            return Path.touch, (canary,)

    (part / "diffusion_pytorch_model.bin").write_bytes(pickle.dumps({"x": Canary()}))
    with pytest.raises(WeightsError, match=r"nothing of it ran|cannot be read"):
        backend.load()
    assert not canary.exists()


@pytest.mark.parametrize("said", [["os", "system"], ["tests.fakes", "Anything"], ["builtins", "eval"], ["diffusers", "NoSuchThing"]])
def test_an_index_that_names_anything_but_diffusers_and_transformers_is_refused(tmp_path: Path, said: list[str]) -> None:
    backend = made("stable-audio-open", tmp_path)
    path = backend.folder / "model_index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"vae": said}))
    with pytest.raises(ConfigError, match=said[1]):
        backend.load()


def test_a_missing_key_is_named_where_the_library_would_draw_it_at_random(tmp_path: Path) -> None:
    backend = made("stable-audio-open", tmp_path)
    path = backend.folder / "transformer" / "diffusion_pytorch_model.safetensors"
    state = load_file(path)
    gone = next(key for key in state if key.endswith("to_q.weight"))
    save_file({key: value for key, value in state.items() if key != gone} | {"more": torch.zeros(1)}, path, metadata={"format": "pt"})
    with pytest.raises(WeightsError, match=rf"transformer does not fit: .*missing \(1\): {gone}.*not expected \(1\): more"):
        backend.load()
    assert [part for part, said in backend.misfits().items() if said] == ["transformer"]


def test_an_incomplete_folder_says_what_lacks(tmp_path: Path) -> None:
    backend = made("riffusion", tmp_path)
    (backend.folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    state = backend.readiness()
    assert not state.ready and "unet/*.safetensors" in state.reason and "loa models pull riffusion" in state.reason


def test_the_numbers_that_a_network_computes_in_are_chosen_per_device_and_signed(tmp_path: Path) -> None:
    exact = made("stable-audio-3", tmp_path)
    rough = made("stable-audio-3", tmp_path, **{"dtype": {"cpu": "bf16"}, "limits": exact.options.limits})  # type: ignore[attr-defined]
    assert exact.fingerprint() != rough.fingerprint() and (exact.precision, rough.precision) == ("fp32", "bf16")
    rough.load()
    assert rough._pipe.transformer.dtype == torch.bfloat16  # type: ignore[attr-defined]
    first, second = (b._synthesise([ASK], 1, lambda _: None, lambda: False)[0].samples for b in (rough, _loaded(exact)))
    assert np.abs(first - second).max() > 0 and np.corrcoef(first.ravel(), second.ravel())[0, 1] > 0.9


def _loaded(backend: Backend) -> Backend:
    backend.load()
    return backend


def test_a_picture_is_drawn_from_words_and_seed(tmp_path: Path) -> None:
    backend = made("stable-diffusion", tmp_path)
    first, again, other = (backend.generate([ASK.model_copy(update={"seed": seed})])[0] for seed in (1, 1, 2))
    assert first.media == again.media != other.media and first.media.kind == "image"
    picture = Image.open(backend.store.path(first.media))
    assert picture.size == (16, 16) and picture.format == "PNG" and not first.guard.silent


@pytest.mark.parametrize("name", ["stable-diffusion", pytest.param("text-to-video", marks=pytest.mark.slow)])
def test_what_is_drawn_is_the_same_alone_and_among_eight(name: str, tmp_path: Path) -> None:
    backend = made(name, tmp_path)
    asks = [ASK.model_copy(update={"seed": seed, "seconds": 0.5}) for seed in range(8)]
    alone = backend.generate(asks[5:6])[0].media
    among = [one.media for one in backend.generate(asks)]
    assert among[5] == alone and len(set(among)) == 8


def test_a_video_has_the_length_that_was_asked_for(tmp_path: Path) -> None:
    backend = made("text-to-video", tmp_path)
    done = backend.generate([ASK])[0]
    assert done.media.kind == "video" and done.seconds == 1.0
    with av.open(str(backend.store.path(done.media))) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 8 and frames[0].shape == (16, 32, 3)


def test_transcripts_are_read_as_arpabet_with_stress() -> None:
    from hibari.g2p import G2P

    assert arpabet(G2P(british=False)("The church.")) == ["DH", "AH0", "CH", "ER1", "CH", "."]
