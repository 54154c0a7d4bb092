"""Public checkpoints: every container, every layout, strictness, and pickles that would run something."""

from __future__ import annotations

import argparse
import io
import json
import os
import pickle
import sys
import types
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from small import LAYOUTS, needs_layouts
from torch import nn

from faceunits.errors import WeightsError
from faceunits.io import checkpoints
from faceunits.networks.clip import Clip, ClipConfig
from faceunits.networks.encoders import E4e, EncoderConfig, Psp
from faceunits.networks.inception import FidInception
from faceunits.networks.irse50 import IRSE50
from faceunits.networks.lpips import Heads, Lpips, Trunk
from faceunits.networks.resnet import ResNet
from faceunits.networks.stylegan2 import StyleConfig, StyleGenerator
from faceunits.weights import naming, official

TINY = StyleConfig(size=16, latent=8, mapping_layers=2, widths=(6, 5, 4))


def generator(seed: int = 0) -> StyleGenerator:
    torch.manual_seed(seed)
    net = StyleGenerator(TINY).eval().requires_grad_(False)
    for name, p in net.named_parameters():
        if name.endswith(("noise.weight", "bias")):
            p.add_(0.3 * torch.randn_like(p))
    net.average = net.mean_w(32)
    return net


def image(net: StyleGenerator) -> torch.Tensor:
    w = torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(1))
    return net(net.truncate(w, 0.8))


def same(net: StyleGenerator, other: StyleGenerator) -> None:
    assert other.config == net.config
    assert not other.training
    torch.testing.assert_close(image(other), image(net), atol=1e-5, rtol=1e-4)


# Containers


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


# NVIDIA's pickles, made by stand-ins for the modules that their classes come from


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


FIR = torch.outer(torch.tensor([1.0, 3, 3, 1]), torch.tensor([1.0, 3, 3, 1])) / 64


def ada_state(net: StyleGenerator) -> dict[str, torch.Tensor]:
    """Our generator's tensors under NVIDIA's names, by the table of the public layouts."""
    s = net.state_dict()
    out = {"mapping.w_avg": net.average}
    for k in range(TINY.mapping_layers):
        for part in ("weight", "bias"):
            out[f"mapping.fc{k}.{part}"] = s[f"style.{k + 1}.{part}"]
    out["synthesis.b4.const"] = s["input.input"][0]
    for n, r in enumerate((4, 8, 16)):
        out[f"synthesis.b{r}.resample_filter"] = FIR
        i = n - 1
        convs = {"conv1": ("conv1", 0)} if r == 4 else {
            "conv0": (f"convs.{2 * i}", 2 * i + 1), "conv1": (f"convs.{2 * i + 1}", 2 * i + 2)}  # fmt: skip
        for name, (old, noise) in convs.items():
            new = f"synthesis.b{r}.{name}"
            out[f"{new}.weight"] = s[f"{old}.conv.weight"][0]
            out[f"{new}.bias"] = s[f"{old}.activate.bias"]
            out[f"{new}.noise_strength"] = s[f"{old}.noise.weight"][0]
            out[f"{new}.noise_const"] = s[f"noises.noise_{noise}"][0, 0]
            out[f"{new}.resample_filter"] = out[f"synthesis.b{r}.resample_filter"]
            for part in ("weight", "bias"):
                out[f"{new}.affine.{part}"] = s[f"{old}.conv.modulation.{part}"]
        old, new = ("to_rgb1" if r == 4 else f"to_rgbs.{i}"), f"synthesis.b{r}.torgb"
        out[f"{new}.weight"], out[f"{new}.bias"] = s[f"{old}.conv.weight"][0], s[f"{old}.bias"].flatten()
        for part in ("weight", "bias"):
            out[f"{new}.affine.{part}"] = s[f"{old}.conv.modulation.{part}"]
    return {k: v.clone() for k, v in out.items()}


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


# Files that would run something


class _Evil:
    """Unpickled by an ordinary reader, it makes a folder."""

    def __init__(self, folder: Path, call=os.mkdir) -> None:
        self.folder, self.call = folder, call

    def __reduce__(self):
        if self.call is os.system:
            return os.system, (f"mkdir {self.folder}",)
        return self.call, (str(self.folder),)


def files_with(evil, folder: Path) -> dict[str, Path]:
    """The same object in every container that holds pickles."""
    out = {}
    for name, protocol in (("proto2", 2), ("proto3", 3), ("proto4", 4), ("proto5", 5)):
        out[name] = folder / f"{name}.pkl"
        out[name].write_bytes(pickle.dumps({"g_ema": evil}, protocol=protocol))
    for name, new in (("zip", True), ("legacy", False)):
        out[name] = folder / f"{name}.pt"
        content = {"g_ema": {"w": torch.ones(2)}, "opts": evil}
        torch.save(content, out[name], _use_new_zipfile_serialization=new)
    out["nested"] = folder / "nested.pkl"  # within the bytes of a storage, as NVIDIA's pickles have them
    inner = io.BytesIO()
    torch.save(evil, inner, _use_new_zipfile_serialization=False)
    out["nested"].write_bytes(pickle.dumps(_Bytes(inner.getvalue())))
    return out


class _Bytes:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def __reduce__(self):
        return torch.storage._load_from_bytes, (self.data,)


@pytest.mark.parametrize("call", [os.mkdir, os.system])
def test_a_malicious_file_is_refused_and_nothing_ran(tmp_path, call):
    made = tmp_path / "made"
    files = files_with(_Evil(made, call), tmp_path)
    # the object works: an ordinary reader makes the folder
    pickle.loads(files["proto4"].read_bytes())
    assert made.is_dir()
    made.rmdir()
    for name, path in files.items():
        for reader in (checkpoints.read, official.generator, official.encoder, official.identity):
            with pytest.raises(WeightsError, match=r"(posix|nt)\.(mkdir|system).*refused and not run"):
                reader(path)
        assert not made.exists(), name


@pytest.mark.parametrize(
    "text",
    [
        b"cbuiltins\neval\n(S'1'\ntR.", b"cbuiltins\n__import__\n(S'os'\ntR.",
        b"cbuiltins\ngetattr\n(S'a'\nS'b'\ntR.",
        b"ctorch\nload\n(S'x'\ntR.", b"ctorch.jit\nload\n(S'x'\ntR.", b"ctorch.hub\nload\n(S'x'\ntR.",
        b"cnumpy\nload\n(S'x'\ntR.", b"cnumpy.core.multiarray\nfromfile\n(S'x'\ntR.",
        b"cpickle\nloads\n(S'x'\ntR.",
        b"(S'x'\nios\nsystem\n.", b"(cos\nsystem\nS'x'\no.",
        b"\x80\x04\x8c\x0bcollections\x8c\x22OrderedDict.__init__.__globals__.a\x93.",
        b"cfaceunits.io.unpickling\nload\n(S'x'\ntR.",
    ],
)  # fmt: skip
def test_functions_beyond_the_list_are_refused(tmp_path, text):
    path = tmp_path / "f.pkl"
    path.write_bytes(text if text.startswith(b"\x80") else b"\x80\x02" + text)
    with pytest.raises(WeightsError, match="refused and not run"):
        checkpoints.read(path)


def test_a_pickle_cannot_change_what_reads_the_next_one(tmp_path):
    """Attributes set on a listed function or class must not stay."""
    path = tmp_path / "f.pkl"
    for target in (
        b"ctorch._utils\n_rebuild_tensor_v2\n", b"ccollections\nOrderedDict\n", b"cdnnlib.util\nEasyDict\n",
        b"cbuiltins\nset\n", b"ctorch\nfloat32\n", b"cnumpy\ndtype\n", b"cargparse\nNamespace\n",
    ):  # fmt: skip
        path.write_bytes(b"\x80\x02" + target + b"N}U\x08__call__K\x01s\x86b.")
        with pytest.raises(WeightsError):
            checkpoints.read(path)
    torch.save({"opts": argparse.Namespace(a=1), "state": OrderedDict(x=torch.ones(1))}, tmp_path / "good.pt")
    assert checkpoints.read(tmp_path / "good.pt")["opts"] == {"a": 1}


def test_a_tensor_cannot_reach_outside_its_storage(tmp_path):
    class Wide:
        def __reduce__(self):
            flat = torch.zeros(4).untyped_storage()
            typed = torch.storage.TypedStorage(wrap_storage=flat, dtype=torch.float32, _internal=True)
            return torch._utils._rebuild_tensor_v2, (typed, 2, (100,), (1,), False, OrderedDict())

    for new in (True, False):
        torch.save({"a": Wide()}, tmp_path / "w.pt", _use_new_zipfile_serialization=new)
        with pytest.raises(WeightsError, match="damaged"):
            checkpoints.read(tmp_path / "w.pt")


# Files that do not fit


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


# Encoders and the rest


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


# Every layout


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
