"""ImageBind: keys of the public file, numbers of the official code, preprocessing included."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from encoders.base import EncoderMissing
from encoders.imagebind import (
    ImageBind,
    ImageBindConfig,
    ImageBindModel,
    Trunk,
    Vocabulary,
    clip_frames,
    clip_indices,
    motion_input,
    picture_input,
    sound_input,
    video_input,
)
from encoders.weights import WeightsError, compare, shapes_of
from media.audio import Audio
from media.imu import Motion
from tests import makers
from tests.drawn import draw_into, drawn_picture, drawn_sound
from tests.encoder_fakes import tiny_imagebind

DATA = Path(__file__).parent.parent / "data" / "parity"
RECORDED = np.load(DATA / "imagebind.npz")
NOTE = json.loads(str(RECORDED["note"]))
SETTINGS = NOTE["settings"]


def recorded_config() -> ImageBindConfig:
    def trunk(name: str) -> Trunk:
        return Trunk(*(SETTINGS[f"{name}_{what}"] for what in ("embed_dim", "num_blocks", "num_heads")))

    names = ("vision", "text", "audio", "depth", "thermal", "imu")
    return ImageBindConfig(out=SETTINGS["out_embed_dim"], **{name: trunk(name) for name in names})


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> ImageBind:
    """The recorded sizes and weights, through the folder that users fill."""
    folder = tmp_path_factory.mktemp("imagebind")
    model = ImageBindModel(recorded_config())
    draw_into(model)
    torch.save(model.state_dict(), folder / "imagebind_huge.pth")
    fields = {
        name: list(vars(value).values()) if isinstance(value, Trunk) else value for name, value in vars(recorded_config()).items()
    }
    (folder / "config.json").write_text(json.dumps(fields))
    shutil.copy(DATA / "bpe_tiny.txt.gz", folder / "bpe_simple_vocab_16e6.txt.gz")
    return ImageBind(folder)


def equal(encoder: ImageBind, inputs: list[Any], name: str) -> bool:
    got, wanted = encoder.encode(inputs).states[:, 0].numpy(), RECORDED[name]
    return bool(np.abs(got - wanted).max() < 1e-4) and got.shape == wanted.shape and wanted.std() > 0.1


@pytest.mark.parity
def test_keys_and_shapes_at_true_size_are_those_of_the_public_file() -> None:
    with gzip.open(DATA / "imagebind_huge.json.gz") as file:
        manifest = {key: tuple(shape) for key, shape in json.load(file).items()}
    with torch.device("meta"):
        model = ImageBindModel(ImageBindConfig())
    assert len(manifest) == 1311 and not compare(manifest, shapes_of(model))
    assert sum(p.numel() for p in model.parameters()) + 77 * 77 == sum(int(np.prod(shape)) for shape in manifest.values())


@pytest.mark.parity
def test_pictures_equal_the_official_code(encoder: ImageBind) -> None:
    assert equal(encoder, [drawn_picture(97, 131, 1), drawn_picture(301, 240, 2), drawn_picture(64, 64, 3)], "pictures")


@pytest.mark.parity
def test_videos_equal_the_official_code(encoder: ImageBind) -> None:
    videos = []
    for number, (count, height, width, fps) in enumerate([(31, 60, 90, 10), (26, 80, 50, 5), (7, 48, 64, 8)]):
        videos.append([drawn_picture(height, width, 100 * number + index) for index in clip_indices(count, fps)])
    assert equal(encoder, videos, "videos")


@pytest.mark.parity
def test_sounds_equal_the_official_code(encoder: ImageBind) -> None:
    rates = [(16_000, 1.0, 1), (44_100, 5.3, 2), (48_000, 9.7, 1)]
    sounds = [Audio(drawn_sound(rate, seconds, channels, 50 + i), rate) for i, (rate, seconds, channels) in enumerate(rates)]
    assert equal(encoder, sounds, "sounds")


@pytest.mark.parity
def test_texts_equal_the_official_code(encoder: ImageBind) -> None:
    vocabulary = Vocabulary(DATA / "bpe_tiny.txt.gz")
    for text, tokens in zip(NOTE["texts"], RECORDED["tokens"], strict=True):
        assert vocabulary.tokens(text).tolist() == tokens.tolist(), text
    assert equal(encoder, NOTE["texts"], "texts")


@pytest.mark.parity
def test_motion_depth_and_heat_equal_the_official_code(encoder: ImageBind) -> None:
    draw = np.random.default_rng(0)
    motions = draw.standard_normal((2, 6, 2000)).astype(np.float32)
    assert equal(encoder, [Motion(motion) for motion in motions], "motions")
    image = torch.from_numpy(draw.standard_normal((1, 1, 224, 224)).astype(np.float32))
    encoder.load()
    assert encoder._model is not None
    for name in ("depth", "thermal"):
        assert np.abs(encoder._model(name, image).numpy() - RECORDED[name]).max() < 1e-4


def test_only_vision_has_unit_length(encoder: ImageBind) -> None:
    """Whoever compares the spaces must bring them to one length first."""
    words, picture, sound = encoder.encode(encoder.sample_input()).states.norm(dim=-1)[:, 0].tolist()
    assert picture == pytest.approx(1) and words == pytest.approx(100, rel=1e-4)  # the cap: the stored scale is 150
    assert 10 < sound <= 20 + 1e-4


def test_a_red_picture_is_red_and_its_middle_is_kept() -> None:
    x = picture_input(makers.halves(makers.RED, makers.BLUE, size=(448, 224)))[0]
    mean, std = torch.tensor([0.48145466, 0.4578275, 0.40821073]), torch.tensor([0.26862954, 0.26130258, 0.27577711])
    pixels = x * std[:, None, None] + mean[:, None, None]
    assert pixels.shape == (3, 224, 224)
    assert torch.allclose(pixels[:, 100, 50], torch.tensor([1.0, 0, 0]), atol=1e-5)
    assert torch.allclose(pixels[:, 100, 170], torch.tensor([0.0, 0, 1]), atol=1e-5)


def test_the_crops_of_a_wide_video_are_left_middle_and_right() -> None:
    wide = np.zeros((224, 672, 3), np.uint8)
    for third, colour in enumerate((makers.RED, makers.GREEN, makers.BLUE)):
        wide[:, 224 * third : 224 * (third + 1)] = colour
    x = video_input([wide] * 10)
    assert x.shape == (15, 3, 2, 224, 224)
    assert x[:, :, 0, 112, 112].argmax(dim=1).tolist() == [0, 1, 2] * 5
    assert video_input([wide.transpose(1, 0, 2).copy()] * 10)[:, :, 1, 112, 112].argmax(dim=1).tolist() == [0, 1, 2] * 5


def test_the_frames_of_a_file_are_the_first_and_last_of_each_clip(tmp_path: Path) -> None:
    shades = [((20 * k) % 256, 0, (255 - 20 * k) % 256) for k in range(12)]
    path = makers.clip(tmp_path / "v.mp4", [(shade, 0.5) for shade in shades], fps=10)  # 6 s, 60 frames, a new shade every 5
    frames = clip_frames(path)
    wanted = clip_indices(60, 10)
    assert wanted == [0, 19, 8, 27, 16, 35, 24, 43, 32, 51]
    for frame, index in zip(frames, wanted, strict=True):
        assert abs(int(frame[24, 32, 0]) - shades[index // 5][0]) < 12, index


def test_a_sound_shorter_than_a_clip_is_padded_before_it_is_normalised() -> None:
    x = sound_input(Audio(drawn_sound(16_000, 1.0, 1, 0), 16_000))
    assert x.shape == (3, 1, 128, 204)
    assert torch.allclose(x[:, :, :, 98:], torch.full((3, 1, 128, 106), 4.268 / 9.138))  # zeros of the filterbank
    assert torch.isfinite(sound_input(Audio(np.zeros((1, 10), np.float32), 16_000))).all()


def test_a_long_text_is_cut_and_keeps_its_end_mark() -> None:
    vocabulary = Vocabulary(DATA / "bpe_tiny.txt.gz")
    tokens = vocabulary.tokens("the " * 500)
    assert len(tokens) == 77 and tokens[0] == vocabulary.start and tokens[-1] == vocabulary.end == tokens.max()
    assert vocabulary.tokens("THE  the\n").tolist()[:4] == [vocabulary.start, 518, 518, vocabulary.end]


def test_a_folder_without_weights_says_which_file_what_licence_and_where(tmp_path: Path) -> None:
    with pytest.raises(EncoderMissing) as why:
        ImageBind(tmp_path).encode(["a dog"])
    said = str(why.value)
    for word in ("imagebind_huge.pth", "4.8 GB", "CC BY-NC-SA 4.0", "fbaipublicfiles", "'imagebind' holds no code", "torch 1.13"):
        assert word in said
    assert why.value.exit_code == 3 and "\n" not in said


def test_a_folder_without_the_vocabulary_still_hears_and_sees(tmp_path: Path) -> None:
    folder = tiny_imagebind(tmp_path)
    (folder / "bpe_simple_vocab_16e6.txt.gz").unlink()
    encoder = ImageBind(folder)
    assert encoder.encode([drawn_picture(60, 60, 0)]).states.shape == (1, 1, 32)
    with pytest.raises(EncoderMissing, match=r"bpe_simple_vocab_16e6\.txt\.gz is missing.*MIT"):
        encoder.encode(["a dog"])
    (folder / "bpe_simple_vocab_16e6.txt.gz").write_bytes(b"not gzip")
    with pytest.raises(EncoderMissing, match="no gzipped list of merges"):
        encoder.encode(["a dog"])


def test_another_size_of_weights_is_refused_by_name(tmp_path: Path) -> None:
    folder = tiny_imagebind(tmp_path)
    (folder / "config.json").unlink()  # so the file is read as imagebind_huge
    with pytest.raises(WeightsError, match=r"imagebind_huge\.safetensors does not fit: .*missing \(\d+\)"):
        ImageBind(folder).load()


def test_an_input_of_no_known_kind_is_named(encoder: ImageBind) -> None:
    with pytest.raises(TypeError, match="got int"):
        encoder.encode([3])


def test_a_motion_of_another_length_is_stretched_from_end_to_end() -> None:
    ramp = np.tile(np.linspace(-1, 1, 500, dtype=np.float32), (6, 1))
    x = motion_input(Motion(ramp))
    assert x.shape == (1, 6, 2000) and torch.allclose(x[0], torch.linspace(-1, 1, 2000).expand(6, -1), atol=1e-5)
    same = np.random.default_rng(0).standard_normal((6, 2000)).astype(np.float32)
    assert torch.equal(motion_input(Motion(same))[0], torch.from_numpy(same))
