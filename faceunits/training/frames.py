"""Labelled frames of people for the editor: rendered ones (`rig.frames`), or DISFA's for who holds them.

Both are files `frames_*.npz` with `image` uint8 `(n, S, S, 3)` crops, `person` `(n,)`, and the intensities:
rendered ones as parameters with the lip gap, from which `aus.columns` makes what tables report; DISFA's as
`units` `(n, K)`, 0-5.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceunits import aus
from faceunits.alignment import warp
from faceunits.alignment.detect import Detector
from faceunits.errors import ConfigError
from faceunits.evaluation import crops, datasets, editor_sets
from faceunits.io import video
from faceunits.io.files import printable
from faceunits.networks.editor import DISFA
from faceunits.rig import shape
from faceunits.training.people import IGNORE
from faceunits.training.shards import kept_for_testing

TOLD = ("pose_deg", "au", "identity")
"""What a file says of the parameters of rendered frames."""


@dataclass(frozen=True)
class Frames:
    """`image` uint8 `(N, S, S, 3)`, `labels` `(N, K)` in [0, 1], `person` `(N,)` numbered from 0, Helen's
    classes `parts` uint8 `(N, S, S)`, 255 where unknown, and what was `told` the renderer, `(N, P)`, see
    `rig.shape.parameters`: P is 0 unless all frames are rendered ones."""

    image: NDArray[np.uint8]
    labels: NDArray[np.float32]
    person: NDArray[np.int64]
    parts: NDArray[np.uint8]
    told: NDArray[np.float32]


def read(
    folders: Sequence[str], names: Sequence[str] = DISFA, *, profile: str = "default", tested: bool = False
) -> Frames:
    """All frames of some folders.

    Args:
        folders: with files `frames_*.npz`; the same person number in two files is two people.
        names: units of a label.
        profile: of the parameters in rendered frames.
        tested: also the seeds that are kept for testing.

    Raises:
        ConfigError: no frames.
        InputError: frames of another profile.
        ParameterError: a unit that the frames do not label.
    """
    parameters = aus.profile(profile).names
    images, labels, people, parts, told = [], [], [], [], []
    for path in (p for d in folders for p in sorted(Path(d).glob("frames_*.npz"))):
        if ".part" in path.name or (kept_for_testing(path) and not tested):
            continue
        with np.load(path) as pack:
            images.append(pack["image"])
            labels.append(editor_sets.labels_of(pack, names, parameters))
            people.append([f"{path.name}/{k}" for k in pack["person"]])
            unknown = np.full(pack["image"].shape[:3], IGNORE, np.uint8)
            parts.append(pack["label"] if "label" in pack.files else unknown)
            if set(TOLD) <= set(pack.files):
                told.append(shape.parameters({k: pack[k] for k in TOLD}))
    if not images:
        raise ConfigError(
            f"expected files frames_*.npz in {', '.join(folders) or 'no folder'}; make some with "
            "`faceunits frames`"
        )
    person = np.unique(np.concatenate(people), return_inverse=True)[1]
    scaled = np.clip(np.concatenate(labels) / aus.MAX_INTENSITY, 0, 1).astype(np.float32)
    known = np.concatenate(told) if len(told) == len(images) else np.zeros((len(person), 0), np.float32)
    return Frames(np.concatenate(images), scaled, person.astype(np.int64), np.concatenate(parts), known)


def from_disfa(
    root: str | Path, out: str | Path, *, subjects: Sequence[str] = (), every: int = 10, size: int = 128,
    progress: Callable[[int, int, str], None] | None = None,
) -> list[Path]:  # fmt: skip
    """Crops of DISFA's frames, a file per subject; subjects whose file exists are kept.

    Args:
        root: DISFA in its official layout.
        out: folder of `frames_SN001_00000.npz`.
        subjects: those wanted; all when empty.
        every: take one frame of so many (neighbours are near duplicates).
        size: side of the crops.
        progress: called with subjects done, subjects wanted, and a line with the frames without a face.

    Raises:
        InputError: another layout.
        ConfigError: an unknown subject.
    """
    data = datasets.read("disfa", root)
    unknown = sorted(set(subjects) - set(data.subjects))
    if unknown:
        raise ConfigError(f"expected subjects of {', '.join(data.subjects)}; got {', '.join(unknown)}")
    wanted = [r for r in data.recordings if not subjects or r.subject in subjects]
    order = [data.spec.aus.index(int(name[2:])) for name in DISFA]
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    detector, paths = Detector(), []
    for done, recording in enumerate(wanted, start=1):
        path = folder / f"frames_{recording.subject}_00000.npz"
        paths.append(path)
        if path.exists():
            continue
        assert recording.video is not None
        rows: list[dict[str, Any]] = []
        lost = 0
        labelled = dict(zip(recording.frames.tolist(), recording.labels[:, order], strict=True))
        for frame in video.frames(recording.video, every=every):
            if frame.number not in labelled:
                continue
            face = crops.largest(detector(frame.picture))
            if face is None:
                lost += 1
                continue
            crop = warp.crop(frame.picture, warp.similarity(face.points[None], size)[0], size)
            rows.append({"image": warp.picture(crop), "units": labelled[frame.number], "person": np.int64(0)})
        if rows:
            part = folder / f"frames_{recording.subject}.part.npz"
            np.savez(part, **{k: np.stack([r[k] for r in rows]) for k in rows[0]})  # type: ignore[arg-type]
            part.replace(path)
        if progress:
            progress(done, len(wanted), f"{printable(path)}: {len(rows)} frames, {lost} without a face")
    return [p for p in paths if p.exists()]
