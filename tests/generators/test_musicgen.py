"""MusicGen draws from its own generator, hears a tune's pitch, and AudioGen's official files become the same network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from encoders.weights import WeightsError, read_state_dict
from generators.base import GenerationRequest
from generators.musicgen import MusicGen, chroma, language_model_state, perturbed
from media.refs import MediaStore
from tests.library_fakes import small
from tests.makers import tone


def made(name: str, folder: Path, **more: object) -> MusicGen:
    options = small(name, folder) | ({"layout": "audiocraft"} if name.startswith("audiogen") else {}) | more
    return MusicGen(name, {**options, "checkpoint": str(folder)}, MediaStore(folder / "store"), folder)


def test_the_largest_of_the_perturbed_logits_is_a_draw_from_the_top_of_the_softmax() -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0, -1.0]]).repeat(40_000, 1)
    drawn = perturbed(logits, torch.Generator().manual_seed(0), top_k=3, temperature=0.5).argmax(-1)
    expected = torch.softmax(torch.tensor([0.0, 2.0, 4.0]), 0)
    assert torch.allclose(torch.bincount(drawn, minlength=4)[:3] / 40_000, expected, atol=0.01) and int((drawn == 3).sum()) == 0


@pytest.mark.parametrize(("hertz", "pitch"), [(440.0, 9), (261.63, 0), (1318.5, 4)])  # a, c, e of the twelve from c on
def test_the_pitch_of_a_tune_is_heard(hertz: float, pitch: int) -> None:
    heard = chroma(torch.from_numpy(tone(hertz, 2.0, 32_000).samples[0]), 32_000)
    assert heard.shape[0] == 1 and heard.shape[2] == 12 and bool((heard.sum(-1) == 1).all())
    assert heard[0, 2:-2].argmax(-1).unique().tolist() == [pitch]


def test_another_tune_another_sound(tmp_path: Path) -> None:
    backend = made("musicgen-melody", tmp_path)
    tunes = [backend.store.put_audio(tone(hertz, 1.0, 8000)) for hertz in (440.0, 523.25)]
    ids = {backend.generate([GenerationRequest(prompt="piano", media=(tune,), seconds=2.0)])[0].media.id for tune in tunes}
    assert len(ids) == 2


def test_stereo_has_two_different_sides(tmp_path: Path) -> None:
    backend = made("musicgen-stereo", tmp_path)
    backend.load()
    sound = backend._synthesise([GenerationRequest(prompt="piano", seconds=2.0)], 1, lambda _: None, lambda: False)[0]
    assert sound.channels == 2 and abs(sound.samples[0] - sound.samples[1]).max() > 1e-3


@pytest.mark.parity
@pytest.mark.parametrize("name", ["audiogen-medium"])
def test_it_attends_as_the_fused_projection_of_the_official_file_says(name: str, tmp_path: Path) -> None:
    backend = made(name, tmp_path)
    backend.load()
    official = read_state_dict(tmp_path / "state_dict.bin")
    own = backend._model.decoder.model.decoder.layers[1].self_attn
    x = torch.randn(1, 5, 16, generator=torch.Generator().manual_seed(3))
    judge = torch.nn.MultiheadAttention(16, 2, bias=False, batch_first=True)  # audiocraft's own keys are those of this class
    judge.load_state_dict(
        {key: official[f"transformer.layers.1.self_attn.{key}"] for key in ("in_proj_weight", "out_proj.weight")}, strict=True
    )
    ahead = torch.triu(torch.full((5, 5), float("-inf")), 1)
    with torch.no_grad():
        expected = judge(x, x, x, attn_mask=ahead, need_weights=False)[0]
        got = own(x, attention_mask=ahead[None, None])[0]
    assert float((expected - got).abs().max()) < 1e-5
    codec = read_state_dict(tmp_path / "compression_state_dict.bin")
    conv = backend._model.audio_encoder.decoder.layers[3].conv
    v, g = codec["decoder.model.3.convtr.convtr.weight_v"], codec["decoder.model.3.convtr.convtr.weight_g"]
    assert torch.allclose(conv.weight, g * v / v.flatten(1).norm(dim=1)[:, None, None], atol=1e-6)


def test_a_language_model_of_another_size_is_refused_by_name(tmp_path: Path) -> None:
    backend = made("audiogen-medium", tmp_path)
    other = made("audiogen-medium", tmp_path, decoder={**backend.options.decoder, "hidden_size": 32})
    with pytest.raises(
        WeightsError, match=r"language model does not fit: .*decoder\.embed_tokens\.0\.weight is \[17, 16\] instead of \[17, 32\]"
    ):
        other.load()


def test_fused_projections_are_taken_apart_in_their_order() -> None:
    fused = torch.arange(12.0).reshape(6, 2)
    apart = language_model_state({"transformer.layers.0.cross_attention.in_proj_weight": fused})
    at = "decoder.model.decoder.layers.0.encoder_attn."
    assert {key: value[0, 0].item() for key, value in apart.items()} == {
        f"{at}q_proj.weight": 0,
        f"{at}k_proj.weight": 4,
        f"{at}v_proj.weight": 8,
    }
