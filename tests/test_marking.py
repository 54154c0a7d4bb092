"""Edited photos to disk: what is kept, what is noted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from faceunits.errors import InputError
from faceunits.io import marking

NOTE = {"software": "faceunits 9", "faces": {"0": {"AU12": 3.0}}, "text": 'Edited: AU12=3 <&"'}
PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
def test_the_note_comes_back(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    marking.write(path, PIXELS, note=NOTE)
    assert marking.read_note(path) == NOTE
    marking.write(path, PIXELS)
    assert marking.read_note(path) is None
    if suffix in ("png", "tif"):
        assert np.array_equal(marking.read(path).pixels, PIXELS)


def test_other_programs_can_read_it(tmp_path: Path) -> None:
    marking.write(tmp_path / "a.png", PIXELS, note=NOTE)
    with Image.open(tmp_path / "a.png") as image:
        assert image.text["Software"] == "faceunits 9"
        assert image.text["Comment"] == NOTE["text"]
        assert marking.SOURCE_TYPE in image.text["XML:com.adobe.xmp"]
        assert "<&" not in image.text["XML:com.adobe.xmp"]
    marking.write(tmp_path / "a.jpg", PIXELS, note=NOTE)
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.getexif()[0x0131] == "faceunits 9"


def test_a_turned_photo_is_upright_once(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Maker"
    Image.fromarray(PIXELS).save(tmp_path / "a.tif", exif=exif)
    photo = marking.read(tmp_path / "a.tif")
    assert np.array_equal(photo.pixels, np.rot90(PIXELS, -1))
    marking.write(tmp_path / "b.png", photo.pixels, like=photo, note=NOTE)
    again = marking.read(tmp_path / "b.png")
    assert np.array_equal(again.pixels, photo.pixels)
    with Image.open(tmp_path / "b.png") as image:
        assert image.getexif().get(0x010F) == "Maker"
        assert 0x0112 not in image.getexif()


def test_alpha_stays_where_it_can(tmp_path: Path) -> None:
    alpha = np.dstack([PIXELS, np.full((20, 30), 90, np.uint8)])
    Image.fromarray(alpha).save(tmp_path / "a.png")
    photo = marking.read(tmp_path / "a.png")
    assert np.array_equal(photo.pixels, alpha)
    assert photo.rgb.shape == (20, 30, 3)
    marking.write(tmp_path / "b.png", photo.pixels, like=photo)
    assert np.array_equal(marking.read(tmp_path / "b.png").pixels, alpha)
    marking.write(tmp_path / "b.jpg", photo.pixels, like=photo)
    with Image.open(tmp_path / "b.jpg") as image:
        assert image.mode == "RGB"


def test_grey_stays_grey(tmp_path: Path) -> None:
    Image.fromarray(PIXELS[..., 0]).save(tmp_path / "a.png")
    photo = marking.read(tmp_path / "a.png")
    assert photo.grey
    assert photo.pixels.shape == (20, 30, 3)
    marking.write(tmp_path / "b.png", photo.pixels, like=photo, note=NOTE)
    with Image.open(tmp_path / "b.png") as image:
        assert image.mode == "L"
        assert np.array_equal(np.array(image), PIXELS[..., 0])


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_the_colour_profile_stays(tmp_path: Path, suffix: str) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(PIXELS).save(tmp_path / "a.png", icc_profile=profile)
    photo = marking.read(tmp_path / "a.png")
    marking.write(tmp_path / f"b.{suffix}", photo.pixels, like=photo, note=NOTE)
    with Image.open(tmp_path / f"b.{suffix}") as image:
        assert image.info["icc_profile"] == profile


def test_wrong_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ending in \.png"):
        marking.write(tmp_path / "a.gif", PIXELS)
    with pytest.raises(InputError, match="does not exist"):
        marking.write(tmp_path / "no" / "a.png", PIXELS)
    (tmp_path / "a.txt").write_text("no picture")
    with pytest.raises(InputError):
        marking.read_note(tmp_path / "a.txt")
