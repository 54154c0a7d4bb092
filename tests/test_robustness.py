"""Distortions of photos, their drift, and the charts that show it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from test_stability import finder, photo, tool

from faceunits.errors import ConfigError, InputError
from faceunits.evaluation import crops, distortions, pages, report, robustness
from faceunits.evaluation.distortions import ALL
from faceunits.viz import curves

BOX = np.array([8, 8, 32, 32], np.float32)


@pytest.mark.parametrize("kind", ALL, ids=lambda k: k.name)
def test_a_distortion_grows_with_its_strength(kind):
    picture, box = photo(3, 96), np.array([8, 8, 80, 80], np.float32)
    before = picture.copy()
    changed = [kind.apply(picture, box, s, np.random.default_rng(0)) for s in kind.strengths]
    assert (picture == before).all()
    for out in changed:
        assert out.shape == picture.shape
        assert out.dtype == np.uint8
    gaps = [np.abs(out.astype(float) - picture).mean() for out in changed]
    if kind.name == "low resolution":  # this face has fewer than 96 pixels as it is
        assert gaps[0] == 0
        gaps = [gaps[2], gaps[3]]  # 64 of 80 pixels fall on the old ones unevenly
    assert gaps[0] > 0
    assert gaps == sorted(gaps)


def test_light_is_counted_in_stops():
    grey = np.full((4, 4, 3), 128, np.uint8)
    rng = np.random.default_rng(0)
    dark = distortions.darken(grey, BOX, 1, rng)
    # half the light of 128 is 93 in sRGB
    assert int(dark[0, 0, 0]) == pytest.approx(93, abs=1)
    assert int(distortions.brighten(dark, BOX, 1, rng)[0, 0, 0]) == pytest.approx(128, abs=2)


def test_side_light_and_covers_are_where_they_say():
    picture = np.full((48, 48, 3), 200, np.uint8)
    rng = np.random.default_rng(0)
    lit = distortions.side_light(picture, BOX, 2, rng)
    assert (lit[:, 0] == 200).all()
    assert lit[0, 47, 0] < lit[0, 24, 0] < 200
    low = distortions.cover_below(picture, BOX, 25, rng)
    assert (low[30, 10:38] == 200).all()
    assert (low[34, 10:38] == 127).all()
    left = distortions.cover_side(picture, BOX, 25, rng)
    assert (left[20, 9:15] == 127).all()
    assert (left[20, 17:] == 200).all()


def test_tilt_turns_clockwise_about_the_face():
    picture = np.zeros((48, 48, 3), np.uint8)
    picture[10:14, 22:26] = 255  # above the middle of the face (24, 24)
    turned = distortions.tilt(picture, BOX, 90, np.random.default_rng(0))
    ys, xs = np.nonzero(turned[..., 0] > 128)
    assert xs.mean() > 34
    assert ys.mean() == pytest.approx(24, abs=1.5)


def test_drift_is_the_change_from_the_untouched_picture():
    rows = pd.DataFrame({
        "photo": "a", "kind": ["none", "blur", "blur", "yaw, drawn", "yaw, drawn"],
        "strength": [0, 1, 2, 0, 7], "name": list("abcde"),
        "AU01_r": [1.0, 1.5, np.nan, 3.0, 2.0], "AU12_r": [2.0, 1.0, np.nan, 0.0, 0.5],
    })  # fmt: skip
    units = ["AU01_r", "AU12_r"]
    drift = robustness.drifts(rows, units)
    assert drift["AU01_r"].tolist()[:1] == [0.5]
    assert drift["found"].tolist() == [1, 0, 1]
    assert drift[drift["kind"] == "yaw, drawn"][units].to_numpy().tolist() == [[1.0, 0.5]]
    mean = robustness.summary(drift, units).set_index(["kind", "strength"])
    assert mean.loc[("blur", 1), ["all", "upper", "lower", "worst", "found"]].tolist() == [0.75, 0.5, 1, 1, 1]
    assert mean.loc[("blur", 2), "found"] == 0
    assert np.isnan(mean.loc[("blur", 2), "all"])
    with pytest.raises(InputError, match="untouched"):
        robustness.drifts(rows.assign(AU01_r=np.nan, AU12_r=np.nan), units)


def measured(folder, **options):
    paths = []
    for i in range(2):
        paths.append(folder / f"p{i}.png")
        Image.fromarray(photo(i, 48)).save(paths[-1])
    dark = folder / "dark.png"
    Image.fromarray(np.zeros((48, 48, 3), np.uint8)).save(dark)
    return robustness.measure([*paths, dark], tool(), kinds=robustness.chosen("blur,noise"), **options)


def test_photos_end_in_a_page_with_curves(tmp_path):
    rows, without = measured(tmp_path, pictures=tmp_path / "out")
    assert without == ["dark"]
    # the photo, two kinds of four strengths, and two axes of five drawn faces
    assert len(rows) == 2 * (1 + 8 + 10)
    written = {p.stem for p in (tmp_path / "out").iterdir()}
    assert written == set(rows["name"])
    again = crops.crop(np.asarray(Image.open(tmp_path / "out" / "p0--blur-5.png")), tool())
    values = crops.columns([again], tool()).iloc[0]
    row = rows[rows["name"] == "p0--blur-5"].iloc[0]
    np.testing.assert_allclose(row[values.index].to_numpy(float), values, atol=1e-4)

    names = rows["name"] + ".png"
    other = pd.DataFrame({"input": "some/folder/" + names, "AU12_r": 1.0, "AU99_r": 2.0})
    other.loc[3, "AU12_r"] = np.nan
    theirs = robustness.of_other(rows, other.sample(frac=1, random_state=0))
    assert theirs["AU12_r"].isna().sum() == 1
    page, charts, drift = robustness.report(rows, {"theirs": theirs})
    assert page.about["units"] == "AU12"  # what both have
    assert drift["theirs"]["AU12_r"].max() == 0
    assert drift["faceunits"]["AU12_r"].max() > 0
    ours = drift["faceunits"]
    worst = ours[(ours["kind"] == "blur") & (ours["strength"] == 5)]
    figure = next(f for f in page.figures if (f.step, f.name) == ("blur, faceunits", "drift at 5"))
    assert figure.value == pytest.approx(worst["AU12_r"].mean())
    assert (figure.low, figure.high) == pytest.approx((worst["AU12_r"].min(), worst["AU12_r"].max()))
    assert figure.n == 2
    paths = pages.write(page, tmp_path / "page", "robustness", pictures=charts, tables=drift)
    assert {p.name for p in paths} == {
        "robustness.md", "robustness.json", "robustness_curves.png", "robustness_faceunits.csv",
        "robustness_theirs.csv",
    }  # fmt: skip
    assert "![curves](robustness_curves.png)" in paths[0].read_text()
    assert len(pd.read_csv(tmp_path / "page" / "robustness_theirs.csv")) == len(drift["theirs"])


def test_wrong_tables_and_kinds_are_told(tmp_path):
    rows, _ = measured(tmp_path, pose=False)
    with pytest.raises(InputError, match=r"p0--none-0\.png"):
        robustness.of_other(rows, pd.DataFrame({"input": ["x.png"], "AU12_r": [1.0]}))
    with pytest.raises(InputError, match="columns input and AUnn_r"):
        robustness.of_other(rows, pd.DataFrame({"file": ["x.png"]}))
    with pytest.raises(ConfigError, match="'rain'"):
        robustness.chosen("blur,rain")
    assert robustness.chosen("") == ALL
    with pytest.raises(InputError, match="found none"):
        robustness.measure([tmp_path / "dark.png"], tool())


def test_the_largest_face_is_measured():
    def two(picture):
        small, large = finder(picture)[0], finder(picture)[0]
        return [type(small)(small.box / 2, small.points, 0.99), type(large)(large.box, large.points + 3, 0.5)]

    faces = two(photo())
    assert crops.largest(faces) is faces[1]
    assert crops.largest([]) is None


def test_colour_schemes():
    x = np.linspace(0, 1, 50)
    # even to the eye also means: lighter all the way, which JET is not
    light = curves.colour(x) @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(light) > 0).all()
    jet = curves.colour(x, scheme="jet")
    assert not (np.diff(jet @ np.array([0.2126, 0.7152, 0.0722])) > 0).all()
    assert curves.colour(np.array(0.5), scheme="jet").tolist() == [128, 255, 128]


def test_a_curve_is_drawn_where_its_values_are():
    flat = curves.panel([curves.Line("a", [1.0, 1.0])], ["0", "1"], title="t", top=2)
    tall = curves.panel([curves.Line("a", [2.0, 2.0])], ["0", "1"], title="t", top=2)
    rows = []
    for picture in (flat, tall):
        blue = (picture == (0, 114, 178)).all(-1)[:-60]
        rows.append(np.nonzero(blue)[0].mean())
    assert rows[1] < rows[0]
    gaps = curves.panel([curves.Line("a", [np.nan, 1.0])], ["0", "1"], title="t")
    assert gaps.shape == flat.shape
    sheet = curves.grid([flat, tall, flat, tall], columns=3)
    assert sheet.shape == (2 * flat.shape[0], 3 * flat.shape[1], 3)


def test_a_matrix_marks_the_smallest_of_each_row():
    values = np.array([[0.0, 1.0], [0.2, 0.9]])
    drawn = curves.matrix(values, ["a", "b"], title="t", cell=40)
    ring = (drawn == 0).all(-1)
    left = ring[34 + 20 - 8 : 34 + 20 + 8].any()
    assert left
    # both rows have their smallest in the first column
    columns = np.nonzero(ring[34 : 34 + 80])[1]
    assert columns.max() - columns.min() < 20


def test_a_page_without_pictures_is_the_report(tmp_path):
    page = report.Report("T", {"a": 1})
    paths = pages.write(page, tmp_path, "x")
    assert [p.name for p in paths] == ["x.md", "x.json"]
    assert paths[0].read_text() == page.markdown()
