"""Windows of consecutive frames, frozen photos, mirror images and rendered faces."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import typer
from PIL import Image
from small import N_AU, N_IDENTITY, SIZE, models
from typer.testing import CliRunner

from faceunits import aus, cli_robust
from faceunits.errors import ConfigError, InputError
from faceunits.evaluation import crops, mirror, renders, stability
from faceunits.types import Face, Reading

FIVE = np.array([[12, 12], [20, 12], [16, 16], [13, 21], [19, 21]], np.float32)


def finder(picture: np.ndarray) -> list[Face]:
    """A face in the middle of every picture that is not black."""
    scale = picture.shape[0] / 32
    return [Face(np.array([0, 0, 32, 32], np.float32), FIVE * scale, 0.9)] if picture.max() > 20 else []


def tool(**changes) -> crops.Tool:
    return crops.tool(models(), detector=finder, **changes)


def photo(seed: int = 0, size: int = 32) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(60, 200, (8, 8, 3))
    return np.asarray(Image.fromarray(coarse.astype(np.uint8)).resize((size, size), Image.Resampling.BICUBIC))


def table(values: list[float], **more) -> pd.DataFrame:
    rows = {"input": "v", "frame": range(1, len(values) + 1), "face_id": 0, "success": 1, "AU12_r": values}
    return pd.DataFrame(rows | more)


def slow_std(values: list[float], length: int) -> float:
    """The definition, by loops."""
    found = []
    for start in range(len(values) - length + 1):
        window = values[start : start + length]
        mean = sum(window) / length
        found.append((sum((v - mean) ** 2 for v in window) / length) ** 0.5)
    return sum(found) / len(found)


def test_windows_are_those_of_the_definition():
    values = list(np.random.default_rng(1).uniform(0, 5, 30))
    absolute, relative = stability.deviations(stability.runs(table(values)))
    for i, length in enumerate(stability.WINDOWS):
        assert absolute[i, 0] == pytest.approx(slow_std(values, length))
        assert relative[i, 0] == pytest.approx(slow_std(values, length) / np.std(values))


def test_windows_never_reach_across_a_gap():
    step = table([0.0] * 6 + [5.0] * 6)
    assert stability.deviations(stability.runs(step), [5])[0][0, 0] > 1
    lost = step.assign(success=[1] * 5 + [0, 0] + [1] * 5)
    cut = step.assign(frame=[*range(1, 7), *range(20, 26)])
    other = step.assign(face_id=[0] * 6 + [1] * 6)
    file = step.assign(input=["a"] * 6 + ["b"] * 6)
    for apart in (lost, cut, other, file):
        runs = stability.runs(apart)
        assert len(runs) == 2
        assert stability.deviations(runs, [5])[0][0, 0] == 0


def test_every_second_frame_is_unbroken():
    runs = stability.runs(table([1.0, 2, 3, 4]).assign(frame=[1, 3, 5, 7]))
    assert [len(r) for r in runs] == [4]


def test_a_unit_that_never_moves_has_no_share():
    absolute, relative = stability.deviations(stability.runs(table([2.0] * 12)))
    assert (absolute == 0).all()
    assert np.isnan(relative).all()


def test_the_page_of_two_videos():
    moving = table(list(np.sin(np.arange(40))))
    page = stability.stability({"a": moving, "b": moving.drop(columns="AU12_r").assign(AU04_r=1.0)})
    five = page.tables["absolute, 0-5"]
    assert five.loc["AU12", "5"] == pytest.approx(slow_std(list(np.sin(np.arange(40))), 5))
    assert five.loc["AU04", "5"] == 0
    assert five.loc["AU12", "GE-Net, 5 frames"] == pytest.approx(5 * 0.047)
    assert {f.step for f in page.figures} == {f"windows of {w}" for w in stability.WINDOWS}
    with pytest.raises(InputError, match="two consecutive frames"):
        stability.stability({"a": moving.assign(success=0)})


def test_shifts_move_by_what_they_say():
    y, x = np.mgrid[:40, :48].astype(float)

    def wave(dx: float, dy: float) -> np.ndarray:
        return (100 + 50 * np.cos(0.3 * (x - dx)) * np.cos(0.25 * (y - dy)))[..., None]

    for move in (stability.fourier_shift, stability.bicubic_shift):
        got = move(wave(0, 0), 0.4, -0.3)
        assert np.abs(got - wave(0.4, -0.3))[6:-6, 6:-6].max() < 1
        np.testing.assert_allclose(move(wave(0, 0), 0, 0), wave(0, 0), atol=1e-9)
        # the other way would be twice as far off as the shift itself
        assert np.abs(got - wave(-0.4, 0.3))[6:-6, 6:-6].max() > 5


def test_frozen_frames_shake_and_repeat():
    options = stability.Frozen(frames=4)
    a, b = (list(stability.frozen(photo(), options)) for _ in range(2))
    assert len(a) == 4
    assert all((x == y).all() for x, y in zip(a, b, strict=True))
    assert not (a[0] == a[1]).all()
    still = list(stability.frozen(photo(), stability.Frozen(frames=2, shift=0, noise=0)))
    assert (still[0] == photo()).all()
    with pytest.raises(ConfigError, match="fourier or bicubic"):
        next(stability.frozen(photo(), stability.Frozen(interpolation="linear")))


def test_jitter_of_a_frozen_photo():
    on = tool()
    frames = stability.frozen(photo(), stability.Frozen(frames=8))
    rows = stability.video_table("a", frames, on)
    assert rows["frame"].tolist() == list(range(1, 9))
    assert (rows["success"] == 1).all()
    still = stability.video_table(
        "b", stability.frozen(photo(), stability.Frozen(frames=8, shift=0, noise=0)), on
    )
    page = stability.frozen_report({"a": rows, "b": still})
    assert page.tables["photos"].loc["b", "mean"] == pytest.approx(0, abs=1e-6)
    units = crops.whole(rows.columns)
    want = np.mean([slow_std(rows[u].tolist(), 5) for u in units])
    assert page.tables["photos"].loc["a", "mean"] == pytest.approx(want)
    assert want > 0
    dark = stability.video_table("c", [np.zeros((32, 32, 3), np.uint8)] * 6, on)
    assert (dark["success"] == 0).all()
    with pytest.raises(InputError, match="found none"):
        stability.frozen_report({"c": dark})


def reading(au: np.ndarray) -> Reading:
    n = len(au)
    zero = np.zeros((n, 68, 2), np.float32)
    return Reading(
        names=aus.profile().names, au=au.astype(np.float32), pose_deg=zero[:, 0], identity=zero[:, :5, 0],
        lip_gap=zero[:, 0, 0], confidence=zero[:, 0, 0], landmarks=zero,
    )  # fmt: skip


def test_a_mirror_image_seen_rightly_agrees():
    au = np.random.default_rng(0).random((6, N_AU))
    turned = reading(au[:, aus.profile().mirror()])
    back = crops.flipped(turned, aus.profile())
    got = mirror.table(reading(au), back)
    np.testing.assert_allclose(got["icc"], 1, atol=1e-6)
    np.testing.assert_allclose(got["mae_0_5"], 0, atol=1e-6)
    wrong = mirror.table(reading(au), turned)  # sides not swapped back
    assert wrong.loc["AU12_L", "icc"] < 0.9
    assert wrong.loc["AU17", "icc"] == pytest.approx(1, abs=1e-6)


def test_mirror_of_a_folder(tmp_path):
    for i in range(3):
        Image.fromarray(photo(i)).save(tmp_path / f"p{i}.png")
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(tmp_path / "dark.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    page = mirror.mirror(tmp_path, tool(), rounds=10)
    assert page.about["photos"] == 3
    assert page.about["no face in the photo"] == 1
    assert page.about["unreadable"] == 1
    assert list(page.tables["parameters"].index) == list(aus.profile().names)
    # a symmetric picture is its own mirror image, so the two sides of the reading must have been swapped
    half = photo(5)[:, :16]
    alone = tmp_path / "alone"
    alone.mkdir()
    for i in range(2):
        Image.fromarray(np.concatenate([half + i, (half + i)[:, ::-1]], 1)).save(alone / f"{i}.png")
    same = mirror.mirror(alone, tool(), rounds=10)
    straight = crops.columns([crops.crop(np.concatenate([half, half[:, ::-1]], 1), tool())], tool())
    gap = straight["AU12_L_r"][0] - straight["AU12_R_r"][0]
    assert same.tables["parameters"].loc["AU12_L", "bias_0_5"] == pytest.approx(gap, abs=0.1)
    with pytest.raises(InputError, match="at least two photos"):
        mirror.mirror(tmp_path / "dark.png", tool())


def shard(path: Path, count: int = 12, **more: np.ndarray) -> Path:
    rng = np.random.default_rng(0)
    np.savez(
        path, image=rng.integers(0, 255, (count, SIZE, SIZE, 3)).astype(np.uint8),
        label=np.zeros((count, SIZE, SIZE), np.uint8), au=rng.random((count, N_AU)).astype(np.float32),
        identity=rng.random((count, N_IDENTITY)).astype(np.float32),
        pose_deg=rng.normal(0, 5, (count, 2)).astype(np.float32),
        lip_gap=rng.random(count).astype(np.float32), **more,
    )  # fmt: skip
    return path


def test_sides_of_known_actions():
    names = ("AU12_L", "AU12_R", "AU30_L", "AU30_R", "AU17")
    truth = np.array([[0.8, 0.0, 1, 0, 0], [0.0, 0.6, 0, 1, 0], [0.5, 0.5, 0, 0, 0]], np.float32)
    seen = np.array([[0.6, 0.2, 0, 0, 0], [0.4, 0.2, 0, 0, 0], [0.0, 1.0, 0, 0, 0]], np.float32)
    got = renders.sides(names, truth, seen)
    assert list(got.index) == ["AU12"]  # the jaw's two ways are no sides
    assert got.loc["AU12", "n"] == 2  # the third is not one-sided
    assert got.loc["AU12", "mae_0_5"] == pytest.approx(5 * (0.4 + 0.8) / 2)
    assert got.loc["AU12", "right side"] == 0.5
    assert got.loc["AU12", "leak_0_5"] == pytest.approx(5 * (0.2 + 0.4) / 2)


def test_error_by_confidence_goes_from_the_least_sure():
    confidence = np.array([0.9, 0.1, 0.5, 0.3, 0.7])
    table = renders.by_confidence(confidence, 1 - confidence)
    np.testing.assert_allclose(table["confidence"], [0.1, 0.3, 0.5, 0.7, 0.9])
    np.testing.assert_allclose(table["error"], [0.9, 0.7, 0.5, 0.3, 0.1])
    many = renders.by_confidence(np.linspace(0, 1, 105), np.zeros(105))
    assert len(many) == 10
    assert many["faces"].sum() == 105


def test_rows_of_a_person_are_drawn_together():
    rows = renders.members([7, 3, 7, (0, 1)])
    assert [r.tolist() for r in rows] == [[0, 2], [1], [3]]


def test_renders_of_shards(tmp_path):
    path = shard(tmp_path / "a.npz")
    page = renders.renders([path, path], tool(), count=5, rounds=10)
    assert renders.chart(page).shape[2] == 3
    assert page.about["faces"] == 10
    mean = page.figures[0]
    assert mean.value == pytest.approx(page.tables["parameters"]["icc"].mean())
    assert mean.low <= mean.high
    assert {"AU12", "AU12_L", "AU25"} <= set(page.tables["columns"].index)
    with np.load(path) as pack:
        small = {k: pack[k] for k in pack.files}
    np.savez(tmp_path / "c.npz", **(small | {"au": small["au"][:, :16]}))
    with pytest.raises(InputError, match="got 16"):
        renders.renders([tmp_path / "c.npz"], tool())


def test_where_only_what_was_added_is_known_changes_are_compared(tmp_path, monkeypatch):
    """A reader that sees half of what was added, on top of whatever each portrait showed before."""
    shard(tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as pack:
        arrays = {k: pack[k] for k in pack.files}
    n = len(arrays["au"])
    rng = np.random.default_rng(0)
    portrait, added = np.arange(n) // 3, rng.uniform(-0.2, 0.2, (n, N_AU + 1)).astype(np.float32)
    unknown = arrays["au"].copy()
    unknown[:, 0] = np.nan
    np.savez(tmp_path / "b.npz", **(arrays | {"au": unknown, "added": added, "portrait": portrait}))
    before = rng.uniform(0.3, 0.6, (n, N_AU)).astype(np.float32)[portrait]
    read = before + 0.5 * added[:, :-1]
    real = crops.read
    monkeypatch.setattr(renders.crops, "read", lambda *a: replace(real(*a), au=read))
    page = renders.renders([tmp_path / "b.npz"], tool(), count=n, rounds=10)
    found = {f.name: f.value for f in page.figures}
    assert found["share that is read, mean of the parameters"] == pytest.approx(0.5, abs=1e-3)
    assert found["mean ICC(3,1) of the parameters"] == pytest.approx(2 * 0.5 / (1 + 0.25), abs=1e-3)
    assert np.isnan(found["spread where nothing was added, 0-5, mean of the parameters"])
    assert page.tables["parameters"]["r"].min() > 0.99
    assert "columns" not in page.tables
    assert str(n) in page.about["compared"]


def test_what_moves_where_nothing_was_added_is_spread():
    still = np.array([[0.1, 0], [-0.1, 0]], np.float32)
    figures = renders.change_figures(np.zeros((2, 2), np.float32), still, still)
    assert [f.value for f in figures] == [pytest.approx(np.nan, nan_ok=True), pytest.approx(0.25)]
    assert renders.within(np.zeros((0, 3), np.float32), np.zeros(0, int)).shape == (0, 3)


def test_what_is_less_than_a_portraits_mean():
    values = np.array([[1, 5], [2, 6], [9, 0]], np.float32)
    np.testing.assert_array_equal(
        renders.within(values, np.array([4, 4, 7])), [[-0.5, -0.5], [0.5, 0.5], [0, 0]]
    )


def test_commands_on_tables_need_no_networks(tmp_path):
    app = typer.Typer()
    cli_robust.add_commands(app)
    names = [*aus.columns(aus.profile().names, np.zeros((1, N_AU), np.float32), np.zeros(1, np.float32))]
    rows = table(list(np.random.default_rng(0).uniform(0, 5, 20)))
    for column in ("timestamp", "confidence", "reason", "face_x", "face_y", "face_w", "face_h",
                   "pose_pitch_deg", "pose_yaw_deg", "pose_roll_deg", *names):  # fmt: skip
        if column not in rows:
            rows[column] = "" if column == "reason" else 0.5
    rows.to_csv(tmp_path / "v.csv", index=False)
    done = CliRunner().invoke(app, ["stability", str(tmp_path / "v.csv"), "-o", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    page = json.loads((tmp_path / "out" / "stability.json").read_text())
    assert page["tables"]["absolute, 0-5"]["AU12"]["5"] == pytest.approx(
        slow_std([round(v, 4) for v in rows["AU12_r"]], 5), abs=1e-4
    )
    nothing = CliRunner().invoke(app, ["stability"])
    assert isinstance(nothing.exception, InputError)
    for other in ("--student", "--parser"):  # tracking measures with the package's own
        asked = ["stability", "v.mp4", "--tracked", other, "other.safetensors"]
        refused = CliRunner().invoke(app, asked)
        assert isinstance(refused.exception, ConfigError), refused.output
