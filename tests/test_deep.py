"""E's deep stage: nothing before training, and the only thing that changes while it is trained alone."""

from __future__ import annotations

import pytest
import torch
from small import N_AU, N_IDENTITY

from faceunits.errors import ConfigError
from faceunits.networks import lean
from faceunits.networks.parser import Parser, ParserConfig
from faceunits.training import parser as training

SIZE = 64


def small(*, deep: int) -> Parser:
    torch.manual_seed(0)
    config = ParserConfig(
        blocks=(1, 1, 1, 1), planes=(4, 4, 4, 4), stem=8, pool=False, size=SIZE, landmarks=68,
        readings=N_AU + 3 + N_IDENTITY, doubts=N_AU + 3, deep=deep,
    )  # fmt: skip
    return Parser(config).eval()


def stirred(net: Parser) -> Parser:
    """As if it had been trained: the deep stage is heard, its norms have seen something."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, value in net.state_dict().items():
            if "more" in name or "running_mean" in name:
                value.add_(0.1 * torch.randn(value.shape, generator=generator))
    return net


def batch(n_render: int = 4, n_photo: int = 2) -> training.Batch:
    generator = torch.Generator().manual_seed(2)
    n = n_render + n_photo
    return {
        "image": torch.randint(0, 256, (n, 3, SIZE, SIZE), generator=generator, dtype=torch.uint8),
        "label": torch.zeros(n, SIZE, SIZE, dtype=torch.uint8),
        "code": torch.rand(n_render, N_AU + 3 + N_IDENTITY, generator=generator),
        "points": torch.rand(n_render, 68, 2, generator=generator) * SIZE,
        "rest": torch.tensor([False] * n_render + [True] + [False] * (n_photo - 1)),
        "flipped": torch.zeros(n, dtype=torch.bool),
    }


def test_a_new_deep_stage_changes_no_reading() -> None:
    old, new, image = small(deep=0), small(deep=16), torch.rand(3, 3, SIZE, SIZE)
    assert not any("deep" in k or "more" in k for k in old.state_dict())
    training.start(new, old.state_dict())
    with torch.no_grad():
        before, after = old(image), new(image)
    assert torch.equal(before.readings, after.readings)
    assert torch.equal(before.points, after.points)
    torch.testing.assert_close(before.log_variance, after.log_variance)  # what is new is not heard


def test_a_face_is_read_alike_in_any_company() -> None:
    net, images = stirred(small(deep=16)), torch.rand(3, 3, SIZE, SIZE)
    with torch.no_grad():
        together, alone = net(images), net(images[1:2])
        net.reader.more.weight.zero_()
        silent = net(images[1:2])
    torch.testing.assert_close(together.readings[1:2], alone.readings, atol=1e-4, rtol=1e-4)
    assert (alone.readings - silent.readings).abs().max() > 0.01


def test_made_lean_it_reads_the_same() -> None:
    net, image = stirred(small(deep=16)), torch.rand(2, 3, SIZE, SIZE)
    with torch.no_grad():
        whole = net(image)
        points, readings, doubt = lean.prepare(net)(image)
    torch.testing.assert_close(points, whole.points, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(readings, whole.readings, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(doubt, whole.log_variance, atol=1e-4, rtol=1e-4)


def test_trained_alone_it_leaves_the_rest_as_it_is() -> None:
    config = training.ParserTraining(n_identity=N_IDENTITY, deep=16, only_deep=True)
    net, data = small(deep=16), batch()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    optimiser = torch.optim.AdamW(net.parameters(), 1e-2)
    values = []
    for _ in range(12):
        net.train()  # as the loop does
        terms = training.losses(net, data, config)
        assert set(terms) == {"au", "identity", "twins", "rest"}
        total = torch.stack(list(terms.values())).sum()
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        values.append(float(total.detach()))
    assert values[-1] < 0.8 * values[0]
    changed = {k for k, v in net.state_dict().items() if not torch.equal(v, before[k])}
    assert changed
    assert all(k.startswith(("reader.deep.", "reader.more.")) for k in changed)


def test_only_deep_wants_a_deep_stage() -> None:
    with pytest.raises(ConfigError, match="deep = 128"):
        training.keep(small(deep=0))
