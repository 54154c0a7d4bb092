"""Pictures of the rig: colour, labels and landmarks agree; shards depend on their seeds alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from small import FACE_MODEL, needs_model, rig, static

from faceunits import aus
from faceunits.errors import ConfigError
from faceunits.rig import look, render, sample, shade, shape, synth
from faceunits.rig.look import PLAIN_LIGHT
from faceunits.types import LANDMARK_MIRROR

pytestmark = needs_model

PROFILE = aus.profile()
FLIP = np.array([-1, 1, 1], np.float32)
FINE = {name: i for i, name in enumerate(shade.LABELS)}
SIZE = 96
HEAD_ON = replace(PLAIN_LIGHT, directions=np.array([[0, 0.3, 0.95]], np.float32))


def draw(au: dict[str, float] | None = None, *, size: int = SIZE, **scene) -> render.Render:
    model = rig()
    weights = PROFILE.expand(au or {}) @ model.shape_weights(PROFILE)
    scene = {"identity": np.zeros(model.n_identity, np.float32), "light": HEAD_ON} | scene
    return render.draw(model, static(), render.Scene(weights=weights, **scene), size)


def middle(mask: np.ndarray) -> np.ndarray:
    """x, y of a region's centre."""
    return np.argwhere(mask)[:, ::-1].mean(0)


def test_a_face_has_every_region_where_it_belongs():
    seen = draw({"AU26": 5, "AU25": 5})
    assert seen.image.shape == (SIZE, SIZE, 3)
    assert seen.image.dtype == np.float32
    assert 0 <= seen.image.min() < seen.image.max() <= 1
    at = {name: middle(seen.label == i) for name, i in FINE.items() if (seen.label == i).any()}
    needed = ("brow_L", "brow_R", "eye_L", "eye_R", "nose", "upper_lip", "lower_lip", "inner_mouth")
    assert set(needed) <= set(at)
    for left, right in (("brow_L", "brow_R"), ("eye_L", "eye_R")):
        assert at[left][0] > at[right][0] + 15  # the subject's left is image right
    order = [at[n][1] for n in ("brow_L", "eye_L", "nose", "upper_lip", "inner_mouth", "lower_lip")]
    assert order == sorted(order)


def test_landmarks_lie_on_their_regions():
    # an open mouth: on closed lips the inner points of both lips coincide
    seen = draw({"AU26": 5, "AU25": 5}, size=256, yaw_deg=8, pitch_deg=-5)

    def near(point: np.ndarray, name: str, reach: float) -> bool:
        places = np.argwhere(seen.label == FINE[name])[:, ::-1]
        return bool(np.linalg.norm(places - point, axis=1).min() <= reach)

    for points, name in (
        (range(18, 21), "brow_R"), (range(23, 26), "brow_L"), (range(36, 42), "eye_R"),
        (range(42, 48), "eye_L"),
        (range(29, 36), "nose"), (range(49, 54), "upper_lip"), (range(55, 60), "lower_lip"),
        ((61, 62, 63), "upper_lip"), ((65, 66, 67), "lower_lip"),
    ):  # fmt: skip
        for i in points:
            assert near(seen.landmarks[i], name, 6), (i, name)  # 6 px of 256: 5 mm


def test_the_five_points_of_the_base_face_are_the_template():
    from faceunits.alignment import warp

    for size in (64, 128):
        np.testing.assert_allclose(
            shape.five_points(draw(size=size).landmarks), warp.template(size), atol=2e-3 * size / 64
        )


def test_a_mirrored_face_is_the_mirrored_picture():
    model = rig()
    rng = np.random.default_rng(3)
    sides = np.array([np.sign((m[model.mirror] * FLIP * m).sum()) for m in model.identity], np.float32)
    face = sample.natural(rng, PROFILE, model.n_identity)
    face.au[PROFILE.index("AU12_L")], face.au[PROFILE.index("AU02_R")] = 0.9, 0.8
    who, matrix = shape.identity_weights(model, face.identity), model.shape_weights(PROFILE)
    scene = render.Scene(who, face.au @ matrix, pitch_deg=4, yaw_deg=11, gaze_deg=(3, 8), light=HEAD_ON)
    other = replace(
        scene, identity=who * sides, weights=face.au[PROFILE.mirror()] @ matrix, yaw_deg=-11, gaze_deg=(3, -8)
    )
    a, b = (render.draw(model, static(), s, SIZE) for s in (scene, other))
    turned = b.image[:, ::-1]
    assert np.abs(a.image - turned).mean() < 0.01
    swap = np.arange(len(shade.LABELS))
    for x, y in (("brow_L", "brow_R"), ("eye_L", "eye_R"), ("ear_L", "ear_R")):
        swap[[FINE[x], FINE[y]]] = FINE[y], FINE[x]
    assert (a.label != swap[b.label[:, ::-1]]).mean() < 0.02
    points = b.landmarks[LANDMARK_MIRROR].copy()
    points[:, 0] = SIZE - 1 - points[:, 0]
    np.testing.assert_allclose(points, a.landmarks, atol=0.3)
    # the coarser classes swap by the table that the trainers use
    assert (shade.HELEN[a.label] != shade.HELEN_MIRROR[shade.HELEN[b.label[:, ::-1]]]).mean() < 0.02


def test_the_mouth_socket_never_shows_on_the_chin():
    model, rng = rig(), np.random.default_rng(5)
    for _ in range(12):
        face = sample.uniform(rng, PROFILE, model.n_identity)
        who = shape.identity_weights(model, 0.5 + 0.6 * (face.identity - 0.5))
        scene = render.Scene(who, face.au @ model.shape_weights(PROFILE), face.pitch_deg, face.yaw_deg)
        seen = render.draw(model, static(), scene, SIZE)
        inner = np.argwhere(seen.label == FINE["inner_mouth"])[:, ::-1]
        lips = seen.landmarks[48:60]
        low, high = lips.min(0) - 2, lips.max(0) + 2
        assert ((inner >= low) & (inner <= high)).all()


def test_expressions_show():
    neutral = draw()
    for au in ("AU01", "AU04", "AU05", "AU09", "AU12", "AU15", "AU18", "AU25", "AU34", "AU45"):
        assert np.abs(draw({au: 5}).image - neutral.image).max() > 0.05, au
    opened = draw({"AU26": 5, "AU25": 5})
    assert (opened.label == FINE["inner_mouth"]).sum() > 20 + (neutral.label == FINE["inner_mouth"]).sum()
    eyes = [np.isin(r.label, (FINE["eye_L"], FINE["eye_R"])).sum() for r in (draw({"AU45": 5}), neutral)]
    assert eyes[0] < 0.2 * eyes[1]


def test_a_gaze_moves_the_iris_only():
    straight, aside = draw(), draw(gaze_deg=(0.0, 25.0))
    changed = np.abs(straight.image - aside.image).max(2) > 0.02
    assert changed.any()
    at = np.argwhere(changed)[:, ::-1]
    lids = straight.landmarks[36:48]
    assert ((at >= lids.min(0) - 3) & (at <= lids.max(0) + 3)).all()


# Shards


def test_lower_brows_are_drawn_lower():
    usual, low = draw(), draw(brows_cm=(-0.6, -0.4))
    drop = (low.marks - usual.marks)[:, 1]
    np.testing.assert_allclose(drop[[21, 22]], -0.6, atol=0.02)
    np.testing.assert_allclose(drop[[17, 26]], -0.4, atol=0.02)
    assert np.abs(drop[28:]).max() < 0.01
    for side in ("brow_L", "brow_R"):
        shift = middle(low.label == FINE[side]) - middle(usual.label == FINE[side])
        assert shift[1] > 1
        assert abs(shift[0]) < 1


def config(shard: int = 2, **settings) -> synth.SynthConfig:
    return synth.SynthConfig(rig=str(FACE_MODEL), n_identity=12, size=32, shard=shard, **settings)


def test_the_same_seed_gives_the_same_shard_in_any_order():
    first = synth.make(config(seed=4), 1)
    synth.make(config(seed=4), 0)
    again = synth.make(config(seed=4), 1)
    assert first.keys() == again.keys()
    for key, value in first.items():
        np.testing.assert_array_equal(value, again[key], err_msg=key)
    assert (first["image"] != synth.make(config(seed=4), 2)["image"]).any()
    assert (first["image"] != synth.make(config(seed=5), 1)["image"]).any()


def test_without_a_camera_a_picture_is_what_was_drawn(monkeypatch):
    """The same face, neither blurred nor behind a hand."""

    def never(*_):
        raise AssertionError("a camera's fault, or a thing before the face")

    with_camera = synth.make(config(seed=4), 0)
    monkeypatch.setattr(synth.surround, "degrade", never)
    monkeypatch.setattr(synth.surround, "_thing", never)
    clean = synth.make(config(seed=4, camera=False), 0)
    np.testing.assert_array_equal(clean["landmarks"][0], with_camera["landmarks"][0])
    assert clean["image"].dtype == np.uint8
    assert (clean["image"][0] != with_camera["image"][0]).any()
    synth.make(config(seed=5, camera=False, shard=16), 0)  # one in eight would have something before it


@pytest.mark.parametrize("look", ["plain", "varied"])
def test_a_shard_holds_what_it_says(look):
    shard = synth.make(config(look=look), 0)
    assert shard["image"].shape == (2, 32, 32, 3)
    assert shard["image"].dtype == shard["label"].dtype == np.uint8
    assert shard["label"].shape == (2, 32, 32)
    assert shard["label"].max() <= 10
    assert shard["landmarks"].shape == (2, 68, 2)
    assert shard["au"].shape == (2, len(PROFILE))
    assert shard["identity"].shape == (2, 12)
    assert shard["pose_deg"].shape == (2, 2)
    assert ((shard["lip_gap"] >= 0) & (shard["lip_gap"] <= 2)).all()


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path):
    whole = synth.write(config(), tmp_path / "whole", 5)
    assert [p.name for p in whole] == [f"varied_0_0000{i}.npz" for i in range(3)]  # 3 shards of 2 hold 5
    partial = synth.write(config(), tmp_path / "partial", 2)
    (tmp_path / "partial" / "varied_0_00001.npz.part.npz").write_bytes(b"half a shard")
    before = partial[0].stat().st_mtime_ns
    told = []
    resumed = synth.write(config(), tmp_path / "partial", 6, progress=lambda *step: told.append(step[:2]))
    assert resumed[0].stat().st_mtime_ns == before
    assert told == [(4, 6), (6, 6)]
    for a, b in zip(whole, resumed, strict=True):
        with np.load(a) as x, np.load(b) as y:
            for key in x.files:
                np.testing.assert_array_equal(x[key], y[key], err_msg=key)
    assert not list((tmp_path / "partial").glob("*.part*"))


def test_folds_at_rest_darken_the_face_and_change_nothing_else():
    smooth, folded = (synth.make(config(seed=8, folds=f), 0) for f in (0.0, 1.0))
    first = {k: v[0] for k, v in smooth.items()}  # the dice of later faces fall differently
    other = {k: v[0] for k, v in folded.items()}
    np.testing.assert_array_equal(first["landmarks"], other["landmarks"])
    np.testing.assert_array_equal(first["au"], other["au"])
    np.testing.assert_array_equal(first["lip_gap"], other["lip_gap"])
    scene = render.Scene(np.zeros(12, np.float32), np.zeros(len(rig().expression_names), np.float32))
    folds = replace(scene, look=replace(scene.look, folds=(0.5,) * len(look.FOLDS)))
    a, b = (render.draw(rig(), static(), s, 64) for s in (scene, folds))
    assert (b.image <= a.image + 1e-6).all()
    assert (b.image < a.image - 0.05).any()
    np.testing.assert_array_equal(a.label, b.label)
    sides = np.abs(b.image - b.image[:, ::-1]).mean()
    assert sides == pytest.approx(np.abs(a.image - a.image[:, ::-1]).mean(), abs=0.01)


def test_brows_of_a_shard_lie_around_their_mean():
    usual, low = (synth.make(config(12, brows_cm=b), 0) for b in ((0.0, 0.0), (-0.6, 0.1)))
    gap = [s["landmarks"][:, 36:48, 1].mean(1) - s["landmarks"][:, 17:27, 1].mean(1) for s in (usual, low)]
    assert np.median(gap[1]) < 0.9 * np.median(gap[0])
    assert set(low) == set(usual)


def test_an_unknown_setting_is_refused():
    with pytest.raises(ConfigError, match="plain"):
        synth.make(config(look="baroque"), 0)
    with pytest.raises(ConfigError, match="uniform"):
        synth.make(config(parameters="wild"), 0)


def test_the_lip_gap_is_that_of_lips_part():
    on = synth.stage(config())
    rest = np.zeros(len(on.model.expression_names), np.float32)
    who = np.zeros(1, np.float32)
    full = PROFILE.expand({"AU25": 5}) @ on.weights
    gaps = [synth.gap_cm(shape.vertices(on.model, who, w)[on.model.landmarks]) for w in (rest, full)]
    assert gaps == pytest.approx(list(on.gap))
    assert gaps[1] > gaps[0] + 0.2
