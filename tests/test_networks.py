"""The networks: sizes, names of their weights, and the independence of the faces of a batch."""

from __future__ import annotations

import json

import pytest
import torch
from small import LAYOUTS, N_AU, N_IDENTITY, SIZE, crops, generator, needs_layouts, parser
from torch import nn

from faceunits.networks.generator import PAPER, SMALL, Generator, GeneratorConfig, Sketch
from faceunits.networks.parser import LIGHT, RESNET50, Parser, ParserConfig, _expectation
from faceunits.networks.vgg import Vgg16


def layout(name: str) -> dict[str, list[int]]:
    out: dict[str, list[int]] = json.loads((LAYOUTS / f"{name}.json").read_text())
    return out


def shapes(net: nn.Module) -> dict[str, list[int]]:
    return {k: list(v.shape) for k, v in net.state_dict().items()}


# Parser


@needs_layouts
def test_the_trunk_has_the_names_of_the_public_resnet():
    with torch.device("meta"):
        mine = shapes(Parser(RESNET50))
    theirs = {k: v for k, v in layout("resnet50").items() if not k.startswith("fc.")}
    assert {k: v for k, v in mine.items() if not k.startswith("classifier.")} == theirs


def test_the_papers_extractor_has_its_strides_and_sizes():
    net = Parser(RESNET50).eval()
    assert net.stride == 8
    assert RESNET50.strides == (2, 1, 1, 1)
    with torch.no_grad():
        seen = net(torch.zeros(1, 3, 64, 64))
    assert [tuple(m.shape) for m in seen.maps] == [(1, c, 8, 8) for c in (256, 512, 1024, 2048)]
    assert seen.logits.shape == (1, 11, 8, 8)
    assert seen.points is None
    assert seen.readings is None
    assert net.scores(seen.logits).shape == (1, 11, 64, 64)


def test_the_light_extractor_has_the_same_form():
    net = Parser(ParserConfig(**{**LIGHT.__dict__, "landmarks": 68, "readings": 7})).eval()
    assert net.stride == 4
    with torch.no_grad():
        seen = net(torch.zeros(2, 3, 128, 128))
    assert {m.shape[-2:] for m in seen.maps} == {(32, 32)}
    assert len(seen.maps) == 4
    assert seen.points.shape == (2, 68, 2)
    assert seen.readings.shape == (2, 7)


def test_a_map_of_places_tells_where_a_feature_is():
    torch.manual_seed(0)
    config = ParserConfig(**{**LIGHT.__dict__, "size": SIZE, "blocks": (1, 1, 1, 1), "place": True})
    net = Parser(config).eval().requires_grad_(False)
    grey = torch.full((1, 3, SIZE, SIZE), 0.5)
    before = net(grey).logits
    assert net.place is not None
    assert net.place.shape[-2:] == before.shape[-2:]
    assert (net.place == 0).all()  # starts as a network without it
    net.place[..., : SIZE // 8] = 1.0
    assert (net(grey).logits - before).abs().max() > 1e-3


def test_the_extractor_looks_at_each_face_alone():
    net, image = parser(), torch.from_numpy(crops(3))
    together = net(image)
    for i in range(3):
        alone = net(image[i : i + 1])
        for a, b in zip((*together.maps, together.logits), (*alone.maps, alone.logits), strict=True):
            torch.testing.assert_close(a[i : i + 1], b, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(together.readings[i : i + 1], alone.readings, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("row", "column"), [(0, 0), (3, 5), (7, 7)])
def test_the_expectation_of_a_delta_is_the_middle_of_its_cell(row, column):
    heat = torch.full((1, 1, 8, 8), -50.0)
    heat[0, 0, row, column] = 50
    stride = 4
    wanted = torch.tensor([[[column * stride + 1.5, row * stride + 1.5]]])  # first pixel centred on (0, 0)
    torch.testing.assert_close(_expectation(heat, stride), wanted)


def test_the_expectation_of_an_even_map_is_the_middle_of_the_crop():
    torch.testing.assert_close(_expectation(torch.zeros(2, 3, 8, 8), 4), torch.full((2, 3, 2), 15.5))


def test_cells_and_pixels_share_their_centres():
    logits = torch.zeros(1, 11, 8, 8)
    logits[0, 0, :, :4] = 9
    logits[0, 1, :, 4:] = 9  # right half of the crop
    label = parser().scores(logits).argmax(1)
    assert (label[0, :, SIZE // 2 :] == 1).all()
    assert (label[0, :, : SIZE // 2] == 0).all()


# Generator


def test_the_papers_generator_doubles_eight_times():
    with torch.device("meta"):
        net = Generator(PAPER)
        image = net(torch.zeros(1, PAPER.parameters))
    layers = [m for m in net.layers if isinstance(m, nn.ConvTranspose2d)]
    assert len(layers) == 8
    assert all(m.kernel_size == (4, 4) and m.stride == (2, 2) for m in layers)
    assert sum(isinstance(m, nn.InstanceNorm2d) for m in net.layers) == 7
    assert isinstance(net.layers[-1], nn.ConvTranspose2d)
    assert image.shape == (1, 3, 512, 512)
    assert PAPER.size == 512
    assert SMALL.size == 128


def test_its_weights_start_from_the_papers_distribution():
    torch.manual_seed(0)
    net = Generator(GeneratorConfig(parameters=64, widths=(128, 128, 64)))
    for layer in net.layers:
        if isinstance(layer, nn.ConvTranspose2d) and layer.weight.numel() > 50_000:
            assert float(layer.weight.detach().mean()) == pytest.approx(0, abs=3e-4)
            assert float(layer.weight.detach().std()) == pytest.approx(0.02, rel=0.03)


@pytest.mark.parametrize("output", ["sigmoid", "tanh"])
def test_images_stay_in_range(output):
    torch.manual_seed(0)
    net = Generator(GeneratorConfig(parameters=6, widths=(8, 8), output=output))
    with torch.no_grad():
        image = net(torch.rand(4, 6))
    assert image.shape == (4, 3, 16, 16)
    assert image.min() >= 0
    assert image.max() <= 1
    assert image.std() > 0


def test_instance_norm_does_not_mix_faces():
    net, _ = generator()
    y = torch.rand(3, 2 + N_AU + N_IDENTITY)
    together = net(y)
    for i in range(3):
        torch.testing.assert_close(together[i : i + 1], net(y[i : i + 1]), atol=1e-5, rtol=1e-4)
    assert (together[0] - together[1]).abs().max() > 0.01


def test_the_sketch_gives_points_and_a_gap():
    points, gap = Sketch(10, landmarks=5, width=8)(torch.full((2, 10), 0.5))
    assert points.shape == (2, 5, 2)
    assert gap.shape == (2,)


def test_gradients_reach_every_parameter():
    torch.manual_seed(0)
    net = Generator(GeneratorConfig(parameters=5, widths=(8, 8))).double()
    y = torch.rand(1, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(net, (y,), eps=1e-6, atol=1e-4)


# Perceptual network


@needs_layouts
def test_vgg_has_the_names_of_the_public_file():
    with torch.device("meta"):
        mine = shapes(Vgg16())
    theirs = {k: v for k, v in layout("vgg16").items() if k in mine}
    assert mine == theirs
    assert len(theirs) == 20  # ten layers, up to relu4_3


def test_vgg_gives_three_maps():
    with torch.no_grad():
        maps = Vgg16()(torch.rand(1, 3, 32, 32))
    assert [tuple(m.shape[1:]) for m in maps] == [(128, 16, 16), (256, 8, 8), (512, 4, 4)]
    assert all((m >= 0).all() for m in maps)
