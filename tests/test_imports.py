"""Guards of the design: which module may import which, what is public, what an import costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import faceunits

ROOT = Path(faceunits.__file__).parent

LAYERS = (
    ("errors", "types", "aus"),
    ("io", "terminal"),
    ("weights", "networks"),
    ("alignment", "viz"),
    ("rig", "fitting", "engine", "export"),
    ("estimation", "photos", "resting", "streaming", "runs"),
    ("editing", "gan", "motion", "wishes"),
    ("baseline", "driving", "reporting"),
    ("evaluation", "training"),
    (
        "cli_datasets",
        "cli_edit",
        "cli_editors",
        "cli_evaluate",
        "cli_export",
        "cli_frames",
        "cli_options",
        "cli_report",
        "cli_robust",
        "cli_train",
        "cli",
        "live",
        "__init__",
    ),
)
"""From the bottom up, as drawn in docs/architecture.md; modules of one layer may import each other."""

LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


def _imports(path: Path) -> set[str]:
    """Top-level names of the package that a file imports, inside functions too, for types or not."""
    out = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "faceunits":
            parts = node.module.split(".")
            out |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: imports are absolute"
        elif isinstance(node, ast.Import):
            out |= {a.name.split(".")[1] for a in node.names if a.name.startswith("faceunits.")}
    return out


def test_imports_lead_downward() -> None:
    wrong = []
    for path in sorted(ROOT.rglob("*.py")):
        home = path.relative_to(ROOT).with_suffix("").parts[0]
        for other in _imports(path):
            if other in LEVEL and LEVEL[other] > LEVEL[home]:
                wrong.append(f"{path.relative_to(ROOT)} imports {other}")
    assert not wrong


def test_every_module_has_a_layer() -> None:
    found = {p.relative_to(ROOT).with_suffix("").parts[0] for p in ROOT.rglob("*.py")}
    assert found == set(LEVEL)


def test_networks_and_loops_know_nothing_of_files() -> None:
    for folder in ("networks", "fitting"):
        for path in (ROOT / folder).glob("*.py"):
            assert not _imports(path) & {"io", "estimation", "viz"}, path.name


def test_public_names_are_frozen() -> None:
    assert sorted(faceunits.__all__) == [
        "EditResult", "Face", "FaceunitsError", "FitResult", "blendshapes", "edit", "estimate", "fit",
        "read", "read_table", "render", "stream", "transfer",
    ]  # fmt: skip
    for name in faceunits.__all__:
        assert getattr(faceunits, name) is not None
    assert set(faceunits.__all__) <= set(dir(faceunits))


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(faceunits, "magic")


def test_the_version_is_that_of_the_project() -> None:
    import tomllib

    project = ROOT.parent / "pyproject.toml"
    if project.is_file():
        assert tomllib.loads(project.read_text())["project"]["version"] == faceunits.__version__


def test_import_is_light() -> None:
    code = (
        "import sys, faceunits, faceunits.cli, faceunits.weights, faceunits.aus;"
        "print(sorted({'torch', 'pandas', 'numba', 'scipy', 'PIL', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_nothing_of_torchvision() -> None:
    for path in ROOT.rglob("*.py"):
        assert "import torchvision" not in path.read_text(), path.name
