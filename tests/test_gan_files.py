"""The GAN engine's networks from files: ours, users' public ones, and what is wrong with others."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from faceunits import weights
from faceunits.errors import ConfigError, WeightsError
from faceunits.gan import files
from faceunits.gan.files import Files
from faceunits.networks.editor import Editor, EditorConfig
from faceunits.networks.encoders import E4e, EncoderConfig, Psp
from faceunits.networks.stylegan2 import StyleConfig, StyleGenerator

NAMES = ("AU1", "AU4", "AU12_L", "AU12_R", "AU25", "AU26")
STYLE = StyleConfig(size=32, latent=16, mapping_layers=1, widths=(12, 12, 8, 6))
ENCODER = EncoderConfig(levels=8, size=32, latent=16, widths=(16,) * 5, units=(1, 1, 1, 1))
EDITOR = EditorConfig(NAMES, levels=8, edited=5, latent=16, code=4, slot=3, hidden=12, label_hidden=8)


def generator(seed: int = 0, config: StyleConfig = STYLE) -> StyleGenerator:
    torch.manual_seed(seed)
    return StyleGenerator(config).eval().requires_grad_(False)


def encoder(seed: int = 1, kind: type[Psp] | type[E4e] = Psp) -> Psp | E4e:
    torch.manual_seed(seed)
    return kind(ENCODER).eval().requires_grad_(False)


def editor(seed: int = 2, config: EditorConfig = EDITOR) -> Editor:
    """With weights of a size that makes a visible edit."""
    torch.manual_seed(seed)
    net = Editor(config).eval().requires_grad_(False)
    net.residual_head[2].weight.normal_(0, 1.0)  # type: ignore[operator]
    return net


def state(**networks: nn.Module) -> dict[str, torch.Tensor]:
    return {f"{part}.{k}": v for part, net in networks.items() for k, v in net.state_dict().items()}


def about(alignment: str = "face") -> dict[str, Any]:
    return {
        "kind": "gan", "size": 32, "alignment": alignment, "generator": asdict(STYLE),
        "encoder": {**asdict(ENCODER), "kind": "psp"}, "editor": asdict(EDITOR),
    }  # fmt: skip


def whole(path: Path, *, alignment: str = "face", changes: dict[str, torch.Tensor] | None = None) -> Path:
    """A file with all three networks."""
    average = 0.1 * torch.arange(16.0)
    tensors = {**state(generator=generator(), encoder=encoder(), editor=editor()), "average": average}
    weights.save(path, {**tensors, **(changes or {})}, about(alignment), {})
    return path


def test_a_file_gives_back_its_networks(tmp_path: Path) -> None:
    nets = files.load(Files(encoder=whole(tmp_path / "gan.safetensors")))
    average = 0.1 * torch.arange(16.0)
    x, w = torch.rand(1, 3, 32, 32), torch.randn(1, 8, 16)
    assert torch.equal(nets.encoder(x), encoder()(x) + average)
    assert torch.equal(nets.generator(w), generator()(w, generator().no_noise()))
    assert torch.equal(nets.editor(w, nets.editor.encode(torch.ones(1, 6))).target,
                       editor()(w, editor().encode(torch.ones(1, 6))).target)  # fmt: skip
    assert torch.equal(nets.generator.average, average)
    assert nets.names == ("AU01", "AU04", "AU12_L", "AU12_R", "AU25", "AU26")
    assert (nets.size, nets.alignment) == (32, "face")
    assert not any(net.training for net in (nets.generator, nets.encoder, nets.editor))


def test_the_package_s_file_needs_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "SHIPPED", tmp_path / "gan.safetensors")
    with pytest.raises(ConfigError, match="without a generator of faces"):
        files.require(Files())
    whole(tmp_path / "gan.safetensors", alignment="ffhq")
    files.require(Files())
    files.load.cache_clear()
    assert files.load(Files()).alignment == "ffhq"
    own = tmp_path / "editor.safetensors"
    weights.save(own, state(editor=editor(9)), {"kind": "editor", "editor": asdict(EDITOR)}, {})
    code = torch.ones(1, 5, 4)
    assert torch.equal(files.load(Files(editor=own)).editor.decode(code), editor(9).decode(code))
    files.load.cache_clear()


def test_a_file_without_an_average_has_none(tmp_path: Path) -> None:
    path = tmp_path / "gan.safetensors"
    weights.save(path, state(generator=generator(), encoder=encoder(), editor=editor()), about(), {})
    x = torch.rand(1, 3, 32, 32)
    assert torch.equal(files.load(Files(encoder=path)).encoder(x), encoder()(x))


@pytest.fixture
def public(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file as pSp's authors publish them, of a small network."""
    sizes = {k: v for k, v in asdict(ENCODER).items() if k != "levels"}
    monkeypatch.setattr(
        "faceunits.networks.encoders.EncoderConfig", lambda levels: EncoderConfig(levels=levels, **sizes)
    )
    content = {
        "state_dict": state(encoder=encoder(), decoder=generator()), "latent_avg": torch.ones(8, 16),
        "opts": {"encoder_type": "GradualStyleEncoder", "start_from_latent_avg": True},
    }  # fmt: skip
    torch.save(content, tmp_path / "psp.pt")
    return tmp_path / "psp.pt"


def own_editor(path: Path, config: EditorConfig = EDITOR, **more: Any) -> Path:
    weights.save(path, state(editor=editor(config=config)), {"editor": {**asdict(config), **more}}, {})
    return path


def test_public_files_are_framed_as_ffhq_and_keep_their_noise(tmp_path: Path, public: Path) -> None:
    torch.save({"g_ema": generator(5).state_dict(), "latent_avg": torch.zeros(16)}, tmp_path / "g.pt")
    own = own_editor(tmp_path / "editor.safetensors")
    nets = files.load(Files(tmp_path / "g.pt", public, own))
    x, w = torch.rand(1, 3, 32, 32), torch.randn(1, 8, 16)
    assert nets.alignment == "ffhq"
    assert torch.equal(nets.encoder(x), encoder()(x) + 1)
    torch.testing.assert_close(nets.generator(w), generator(5)(w))
    inside = files.load(Files(None, public, own))  # the encoder's file holds a generator as well
    torch.testing.assert_close(inside.generator(w), generator()(w))


def test_what_is_missing_is_named(tmp_path: Path, public: Path) -> None:
    with pytest.raises(ConfigError, match="--encoder, an e4e or pSp file, is missing"):
        files.load(Files(generator=tmp_path / "g.pt"))
    with pytest.raises(ConfigError, match="--editor, a file that faceunits train editor"):
        files.load(Files(encoder=public))
    with pytest.raises(WeightsError, match="does not exist"):
        files.load(Files(None, public, tmp_path / "none.safetensors"))
    with pytest.raises(WeightsError, match="expected an editor that faceunits train editor wrote"):
        files.load(Files(None, public, public))


def test_networks_of_other_spaces_are_refused(tmp_path: Path, public: Path) -> None:
    other = EditorConfig(NAMES, levels=10, edited=5, latent=16, code=4, slot=3, hidden=12, label_hidden=8)
    own = own_editor(tmp_path / "editor.safetensors", other)
    with pytest.raises(ConfigError, match="8 x 16 in the encoder, 10 x 16 in the editor"):
        files.load(Files(None, public, own))


def test_simpler_editors_can_be_used(tmp_path: Path, public: Path) -> None:
    from faceunits.networks import editor_baselines

    net = editor_baselines.build("single", EDITOR)
    weights.save(
        tmp_path / "e.safetensors", state(editor=net), {"editor": {**asdict(EDITOR), "kind": "single"}}, {}
    )
    loaded = files.load(Files(None, public, tmp_path / "e.safetensors")).editor
    assert isinstance(loaded, editor_baselines.SingleBranch)


def _without(name: str) -> dict[str, Any]:
    return {k: v for k, v in about().items() if k != name}


@pytest.mark.parametrize(
    ("header", "changes", "words"),
    [
        (_without("editor"), {}, "sizes of the editor in the header"),
        ({**about(), "alignment": "tight"}, {}, "alignment face or ffhq"),
        ({**about(), "encoder": asdict(ENCODER)}, {}, "of kind e4e or psp"),
        (about(), {"generator.conv1.conv.weight": torch.zeros(1)}, "expected conv1.conv.weight of shape"),
        (about(), {"encoder.further": torch.zeros(1)}, "1 left over"),
        (about(), {"average": torch.zeros(3)}, "average latent of shape"),
        ({**about(), "editor": {**asdict(EDITOR), "names": ["smile"] * 6}}, {}, "labels that are action"),
        ({**about(), "editor": {**asdict(EDITOR), "kind": "magic"}}, {}, "got magic"),
    ],
)
def test_faults_of_a_file_are_named(
    tmp_path: Path, header: dict[str, Any], changes: dict[str, torch.Tensor], words: str
) -> None:
    tensors = {**state(generator=generator(), encoder=encoder(), editor=editor()), **changes}
    weights.save(tmp_path / "gan.safetensors", tensors, header, {})
    with pytest.raises(WeightsError, match=words):
        files.load(Files(encoder=tmp_path / "gan.safetensors"))


def test_a_file_of_something_else_is_named(tmp_path: Path) -> None:
    weights.save(tmp_path / "m.safetensors", {"x": torch.zeros(2)}, {"kind": "mesh"}, {})
    with pytest.raises(WeightsError, match="it holds mesh"):
        files.load(Files(encoder=tmp_path / "m.safetensors"))
