"""The frozen networks of a fit, read from weights files, and what is measured on them once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from faceunits import aus, weights
from faceunits.errors import ConfigError, WeightsError
from faceunits.fitting import loss
from faceunits.fitting.optimise import Networks, base_face, step_sizes
from faceunits.fitting.prior import Subspace, whole
from faceunits.networks.comparison import Comparison, ComparisonConfig
from faceunits.networks.generator import Generator, GeneratorConfig, Sketch
from faceunits.networks.lean import BothViews, prepare
from faceunits.networks.parser import Parser, ParserConfig
from faceunits.networks.student import Student, StudentConfig, lean


@dataclass(frozen=True)
class Models:
    """`networks` for the descent, the `profile` of the action-unit parameters, and the weights of the C that
    belongs to their R, if there is one: it is read when a neutral face is given (`fitting.beside`)."""

    networks: Networks
    profile: aus.Profile
    device: torch.device
    comparison: str | Path | None = None

    @property
    def crop_size(self) -> int:
        """Side of the crops that are read, in pixels; M and E look at them in their own size."""
        return self.networks.crop_size

    @property
    def steady(self) -> bool:
        """Whether photos are read in several views (`steady`): R passes over pixels, an E of a user's does
        not."""
        return self.networks.student is not None

    @property
    def names(self) -> tuple[str, ...]:
        return self.profile.names

    @cached_property
    def reader(self) -> nn.Module:
        """What reads crops `(B, 3, S, S)` to landmarks, readings before the curves, and log variance: R, or
        without one E from both sides."""
        if self.networks.student is not None:
            return lean(self.networks.student).to(self.device)
        mirror = torch.from_numpy(self.profile.mirror())
        return BothViews(prepare(self.networks.parser), mirror).to(self.device)

    @cached_property
    def comparer(self) -> tuple[Comparison, Tensor, Tensor]:
        """C, and the knots and values of its curves.

        Raises:
            ConfigError: an R without its C.
            WeightsError: weights of C that are missing or damaged.
        """
        if self.comparison is None:
            raise ConfigError("expected the C that was trained for this R; got none; name it")
        net, measured = load_comparison(self.comparison)
        knots, values = (measured[k].to(self.device) for k in ("knots", "values"))
        return net.to(self.device), knots, values


def device_of(name: str) -> torch.device:
    """`auto` is the accelerator if there is one."""
    if name != "auto":
        return torch.device(name)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def load_parser(source: str | Path = "parser") -> tuple[Parser, dict[str, Any]]:
    """E in evaluation mode and its configuration."""
    state, about = weights.load(source)
    net = Parser(weights.settings(ParserConfig, about, source=source))
    weights.fill(net, state, source=source)
    return net.eval().requires_grad_(False), about


def load_student(source: str | Path = "student") -> tuple[Student, dict[str, Tensor], dict[str, Any]]:
    """R in evaluation mode, what was measured on it (`knots`, `values`, `spread`), and its configuration."""
    state, about = weights.load(source)
    net = Student(student_config(about, source))
    measured = {k: state.pop(k) for k in MEASURED_ON_STUDENT if k in state}
    weights.fill(net, state, source=source)
    return net.eval().requires_grad_(False), measured, about


def student_config(about: dict[str, Any], source: str | Path) -> StudentConfig:
    """Sizes of the R that a weights file describes."""
    before = {"kernel": 5, "stride": 2}  # of all R before there was a choice
    return weights.settings(StudentConfig, before | about, source=source)


MEASURED_ON_STUDENT = ("knots", "values", "spread")
"""Tensors of R's file that are none of its own: see `optimise.Networks`."""


def load_comparison(source: str | Path) -> tuple[Comparison, dict[str, Tensor]]:
    """C in evaluation mode, and its curves (`knots`, `values`)."""
    state, about = weights.load(source)
    net = Comparison(weights.settings(ComparisonConfig, about, source=source))
    measured = {k: state.pop(k) for k in MEASURED_ON_STUDENT if k in state}
    weights.fill(net, state, source=source)
    return net.eval().requires_grad_(False), measured


def load_generator(source: str | Path = "generator") -> tuple[Generator, Sketch, dict[str, Any]]:
    """M and its sketch in evaluation mode, and their configuration."""
    state, about = weights.load(source)
    config = weights.settings(GeneratorConfig, about, source=source)
    pair = nn.ModuleDict({"generator": Generator(config), "sketch": Sketch(config.parameters)})
    weights.fill(pair, state, source=source)
    pair.eval().requires_grad_(False)
    generator, sketch = pair["generator"], pair["sketch"]
    assert isinstance(generator, Generator)
    assert isinstance(sketch, Sketch)
    return generator, sketch, about


def load(
    parser: str | Path | None = None,
    generator: str | Path | None = None,
    fitting: str | Path | None = None,
    device: str = "auto",
    *,
    student: str | Path | None = None,
    comparison: str | Path | None = None,
) -> Models:
    """The networks that ship with the package, or others.

    Args:
        parser: weights of E; the shipped ones when None.
        generator: weights of M; the shipped ones when None.
        fitting: step sizes, reading errors and identity subspace of that pair; the shipped ones when
            all three are None, measured anew (without errors and subspace) when only this one is.
        device: `auto`, `cpu`, `cuda`, ...
        student: weights of R; the shipped ones when all four are None. With other networks and no R
            named, E reads.
        comparison: weights of C, made for this R; the shipped ones with the shipped R.

    Raises:
        WeightsError: files that are missing, damaged, or do not belong together.
    """
    place = device_of(device)
    e, about_e = load_parser(parser or "parser")
    m, sketch, about_m = load_generator(generator or "generator")
    if about_e["profile"] != about_m["profile"] or e.config.size != m.config.size:
        raise WeightsError(
            f"expected E and M of one profile and size; got {about_e['profile']} at {e.config.size} px and "
            f"{about_m['profile']} at {m.config.size} px; train them together"
        )
    profile = aus.profile(str(about_m["profile"]))
    if fitting is None and parser is None and generator is None:
        fitting = "fitting"
        comparison = comparison or ("comparison" if student is None else None)
        student = student or "student"
    measured = weights.load(fitting)[0] if fitting is not None else measure(m, e, len(profile))
    r = None
    if student is not None:
        r, of_student, about_r = load_student(student)
        if about_r["profile"] != profile.name:
            raise WeightsError(
                f"expected an R of the profile {profile.name}; got one of {about_r['profile']}; train another"
            )
        r, measured = r.to(place), measured | of_student
    networks = assemble(m.to(place), sketch.to(place), e.to(place), len(profile), measured, r)
    return Models(networks, profile, place, comparison)


def assemble(
    generator: Generator, sketch: Sketch, parser: Parser, n_au: int, measured: dict[str, Tensor],
    student: Student | None = None,
) -> Networks:  # fmt: skip
    """Networks of a fit from the modules and the tensors of `measure`."""
    place = next(generator.parameters()).device
    t = {k: v.to(place) for k, v in measured.items()}
    subspace = Subspace(t["subspace.mean"], t["subspace.basis"], t["subspace.low"], t["subspace.high"])
    beta = tuple(float(b) for b in t["beta"])
    return Networks(
        generator, sketch, parser, n_au, beta, t["rates"], t["spread"], t["knots"], t["values"], subspace,
        student,
    )  # fmt: skip


def measure(generator: Generator, parser: Parser, n_au: int) -> dict[str, Tensor]:
    """Scales beta (eq. 5) and step sizes (section 3.4) of a pair; no reading errors, curves or subspace."""
    with torch.no_grad():
        beta = loss.scales(parser(generator(base_face(generator, n_au, 1))))
    space = whole(generator.config.parameters - 2 - n_au)
    return {
        "beta": torch.tensor(beta),
        "rates": step_sizes(generator, parser, n_au),
        "spread": torch.full((2 + n_au,), 0.15),
        "knots": torch.tensor([[0.0, 1.0]]).repeat(n_au + 1, 1),
        "values": torch.tensor([[0.0, 1.0]]).repeat(n_au + 1, 1),
        "subspace.mean": space.mean, "subspace.basis": space.basis,
        "subspace.low": space.low, "subspace.high": space.high,
    }  # fmt: skip
