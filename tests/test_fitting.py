"""The fit, on untrained networks of the real kind: its equations, its bounds, its symmetries."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from small import N_AU, N_IDENTITY, SIZE, crops, generator, models, parser
from torch import Tensor

from faceunits import fitting
from faceunits.errors import ConfigError, ParameterError
from faceunits.fitting import loss, optimise, prior
from faceunits.fitting import models as fitting_models
from faceunits.fitting.pipeline import LANDMARK_MIRROR, agreement
from faceunits.networks.parser import Features
from faceunits.types import Reading

P = 2 + N_AU + N_IDENTITY
RECIPES = {"default": optimise.DEFAULT, "paper": optimise.PAPER}


def observe(image: np.ndarray, recipe: optimise.Recipe) -> loss.Target:
    m = models()
    return optimise.observe(
        m.networks, torch.from_numpy(image), recipe, torch.from_numpy(m.profile.mirror()),
        torch.from_numpy(LANDMARK_MIRROR),
    )  # fmt: skip


# The whole fit


@pytest.mark.parametrize("name", RECIPES)
def test_a_batch_equals_its_members(name):
    # few steps: a descent on absolute differences doubles the last digit's noise at every one
    image = crops(3)
    settings = replace(RECIPES[name], iterations=3, largest_step=0.02)
    together = fitting.fit(image, models(), settings)
    for i in range(3):
        alone = fitting.fit(image[i : i + 1], models(), settings)
        np.testing.assert_allclose(together.au[i], alone.au[0], atol=2e-3)
        np.testing.assert_allclose(together.identity[i], alone.identity[0], atol=2e-3)
        np.testing.assert_allclose(together.trace[:, i], alone.trace[:, 0], rtol=1e-3)


@pytest.mark.parametrize("name", RECIPES)
def test_the_result_has_its_shapes_and_ranges(name):
    result = fitting.fit(crops(2), models(), name)
    assert result.names == models().names
    assert result.au.shape == (2, N_AU)
    assert result.identity.shape == (2, N_IDENTITY)
    assert result.pose_deg.shape == (2, 2)
    assert result.image.shape == (2, 3, SIZE, SIZE)
    assert result.parsing.shape == result.parsing_fitted.shape == result.residual.shape == (2, SIZE, SIZE)
    assert result.parsing.dtype == np.uint8
    assert result.landmarks.shape == (2, 68, 2)
    assert result.trace.shape == (RECIPES[name].iterations, 2)
    for values in (result.au, result.identity, result.lip_gap, result.confidence, result.image):
        assert values.dtype == np.float32
        assert ((values >= 0) & (values <= 1)).all()
    assert np.abs(result.pose_deg).max() <= 28.6 + 1e-4
    assert (result.residual >= 0).all()


@pytest.mark.parametrize("name", RECIPES)
def test_the_loss_falls(name):
    # the face of the generator itself can be reached, that of noise cannot
    y = optimise.base_face(models().networks.generator, N_AU, 2)
    y[:, 2 : 2 + N_AU : 5] = 0.6
    image = models().networks.generator(y).numpy()
    trace = fitting.fit(
        image, models(), replace(RECIPES[name], readings=0.0, landmarks=0.0, largest_step=0.02)
    ).trace
    assert (trace[-1] < trace[0]).all()


def test_fits_repeat():
    a, b = (fitting.fit(crops(2), models()) for _ in range(2))
    np.testing.assert_array_equal(a.au, b.au)


def test_a_fit_looks_at_each_side_of_a_photo_once(monkeypatch):
    own = models()
    seen = []
    whole = type(own.networks.parser).forward

    def counting(self: object, image: Tensor, *, heads: bool = True) -> Features:
        seen.extend([image] * heads)
        return whole(self, image, heads=heads)

    monkeypatch.setattr(type(own.networks.parser), "forward", counting)
    fitting.fit(crops(1), own, replace(optimise.DEFAULT, iterations=1))
    assert len(seen) == 2
    assert torch.equal(seen[0], seen[1].flip(-1))


def test_both_views_are_observed_as_each_alone():
    m, image = models(), torch.from_numpy(crops(2))
    mirrors = torch.from_numpy(m.profile.mirror()), torch.from_numpy(LANDMARK_MIRROR)
    both = optimise.observe_both(m.networks, image, optimise.DEFAULT, *mirrors)
    for target, view in zip(both, (image, image.flip(-1)), strict=True):
        alone = optimise.observe(m.networks, view, optimise.DEFAULT, *mirrors)
        assert torch.equal(target.points, alone.points)
        assert torch.equal(target.readings, alone.readings)
        assert torch.equal(target.probability, alone.probability)
        assert all(torch.equal(a, b) for a, b in zip(target.maps, alone.maps, strict=True))


def test_an_illustrated_reading_is_the_reading_and_what_a_fit_draws_for_it():
    image = crops(2)
    reading, drawn = fitting.read(image, models()), fitting.fit(image, models(), "fast")
    shown = fitting.illustrate(reading, image, models())
    for name in Reading.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(shown, name), getattr(reading, name), err_msg=name)
    np.testing.assert_array_equal(shown.parsing, drawn.parsing)
    # read by the lean E, whose batch norms are folded: equal to rounding
    np.testing.assert_allclose(shown.image, drawn.image, atol=1e-4)
    np.testing.assert_allclose(shown.residual, drawn.residual, atol=1e-4)
    assert shown.trace.shape == (0, 2)


def test_an_unknown_recipe_or_optimiser_is_refused():
    with pytest.raises(ConfigError, match="paper"):
        fitting.fit(crops(1), models(), "magic")
    with pytest.raises(ConfigError, match="descent"):
        fitting.fit(crops(1), models(), optimise.Recipe(optimiser="lbfgs"))


def test_crops_of_another_size_are_read_at_that_of_the_networks():
    larger = np.kron(crops(2), np.ones((1, 1, 2, 2), np.float32))
    here, there = (fitting.fit(c, models(), "fast") for c in (crops(2), larger))
    np.testing.assert_allclose(there.au, here.au, atol=0.1)
    np.testing.assert_allclose(there.landmarks, here.landmarks, atol=0.5)  # both in pixels of `crop_size`
    assert there.image.shape == here.image.shape


@pytest.mark.parametrize(
    "shape", [(1, 3, 16, SIZE), (3, SIZE, SIZE), (1, SIZE, SIZE, 3), (1, 1, SIZE, SIZE), (1, 3, 0, 0)]
)
def test_what_is_no_batch_of_square_crops_is_refused(shape):
    with pytest.raises(ParameterError, match=r"warp\.crop"):
        fitting.fit(np.zeros(shape, np.float32), models())


# Steps (eq. 7)


def test_a_unit_at_rest_can_rise(monkeypatch):
    """Clipping lies outside the gradient: at 0, a unit whose loss falls upward does leave 0."""

    def rising(
        networks: optimise.Networks, y: Tensor, target: loss.Target, recipe: optimise.Recipe
    ) -> Tensor:
        return -y[:, 2] + y[:, 3]  # the first unit wants up, the second down

    monkeypatch.setattr(optimise, "objective", rising)
    target = observe(crops(1), optimise.PAPER)
    for recipe in (optimise.PAPER, replace(optimise.PAPER, optimiser="adam")):
        y, _ = optimise.descend(models().networks, target, recipe)
        assert y[0, 2] > 0.5
        assert y[0, 3] == 0


def test_steps_of_descent_are_scaled_and_bounded(monkeypatch):
    """Eq. 7: y - lr dL/dy, no step larger than `largest_step`."""
    slope = torch.zeros(P)
    slope[2], slope[3] = -1e-3, -1e3
    monkeypatch.setattr(optimise, "objective", lambda networks, y, target, recipe: (y * slope).sum(1))
    recipe = replace(optimise.PAPER, iterations=1, largest_step=0.1)
    y, trace = optimise.descend(models().networks, observe(crops(1), recipe), recipe)
    rates = models().networks.rates
    assert float(y[0, 2]) == pytest.approx(1e-3 * float(rates[2]), rel=1e-4)
    assert float(y[0, 3]) == pytest.approx(0.1)
    assert trace.shape == (1, 1)


@pytest.mark.parametrize("name", RECIPES)
def test_parameters_stay_within_bounds_at_any_step_size(name):
    settings = replace(RECIPES[name], rate=5.0, largest_step=10.0, identity_rate=1e4, iterations=5)
    result = fitting.fit(crops(2), models(), settings)
    for values in (result.au, result.identity):
        assert ((values >= 0) & (values <= 1)).all()


def test_units_held_at_rest_stay_there():
    result = fitting.fit(crops(2), models(), replace(optimise.DEFAULT, at_rest=True))
    assert (result.au == 0).all()
    assert result.identity.std() > 0


def test_step_sizes_are_finite_for_a_generator_that_never_changes():
    net, _ = generator(contrast=0.0)
    rates = optimise.step_sizes(net, parser(), N_AU, least=1e-3)
    torch.testing.assert_close(rates, torch.full((2 + N_AU,), 1000.0))


def test_step_sizes_are_the_inverse_of_the_changed_share():
    m = models().networks
    base = optimise.base_face(m.generator, N_AU, 1)
    for k in (0, 5, 2 + N_AU - 1):
        moved = base.clone()
        moved[0, k] = 1
        before, after = (m.parser.scores(m.parser(m.generator(y)).logits).argmax(1) for y in (base, moved))
        share = max(float((before != after).float().mean()), 1e-3)
        assert float(m.rates[k]) == pytest.approx(1 / share, rel=1e-4)


def test_the_base_face_is_frontal_at_rest_and_mean():
    y = optimise.base_face(generator()[0], N_AU, 2)
    assert (y[:, :2] == 0.5).all()
    assert (y[:, 2 : 2 + N_AU] == 0).all()
    assert (y[:, 2 + N_AU :] == 0.5).all()


# Features (eqs. 5 and 6)


def features(logits: Tensor) -> Features:
    torch.manual_seed(0)
    maps = tuple(torch.rand(1, c, 2, 2) for c in (2, 3, 4, 5))
    return Features(maps, logits, heat=None, points=None, readings=None)


def test_without_attention_the_features_are_the_maps():
    seen = features(torch.randn(1, 11, 2, 2))
    for got, map_ in zip(loss.masked(seen, (1, 2, 3, 4), attention=False), seen.maps, strict=True):
        torch.testing.assert_close(got / map_, torch.full_like(map_, (1, 2, 3, 4)[map_.shape[1] - 2]))


def test_attention_keeps_each_map_to_its_region():
    logits = torch.full((1, 11, 2, 2), -40.0)
    for (i, j), name in {(0, 0): 4, (0, 1): 3, (1, 0): 6, (1, 1): 8}.items():  # eye, brow, nose, mouth
        logits[0, name, i, j] = 40
    seen = features(logits)
    got = loss.masked(seen, (1.0, 1.0, 1.0, 1.0))
    for (i, j), mine in {(0, 0): 0, (0, 1): 1, (1, 0): 2, (1, 1): 3}.items():
        for k in range(4):
            wanted = seen.maps[k][0, :, i, j] * (k == mine)
            torch.testing.assert_close(got[k][0, :, i, j], wanted, atol=1e-6, rtol=1e-5)


def test_skin_and_hair_carry_no_attention():
    logits = torch.full((1, 11, 2, 2), -40.0)
    logits[0, [1, 10]] = 40
    assert all(m.abs().max() < 1e-6 for m in loss.masked(features(logits), (1.0,) * 4))


def test_the_loss_is_the_mean_of_its_residual():
    a, b = (loss.masked(features(torch.randn(1, 11, 2, 2)), (1.0, 0.5, 2.0, 1.0)) for _ in range(2))
    torch.testing.assert_close(loss.feature_loss(a, b), loss.residual(a, b).flatten(1).mean(1))
    assert loss.feature_loss(a, a) == 0


def test_scales_make_the_maps_weigh_alike():
    seen = features(torch.zeros(1, 11, 2, 2))
    scaled = loss.masked(seen, loss.scales(seen), attention=False)
    assert [float(m.mean()) for m in scaled] == pytest.approx([1, 1, 1, 1], rel=1e-4)


# Mirror images


def test_a_mirrored_photo_is_read_with_its_sides_swapped():
    recipe = replace(optimise.DEFAULT, mirror=True)
    image = crops(2, seed=4)
    straight, turned = observe(image, recipe), observe(np.ascontiguousarray(image[..., ::-1]), recipe)
    swap = torch.from_numpy(models().profile.mirror())
    torch.testing.assert_close(
        turned.readings[:, :N_AU], straight.readings[:, :N_AU][:, swap], atol=1e-4, rtol=1e-3
    )
    gap, pitch, yaw = N_AU, N_AU + 1, N_AU + 2
    torch.testing.assert_close(turned.readings[:, gap], straight.readings[:, gap], atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(turned.readings[:, pitch], straight.readings[:, pitch], atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(turned.readings[:, yaw], -straight.readings[:, yaw], atol=1e-4, rtol=1e-3)
    points = straight.points[:, LANDMARK_MIRROR].clone()
    points[..., 0] = SIZE - 1 - points[..., 0]
    torch.testing.assert_close(turned.points, points, atol=1e-3, rtol=1e-3)


def test_without_the_mirror_only_the_photo_itself_is_read():
    image = torch.from_numpy(crops(2))
    seen = observe(crops(2), replace(optimise.DEFAULT, mirror=False, curves=False))
    torch.testing.assert_close(seen.readings, models().networks.parser(image).readings)
    torch.testing.assert_close(seen.points, models().networks.parser(image).points)


def test_the_start_is_the_reading():
    target = observe(crops(2), optimise.DEFAULT)
    read = target.readings.clone()
    read[:, :N_AU] = torch.linspace(-0.5, 1.5, N_AU)
    read[:, N_AU + 1 : N_AU + 3] = torch.tensor([0.5, -1.0])
    y = optimise.start(models().networks, replace(target, readings=read), optimise.DEFAULT)
    torch.testing.assert_close(y[:, 2 : 2 + N_AU], read[:, :N_AU].clamp(0, 1))
    torch.testing.assert_close(y[:, :2], torch.tensor([[0.75, 0.0]]).expand(2, 2))
    plain = optimise.start(models().networks, target, optimise.PAPER)
    torch.testing.assert_close(plain, optimise.base_face(models().networks.generator, N_AU, 2))


def test_the_papers_recipe_needs_no_heads_of_its_extractor():
    result = fitting.fit(crops(2), models(heads=False), "paper")
    assert np.isfinite(result.trace).all()
    with pytest.raises(ConfigError, match="--recipe paper"):
        fitting.fit(crops(2), models(heads=False), "default")


# Identity subspace (eqs. 8-10)


def identities(rank: int, *, count: int = 60, size: int = 12) -> Tensor:
    rng = torch.Generator().manual_seed(rank)
    base = torch.linalg.qr(torch.randn(size, rank, generator=rng))[0]
    return 0.5 + 0.1 * torch.randn(count, rank, generator=rng) @ base.T


def test_the_subspace_gives_its_own_faces_back():
    faces = identities(4)
    space = prior.from_neutral(faces)
    assert space.basis.shape == (12, 4)
    code = space.encode(faces)
    torch.testing.assert_close(space.decode(code), faces, atol=1e-5, rtol=1e-4)
    assert float(code.min()) == pytest.approx(0, abs=1e-5)
    assert float(code.max()) == pytest.approx(1, abs=1e-5)
    torch.testing.assert_close(space.basis.T @ space.basis, torch.eye(4), atol=1e-5, rtol=1e-5)


def test_it_projects_what_lies_outside():
    space = prior.from_neutral(identities(4))
    other = torch.rand(5, 12, generator=torch.Generator().manual_seed(9))
    once = space.decode(space.encode(other))
    torch.testing.assert_close(space.decode(space.encode(once)), once, atol=1e-5, rtol=1e-4)
    assert ((other - once) @ space.basis).abs().max() < 1e-5


def test_it_keeps_the_fewest_components_that_explain_the_variance():
    rng = torch.Generator().manual_seed(1)
    spread = torch.tensor([1.0, 0.5, 0.2, 0.05, 0.01])
    faces = torch.randn(400, 5, generator=rng) * spread
    for variance in (0.5, 0.9, 0.99, 0.9999):
        kept = prior.from_neutral(faces, variance=variance).basis.shape[1]
        values = torch.linalg.svdvals(faces - faces.mean(0)) ** 2
        share = values.cumsum(0) / values.sum()
        assert share[kept - 1] >= variance
        assert kept == 1 or share[kept - 2] < variance


def test_the_whole_space_restricts_nothing():
    space = prior.whole(6)
    code = torch.rand(3, 6)
    torch.testing.assert_close(space.encode(code), code)
    torch.testing.assert_close(space.decode(code), code)


def test_a_fit_keeps_its_identity_in_the_subspace():
    m = models()
    space = prior.from_neutral(identities(2, size=N_IDENTITY))
    inside = replace(m, networks=replace(m.networks, subspace=space))
    result = fitting.fit(crops(3), inside, replace(optimise.DEFAULT, subspace=True))
    face = torch.from_numpy(result.identity)
    torch.testing.assert_close(space.decode(space.encode(face)), face, atol=1e-4, rtol=1e-3)
    code = space.encode(face)
    assert float(code.min()) >= -1e-4
    assert float(code.max()) <= 1 + 1e-4


# Measured once


def test_measured_tensors_rebuild_the_networks_of_a_fit():
    (m, sketch), e = generator(), parser()
    measured = fitting_models.measure(m, e, N_AU)
    networks = fitting_models.assemble(m, sketch, e, N_AU, measured)
    assert networks.rates.shape == (2 + N_AU,)
    assert len(networks.beta) == 4
    assert torch.isfinite(networks.rates).all()
    assert networks.subspace.basis.shape == (N_IDENTITY, N_IDENTITY)


def test_agreement_of_label_maps():
    a = torch.zeros(1, 4, 4, dtype=torch.long)
    for k, name in enumerate((2, 3, 4, 5, 6, 7, 9)):
        a.view(-1)[k] = name
    assert float(agreement(a, a)) == pytest.approx(1)
    assert float(agreement(a, torch.zeros_like(a))) == 0


def test_the_landmark_mirror_is_an_involution():
    np.testing.assert_array_equal(LANDMARK_MIRROR[LANDMARK_MIRROR], np.arange(68))
    on_the_middle = [8, 27, 28, 29, 30, 33, 51, 57, 62, 66]
    np.testing.assert_array_equal(np.flatnonzero(np.arange(68) == LANDMARK_MIRROR), on_the_middle)
