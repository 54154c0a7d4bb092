"""How well edits do what was asked: requested against measured units, identity, surroundings, time.

The measuring network took no part in making the mesh, but it also read the parameters that edits start
from, so figures of other estimators should stand beside these.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from faceunits import aus, editing, estimation
from faceunits.errors import InputError, ParameterError
from faceunits.evaluation import metrics
from faceunits.gan.files import Networks
from faceunits.io import image as image_io
from faceunits.io.files import printable
from faceunits.photos import told_apart

F64 = NDArray[np.float64]
U8 = NDArray[np.uint8]

SERIES: dict[str, tuple[str, ...]] = {
    "AU12": ("AU12",), "AU04": ("AU04",), "AU01+02": ("AU01", "AU02"), "AU25": ("AU25",),
    "AU26": ("AU26",), "AU45": ("AU45",), "AU06": ("AU06",), "AU09": ("AU09",), "AU15": ("AU15",),
    "AU17": ("AU17",), "AU20": ("AU20",), "AU05": ("AU05",),
}  # fmt: skip
"""What is asked for, one series of values after the other; all units of a series go together."""

COMPANIONS: dict[str, tuple[str, ...]] = {
    "AU25": ("AU10", "AU16", "AU26", "AU27"), "AU26": ("AU25", "AU27", "AU16"), "AU01+02": ("AU05",),
    "AU45": ("AU07", "AU05"), "AU12": ("AU06", "AU14"), "AU06": ("AU07",), "AU05": ("AU45",),
}  # fmt: skip
"""Units that move with those that are asked for by what they are; they do not count as side effects."""

STEPS = tuple(np.arange(0, 5.01, 0.5).tolist())


@dataclass
class Outcome:
    """Rows of one photo: `values` per series and step, `figures` of the photo, `sheet` `(H, W, 3)`."""

    name: str
    values: list[dict[str, object]] = field(default_factory=list)
    figures: dict[str, object] = field(default_factory=dict)
    sheet: U8 | None = None


def evaluate(
    paths: Sequence[Path], *, series: Sequence[str] = tuple(SERIES), device: str = "auto",
    sheets: bool = False, networks: Networks | None = None, tell: Callable[[str], None] | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame, list[Outcome]]:  # fmt: skip
    """Edits of every photo, measured.

    Args:
        paths: photos with one face, or the largest one is taken.
        series: names of `SERIES`.
        device: where networks run.
        sheets: also make a contact sheet of each photo.
        networks: of `editing.load`, for the engine gan; None for motion. Series of units that its editor does
            not know are left out and told.
        tell: called with a line after each photo.

    Returns:
        A summary with one row per series; a table with one row per photo, series and step; and what was
        found per photo. Photos without a face, or turned too far, are left out and told.

    Raises:
        InputError: no photo could be used.
        ParameterError: no series that the editor knows.
    """
    outcomes = []
    known = [name for name in series if _is_known(networks, name)]
    if tell and len(known) < len(series):
        tell(
            f"left out, since the editor does not know them: {', '.join(s for s in series if s not in known)}"
        )
    if not known:
        raise ParameterError(f"expected a series that the editor knows; got {', '.join(series)}; name others")
    names = told_apart([printable(path.name) for path in paths])
    for name, path in zip(names, paths, strict=True):
        try:
            outcomes.append(one(path, known, called=name, device=device, sheet=sheets, networks=networks))
            line = f"{printable(path)}: {outcomes[-1].figures['seconds']:.2f} s per edit"
        except InputError as error:
            line = f"left out: {error}"
        if tell:
            tell(line)
    if not outcomes:
        raise InputError("expected photos with a face that can be edited; got none; name others")
    values = pd.DataFrame([row for o in outcomes for row in o.values])
    return summary(values, outcomes), values, outcomes


def _is_known(networks: Networks | None, series: str) -> bool:
    try:
        editing.check_known(networks, SERIES[series])
    except ParameterError:
        return False
    return True


def one(
    path: Path, series: Sequence[str], *, called: str, device: str = "auto", sheet: bool = False,
    networks: Networks | None = None,
) -> Outcome:  # fmt: skip
    """All series of one photo, under the name that tables call it by.

    Raises:
        InputError: no face, or one that cannot be edited.
    """
    picture = image_io.read(path)
    prepared = editing.prepare(picture, device=device, networks=networks)[0][0]
    start = estimate(picture, prepared, device)
    out = Outcome(called)
    outside = ~head(prepared, picture.shape[:2])
    likeness, seconds, changed, pictures, captions = [], [], 0, [], []
    for name in series:
        for step in STEPS:
            begun = time.perf_counter()
            wish = editing.Wish(dict.fromkeys(SERIES[name], float(step)), {})
            edited = editing.carry_out(prepared, editing.resolve(wish, prepared.reading))
            seconds.append(time.perf_counter() - begun)
            got = estimate(edited, prepared, device)
            changed += int((edited[outside] != picture[outside]).any(-1).sum())
            likeness.append(cosine(start[1], got[1]))
            row: dict[str, object] = {"input": out.name, "series": name, "asked": step}
            own = [got[0][u] for u in SERIES[name]]
            row |= {
                "measured": float(np.mean(own)),
                "before": float(np.mean([start[0][u] for u in SERIES[name]])),
            }
            near = {*SERIES[name], *COMPANIONS.get(name, ())}
            others = [abs(got[0][u] - start[0][u]) for u in got[0] if u not in near]
            out.values.append(row | {"others": float(np.mean(others)), "likeness": likeness[-1]})
            if sheet and step in (0, 2.5, 5):
                pictures.append(edited)
                captions.append(f"{name} {step:g}")
    same = as_measured(prepared)
    trip = editing.carry_out(prepared, editing.resolve(editing.Wish(same, {}), prepared.reading))
    out.figures = {
        "seconds": float(np.median(seconds)), "megapixels": picture.shape[0] * picture.shape[1] / 1e6,
        "likeness": float(np.mean(likeness)), "outside_changed": changed,
        "round_trip_db": psnr(picture[~outside], trip[~outside]),
        "yaw_deg": float(prepared.reading.pose_deg[0, 1]),
    }  # fmt: skip
    if sheet:
        from faceunits.motion import sheet as sheets

        x0, y0, size = prepared.stage.square
        out.sheet = sheets.grid(pictures, captions, (x0, y0, size), side=240, columns=6)
    return out


def estimate(picture: U8, prepared: editing.Prepared, device: str) -> tuple[dict[str, float], F64]:
    """Units 0-5 by name, both sides' larger one, and the identity code, of the face where it was."""
    from faceunits.alignment import warp

    models = estimation.models(device)
    # found anew: an edit may move the points that the crop hangs on
    faces = estimation.detector()(np.ascontiguousarray(picture[..., :3]))
    middle = warp.apply(prepared.stage.back, np.array([[models.crop_size / 2, models.crop_size / 2]]))[0]
    if faces:
        nearest = min(faces, key=lambda f: float(np.linalg.norm(f.points.mean(0) - middle)))
        matrix = warp.similarity(nearest.points[None], models.crop_size)[0]
    else:
        matrix = prepared.stage.matrix
    crop = warp.crop(np.ascontiguousarray(picture[..., :3]), matrix, models.crop_size)
    reading = estimation.measurer("fast", engine="torch")(crop[None], models)
    columns = aus.columns(reading.names, reading.au, reading.lip_gap)
    units = {n[:4]: float(v[0]) for n, v in columns.items() if n.count("_") == 1}
    return units, reading.identity[0].astype(np.float64) - 0.5


def as_measured(prepared: editing.Prepared) -> dict[str, float]:
    """Units 0-5 of a face as a table would tell them, to two digits; each side by itself where the engine
    has sides."""
    reading = prepared.reading
    columns = aus.columns(reading.names, reading.au, reading.lip_gap)
    if prepared.scene:
        return {n: round(float(columns[n + "_r"][0]), 2) for n in prepared.scene.networks.names}
    pairs = zip(reading.names, aus.MAX_INTENSITY * reading.au[0], strict=True)
    return {name: round(float(value), 2) for name, value in pairs if name != "AU26"}


def head(prepared: editing.Prepared, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """`(H, W)` where the head is, with the neck below the jaw, two pixels generous."""
    from PIL import Image, ImageDraw, ImageFilter

    from faceunits.motion import face

    points = prepared.stage.photo_points(prepared.stage.laid.shape)
    triangles = np.concatenate([prepared.stage.triangles, face.inner_triangles(prepared.stage.laid.mesh)])
    plane = Image.new("L", (shape[1], shape[0]))
    pen = ImageDraw.Draw(plane)
    for corner in points[triangles]:
        outline = [(float(x), float(y)) for x, y in corner]
        pen.polygon(outline, fill=255)
        pen.line([*outline, outline[0]], fill=255, width=3)
    for name in ("lid_L", "lid_R", "lip"):
        loop = points[prepared.stage.laid.array(name).astype(int)]
        pen.polygon([(float(x), float(y)) for x, y in loop], fill=255, outline=1)
    return np.asarray(plane.filter(ImageFilter.MaxFilter(3))) > 0


def cosine(a: F64, b: F64) -> float:
    """Likeness of two identity codes, 1 for the same."""
    return float(a @ b / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-12))


def psnr(a: U8, b: U8) -> float:
    """Peak signal-to-noise ratio, dB; infinite for equal pictures."""
    error = float(np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2))
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


def summary(values: pd.DataFrame, outcomes: Sequence[Outcome]) -> pd.DataFrame:
    """One row per series, and `all` with what does not depend on it.

    `spearman`: mean over photos of the rank correlation of asked and measured values; `constant`: photos
    whose measured value never changed, which count as 0 there. `icc` and `mae` over all photos and steps.
    """
    rows: list[dict[str, object]] = []
    for name, part in values.groupby("series", sort=False):
        ranks = [
            metrics.spearman(p["asked"].to_numpy(float), p["measured"].to_numpy(float))
            for _, p in part.groupby("input", sort=False)
        ]
        asked, measured = part["asked"].to_numpy(float), part["measured"].to_numpy(float)
        rows.append({
            "series": name, "photos": part["input"].nunique(),
            "spearman": float(np.mean(np.nan_to_num(ranks))), "constant": int(np.isnan(ranks).sum()),
            "icc": metrics.icc31(np.stack([asked, measured], 1)),
            "mae": float(np.abs(asked - measured).mean()),
            "at_5": float(part.loc[part["asked"] == 5, "measured"].mean()),
            "others": float(part["others"].mean()), "likeness": float(part["likeness"].mean()),
        })  # fmt: skip
    whole = {
        "series": "all", "photos": len(outcomes),
        "others": float(values["others"].mean()), "likeness": float(values["likeness"].mean()),
        "outside_changed": sum(int(str(o.figures["outside_changed"])) for o in outcomes),
        "round_trip_db": float(min(float(str(o.figures["round_trip_db"])) for o in outcomes)),
        "seconds": float(np.median([float(str(o.figures["seconds"])) for o in outcomes])),
    }  # fmt: skip
    return pd.DataFrame([*rows, whole])
