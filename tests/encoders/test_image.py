"""The EfficientNet-Lites on the repository's own pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from encoders.image import LITE1, LITE2, EfficientNetLite, ImageLabeller, Variant, prepare
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


@pytest.mark.parametrize(("size", "millions"), [(LITE1, 5.42), (LITE2, 6.09)])
def test_the_larger_sizes_have_the_published_numbers_of_parameters(size: Variant, millions: float) -> None:
    with torch.device("meta"):
        counted = sum(parameter.numel() for parameter in EfficientNetLite(size).parameters())
    assert counted / 1e6 == pytest.approx(millions, abs=0.01)
