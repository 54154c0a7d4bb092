"""The same face under worse conditions (GE-Net, Figure 10): how far the units drift.

Photos are distorted (`distortions`) and measured from the detector on; a tilt is all that can be done to
a photo's pose, so yaw and pitch are those of faces that M draws from the photo's own measurement. Drift is
the absolute difference to the untouched picture on the 0-5 scale; its truth is not needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from faceunits.alignment import warp
from faceunits.errors import ConfigError, InputError
from faceunits.evaluation import crops, metrics
from faceunits.evaluation.crops import Progress, Tool
from faceunits.evaluation.distortions import ALL, Distortion
from faceunits.evaluation.report import Figure, Report
from faceunits.io import image as images
from faceunits.rig.shape import POSE_RANGE_DEG
from faceunits.viz import curves

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]

UPPER = ("AU01", "AU02", "AU04", "AU05", "AU06", "AU07", "AU09", "AU45")
"""Units above the mouth; the others are of cheeks, mouth and chin."""

TURNS = (7.0, 14.0, 21.0, 28.0)
"""Degrees of yaw and of pitch of the drawn faces."""

_KEYS = ["photo", "kind", "strength"]


@dataclass(frozen=True)
class Variant:
    """A picture of one face: strength 0 is the untouched one that the others of its kind start from."""

    photo: str
    kind: str
    strength: float
    picture: U8

    @property
    def name(self) -> str:
        """Of the file that other tools measure."""
        return f"{self.photo}--{self.kind.replace(' ', '-')}-{self.strength:g}"


def chosen(text: str) -> tuple[Distortion, ...]:
    """The distortions of comma-separated names; all of them when empty.

    Raises:
        ConfigError: an unknown name.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    known = {kind.name: kind for kind in ALL}
    for name in names:
        if name not in known:
            raise ConfigError(f"expected kinds among {', '.join(known)}; got {name!r}; correct --only")
    return tuple(known[name] for name in names) or ALL


def variants(
    photo: str, picture: U8, on: Tool, *, kinds: Sequence[Distortion] = ALL, pose: bool = True, seed: int = 0
) -> Iterator[Variant]:
    """A photo, its distortions, and the same face drawn and turned; nothing where no face is found."""
    face = crops.largest(on.detector(picture))
    crop = None if face is None else crops.crop_of(picture, face, on.models.crop_size)
    if face is None or crop is None:
        return
    yield Variant(photo, "none", 0, picture)
    for kind in kinds:
        for strength in kind.strengths:
            rng = np.random.default_rng(seed)
            yield Variant(photo, kind.name, strength, kind.apply(picture, face.box, strength, rng))
    if pose:
        yield from _turned(photo, crop, on)


def _turned(photo: str, crop: F32, on: Tool) -> Iterator[Variant]:
    """The face as M draws it, straight and turned; identity and units are those measured in the photo."""
    import torch

    reading = crops.read([crop], on)
    for axis, kind in enumerate(("pitch, drawn", "yaw, drawn")):
        for degrees in (0.0, *TURNS):
            at = np.full((1, 2), 0.5, np.float32)
            at[0, axis] += degrees / (2 * POSE_RANGE_DEG)
            y = np.concatenate([at, reading.au, reading.identity], 1).astype(np.float32)
            with torch.inference_mode():
                image = on.models.networks.generator(torch.from_numpy(y).to(on.models.device))[0]
            drawn = warp.picture(image.cpu().numpy())
            # the crop cuts the forehead and a detector wants a whole head
            margin = drawn.shape[0] // 2
            wide = np.pad(drawn, ((margin, margin), (margin, margin), (0, 0)), mode="edge")
            yield Variant(photo, kind, degrees, wide)


def measure(
    photos: Sequence[Path], on: Tool, *, kinds: Sequence[Distortion] = ALL, pose: bool = True,
    pictures: Path | None = None, progress: Progress | None = None,
) -> tuple[pd.DataFrame, list[str]]:  # fmt: skip
    """Columns (0-5) of every variant, and the photos left out because no face was found in them.

    Args:
        photos: to read.
        on: what measures.
        kinds: distortions.
        pose: also draw the face turned.
        pictures: folder for the variants as PNG, for other tools; none when None.
        progress: called with photos done and in all.

    Returns:
        `photo`, `kind`, `strength`, `name` and the columns, NaN where the face was lost.
    """
    if pictures is not None:
        pictures.mkdir(parents=True, exist_ok=True)
    parts, without, taken = [], [], set[str]()
    for i, path in enumerate(photos):
        photo = path.stem if path.stem not in taken else f"{path.stem}-{i + 1}"
        taken.add(photo)
        rows, cut = [], []
        for variant in variants(photo, images.read(path), on, kinds=kinds, pose=pose):
            rows.append((variant.photo, variant.kind, variant.strength, variant.name))
            cut.append(crops.crop(variant.picture, on))
            if pictures is not None:
                images.write(pictures / f"{variant.name}.png", variant.picture)
        if rows:
            parts.append(
                pd.concat([pd.DataFrame(rows, columns=[*_KEYS, "name"]), crops.columns(cut, on)], axis=1)
            )
        else:
            without.append(photo)
        if progress:
            progress(i + 1, len(photos))
    if not parts:
        raise InputError(f"expected a face in at least one photo; found none in {len(photos)}; name others")
    return pd.concat(parts, ignore_index=True), without


def of_other(measured: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Another tool's rows in the order of ours, from a table of the written variants.

    Args:
        measured: of `measure`, whose `pictures` the other tool has seen.
        table: with `input` (the file's path or name) and `AUnn_r` on 0-5.

    Raises:
        InputError: a table without inputs or units, or of other pictures.
    """
    units = crops.whole(table.columns)
    if "input" not in table or not units:
        raise InputError(
            "expected the columns input and AUnn_r in the other table; got "
            f"{', '.join(map(str, table.columns))}"
        )
    names = table["input"].astype(str).str.replace("\\", "/").str.split("/").str[-1].str.removesuffix(".png")
    first = table.assign(name=names).drop_duplicates("name").set_index("name")
    if not first.index.isin(measured["name"]).any():
        raise InputError(
            f"expected rows named like {measured['name'].iloc[0]}.png; got "
            f"{names.iloc[0] if len(names) else 'none'}; "
            "let the other tool measure the folder written with --pictures"
        )
    values = first[units].astype(float).reindex(measured["name"]).reset_index(drop=True)
    return pd.concat([measured[[*_KEYS, "name"]].reset_index(drop=True), values], axis=1)


def drifts(measured: pd.DataFrame, units: Sequence[str]) -> pd.DataFrame:
    """Per variant the absolute change of each unit, and `found`, 1 or 0.

    A photo in whose untouched picture the face is lost says nothing and is left out.
    """
    rows = []
    for (_, kind), part in measured.groupby(["photo", "kind"], sort=False):
        if kind == "none":
            continue
        drawn = part[part["strength"] == 0]
        photo = part["photo"].iloc[0]
        start = drawn if len(drawn) else measured[(measured["photo"] == photo) & (measured["kind"] == "none")]
        base = start[list(units)].to_numpy(float)[0]
        if not np.isfinite(base).any():
            continue
        worse = part[part["strength"] != 0]
        change = np.abs(worse[list(units)].to_numpy(float) - base)
        out = worse[_KEYS].reset_index(drop=True)
        out["found"] = np.isfinite(change).any(1).astype(int)
        rows.append(pd.concat([out, pd.DataFrame(change, columns=list(units))], axis=1))
    if not rows:
        raise InputError("expected a face in at least one untouched picture; found none; use other photos")
    return pd.concat(rows, ignore_index=True)


def summary(drift: pd.DataFrame, units: Sequence[str]) -> pd.DataFrame:
    """Means over photos by kind and strength: `all`, `upper`, `lower` units, `worst` unit, share `found`."""
    upper = [u for u in units if u[:4] in UPPER]
    lower = [u for u in units if u[:4] not in UPPER]
    rows = []
    for (kind, strength), part in drift.groupby(["kind", "strength"], sort=False):
        each = part[list(units)].mean()
        rows.append({
            "kind": kind, "strength": strength, "all": each.mean(), "upper": each[upper].mean(),
            "lower": each[lower].mean(), "worst": each.max(), "found": part["found"].mean(), "n": len(part),
        })  # fmt: skip
    return pd.DataFrame(rows)


def report(
    measured: pd.DataFrame, others: Mapping[str, pd.DataFrame] | None = None, *, rounds: int = 1000
) -> tuple[Report, dict[str, U8], dict[str, pd.DataFrame]]:
    """The page of `measure`, its curves by title, and the long tables for CSV.

    Args:
        measured: ours.
        others: other tools' by name, of `of_other`; then all means are over the units that all have.
        rounds: of the bootstrap over photos.
    """
    tables = {"faceunits": measured} | dict(others or {})
    units = [u for u in crops.whole(measured.columns) if all(u in t for t in tables.values())]
    if not units:
        raise InputError("expected units that all tables have; found none; check the other table's columns")
    drift = {name: drifts(table, units) for name, table in tables.items()}
    means = {name: summary(d, units) for name, d in drift.items()}
    page = Report("Drift of the same face under worse conditions")
    page.about |= {
        "photos": measured["photo"].nunique(), "units": ", ".join(u[:4] for u in units),
        "drift": "absolute change from the untouched picture, 0-5, mean over units and photos",
    }  # fmt: skip
    for name, mean in means.items():
        title = "by strength" if len(means) == 1 else f"by strength, {name}"
        rows = mean.drop(columns=["kind", "strength"])
        rows.index = pd.Index([f"{k} {s:g}" for k, s in zip(mean["kind"], mean["strength"], strict=True)])
        page.tables[title] = rows
        by_unit = drift[name].groupby("kind", sort=False)[units].mean().T
        by_unit.index = pd.Index([str(u)[:4] for u in by_unit.index])
        page.tables[title.replace("strength", "unit")] = by_unit
        for kind, part in drift[name].groupby("kind", sort=False):
            step = str(kind) if len(means) == 1 else f"{kind}, {name}"
            page.figures += _figures(step, part, units, rounds)
    pictures = {"curves": chart(means)}
    return page, pictures, drift


def _figures(step: str, part: pd.DataFrame, units: Sequence[str], rounds: int) -> list[Figure]:
    """Drift of one kind at its weakest and its strongest over the photos whose face was still found."""
    out = []
    levels = part["strength"].unique()
    for strength in dict.fromkeys((levels[0], levels[-1])):
        at = part[part["strength"] == strength]
        each = at.loc[at["found"] == 1, list(units)].mean(axis=1).to_numpy()
        n = len(each)
        low, high = (
            metrics.interval(n, lambda rows, v=each: float(v[rows].mean()), rounds=rounds)  # type: ignore[misc]
            if n > 1 else (float("nan"),) * 2
        )  # fmt: skip
        value = float(each.mean()) if n else float("nan")
        out.append(Figure(step, f"drift at {strength:g}", value, n, low=low, high=high))
    return out


def chart(means: Mapping[str, pd.DataFrame]) -> U8:
    """One panel per kind: drift against strength, of all, upper and lower units, and of other tools."""
    ours = next(iter(means.values()))
    known = {d.name: d.unit for d in ALL}
    shown = ["all", "upper", "lower"]
    labels = {"all": "all units", "upper": "upper face", "lower": "lower face"}
    top = float(np.nanmax(np.concatenate([m[shown].to_numpy(float) for m in means.values()])))
    panels = []
    for kind, part in ours.groupby("kind", sort=False):
        steps = ["as is" if kind in known else "0", *(f"{s:g}" for s in part["strength"])]
        lines = [curves.Line(labels[c], [0.0, *part[c]], dashed=c != "all") for c in shown]
        for name, mean in list(means.items())[1:]:
            lines.append(curves.Line(name, [0.0, *mean[mean["kind"] == kind]["all"]]))
        found = float(part["found"].min())
        title = f"{kind}: drift, 0-5" + (
            f"  (face lost in up to {100 * (1 - found):.0f} %)" if found < 1 else ""
        )
        panels.append(
            curves.panel(lines, steps, title=title, across=known.get(str(kind), "degrees"), top=top)
        )
    return curves.grid(panels)
