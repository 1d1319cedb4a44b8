"""TANGO against arrays of the official code: masks, velocity prediction, ancestral noise, mel, waveform."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import diffusers.schedulers.scheduling_ddpm as ddpm
import numpy as np
import pytest
import torch
from transformers import T5Config

from configs.registry import ConfigError
from configs.schema import presets
from encoders.weights import WeightsError, compare, shapes_of
from generators.base import GenerationRequest, UnsupportedRequest
from generators.engine import Job, denoise
from generators.tango import Tango
from media.audio import Audio, read_audio
from media.mel import MelSpec, log_mel
from media.refs import MediaStore
from tests.drawn import drawn_sound
from tests.ports import assert_alone_as_among_eight, empty_state, furthest, keys, reference, write_t5, write_tango

ROWS = ["tango", "tango2"]
TOLERANCE = 1e-4
Make = Callable[..., Tango]


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """``build("tango")``: a backend over a small official folder."""
    home = tmp_path_factory.mktemp("home")
    store = MediaStore(home / "store")
    for name in ROWS:
        write_tango(home / "checkpoints" / name)
    return lambda name="tango", **options: Tango(name, {"latent_frames": 32, **options}, store, home)


@pytest.fixture(scope="module")
def loaded(build: Make) -> Tango:
    backend = build()
    backend.load()
    return backend


# -- the official code -------------------------------------------------------------------------------------------------


@pytest.mark.parity
@pytest.mark.parametrize("name", ROWS)
def test_every_stage_gives_what_the_official_code_gives(name: str, build: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two prompts of different length in one batch: officially padded to the longer one, here to T5's limit."""
    backend = build(name)
    backend.load()
    info, wanted = reference("tango")
    prompts, steps, guidance = info["prompts"], info["steps"], info["guidance"]
    # The recording drew each prompt's noise from its own stream: first the start, then one step at a time.
    streams: list[Any] = [np.random.default_rng([info["noise_seed"], row]) for row in range(len(prompts))]

    def draw(shape: Sequence[int], generator: Any, **_: Any) -> torch.Tensor:
        return torch.from_numpy(generator.standard_normal(shape[1:]).astype(np.float32))[None]

    monkeypatch.setattr(ddpm, "randn_tensor", draw)
    null, second = backend.read_text("")
    jobs, worst = [], {}
    for row, (prompt, stream) in enumerate(zip(prompts, streams, strict=True)):
        text, _ = backend.read_text(prompt)
        for kind, condition, at in (("null", null, row), ("text", text, len(prompts) + row)):
            real = wanted["mask"][at]
            assert int(condition.mask.sum()) == int(real.sum())
            worst[f"{kind} {row}"] = furthest(condition.states[0, condition.mask[0]], wanted["embeds"][at][real])
        noise = torch.from_numpy(stream.standard_normal(backend.noise_shape(0.3)).astype(np.float32))
        jobs.append(Job(noise, text, second, null, second, steps, guidance, generator=stream))
    calls: list[tuple[float, torch.Tensor]] = []
    network = backend.network

    def watched(z: torch.Tensor, t: torch.Tensor, **conditions: Any) -> Any:
        out = network(z, t, **conditions)
        calls.append((float(t[0]), out.sample))
        return out

    latents = denoise(watched, jobs, backend.scheduler, rows=2, window=None, overlap=0)  # type: ignore[arg-type]
    assert [t for t, _ in calls] == list(wanted["timesteps"])
    worst["unet_first"] = furthest(calls[0][1], wanted["unet_first"])
    worst["latents"] = furthest(torch.stack(latents), wanted["latents"])
    with torch.no_grad():
        mel = backend._parts.vae.decode(torch.stack(latents) / backend._vae_file.scale_factor).sample
        spread = backend._parts.vae.encode(_noise(info["vae_seed"], (1, 1, 32, 64))).latent_dist
    worst["mel"] = furthest(mel, wanted["mel"])
    worst["vae_mean"], worst["vae_std"] = furthest(spread.mean, wanted["vae_mean"]), furthest(spread.std, wanted["vae_std"])
    for row, latent in enumerate(latents):
        wave = backend.decode(latent).samples[0]
        worst[f"wav {row}"] = furthest(wave, wanted["wav"][row])
        assert np.abs(np.trunc(wave[:2000] * 32_768) - wanted["wav_int16"][row]).max() <= 1
    assert {stage: error for stage, error in worst.items() if not error < TOLERANCE} == {}


def _noise(seed: int, shape: tuple[int, ...]) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


@pytest.mark.parity
@pytest.mark.parametrize("name", ROWS)
def test_the_schedule_is_that_of_the_repository_that_is_gone(name: str, build: Make) -> None:
    _, wanted = reference("tango")
    schedule = build(name).scheduler()
    schedule.set_timesteps(100)
    assert schedule.timesteps.tolist() == list(wanted["timesteps_100"]) == list(range(991, 0, -10))
    assert furthest(schedule.alphas_cumprod[::111], wanted["alphas_cumprod"]) < 1e-6


@pytest.mark.parity
@pytest.mark.parametrize("name", ROWS)
def test_the_mel_is_the_one_that_the_official_filterbank_computes(name: str) -> None:
    info, wanted = reference("tango")
    sound = drawn_sound(16_000, 0.5, 1, info["sound_seed"])[0]
    assert np.abs(log_mel(sound, MelSpec()) - wanted["stft_mel"].T[: len(sound) // 160]).max() < TOLERANCE, name


@pytest.mark.parity
@pytest.mark.parametrize("name", ROWS)
def test_the_true_size_takes_every_key_of_the_public_files(name: str, tmp_path: Path) -> None:
    write_t5(tmp_path / "flan-t5-large")
    T5Config(
        d_model=1024, d_kv=64, d_ff=2816, num_layers=24, num_heads=16, feed_forward_proj="gated-gelu", tie_word_embeddings=False
    ).save_pretrained(tmp_path / "flan-t5-large")
    named = {"unet_model_name": None, "unet_model_config_path": "configs/diffusion_model_config.json"}
    (tmp_path / "main_config.json").write_text(json.dumps(named))
    (tmp_path / "vae_config.json").write_text(json.dumps({"scale_factor": 0.9227914214134216}))
    backend = Tango(name, {"checkpoint": str(tmp_path)}, MediaStore(tmp_path / "store"), tmp_path)
    weights = empty_state("tango_main")
    matched = backend.matched(lambda path: weights if "main" in path.name else empty_state("tango_vae"))
    fit = {part: str(compare(shapes_of(network), shapes_of(tensors))) for part, (network, tensors, _) in matched.items()}
    assert len(fit) == 4 and set(fit.values()) == {"everything fits"} and backend.max_seconds == 10.24
    assert all(key.startswith(("unet.", "text_encoder.")) for key in weights)
    assert keys("tango_stft", true_size=True)["mel_basis"] == (64, 513)  # the file that only training needs


# -- requests ----------------------------------------------------------------------------------------------------------


def test_a_sound_is_the_same_alone_and_among_eight(loaded: Tango) -> None:
    assert_alone_as_among_eight(loaded, ["a dog barks", "rain on the tin roof and thunder and birds", "piano", "thunder"], (1.0, 0.5))


def test_what_is_louder_than_full_scale_is_cut_and_does_not_wrap_around(loaded: Tango, monkeypatch: pytest.MonkeyPatch) -> None:
    """The official code casts to int16 without a limit: there 1.25 of full scale becomes -0.75."""
    loud = 1.25 * np.sin(np.arange(8_000) / 20, dtype=np.float32)[None]
    monkeypatch.setattr(loaded, "decode", lambda latent: Audio(loud, 16_000))
    (made,) = loaded.generate([GenerationRequest(prompt="a dog barks", seconds=0.5, steps=1)])
    assert np.abs(read_audio(loaded.store.path(made.media)).samples - np.clip(loud, -1, 1)).max() < 1e-4


def test_noise_at_every_step_comes_from_the_requests_own_seed(loaded: Tango) -> None:
    """The same start and another seed from then on is another sound."""
    request = GenerationRequest(prompt="a dog barks", seconds=0.5, steps=3)
    job = loaded._job(request)
    states = [job.generator.get_state(), torch.Generator().manual_seed(99).get_state()]
    made = []
    for state in states:
        job.generator.set_state(state)
        made.append(denoise(loaded.network, [job], loaded.scheduler, rows=1, window=None, overlap=0)[0])
    assert (made[0] - made[1]).abs().max() > 0.1


def test_longer_than_the_trained_window_is_refused(build: Make) -> None:
    assert build(latent_frames=256).capabilities.max_seconds == 10.24
    with pytest.raises(UnsupportedRequest, match=r"at most 1\.28 s, got 2 s"):
        build().generate([GenerationRequest(prompt="a dog", seconds=2)])


def test_missing_files_are_named_without_torch(tmp_path: Path) -> None:
    """A row without weights answers at once: no network library is loaded for it."""
    code = (
        "import sys; from pathlib import Path; from generators.tango import Tango; from media.refs import MediaStore;"
        f"t = Tango('tango2', {{}}, MediaStore(Path({str(tmp_path)!r})), Path({str(tmp_path)!r}));"
        "print(t.readiness().reason); print('torch' in sys.modules or 'diffusers' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
    assert "pytorch_model_main.bin (4.8 GB)" in said[0] and "licence: CC BY-NC-SA 4.0" in said[0]
    assert "flan-t5-large/config.json (1 kB)" in said[0]
    assert "loa models pull tango2" in said[0] and said[1] == "False"


def test_a_checkpoint_grown_from_stable_diffusion_is_refused(tmp_path: Path, build: Make) -> None:
    write_tango(tmp_path / "it")
    (tmp_path / "it" / "main_config.json").write_text(json.dumps({"unet_model_name": "stabilityai/stable-diffusion-2-1"}))
    with pytest.raises(ConfigError, match="grown from 'stabilityai"):
        build(checkpoint=str(tmp_path / "it")).load()


def test_the_words_of_t5_are_also_found_where_the_settings_say(tmp_path: Path, build: Make) -> None:
    folder = write_tango(tmp_path / "it")
    (folder / "flan-t5-large").rename(tmp_path / "words")
    assert "flan-t5-large/config.json" in build(checkpoint=str(folder)).readiness().reason
    settings = json.loads((folder / "main_config.json").read_text())
    (folder / "main_config.json").write_text(json.dumps({**settings, "text_encoder_name": str(tmp_path / "words")}))
    backend = build(checkpoint=str(folder))
    assert backend.readiness().ready and set(backend.misfits().values()) == {""} and backend.fingerprint()


def test_a_damaged_setting_and_half_a_file_are_named(tmp_path: Path, build: Make) -> None:
    folder = write_tango(tmp_path / "it")
    state = torch.load(folder / "pytorch_model_main.bin", weights_only=True)
    torch.save({key: value for key, value in state.items() if "mid_block" not in key}, folder / "pytorch_model_main.bin")
    told = build(checkpoint=str(folder)).misfits()
    assert "mid_block" in told.pop("unet") and set(told.values()) == {""}
    with pytest.raises(WeightsError, match=r"pytorch_model_main\.bin \(unet\) does not fit: the file is incomplete.*mid_block"):
        build(checkpoint=str(folder)).load()
    (folder / "main_config.json").write_text("{")
    with pytest.raises(ConfigError, match=r"main_config\.json cannot be read as JSON"):
        build(checkpoint=str(folder)).load()


@pytest.mark.parametrize("name", ROWS)
def test_the_row_says_what_the_class_says(name: str, tmp_path: Path) -> None:
    row = presets()[name]
    can = Tango(name, row.options, MediaStore(tmp_path), tmp_path).capabilities
    assert (row.max_seconds, row.sample_rate, row.accepts, row.tasks) == (can.max_seconds, can.sample_rate, can.accepts, can.tasks)
