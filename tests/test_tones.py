"""Skin tones: the angle, its bands, and errors by band on shards whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from small import FACE_MODEL, needs_model
from test_stability import shard, tool

from faceunits import aus
from faceunits.errors import InputError
from faceunits.evaluation import crops, fits, tones
from faceunits.rig import look, synth


def test_the_angle_is_that_of_cielab():
    color = pytest.importorskip("skimage.color")
    for rgb in ((0.93, 0.78, 0.70), (0.6, 0.41, 0.28), (0.26, 0.16, 0.11), (0.2, 0.12, 0.08)):
        lightness, _, b = color.rgb2lab(np.array(rgb))
        want = np.degrees(np.arctan2(lightness - 50, b))
        assert look.ita_deg(np.array(rgb)) == pytest.approx(want, abs=0.02)


def test_bands():
    names = [name for name, _ in tones.BANDS]
    angles = np.array([-90, -30.01, -30, 9.9, 10, 28, 41, 55, 90, np.nan])
    want = [names[i] for i in (0, 0, 1, 1, 2, 3, 4, 5, 5)]
    assert tones.bands(angles) == [*want, None]


def toned(path, count=24, **more):
    return shard(path, count, skin_tone=np.where(np.arange(count) % 2, -50, 60).astype(np.float32), **more)


def test_errors_by_band_equal_slow_ones(tmp_path):
    path = toned(tmp_path / "a.npz")
    page = tones.report([path], tool(), rounds=20)
    assert page.about["faces"] == 24
    pack = fits.read_shard(path, 24)
    seen = crops.columns(list(fits.crops_of(pack["image"])), tool())
    names = aus.profile().names
    for i, band in enumerate(("very light, above 55", "dark, below -30")):
        errors = []
        for k in range(i, 24, 2):
            known = aus.columns(names, pack["au"][k : k + 1], pack["lip_gap"][k : k + 1])
            errors += [abs(float(known[u][0]) - seen[u][k]) for u in crops.whole(list(known))]
        figure = next(f for f in page.figures if "absolute error" in f.step and f.name == band)
        assert figure.value == pytest.approx(np.mean(errors), abs=1e-5)
        assert figure.n == 12
        assert figure.low <= figure.value <= figure.high
        by_unit = page.tables["mean absolute error by unit, 0-5"][band]
        assert by_unit.mean() == pytest.approx(np.mean(errors), abs=1e-5)
    # from dark to light, whatever the alphabet says
    assert list(page.tables["mean absolute error by unit, 0-5"]) == [
        "dark, below -30",
        "very light, above 55",
    ]
    assert "mean ICC(3,1)" in " ".join(page.tables["gaps by skin tone"].index)


def test_a_shard_without_tones_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"skin_tone in .*b\.npz"):
        tones.report([toned(tmp_path / "a.npz"), shard(tmp_path / "b.npz")], tool())


@needs_model
def test_shards_hold_the_tone_that_was_drawn(monkeypatch):
    config = synth.SynthConfig(rig=str(FACE_MODEL), n_identity=12, size=32, shard=3, seed=4)
    drawn = []
    draw = look.varied

    def varied(*args):
        drawn.append(draw(*args))
        return drawn[-1]

    monkeypatch.setattr(look, "varied", varied)
    made = synth.make(config, 0)
    np.testing.assert_allclose(made["skin_tone"], [look.ita_deg(x.skin) for x in drawn], rtol=1e-6)
    assert len(np.unique(made["skin_tone"])) == 3
    plain = synth.make(
        synth.SynthConfig(rig=str(FACE_MODEL), n_identity=12, size=32, shard=2, look="plain"), 0
    )
    np.testing.assert_allclose(plain["skin_tone"], look.ita_deg(look.PLAIN.skin), rtol=1e-6)
