"""Pictures to pixels. Knows Pillow; decodes PNG, JPEG and WEBP, nothing else."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from media.refs import MediaError, MediaTooLarge, UnreadableMedia, require_file

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

MAX_PIXELS = 25_000_000
FORMATS = ("PNG", "JPEG", "WEBP")
_ORIENTATION = 0x0112
_TOO_LARGE = f"the limit is {MAX_PIXELS // 1_000_000} million; scale it down"


def load_image(path: Path) -> np.ndarray:
    """A picture as [H, W, 3] uint8, turned upright by its EXIF orientation, transparency over white.

    Sixteen-bit grey is scaled to eight; of an animation it is the first picture.

    Raises:
        MissingMedia, UnreadableMedia, MediaTooLarge (more than 25 million pixels, checked before decoding).
    """
    # Named one by one: otherwise Pillow imports all its plugins as soon as it meets a WEBP.
    from PIL import Image, JpegImagePlugin, PngImagePlugin, WebPImagePlugin  # noqa: F401

    require_file(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the limit below is stricter than Pillow's and has words; a sloppy EXIF is no fault
            with Image.open(path, formats=FORMATS) as picture:
                if picture.width * picture.height > MAX_PIXELS:
                    raise MediaTooLarge(f"the picture has {picture.width} x {picture.height} pixels, {_TOO_LARGE}")
                return _pixels(_upright(picture))
    except MediaError:
        raise
    except Image.DecompressionBombError as error:  # Pillow's own limit, raised before we are told width and height
        count = re.search(r"\d+", str(error))
        raise MediaTooLarge(f"the picture has {count.group() if count else 'too many'} pixels, {_TOO_LARGE}") from None
    except MemoryError:
        raise MediaTooLarge(f"the picture takes more memory than there is; {_TOO_LARGE}") from None
    except Exception:  # decoders fail in many ways on foreign bytes; none of their texts is for people
        raise UnreadableMedia("the picture cannot be decoded; give a whole PNG, JPEG or WEBP file") from None


def encode_png(pixels: np.ndarray) -> bytes:
    """Pixels [H, W, 3] uint8 as a PNG file; equal pixels give equal bytes."""
    from io import BytesIO

    from PIL import Image

    made = BytesIO()
    Image.fromarray(pixels).save(made, "PNG")
    return made.getvalue()


def _upright(picture: Picture) -> Picture:
    from PIL import Image

    picture.load()
    try:
        turn = picture.getexif().get(_ORIENTATION, 1)
    except Exception:  # a damaged note about the camera does not spoil the picture
        turn = 1
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    return picture.transpose(turns[turn]) if turn in turns else picture


def _pixels(picture: Picture) -> np.ndarray:
    """[H, W, 3] uint8. Pillow's own conversion of 16-bit grey cuts everything above 255 to white."""
    from PIL import Image

    if picture.mode.startswith("I"):
        grey = (np.asarray(picture).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if picture.has_transparency_data:
        above = picture.convert("RGBA")
        below = Image.new("RGBA", above.size, (255, 255, 255, 255))
        picture = Image.alpha_composite(below, above)
    return np.array(picture.convert("RGB"))
