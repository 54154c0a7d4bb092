"""Pickles of NVIDIA's generators, made by stand-ins for the modules that their classes come from."""

from __future__ import annotations

import argparse
import pickle
import sys
import types

import numpy as np
import pytest
import torch
from tiny_style import TINY, ada_state, generator, image, same
from torch import nn

from faceunits.weights import official


class _Persistent(nn.Module):
    """Pickles itself as NVIDIA's networks do: its module's source, its class and its attributes."""

    source = "raise SystemExit('code of the file ran')"

    def __reduce__(self):
        function = sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj
        state = self.__dict__.copy()
        meta = {"type": "class", "version": 6, "module_src": self.source, "class_name": type(self).__name__,
                "state": state}  # fmt: skip
        return function, (meta,), None


@pytest.fixture
def nvidia(monkeypatch):
    """Modules of NVIDIA's names, there while a test writes and gone from what reads."""

    def forbidden(*_args):
        raise AssertionError("a function of the file's choice was called")

    forbidden.__module__, forbidden.__qualname__ = "torch_utils.persistence", "_reconstruct_persistent_obj"
    forbidden.__name__ = "_reconstruct_persistent_obj"
    persistence = types.ModuleType("torch_utils.persistence")
    persistence._reconstruct_persistent_obj = forbidden
    network = types.ModuleType("dnnlib.tflib.network")

    class Network:
        def __init__(self, **state):
            self.__dict__.update(state)

        def __setstate__(self, state):
            raise AssertionError("a method of the file's choice was called")

    Network.__module__, Network.__qualname__ = "dnnlib.tflib.network", "Network"
    network.Network = Network
    util = types.ModuleType("dnnlib.util")

    class EasyDict(dict):
        pass

    EasyDict.__module__, EasyDict.__qualname__ = "dnnlib.util", "EasyDict"
    util.EasyDict = EasyDict
    for name, module in {
        "torch_utils": types.ModuleType("torch_utils"), "torch_utils.persistence": persistence,
        "dnnlib": types.ModuleType("dnnlib"), "dnnlib.util": util,
        "dnnlib.tflib": types.ModuleType("dnnlib.tflib"), "dnnlib.tflib.network": network,
    }.items():  # fmt: skip
        monkeypatch.setitem(sys.modules, name, module)
    return argparse.Namespace(EasyDict=EasyDict, Network=Network)


def as_module(state: dict[str, torch.Tensor], **extra) -> _Persistent:
    """A tree of networks with these tensors: weights and biases parameters, the rest buffers."""
    root = _Persistent()
    for name, value in state.items():
        home = root
        *path, leaf = name.split(".")
        for part in path:
            if part not in home._modules:
                home.add_module(part, _Persistent())
            home = home._modules[part]
        if leaf in ("weight", "bias", "const", "noise_strength"):
            home.register_parameter(leaf, nn.Parameter(value))
        else:
            home.register_buffer(leaf, value)
    root.z_dim, root.extra = 8, extra
    return root


@pytest.mark.parametrize("clamp", [None, 256])
def test_pickles_of_stylegan2_ada(tmp_path, nvidia, clamp):
    net = generator()
    module = as_module(ada_state(net))
    module.synthesis.b4.conv1.conv_clamp = clamp
    content = {"G": None, "D": None, "G_ema": module, "training_set_kwargs": nvidia.EasyDict(path="x")}
    with (tmp_path / "ffhq.pkl").open("wb") as file:
        pickle.dump(content, file)
    loaded = official.generator(tmp_path / "ffhq.pkl")
    assert loaded.config.clamp == (clamp or 0)
    torch.testing.assert_close(image(loaded), image(net), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(loaded.average, net.average)


def test_a_state_dict_of_stylegan2_ada(tmp_path):
    torch.save(ada_state(generator()), tmp_path / "ada.pt")
    same(generator(), official.generator(tmp_path / "ada.pt"))


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_pickles_of_tensorflow(tmp_path, nvidia, protocol):
    net = generator()
    a = {k: v.numpy() for k, v in ada_state(net).items()}
    mapping = []
    synthesis = [("noise0", a["synthesis.b4.conv1.noise_const"][None, None]), ("lod", np.float32(0))]
    for i in range(TINY.mapping_layers):
        mapping.append((f"Dense{i}/weight", a[f"mapping.fc{i}.weight"].T))
        mapping.append((f"Dense{i}/bias", a[f"mapping.fc{i}.bias"]))
    synthesis.append(("4x4/Const/const", a["synthesis.b4.const"][None]))
    for r in (4, 8, 16):
        names = {"conv0": "Conv0_up", "conv1": "Conv" if r == 4 else "Conv1", "torgb": "ToRGB"}
        for ours, theirs in names.items():
            if f"synthesis.b{r}.{ours}.weight" not in a:
                continue
            new, old = f"{r}x{r}/{theirs}", f"synthesis.b{r}.{ours}"
            weight = a[f"{old}.weight"].transpose(2, 3, 1, 0)
            weight = weight[::-1, ::-1] if ours == "conv0" else weight
            synthesis += [
                (f"{new}/weight", np.ascontiguousarray(weight)), (f"{new}/bias", a[f"{old}.bias"]),
                (f"{new}/mod_weight", np.asfortranarray(a[f"{old}.affine.weight"].T)),
                (f"{new}/mod_bias", a[f"{old}.affine.bias"] - 1),
            ]  # fmt: skip
            if ours != "torgb":
                synthesis.append((f"{new}/noise_strength", a[f"{old}.noise_strength"]))
                if r > 4:
                    number = 2 * int(np.log2(r)) - (5 if ours == "conv0" else 4)
                    synthesis.append((f"noise{number}", a[f"{old}.noise_const"][None, None]))
    parts = {
        "mapping": nvidia.Network(version=4, variables=mapping, components={}),
        "synthesis": nvidia.Network(version=4, variables=synthesis, components=nvidia.EasyDict()),
    }
    ema = nvidia.Network(
        version=4, static_kwargs=nvidia.EasyDict(resolution=16), components=nvidia.EasyDict(parts),
        variables=[("dlatent_avg", a["mapping.w_avg"])],
        build_module_src="raise SystemExit('code of the file ran')",
    )  # fmt: skip
    other = nvidia.Network(version=4, variables=[], components={})
    with (tmp_path / "ffhq.pkl").open("wb") as file:
        pickle.dump((other, other, ema), file, protocol=protocol)
    same(net, official.generator(tmp_path / "ffhq.pkl"))
