"""Pictures to pixels. Knows Pillow; decodes PNG, JPEG and WEBP, nothing else."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from media.refs import MediaError, MediaTooLarge, MissingMedia, UnreadableMedia

MAX_PIXELS = 25_000_000
FORMATS = ("PNG", "JPEG", "WEBP")


def load_image(path: Path) -> np.ndarray:
    """A picture as [H, W, 3] uint8, turned upright by its EXIF orientation, transparency over white.

    Raises:
        MissingMedia, UnreadableMedia, MediaTooLarge (more than 25 million pixels, checked before decoding).
    """
    from PIL import Image, ImageOps

    if not path.is_file():
        raise MissingMedia(f"there is no file {path}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with Image.open(path, formats=FORMATS) as picture:
                if picture.width * picture.height > MAX_PIXELS:
                    raise MediaTooLarge(
                        f"the picture has {picture.width} x {picture.height} pixels, the limit is 25 million; scale it down"
                    )
                upright = ImageOps.exif_transpose(picture).convert("RGBA")
                white = Image.new("RGBA", upright.size, (255, 255, 255, 255))
                return np.asarray(Image.alpha_composite(white, upright).convert("RGB")).copy()
    except MediaError:
        raise
    except Exception:  # decoders fail in many ways on foreign bytes; none of their texts is for people
        raise UnreadableMedia("the picture cannot be decoded; give a PNG, JPEG or WEBP file") from None
