"""How still a measurement is: GE-Net's Table 3 on videos, and the jitter of a face that does not move.

Table 3 is the standard deviation of each unit inside windows of 2 to 10 consecutive frames, averaged
over all windows. A face that moves has some of its own, hence also the share of the whole track's
deviation. In a frozen face all of it is the measurement's: one photo, shifted below a pixel, with noise.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from faceunits.errors import ConfigError, InputError
from faceunits.evaluation import crops
from faceunits.evaluation.crops import Tool
from faceunits.evaluation.report import Figure, Report

F64 = NDArray[np.float64]
U8 = NDArray[np.uint8]

WINDOWS = tuple(range(2, 11))
"""Lengths in frames of Table 3."""

PUBLISHED = {
    "AU01": 0.032, "AU02": 0.013, "AU04": 0.045, "AU05": 0.096, "AU06": 0.059, "AU07": 0.055, "AU09": 0.034,
    "AU10": 0.038, "AU12": 0.047, "AU14": 0.044, "AU15": 0.064, "AU17": 0.042, "AU18": 0.054, "AU20": 0.091,
    "AU25": 0.073, "AU27": 0.067, "AU34": 0.050, "AU45": 0.102,
}  # fmt: skip
"""GE-Net, Table 3, windows of 5, over ten videos of its own; presumably of parameters in [0, 1]."""


def runs(table: pd.DataFrame) -> list[F64]:
    """The unbroken runs of a table: `(frames, A)` of its whole units, consecutive frames of one face.

    A frame without the face, or that is left out, ends a run: windows never reach across a gap.
    """
    units = crops.whole(table.columns)
    faces = table["face_id"] if "face_id" in table else pd.Series(0, index=table.index)
    inputs = table["input"].astype(str) if "input" in table else pd.Series("", index=table.index)
    good = np.isfinite(table[units].to_numpy(np.float64)).any(1)
    if "success" in table:
        good &= (table["success"] == 1).to_numpy()
    out = []
    for _, part in table[good].groupby([inputs[good], faces[good]], sort=False):
        values = part[units].to_numpy(np.float64)
        frames = part["frame"].to_numpy(np.float64) if "frame" in part else np.arange(len(part))
        order = np.argsort(frames, kind="stable")
        values, frames = values[order], frames[order]
        # a table of every second frame is as unbroken as one of all
        step = np.median(np.diff(frames)) if len(frames) > 1 else 1.0
        out += np.split(values, np.flatnonzero(np.diff(frames) > max(step, 1.0)) + 1)
    return [run for run in out if len(run) >= min(WINDOWS)]


def window_std(run: F64, length: int) -> F64:
    """`(windows, A)` standard deviation (population form) of every `length` consecutive frames.

    Args:
        run: `(frames, A)`.
        length: frames of a window.
    """
    if len(run) < length:
        return np.zeros((0, run.shape[1]))
    windows = np.lib.stride_tricks.sliding_window_view(run, length, axis=0)  # (windows, A, length)
    return np.asarray(windows.std(-1))


def deviations(runs_: Sequence[F64], lengths: Sequence[int] = WINDOWS) -> tuple[F64, F64]:
    """`(W, A)` mean deviation per window length, absolute and as a share of the run's own.

    The mean is over all windows of all runs; a run in which a unit never changes has no share of it.
    """
    absolute, relative = [], []
    for length in lengths:
        parts = [window_std(run, length) for run in runs_]
        if not sum(map(len, parts)):
            nothing = np.full(runs_[0].shape[1] if runs_ else 0, np.nan)
            absolute.append(nothing)
            relative.append(nothing)
            continue
        shares = []
        for run, part in zip(runs_, parts, strict=True):
            own = run.std(0)
            with np.errstate(invalid="ignore", divide="ignore"):
                shares.append(np.where(own > 1e-6, part / own, np.nan))
        absolute.append(_mean(np.concatenate(parts)))
        relative.append(_mean(np.concatenate(shares)))
    return np.array(absolute), np.array(relative)


def _mean(values: F64) -> F64:
    """`(A,)` mean of the finite values of each column, NaN where there is none."""
    finite = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(finite, values, 0).sum(0) / finite.sum(0))


def stability(tables: Mapping[str, pd.DataFrame], *, scale: float = 5.0) -> Report:
    """Table 3 of tables of videos.

    Args:
        tables: by name; columns `frame`, `face_id`, `success` where they have them, and `AUnn_r`.
        scale: upper end of the units' range, for the paper's values beside ours.

    Raises:
        InputError: no two consecutive frames with a face.
    """
    units = list(dict.fromkeys(u for t in tables.values() for u in crops.whole(t.columns)))
    found: list[F64] = []
    page = Report("Stability in windows of consecutive frames")
    for name, table in tables.items():
        own = runs(table)
        page.about[name] = f"{len(own)} unbroken runs, {sum(map(len, own))} frames"
        columns = crops.whole(table.columns)
        found += [pd.DataFrame(run, columns=columns).reindex(columns=units).to_numpy() for run in own]
    if not found or not units:
        raise InputError(
            "expected a face and action units in at least two consecutive frames; found none; "
            "name another video"
        )
    absolute, relative = deviations(found)
    rows = [u.removesuffix("_r") for u in units]
    for title, values in (("absolute, 0-5", absolute), ("share of the track's own deviation", relative)):
        page.tables[title] = pd.DataFrame(values.T, index=rows, columns=[str(w) for w in WINDOWS])
    page.tables["absolute, 0-5"]["GE-Net, 5 frames"] = [scale * PUBLISHED.get(r, np.nan) for r in rows]
    page.about["GE-Net's column"] = "its Table 3 x 5, other videos; taken to be of parameters in [0, 1]"
    longest = sum(len(run) for run in found)
    for length, a, r in zip(WINDOWS, absolute, relative, strict=True):
        for name, value in (("0-5", a), ("share of the track's own", r)):
            mean = float(np.nanmean(value)) if np.isfinite(value).any() else float("nan")
            page.figures.append(Figure(f"windows of {length}", f"mean deviation, {name}", mean, longest))
    return page


ACTIVE = 0.5
"""A unit at rest is cut off at 0 and cannot jitter: those above this level, 0-5, are also told apart."""


@dataclass(frozen=True)
class Frozen:
    """How a photo is made into a video in which nothing moves."""

    frames: int = 60
    """Frames of one photo."""
    shift: float = 0.5
    """Largest shift in pixels, either way, along each axis."""
    noise: float = 2.0
    """Standard deviation of the noise, of 255."""
    interpolation: str = "fourier"
    """`fourier`, exact for what the pixels can hold, or `bicubic`, which also blurs a little."""
    seed: int = 0


def frozen(picture: U8, options: Frozen = Frozen()) -> Iterator[U8]:
    """Frames `(H, W, 3)` uint8 of a photo that shakes below a pixel, as a camera on a table does.

    Raises:
        ConfigError: an unknown interpolation.
    """
    moves = {"fourier": fourier_shift, "bicubic": bicubic_shift}
    if options.interpolation not in moves:
        raise ConfigError(f"expected the interpolation fourier or bicubic; got {options.interpolation!r}")
    rng = np.random.default_rng(options.seed)
    for _ in range(options.frames):
        dx, dy = rng.uniform(-options.shift, options.shift, 2)
        moved = moves[options.interpolation](picture.astype(np.float64), dx, dy)
        noisy = moved + rng.normal(0, options.noise, moved.shape)
        yield np.clip(noisy + 0.5, 0, 255).astype(np.uint8)


def fourier_shift(picture: F64, dx: float, dy: float) -> F64:
    """The picture `(H, W, C)` moved right by `dx` and down by `dy` pixels, by turning its phases."""
    pad = 16  # mirrored borders: the transform takes the picture to repeat, which would ring
    wide = np.pad(picture, ((pad, pad), (pad, pad), (0, 0)), mode="symmetric")
    height, width = wide.shape[:2]
    fy, fx = np.fft.fftfreq(height)[:, None, None], np.fft.rfftfreq(width)[None, :, None]
    turned = np.fft.rfft2(wide, axes=(0, 1)) * np.exp(-2j * np.pi * (fx * dx + fy * dy))
    back = np.fft.irfft2(turned, (height, width), axes=(0, 1))
    return np.asarray(back[pad:-pad, pad:-pad])


def bicubic_shift(picture: F64, dx: float, dy: float) -> F64:
    """The picture `(H, W, C)` moved right by `dx` and down by `dy`, each at most a pixel (Keys, a = -0.5)."""
    out = picture
    for axis, shift in ((1, dx), (0, dy)):
        wide = np.pad(out, [(3, 3) if i == axis else (0, 0) for i in range(3)], mode="edge")
        moved = np.zeros_like(out)
        for k in range(-2, 3):
            weight = _keys(abs(k + shift))
            if weight:
                moved += weight * np.take(wide, np.arange(out.shape[axis]) + 3 + k, axis=axis)
        out = moved
    return out


def _keys(t: float) -> float:
    if t < 1:
        return 1.5 * t**3 - 2.5 * t**2 + 1
    return -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2 if t < 2 else 0.0


def video_table(name: str, pictures: Iterable[U8], on: Tool) -> pd.DataFrame:
    """Frames as rows, each found, aligned and measured on its own (the paper's frames are independent)."""
    # only the crops are kept, whatever the length and size of the video
    table = crops.columns([crops.crop(picture, on) for picture in pictures], on)
    found = table.notna().any(axis=1)
    head = pd.DataFrame({"input": name, "frame": np.arange(1, len(table) + 1), "success": found.astype(int)})
    return pd.concat([head, table], axis=1)


def frozen_tracked(name: str, picture: U8, method: str, options: Frozen) -> pd.DataFrame:
    """The same frames as one video without loss, measured as a video: with the package's own tracking."""
    import av

    from faceunits import streaming

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "frozen.mkv"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("ffv1", rate=25)
            stream.height, stream.width = picture.shape[:2]
            stream.pix_fmt = "bgr0"
            for frame in frozen(picture, options):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode())
        table: pd.DataFrame = pd.concat(list(streaming.stream(path, method=method)), ignore_index=True)
    return table[table["face_id"] <= 0].assign(input=name)


def frozen_report(tables: Mapping[str, pd.DataFrame], *, length: int = 5, bar: float | None = None) -> Report:
    """Jitter of frozen photos: deviation in windows of `length` frames, mean over the units.

    Args:
        tables: of `video_table` or `frozen_tracked`, by photo.
        length: of the windows.
        bar: what the mean must not exceed, 0-5.

    Raises:
        InputError: no photo with a face in as many consecutive frames.
    """
    page = Report("Jitter of a frozen face", {"windows": f"{length} frames", "photos": len(tables)})
    rows, values = {}, []
    for name, table in tables.items():
        units, own = crops.whole(table.columns), runs(table)
        absolute = deviations(own, [length])[0][0] if own else np.full(len(units), np.nan)
        level = np.concatenate(own).mean(0) if own else absolute
        active = absolute[level > ACTIVE]
        rows[name] = {
            "mean": float(absolute.mean()), "largest": float(absolute.max()),
            "units above 0.5": len(active), "mean of these": float(active.mean()) if len(active) else np.nan,
            "frames lost": int((table["success"] != 1).sum()),
        }  # fmt: skip
        values.append(pd.Series(absolute, index=units))
    table = pd.DataFrame.from_dict(rows, orient="index")
    if not table["mean"].notna().any():
        raise InputError(
            f"expected a face in {length} consecutive frames of a photo; found none; name other photos"
        )
    by_unit = pd.DataFrame(values).mean()
    page.tables["photos"] = table
    page.tables["units"] = pd.DataFrame(
        {"deviation, 0-5": by_unit.to_numpy()}, index=[str(u).removesuffix("_r") for u in by_unit.index]
    )
    n = int(table["mean"].notna().sum())
    page.figures = [
        Figure("frozen face", "mean deviation, 0-5", float(table["mean"].mean()), n, bar, True),
        Figure("frozen face", "mean of the units above 0.5", float(table["mean of these"].mean()), n),
        Figure("frozen face", "worst photo", float(table["mean"].max()), n, None, True),
        Figure("frozen face", "worst unit", float(by_unit.max()), n, None, True),
        Figure("frozen face", "frames in which the face was lost", float(table["frames lost"].sum()), n),
    ]  # fmt: skip
    return page
