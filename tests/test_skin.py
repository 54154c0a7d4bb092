"""Skins: their file, the filling of an atlas, and a rig fitted to a portrait where there is one."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from faceunits.errors import InputError
from faceunits.rig import anchors, atlas, kin, look, portrait, shape, skin

MODEL = Path(os.environ.get("FACEUNITS_FACE_MODEL", "face-model"))
FACES = Path(os.environ.get("FACEUNITS_FACES", "faces"))
needs_data = pytest.mark.skipif(
    not (MODEL / "ict_facekit.npz").exists() or not (FACES / "london/landmarks.npz").exists(),
    reason="set FACEUNITS_FACE_MODEL and FACEUNITS_FACES to the face model and the portraits",
)


def test_resample_is_even_and_keeps_the_ends():
    points = np.array([[0.0, 0], [1, 0], [10, 0]])
    out = anchors.resample(points, 11)
    np.testing.assert_allclose(out[:, 0], np.arange(11), atol=0.02)
    np.testing.assert_allclose(out[:, 1], 0, atol=1e-9)


def test_spread_keeps_what_is_known_and_fills_a_constant():
    known = np.zeros((64, 64), bool)
    known[20:40, 20:40] = True
    image = np.where(known[..., None], np.array([10.0, 20, 30]), 99.0)
    np.testing.assert_allclose(atlas.spread(image, known) - np.array([10, 20, 30]), 0, atol=1e-6)


def test_saved_skins_come_back(tmp_path):
    rng = np.random.default_rng(0)
    one = skin.Skin(
        name="a", photo=rng.integers(0, 255, (8, 6, 3)).astype(np.uint8), identity=np.ones(4, np.float32),
        coords=np.ones((5, 2), np.float32), visible=np.ones(5, np.float32), color=np.ones(3, np.float32),
        hair_color=np.zeros(3, np.float32), gender="female",
    )  # fmt: skip
    skin.save(tmp_path / "s.npz", [one, one])
    back = skin.load(tmp_path / "s.npz")
    assert [s.name for s in back] == ["a", "a"]
    assert back[0].gender == "female"
    np.testing.assert_array_equal(back[0].photo, one.photo)
    with pytest.raises(InputError, match="collect"):
        skin.load(tmp_path / "none.npz")


@needs_data
def test_a_portrait_is_fitted_to_its_points():
    model = shape.load(MODEL, n_identity=portrait.N_IDENTITY)
    with np.load(FACES / "london/landmarks.npz") as pack:
        name, points = str(pack["ids"][0]), pack["neutral_face_189"][0].astype(np.float64)
    photo = np.asarray(Image.open(FACES / f"london/neutral_face/{name}.jpg").convert("RGB"))
    fitted = portrait.fit_photo(model, photo, points)
    assert fitted.coords.shape == (len(model.neutral), 2)
    assert np.abs(fitted.identity).max() < 4
    # every matched curve lies on the photo's; lips and eyes are moved afterwards, see `_lips`
    for curve in anchors.curves(model):
        if curve.name.startswith(("lid", "brow", "hair")):
            error = curve.rows @ fitted.coords.astype(np.float64) - anchors.targets(curve, points)
            assert np.sqrt((error**2).sum(1).mean()) < 2.5, curve.name
    with pytest.raises(InputError, match="189"):
        portrait.fit_photo(model, photo, points[:5])


def test_another_tone_stays_in_the_human_range() -> None:
    rng = np.random.default_rng(1)
    face = skin.Skin(
        name="a", photo=np.zeros((8, 6, 3), np.uint8), identity=np.ones(4, np.float32),
        coords=np.ones((5, 2), np.float32), visible=np.ones(5, np.float32),
        color=np.array([0.8, 0.6, 0.5], np.float32), hair_color=np.zeros(3, np.float32),
    )  # fmt: skip
    real = replace(look.PLAIN, real=face, skin=face.color)
    tones = [look.ita_deg(look.recoloured(rng, real).skin) for _ in range(200)]
    assert min(tones) < -30 < 55 < max(tones)  # very dark to very light
    assert all(0.35 <= g <= 1.7 for g in look.recoloured(rng, real).real_gain)
    assert look.recoloured(rng, look.PLAIN) is look.PLAIN


@needs_data
def test_relatives_share_their_looks() -> None:
    """Mixed skins lie between their parents, place by place; a person mixed with itself is itself."""
    model = shape.load(MODEL, n_identity=portrait.N_IDENTITY)
    people = []
    with np.load(FACES / "london/landmarks.npz") as pack:
        for k in (0, 1):
            photo = np.asarray(Image.open(FACES / f"london/neutral_face/{pack['ids'][k]}.jpg").convert("RGB"))
            points = pack["neutral_face_189"][k].astype(np.float64)
            people.append(portrait.fit_photo(model, photo, points, name=str(k)))
    a, b = people
    rng = np.random.default_rng(0)
    same = kin.mixed(rng, model, a, a)
    middle = (slice(150, 400), slice(150, 350))
    assert np.abs(same.photo[middle].astype(int) - a.photo[middle]).mean() < 1.5
    child = kin.mixed(rng, model, a, b)
    assert child.photo.shape == a.photo.shape
    assert child.name == "0+1"
    changed = np.abs(child.photo[middle].astype(int) - a.photo[middle]).mean((1, 2))
    assert changed.max() > 10
    assert len(kin.family(model, people, 3)) == 5
