"""Make-An-Audio 1 and 2 against arrays of the official code, and the order of events that version 2 reads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertConfig, T5Config

from encoders.weights import WeightsError, compare, shapes_of
from generators.base import CheckpointMissing, GenerationRequest, UnsupportedRequest
from generators.engine import Job, denoise
from generators.make_an_audio import MakeAnAudio, MakeAnAudio2, structured
from generators.make_an_audio_nets import CaptionTower
from media.refs import MediaStore
from tests.ports import (
    assert_alone_as_among_eight,
    drawn_state,
    empty_state,
    furthest,
    keys,
    reference,
    write_bert,
    write_make_an_audio,
    write_t5,
)

ROWS = {"make-an-audio": (MakeAnAudio, 1), "make-an-audio-2": (MakeAnAudio2, 2)}
TOLERANCE = 1e-4
Make = Callable[..., Any]


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """``build("make-an-audio")``: a backend over a small official folder."""
    home = tmp_path_factory.mktemp("home")
    store = MediaStore(home / "store")
    for name, (_, version) in ROWS.items():
        write_make_an_audio(home / "checkpoints" / name, version)

    def made(name: str, **options: Any) -> Any:
        return ROWS[name][0](name, options, store, home)

    return made


@pytest.fixture(scope="module")
def loaded(build: Make) -> Make:
    """``loaded("make-an-audio")``: one that has its weights, and keeps them for all tests."""
    kept: dict[str, Any] = {}

    def made(name: str) -> Any:
        if name not in kept:
            kept[name] = build(name)
            kept[name].load()
        return kept[name]

    return made


# -- the official code -------------------------------------------------------------------------------------------------


@pytest.mark.parity
@pytest.mark.parametrize("name", ROWS)
def test_every_stage_gives_what_the_official_code_gives(name: str, loaded: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Text states, first U-Net call, latents, mel, waveform, and the encoder's mean and deviation; weights and noise drawn alike."""
    backend = loaded(name)
    info, wanted = reference(f"make_an_audio_{ROWS[name][1]}")
    first, second = backend.read_text(f"{info['prompt']} {info['struct']}".strip())
    null_first, null_second = backend.read_text("")
    worst = {
        "cond": furthest(_joined(first, second), wanted["cond"]),
        "uncond": furthest(_joined(null_first, null_second), wanted["uncond"]),
    }

    flat = name == "make-an-audio-2"
    shape = wanted["latents"].shape
    noise = torch.from_numpy(np.random.default_rng(info["noise_seed"]).standard_normal(shape).astype(np.float32))[0]
    noise = noise[..., None] if flat else noise.mT
    assert noise.shape == backend.noise_shape(info["seconds"])
    calls: list[tuple[float, torch.Tensor]] = []
    backend.network.register_forward_hook(lambda _, given, out: calls.append((float(given[1][0]), out.sample)))
    job = Job(noise, first, second, null_first, null_second, info["steps"], info["guidance"])
    (latent,) = denoise(backend.network, [job], backend.scheduler, rows=1, window=None, overlap=0)
    seen = calls[0][1][..., 0] if flat else calls[0][1].mT
    assert [t for t, _ in calls] == list(wanted["timesteps"])
    worst["unet_first"] = furthest(seen, wanted["unet_first"])
    worst["latents"] = furthest(latent[..., 0] if flat else latent.mT, wanted["latents"])

    mels: list[torch.Tensor] = []
    speak = backend._sound
    monkeypatch.setattr(backend, "_sound", lambda mel: mels.append(mel) or speak(mel))
    worst["wav"] = furthest(backend.decode(latent).samples, wanted["wav"])
    worst["mel"] = furthest(mels[0], wanted["mel"])

    mel = np.random.default_rng(info["vae_seed"]).standard_normal((1, 80, 32)).astype(np.float32)
    with torch.no_grad():
        if flat:
            mean, deviation = backend._parts.vae.encode(torch.from_numpy(mel))
        else:
            spread = backend._parts.vae.encode(torch.from_numpy(mel)[:, None]).latent_dist
            mean, deviation = spread.mean, spread.std
    worst["vae_mean"], worst["vae_std"] = furthest(mean, wanted["vae_mean"]), furthest(deviation, wanted["vae_std"])
    worst["alphas"] = furthest(backend.scheduler().alphas_cumprod[::111], wanted["alphas_cumprod"])
    assert {stage: error for stage, error in worst.items() if not error < TOLERANCE} == {}


def _joined(*conditions: Any) -> torch.Tensor:
    return torch.cat([condition.states for condition in conditions if condition.states.shape[1]], dim=1)


@pytest.mark.parity
@pytest.mark.parametrize("name", ROWS)
def test_the_true_size_takes_every_key_of_the_public_file(name: str, tmp_path: Path) -> None:
    """Without an official YAML in the folder; nothing is allocated."""
    kind, version = ROWS[name]
    write_bert(tmp_path / "bert")
    BertConfig().save_pretrained(tmp_path / "bert")  # the defaults are bert-base-uncased
    write_t5(tmp_path / "t5")
    T5Config(
        d_model=1024, d_kv=64, d_ff=2816, num_layers=24, num_heads=16, feed_forward_proj="gated-gelu", tie_word_embeddings=False
    ).save_pretrained(tmp_path / "t5")
    backend = kind(name, {"checkpoint": str(tmp_path)}, MediaStore(tmp_path / "store"), tmp_path)
    (tmp_path / "useful_ckpts" / "bigvgan").mkdir(parents=True)
    (tmp_path / "useful_ckpts" / "bigvgan" / "args.yml").write_text("num_mels: 80")  # the rest is the public size
    state = empty_state(f"maa{version}")
    matched = backend.matched(lambda path: empty_state("bigvgan") if path.suffix == ".pt" else state)
    fit = {part: str(compare(shapes_of(network), shapes_of(tensors))) for part, (network, tensors, _) in matched.items()}
    assert len(fit) == 3 + version and set(fit.values()) == {"everything fits"}
    read = ("model.diffusion_model.", "first_stage_model.", "cond_stage_model.caption_encoder.", "cond_stage_model.t5_transformer.")
    beside = {key for key in state if not key.startswith(read)} - {"scale_factor"}
    assert all("." not in key and state[key].shape == (1000,) for key in beside)  # the noise schedule, which the scheduler computes


# -- requests ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ROWS)
def test_a_sound_is_the_same_alone_and_among_eight(name: str, loaded: Make) -> None:
    assert_alone_as_among_eight(loaded(name), ["a dog barks", "rain on the tin roof", "piano", "thunder then rain"], (0.5, 0.2))


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("seconds", [0.1, 0.513, 0.6, 1.0, 2.7, 9.0, 10.0, 10.24])
def test_no_sound_comes_out_short(name: str, seconds: float, loaded: Make) -> None:
    backend = loaded(name)
    channels, frames, bins = backend.noise_shape(seconds)
    assert (channels, bins) == ((4, 10) if name == "make-an-audio" else (20, 1))
    assert frames * (8 if name == "make-an-audio" else 2) * 256 >= seconds * 16_000


def test_whole_seconds_have_the_official_length_of_latent(loaded: Make) -> None:
    one, two = loaded("make-an-audio"), loaded("make-an-audio-2")
    for seconds in range(1, 11):
        official = int(seconds * 7.8)
        assert one.noise_shape(seconds)[1] == official + -official % 4
        assert two.noise_shape(seconds)[1] == int(seconds * 31.5) + int(seconds * 31.5) % 2
    assert two.noise_shape(two.max_seconds)[1] + 155 <= 1000


def test_more_candidates_and_a_thousand_steps_are_refused(build: Make) -> None:
    backend = build("make-an-audio")
    with pytest.raises(UnsupportedRequest, match="cannot rank candidates"):
        backend.generate([GenerationRequest(prompt="a dog", candidates=2)])
    with pytest.raises(UnsupportedRequest, match="at most 999 steps"):
        backend.generate([GenerationRequest(prompt="a dog", steps=1000)])
    assert not backend._loaded


def test_missing_files_are_named_and_so_is_what_gets_them(build: Make, tmp_path: Path) -> None:
    backend = build("make-an-audio-2", checkpoint=str(tmp_path))
    state = backend.readiness()
    assert not state.ready and "useful_ckpts/maa2.ckpt" in state.reason and "t5/config.json" in state.reason
    assert "maa2.ckpt (3.3 GB)" in state.reason and "licence: not stated for the weights" in state.reason
    assert "loa models pull make-an-audio-2" in state.reason
    with pytest.raises(CheckpointMissing, match=r"maa2\.ckpt"):
        backend.generate([GenerationRequest(prompt="a dog")])


def test_a_file_that_asks_to_run_code_never_runs(tmp_path: Path, build: Make) -> None:
    write_make_an_audio(tmp_path / "it", 1)
    touched = tmp_path / "touched"

    class Canary:
        def __reduce__(self) -> Any:
            return Path.touch, (touched,)

    torch.save({"state_dict": drawn_state(keys("maa1")), "canary": Canary()}, tmp_path / "it" / "useful_ckpts" / "maa1_full.ckpt")
    with pytest.raises(WeightsError, match="nothing of it ran"):
        build("make-an-audio", checkpoint=str(tmp_path / "it")).load()
    assert not touched.exists()


def test_settings_beside_the_weights_are_part_of_the_fingerprint(tmp_path: Path, build: Make) -> None:
    folder = write_make_an_audio(tmp_path / "it", 1)
    before = build("make-an-audio", checkpoint=str(folder)).fingerprint()
    assert build("make-an-audio", checkpoint=str(folder)).fingerprint() == before
    settings = folder / "txt2audio_args.yaml"
    settings.write_text(settings.read_text().replace("num_heads: 8", "num_heads: 4"))  # the same keys and shapes
    assert build("make-an-audio", checkpoint=str(folder)).fingerprint() != before


def test_what_training_left_in_a_file_is_passed_over(tmp_path: Path, build: Make) -> None:
    folder = write_make_an_audio(tmp_path / "it", 1)
    left = {"first_stage_model.loss.logvar": torch.zeros(()), "model_ema.decay": torch.ones(())}
    torch.save({"state_dict": drawn_state(keys("maa1")) | left, "epoch": 3}, folder / "useful_ckpts" / "maa1_full.ckpt")
    assert set(build("make-an-audio", checkpoint=str(folder)).misfits().values()) == {""}


def test_weights_of_another_size_are_named(tmp_path: Path, build: Make) -> None:
    write_make_an_audio(tmp_path / "it", 1)
    (tmp_path / "it" / "txt2audio_args.yaml").unlink()  # then the public sizes hold
    with pytest.raises(WeightsError, match=r"maa1_full\.ckpt \(unet\) does not fit.*another .*size.*conv_in"):
        build("make-an-audio", checkpoint=str(tmp_path / "it")).load()


@pytest.mark.parametrize("name", ROWS)
def test_files_are_compared_with_the_networks_before_loading(name: str, build: Make, tmp_path: Path) -> None:
    backend = build(name)
    assert set(backend.misfits().values()) == {""} and not backend._loaded
    folder = write_make_an_audio(tmp_path / "it", ROWS[name][1])
    torch.save({"generator": {"conv_pre.bias": torch.zeros(3)}}, folder / "useful_ckpts" / "bigvgan" / "best_netG.pt")
    told = build(name, checkpoint=str(folder)).misfits()
    assert {part for part, said in told.items() if said} == {"vocoder"} and "conv_pre.bias is [3]" in told["vocoder"]


# -- the order of events -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "order"),
    [
        ("A dog barks.", "<dog barks& all>"),
        ("a dog barks twice then rain falls", "<dog barks twice& start>@<rain falls& end>"),
        ("Scraping, followed shortly by speech, and then people laughing", "<scraping& start>@<speech& mid>@<people laughing& end>"),
        ("birds sing after rain stops", "<rain stops& start>@<birds sing& end>"),
        ("After a bell rings, people talk", "<bell rings& start>@<people talk& end>"),
        ("A man speaks as birds chirp and dogs bark", "<man speaks& all>@<birds chirp& all>@<dogs bark& all>"),
        ("food and oil sizzle", "<food and oil sizzle& all>"),
        ("rain in the background, then thunder", "<rain in the background& all>@<thunder& end>"),
        ("1 < 2 @ home & away", "<1 2 home away& all>"),
        ("", ""),
    ],
)
def test_words_are_put_in_order(text: str, order: str) -> None:
    assert structured(text) == (text, order)


def test_a_caption_in_the_official_form_is_taken_as_it_is() -> None:
    order = "<man speaking& start>@<popping noise& mid>@<laughter& end>"
    assert structured(order) == ("man speaking, popping noise, laughter", order)
    assert structured(f"A man speaks followed by a pop {order}") == ("A man speaks followed by a pop", order)
    assert structured("<man speaking& later>")[1] == "<man speaking later& all>"  # no such time


def test_program_text_beside_a_tower_never_runs_and_nobody_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import AutoConfig

    canary, asked = tmp_path / "canary", []
    (tmp_path / "config.json").write_text('{"model_type": "own", "auto_map": {"AutoConfig": "own.Own", "AutoModel": "own.Own"}}')
    (tmp_path / "own.py").write_text(f"open({str(canary)!r}, 'w')\n")
    monkeypatch.setattr("builtins.input", lambda question: asked.append(question) or "n")
    with pytest.raises(ValueError, match="custom code"):
        CaptionTower(tmp_path, 8)
    assert not canary.exists() and not asked
    with pytest.raises(ValueError, match="custom code"):  # the canary is a real one: by itself the library asks
        AutoConfig.from_pretrained(tmp_path, local_files_only=True)
    assert asked
