"""What stands in a caption's place: captions weighed by nearness, and a prompt beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from encoders.base import Condition
from encoders.bridge import Bridge, BridgedReader, weighted_states
from encoders.imagebind import ImageBind, modality_of
from encoders.t5 import FlanT5
from encoders.weights import WeightsError
from media.audio import Audio
from media.imu import Motion
from tests.drawn import drawn_picture
from tests.encoder_fakes import tiny_imagebind, tiny_t5

TEXTS = ("a dog barks", "rain on a tin roof", "piano", "the cat meows")


def tokens(value: float, real: int, length: int = 6) -> Condition:
    return Condition("t5", torch.full((1, length, 3), value), (torch.arange(length) < real)[None])


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> BridgedReader:
    generator = torch.Generator().manual_seed(0)
    vectors = torch.nn.functional.normalize(torch.randn(4, 8, generator=generator), dim=-1)
    bridge = Bridge(torch.randn(32, 8, generator=generator), {"text": torch.zeros(32)}, vectors.mean(0), 1.0, TEXTS, vectors)
    t5 = FlanT5(tiny_t5(tmp_path_factory.mktemp("t5")), length=12)
    return BridgedReader(
        bridge, ImageBind(tiny_imagebind(tmp_path_factory.mktemp("imagebind"))), lambda text: t5.encode([text]), length=20
    )


def test_captions_stand_behind_each_other_and_lighter_ones_are_scaled() -> None:
    made = weighted_states([tokens(1.0, 2), tokens(2.0, 3)], [0.6, 0.3], length=9)
    assert made.states[0, :, 0].tolist() == [1, 1, 1, 1, 1] and bool(made.mask.all())  # 2.0 at half the weight
    assert weighted_states([tokens(1.0, 4), tokens(2.0, 4)], [0.5, 0.5], length=5).states[0, :, 0].tolist() == [1, 1, 1, 1, 2]


def test_a_picture_gives_a_vector_and_the_states_of_its_captions(reader: BridgedReader) -> None:
    picture = drawn_picture(80, 60, 1)
    clap, text, caption = reader.read([("vision", picture)])
    vector = reader.bridge.to_clap(reader.encoder.encode([picture]).states[0, 0], "vision")
    assert torch.allclose(clap.states[0, 0], vector) and clap.name == "clap" and text.name == "t5"
    near = reader.bridge.captions(vector)
    assert caption == near[0][0] and text.states.shape[1] <= 20
    first = reader._t5(caption)
    assert torch.equal(text.states[0, : int(first.mask.sum())], first.states[first.mask])  # the nearest at full weight, first


def test_a_prompt_beside_an_input_comes_first_and_pulls_the_vector(reader: BridgedReader) -> None:
    picture, said = drawn_picture(80, 60, 1), torch.nn.functional.normalize(torch.ones(1, 1, 8), dim=-1)
    alone, _, _ = reader.read([("vision", picture)])
    prompt = reader._t5("rain loudly")
    both, text, _ = reader.read([("vision", picture)], (Condition("clap", 5 * said, torch.ones(1, 1).bool()), prompt))
    cosine = [float((clap.states @ said[0, 0]).item()) for clap in (alone, both)]
    halfway = torch.nn.functional.normalize(alone.states[0, 0] + said[0, 0], dim=-1)
    assert torch.allclose(both.states[0, 0], halfway, atol=1e-6) and cosine[1] > cosine[0]
    assert torch.equal(text.states[0, : int(prompt.mask.sum())], prompt.states[prompt.mask])


def test_several_inputs_are_averaged(reader: BridgedReader) -> None:
    pictures = [("vision", drawn_picture(80, 60, seed)) for seed in (1, 2)]
    one, two, both = (reader.read(given)[0].states[0, 0] for given in (pictures[:1], pictures[1:], pictures))
    assert torch.allclose(both, torch.nn.functional.normalize((one + two) / 2, dim=-1), atol=1e-6)


def test_every_input_has_its_modality() -> None:
    given = ["a", np.zeros((4, 4, 3), np.uint8), [np.zeros((4, 4, 3), np.uint8)], Audio(np.zeros((1, 9), np.float32), 8000)]
    assert [modality_of(one) for one in [*given, Motion(np.zeros((6, 9), np.float32))]] == ["text", "vision", "vision", "audio", "imu"]


def test_a_bridge_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"\.safetensors file"):
        Bridge.load(tmp_path / "b.pt")
