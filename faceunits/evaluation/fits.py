"""How well a fit measures: closed loop, unseen renders, real pairs, mirror images, time.

Each function returns plain numbers; `report` runs them all and writes one Markdown page.
"""

from __future__ import annotations

import time
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from faceunits import estimation, fitting
from faceunits.errors import InputError
from faceunits.evaluation import metrics, photos
from faceunits.fitting.optimise import Recipe, reduced
from faceunits.io.files import printable
from faceunits.rig.shape import parameters
from faceunits.types import FitResult

F32 = NDArray[np.float32]


def fit_all(crops: F32, models: fitting.Models, recipe: str | Recipe, *, batch: int = 16) -> FitResult:
    """`fit` in batches, joined."""
    starts = range(0, len(crops), batch)
    return estimation.join([fitting.fit(crops[i : i + batch], models, recipe) for i in starts])


def read_shard(path: str | Path, count: int, *, labelled: bool = True) -> dict[str, NDArray[Any]]:
    """The first `count` faces of a rendered shard; without `labelled` also of one that has no label maps.

    Raises:
        InputError: no such file, or one that is no shard.
    """
    try:
        with np.load(path) as pack:
            shard = {k: pack[k][:count] for k in pack.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(
            f"cannot read the shard {printable(path)} ({error}); name a .npz of synthesize"
        ) from None
    if not {"image", "au", "identity", "pose_deg"} | ({"label"} if labelled else set()) <= set(shard):
        raise InputError(f"expected a shard of synthesize; {printable(path)} is something else; name another")
    return shard


def checked(
    shard: dict[str, NDArray[Any]], path: str | Path, models: fitting.Models
) -> dict[str, NDArray[Any]]:
    """The shard, known to suit the networks.

    Raises:
        InputError: another number of parameters.
    """
    count = shard["au"].shape[1]
    if count != len(models.names):
        raise InputError(
            f"expected faces with {len(models.names)} parameters in {printable(path)}; got {count}; "
            "draw others with synthesize"
        )
    return shard


def crops_of(images: NDArray[np.uint8], size: int = 0) -> F32:
    """`(B, 3, S, S)` in [0, 1] from `(B, N, N, 3)` uint8; S is N, or `size`."""
    return resized((images.transpose(0, 3, 1, 2) / 255).astype(np.float32), size or images.shape[1])


def resized(crops: F32, size: int) -> F32:
    """Crops `(B, 3, S, S)` at another size."""
    if crops.shape[-1] == size:
        return crops
    return reduced(torch.from_numpy(crops), size).numpy()


def icc_table(names: tuple[str, ...], truth: F32, predicted: F32) -> pd.DataFrame:
    """Per parameter: ICC(3,1), Pearson's r, mean absolute error, share of faces where it is active."""
    with np.errstate(invalid="ignore", divide="ignore"):
        rows = {
            "icc": metrics.icc_columns(truth, predicted),
            "r": [
                np.corrcoef(t, p)[0, 1] if np.ptp(p) else 0.0
                for t, p in zip(truth.T, predicted.T, strict=True)
            ],
            "mae_0_5": 5 * np.abs(truth - predicted).mean(0),
            "active": (truth > 0.1).mean(0),
        }
    return pd.DataFrame(rows, index=list(names))


def closed_loop(
    models: fitting.Models, recipe: str | Recipe, *, count: int = 200, seed: int = 900_000
) -> pd.DataFrame:
    """Parameters recovered from M's own images of natural faces."""
    from faceunits.rig import sample  # numpy only: no rig data are needed

    rng = np.random.default_rng(seed)
    n_id = models.networks.generator.config.parameters - 2 - len(models.names)
    faces = sample.naturals(rng, models.profile, n_id, count)
    y = parameters(faces)
    with torch.no_grad():
        parts = [
            models.networks.generator(torch.from_numpy(y[i : i + 50]).to(models.device))
            for i in range(0, count, 50)
        ]
    images = torch.cat(parts).float().cpu().numpy()
    result = fit_all(images, models, recipe)
    return icc_table(models.names, faces["au"], result.au)


def renders(models: fitting.Models, recipe: str | Recipe, shard: dict[str, NDArray[Any]]) -> pd.DataFrame:
    """Parameters recovered from rasterised faces that trained nothing."""
    result = fit_all(crops_of(shard["image"]), models, recipe)
    return icc_table(models.names, shard["au"], result.au)


@dataclass(frozen=True)
class Pairs:
    """Neutral and smiling crops `(N, 3, S, S)` of the same people, with coarse labels."""

    ids: list[str]
    neutral: F32
    smiling: F32
    labels: pd.DataFrame


def contrast(neutral: pd.DataFrame, smiling: pd.DataFrame, labels: pd.DataFrame) -> dict[str, float]:
    """Figures of neutral/smiling pairs.

    Args:
        neutral: columns `AU12_r`, ... of the neutral photos, one row per person.
        smiling: the same of the smiling photos.
        labels: `AU12`, `AU12_intensity`, `AU6`, `AU25` of the smiles (0/1, strength) and
            `AU*_confidence`; rows of low confidence are left out. "hard" compares labelled smiles
            with smiles in which the unit is labelled absent.
    """
    out: dict[str, float] = {}
    for au, column in (("AU12", "AU12_r"), ("AU6", "AU06_r"), ("AU25", "AU25_r")):
        sure = labels.get(f"{au}_confidence", pd.Series("high", labels.index)) != "low"
        yes, no = (((labels[au] == value) & sure).to_numpy() for value in (1, 0))
        smiles, rest = smiling[column].to_numpy(), neutral[column].to_numpy()
        out[au] = metrics.auc(smiles[yes], rest)
        if au != "AU12":
            out[f"{au} hard"] = metrics.auc(smiles[yes], smiles[no])
    strength = labels["AU12_intensity"].to_numpy()
    out["Spearman AU12"] = metrics.spearman(smiling["AU12_r"].to_numpy(), strength)
    return out | at_rest(neutral)


def at_rest(neutral: pd.DataFrame) -> dict[str, float]:
    """Intensities that people asked for a neutral face should not have: columns as in `contrast`."""
    units = neutral[[c for c in map(str, neutral) if len(c) == len("AU12_r") and c.startswith("AU")]]
    values = units.to_numpy()
    return {
        "neutral mean": float(values.mean()),
        "neutral mean, worst unit": float(values.mean(0).max()),
        "share > 1": float((values > 1).mean()),
    }


def seconds_per_face(
    models: fitting.Models, recipe: str | Recipe, crops: F32, *, batch: int = 8, rounds: int = 3
) -> float:
    """Median wall time of a fit over the faces of a batch."""
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        fitting.fit(crops[:batch], models, recipe)
        times.append((time.perf_counter() - started) / batch)
    return float(np.median(times))


def generator_error(models: fitting.Models, shard: dict[str, NDArray[Any]]) -> dict[str, float]:
    """M on unseen parameters: mean absolute error, and F1 of E's parsing of M(y) against true labels."""
    y = torch.from_numpy(parameters(shard)).to(models.device)
    with torch.no_grad():
        images = torch.cat([models.networks.generator(y[i : i + 50]) for i in range(0, len(y), 50)])
    label = parse(models, images.cpu().numpy())
    true = crops_of(shard["image"], images.shape[-1])
    error = float(np.abs(images.cpu().numpy() - true).mean())
    nearest = (np.arange(label.shape[1]) + 0.5) * shard["label"].shape[1] / label.shape[1]
    rows = nearest.astype(int)
    groups = metrics.f1_classes(
        label,
        shard["label"][:, rows[:, None], rows],
        metrics.FACE_GROUPS | {"hair": (10,), "inner mouth": (8,)},
    )
    return {
        "mean absolute error": error,
        "mean F1": float(np.mean([groups[k] for k in metrics.FACE_GROUPS])),
    } | groups


def parse(models: fitting.Models, crops: F32) -> NDArray[np.uint8]:
    """`(N, S, S)` classes that E sees in crops of its size."""
    net, out = models.networks.parser, []
    with torch.no_grad():
        for i in range(0, len(crops), 16):
            seen = net(torch.from_numpy(crops[i : i + 16]).to(models.device))
            out.append(net.scores(seen.logits).argmax(1).cpu().numpy().astype(np.uint8))
    return np.concatenate(out)


def parser_f1(models: fitting.Models, crops: F32, labels: NDArray[np.uint8]) -> dict[str, float]:
    """E on labelled crops: F1 per group and their mean; codes above ten are not scored as classes."""
    # drawn maps leave out hair, and count a fringe over the forehead as skin
    f1 = metrics.f1_classes(parse(models, crops), labels, metrics.FACE_GROUPS)
    return {"mean": float(np.mean(list(f1.values())))} | f1


def london(faces: str | Path, size: int, *, which: str = "kept_out", detector: Any = None) -> Pairs:
    """London pairs as crops, found and aligned by the package's own detector.

    Args:
        faces: folder with `london`.
        size: of the crops.
        which: `kept_out`, or `all`.
        detector: of `alignment.detect`; the built-in one when None.

    Raises:
        InputError: a face was not found, which would silently change the figures.
    """
    from faceunits.alignment import detect

    root = Path(faces) / "london"
    finder = detector or detect.Detector()
    labels = pd.read_csv(root / "contrast_labels.csv", comment="#", dtype={"id": str}).set_index("id")
    ids = [i for i in labels.index if which == "all" or photos.is_kept_out("london", i)]
    neutral, smiling = (
        np.stack([face_of(root / kind / f"{name}.jpg", size, finder) for name in ids])
        for kind in ("neutral", "smiling")
    )
    return Pairs(ids, neutral, smiling, labels.loc[ids].reset_index())


def canada(faces: str | Path, size: int, *, detector: Any = None) -> F32:
    """`(N, 3, S, S)` neutral faces of the Canadian people kept out, found as in `london`.

    Raises:
        InputError: no such photos, or a face was not found.
    """
    from faceunits.alignment import detect

    folder = Path(faces) / "canada" / "face"
    kept = [p for p in sorted(folder.glob("*.jpg")) if photos.is_kept_out("canada", p.stem)]
    if not kept:
        raise InputError(f"expected photos of the canada set in {folder}; found none")
    finder = detector or detect.Detector()
    return np.stack([face_of(p, size, finder) for p in kept])


def face_of(path: Path, size: int, finder: Any) -> F32:
    """`(3, S, S)` the crop of a photo's best face.

    Raises:
        InputError: a face was not found.
    """
    from faceunits.alignment import warp
    from faceunits.io import image as images

    picture = images.read(path)
    found = finder(picture)
    if not found:
        raise InputError(f"expected a face in {path.parent.name}/{path.name}; found none")
    return warp.crop(picture, warp.similarity(found[0].points[None], size)[0], size)
