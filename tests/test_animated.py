"""Portraits whose muscles are moved: what they show is what stands beside them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage import data

from faceunits import aus, estimation, fitting
from faceunits.alignment import warp
from faceunits.errors import ConfigError
from faceunits.evaluation.fits import crops_of
from faceunits.training import animated, shards, student

SIZE = 96
PROFILE = aus.profile()
NAMES = np.array(json.dumps(["somebody", "somebody/smile"]))


@pytest.fixture(scope="module")
def portraits(tmp_path_factory):
    """One portrait of somebody taken to be at rest, and one of somebody who is not."""
    picture = data.astronaut()
    face = estimation.detector()(picture)[0]
    crop = warp.picture(warp.crop(picture, warp.similarity(face.points[None], SIZE)[0], SIZE))
    path = tmp_path_factory.mktemp("portraits") / "portraits.npz"
    np.savez(path, image=np.stack([crop, 255 - crop]), neutral=np.array([True, False]), name=NAMES)
    return path


def test_a_moved_face_shows_its_landmarks_and_only_people_at_rest_are_moved(portraits, tmp_path):
    (path,) = animated.write(
        animated.Animation(str(portraits), shard=6, each=6, other_face=0.04, at_rest=0), tmp_path, 6
    )
    with np.load(path) as pack:
        found = dict(pack)
    names = aus.profile().names
    assert found["image"].shape == (6, SIZE, SIZE, 3)
    assert found["image"].dtype == np.uint8
    assert found["au"].shape == (6, len(names))
    assert ((found["au"] >= 0) & (found["au"] <= 1)).all()
    assert ((found["lip_gap"] >= 0) & (found["lip_gap"] <= 2)).all()
    assert set(found["person"]) == {0}
    networks = estimation.models("cpu")
    seen = fitting.read(crops_of(found["image"], networks.crop_size), networks)
    points = seen.landmarks * SIZE / networks.crop_size
    assert np.median(np.linalg.norm(points - found["landmarks"], axis=-1)) < 1.5
    with np.load(portraits) as pack:
        there = pack["image"].astype(float)
    assert np.abs(found["image"] - there[0]).mean() < 12 < np.abs(found["image"] - there[1]).mean()


def test_a_unit_moves_what_it_moves(portraits, monkeypatch):
    """A full AU12 takes the corners of the mouth up and apart, a full AU26 the chin down."""
    names = aus.profile().names

    def only(unit):
        def drawn(rng, rest, n_au, config):
            au = np.array([n.startswith(unit) for n in names], np.float32)
            y = rest.copy()
            y[2 : 2 + n_au] = au
            return au, y

        monkeypatch.setattr(animated, "_drawn", drawn)
        return animated.make(animated.Animation(str(portraits), shard=1), 0)["landmarks"][0]

    rest, smile, jaw = only("none"), only("AU12"), only("AU26")
    assert smile[54, 0] - smile[48, 0] > rest[54, 0] - rest[48, 0] + 1
    assert smile[[48, 54], 1].mean() < rest[[48, 54], 1].mean() - 1
    assert jaw[8, 1] > rest[8, 1] + 1


def test_people_at_rest_have_other_faces(portraits):
    pack = animated.make(animated.Animation(str(portraits), shard=3, at_rest=1.0), 0)
    assert not pack["au"].any()
    assert np.abs(pack["landmarks"][0] - pack["landmarks"][1]).max() > 1
    still = animated.make(animated.Animation(str(portraits), shard=2, at_rest=1.0, other_face=0), 0)
    np.testing.assert_array_equal(still["image"][0], still["image"][1])


def test_shards_are_kept_the_same_and_read_by_the_training(portraits, tmp_path):
    config = animated.Animation(str(portraits), seed=3, shard=2, each=2)
    first = animated.write(config, tmp_path, 4)
    assert [p.name for p in first] == ["animated_3_00000.npz", "animated_3_00001.npz"]
    before = first[0].stat().st_mtime_ns, first[1].read_bytes()
    first[1].unlink()
    animated.write(config, tmp_path, 4)
    assert (first[0].stat().st_mtime_ns, first[1].read_bytes()) == before
    faces = student.Faces((str(tmp_path),), SIZE)
    faces.refresh()
    image, code, points = faces.draw(np.random.default_rng(0), 3)
    assert image.shape == (3, SIZE, SIZE, 3)
    assert code.shape == (3, 39 + 1 + 2 + 60)
    assert points.shape == (3, 68, 2)
    assert shards.kept_for_testing(tmp_path / "animated_900001_00000.npz")


@pytest.mark.parametrize(("acting", "who"), [(False, "at rest"), (True, "who act")])
def test_without_anybody_of_the_kind_there_is_nothing_to_move(portraits, tmp_path, acting, who):
    path = tmp_path / "none.npz"
    with np.load(portraits) as pack:
        np.savez(path, image=pack["image"], neutral=np.full(2, acting), name=NAMES)
    with pytest.raises(ConfigError, match=who):
        animated.make(animated.Animation(str(path), acting=acting), 0)


def test_of_people_who_act_what_was_added_is_known_and_of_a_pose_not_what_it_was(portraits):
    pack = animated.make(animated.Animation(str(portraits), acting=True, shard=6, each=3, at_rest=0), 0)
    posed = np.isin([n[:4] for n in aus.profile().names], animated.POSED)
    assert set(pack["person"]) == {1}
    assert pack["portrait"].tolist() == [0, 0, 0, 1, 1, 1]
    assert (np.isnan(pack["au"]) == posed).all()
    assert np.isnan(pack["lip_gap"]).all()
    np.testing.assert_array_equal(pack["au"][:, ~posed], pack["added"][:, :-1][:, ~posed])
    assert np.isfinite(pack["added"]).all()
    assert (pack["added"] != 0).any(1).sum() >= 3
    still = animated.make(animated.Animation(str(portraits), acting=True, shard=2, at_rest=1.0), 0)
    assert not still["added"][:, :-1].any()


@given(now=arrays(np.float32, len(PROFILE), elements=st.floats(0, 1, width=32)), seed=st.integers(0, 99))
def test_units_at_work_are_changed_within_their_room(now, seed):
    drawn = np.full(len(PROFILE), 0.25, np.float32)
    change = animated._changed(np.random.default_rng(seed), now, drawn)
    posed = np.isin([n[:4] for n in PROFILE.names], animated.POSED)
    at_work = posed & (now > animated.ACTIVE)
    after = now + change
    assert (after <= 1.1 + 1e-5).all()
    assert (after[at_work] >= now[at_work] / 2 - 1e-5).all()
    np.testing.assert_allclose(change[~at_work], np.minimum(0.25, 1.1 - now[~at_work]), atol=1e-6)


def test_two_pictures_of_a_portrait_differ_by_what_was_added(portraits, tmp_path):
    animated.write(animated.Animation(str(portraits), shard=4, each=2, acting=True), tmp_path, 8)
    faces = student.Faces((str(tmp_path),), SIZE)
    faces.refresh()
    (image, code, points), added = faces.pairs(np.random.default_rng(0), 6)
    assert image.shape == (12, SIZE, SIZE, 3)
    assert points.shape == (12, 68, 2)
    assert added.shape == (12, len(PROFILE) + 1)
    assert not faces.known_whole()
    known = np.isfinite(code[:, : len(PROFILE)])
    np.testing.assert_array_equal(code[:, : len(PROFILE)][known], added[:, :-1][known])
    of = {img.tobytes(): (s, p) for s, pack in enumerate(faces.images)
          for img, p in zip(pack, faces.moved[s][0], strict=True)}  # fmt: skip
    alone = student.Faces((str(tmp_path),), SIZE)
    alone.refresh()
    alone.moved = [(np.arange(len(p)), a) for p, a in alone.moved]  # one picture of each portrait
    (twice, _, _), same = alone.pairs(np.random.default_rng(0), 3)
    np.testing.assert_array_equal(twice[0::2], twice[1::2])
    np.testing.assert_array_equal(same[0::2], same[1::2])
    alone.moved = [None] * len(alone.moved)
    with pytest.raises(ConfigError, match="animate"):
        alone.pairs(np.random.default_rng(0), 1)
    for a, b in zip(image[0::2], image[1::2], strict=True):
        assert of[a.tobytes()] == of[b.tobytes()]
        assert not np.array_equal(a, b)
