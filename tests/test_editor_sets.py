"""What is asked of editors, and what their pictures are judged by."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from small import FACE_MODEL, N_AU, N_IDENTITY, SIZE, models, needs_model
from toy_editors import NAMES, people, write

from faceunits import aus
from faceunits.errors import InputError, ParameterError
from faceunits.evaluation import crops, editor_scores, editor_sets
from faceunits.networks.editor import DISFA

# What is asked


def test_pairs_are_balanced_over_units_and_levels():
    frames = people(3, 40)
    table = editor_sets.pairs(frames, 50, seed=1)
    pd.testing.assert_frame_equal(table, editor_sets.pairs(frames, 50, seed=1))
    assert not table.equals(editor_sets.pairs(frames, 50, seed=2))
    source, target, other = (table[c].to_numpy() for c in ("source", "target", "other"))
    assert (source != target).all()
    np.testing.assert_array_equal(frames.person[source], table["person"])
    np.testing.assert_array_equal(frames.person[target], table["person"])
    assert (frames.person[other] != table["person"]).all()
    for row in table.itertuples():
        assert frames.labels[row.target, NAMES.index(row.unit)] == row.level
    for _, own in table.groupby("person"):
        assert own["unit"].value_counts().tolist() == [10] * 5
        for unit, part in own.groupby("unit"):
            shown = np.unique(frames.labels[frames.person == own["person"].iloc[0], NAMES.index(unit)])
            counts = part["level"].value_counts().reindex(shown, fill_value=0)
            assert counts.max() - counts.min() <= 1
    assert table["target_at"].tolist() == [frames.place[i] for i in target]


def test_the_smallest_sets():
    with pytest.raises(InputError, match="at least 2 frames"):
        editor_sets.pairs(people(2, 1), 3)
    alone = editor_sets.pairs(people(1, 4), 3)
    assert (alone["other"] == -1).all()
    person = np.repeat(np.arange(5), 2)
    training, test = editor_sets.split(person, 2)
    assert (training.tolist(), test.tolist()) == ([0, 1, 2], [3, 4])
    for count in (0, 5, 9):
        assert editor_sets.split(person, count)[0].size == 0
    frames = people(2, 6)
    calm = editor_sets.calmest(frames, 2)
    for half in (calm[:2], calm[2:]):
        own = frames.labels[frames.person == frames.person[half[0]]].sum(1)
        assert sorted(frames.labels[half].sum(1)) == sorted(own)[:2]


def test_frames_are_read_as_they_were_written(tmp_path):
    first, second = people(2, 3), people(2, 3, seed=1)
    write(tmp_path / "frames_0_00000.npz", first)
    write(tmp_path / "frames_0_00001.npz", second.of([1]), identity=None)  # DISFA's have none
    (tmp_path / "frames_0_00002.npz.part.npz").write_bytes(b"half a file")
    got = editor_sets.read(tmp_path, ("AU4", "AU01"), models())
    np.testing.assert_array_equal(got.image, np.concatenate([first.image, second.of([1]).image]))
    np.testing.assert_allclose(got.labels[:6], first.labels[:, [2, 0]], atol=1e-6)
    # the same number in another file is somebody else
    assert got.person.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert got.place[6] == "frames_0_00001.npz:0"
    assert len(got.of([1]).image) == 3


def test_labels_follow_from_parameters(tmp_path):
    frames = people(2, 3)
    au = np.random.default_rng(0).random((6, N_AU)).astype(np.float32)
    gap = np.linspace(0, 1.5, 6).astype(np.float32)
    write(tmp_path / "a.npz", frames, units=None, au=au, lip_gap=gap)
    got = editor_sets.read(tmp_path / "a.npz", ("AU12", "AU25"), models())
    names = aus.profile().names
    larger = np.maximum(au[:, names.index("AU12_L")], au[:, names.index("AU12_R")])
    np.testing.assert_allclose(got.labels[:, 0], 5 * larger, rtol=1e-6)
    np.testing.assert_allclose(got.labels[:, 1], 5 * np.clip(gap, 0, 1), rtol=1e-6)
    with pytest.raises(ParameterError, match="expected a unit of"):
        editor_sets.columns_of(("AU18_L",), names, au, gap)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"person": None}, "it holds image, identity, units"),
        ({"units": None}, "labels"),
        ({"units": None, "au": np.zeros((6, 3)), "lip_gap": np.zeros(6)}, "parameters per face; got 3"),
        ({"identity": np.random.default_rng(0).random((6, 4))}, "person 0 has several"),
    ],
)
def test_other_files_are_refused(tmp_path, changes, message):
    write(tmp_path / "a.npz", people(2, 3), **changes)
    with pytest.raises(InputError, match=message):
        editor_sets.read(tmp_path, NAMES, models())


def test_places_without_frames_are_refused(tmp_path):
    with pytest.raises(InputError, match="found none"):
        editor_sets.read(tmp_path, NAMES, models())
    (tmp_path / "a.npz").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"cannot read the frames .*a\.npz"):
        editor_sets.read(tmp_path, NAMES, models())
    write(tmp_path / "a.npz", people(2, 3))
    with pytest.raises(ParameterError, match="got AU45"):
        editor_sets.read(tmp_path, ("AU45",), models())
    write(tmp_path / "b.npz", people(2, 3), image=np.zeros((6, 8, 8, 3), np.uint8))
    with pytest.raises(InputError, match="of one size"):
        editor_sets.read(tmp_path, NAMES, models())


@needs_model
def test_rendered_frames_are_read(tmp_path):
    rendered = pytest.importorskip("faceunits.rig.frames")
    rendered.write(
        rendered.FramesConfig(rig=str(FACE_MODEL), people=2, frames=2, n_identity=12, size=32), tmp_path
    )
    frames = editor_sets.read(tmp_path, DISFA, models())
    assert frames.image.shape == (4, 32, 32, 3)
    assert frames.person.tolist() == [0, 0, 1, 1]
    assert 0 <= frames.labels.min() <= frames.labels.max() <= 5
    assert len(editor_sets.pairs(frames, 4)) == 8


# Measures


def test_the_frechet_distance_has_known_values():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(400, 3))
    assert editor_scores.frechet(a, a) == pytest.approx(0, abs=1e-9)
    assert editor_scores.frechet(a, a + np.array([1, 2, 0])) == pytest.approx(5)
    assert editor_scores.frechet(a, 3 * a - 2 * a.mean(0)) == pytest.approx(4 * np.trace(np.cov(a.T)))
    turned = a @ np.linalg.qr(rng.normal(size=(3, 3)))[0]
    assert editor_scores.frechet(turned, a) == pytest.approx(editor_scores.frechet(a, turned))
    few = editor_scores.frechet(rng.normal(size=(5, 40)), rng.normal(size=(5, 40)))  # singular covariances
    assert np.isfinite(few)
    assert np.isnan(editor_scores.frechet(a[:1], a))


def test_the_distance_over_scales_has_known_values():
    a = torch.rand(2, 3, 32, 32)
    np.testing.assert_allclose(editor_scores.multi_scale_l1(a, a), 0)
    np.testing.assert_allclose(editor_scores.multi_scale_l1(a, a + 0.3), 0.3, rtol=1e-5)
    checks = (torch.arange(32)[:, None] + torch.arange(32)[None]) % 2
    checks = checks.float().expand(1, 3, 32, 32)
    np.testing.assert_allclose(editor_scores.multi_scale_l1(checks, 1 - checks), 0.25)  # at full size only


def test_likeness_and_looks():
    a = np.array([[1.0, 0], [1, 1], [0, 0]])
    np.testing.assert_allclose(editor_scores.likeness(a, a), [1, 1, 0])
    np.testing.assert_allclose(editor_scores.likeness(a[:1], a[1:2]), 2**-0.5)
    look = np.full((1, 192 + 4), 0.5)
    brighter = look.copy()
    brighter[:, :192] += 0.05
    np.testing.assert_allclose(editor_scores.apart(look, brighter), 0.05, rtol=1e-5)


def test_arcface_sees_the_face_where_it_was_trained_to():
    """The public five points of ArcFace's 112 px crop lie within 3 px of where ours come out."""
    from faceunits.alignment import warp

    wanted = np.array([[38.29, 51.70], [73.53, 51.50], [56.03, 71.74], [41.55, 92.37], [70.73, 92.20]])
    size = 128
    spots = torch.zeros(5, 3, size, size)
    y, x = np.mgrid[:size, :size]
    for i, (px, py) in enumerate(warp.template(size)):
        spots[i] = torch.from_numpy(np.exp(-((x - px) ** 2 + (y - py) ** 2) / 8)).float()
    view = (editor_scores.arcface_view(spots) + 1) / 2
    assert view.shape == (5, 3, 112, 112)
    weight = view[:, 0].numpy() / view[:, 0].sum((1, 2), keepdim=True).numpy()
    y, x = np.mgrid[:112, :112]
    found = np.stack([(weight * x).sum((1, 2)), (weight * y).sum((1, 2))], 1)
    assert np.linalg.norm(found - wanted, axis=1).max() < 3
    grey = editor_scores.arcface_view(torch.full((1, 3, 512, 512), 0.25))
    torch.testing.assert_close(grey, torch.full_like(grey, -0.5))


def test_real_networks_measure_tiny_pictures():
    """The untrained E itself, instead of the stand-in."""
    tool = crops.tool(models(), detector=lambda image: [])
    image = torch.rand(3, 3, 2 * SIZE, 2 * SIZE)
    seen = editor_scores.see([image[:2], image[2:]], NAMES, tool)
    assert seen.units.shape == (3, 5)
    assert seen.identity.shape == (3, N_IDENTITY)
    assert seen.features.shape == (3, 16)
    assert seen.arcface.shape == seen.inception.shape == (3, 0)
    alone = editor_scores.see([image[2:]], NAMES, tool, briefly=True)
    np.testing.assert_allclose(alone.units, seen.units[2:], atol=1e-4)
    assert alone.features.shape == (1, 0)
    assert len(seen.rows(np.array([0, 2])).look) == 2
