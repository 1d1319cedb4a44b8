"""Pictures of log-mels: time to the right, low tones below, louder is lighter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from media.mel import MelSpec, log_mel
from training.spectrograms import COLOURS, GAP, HIGHEST, LOWEST, picture, stack, write_spectrograms


def lightness(rgb: np.ndarray) -> np.ndarray:
    return rgb.astype(float) @ [0.2126, 0.7152, 0.0722]


def test_a_low_tone_that_starts_late_lies_below_and_to_the_right() -> None:
    time = np.arange(32_000) / 16_000
    wave = np.where(time > 1, 0.5 * np.sin(2 * np.pi * 300 * time), 0).astype(np.float32)
    drawn = lightness(picture(log_mel(wave, MelSpec()), zoom=1))
    row, column = np.unravel_index(int(drawn.argmax()), drawn.shape)
    assert drawn.shape == (64, 200) and row > 48 and column >= 99
    assert drawn[:, :90].max() < 0.3 * drawn.max()


def test_lightness_rises_with_level_and_ends_where_the_scale_ends() -> None:
    levels = np.linspace(LOWEST, HIGHEST, 50)[:, None]
    assert (np.diff(lightness(picture(levels, zoom=1))[0]) > 0).all()
    ends = picture(np.array([[-99.0], [99.0], [np.nan]]), zoom=1)[0]
    assert ends.tolist() == [COLOURS[0].tolist(), COLOURS[-1].tolist(), COLOURS[0].tolist()]


def test_pictures_stand_below_each_other_in_a_png(tmp_path: Path) -> None:
    mels = [np.full((30, 8), LOWEST), np.full((20, 8), HIGHEST)]
    write_spectrograms(mels, tmp_path / "deep" / "a.png")
    with Image.open(tmp_path / "deep" / "a.png") as sheet:
        pixels = np.asarray(sheet)
    assert np.array_equal(pixels, stack(mels)) and pixels.shape == (16 + GAP + 16, 30, 3)
    assert (pixels[16 + GAP :, 20:] == 255).all() and (pixels[16 : 16 + GAP] == 255).all()
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["a.png"]
