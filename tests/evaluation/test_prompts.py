import json
import re
from collections import Counter
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from configs.registry import ConfigError
from evaluation.judge import SHIPPED
from evaluation.prompts import ANIMALS, DATA, PICTURES, blank_pictures, moving_picture, read_paraphrases
from media.video import probe, sample_frames

ALL = read_paraphrases()


def content_words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"[a-z0-9]+", text.casefold())) - {"a", "an", "the"}


def test_every_class_is_asked_for_in_four_ways():
    from training.synthesis import CLASSES

    asked = Counter((row.kind, row.name) for row in ALL)

    assert {name for kind, name in asked if kind == "procedural"} == set(CLASSES)
    assert set(asked.values()) == {4}
    assert len({row.prompt.casefold() for row in ALL}) == len(ALL)


def test_half_of_the_prompts_do_not_name_the_class():
    naming = Counter((row.kind, row.name) for row in ALL if content_words(row.name.replace("_", " ")) <= content_words(row.prompt))

    assert max(naming.values()) <= 2


def test_every_recorded_class_that_the_judge_names_is_asked_for():
    config = json.loads((SHIPPED / "config.json").read_text(encoding="utf-8"))
    asked = {row.name for row in ALL if row.kind == "recorded"}

    answered = {config["twins"].get(name, name) for name in asked} - set(config["unjudged"])
    assert answered == set(config["recorded"])


def test_no_prompt_is_a_training_caption():
    from training.captions import all_phrases

    learned = {content_words(phrase): phrase for phrase in all_phrases()}
    assert len(learned) > 100

    leaked = {row.prompt: learned[content_words(row.prompt)] for row in ALL if content_words(row.prompt) in learned}
    assert leaked == {}


def test_a_wrong_line_is_named(tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"class": "dog", "kind": "procedural", "prompt": "woof"}\n{"class": "cat"}\n', encoding="utf-8")

    with pytest.raises(ConfigError, match="line 2"):
        read_paraphrases(path)
    with pytest.raises(ConfigError, match="checkout"):
        read_paraphrases(tmp_path / "missing.jsonl")


def test_pictures_accept_labels_that_the_judge_gives():
    labels = set(json.loads((SHIPPED / "config.json").read_text(encoding="utf-8"))["labels"])

    assert {label for picture in PICTURES for label in picture.labels} <= labels
    assert len([picture for picture in PICTURES if picture.labels]) == 5
    for picture in PICTURES:
        with Image.open(DATA / "pictures" / picture.file) as opened:
            assert min(opened.size) > 200
    # An elephant and a goat are animals that this judge cannot name: claiming them cannot be heard.
    assert ANIMALS - labels == {"elephant", "goat"}


def test_red_square_is_red_and_noise_is_noise():
    red, noise = (Image.open(BytesIO(data)) for data in blank_pictures().values())

    assert red.getcolors() == [(224 * 224, (255, 0, 0))]
    assert len(noise.getcolors(maxcolors=224 * 224) or [1]) > 40_000 or noise.getcolors(maxcolors=1000) is None


def test_a_moving_picture_is_a_video_of_that_picture(tmp_path):
    path = tmp_path / "horse.mp4"
    path.write_bytes(moving_picture(DATA / "pictures" / "horse.jpg"))

    told = probe(path)
    assert told.seconds == pytest.approx(2.0, abs=0.01) and (told.width, told.height) == (224, 224)
    first, last = (frame.astype(float) for frame in sample_frames(path, 2))
    with Image.open(DATA / "pictures" / "horse.jpg") as opened:
        still = np.asarray(opened.convert("RGB"), float)
    assert abs(first.mean() - still.mean()) < 30  # the same bright picture
    assert np.abs(first - last).mean() > 3  # and it moves
