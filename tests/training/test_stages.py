"""What the stages lean on: scales folded into weights, mels and losses in torch, masks, captions, draws and splits."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AudioLDM2UNet2DConditionModel, AutoencoderKL

from encoders.audiomae import AudioMaeConfig
from encoders.text import SentenceEncoder
from media.mel import MelSpec, log_mel
from training.audiomae import HIDDEN_SHARE, MaskedAutoencoder
from training.autoencoder import MEL_MEAN, MEL_STD, build_vae, fold_scale, whiten
from training.captions import FRAMES, all_phrases, captions_of, framed, phrases
from training.data import MelSet, Source, recordings, split_of
from training.latent import build_scheduler, build_unet, envelopes, without_envelope
from training.translator import CaptionBank, build_writer
from training.vocoder import TorchMel, build_vocoder, spectral_loss


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# -- autoencoder ------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def vae() -> AutoencoderKL:
    torch.manual_seed(0)
    return build_vae().eval().requires_grad_(False)


def through(vae: AutoencoderKL, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return vae.decode(vae.encode(x).latent_dist.mean).sample


def test_whitening_gives_unit_channels_and_leaves_the_reconstruction(vae: AutoencoderKL) -> None:
    mels = noise(6, 1, 64, 64) * 2.6 - 5.2
    before, latents = through(vae, mels), vae.encode(mels).latent_dist
    assert float(latents.mean.std(dim=(0, 2, 3)).min()) > 1e-4
    whiten(vae, latents.mean)
    after = vae.encode(mels).latent_dist
    assert torch.allclose(after.mean.mean(dim=(0, 2, 3)), torch.zeros(8), atol=1e-4)
    assert torch.allclose(after.mean.std(dim=(0, 2, 3)), torch.ones(8), atol=1e-4)
    assert float((through(vae, mels) - before).abs().max() / before.abs().max()) < 1e-5
    # The posterior's spread is scaled with its mean, so a sample decodes as it did.
    shift = latents.logvar - after.logvar
    expected = 2 * latents.mean.std(dim=(0, 2, 3)).log()
    assert torch.allclose(shift, expected[None, :, None, None].expand_as(shift), atol=1e-3)
    assert vae.config.scaling_factor == 1.0


def test_folding_lets_raw_mels_in_and_out_of_a_unit_variance_network() -> None:
    torch.manual_seed(1)
    plain = AutoencoderKL(in_channels=1, out_channels=1, block_out_channels=(8,), norm_num_groups=4, latent_channels=2).eval()
    x = noise(1, 1, 16, 16)
    with torch.no_grad():
        first, last = plain.encoder.conv_in(x), plain.decoder.conv_out(noise(1, 8, 16, 16, seed=2))
        fold_scale(plain)
        raw = plain.encoder.conv_in(x * MEL_STD + MEL_MEAN)
        out = plain.decoder.conv_out(noise(1, 8, 16, 16, seed=2))
    inner = (..., slice(1, -1), slice(1, -1))  # at the border the convolution pads with raw zeros
    assert torch.allclose(raw[inner], first[inner], atol=1e-5)
    assert torch.allclose(out, last * MEL_STD + MEL_MEAN, atol=1e-5)


def test_the_autoencoder_is_eight_times_smaller_both_ways(vae: AutoencoderKL) -> None:
    assert vae.encode(noise(1, 1, 512, 64)).latent_dist.mean.shape == (1, 8, 64, 8)


# -- vocoder ----------------------------------------------------------------------------------------------------------
def test_mels_in_torch_are_those_of_media_away_from_the_borders() -> None:
    wave = 0.3 * noise(2, 16_000) + torch.sin(2 * torch.pi * 440 * torch.arange(16_000) / 16_000)
    made = TorchMel(MelSpec())(wave * 0.4)
    for row in range(2):
        known = torch.from_numpy(log_mel((wave[row] * 0.4).numpy(), MelSpec()))
        assert torch.allclose(made[row, 4:96], known[4:96], atol=1e-3)
    assert made.shape == (2, 101, 64)


def test_mels_in_torch_have_gradients_even_in_silence() -> None:
    wave = torch.zeros(1, 4000, requires_grad=True)
    TorchMel(MelSpec())(wave).sum().backward()
    assert wave.grad is not None and bool(torch.isfinite(wave.grad).all())


def test_spectral_loss_is_zero_for_equal_waves_and_grows_with_the_difference() -> None:
    wave = 0.1 * noise(2, 6400)
    small, large = (float(spectral_loss(wave + scale * noise(2, 6400, seed=1), wave)) for scale in (0.01, 0.1))
    assert float(spectral_loss(wave, wave)) == 0 < small < large


def test_spectral_loss_hears_no_sign() -> None:
    wave = 0.1 * noise(1, 6400)
    assert float(spectral_loss(-wave, wave)) < 1e-5


@pytest.mark.parametrize("frames", [1, 40, 333])
def test_the_vocoder_makes_exactly_160_samples_a_frame(frames: int) -> None:
    with torch.no_grad():
        assert build_vocoder()(noise(frames, 64)).shape == (160 * frames,)


# -- AudioMAE ---------------------------------------------------------------------------------------------------------
def test_three_quarters_of_the_patches_are_hidden_and_alone_are_judged() -> None:
    torch.manual_seed(0)
    model = MaskedAutoencoder(AudioMaeConfig(frames=64, bins=64, width=16, depth=1, heads=2, averaged_blocks=1), 16, 1).eval()
    mel, order = noise(1, 64, 64), torch.arange(16)[None]  # 4 x 4 patches; the first four, the first row in time, are seen
    assert HIDDEN_SHARE == 0.75

    def loss(x: torch.Tensor) -> float:
        with torch.no_grad():
            return float(model(x, order))

    changes = []
    for patch in range(16):
        other = mel.clone()
        row, column = divmod(patch, 4)
        other[:, 16 * row : 16 * row + 16, 16 * column : 16 * column + 16] = noise(1, 16, 16, seed=9)
        changes.append(abs(loss(other) - loss(mel)))
    assert all(change > 1e-6 for change in changes)
    # A hidden patch is only a target: scaled and shifted it has the same normalised form, and nothing reads it as input.
    shifted = mel.clone()
    shifted[:, 16:] += 3.0
    assert loss(shifted) == pytest.approx(loss(mel), abs=1e-5)
    seen = mel.clone()
    seen[:, :16] += 3.0
    assert loss(seen) != pytest.approx(loss(mel), abs=1e-5)


def test_the_loss_does_not_depend_on_the_order_of_what_is_hidden() -> None:
    torch.manual_seed(0)
    model = MaskedAutoencoder(AudioMaeConfig(frames=64, bins=64, width=16, depth=1, heads=2, averaged_blocks=1), 16, 1).eval()
    mel = noise(2, 64, 64)
    order = torch.stack([torch.randperm(16, generator=torch.Generator().manual_seed(i)) for i in range(2)])
    turned = torch.cat([order[:, :4], order[:, 4:].flip(1)], dim=1)
    with torch.no_grad():
        assert float(model(mel, order)) == pytest.approx(float(model(mel, turned)), abs=1e-6)


# -- captions ---------------------------------------------------------------------------------------------------------
def test_half_of_the_phrases_stay_bare_and_every_frame_is_used() -> None:
    draw = np.random.default_rng(0)
    said = Counter(framed("a dog", draw) for _ in range(4000))
    assert abs(said["a dog"] / 4000 - 0.5) < 0.03
    assert set(said) == {"a dog", *(frame.format("a dog") for frame in FRAMES)}
    rest = [said[frame.format("a dog")] for frame in FRAMES]
    assert min(rest) > 0.6 * 2000 / len(FRAMES)


def test_a_class_is_called_by_its_plain_name_first() -> None:
    table = phrases()
    assert all(said[0] == name.replace("_", " ") and len(set(said)) == len(said) for name, said in table.items())
    name = next(name for name in table if "_" in name)
    assert captions_of(name, ("a recorded one",))[-1] == "a recorded one" and captions_of(name.replace("_", " "))[0] == table[name][0]
    assert captions_of("no such class") == ("no such class",)
    assert set(table[name]) <= set(all_phrases()) and FRAMES[0].format(table[name][0]) in all_phrases()


def test_the_bank_keeps_what_the_sentence_encoder_says(tmp_path: Path) -> None:
    labels: dict[str, tuple[str, ...]] = {"no such class": ("no such class", "a recorded caption"), "nothing": ("nothing",)}
    bank = CaptionBank.make(labels, tmp_path / "bank.pt", scenes={"mixed/0": ("nothing while nothing",)})
    assert bank.texts[bank.rows["nothing"][0]] == "nothing"
    assert [bank.texts[i] for i in bank.rows["mixed/0"]] == ["nothing while nothing"], "a scene's captions stand in no frame"
    covered = sorted(int(i) for rows in bank.rows.values() for i in rows)
    assert covered == list(range(len(bank.texts)))
    known = SentenceEncoder().sentences([bank.texts[1]])[0]
    sentence, tokens = bank.conditions([1])
    assert float(sentence.states[0, 0] @ torch.from_numpy(known)) > 0.999 and tokens.states.shape == (1, 32, 384)
    again = CaptionBank.make(labels, tmp_path / "bank.pt", scenes={"mixed/0": ("nothing while nothing",)})
    assert again.texts == bank.texts and torch.equal(again.states, bank.states)
    shaken, _ = bank.conditions([1], noise=0.3, generator=torch.Generator().manual_seed(0))
    assert 0.3 < float(shaken.states[0, 0] @ sentence.states[0, 0]) < 0.999


# -- data -------------------------------------------------------------------------------------------------------------
def test_a_take_family_lies_in_one_part_whoever_asks() -> None:
    parts: dict[str, set[str]] = {}
    for row in recordings():
        parts.setdefault(str(row["take"]), set()).add(split_of(str(row["take"])))
    assert len(parts) > 50 and all(len(found) == 1 for found in parts.values())
    shares = Counter(part for found in parts.values() for part in found)
    assert set(shares) == {"train", "judge", "test"} and 0.5 < shares["train"] / len(parts) < 0.8


@pytest.mark.parametrize(("take", "part"), [("freesound-1", "test"), ("freesound-2", "train"), ("d", "judge")])
def test_the_split_is_by_hash_and_never_moves(take: str, part: str) -> None:
    assert split_of(take) == part


def mel_set() -> MelSet:
    """Two sources: one of a class of 9 clips and a class of 1, one of a single class."""
    mel = np.arange(10, dtype=np.float16)[:, None, None] * np.ones((1, 512, 64), np.float16) * 0.1
    wav = np.zeros((10, 8), np.int16)
    return MelSet(
        (
            Source(mel, wav, ("big",) * 9 + ("small",), (), 0.75),
            Source(mel[:4], wav[:4], ("other",) * 4, (), 0.25),
        )
    )


def test_clips_are_drawn_by_share_of_source_and_root_of_class_size() -> None:
    data = mel_set()
    drawn = data.draw(np.random.default_rng(0), 8000)
    assert abs(sum(source == 0 for source, _ in drawn) / 8000 - 0.75) < 0.02
    first = [index for source, index in drawn if source == 0]
    # weights 9 / sqrt(9) = 3 against 1 / sqrt(1) = 1
    assert abs(sum(index == 9 for index in first) / len(first) - 0.25) < 0.02
    assert set(first) == set(range(10)) and {index for source, index in drawn if source == 1} == set(range(4))


def test_mels_keep_their_shape_and_change_in_level_only() -> None:
    data = mel_set()
    made = data.mels([(0, 5), (1, 2)], np.random.default_rng(0))
    assert made.shape == (2, 512, 64) and made.dtype == np.float32
    for row, true in enumerate((0.5, 0.2)):
        gain = made[row] - true
        assert gain.min() > -1.01 and gain.max() < 0.31 and float(np.ptp(gain)) < 1e-3


def test_half_of_the_envelopes_are_dropped_and_the_rest_are_the_clips_own_curve() -> None:
    mel = np.full((512, 64), -8.0, np.float16)
    mel[100:104] = 0.0  # one loud moment
    stacked = envelopes([mel] * 200, np.random.default_rng(0))
    given = stacked[:, -1, 0, 0] == 1
    assert stacked.shape == (200, 9, 64, 8) and 0.4 < float(given.float().mean()) < 0.6 and not stacked[~given].any()
    curves = stacked[given][:, :8, :, 0].transpose(1, 2).reshape(-1, 512)
    assert set((curves.argmax(1)).tolist()) <= {100, 101, 102, 103}


def test_a_unet_that_learns_of_envelopes_starts_as_what_it_was() -> None:
    torch.manual_seed(0)
    old = AudioLDM2UNet2DConditionModel.from_config({**build_unet().config, "in_channels": 8}).eval()
    new = build_unet().eval()
    new.load_state_dict(without_envelope(old))
    z, more = noise(1, 8, 64, 8), torch.rand(1, 9, 64, 8)
    states = {"encoder_hidden_states": noise(1, 8, 128), "encoder_hidden_states_1": noise(1, 32, 384)}
    with torch.no_grad():
        before, after = old(z, 5, **states).sample, new(torch.cat([z, more], 1), 5, **states).sample
    assert torch.allclose(before, after, atol=1e-5)


# -- the sizes of nano ------------------------------------------------------------------------------------------------
def test_the_noise_schedule_is_audioldms_and_does_not_clip() -> None:
    scheduler = build_scheduler()
    betas = torch.linspace(0.0015**0.5, 0.0195**0.5, 1000, dtype=torch.float64) ** 2
    assert torch.allclose(scheduler.alphas_cumprod.double(), torch.cumprod(1 - betas, 0), rtol=1e-4)
    assert scheduler.config.clip_sample is False and scheduler.config.prediction_type == "v_prediction"


def test_the_parts_of_nano_fit_together() -> None:
    torch.manual_seed(0)
    writer, unet = build_writer().eval(), build_unet().eval()
    bank: dict[str, Any] = {"states": torch.zeros(2, 32, 384, dtype=torch.half), "mask": torch.ones(2, 32, dtype=torch.bool)}
    first, second = CaptionBank(("a", "b"), bank["states"], bank["mask"], {}).conditions([0, 1])
    with torch.no_grad():
        loa = writer(first, second)
        out = unet(
            torch.cat([noise(2, 8, 64, 8), envelopes([np.zeros((512, 64), np.float16)] * 2, np.random.default_rng(0))], dim=1),
            torch.tensor([10, 900]),
            encoder_hidden_states=loa.states,
            encoder_hidden_states_1=second.states,
            encoder_attention_mask_1=second.mask,
        ).sample
    assert loa.states.shape == (2, AudioMaeConfig().tokens, AudioMaeConfig().width) and out.shape == (2, 8, 64, 8)
    assert json.loads(writer.language_model.config.to_json_string())["n_positions"] >= 1 + 2 + 32 + 2 + 8
