"""Photos of every kind become upright 8-bit RGB, and what is no photo becomes one line."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from faceunits.errors import InputError
from faceunits.io import image
from faceunits.io.files import printable, replacing

RNG = np.random.default_rng(0)
PHOTO = RNG.integers(0, 256, (24, 32, 3), np.uint8)


def test_png_comes_back_as_it_was(tmp_path: Path) -> None:
    image.write(tmp_path / "a.png", PHOTO)
    np.testing.assert_array_equal(image.read(tmp_path / "a.png"), PHOTO)


def test_the_array_may_be_changed(tmp_path: Path) -> None:
    image.write(tmp_path / "a.png", PHOTO)
    assert image.read(tmp_path / "a.png").flags.writeable


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "YCbCr", "RGBA", "LA"])
def test_every_mode_gives_rgb(tmp_path: Path, mode: str) -> None:
    Image.new("RGB", (32, 24), (200, 200, 200)).convert(mode).save(tmp_path / "a.tif")
    read = image.read(tmp_path / "a.tif")
    assert read.shape == (24, 32, 3)
    assert read.dtype == np.uint8
    # one bit per pixel can show 200 only as a mixture of black and white
    assert abs(float(read.mean()) - 200) < (60 if mode == "1" else 3)


def test_cmyk_jpeg_keeps_light_and_dark(tmp_path: Path) -> None:
    values = np.zeros((16, 16, 3), np.uint8)
    values[:, 8:] = (250, 250, 250)
    Image.fromarray(values).convert("CMYK").save(tmp_path / "a.jpg")
    read = image.read(tmp_path / "a.jpg")
    assert read[8, 2].max() < 40
    assert read[8, 13].min() > 210


def test_grey_has_equal_channels(tmp_path: Path) -> None:
    Image.fromarray(PHOTO[..., 0]).save(tmp_path / "a.png")
    read = image.read(tmp_path / "a.png")
    for c in range(3):
        np.testing.assert_array_equal(read[..., c], PHOTO[..., 0])


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path, suffix: str) -> None:
    wide = np.array([[0, 257 * 10, 257 * 128, 65535]] * 4, np.uint16)
    Image.fromarray(wide).save(tmp_path / f"a.{suffix}")
    assert image.read(tmp_path / f"a.{suffix}")[0, :, 1].tolist() == [0, 10, 128, 255]


def test_float_tiff_in_unit_range(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 0.5, 1]] * 2, np.float32)).save(tmp_path / "a.tif")
    assert image.read(tmp_path / "a.tif")[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_places_are_white(tmp_path: Path, mode: str) -> None:
    if mode == "P":
        picture = Image.new("P", (8, 8), 0)
        picture.putpalette([0, 0, 0, 255, 0, 0])
        picture.save(tmp_path / "a.png", transparency=0)
    else:
        Image.new(mode, (8, 8), 0).save(tmp_path / "a.png")
    assert (image.read(tmp_path / "a.png") == 255).all()


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, suffix: str, orientation: int) -> None:
    upright = np.zeros((32, 64, 3), np.uint8)
    upright[:16, :32] = 255  # the upper left quarter is white
    back = {
        1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_270,
    }[orientation]  # fmt: skip
    stored = Image.fromarray(upright)
    if back is not None:
        stored = stored.transpose(back)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / f"a.{suffix}", exif=exif)
    read = image.read(tmp_path / f"a.{suffix}")
    assert read.shape == (32, 64, 3)
    assert read[4, 4].min() > 200
    assert max(read[4, 60].max(), read[28, 4].max(), read[28, 60].max()) < 50


def test_of_an_animation_the_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), c) for c in ("red", "blue", "green")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert image.read(tmp_path / "a.gif")[4, 4].tolist() == [255, 0, 0]


def test_one_pixel(tmp_path: Path) -> None:
    image.write(tmp_path / "a.png", PHOTO[:1, :1])
    assert image.read(tmp_path / "a.png").shape == (1, 1, 3)


def test_twelve_thousand_pixels(tmp_path: Path) -> None:
    Image.new("L", (12_000, 12_000), 90).save(tmp_path / "a.png", compress_level=1)
    read = image.read(tmp_path / "a.png")
    assert read.shape == (12_000, 12_000, 3)
    small, factor = image.shrink(read, 2048)
    assert small.shape == (2048, 2048, 3)
    assert factor == pytest.approx(2048 / 12_000)


def test_beyond_the_limit_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image.write(tmp_path / "a.png", PHOTO)
    monkeypatch.setattr(image, "MAX_PIXELS", 100)
    with pytest.raises(InputError, match="million pixels"):
        image.read(tmp_path / "a.png")


def test_a_small_picture_is_not_enlarged() -> None:
    same, factor = image.shrink(PHOTO, 100)
    assert same is PHOTO
    assert factor == 1.0


def test_shrinking_keeps_at_least_one_pixel() -> None:
    assert image.shrink(np.zeros((1, 5000, 3), np.uint8), 100)[0].shape == (1, 100, 3)


def _bad(tmp_path: Path) -> dict[str, Path]:
    image.write(tmp_path / "whole.jpg", np.tile(PHOTO, (8, 8, 1)))
    image.write(tmp_path / "whole.png", np.tile(PHOTO, (8, 8, 1)))
    whole_jpg, whole_png = (tmp_path / "whole.jpg").read_bytes(), (tmp_path / "whole.png").read_bytes()
    contents = {
        "empty.jpg": b"",
        "text.jpg": b"this is not a picture\n" * 10,
        "zeros.png": bytes(1000),
        "cut.jpg": whole_jpg[: len(whole_jpg) // 2],
        "cut.png": whole_png[: len(whole_png) // 2],
        "head.png": whole_png[:20],
        "flipped.png": whole_png[:200] + bytes(50) + whole_png[250:],
        "program.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    return {name: tmp_path / name for name in contents} | {
        "missing.jpg": tmp_path / "missing.jpg",
        "folder": tmp_path,
    }


@pytest.mark.parametrize(
    "name",
    ["empty.jpg", "text.jpg", "zeros.png", "cut.jpg", "cut.png", "head.png", "flipped.png", "program.eps",
     "missing.jpg", "folder"],
)  # fmt: skip
def test_bad_files_are_one_line(tmp_path: Path, name: str) -> None:
    path = _bad(tmp_path)[name]
    with pytest.raises(InputError, match="expected") as caught:
        image.read(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_pipe_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    with pytest.raises(InputError, match="regular file"):
        image.read(tmp_path / "a.jpg")


def test_damage_anywhere_never_escapes_as_another_error(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for suffix in ("jpg", "png", "tif", "webp"):
        image.write(tmp_path / f"a.{suffix}", PHOTO)
        whole = (tmp_path / f"a.{suffix}").read_bytes()
        for _ in range(60):
            damaged = bytearray(whole[: rng.integers(1, len(whole) + 1)])
            for at in rng.integers(0, len(damaged), 8):
                damaged[at] = rng.integers(0, 256)
            (tmp_path / "b").write_bytes(damaged)
            try:
                image.read(tmp_path / "b")
            except InputError as error:
                assert "\n" not in str(error)


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9\n.png"))
    image.write(path, PHOTO)
    np.testing.assert_array_equal(image.read(path), PHOTO)
    assert image.find([tmp_path]) == [path]
    assert printable(path.name) == "caf\\xe9\\n.png"
    printable(path).encode("utf-8")


def test_find_takes_photos_of_a_folder_in_order(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", "notes.txt", ".hidden.png", "sub/c.webp", ".git/d.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [str(p.relative_to(tmp_path)) for p in image.find([tmp_path])] == ["a.png", "b.JPG", "sub/c.webp"]


def test_find_takes_a_named_file_whatever_its_ending_and_once(tmp_path: Path) -> None:
    (tmp_path / "scan").touch()
    assert image.find([tmp_path / "scan", str(tmp_path / "scan")]) == [tmp_path / "scan"]


def test_find_refuses_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        image.find([tmp_path / "missing"])
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match="folder with photos"):
        image.find([tmp_path])


def test_write_refuses_an_unknown_ending(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="ending"):
        image.write(tmp_path / "a.xyz", PHOTO)


def test_write_leaves_nothing_half_written(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(KeyboardInterrupt), replacing(target) as temporary:
        temporary.write_text("half of the new")
        raise KeyboardInterrupt
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_write_has_the_usual_permissions(tmp_path: Path) -> None:
    image.write(tmp_path / "a.png", PHOTO)
    (tmp_path / "b").touch()
    assert stat.S_IMODE((tmp_path / "a.png").stat().st_mode) == stat.S_IMODE((tmp_path / "b").stat().st_mode)


def test_write_says_what_is_wrong_with_the_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="make the folder first"):
        image.write(tmp_path / "no" / "a.png", PHOTO)
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        image.write(tmp_path / "folder.png", PHOTO)

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(InputError, match="Permission denied"):
        image.write(tmp_path / "b.png", PHOTO)
    assert [p.name for p in tmp_path.iterdir()] == ["folder.png"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_write_protected_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="Permission denied"):
        image.write(tmp_path / "a.png", PHOTO)
