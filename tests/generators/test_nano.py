"""The shipped checkpoint: what it understands, and that it is what its card says."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation import probes
from generators.audioldm2 import PACKAGED, AudioLDM2
from generators.base import GenerationRequest
from generators.conditioning import WEAK, parts_of
from generators.scene import arranged, plan
from media.audio import Audio, read_audio
from media.mel import MelSpec, log_mel, loudness_curve
from media.refs import MediaStore

PICTURES = Path(__file__).parents[1] / "data" / "pictures"


@pytest.fixture(scope="module")
def nano(tmp_path_factory: pytest.TempPathFactory) -> AudioLDM2:
    folder = tmp_path_factory.mktemp("nano")
    backend = AudioLDM2(name="nano", options={"checkpoint": "nano"}, store=MediaStore(folder / "store"), home=folder)
    backend.load()
    return backend


def _words(nano: AudioLDM2, prompt: str) -> str:
    return nano._conditioner.conditions(GenerationRequest(prompt=prompt)).words


def test_it_is_shipped_small_and_whole(nano: AudioLDM2) -> None:
    state = nano.readiness()
    assert state.ready and nano.folder == PACKAGED / "nano"
    assert sum(p.stat().st_size for p in nano.folder.rglob("*") if p.is_file()) <= 30e6
    assert "CC BY-SA 4.0" in (nano.folder / "README.md").read_text()


def test_words_that_training_never_saw_are_translated(nano: AudioLDM2) -> None:
    assert _words(nano, "a spaniel yaps at the postman") == "dog, a spaniel yaps at the postman"
    assert _words(nano, "the herd is lowing in the barn") == "cow, the herd is lowing in the barn"
    assert _words(nano, "a dog barking") == "a dog barking"  # known words are left as they are


def test_each_part_of_a_prompt_is_translated_by_itself(nano: AudioLDM2) -> None:
    words = _words(nano, "a spaniel yaps at the postman while the farmyard wakes up call crows")
    assert words.split(", ")[:2] == ["dog", "rooster"]


def test_music_speech_and_nonsense_are_nobodys_sound(nano: AudioLDM2) -> None:
    for prompt in ("xqzv 7731 blorptang", "a sad violin melody", "a man speaking"):
        assert _words(nano, prompt) == prompt


def test_an_unclear_picture_claims_nothing_and_a_cat_is_a_cat(nano: AudioLDM2) -> None:
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.full((64, 64, 3), (200, 30, 30), np.uint8)).save(buffer, "PNG")
    red = nano.store.put_bytes(buffer.getvalue(), "image/png", "image")
    cat = nano.store.put_file(PICTURES / "chelsea.jpg")
    understand = nano._conditioner.understand
    assert understand(red) is None
    anchors = nano.labeller.anchors
    assert dict(zip(anchors.texts, anchors.labels, strict=True))[understand(cat)] == "cat"


def test_words_beside_a_picture_say_how_far_away_it_is(nano: AudioLDM2) -> None:
    cat = nano.store.put_file(PICTURES / "chelsea.jpg")

    def where(words: str, **more: Any) -> list[str]:
        return [layer.where for layer in nano._layers(GenerationRequest(prompt=words, media=(cat,), **more))]

    assert where("but at night, far away") == ["far"] and where("close up") == ["near"]
    assert where("then a dog, while it rains") == where("") == [""]  # what is shown stays one sound


def _made(nano: AudioLDM2, **request: object) -> Audio:
    return read_audio(nano.store.path(nano.generate([GenerationRequest(**({"seconds": 5.12, "steps": 4} | request))])[0].media))


def test_a_tempo_that_is_said_is_the_tempo_that_is_heard(nano: AudioLDM2) -> None:
    for bpm in (75, 140):
        made = _made(nano, prompt=f"knocking on a door at {bpm} bpm")
        heard = probes.tempo(log_mel(made.samples[0], MelSpec()))
        assert heard is not None and abs(heard - bpm) < 0.04 * bpm


def test_one_known_sound_is_given_a_rhythm_and_what_brings_its_own_time_or_is_unknown_is_not(nano: AudioLDM2) -> None:
    def rhythm(prompt: str, **more: object) -> np.ndarray | None:
        return nano._rhythm(GenerationRequest(**({"prompt": prompt, "seconds": 5.12} | more)))

    barks = rhythm("a spaniel yaps at the postman")
    assert barks is not None and np.array_equal(barks, nano._rhythms.curve("dog", 5.12, 0)) and barks.min() < 0.3 < 0.8 < barks.max()
    for other in ("xqzv 7731 blorptang", "a sad violin melody", "a man speaking", "a dog barks while rain falls"):
        assert rhythm(other) is None
    cat = nano.store.put_file(PICTURES / "chelsea.jpg")
    pictured = rhythm("", media=(cat,))
    assert pictured is not None and np.array_equal(pictured, nano._rhythms.curve("cat", 5.12, 0))
    assert rhythm("a dog barks", media=(cat,)) is None  # whose rhythm would it be?


def test_a_rhythm_is_heard(nano: AudioLDM2) -> None:
    made = _made(nano, prompt="a dog barks", steps=6, seed=3)
    curve = nano._rhythm(GenerationRequest(prompt="a dog barks", seconds=5.12, seed=3))
    assert probes.correlation(curve, loudness_curve(log_mel(made.samples[0], MelSpec()))) > 0.7


def test_two_sounds_of_a_prompt_are_two_layers_each_as_if_alone(nano: AudioLDM2) -> None:
    whole = _made(nano, prompt="a cow moos, then rain", seed=5, steps=2)
    layers = plan("a cow moos, then rain", 5.12)
    alone = [_made(nano, prompt=layer.words, seed=seed, steps=2) for layer, seed in zip(layers, (5, 1_000_008), strict=True)]
    wanted = arranged(layers, alone, 5.12)
    assert np.abs(whole.samples - wanted.samples).max() < 1e-3 * np.abs(wanted.samples).max() + 2e-4  # stored in 16 bits in between


def test_and_parts_what_is_named_and_not_what_is_described(nano: AudioLDM2) -> None:
    layers = nano._conditioner.layers
    assert layers("rain and thunder") == ["rain", "thunder"]
    assert layers("a dog barks while the wind blows") == ["a dog barks", "the wind blows"]
    for one in ("a brook babbling over stones", "a spaceship, deep and humming", "a cat, hissing"):
        assert layers(one) == [one]
    assert not nano._conditioner.differ(["a car engine idling", "an engine revving up"])
    assert nano._conditioner.differ(["a dog barks", "rain"])


def test_a_prompt_is_cut_where_one_sound_ends() -> None:
    assert parts_of("a dog barks while rain falls, then thunder") == ["a dog barks", "rain falls", "thunder"]
    assert parts_of("sandstorm over androids") == ["sandstorm over androids"]
    assert parts_of("sandstorm over androids", WEAK) == ["sandstorm", "androids"]
    assert parts_of(",") == [","]


def test_a_loud_mel_is_turned_down_and_not_clipped(nano: AudioLDM2) -> None:
    import torch

    from media.mel import MelSpec, log_mel

    time = np.arange(16_000) / 16_000
    mel = log_mel((0.9 * np.sin(2 * np.pi * 300 * time)).astype(np.float32), MelSpec())
    loud = nano._speak(torch.from_numpy(mel + np.log(4.0).astype(np.float32))).samples[0]
    quiet = nano._speak(torch.from_numpy(mel - np.log(4.0).astype(np.float32))).samples[0]
    assert np.abs(loud).max() == pytest.approx(0.98, abs=1e-4)
    assert np.corrcoef(loud, quiet)[0, 1] > 0.99  # the same wave, not a squared-off one


def test_an_absent_checkpoint_is_missing_and_not_unable(tmp_path: Path) -> None:
    from generators.base import CheckpointMissing

    backend = AudioLDM2(name="gone", options={"checkpoint": "gone"}, store=MediaStore(tmp_path / "store"), home=tmp_path)
    picture = backend.store.put_file(PICTURES / "chelsea.jpg")
    with pytest.raises(CheckpointMissing, match="gone"):
        backend.check(GenerationRequest(media=(picture,)))


def test_a_pictured_instrument_is_music_in_words_and_not_nothing(nano: AudioLDM2, monkeypatch: pytest.MonkeyPatch) -> None:
    conditioner, picture = nano._conditioner, nano.store.put_file(PICTURES / "coffee.jpg")
    monkeypatch.setattr(conditioner._images, "heard", lambda frames: [("violin", 0.5), ("dog", 0.2)])
    words = conditioner.understand(picture)
    assert "violin" in words or "tune" in words or "melody" in words or "music" in words
    assert words in nano.labeller.anchors.texts
    monkeypatch.setattr(conditioner._images, "heard", lambda frames: [("dog", 0.04)])
    assert conditioner.understand(picture) == words  # what was seen is remembered
    conditioner._seen.clear()
    assert conditioner.understand(picture) is None


def test_a_short_sound_follows_its_mel_to_its_end(nano: AudioLDM2, monkeypatch: pytest.MonkeyPatch) -> None:
    """One second of a window of five: as near to the decoder's mel, over its last tenth of a second too, as a cut of the whole."""
    import torch

    from media.audio import fit_length

    def off(sound: Audio, mel: torch.Tensor, part: slice) -> float:
        heard, wanted = log_mel(sound.samples[0], nano._mel)[part], mel.numpy()[:100][part]
        return float(np.abs(np.maximum(heard, -6) - np.maximum(wanted, -6)).mean())

    spoken: list[Any] = []
    speak = nano._speak
    monkeypatch.setattr(nano, "_speak", lambda mel: (spoken.append(mel), speak(mel))[1])
    latents = []
    decode = nano._decode
    monkeypatch.setattr(nano, "_decode", lambda z, *rest: (latents.append(z), decode(z, *rest))[1])
    made = [
        nano._synthesise([GenerationRequest(prompt=words, seconds=1.0, steps=8, seed=0)], 1, lambda _: None, lambda: False)[0]
        for words in ("rain on a roof", "an engine idles")
    ]
    for sound, latent, heard in zip(made, latents, spoken, strict=True):
        with torch.no_grad():
            mel = nano._vae.decode(latent[None] / nano._vae.config.scaling_factor).sample[0, 0]
        assert len(heard) == 116 and len(mel) == 512 and sound.samples.shape == (1, 16_000)

        whole = fit_length(speak(mel), 1.0)
        for part in (slice(0, 88), slice(88, 98)):
            assert off(sound, mel, part) < 1.25 * off(whole, mel, part) + 0.02
