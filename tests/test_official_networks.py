"""Encoders, LPIPS and CLIP from public files."""

from __future__ import annotations

import argparse

import pytest
import torch
from safetensors.torch import save_file

from faceunits.errors import WeightsError
from faceunits.networks.clip import Clip, ClipConfig
from faceunits.networks.encoders import E4e, EncoderConfig, Psp
from faceunits.networks.lpips import Lpips
from faceunits.weights import official


@pytest.fixture
def small_encoders(monkeypatch):
    """Public files' encoders have one size; a test's are smaller."""
    sizes = {"size": 32, "latent": 16, "widths": (16,) * 5, "units": (1, 1, 1, 1)}
    real = EncoderConfig
    monkeypatch.setattr(
        "faceunits.networks.encoders.EncoderConfig", lambda levels: real(levels=levels, **sizes)
    )
    return lambda kind: kind(real(levels=8, **sizes)).eval()


@pytest.mark.parametrize(("kind", "name"), [(E4e, "Encoder4Editing"), (Psp, "GradualStyleEncoder")])
def test_encoders(tmp_path, small_encoders, kind, name):
    torch.manual_seed(0)
    net = small_encoders(kind).requires_grad_(False)
    net.average = torch.randn(8, 16)
    state = {f"encoder.{k}": v for k, v in net.state_dict().items() if "num_batches" not in k}  # an old file
    content = {"state_dict": {**state, "decoder.x": torch.ones(1)}, "latent_avg": net.average}
    picture = torch.rand(1, 3, 32, 32)
    for opts in ({"encoder_type": name}, argparse.Namespace(encoder_type=name, learn_in_w=False)):
        torch.save({**content, "opts": opts}, tmp_path / "e.pt")
        loaded = official.encoder(tmp_path / "e.pt")
        assert type(loaded) is kind
        torch.testing.assert_close(loaded(picture), net(picture))
    torch.save({**content, "latent_avg": net.average[0]}, tmp_path / "e.pt")
    with pytest.raises(WeightsError, match="give the kind"):
        official.encoder(tmp_path / "e.pt")
    loaded = official.encoder(tmp_path / "e.pt", "e4e" if kind is E4e else "psp")
    torch.testing.assert_close(loaded(picture), net(picture) - net.average + net.average[0])
    torch.save({**content, "opts": {"encoder_type": name, "start_from_latent_avg": False}}, tmp_path / "e.pt")
    torch.testing.assert_close(official.encoder(tmp_path / "e.pt")(picture), net(picture) - net.average)
    flat = {k: v.clone() for k, v in state.items()} | {"latent_avg": net.average}
    save_file(flat, tmp_path / "e.safetensors")
    torch.testing.assert_close(
        official.encoder(tmp_path / "e.safetensors", "e4e" if kind is E4e else "psp")(picture), net(picture)
    )


def test_encoders_that_cannot_be_used_are_refused(tmp_path, small_encoders):
    state = {f"encoder.{k}": v for k, v in small_encoders(Psp).state_dict().items()}
    cases = (
        ({"encoder_type": "GradualStyleEncoder", "learn_in_w": True}, {}, "gives one w"),
        ({"encoder_type": "BackboneEncoderUsingLastLayerIntoW"}, {}, "says BackboneEncoder"),
        ({"encoder_type": "GradualStyleEncoder"}, {"latent_avg": None}, "expected latent_avg beside"),
        ({"encoder_type": "GradualStyleEncoder"}, {"latent_avg": torch.ones(18, 512)}, "latent_avg of shape"),
    )
    for opts, more, said in cases:
        content = {"state_dict": state, "latent_avg": torch.zeros(16), "opts": opts, **more}
        torch.save(content, tmp_path / "e.pt")
        with pytest.raises(WeightsError, match=said):
            official.encoder(tmp_path / "e.pt")
    content["latent_avg"] = torch.zeros(16)
    torch.save(content, tmp_path / "e.pt")
    with pytest.raises(WeightsError, match="drop the kind"):
        official.encoder(tmp_path / "e.pt", "e4e")


def test_lpips_from_two_files(tmp_path):
    torch.manual_seed(0)
    net = Lpips("alex")
    trunk = {**net.trunk.state_dict(), "classifier.6.bias": torch.ones(1000)}
    torch.save(trunk, tmp_path / "alexnet.pth", _use_new_zipfile_serialization=False)
    for names in ("lin{}.model.1.weight", "{}.1.weight"):
        heads = {names.format(i): v for i, v in enumerate(net.heads.state_dict().values())}
        torch.save(heads, tmp_path / "alex.pth")
        loaded = official.lpips(tmp_path / "alexnet.pth", tmp_path / "alex.pth")
        a, b = torch.rand(2, 1, 3, 32, 32)
        torch.testing.assert_close(loaded(a, b), net(a, b))
    heads["lin1.model.1.weight"] = torch.ones(1, 128, 1, 1)
    torch.save({k: v for k, v in heads.items() if k.startswith("lin")}, tmp_path / "vgg.pth")
    with pytest.raises(WeightsError, match="LPIPS weights for VGG-16"):
        official.lpips(tmp_path / "alexnet.pth", tmp_path / "vgg.pth")


def test_clip_in_half_precision(tmp_path):
    torch.manual_seed(0)
    config = ClipConfig(size=32, space=8, width=64, patch=16, blocks=(1,), context=5, vocabulary=11,
                        text_width=64, text_blocks=2)  # fmt: skip
    net = Clip(config).eval().requires_grad_(False)
    state = {k: v.half() for k, v in net.state_dict().items()}
    beside = {"input_resolution": 32, "context_length": 5, "vocab_size": 11}
    torch.save({**state, **{k: torch.tensor(v) for k, v in beside.items()}}, tmp_path / "clip.pt")
    loaded = official.clip(tmp_path / "clip.pt")
    assert loaded.config == config
    picture, tokens = torch.rand(2, 3, 32, 32), torch.tensor([[9, 3, 10, 0, 0], [9, 10, 0, 0, 0]])
    torch.testing.assert_close(loaded(picture, tokens), net(picture, tokens), atol=0.05, rtol=0.05)
    later = tokens.clone()
    later[:, 4] = 5  # behind the end token: unseen, by the mask
    torch.testing.assert_close(loaded.embed_text(later), loaded.embed_text(tokens))
