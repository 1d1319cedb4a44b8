"""CLAP and ImageBind scores at random weights: the cosine of what the official code gave for the same inputs."""

import json
import shutil

import numpy as np
import pytest
import torch
from tokenizers import ByteLevelBPETokenizer

from encoders.imagebind import ImageBindModel, Trunk
from evaluation.distances import cosine
from evaluation.embedders_joint import Clap, ImageBindSound
from media.audio import Audio
from media.image import encode_png
from tests.drawn import draw_into, drawn, drawn_picture, drawn_sound
from tests.encoder_fakes import PARITY
from tests.encoders.test_imagebind import recorded_config
from tests.encoders.test_laion_clap import SHAPES, windows

BIND, CLAP = np.load(PARITY / "imagebind.npz"), np.load(PARITY / "laion_clap.npz")


@pytest.fixture(scope="module")
def bind(tmp_path_factory):
    folder = tmp_path_factory.mktemp("imagebind")
    model = ImageBindModel(recorded_config())
    draw_into(model)
    torch.save(model.state_dict(), folder / "imagebind_huge.pth")
    sizes = {name: list(vars(value).values()) if isinstance(value, Trunk) else value for name, value in vars(recorded_config()).items()}
    (folder / "config.json").write_text(json.dumps(sizes))
    shutil.copy(PARITY / "bpe_tiny.txt.gz", folder / "bpe_simple_vocab_16e6.txt.gz")
    return ImageBindSound(folder)


@pytest.fixture(scope="module")
def clap(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clap")
    torch.save(
        {key: windows() if key.endswith("position_index") else drawn(key, shape) for key, shape in SHAPES.items()}, folder / "a.pt"
    )
    words = ByteLevelBPETokenizer()
    words.train_from_iterator(["a dog barks"], special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"], show_progress=False)
    words.save_model(str(folder))
    return Clap(folder)


@pytest.mark.parity
def test_imagebind_score_is_the_official_one(bind, tmp_path):
    paths = [tmp_path / f"{seed}.png" for seed in (1, 2, 3)]
    for path, picture in zip(paths, (drawn_picture(97, 131, 1), drawn_picture(301, 240, 2), drawn_picture(64, 64, 3)), strict=True):
        path.write_bytes(encode_png(picture))
    rates = [(16_000, 1.0, 1), (44_100, 5.3, 2), (48_000, 9.7, 1)]
    sounds = [Audio(drawn_sound(rate, seconds, channels, 50 + i), rate) for i, (rate, seconds, channels) in enumerate(rates)]

    ours = cosine(bind.sights(paths), np.stack([heard.vector for heard in bind.embed(sounds)]))
    official = torch.cosine_similarity(torch.from_numpy(BIND["pictures"]), torch.from_numpy(BIND["sounds"])).numpy()

    assert ours == pytest.approx(official, abs=1e-5) and np.ptp(official) > 1e-3


@pytest.mark.parity
def test_clap_score_is_the_official_one(clap):
    sounds = [Audio(drawn_sound(48_000, seconds, 1, 80 + i), 48_000) for i, seconds in enumerate((10.0, 2.3, 0.4))]
    heard = np.stack([each.vector for each in clap.embed(sounds)])
    said = []
    for ids in torch.from_numpy(CLAP["ids"]):
        own = ids[ids != 1][None]
        said.append(clap._clap._vector(clap._clap._model.get_text_features(own, attention_mask=torch.ones_like(own)))[0].numpy())

    for text, official in zip(said, CLAP["texts"], strict=True):
        ours = cosine(np.repeat(text[None], 3, 0), heard)
        assert ours == pytest.approx(CLAP["sounds"] @ official, abs=1e-5)
    assert np.linalg.norm(heard, axis=1) == pytest.approx(1, abs=1e-5)


def test_both_are_known_by_their_files(bind, clap):
    assert bind.digest != clap.digest and bind.digest.startswith("sha256:")
