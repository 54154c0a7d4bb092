"""Portraits whose muscles are moved: what they show is what stands beside them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from skimage import data

from faceunits import aus, estimation, fitting
from faceunits.alignment import warp
from faceunits.errors import ConfigError
from faceunits.evaluation.fits import crops_of
from faceunits.training import animated, shards, student

SIZE = 96
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


def test_without_anybody_at_rest_there_is_nothing_to_move(portraits, tmp_path):
    path = tmp_path / "none.npz"
    with np.load(portraits) as pack:
        np.savez(path, image=pack["image"], neutral=np.zeros(2, bool), name=NAMES)
    with pytest.raises(ConfigError, match="at rest"):
        animated.make(animated.Animation(str(path)), 0)
