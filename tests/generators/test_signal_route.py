"""Pictures and sounds through a language model's hidden states to nano's U-Net, with a small model at random weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from encoders.signal_lm import SIGNAL, Medium, SignalLM, load
from encoders.smollm import Llama
from encoders.text import pool
from generators import signal_route
from generators.audioldm2 import AudioLDM2
from generators.base import GenerationRequest
from generators.conditioning import NanoConditioner
from generators.signal_route import SignalConditioner
from media.refs import MediaRef, MediaStore
from tests import makers
from tests.encoders.test_signal_lm import SHAPE, SIZE, tokenizer
from tests.fakes import tiny_nano
from training.captions import phrases

PICTURES = Path(__file__).parents[1] / "data" / "pictures"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    tiny_nano(home / "checkpoints" / "tiny", 0)
    folder = home / "checkpoints" / "signal"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"stands for the weights, which are handed in")
    return home


@pytest.fixture(scope="module")
def backend(home: Path) -> Any:
    torch.manual_seed(0)
    lm = Llama(SHAPE).requires_grad_(False)
    for parameter in lm.parameters():
        torch.nn.init.normal_(parameter, 0.1, 0.3)
    model = SignalLM(lm, tokenizer(), replace(SIZE, media=384, outputs=384)).eval().requires_grad_(False)
    model.labels.copy_(torch.randn(1000, 384) / 20)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(signal_route, "load", lambda folder, cache: model)
        made = AudioLDM2("tiny", {"checkpoint": "tiny", "route": "signal"}, MediaStore(home / "store"), home)
        made.load()
        yield made


@pytest.fixture
def cat(backend: AudioLDM2) -> MediaRef:
    return backend.store.put_file(PICTURES / "chelsea.jpg")


@pytest.fixture
def rocket(backend: AudioLDM2) -> MediaRef:
    return backend.store.put_file(PICTURES / "rocket.jpg")


def conditioner(backend: AudioLDM2) -> SignalConditioner:
    assert isinstance(backend._conditioner, SignalConditioner)
    return backend._conditioner


def test_a_prompt_alone_is_read_as_without_the_route(backend: AudioLDM2) -> None:
    request = GenerationRequest(prompt="a dog barks")
    routed = conditioner(backend)
    mine, plain = routed.conditions(request), NanoConditioner.conditions(routed, request)
    assert torch.equal(mine.text.states, plain.text.states) and torch.equal(mine.loa.states, plain.loa.states)


def test_a_picture_is_heard_through_the_signals_and_no_words(backend: AudioLDM2, cat: MediaRef) -> None:
    routed = conditioner(backend)
    known = routed.conditions(GenerationRequest(media=(cat,)))
    assert known.words == ""
    states = routed.signals("", [routed.medium(cat)])
    assert torch.equal(known.text.states, routed.text_of(states).states)
    assert known.text.states.shape == (1, 32, 384) and known.loa.states.shape == (1, 8, 128)


def test_a_picture_of_one_colour_says_nothing(backend: AudioLDM2, tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), (200, 30, 30)).save(tmp_path / "red.png")
    kind, vector = conditioner(backend).medium(backend.store.put_file(tmp_path / "red.png"))
    assert kind == "image" and float(vector.norm()) == 0.0


def test_swapped_hidden_states_carry_the_other_picture(backend: AudioLDM2, cat: MediaRef, rocket: MediaRef) -> None:
    routed = conditioner(backend)
    first, other = (routed.conditions(GenerationRequest(media=(ref,))) for ref in (cat, rocket))
    assert float((first.text.states - other.text.states).abs().max()) > 1e-4
    swapped = routed.text_of(routed.signals("", [routed.medium(rocket)]))
    assert torch.equal(swapped.states, other.text.states) and torch.equal(routed._written(swapped).states, other.loa.states)


def test_words_and_sounds_beside_a_picture_change_it(backend: AudioLDM2, cat: MediaRef) -> None:
    routed = conditioner(backend)
    tone = backend.store.put_audio(makers.tone(440))
    requests = [
        GenerationRequest(media=(cat,)),
        GenerationRequest(media=(cat,), prompt="far away"),
        GenerationRequest(media=(cat, tone)),
    ]
    first, *others = (routed.conditions(request).text.states for request in requests)
    assert all(float((first - other).abs().max()) > 1e-4 for other in others)


def test_the_states_and_no_other_words_choose_the_loudness_curve(
    backend: AudioLDM2, cat: MediaRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    routed = conditioner(backend)
    monkeypatch.setattr(routed, "_anchor_cosine", -1.0)
    anchors = routed._labeller.anchors
    assert anchors is not None
    said = pool(routed.text_of(routed.signals("", [routed.medium(cat)])))[0].numpy()
    assert routed.one_sound(GenerationRequest(media=(cat,))) == (anchors.meant(said)[0] or None)
    named = replace(anchors, labels=tuple("cat" for _ in anchors.labels))  # whatever the states say, it is that
    monkeypatch.setattr(routed._labeller, "anchors", named)
    assert routed.one_sound(GenerationRequest(media=(cat,))) == anchors.texts[0]
    assert routed.one_sound(GenerationRequest(media=(cat,), prompt="far away")) == anchors.texts[0]
    assert routed.one_sound(GenerationRequest(media=(cat,), prompt="knocking three times")) is None
    monkeypatch.setattr(routed, "_anchor_cosine", 1.1)
    assert routed.one_sound(GenerationRequest(media=(cat,))) is None


def test_the_signal_weights_are_part_of_what_signs_a_sound(home: Path) -> None:
    def hashed(route: str) -> str:
        return str(AudioLDM2("tiny", {"checkpoint": "tiny", "route": route}, MediaStore(home / "store"), home)._weights_hash)

    before = hashed("signal")
    assert before != hashed("caption")
    weights = home / "checkpoints" / "signal" / "model.safetensors"
    kept = weights.read_bytes()
    weights.write_bytes(b"others")
    assert hashed("signal") != before
    weights.write_bytes(kept)


def test_the_route_is_refused_where_it_was_not_trained(home: Path) -> None:
    (home / "checkpoints" / "hub").mkdir()
    (home / "checkpoints" / "hub" / "model_index.json").write_text("{}")
    ready = AudioLDM2("hub", {"checkpoint": "hub", "route": "signal"}, MediaStore(home / "store"), home).readiness()
    assert not ready.ready and "trained for nano" in ready.reason


# -- what is shipped ---------------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_the_shipped_model_says_what_a_picture_sounds_like_without_a_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told by the sentence space: the text states that the picture became lie nearest to those of the right sound of 93."""
    monkeypatch.setattr(signal_route, "load", load)  # not the small one
    backend = AudioLDM2("nano-signal", {"checkpoint": "nano", "route": "signal"}, MediaStore(tmp_path / "store"), tmp_path)
    backend.load()
    routed = conditioner(backend)
    assert sum(file.stat().st_size for file in SIGNAL.iterdir()) < 10e6
    names = [name.replace("_", " ") for name in phrases()]
    known = torch.from_numpy(routed._text.sentences(names))

    def pooled(words: str, media: list[Medium]) -> torch.Tensor:
        return torch.nn.functional.normalize(pool(routed.text_of(routed.signals(words, media))), dim=-1)[0]

    def nearest(vector: torch.Tensor) -> str:
        return names[int((known @ vector).argmax())]

    cat, motorcycle = (routed.medium(backend.store.put_file(PICTURES / f"{name}.jpg")) for name in ("chelsea", "motorcycle"))
    assert nearest(pooled("", [cat])) == "cat" and nearest(pooled("", [motorcycle])) == "car engine"
    assert nearest(pooled("", [("image", torch.zeros(384))])) not in ("cat", "car engine")
    assert float(pooled("", [cat]) @ pooled("far away", [cat])) < 0.9
