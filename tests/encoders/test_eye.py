"""What the eye sees on the repository's own pictures, and how it adds up what it sees."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from encoders.eye import SIZES, Eye, folded, framed, shows, squeezed
from encoders.image import label_names, loaded
from encoders.sights import heard_as, sights, silent
from media.image import load_image

PICTURES = Path(__file__).parents[1] / "data" / "pictures"


@pytest.fixture(scope="module")
def eye() -> Eye:
    return Eye()


def frame(name: str) -> np.ndarray:
    return load_image(PICTURES / f"{name}.jpg")


@pytest.mark.parametrize(("name", "sound"), [("motorcycle", "car engine"), ("clock", "clock")])
def test_pictures_sound_like_what_they_show(eye: Eye, name: str, sound: str) -> None:
    (first, share), *_ = eye.heard([frame(name)])
    assert first == sound and share > 0.05


def test_what_stands_at_the_edge_is_seen(eye: Eye) -> None:
    wide = np.full((300, 1000, 3), 235, np.uint8)
    wide[:, :451] = np.asarray(Image.fromarray(frame("chelsea")).resize((451, 300)))  # left of the middle square
    assert eye.heard([wide])[0][0] == "cat"


def test_labels_are_probabilities_best_first_and_of_several_frames_their_mean(eye: Eye) -> None:
    cat, cup = frame("chelsea"), frame("coffee")
    both = eye.probabilities([cat, cup])
    assert both.shape == (1000,) and float(both.sum()) == pytest.approx(1, abs=1e-4)
    labels = eye.labels([cat, cup])
    assert [share for _, share in labels] == sorted(both.tolist(), reverse=True)[:5]
    assert {name for name, _ in labels} & {"tabby", "Egyptian cat", "tiger cat"} and {name for name, _ in labels} & {"espresso", "cup"}


def test_one_colour_and_noise_show_nothing_where_a_cat_does(eye: Eye) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (200, 200, 3), np.uint8)
    blank = [np.full((200, 200, 3), (220, 20, 20), np.uint8), noise, np.zeros((1, 1, 3), np.uint8)]
    assert [shows(one) for one in (frame("chelsea"), frame("clock"), *blank)] == [True, True, False, False, False]
    assert eye.heard(blank) == eye.heard([noise]) == []


def test_views_hold_the_whole_picture_and_the_frame_has_the_colour_of_its_border() -> None:
    wide = np.zeros((100, 400, 3), np.uint8)
    wide[:, :10], wide[:, -10:], wide[40:60, 190:210] = (255, 0, 0), (255, 0, 0), (0, 0, 255)
    for view in (squeezed, framed):
        seen = np.asarray(view(Image.fromarray(wide), 240), int)
        assert seen.shape == (240, 240, 3) and seen[120, 0, 0] > 200 and seen[120, -1, 0] > 200 and seen[120, 120, 2] > 150
    green = np.full((60, 30, 3), (20, 200, 20), np.uint8)
    assert (np.asarray(framed(Image.fromarray(green), 240)) == (20, 200, 20)).all()


@torch.no_grad()
def test_the_folded_network_is_the_network() -> None:
    x = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    plain = loaded(SIZES[0])
    expected = plain(x)
    assert torch.allclose(folded(plain)(x), expected, atol=1e-4) and expected.std() > 0.5


# -- what is heard -----------------------------------------------------------------------------------------------------
def test_what_sounds_is_added_up_and_what_is_silent_says_nothing(eye: Eye, monkeypatch: pytest.MonkeyPatch) -> None:
    known = {name.split(",")[0]: k for k, name in enumerate(label_names())}
    assert len(known) > 990
    shown = {"tick": 0.3, "tabby": 0.25, "tiger cat": 0.2, "bow tie": 0.1, "dingo": 0.06, "analog clock": 0.05, "grand piano": 0.04}
    p = np.zeros(1000, np.float32)
    p[[known[name] for name in shown]] = list(shown.values())
    monkeypatch.setattr(eye, "probabilities", lambda frames: p)
    heard = eye.heard([])
    assert [words for words, _ in heard] == ["cat", "wolf", "clock", "grand piano"]
    assert dict(heard)["cat"] == pytest.approx(0.45, abs=0.002)


def test_where_nothing_is_known_nothing_is_heard(eye: Eye, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a dog, though 120 of the labels are dogs."""
    p = np.full(1000, 0.2 / 1000, np.float32)
    p[silent()[0]] = 0.8
    monkeypatch.setattr(eye, "probabilities", lambda frames: p)
    assert eye.heard([]) == [] and eye.probabilities([]) is p


def test_a_crane_is_a_bird_or_a_machine_by_its_number() -> None:
    names = label_names()
    words = heard_as([name.split(",")[0] for name in names])
    assert names[134].startswith("crane") and names[517].startswith("crane")
    assert words[134] == "songbird" and words[517] == "machine"
    # A railway carriage, a bird of prey; a soap bubble, a flowerpot, and a cart that a man draws.
    assert [names[k].split(",")[0] for k in (705, 21, 971, 738, 612)] == ["passenger car", "kite", "bubble", "pot", "jinrikisha"]
    assert [words[k] for k in (705, 21, 971, 738, 612)] == ["train", "songbird", None, None, None]
    assert not set(silent()) & {k for row in sights().values() for k in row}
