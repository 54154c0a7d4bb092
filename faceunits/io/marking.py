"""Edited photos to disk, with what belonged to the original and a note that says what was changed.

Orientation is applied to the pixels and taken out of the metadata; colour profile and camera data stay; an
embedded preview goes, since it shows the face unedited. The note stands in PNG's text or in EXIF, and in
XMP, where `DigitalSourceType` is the IPTC's term for pictures composed with trained networks.
"""

from __future__ import annotations

import json
import os
import warnings
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from faceunits.errors import InputError
from faceunits.io import image as image_io
from faceunits.io.files import printable, replacing

U8 = NDArray[np.uint8]

SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
FORMATS = {
    ".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF"
}  # fmt: skip

_ORIENTATION, _SOFTWARE, _EXIF_FOLDER, _COMMENT = 0x0112, 0x0131, 0x8769, 0x9286
_KEY = "faceunits"


@dataclass(frozen=True)
class Photo:
    """`rgb` `(H, W, 3)` uint8 upright, transparent places white; `pixels` `(H, W, 3)` or with alpha
    `(H, W, 4)`; `grey` if the file had no colours; `icc` and `exif` as bytes, empty if it had none."""

    rgb: U8
    pixels: U8
    grey: bool = False
    icc: bytes = b""
    exif: bytes = field(default=b"", repr=False)


def check(path: str | os.PathLike[str]) -> str:
    """The format that a name to write ends in.

    Raises:
        InputError: none that is known.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        raise InputError(
            f"expected a name ending in {', '.join(FORMATS)}; got {printable(path)}; change the ending"
        )
    return FORMATS[suffix]


def read(path: str | os.PathLike[str]) -> Photo:
    """A photo with what an edited copy of it should keep.

    Raises:
        InputError: as `io.image.read`.
    """
    rgb = image_io.read(path)
    pixels, grey, icc, exif = rgb, False, b"", b""
    with suppress(Exception), warnings.catch_warnings(), Image.open(path) as opened:  # damaged metadata
        warnings.simplefilter("ignore")
        icc = opened.info.get("icc_profile") or b""
        tags = opened.getexif()
        orientation = tags.pop(_ORIENTATION, 1)
        exif = tags.tobytes() if len(tags) else b""
        grey = opened.mode in ("1", "L", "LA", "I", "F") or opened.mode.startswith("I;")
        if opened.has_transparency_data:
            alpha = opened.convert("RGBA")
            turn = _TURNS.get(orientation)
            alpha = alpha.transpose(turn) if turn is not None else alpha
            whole = np.array(alpha)
            if whole.shape[:2] == rgb.shape[:2]:
                pixels = whole
    return Photo(rgb, pixels, grey, icc, exif)


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip


def write(
    path: str | os.PathLike[str], pixels: U8, *, like: Photo | None = None, note: dict[str, Any] | None = None
) -> None:
    """Write an edited photo, whole or not at all.

    Args:
        path: its ending names the format.
        pixels: `(H, W, 3)` or, with alpha, `(H, W, 4)` uint8.
        like: the photo it was made from: greys, profile and camera data are kept.
        note: what was done, JSON values with a line of text under `text`; nothing is noted when None.

    Raises:
        InputError: an unknown ending, or a place that cannot be written to.
    """
    kind = check(path)
    out = Image.fromarray(pixels)
    if out.mode == "RGBA" and kind == "JPEG":  # it has no transparency: as `io.image` shows it
        white = Image.new("RGBA", out.size, "white")
        out = Image.alpha_composite(white, out).convert("RGB")
    if like is not None and like.grey:
        out = out.convert("LA" if out.mode == "RGBA" else "L")
    options: dict[str, Any] = {}
    if kind in ("JPEG", "WEBP"):
        options["quality"] = 95
    if kind == "JPEG":
        options["subsampling"] = 0
    if like is not None and like.icc and not (like.grey and out.mode not in ("L", "LA")):
        options["icc_profile"] = like.icc
    exif = Image.Exif()
    if like is not None and like.exif:
        with suppress(Exception):
            exif.load(like.exif)
    if note is not None:
        _mark(exif, options, kind, note)
    if len(exif):
        options["exif"] = exif
    with replacing(path) as temporary:
        out.save(temporary, format=kind, **options)


def _mark(exif: Image.Exif, options: dict[str, Any], kind: str, note: dict[str, Any]) -> None:
    text = json.dumps(note, ensure_ascii=True)
    exif[_SOFTWARE] = str(note.get("software", _KEY))
    folder = exif.get_ifd(_EXIF_FOLDER)
    folder[_COMMENT] = b"ASCII\0\0\0" + text.encode()
    exif[_EXIF_FOLDER] = folder
    xmp = _xmp(note)
    if kind == "PNG":
        chunks = PngImagePlugin.PngInfo()
        chunks.add_text("Software", str(note.get("software", _KEY)))
        chunks.add_text("Comment", str(note.get("text", "")))
        chunks.add_text(_KEY, text)
        chunks.add_itxt("XML:com.adobe.xmp", xmp)
        options["pnginfo"] = chunks
    elif kind in ("JPEG", "WEBP"):
        options["xmp"] = xmp.encode()


def _xmp(note: dict[str, Any]) -> str:
    quote = {'"': "&quot;"}
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
        'xmlns:xmp="http://ns.adobe.com/xap/1.0/" '
        'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
        f'xmp:CreatorTool="{escape(str(note.get("software", _KEY)), quote)}" '
        f'Iptc4xmpExt:DigitalSourceType="{SOURCE_TYPE}" '
        f'Iptc4xmpExt:AISystemUsed="{escape(str(note.get("text", "")), quote)}"/>'
        '</rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    )  # fmt: skip


def read_note(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """The note in a file that `write` made, None where there is none.

    Raises:
        InputError: a file that is no picture.
    """
    try:
        with Image.open(path) as opened:
            text = opened.info.get(_KEY)
            if text is None:
                comment = opened.getexif().get_ifd(_EXIF_FOLDER).get(_COMMENT, b"")
                raw = comment.encode("latin-1") if isinstance(comment, str) else bytes(comment)
                text = raw.removeprefix(b"ASCII\0\0\0").decode("ascii", "replace")
    except OSError as error:
        raise InputError(f"expected a picture; {printable(path)} cannot be read as one ({error})") from error
    try:
        note = json.loads(text)
    except ValueError:
        return None
    return note if isinstance(note, dict) and str(note.get("software", "")).startswith(_KEY) else None
