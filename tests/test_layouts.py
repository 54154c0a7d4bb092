"""Every public layout loads strictly."""

from __future__ import annotations

import json

import pytest
import torch
from small import LAYOUTS, needs_layouts

from faceunits.errors import WeightsError
from faceunits.networks.clip import Clip, ClipConfig
from faceunits.networks.encoders import E4e, Psp
from faceunits.networks.inception import FidInception
from faceunits.networks.irse50 import IRSE50
from faceunits.networks.lpips import Heads, Trunk
from faceunits.networks.resnet import ResNet
from faceunits.networks.stylegan2 import StyleConfig, StyleGenerator
from faceunits.weights import naming, official


def _ada(state):
    renamed, average = naming.from_ada(state)
    assert average is not None
    return renamed


EVERY = {
    "stylegan2_g_ema_1024": (naming.GENERATOR, lambda s: StyleGenerator(StyleConfig(size=1024))),
    "stylegan2_g_ema_256": (naming.GENERATOR, lambda s: StyleGenerator(StyleConfig(size=256))),
    "stylegan2_ada_1024": (naming.ADA_GENERATOR, lambda s: StyleGenerator(StyleConfig(size=1024))),
    "e4e_encoder_1024": (naming.ENCODER, lambda s: E4e()),
    "psp_encoder_1024": (naming.ENCODER, lambda s: Psp()),
    "irse50": (naming.IDENTITY, lambda s: IRSE50()),
    "resnet18": (naming.RESNET18, lambda s: ResNet(18)),
    "resnet50": (naming.RESNET50, lambda s: ResNet(50)),
    "vgg16": (naming.VGG, lambda s: Trunk("vgg")),
    "alexnet": (naming.ALEX, lambda s: Trunk("alex")),
    "lpips_lin_vgg": (naming.HEADS_VGG, lambda s: Heads("vgg")),
    "lpips_lin_alex": (naming.HEADS_ALEX, lambda s: Heads("alex")),
    "clip_rn50": (naming.CLIP, lambda s: Clip(ClipConfig.of({k: tuple(v.shape) for k, v in s.items()}))),
    "clip_vit_b16": (naming.CLIP, lambda s: Clip(ClipConfig.of({k: tuple(v.shape) for k, v in s.items()}))),
    "clip_vit_b32": (naming.CLIP, lambda s: Clip(ClipConfig.of({k: tuple(v.shape) for k, v in s.items()}))),
    "fid_inception": (naming.INCEPTION, lambda s: FidInception()),
}


@needs_layouts
def test_the_table_has_every_layout():
    assert {p.stem for p in LAYOUTS.glob("*.json")} == EVERY.keys()


@needs_layouts
@pytest.mark.parametrize("name", EVERY)
def test_every_layout_loads_strictly(name):
    kind, make = EVERY[name]
    source = torch.Generator().manual_seed(0)
    # one random number per tensor, spread out: the largest table is a gigabyte otherwise
    state = {
        k: torch.tensor(3) if k.endswith("tracked") else torch.randn((), generator=source).expand(v)
        for k, v in json.loads((LAYOUTS / f"{name}.json").read_text()).items()
    }
    assert naming.recognise(state) == kind
    wanted = _ada(state) if name == "stylegan2_ada_1024" else state
    wanted = {k: v for k, v in wanted.items() if not k.startswith("classifier.")}
    net = official.build(lambda: make(state), wanted, name, kind)
    held = net.state_dict()
    assert held.keys() == wanted.keys()
    assert all(held[k].flatten()[0] == wanted[k].flatten()[0] for k in held)
    first = next(k for k in wanted if "num_batches" not in k)
    for faulty in (
        {k: v for k, v in wanted.items() if k != first},
        {**wanted, "another": torch.ones(1)},
        {**wanted, first: torch.ones(7, 7)},
    ):
        said = "another" if "another" in faulty else first.replace(".", r"\.")
        with pytest.raises(WeightsError, match=said):
            official.build(lambda: make(state), faulty, name, kind)


@needs_layouts
def test_nvidias_generator_has_our_names_at_full_size():
    theirs = json.loads((LAYOUTS / "stylegan2_ada_1024.json").read_text())
    ours = json.loads((LAYOUTS / "stylegan2_g_ema_1024.json").read_text())
    with torch.device("meta"):
        renamed, average = naming.from_ada({k: torch.empty(v) for k, v in theirs.items()})
    assert {k: list(v.shape) for k, v in renamed.items()} == ours
    assert average.shape == (512,)
