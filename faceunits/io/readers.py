"""Tables from disk: ours, and those of OpenFace, Py-Feat and LibreFace, brought to one layout.

Each tool has its own names, scale, time and sign of the angles. What is converted, and what cannot be, is
said at the function of the tool; `read_table` says what all have in common. Sources: OpenFace's wiki page
"Output Format" and RecorderCSV.cpp; Py-Feat 0.6.2 and 2.1.5; LibreFace 0.2.0, package and README.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from faceunits.aus import MAX_INTENSITY
from faceunits.errors import InputError
from faceunits.io import image
from faceunits.io import table as tables
from faceunits.io.files import printable

_TEXTS = ("input_image_path", "Identity", "approx_time")
"""Columns of other tools that hold text, `tables.TEXT` apart."""

_UNDEFINED = ("", "nan", "NaN", "NA", "-nan", "nan(ind)", "-nan(ind)")
"""How an undefined number is written; the last two by OpenFace on Windows."""


@dataclass(frozen=True)
class _Layout:
    """How one tool's tables look. `has` tells whether columns are its own; `keep` which of them are read."""

    tool: str
    example: str
    scale: str
    pose: str
    has: Callable[[set[str]], bool]
    keep: re.Pattern[str]
    convert: Callable[[pd.DataFrame, str], dict[str, Any]]


def read_table(path: str | os.PathLike[str]) -> pd.DataFrame:
    """A table of faces in our layout, whichever tool wrote it; the tool is told by its columns.

    Args:
        path: `.csv`, `.parquet` or `.jsonl` of faceunits, or a CSV file of OpenFace (FeatureExtraction,
            FaceLandmarkVidMulti, FaceLandmarkImg), Py-Feat (a Fex) or LibreFace.

    Returns:
        A row per face and frame, with the columns `tables.COLUMNS` and then those of the action units that
        the file has, `AUnn_r` (ours also `AUnn_L_r` and `AUnn_R_r`), sorted. Frames of a video count from 1,
        a photo's frame is 0; `timestamp` in seconds; box in pixels; pose in degrees, pitch + nose down, yaw +
        towards the subject's left, roll + clockwise in the image. Intensities are on the range 0-5, which
        does not make them comparable: see the scale. What a tool does not say is NaN. A row without a face
        has `success` 0, `face_id` -1, a `reason`, and NaN elsewhere.

        `table.attrs` names the `tool`, the `scale` of its intensities and how the `pose` was converted.

    Raises:
        InputError: no such file, a damaged one, or columns of none of these tools.
        ConfigError: `.parquet` without the extra that reads it.
    """
    path = Path(path)
    where = printable(path)
    _check_file(path, where)
    # UnicodeDecodeError, JSONDecodeError, and pandas' and pyarrow's errors of format are all ValueErrors.
    try:
        found, layout = _load(path, where)
        out = _arrange(layout.convert(found, path.stem), found.index, layout)
    except (ValueError, OverflowError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"expected a whole table; {where} is damaged ({reason}); copy it again") from error
    except OSError as error:
        raise InputError(f"cannot read {where} ({error.strerror or error}); check the disk") from error
    out.attrs = {"tool": layout.tool, "scale": layout.scale, "pose": layout.pose}
    if layout.tool == "faceunits":
        out.attrs["scale"] = _own_scale(path, where)
    return out


def _check_file(path: Path, where: str) -> None:
    if path.is_dir():
        raise InputError(f"expected a table; {where} is a folder; name a file in it")
    if not path.exists():
        raise InputError(f"expected a table; there is no {where}; check the name")
    if path.suffix.lower() not in tables.ENDINGS:
        raise InputError(
            f"expected a table ending in .csv, .parquet or .jsonl; got {where}; name another file"
        )
    if not os.access(path, os.R_OK):
        raise InputError(f"expected a table that may be read; no permission for {where}; change it")


def _load(path: Path, where: str) -> tuple[pd.DataFrame, _Layout]:
    """What the layout needs of the file, names without spaces around them, and the layout."""
    if path.suffix.lower() == ".csv":
        return _load_csv(path, where)
    if path.suffix.lower() == ".parquet":
        _, parquet = tables.arrow(path)
        with path.open("rb") as file:  # pyarrow refuses names that are not UTF-8
            frame: pd.DataFrame = parquet.read_table(file).to_pandas()
    else:
        with path.open(encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines if line.strip()]
        if not all(isinstance(row, dict) for row in rows):
            raise ValueError("a line is not an object")
        # Without a row there is no column to tell a tool by; only ours writes this format.
        frame = pd.DataFrame(rows) if rows else pd.DataFrame(columns=list(tables.COLUMNS))
    frame.columns = pd.Index([str(name).strip() for name in frame.columns])
    layout = _recognise(list(frame.columns), where)
    frame = frame[[name for name in frame.columns if layout.keep.fullmatch(name)]]
    texts = [name for name in frame.columns if name in (*tables.TEXT, *_TEXTS)]
    numbers = [name for name in frame.columns if name not in texts]
    return frame.astype(dict.fromkeys(texts, "str") | dict.fromkeys(numbers, "float64")), layout


def _load_csv(path: Path, where: str) -> tuple[pd.DataFrame, _Layout]:
    try:
        # utf-8-sig: spreadsheets put a byte-order mark before the first name.
        header = pd.read_csv(path, nrows=0, encoding="utf-8-sig", skipinitialspace=True)
    except pd.errors.EmptyDataError:
        raise InputError(f"expected a table; {where} is empty; run the tool again") from None
    raw = [str(name) for name in header.columns]
    layout = _recognise([name.strip() for name in raw], where)
    is_ours = layout.tool == "faceunits"
    kept = {name: name.strip() for name in raw if layout.keep.fullmatch(name.strip())}
    texts = {name for name, plain in kept.items() if plain in (*tables.TEXT, *_TEXTS)}
    numbers = [name for name in kept if name not in texts]
    frame = pd.read_csv(
        path, encoding="utf-8-sig",
        usecols=None if is_ours else list(kept),  # theirs can have 700; with a choice pandas overlooks damage
        dtype={name: "str" if name in texts else "float64" for name in kept},
        keep_default_na=False, na_values={name: list(_UNDEFINED) for name in numbers},
        skipinitialspace=not is_ours,  # our names of files may begin with a space
    )  # fmt: skip
    return frame[list(kept)].rename(columns=kept), layout


def _recognise(columns: list[str], where: str) -> _Layout:
    for layout in _LAYOUTS:
        if layout.has(set(columns)):
            return layout
    wanted = "; ".join(f"{layout.tool} ({layout.example}, ...)" for layout in _LAYOUTS)
    shown = ", ".join(columns[:8]) + (f", ... ({len(columns)} in all)" if len(columns) > 8 else "")
    shown = "".join(c if c.isprintable() else " " for c in shown)[:300]
    raise InputError(
        f"expected the columns of one of: {wanted}; {where} has {shown or 'none'}; "
        "name a table of these tools"
    )


def _arrange(columns: Mapping[str, Any], index: pd.Index[Any], layout: _Layout) -> pd.DataFrame:
    """Our columns in our order and types; rows without a face emptied."""
    units = sorted(name for name in columns if tables.UNIT.fullmatch(name))
    out = pd.DataFrame({name: columns.get(name, np.nan) for name in (*tables.COLUMNS, *units)}, index=index)
    if layout.tool != "faceunits":
        lost = out["success"] != 1
        out["success"] = 1.0 - lost
        kept = {"input", "frame", "timestamp", "success"}
        out.loc[lost, [name for name in out.columns if name not in {*kept, "reason", "face_id"}]] = np.nan
        out["reason"] = np.where(lost, f"{layout.tool} reports no face", "")
        out["face_id"] = out["face_id"].mask(lost, -1)
    for name in tables.WHOLE:
        if out[name].isna().any() or (out[name] % 1 != 0).any():
            row = int(np.flatnonzero(out[name].isna() | (out[name] % 1 != 0))[0]) + 1
            raise ValueError(f"no whole number in column {name}, row {row}")
    texts = dict.fromkeys(tables.TEXT, "str")
    numbers = {name: "float64" for name in out.columns if name not in (*tables.TEXT, *tables.WHOLE)}
    return out.astype(texts | dict.fromkeys(tables.WHOLE, "int64") | numbers).reset_index(drop=True)


def _own_scale(path: Path, where: str) -> str:
    """The scale as the description beside our table names it."""
    try:
        about = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        scale, written = str(about["scale"]), int(about["table_version"])
    except (OSError, ValueError, TypeError, KeyError):  # the table went on its way without its description
        return tables.SCALE
    if written > tables.VERSION:
        raise InputError(
            f"expected a table of version {tables.VERSION} or older; {where} has version {written}; "
            "install a newer faceunits"
        )
    return scale


def _faceunits(found: pd.DataFrame, _stem: str) -> dict[str, Any]:
    """Ours: nothing is converted; rounded, since older pandas read CSV wrong by a number's last bit."""
    return {str(name): found[name].round(tables.DECIMALS) if found[name].dtype == float else found[name]
            for name in found.columns}  # fmt: skip


def _openface(found: pd.DataFrame, stem: str) -> dict[str, Any]:
    """OpenFace 1 and 2: pose from radians to degrees, yaw with the other sign; AUnn_r as they are.

    OpenFace's camera has x to the right, y down and z away from it, so that its Rx is + nose down and Rz +
    clockwise in the image, as ours, and its Ry + towards the subject's right. It turns by Rx Ry Rz; the order
    is not converted, which is felt only where the head is both turned and tilted far. `input` is the name of
    the table, since the file names no video. The box is that around the 68 landmarks, without the forehead.
    `AUnn_c` (presence) is left out.
    """
    out: dict[str, Any] = {name: found[name] for name in found.columns if tables.UNIT.fullmatch(str(name))}
    is_photo = "frame" not in found
    out |= {"input": stem, "confidence": found["confidence"], "success": found.get("success", 1.0)}
    out["frame"] = 0.0 if is_photo else found["frame"]
    out["timestamp"] = 0.0 if is_photo else found.get("timestamp", np.nan)
    out["face_id"] = found.get("face_id", found.get("face", 0.0))
    for axis, name, sign in (("x", "pitch", 1), ("y", "yaw", -1), ("z", "roll", 1)):
        if f"pose_R{axis}" in found:
            out[f"pose_{name}_deg"] = sign * np.degrees(found[f"pose_R{axis}"])
    for axis, size in (("x", "w"), ("y", "h")):
        marks = found[[n for n in found.columns if re.fullmatch(rf"{axis}_\d+", str(n))]]
        if len(marks.columns):
            out[f"face_{axis}"] = marks.min(axis=1)
            out[f"face_{size}"] = marks.max(axis=1) - marks.min(axis=1)
    return out


def _pyfeat(found: pd.DataFrame, stem: str) -> dict[str, Any]:
    """Py-Feat: AUnn x 5, its 43 (eyes closed) as our 45; the angles by their version.

    Tables with `Pitch, Roll, Yaw` alone (to 0.6) are in degrees with pitch + nose up, yaw + towards the
    subject's right, roll + clockwise: pitch and yaw change sign. With `X, Y, Z` beside them they are in
    radians, and roll, too, has the other sign: so from 2.1.1. Builds between (0.7 and 2.0) confused the names
    of roll and yaw, which the file does not tell.

    Frames count from 0 there. `approx_time` is minutes and whole seconds, so `timestamp` is up to a second
    early. `face_id` is the k of `Identity` Person_k where every face has one, else the place in its frame,
    largest face first, which does not follow a person through a video.
    """
    is_seen = found[["FaceRectX", "FaceRectY", "FaceRectWidth", "FaceRectHeight"]].notna().all(axis=1)
    out: dict[str, Any] = {"success": is_seen.astype(float), "confidence": found["FaceScore"]}
    out["input"] = found.get("input", pd.Series(stem, found.index)).astype("str")
    is_photo = out["input"].map(lambda name: Path(name).suffix.lower() in image.SUFFIXES).astype(bool)
    frame = found.get("frame", pd.Series(0.0, found.index))
    out["frame"] = (frame + 1).mask(is_photo, 0)
    seconds = _seconds(found["approx_time"]) if "approx_time" in found else pd.Series(np.nan, found.index)
    out["timestamp"] = seconds.mask(is_photo, 0.0)
    out["face_id"] = _pyfeat_ids(found, out["input"], frame, is_seen)
    for ours, theirs in (("x", "X"), ("y", "Y"), ("w", "Width"), ("h", "Height")):
        out[f"face_{ours}"] = found[f"FaceRect{theirs}"]
    is_radians = {"X", "Y", "Z"} <= set(found.columns)
    for name, sign in (("Pitch", -1), ("Yaw", -1), ("Roll", -1 if is_radians else 1)):
        if name in found:
            out[f"pose_{name.lower()}_deg"] = sign * (np.degrees(found[name]) if is_radians else found[name])
    for name in found.columns:
        if re.fullmatch(r"AU\d\d", str(name)) and not (name == "AU43" and "AU45" in found):
            out["AU45_r" if name == "AU43" else f"{name}_r"] = MAX_INTENSITY * found[name]
    return out


def _pyfeat_ids(
    found: pd.DataFrame, inputs: pd.Series[Any], frame: pd.Series[Any], is_seen: pd.Series[Any]
) -> pd.Series[Any]:
    if "Identity" in found:
        person = pd.to_numeric(found["Identity"].str.extract(r"^Person_(\d+)$")[0])
        if bool(person[is_seen].notna().all()):
            return person
    area = found["FaceRectWidth"] * found["FaceRectHeight"]
    return area.groupby([inputs, frame], dropna=False).rank(method="first", ascending=False) - 1


def _seconds(clock: pd.Series[Any]) -> pd.Series[Any]:
    """Seconds from `minutes:seconds`, hours before them if there are."""

    def one(text: str) -> float:
        try:
            return sum((float(part) * 60**i for i, part in enumerate(reversed(text.split(":")))), 0.0)
        except ValueError:
            return float("nan")

    return clock.map(one).astype("float64")


def _libreface(found: pd.DataFrame, stem: str) -> dict[str, Any]:
    """LibreFace: au_n_intensity as they are; one face per picture, without a box or a confidence.

    Its `pitch, yaw, roll` are left out. They come from fitting the picture's own points to themselves and are
    multiplied by 360: a head turned by 20 degrees gives 10 in a picture 640 pixels wide and 3 in one of 1920,
    and a tilted head gives no roll. Frames count from 0 there. `frame_time_in_ms` holds seconds since frames
    are cut out by ffmpeg; a step of less than 1 per frame tells. `au_n` (presence) is left out.
    """
    out: dict[str, Any] = {}
    for name in found.columns:
        if match := re.fullmatch(r"au_(\d+)_intensity", str(name)):
            out[f"AU{int(match[1]):02d}_r"] = found[name]
    out["success"] = pd.DataFrame(out).notna().all(axis=1).astype(float)
    out["input"] = found.get("input_image_path", stem)
    out["face_id"] = 0.0
    if "frame_idx" not in found:
        return out | {"frame": 0.0, "timestamp": 0.0}
    out["frame"] = found["frame_idx"] + 1
    if "frame_time_in_ms" in found:
        later = found[found["frame_idx"] > 0]
        step = (later["frame_time_in_ms"] / later["frame_idx"]).median()
        out["timestamp"] = found["frame_time_in_ms"] / (1 if step < 1 else 1000)
    return out


_LAYOUTS = (
    _Layout(
        "faceunits", "input, frame, face_id, success, reason, pose_pitch_deg", tables.SCALE, tables.POSE,
        lambda columns: set(tables.COLUMNS) <= columns,
        re.compile("|".join((*tables.COLUMNS, tables.UNIT.pattern))), _faceunits,
    ),
    _Layout(
        "Py-Feat", "FaceRectX, FaceRectWidth, FaceScore, AU01, Pitch",
        "5 x Py-Feat's 0-1, a detector's belief that the unit is active rather than its strength",
        tables.POSE + "; signs and units converted as Py-Feat to 0.6 and from 2.1.1 writes them",
        lambda columns: {f"FaceRect{n}" for n in ("X", "Y", "Width", "Height")} | {"FaceScore"} <= columns,
        re.compile(r"FaceRect(X|Y|Width|Height)|FaceScore|AU\d\d|Pitch|Roll|Yaw|X|Y|Z|input|frame|approx_time"
                   "|Identity"), _pyfeat,
    ),
    _Layout(
        "LibreFace", "frame_idx, au_1_intensity, au_12_intensity",
        "0-5, LibreFace's estimate of FACS intensity as coded in DISFA",
        "left out: LibreFace's angles have no unit",
        lambda columns: any(re.fullmatch(r"au_\d+_intensity", name) for name in columns),
        re.compile(r"au_\d+_intensity|frame_idx|frame_time_in_ms|input_image_path"), _libreface,
    ),
    _Layout(
        "OpenFace", "frame, timestamp, confidence, success, pose_Rx, AU01_r",
        "0-5, OpenFace's estimate of FACS intensity",
        tables.POSE + "; from OpenFace's radians, yaw with the other sign",
        lambda columns: {"frame", "timestamp", "confidence", "success"} <= columns
        or {"face", "confidence"} <= columns,
        re.compile(r"frame|face|face_id|timestamp|confidence|success|pose_R[xyz]|[xy]_\d+|AU\d\d_r"),
        _openface,
    ),
)  # fmt: skip
"""Ours first, since OpenFace's names are among our columns."""
