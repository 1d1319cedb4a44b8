"""EfficientNet-Lite0 on the repository's own pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from encoders.clap import image_vector
from encoders.image import ImageLabeller, prepare
from encoders.sights import heard_as, silent
from encoders.text import SentenceEncoder
from media.image import load_image

PICTURES = Path(__file__).parents[1] / "data" / "pictures"


@pytest.fixture(scope="module")
def images() -> ImageLabeller:
    return ImageLabeller()


def frame(name: str) -> np.ndarray:
    return load_image(PICTURES / f"{name}.jpg")


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("chelsea", {"tabby", "Egyptian cat", "tiger cat", "lynx"}),
        ("coffee", {"espresso", "cup", "coffee mug"}),
        ("motorcycle", {"moped", "motor scooter", "disk brake", "crash helmet"}),
    ],
)
def test_pictures_get_labels_of_what_they_show(images: ImageLabeller, name: str, known: set[str]) -> None:
    assert {label for label, _ in images.labels([frame(name)])} & known


def test_a_cat_is_a_cat(images: ImageLabeller) -> None:
    (first, probability), *_ = images.labels([frame("chelsea")])
    assert first in {"tabby", "Egyptian cat", "tiger cat"} and probability > 0.3


def test_labels_are_probabilities_best_first(images: ImageLabeller) -> None:
    probabilities = images.probabilities([frame("coffee")])
    labels = images.labels([frame("coffee")], top=1000)
    assert probabilities.shape == (1000,) and float(probabilities.sum()) == pytest.approx(1, abs=1e-4)
    assert [p for _, p in labels] == sorted(probabilities.tolist(), reverse=True)


def test_a_video_is_the_mean_of_its_frames(images: ImageLabeller) -> None:
    cat, cup = frame("chelsea"), frame("coffee")
    both = images.probabilities([cat, cup, cup])
    assert np.allclose(both, (images.probabilities([cat]) + 2 * images.probabilities([cup])) / 3, atol=1e-6)


def test_a_red_square_and_noise_are_unsure_where_a_cat_is_sure(images: ImageLabeller) -> None:
    text = SentenceEncoder()
    red = np.full((200, 200, 3), (220, 20, 20), np.uint8)
    noise = np.random.default_rng(1).integers(0, 256, (200, 200, 3), np.uint8)
    sure = float(np.linalg.norm(image_vector(images.labels([frame("chelsea")], top=10), text)))
    unsure = [float(np.linalg.norm(image_vector(images.labels([f], top=10), text))) for f in (red, noise)]
    assert sure > 0.5 and max(unsure) < 0.5 < sure and sure > max(unsure) + 0.15


def test_prepare_takes_the_middle_at_the_networks_scale() -> None:
    wide = np.zeros((256, 512, 3), np.uint8)
    wide[:, 144:368] = 255  # exactly the middle 224 columns
    x = prepare(wide)
    assert x.shape == (3, 224, 224) and x.dtype == torch.float32
    assert float(x.min()) == float(x.max()) == 1.0  # (255 - 127) / 128
    assert float(prepare(np.full((300, 300, 3), 127, np.uint8)).abs().max()) == 0


@pytest.mark.parametrize("wrong", [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 4), np.uint8), np.zeros((8, 8, 3), np.float32)])
def test_what_is_no_frame_is_named(wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match="uint8"):
        prepare(wrong)


# -- what is heard -----------------------------------------------------------------------------------------------------
def test_what_sounds_is_added_up_and_what_is_silent_says_nothing(images: ImageLabeller, monkeypatch: pytest.MonkeyPatch) -> None:
    known = {name.split(",")[0]: k for k, name in enumerate(images.names)}
    assert len(known) > 990
    shown = {"tick": 0.3, "tabby": 0.25, "tiger cat": 0.2, "bow tie": 0.1, "dingo": 0.06, "analog clock": 0.05, "grand piano": 0.04}
    p = np.zeros(1000, np.float32)
    p[[known[name] for name in shown]] = list(shown.values())
    monkeypatch.setattr(images, "probabilities", lambda frames: p)
    heard = images.heard([])
    assert [words for words, share in heard if share] == ["cat", "wolf", "clock", "grand piano"]
    assert dict(heard)["cat"] == pytest.approx(0.45)


def test_a_crane_is_a_bird_or_a_machine_by_its_number(images: ImageLabeller) -> None:
    words = heard_as([name.split(",")[0] for name in images.names])
    assert images.names[134].startswith("crane") and images.names[517].startswith("crane")
    assert words[134] != "machine" and words[517] == "machine"
    # A soap bubble, a flowerpot, and a cart that a man draws.
    assert [images.names[k].split(",")[0] for k in (971, 738, 612)] == ["bubble", "pot", "jinrikisha"]
    assert [words[k] for k in (971, 738, 612)] == [None, None, None]
    assert not set(silent()) & {k for k, said in enumerate(words) if said is not None}
