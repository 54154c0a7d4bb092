"""Photos from and to disk: whatever the file holds becomes uint8 `(H, W, 3)` RGB, upright.

Grey becomes three equal channels; 16-bit is divided by 257, so that white stays white; transparent
places show white, as most viewers show them; of an animation the first frame is read. Embedded
colour profiles are not applied.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from faceunits.errors import InputError
from faceunits.io.files import printable, replacing

U8 = NDArray[np.uint8]

MAX_PIXELS = 178_000_000
"""Larger pictures are refused: 13,300 x 13,300. Just under the size at which Pillow itself refuses."""

SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jfif .png .tif .tiff .webp .bmp .gif .ppm .pgm .pnm .pbm .jp2 .avif .heic .heif".split()
)
"""What `find` takes from a folder. HEIC is among them so that it is reported, not passed over."""

# Not every format Pillow knows: PostScript, for one, would start another program.
_FORMATS = ("JPEG", "MPO", "PNG", "TIFF", "WEBP", "BMP", "GIF", "PPM", "JPEG2000", "AVIF", "HEIF")
_WRITABLE = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF"}


def read(path: str | os.PathLike[str]) -> U8:
    """The picture in a file, `(H, W, 3)` uint8 RGB, turned upright by its EXIF orientation.

    Raises:
        InputError: no such file, not a picture, damaged, or more than `MAX_PIXELS`.
    """
    where = printable(path)
    _check_file(Path(path), where)
    Image.init()
    formats = [f for f in _FORMATS if f in Image.OPEN]
    try:
        with warnings.catch_warnings():
            # Pillow warns of large pictures and of odd metadata; neither concerns the caller.
            warnings.simplefilter("ignore")
            with Image.open(path, formats=formats) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise _too_large(where)
                image.load()
                return _to_rgb(_upright(image))
    except InputError:
        raise
    except Image.DecompressionBombError:
        raise _too_large(where) from None
    except UnidentifiedImageError:
        raise InputError(
            f"expected a photo (JPEG, PNG, TIFF, WebP, BMP or GIF); {where} is of another kind or damaged; "
            "open it in a picture viewer and save it as JPEG"
        ) from None
    except PermissionError:
        raise InputError(f"expected a photo that may be read; no permission for {where}; change it") from None
    except Exception as error:  # decoders meet damage with errors of every kind, SyntaxError among them
        raise InputError(
            f"expected a whole photo; {where} breaks off or is damaged ({_one_line(error)}); copy it again"
        ) from error


def write(path: str | os.PathLike[str], picture: U8) -> None:
    """Write `(H, W, 3)` or `(H, W)` uint8 as the format that the suffix names, whole or not at all.

    Raises:
        InputError: an unknown suffix, or a place that cannot be written to.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in _WRITABLE:
        raise InputError(
            f"expected a name ending in {', '.join(_WRITABLE)}; got {printable(path)}; change the ending"
        )
    options = {"quality": 95} if suffix in (".jpg", ".jpeg", ".webp") else {}
    with replacing(path) as temporary:
        Image.fromarray(picture).save(temporary, format=_WRITABLE[suffix], **options)


def shrink(picture: U8, max_side: int) -> tuple[U8, float]:
    """The picture with its longer side at most `max_side`, and new size / old size (1.0 if unchanged)."""
    height, width = picture.shape[:2]
    factor = max_side / max(height, width)
    if factor >= 1:
        return picture, 1.0
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    # Whole blocks are averaged first, which on a 12,000-pixel picture is ten times as fast.
    small = Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0)
    return np.array(small), factor


def find(paths: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """The photos that files and folders stand for, in order, each once.

    A file is taken as it is; a folder gives the files below it, at any depth, whose names end like a
    picture's (`SUFFIXES`), sorted by name, hidden ones left out.

    Raises:
        InputError: a path that does not exist, or a folder without a photo.
    """
    out: dict[Path, None] = {}
    for path in map(Path, paths):
        if not path.is_dir():
            if not os.path.lexists(path):
                raise InputError(
                    f"expected a photo or folder; {printable(path)} does not exist; check the name"
                )
            out[path] = None
            continue
        inside = sorted(_walk(path))
        if not inside:
            raise InputError(f"expected a folder with photos; {printable(path)} has none; name another")
        out |= dict.fromkeys(inside)
    return list(out)


def _walk(folder: Path) -> Iterable[Path]:
    for root, folders, names in os.walk(folder):
        folders[:] = [f for f in folders if not f.startswith(".")]
        for name in names:
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES:
                yield Path(root, name)


def _check_file(path: Path, where: str) -> None:
    """What can be said before decoding; opening a pipe would wait for ever."""
    if path.is_dir():
        raise InputError(f"expected a photo; {where} is a folder; name a photo in it")
    if not os.path.lexists(path):
        raise InputError(f"expected a photo; {where} does not exist; check the name")
    if not path.is_file():
        raise InputError(f"expected a photo; {where} is not a regular file; name a photo")
    if path.stat().st_size == 0:
        raise InputError(f"expected a photo; {where} is empty (0 bytes); copy it again")


def _too_large(where: str) -> InputError:
    return InputError(
        f"expected at most {MAX_PIXELS // 1_000_000} million pixels; {where} has more; make it smaller first"
    )


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _upright(image: Image.Image) -> Image.Image:
    # Metadata may be damaged while the picture is whole: then it stays as it is stored.
    with suppress(Exception):
        return ImageOps.exif_transpose(image)
    return image


def _to_rgb(image: Image.Image) -> U8:
    if image.mode == "F" or image.mode.startswith("I"):  # Pillow's own conversion clips at 255
        grey = _eight_bit(np.asarray(image))
        return np.repeat(grey[..., None], 3, axis=2)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return np.array(image.convert("RGB"))


def _eight_bit(values: NDArray[np.generic]) -> U8:
    """Wide samples as 8 bits by the range that they must have been written for: 1, 255, 65535 or more."""
    x = np.nan_to_num(values.astype(np.float32))
    top = float(x.max(initial=0))
    if values.dtype.itemsize == 2:
        full = 65535.0
    elif values.dtype.kind == "f" and top <= 1:
        full = 1.0
    elif values.dtype.kind == "f" and top <= 255:
        full = 255.0
    else:
        full = max(65535.0, top)
    scaled: U8 = np.clip(x * (255 / full) + 0.5, 0, 255).astype(np.uint8)
    return scaled
