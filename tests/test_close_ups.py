"""E's close-ups: where they lie, what they find again, and how they are trained."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small import N_AU, N_IDENTITY

from faceunits.networks import parser as networks
from faceunits.networks.parser import CloseUp, Parser, ParserConfig
from faceunits.training import parser as training
from faceunits.types import LANDMARK_MIRROR

SIZE = 128


def face() -> torch.Tensor:
    """`(1, 68, 2)` landmarks that lie about where a frontal face has them in a crop of 128 pixels."""
    half = {17: (28, 28), 18: (32, 25), 19: (38, 24), 20: (45, 25), 21: (52, 28)}
    half |= {36: (35, 40), 37: (40, 37), 38: (46, 37), 39: (51, 41), 40: (46, 43), 41: (40, 43)}
    half |= {48: (47, 86), 49: (53, 82), 50: (60, 80), 51: (63.5, 81), 57: (63.5, 95), 58: (58, 94)}
    half |= {59: (52, 91), 60: (49, 86), 61: (58, 85), 62: (63.5, 85), 66: (63.5, 88), 67: (58, 88)}
    points = np.full((68, 2), 63.5, np.float32)
    for i, p in half.items():
        points[i] = p
        points[LANDMARK_MIRROR[i]] = (SIZE - 1 - p[0], p[1])
    return torch.from_numpy(points)[None]


def around() -> tuple[torch.Tensor, torch.Tensor]:
    """Scores of 68 points, and 24 maps, of an E that is not sure of anything."""
    generator = torch.Generator().manual_seed(3)
    return torch.randn(1, 68, 32, 32, generator=generator), torch.randn(1, 24, 32, 32, generator=generator)


def light(**values: object) -> Parser:
    torch.manual_seed(0)
    config = ParserConfig(
        blocks=(1, 1, 1, 1), planes=(4, 4, 4, 4), stem=8, pool=False, size=SIZE, landmarks=68,
        readings=N_AU + 3 + N_IDENTITY, close_ups=True, doubts=N_AU + 3, **values,  # type: ignore[arg-type]
    )  # fmt: skip
    return Parser(config).eval()


def test_points_lie_inside_their_close_ups() -> None:
    points = face()
    for index, at in CloseUp(SIZE).cells(points, points):
        assert at.shape == (1, len(index), 2)
        assert (at > 0).all()
        assert (at[..., 0] < 28).all()
        assert (at[..., 1] < 22).all()


def test_certain_scores_give_the_points_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores split between the four cells around a point, as training wants them, have it as their mean."""
    close, points, rough = CloseUp(SIZE), face(), face() + torch.randn(1, 68, 2)
    heats = []
    for (index, at), size in zip(close.cells(points, rough), ((20, 22), (20, 22), (22, 28)), strict=True):
        heat = torch.full((1, len(index), *size), 1e-9)
        for k, (x, y) in enumerate(at[0].tolist()):
            i, j = int(y), int(x)
            for di, dj in ((0, 0), (0, 1), (1, 0), (1, 1)):
                heat[0, k, i + di, j + dj] = (1 - abs(y - i - di)) * (1 - abs(x - j - dj)) + 1e-9
        heats.append(heat.log())
    seen = torch.zeros(1, 1)
    monkeypatch.setattr(close.eye, "forward", lambda x, around: (torch.cat(heats[:2]), seen.expand(2, 1)))
    monkeypatch.setattr(close.mouth, "forward", lambda x, around: (heats[2], seen))
    exact, _, _ = close(torch.zeros(1, 3, SIZE, SIZE), rough, *around())
    found = [*networks.EYE_RIGHT, *networks.EYE_LEFT, *networks.MOUTH]
    torch.testing.assert_close(exact[:, found], points[:, found], atol=1e-2, rtol=0)
    others = [k for k in range(68) if k not in found]
    torch.testing.assert_close(exact[:, others], rough[:, others])


def test_close_ups_of_a_mirrored_face_swap_its_sides() -> None:
    close = CloseUp(SIZE).eval()
    image = torch.rand(1, 3, SIZE, SIZE)
    points = face() + torch.randn(1, 68, 2)
    turned = points[:, LANDMARK_MIRROR] * torch.tensor([-1.0, 1.0]) + torch.tensor([SIZE - 1.0, 0.0])
    heat, local = around()
    with torch.no_grad():
        straight, seen, _ = close(image, points, heat, local)
        mirrored, other, _ = close(image.flip(-1), turned, heat[:, LANDMARK_MIRROR].flip(-1), local.flip(-1))
    eyes = [*networks.EYE_RIGHT, *networks.EYE_LEFT]
    back = mirrored[:, LANDMARK_MIRROR] * torch.tensor([-1.0, 1.0]) + torch.tensor([SIZE - 1.0, 0.0])
    torch.testing.assert_close(back[:, eyes], straight[:, eyes], atol=1e-3, rtol=0)
    torch.testing.assert_close(other[:, :160], seen[:, 160:320], atol=1e-4, rtol=1e-3)


def test_untrained_close_ups_leave_certain_points_where_they_are() -> None:
    close, points = CloseUp(SIZE).eval(), face()
    heat = torch.full((1, 68, 32, 32), -30.0)
    for k, (x, y) in enumerate(((points[0] - 1.5) / 4).round().int().tolist()):
        heat[0, k, y, x] = 30
    sure = networks._expectation(heat, 4)
    with torch.no_grad():
        exact, _, _ = close(torch.rand(1, 3, SIZE, SIZE), sure, heat, around()[1])
    assert float((exact - sure).norm(dim=-1).max()) < 1.5  # cells of two pixels under one of four


def test_a_face_is_read_alike_in_any_company() -> None:
    net = light()
    images = torch.rand(3, 3, SIZE, SIZE)
    with torch.no_grad():
        together, alone = net(images), net(images[1:2])
    torch.testing.assert_close(together.readings[1:2], alone.readings, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(together.points[1:2], alone.points, atol=1e-3, rtol=1e-4)


def test_without_heads_only_the_maps_are_made() -> None:
    net, image = light(), torch.rand(1, 3, SIZE, SIZE)
    with torch.no_grad():
        bare, whole = net(image, heads=False), net(image)
    assert bare.readings is None
    assert bare.points is None
    torch.testing.assert_close(bare.logits, whole.logits)


def test_doubt_learns_where_the_errors_are() -> None:
    """Errors that are large on dark pictures alone: the doubt must tell them, and change no reading."""
    net, rng = light(), np.random.default_rng(0)
    dark = rng.random(120) < 0.5
    images = rng.integers(0, 100, (120, SIZE, SIZE, 3)) + np.where(dark, 0, 150)[:, None, None, None]
    shard = {"image": images.astype(np.uint8)}
    x = torch.from_numpy(shard["image"]).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        before = net(x).readings
    size = np.where(dark, 0.5, 0.05)[:, None]
    shard["code"] = (before.numpy() + size * rng.normal(size=before.shape)).astype(np.float32)
    training.learn_doubt(net, [shard], faces=120)
    with torch.no_grad():
        seen = net(x)
    torch.testing.assert_close(seen.readings, before)
    told = seen.log_variance.exp().mean(1).sqrt().numpy()
    assert told[dark].mean() == pytest.approx(0.5, rel=0.25)
    assert told[~dark].mean() == pytest.approx(0.05, rel=0.5)


def test_an_earlier_head_is_heard_unchanged() -> None:
    """Weights of a head without close-ups, put into one with them, give the same dense answer."""
    torch.manual_seed(1)
    old = Parser(ParserConfig(**{**light().config.__dict__, "close_ups": False, "doubts": 0})).eval()
    new = light()
    training.start(new, old.state_dict())
    width = old.reader.dense[0].in_features
    torch.testing.assert_close(new.reader.dense[0].weight[:, :width], old.reader.dense[0].weight)
    assert not new.reader.dense[0].weight[:, width:].any()
    torch.testing.assert_close(new.conv1.weight, old.conv1.weight)


def test_twins_agree_when_one_is_the_other_mirrored() -> None:
    config = training.ParserTraining(n_identity=N_IDENTITY)
    read = torch.randn(4, N_AU + 3 + N_IDENTITY)
    mirror = torch.from_numpy(training.aus.profile().mirror())
    twin = torch.cat([read[:, mirror], read[:, N_AU : N_AU + 2], -read[:, N_AU + 2 : N_AU + 3]], 1)
    both = torch.zeros(5, read.shape[1])
    both[1], both[2, : N_AU + 3], both[3], both[4] = read[0], twin[0], read[1], read[1]
    flipped = torch.tensor([False, False, True, True, True])
    assert float(training.twin_loss(both, flipped, 1, config)) == pytest.approx(0, abs=1e-10)
    flipped = torch.tensor([False, False, False, True, True])
    assert float(training.twin_loss(both, flipped, 1, config)) > 0.01
