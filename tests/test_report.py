"""The page of figures: its bars, its files, and neutral against smiling photos of a folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from small import FACES, N_IDENTITY, SIZE, crops, models, needs_faces

from faceunits import aus
from faceunits.errors import InputError
from faceunits.evaluation import fits, report
from faceunits.types import Face

FIVE = np.array([[12, 12], [20, 12], [16, 16], [13, 21], [19, 21]], np.float32)


def finder(picture: np.ndarray) -> list[Face]:
    """A face in the middle of every picture that is not black."""
    side = picture.shape[0] / 32
    return [Face(np.array([0, 0, 32, 32], np.float32), FIVE * side, 0.9)] if picture.max() > 5 else []


def folder(path: Path, *, people: int = 4, blank: int = 0) -> Path:
    rng = np.random.default_rng(0)
    for kind in ("neutral", "smiling"):
        (path / kind).mkdir(parents=True)
        for i in range(people):
            picture = rng.integers(0, 255, (32, 32, 3)).astype(np.uint8)
            Image.fromarray(picture * (i >= blank)).save(path / kind / f"p{i}.png")
    return path


def test_a_bar_is_met_from_its_own_side():
    assert report.Figure("a", "b", 0.9, 3, 0.9).met
    assert not report.Figure("a", "b", 0.89, 3, 0.9).met
    assert report.Figure("a", "b", 0.1, 3, 0.2, falling=True).met
    assert report.Figure("a", "b", 0.1, 3).met is None
    for falling in (True, False):
        assert report.Figure("a", "b", float("nan"), 3, 0.5, falling).met is False


def test_the_page_says_all_and_is_valid_json(tmp_path):
    page = report.Report("Title", {"recipe": "default"})
    page.figures = [
        report.Figure("time", "seconds", 1.2, 8, 1.5, falling=True),
        report.Figure("pairs", "AU12", 0.97, 24, 0.96, low=0.9, high=1.0, peer=0.96),
        report.Figure("pairs", "AU6", float("nan"), 24, 0.88),
    ]
    page.tables["closed loop"] = pd.DataFrame({"icc": [0.5, np.nan]}, index=["AU01_L", "AU02_L"])
    paths = page.write(tmp_path / "new", "fit")
    text = paths[0].read_text()
    assert "| time | seconds | 1.200 |  | <= 1.5 | yes |  | 8 |" in text
    assert "| pairs | AU12 | 0.970 | 0.900 .. 1.000 | >= 0.96 | yes | 0.96 | 24 |" in text
    assert "| pairs | AU6 | undefined |  | >= 0.88 | no |  | 24 |" in text
    assert "| AU02_L | undefined |" in text
    values = json.loads(paths[1].read_text())
    assert [f["met"] for f in values["figures"]] == [True, True, False]
    assert values["figures"][2]["value"] is None
    assert values["tables"]["closed loop"]["AU01_L"] == {"icc": 0.5}
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["fit.json", "fit.md"]


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="choose another"):
        report.Report("T").write(tmp_path / "file" / "sub", "fit")


def table(**columns: list[float]) -> pd.DataFrame:
    return pd.DataFrame(columns)


def test_contrast_figures_of_known_columns():
    neutral = table(AU12_r=[0, 0, 0, 2], AU06_r=[0, 0, 0, 0], AU25_r=[0, 1, 0, 0], AU12_L_r=[5, 5, 5, 5])
    smiling = table(AU12_r=[1, 2, 3, 4], AU06_r=[0, 1, 2, 3], AU25_r=[1, 2, 0, 0], AU12_L_r=[5, 5, 5, 5])
    labels = table(AU12=[1, 1, 1, 0], AU12_intensity=[1, 2, 3, 4], AU6=[0, 0, 1, 1], AU25=[1, 1, 0, 0])
    labels["AU6_confidence"] = ["high", "low", "high", "medium"]
    got = fits.contrast(neutral, smiling, labels)
    assert got["AU12"] == pytest.approx((3 + 3.5 + 4) / 12)  # 1, 2, 3 against 0, 0, 0, 2
    assert got["AU6"] == 1
    assert got["AU6 hard"] == 1
    assert got["Spearman AU12"] == pytest.approx(1)
    assert got["neutral mean"] == pytest.approx(3 / 12)  # sides are not counted twice
    assert got["neutral mean, worst unit"] == pytest.approx(2 / 4)
    assert got["share > 1"] == pytest.approx(1 / 12)


def test_columns_that_tell_smiles_apart():
    got = report.apart(table(AU12_r=[0, 1], AU04_r=[1, 1]), table(AU12_r=[2, 3], AU04_r=[1, 1]))
    assert got.loc["AU12"].tolist() == [0.5, 2.5, 1, 1]
    assert got.loc["AU04"].tolist() == [1, 1, 0.5, 0.5]


def test_pairs_of_a_folder(tmp_path):
    page = report.contrast(models(), "default", folder(tmp_path, blank=1), detector=finder, rounds=20)
    assert page.about["people"] == 3
    assert page.about["without a face in both photos"] == 1
    names = {f.name for f in page.figures}
    assert {"AU12", "AU6", "AU25", "neutral mean", "share > 1", "mirror ICC"} <= names
    assert not any("hard" in n or "Spearman" in n for n in names)  # nothing to tell them from
    for figure in page.figures:
        assert figure.bar is None
        assert figure.low <= figure.high
    assert set(page.tables["columns"].index) >= {"AU12", "AU12_L", "AU25"}


def test_labels_of_a_folder_are_used(tmp_path):
    place = folder(tmp_path)
    head = "# a comment\nid,AU12,AU12_intensity,AU12_confidence,AU6,AU6_confidence,AU25\n"
    rows = [f"p{i},1,{i},high,{i % 2},high,{i % 2}" for i in range(4)]
    (place / "contrast_labels.csv").write_text(head + "\n".join(rows))
    page = report.contrast(models(), "default", place, detector=finder, rounds=20)
    assert {"AU6 hard", "AU25 hard", "Spearman AU12"} <= {f.name for f in page.figures}
    (place / "contrast_labels.csv").write_text(head + "\n".join(rows[1:]))
    with pytest.raises(InputError, match="p0"):
        report.contrast(models(), "default", place, detector=finder)
    (place / "contrast_labels.csv").write_text(head + "\n".join(rows).replace("p2,1,2", "p2,1,6"))
    with pytest.raises(InputError, match=r"0 to 5 .*contrast_labels\.csv, line 5; got '6'"):
        report.contrast(models(), "default", place, detector=finder)
    (place / "contrast_labels.csv").write_text("id,AU12\np0,1\n")
    with pytest.raises(InputError, match="AU12_intensity"):
        report.contrast(models(), "default", place, detector=finder)


def test_a_photo_without_a_partner_is_counted(tmp_path):
    place = folder(tmp_path)
    next((place / "smiling").glob("p3*")).unlink()
    page = report.contrast(models(), "fast", place, detector=finder, rounds=20)
    assert page.about["people"] == 3
    assert page.about["photos without a partner in the other folder, left out"] == 1


def test_folders_without_pairs_are_refused(tmp_path):
    with pytest.raises(InputError):
        report.contrast(models(), "default", tmp_path, detector=finder)
    with pytest.raises(InputError, match="nobody"):
        report.contrast(models(), "default", folder(tmp_path / "dark", blank=4), detector=finder)


def test_intervals_hold_the_value_and_repeat():
    rng = np.random.default_rng(0)
    n = 12
    labels = pd.DataFrame({"AU12": 1, "AU6": rng.integers(0, 2, n), "AU25": 1, "AU12_intensity": range(n)})
    au = rng.random((2 * n, len(aus.profile())), np.float32)
    columns = pd.DataFrame(aus.columns(aus.profile().names, au, rng.random(2 * n, np.float32)))
    fitted = report.Fitted(labels, columns, au, au)
    a, b = (report.pair_figures("x", fitted, np.arange(n), rounds=50) for _ in range(2))
    assert [f.line() for f in a] == [f.line() for f in b]
    by = {f.name: f for f in a}
    assert by["mirror ICC"].value == pytest.approx(1)
    assert by["AU12"].low <= by["AU12"].value <= by["AU12"].high
    assert np.isnan(by["AU25 hard"].value)  # nobody lacks it
    some = report.pair_figures("x", fitted, np.arange(4), rounds=50)
    assert {f.n for f in some} == {4}


def shard(path: Path, count: int = 3, size: int = SIZE) -> Path:
    rng = np.random.default_rng(1)
    np.savez(
        path, image=(255 * crops(count)).astype(np.uint8).transpose(0, 2, 3, 1)[:, :size, :size],
        label=rng.integers(0, 11, (count, size, size)).astype(np.uint8),
        au=rng.random((count, len(aus.profile())), np.float32),
        identity=rng.random((count, N_IDENTITY), np.float32),
        pose_deg=rng.uniform(-20, 20, (count, 2)).astype(np.float32),
    )  # fmt: skip
    return path


def test_a_wrong_shard_is_refused_before_the_work(tmp_path):
    with pytest.raises(InputError, match="cannot read"):
        fits.read_shard(tmp_path / "none.npz", 3)
    (tmp_path / "bad.npz").write_bytes(b"bad")
    with pytest.raises(InputError, match="cannot read"):
        fits.read_shard(tmp_path / "bad.npz", 3)
    other = shard(tmp_path / "other.npz")
    with np.load(other) as pack:
        np.savez(other, **({k: pack[k] for k in pack.files} | {"au": pack["au"][:, :16]}))
    with pytest.raises(InputError, match="got 16"):
        report.fit(models(), "default", plain=other, varied=other, faces=tmp_path)


def test_figures_of_renders(tmp_path):
    data = fits.read_shard(shard(tmp_path / "plain.npz"), 2)
    assert len(data["image"]) == 2
    got = fits.generator_error(models(), data)
    assert 0 < got["mean absolute error"] < 1
    assert 0 <= got["mean F1"] <= 1
    larger = data | {k: data[k].repeat(2, 1).repeat(2, 2) for k in ("image", "label")}
    for name, value in fits.generator_error(models(), larger).items():
        assert got[name] == pytest.approx(value, abs=0.01), name
    per_unit = fits.renders(models(), "paper", data)
    assert list(per_unit.index) == list(models().names)
    assert per_unit["mae_0_5"].between(0, 5).all()
    assert len(fits.closed_loop(models(), "paper", count=2)) == len(models().names)


@needs_faces
def test_kept_out_people_are_scored_on_drawn_maps():
    images, labels = report.drawn_crops(FACES, SIZE)
    assert len(images) == len(labels) == 32
    assert images.shape[1:] == (3, SIZE, SIZE)
    assert set(np.unique(labels)) <= {*range(1, 10), 11, 255}
    for name in (2, 3, 4, 5, 6, 7, 9):
        assert (labels == name).any((1, 2)).mean() > 0.9
    # the subject's left brow is image right
    x = np.arange(SIZE)
    assert ((labels == 2).sum((0, 1)) @ x) / (labels == 2).sum() > SIZE / 2
