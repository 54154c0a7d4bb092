"""Public checkpoints: every container that holds them, and files that do not fit."""

from __future__ import annotations

import argparse
import io
import warnings
import zipfile
from collections import OrderedDict

import pytest
import torch
from safetensors.torch import save_file
from tiny_style import ada_state, generator, same
from torch import nn

from faceunits.errors import WeightsError
from faceunits.io import checkpoints
from faceunits.networks.encoders import E4e
from faceunits.weights import official


@pytest.mark.parametrize("new_format", [True, False])
def test_both_formats_of_torch_hold_what_was_saved(tmp_path, new_format):
    base = torch.randn(4, 6)
    content = {
        "a": base, "view": base.T[1:, ::2], "none": torch.empty(0, 3),
        "kinds": [t.to(d) for d in (torch.float16, torch.float64, torch.int64, torch.uint8, torch.bool)
                  for t in [torch.tensor([0.0, 1.0, 7.0])]],
        "parameter": nn.Parameter(torch.ones(2)), "state": OrderedDict(x=torch.tensor(3)),
        "opts": argparse.Namespace(encoder_type="x", lr=0.1), "text": "é", "numbers": (1, 2.5, None, {3}),
    }  # fmt: skip
    path = tmp_path / "any.name"
    torch.save(content, path, _use_new_zipfile_serialization=new_format)
    found = checkpoints.read(path)
    assert torch.equal(found["view"], content["view"])
    assert found["none"].shape == (0, 3)
    for a, b in zip(found["kinds"], content["kinds"], strict=True):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)
    assert torch.equal(found["parameter"], torch.ones(2))
    assert found["state"]["x"] == 3
    assert found["opts"] == {"encoder_type": "x", "lr": 0.1}
    assert (found["text"], found["numbers"]) == ("é", (1, 2.5, None, {3}))


def test_archives_of_torchscript_give_their_state(tmp_path):
    net = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own announcements
        torch.jit.trace(net, torch.zeros(1, 3)).save(str(tmp_path / "net.pt"))
    found = checkpoints.tensors(checkpoints.read(tmp_path / "net.pt"))
    assert found.keys() == net.state_dict().keys()
    assert all(torch.equal(found[k], v) for k, v in net.state_dict().items())


def test_safetensors(tmp_path):
    state = {k: v.contiguous() for k, v in generator().state_dict().items()}
    save_file({**state, "latent_avg": generator().average.clone()}, tmp_path / "g.safetensors")
    same(generator(), official.generator(tmp_path / "g.safetensors"))


@pytest.mark.parametrize("wrap", ["g_ema", "bare", "module", "decoder"])
def test_the_generator_is_found_where_public_files_have_it(tmp_path, wrap):
    net = generator()
    state, average = net.state_dict(), net.average
    content = {
        "g_ema": {"g": {}, "g_ema": state, "latent_avg": average, "d_optim": {"lr": 1}},
        "bare": {**state, "latent_avg": average},
        "module": {"g_ema": {f"module.{k}": v for k, v in state.items()}, "latent_avg": average},
        "decoder": {
            "state_dict": {"encoder.x": torch.ones(1), **{f"decoder.{k}": v for k, v in state.items()}},
            "latent_avg": average.expand(6, 8).clone(),
        },
    }[wrap]
    torch.save(content, tmp_path / "g.pt")
    loaded = official.generator(tmp_path / "g.pt")
    same(net, loaded)
    assert loaded.average.shape == (8,)
    assert not any(p.requires_grad for p in loaded.parameters())


def test_a_missing_average_is_computed_and_said(tmp_path):
    torch.save({"g_ema": generator().state_dict()}, tmp_path / "g.pt")
    with pytest.warns(UserWarning, match="latent_avg"):
        loaded = official.generator(tmp_path / "g.pt")
    torch.testing.assert_close(loaded.average, generator().mean_w(4096, seed=0))


def test_what_is_no_checkpoint_is_said(tmp_path):
    cases = {"text": b"hello, this is text", "empty": b"", "pickle": b"\x80\x04garbage"}
    good = io.BytesIO()
    torch.save(generator().state_dict(), good)
    cases["cut"] = good.getvalue()[: len(good.getvalue()) // 2]
    old = io.BytesIO()
    torch.save(generator().state_dict(), old, _use_new_zipfile_serialization=False)
    cases["cut legacy"] = old.getvalue()[: len(old.getvalue()) // 2]
    for name, data in cases.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(WeightsError) as caught:
            checkpoints.read(tmp_path / name)
        assert "\n" not in str(caught.value)
        assert name in str(caught.value)
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("a.txt", "x")
    with pytest.raises(WeightsError, match="another zip"):
        checkpoints.read(tmp_path / "other.zip")
    with pytest.raises(WeightsError, match="does not exist"):
        checkpoints.read(tmp_path / "nothing.pt")


def test_faults_are_named(tmp_path):
    state = generator().state_dict()
    del state["convs.1.noise.weight"]
    state["more"] = torch.ones(1)
    state["to_rgb1.bias"] = torch.ones(1, 4, 1, 1)
    torch.save({"g_ema": state, "latent_avg": torch.zeros(8)}, tmp_path / "g.pt")
    with pytest.raises(WeightsError) as caught:
        official.generator(tmp_path / "g.pt")
    said = str(caught.value)
    for part in ("1 missing (convs.1.noise.weight)", "1 without a place (more)", "g.pt", "StyleGAN2",
                 "to_rgb1.bias (1, 4, 1, 1) for"):  # fmt: skip
        assert part in said
    assert "\n" not in said


def test_a_generator_of_a_wrong_size_is_refused(tmp_path):
    state = generator().state_dict()
    half = {k: v for k, v in state.items() if not k.startswith("to_rgbs.1.")}
    torch.save({"g_ema": half, "latent_avg": torch.zeros(8)}, tmp_path / "g.pt")
    with pytest.raises(WeightsError, match="16 to 1024 px"):
        official.generator(tmp_path / "g.pt")
    torch.save({"g_ema": state, "latent_avg": torch.zeros(9)}, tmp_path / "g.pt")
    with pytest.raises(WeightsError, match="latent_avg of shape"):
        official.generator(tmp_path / "g.pt")


def test_the_kind_of_a_wrong_file_is_named(tmp_path):
    torch.save({"g_ema": generator().state_dict()}, tmp_path / "g.pt")
    with torch.device("meta"):
        names = E4e().state_dict()
    inner = {f"encoder.{k}": torch.ones(1) for k in names}
    torch.save({"state_dict": inner, "latent_avg": torch.ones(512)}, tmp_path / "e.pt")
    for reader in (official.generator, official.identity):  # its trunk is no identity network
        with pytest.raises(WeightsError, match="holds an e4e or pSp encoder"):
            reader(tmp_path / "e.pt")
    torch.save({"lin0.model.1.weight": torch.ones(1, 64, 1, 1)}, tmp_path / "x.pt")
    others = (official.encoder, official.identity, official.inception, official.clip, official.resnet)
    for reader in others:
        with pytest.raises(WeightsError, match="holds a StyleGAN2 generator"):
            reader(tmp_path / "g.pt")
    with pytest.raises(WeightsError, match="unknown network"):
        official.generator(tmp_path / "x.pt")
    conditional = {**ada_state(generator()), "mapping.embed.weight": torch.ones(8, 3)}
    torch.save(conditional, tmp_path / "c.pt")
    with pytest.raises(WeightsError, match="class-conditional"):
        official.generator(tmp_path / "c.pt")
