"""Pictures: the colours that went in come out, upright and without holes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from media.image import load_image
from tests import makers


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_a_red_picture_is_red(tmp_path: Path, suffix: str) -> None:
    pixels = load_image(makers.picture(tmp_path / f"a{suffix}", makers.halves(makers.RED, makers.RED)))
    assert pixels.shape == (16, 32, 3) and pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - makers.RED).max() <= 3


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_every_orientation_of_a_camera_comes_out_upright(tmp_path: Path, suffix: str) -> None:
    """The scene has a red top left corner, green top right, blue bottom left; the camera stored it in eight ways (EXIF 2.32, 4.6.4)."""
    scene = np.full((16, 32, 3), 255, np.uint8)
    scene[:8, :16], scene[:8, 16:], scene[8:, :16] = makers.RED, makers.GREEN, makers.BLUE
    stored = {
        1: scene,
        2: scene[:, ::-1],
        3: scene[::-1, ::-1],
        4: scene[::-1],
        5: scene.transpose(1, 0, 2),
        6: np.rot90(scene, 1),  # 6: row 0 is the scene's right side, column 0 its top
        7: scene.transpose(1, 0, 2)[::-1, ::-1],
        8: np.rot90(scene, -1),
    }
    for orientation, pixels in stored.items():
        path = makers.picture(tmp_path / f"{orientation}{suffix}", np.ascontiguousarray(pixels), orientation)
        found = load_image(path)
        assert found.shape == (16, 32, 3), orientation
        # The middle of each quarter: JPEG is not exact at edges.
        assert np.abs(found[4::8, 8::16].astype(int) - scene[4::8, 8::16]).max() <= 10, orientation


def test_transparency_lies_over_white(tmp_path: Path) -> None:
    pixels = np.zeros((4, 3, 4), np.uint8)
    pixels[:, 0], pixels[:, 1], pixels[:, 2] = (255, 0, 0, 255), (255, 0, 0, 0), (0, 0, 0, 128)
    for suffix in (".png", ".webp"):
        Image.fromarray(pixels).save(tmp_path / f"a{suffix}", lossless=True, exact=True)  # PNG passes over both
        row = load_image(tmp_path / f"a{suffix}")[0].astype(int)
        assert np.abs(row - [[255, 0, 0], [255, 255, 255], [127, 127, 127]]).max() <= 1


def test_a_palette_with_one_clear_colour_lies_over_white(tmp_path: Path) -> None:
    picture = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    picture.putpalette([255, 0, 0, 0, 255, 0])
    picture.save(tmp_path / "a.png", transparency=0)
    assert load_image(tmp_path / "a.png").tolist() == [[[255, 255, 255], [0, 255, 0]]]


def test_sixteen_bit_grey_keeps_its_steps(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 257 * 64, 257 * 128, 65535]], np.uint16)).save(tmp_path / "a.png")
    assert load_image(tmp_path / "a.png")[0, :, 0].tolist() == [0, 64, 128, 255]


def test_printers_colours_are_not_inverted(tmp_path: Path) -> None:
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=95)
    red = load_image(tmp_path / "a.jpg")[8, 8].astype(int)
    assert red[0] > 240 and red[1:].max() < 15


def test_of_an_animation_the_first_picture_counts(tmp_path: Path) -> None:
    first, second = (Image.new("RGB", (8, 8), colour) for colour in (makers.GREEN, makers.BLUE))
    first.save(tmp_path / "a.webp", save_all=True, append_images=[second], lossless=True)
    assert load_image(tmp_path / "a.webp")[4, 4].tolist() == list(makers.GREEN)


def test_a_damaged_note_of_the_camera_does_not_spoil_the_picture(tmp_path: Path) -> None:
    path = makers.picture(tmp_path / "a.jpg", makers.halves(), orientation=6)
    data = path.read_bytes()
    at = data.index(b"Exif\0\0") + 6
    path.write_bytes(data[:at] + b"MM\0*\xff\xff\xff\xff" + data[at + 8 :])
    assert load_image(path)[8, 4, 0] > 240


def test_just_below_the_pixel_cap_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(makers.large_png(5000, 5000))
    assert load_image(tmp_path / "a.png").shape == (5000, 5000, 3)
