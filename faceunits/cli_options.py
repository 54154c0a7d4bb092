"""Options that several commands share, and groups of options as one parameter of a command."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

if TYPE_CHECKING:
    from faceunits.evaluation.crops import Tool
    from faceunits.fitting import Models

Device = Annotated[str, typer.Option(help="auto, cpu, cuda, ...")]
Recipe = Annotated[str, typer.Option(help="default, or paper for GE-Net's own setting")]
Method = Annotated[str, typer.Option(help="fast, refine or fit")]
DetectorWeights = Annotated[str, typer.Option("--detector", help="weights of the detector by name or path")]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", help="folder of the page (.md, .json); else to stdout")
]


def spread(command: Callable[..., None]) -> Callable[..., None]:
    """The command with an option for each field of those of its parameters that are dataclasses.

        @spread
        def mirror(folder: Path, using: Networks) -> None: ...  # mirror DIR --parser FILE --device cpu

    All fields have defaults and annotations as typer wants them of a parameter.
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, type[Any]] = {
        name: kind for name, kind in hints.items() if isinstance(kind, type) and is_dataclass(kind)
    }
    own = inspect.signature(command).parameters
    shown = [(name, hints[name], own[name].default) for name in own if name not in groups]
    for kind in groups.values():
        kinds = get_type_hints(kind, include_extras=True)
        shown += [(f.name, kinds[f.name], f.default) for f in fields(kind)]

    @wraps(command)
    def gathering(**values: Any) -> None:
        for name, kind in groups.items():
            values[name] = kind(**{f.name: values.pop(f.name) for f in fields(kind)})
        command(**values)

    gathering.__annotations__ = {name: kind for name, kind, _ in shown}
    gathering.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # where typer looks
        [inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY, default=d, annotation=k) for n, k, d in shown]
    )
    return gathering


@dataclass(frozen=True)
class Networks:
    """The networks that an evaluation judges."""

    parser: Annotated[Path | None, typer.Option(help="weights of E instead of the shipped ones")] = None
    generator: Annotated[Path | None, typer.Option(help="weights of M instead of the shipped ones")] = None
    fitting: Annotated[Path | None, typer.Option(help="what was measured on that pair")] = None
    student: Annotated[Path | None, typer.Option(help="weights of R; else E of your own reads")] = None
    comparison: Annotated[Path | None, typer.Option(help="weights of the C that was made for this R")] = None
    device: Device = "auto"

    def load(self) -> Models:
        """Read them."""
        from faceunits import fitting

        return fitting.load(
            self.parser, self.generator, self.fitting, self.device, student=self.student,
            comparison=self.comparison,
        )  # fmt: skip

    def about(self, recipe: str, detector: str = "detector") -> dict[str, Any]:
        """What the figures were made with; no time stamp, so that runs compare equal."""
        from faceunits import weights
        from faceunits.io import table

        shipped = self.parser is None and self.generator is None
        used = {
            "parser": self.parser or "parser", "generator": self.generator or "generator",
            "fitting": self.fitting or ("fitting" if shipped else None), "detector": detector,
            "student": self.student or ("student" if shipped and self.fitting is None else None),
        }  # fmt: skip
        about: dict[str, Any] = {"recipe": recipe}
        for name, source in used.items():
            told = weights.describe(source) if source else None
            without = "none: E reads" if name == "student" else "measured anew"
            about[name] = f"{told['file']}, sha256 {told['sha256'][:16]}" if told else without
        return about | {"versions": ", ".join(f"{k} {v}" for k, v in table.versions().items())}


@dataclass(frozen=True)
class Measuring(Networks):
    """And the way from photos to numbers with them."""

    method: Method = "fast"
    recipe: Recipe = "default"
    detector: DetectorWeights = "detector"

    def tool(self) -> Tool:
        """What measures photos."""
        from faceunits.alignment.detect import Detector
        from faceunits.evaluation import crops

        return crops.tool(self.load(), self.method, self.recipe, detector=Detector(self.detector))

    def told(self) -> dict[str, Any]:
        """What the figures were made with."""
        return self.about(self.recipe, self.detector)
