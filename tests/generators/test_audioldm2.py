"""AudioLDM 2 over folders that diffusers saved and over nano's layout: conditions, options, candidates, lengths, fingerprints."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AudioLDM2Pipeline
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import GPT2LMHeadModel

from generators.audioldm2 import AudioLDM2, LoaConfig, fit_length
from generators.base import CheckpointMissing, ConfigError, GenerationRequest, UnsupportedRequest
from generators.conditioning import HubConditioner, blend, loa_bytes, read_loa
from media.audio import Audio, read_audio
from media.mel import MelSpec, log_mel
from media.refs import MediaRef, MediaStore, MissingMedia
from tests.fakes import NANO, tiny_audioldm2

Make = Callable[..., AudioLDM2]
SHIPPED = Path(__file__).parents[2] / "checkpoints" / "nano"
DOG, RAIN = "a dog barks loudly", "rain on a tin roof"


def sound(backend: AudioLDM2, rows: int = 1, **fields: Any) -> np.ndarray:
    """The samples [T] of one request, not yet rounded to 16 bits."""
    request = GenerationRequest(**{"prompt": DOG, "seconds": 0.64, **fields})
    backend.check(request)
    return backend._synthesise([request], rows, lambda _: None, lambda: False)[0].samples[0]


def tone(hz: float = 440.0, seconds: float = 1.28, sample_rate: int = 16_000) -> Audio:
    wave = 0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * sample_rate)) / sample_rate)
    return Audio(wave.astype(np.float32)[None], sample_rate)


# -- the public layout ------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def encoded(public: Any) -> Callable[..., tuple[Tensor, Tensor, Tensor]]:
    """diffusers' own ``encode_prompt``: text states, mask, LOA (null first, then the prompt, where guided)."""

    def encode(prompt: str, negative: str | None = None, guided: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        with torch.no_grad():
            return public.pipeline.encode_prompt(prompt, "cpu", 1, guided, None, negative, max_new_tokens=8)

    return encode


def test_text_states_and_loa_are_those_of_diffusers(hub: AudioLDM2, encoded: Any) -> None:
    known = hub._conditioner.conditions(GenerationRequest(prompt=DOG))
    states, _, loa = encoded(DOG)
    length = states.shape[1]
    assert known.text.states.shape == (1, 24, 24) and bool(known.text.mask[0, :length].all()) and not known.text.mask[0, length:].any()
    assert torch.allclose(known.text.states[:, :length], states, atol=1e-5) and float(states.std()) > 0.1
    assert torch.allclose(known.loa.states, loa, atol=1e-5) and float(loa.std()) > 0.1
    assert not torch.allclose(loa, encoded(RAIN)[2], atol=1e-2)


def test_clap_vector_is_that_of_diffusers_although_it_pads_and_we_do_not(hub: AudioLDM2, public: Any) -> None:
    assert isinstance(hub._conditioner, HubConditioner)
    pipe = public.pipeline
    tokens = pipe.tokenizer([DOG], padding="max_length", max_length=64, return_tensors="pt")
    with torch.no_grad():
        theirs = pipe.text_encoder.get_text_features(tokens.input_ids, attention_mask=tokens.attention_mask)
    vector = getattr(theirs, "pooler_output", theirs)
    assert torch.allclose(hub._conditioner.clap(DOG).states[:, 0], vector, atol=1e-5)


@pytest.mark.parametrize("negative", ["", "low quality noise"])
def test_the_null_condition_gpt2_is_that_of_diffusers(hub: AudioLDM2, encoded: Any, negative: str) -> None:
    known = hub._conditioner.conditions(GenerationRequest(prompt=DOG, negative_prompt=negative))
    states, mask, loa = encoded(DOG, negative, guided=True)
    length = states.shape[1]
    assert torch.allclose(known.null_loa.states[0], loa[0], atol=1e-5)
    assert torch.equal(known.null_text.mask[0, :length], mask[0].bool()) and not known.null_text.mask[0, length:].any()
    real = mask[0].bool()
    assert torch.allclose(known.null_text.states[0, :length][real], states[0][real], atol=1e-5)


def test_a_negative_prompt_longer_than_the_prompt_is_read_to_its_end(hub: AudioLDM2) -> None:
    known = hub._conditioner.conditions(GenerationRequest(prompt="piano", negative_prompt="the low quality noise loudly"))
    alone = hub._conditioner.conditions(GenerationRequest(prompt="the low quality noise loudly"))
    assert int(known.text.mask.sum()) == 2 and int(known.null_text.mask.sum()) == 6
    assert torch.equal(known.null_loa.states, alone.loa.states) and torch.equal(known.null_text.states, alone.text.states)


def test_the_null_condition_zeros_is_the_official_one(public: Any, make: Make) -> None:
    backend = make(public.folder, uncond_loa="zeros")
    backend.load()
    known = backend._conditioner.conditions(GenerationRequest(prompt=DOG))
    assert not known.null_loa.states.any() and bool(known.null_loa.mask.all())
    assert int(known.null_text.mask.sum()) == 1  # "" is one token
    assert not np.array_equal(sound(backend), sound(make_loaded(make, public.folder)))


def make_loaded(make: Make, folder: Path, **options: Any) -> AudioLDM2:
    backend = make(folder, **options)
    backend.load()
    return backend


@pytest.mark.parametrize("solver", ["ddim", "dpmpp_2m", "unipc"])
def test_from_prompt_to_waveform_as_diffusers(
    public: Any, make: Make, solver: str, record_property: Callable[[str, object], None]
) -> None:
    backend = make_loaded(make, public.folder, solver=solver, steps=6)
    ours = sound(backend, seed=4, negative_prompt="low quality noise")
    pipe = public.pipeline
    before, pipe.scheduler = pipe.scheduler, backend.scheduler()
    noise = torch.randn((4, 16, 16), generator=torch.Generator().manual_seed(4))[None]
    how: dict[str, Any] = {"audio_length_in_s": 0.64, "num_inference_steps": 6, "guidance_scale": 3.5, "latents": noise}
    theirs = pipe(DOG, negative_prompt="low quality noise", **how).audios[0]
    pipe.scheduler = before
    assert float(theirs.std()) > 0.01 and float(np.abs(ours - theirs).max()) < 1e-4


def test_a_folder_whose_language_model_is_a_bare_trunk_sounds_the_same(public: Any, make: Make, tmp_path: Path) -> None:
    tiny_audioldm2(tmp_path, seed=0, trunk_only=True)
    assert json.loads((tmp_path / "model_index.json").read_text())["language_model"] == ["transformers", "GPT2Model"]
    assert np.array_equal(sound(make_loaded(make, tmp_path)), sound(make_loaded(make, public.folder)))


def test_the_saved_folder_is_one_that_diffusers_loads(public: Any) -> None:
    again = AudioLDM2Pipeline.from_pretrained(public.folder, local_files_only=True)
    assert isinstance(again.language_model, GPT2LMHeadModel)


def test_loa_zeros_is_refused_where_it_would_do_nothing(public: Any, make: Make) -> None:
    backend = make(public.folder, loa_mode="zeros")
    with pytest.raises(UnsupportedRequest, match="loa_mode 'zeros'"):
        backend.generate([GenerationRequest(prompt=DOG)])
    assert not backend.readiness().ready and "loa_mode" in backend.readiness().reason and not backend._loaded


def test_loa_zeros_removes_the_loa_of_nano(nano_folder: Path, make: Make) -> None:
    backend = make_loaded(make, nano_folder, loa_mode="zeros")
    known = backend._conditioner.conditions(GenerationRequest(prompt=DOG))
    assert not known.loa.states.any() and not known.null_loa.states.any() and known.text.states.any()


def test_uncond_gpt2_gives_nano_a_written_null(nano_folder: Path, nano: AudioLDM2, make: Make) -> None:
    written = make_loaded(make, nano_folder, uncond_loa="gpt2")._conditioner.conditions(GenerationRequest(prompt=DOG))
    assert written.null_loa.states.any()
    assert not nano._conditioner.conditions(GenerationRequest(prompt=DOG)).null_loa.states.any()


# -- requests ---------------------------------------------------------------------------------------------------------
@pytest.fixture(params=["hub", "nano"])
def backend(request: pytest.FixtureRequest) -> AudioLDM2:
    made: AudioLDM2 = request.getfixturevalue(request.param)
    return made


def test_everything_that_a_request_says_is_heard(backend: AudioLDM2) -> None:
    plain = sound(backend)
    assert np.array_equal(plain, sound(backend)) and plain.std() > 0.005
    said: list[dict[str, Any]] = [
        {"prompt": RAIN},
        {"seed": 1},
        {"steps": 5},
        {"guidance": 1.5},
        {"negative_prompt": RAIN},
    ]
    for change in said:
        assert np.abs(sound(backend, **change) - plain).max() > 1e-3, change


def test_guidance_one_does_not_hear_the_negative_prompt(backend: AudioLDM2) -> None:
    assert np.allclose(sound(backend, guidance=1.0), sound(backend, guidance=1.0, negative_prompt=RAIN), atol=1e-4)


@pytest.mark.parametrize("seconds", [0.3, 0.64, 1.0, 2.0, 3.3])
def test_the_sound_has_the_asked_length(backend: AudioLDM2, seconds: float) -> None:
    made = sound(backend, seconds=seconds)
    assert len(made) == round(seconds * 16_000) and np.isfinite(made).all()
    assert made[-len(made) // 4 :].std() > 1e-3  # sounding to its end, not padded with silence


def test_a_batch_of_different_lengths_steps_and_guidances_is_each_alone(backend: AudioLDM2) -> None:
    requests = [
        GenerationRequest(prompt=DOG, seconds=0.64, seed=3),
        GenerationRequest(prompt=RAIN, seconds=2.0, steps=5, guidance=1.5),
        GenerationRequest(prompt="piano", seconds=1.0, candidates=2),
        GenerationRequest(prompt="the cat meows", seconds=0.64, negative_prompt="noise", steps=1),
    ]
    alone = [backend.generate([request], rows=4)[0].media.id for request in requests]
    assert len(set(alone)) == 4
    assert [made.media.id for made in backend.generate(requests, rows=4)] == alone
    assert [made.media.id for made in backend.generate(requests[::-1], rows=4)] == alone[::-1]


def test_replay_in_the_bucket_of_a_batch_gives_the_same_bytes(backend: AudioLDM2) -> None:
    batch = backend.generate([GenerationRequest(prompt=DOG, seconds=0.64, seed=seed) for seed in range(5)])
    assert {made.rows for made in batch} == {8}
    again = backend.generate([batch[3].request], rows=batch[3].rows)[0]
    assert again.media == batch[3].media and again.fingerprint == batch[3].fingerprint


def test_of_several_candidates_the_one_nearest_to_the_words_is_given(backend: AudioLDM2, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[np.ndarray] = []
    scores: list[float] = []
    ranked = backend._conditioner.scores

    def watched(sounds: Any, known: Any) -> list[float]:
        heard.extend(one.samples[0] for one in sounds)
        scores.extend(ranked(sounds, known))
        return scores

    monkeypatch.setattr(backend._conditioner, "scores", watched)
    made = sound(backend, candidates=4)
    assert len(set(scores)) == 4 and all(-1 <= score <= 1 for score in scores)
    assert np.array_equal(made, heard[int(np.argmax(scores))])
    assert np.array_equal(heard[0], sound(backend))  # the first candidate is what one candidate would be


def test_nano_ranks_a_known_sound_by_its_chance_and_others_by_the_cosine_to_the_sentence(
    nano: AudioLDM2, monkeypatch: pytest.MonkeyPatch
) -> None:
    sounds = [tone(200), tone(3000)]
    vectors = nano.labeller.encode(sounds).states[:, 0]
    anchors = nano.labeller.anchors
    names, means = anchors.classes()
    phrase = anchors.texts[anchors.labels.index(names[-1])]
    meant = anchors.labels[anchors.texts.index(anchors.meant(nano._conditioner._text.sentences([phrase])[0])[0])]
    known = nano._conditioner.conditions(GenerationRequest(prompt=phrase))
    scale = float(nano.labeller._tower.log_scale.exp())
    by_hand = torch.softmax(scale * vectors @ torch.from_numpy(means).T, 1)[:, names.index(meant)]
    assert nano._conditioner.scores(sounds, known) == pytest.approx(by_hand.tolist()) and by_hand[0] != by_hand[1]

    monkeypatch.setattr(type(anchors), "meant", lambda self, vector: ("", 0.0))  # nobody's sound
    wanted = nano._conditioner._text.sentences([phrase])[0]
    scores = nano._conditioner.scores(sounds, known)
    assert scores == pytest.approx([float(v @ wanted) for v in vectors.numpy()])


def test_the_checkpoints_own_candidates_are_for_its_own_steps(nano: AudioLDM2, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(nano.__dict__, "config", nano.config.model_copy(update={"candidates": 2, "steps": 25}))
    assert nano._candidates(GenerationRequest(prompt=DOG)) == nano._candidates(GenerationRequest(prompt=DOG, steps=25)) == 2
    assert nano._candidates(GenerationRequest(prompt=DOG, steps=8)) == 1
    assert nano._candidates(GenerationRequest(prompt=DOG, steps=8, candidates=3)) == 3


def test_hub_folders_rank_by_clap_and_refuse_without_its_ears(public: Any, make: Make, tmp_path: Path) -> None:
    folder = tmp_path / "deaf"
    shutil.copytree(public.folder, folder)
    shutil.rmtree(folder / "feature_extractor")
    backend = make(folder)
    with pytest.raises(UnsupportedRequest, match="feature_extractor"):
        backend.check(GenerationRequest(prompt=DOG, candidates=2))
    assert backend.generate([GenerationRequest(prompt=DOG, seconds=0.64)])


# -- the Language of Audio, stored ------------------------------------------------------------------------------------
def test_a_stored_loa_gives_the_sound_of_its_prompt(backend: AudioLDM2) -> None:
    stored = backend.loa_for(GenerationRequest(prompt=DOG))
    assert stored.kind == "condition"
    assert np.array_equal(sound(backend, loa=((stored, 0.3),)), sound(backend))
    other = backend.loa_for(GenerationRequest(prompt=RAIN))
    assert np.abs(sound(backend, loa=((other, 1.0),)) - sound(backend)).max() > 1e-3


def test_a_condition_among_the_media_is_a_stored_loa(backend: AudioLDM2) -> None:
    other = backend.loa_for(GenerationRequest(prompt=RAIN))
    assert np.array_equal(sound(backend, media=(other,)), sound(backend, loa=((other, 1.0),)))


def test_a_stored_loa_alone_says_nothing_in_words(nano: AudioLDM2) -> None:
    stored = nano.loa_for(GenerationRequest(prompt=RAIN))
    known = nano._conditioner.conditions(GenerationRequest(loa=((stored, 1.0),)))
    assert known.words == "" and not known.text.states.any() and known.loa.states.any()
    assert sound(nano, prompt="", loa=((stored, 1.0),), candidates=2).std() > 0


def test_blend_is_the_weighted_mean(nano: AudioLDM2, store: MediaStore) -> None:
    a, b = (nano.loa_for(GenerationRequest(prompt=words)) for words in (DOG, RAIN))
    first, second = read_loa(store, a), read_loa(store, b)
    mixed = nano._conditioner.conditions(GenerationRequest(prompt=DOG, loa=((a, 3.0), (b, 1.0)))).loa
    assert torch.allclose(mixed.states, 0.75 * first.states + 0.25 * second.states, atol=1e-6)
    assert torch.equal(blend([(first, 2.0), (second, 0.0)]).states, first.states)


@pytest.mark.parametrize("weights", [(0.0, 0.0), (2.0, -1.0)])
def test_weights_that_make_no_mean_are_refused_before_loading(
    public: Any, hub: AudioLDM2, make: Make, weights: tuple[float, float]
) -> None:
    stored = hub.loa_for(GenerationRequest(prompt=DOG))
    fresh = make(public.folder)
    with pytest.raises(UnsupportedRequest, match="weights"):
        fresh.generate([GenerationRequest(loa=((stored, weights[0]), (stored, weights[1])))])
    assert not fresh._loaded


def test_a_loa_of_another_model_is_refused(hub: AudioLDM2, nano: AudioLDM2) -> None:
    foreign = hub.loa_for(GenerationRequest(prompt=DOG))
    with pytest.raises(UnsupportedRequest, match=r"\(8, 16\).*\(8, 128\)"):
        nano.generate([GenerationRequest(loa=((foreign, 1.0),))])


def test_a_loa_that_is_no_loa_is_refused(nano: AudioLDM2, store: MediaStore) -> None:
    junk = store.put_bytes(b"no tensors in here", "application/x-safetensors", "condition")
    with pytest.raises(UnsupportedRequest, match="no stored condition"):
        nano.generate([GenerationRequest(loa=((junk, 1.0),))])


def test_a_missing_loa_is_refused_before_loading(nano_folder: Path, make: Make) -> None:
    backend = make(nano_folder)
    gone = MediaRef(id="sha256:" + "0" * 64, kind="condition", mime="application/x-safetensors")
    with pytest.raises(MissingMedia):
        backend.generate([GenerationRequest(loa=((gone, 1.0),))])
    assert not backend._loaded


def test_stored_loa_bytes_come_back_bit_by_bit(nano: AudioLDM2, store: MediaStore) -> None:
    written = nano._conditioner.conditions(GenerationRequest(prompt=DOG)).loa
    ref = store.put_bytes(loa_bytes(written), "application/x-safetensors", "condition")
    assert torch.equal(read_loa(store, ref).states, written.states) and ref == nano.loa_for(GenerationRequest(prompt=DOG))


# -- sounds, pictures -------------------------------------------------------------------------------------------------
def test_a_sound_gives_its_own_loa(nano: AudioLDM2, store: MediaStore) -> None:
    heard = tone(880)
    stored = read_loa(store, nano.loa_of(heard))
    assert torch.equal(stored.states, nano.labeller.loa(heard).states)
    ref = store.put_audio(heard)
    alone = nano._conditioner.conditions(GenerationRequest(media=(ref,)))
    sixteen_bits = nano.labeller.loa(read_audio(store.path(ref))).states
    assert torch.equal(alone.loa.states, sixteen_bits) and alone.words
    written = nano._conditioner.conditions(GenerationRequest(prompt=f"{DOG}, {alone.words}")).loa.states
    both = nano._conditioner.conditions(GenerationRequest(prompt=DOG, media=(ref,)))
    assert both.words == f"{DOG}, {alone.words}"
    assert torch.allclose(both.loa.states, (sixteen_bits + written) / 2, atol=1e-6)


def test_a_span_of_a_sound_is_what_is_heard(nano: AudioLDM2, store: MediaStore) -> None:
    two = Audio(np.concatenate([tone(300).samples, tone(3000).samples], axis=1), 16_000)
    ref = store.put_audio(two)
    second = ref.model_copy(update={"span": (1.28, 2.56)})
    only = store.put_audio(tone(3000))
    by_span = nano._conditioner.conditions(GenerationRequest(media=(second,)))
    assert torch.allclose(by_span.loa.states, nano._conditioner.conditions(GenerationRequest(media=(only,))).loa.states, atol=1e-4)
    beyond = ref.model_copy(update={"span": (9.0, 10.0)})
    with pytest.raises(UnsupportedRequest, match="outside the sound"):
        nano.generate([GenerationRequest(media=(beyond,))])


def test_hub_folders_say_that_they_cannot_read_a_sound(hub: AudioLDM2) -> None:
    with pytest.raises(UnsupportedRequest, match="no AudioMAE"):
        hub.loa_of(tone())


def test_a_picture_is_heard_as_what_it_shows(nano: AudioLDM2, store: MediaStore) -> None:
    cat = store.put_file(Path(__file__).parents[1] / "data" / "pictures" / "chelsea.jpg")
    assert nano._conditioner.conditions(GenerationRequest(media=(cat,))).words == "a cat meows"


# -- the parts that benchmarks ask ------------------------------------------------------------------------------------
def test_vae_mel_is_decode_of_encode_of_our_log_mel(nano: AudioLDM2) -> None:
    heard = [tone(440), tone(1000)]
    mels = nano.vae_mel(heard)
    assert mels.shape == (2, 128, 64) and mels.dtype == np.float32
    x = torch.from_numpy(log_mel(heard[1].samples[0], MelSpec()))[None, None]
    with torch.no_grad():
        by_hand = nano._vae.decode(nano._vae.encode(x).latent_dist.mode()).sample[0, 0].numpy()
    assert np.array_equal(mels[1], by_hand) and not np.allclose(mels[0], mels[1])


def test_reconstruct_is_vocoder_of_vae_mel_at_the_sounds_own_length(nano: AudioLDM2) -> None:
    odd = tone(440, seconds=1.013)
    made = nano.reconstruct([odd])[0]
    with torch.no_grad():
        by_hand = nano._vocoder(torch.from_numpy(nano.vae_mel([odd])[0])).numpy()
    assert made.samples.shape == odd.samples.shape
    assert np.allclose(made.samples[0, : len(by_hand)], by_hand, atol=1e-6) and made.samples.std() > 0.005


def test_reconstruct_hears_pitch_and_not_sample_rate(nano: AudioLDM2) -> None:
    slow, fast = nano.vae_mel([tone(440)])[0], nano.vae_mel([tone(440, sample_rate=44_100)])[0]
    assert slow.shape == fast.shape
    assert np.abs(slow - fast)[4:-4].mean() < 0.1 * np.abs(slow - nano.vae_mel([tone(2000)])[0])[4:-4].mean()


def test_fit_length_cuts_with_a_fade_and_pads_with_silence() -> None:
    ones = Audio(np.ones((1, 1600), np.float32), 16_000)
    assert fit_length(ones, 0.1) is ones
    cut = fit_length(ones, 0.05).samples[0]
    assert len(cut) == 800 and (cut[:640] == 1).all() and cut[-1] == 0 and (np.diff(cut[640:]) < 0).all()
    padded = fit_length(ones, 0.2).samples[0]
    assert len(padded) == 3200 and (padded[:1600] == 1).all() and not padded[1600:].any()
    assert (ones.samples == 1).all()  # the given sound is left alone


# -- readiness and fingerprints ---------------------------------------------------------------------------------------
def test_readiness_names_the_folder_and_what_it_lacks(nano_folder: Path, make: Make, tmp_path: Path) -> None:
    nowhere = make(tmp_path / "nowhere").readiness()
    assert not nowhere.ready and "nowhere" in nowhere.reason and "unet" in nowhere.reason
    with pytest.raises(CheckpointMissing, match="nowhere"):
        make(tmp_path / "nowhere").generate([GenerationRequest(prompt=DOG)])
    for part in ("vocoder", "audio_tower"):
        folder = tmp_path / part
        shutil.copytree(nano_folder, folder)
        shutil.rmtree(folder / part)
        (folder / part).mkdir()  # an empty folder is no part either
        state = make(folder).readiness()
        assert not state.ready and f"lacks {part}" in state.reason


def test_readiness_counts_files_and_bytes(public: Any, make: Make) -> None:
    state = make(public.folder).readiness()
    assert state.ready and state.bytes == sum(Path(p).stat().st_size for p in state.files)
    assert {"model.safetensors", "diffusion_pytorch_model.safetensors", "loa.json"} <= {Path(p).name for p in state.files}


@pytest.mark.parametrize(("fields", "said"), [({"solver": "magic"}, "solver"), ({"overlap": 16}, "overlap"), ({"colour": 1}, "colour")])
def test_a_broken_loa_json_is_named(nano_folder: Path, make: Make, tmp_path: Path, fields: dict[str, Any], said: str) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(nano_folder, folder)
    (folder / "loa.json").write_text(json.dumps(NANO | fields))
    with pytest.raises(ConfigError, match=rf"loa\.json.*{said}"):
        make(folder).readiness()


def test_the_defaults_of_loa_json_are_those_of_the_public_checkpoints() -> None:
    config = LoaConfig()
    assert (config.steps, config.guidance, config.solver, config.uncond_loa) == (200, 3.5, "ddim", "gpt2")


def test_the_fingerprint_follows_weights_solver_and_rows_and_not_the_request(public: Any, make: Make, tmp_path: Path) -> None:
    known = make(public.folder).fingerprint(1)
    assert known == make(public.folder).fingerprint(1) and known.startswith("sha256:")
    assert known != make(public.folder).fingerprint(8)
    assert known != make(public.folder, solver="unipc").fingerprint(1)
    copy = tmp_path / "copy"
    shutil.copytree(public.folder, copy)
    same_weights = make(copy)._weights_hash
    assert same_weights == make(public.folder)._weights_hash
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    assert make(copy)._weights_hash != same_weights


def test_two_requests_of_one_backend_carry_one_fingerprint(hub: AudioLDM2) -> None:
    a, b = hub.generate([GenerationRequest(prompt=DOG, seconds=0.64), GenerationRequest(prompt=RAIN, seconds=1.0, steps=2)])
    assert a.fingerprint == b.fingerprint == hub.fingerprint(2)


def test_a_folder_of_diffusers_is_compared_by_keys_and_shapes_before_anything_is_loaded(
    public: Any, make: Make, tmp_path: Path
) -> None:
    assert set(make(public.folder).misfits().values()) == {""} and "text_encoder_2" in make(public.folder).misfits()
    assert set(make(SHIPPED).misfits().values()) == {""}
    copy = tmp_path / "copy"
    shutil.copytree(public.folder, copy)
    path = copy / "language_model" / "model.safetensors"
    state = load_file(path)
    (places,) = (key for key in state if key.endswith("wpe.weight"))  # of a language model with its head: under "transformer."
    save_file({**state, places: torch.zeros(3, 3)}, path, {"format": "pt"})
    other = load_file(copy / "vae" / "diffusion_pytorch_model.safetensors")
    other.pop("decoder.conv_in.weight")
    save_file(other, copy / "vae" / "diffusion_pytorch_model.safetensors", {"format": "pt"})
    told = {part: said for part, said in make(copy).misfits().items() if said}
    assert set(told) == {"language_model", "vae"}
    assert "wpe.weight is [3, 3] instead of" in told["language_model"] and "decoder.conv_in.weight" in told["vae"]
